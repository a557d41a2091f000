/* What scenarios cannot say: decisions after the end, room for replies, what the questions answer. */
#include "tests/lib/unit.h"

#include <stdio.h>
#include <string.h>

#include "net/smtp/server.h"

static const struct smtp_server_options options = {.hostname = SPAN("relay.example"),
                                                   .message_size_max = 1000,
                                                   .recipients_max = 10,
                                                   .errors_max = 20,
                                                   .idle_commands_max = 1000,
                                                   .surplus_max = 1000};

struct session {
  struct smtp_server server;
  uint8_t room[4096];
  struct fmt out;
};

static struct session begin(void) {
  static struct session s;
  s.out = fmt_over(s.room, sizeof s.room);
  smtp_server_init(&s.server, &options, &s.out);
  return s;
}

/* Feeds the text until the event comes, accepting all before it. */
static struct span until(struct session *s, const char *text, enum smtp_server_event wanted) {
  struct span in = span_of_text(text);
  for (;;) {
    s->out = fmt_over(s->room, sizeof s->room);
    enum smtp_server_event event = smtp_server_next(&s->server, &in, &s->out);
    if (event == wanted) return in;
    ck_assert_int_ne(event, SMTP_SERVER_NEED_INPUT);
    if (event == SMTP_SERVER_MAIL || event == SMTP_SERVER_RCPT || event == SMTP_SERVER_DATA) smtp_server_accept(&s->server, &s->out);
    if (event == SMTP_SERVER_END) smtp_server_accept_message(&s->server, 1, &s->out);
  }
}

#define ENVELOPE "HELO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n"

START_TEST(ten_thousand_idle_sessions_fit) { ck_assert_uint_le(sizeof(struct smtp_server), 400); }
END_TEST

START_TEST(where_it_is) {
  struct session s = begin();
  ck_assert(!smtp_server_in_transaction(&s.server) && !smtp_server_in_content(&s.server));
  until(&s, "HELO c\r\n", SMTP_SERVER_NEED_INPUT);
  ck_assert(!smtp_server_in_transaction(&s.server));
  until(&s, "MAIL FROM:<a@b>\r\n", SMTP_SERVER_NEED_INPUT);
  ck_assert(smtp_server_in_transaction(&s.server) && !smtp_server_in_content(&s.server));
  until(&s, "RCPT TO:<c@d>\r\nDATA\r\n", SMTP_SERVER_NEED_INPUT);
  ck_assert(smtp_server_in_transaction(&s.server) && smtp_server_in_content(&s.server));
  until(&s, "a\nb\r\n", SMTP_SERVER_RESET);
  ck_assert(!smtp_server_in_transaction(&s.server) && smtp_server_in_content(&s.server));
  until(&s, ".\r\n", SMTP_SERVER_NEED_INPUT);
  ck_assert(!smtp_server_in_transaction(&s.server) && !smtp_server_in_content(&s.server));
  until(&s, "MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n.\r\n", SMTP_SERVER_END);
  ck_assert(smtp_server_in_transaction(&s.server) && smtp_server_in_content(&s.server));
  smtp_server_accept_message(&s.server, 1, &s.out);
  ck_assert(!smtp_server_in_transaction(&s.server) && !smtp_server_in_content(&s.server));
  until(&s, "BDAT 10\r\nabc", SMTP_SERVER_NEED_INPUT);
  ck_assert(!smtp_server_in_transaction(&s.server) && smtp_server_in_content(&s.server));
}
END_TEST

START_TEST(counts) {
  struct session s = begin();
  until(&s, ENVELOPE "RCPT TO:<e@f>\r\nDATA\r\n", SMTP_SERVER_NEED_INPUT);
  ck_assert_uint_eq(s.server.recipients, 2);
  ck_assert_uint_eq(s.server.messages, 0);
  until(&s, "text\r\n.\r\n", SMTP_SERVER_NEED_INPUT);
  ck_assert_uint_eq(s.server.recipients, 0);
  ck_assert_uint_eq(s.server.messages, 1);
  ck_assert_uint_eq(s.server.content_size, 6);
}
END_TEST

