/* Delays and locks by address and by name, how they fade, who is spared, and that a full table forgets the oldest. */
#include "net/auth/lockout.h"

#include "core/base/error.h"
#include "tests/lib/unit.h"

#define MINUTE 60000u

static struct lockout *open_one(const struct lockout_options *options) {
  struct lockout *lockout;
  ck_assert_int_eq(lockout_open(&lockout, options, 12345), E_OK);
  return lockout;
}

static struct netaddr address(const char *text) {
  struct netaddr a;
  ck_assert_int_eq(netaddr_parse(&a, span_of_text(text)), E_OK);
  return a;
}

START_TEST(delays_double) {
  struct lockout *l = open_one(&lockout_defaults);
  struct netaddr a = address("192.0.2.1");
  static const uint64_t wanted[] = {0, 0, 0, 500, 1000, 2000, 4000, 8000, 8000, 8000};
  for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
    struct lockout_answer answer = lockout_failed(l, &a, SPAN("tim"), 1000);
    ck_assert_msg(answer.delay_ms == wanted[i] && !answer.locked, "%zu", i);
    ck_assert_uint_eq(lockout_ask(l, &a, SPAN("tim"), 1000).delay_ms, wanted[i]);
  }
  ck_assert_uint_eq(lockout_ask(l, &a, SPAN("tom"), 1000).delay_ms, 8000); /* by its address */
  struct netaddr b = address("192.0.2.2");
  ck_assert_uint_eq(lockout_ask(l, &b, SPAN("tim"), 1000).delay_ms, 8000); /* by its name */
  ck_assert_uint_eq(lockout_ask(l, &b, SPAN("tom"), 1000).delay_ms, 0);
  ck_assert_uint_eq(lockout_ask(l, &b, SPAN(""), 1000).delay_ms, 0);
  lockout_close(l);
}
END_TEST

START_TEST(failures_fade) {
  struct lockout *l = open_one(&lockout_defaults);
  struct netaddr a = address("192.0.2.1");
  for (unsigned i = 0; i < 8; i++) lockout_failed(l, &a, SPAN(""), 0);
  ck_assert_uint_eq(lockout_ask(l, &a, SPAN(""), 0).delay_ms, 8000);
  ck_assert_uint_eq(lockout_ask(l, &a, SPAN(""), 5 * MINUTE).delay_ms, 2000); /* six are left */
  ck_assert_uint_eq(lockout_ask(l, &a, SPAN(""), 10 * MINUTE).delay_ms, 500); /* four */
  ck_assert_uint_eq(lockout_ask(l, &a, SPAN(""), 15 * MINUTE).delay_ms, 0);
  ck_assert_uint_eq(lockout_ask(l, &a, SPAN(""), 1000000 * (uint64_t)MINUTE).delay_ms, 0);
  ck_assert_uint_eq(lockout_failed(l, &a, SPAN(""), 10 * MINUTE).delay_ms, 1000);
  lockout_close(l);
}
END_TEST

START_TEST(an_address_is_locked_for_a_time) {
  struct lockout *l = open_one(&lockout_defaults);
  struct netaddr a = address("192.0.2.1"), b = address("192.0.2.2");
  for (unsigned i = 0; i < 19; i++) ck_assert(!lockout_failed(l, &a, SPAN(""), 1000 + i).locked);
  ck_assert(lockout_failed(l, &a, SPAN(""), 1019).locked);
  ck_assert(lockout_ask(l, &a, SPAN("tim"), 1019 + 15 * MINUTE - 1).locked);
  ck_assert(!lockout_ask(l, &a, SPAN("tim"), 1019 + 15 * MINUTE).locked);
  ck_assert(!lockout_ask(l, &b, SPAN("tim"), 1019).locked);
  lockout_close(l);
}
END_TEST

START_TEST(networks_of_ipv6) {
  struct lockout *l = open_one(&lockout_defaults);
  struct netaddr a = address("2001:db8:0:1::1"), b = address("2001:db8:0:1:ffff::9"), c = address("2001:db8:0:2::1");
  for (unsigned i = 0; i < 20; i++) lockout_failed(l, i % 2 != 0 ? &a : &b, SPAN(""), 0);
  ck_assert(lockout_ask(l, &a, SPAN(""), 0).locked && lockout_ask(l, &b, SPAN(""), 0).locked && !lockout_ask(l, &c, SPAN(""), 0).locked);
  struct netaddr mapped = address("::ffff:192.0.2.1"), plain = address("192.0.2.1"), other = address("::ffff:192.0.2.2");
  for (unsigned i = 0; i < 20; i++) lockout_failed(l, &mapped, SPAN(""), 0);
  ck_assert(lockout_ask(l, &plain, SPAN(""), 0).locked && !lockout_ask(l, &other, SPAN(""), 0).locked);
  lockout_close(l);
}
END_TEST

