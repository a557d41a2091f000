/* What the scripts of test_client_scenario cannot say well: sizes, bounds, broken contracts, long runs. */
#include "net/smtp/address.h"
#include "net/smtp/client.h"
#include "net/smtp/server.h"
#include "tests/lib/unit.h"

#include <signal.h>
#include <stdio.h>

static const struct smtp_client_options options = {.hostname = SPAN("relay.test"), .pipelining = true, .pipeline_messages = true, .chunking = true};
static struct smtp_client client;
static uint8_t room[1 << 17];
static struct fmt out;
static char long_text[2048];

static enum smtp_client_event say(const char *text) {
  struct span in = span_of_text(text);
  return smtp_client_next(&client, &in, &out);
}

static void greet(const char *ehlo) {
  smtp_client_init(&client, &options);
  out = fmt_over(room, sizeof room);
  ck_assert_int_eq(say("220 mx\r\n"), SMTP_CLIENT_NEED_INPUT);
  ck_assert_int_eq(say(ehlo), SMTP_CLIENT_READY);
  out.len = 0;
}

static void setup(void) {
  greet("250-mx\r\n250 PIPELINING\r\n");
  memset(long_text, 'x', sizeof long_text);
}

static const struct smtp_client_recipient one = {.address = SPAN("b@b.test")};
static const struct smtp_client_envelope simple = {.sender = SPAN("a@a.test"), .recipients = 1, .recipient = &one};

START_TEST(size_of_the_machine) { ck_assert_uint_le(sizeof(struct smtp_client), 700); }
END_TEST

START_TEST(capabilities) {
  greet("250-mx\r\n250-STARTTLS\r\n250-ENHANCEDSTATUSCODES\r\n250-chunking\r\n250-DSN\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-SIZE 20\r\n"
        "250-LIMITS\tRCPTMAX=50 \t MAILMAX=70\r\n250 PIPELINING\r\n");
  const struct smtp_client_capabilities *can = &client.capabilities;
  ck_assert(can->esmtp && can->pipelining && can->size && can->eight_bit && can->smtputf8 && can->chunking && can->dsn && can->starttls);
  ck_assert(can->enhanced_codes);
  ck_assert_uint_eq(can->size_max, 20);
  ck_assert_uint_eq(can->recipients_max, 50);
  ck_assert_uint_eq(can->messages_max, 70);
  greet("250 mx\r\n");
  ck_assert(client.capabilities.esmtp && !client.capabilities.size && !client.capabilities.pipelining && client.capabilities.recipients_max == 0);
  greet("250-mx\r\n250-SIZEX 5\r\n250-PIPELININGS\r\n250-XSIZE 5\r\n250 SIZE 18446744073709551616\r\n");
  ck_assert(can->size && can->size_max == 0 && !can->pipelining);
}
END_TEST

START_TEST(mechanisms) {
  const struct smtp_client_capabilities *can = &client.capabilities;
  greet("250-mx\r\n250 auth scram-sha-1 Plain\r\n");
  ck_assert(can->auth_plain && !can->auth_login && smtp_client_can_auth(&client));
  greet("250-mx\r\n250-AUTHPLAIN\r\n250 AUTH PLAINER XLOGIN\r\n");
  ck_assert(!can->auth_plain && !can->auth_login && !smtp_client_can_auth(&client));
  greet("250-mx\r\n250 AUTH=LOGIN PLAIN\r\n");
  ck_assert(can->auth_plain && can->auth_login);
}
END_TEST

/* CVE-2011-0411: what an attacker puts behind the answer must not be taken for something said under TLS. */
START_TEST(bytes_behind_starttls) {
  static const char *const said[] = {"220 go\r\n250 mx\r\n", "220 go\r\n\n", "220-go\r\n220 on\r\n2"};
  greet("250-mx\r\n250 STARTTLS\r\n");
  smtp_client_starttls(&client, &out);
  ck_assert(span_equal(fmt_span(&out), SPAN("STARTTLS\r\n")));
  ck_assert_int_eq(say(said[_i]), SMTP_CLIENT_BROKEN);
  ck_assert_str_eq(client.broken, "bytes in the clear behind the answer to STARTTLS");
  ck_assert_int_eq(smtp_client_stage(&client), SMTP_STAGE_STARTTLS);
  ck_assert_int_eq(say("250 more\r\n"), SMTP_CLIENT_NEED_INPUT);
}
END_TEST

