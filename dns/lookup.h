/*
 * lookup: the MX set of one domain in the making: takes answers, says which it needs next. Pure (memory from malloc); who asks is not its matter.
 *
 *   need the MX answer -> lookup_take_mx -> lookup->needs: A and AAAA of each host -> lookup_take_address for each -> lookup_conclude -> lookup->set
 */
#ifndef DNS_LOOKUP_H
#define DNS_LOOKUP_H

#include <sys/queue.h>

#include "dns/codec.h"
#include "dns/mx.h"

#define LOOKUP_FAILURE_TTL_S 5   /* RFC 2308 7: failures are remembered, or a dead domain causes a storm */
#define LOOKUP_PARTIAL_TTL_S 300 /* of a set some of whose addresses could not be found out */
#define LOOKUP_KEY 0             /* the type in the key of a set: none of DNS */

struct lookup_need {        /* one answer that a lookup waits for */
  struct lookup *lookup;    /* NULL: of a single question of the resolver's */
  struct lookup_need *next; /* whoever waits for the same answer */
  uint16_t type;
  uint16_t host; /* which one's address */
};

struct lookup_found { /* a host's addresses so far */
  struct netaddr v6[MX_ADDRESSES_MAX];
  struct netaddr v4[MX_ADDRESSES_MAX];
  uint8_t v6_count;
  uint8_t v4_count;
  bool failed;   /* a server could not say */
  bool insecure; /* some of them are */
};

struct resolver_query;
TAILQ_HEAD(lookup_callers, resolver_query);

struct lookup {
  struct dns_key key;
  struct mx_set set;
  struct lookup_need mx;
  struct lookup_need *needs; /* addresses: needs_count of them */
  unsigned needs_count;
  unsigned pending; /* answers not taken yet */
  bool silent;      /* something failed because no server replied */
  bool _failed;     /* something failed */
  uint16_t _failed_type;
  uint16_t _failed_rcode;
  struct lookup_found *_found;
  /* the resolver's */
  struct lookup_callers callers;
  TAILQ_ENTRY(lookup) waiting;
};

/* Needs `mx` first. `domain` is lower case. NULL without memory. */
struct lookup *lookup_new(struct span domain);
void lookup_free(struct lookup *lookup);
static inline struct span lookup_domain(const struct lookup *lookup) { return dns_key_name(&lookup->key); }
/* What to ask about for this need. */
struct span lookup_need_name(const struct lookup_need *need);

/* The answer about MX; afterwards `needs` are to be answered, maybe none. */
void lookup_take_mx(struct lookup *lookup, const struct dns_answer *answer, struct span self, bool ipv6, uint64_t random);
void lookup_take_address(struct lookup_need *need, const struct dns_answer *answer);
/* Once nothing is pending: `set` is complete. */
void lookup_conclude(struct lookup *lookup, struct span self);

#endif
