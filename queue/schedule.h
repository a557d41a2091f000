/*
 * schedule: all messages of a shard between their 250 and their last outcome: who is due now, who later, what is recorded of it.
 *
 * Owner: one shard. The outgoing side is told of each recipient that is due (`due`), and answers, sooner or later, with exactly one of schedule_done and
 * schedule_defer. What happened is appended to the spool; the last outcome of a message frees it and its place on disk.
 *
 *   message: schedule_add -> READY -due-> (attempt) -> schedule_done            -> freed after the last
 *                              ^------- timer ------- schedule_defer
 */
#ifndef QUEUE_SCHEDULE_H
#define QUEUE_SCHEDULE_H

#include "core/event/counters.h"
#include "core/shard/shard.h"
#include "queue/domain_queue.h"
#include "queue/loader.h"
#include "queue/message.h"
#include "queue/move.h"

struct load;
struct store;
typedef void (*schedule_due)(void *context, struct message *message, unsigned recipient);

struct message_list {
  struct message *first, *last;
};

/* Within each, in the order of message->oldest, so that what lies in the oldest segment is in front; and that is the order they were stored in. */
enum schedule_list {
  SCHEDULE_STORED,
  SCHEDULE_LONG,     /* stored in parts */
  SCHEDULE_LATE,     /* taken up after the start, in parts or not, and where it lay then */
  SCHEDULE_UNSTORED, /* only in memory */
  SCHEDULE_LISTS,
};

struct schedule {
  struct shard *shard;
  struct slab *slab;
  struct spool *spool;
  struct counters *counters;
  schedule_due due;
  void *context;
  struct message_list list[SCHEDULE_LISTS]; /* of all messages */
  struct mover mover;
  uint64_t messages;
  struct loader loader;
  struct domain_queues domains;
  uint64_t unloaded;          /* messages on disk that found no room in memory yet */
  uint64_t ended;             /* messages that have been freed, so far */
  uint64_t waiting, ready;    /* recipients */
  uint64_t held;              /* of those that wait */
  struct store *spare;        /* for storing a message when the slab has nothing left; NULL: in use */
  uint64_t wait_max_ms;       /* nobody waits longer, whatever a due time says: the clock may have been set. 0 (at first): as long as it says */
  uint64_t memory_high_bytes; /* slab use above which contents leave memory as soon as they are on disk */
  struct {
    struct message_list *list; /* NULL: nothing is looked for */
    struct message *at;        /* the next to be looked at; NULL: the next list */
    uint64_t id;
    unsigned lists; /* begun */
  } search;
};

void schedule_init(struct schedule *schedule, struct shard *shard, struct slab *slab, struct spool *spool, struct counters *counters,
                   schedule_due due, void *context);
/* Frees all messages (what is on disk stays there). */
void schedule_fini(struct schedule *schedule);

/* Takes an accepted message and gives out its recipients: due now, or waiting for their time. */
void schedule_add(struct schedule *schedule, struct message *message);

/* Gives out what restore_schedule (restore.h) has read back. */
void schedule_begin(struct schedule *schedule);

/* The fate of a READY recipient. `kind`: RECORD_DELIVERED, RECORD_FAILED or RECORD_EXPIRED. May free the message: it frees it if its jobs are 0, else when the last job ends. */
void schedule_done(struct schedule *schedule, struct message *message, unsigned recipient, enum record_outcome_kind kind);
/* ... or another try at `due_ms` (wall clock). Counts the attempt if `attempted`. */
void schedule_defer(struct schedule *schedule, struct message *message, unsigned recipient, uint64_t due_ms, bool attempted);
/* ... or none before schedule_retry: its domain or site is suspended. At `due_ms`, when it is too old, it is given out all the same. */
void schedule_hold(struct schedule *schedule, struct message *message, unsigned recipient, uint64_t due_ms);

/* A WAITING recipient becomes READY before its time, for the caller to give a fate at once; or it is given out like one that is due. */
void schedule_take(struct schedule *schedule, struct message *message, unsigned recipient);
void schedule_retry(struct schedule *schedule, struct message *message, unsigned recipient);
/* ... or it is WAITING as before, but due at this time, and not held; or held as before, until then. Nothing of it is noted on disk. */
void schedule_set_due(struct schedule *schedule, struct message *message, unsigned recipient, uint64_t due_ms);
void schedule_hold_until(struct schedule *schedule, struct message *message, unsigned recipient, uint64_t due_ms);

/*
 * Looks for a message by its id, one after the other, in pieces between which anything may happen to the schedule. One search at a time: a second
 * takes the place of the first. True: it is over, and *message is the message, or NULL: there is none that was here all the time.
 */
void schedule_find_begin(struct schedule *schedule, uint64_t id);
must_check bool schedule_find_on(struct schedule *schedule, unsigned budget, struct message **message);

/* RECORD_WARNED: its sender has been told that it takes long; RECORD_OWED: see there. Once is enough, also after a restart. */
void schedule_mark(struct schedule *schedule, struct message *message, unsigned recipient, enum record_outcome_kind kind);

/* Jobs keep a message and its content alive. After the last one ends the content leaves memory, or, if all is done, the message is freed. */
static inline void schedule_job_began(struct message *message) { message->jobs++; }
void schedule_job_ended(struct schedule *schedule, struct message *message);

/*
 * Brings the content of a message into memory: part number `part`, or, with part == message->parts_count, the message record's own. `done` gets an error or 0;
 * message->content is then there for as long as a job of the message lives, `load->content` of a part is the caller's to free. May call back at once.
 */
struct load {
  struct message *message;
  uint32_t part;
  struct content *content; /* of a part */
  void (*done)(struct load *load, int error);
  void *context;
  /* private */
  struct schedule *_schedule;
  struct spool_read _read;
  struct spool_place _place; /* what is moved meanwhile is still read where it was */
  struct load *_next;
  uint32_t _chunk;
};
void schedule_load(struct schedule *schedule, struct load *load);

/* For the restart: into and out of the lists, with its place and number of parts; the parts of one that is in a list, which takes them (malloc). */
void schedule_link(struct schedule *schedule, struct message *message);
void schedule_unlink(struct schedule *schedule, struct message *message);
void schedule_set_parts(struct schedule *schedule, struct message *message, struct spool_place *parts);

/* For the mover: part number `part`, or with part == parts_count the message record, now lies at `place`. The old place is still to be forgotten. */
void schedule_set_place(struct schedule *schedule, struct message *message, uint32_t part, struct spool_place place);

/*
 * Before an orderly end, when every event is written: what is left in the queue need not be told of again at the next start. Returns whether there
 * was something to append, an outcome as any other. Not in a spool that is full, nor while some are on disk only that were not told of: then they are
 * told of again.
 */
bool schedule_all_told(struct schedule *schedule);

/*
 * Everything that is only in memory is given to the spool, and nothing is moved any more (before a stop). Returns how many messages are still only
 * in memory: to be called again until there are none, or until the spool takes no more. It needs no memory but what was set aside.
 */
uint64_t schedule_store_all(struct schedule *schedule);

#endif
