/*
 * log: the shard's durable store of messages: append-only segments on disk with group commit (layout: FORMAT.md).
 *
 * Owner: one shard. The log knows messages as opaque bytes with an id: the queue decides what an envelope looks like (record.h).
 * All that is appended while a commit is under way goes out together in the next: one write, one sync. Segments are filled with zeros once,
 * then recycled, oldest first; while the oldest still holds live messages and there is too much disk in use, these are copied to the front.
 *
 *   spool_append(spool, &entry);         // end of DATA
 *   spool_append_outcome(spool, bytes);          // a recipient's end or deferral
 *   spool_turn(spool);                           // once per loop turn: starts a commit if there is something to and none is under way
 *   ... entry.durable(&entry, 0)                 // later, from spool_complete: now the 250 may go out
 *
 * Errors: E_NO_SPACE for an entry means that nothing of it counts: refuse the message, later ones may succeed. E_TOO_LONG: the record is longer than
 * a segment. Any other error is of a write or sync and final (spool_failed): every later append fails with it.
 *
 * Order: what was appended earlier is never durable later; but within one commit the outcomes stand behind the records, so on replay an outcome may
 * follow a record that knows of it already.
 */
#ifndef QUEUE_SPOOL_LOG_H
#define QUEUE_SPOOL_LOG_H

#include "core/base/wheel.h"
#include "core/io/io.h"

struct spool;

enum spool_durability { SPOOL_SYNC, SPOOL_LAZY, SPOOL_MEMORY };

struct spool_options {
  const char *path; /* the shard's own directory; made if missing, locked while open */
  enum spool_durability durability;
  uint64_t segment_size_bytes;  /* default 64 MiB, at least 64 KiB, rounded down to 4 KiB. To hold any record: SPOOL_RECORD_MAX + 4 KiB */
  uint64_t disk_max_bytes;      /* of all segments together, at least three; 0: what the disk has. Beyond: E_NO_SPACE */
  uint64_t disk_min_free_bytes; /* no segment is made that would leave less to others; with disk_sharers a sixteenth of the disk at most */
  unsigned disk_sharers;        /* not 0: so many spools share the disk, this one included; segments are made smaller if its part holds but few */
  uint32_t lazy_sync_ms;        /* SPOOL_LAZY: default 100 */
  uint32_t outcome_delay_ms;    /* a group of outcomes alone may wait this long for company: default 5 */
  bool hold_outcomes;           /* they are committed only when they are released */
  bool buffered;                /* through the page cache even where direct I/O works: for comparison */
};

/* Where a message lies on disk. */
struct spool_place {
  uint32_t segment; /* sequence number of the segment, never 0 for a stored message */
  uint32_t length;  /* of the record, padded */
  uint64_t offset;
};

/*
 * A record on its way to disk: a whole message, or a part of a long one (record.h). The caller fills the first five members; `slices` together are
 * one whole record but for the header's segment and checksum, which the log writes (into the first slice) when it knows the place. Base addresses are
 * aligned to SPOOL_ALIGNMENT; each length is a multiple of spool_padding, zero-padded. The memory stays untouched until `durable` is called, and may be
 * read during that time.
 */
#define SPOOL_SEGMENT_FIT_MIN (8ull << 20) /* not smaller than that: they have to hold any record */
#define SPOOL_ALIGNMENT 4096               /* of memory */
#define SPOOL_RECORD_MAX (4u << 20)        /* bytes of one record */
struct spool_entry {
  struct io_slice *slices;
  unsigned slices_count; /* at most SPOOL_SLICES_MAX */
  bool store;            /* write it even in SPOOL_MEMORY mode (first deferral, parts of long messages, shutdown) */
  bool move;             /* a new copy of a stored record: may use the room that is kept back for outcomes when the disk is full */
  void (*durable)(struct spool_entry *entry, int error);
  struct spool_place place; /* set before durable is called; segment 0: kept in memory only (SPOOL_MEMORY) */
  struct spool_entry *_next;
  uint64_t _outcomes; /* what had been appended of them before it */
  uint32_t _length;
  int _error;
};
#define SPOOL_SLICES_MAX 128

struct spool_stats { /* monotonic unless said; read by the owner */
  uint64_t commits, committed_messages, committed_outcomes, copied_forward;
  uint64_t bytes_written;           /* with padding and headers, without the zeros of new segments */
  uint64_t outcomes_lost;           /* could not be stored: failed, or full for so long that they took too much memory */
  uint64_t segments, segments_free; /* present numbers */
  uint64_t disk_bytes;              /* present */
  uint64_t segment_size_bytes;      /* of new ones */
};

