#include "tests/lib/unit.h"

#include <stdio.h>
#include <string.h>

#include "net/smtp/command.h"

#define X20 "xxxxxxxxxxxxxxxxxxxx"
#define X100 X20 X20 X20 X20 X20

/* ---- verbs ---- */

START_TEST(verbs) {
  static const struct {
    const char *line;
    enum command_verb verb;
    const char *argument;
  } cases[] = {
      {"EHLO a.b", COMMAND_EHLO, "a.b"},
      {"helo x ", COMMAND_HELO, "x"},
      {"Mail From:<a@b> SIZE=1 \t", COMMAND_MAIL, "From:<a@b> SIZE=1"},
      {"RCPT  TO:<a@b>", COMMAND_RCPT, "TO:<a@b>"},
      {"DATA", COMMAND_DATA, ""},
      {"DATA  ", COMMAND_DATA, ""},
      {"bdat 1 LAST", COMMAND_BDAT, "1 LAST"},
      {"RSET", COMMAND_RSET, ""},
      {"NOOP what ever", COMMAND_NOOP, "what ever"},
      {"QUIT", COMMAND_QUIT, ""},
      {"VRFY a", COMMAND_VRFY, "a"},
      {"HELP", COMMAND_HELP, ""},
      {"EXPN x", COMMAND_ABSENT, "x"},
      {"TURN", COMMAND_ABSENT, ""},
      {"STARTTLS", COMMAND_STARTTLS, ""},
      {"AUTH PLAIN AAA", COMMAND_AUTH, "PLAIN AAA"},
      {"GET / HTTP/1.1", COMMAND_FOREIGN, "/ HTTP/1.1"},
      {"post / HTTP/1.1", COMMAND_FOREIGN, "/ HTTP/1.1"},
      {"PUT / HTTP/1.1", COMMAND_FOREIGN, "/ HTTP/1.1"},
      {"HEAD / HTTP/1.1", COMMAND_FOREIGN, "/ HTTP/1.1"},
      {"CONNECT a:25 HTTP/1.1", COMMAND_FOREIGN, "a:25 HTTP/1.1"},
      {"PRI * HTTP/2.0", COMMAND_FOREIGN, "* HTTP/2.0"},
      {"Host: localhost", COMMAND_FOREIGN, "localhost"},
      {"", COMMAND_UNKNOWN, ""},
      {" ", COMMAND_UNKNOWN, ""},
      {"EHL", COMMAND_UNKNOWN, ""},
      {"EHLOX", COMMAND_UNKNOWN, ""},
      {"MAIL\tFROM", COMMAND_UNKNOWN, ""},
      {" NOOP", COMMAND_UNKNOWN, "NOOP"},
      {"-AIL", COMMAND_UNKNOWN, ""},
      {"\x0d"
       "AIL",
       COMMAND_UNKNOWN, ""},
      {"XCLIENT a", COMMAND_UNKNOWN, "a"},
      {":", COMMAND_UNKNOWN, ""},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    struct span line = span_of_text(cases[i].line);
    ck_assert_msg(command_read(&line) == cases[i].verb, "%s", cases[i].line);
    ck_assert_msg(span_equal(line, span_of_text(cases[i].argument)), "argument of %s", cases[i].line);
  }
}
END_TEST

/* ---- arguments ---- */

static void check_reply(const char *what, struct span reply, const char *wanted) {
  ck_assert_msg(span_equal(span_first(reply, strlen(wanted)), span_of_text(wanted)), "%s: %.*s instead of %s", what, (int)reply.len,
                (const char *)reply.at, wanted);
  ck_assert_msg((reply.len == 0) == (*wanted == '\0'), "%s: %.*s", what, (int)reply.len, (const char *)reply.at);
  if (reply.len > 0)
    ck_assert(reply.len <= 512 && memcmp(reply.at + reply.len - 2, "\r\n", 2) == 0 && span_find(reply, '\n') == (ptrdiff_t)reply.len - 1);
}

static struct smtp_mail mail(const char *argument, const char *wanted) {
  struct smtp_mail m;
  check_reply(argument, command_mail(span_of_text(argument), &m), wanted);
  return m;
}

static struct smtp_rcpt rcpt(const char *argument, bool is_utf8, const char *wanted) {
  struct smtp_rcpt r;
  check_reply(argument, command_rcpt(span_of_text(argument), is_utf8, &r), wanted);
  return r;
}

