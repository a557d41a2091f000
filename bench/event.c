/*
 * event: what formatting one event costs. Prints nanoseconds and bytes per event for what the relay writes most: a Reception, a Delivery, a refusal
 * with a long text, and (the slow path) a refusal whose text has to be escaped.
 *
 *   build/bench/event [rounds]
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "core/event/event.h"

static double now_s(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static struct event reception(void) {
  return (struct event){.type = EVENT_RECEPTION,
                        .id = 0x018f3a2b4c5d6e7f,
                        .session_id = 0x0123456789abcdef,
                        .size = 4312,
                        .timestamp_ms = 1764000000123,
                        .created_ms = 1764000000123,
                        .sender = SPAN("newsletter-4711@lists.example.net"),
                        .recipient = SPAN("jane.doe@example.org"),
                        .queue = SPAN("example.org"),
                        .code = 250,
                        .enhanced = {2, 0, 0},
                        .content = SPAN("queued as 018f3a2b4c5d6e7f"),
                        .peer = {.family = 4, .bytes = {192, 0, 2, 17}}};
}

static struct event delivery(void) {
  struct event event = reception();
  event.type = EVENT_DELIVERY;
  event.session_id = 0;
  event.site = SPAN("mx1.example.org,mx2.example.org");
  event.timestamp_ms += 87;
  event.num_attempts = 1;
  event.content = SPAN("2.0.0 Ok: queued as 4Xk9Qz1Ls8z3hYq");
  event.command = SPAN("end of DATA");
  event.peer_name = SPAN("mx1.example.org");
  event.source = (struct netaddr){.family = 4, .bytes = {198, 51, 100, 9}};
  return event;
}

static struct event refusal(struct span content) {
  struct event event = delivery();
  event.type = EVENT_BOUNCE;
  event.code = 550;
  memcpy(event.enhanced, (uint16_t[]){5, 1, 1}, sizeof event.enhanced);
  event.content = content;
  event.verdict = "hard";
  event.category = "invalid-recipient";
  event.rule = "enhanced-5.1.1";
  return event;
}

static void measure(const char *name, struct event event, long rounds) {
  static uint8_t room[EVENT_SIZE_MAX];
  size_t bytes = 0;
  double best = 1e9;
  for (int run = 0; run < 5; run++) { /* the best of five: the others were disturbed */
    double started = now_s();
    for (long i = 0; i < rounds; i++) {
      struct fmt out = fmt_over(room, sizeof room);
      event.timestamp_ms++;
      event_format(&event, &out);
      bytes = out.len;
    }
    double took = now_s() - started;
    if (took < best) best = took;
  }
  printf("%-22s %7.1f ns/event %5zu bytes\n", name, best / (double)rounds * 1e9, bytes);
}

int main(int argc, char **argv) {
  long rounds = argc > 1 ? atol(argv[1]) : 1000000;
  if (rounds <= 0) return 2;
  measure("Reception", reception(), rounds);
  measure("Delivery", delivery(), rounds);
  measure("Bounce, long text",
          refusal(SPAN("5.1.1 The email account that you tried to reach does not exist. Please try double-checking the recipient's "
                       "email address for typos or unnecessary spaces. For more information, go to https://support.example.com/?p=NoSuchUser "
                       "d9443c01a7336-29f2b8d7c1dsi12345ad.217 - smtp")),
          rounds);
  measure("Bounce, escaped text", refusal(SPAN("5.1.1 <\"jane doe\"@example.org>: Empf\xc3\xa4nger unbekannt \\ user unknown")), rounds);
  return 0;
}