/*
 * Opens the directory, and finds the segments; nothing is replayed yet. E_BUSY: another process has it. `why` gets a phrase naming the file.
 * Nothing else may be under way on this io yet: opening waits (5 s at most) for writes of a killed process to end, and drops completions.
 */
must_check int spool_open(struct spool **spool, struct io *io, struct wheel *wheel, const struct spool_options *options, uint8_t token_kind,
                          struct fmt *why);
/*
 * Whatever is not committed is given up: commit first with spool_idle as the sign. Waits for what the kernel still has of ours, dropping the
 * completions of others that come meanwhile: call it when all else has ended. No callback is called any more.
 */
void spool_close(struct spool *spool);
/* Record lengths must be a multiple of this. */
unsigned spool_padding(const struct spool *spool);

/*
 * Reads all live segments, oldest first, in the order they were written, calling `record` for each message or part and `outcome` for each outcome; bytes are valid
 * during the call. Blocks; called once, before the first append. Damage ends a segment (a prefix of valid records counts); `damaged` counts segments that ended so
 * with data behind. Every record handed out counts as live until spool_forget, which may be called from within the callbacks.
 */
struct spool_replay {
  void (*record)(void *context, struct span record, struct spool_place place);
  void (*outcome)(void *context, struct span outcome);
  void *context;
};
must_check int spool_replay(struct spool *spool, const struct spool_replay *replay, uint64_t *damaged, struct fmt *why);

/* Starts storing. entry->durable is called from a later spool_complete or spool_turn, never from here. */
void spool_append(struct spool *spool, struct spool_entry *entry);
/* Copies the bytes (1 to SPOOL_OUTCOME_MAX) into the group. They become durable with the group; nobody is told. E_FULL cannot happen: room for outcomes is kept. */
#define SPOOL_OUTCOME_MAX 64
void spool_append_outcome(struct spool *spool, struct span outcome);
/*
 * With hold_outcomes: outcomes before this position may be committed, with the next spool_turn. Positions count what was appended, spool_outcomes is
 * the present one; they only grow. Records never wait for outcomes; outcomes that are held keep the spool from being idle, and segments that wait
 * for them from being retired.
 */
void spool_release_outcomes(struct spool *spool, uint64_t position);
uint64_t spool_outcomes(const struct spool *spool);
/* Up to where they are released; without hold_outcomes always all. */
uint64_t spool_outcomes_released(const struct spool *spool);
/*
 * The record at this place is of no more use: its message has ended and the outcomes that say so are appended, or a newer copy is durable. Segments
 * are freed oldest first, once nothing in them is live and those outcomes are durable. Harmless for segment 0.
 */
void spool_forget(struct spool *spool, struct spool_place place);

/*
 * When much more disk is used than live records need, the log asks the queue to move what is live in the oldest segment: the queue appends the present state of each such
 * record anew, and calls spool_forget for the old place when the new one is durable. Asked again only after that segment was freed or a minute has passed.
 * `cornered`: without it nothing new can be stored.
 */
typedef void (*spool_move)(void *context, uint32_t segment, bool cornered);
void spool_on_move(struct spool *spool, spool_move ask, void *context);

/*
 * Reads a stored record, or a piece of one, back into a slice (aligned as above). Completes with spool_read.done, from a later spool_complete or
 * spool_turn: the slice's length, or an error. A whole record is also checked: E_CORRUPT. The place must not be forgotten meanwhile.
 */
struct spool_read {
  struct spool_place place;
  uint32_t offset; /* within the record: a multiple of spool_padding */
  struct io_slice slice;
  void (*done)(struct spool_read *read, int64_t result);
  struct spool_read *_next;
};
void spool_read_start(struct spool *spool, struct spool_read *read);

/* Is this, the whole record as it was read from there, what was written? E_CORRUPT, E_NOT_FOUND. For records that were read in pieces. */
must_check int spool_check(const struct spool *spool, struct spool_place place, const struct io_slice *slices, unsigned slices_count);

/* To be called once per turn of the loop. What is appended afterwards waits for the next, which comes without sleep (by a timer on the wheel). */
void spool_turn(struct spool *spool, uint64_t now_ms);
/* For completions whose token has spool_open's token_kind in its top 8 bits. */
void spool_complete(struct spool *spool, const struct io_completion *completion);
/* Nothing appended is waiting, under way, or not yet synced. */
bool spool_idle(const struct spool *spool);
/* 0, or the final error. */
int spool_failed(const struct spool *spool);
/* No room on disk at this moment: refuse new messages before taking their content. */
bool spool_full(const struct spool *spool);
const struct spool_stats *spool_stats(const struct spool *spool);

#endif
