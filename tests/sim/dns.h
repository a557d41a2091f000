/*
 * dns: the name server of the world: answers out of a zone (bench/lib/zone.h), over UDP and TCP, well or badly.
 *
 * Besides the zone there is a DNS list, bl.test, of clients from dns_stranger, an IPv4 network /24: some are on it, as dns_is_listed says; and there are aliases: a1.NAME is one of NAME, a2.NAME of a1.NAME and so on up to a9.NAME, and loop.test is one of itself.
 */
#ifndef TESTS_SIM_DNS_H
#define TESTS_SIM_DNS_H

#include "bench/lib/zone.h"
#include "core/base/netaddr.h"

/* Each happens once in so many times; 0: never. */
struct dns_habits {
  unsigned silence, servfail, truncated, garbage, twice;
  unsigned outage; /* for three seconds nothing is answered, or all with SERVFAIL */
  unsigned forged; /* first comes somebody else's answer, with a wrong id: there is no such name */
  uint64_t low_ns, high_ns;
};

extern const uint8_t dns_stranger[3];
bool dns_is_listed(unsigned number);

void dns_open(const struct zone *zone, const struct netaddr *address);
void dns_set_habits(const struct dns_habits *habits);

#endif
