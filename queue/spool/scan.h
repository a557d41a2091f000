/*
 * scan: opens a spool's directory and finds out what each segment in it is (FORMAT.md, "At start"). Internal to queue/spool.
 */
#ifndef QUEUE_SPOOL_SCAN_H
#define QUEUE_SPOOL_SCAN_H

#include "queue/spool/segment.h"

/* Takes the lock, opens all segments, finds out which are live. As spool_open. On error nothing is left open. */
must_check int segments_open(struct segments *segments, struct io *io, const struct spool_options *options, uint8_t token_kind, struct fmt *why);
/* No operation may be under way. */
void segments_close(struct segments *segments);

#endif