static void attack(struct lockout *l, struct span name, unsigned times, uint64_t now_ms) {
  for (unsigned i = 0; i < times; i++) {
    struct netaddr from = {.family = 4, .bytes = {198, 51, (uint8_t)(i / 256), (uint8_t)i}};
    lockout_failed(l, &from, name, now_ms);
  }
}

START_TEST(a_name_is_locked_but_not_for_its_owner) {
  struct lockout *l = open_one(&lockout_defaults);
  struct netaddr home = address("192.0.2.1"), away = address("192.0.2.2");
  lockout_succeeded(l, &home, SPAN("tim"), 0);
  attack(l, SPAN("tim"), 99, 1000);
  ck_assert(!lockout_ask(l, &away, SPAN("tim"), 1000).locked);
  attack(l, SPAN("tim"), 1, 1000);
  ck_assert(lockout_ask(l, &away, SPAN("tim"), 1000).locked && !lockout_ask(l, &away, SPAN("tom"), 1000).locked);
  struct lockout_answer answer = lockout_ask(l, &home, SPAN("tim"), 1000);
  ck_assert(!answer.locked && answer.delay_ms == 0);
  for (unsigned i = 0; i < 20; i++) lockout_failed(l, &home, SPAN("tim"), 1000); /* it is not spared what it does itself */
  ck_assert(lockout_ask(l, &home, SPAN("tim"), 1000).locked);
  lockout_close(l);
}
END_TEST

START_TEST(a_success_forgets_the_failures_of_the_name_alone) {
  struct lockout *l = open_one(&lockout_defaults);
  struct netaddr a = address("192.0.2.1"), b = address("192.0.2.2");
  for (unsigned i = 0; i < 6; i++) lockout_failed(l, &a, SPAN("tim"), 0);
  ck_assert_uint_eq(lockout_ask(l, &b, SPAN("tim"), 0).delay_ms, 2000);
  lockout_succeeded(l, &a, SPAN("tim"), 0);
  ck_assert_uint_eq(lockout_ask(l, &b, SPAN("tim"), 0).delay_ms, 0);
  ck_assert_uint_eq(lockout_ask(l, &a, SPAN("tim"), 0).delay_ms, 2000);
  lockout_close(l);
}
END_TEST

START_TEST(a_full_table_forgets_the_oldest) {
  struct lockout_options small = lockout_defaults;
  small.places = 8;
  struct lockout *l = open_one(&small);
  struct netaddr a[10];
  for (unsigned i = 0; i < 10; i++) a[i] = (struct netaddr){.family = 4, .bytes = {192, 0, 2, (uint8_t)i}};
  for (unsigned i = 0; i < 20; i++) lockout_failed(l, &a[0], SPAN(""), 0);
  for (unsigned i = 1; i < 9; i++)
    for (unsigned k = 0; k < 5; k++) lockout_failed(l, &a[i], SPAN(""), i);
  ck_assert(lockout_ask(l, &a[0], SPAN(""), 10).locked);              /* it was the oldest, but is locked */
  ck_assert_uint_eq(lockout_ask(l, &a[1], SPAN(""), 10).delay_ms, 0); /* so this one went */
  for (unsigned i = 2; i < 9; i++) ck_assert_uint_gt(lockout_ask(l, &a[i], SPAN(""), 10).delay_ms, 0);
  lockout_close(l);
}
END_TEST

int main(void) {
  TCase *tests = tcase_create("lockout");
  tcase_add_test(tests, delays_double);
  tcase_add_test(tests, failures_fade);
  tcase_add_test(tests, an_address_is_locked_for_a_time);
  tcase_add_test(tests, networks_of_ipv6);
  tcase_add_test(tests, a_name_is_locked_but_not_for_its_owner);
  tcase_add_test(tests, a_success_forgets_the_failures_of_the_name_alone);
  tcase_add_test(tests, a_full_table_forgets_the_oldest);
  return unit_main("net/auth/lockout", &tests, 1);
}
