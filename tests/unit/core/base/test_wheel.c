/* The wheel against a naive model: a list of due times that is searched from end to end. */
#include "core/base/wheel.h"
#include "tests/lib/unit.h"

#include <stdlib.h>
#include <string.h>

enum { TIMERS = 200 };

struct world {
  struct wheel wheel;
  struct entry {
    struct timer timer;
    uint64_t due_ms;
    bool set;
    bool set_before; /* when the present advance began */
  } entries[TIMERS];
  uint64_t now_ms;
  unsigned fired, budget;
  enum { NOTHING, MEDDLE } on_fire;
};

static uint64_t random_below(uint64_t limit) { return (((uint64_t)random() << 31) ^ (uint64_t)random()) % limit; }

static void set(struct world *w, struct entry *entry, uint64_t due_ms) {
  timer_set(&w->wheel, &entry->timer, due_ms);
  entry->due_ms = due_ms;
  entry->set = true;
  entry->set_before = false;
}

static void cancel(struct world *w, struct entry *entry) {
  timer_cancel(&w->wheel, &entry->timer);
  entry->set = false;
}

/* Delays of all magnitudes, so that every level of the wheel and what lies beyond its range are used. */
static uint64_t random_due(const struct world *w) {
  switch (random() % 12) {
  case 0: return w->now_ms;
  case 1: return w->now_ms - random_below(w->now_ms < 1000 ? w->now_ms + 1 : 1000);
  case 2: return WHEEL_NEVER;
  case 3: return w->now_ms + random_below((uint64_t)1 << 40);
  default: return w->now_ms + random_below((uint64_t)1 << (1 + random() % 33));
  }
}

static void fire(void *context, struct timer *timer) {
  struct world *w = context;
  struct entry *entry = (struct entry *)(void *)timer;
  ck_quick_msg(entry->set, "fired though it was not set");
  ck_quick_msg(entry->due_ms <= w->now_ms, "fired at %lu, due %lu", w->now_ms, entry->due_ms);
  ck_quick(!timer_is_set(timer));
  entry->set = false;
  ck_quick((w->fired) < (w->budget));
  w->fired++;
  memset(&entry->timer._prev, 0xa5, sizeof entry->timer._prev); /* its memory is the caller's again */
  entry->timer._next = NULL;
  if (w->on_fire != MEDDLE) return;
  struct entry *other = &w->entries[random() % TIMERS];
  if (random() % 2 == 0) cancel(w, other);
  if (random() % 2 == 0) set(w, &w->entries[random() % TIMERS], random_due(w));
}

static void check_count(const struct world *w) {
  uint64_t count = 0;
  for (unsigned i = 0; i < TIMERS; i++) {
    count += w->entries[i].set;
    ck_quick((timer_is_set(&w->entries[i].timer)) == (w->entries[i].set));
  }
  ck_quick((w->wheel.count) == (count));
}

static uint64_t earliest_ms(const struct world *w) {
  uint64_t earliest = WHEEL_NEVER;
  for (unsigned i = 0; i < TIMERS; i++)
    if (w->entries[i].set && w->entries[i].due_ms < earliest) earliest = w->entries[i].due_ms;
  return earliest;
}

static void advance(struct world *w, uint64_t now_ms, unsigned budget) {
  w->now_ms = now_ms;
  w->fired = 0;
  w->budget = budget;
  for (unsigned i = 0; i < TIMERS; i++) w->entries[i].set_before = w->entries[i].set;
  unsigned fired = wheel_advance(&w->wheel, now_ms, w, budget);
  ck_quick((fired) == (w->fired));
  if (fired == budget) return;
  /* There was budget left, so nothing that was due is still waiting (what was set by others meanwhile included). */
  for (unsigned i = 0; i < TIMERS; i++)
    ck_quick_msg(!w->entries[i].set || w->entries[i].due_ms > now_ms, "timer %u due %lu still waits at %lu", i, w->entries[i].due_ms, now_ms);
}

static struct world *world_at(uint64_t now_ms) {
  struct world *w = calloc(1, sizeof *w);
  ck_quick(w != NULL);
  w->now_ms = now_ms;
  wheel_init(&w->wheel, now_ms);
  for (unsigned i = 0; i < TIMERS; i++) w->entries[i].timer.fire = fire;
  return w;
}

static uint64_t step_ms(void) {
  switch (random() % 8) {
  case 0: return 0;
  case 1: return random_below((uint64_t)1 << 34);
  case 2: return random_below((uint64_t)1 << 24);
  default: return random_below(2000);
  }
}

START_TEST(random_use_against_the_model) {
  static const uint64_t starts[] = {
      0, 1, 255, 65535, ((uint64_t)1 << 24) - 3, ((uint64_t)1 << 32) - 1000, ((uint64_t)1 << 40) + 12345, 1795484839123};
  srandom((unsigned)_i + 1);
  struct world *w = world_at(starts[(size_t)_i % (sizeof starts / sizeof *starts)]);
  w->on_fire = _i % 2 == 0 ? NOTHING : MEDDLE;
  for (unsigned step = 0; step < 6000; step++) {
    struct entry *entry = &w->entries[random() % TIMERS];
    switch (random() % 4) {
    case 0: cancel(w, entry); break;
    case 1: advance(w, w->now_ms + step_ms(), random() % 3 == 0 ? (unsigned)random() % 5 : 100000); break;
    default: set(w, entry, random_due(w)); break;
    }
    check_count(w);
    uint64_t next = wheel_next_ms(&w->wheel), earliest = earliest_ms(w);
    ck_quick_msg(earliest <= w->now_ms || next <= earliest, "would sleep until %lu past %lu", next, earliest);
  }
  free(w);
}
END_TEST

