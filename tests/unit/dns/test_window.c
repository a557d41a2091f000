/* The window of a server: when it grows, goes back, shrinks. */
#include "dns/window.h"

#include "tests/lib/unit.h"

#define PERIOD_MS 2500

static struct window window;
static uint64_t now_ms;

static void setup(void) {
  now_ms = 1000000;
  window_init(&window, PERIOD_MS, now_ms);
}

/* A period with so many replies a second, and of each hundred so many lost. */
static void pass(unsigned per_s, unsigned lost_in_hundred, bool more) {
  unsigned replies = per_s * PERIOD_MS / 1000;
  for (unsigned i = 1; i <= replies; i++) {
    uint64_t at_ms = now_ms + (uint64_t)PERIOD_MS * i / replies;
    if (i % 100 < lost_in_hundred) window_lost(&window, more, at_ms);
    window_answered(&window, more, at_ms);
  }
  now_ms += PERIOD_MS;
}

START_TEST(it_grows_while_that_brings_more) {
  pass(1000, 0, true);
  ck_assert_uint_eq(window.size, WINDOW_FIRST * 3 / 2);
  for (unsigned per_s = 1500; per_s < 10000; per_s += per_s / 2) pass(per_s, 0, true);
  ck_assert_uint_eq(window.size, WINDOW_MAX);
  pass(20000, 0, true);
  ck_assert_uint_eq(window.size, WINDOW_MAX);
}
END_TEST

START_TEST(it_does_not_grow_for_nobody) {
  for (unsigned i = 0; i < 10; i++) pass(1000, 0, false);
  ck_assert_uint_eq(window.size, WINDOW_FIRST);
}
END_TEST

START_TEST(it_does_not_grow_before_losses_can_be_known) {
  for (unsigned i = 0; i < 100000; i++) window_answered(&window, true, now_ms + PERIOD_MS - 1);
  ck_assert_uint_eq(window.size, WINDOW_FIRST);
}
END_TEST

START_TEST(it_goes_back_when_more_was_for_nothing) {
  pass(1000, 0, true);
  ck_assert_uint_eq(window.size, WINDOW_FIRST * 3 / 2);
  pass(1050, 0, true);
  ck_assert_uint_eq(window.size, WINDOW_FIRST);
  uint64_t until_ms = now_ms + 30000 - PERIOD_MS;
  while (now_ms < until_ms) {
    pass(1000, 0, true);
    ck_assert_uint_eq(window.size, WINDOW_FIRST);
  }
  pass(1000, 0, true); /* half a minute later it is worth another try */
  ck_assert_uint_eq(window.size, WINDOW_FIRST * 3 / 2);
}
END_TEST

START_TEST(it_goes_back_when_more_is_lost) {
  pass(1000, 0, true);
  pass(1500, 20, true);
  ck_assert_uint_eq(window.size, WINDOW_FIRST);
}
END_TEST

START_TEST(it_shrinks_while_much_is_lost_but_not_to_nothing) {
  pass(1000, 20, true);
  ck_assert_uint_eq(window.size, WINDOW_FIRST / 2);
  for (unsigned i = 0; i < 10; i++) pass(1000, 50, true);
  ck_assert_uint_eq(window.size, WINDOW_MIN);
}
END_TEST

START_TEST(it_shrinks_though_nothing_comes_in_time) {
  for (unsigned i = 0; i < WINDOW_FIRST; i++) window_lost(&window, true, now_ms + PERIOD_MS);
  ck_assert_uint_eq(window.size, WINDOW_FIRST / 2);
}
END_TEST

START_TEST(a_little_may_be_lost) {
  pass(1000, 5, true);
  ck_assert_uint_eq(window.size, WINDOW_FIRST * 3 / 2);
}
END_TEST

START_TEST(what_was_lost_long_ago_does_not_count) {
  pass(1000, 20, true);
  pass(1000, 0, true);
  pass(1000, 0, true);
  ck_assert_uint_eq(window.size, WINDOW_FIRST / 2);
}
END_TEST

int main(void) {
  TCase *tests = tcase_create("window");
  tcase_add_checked_fixture(tests, setup, NULL);
  tcase_add_test(tests, it_grows_while_that_brings_more);
  tcase_add_test(tests, it_does_not_grow_for_nobody);
  tcase_add_test(tests, it_does_not_grow_before_losses_can_be_known);
  tcase_add_test(tests, it_goes_back_when_more_was_for_nothing);
  tcase_add_test(tests, it_goes_back_when_more_is_lost);
  tcase_add_test(tests, it_shrinks_while_much_is_lost_but_not_to_nothing);
  tcase_add_test(tests, it_shrinks_though_nothing_comes_in_time);
  tcase_add_test(tests, a_little_may_be_lost);
  tcase_add_test(tests, what_was_lost_long_ago_does_not_count);
  return unit_main("dns/window", &tests, 1);
}