START_TEST(size_is_known_until_data) {
  struct session s = begin();
  until(&s, "HELO c\r\nMAIL FROM:<a@b> SIZE=77\r\nRCPT TO:<c@d>\r\nDATA\r\n", SMTP_SERVER_DATA);
  ck_assert_uint_eq(s.server.mail.size, 77);
}
END_TEST

START_TEST(no_room_for_a_reply) {
  struct session s = begin();
  uint8_t room[SMTP_REPLY_ROOM];
  struct span in = SPAN("NOOP\r\nNOOP\r\n");
  struct fmt out = fmt_over(room, sizeof room);
  ck_assert_int_eq(smtp_server_next(&s.server, &in, &out), SMTP_SERVER_FLUSH); /* after the first reply */
  ck_assert_uint_eq(in.len, 6);
  ck_assert_int_eq(smtp_server_next(&s.server, &in, &out), SMTP_SERVER_FLUSH);
  ck_assert_uint_eq(in.len, 6);
  out.len = 0;
  ck_assert_int_eq(smtp_server_next(&s.server, &in, &out), SMTP_SERVER_FLUSH);
  ck_assert_uint_eq(in.len, 0);
  out.len = 0;
  ck_assert_int_eq(smtp_server_next(&s.server, &in, &out), SMTP_SERVER_NEED_INPUT);
}
END_TEST

START_TEST(the_longest_reply_fits) {
  static char name[255];
  memset(name, 'n', sizeof name);
  struct smtp_server_options wide = options;
  wide.hostname = span_of(name, sizeof name);
  wide.message_size_max = UINT64_MAX;
  wide.recipients_max = wide.messages_max = UINT32_MAX;
  wide.auth_mechanisms = SPAN("PLAIN LOGIN SCRAM-SHA-256");
  wide.auth_in_clear = wide.starttls = true;
  uint8_t room[SMTP_REPLY_ROOM];
  struct fmt out = fmt_over(room, sizeof room);
  struct smtp_server server;
  struct span in = SPAN("EHLO c\r\n");
  smtp_server_init(&server, &wide, &out);
  ck_assert(!out.overflow);
  out.len = 0;
  ck_assert_int_eq(smtp_server_next(&server, &in, &out), SMTP_SERVER_HELLO);
  ck_assert(!out.overflow);
}
END_TEST

START_TEST(what_follows_an_end_waits_for_its_decision) {
  struct session s = begin();
  struct span rest = until(&s, ENVELOPE "DATA\r\n.\r\nQUIT\r\n", SMTP_SERVER_END);
  ck_assert(span_equal(rest, SPAN("QUIT\r\n")));
}
END_TEST

START_TEST(content_is_not_copied) {
  struct session s = begin();
  until(&s, ENVELOPE "DATA\r\n", SMTP_SERVER_NEED_INPUT);
  struct span in = SPAN("some text\r\n..and more\r\n.\r\n"), all = in;
  ck_assert_int_eq(smtp_server_next(&s.server, &in, &s.out), SMTP_SERVER_CONTENT);
  ck_assert(s.server.content.at == all.at && s.server.content.len == all.len - 3);
}
END_TEST

/* ---- STARTTLS and AUTH: what depends on where the stream is cut, and on how long lines are ---- */

static const struct smtp_server_options guarded = {.hostname = SPAN("relay.example"),
                                                   .message_size_max = 1000,
                                                   .recipients_max = 10,
                                                   .errors_max = 20,
                                                   .idle_commands_max = 1000,
                                                   .surplus_max = 1000,
                                                   .auth_mechanisms = SPAN("PLAIN"),
                                                   .auth_in_clear = true,
                                                   .starttls = true};

static struct session begin_guarded(void) {
  struct session s = {0};
  s.out = fmt_over(s.room, sizeof s.room);
  smtp_server_init(&s.server, &guarded, &s.out);
  return s;
}