START_TEST(bytes_before_the_handshake) {
  greet("250-mx\r\n250 STARTTLS\r\n");
  smtp_client_starttls(&client, &out);
  ck_assert_int_eq(say("220 go\r\n"), SMTP_CLIENT_TLS);
  ck_assert_int_eq(say(""), SMTP_CLIENT_NEED_INPUT);
  ck_assert_int_eq(say("2"), SMTP_CLIENT_BROKEN);
  ck_assert_int_eq(smtp_client_stage(&client), SMTP_STAGE_STARTTLS);
}
END_TEST

/* The longest name and password in the room that is promised. */
START_TEST(longest_secret) {
  struct span longest = span_of(long_text, SMTP_CLIENT_SECRET_MAX);
  greet("250-mx\r\n250 AUTH PLAIN\r\n");
  out = fmt_over(room, SMTP_CLIENT_ROOM);
  smtp_client_auth(&client, longest, longest, &out);
  ck_assert_uint_eq(out.len, sizeof "AUTH PLAIN \r\n" - 1 + 684);
}
END_TEST

/* The greatest transactions, over and over: the ring of commands turns several times, and two envelopes are under way at once. */
START_TEST(hundred_recipients_twice_under_way) {
  struct smtp_client_recipient recipients[SMTP_CLIENT_RECIPIENTS_MAX];
  for (size_t i = 0; i < SMTP_CLIENT_RECIPIENTS_MAX; i++) recipients[i] = one;
  struct smtp_client_envelope envelope = {.sender = SPAN("a@a.test"), .recipients = SMTP_CLIENT_RECIPIENTS_MAX, .recipient = recipients, .size = 5};
  greet("250-mx\r\n250-CHUNKING\r\n250 PIPELINING\r\n");
  ck_assert(smtp_client_begin(&client, &envelope, 0, &out));
  smtp_client_content_sent(&client, 0);
  for (uint32_t tag = 1; tag < 20; tag++) {
    out.len = 0;
    ck_assert(smtp_client_begin(&client, &envelope, tag, &out));
    ck_assert_uint_le(out.len, smtp_client_begin_room(&envelope));
    smtp_client_content_sent(&client, tag);
    if (tag > 1) ck_assert_int_eq(say("250 reset\r\n"), SMTP_CLIENT_NEED_INPUT);
    ck_assert_int_eq(say("250 ok\r\n"), SMTP_CLIENT_NEED_INPUT);
    for (uint32_t i = 0; i < SMTP_CLIENT_RECIPIENTS_MAX; i++) {
      ck_assert_int_eq(say(i % 3 == 0 ? "452 full\r\n" : "250 ok\r\n"), SMTP_CLIENT_RCPT);
      ck_assert(client.recipient == i && client.tag == tag - 1);
    }
    ck_assert_int_eq(say("250 queued\r\n"), SMTP_CLIENT_FINAL);
    ck_assert_int_eq(say(""), SMTP_CLIENT_DONE);
  }
  ck_assert_uint_eq(client.transactions_begun, 20);
}
END_TEST

/* The promised room suffices for everything at its longest, and SMTP_CLIENT_ROOM for what smtp_client_next writes of it. */
START_TEST(longest_lines) {
  struct smtp_client_recipient recipients[2];
  for (size_t i = 0; i < 2; i++)
    recipients[i] =
        (struct smtp_client_recipient){.address = span_of(long_text, ADDRESS_MAX), .orcpt = span_of(long_text, SMTP_CLIENT_ORCPT_MAX), .notify = 14};
  struct smtp_client_envelope envelope = {.sender = span_of(long_text, ADDRESS_MAX),
                                          .envid = span_of(long_text, SMTP_CLIENT_ENVID_MAX),
                                          .ret = SMTP_RET_HEADERS,
                                          .eight_bit = true,
                                          .smtputf8 = true,
                                          .size = UINT64_MAX,
                                          .recipients = 2,
                                          .recipient = recipients};
  greet("250-mx\r\n250-DSN\r\n250-SIZE\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-CHUNKING\r\n250 PIPELINING\r\n");
  out = fmt_over(room, smtp_client_begin_room(&envelope));
  ck_assert(!smtp_client_begin(&client, &envelope, 1, &out)); /* too large to be sent ahead */
  size_t whole = out.len;

  greet("250-mx\r\n250-DSN\r\n250-SIZE\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 CHUNKING\r\n");
  smtp_client_begin(&client, &simple, 1, &out);
  ck_assert_int_eq(say("250 ok\r\n"), SMTP_CLIENT_NEED_INPUT);
  ck_assert_int_eq(say("550 no\r\n"), SMTP_CLIENT_RCPT);
  ck_assert_int_eq(say(""), SMTP_CLIENT_DONE);
  smtp_client_begin(&client, &envelope, 2, &out);
  out = fmt_over(room, SMTP_CLIENT_ROOM);
  struct span in = SPAN("250 reset\r\n250 mail\r\n250 rcpt\r\n");
  ck_assert_int_eq(smtp_client_next(&client, &in, &out), SMTP_CLIENT_RCPT);
  ck_assert_uint_eq(out.len, whole);
}
END_TEST