/* A loop that sleeps until wheel_next_ms and advances to it fires each timer exactly when it is due, and does not spin. */
START_TEST(sleeping_by_wheel_next_ms) {
  srandom((unsigned)_i + 100);
  struct world *w = world_at(random_below((uint64_t)1 << 41));
  for (unsigned i = 0; i < TIMERS; i++) set(w, &w->entries[i], w->now_ms + 1 + random_below((uint64_t)1 << (1 + random() % 36)));
  unsigned wakes = 0;
  while (w->wheel.count > 0) {
    uint64_t earliest = earliest_ms(w), next = wheel_next_ms(&w->wheel);
    ck_quick(next > w->now_ms && next <= earliest);
    advance(w, next, 100000);
    ck_quick((w->fired > 0) == (next == earliest));
    wakes++;
  }
  ck_quick((wheel_next_ms(&w->wheel)) == (WHEEL_NEVER));
  ck_quick_msg(wakes < TIMERS * (WHEEL_LEVELS + 40), "%u wakes for %u timers", wakes, TIMERS); /* 2^36 ms are 32 times half the range */
  free(w);
}
END_TEST

START_TEST(budget_is_kept_and_nothing_is_lost) {
  struct world *w = world_at(1000);
  for (unsigned i = 0; i < TIMERS; i++) set(w, &w->entries[i], 1000 + i / 10);
  unsigned total = 0, rounds = 0;
  do {
    advance(w, 5000, 7);
    total += w->fired;
    rounds++;
  } while (w->fired == 7);
  ck_assert_uint_eq(total, TIMERS);
  ck_assert_uint_eq(rounds, TIMERS / 7 + 1);
  set(w, &w->entries[0], 5000);
  ck_assert_uint_eq(wheel_next_ms(&w->wheel), 5000);
  advance(w, 5000, 0); /* no budget: nothing fires, nothing is lost */
  ck_assert_uint_eq(w->fired, 0);
  ck_assert_uint_eq(w->wheel.count, 1);
  free(w);
}
END_TEST

static void fire_again(void *context, struct timer *timer) {
  unsigned *fired = context;
  (*fired)++;
  timer_set((struct wheel *)(void *)(timer + 1), timer, 0);
}

START_TEST(a_timer_that_sets_itself_anew_cannot_hold_the_loop) {
  struct {
    struct timer timer;
    struct wheel wheel;
  } *both = calloc(1, sizeof *both);
  unsigned fired = 0;
  wheel_init(&both->wheel, 10);
  both->timer.fire = fire_again;
  timer_set(&both->wheel, &both->timer, 10);
  ck_assert_uint_eq(wheel_advance(&both->wheel, 20, &fired, 64), 64);
  ck_assert_uint_eq(fired, 64);
  free(both);
}
END_TEST

START_TEST(time_that_stands_still_or_jumps_back) {
  struct world *w = world_at(1000);
  set(w, &w->entries[0], 1500);
  w->now_ms = 900;
  w->budget = 10;
  ck_assert_uint_eq(wheel_advance(&w->wheel, 900, w, 10), 0);
  advance(w, 1499, 10);
  ck_assert_uint_eq(w->fired, 0);
  advance(w, 1500, 10);
  ck_assert_uint_eq(w->fired, 1);
  free(w);
}
END_TEST

START_TEST(far_future) {
  struct world *w = world_at(1795484839123);
  uint64_t year_ms = (uint64_t)365 * 86400 * 1000;
  set(w, &w->entries[0], w->now_ms + year_ms);
  set(w, &w->entries[1], WHEEL_NEVER);
  uint64_t due = w->entries[0].due_ms;
  while (w->now_ms < due - 1) {
    uint64_t next = wheel_next_ms(&w->wheel);
    advance(w, next < due - 1 ? next : due - 1, 10);
    ck_assert_uint_eq(w->fired, 0);
  }
  advance(w, due, 10);
  ck_assert_uint_eq(w->fired, 1);
  advance(w, due + 100 * year_ms, 10); /* one big leap */
  ck_assert_uint_eq(w->wheel.count, 1);
  timer_cancel(&w->wheel, &w->entries[1].timer);
  timer_cancel(&w->wheel, &w->entries[1].timer);
  ck_assert_uint_eq(w->wheel.count, 0);
  ck_assert_uint_eq(wheel_next_ms(&w->wheel), WHEEL_NEVER);
  free(w);
}
END_TEST

int main(void) {
  TCase *all = tcase_create("all");
  tcase_add_loop_test(all, random_use_against_the_model, 0, 32);
  tcase_add_loop_test(all, sleeping_by_wheel_next_ms, 0, 10);
  tcase_add_test(all, budget_is_kept_and_nothing_is_lost);
  tcase_add_test(all, a_timer_that_sets_itself_anew_cannot_hold_the_loop);
  tcase_add_test(all, time_that_stands_still_or_jumps_back);
  tcase_add_test(all, far_future);
  return unit_main("core/base/wheel", &all, 1);
}
