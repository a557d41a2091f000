#include "queue/policy/lease.h"

#include <stdlib.h>

#include "tests/lib/unit.h"

/* A guest asks a home that has `open`: what it gets at once. */
static uint32_t ask(struct lease_home *home, unsigned shards, uint32_t open, uint32_t *owed) {
  *owed = lease_promise(home, shards);
  uint32_t paid = lease_pay(home, *owed, open);
  *owed -= paid;
  return paid;
}

START_TEST(shares_are_even_and_the_home_keeps_its_own) {
  struct lease_home home = {.limit = 10};
  uint32_t owed;
  ck_assert_uint_eq(ask(&home, 2, 0, &owed), 5);
  ck_assert_uint_eq(owed, 0);
  ck_assert_uint_eq(lease_home_limit(&home), 5);
  lease_take_back(&home, 5);
  ck_assert_uint_eq(lease_home_limit(&home), 10);
}
END_TEST

START_TEST(what_is_open_at_home_is_owed_until_it_is_closed) {
  struct lease_home home = {.limit = 10};
  uint32_t owed;
  ck_assert_uint_eq(ask(&home, 2, 8, &owed), 2);
  ck_assert_uint_eq(owed, 3);
  ck_assert_uint_eq(lease_home_limit(&home), 5); /* so the home opens none, and three of its eight have to go */
  ck_assert_uint_eq(lease_pay(&home, owed, 8), 0);
  ck_assert_uint_eq(lease_pay(&home, owed, 6), 2);
  ck_assert_uint_eq(lease_pay(&home, owed - 2, 0), 1);
  ck_assert_uint_eq(home.granted, 5);
  ck_assert_uint_eq(home.owed, 0);
}
END_TEST

START_TEST(what_is_owed_can_be_forgiven) {
  struct lease_home home = {.limit = 10};
  uint32_t owed;
  ck_assert_uint_eq(ask(&home, 2, 10, &owed), 0);
  ck_assert_uint_eq(lease_home_limit(&home), 5);
  lease_forgive(&home, owed);
  ck_assert_uint_eq(lease_home_limit(&home), 10);
}
END_TEST

START_TEST(the_last_one_is_for_a_guest_that_cannot_do_without) {
  struct lease_home home = {.limit = 2};
  uint32_t owed;
  ck_assert_uint_eq(ask(&home, 2, 1, &owed), 1);
  ck_assert_uint_eq(ask(&home, 2, 1, &owed), 0); /* the home keeps it ... */
  ck_assert_uint_eq(lease_promise_one(&home), 1);
  ck_assert_uint_eq(lease_home_limit(&home), 0);
  ck_assert_uint_eq(lease_pay(&home, 1, 1), 0); /* ... until it is closed */
  ck_assert_uint_eq(lease_promise_one(&home), 0);
  ck_assert_uint_eq(lease_promise(&home, 2), 0);
  ck_assert_uint_eq(lease_pay(&home, 1, 0), 1);
  ck_assert_uint_eq(home.granted, 2);
}
END_TEST

START_TEST(a_limit_of_one_stays_at_home) {
  struct lease_home home = {.limit = 1};
  uint32_t owed;
  ck_assert_uint_eq(ask(&home, 2, 0, &owed), 0);
  ck_assert_uint_eq(owed, 0);
  ck_assert_uint_eq(lease_home_limit(&home), 1);
}
END_TEST

START_TEST(more_shards_than_connections_get_one_each_while_there_are_some) {
  struct lease_home home = {.limit = 4};
  uint32_t owed;
  for (unsigned i = 0; i < 3; i++) ck_assert_uint_eq(ask(&home, 64, 1, &owed), 1);
  ck_assert_uint_eq(ask(&home, 64, 1, &owed), 0);
}
END_TEST

