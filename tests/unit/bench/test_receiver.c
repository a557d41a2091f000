#include "bench/lib/receiver.h"
#include "core/base/error.h"
#include "tests/lib/unit.h"

#include <stdio.h>
#include <stdlib.h>

static struct receiver_config config;
static struct rules rules;
static struct zone zone;
static struct ledger ledger;
static struct content_block block;
static struct receiver_stats *stats;
static struct receiver *receiver;
static struct outbox outbox;

static void setup(void) {
  rules.count = 0;
  zone = (struct zone){.mx_hosts = 1, .host_base = 0x7f000101, .host_count = 10};
  ck_assert_int_eq(domains_parse(&zone.domains, SPAN("d%05d.test")), E_OK);
  ck_assert_int_eq(ledger_init(&ledger), E_OK);
  content_block_fill(&block);
  stats = calloc(1, sizeof *stats);
  receiver = calloc(1, sizeof *receiver);
  outbox = (struct outbox){0};
  config = (struct receiver_config){.hostname = "sink.test",
                                    .pipelining = true,
                                    .chunking = true,
                                    .enhanced = true,
                                    .size = true,
                                    .verify = true,
                                    .size_max = 10000,
                                    .recipients_max = 3,
                                    .rules = &rules,
                                    .block = &block,
                                    .ledger = &ledger,
                                    .zone = &zone,
                                    .check_address = true,
                                    .domain_count = 100,
                                    .domain_connections = calloc(100, 4),
                                    .domain_connections_max = calloc(100, 4),
                                    .tries = calloc(1, 1 << 20)};
}

static void teardown(void) {
  receiver_end(receiver);
  outbox_fini(&outbox);
  ledger_fini(&ledger);
  free(config.domain_connections);
  free(config.domain_connections_max);
  free(config.tries);
  free(receiver);
  free(stats);
}

static void rule(const char *text) {
  const char *why;
  ck_assert_int_eq(rule_parse(&rules, span_of_text(text), &why), E_OK);
}

static void begin(uint32_t local) { receiver_begin(receiver, &config, stats, &outbox, local, 1, 1000); }

/* What is said next, and what the answers begin with, one code after the other, such as "250 250 354". */
static void say(const char *text, const char *codes) {
  char got[512] = "";
  receiver_feed(receiver, span_of_text(text), 2000);
  struct span ready = outbox_ready(&outbox, UINT64_MAX - 1);
  for (size_t at = 0; at < ready.len;) {
    struct span line = span_skip(ready, at);
    ptrdiff_t end = span_find(line, '\n');
    ck_assert_int_ge(end, 4);
    if (line.at[3] == ' ') snprintf(got + strlen(got), sizeof got - strlen(got), "%s%.3s", got[0] == '\0' ? "" : " ", (const char *)line.at);
    at += (size_t)end + 1;
  }
  outbox_take(&outbox, ready.len, 2000);
  ck_assert_str_eq(got, codes);
}

/* A message of the run, with its header and body; the caller frees it. */
static char *message(uint64_t seq, size_t size) {
  char *text = calloc(1, size + 8);
  struct fmt out = fmt_over(text, size);
  struct content_stamp stamp = {.run = 5, .seq = seq, .sent_ns = 500, .messages = 10, .recipients = 2};
  ck_assert(content_header(&stamp, size, SPAN("a@b"), SPAN("c@d"), SPAN("date"), &out));
  for (uint64_t at = 0; at < stamp.body_size;) {
    struct span piece = content_body(&block, seq, stamp.body_size, at);
    fmt_put(&out, piece);
    at += piece.len;
  }
  ck_assert(!out.overflow);
  return text;
}

static void send_message(uint64_t seq, const char *codes) {
  char *text = message(seq, 600);
  strcat(text, ".\r\n");
  say(text, codes);
  free(text);
}