static bool said(struct session *s, const char *start) { return span_starts_nocase(span_of(s->room, s->out.len), span_of_text(start)); }

START_TEST(bytes_behind_starttls) {
  static const char *const behind[] = {"\r\n", "MAIL FROM:<a@b>\r\n", "X", "\x16\x03\x01"};
  for (size_t i = 0; i < sizeof behind / sizeof behind[0]; i++) {
    char text[64];
    struct session s = begin_guarded();
    until(&s, "EHLO c\r\n", SMTP_SERVER_NEED_INPUT);
    snprintf(text, sizeof text, "STARTTLS\r\n%s", behind[i]);
    struct span rest = until(&s, text, SMTP_SERVER_CLOSE);
    ck_assert(said(&s, "554 5.5.1 ") && rest.len == 0 && !s.server.tls);
  }
}
END_TEST

START_TEST(bytes_before_the_handshake_is_done) {
  struct session s = begin_guarded();
  until(&s, "EHLO c\r\nSTARTTLS\r\n", SMTP_SERVER_STARTTLS);
  smtp_server_accept(&s.server, &s.out);
  struct span in = {NULL, 0};
  ck_assert_int_eq(smtp_server_next(&s.server, &in, &s.out), SMTP_SERVER_NEED_INPUT);
  in = SPAN("NOOP\r\n");
  smtp_server_next(&s.server, &in, &s.out);
}
END_TEST

START_TEST(tls_makes_all_forgotten) {
  struct session s = begin_guarded();
  until(&s, "EHLO c\r\nAUTH PLAIN x\r\n", SMTP_SERVER_AUTH);
  smtp_server_accept(&s.server, &s.out);
  ck_assert(s.server.authenticated && s.server.esmtp);
  until(&s, "STARTTLS\r\n", SMTP_SERVER_STARTTLS);
  smtp_server_accept(&s.server, &s.out);
  ck_assert(!s.server.tls);
  smtp_server_secured(&s.server);
  ck_assert(s.server.tls && !s.server.authenticated && !s.server.esmtp && !smtp_server_in_transaction(&s.server));
  until(&s, "MAIL FROM:<a@b>\r\n", SMTP_SERVER_NEED_INPUT);
  ck_assert(said(&s, "503 5.5.1 Send EHLO"));
}
END_TEST

START_TEST(a_handshake_after_the_end) {
  struct session s = begin_guarded();
  until(&s, "EHLO c\r\nSTARTTLS\r\n", SMTP_SERVER_STARTTLS);
  smtp_server_accept(&s.server, &s.out);
  smtp_server_shut(&s.server, "4.3.2", "shutting down", &s.out);
  smtp_server_secured(&s.server);
  struct span in = SPAN("EHLO c\r\n");
  ck_assert_int_eq(smtp_server_next(&s.server, &in, &s.out), SMTP_SERVER_CLOSE);
}
END_TEST

START_TEST(how_long_lines_of_an_authentication_may_be) {
  static char line[SMTP_AUTH_LINE_MAX + 10];
  for (unsigned first = 0; first < 2; first++) {
    for (size_t len = SMTP_AUTH_LINE_MAX - 1; len <= SMTP_AUTH_LINE_MAX + 1; len++) {
      struct session s = begin_guarded();
      until(&s, "EHLO c\r\n", SMTP_SERVER_NEED_INPUT);
      if (!first) {
        until(&s, "AUTH PLAIN\r\n", SMTP_SERVER_AUTH);
        smtp_server_challenge(&s.server, SPAN(""), &s.out);
      }
      memset(line, 'A', sizeof line);
      if (first) memcpy(line, "AUTH PLAIN ", 11);
      strcpy(line + len - 2, "\r\n");
      if (len <= SMTP_AUTH_LINE_MAX) {
        until(&s, line, first ? SMTP_SERVER_AUTH : SMTP_SERVER_AUTH_LINE);
        ck_assert_uint_eq(first ? s.server.auth.initial.len + 11 : s.server.auth_line.len, len - 2);
      } else {
        struct span rest = until(&s, line, first ? SMTP_SERVER_NEED_INPUT : SMTP_SERVER_AUTH_OFF);
        ck_assert(said(&s, first ? "500 5.5.2 " : "500 5.5.6 ") && rest.len == (first ? 0 : len));
      }
    }
  }
}
END_TEST

