/*
 * writer: puts a shard's event lines into files events.path/ringpost-SHARD-STAMP.jsonl.
 *
 * Owner: one shard. Lines are gathered in memory and written by the shard's ring in large appends, at the latest FLUSH_MS after the first. If the disk cannot keep up or fails,
 * lines are dropped and counted (never the mail). A new file begins after `file_size_bytes`. Whole lines only, except after a crash.
 */
#ifndef CORE_EVENT_WRITER_H
#define CORE_EVENT_WRITER_H

#include "core/event/counters.h"
#include "core/event/event.h"
#include "core/io/io.h"

struct event_writer;

struct event_writer_options {
  const char *path;         /* directory, made if missing; NULL: events are counted and forgotten */
  unsigned shard;
  uint64_t file_size_bytes;
  unsigned files_max;       /* 0: keep all */
  struct counters *counters;
};

must_check int event_writer_open(struct event_writer **writer, struct io *io, const struct event_writer_options *options, uint8_t token_kind, struct fmt *why);
/* Writes what is left, blocking, and closes. */
void event_writer_close(struct event_writer *writer);

void event_write(struct event_writer *writer, const struct event *event);
/* Once a loop turn: starts a write if there is enough, or old enough. `now` forces what there is out. */
void event_writer_turn(struct event_writer *writer, uint64_t now_ms, bool now);
/* When event_writer_turn wants to be called again at the latest; UINT64_MAX: nothing waits. */
uint64_t event_writer_due_ms(const struct event_writer *writer);
void event_writer_complete(struct event_writer *writer, const struct io_completion *completion);

#endif
