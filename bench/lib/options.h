/*
 * options: command line options from a table, with --help made from the same table. `--name VALUE` and `--name=VALUE`.
 *
 *   const struct option table[] = {
 *     {"sessions", OPTION_COUNT, &plan.sessions, "N", "connections to hold open", NULL},
 *     {"json", OPTION_FLAG, &json, NULL, "report as JSON on standard output", NULL},
 *   };
 *   options_run(&usage, table, sizeof table / sizeof *table, argc, argv);
 */
#ifndef BENCH_LIB_OPTIONS_H
#define BENCH_LIB_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/must.h"
#include "core/base/span.h"

enum option_kind {
  OPTION_NONE,
  OPTION_TITLE,    /* no option: `help` is a heading in the list of --help */
  OPTION_FLAG,     /* bool: becomes true */
  OPTION_OFF,      /* bool: becomes false */
  OPTION_COUNT,    /* uint64_t: 100000, 100k, 2M */
  OPTION_SIZE,     /* uint64_t, bytes: 4096, 4KiB, 50MiB */
  OPTION_DURATION, /* uint64_t, nanoseconds: 300ms, 5s, 10m, 4h; a bare number is seconds */
  OPTION_TEXT,     /* const char *: points into argv */
  OPTION_CHOICE,   /* unsigned: the index into `choices` */
  OPTION_LIST,     /* struct option_list: may be given again and again */
};

#define OPTION_LIST_MAX 64
struct option_list {
  const char *items[OPTION_LIST_MAX];
  unsigned count;
};

struct option {
  const char *name;
  enum option_kind kind;
  void *target; /* holds the default before */
  const char *metavar;
  const char *help;    /* may have several lines; the default is for the text to tell */
  const char *choices; /* "none|command|message" */
};

struct option_usage {
  const char *program;
  const char *synopsis;
  const char *about; /* lines before and after the table */
  const char *more;
};

/* Fills the targets. E_SYNTAX: `why` (room of `why_size`) says what was wrong, in one line. */
must_check int options_parse(const struct option *table, size_t count, int argc, char **argv, char *why, size_t why_size);

/* options_parse for main(): --help prints to standard output and exits 0; an error goes to standard error and exits 2. */
void options_run(const struct option_usage *usage, const struct option *table, size_t count, int argc, char **argv);

/* The values by themselves. */
must_check bool option_count(struct span text, uint64_t *value);
must_check bool option_size(struct span text, uint64_t *bytes);
must_check bool option_duration(struct span text, uint64_t *ns);

#endif
