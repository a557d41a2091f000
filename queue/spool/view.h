/*
 * view: a spool that is read and not run: what its segments are, what is live in it. Nothing is ever written (scan.h).
 *
 * Owner: the caller, one thread; blocks. For adoption, which takes the lock, and for `ringpost spool`, which takes none and may so look at a spool that
 * is in use: what it sees then is of no one moment.
 */
#ifndef QUEUE_SPOOL_VIEW_H
#define QUEUE_SPOOL_VIEW_H

#include "queue/spool/census.h"
#include "queue/spool/log.h"

struct view;

/*
 * `exclusive`: with the lock; E_BUSY: another process has it, or a write of a killed one is still under way. E_NOT_FOUND: no such directory.
 * E_UNSUPPORTED: a newer version of the program wrote it. `why` gets a phrase naming the file.
 */
must_check int view_open(struct view **view, struct io *io, const char *path, bool exclusive, struct fmt *why);
/* Each commit was synced before the next (SPOOL_SYNC). Then a gap in the newest segment is damage if whole commits follow, as spool_replay has it; else it is the end. */
void view_expect_synced(struct view *view);
void view_close(struct view *view);
/* Does a process have the spool in this directory? It is found out by taking the lock for a moment. */
bool view_is_in_use(struct io *io, const char *path);

/* As spool_replay; any number of times. */
must_check int view_replay(struct view *view, const struct spool_replay *replay, uint64_t *damaged, struct fmt *why);
/* A reading for the census: one of its shares. */
must_check int view_count(struct view *view, struct census *census, uint64_t *damaged, struct fmt *why);
/*
 * Reads once more, and hands out the newest record of each message of the census that is live and whole, in the order they lie there; a visit's
 * error ends it, and is returned.
 */
struct view_visitor {
  int (*visit)(void *context, struct census_message *message, struct span record);
  void *context;
};
must_check int view_visit(struct view *view, const struct census *census, const struct view_visitor *visitor, struct fmt *why);
/* One record; `room` has place.length bytes. E_CORRUPT, E_NOT_FOUND: it is not what was replayed. */
must_check int view_read(struct view *view, struct spool_place place, void *room);

/* The segments after a replay, in no order: those that count, and the others. */
struct view_segment {
  const char *path;    /* valid until the next call */
  const char *state;   /* "live", "free", "left over", "no header" */
  uint32_t sequence;   /* 0: it has none */
  uint64_t size_bytes; /* of the file */
  uint64_t end;        /* of a live one: where its records end, */
  uint64_t expected;   /* where the next one's header says they do (0: the newest), */
  uint64_t hole;       /* offset of the first thing that is no record, though records follow (0: none), */
  const char *hole_why;
  uint32_t holes;      /* ... and how many such there are */
  const char *stopped; /* and why the replay ended there (NULL: nothing is behind) */
  uint32_t records;    /* in it, outcomes included */
  uint64_t behind;     /* of the newest: bytes behind the end that are not zero, in the block there */
};
/* `index` from 0 on; false: there are no more. */
bool view_segment(struct view *view, unsigned index, struct view_segment *out);
/* How many sequences are missing between the oldest that counts and the newest. */
unsigned view_gaps(const struct view *view);

#endif
