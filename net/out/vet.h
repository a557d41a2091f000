/*
 * vet: finds out what the MX hosts of a domain have to prove: asks for their TLSA records (DANE), and for the policy of the domain (MTA-STS), as far as the configuration wants that, and
 * says which hosts may be tried, each with what it has to prove, and what stands before the name of their site: with the same hosts and the same words there the same has to be proved, so
 * domains that agree share a site, and with it connections, and others never do.
 *
 * Hosts of a domain for mail with REQUIRETLS (RFC 8689) have to prove who they are, by an authority if by nothing else, whatever is configured.
 *
 *   if (vet_wanted(domain, set)) vet_begin(domain, set);   // later, maybe at once: domain_vetted(domain, &vetted)
 */
#ifndef NET_OUT_VET_H
#define NET_OUT_VET_H

#include "dns/mx.h"
#include "net/out/outlet.h"
#include "net/out/proof.h"

struct vet;

#define VET_WAY_MAX (DNS_NAME_MAX + 48)
#define VET_REASON_MAX 400

struct vetted {
  const struct mx_set *set;   /* of the hosts that may be tried; one that must not be for now has no address */
  struct proof *const *proof; /* of each of them; NULL: it has nothing to prove */
  char way[VET_WAY_MAX + 1];  /* "": none of them has; else words that end in ',' */
  uint32_t ttl_s;
  enum proof_result result; /* not PROOF_FINE: there is no host that may be tried, and: */
  char reason[VET_REASON_MAX + 1];
};

/* Of a set that was found for the domain in DNS. */
bool vet_wanted(const struct domain *domain, const struct mx_set *set);
/* Sets domain->vet until domain_vetted has been called. False: no memory. */
must_check bool vet_begin(struct domain *domain, const struct mx_set *set);
/* Harmless if there is none. */
void vet_cancel(struct domain *domain);

#endif