START_TEST(mail_paths) {
  ck_assert(span_equal(mail("FROM:<a@b>", "").sender.whole, SPAN("a@b")));
  ck_assert(span_equal(mail("from: <a@b>", "").sender.whole, SPAN("a@b")));
  ck_assert_uint_eq(mail("FROM:<>", "").sender.whole.len, 0);
  mail("", "501 5.5.4");
  mail("FROM", "501 5.5.4");
  mail("FROM <a@b>", "501 5.5.4");
  mail("TO:<a@b>", "501 5.5.4");
  mail("FROM:", "501 5.1.7");
  mail("FROM:a@b", "501 5.1.7");
  mail("FROM:<a@b>SIZE=1", "501 5.1.7");
  mail("FROM:<" X100 "@b>", "501 5.1.7 Sender address too long");
}
END_TEST

START_TEST(mail_parameters) {
  struct smtp_mail m = mail("FROM:<a@b> SIZE=123 body=8bitmime RET=HDRS ENVID=x+2By smtputf8 RequireTLS", "");
  ck_assert(m.require_tls);
  ck_assert(m.size == 123 && m.body == SMTP_BODY_8BITMIME && m.ret == SMTP_RET_HEADERS && m.smtputf8 && span_equal(m.envid, SPAN("x+2By")));
  m = mail("FROM:<a@b>", "");
  ck_assert(m.size == 0 && m.body == SMTP_BODY_7BIT && m.ret == SMTP_RET_NONE && !m.smtputf8 && m.envid.len == 0);
  ck_assert_int_eq(mail("FROM:<a@b>  RET=full", "").ret, SMTP_RET_FULL);
  ck_assert_uint_eq(mail("FROM:<a@b> SIZE=18446744073709551615", "").size, UINT64_MAX);
  ck_assert_uint_eq(mail("FROM:<a@b> SIZE=99999999999999999999", "").size, UINT64_MAX);
  mail("FROM:<a@b> SIZE=100000000000000000000", "501 5.5.4"); /* 21 digits */
  mail("FROM:<a@b> SIZE=-1", "501 5.5.4");
  mail("FROM:<a@b> SIZE=1x", "501 5.5.4");
  mail("FROM:<a@b> SIZE=", "501 5.5.4");
  mail("FROM:<a@b> SIZE", "501 5.5.4");
  mail("FROM:<a@b> SIZE=1 size=1", "501 5.5.4 Parameter given twice");
  mail("FROM:<a@b> BODY=7BIT", "");
  mail("FROM:<a@b> BODY=BINARYMIME", "555 5.6.1");
  mail("FROM:<a@b> BODY=9BIT", "501 5.5.4");
  mail("FROM:<a@b> BODY", "501 5.5.4");
  mail("FROM:<a@b> RET=HALF", "501 5.5.4");
  mail("FROM:<a@b> RET", "501 5.5.4");
  mail("FROM:<a@b> SMTPUTF8=1", "501 5.5.4");
  mail("FROM:<a@b> SMTPUTF9", "555 5.5.4");
  mail("FROM:<a@b> SMTP", "555 5.5.4");
  mail("FROM:<a@b> AUTH=<>", "");
  mail("FROM:<a@b> auth=e+3Dmc2@example.com SIZE=1", ""); /* RFC 4954 5 */
  mail("FROM:<a@b> AUTH=<> AUTH=<>", "501 5.5.4 Parameter given twice");
  mail("FROM:<a@b> AUTH", "501 5.5.4");
  mail("FROM:<a@b> AUTH=a+b", "501 5.5.4");
  mail("FROM:<a@b> AUTH=" X100 X100 X100 X100 X100, "");
  mail("FROM:<a@b> AUTH=" X100 X100 X100 X100 X100 "x", "501 5.5.4");
  mail("FROM:<a@b> AUTHOR=x", "555 5.5.4");
  mail("FROM:<a@b> NOTIFY=NEVER", "555 5.5.4");
  mail("FROM:<a@b> X", "555 5.5.4");
  mail("FROM:<a@b> -X=1", "501 5.5.4");
  mail("FROM:<a@b> X=a=b", "501 5.5.4");
  mail("FROM:<a@b> X_Y=1", "501 5.5.4");
  mail("FROM:<a@b> =1", "501 5.5.4");
  mail("FROM:<a@b> ENVID=a\x7f", "501 5.5.4");
  mail("FROM:<a@b> ENVID=" X100, "");
  mail("FROM:<a@b> ENVID=" X100 "x", "501 5.5.4");
}
END_TEST

