/*
 * replay: reads the live segments after a start. Internal to queue/spool.
 */
#ifndef QUEUE_SPOOL_REPLAY_H
#define QUEUE_SPOOL_REPLAY_H

#include "queue/spool/segment.h"

/* As spool_replay. Counts what is live, and finds the end of each segment. */
must_check int segments_replay(struct segments *segments, const struct spool_replay *replay, uint64_t *damaged, struct fmt *why);

#endif
