#include "net/in/proxy.h"

#include "core/base/error.h"

#define V1_MAX 107 /* with its CRLF */
#define V2_FIXED 16

static bool begins(struct span in, struct span with) { return in.len >= with.len && memcmp(in.at, with.at, with.len) == 0; }

/* So far it agrees, and is not longer. */
static bool may_begin(struct span in, struct span with) { return in.len < with.len && memcmp(in.at, with.at, in.len) == 0; }

/* ---- version 1: a line of text ---- */

static struct span take_word(struct span *line) {
  ptrdiff_t space = span_find(*line, ' ');
  struct span word = space < 0 ? *line : span_first(*line, (size_t)space);
  *line = span_skip(*line, space < 0 ? line->len : (size_t)space + 1);
  return word;
}

/* Decimal, without leading zeros. */
static bool read_port(struct span text, uint16_t *port) {
  uint64_t number;
  bool is_short = text.len > 0 && text.len <= 5 && (text.len == 1 || text.at[0] != '0');
  if (!is_short || !span_to_u64(text, &number) || number > UINT16_MAX) return false;
  *port = (uint16_t)number;
  return true;
}

static bool read_v1_addresses(struct span line, unsigned family, struct netaddr *client) {
  struct netaddr server;
  struct span from = take_word(&line), to = take_word(&line), from_port = take_word(&line), to_port = line;
  if (netaddr_parse(client, from) != E_OK || client->family != family || netaddr_parse(&server, to) != E_OK || server.family != family) return false;
  return read_port(from_port, &client->port) && read_port(to_port, &server.port);
}

static enum proxy_verdict parse_v1(struct span in, struct proxy_header *header) {
  ptrdiff_t end = span_find(span_first(in, V1_MAX), '\n');
  if (end < 0) return in.len < V1_MAX ? PROXY_MORE : PROXY_INVALID;
  if (in.at[end - 1] != '\r') return PROXY_INVALID;
  struct span line = span_skip(span_first(in, (size_t)end - 1), sizeof "PROXY " - 1), protocol = take_word(&line);
  struct proxy_header found = {.len = (size_t)end + 1};
  bool is_v4 = span_equal(protocol, SPAN("TCP4")), is_v6 = span_equal(protocol, SPAN("TCP6"));
  if (!is_v4 && !is_v6 && !span_equal(protocol, SPAN("UNKNOWN"))) return PROXY_INVALID; /* what stands behind UNKNOWN means nothing */
  if ((is_v4 || is_v6) && !read_v1_addresses(line, is_v4 ? 4 : 6, &found.client)) return PROXY_INVALID;
  *header = found;
  return PROXY_WHOLE;
}

/* ---- version 2: binary ---- */

enum { V2_LOCAL = 0x20, V2_PROXY = 0x21, V2_TCP4 = 0x11, V2_TCP6 = 0x21 };

static uint16_t be16(const uint8_t *at) { return (uint16_t)(at[0] << 8 | at[1]); }

static struct netaddr address_at(const uint8_t *at, uint8_t family, const uint8_t *port) {
  struct netaddr address = {.family = family, .port = be16(port)};
  memcpy(address.bytes, at, family == 4 ? 4 : 16);
  return address;
}

static enum proxy_verdict parse_v2(struct span in, struct proxy_header *header) {
  if (in.len < V2_FIXED) return PROXY_MORE;
  size_t len = be16(in.at + 14);
  uint8_t command = in.at[12], transport = in.at[13];
  struct proxy_header found = {.len = V2_FIXED + len};
  if ((command != V2_LOCAL && command != V2_PROXY) || found.len > PROXY_HEADER_MAX) return PROXY_INVALID;
  size_t needed = command == V2_LOCAL ? 0 : transport == V2_TCP4 ? 12 : transport == V2_TCP6 ? 36 : 0;
  if (len < needed) return PROXY_INVALID;
  if (in.len < found.len) return PROXY_MORE;
  const uint8_t *at = in.at + V2_FIXED; /* source, destination, source port, destination port */
  if (needed == 12) found.client = address_at(at, 4, at + 8);
  if (needed == 36) found.client = address_at(at, 6, at + 32);
  *header = found;
  return PROXY_WHOLE;
}

enum proxy_verdict proxy_parse(struct span in, struct proxy_header *header) {
  static const struct span v1 = {(const uint8_t *)"PROXY ", 6}, v2 = {(const uint8_t *)"\r\n\r\n\0\r\nQUIT\n", 12};
  if (may_begin(in, v1) || may_begin(in, v2)) return PROXY_MORE;
  if (begins(in, v1)) return parse_v1(in, header);
  return begins(in, v2) ? parse_v2(in, header) : PROXY_INVALID;
}