START_TEST(a_session) {
  begin(0x7f000102);
  say("", "220");
  say("EHLO me\r\n", "250");
  say("MAIL FROM:<a@b> SIZE=100\r\nRCPT TO:<user-2@d00001.test>\r\nRCPT TO:<user-3@d00001.test>\r\nDATA\r\n", "250 250 250 354");
  send_message(1, "250");
  say("quit\r\n", "221");
  ck_assert_int_eq(receiver->state, RECEIVER_CLOSING);
  ck_assert_uint_eq(stats->transactions, 1);
  ck_assert_uint_eq(stats->arrived, 2);
  ck_assert_uint_eq(stats->duplicated + stats->corrupt + stats->misdelivered + stats->misrouted + stats->protocol_errors, 0);
  ck_assert_uint_eq(stats->latency.max_ns, 1500);
  ck_assert_uint_eq(stats->pipelined_connections, 1);
  ck_assert_uint_eq(ledger_sum(&ledger, 0, NULL, 0).lost, 18);
}
END_TEST

START_TEST(starttls) {
  config.starttls = true;
  begin(0x7f000102);
  say("EHLO me\r\nMAIL FROM:<a@b>\r\nSTARTTLS\r\n", "220 250 250 220");
  ck_assert_int_eq(receiver->state, RECEIVER_SECURING);
  receiver_secured(receiver);
  say("MAIL FROM:<a@b>\r\n", "503"); /* EHLO is forgotten, the envelope too */
  say("EHLO me\r\nMAIL FROM:<a@b>\r\nRCPT TO:<user-2@d00001.test>\r\nRCPT TO:<user-3@d00001.test>\r\nDATA\r\n", "250 250 250 250 354");
  send_message(1, "250");
  say("STARTTLS\r\n", "503");
  ck_assert_uint_eq(stats->tls_transactions, 1);
  ck_assert_uint_eq(stats->protocol_errors, 2);
}
END_TEST

START_TEST(starttls_with_more_behind_it) {
  config.starttls = true;
  begin(0x7f000102);
  say("EHLO me\r\nSTARTTLS\r\nMAIL FROM:<a@b>\r\n", "220 250 220");
  ck_assert_int_eq(receiver->state, RECEIVER_CUT);
  ck_assert_uint_eq(stats->protocol_errors, 1);
}
END_TEST

START_TEST(no_starttls) {
  begin(0x7f000102);
  say("EHLO me\r\nSTARTTLS\r\nMAIL FROM:<a@b>\r\nRCPT TO:<user-2@d00001.test>\r\nRCPT TO:<user-3@d00001.test>\r\nDATA\r\n",
      "220 250 503 250 250 250 354");
  send_message(1, "250");
  ck_assert_uint_eq(stats->tls_transactions, 0);
}
END_TEST

START_TEST(what_warms_up_is_in_the_books_but_not_timed) {
  begin(0x7f000102);
  say("", "220");
  say("EHLO me\r\n", "250");
  config.timed_from_ns = UINT64_MAX;
  say("MAIL FROM:<a@b>\r\nRCPT TO:<user-2@d00001.test>\r\nRCPT TO:<user-3@d00001.test>\r\nDATA\r\n", "250 250 250 354");
  send_message(1, "250");
  ck_assert_uint_eq(stats->timed + stats->first_ns + stats->last_ns + stats->latency.max_ns, 0);
  config.timed_from_ns = 0;
  say("MAIL FROM:<a@b>\r\nRCPT TO:<user-4@d00001.test>\r\nRCPT TO:<user-5@d00001.test>\r\nDATA\r\n", "250 250 250 354");
  send_message(2, "250");
  ck_assert_uint_eq(stats->timed, 1);
  ck_assert_uint_gt(stats->first_ns, 0);
  ck_assert_uint_eq(stats->latency.max_ns, 1500);
  ck_assert_uint_eq(stats->transactions, 2);
  ck_assert_uint_eq(stats->arrived, 4);
}
END_TEST

