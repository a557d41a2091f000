/* Texts of policies and TXT records: what is taken, what is refused and why, and which hosts a policy allows. */
#include "net/sts/policy.h"

#include <stdio.h>

#include "core/base/error.h"
#include "dns/codec.h"
#include "tests/lib/unit.h"

static uint8_t phrase[96];
static struct fmt why;

static struct sts_policy *parse(const char *text) {
  struct sts_policy *policy = NULL;
  why = fmt_over(phrase, sizeof phrase);
  int error = sts_policy_parse(&policy, span_of_text(text), &why);
  ck_assert_msg(error == E_OK, "%.*s", (int)why.len, phrase);
  ck_assert_uint_eq(why.len, 0);
  return policy;
}

#define TEXT(mode) "version: STSv1\nmode: " mode "\nmx: mail.example.com\nmx: *.Example.NET\nmax_age: 604800\n"

START_TEST(the_example_of_the_rfc) {
  struct sts_policy *policy =
      parse("version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.example.net\r\nmx: backupmx.example.com\r\nmax_age: 604800\r\n");
  ck_assert(policy->mode == STS_MODE_ENFORCE && policy->max_age_s == 604800 && policy->patterns == 3);
  ck_assert_str_eq(sts_policy_next(policy, sts_policy_next(policy, NULL)), "*.example.net");
  sts_policy_drop(sts_policy_hold(policy));
  sts_policy_drop(policy);
}
END_TEST

static const struct {
  const char *text;
  enum sts_mode mode;
  unsigned max_age_s, patterns;
} taken[] = {
    {TEXT("enforce"), STS_MODE_ENFORCE, 604800, 2},
    {TEXT("testing"), STS_MODE_TESTING, 604800, 2},
    {TEXT("none"), STS_MODE_NONE, 604800, 2},
    {"mode:none\nmax_age:0\nversion:STSv1", STS_MODE_NONE, 0, 0},
    {TEXT("testing") "mode: enforce\nmax_age: 1\n", STS_MODE_TESTING, 604800, 2},
    {TEXT("enforce") "x-y.z_1: caf\xc3\xa9: 1\n\n \nmx:a", STS_MODE_ENFORCE, 604800, 3},
    {"version: STSv1 \t\nmode:  testing\nmx: a.b\nmax_age: 9999999999", STS_MODE_TESTING, STS_MAX_AGE_MAX_S, 1},
};

START_TEST(taken_texts) {
  struct sts_policy *policy = parse(taken[_i].text);
  ck_assert_int_eq(policy->mode, taken[_i].mode);
  ck_assert_uint_eq(policy->max_age_s, taken[_i].max_age_s);
  ck_assert_uint_eq(policy->patterns, taken[_i].patterns);
  sts_policy_drop(policy);
}
END_TEST

