/*
 * dane: may a host prove who it is by TLSA records, and by which (RFC 7672 section 2, RFC 7671, RFC 6698)? Pure: takes answers, says which it needs next; who asks
 * is the resolver (resolver_dane). What it says is as good as the AD bits in the answers: a resolver that is not to be trusted must not leave any.
 *
 *   dane_begin(&dane, set, host, domain, 25);
 *   while (dane.status == DANE_PENDING) dane_take(&dane, answer about dane_needs(&dane, &key));
 *
 * Without a secure answer about MX there is no DANE, as whoever forges that names a host of his own. Without secure addresses there is none either: servers of
 * such zones often cannot answer about TLSA (RFC 7672 2.2.2). Of a host that is an alias all the way securely, the records are looked for at the end of the way, then
 * at its beginning; if the way leaves what is signed, at the beginning alone, if the alias there is secure.
 * What cannot be found out (SERVFAIL: that is how "bogus" looks) is no proof that there is nothing: the host must not be used for now.
 */
#ifndef DNS_DANE_H
#define DNS_DANE_H

#include "dns/codec.h"
#include "dns/mx.h"

enum dane_status {
  DANE_PENDING = 0, /* an answer is needed */
  DANE_NONE,        /* no DANE for this host: as if there were no such thing */
  DANE_USE,         /* TLS, and one of `record` must match */
  DANE_UNUSABLE,    /* records are there, none that we could use: TLS, with whatever certificate (RFC 7672 2.2) */
  DANE_DEFER,       /* not known: no mail to this host now */
};

/* RFC 6698 2.1; laid out as struct tls_tlsa of net/tls/trust.h. */
struct dane_record {
  uint8_t usage, selector, matching;
  struct span association;
};

struct dane {
  enum dane_status status;
  uint32_t ttl_s; /* how long that holds, at the most; failures: LOOKUP_FAILURE_TTL_S */
  unsigned count; /* of DANE_USE, those that are usable */
  struct dane_record record[DNS_ANSWERS_MAX];
  struct dns_name
      base; /* of USE and UNUSABLE, the TLSA base domain: for SNI, and, with the recipient's domain, what certificates below usage 2 have to name */
  char reason[112]; /* a phrase; of DANE_DEFER for the log and the bounce */
  /* private */
  struct dns_name _host, _canonical;
  uint16_t _port;
  uint8_t _step;
};

/* `host` is one of the set's; `domain` is what the set was asked for, as in resolver_mx. */
void dane_begin(struct dane *dane, const struct mx_set *set, const struct mx_host *host, struct span domain, uint16_t port);
/* What to ask about. The status must be DANE_PENDING. */
void dane_needs(const struct dane *dane, struct dns_key *key);
/* Afterwards `record` points into the answer. */
void dane_take(struct dane *dane, const struct dns_answer *answer);

/* A copy in one piece of memory, with the bytes of its records; free() ends it. NULL without memory. */
struct dane *dane_copy(const struct dane *dane);

/* Could such a record ever match? RFC 7672 3.1.3: usages 0 and 1 are none for SMTP. */
bool dane_is_usable(const struct dane_record *record);
/* "pending", "none", "use", "unusable", "defer". Never NULL. */
const char *dane_status_text(enum dane_status status);

#endif
