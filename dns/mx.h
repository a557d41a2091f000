/*
 * mx: from the answers for a domain to the ordered list of hosts and addresses to try (RFC 5321 5.1, RFC 7505). Pure; chance is an argument.
 */
#ifndef DNS_MX_H
#define DNS_MX_H

#include "core/base/must.h"
#include "core/base/netaddr.h"
#include "core/base/span.h"
#include "dns/name.h"

#define MX_HOSTS_MAX 16    /* more hosts of one domain are not tried */
#define MX_ADDRESSES_MAX 8 /* of one host, both families together, interleaved, IPv6 first */

enum mx_status {
  MX_INVALID = 0,
  MX_OK,
  MX_NULL,       /* RFC 7505: takes no mail. Permanent: 556 5.1.10 */
  MX_NO_DOMAIN,  /* NXDOMAIN, or neither MX nor address. Permanent: 550 5.1.2 */
  MX_NO_ADDRESS, /* MX hosts exist but none has an address. Permanent, 550 5.4.4 */
  MX_SELF,       /* only we ourselves are left of the MX set: a loop. Permanent: 554 5.4.6 */
  MX_TEMPORARY,  /* SERVFAIL, timeouts, no usable resolver: try later. 451 4.4.3 */
  MX_BAD_NAME,   /* the domain is no name one can ask for. Permanent: 550 5.1.2 */
};

struct mx_host {
  uint16_t preference;
  uint8_t addresses; /* 0: none was found. The host stays in the set, so that the site's name does not change with it */
  uint8_t name_len;
  uint8_t canonical_len;
  bool secure;                              /* its addresses, and aliases on the way to them, had the AD bit */
  char name[DNS_NAME_MAX + 1];              /* lower case, no trailing dot, NUL-terminated */
  char canonical[DNS_NAME_MAX + 1];         /* where aliases of the name lead; empty: there are none. Of an implicit host it has become the name */
  struct netaddr address[MX_ADDRESSES_MAX]; /* port 0 */
};

struct mx_set {
  enum mx_status status;
  bool implicit;  /* no MX: the domain's own address records (RFC 5321 5.1) */
  bool secure;    /* every answer had the AD bit */
  bool mx_secure; /* that about MX had it: these records, or that there are none */
  bool stale;     /* expired answers, used because no resolver replied (RFC 8767) */
  uint32_t ttl_s; /* the smallest of all that went in; for negative answers as RFC 2308 */
  unsigned hosts;
  struct mx_host *host; /* ordered by preference, shuffled among equals; owned by the set (one malloc) or NULL */
  char reason[96];      /* for anything but MX_OK: a phrase for the log and the bounce */
};

/*
 * The site's name: the sorted, distinct host names joined by ','. Two domains with the same MX hosts have the same name, whatever the preferences.
 * A long one ends in '#' and a hash of the whole; `out` needs MX_SITE_NAME_MAX. Addresses do not count.
 */
#define MX_SITE_NAME_MAX 256
void mx_site_name(const struct mx_set *set, struct fmt *out);

/*
 * Orders by preference, drops hosts at or above (in number) the preference of `self` if it is among them (then maybe MX_SELF), keeps the first
 * MX_HOSTS_MAX (by preference, then name: always the same ones) and shuffles among equals. `random` gives chance.
 */
void mx_order(struct mx_set *set, struct span self, uint64_t random);

/* ---- building a set: for the resolver ---- */

struct dns_answer;

/*
 * The hosts of an MX answer (DNS_FOUND), without addresses, each once, ordered as mx_order does. Targets that are no host names (RFC 5321 5.1: not an
 * address, not the root beside others) are skipped. Sets the status: MX_OK, MX_NULL, MX_SELF or MX_NO_ADDRESS. The set must be empty; false without
 * memory.
 */
must_check bool mx_set_records(struct mx_set *set, const struct dns_answer *answer, struct span self, uint64_t random);
/* The one host of a domain without MX; MX_OK or MX_SELF. False without memory. */
must_check bool mx_set_implicit(struct mx_set *set, struct span domain, struct span self);
/* The addresses of a host: IPv6 and IPv4 in turn, IPv6 first, as many as there is room for. */
void mx_host_set_addresses(struct mx_host *host, const struct netaddr *v6, unsigned v6_count, const struct netaddr *v4, unsigned v4_count);
/* A status that is not MX_OK; the hosts go. `reason` as printf. */
__attribute__((format(printf, 3, 4))) void mx_set_fail(struct mx_set *set, enum mx_status status, const char *reason, ...);
/* Frees the hosts. */
void mx_set_clear(struct mx_set *set);

/* "ok", "null", "no-domain"... for logs. Never NULL. */
const char *mx_status_text(enum mx_status status);

#endif
