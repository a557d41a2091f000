/*
 * deliver: the outgoing side of a shard: due recipients in, outcomes out.
 *
 *   schedule -outlet_due-> job -> domain (MX) -> site (ready queue, pool) -> connection -> fates -> schedule_done / schedule_defer, events
 *
 * Owner: one shard. Jobs, leases and loads travel between shards as letters (OUTLET_LETTERS kinds from letter_base on).
 */
#ifndef NET_OUT_DELIVER_H
#define NET_OUT_DELIVER_H

#include "core/conf/conf.h"
#include "core/event/counters.h"
#include "core/event/writer.h"
#include "core/shard/shard.h"
#include "dns/resolver.h"
#include "queue/schedule.h"

struct outlet;
struct sts_view;
struct tls_client;

struct outlet_options {
  struct shard *shard;
  const struct conf *conf;
  struct slab *slab;
  struct schedule *schedule;
  struct resolver *resolver;
  struct sts_view *sts; /* NULL: MTA-STS is not looked at */
  struct counters *counters;
  struct event_writer *events;
  struct tls_client *tls;        /* shared, not taken over; NULL: none, all goes in the clear or not at all */
  uint64_t (*new_id)(void *ids); /* for messages of our own */
  void *ids;
  uint64_t map_seed;
  uint8_t token_kind;
};

must_check int outlet_open(struct outlet **outlet, const struct outlet_options *options);
void outlet_close(struct outlet *outlet);

/*
 * Another configuration, in two steps as intake_prepare. From commit on all is looked up anew (domains, routes, limits of sites); what is ready for a site is sent round
 * again if the routes have changed. Connections go on; those above a lower limit end after what they have under way.
 */
void outlet_prepare(struct outlet *outlet, const struct conf *conf);
void outlet_commit(struct outlet *outlet);
void outlet_abort(struct outlet *outlet);

/* What connections from now on have of TLS; shared. NULL: as it is. */
void outlet_take_tls(struct outlet *outlet, struct tls_client *tls);

/* A recipient is READY (schedule_due). */
void outlet_due(void *outlet, struct message *message, unsigned recipient);

/* The record of a message that is not in memory cannot be read, and it is past its age: nobody knows its recipients, so one Expiration names the record. */
void outlet_lost(struct outlet *outlet, const struct unloaded_message *message, int error);

void outlet_complete(void *outlet, const struct io_completion *completion);
void outlet_letter(struct outlet *outlet, unsigned from, const struct letter *letter);
/* End of turn: gives waiting jobs to connections, and sends what was written. */
void outlet_turn(struct outlet *outlet);

/* No new transactions; connections end when theirs have ended. */
void outlet_stop(struct outlet *outlet);
/* No connection is left, and no report to a sender. */
bool outlet_idle(const struct outlet *outlet);

#endif
