/*
 * resolver: finds the MX hosts of a domain, over UDP with TCP fallback, on the shard's ring, with a bounded cache.
 *
 * Owner: one shard. Queries go to the configured recursive servers in turn (time-out, then the next, then MX_TEMPORARY), with EDNS, random
 * ids and ports; identical questions under way are merged; answers are checked (id, source, question). TTLs are honoured, negative answers cached
 * (RFC 2308), expired answers served while no server replies (RFC 8767), at most for a day.
 *
 *   resolver_mx(r, SPAN("example.org"), &query);   // later, maybe at once: query.done(&query, set)
 *   resolver_dane(r, set, host, domain, 25, &dane_query);
 *   resolver_records(r, DNS_TXT, SPAN("_mta-sts.example.org"), &record_query);
 *
 * Whether answers are secure is what the servers say in the AD bit, believed only with options.dnssec.
 */
#ifndef DNS_RESOLVER_H
#define DNS_RESOLVER_H

#include <sys/queue.h>

#include "core/base/wheel.h"
#include "core/io/io.h"
#include "dns/codec.h"
#include "dns/dane.h"
#include "dns/mx.h"

struct resolver;
struct resolver_query;

/* `set` is borrowed for the call only. */
typedef void (*resolver_done)(struct resolver_query *query, const struct mx_set *set);

struct resolver_query { /* the caller's memory, from resolver_mx until done or resolver_cancel */
  resolver_done done;
  void *context;
  TAILQ_ENTRY(resolver_query) _link;
  struct lookup *_lookup; /* NULL: not waiting; so it must be before the first use */
};

struct single;
struct record_query;
struct dane_query;

/* `answer` is borrowed for the call only. */
typedef void (*record_done)(struct record_query *query, const struct dns_answer *answer);
struct record_query { /* as struct resolver_query */
  record_done done;
  void *context;
  struct single *_single;
};

/* query->dane is complete; its records are borrowed for the call (dane_copy). */
typedef void (*dane_done)(struct dane_query *query);
struct dane_query { /* as struct resolver_query */
  dane_done done;
  void *context;
  struct dane dane;
  struct resolver *_resolver;
  struct record_query _records;
};

struct resolver_options {
  const struct netaddr *servers; /* with ports; borrowed for the life of the resolver */
  unsigned servers_count;
  struct span hostname;        /* our own name, for MX_SELF */
  uint32_t timeout_ms;         /* for one try with one server, from when it is sent (default 2000) */
  unsigned tries;              /* over all servers together, per question (default 4) */
  uint32_t cache_entries;      /* bound; the least recently used go first (default 65536); at most 384 bytes each on average, see dns/cache.h */
  uint32_t ttl_max_s;          /* cap for positive answers (default 86400) */
  uint32_t negative_ttl_max_s; /* (default 900) */
  bool ipv6;                   /* ask for AAAA as well */
  bool dnssec;                 /* all servers validate, and nobody is between them and us: their AD bit counts */
};

struct resolver_stats { /* monotonic; read by the owner */
  uint64_t queries_sent, answers, timeouts, mismatches, truncated, cache_hits, cache_misses, stale_served, merged;
  uint64_t retries; /* of queries_sent: because an earlier try brought nothing */
};

/* For every option but servers and hostname 0 means the default. The wheel's clock is io_now_ns in milliseconds. Without servers every answer is
 * MX_TEMPORARY. The io's receive buffers must hold a datagram: 1232 bytes at least.
 * `token_kind` is put into the top 8 bits of the tokens of all operations; the caller's loop gives those completions to resolver_complete. */
must_check int resolver_open(struct resolver **resolver, struct io *io, struct wheel *wheel, const struct resolver_options *options,
                             uint8_t token_kind);
/* Ends all queries without calling done. For the end of the shard: the sockets stay with io until io_destroy, and no completion may be given to
 * resolver_complete any more. Before io_destroy, a query on its way to the kernel may be lost. The wheel must still be there. Not from within
 * done. */
void resolver_close(struct resolver *resolver);

/*
 * Asks for the MX set of the domain (any case, A-labels or UTF-8: converted with libidn2; no trailing dot). Address literals are not for here. From
 * the cache `done` is called before this returns. From within `done` everything here may be called.
 */
void resolver_mx(struct resolver *resolver, struct span domain, struct resolver_query *query);
/* Harmless if it is not waiting. */
void resolver_cancel(struct resolver *resolver, struct resolver_query *query);

/*
 * Asks for the records of one type (DNS_TLSA, DNS_TXT, DNS_CNAME) of a name in lower case. Cached as long as they may be; expired ones are never used. A name that one
 * cannot ask for is answered DNS_NO_NAME, not secure. As resolver_mx, `done` may be called before this returns.
 */
void resolver_records(struct resolver *resolver, uint16_t type, struct span name, struct record_query *query);
void resolver_records_cancel(struct resolver *resolver, struct record_query *query);

/* What dane.h says of this host of a set that was found for `domain`. As resolver_mx, `done` may be called before this returns; set and host are not needed afterwards. */
void resolver_dane(struct resolver *resolver, const struct mx_set *set, const struct mx_host *host, struct span domain, uint16_t port,
                   struct dane_query *query);
void resolver_dane_cancel(struct resolver *resolver, struct dane_query *query);

void resolver_complete(struct resolver *resolver, const struct io_completion *completion);
const struct resolver_stats *resolver_stats(const struct resolver *resolver);

#endif