/* DSN parameters beyond RFC 3461 are left out; the others stay. */
START_TEST(overlong_dsn_parameters) {
  struct smtp_client_recipient recipient = {
      .address = SPAN("b@b.test"), .orcpt = span_of(long_text, SMTP_CLIENT_ORCPT_MAX + 1), .notify = SMTP_NOTIFY_NEVER};
  struct smtp_client_envelope envelope = {.envid = span_of(long_text, SMTP_CLIENT_ENVID_MAX + 1), .recipients = 1, .recipient = &recipient};
  greet("250-mx\r\n250-DSN\r\n250 PIPELINING\r\n");
  smtp_client_begin(&client, &envelope, 1, &out);
  ck_assert(span_equal(fmt_span(&out), SPAN("MAIL FROM:<>\r\nRCPT TO:<b@b.test> NOTIFY=NEVER\r\nDATA\r\n")));
}
END_TEST

START_TEST(reply_beyond_the_bounds) {
  static char text[REPLY_BYTES_MAX + 1];
  memset(text, '2', sizeof text);
  struct span in = span_of(text, REPLY_BYTES_MAX - 1);
  ck_assert_int_eq(smtp_client_next(&client, &in, &out), SMTP_CLIENT_NEED_INPUT);
  in = span_of(text, REPLY_BYTES_MAX);
  ck_assert_int_eq(smtp_client_next(&client, &in, &out), SMTP_CLIENT_BROKEN);
  ck_assert_str_eq(client.broken, "not an SMTP reply");
  ck_assert_int_eq(smtp_client_next(&client, &in, &out), SMTP_CLIENT_NEED_INPUT);
  ck_assert_uint_eq(in.len, 0);
}
END_TEST

START_TEST(stage_texts) {
  for (enum smtp_client_stage stage = SMTP_STAGE_GREETING; stage <= SMTP_STAGE_IDLE; stage++) ck_assert_ptr_nonnull(smtp_client_stage_text(stage));
  ck_assert_str_eq(smtp_client_stage_text(SMTP_STAGE_FINAL), "end of DATA");
}
END_TEST

/* What would put a second command on the line, or break another promise of the caller, stops the process: one way each. */
static const struct span unclean[] = {SPAN("a@b\r"), SPAN("a@b\nRCPT TO:<x@y>"), SPAN("a@\0b"), SPAN("\n")};

START_TEST(unclean_sender) {
  struct smtp_client_envelope envelope = simple;
  envelope.sender = unclean[_i];
  smtp_client_begin(&client, &envelope, 1, &out);
}
END_TEST

START_TEST(unclean_envid) {
  struct smtp_client_envelope envelope = simple;
  envelope.envid = unclean[_i];
  smtp_client_begin(&client, &envelope, 1, &out);
}
END_TEST

START_TEST(unclean_recipient) {
  struct smtp_client_recipient recipients[2] = {one, {.address = unclean[_i]}};
  struct smtp_client_envelope envelope = {.recipients = 2, .recipient = recipients};
  smtp_client_begin(&client, &envelope, 1, &out);
}
END_TEST

START_TEST(unclean_orcpt) {
  struct smtp_client_recipient recipient = {.address = SPAN("b@b.test"), .orcpt = unclean[_i]};
  struct smtp_client_envelope envelope = {.recipients = 1, .recipient = &recipient};
  smtp_client_begin(&client, &envelope, 1, &out);
}
END_TEST

static void begin_and_send(void) {
  smtp_client_begin(&client, &simple, 1, &out);
  while (smtp_client_stage(&client) != SMTP_STAGE_DATA) say("250 ok\r\n");
  ck_assert_int_eq(say("354 go\r\n"), SMTP_CLIENT_CONTENT);
  smtp_client_content_sent(&client, 1);
}

