/*
 * segment: the files of a spool and their life: unfilled, free, live, retired, free again (FORMAT.md). Internal to queue/spool.
 *
 * Owner: the spool. Live segments have consecutive sequence numbers and are freed from the oldest on. scan.c finds them at start, fill.c makes new
 * ones, here is what happens in between. Freeing and filling go on in the background of commits.
 */
#ifndef QUEUE_SPOOL_SEGMENT_H
#define QUEUE_SPOOL_SEGMENT_H

#include "queue/spool/log.h"
#include "queue/spool/record.h"

#define SEGMENT_BLOCK 4096    /* the header block; commits begin and end at multiples of it, so that none shares a physical sector with another */
#define SEGMENT_FREE_WANTED 2 /* ahead of need: one to go on with, one that only outcomes and moved records may use when the disk is full */
#define SEGMENT_FREE_KEPT 4   /* more than these are given back to the disk, one a second */

enum segment_state {
  SEGMENT_INVALID,
  SEGMENT_UNFILLED,  /* allocated, zeros still have to be written */
  SEGMENT_FREE,      /* its header block says so on disk */
  SEGMENT_BEGINNING, /* its header block with a sequence number is being written */
  SEGMENT_LIVE,      /* has a sequence number, is replayed after a crash */
  SEGMENT_RETIRED,   /* nothing in it counts, but its header block does not yet say so on disk */
};

struct segment {
  enum segment_state state;
  io_file file;
  uint32_t slot;     /* the number in its file's name: nothing but a name */
  uint32_t sequence; /* of a live or retired one */
  uint64_t salt;
  uint64_t size_bytes;
  uint64_t filled_bytes; /* so far: no commit goes beyond */
  uint64_t end;          /* of what is committed */
  uint64_t previous_end; /* as its header block says */
  uint64_t live_bytes;
  uint32_t live_records;
  uint64_t dead_outcomes; /* may be retired when outcomes up to here, */
  uint64_t dead_commits;  /* and this commit are durable */
  bool recyclable;        /* of the size and alignment that new ones have; else removed when it is free */
  bool closed;            /* takes no more: a write into it found no space */
  uint32_t records;       /* that replay found in it, outcomes included */
  uint64_t hole;          /* offset where the first thing stands that is no record though records follow; 0: none */
  const char *hole_why;   /* of the first hole */
  uint32_t holes;
  const char *stopped; /* why replay went no further, a phrase; NULL: it came to the end of the records, or of the file */
  struct segment *next;
};

struct segment_list {
  struct segment *first, *last;
  unsigned count;
};

/* How far the log is: bytes of outcomes appended, commits written. */
struct segment_mark {
  uint64_t outcomes;
  uint64_t commits;
};

/* The operations a spool has with io, and the token of each: kind, operation, and the index of a read. */
enum spool_operation { SPOOL_COMMIT = 1, SPOOL_SYNC_HEAD, SPOOL_MARK_FREE, SPOOL_FILL, SPOOL_READ };

enum fill_stage { FILL_ZEROS, FILL_MARK, FILL_SYNC };

#define SEGMENT_ZEROS (64u << 10)
#define SEGMENT_PIECE_SLICES 16 /* a piece of filling is this many times the zeros: 1 MiB */

struct segments {
  struct io *io;
  char *path;
  char *name; /* room for a path in it */
  size_t name_size;
  uint8_t token_kind;
  bool direct; /* O_DIRECT works here */
  bool synced; /* no commit is begun before the one before it is durable: SPOOL_SYNC */
  bool view;   /* only to be read (scan.h) */
  bool exclusive;
  unsigned alignment;
  uint64_t size_bytes;
  uint64_t disk_max_bytes, disk_min_free_bytes;
  io_file lock;

