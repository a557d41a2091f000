/*
 * inside: what the files of the log share: the spool of a shard, and what waits in it. For log.c and commit.c only.
 *
 *   log.c      takes what is appended, looks at the time, tells what has ended
 *   commit.c   the group that is written: where it goes, what it takes, what its end means; the sync of what was written without one
 */
#ifndef QUEUE_SPOOL_INSIDE_H
#define QUEUE_SPOOL_INSIDE_H

#include "queue/spool/log.h"
#include "queue/spool/read.h"
#include "queue/spool/segment.h"

#define OUTCOMES_RECORD_MAX (64u << 10) /* bytes of the record of a group of outcomes, but for the filling up to a whole block */

struct entries {
  struct spool_entry *first, *last;
};

/* What waits of outcomes: frames (length byte, bytes), a run of memory that moves to the front when its end is reached. */
struct outcomes {
  uint8_t *bytes;
  size_t first, len, capacity;
  bool due; /* waited long enough for company */
};

/* The commit under way. */
struct group {
  bool under_way;
  bool begins; /* the segment: its header block is the first slice */
  struct segment *segment;
  struct entries entries;
  uint64_t offset; /* of the first record */
  uint64_t bytes;  /* of the records */
  unsigned slices_count;
  size_t outcome_bytes;
  unsigned outcomes;
};

struct spool {
  struct segments segments;
  struct wheel *wheel;
  enum spool_durability durability;
  uint32_t lazy_sync_ms, outcome_delay_ms;
  uint64_t now_ms;
  struct entries waiting;
  struct entries finished; /* with their _error, to be told in the next turn */
  struct outcomes outcomes;
  uint64_t released; /* position of the first outcome that is held; UINT64_MAX: none ever is */
  struct group group;
  struct segment *unsynced; /* written to without sync; NULL: none */
  bool sync_under_way;
  struct segment_mark written, sync_mark; /* what writes have reached; what the sync under way will make durable */
  struct timer outcome_timer, sync_timer, space_timer, turn_timer, give_timer;
  struct reads reads;
  struct spool_stats stats;
  uint8_t *outcome_block;
  struct io_slice slices[IO_SLICES_MAX];
};

/* ---- entries ---- */

static inline void entries_append(struct entries *entries, struct spool_entry *entry) {
  entry->_next = NULL;
  if (entries->first == NULL) {
    entries->first = entry;
  } else {
    entries->last->_next = entry;
  }
  entries->last = entry;
}

static inline struct spool_entry *entries_take(struct entries *entries) {
  struct spool_entry *entry = entries->first;
  if (entry != NULL) entries->first = entry->_next;
  return entry;
}

/* ---- log.c ---- */
/* Its `durable` is called in the next turn. */
void spool_finish(struct spool *spool, struct spool_entry *entry, int error);
/* A write or sync failed: nothing is stored any more, and whoever waits hears of it. */
void spool_fail(struct spool *spool, int error);

/* ---- commit.c ---- */
/* If there is something to commit and nothing under way. */
void commit_start(struct spool *spool);
void commit_complete(struct spool *spool, int64_t result);
/* Of what was written without one: SPOOL_LAZY and SPOOL_MEMORY, and once after a start. */
void commit_sync(struct spool *spool);
void commit_synced(struct spool *spool, int64_t result);

#endif
