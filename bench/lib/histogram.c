#include "bench/lib/histogram.h"

#include "bench/lib/counter.h"

enum { HALF = 1 << HISTOGRAM_DIGIT_BITS };
static const uint64_t value_max = (UINT64_C(1) << HISTOGRAM_VALUE_BITS) - 1;

/* Values below 2 * HALF have a bucket each; above, every doubling has HALF buckets. */
static unsigned bucket_of(uint64_t value) {
  if (value < 2 * HALF) return (unsigned)value;
  unsigned shift = 63u - (unsigned)__builtin_clzll(value) - HISTOGRAM_DIGIT_BITS;
  return (shift << HISTOGRAM_DIGIT_BITS) + (unsigned)(value >> shift);
}

static uint64_t bucket_top(unsigned bucket) {
  if (bucket < 2 * HALF) return bucket;
  unsigned shift = (bucket >> HISTOGRAM_DIGIT_BITS) - 1;
  uint64_t digits = bucket - ((uint64_t)shift << HISTOGRAM_DIGIT_BITS);
  return ((digits + 1) << shift) - 1;
}

void histogram_record(struct histogram *histogram, uint64_t value_ns) {
  uint64_t value = value_ns < value_max ? value_ns : value_max;
  counter_add(&histogram->_buckets[bucket_of(value)], 1);
  counter_add(&histogram->count, 1);
  counter_add(&histogram->sum_ns, value);
  counter_raise(&histogram->max_ns, value);
}

void histogram_merge(struct histogram *into, const struct histogram *from) {
  for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) into->_buckets[i] += counter_read(&from->_buckets[i]);
  into->count += counter_read(&from->count);
  into->sum_ns += counter_read(&from->sum_ns);
  counter_raise(&into->max_ns, counter_read(&from->max_ns));
}

uint64_t histogram_percentile(const struct histogram *histogram, double percent) {
  uint64_t count = counter_read(&histogram->count);
  uint64_t max_ns = counter_read(&histogram->max_ns);
  double exact = (double)count * percent / 100.0;
  uint64_t wanted = (uint64_t)exact;
  if ((double)wanted < exact) wanted++;
  if (wanted == 0) wanted = 1;
  uint64_t seen = 0;
  for (unsigned i = 0; i < HISTOGRAM_BUCKETS && count > 0; i++) {
    seen += counter_read(&histogram->_buckets[i]);
    if (seen >= wanted) return bucket_top(i) < max_ns ? bucket_top(i) : max_ns;
  }
  return max_ns;
}

uint64_t histogram_mean(const struct histogram *histogram) {
  uint64_t count = counter_read(&histogram->count);
  return count == 0 ? 0 : counter_read(&histogram->sum_ns) / count;
}
