/*
 * list: DNS lists of addresses (RFC 5782): what to ask about an address, and what an answer means. Pure.
 *
 *   if (list_knows(&client)) { list_question(&name, &client, zone); ... }   // records of type DNS_A
 *   list_verdict(&answer, networks, count, &which)
 */
#ifndef DNS_LIST_H
#define DNS_LIST_H

#include "dns/codec.h"

/* Could a list have something to say about it? Not about addresses that mean another host everywhere (private, shared, link-local, loopback), or are none of a host. */
bool list_knows(const struct netaddr *address);

/* "7.2.0.192.zen.example.org"; of IPv6 32 nibbles, but an IPv4-mapped address is IPv4. The zone is lower case, of at most DNS_NAME_MAX - 66 bytes. */
void list_question(struct dns_name *name, const struct netaddr *address, struct span zone);

enum list_verdict {
  LIST_UNKNOWN = 0, /* no answer, or one that says nothing */
  LIST_ABSENT,      /* it is not there, or for another reason than we look for */
  LIST_PRESENT,
  LIST_OUT_OF_ORDER, /* an answer outside of 127.0.0.0/8 (a zone that somebody else has bought, a resolver that makes things up), or in 127.255.255.0/24, by which lists
                      * say that they do not answer: whatever else is there does not count */
};

/* *which is the first address that is in one of the networks (LIST_PRESENT), or that is out of order. */
enum list_verdict list_verdict(const struct dns_answer *answer, const struct network *networks, unsigned count, struct netaddr *which);

#endif