START_TEST(xtext) {
  static const char *const good[] = {"a", "+20", "+2B+3D", "!~", "a+7Eb", "<a@b>"};
  static const char *const bad[] = {"+", "+2", "a+2", "+2b", "+GG", "+1F", "+7F", "+80", "\xc3\xa4", "+\xc3\xa4"};
  char line[64];
  for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
    snprintf(line, sizeof line, "FROM:<a@b> ENVID=%s", good[i]);
    mail(line, "");
    snprintf(line, sizeof line, "TO:<a@b> ORCPT=rfc822;%s", good[i]);
    rcpt(line, false, "");
  }
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    snprintf(line, sizeof line, "FROM:<a@b> ENVID=%s", bad[i]);
    mail(line, "501 5.5.4");
    snprintf(line, sizeof line, "TO:<a@b> ORCPT=rfc822;%s", bad[i]);
    rcpt(line, true, "501 5.5.4");
  }
}
END_TEST

START_TEST(non_ascii_needs_smtputf8) {
  mail("FROM:<\xc3\xa4@b>", "553 5.6.7");
  ck_assert(mail("FROM:<\xc3\xa4@b> SMTPUTF8", "").sender.utf8);
  mail("FROM:<\xff@b> SMTPUTF8", "501 5.1.7");
  rcpt("TO:<\xc3\xa4@b>", false, "553 5.6.7");
  ck_assert(rcpt("TO:<\xc3\xa4@b>", true, "").recipient.utf8);
  rcpt("TO:<a@b> ORCPT=utf-8;\xc3\xa4@b", true, "");
  rcpt("TO:<a@b> ORCPT=utf-8;\xc3\xa4@b", false, "501 5.5.4");
  rcpt("TO:<a@b> ORCPT=utf-8;\xc3", true, "501 5.5.4");
  rcpt("TO:<a@b> ORCPT=utf-8;\\x{E4}@b", false, "");
}
END_TEST

START_TEST(rcpt_paths_and_parameters) {
  ck_assert(span_equal(rcpt("TO:<@x,@y:a@b>", false, "").recipient.whole, SPAN("a@b")));
  ck_assert(span_equal(rcpt("to:<Postmaster>", false, "").recipient.local, SPAN("Postmaster")));
  rcpt("TO:<>", false, "501 5.1.3");
  rcpt("TO:a@b", false, "501 5.1.3");
  rcpt("FROM:<a@b>", false, "501 5.5.4");
  rcpt("TO:<" X100 "@b>", false, "501 5.1.3 Recipient address too long");
  struct smtp_rcpt r = rcpt("TO:<a@b> NOTIFY=success,Delay,FAILURE ORCPT=rfc822;c@d", false, "");
  ck_assert_uint_eq(r.notify, SMTP_NOTIFY_SUCCESS | SMTP_NOTIFY_DELAY | SMTP_NOTIFY_FAILURE);
  ck_assert(span_equal(r.orcpt, SPAN("rfc822;c@d")));
  ck_assert_uint_eq(rcpt("TO:<a@b> NOTIFY=NEVER", false, "").notify, SMTP_NOTIFY_NEVER);
  ck_assert_uint_eq(rcpt("TO:<a@b>", false, "").notify, SMTP_NOTIFY_DEFAULT);
  rcpt("TO:<a@b> NOTIFY=NEVER,DELAY", false, "501 5.5.4");
  rcpt("TO:<a@b> NOTIFY=DELAY,NEVER", false, "501 5.5.4");
  rcpt("TO:<a@b> NOTIFY=DELAY,", false, "501 5.5.4");
  rcpt("TO:<a@b> NOTIFY=,DELAY", false, "501 5.5.4");
  rcpt("TO:<a@b> NOTIFY=SOON", false, "501 5.5.4");
  rcpt("TO:<a@b> NOTIFY=", false, "501 5.5.4");
  rcpt("TO:<a@b> NOTIFY", false, "501 5.5.4");
  rcpt("TO:<a@b> NOTIFY=DELAY NOTIFY=DELAY", false, "501 5.5.4 Parameter given twice");
  rcpt("TO:<a@b> ORCPT=a;b ORCPT=a;b", false, "501 5.5.4 Parameter given twice");
  rcpt("TO:<a@b> ORCPT=rfc822", false, "501 5.5.4");
  rcpt("TO:<a@b> ORCPT=;x", false, "501 5.5.4");
  rcpt("TO:<a@b> ORCPT=rfc822;", false, "501 5.5.4");
  rcpt("TO:<a@b> ORCPT=r_c;x", false, "501 5.5.4");
  rcpt("TO:<a@b> ORCPT=a;" X100 X100 X100 X100 X20 X20 X20 X20 "xxxxxxxxxxxxxxxxxx", false, "");           /* 500 */
  rcpt("TO:<a@b> ORCPT=a;" X100 X100 X100 X100 X20 X20 X20 X20 "xxxxxxxxxxxxxxxxxxx", false, "501 5.5.4"); /* 501 */
  rcpt("TO:<a@b> SIZE=1", false, "555 5.5.4");
}
END_TEST

