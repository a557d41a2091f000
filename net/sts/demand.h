/*
 * demand: how a host of a domain is to be talked to, of what DANE and MTA-STS say. Pure.
 *
 * DANE goes before MTA-STS (RFC 8461 section 2): what DNSSEC proves about the host is neither loosened nor replaced by a policy. Where TLSA records are there but none
 * that could be used, DANE asks for encryption alone, and a policy may add what it wants; where there is no DANE the policy counts alone.
 */
#ifndef NET_STS_DEMAND_H
#define NET_STS_DEMAND_H

#include "dns/dane.h"
#include "net/sts/policy.h"

enum demand {
  DEMAND_INVALID = 0,
  DEMAND_ANY,        /* TLS if it is offered, whatever the certificate; else in clear */
  DEMAND_ENCRYPT,    /* TLS, whatever the certificate */
  DEMAND_TRY_VERIFY, /* as ANY, but what VERIFY would have refused is told (RFC 8461 5: testing) */
  DEMAND_VERIFY,     /* TLS, and a certificate of an authority for the host's name (RFC 8461 4.1, 4.2) */
  DEMAND_DANE,       /* TLS, and one of the records matches */
  DEMAND_SKIP_HOST,  /* not this host: the policy does not allow it */
  DEMAND_DEFER_HOST, /* not this host now: what it has to prove cannot be found out */
};

/* `policy` NULL: there is none, or it is not known yet. `host` as in the MX set, lower case. */
enum demand demand_choose(enum dane_status dane, const struct sts_policy *policy, struct span host);

/* Of `DEMAND_TRY_VERIFY`: would the host have been refused for its name alone? */
bool demand_misses_policy(const struct sts_policy *policy, struct span host);

/* "any", "encrypt"... for logs. Never NULL. */
const char *demand_text(enum demand demand);

#endif
