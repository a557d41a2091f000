/*
 * sts: what a domain's MTA-STS policy is (RFC 8461): asked on a shard, kept and fetched by a thread of its own.
 *
 *   on the shard:  sts_ask(view, SPAN("example.org"), &query);   // later, maybe at once: query.done(&query, &answer)
 *
 * How an answer comes about. The shard's resolver looks for the TXT record _mta-sts.DOMAIN; what it says goes through a ring of one producer (the shard) to the thread, which
 * has the cache of policies (cache.h) and fetches over HTTPS (fetch.h) what is announced and not there, or there with another id. It answers at once, as an errand of the
 * shard: the policy that holds; or that there is none; or that one is being fetched: mail goes on meanwhile as without (5.1), and whoever asks a second later is told more.
 * Each shard remembers for some time what it was told.
 *
 * A policy holds until its max_age, whatever DNS and HTTPS say meanwhile (10.2: an attacker would make both say nothing); a newer one replaces it, also one with mode
 * none. The thread fetches each policy anew after half of its max_age or a day, whichever comes first, as long as the domain gets mail once in a month.
 * What could not be fetched is tried again after some minutes.
 */
#ifndef NET_STS_STS_H
#define NET_STS_STS_H

#include <sys/queue.h>

#include "core/base/must.h"
#include "net/sts/policy.h"

struct resolver;
struct shard;
struct sts;
struct sts_view;
struct sts_query;

enum sts_state {
  STS_INVALID = 0,
  STS_NONE,     /* no policy: as if there were no such thing */
  STS_FETCHING, /* not known yet: as STS_NONE for now */
  STS_KNOWN,    /* a policy, with mode enforce or testing */
};

struct sts_answer {
  enum sts_state state;
  struct sts_policy *policy; /* of STS_KNOWN, borrowed for the call: sts_policy_hold */
  enum sts_trouble trouble;  /* of the last fetch of what is announced, also beside a policy that holds on */
  uint32_t ttl_s;            /* no need to ask again before */
};

typedef void (*sts_done)(struct sts_query *query, const struct sts_answer *answer);
struct sts_query { /* the caller's memory, from sts_ask until done or sts_cancel */
  sts_done done;
  void *context;
  TAILQ_ENTRY(sts_query) _link;
  struct sts_place *_place; /* NULL: not waiting; so it must be before the first use */
};

struct sts_options {
  unsigned views;         /* shards */
  const char *file;       /* where policies are kept; NULL: nowhere */
  const char *ca_file;    /* as in fetch.h */
  const char *connect_to; /* as in fetch.h */
  unsigned entries_max;   /* policies, and failures, that are kept: 16384 */
  unsigned places_max;    /* domains that each shard remembers: 16384 */
  unsigned under_way;     /* fetches at a time: 64 */
  uint32_t timeout_ms;    /* of a fetch: a minute (RFC 8461 3.3) */
  uint64_t retry_ms;      /* what could not be fetched, or is not announced, is looked for again after so long: 5 minutes */
  uint64_t refresh_ms;    /* policies are fetched anew after so long at the latest: a day */
  uint64_t save_ms;       /* the file is written so long after a change, and at the end: 30 s */
  /* One line for people, without newline: the file is no good, cannot be written, a policy could not be fetched. From the thread, or from within sts_open. */
  void (*say)(void *context, const char *line);
  void (*begin)(void *context); /* the first thing on the thread, to give up what it may do; NULL: nothing */
  void *context;
};
/* One view; what is said above; no file, nobody to tell. */
extern const struct sts_options sts_defaults;

/* Reads the file and starts the thread. What the options point to must stay. E_NO_MEMORY, E_OTHER. */
must_check int sts_open(struct sts **sts, const struct sts_options *options);
/* When shard_run has returned on all shards, and before any shard_fini: ends the thread and writes the file. NULL is fine, here and below. */
void sts_stop(struct sts *sts);
/* Afterwards, when the resolvers are closed and nobody asks any more. */
void sts_free(struct sts *sts);

/* The view of a shard, from its own thread, once, before its first question. */
struct sts_view *sts_view(struct sts *sts, unsigned index, struct shard *shard, struct resolver *resolver);

/* The domain in lower case and A-labels. From within `done` everything here may be called. */
void sts_ask(struct sts_view *view, struct span domain, struct sts_query *query);
/* Harmless if it is not waiting. */
void sts_cancel(struct sts_query *query);

/* "none", "fetching", "known". Never NULL. */
const char *sts_state_text(enum sts_state state);

#endif
