/*
 * fill: makes new segments ahead of need. A file is made at its full size and its name synced (this blocks, for about a millisecond), then filled
 * with zeros piece by piece: writing over written blocks needs no journal of the file system's, which makes each commit twice as cheap.
 * Internal to queue/spool.
 *
 * Where commits come faster than that, the segment in work is begun before it is done; commits follow behind the zeros.
 */
#ifndef QUEUE_SPOOL_FILL_H
#define QUEUE_SPOOL_FILL_H

#include "queue/spool/segment.h"

/* Creates what is missing and starts the next piece. Sets segments->no_space, or segments->failed. */
void fill_turn(struct segments *segments);
/* The completion of SPOOL_FILL. */
void fill_complete(struct segments *segments, int64_t result);

#endif
