/*
 * zone: the DNS answers of a simulated world of mail domains (RFC 1035; EDNS: RFC 6891; negative answers: RFC 2308). Pure: a query in, a
 * response out.
 *
 * A name of the pattern has MX records `mx1.<name>`, `mx2.<name>`...; with `sites` > 0 domain i belongs to site i mod sites and its MX hosts are
 * `mx1.site<s><suffix>`, so that many domains share one. Each MX host has one A record out of the network, and an existing name has
 * no records of other types. Below the pattern's suffix (".test"): nullmx has a null MX (RFC 7505), servfail is answered SERVFAIL, silent not at
 * all. Every other name, nx.test and what is under it among them, is NXDOMAIN.
 */
#ifndef BENCH_LIB_ZONE_H
#define BENCH_LIB_ZONE_H

#include "bench/lib/domains.h"
#include "core/base/fmt.h"

struct zone {
  struct domains domains;
  uint64_t count;      /* domains that exist; 0: every number */
  uint64_t sites;      /* 0: each domain is a site of its own */
  uint32_t mx_hosts;   /* of each site, 1 to ZONE_MX_MAX, preferences 10, 20, ... */
  uint32_t host_base;  /* IPv4, host byte order: address of MX host number 0 */
  uint32_t host_count; /* then they repeat; at least 1 */
  uint32_t ttl_s;      /* of positive answers */
  uint32_t negative_ttl_s;
  bool truncate; /* answer over UDP with TC and nothing else, so that the resolver comes back over TCP */
};

enum {
  ZONE_MX_MAX = 16,
  ZONE_UDP_MAX = 1232, /* what we send at most by UDP, whatever EDNS offers: fits any path */
  ZONE_RESPONSE_MAX = 2048,
};

/* Appends the response to `out`; false if there is to be none. `udp`: by UDP, with its size limits. */
must_check bool zone_answer(const struct zone *zone, struct span query, bool udp, struct fmt *out);

/* The IPv4 address of a domain's MX host number `mx` (from 0), and whether an address is one of the domain's. */
uint32_t zone_address(const struct zone *zone, uint64_t domain, uint32_t mx);
bool zone_is_address_of(const struct zone *zone, uint64_t domain, uint32_t address);

#endif
