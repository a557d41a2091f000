/*
 * lease: how the connections of one site are shared between shards, so that its limit holds for the whole process, exactly. Pure.
 *
 * The home shard of a site has the whole limit and grants parts of it to shards with much mail for the site; what is granted it may not use itself until it is given back. A shard without
 * a lease hands its mail to the home. A grant never exceeds what the home has free of open connections at that moment; the home always keeps one.
 */
#ifndef QUEUE_POLICY_LEASE_H
#define QUEUE_POLICY_LEASE_H

#include <stdbool.h>
#include <stdint.h>

struct lease_home {
  uint32_t limit;   /* of the site */
  uint32_t granted; /* to others, together */
};

struct lease_guest {    /* on a shard that is not the home */
  uint32_t granted;     /* connections it may have open */
  uint64_t asked_ms;    /* 0: no request under way or refused lately */
  uint64_t window_ms;   /* start of the present counting window */
  uint32_t window_jobs; /* handed over in it */
};

#define LEASE_WINDOW_MS 100 /* mail is counted over this time ... */
#define LEASE_HOT_JOBS                                                                                                                               \
  8 /* ... and so many jobs in it are worth connections of our own: handing over costs two wake-ups a batch, a lease an open connection */
#define LEASE_ASK_MS 1000 /* after a refusal it is asked again at the earliest then */

/* What the home may have open itself. */
uint32_t lease_home_limit(const struct lease_home *home);
/* A guest asks: returns how many connections it gets (0: none), and books them. `open` is what the home has open now. */
uint32_t lease_grant(struct lease_home *home, unsigned shards, uint32_t open);
void lease_take_back(struct lease_home *home, uint32_t connections);

/* The guest hands over `jobs`: should it ask for a lease now? Counts them. */
bool lease_should_ask(struct lease_guest *guest, uint32_t jobs, uint64_t now_ms);

#endif
