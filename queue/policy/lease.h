/*
 * lease: how the connections of one site are shared between shards, so that its limit holds for the whole process, exactly. Pure.
 *
 * The home shard of a site has the whole limit and grants parts of it to shards with much mail for the site; what is granted it may not use itself until it is given back. A shard without
 * a lease hands its mail to the home. A grant never exceeds what the home has free of open connections at that moment; what is missing to a fair share is owed: the home
 * closes as many of its own, opens none instead, and pays as they are gone. The home keeps one, but for a guest whose mail cannot be handed over, and which gives it back after one connection.
 *
 * A site that has failed belongs to its home alone until it works again, so that one connection tries it and not one of each shard: the home grants nothing meanwhile and
 * asks back what is not at work; a guest that sees the failure first tells the home, and gives back what it has.
 */
#ifndef QUEUE_POLICY_LEASE_H
#define QUEUE_POLICY_LEASE_H

#include <stdbool.h>
#include <stdint.h>

struct lease_home {
  uint32_t limit;   /* of the site; may become lower than what is granted, until that is given back */
  uint32_t granted; /* to others, together */
  uint32_t owed;    /* likewise: promised, to be granted when the home has closed some of its own */
};

struct lease_guest {    /* on a shard that is not the home */
  uint32_t granted;     /* connections it may have open */
  uint64_t used_ms;     /* when it last had mail for them, or got them */
  uint64_t asked_ms;    /* 0: no request under way or refused lately */
  uint64_t window_ms;   /* start of the present counting window */
  uint32_t window_jobs; /* handed over in it */
  bool returning;       /* none is opened any more, and all is given back when the last connection is closed */
};

#define LEASE_WINDOW_MS 100 /* mail is counted over this time ... */
#define LEASE_HOT_JOBS                                                                                                                               \
  8 /* ... and so many jobs in it are worth connections of our own: handing over costs two wake-ups a batch, a lease an open connection */
#define LEASE_ASK_MS 1000  /* after a refusal it is asked again at the earliest then */
#define LEASE_KEEP_MS 5000 /* a lease that is not used is kept for so long: mail comes in bursts */

/* What the home may have open itself; what is open beyond it is to be closed. */
uint32_t lease_home_limit(const struct lease_home *home);
/* A guest asks for its share: how many connections it gets. All of it is booked as owed to it, to be paid by lease_pay, as far as possible at once. */
uint32_t lease_promise(struct lease_home *home, unsigned shards);
/* Likewise for a guest that cannot hand its mail over: one, though it were the last. 0: all are lent already. */
uint32_t lease_promise_one(struct lease_home *home);
/* A guest is owed so many, and the home has `open` now: returns how many it gets, and books them as granted. */
uint32_t lease_pay(struct lease_home *home, uint32_t owed, uint32_t open);
/* The guest wants no more of what it is owed. */
void lease_forgive(struct lease_home *home, uint32_t owed);
void lease_take_back(struct lease_home *home, uint32_t connections);

/* No request was made lately. Then it is made now. */
bool lease_may_ask(struct lease_guest *guest, uint64_t now_ms);
/* The guest hands over `jobs`: should it ask for a lease now? Counts them. */
bool lease_should_ask(struct lease_guest *guest, uint32_t jobs, uint64_t now_ms);
/* The guest has no connection open: should it give back what it has, mail or none, because the site has failed? */
static inline bool lease_must_return(const struct lease_guest *guest) { return guest->granted > 0 && guest->returning; }
/* The guest has neither mail for the site nor a connection open: should it give back what it has? */
bool lease_should_return(const struct lease_guest *guest, uint64_t now_ms);

#endif