START_TEST(decisions_after_the_end_write_nothing) {
  struct session s = begin();
  until(&s, ENVELOPE "DATA\r\n.\r\n", SMTP_SERVER_END);
  smtp_server_shut(&s.server, "4.3.2", "shutting down", &s.out);
  size_t len = s.out.len;
  smtp_server_accept_message(&s.server, 1, &s.out);
  smtp_server_accept(&s.server, &s.out);
  smtp_server_refuse(&s.server, &s.out, 451, "4.3.0", "no");
  smtp_server_shut(&s.server, "4.3.2", "shutting down", &s.out);
  ck_assert_uint_eq(s.out.len, len);
  struct span in = SPAN("NOOP\r\n");
  ck_assert_int_eq(smtp_server_next(&s.server, &in, &s.out), SMTP_SERVER_CLOSE);
  ck_assert_int_eq(smtp_server_next(&s.server, &in, &s.out), SMTP_SERVER_CLOSE);
  ck_assert_uint_eq(s.out.len, len);
  ck_assert_uint_eq(in.len, 0);
}
END_TEST

START_TEST(empty_input_without_memory) {
  static const char *const before[] = {
      "", "HELO c\r\n", ENVELOPE, ENVELOPE "DATA\r\n", ENVELOPE "BDAT 5\r\nab", ENVELOPE "BDAT 0\r\n", "BDAT 5\r\nab"};
  for (size_t i = 0; i < sizeof before / sizeof before[0]; i++) {
    struct session s = begin();
    struct span nothing = {NULL, 0};
    until(&s, before[i], SMTP_SERVER_NEED_INPUT);
    ck_assert_int_eq(smtp_server_next(&s.server, &nothing, &s.out), SMTP_SERVER_NEED_INPUT);
  }
}
END_TEST

START_TEST(a_decision_nobody_asked_for) {
  struct session s = begin();
  smtp_server_accept(&s.server, &s.out);
}
END_TEST

START_TEST(going_on_without_a_decision) {
  struct session s = begin();
  struct span in = until(&s, "HELO c\r\nMAIL FROM:<a@b>\r\n", SMTP_SERVER_MAIL);
  smtp_server_next(&s.server, &in, &s.out);
}
END_TEST

int main(void) {
  TCase *tests = tcase_create("server");
  tcase_add_test(tests, ten_thousand_idle_sessions_fit);
  tcase_add_test(tests, where_it_is);
  tcase_add_test(tests, counts);
  tcase_add_test(tests, size_is_known_until_data);
  tcase_add_test(tests, no_room_for_a_reply);
  tcase_add_test(tests, the_longest_reply_fits);
  tcase_add_test(tests, what_follows_an_end_waits_for_its_decision);
  tcase_add_test(tests, content_is_not_copied);
  tcase_add_test(tests, bytes_behind_starttls);
  tcase_add_test_raise_signal(tests, bytes_before_the_handshake_is_done, 6); /* SIGABRT, from must() */
  tcase_add_test(tests, tls_makes_all_forgotten);
  tcase_add_test(tests, a_handshake_after_the_end);
  tcase_add_test(tests, how_long_lines_of_an_authentication_may_be);
  tcase_add_test(tests, decisions_after_the_end_write_nothing);
  tcase_add_test(tests, empty_input_without_memory);
  tcase_add_test_raise_signal(tests, a_decision_nobody_asked_for, 6); /* SIGABRT, from must() */
  tcase_add_test_raise_signal(tests, going_on_without_a_decision, 6);
  return unit_main_forked("net/smtp/server", &tests, 1);
}
