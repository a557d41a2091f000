/*
 * errand: what a thread from outside wants of a shard (a list of its queues, a change of its settings): done on the shard's own thread, a small step a
 * turn, so that neither side needs a lock and the shard's work goes on in between.
 *
 * The asker owns the errand and all it points to; from errand_ask to its end they are the shard's. One errand goes to one shard: who wants something of
 * all of them asks each, then waits for each. Errands of one asker are begun in the order they were asked for; several may be under way at a time.
 */
#ifndef CORE_SHARD_ERRAND_H
#define CORE_SHARD_ERRAND_H

#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct shard;
struct errand;

/*
 * On the shard's thread, once a turn, after its letters and timers; true: done. A step should take no longer than some 200 us. One that only waits for
 * something sets errand->not_before_ms: until then it is not called again, and does not keep the shard from sleeping.
 */
typedef bool (*errand_step)(struct errand *errand, void *context);

struct errand {
  errand_step step;
  void *context;          /* handed to step: the shard's side. NULL: the shard's own context */
  uint64_t not_before_ms; /* monotonic; 0 at first */
  /* private */
  struct errand *_next;
  sem_t _ended;
  _Atomic bool _is_over;
  bool _dropped;
};

void errand_init(struct errand *errand, errand_step step, void *context);
/* From any thread. It ends in any case: at once if the shard has ended. */
void errand_ask(struct shard *shard, struct errand *errand);
/* Waits for the end (not on a shard's thread). False: the shard ended before it was done. Once for each errand_ask. */
bool errand_await(struct errand *errand);
/* Without waiting: is it over? Then errand_await returns at once. */
bool errand_is_over(const struct errand *errand);

/* ---- for shard.c ---- */
struct errands {
  _Atomic(struct errand *) asked; /* latest first */
  struct errand *first;           /* under way */
  uint64_t due_ms;                /* when the first of those that wait wants to be called; UINT64_MAX: none waits */
};
/* One step of each that does not wait. True: some are still under way, and want another turn at once. */
bool errands_turn(struct shard *shard);
/* No more are taken; those there are end undone. Not from within a step. */
void errands_close(struct shard *shard);

#endif
