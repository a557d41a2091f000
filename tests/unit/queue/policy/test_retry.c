#include "tests/lib/unit.h"

#include "queue/policy/retry.h"

static const struct retry_policy policy = {.initial_ms = 300000, .factor = 2, .max_ms = 14400000, .max_age_ms = 432000000, .jitter_ppm = 100000};

/* `random` that gives no jitter: the middle. */
static uint64_t middle(const struct retry_policy *p, unsigned attempts) {
  for (uint64_t delay = p->initial_ms, i = 1;; delay = delay * 2 < p->max_ms ? delay * 2 : p->max_ms, i++)
    if (i == attempts) return retry_delay_ms(p, attempts, delay / 10);
}

START_TEST(doubles_up_to_the_cap) {
  ck_assert_uint_eq(middle(&policy, 1), 300000);
  ck_assert_uint_eq(middle(&policy, 2), 600000);
  ck_assert_uint_eq(middle(&policy, 6), 9600000);
  ck_assert_uint_eq(middle(&policy, 7), 14400000);
  ck_assert_uint_eq(retry_delay_ms(&policy, 4000000000u, 1440000), 14400000);
  ck_assert_uint_eq(retry_delay_ms(&policy, 0, 30000), 300000);
}
END_TEST

static void check_jitter(uint32_t ppm, uint64_t low, uint64_t high) {
  uint64_t least = UINT64_MAX, most = 0;
  struct retry_policy jittery = policy;
  jittery.jitter_ppm = ppm;
  for (uint64_t random = 0; random < 200000; random++) {
    uint64_t delay = retry_delay_ms(&jittery, 1, random * 0x9e3779b97f4a7c15u);
    if (delay < least) least = delay;
    if (delay > most) most = delay;
  }
  ck_assert_uint_ge(least, low);
  ck_assert_uint_le(least, low + 100);
  ck_assert_uint_le(most, high);
  ck_assert_uint_ge(most, high - 100);
}

START_TEST(jitter_is_a_share_to_each_side) {
  check_jitter(100000, 270000, 330000);
  check_jitter(500000, 150000, 450000);
  check_jitter(10000, 297000, 303000);
  struct retry_policy exact = policy;
  exact.jitter_ppm = 0;
  for (uint64_t random = 0; random < 1000; random++) ck_assert_uint_eq(retry_delay_ms(&exact, 7, random * 0x9e3779b97f4a7c15u), 14400000);
}
END_TEST

START_TEST(odd_policies) {
  ck_assert_uint_eq(retry_delay_ms(&(struct retry_policy){.initial_ms = 0, .factor = 1, .max_ms = 10}, 9, 7), 1);
  ck_assert_uint_eq(retry_delay_ms(&(struct retry_policy){.initial_ms = 5, .factor = 1, .max_ms = 10}, 4000000000u, 7), 5);
  ck_assert_uint_le(retry_delay_ms(&(struct retry_policy){.initial_ms = 50, .factor = 9, .max_ms = 10}, 1, 7), 11);
  ck_assert_uint_le(retry_delay_ms(&(struct retry_policy){.initial_ms = 1000, .factor = 1e300, .max_ms = UINT64_MAX / 2}, 4000000000u, 7),
                    UINT64_MAX / 2);
}
END_TEST

START_TEST(the_last_try_is_at_the_limit) {
  bool expired;
  uint64_t created = 1764000000000, limit = created + policy.max_age_ms;
  ck_assert_uint_eq(retry_due_ms(&policy, created, created + 1000, 1, 30000, &expired), created + 301000);
  ck_assert(!expired);
  ck_assert_uint_eq(retry_due_ms(&policy, created, limit - 1, 40, 0, &expired), limit);
  ck_assert(!expired);
  ck_assert_uint_eq(retry_due_ms(&policy, created, limit, 41, 0, &expired), limit);
  ck_assert(expired);
  ck_assert_uint_eq(retry_due_ms(&policy, created, limit + 5, 41, 0, &expired), limit + 5);
  ck_assert(expired);
}
END_TEST

START_TEST(a_clock_set_back_moves_no_limit_out_of_reach) {
  bool expired;
  uint64_t now = 1764000000000;
  ck_assert_uint_le(retry_due_ms(&policy, now + (1ull << 50), now, 50, 0, &expired), now + policy.max_age_ms);
  ck_assert(!expired);
}
END_TEST

START_TEST(no_overflow) {
  bool expired;
  struct retry_policy endless = {.initial_ms = UINT64_MAX / 4, .factor = 2, .max_ms = UINT64_MAX / 4, .max_age_ms = UINT64_MAX, .jitter_ppm = 500000};
  ck_assert_uint_eq(retry_due_ms(&endless, 1000, UINT64_MAX - 10, 1, 0, &expired), UINT64_MAX);
  ck_assert(!expired);
}
END_TEST

int main(void) {
  TCase *all = tcase_create("all");
  tcase_add_test(all, doubles_up_to_the_cap);
  tcase_add_test(all, jitter_is_a_share_to_each_side);
  tcase_add_test(all, odd_policies);
  tcase_add_test(all, the_last_try_is_at_the_limit);
  tcase_add_test(all, a_clock_set_back_moves_no_limit_out_of_reach);
  tcase_add_test(all, no_overflow);
  return unit_main("queue/policy/retry", &all, 1);
}
