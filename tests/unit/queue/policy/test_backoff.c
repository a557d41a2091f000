#include "queue/policy/backoff.h"

#include "tests/lib/unit.h"

static const struct backoff_policy policy = {.initial_ms = 1000, .max_ms = 5000};

START_TEST(doubles_up_to_the_cap) {
  struct backoff backoff = {0};
  static const uint64_t expected[] = {1000, 2000, 4000, 5000, 5000};
  uint64_t now_ms = 100;
  for (unsigned i = 0; i < 5; i++) {
    backoff_failed(&backoff, &policy, now_ms);
    ck_assert_uint_eq(backoff.until_ms, now_ms + expected[i]);
    backoff_failed(&backoff, &policy, now_ms + 1); /* of the same burst */
    ck_assert_uint_eq(backoff.until_ms, now_ms + expected[i]);
    now_ms = backoff.until_ms;
  }
}
END_TEST

START_TEST(blocks_until_and_probes_after) {
  struct backoff backoff = {0};
  ck_assert(!backoff_blocks(&backoff, 0) && !backoff_probing(&backoff));
  backoff_failed(&backoff, &policy, 0);
  ck_assert(backoff_blocks(&backoff, 999));
  ck_assert(!backoff_blocks(&backoff, 1000));
  ck_assert(backoff_probing(&backoff));
  backoff_succeeded(&backoff);
  ck_assert(!backoff_probing(&backoff) && !backoff_blocks(&backoff, 0));
}
END_TEST

START_TEST(a_first_delay_above_the_cap_is_cut) {
  struct backoff backoff = {0};
  backoff_failed(&backoff, &(struct backoff_policy){.initial_ms = 9000, .max_ms = 100}, 0);
  ck_assert_uint_eq(backoff.until_ms, 100);
}
END_TEST

int main(void) {
  TCase *backoff = tcase_create("backoff");
  tcase_add_test(backoff, doubles_up_to_the_cap);
  tcase_add_test(backoff, blocks_until_and_probes_after);
  tcase_add_test(backoff, a_first_delay_above_the_cap_is_cut);
  return unit_main("queue/policy/backoff", (TCase *const[]){backoff}, 1);
}
