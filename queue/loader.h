/*
 * loader: takes up, while the relay runs, what found no room in memory at the start (unloaded.h): reads the head of each record, makes the message as it
 * is now, and gives it to the schedule, which gives out what is due.
 *
 * Owner: one shard; part of its schedule. What lies in the oldest segments comes first, so that the mover can clear them. How much at once depends on the
 * memory (the slab) in use:
 *
 *   below five eighths   a few records at a time, until three quarters are in use;
 *   above                a message for each that has ended: so what waits on disk goes on as long as anything ends, and takes no more than was freed. What is
 *                        past its age comes first then, and one of these may even come before the next end, as it will end itself.
 *
 * What cannot be read is told of (`unreadable`) and tried again once a minute; past its age it is given up, as is the content of messages in memory: then it is written that its
 * recipients have ended, if their numbers have no gap; if they have, a later start that can read the record finds them as they were. An envelope that is as it was at the start
 * is enough, whatever the rest of its record is like: then its recipients are known, and end as all others do.
 */
#ifndef QUEUE_LOADER_H
#define QUEUE_LOADER_H

#include "core/base/wheel.h"
#include "queue/unloaded.h"

#define LOADER_FETCHES_MAX 16

struct schedule;
struct loader;

/* A record's head on its way into memory. */
struct fetch {
  struct spool_read read;
  struct loader *loader;
  struct unloaded_message *of; /* NULL: this one is free */
  uint8_t *piece;              /* what is read now; of the slab, which is still there when the kernel is late */
  uint8_t *head;               /* of one that is longer than a piece: what was read so far (malloc); NULL: the piece is all */
  uint32_t size;               /* of the head, padded for the disk */
  bool on_credit;
};

/* Told from within loader_turn and completions of the spool. NULL: nobody wants to know. */
struct loader_news {
  void (*loaded)(void *context, struct message *message); /* whole, not given out yet: the moment to tell of its Reception */
  void (*unreadable)(void *context, const struct unloaded_message *message, int error, bool given_up); /* the first time, and when it is given up */
  void *context;
};

struct loader {
  struct schedule *schedule;
  struct unloaded list;
  struct loader_news news;
  struct fetch fetch[LOADER_FETCHES_MAX];
  unsigned fetches; /* under way */
  bool plenty;      /* there was much room, and it is not used up yet */
  bool stopped;
  int credit;          /* so many may be taken up for others that have ended; -1: one was, ahead of the next end */
  uint64_t ended_seen; /* of schedule->ended */
  uint64_t max_age_ms;
  uint64_t not_before_ms; /* after memory ran out */
  uint64_t retry_ms;      /* when what failed waits again */
  struct timer timer;     /* looks again though nothing happens */
};

void loader_init(struct loader *loader, struct schedule *schedule);
/* What is under way is given up: no callback of the spool may come any more. */
void loader_fini(struct loader *loader);
void loader_on_news(struct loader *loader, const struct loader_news *news);
/* After the start has filled loader->list. */
void loader_begin(struct loader *loader);
/*
 * Once in a turn of the loop: begins to read what may be taken up now, a bounded number. `max_age_ms`: of a message, after which it expires. Not called
 * when what a message brings with it (a line of its Reception) finds no room.
 */
void loader_turn(struct loader *loader, uint64_t max_age_ms);
/* Nothing is taken up any more; what is being read stays on disk. */
void loader_stop(struct loader *loader);

#endif
