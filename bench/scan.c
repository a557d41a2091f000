/*
 * scan: how fast the receiving side is without any network: the scanner of content in GB/s, and the machine in ns per group of commands.
 *
 * usage: build/bench/scan [seconds for each line]   (default 1)
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "core/base/must.h"
#include "net/smtp/server.h"

#define FEED_SIZE 16384 /* what one receive brings */
#define CONTENT_MAX 65536

static double now_s(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* A message of about `size` bytes: a header section as relays see it, then lines of `width`; every `dots`th begins with a (stuffed) dot.
 * Ended by ".CRLF". */
static struct span make_message(uint8_t *room, size_t size, size_t width, unsigned dots) {
  static const char line[] = "VGhlIHF1aWNrIGJyb3duIGZveCBqdW1wcyBvdmVyIHRoZSBsYXp5IGRvZyBhbmQgcnVucyBhd2F5";
  struct fmt out = fmt_over(room, CONTENT_MAX);
  fmt_text(&out, "Received: from client.example ([192.0.2.1])\r\n\tby generator.example with ESMTP id 0000; Tue, 24 Nov 2026 01:47:19 +0000\r\n"
                 "Date: Tue, 24 Nov 2026 01:47:19 +0000\r\nFrom: News <news@sender.example>\r\nTo: Reader <reader@recipient.example>\r\n"
                 "Reply-To: news@sender.example\r\nSubject: all that is new, and some that is not\r\nMessage-ID: <0001@sender.example>\r\n"
                 "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n");
  for (unsigned i = 0; out.len + width + 2 <= size; i++) {
    if (dots > 0 && i % dots == 0) fmt_text(&out, "..");
    fmt_bytes(&out, line, width);
    fmt_text(&out, "\r\n");
  }
  fmt_text(&out, ".\r\n");
  must(!out.overflow);
  return fmt_span(&out);
}

static void scan_once(struct span message) {
  struct data_scan scan;
  bool end = false;
  data_scan_init(&scan);
  while (!end) {
    struct span feed = span_first(message, FEED_SIZE), content;
    message = span_skip(message, feed.len);
    while (feed.len > 0 && !end) end = data_scan_feed(&scan, &feed, &content);
  }
  must(!scan.bare && !scan.nul && scan.received_headers == 1);
}

/* The shortest time of one run of `work`, of as many as fit: what the machine does when nothing else disturbs it. */
static double best_s(void (*work)(struct span), struct span bytes, double seconds) {
  double begun = now_s(), last = begun, best = seconds;
  while (last - begun < seconds) {
    work(bytes);
    double now = now_s();
    if (now - last < best) best = now - last;
    last = now;
  }
  return best;
}

#define RUNS 64 /* in one measurement, so that reading the clock does not count */

static void scan_work(struct span message) {
  for (unsigned i = 0; i < RUNS; i++) scan_once(message);
}

static void bench_scan(const char *what, struct span message, double seconds) {
  double took = best_s(scan_work, message, seconds) / RUNS;
  printf("scan   %-36s %6.2f GB/s  %8.0f ns a message\n", what, (double)message.len / took / 1e9, took * 1e9);
}

/* Everything whole messages cost in the machine, with a caller that says yes. */
static void run_group(struct smtp_server *server, struct span in) {
  uint8_t room[4096];
  struct fmt out = fmt_over(room, sizeof room);
  for (;;) {
    switch (smtp_server_next(server, &in, &out)) {
    case SMTP_SERVER_MAIL:
    case SMTP_SERVER_RCPT:
    case SMTP_SERVER_DATA: smtp_server_accept(server, &out); break;
    case SMTP_SERVER_END: smtp_server_accept_message(server, 1, &out); break;
    case SMTP_SERVER_FLUSH: out.len = 0; break;
    case SMTP_SERVER_CONTENT:
    case SMTP_SERVER_HELLO: break;
    case SMTP_SERVER_NEED_INPUT: return;
    default: must(false);
    }
  }
}

static void group_work(struct span group) {
  static const struct smtp_server_options options = {.hostname = SPAN("relay.example"),
                                                     .message_size_max = 1u << 26,
                                                     .recipients_max = 1000,
                                                     .errors_max = 20,
                                                     .idle_commands_max = 1000,
                                                     .surplus_max = 1000};
  struct smtp_server server;
  uint8_t room[SMTP_REPLY_ROOM];
  struct fmt out = fmt_over(room, sizeof room);
  smtp_server_init(&server, &options, &out);
  run_group(&server, SPAN("EHLO generator.example\r\n"));
  for (unsigned i = 0; i < RUNS; i++) run_group(&server, group);
  must(server.messages == RUNS);
}

static void bench_group(const char *what, struct span group, double seconds) {
  printf("group  %-36s %8.0f ns\n", what, best_s(group_work, group, seconds) / RUNS * 1e9);
}

int main(int argc, char **argv) {
  static uint8_t room[CONTENT_MAX];
  double seconds = argc > 1 ? atof(argv[1]) : 1;
  bench_scan("4 KiB, lines of 76", make_message(room, 4096, 76, 0), seconds);
  bench_scan("50 KiB, lines of 76", make_message(room, 50 * 1024, 76, 0), seconds);
  bench_scan("50 KiB, lines of 30", make_message(room, 50 * 1024, 30, 0), seconds);
  bench_scan("50 KiB, every third line with a dot", make_message(room, 50 * 1024, 76, 3), seconds);
  bench_group("MAIL RCPT DATA, empty message", SPAN("MAIL FROM:<news@sender.example>\r\nRCPT TO:<reader@recipient.example>\r\nDATA\r\n.\r\n"),
              seconds);
  bench_group("the same with SIZE, BODY, DSN",
              SPAN("MAIL FROM:<news@sender.example> SIZE=4096 BODY=8BITMIME RET=HDRS ENVID=m1\r\n"
                   "RCPT TO:<reader@recipient.example> NOTIFY=FAILURE,DELAY ORCPT=rfc822;reader@recipient.example\r\nDATA\r\n.\r\n"),
              seconds);
  return 0;
}
