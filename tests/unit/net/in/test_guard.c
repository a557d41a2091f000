#include "net/in/guard.h"
#include "tests/lib/unit.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "core/base/error.h"

static struct netaddr address(unsigned number) {
  return (struct netaddr){.family = 4, .bytes = {10, (uint8_t)(number >> 16), (uint8_t)(number >> 8), (uint8_t)number}};
}

enum verdict { GUARD_WELCOME, GUARD_TOO_MANY };

static enum verdict enter(struct guard *guard, const struct guard_limits *limits, const struct netaddr *client, uint64_t now_ms,
                          struct guard_entry **entry) {
  uint8_t room[GUARD_CLIENT_KEY];
  return guard_enter(guard, limits, guard_client(client, room), now_ms, entry) ? GUARD_WELCOME : GUARD_TOO_MANY;
}

static struct guard *guard_of(uint32_t entries) {
  struct guard *guard = NULL;
  ck_assert_int_eq(guard_open(&guard, entries, 42), E_OK);
  return guard;
}

START_TEST(sessions_at_once) {
  struct guard *guard = guard_of(64);
  struct guard_limits limits = {.sessions = 3};
  struct netaddr one = address(1), other = address(2);
  struct guard_entry *entry[3], *more;
  for (unsigned i = 0; i < 3; i++) ck_assert_int_eq(enter(guard, &limits, &one, 0, &entry[i]), GUARD_WELCOME);
  ck_assert_int_eq(enter(guard, &limits, &one, 0, &more), GUARD_TOO_MANY);
  ck_assert_ptr_null(more);
  ck_assert_int_eq(enter(guard, &limits, &other, 0, &more), GUARD_WELCOME);
  guard_leave(more);
  guard_leave(entry[1]);
  ck_assert_int_eq(enter(guard, &limits, &one, 0, &entry[1]), GUARD_WELCOME);
  ck_assert_int_eq(enter(guard, &limits, &one, 0, &more), GUARD_TOO_MANY);
  for (unsigned i = 0; i < 3; i++) guard_leave(entry[i]);
  guard_close(guard);
}
END_TEST

START_TEST(a_rate) {
  struct guard *guard = guard_of(64);
  struct guard_limits limits = {.rate = {[CLIENT_MESSAGES] = {6, 60}}};
  struct netaddr one = address(1);
  struct guard_entry *entry;
  uint64_t now_ms = 1000000;
  ck_assert_int_eq(enter(guard, &limits, &one, now_ms, &entry), GUARD_WELCOME);
  ck_assert_ptr_nonnull(entry);
  for (unsigned i = 0; i < 6; i++) ck_assert(guard_count(entry, &limits, CLIENT_MESSAGES, now_ms));
  ck_assert(!guard_allows(entry, &limits, CLIENT_MESSAGES, now_ms));
  ck_assert(!guard_count(entry, &limits, CLIENT_MESSAGES, now_ms));
  ck_assert(!guard_count(entry, &limits, CLIENT_MESSAGES, now_ms + 9999));
  ck_assert(guard_allows(entry, &limits, CLIENT_MESSAGES, now_ms + 10000));
  ck_assert(guard_count(entry, &limits, CLIENT_MESSAGES, now_ms + 10000));
  ck_assert(!guard_count(entry, &limits, CLIENT_MESSAGES, now_ms + 10000));
  ck_assert(guard_count(entry, &limits, CLIENT_RECIPIENTS, now_ms)); /* which has no limit */
  for (unsigned i = 0; i < 6; i++) ck_assert(guard_count(entry, &limits, CLIENT_MESSAGES, now_ms + 200000));
  ck_assert(!guard_count(entry, &limits, CLIENT_MESSAGES, now_ms + 200000)); /* however long it was silent */
  ck_assert(guard_count(NULL, &limits, CLIENT_MESSAGES, now_ms));
  guard_leave(entry);
  guard_close(guard);
}
END_TEST

/* It comes again within its time, and is remembered although nobody of it was there. */
START_TEST(rates_are_remembered) {
  struct guard *guard = guard_of(64);
  struct guard_limits limits = {.rate = {[USER_MINUTE] = {5, 60}, [USER_DAY] = {7, 86400}}};
  struct guard_entry *entry;
  for (unsigned i = 0; i < 8; i++) {
    uint64_t now_ms = 5000 + i * 1000;
    ck_assert(guard_enter(guard, &limits, SPAN("somebody"), now_ms, &entry));
    ck_assert_int_eq(guard_allows(entry, &limits, USER_MINUTE, now_ms), i < 5);
    ck_assert_int_eq(guard_count(entry, &limits, USER_MINUTE, now_ms), i < 5);
    ck_assert_int_eq(guard_count(entry, &limits, USER_DAY, now_ms), i < 7);
    guard_leave(entry);
  }
  ck_assert(guard_enter(guard, &limits, SPAN("somebody"), 3600000, &entry));
  ck_assert(guard_count(entry, &limits, USER_MINUTE, 3600000));
  ck_assert(!guard_count(entry, &limits, USER_DAY, 3600000));
  ck_assert(guard_count(entry, &limits, USER_DAY, 5000 + 86400000 / 7 + 1000));
  guard_leave(entry);
  ck_assert(guard_enter(guard, &limits, SPAN("another"), 3600000, &entry));
  ck_assert(guard_count(entry, &limits, USER_DAY, 3600000));
  guard_leave(entry);
  guard_close(guard);
}
END_TEST