/* Guests that come and go, and a home that opens what it may: together never above the limit. */
START_TEST(the_limit_holds_always) {
  srand(7);
  for (unsigned round = 0; round < 2000; round++) {
    struct lease_home home = {.limit = 1 + (uint32_t)rand() % 20};
    unsigned shards = 2 + (unsigned)rand() % 6;
    uint32_t held[8] = {0}, owed[8] = {0}, open = 0;
    for (unsigned step = 0; step < 50; step++) {
      unsigned guest = 1 + (unsigned)rand() % (shards - 1);
      uint32_t paid;
      switch (rand() % 5) {
      case 0:
        if (held[guest] == 0 && owed[guest] == 0) held[guest] = ask(&home, shards, open, &owed[guest]);
        break;
      case 1:
        lease_take_back(&home, held[guest]);
        lease_forgive(&home, owed[guest]);
        held[guest] = owed[guest] = 0;
        break;
      case 2: /* opens if it may, else only closes */
        if (open < lease_home_limit(&home)) open += 1 + (uint32_t)rand() % (lease_home_limit(&home) - open);
        break;
      case 3: open -= open == 0 ? 0 : (uint32_t)rand() % (open + 1); break;
      default:
        paid = lease_pay(&home, owed[guest], open);
        owed[guest] -= paid;
        held[guest] += paid;
        break;
      }
      uint32_t together = open, promised = 0;
      for (unsigned i = 1; i < shards; i++) together += held[i], promised += owed[i];
      ck_assert_uint_le(together, home.limit);
      ck_assert_uint_eq(promised, home.owed);
      ck_assert_uint_ge(lease_home_limit(&home), 1);
    }
  }
}
END_TEST

START_TEST(a_guest_asks_when_there_is_much_and_not_again_at_once) {
  struct lease_guest guest = {0};
  ck_assert(!lease_should_ask(&guest, LEASE_HOT_JOBS - 1, 1000));
  ck_assert(lease_should_ask(&guest, 1, 1000 + LEASE_WINDOW_MS - 1));
  ck_assert(!lease_should_ask(&guest, 1000, 1150));
  ck_assert(lease_should_ask(&guest, 1000, 1000 + LEASE_WINDOW_MS - 1 + LEASE_ASK_MS));
}
END_TEST

START_TEST(a_limit_below_what_is_lent_leaves_nothing) {
  struct lease_home home = {.limit = 10, .granted = 5, .owed = 1};
  home.limit = 3;
  ck_assert_uint_eq(lease_home_limit(&home), 0);
  ck_assert_uint_eq(lease_promise(&home, 2), 0);
  ck_assert_uint_eq(lease_promise_one(&home), 0);
  ck_assert_uint_eq(lease_pay(&home, 1, 0), 0);
  lease_forgive(&home, 1);
  lease_take_back(&home, 3);
  ck_assert_uint_eq(lease_home_limit(&home), 1);
  lease_take_back(&home, 2);
  ck_assert_uint_eq(lease_home_limit(&home), 3);
}
END_TEST

START_TEST(a_trickle_never_asks) {
  struct lease_guest guest = {0};
  for (uint64_t now = 0; now < 100000; now += LEASE_WINDOW_MS) ck_assert(!lease_should_ask(&guest, LEASE_HOT_JOBS - 1, now));
}
END_TEST

START_TEST(a_lease_outlasts_a_pause_between_bursts) {
  struct lease_guest guest = {.granted = 5, .used_ms = 1000};
  ck_assert(!lease_should_return(&guest, 1000));
  ck_assert(!lease_should_return(&guest, 1000 + LEASE_KEEP_MS - 1));
  ck_assert(lease_should_return(&guest, 1000 + LEASE_KEEP_MS));
  guest.granted = 0;
  ck_assert(!lease_should_return(&guest, 1000 + LEASE_KEEP_MS));
  ck_assert_uint_ge(LEASE_KEEP_MS, 10 * LEASE_WINDOW_MS); /* or it would be asked for anew all the time */
}
END_TEST

int main(void) {
  TCase *lease = tcase_create("lease");
  tcase_add_test(lease, shares_are_even_and_the_home_keeps_its_own);
  tcase_add_test(lease, what_is_open_at_home_is_owed_until_it_is_closed);
  tcase_add_test(lease, what_is_owed_can_be_forgiven);
  tcase_add_test(lease, the_last_one_is_for_a_guest_that_cannot_do_without);
  tcase_add_test(lease, a_limit_of_one_stays_at_home);
  tcase_add_test(lease, more_shards_than_connections_get_one_each_while_there_are_some);
  tcase_add_test(lease, the_limit_holds_always);
  tcase_add_test(lease, a_guest_asks_when_there_is_much_and_not_again_at_once);
  tcase_add_test(lease, a_limit_below_what_is_lent_leaves_nothing);
  tcase_add_test(lease, a_trickle_never_asks);
  tcase_add_test(lease, a_lease_outlasts_a_pause_between_bursts);
  return unit_main("queue/policy/lease", (TCase *const[]){lease}, 1);
}