START_TEST(broken_promise) {
  struct smtp_client_envelope envelope = simple;
  struct fmt small = fmt_over(room, 20);
  switch (_i) {
  case 0: envelope.recipients = 0; break;
  case 1: envelope.recipients = SMTP_CLIENT_RECIPIENTS_MAX + 1; break;
  case 2: envelope.eight_bit = true; break; /* not offered */
  case 3: envelope.sender = span_of(long_text, ADDRESS_MAX + 1); break;
  case 4: smtp_client_begin(&client, &envelope, 1, &out); break; /* a second one before the first has sent anything */
  case 5: begin_and_send(); break;                               /* a second one under the same tag */
  case 6: smtp_client_quit(&client, &out); break;                /* one behind QUIT */
  case 7: smtp_client_begin(&client, &envelope, 1, &small); return;
  case 8: smtp_client_content_sent(&client, 1); return;
  case 9: smtp_client_wants_dot(&client, 1); return;
  case 10: smtp_client_begin(&client, &envelope, 1, &out), smtp_client_quit(&client, &out); return;
  case 11: /* QUIT behind unanswered content, where there is no pipelining */
    greet("250 mx\r\n");
    begin_and_send();
    smtp_client_quit(&client, &out);
    return;
  }
  smtp_client_begin(&client, &envelope, 1, &out);
}
END_TEST

START_TEST(broken_promise_of_security) {
  greet(_i == 1 ? "250 mx\r\n" : "250-mx\r\n250-STARTTLS\r\n250 AUTH PLAIN\r\n");
  switch (_i) {
  case 0: smtp_client_secured(&client, &out); return;  /* unasked */
  case 1: smtp_client_starttls(&client, &out); return; /* not offered */
  case 2: smtp_client_auth(&client, SPAN("a"), span_of(long_text, SMTP_CLIENT_SECRET_MAX + 1), &out); return;
  case 3: smtp_client_auth(&client, SPAN("a\0b"), SPAN("x"), &out); return;
  case 4: /* within a transaction */
    smtp_client_begin(&client, &simple, 1, &out);
    smtp_client_starttls(&client, &out);
    return;
  case 5: /* both at once */
    smtp_client_starttls(&client, &out);
    smtp_client_auth(&client, SPAN("a"), SPAN("b"), &out);
    return;
  case 6: /* a transaction in between */
    smtp_client_starttls(&client, &out);
    smtp_client_begin(&client, &simple, 1, &out);
    return;
  }
}
END_TEST

int main(void) {
  TCase *cases[] = {tcase_create("client"), tcase_create("contract")};
  tcase_add_checked_fixture(cases[0], setup, NULL);
  tcase_add_checked_fixture(cases[1], setup, NULL);
  tcase_add_test(cases[0], size_of_the_machine);
  tcase_add_test(cases[0], capabilities);
  tcase_add_test(cases[0], mechanisms);
  tcase_add_loop_test(cases[0], bytes_behind_starttls, 0, 3);
  tcase_add_test(cases[0], bytes_before_the_handshake);
  tcase_add_test(cases[0], longest_secret);
  tcase_add_test(cases[0], hundred_recipients_twice_under_way);
  tcase_add_test(cases[0], longest_lines);
  tcase_add_test(cases[0], overlong_dsn_parameters);
  tcase_add_test(cases[0], reply_beyond_the_bounds);
  tcase_add_test(cases[0], stage_texts);
  const int kinds = sizeof unclean / sizeof unclean[0];
  tcase_add_loop_test_raise_signal(cases[1], unclean_sender, SIGABRT, 0, kinds);
  tcase_add_loop_test_raise_signal(cases[1], unclean_envid, SIGABRT, 0, kinds);
  tcase_add_loop_test_raise_signal(cases[1], unclean_recipient, SIGABRT, 0, kinds);
  tcase_add_loop_test_raise_signal(cases[1], unclean_orcpt, SIGABRT, 0, kinds);
  tcase_add_loop_test_raise_signal(cases[1], broken_promise, SIGABRT, 0, 12);
  tcase_add_loop_test_raise_signal(cases[1], broken_promise_of_security, SIGABRT, 0, 7);
  return unit_main_forked("net/smtp/client", cases, 2);
}
