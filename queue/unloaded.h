/*
 * unloaded: the messages that are on disk and found no room in memory at the start: where each lies, and what is to be known of it so that it can be
 * taken up later as it is now. Pure but for malloc.
 *
 * Owner: one shard; part of its loader (loader.h). A start fills it (restore.h); what comes later is in memory anyhow, so nothing is ever added at run
 * time. It takes about 100 bytes for a message, 16 more for each further recipient that something happened to: outside of the slab, as
 * messages must not be lost sight of for want of memory. All of it is given back when the last has gone.
 *
 *   index = unloaded_add(&list, &header, envelope, place);    // at the start, in the order of replay
 *   ended = unloaded_outcome(&list, index, &outcome);
 *   unloaded_begin(&list);                                    // now they are in order
 *   while ((message = unloaded_oldest(&list)) != NULL) ...    // take it, and then unloaded_remove, or unloaded_put_back
 */
#ifndef QUEUE_UNLOADED_H
#define QUEUE_UNLOADED_H

#include "queue/message.h"

/* Of a long message: as far as they are known, those that are not with segment 0. */
struct unloaded_parts {
  struct spool_place *place; /* malloc */
  uint32_t count, capacity;
  uint64_t bytes; /* of content */
};

/* The newest of a recipient. */
struct unloaded_outcome {
  uint64_t due_ms;
  uint16_t recipient; /* index */
  uint16_t attempts;
  uint8_t kind;  /* enum record_outcome_kind: an end or DEFERRED; INVALID: only marks */
  uint8_t marks; /* of RECORD_MARKS */
};

enum unloaded_state { UNLOADED_INVALID = 0, UNLOADED_WAITS, UNLOADED_TAKEN, UNLOADED_FAILED, UNLOADED_GONE };

struct unloaded_message {
  uint64_t id;
  uint64_t created_ms; /* 0: its envelope cannot be read */
  uint64_t envelope_hash;
  struct spool_place place;     /* of the message record */
  struct unloaded_parts *parts; /* owned; NULL: it has none */
  union {
    struct unloaded_outcome one;
    struct unloaded_outcome *many; /* owned, in the order of `recipient` */
  } outcomes;
  uint32_t envelope_size;
  uint32_t parts_count; /* as the record says */
  uint32_t oldest;      /* segment in which anything of it lies */
  uint16_t outcomes_count;
  uint16_t first;      /* index of its first recipient, */
  uint16_t recipients; /* ... and of how many from there on without a gap; 0: only the record can tell */
  uint16_t ended;      /* ... of these */
  uint8_t state;       /* enum unloaded_state */
  bool untold;         /* its Reception event may be missing; after unloaded_add: its record is as it came */
  bool said;           /* it could not be read, and that was told of */
};

struct unloaded {
  struct unloaded_message *message; /* after unloaded_begin in the order of `oldest`, then of their places */
  uint32_t *by_age;                 /* indices in the order of created_ms */
  uint32_t count, capacity;
  uint32_t present; /* not gone */
  uint32_t untold;  /* ... of these */
  uint32_t unused;  /* during the start: the first of those that are gone, plus one; each has the next as its `oldest` */
  uint32_t failed;
  struct unloaded_cursor {
    uint32_t gone, next; /* before them all are gone; or do not wait */
  } place, age;
};

/* Gives all back. A zeroed list is an empty one. */
void unloaded_fini(struct unloaded *list);

/* ---- at the start ---- */

/* The index is good until unloaded_begin. An envelope that cannot be read is no error here. Without memory the program ends. */
uint32_t unloaded_add(struct unloaded *list, const struct record_header *header, struct span envelope, struct spool_place place);
/* Keeps what is new in it. True: now all its recipients have ended, the message is of no more use. */
bool unloaded_outcome(struct unloaded *list, uint32_t index, const struct record_outcome *outcome);
void unloaded_begin(struct unloaded *list);

/* ---- later ---- */

/* The oldest by its place, or by its creation, that waits; NULL: none. It is still waiting: unloaded_take. */
struct unloaded_message *unloaded_oldest(struct unloaded *list);
struct unloaded_message *unloaded_eldest(struct unloaded *list);
void unloaded_take(struct unloaded *list, struct unloaded_message *message);
/* Waits again; or, if it failed, after unloaded_retry. */
void unloaded_put_back(struct unloaded *list, struct unloaded_message *message, bool failed);
void unloaded_retry(struct unloaded *list);
/* For good; also of one that does not wait, and at the start. What it owns is freed. */
void unloaded_remove(struct unloaded *list, struct unloaded_message *message);
/* Looks for one by its id, from *cursor (0 at first) on, at no more than `budget`. True: it is over; *found: it is one of them. */
must_check bool unloaded_find(const struct unloaded *list, uint64_t id, uint32_t *cursor, unsigned budget, bool *found);
/* Lies anything of them in this segment or an older one? */
bool unloaded_holds(struct unloaded *list, uint32_t segment);

/* ---- of one ---- */

/* Is this the envelope that was there at the start? */
bool unloaded_is_envelope(const struct unloaded_message *message, struct span envelope);
/* What has happened to it since its record was written. */
void unloaded_apply(const struct unloaded_message *from, struct message *message);

#endif