static const struct {
  const char *text, *why;
} refused[] = {
    {"", "no version"},
    {"mode: enforce\nmx: a.b\nmax_age: 1\n", "no version"},
    {"version: STSv1\nmx: a.b\nmax_age: 1\n", "no mode"},
    {"version: STSv1\nmode: enforce\nmx: a.b\n", "no max_age"},
    {"version: STSv1\nmode: enforce\nmax_age: 1\n", "no mx"},
    {"version: STSv1\nmode: testing\nmax_age: 1\n", "no mx"},
    {"version: STSv2\nmode: enforce\nmx: a.b\nmax_age: 1\n", "not STSv1"},
    {"version: stsv1\nmode: enforce\nmx: a.b\nmax_age: 1\n", "not STSv1"},
    {"version: STSv1\nmode: Enforce\nmx: a.b\nmax_age: 1\n", "neither"},
    {"version: STSv1\nmode: invalid\nmx: a.b\nmax_age: 1\n", "neither"},
    {"version: STSv1\nmode: enforce\nmx: a.b\nmax_age: -1\n", "max_age"},
    {"version: STSv1\nmode: enforce\nmx: a.b\nmax_age: 12345678901\n", "max_age"},
    {"version: STSv1\nmode: enforce\nmx: a.b\nmax_age: 1d\n", "max_age"},
    {"version: STSv1\nmode: enforce\nmx: *\nmax_age: 1\n", "mx is no name"},
    {"version: STSv1\nmode: enforce\nmx: *.\nmax_age: 1\n", "mx is no name"},
    {"version: STSv1\nmode: enforce\nmx: a.*.b\nmax_age: 1\n", "mx is no name"},
    {"version: STSv1\nmode: enforce\nmx: 192.0.2.1\nmax_age: 1\n", "mx is no name"},
    {"version: STSv1\nmode: enforce\nmx: a.b c.d\nmax_age: 1\n", "mx is no name"},
    {"version: STSv1\nmode: enforce\nmx: a.b\nmax_age: 1\nnonsense\n", "colon"},
    {"version: STSv1\nmode: enforce\nmx: a.b\nmax_age: 1\n: x\n", "no key"},
    {"version: STSv1\nmode: enforce\nmx: a.b\nmax_age: 1\n-x: y\n", "no key"},
    {"version: STSv1\nmode: enforce\rmx: a.b\nmax_age: 1\n", "control"},
    {"<html>\n", "colon"},
};

START_TEST(refused_texts) {
  struct sts_policy *policy = NULL;
  why = fmt_over(phrase, sizeof phrase - 1);
  ck_assert_int_eq(sts_policy_parse(&policy, span_of_text(refused[_i].text), &why), E_SYNTAX);
  phrase[why.len] = '\0';
  ck_assert_msg(strstr((char *)phrase, refused[_i].why) != NULL, "%s", phrase);
}
END_TEST

START_TEST(bounds) {
  static char text[STS_POLICY_BYTES_MAX + 2];
  struct sts_policy *policy;
  size_t len = (size_t)sprintf(text, "version: STSv1\nmode: enforce\nmax_age: 1\n");
  for (unsigned i = 0; i < STS_PATTERNS_MAX; i++) len += (size_t)sprintf(text + len, "mx: a%u.b\n", i);
  policy = parse(text);
  ck_assert_uint_eq(policy->patterns, STS_PATTERNS_MAX);
  sts_policy_drop(policy);
  strcpy(text + len, "mx: more.b\n");
  why = fmt_over(phrase, sizeof phrase);
  ck_assert_int_eq(sts_policy_parse(&policy, span_of_text(text), &why), E_SYNTAX);
  text[len] = '\0';
  memset(text + len, '\n', sizeof text - 1 - len);
  why = fmt_over(phrase, sizeof phrase);
  ck_assert_int_eq(sts_policy_parse(&policy, span_of(text, STS_POLICY_BYTES_MAX + 1), &why), E_SYNTAX);
  ck_assert_int_eq(sts_policy_parse(&policy, span_of(text, STS_POLICY_BYTES_MAX), &why), E_OK);
  sts_policy_drop(policy);
}
END_TEST

static const struct {
  const char *host;
  bool allowed;
} hosts[] = {
    {"mail.example.com", true},
    {"MAIL.example.com", true},
    {"x.mail.example.com", false},
    {"example.com", false},
    {"a.example.net", true},
    {"A.example.NET", true},
    {"example.net", false},
    {".example.net", false},
    {"a.b.example.net", false},
    {"aexample.net", false},
    {"", false},
    {"mail.example.co", false},
    {"mail.example.com.", false},
};

START_TEST(which_hosts_are_allowed) {
  struct sts_policy *policy = parse(TEXT("enforce"));
  ck_assert(sts_policy_allows(policy, span_of_text(hosts[_i].host)) == hosts[_i].allowed);
  sts_policy_drop(policy);
}
END_TEST

START_TEST(a_policy_writes_itself) {
  uint8_t room[512];
  struct fmt out = fmt_over(room, sizeof room);
  struct sts_policy *policy = parse(TEXT("testing"));
  sts_policy_write(policy, &out);
  ck_assert(span_equal(fmt_span(&out), SPAN("version: STSv1\nmode: testing\nmax_age: 604800\nmx: mail.example.com\nmx: *.example.net\n")));
  sts_policy_drop(policy);
}
END_TEST

