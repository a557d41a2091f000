/*
 * report: says what is wrong with a configuration, in one line: "ringpost.yaml:12: delivery.idle: '5 parsecs' is no duration (like 300ms, 5s, ...)".
 * Main thread only. Whatever came from the file is escaped and clipped, so the line stays one line and fits.
 */
#ifndef CORE_CONF_REPORT_H
#define CORE_CONF_REPORT_H

#include "core/base/fmt.h"

struct report {
  const char *name; /* of the file; borrowed */
  struct fmt *why;
};

/* Line 0: none is known. An empty path: the file as a whole. Returns `error`, so that a caller can say `return report_error(...)`. */
__attribute__((format(printf, 5, 6))) int report_error(const struct report *report, int error, unsigned line, const char *path, const char *format,
                                                       ...);

/* The bytes in single quotes, escaped, clipped to what a line can hold, in the caller's room; returns the room. */
#define REPORT_QUOTE_ROOM 72
const char *report_quote(char room[REPORT_QUOTE_ROOM], struct span bytes);

#endif
