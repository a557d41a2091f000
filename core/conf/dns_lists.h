/*
 * dns_lists: the DNS lists (RFC 5782) that a listener asks about the addresses of its clients. A step of reading, for listeners.c; main thread.
 *
 * What was read stays as it is, but for a mark, which is atomic; it is counted, as a session that began before a reload ends with the lists it began with.
 */
#ifndef CORE_CONF_DNS_LISTS_H
#define CORE_CONF_DNS_LISTS_H

#include <stdatomic.h>

#include "core/conf/raw.h"
#include "core/conf/setting.h"

#define DNS_LISTS_MAX 16        /* of a listener: each client costs a question to each */
#define DNS_LIST_SAYING_MAX 450 /* bytes: with code, enhanced code and CRLF it is a reply line of RFC 5321 4.5.3.1.5 */

struct dns_list {
  char *zone;              /* lower case; short enough for an IPv6 address in front of it */
  char *name;              /* what clients and events are told: zones may have a key in them. Default: the zone */
  char *text;              /* behind that, for clients; "%a" is their address, "%%" a percent sign. NULL: nothing */
  struct network *answers; /* that count; all of 127.0.0.0/8 */
  unsigned answers_count;  /* >= 1 */
  int weight;              /* not 0; below 0: whoever is on it is rather trusted */
  atomic_bool said;        /* that it is out of order: by whoever finds out first */
};

struct dns_lists {
  _Atomic uint32_t holders;
  uint64_t timeout_ms; /* which no session waits longer */
  int threshold;       /* >= 1: clients of this weight are refused */
  unsigned count;      /* >= 1 */
  struct dns_list list[];
};

/* *lists becomes NULL where the listener has none. `base`: its path. E_SYNTAX, E_RANGE (reported) or E_NO_MEMORY. */
must_check int dns_lists_read(struct dns_lists **lists, const struct raw_listener *raw, const char *base, const struct reading *reading);
/* Any thread; NULL is fine, in both. */
struct dns_lists *dns_lists_share(struct dns_lists *lists);
void dns_lists_put(struct dns_lists *lists);

/* "[192.0.2.1] is listed by zen.example.org; see https://example.org/192.0.2.1": DNS_LIST_SAYING_MAX bytes at most, whatever the address. */
void dns_list_say(const struct dns_list *list, const struct netaddr *client, struct fmt *out);

#endif
