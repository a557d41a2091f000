#include "core/base/wheel.h"

#include <stddef.h>
#include <string.h>

#include "core/base/must.h"

/*
 * Level l holds timers whose due time shares all bits above 8*(l+1) with the present time; slot = bits 8*l..8*l+7 of the
 * due time. When the present time enters a new slot of level l > 0, that slot's timers are dealt out to lower levels.
 */
#define LEVEL_BITS 8
#define RANGE_MS ((uint64_t)1 << (LEVEL_BITS * WHEEL_LEVELS))

static void list_init(struct timer *head) { head->_next = head->_prev = head; }
static bool list_empty(const struct timer *head) { return head->_next == head; }

static void list_append(struct timer *head, struct timer *timer) {
  timer->_prev = head->_prev;
  timer->_next = head;
  head->_prev->_next = timer;
  head->_prev = timer;
}

static void list_remove(struct timer *timer) {
  timer->_prev->_next = timer->_next;
  timer->_next->_prev = timer->_prev;
  timer->_next = timer->_prev = NULL;
}

void wheel_init(struct wheel *wheel, uint64_t now_ms) {
  memset(wheel, 0, sizeof *wheel);
  wheel->_now_ms = now_ms;
  for (unsigned level = 0; level < WHEEL_LEVELS; level++)
    for (unsigned slot = 0; slot < WHEEL_SLOTS; slot++) list_init(&wheel->_slots[level][slot]);
  list_init(&wheel->_expired);
}

static unsigned slot_of(uint64_t time_ms, unsigned level) { return (unsigned)(time_ms >> (LEVEL_BITS * level)) & (WHEEL_SLOTS - 1); }

static void place(struct wheel *wheel, struct timer *timer) {
  if (timer->due_ms <= wheel->_now_ms) {
    list_append(&wheel->_expired, timer);
    return;
  }
  /* Beyond the range: parked in the farthest slot, and dealt out anew from there with its true due time. */
  uint64_t due = timer->due_ms - wheel->_now_ms < RANGE_MS / 2 ? timer->due_ms : wheel->_now_ms + RANGE_MS / 2;
  uint64_t differ = due ^ wheel->_now_ms;
  unsigned level = 0;
  while (level < WHEEL_LEVELS - 1 && (differ >> (LEVEL_BITS * (level + 1))) != 0) level++;
  unsigned slot = slot_of(due, level);
  list_append(&wheel->_slots[level][slot], timer);
  wheel->_occupied[level][slot / 64] |= (uint64_t)1 << (slot % 64);
}

void timer_set(struct wheel *wheel, struct timer *timer, uint64_t due_ms) {
  must(timer->fire != NULL);
  if (timer_is_set(timer)) {
    list_remove(timer);
  } else {
    wheel->count++;
  }
  timer->due_ms = due_ms;
  place(wheel, timer);
}

void timer_cancel(struct wheel *wheel, struct timer *timer) {
  if (!timer_is_set(timer)) return;
  list_remove(timer);
  wheel->count--;
}

/* The first occupied slot at or after `from` on this level, or WHEEL_SLOTS. Bits of emptied slots are cleared lazily. */
static unsigned next_slot(const struct wheel *wheel, unsigned level, unsigned from) {
  for (unsigned word = from / 64; word < WHEEL_SLOTS / 64; word++) {
    uint64_t bits = wheel->_occupied[level][word];
    if (word == from / 64) bits &= ~(uint64_t)0 << (from % 64);
    if (bits != 0) return word * 64 + (unsigned)__builtin_ctzll(bits);
  }
  return WHEEL_SLOTS;
}

static void deal_out(struct wheel *wheel, unsigned level, unsigned slot) {
  struct timer *head = &wheel->_slots[level][slot];
  wheel->_occupied[level][slot / 64] &= ~((uint64_t)1 << (slot % 64));
  if (list_empty(head)) return;
  struct timer moved;
  moved._next = head->_next;
  moved._prev = head->_prev;
  moved._next->_prev = moved._prev->_next = &moved;
  list_init(head);
  while (!list_empty(&moved)) {
    struct timer *timer = moved._next;
    list_remove(timer);
    place(wheel, timer);
  }
}

/* The start of the next occupied slot of any level, above the present time. */
static uint64_t next_stop_ms(const struct wheel *wheel) {
  uint64_t best = WHEEL_NEVER;
  for (unsigned level = 0; level < WHEEL_LEVELS; level++) {
    unsigned shift = LEVEL_BITS * level;
    unsigned here = slot_of(wheel->_now_ms, level);
    unsigned slot = next_slot(wheel, level, here + 1 < WHEEL_SLOTS ? here + 1 : WHEEL_SLOTS);
    uint64_t turn = wheel->_now_ms >> (shift + LEVEL_BITS);
    if (slot == WHEEL_SLOTS && level == WHEEL_LEVELS - 1) { /* the top level wraps around */
      slot = next_slot(wheel, level, 0);
      turn++;
    }
    if (slot == WHEEL_SLOTS) continue;
    uint64_t start = (turn << (shift + LEVEL_BITS)) | ((uint64_t)slot << shift);
    if (start < best) best = start;
  }
  return best;
}

uint64_t wheel_next_ms(const struct wheel *wheel) {
  if (!list_empty(&wheel->_expired)) return wheel->_now_ms;
  return wheel->count == 0 ? WHEEL_NEVER : next_stop_ms(wheel);
}

unsigned wheel_advance(struct wheel *wheel, uint64_t now_ms, void *context, unsigned budget) {
  unsigned fired = 0;
  for (;;) {
    while (!list_empty(&wheel->_expired)) {
      if (fired == budget) return fired;
      struct timer *timer = wheel->_expired._next;
      list_remove(timer);
      wheel->count--;
      fired++;
      timer->fire(context, timer);
    }
    if (now_ms <= wheel->_now_ms) return fired;
    uint64_t stop = wheel->count == 0 ? WHEEL_NEVER : next_stop_ms(wheel);
    if (stop > now_ms) {
      wheel->_now_ms = now_ms;
      return fired;
    }
    wheel->_now_ms = stop;
    for (unsigned level = WHEEL_LEVELS; level-- > 0;) deal_out(wheel, level, slot_of(stop, level));
  }
}
