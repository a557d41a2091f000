#include "bench/lib/domains.h"
#include "core/base/error.h"
#include "tests/lib/unit.h"

static struct span name_of(const struct domains *domains, uint64_t index, uint8_t *room) {
  struct fmt out = fmt_over(room, 300);
  domains_format(domains, index, &out);
  ck_assert(!out.overflow);
  return fmt_span(&out);
}

START_TEST(names_and_back) {
  struct domains domains;
  uint8_t room[300];
  uint64_t index;
  ck_assert_int_eq(domains_parse(&domains, SPAN("d%05d.test")), E_OK);
  ck_assert(span_equal(name_of(&domains, 7, room), SPAN("d00007.test")));
  ck_assert(span_equal(name_of(&domains, 1234567, room), SPAN("d1234567.test")));
  for (uint64_t i = 0; i < 2000000; i = i * 3 + 1) ck_assert(domains_index(&domains, name_of(&domains, i, room), &index) && index == i);
  ck_assert(domains_index(&domains, SPAN("D00042.TEST"), &index) && index == 42);
}
END_TEST

START_TEST(other_names_are_none) {
  struct domains domains;
  uint64_t index;
  ck_assert_int_eq(domains_parse(&domains, SPAN("d%05d.test")), E_OK);
  ck_assert(!domains_index(&domains, SPAN("d7.test"), &index));
  ck_assert(!domains_index(&domains, SPAN("d000007.test"), &index));
  ck_assert(!domains_index(&domains, SPAN("e00007.test"), &index));
  ck_assert(!domains_index(&domains, SPAN("d00007.tes"), &index));
  ck_assert(!domains_index(&domains, SPAN("d0x007.test"), &index));
  ck_assert(!domains_index(&domains, SPAN("mx.d00007.test"), &index));
  ck_assert(!domains_index(&domains, SPAN(""), &index));
}
END_TEST

START_TEST(patterns_are_checked) {
  struct domains domains;
  static const char *const bad[] = {"d.test", "d%s.test", "d%5d.test", "d%00d.test", "d%099d.test", "d%d-%d.test", "a b%d.test", "%n",
                                    "%",      "d%05",     ""};
  for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) ck_assert_int_eq(domains_parse(&domains, span_of_text(bad[i])), E_SYNTAX);
  ck_assert_int_eq(domains_parse(&domains, SPAN("%d.example")), E_OK);
  ck_assert_int_eq(domains_parse(&domains, SPAN("Mail-%018d.X")), E_OK);
}
END_TEST

START_TEST(recipients) {
  uint64_t number;
  struct span domain;
  ck_assert(recipient_parse(SPAN("user-12@d00001.test"), &number, &domain));
  ck_assert_uint_eq(number, 12);
  ck_assert(span_equal(domain, SPAN("d00001.test")));
  ck_assert(!recipient_parse(SPAN("user-@d00001.test"), &number, &domain));
  ck_assert(!recipient_parse(SPAN("user-1"), &number, &domain));
  ck_assert(!recipient_parse(SPAN("root@d00001.test"), &number, &domain));
  ck_assert(!recipient_parse(SPAN("user-99999999999999999999@a"), &number, &domain));
}
END_TEST

START_TEST(orders) {
  unsigned seen[10] = {0};
  for (uint64_t n = 0; n < 10000; n++) {
    ck_assert_uint_eq(domain_pick(DOMAIN_ROUND_ROBIN, n, 10, 5), n % 10);
    uint64_t picked = domain_pick(DOMAIN_RANDOM, n, 10, 5);
    ck_assert_uint_eq(picked, domain_pick(DOMAIN_RANDOM, n, 10, 5));
    seen[picked]++;
  }
  for (unsigned i = 0; i < 10; i++) ck_assert(seen[i] > 850 && seen[i] < 1150);
}
END_TEST

int main(void) {
  TCase *names = tcase_create("names");
  tcase_add_test(names, names_and_back);
  tcase_add_test(names, other_names_are_none);
  tcase_add_test(names, patterns_are_checked);
  tcase_add_test(names, recipients);
  tcase_add_test(names, orders);
  return unit_main("bench/domains", &names, 1);
}