START_TEST(hello) {
  struct span name = {0};
  check_reply("hello", command_hello(SPAN("client-1.example_x"), &name), "");
  ck_assert(span_equal(name, SPAN("client-1.example_x")));
  check_reply("hello", command_hello(SPAN("[IPv6:::1]"), &name), "");
  check_reply("hello", command_hello(SPAN(""), &name), "501 5.5.4");
  check_reply("hello", command_hello(SPAN("a b"), &name), "501 5.5.4");
  check_reply("hello", command_hello(SPAN("a(b)"), &name), "501 5.5.4");
  check_reply("hello", command_hello(SPAN("a;b"), &name), "501 5.5.4");
  check_reply("hello", command_hello(SPAN("\xc3\xa4"), &name), "501 5.5.4");
  check_reply("hello", command_hello(span_of_text(X100 X100 X20 X20 "xxxxxxxxxxxxxxx"), &name), "");
  check_reply("hello", command_hello(span_of_text(X100 X100 X20 X20 "xxxxxxxxxxxxxxxx"), &name), "501 5.5.4");
}
END_TEST

START_TEST(bdat) {
  static const struct {
    const char *argument, *wanted;
    uint64_t size;
    bool last;
  } cases[] = {
      {"0", "", 0, false},
      {"0 LAST", "", 0, true},
      {"123 last", "", 123, true},
      {"123   LAST", "", 123, true},
      {"18446744073709551616", "", UINT64_MAX, false},
      {"999999999999999999999999999999", "", UINT64_MAX, false},
      {"", "501 5.5.4", 0, false},
      {"LAST", "501 5.5.4", 0, false},
      {"1 FIRST", "501 5.5.4", 0, false},
      {"1 LAST x", "501 5.5.4", 0, false},
      {"-1", "501 5.5.4", 0, false},
      {"1x", "501 5.5.4", 0, false},
      {"99999999999999999999x", "501 5.5.4", 0, false},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    uint64_t size = 7;
    bool last = false;
    struct span reply = command_bdat(span_of_text(cases[i].argument), &size, &last);
    check_reply(cases[i].argument, reply, cases[i].wanted);
    if (reply.len > 0) continue;
    ck_assert_uint_eq(size, cases[i].size);
    ck_assert_int_eq(last, cases[i].last);
  }
}
END_TEST

START_TEST(auth) {
  static const struct {
    const char *argument, *wanted, *mechanism, *initial;
  } cases[] = {
      {"PLAIN", "", "PLAIN", ""},
      {"SCRAM-SHA-256 =", "", "SCRAM-SHA-256", "="},
      {"X_1   AGE=", "", "X_1", "AGE="},
      {"xxxxxxxxxxxxxxxxxxxx", "", X20, ""},
      {"xxxxxxxxxxxxxxxxxxxxx", "501 5.5.4", "", ""},
      {"", "501 5.5.4", "", ""},
      {"PLAIN AA AA", "501 5.5.4", "", ""},
      {"PLAIN A\tA", "501 5.5.4", "", ""},
      {"PLAIN A\x80", "501 5.5.4", "", ""},
      {"PL.AIN", "501 5.5.4", "", ""},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    struct smtp_auth got;
    struct span reply = command_auth(span_of_text(cases[i].argument), &got);
    check_reply(cases[i].argument, reply, cases[i].wanted);
    if (reply.len > 0) continue;
    ck_assert(span_equal(got.mechanism, span_of_text(cases[i].mechanism)) && span_equal(got.initial, span_of_text(cases[i].initial)));
    ck_assert_int_eq(got.initial_given, cases[i].initial[0] != '\0');
  }
}
END_TEST

int main(void) {
  TCase *tests = tcase_create("command");
  tcase_add_test(tests, verbs);
  tcase_add_test(tests, mail_paths);
  tcase_add_test(tests, mail_parameters);
  tcase_add_test(tests, xtext);
  tcase_add_test(tests, non_ascii_needs_smtputf8);
  tcase_add_test(tests, rcpt_paths_and_parameters);
  tcase_add_test(tests, hello);
  tcase_add_test(tests, bdat);
  tcase_add_test(tests, auth);
  return unit_main("net/smtp/command", &tests, 1);
}
