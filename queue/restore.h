/*
 * restore: the messages of a shard come back from its spool, once, at a start.
 *
 * Owner: the shard, before its first turn. Blocks. It takes three quarters of the memory (the slab) for messages at most, so that there is room for jobs
 * and content; what it has to know of ids while it reads is beside that, and given back at its end.
 *
 *   schedule_init(&schedule, ...);
 *   restore_schedule(&schedule, &newest_id, &damaged, &why);
 *   schedule_begin(&schedule);
 */
#ifndef QUEUE_RESTORE_H
#define QUEUE_RESTORE_H

#include "core/base/fmt.h"
#include "queue/schedule.h"

/*
 * Reads the spool back into an empty schedule; messages are known afterwards, and schedule_begin gives them out. What does not fit
 * stays on disk and is left to the loader (loader.h). Those that nothing happened to, unless an orderly stop followed, are `untold`.
 * Errors as spool_replay.
 */
must_check int restore_schedule(struct schedule *schedule, uint64_t *newest_id, uint64_t *damaged, struct fmt *why);

#endif
