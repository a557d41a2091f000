#include "bench/lib/ledger.h"
#include "core/base/error.h"
#include "tests/lib/unit.h"

static struct ledger ledger;

static void setup(void) { ck_assert_int_eq(ledger_init(&ledger), E_OK); }
static void teardown(void) { ledger_fini(&ledger); }

START_TEST(lost_ones_are_named) {
  struct ledger_run *run = ledger_find(&ledger, 7, 1000);
  for (uint64_t n = 0; n < 1000; n++) {
    if (n != 0 && n != 63 && n != 64 && n != 999) ck_assert(!ledger_set(run, LEDGER_ARRIVED, n));
  }
  uint64_t lost[3];
  struct ledger_sum sum = ledger_sum(&ledger, 0, lost, 3);
  ck_assert_uint_eq(sum.expected, 1000);
  ck_assert_uint_eq(sum.arrived, 996);
  ck_assert_uint_eq(sum.lost, 4);
  ck_assert_uint_eq(lost[0], 0);
  ck_assert_uint_eq(lost[1], 63);
  ck_assert_uint_eq(lost[2], 64);
}
END_TEST

START_TEST(refused_ones_are_not_lost) {
  struct ledger_run *run = ledger_find(&ledger, 7, 10);
  ck_assert(!ledger_refuse(&ledger, 3));
  ck_assert(ledger_refuse(&ledger, 3));
  ledger_set(run, LEDGER_ARRIVED, 4);
  ledger_refuse(&ledger, 4); /* arrived all the same: counts once */
  struct ledger_sum sum = ledger_sum(&ledger, 0, NULL, 0);
  ck_assert_uint_eq(sum.refused, 1);
  ck_assert_uint_eq(sum.arrived, 1);
  ck_assert_uint_eq(sum.lost, 8);
}
END_TEST

START_TEST(second_time_is_seen) {
  struct ledger_run *run = ledger_find(&ledger, 1, 0);
  ck_assert(!ledger_set(run, LEDGER_ARRIVED, LEDGER_NUMBERS - 1));
  ck_assert(ledger_set(run, LEDGER_ARRIVED, LEDGER_NUMBERS - 1));
  ck_assert(!ledger_has(run, LEDGER_EXCUSED, LEDGER_NUMBERS - 1));
  ck_assert(ledger_has(run, LEDGER_ARRIVED, LEDGER_NUMBERS - 1));
}
END_TEST

START_TEST(runs_are_apart) {
  struct ledger_run *a = ledger_find(&ledger, 1, 5), *b = ledger_find(&ledger, 2, 5);
  ck_assert_ptr_ne(a, b);
  ck_assert_ptr_eq(ledger_find(&ledger, 1, 99), a);
  ledger_set(a, LEDGER_ARRIVED, 0);
  ck_assert(!ledger_set(b, LEDGER_ARRIVED, 0));
  ck_assert_uint_eq(ledger_sum(&ledger, 0, NULL, 0).expected, 10);
  for (uint64_t run = 3; run <= LEDGER_RUNS_MAX; run++) ck_assert_ptr_nonnull(ledger_find(&ledger, run, 0));
  ck_assert_ptr_null(ledger_find(&ledger, 1000, 0));
}
END_TEST

START_TEST(expectation_from_outside) {
  ck_assert_uint_eq(ledger_sum(&ledger, 20, NULL, 0).lost, 20);
  ledger_refuse(&ledger, 5);
  ck_assert_uint_eq(ledger_sum(&ledger, 20, NULL, 0).lost, 19);
  ck_assert_uint_eq(ledger_sum(&ledger, 0, NULL, 0).refused, 1);
  ledger_set(ledger_find(&ledger, 1, 0), LEDGER_ARRIVED, 19);
  ck_assert_uint_eq(ledger_sum(&ledger, 20, NULL, 0).lost, 18);
}
END_TEST

int main(void) {
  TCase *bits = tcase_create("bits");
  tcase_add_checked_fixture(bits, setup, teardown);
  tcase_add_test(bits, lost_ones_are_named);
  tcase_add_test(bits, refused_ones_are_not_lost);
  tcase_add_test(bits, second_time_is_seen);
  tcase_add_test(bits, runs_are_apart);
  tcase_add_test(bits, expectation_from_outside);
  return unit_main("bench/ledger", &bits, 1);
}