/* ---- TXT records ---- */

static const struct {
  const char *text;
  int error;
  const char *id;
} texts[] = {
    {"v=STSv1; id=20160831085700Z;", E_OK, "20160831085700Z"},
    {"v=STSv1;id=1", E_OK, "1"},
    {"v=STSv1 ; id=a ; x=y", E_OK, "a"},
    {"v=STSv1; x=y; id=a; id=b;", E_OK, "a"},
    {"v=STSv1; id=12345678901234567890123456789012", E_OK, "12345678901234567890123456789012"},
    {"v=STSv1; id=123456789012345678901234567890123", E_SYNTAX, NULL},
    {"v=STSv1", E_SYNTAX, NULL},
    {"v=STSv1; id=", E_SYNTAX, NULL},
    {"v=STSv1; id=a-b", E_SYNTAX, NULL},
    {"v=STSv1; nothing; id=a", E_SYNTAX, NULL},
    {"v=STSv1; ; id=a", E_SYNTAX, NULL},
    {"v=STSv2; id=a", E_NOT_FOUND, NULL},
    {"v=STSv10; id=a", E_NOT_FOUND, NULL},
    {"v=spf1 -all", E_NOT_FOUND, NULL},
    {"", E_NOT_FOUND, NULL},
};

START_TEST(records) {
  char id[STS_ID_MAX + 1];
  ck_assert_int_eq(sts_record_parse(span_of_text(texts[_i].text), id), texts[_i].error);
  if (texts[_i].id != NULL) ck_assert_str_eq(id, texts[_i].id);
}
END_TEST

static bool announced(const char *const *all, char id[STS_ID_MAX + 1]) {
  static struct dns_answer answer;
  answer = (struct dns_answer){.outcome = DNS_FOUND};
  for (uint16_t at = 0; *all != NULL; all++, answer.count++) {
    size_t len = strlen(*all);
    memcpy(answer.bytes.room + at, *all, len);
    answer.bytes.piece[answer.count].at = at;
    answer.bytes.piece[answer.count].len = (uint16_t)len;
    at = (uint16_t)(at + len);
  }
  answer.total = answer.count;
  return sts_announced(&answer, id);
}

START_TEST(one_record_must_say_so) {
  char id[STS_ID_MAX + 1];
  ck_assert(announced((const char *[]){"other", "v=STSv1; id=7", "v=spf1", NULL}, id));
  ck_assert_str_eq(id, "7");
  ck_assert(!announced((const char *[]){"v=STSv1; id=7", "v=STSv1; id=7", NULL}, id));
  ck_assert(!announced((const char *[]){"v=STSv1; id=7", "v=STSv1", NULL}, id));
  ck_assert(!announced((const char *[]){"v=STSv1", NULL}, id));
  ck_assert(!announced((const char *[]){"other", NULL}, id));
  struct dns_answer none = {.outcome = DNS_NO_NAME};
  ck_assert(!sts_announced(&none, id));
}
END_TEST

int main(void) {
  TCase *cases[] = {tcase_create("policies"), tcase_create("records")};
  tcase_add_test(cases[0], the_example_of_the_rfc);
  tcase_add_loop_test(cases[0], taken_texts, 0, sizeof taken / sizeof *taken);
  tcase_add_loop_test(cases[0], refused_texts, 0, sizeof refused / sizeof *refused);
  tcase_add_test(cases[0], bounds);
  tcase_add_loop_test(cases[0], which_hosts_are_allowed, 0, sizeof hosts / sizeof *hosts);
  tcase_add_test(cases[0], a_policy_writes_itself);
  tcase_add_loop_test(cases[1], records, 0, sizeof texts / sizeof *texts);
  tcase_add_test(cases[1], one_record_must_say_so);
  return unit_main("net/sts/policy", cases, 2);
}