START_TEST(what_is_wrong_with_mail_is_counted) {
  begin(0x7f000102);
  say("EHLO me\r\n", "220 250");
  for (unsigned i = 0; i < 2; i++) { /* the second time as duplicates */
    say("MAIL FROM:<>\r\nRCPT TO:<user-2@d00001.test>\r\nRCPT TO:<user-9@d00001.test>\r\nRCPT TO:<user-3@d00002.test>\r\nDATA\r\n",
        "250 250 250 250 354");
    send_message(1, "250");
  }
  ck_assert_uint_eq(stats->arrived, 2);
  ck_assert_uint_eq(stats->duplicated, 2);
  ck_assert_uint_eq(stats->misdelivered, 2); /* 9 belongs to message 4 */
  ck_assert_uint_eq(stats->misrouted, 2);    /* d00002 has the next address */
  ck_assert_uint_eq(stats->bounces, 2);
  say("MAIL FROM:<a@b>\r\nRCPT TO:<user-4@d00001.test>\r\nDATA\r\nSubject: x\r\n\r\n.\r\n", "250 250 354 250");
  ck_assert_uint_eq(stats->foreign, 1);
}
END_TEST

START_TEST(damage_and_dots) {
  begin(0x7f000102);
  say("EHLO me\r\n", "220 250");
  say("MAIL FROM:<a@b>\r\nRCPT TO:<user-2@d00001.test>\r\nDATA\r\n", "250 250 354");
  char *text = message(1, 700);
  strcat(text, "..\r\n.\r\n"); /* a line more than was sent */
  say(text, "250");
  ck_assert_uint_eq(stats->corrupt, 1);
  ck_assert_uint_eq(stats->bytes, 703); /* the stuffed dot is not content */
  /* What only looks like the end is not: bare LF, dots within lines, CR alone. */
  say("MAIL FROM:<a@b>\r\nRCPT TO:<user-2@d00001.test>\r\nDATA\r\n", "250 250 354");
  say("a\n.\nb\r.\r\nc\r\n.d\r\n.\rx\r\n..\r\n", "");
  say(".", "");
  say("\r", "");
  say("\n", "250");
  free(text);
}
END_TEST

START_TEST(bdat) {
  begin(0x7f000102);
  char *text = message(1, 600), command[700];
  say("EHLO me\r\n", "220 250");
  say("BDAT 3\r\nabc", "503");
  snprintf(command, sizeof command, "BDAT 300\r\n%.300s", text);
  say("MAIL FROM:<a@b>\r\nRCPT TO:<user-2@d00001.test>\r\n", "250 250");
  say(command, "250");
  say("BDAT 0\r\n", "250");
  snprintf(command, sizeof command, "BDAT 300 LAST\r\n%sMAIL FROM:<a@b>\r\n", text + 300);
  say(command, "250 250");
  ck_assert_uint_eq(stats->arrived, 1);
  ck_assert_uint_eq(stats->corrupt, 0);
  ck_assert_uint_eq(stats->chunked, 1);
  say("RCPT TO:<user-3@d00001.test>\r\nBDAT 99999999999999999999\r\n", "250 501");
  ck_assert_int_eq(receiver->state, RECEIVER_CUT);
  free(text);
}
END_TEST

START_TEST(order_and_limits) {
  begin(0x7f000102);
  say("MAIL FROM:<a@b>\r\n", "220 503");
  say("HELO me\r\nRCPT TO:<a@b>\r\nDATA\r\nMAIL TO:<a>\r\nMAIL FROM:a\r\nGET / HTTP/1.0\r\n\r\n", "250 503 503 501 501 500 500");
  say("MAIL FROM:<a@b>\r\nMAIL FROM:<a@b>\r\nDATA\r\nRCPT TO:<>\r\n", "250 503 554 501");
  say("RCPT TO:<u1@x>\r\nRCPT TO:<u2@x>\r\nRCPT TO:<u3@x>\r\nRCPT TO:<u4@x>\r\nRSET\r\nDATA\r\nNOOP\r\nVRFY x\r\nHELP\r\n",
      "250 250 250 452 250 503 250 252 214");
  ck_assert_uint_eq(stats->protocol_errors, 11);
  char line[3000];
  memset(line, 'x', sizeof line);
  line[2999] = '\0';
  say(line, "500");
  ck_assert_int_eq(receiver->state, RECEIVER_CUT);
}
END_TEST

