/*
 * counters: what a shard has counted, readable from any thread while it counts.
 *
 * Each shard owns one struct counters and alone adds to it (a plain load and a relaxed store, no locked instruction); the HTTP threads read with
 * relaxed loads and add the shards up. Gauges are set by the owner. Names and help texts for /metrics stand in the table in counters.c.
 */
#ifndef CORE_EVENT_COUNTERS_H
#define CORE_EVENT_COUNTERS_H

#include <stdatomic.h>
#include <stdint.h>

#include "core/base/fmt.h"
#include "core/base/must.h"

enum counter {
  /* monotonic */
  COUNT_SESSIONS,          /* accepted connections in */
  COUNT_SESSIONS_REFUSED,  /* 421: no slot, or the limits of their client */
  COUNT_SESSIONS_LISTED,   /* whose client DNS lists have, so that its recipients are refused */
  COUNT_TLS_SESSIONS,      /* in, whose handshake was done */
  COUNT_TLS_RESUMED,       /* of these */
  COUNT_TLS_FAILED,        /* handshakes in, and connections that broke the protocol */
  COUNT_AUTHENTICATED,     /* sessions */
  COUNT_AUTH_FAILED,       /* and locked out */
  COUNT_MESSAGES_RECEIVED, /* answered with 250 */
  COUNT_BYTES_RECEIVED,
  COUNT_RECIPIENTS_RECEIVED,
  COUNT_MESSAGES_REJECTED, /* at MAIL, DATA or the end, 4xx and 5xx; not: recipients, and commands that are wrong */
  COUNT_CONNECTIONS,       /* established out */
  COUNT_CONNECTIONS_FAILED,
  COUNT_CONNECTIONS_TLS,         /* out, whose handshake was done */
  COUNT_CONNECTIONS_TLS_RESUMED, /* of these */
  COUNT_CONNECTIONS_TLS_FAILED,  /* handshakes out that came to nothing */
  COUNT_TRANSACTIONS,            /* begun out */
  COUNT_BYTES_SENT,
  COUNT_DELIVERED, /* recipients */
  COUNT_DEFERRED,  /* attempts that ended in a later try, by recipient */
  COUNT_BOUNCED,
  COUNT_EXPIRED,
  COUNT_ADMIN_BOUNCED,
  COUNT_DSN_SENT,        /* reports to senders */
  COUNT_DSN_SUPPRESSED,  /* not sent: too many, or no room */
  COUNT_MAYBE_DUPLICATE, /* connection lost after the final dot */
  COUNT_DNS_QUERIES,
  COUNT_DNS_CACHE_HITS,
  COUNT_DNS_CACHE_MISSES,
  COUNT_DNS_TIMEOUTS,
  COUNT_DNS_LIST_QUESTIONS,
  COUNT_DNS_LIST_LISTED,
  COUNT_DNS_LIST_UNANSWERED, /* not in time, or with what is no answer */
  COUNT_DNS_LIST_REFUSED,    /* recipients */
  COUNT_SPOOL_COMMITS,
  COUNT_SPOOL_BYTES,
  COUNT_EVENTS,
  COUNT_EVENTS_LOST,
  COUNT_HANDED_OVER, /* jobs given to another shard */
  COUNT_LOOP_TURNS,
  /* gauges */
  GAUGE_SESSIONS,
  GAUGE_CONNECTIONS,
  GAUGE_SITES,
  GAUGE_QUEUED_MESSAGES,
  GAUGE_UNLOADED_MESSAGES,
  GAUGE_READY_RECIPIENTS,
  GAUGE_DEFERRED_RECIPIENTS,
  GAUGE_HELD_RECIPIENTS,
  GAUGE_BODY_BYTES,
  GAUGE_SPOOL_SEGMENTS,
  GAUGE_SPOOL_DISK_BYTES,
  GAUGE_SPOOL_FAILED,
  GAUGE_SPOOL_FULL,
  GAUGE_QUEUE_FULL,
  GAUGE_READY,
  COUNTER_COUNT
};

struct counters {
  _Alignas(64) _Atomic uint64_t value[COUNTER_COUNT];
};

static inline void count_add(struct counters *counters, enum counter which, uint64_t n) {
  uint64_t old = atomic_load_explicit(&counters->value[which], memory_order_relaxed);
  atomic_store_explicit(&counters->value[which], old + n, memory_order_relaxed);
}
static inline void count_set(struct counters *counters, enum counter which, uint64_t n) {
  atomic_store_explicit(&counters->value[which], n, memory_order_relaxed);
}
static inline uint64_t count_get(const struct counters *counters, enum counter which) {
  return atomic_load_explicit(&counters->value[which], memory_order_relaxed);
}

/* Prometheus text of all shards added up (counters ringpost_..._total, gauges ringpost_...), one series each, with # HELP and # TYPE.
   COUNTERS_TEXT_MAX is room enough. */
#define COUNTERS_TEXT_MAX (COUNTER_COUNT * 256)
void counters_format(const struct counters *const *shards, unsigned count, struct fmt *out);

#endif