START_TEST(families) {
  struct guard *guard = guard_of(64);
  struct guard_limits limits = {.sessions = 1};
  struct netaddr v6 = {.family = 6, .bytes = {0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 1, [15] = 1}}, neighbour = v6, elsewhere = v6;
  struct netaddr v4 = address(1), mapped = {.family = 6, .bytes = {[10] = 0xff, 0xff, 10, 0, 0, 1}};
  struct guard_entry *entry, *more;
  neighbour.bytes[15] = 2;
  elsewhere.bytes[7] = 2;
  ck_assert_int_eq(enter(guard, &limits, &v6, 0, &entry), GUARD_WELCOME);
  ck_assert_int_eq(enter(guard, &limits, &neighbour, 0, &more), GUARD_TOO_MANY);
  ck_assert_int_eq(enter(guard, &limits, &elsewhere, 0, &more), GUARD_WELCOME);
  ck_assert_int_eq(enter(guard, &limits, &v4, 0, &more), GUARD_WELCOME);
  ck_assert_int_eq(enter(guard, &limits, &mapped, 0, &more), GUARD_TOO_MANY);
  guard_close(guard);
}
END_TEST

/* More clients than there are entries: those in use stay, the quiet ones give way, and one without an entry is welcome. */
START_TEST(no_room) {
  struct guard *guard = guard_of(64);
  struct guard_limits limits = {.sessions = 1, .rate = {[CLIENT_CONNECTIONS] = {10, 60}}};
  struct guard_entry *entries[200], *again;
  unsigned counted = 0;
  for (unsigned i = 0; i < 200; i++) {
    struct netaddr client = address(i);
    ck_assert_int_eq(enter(guard, &limits, &client, 1000, &entries[i]), GUARD_WELCOME);
    ck_assert(guard_count(entries[i], &limits, CLIENT_CONNECTIONS, 1000));
    counted += entries[i] != NULL;
  }
  ck_assert_uint_le(counted, 64);
  ck_assert_uint_ge(counted, 50); /* 200 clients over 8 buckets */
  for (unsigned i = 0; i < 200; i++) {
    struct netaddr client = address(i);
    ck_assert_int_eq(enter(guard, &limits, &client, 1000, &again), entries[i] != NULL ? GUARD_TOO_MANY : GUARD_WELCOME);
  }
  for (unsigned i = 0; i < 200; i++) guard_leave(entries[i]);
  unsigned soon = 0, later = 0;
  for (unsigned i = 200; i < 400; i++) {
    struct netaddr client = address(i);
    ck_assert_int_eq(enter(guard, &limits, &client, 1000, &again), GUARD_WELCOME);
    soon += again != NULL;
  }
  ck_assert_uint_eq(soon, 64 - counted); /* their minute is not over */
  for (unsigned i = 400; i < 600; i++) {
    struct netaddr client = address(i);
    ck_assert_int_eq(enter(guard, &limits, &client, 70000, &again), GUARD_WELCOME);
    later += again != NULL;
  }
  ck_assert_uint_ge(later + soon, 50);
  guard_close(guard);
}
END_TEST

/* ---- many at the same time ---- */

#define THREADS 4
#define ROUNDS 20000
#define MOST 5

static struct guard *shared;
static _Atomic int inside[8];
static _Atomic unsigned passed[8];

static void *visit(void *argument) {
  struct guard_limits limits = {.sessions = MOST};
  unsigned chance = 12345u * (unsigned)(uintptr_t)argument + 1;
  for (unsigned i = 0; i < ROUNDS; i++) {
    struct guard_entry *held[3] = {NULL};
    unsigned number = (chance = chance * 1103515245 + 12345) >> 29;
    struct netaddr client = address(number);
    for (unsigned k = 0; k < 3; k++) {
      if (enter(shared, &limits, &client, i, &held[k]) != GUARD_WELCOME) continue;
      ck_quick(held[k] != NULL);
      if (atomic_fetch_add(&inside[number], 1) >= MOST + THREADS) abort(); /* two of them may be entering for the first time */
      atomic_fetch_add(&passed[number], 1);
    }
    for (unsigned k = 0; k < 3; k++) {
      if (held[k] == NULL) continue;
      atomic_fetch_sub(&inside[number], 1);
      guard_leave(held[k]);
    }
  }
  return NULL;
}

START_TEST(threads) {
  pthread_t thread[THREADS];
  shared = guard_of(64);
  for (uintptr_t i = 0; i < THREADS; i++) ck_assert_int_eq(pthread_create(&thread[i], NULL, visit, (void *)i), 0);
  for (unsigned i = 0; i < THREADS; i++) pthread_join(thread[i], NULL);
  struct guard_limits limits = {.sessions = MOST};
  for (unsigned number = 0; number < 8; number++) { /* nothing is left behind */
    struct netaddr client = address(number);
    struct guard_entry *entry;
    ck_assert_uint_gt(passed[number], 1000);
    for (unsigned i = 0; i < MOST; i++) ck_assert_int_eq(enter(shared, &limits, &client, 0, &entry), GUARD_WELCOME);
    ck_assert_int_eq(enter(shared, &limits, &client, 0, &entry), GUARD_TOO_MANY);
  }
  guard_close(shared);
}
END_TEST

int main(void) {
  TCase *tc = tcase_create("guard");
  tcase_add_test(tc, sessions_at_once);
  tcase_add_test(tc, a_rate);
  tcase_add_test(tc, rates_are_remembered);
  tcase_add_test(tc, families);
  tcase_add_test(tc, no_room);
  tcase_add_test(tc, threads);
  return unit_main("net/in/guard", &tc, 1);
}
