/*
 * adopt: at a start with fewer shards than last time, the mail of those that are missing goes into the spools of those that are there.
 *
 * Each shard calls it on its own thread before it opens its spool; what one of them does concerns no directory that another touches. It blocks until
 * all is on stable storage. Of the directories of missing shards, NNN >= shards, a shard takes those with NNN % shards == its own number:
 *
 *   shard-NNN ─renamed─> leaving-NNN-to-TTT ─its live mail copied to shard-TTT─> left-NNN-to-TTT ─emptied─> gone
 *                                                                         └────> kept-NNN-N, if anything in it was damaged
 *
 * Each arrow is durable before the next begins, and each step can be done again. While a directory is leaving, its mail belongs to TTT, however many
 * shards the next start has: whoever that start gives TTT to goes on, before TTT's spool is used or is itself adopted. What an earlier try had copied
 * already is known by its id, and is not copied twice. So a message is live in one spool only when any mail moves.
 */
#ifndef QUEUE_SPOOL_ADOPT_H
#define QUEUE_SPOOL_ADOPT_H

#include "queue/spool/log.h"

/* What became of one directory. */
struct adoption {
  unsigned from, to;
  uint64_t messages; /* copied now */
  uint64_t damaged;  /* segments, and messages that lack a part */
  const char *kept;  /* the directory that is left for somebody to look at; NULL: it is gone */
};

struct adopt_options {
  const char *path; /* where the directories are: spool.path */
  unsigned shard, shards;
  struct spool_options spool; /* of the spools to copy to; path, durability and hold_outcomes are not looked at */
  uint64_t memory_bytes;      /* that it may take, about, besides a few MiB */
  uint8_t token_kind;
  void (*adopted)(void *context, const struct adoption *adoption);
  void *context;
};

/*
 * Nothing else may be under way on this io (as spool_open). On error, `why` has a phrase, nothing is lost, and the next start goes on with it:
 * E_NO_SPACE: the disk, or spool.max_size, has no room for the copies. E_BUSY: another process has a spool (for three seconds on).
 */
must_check int adopt_spools(struct io *io, const struct adopt_options *options, struct fmt *why);

#endif
