/*
 * ledger: which recipients of which run have arrived, one bit each, so that every lost and every duplicated one is found. Shared by all
 * threads of the sink without locks on the way of a message. Memory is reserved, and touched only as numbers appear.
 */
#ifndef BENCH_LIB_LEDGER_H
#define BENCH_LIB_LEDGER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/base/must.h"

enum {
  LEDGER_RUNS_MAX = 16,
};
#define LEDGER_NUMBERS (UINT64_C(1) << 32) /* recipients of one run are numbered below this */

/* What is kept for a recipient number of a run. */
enum ledger_mark {
  LEDGER_ARRIVED, /* taken, and answered so (or meant to be) */
  LEDGER_EXCUSED, /* taken, then the connection cut without a reply: to send it again is right */
  LEDGER_MARKS,
};

struct ledger_run {
  uint64_t run;
  uint64_t _expected;
  uint64_t *_bits[LEDGER_MARKS];
};

struct ledger {
  pthread_mutex_t _lock; /* for new runs only */
  uint32_t _count;
  uint64_t *_refused; /* for good, by a rule; of any run, because a recipient is refused before its message tells the run */
  uint64_t _refused_count;
  struct ledger_run _runs[LEDGER_RUNS_MAX];
};

struct ledger_sum {
  uint64_t expected; /* recipients that the runs seen have in all; 0: unknown */
  uint64_t arrived;
  uint64_t refused;
  uint64_t lost; /* expected, neither arrived nor refused */
};

/* E_NO_MEMORY if the address space cannot be had. */
must_check int ledger_init(struct ledger *ledger);
void ledger_fini(struct ledger *ledger);
/* The run of that number, made on its first mention; NULL if there are too many or no memory. `expected` 0: not known. */
struct ledger_run *ledger_find(struct ledger *ledger, uint64_t run, uint64_t expected);
/* Sets the mark; true if it was set before. Numbers are below LEDGER_NUMBERS. */
bool ledger_set(struct ledger_run *run, enum ledger_mark mark, uint64_t number);
bool ledger_has(const struct ledger_run *run, enum ledger_mark mark, uint64_t number);
/* True if it was refused before. */
bool ledger_refuse(struct ledger *ledger, uint64_t number);
/* Counts over all runs; a run that does not tell how many it has, has `expected_else`. The first `lost_max` lost numbers go to `lost`
 * (may be NULL with 0). */
struct ledger_sum ledger_sum(struct ledger *ledger, uint64_t expected_else, uint64_t *lost, unsigned lost_max);

#endif
