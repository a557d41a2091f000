/*
 * replay: reads the live segments after a start. Internal to queue/spool.
 */
#ifndef QUEUE_SPOOL_REPLAY_H
#define QUEUE_SPOOL_REPLAY_H

#include "queue/spool/segment.h"

/* As spool_replay. Counts what is live, and finds the end of each segment. */
must_check int segments_replay(struct segments *segments, const struct spool_replay *replay, uint64_t *damaged, struct fmt *why);

/*
 * After segments_replay. What was read of the newest through the page cache is written again: it may look clean there and be on no disk, after a sync that failed. On a disk that gives no more segments each start would use up one, and soon there would be none for outcomes: then the newest goes on to be the head.
 * What stood behind its last record, of a commit that did not come to its end, is made zero first, and all of it is synced. Blocks. *durable: that was done.
 */
must_check int segments_go_on(struct segments *segments, bool *durable, struct fmt *why);

#endif
