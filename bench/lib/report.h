/*
 * report: the figures at the end of a run, once described, printed as an aligned table for people or as one JSON object.
 *
 *   struct report r;
 *   report_begin(&r, stdout, json, "source");
 *   report_group(&r, "injection_ms", "injection latency");
 *   report_real(&r, "p50", "p50", 1.25, 3, "ms");
 *   report_group_end(&r);
 *   report_end(&r);
 */
#ifndef BENCH_LIB_REPORT_H
#define BENCH_LIB_REPORT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "bench/lib/histogram.h"

struct report {
  FILE *_to;
  bool _json;
  bool _comma;
  unsigned _depth;
};

void report_begin(struct report *report, FILE *to, bool json, const char *title);
void report_end(struct report *report);
void report_group(struct report *report, const char *key, const char *label);
void report_group_end(struct report *report);

/* `unit` is for people only; name the unit in the key too where it is not evident. */
void report_count(struct report *report, const char *key, const char *label, uint64_t value, const char *unit);
void report_real(struct report *report, const char *key, const char *label, double value, unsigned decimals, const char *unit);
void report_text(struct report *report, const char *key, const char *label, const char *text);
/* p50, p90, p99, p99.9, max, mean and count as a group of milliseconds. */
void report_latency(struct report *report, const char *key, const char *label, const struct histogram *histogram);

/* 1234567 as "1,234,567"; room holds at least 28 bytes and is returned. */
const char *report_thousands(uint64_t value, char *room);

#endif
