#include "bench/lib/report.h"

#include <string.h>

enum { LABEL_WIDTH = 34, VALUE_WIDTH = 16 };

const char *report_thousands(uint64_t value, char *room) {
  char digits[24];
  int count = snprintf(digits, sizeof digits, "%llu", (unsigned long long)value);
  char *to = room;
  for (int i = 0; i < count; i++) {
    if (i > 0 && (count - i) % 3 == 0) *to++ = ',';
    *to++ = digits[i];
  }
  *to = '\0';
  return room;
}

static void json_string(FILE *to, const char *text) {
  fputc('"', to);
  for (const unsigned char *c = (const unsigned char *)text; *c != '\0'; c++) {
    if (*c == '"' || *c == '\\') {
      fprintf(to, "\\%c", *c);
    } else if (*c < 0x20 || *c > 0x7e) {
      fprintf(to, "\\u%04x", *c);
    } else {
      fputc(*c, to);
    }
  }
  fputc('"', to);
}

static void json_key(struct report *report, const char *key) {
  if (report->_comma) fputc(',', report->_to);
  report->_comma = true;
  json_string(report->_to, key);
  fputc(':', report->_to);
}

static void table_row(struct report *report, const char *label, const char *value, const char *unit) {
  int indent = 2 * (int)report->_depth;
  fprintf(report->_to, "%*s%-*s %*s%s%s\n", indent, "", LABEL_WIDTH - indent, label, VALUE_WIDTH, value, unit[0] == '\0' ? "" : " ", unit);
}

void report_begin(struct report *report, FILE *to, bool json, const char *title) {
  *report = (struct report){to, json, false, 0};
  if (json) {
    fputc('{', to);
    report_text(report, "program", "program", title);
  } else {
    fprintf(to, "%s\n", title);
    report->_depth = 1;
  }
}

void report_end(struct report *report) {
  if (report->_json) fputs("}\n", report->_to);
  fflush(report->_to);
}

void report_group(struct report *report, const char *key, const char *label) {
  if (report->_json) {
    json_key(report, key);
    fputc('{', report->_to);
    report->_comma = false;
  } else {
    fprintf(report->_to, "%*s%s\n", 2 * (int)report->_depth, "", label);
    report->_depth++;
  }
}

void report_group_end(struct report *report) {
  if (report->_json) {
    fputc('}', report->_to);
    report->_comma = true;
  } else {
    report->_depth--;
  }
}

void report_count(struct report *report, const char *key, const char *label, uint64_t value, const char *unit) {
  char room[28];
  if (report->_json) {
    json_key(report, key);
    fprintf(report->_to, "%llu", (unsigned long long)value);
  } else {
    table_row(report, label, report_thousands(value, room), unit);
  }
}

void report_real(struct report *report, const char *key, const char *label, double value, unsigned decimals, const char *unit) {
  char room[64];
  snprintf(room, sizeof room, "%.*f", (int)decimals, value);
  if (report->_json) {
    json_key(report, key);
    fputs(room, report->_to);
  } else {
    table_row(report, label, room, unit);
  }
}

void report_text(struct report *report, const char *key, const char *label, const char *text) {
  if (report->_json) {
    json_key(report, key);
    json_string(report->_to, text);
  } else {
    table_row(report, label, text, "");
  }
}

void report_latency(struct report *report, const char *key, const char *label, const struct histogram *histogram) {
  static const struct {
    const char *key;
    double percent;
  } points[] = {{"p50", 50}, {"p90", 90}, {"p99", 99}, {"p99_9", 99.9}};
  report_group(report, key, label);
  for (unsigned i = 0; i < sizeof points / sizeof *points; i++) {
    report_real(report, points[i].key, points[i].percent == 99.9 ? "p99.9" : points[i].key,
                (double)histogram_percentile(histogram, points[i].percent) / 1e6, 3, "ms");
  }
  report_real(report, "max", "max", (double)histogram->max_ns / 1e6, 3, "ms");
  report_real(report, "mean", "mean", (double)histogram_mean(histogram) / 1e6, 3, "ms");
  report_count(report, "count", "samples", histogram->count, "");
  report_group_end(report);
}
