/* Time per transaction in the client machine alone: envelope written, replies read, no socket. `build/bench/client [transactions]`. */
#include "net/smtp/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static uint8_t room[65536];

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Feeds all of `text`; the content is sent as soon as it is asked for. Returns how many transactions ended. */
static unsigned feed(struct smtp_client *c, struct span text, struct fmt *out) {
  unsigned done = 0;
  enum smtp_client_event event;
  while ((event = smtp_client_next(c, &text, out)) != SMTP_CLIENT_NEED_INPUT) {
    if (event == SMTP_CLIENT_CONTENT) smtp_client_content_sent(c, c->tag);
    done += event == SMTP_CLIENT_DONE;
    must(event != SMTP_CLIENT_BROKEN && event != SMTP_CLIENT_REFUSED);
  }
  return done;
}

static const struct smtp_client_recipient recipient = {.address = SPAN("somebody.or.other@customer.example.com")};
static const struct smtp_client_envelope envelope = {
    .sender = SPAN("bounce+4711@news.example.net"), .recipients = 1, .recipient = &recipient, .size = 51200};

static void greet(struct smtp_client *c, const struct smtp_client_options *options, struct fmt *out) {
  smtp_client_init(c, options);
  feed(c, SPAN("220 mx.example.com ESMTP\r\n"), out);
  feed(c, SPAN("250-mx.example.com\r\n250-PIPELINING\r\n250-SIZE 52428800\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n250 CHUNKING\r\n"), out);
}

static void run(const char *name, const struct smtp_client_options *options, struct span replies, unsigned transactions) {
  struct smtp_client c;
  struct fmt out = fmt_over(room, sizeof room);
  unsigned done = 0;
  greet(&c, options, &out);
  uint64_t started = now_ns();
  for (unsigned i = 0; i < transactions; i++) {
    out.len = 0;
    if (smtp_client_begin(&c, &envelope, i, &out)) smtp_client_content_sent(&c, i);
    done += feed(&c, replies, &out);
  }
  uint64_t took = now_ns() - started;
  must(done == transactions);
  printf("%-10s %7.1f ns per transaction\n", name, (double)took / transactions);
}

static void run_joins(unsigned count) {
  struct smtp_reply reply;
  struct span in = SPAN("250 2.0.0 Ok: queued as 4Z5mTq0x1jz9sVQ for delivery to mailbox\r\n");
  must(reply_parse(&reply, &in) == 1);
  uint64_t bytes = 0, started = now_ns();
  for (unsigned i = 0; i < count; i++) {
    struct fmt out = fmt_over(room, sizeof room);
    reply_join(&reply, &out);
    bytes += out.len;
  }
  uint64_t took = now_ns() - started;
  must(bytes > 0);
  printf("%-10s %7.1f ns per reply\n", "reply_join", (double)took / count);
}

int main(int argc, char **argv) {
  unsigned transactions = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 2000000;
  struct smtp_client_options data = {.hostname = SPAN("relay.example.net"), .pipelining = true, .pipeline_messages = true};
  struct smtp_client_options bdat = data;
  bdat.chunking = true;
  printf("machine %zu bytes\n", sizeof(struct smtp_client));
  run("DATA", &data, SPAN("250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 End data with <CR><LF>.<CR><LF>\r\n250 2.0.0 Ok: queued as 4Z5mTq0x1jz9sVQ\r\n"),
      transactions);
  run("BDAT", &bdat, SPAN("250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n250 2.0.0 Ok: queued as 4Z5mTq0x1jz9sVQ\r\n"), transactions);
  run_joins(transactions);
  return 0;
}