START_TEST(rules_act) {
  rule("stage=rcpt rcpt=user-2@* reply=550 5.1.1 no");
  rule("stage=rcpt rcpt=user-3@* reply=451 4.7.1 later first=2");
  rule("stage=final from=cut@* cut-after-accept");
  rule("stage=final from=no@* reply=554 5.6.0 no");
  begin(0x7f000102);
  say("EHLO me\r\n", "220 250");
  say("MAIL FROM:<a@b>\r\nRCPT TO:<user-2@d00001.test>\r\nRCPT TO:<user-3@d00001.test>\r\nDATA\r\n", "250 550 451 554");
  say("RCPT TO:<user-3@d00001.test>\r\nRCPT TO:<user-3@d00001.test>\r\nRSET\r\n", "451 250 250");
  ck_assert_uint_eq(stats->refused, 1);
  ck_assert_uint_eq(stats->deferred, 2);
  ck_assert_uint_eq(stats->protocol_errors, 0); /* DATA was pipelined behind a refusal */
  say("MAIL FROM:<no@b>\r\nRCPT TO:<user-4@d00001.test>\r\nDATA\r\n", "250 250 354");
  send_message(2, "554");
  ck_assert_uint_eq(stats->arrived, 0);
  say("MAIL FROM:<cut@b>\r\nRCPT TO:<user-6@d00001.test>\r\nDATA\r\n", "250 250 354");
  send_message(3, "");
  ck_assert_int_eq(receiver->state, RECEIVER_CUT);
  receiver_end(receiver);
  begin(0x7f000102);
  say("EHLO me\r\nMAIL FROM:<a@b>\r\nRCPT TO:<user-6@d00001.test>\r\nDATA\r\n", "220 250 250 250 354");
  send_message(3, "250");
  ck_assert_uint_eq(stats->arrived, 1);
  ck_assert_uint_eq(stats->excused_duplicates, 1);
  ck_assert_uint_eq(stats->duplicated, 0);
  ck_assert_uint_eq(ledger_sum(&ledger, 0, NULL, 0).refused, 2);
}
END_TEST

START_TEST(rules_at_the_door) {
  rule("stage=connect host=127.0.1.2 reply=421 4.3.2 busy");
  rule("stage=connect host=127.0.1.3 delay=1s");
  begin(0x7f000102);
  say("EHLO me\r\n", "421");
  ck_assert_int_eq(receiver->state, RECEIVER_CUT);
  begin(0x7f000103);
  ck_assert_uint_eq(outbox_ready(&outbox, 1000).len, 0);
  ck_assert_uint_eq(outbox_next_ns(&outbox), 1000001000);
  say("EHLO me\r\n", "220 250");
}
END_TEST

START_TEST(connections_of_a_domain) {
  begin(0x7f000102);
  say("EHLO me\r\nMAIL FROM:<a@b>\r\nRCPT TO:<user-2@d00001.test>\r\nRCPT TO:<user-3@d00005.test>\r\n", "220 250 250 250 250");
  ck_assert_uint_eq(config.domain_connections[1], 1);
  ck_assert_uint_eq(config.domain_connections[5], 0);
  receiver_end(receiver);
  ck_assert_uint_eq(config.domain_connections[1], 0);
  ck_assert_uint_eq(config.domain_connections_max[1], 1);
  begin(0x7f000102);
}
END_TEST

int main(void) {
  TCase *sessions = tcase_create("sessions");
  tcase_add_checked_fixture(sessions, setup, teardown);
  tcase_add_test(sessions, a_session);
  tcase_add_test(sessions, starttls);
  tcase_add_test(sessions, starttls_with_more_behind_it);
  tcase_add_test(sessions, no_starttls);
  tcase_add_test(sessions, what_warms_up_is_in_the_books_but_not_timed);
  tcase_add_test(sessions, what_is_wrong_with_mail_is_counted);
  tcase_add_test(sessions, damage_and_dots);
  tcase_add_test(sessions, bdat);
  tcase_add_test(sessions, order_and_limits);
  tcase_add_test(sessions, rules_act);
  tcase_add_test(sessions, rules_at_the_door);
  tcase_add_test(sessions, connections_of_a_domain);
  return unit_main("bench/receiver", &sessions, 1);
}
