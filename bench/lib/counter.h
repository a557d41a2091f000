/*
 * counter: statistics written by one thread and read by any, without locks. Each counter has a single writer; a reader sees
 * a value that was true a moment ago. The pair compiles to a plain load, add and store.
 */
#ifndef BENCH_LIB_COUNTER_H
#define BENCH_LIB_COUNTER_H

#include <stdint.h>

static inline uint64_t counter_read(const uint64_t *counter) { return __atomic_load_n(counter, __ATOMIC_RELAXED); }
static inline void counter_write(uint64_t *counter, uint64_t value) { __atomic_store_n(counter, value, __ATOMIC_RELAXED); }
static inline void counter_add(uint64_t *counter, uint64_t n) { counter_write(counter, counter_read(counter) + n); }
static inline void counter_raise(uint64_t *counter, uint64_t value) {
  if (value > counter_read(counter)) counter_write(counter, value);
}

#endif
