/*
 * writer: puts a shard's event lines into files events.path/ringpost-SHARD-STAMP.jsonl.
 *
 * Owner: one shard. Lines are gathered in memory and written by the shard's ring in large appends, at the latest EVENT_FLUSH_MS after the first. If
 * the disk cannot keep up or fails, lines wait as long as there is room, then they are dropped and counted (never the mail); a failing write is tried
 * again once a second, into a new file. STAMP is the wall clock in milliseconds, and greater than that of every file before, so that names sort by
 * age. A new file begins before `file_size_bytes` is passed. Whole lines only, except after a crash.
 *
 *   event_write(w, &event);                              // any number, during a turn
 *   event_writer_turn(w, now_ms, false);                 // end of the turn; sleep until event_writer_due_ms at most
 *   event_writer_complete(w, completion);                // completions with our token_kind
 *   while (!event_writer_idle(w)) { event_writer_turn(w, now_ms, true); ... wait for completions ... }   // shutting down, then event_writer_close
 */
#ifndef CORE_EVENT_WRITER_H
#define CORE_EVENT_WRITER_H

#include "core/event/counters.h"
#include "core/event/event.h"
#include "core/io/io.h"

struct event_writer;

#define EVENT_FLUSH_MS 5              /* outcomes wait for their lines, as they do for each other in the spool; 200 writes a second cost little */
#define EVENT_FLUSH_BYTES (64u << 10) /* enough to make one write cheap for each of its lines (about 130) */
#define EVENT_RETRY_MS 1000           /* between tries while the disk fails */
#define EVENT_STALL_MS 1000           /* nobody waits longer than twice this for a line to be written */

struct event_writer_options {
  const char *path; /* directory, made if missing; NULL: events are counted and forgotten */
  unsigned shard;
  uint64_t file_size_bytes; /* 0: one file for ever */
  unsigned files_max;       /* of this shard, the present one included: the oldest are removed. 0: keep all */
  struct counters *counters;
};

/* Makes the directory and the first file. On error `why` gets a phrase naming the path. Strings of the options are copied. */
must_check int event_writer_open(struct event_writer **writer, struct io *io, const struct event_writer_options *options, uint8_t token_kind,
                                 struct fmt *why);
/* Writes what is left, blocking, and closes. If a write is under way it waits for it with io_wait, which loses completions of others: drain first
   (event_writer_idle). NULL is fine. */
void event_writer_close(struct event_writer *writer);
/* Nothing gathered and nothing under way? */
bool event_writer_idle(const struct event_writer *writer);

/* Counts the event and gathers its line; more recipients than fit one line become several lines. */
void event_write(struct event_writer *writer, const struct event *event);
/* Once a loop turn: starts a write if there is enough, or old enough. `now` forces what there is out. `now_ms` is any monotonic clock. */
void event_writer_turn(struct event_writer *writer, uint64_t now_ms, bool now);
/*
 * How many lines there were until now, and how many of them are settled: given to the kernel, so that they survive the process, or lost, or waiting
 * for the disk for EVENT_STALL_MS (to twice that). Both only grow. What must not happen before a line is written waits until `settled` has reached what
 * `gathered` was then.
 */
uint64_t event_writer_gathered(const struct event_writer *writer);
uint64_t event_writer_settled(const struct event_writer *writer);
/* E_OK; or why lines wait, or are lost: the last write, or the last try to begin a file, failed with this. */
int event_writer_error(const struct event_writer *writer);
/* When event_writer_turn wants to be called again at the latest; UINT64_MAX: nothing waits. */
uint64_t event_writer_due_ms(const struct event_writer *writer);
void event_writer_complete(struct event_writer *writer, const struct io_completion *completion);

#endif
