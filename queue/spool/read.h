/*
 * read: stored records on their way back into memory. Internal to queue/spool.
 */
#ifndef QUEUE_SPOOL_READ_H
#define QUEUE_SPOOL_READ_H

#include "queue/spool/segment.h"

#define READS_MAX 256 /* under way at once; more wait their turn */

struct reads {
  struct spool_read *under_way[READS_MAX];
  uint16_t unused[READS_MAX]; /* stack of indices */
  unsigned unused_count;
  struct spool_read *first, *last; /* waiting */
};

void reads_init(struct reads *reads);
void reads_append(struct reads *reads, struct spool_read *read);
/* Starts what waits. */
void reads_turn(struct reads *reads, struct segments *segments);
/* As spool_check. */
must_check int record_check(const struct segments *segments, struct spool_place place, const struct io_slice *slices, unsigned slices_count);
void reads_complete(struct reads *reads, const struct segments *segments, uint32_t index, int64_t result);

#endif
