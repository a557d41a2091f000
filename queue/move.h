/*
 * move: takes what is still live in the oldest segments of the spool to its front, so that a few messages that wait for long do not keep all that
 * was stored after them on disk.
 *
 * Owner: one shard; part of its schedule. The log says from which segment on (spool_on_move); then each record of a message in there is read, or
 * taken from memory, and appended anew with a head that tells of the present; once that is durable the old place is forgotten. A few moves are under
 * way at a time, the rest follows. Without memory or room on disk it goes on later, after any other error when the log asks again.
 *
 * A move is a job of its message: the message stays while it lasts. What ends or is put off meanwhile is told by outcomes, which the log never
 * writes before the copy if they were appended after it (log.h).
 */
#ifndef QUEUE_MOVE_H
#define QUEUE_MOVE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/wheel.h"

struct schedule;
struct move;

struct mover {
  struct schedule *schedule;
  uint32_t segment; /* nothing shall be live in it and in older ones; 0: there is nothing to do */
  bool stopped;
  unsigned moves; /* under way */
  uint64_t bytes; /* ... of records */
  struct move *first;
  uint64_t not_before_ms; /* none is begun until then */
  struct timer timer;
  void (*pinned)(void *context, uint32_t segment); /* NULL: nobody wants to know */
  void *context;
};

/* Also tells the spool of it. The schedule is ready but for this. */
void mover_init(struct mover *mover, struct schedule *schedule);
/* Before the messages are freed. */
void mover_fini(struct mover *mover);
/*
 * `pinned` is told of a segment that has to be cleared for anything to be stored at all: who has records in it, or in older ones, that are of no
 * message of the schedule, shall forget them.
 */
void mover_on_pinned(struct mover *mover, void (*pinned)(void *context, uint32_t segment), void *context);
/* No move is begun any more. */
void mover_stop(struct mover *mover);
/* Something a move may have waited for has happened: it is looked at in the next turn. */
void mover_look(struct mover *mover);

#endif
