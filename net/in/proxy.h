/*
 * proxy: the header a load balancer puts in front of a connection to say whose it is: the PROXY protocol, versions 1 and 2. Pure.
 *
 * Only for peers that are trusted to say it: anybody else would choose the address that limits and permissions go by.
 */
#ifndef NET_IN_PROXY_H
#define NET_IN_PROXY_H

#include "core/base/must.h"
#include "core/base/netaddr.h"
#include "core/base/span.h"

#define PROXY_HEADER_MAX 2048 /* bytes: version 1 has at most 107; more than this of version 2's extensions is refused */

enum proxy_verdict {
  PROXY_INVALID = 0, /* it is no such header, whatever may come behind it */
  PROXY_MORE,        /* it may become one */
  PROXY_WHOLE,
};

struct proxy_header {
  struct netaddr client; /* with the port; family 0: the balancer speaks for itself (a health check), or does not know, or it is no TCP over IP */
  size_t len;            /* of the header, in bytes; what follows is the client's */
};

/* `in`: all that came so far. *header is set only with PROXY_WHOLE. */
enum proxy_verdict proxy_parse(struct span in, struct proxy_header *header);

#endif
