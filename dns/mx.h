/*
 * mx: from the answers for a domain to the ordered list of hosts and addresses to try (RFC 5321 5.1, RFC 7505). Pure; chance is an argument.
 */
#ifndef DNS_MX_H
#define DNS_MX_H

#include "core/base/must.h"
#include "core/base/netaddr.h"
#include "core/base/span.h"

#define DNS_NAME_MAX 255      /* text, without trailing dot */
#define MX_HOSTS_MAX 16       /* more hosts of one domain are not tried */
#define MX_ADDRESSES_MAX 8    /* of one host, both families together, interleaved, IPv6 first */

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
  uint8_t addresses;
  uint8_t name_len;
  char name[DNS_NAME_MAX + 1]; /* lower case, no trailing dot, NUL-terminated */
  struct netaddr address[MX_ADDRESSES_MAX]; /* port 0 */
};

struct mx_set {
  enum mx_status status;
  bool implicit;     /* no MX: the domain's own address records (RFC 5321 5.1) */
  bool secure;       /* every answer had the AD bit */
  bool stale;        /* expired answers, used because no resolver replied (RFC 8767) */
  uint32_t ttl_s;    /* the smallest of all that went in; for negative answers as RFC 2308 */
  unsigned hosts;
  struct mx_host *host; /* ordered by preference, shuffled among equals; owned by the set (one malloc) or NULL */
  char reason[96];   /* for anything but MX_OK: a phrase for the log and the bounce */
};

/*
 * The site's name: the sorted, distinct host names joined by ','. Two domains with the same MX hosts have the same name, whatever the preferences.
 * A long one ends in '#' and a hash of the whole; `out` needs MX_SITE_NAME_MAX. Addresses do not count.
 */
#define MX_SITE_NAME_MAX 256
void mx_site_name(const struct mx_set *set, struct fmt *out);

/* Orders by preference, shuffles among equals, drops hosts at or above (in number) the preference of `self` if it is among them (then maybe MX_SELF). `random` gives chance. */
void mx_order(struct mx_set *set, struct span self, uint64_t random);

#endif
