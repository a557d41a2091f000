/*
 * scan: opens a spool's directory and finds out what each segment in it is (FORMAT.md, "At start"). Internal to queue/spool.
 */
#ifndef QUEUE_SPOOL_SCAN_H
#define QUEUE_SPOOL_SCAN_H

#include "queue/spool/segment.h"

/* Takes the lock, opens all segments, finds out which are live. As spool_open. On error nothing is left open. */
must_check int segments_open(struct segments *segments, struct io *io, const struct spool_options *options, uint8_t token_kind, struct fmt *why);
/*
 * Only to be read: nothing is written, renamed or removed (and made only the lock), and no operation may be started. What is not live is in `retired`, what has no valid
 * header in `unfilled`. `exclusive`: takes the lock, and waits for writes of a killed process to end, as segments_open; else it takes none, and
 * whatever a process that has the spool does meanwhile shows. segments_replay may be called several times.
 */
must_check int segments_open_view(struct segments *segments, struct io *io, const char *path, bool exclusive, struct fmt *why);
/* No operation may be under way. */
void segments_close(struct segments *segments);

#endif
