/*
 * wheel: a hierarchical timer wheel, one per shard. Resolution 1 ms, range about 49 days (longer is clamped).
 *
 * Setting, moving and canceling a timer are constant-time list operations on the timer inside the caller's own object.
 * Pure: the time is an argument. Timers fire from wheel_advance, at or after their due time, never before it.
 */
#ifndef CORE_BASE_WHEEL_H
#define CORE_BASE_WHEEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WHEEL_NEVER UINT64_MAX
#define WHEEL_LEVELS 4
#define WHEEL_SLOTS 256

struct timer;
typedef void (*timer_fn)(void *context, struct timer *timer);

struct timer {
  struct timer *_next; /* NULL: not set */
  struct timer *_prev;
  uint64_t due_ms;
  timer_fn fire;
};

struct wheel {
  struct timer _slots[WHEEL_LEVELS][WHEEL_SLOTS]; /* list heads */
  uint64_t _occupied[WHEEL_LEVELS][WHEEL_SLOTS / 64];
  struct timer _expired;
  uint64_t _now_ms;
  uint64_t count;
};

void wheel_init(struct wheel *wheel, uint64_t now_ms);

/* Sets or moves the timer; `timer->fire` is called with wheel_advance's context once `due_ms` has come. The timer is not
 * set any more when it fires, so it may be set anew, or its memory freed, from there. */
void timer_set(struct wheel *wheel, struct timer *timer, uint64_t due_ms);
/* Harmless if the timer is not set. */
void timer_cancel(struct wheel *wheel, struct timer *timer);
static inline bool timer_is_set(const struct timer *timer) { return timer->_next != NULL; }

/* Fires what is due, at most `budget` timers; returns how many. What is left over fires on the next call.
 * Canceling or setting any timer from within a fire function is allowed. */
unsigned wheel_advance(struct wheel *wheel, uint64_t now_ms, void *context, unsigned budget);

/* A time not later than the earliest due time, for sleeping: WHEEL_NEVER if none is set. May be early by a slot's width,
 * in which case advancing to it just brings the next answer closer. */
uint64_t wheel_next_ms(const struct wheel *wheel);

#endif
