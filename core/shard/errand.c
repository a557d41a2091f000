#include "core/shard/errand.h"

#include "core/base/must.h"
#include "core/shard/shard.h"

/* In the place of the latest one asked for: the shard has ended. */
static struct errand closed;

void errand_init(struct errand *errand, errand_step step, void *context) {
  *errand = (struct errand){.step = step, .context = context};
  must(sem_init(&errand->_ended, 0, 0) == 0);
}

/* The asker may free it as soon as it is posted: nothing of it is touched afterwards. */
static void end(struct errand *errand, bool dropped) {
  errand->_dropped = dropped;
  atomic_store_explicit(&errand->_is_over, true, memory_order_release);
  sem_post(&errand->_ended);
}

void errand_ask(struct shard *shard, struct errand *errand) {
  struct errand *latest = atomic_load_explicit(&shard->errands.asked, memory_order_acquire);
  do {
    if (latest == &closed) {
      end(errand, true);
      return;
    }
    errand->_next = latest;
  } while (!atomic_compare_exchange_weak_explicit(&shard->errands.asked, &latest, errand, memory_order_acq_rel, memory_order_acquire));
  io_notify(NULL, shard->io);
}

bool errand_await(struct errand *errand) {
  while (sem_wait(&errand->_ended) != 0) continue; /* a signal came */
  bool done = !errand->_dropped;
  sem_destroy(&errand->_ended);
  return done;
}

bool errand_is_over(const struct errand *errand) { return atomic_load_explicit(&errand->_is_over, memory_order_acquire); }

/* What was asked for since the last turn goes behind what is under way, in the order it came. */
static void take_in(struct errands *errands) {
  struct errand *seen = atomic_load_explicit(&errands->asked, memory_order_relaxed);
  if (seen == NULL || seen == &closed) return;
  struct errand *latest = atomic_exchange_explicit(&errands->asked, NULL, memory_order_acq_rel), *in_order = NULL;
  while (latest != NULL) {
    struct errand *before = latest->_next;
    latest->_next = in_order;
    in_order = latest;
    latest = before;
  }
  struct errand **end_of = &errands->first;
  while (*end_of != NULL) end_of = &(*end_of)->_next;
  *end_of = in_order;
}

/* True: it is done. */
static bool step(struct shard *shard, struct errand *errand) {
  if (errand->not_before_ms > shard->now_ms) return false;
  return errand->step(errand, errand->context != NULL ? errand->context : shard->context);
}

bool errands_turn(struct shard *shard) {
  struct errands *errands = &shard->errands;
  bool more = false;
  take_in(errands);
  errands->due_ms = UINT64_MAX;
  for (struct errand **at = &errands->first; *at != NULL;) {
    struct errand *errand = *at;
    if (step(shard, errand)) {
      *at = errand->_next;
      end(errand, false);
      continue;
    }
    at = &errand->_next;
    if (errand->not_before_ms <= shard->now_ms) more = true;
    if (errand->not_before_ms > shard->now_ms && errand->not_before_ms < errands->due_ms) errands->due_ms = errand->not_before_ms;
  }
  return more;
}

void errands_close(struct shard *shard) {
  struct errands *errands = &shard->errands;
  take_in(errands);
  struct errand *late = atomic_exchange_explicit(&errands->asked, &closed, memory_order_acq_rel);
  struct errand *lists[2] = {errands->first, late == &closed ? NULL : late};
  errands->first = NULL;
  for (unsigned i = 0; i < 2; i++) {
    for (struct errand *errand = lists[i], *next; errand != NULL; errand = next) {
      next = errand->_next;
      end(errand, true);
    }
  }
}