  uint32_t tail;         /* the oldest live sequence; sequence + 1 if there is none */
  uint32_t sequence;     /* the newest that was begun; 0: none yet */
  uint64_t sequence_end; /* where its records end */
  struct segment **live; /* ring: index sequence & (capacity - 1); NULL: missing */
  uint32_t live_capacity;
  struct segment *head; /* the one being appended to; NULL before the first commit */
  struct segment *beginning;
  bool spoiled; /* writing a header block failed: the last of the retired may have one of the next sequence on disk */
  struct segment_list unfilled, free, retired;
  struct segment *filling; /* the one the filler works on: out of the list, unfilled or already further on */
  struct segment *marking; /* first of the retired: its header block is being written */
  enum fill_stage fill_stage;
  bool fill_under_way;
  uint32_t slot_next;
  unsigned gaps; /* sequences that should be there, found missing at start */

  struct segment_mark appended, durable; /* kept by the log; appended.commits counts those whose write is done */
  bool no_space;                         /* a new segment could not be had: cleared by the log now and then, to try again */
  bool stalled;                          /* a write into a segment found no space, as copy-on-write file systems do: likewise */
  int failed;                            /* final */
  uint64_t live_bytes, disk_bytes;
  unsigned count;
  unsigned operations; /* under way with io, those of the log too */

  spool_move move_ask;
  void *move_context;
  uint32_t move_asked; /* the tail it was asked for */
  uint64_t move_asked_ms;
  uint64_t given_back_ms;

  uint8_t *block_free; /* the header block of a free segment */
  uint8_t *block;      /* for the header block of the next */
  uint8_t *zeros;
  struct io_slice block_free_slice;
  struct io_slice zero_slices[SEGMENT_PIECE_SLICES];
};

/* NULL: no live segment has it. */
struct segment *segments_find(const struct segments *segments, uint32_t sequence);
/* Puts it where its sequence belongs, between tail and sequence; makes room. */
void segments_enter_live(struct segments *segments, struct segment *segment);
void segment_list_append(struct segment_list *list, struct segment *segment);
struct segment *segment_list_take(struct segment_list *list);
/* Closes and removes the file of a segment that is in no list, and frees it. Its name is gone durably only after io_directory_sync. */
must_check int segment_drop(struct segments *segments, struct segment *segment);

/*
 * The segment that may be begun next. `reserve`: also the last one; without it the last one is offered only if the head, being dead, takes its
 * place. E_BUSY: one is on its way. E_NO_SPACE: none is to be had.
 */
must_check int segments_offer(const struct segments *segments, bool reserve, struct segment **offer);
/* Makes the header block for beginning it, at segments->block, to be written at offset 0 before or with its first records. */
void segments_begin(struct segments *segments, struct segment *offer);
/* That block is durable: the segment is the head. */
void segments_begun(struct segments *segments);
/*
 * There was no space to write it. It goes to the retired; none other is begun before it is marked free: a sequence number must not be on disk twice.
 */
void segments_begin_failed(struct segments *segments);
/* What is left for a commit in the head. */
uint64_t segments_head_room(const struct segments *segments);

void segments_count_live(struct segments *segments, struct segment *segment, uint32_t length);
void segments_forget(struct segments *segments, struct spool_place place);

/* Retires and frees what is dead, asks to move what is in the way. */
void segments_turn(struct segments *segments, uint64_t now_ms);
/* When segments_turn has the next segment to give back to the disk; 0: none. */
uint64_t segments_give_back_ms(const struct segments *segments);
/* The completion of SPOOL_MARK_FREE. */
void segments_marked(struct segments *segments, int64_t result);

/* The path of a file in the spool's directory; valid until the next call. */
const char *segments_path(struct segments *segments, const char *name);
const char *segment_path(struct segments *segments, uint32_t slot);
static inline uint64_t segments_token(const struct segments *s, enum spool_operation operation, uint32_t index) {
  return (uint64_t)s->token_kind << 56 | (uint64_t)operation << 32 | index;
}
/* Free segments, and those that will be. */
static inline unsigned segments_spare(const struct segments *s) {
  bool filling = s->filling != NULL && s->filling->state == SEGMENT_UNFILLED;
  return s->unfilled.count + s->free.count + s->retired.count + (filling ? 1 : 0);
}
/* The head, or the one being begun, is what was kept back for outcomes and moved records. */
bool segments_is_last(const struct segments *segments);
/* Without so much room in the head, and without another segment, new records are refused before their content is taken. */
uint64_t segments_room_kept(const struct segments *segments);
bool segments_full(const struct segments *segments);

#endif
