#include "bench/lib/histogram.h"
#include "tests/lib/unit.h"

#include <stdlib.h>

static struct histogram *fresh(void) {
  struct histogram *h = calloc(1, sizeof *h);
  ck_assert_ptr_nonnull(h);
  return h;
}

START_TEST(empty_is_zero) {
  struct histogram *h = fresh();
  ck_assert_uint_eq(histogram_percentile(h, 50), 0);
  ck_assert_uint_eq(histogram_mean(h), 0);
  free(h);
}
END_TEST

START_TEST(small_values_are_exact) {
  struct histogram *h = fresh();
  for (uint64_t i = 1; i <= 100; i++) histogram_record(h, i);
  ck_assert_uint_eq(histogram_percentile(h, 50), 50);
  ck_assert_uint_eq(histogram_percentile(h, 99), 99);
  ck_assert_uint_eq(histogram_percentile(h, 99.9), 100);
  ck_assert_uint_eq(histogram_percentile(h, 100), 100);
  ck_assert_uint_eq(histogram_percentile(h, 0), 1);
  ck_assert_uint_eq(histogram_mean(h), 50);
  free(h);
}
END_TEST

/* Three digits over the whole range: no value is reported too small, nor by more than a thousandth too large. */
START_TEST(three_digits_everywhere) {
  for (uint64_t value = 1; value < UINT64_C(1) << HISTOGRAM_VALUE_BITS; value = value * 21 / 20 + 1) {
    struct histogram *h = fresh();
    histogram_record(h, value);
    histogram_record(h, value * 2 < UINT64_C(1) << HISTOGRAM_VALUE_BITS ? value * 2 : value);
    uint64_t seen = histogram_percentile(h, 50);
    ck_assert_uint_ge(seen, value);
    ck_assert_uint_le(seen, value + value / 1000 + 1);
    free(h);
  }
}
END_TEST

START_TEST(largest_is_clamped_and_kept) {
  struct histogram *h = fresh();
  histogram_record(h, UINT64_MAX);
  ck_assert_uint_eq(h->max_ns, (UINT64_C(1) << HISTOGRAM_VALUE_BITS) - 1);
  ck_assert_uint_eq(histogram_percentile(h, 50), h->max_ns);
  free(h);
}
END_TEST

START_TEST(merge_is_the_sum) {
  struct histogram *a = fresh(), *b = fresh(), *both = fresh();
  for (uint64_t i = 1; i < 5000; i++) {
    histogram_record(i % 3 == 0 ? a : b, i * 1237);
    histogram_record(both, i * 1237);
  }
  histogram_merge(a, b);
  ck_assert_uint_eq(a->count, both->count);
  ck_assert_uint_eq(a->max_ns, both->max_ns);
  for (double percent = 1; percent <= 100; percent += 0.5) ck_assert_uint_eq(histogram_percentile(a, percent), histogram_percentile(both, percent));
  free(a);
  free(b);
  free(both);
}
END_TEST

int main(void) {
  TCase *values = tcase_create("values");
  tcase_add_test(values, empty_is_zero);
  tcase_add_test(values, small_values_are_exact);
  tcase_add_test(values, three_digits_everywhere);
  tcase_add_test(values, largest_is_clamped_and_kept);
  tcase_add_test(values, merge_is_the_sum);
  return unit_main("bench/histogram", &values, 1);
}
