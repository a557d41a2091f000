/*
 * netaddr: IP addresses, with a port, and networks, as plain values. Pure: no <sys/socket.h>.
 */
#ifndef CORE_BASE_NETADDR_H
#define CORE_BASE_NETADDR_H

#include "core/base/fmt.h"
#include "core/base/must.h"
#include "core/base/span.h"

struct netaddr {
  uint8_t family; /* 4 or 6; 0: none */
  uint8_t reserved;
  uint16_t port;     /* host byte order */
  uint8_t bytes[16]; /* network byte order; IPv4 uses the first four */
};

struct network {
  struct netaddr base; /* port unused */
  unsigned prefix_bits;
};

/* "192.0.2.1", "2001:db8::1" (RFC 4291; also with a dotted IPv4 tail). No port, no brackets, no zone. Port becomes 0. */
must_check int netaddr_parse(struct netaddr *address, struct span text);
/* "192.0.2.1:25", "[2001:db8::1]:25"; without a port ("192.0.2.1", "2001:db8::1", "[2001:db8::1]") `default_port`. E_SYNTAX, E_RANGE. */
must_check int netaddr_parse_with_port(struct netaddr *address, struct span text, uint16_t default_port);
/* "10.0.0.0/8", "::1"; no slash: the whole address. Bits beyond the prefix must be zero, else E_RANGE. */
must_check int network_parse(struct network *network, struct span text);

/* The canonical text (RFC 5952), without port; "none" for family 0. At most 45 bytes. */
void netaddr_format(const struct netaddr *address, struct fmt *out);
/* With the port: "192.0.2.1:25", "[::1]:25". */
void netaddr_format_with_port(const struct netaddr *address, struct fmt *out);

/* Addresses only, ports ignored; an IPv4-mapped IPv6 address equals the IPv4 one, and is in no other IPv6 network (::/0 does not hold 192.0.2.1). */
bool network_contains(const struct network *network, const struct netaddr *address);
/* Does one of them? */
bool networks_contain(const struct network *networks, unsigned count, const struct netaddr *address);
/* Family, bytes and port. */
bool netaddr_equal(const struct netaddr *a, const struct netaddr *b);
/* 0.0.0.0 or ::, whatever the port: every address of this host. */
bool netaddr_is_any(const struct netaddr *address);

#endif
