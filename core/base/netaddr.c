#include "core/base/netaddr.h"

#include "core/base/error.h"

enum { V4_BYTES = 4, V6_BYTES = 16, V6_GROUPS = 8, V4_BITS = 32, V6_BITS = 128, MAPPED_PREFIX_BITS = 96 };

/* ---- reading ---- */

/* Dotted quad: four decimal numbers without leading zeros, which some readers take as octal. The whole span. */
static bool parse_v4(uint8_t *bytes, struct span text) {
  for (unsigned part = 0; part < V4_BYTES; part++) {
    ptrdiff_t dot = part < V4_BYTES - 1 ? span_find(text, '.') : (ptrdiff_t)text.len;
    if (dot < 1 || dot > 3) return false;
    uint64_t value;
    if (!span_to_u64(span_first(text, (size_t)dot), &value) || value > 255 || (dot > 1 && text.at[0] == '0')) return false;
    bytes[part] = (uint8_t)value;
    text = part < V4_BYTES - 1 ? span_skip(text, (size_t)dot + 1) : text;
  }
  return true;
}

static int hex_value(uint8_t c) {
  if (ascii_is_digit(c)) return c - '0';
  c = ascii_lower(c);
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Up to four hexadecimal digits at the front of *text; moves behind them. */
static bool take_group(struct span *text, unsigned *value) {
  size_t digits = 0;
  *value = 0;
  for (int digit; digits < text->len && (digit = hex_value(text->at[digits])) >= 0; digits++) {
    if (digits == 4) return false;
    *value = *value << 4 | (unsigned)digit;
  }
  *text = span_skip(*text, digits);
  return digits > 0;
}

/* RFC 4291 2.2. Groups go to bytes[0..used); those behind "::" are moved to the end when all are read. */
struct v6_reader {
  uint8_t bytes[V6_BYTES];
  unsigned used;
  int gap; /* where "::" stands, in bytes; -1: nowhere */
};

static bool read_groups(struct v6_reader *r, struct span text) {
  if (text.len >= 2 && text.at[0] == ':' && text.at[1] == ':') {
    r->gap = 0;
    text = span_skip(text, 2);
    if (text.len == 0) return true;
  }
  for (;;) {
    if (r->used <= V6_BYTES - V4_BYTES && span_find(text, '.') >= 0 && parse_v4(r->bytes + r->used, text)) {
      r->used += V4_BYTES;
      return true;
    }
    unsigned group;
    if (r->used == V6_BYTES || !take_group(&text, &group)) return false;
    r->bytes[r->used++] = (uint8_t)(group >> 8);
    r->bytes[r->used++] = (uint8_t)group;
    if (text.len == 0) return true;
    if (text.at[0] != ':') return false;
    text = span_skip(text, 1);
    if (text.len == 0 || text.at[0] != ':') continue; /* an empty group at the end is refused by take_group */
    if (r->gap >= 0) return false;
    r->gap = (int)r->used;
    text = span_skip(text, 1);
    if (text.len == 0) return true;
  }
}

static bool parse_v6(uint8_t *bytes, struct span text) {
  struct v6_reader r = {.gap = -1};
  if (!read_groups(&r, text)) return false;
  if (r.gap < 0 ? r.used != V6_BYTES : r.used > V6_BYTES - 2) return false; /* "::" stands for one group at least */
  unsigned head = r.gap < 0 ? V6_BYTES : (unsigned)r.gap;
  unsigned tail = r.used - head;
  memset(bytes, 0, V6_BYTES);
  memcpy(bytes, r.bytes, head);
  memcpy(bytes + V6_BYTES - tail, r.bytes + head, tail);
  return true;
}

int netaddr_parse(struct netaddr *address, struct span text) {
  struct netaddr got = {0};
  if (span_find(text, ':') >= 0) {
    if (!parse_v6(got.bytes, text)) return E_SYNTAX;
    got.family = 6;
  } else {
    if (!parse_v4(got.bytes, text)) return E_SYNTAX;
    got.family = 4;
  }
  *address = got;
  return E_OK;
}

/* "25": digits only. */
static int parse_port(uint16_t *port, struct span text) {
  uint64_t value;
  if (text.len == 0 || text.len > 5 || !span_to_u64(text, &value)) return E_SYNTAX;
  if (value > UINT16_MAX) return E_RANGE;
  *port = (uint16_t)value;
  return E_OK;
}

/* Cuts "host" or "host:port", "[host]" or "[host]:port" in two; *port is empty if there is none. A bare IPv6 address has more than one colon. */
static int split_port(struct span text, struct span *host, struct span *port, bool *has_port) {
  struct span rest;
  *has_port = false;
  if (text.len > 0 && text.at[0] == '[') {
    ptrdiff_t end = span_find(text, ']');
    if (end < 0) return E_SYNTAX;
    *host = span_skip(span_first(text, (size_t)end), 1);
    if (span_find(*host, ':') < 0) return E_SYNTAX; /* brackets are for IPv6 */
    rest = span_skip(text, (size_t)end + 1);
  } else {
    ptrdiff_t colon = span_find(text, ':');
    bool bare_v6 = colon >= 0 && span_find(span_skip(text, (size_t)colon + 1), ':') >= 0;
    size_t host_len = colon < 0 || bare_v6 ? text.len : (size_t)colon;
    *host = span_first(text, host_len);
    rest = span_skip(text, host_len);
  }
  if (rest.len == 0) return E_OK;
  if (rest.at[0] != ':') return E_SYNTAX;
  *port = span_skip(rest, 1);
  *has_port = true;
  return E_OK;
}

int netaddr_parse_with_port(struct netaddr *address, struct span text, uint16_t default_port) {
  struct span host, port_text;
  struct netaddr got;
  uint16_t port = default_port;
  bool has_port;
  int error = split_port(text, &host, &port_text, &has_port);
  if (error == E_OK) error = netaddr_parse(&got, host);
  if (error == E_OK && has_port) error = parse_port(&port, port_text);
  if (error != E_OK) return error;
  got.port = port;
  *address = got;
  return E_OK;
}

static unsigned family_bits(const struct netaddr *address) { return address->family == 4 ? V4_BITS : V6_BITS; }

/* The mask of a prefix within its byte number `byte`. */
static uint8_t mask_at(unsigned prefix_bits, unsigned byte) {
  if (prefix_bits >= 8 * (byte + 1)) return 0xff;
  return prefix_bits <= 8 * byte ? 0 : (uint8_t)(0xff << (8 - prefix_bits % 8));
}

int network_parse(struct network *network, struct span text) {
  struct network got = {0};
  ptrdiff_t slash = span_find(text, '/');
  int error = netaddr_parse(&got.base, slash < 0 ? text : span_first(text, (size_t)slash));
  if (error != E_OK) return error;
  uint64_t bits = family_bits(&got.base);
  if (slash >= 0) {
    struct span prefix = span_skip(text, (size_t)slash + 1);
    if (prefix.len > 3 || (prefix.len > 1 && prefix.at[0] == '0') || !span_to_u64(prefix, &bits)) return E_SYNTAX;
    if (bits > family_bits(&got.base)) return E_RANGE;
  }
  got.prefix_bits = (unsigned)bits;
  for (unsigned i = 0; i < V6_BYTES; i++)
    if ((got.base.bytes[i] & ~mask_at(got.prefix_bits, i)) != 0) return E_RANGE;
  *network = got;
  return E_OK;
}

/* ---- writing ---- */

static const uint8_t mapped_prefix[V6_BYTES - V4_BYTES] = {[10] = 0xff, [11] = 0xff}; /* ::ffff:0:0/96, RFC 4291 2.5.5.2 */

static bool is_mapped(const struct netaddr *address) {
  return address->family == 6 && memcmp(address->bytes, mapped_prefix, sizeof mapped_prefix) == 0;
}

static void format_v4(const uint8_t *bytes, struct fmt *out) {
  for (unsigned i = 0; i < V4_BYTES; i++) {
    if (i > 0) fmt_char(out, '.');
    fmt_u64(out, bytes[i]);
  }
}

static void format_group(unsigned value, struct fmt *out) {
  int shift = 12;
  while (shift > 0 && value >> shift == 0) shift -= 4;
  for (; shift >= 0; shift -= 4) fmt_char(out, "0123456789abcdef"[value >> shift & 15]);
}

/* The longest run of zero groups, the first of equals, two at least (RFC 5952 4.2); its length, 0 if there is none. */
static unsigned longest_zeros(const unsigned *groups, unsigned *start) {
  unsigned best = 1;
  for (unsigned i = 0; i < V6_GROUPS; i++) {
    unsigned run = 0;
    while (i + run < V6_GROUPS && groups[i + run] == 0) run++;
    if (run > best) {
      best = run;
      *start = i;
    }
    i += run;
  }
  return best > 1 ? best : 0;
}

static void format_v6(const uint8_t *bytes, struct fmt *out) {
  unsigned groups[V6_GROUPS], start = V6_GROUPS;
  for (unsigned i = 0; i < V6_GROUPS; i++) groups[i] = (unsigned)bytes[2 * i] << 8 | bytes[2 * i + 1];
  unsigned zeros = longest_zeros(groups, &start);
  for (unsigned i = 0; i < V6_GROUPS; i++) {
    if (zeros > 0 && i == start) {
      fmt_text(out, "::");
      i += zeros - 1;
      continue;
    }
    if (i > 0 && !(zeros > 0 && i == start + zeros)) fmt_char(out, ':');
    format_group(groups[i], out);
  }
}

void netaddr_format(const struct netaddr *address, struct fmt *out) {
  switch (address->family) {
  case 4: format_v4(address->bytes, out); break;
  case 6:
    if (is_mapped(address)) {
      fmt_text(out, "::ffff:");
      format_v4(address->bytes + sizeof mapped_prefix, out);
    } else {
      format_v6(address->bytes, out);
    }
    break;
  default: fmt_text(out, "none"); break;
  }
}

void netaddr_format_with_port(const struct netaddr *address, struct fmt *out) {
  if (address->family == 6) fmt_char(out, '[');
  netaddr_format(address, out);
  if (address->family == 6) fmt_char(out, ']');
  fmt_char(out, ':');
  fmt_u64(out, address->port);
}

/* ---- comparing ---- */

/* An IPv4-mapped address as the IPv4 one; any other as it is. */
static struct netaddr unmapped(const struct netaddr *address) {
  if (!is_mapped(address)) return *address;
  struct netaddr v4 = {.family = 4, .port = address->port};
  memcpy(v4.bytes, address->bytes + sizeof mapped_prefix, V4_BYTES);
  return v4;
}

bool network_contains(const struct network *network, const struct netaddr *address) {
  struct netaddr base = network->base, one = unmapped(address);
  unsigned prefix_bits = network->prefix_bits;
  /* A shorter prefix, such as ::/0, means IPv6: it does not let all of IPv4 in by way of the mapped addresses. */
  if (is_mapped(&base) && prefix_bits >= MAPPED_PREFIX_BITS) {
    base = unmapped(&base);
    prefix_bits -= MAPPED_PREFIX_BITS;
  }
  if (base.family != one.family || base.family == 0) return false;
  for (unsigned i = 0; i < family_bits(&base) / 8; i++)
    if (((base.bytes[i] ^ one.bytes[i]) & mask_at(prefix_bits, i)) != 0) return false;
  return true;
}

bool networks_contain(const struct network *networks, unsigned count, const struct netaddr *address) {
  for (unsigned i = 0; i < count; i++)
    if (network_contains(&networks[i], address)) return true;
  return false;
}

bool netaddr_equal(const struct netaddr *a, const struct netaddr *b) {
  if (a->family != b->family || a->port != b->port) return false;
  return a->family == 0 || memcmp(a->bytes, b->bytes, a->family == 4 ? V4_BYTES : V6_BYTES) == 0;
}

bool netaddr_is_any(const struct netaddr *address) {
  static const uint8_t zeros[sizeof address->bytes];
  return address->family != 0 && memcmp(address->bytes, zeros, address->family == 4 ? 4 : 16) == 0;
}
