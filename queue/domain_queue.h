/*
 * domain_queue: the recipients of a shard by domain: how many wait or are given out, which they are, what the last failure was. It is what an operator
 * sees and acts on (retry, bounce, suspend); scheduling itself does not need it.
 *
 * Owner: one shard; part of its schedule, which keeps it up to date. A domain has one as long as it has recipients or is held,
 * and for a while after its last failure.
 */
#ifndef QUEUE_DOMAIN_QUEUE_H
#define QUEUE_DOMAIN_QUEUE_H

#include "core/base/map.h"
#include "core/base/slab.h"
#include "core/base/span.h"
#include "core/base/texts.h"

struct message;
struct recipient;

struct domain_queue {
  struct domain_queue *next, *prev; /* all of the shard, in the order they were made */
  struct recipient *first, *last;   /* WAITING */
  uint32_t waiting, given;          /* recipients */
  uint64_t oldest_ms;               /* wall clock: when the oldest of the waiting came; UINT64_MAX: nothing waits */
  bool oldest_stale;                /* it may have left: whoever shows it looks at all that wait */
  bool held;                        /* nothing is to be delivered there */
  void *outgoing;                   /* of the outgoing side: where the domain's mail goes; NULL: not known. It is cleared by whoever set it */
  char *site;                       /* its mail went there when that was last known, and `outgoing` is NULL; owned (malloc); NULL: not known */
  const char *error;                /* what was said to the last attempt that failed; of the queues' texts; NULL: nothing yet */
  uint64_t error_ms;
  uint64_t empty_ms; /* monotonic: when the sweep found it empty; 0: it did not */
  uint8_t name_len;
  char name[]; /* lower case, ends with a zero */
};

struct domain_queues {
  struct map map;
  struct slab slab;   /* their memory, apart from everything else: a walk over a hundred thousand finds them side by side */
  struct texts texts; /* what hosts said, for sites too: a dead one says the same to all */
  struct domain_queue *first, *last;
  struct domain_queue *nowhere; /* for those for whom there was no memory */
  struct domain_queue *swept;   /* where the sweep goes on */
  unsigned held;                /* how many are */
  unsigned walkers;             /* who walks over `next` and comes back: none is freed meanwhile */
};

void domain_queues_init(struct domain_queues *queues, uint64_t seed);
void domain_queues_fini(struct domain_queues *queues);

/* NULL: there is none. Any case. */
struct domain_queue *domain_queue_find(const struct domain_queues *queues, struct span domain);
/* Made if need be; the one for all that find no memory, if need be. */
struct domain_queue *domain_queue_get(struct domain_queues *queues, struct span domain);

/* For the schedule: the recipient becomes WAITING there, or is no longer. It is in no list before, and in none afterwards. */
void domain_queue_add(struct domain_queue *queue, struct message *message, unsigned recipient);
void domain_queue_remove(struct domain_queue *queue, struct message *message, unsigned recipient);

/*
 * Takes the first of the waiting and puts it last: whoever calls it as often as there were recipients at the beginning has seen all of them that still wait, though others come and
 * go in between. NULL: nothing waits. Gives the message, and which recipient of it.
 */
struct message *domain_queue_rotate(struct domain_queue *queue, unsigned *recipient);

/* From now on nothing is to be delivered there, or again. */
void domain_queue_hold(struct domain_queues *queues, struct domain_queue *queue, bool held);

/*
 * A walk over recipients that wait, in pieces between which anything may happen: of each queue that `enter` wants, all that waited when it came to it, and still do.
 * `each` says whether it goes on at once. Between domain_walk_begin and the end of domain_walk_on no queue is freed.
 */
struct domain_walk {
  struct domain_queues *queues; /* NULL: not begun */
  struct domain_queue *queue;   /* at which it is */
  bool only;                    /* there is no next one */
  uint32_t left;                /* recipients of it */
  bool (*enter)(void *context, struct domain_queue *queue);
  bool (*each)(void *context, struct message *message, unsigned recipient);
  void *context;
};
/* `enter`, `each` and `context` are set. Over all queues from `first` on, or that one only; NULL: there is nothing to walk over. */
void domain_walk_begin(struct domain_walk *walk, struct domain_queues *queues, struct domain_queue *first, bool only);
/* Recipients and queues, at most `budget` together. True: that was all. */
bool domain_walk_on(struct domain_walk *walk, unsigned budget);

/* A new failure takes the place of the last; the text is copied. */
void domain_queue_note_error(struct domain_queues *queues, struct domain_queue *queue, const char *text, uint64_t wall_ms);

/* Forgets some of those that are empty, not held, known to nobody and unused for a while. False: the last was looked at (or somebody walks). */
bool domain_queues_sweep(struct domain_queues *queues, uint64_t now_ms);

#endif
