/*
 * relay: the mail relay of one shard: wires the incoming side, the queue, DNS and the outgoing side together.
 *
 * Everything happens on the shard's thread. Life: relay_open (opens the ring and the spool, reads it back), relay_listen (once all shards are open, shard 0 first), relay_run until relay_stop
 * (any thread) has brought it to its end, relay_close.
 */
#ifndef NET_RELAY_H
#define NET_RELAY_H

#include <stdatomic.h>

#include "core/conf/conf.h"
#include "core/event/counters.h"
#include "core/shard/shard.h"

struct certificates;
struct sts;
struct tls_client;
struct directory;
struct guard;
struct verify;
struct relay;
struct outlet;
struct schedule;
struct slab_pool;

struct relay_options {
  const struct conf *conf; /* outlives the relay */
  struct shard_group *group;
  unsigned index;
  struct counters *counters;         /* of this shard */
  _Atomic uint32_t *sessions_open;   /* of all shards */
  struct guard *guard;               /* of all shards, as the next two; NULL: clients and users are not limited */
  struct certificates *certificates; /* as the listeners need them at first; NULL: none. Shared, not taken over */
  struct tls_client *tls;            /* of connections out; NULL: none. Shared, not taken over */
  struct sts *sts;                   /* of all shards; NULL: MTA-STS is not looked at */
  struct directory *directory;       /* NULL: there are no users */
  struct verify *verify;             /* likewise */
  struct span login_secret;          /* of all shards: random bytes */
  struct slab_pool *memory;          /* of all shards, zeroed before the first is opened */
  _Atomic uint64_t *newest_id;       /* of a message, in the spools of all shards; 0 before the first is opened */
  bool held;                         /* nothing is delivered until operate_hold_all says so */
};

/*
 * Also adopts the spools of shards that are no longer there (queue/spool/adopt.h), which may take its time. On error `why` has a line saying what
 * failed.
 */
must_check int relay_open(struct relay **relay, const struct relay_options *options, struct fmt *why);
/* After all shards have opened, shard 0 before all others: it finds out whether somebody else has the addresses. */
must_check int relay_listen(struct relay *relay, struct fmt *why);
/* The address the first listener has. */
void relay_address(const struct relay *relay, struct netaddr *address);
void relay_run(struct relay *relay);
/*
 * Another configuration, on the shard's thread (so by errands), in two steps: prepare (all shards, shard 0 first), then commit on all; or abort on all, if
 * one cannot. core/conf/change.h says what may differ. `why` gets a line. `conf` lives until another took its place.
 * The next begins when all shards are settled: what the last one took away, or opened in vain, is closed then.
 */
must_check int relay_prepare(struct relay *relay, const struct conf *conf, struct fmt *why);
void relay_commit(struct relay *relay);
/* On the shard's thread: certificates for what begins from now on; ours to put. */
void relay_take_certificates(struct relay *relay, struct certificates *certificates);
/* Likewise, for connections out; shared. NULL: those it has stay. */
void relay_take_tls(struct relay *relay, struct tls_client *tls);
void relay_abort(struct relay *relay);
bool relay_is_settled(const struct relay *relay);
/* For errands (core/shard/errand.h), whose context the relay is; the schedule and the outlet on the shard's thread only. */
struct shard *relay_shard(struct relay *relay);
struct schedule *relay_schedule(struct relay *relay);
struct outlet *relay_outlet(struct relay *relay);
/*
 * From any thread: no new sessions, transactions end (within RELAY_STOP_MS), everything is synced, relay_run returns. When that time is over and for
 * RELAY_STORE_MS nothing could be stored of what is left, it returns all the same.
 */
#define RELAY_STOP_MS 30000
#define RELAY_STORE_MS 2000
void relay_stop(struct relay *relay);
/* After relay_run: 0, or the error it ended with: the spool failed, or did not take all that was in memory (then `why` gets a line). */
int relay_failed(const struct relay *relay, struct fmt *why);
/* In two steps, all shards the first before any the second: jobs of one shard's memory may sit in another's queues. */
void relay_release(struct relay *relay);
void relay_close(struct relay *relay);

#endif
