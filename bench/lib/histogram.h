/*
 * histogram: how often each duration was seen, in log-linear buckets that keep three significant digits over the whole
 * range of 1 ns to 73 minutes (2^42 ns; longer is clamped). Recording is a few instructions, whatever the value.
 *
 * One writer; any thread may read meanwhile and sees a recent state. About 270 KiB each: allocate, do not put on the stack.
 *
 *   histogram_record(h, now_ns - started_ns);
 *   p99_ns = histogram_percentile(h, 99.0);
 */
#ifndef BENCH_LIB_HISTOGRAM_H
#define BENCH_LIB_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_DIGIT_BITS 10 /* 2^10 buckets for each doubling: a bucket is at most 1/1024 of its value wide */
#define HISTOGRAM_VALUE_BITS 42
#define HISTOGRAM_BUCKETS ((HISTOGRAM_VALUE_BITS - HISTOGRAM_DIGIT_BITS + 1) << HISTOGRAM_DIGIT_BITS)

struct histogram {
  uint64_t count;
  uint64_t sum_ns;
  uint64_t max_ns; /* exact */
  uint64_t _buckets[HISTOGRAM_BUCKETS];
};

/* A histogram of zeros is ready for use. */
void histogram_record(struct histogram *histogram, uint64_t value_ns);
/* Adds what `from` has seen. */
void histogram_merge(struct histogram *into, const struct histogram *from);
/* The smallest value (a bucket's upper end, never above the maximum) that at least `percent` of the records do not exceed; 0 if empty. */
uint64_t histogram_percentile(const struct histogram *histogram, double percent);
uint64_t histogram_mean(const struct histogram *histogram);

#endif
