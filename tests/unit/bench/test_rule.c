#include "bench/lib/rule.h"
#include "core/base/error.h"
#include "tests/lib/unit.h"

static struct rules rules;

static void setup(void) { rules.count = 0; }

static const struct rule *parse(const char *text) {
  const char *why;
  ck_assert_int_eq(rule_parse(&rules, span_of_text(text), &why), E_OK);
  return &rules.list[rules.count - 1];
}

START_TEST(a_whole_rule) {
  const struct rule *rule = parse("rcpt=*@d00007.test stage=rcpt reply=550 5.1.1 no such user rate=0.25 first=3 delay=200ms drip=5ms");
  ck_assert_int_eq(rule->stage, STAGE_RCPT);
  ck_assert_str_eq(rule->reply, "550 5.1.1 no such user");
  ck_assert_uint_eq(rule->code, 550);
  ck_assert_uint_eq(rule->first, 3);
  ck_assert_uint_eq(rule->delay_ns, 200000000);
  ck_assert_uint_eq(rule->drip_ns, 5000000);
  ck_assert(rule->rate > 0x3ffffff0 && rule->rate < 0x40000010);
}
END_TEST

START_TEST(reply_at_the_end_and_alone) {
  ck_assert_str_eq(parse("stage=mail reply=421 4.3.2 closing = now")->reply, "421 4.3.2 closing = now");
  ck_assert_str_eq(parse("reply=450 stage=data")->reply, "450");
  ck_assert(parse("stage=final cut-after-accept")->cut_after_accept);
  ck_assert(parse("  cut   stage=connect ")->cut);
}
END_TEST

START_TEST(nonsense_is_refused) {
  static const char *const bad[] = {"",
                                    "stage=rcpt",
                                    "stage=soon cut",
                                    "cut",
                                    "stage=rcpt reply=250 ok",
                                    "stage=rcpt reply=55 x",
                                    "stage=rcpt reply=5500",
                                    "stage=rcpt cut rate=2",
                                    "stage=rcpt cut rate=1.5",
                                    "stage=rcpt cut rate=x",
                                    "stage=rcpt cut first=0",
                                    "stage=rcpt cut first=256",
                                    "stage=rcpt cut-after-accept",
                                    "stage=mail rcpt=a cut",
                                    "stage=helo from=a cut",
                                    "stage=rcpt cut color=red",
                                    "stage=rcpt delay=soon",
                                    "stage=rcpt drip=0",
                                    "stage=rcpt cut now"};
  for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
    const char *why = NULL;
    ck_assert_int_eq(rule_parse(&rules, span_of_text(bad[i]), &why), E_SYNTAX);
    ck_assert_ptr_nonnull(why);
  }
  ck_assert_uint_eq(rules.count, 0);
}
END_TEST

START_TEST(rules_are_found_in_order) {
  parse("stage=rcpt rcpt=*@a.test reply=550 first");
  parse("stage=rcpt rcpt=*@?.test from=<>x reply=551 never");
  parse("stage=rcpt host=127.0.1.* reply=552 third");
  struct rule_subject subject = {STAGE_RCPT, SPAN("User@A.Test"), SPAN("me@b.test"), SPAN("127.0.1.9")};
  const struct rule *found = rule_match(&rules, NULL, &subject);
  ck_assert_ptr_nonnull(found);
  ck_assert_uint_eq(found->code, 550);
  found = rule_match(&rules, found, &subject);
  ck_assert_ptr_nonnull(found);
  ck_assert_uint_eq(found->code, 552);
  ck_assert_ptr_null(rule_match(&rules, found, &subject));
  subject.stage = STAGE_DATA;
  ck_assert_ptr_null(rule_match(&rules, NULL, &subject));
}
END_TEST

START_TEST(globs) {
  ck_assert(glob_match(SPAN("*"), SPAN("")));
  ck_assert(glob_match(SPAN("a*c*e"), SPAN("abcde")));
  ck_assert(glob_match(SPAN("a*c*e"), SPAN("aXcYcZe")));
  ck_assert(!glob_match(SPAN("a*c*e"), SPAN("abcd")));
  ck_assert(glob_match(SPAN("?b"), SPAN("AB")));
  ck_assert(!glob_match(SPAN("?"), SPAN("")));
  ck_assert(!glob_match(SPAN(""), SPAN("a")));
  ck_assert(glob_match(SPAN("**a"), SPAN("aaaa")));
}
END_TEST

START_TEST(only_so_many) {
  const char *why;
  for (unsigned i = 0; i < RULES_MAX; i++) parse("stage=rcpt cut");
  ck_assert_int_eq(rule_parse(&rules, SPAN("stage=rcpt cut"), &why), E_FULL);
}
END_TEST

int main(void) {
  TCase *language = tcase_create("language");
  tcase_add_checked_fixture(language, setup, NULL);
  tcase_add_test(language, a_whole_rule);
  tcase_add_test(language, reply_at_the_end_and_alone);
  tcase_add_test(language, nonsense_is_refused);
  tcase_add_test(language, rules_are_found_in_order);
  tcase_add_test(language, globs);
  tcase_add_test(language, only_so_many);
  return unit_main("bench/rule", &language, 1);
}
