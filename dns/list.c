#include "dns/list.h"

enum { V4_BYTES = 4, V6_BYTES = 16 };

/* RFC 4291 2.5.5.2. */
static bool is_mapped(const struct netaddr *address) {
  static const uint8_t prefix[V6_BYTES - V4_BYTES] = {[10] = 0xff, [11] = 0xff};
  return address->family == 6 && memcmp(address->bytes, prefix, sizeof prefix) == 0;
}

/* The IPv4 address behind it, or as it is. */
static struct netaddr plain(const struct netaddr *address) {
  struct netaddr v4 = {.family = 4};
  if (!is_mapped(address)) return *address;
  memcpy(v4.bytes, address->bytes + V6_BYTES - V4_BYTES, V4_BYTES);
  return v4;
}

bool list_knows(const struct netaddr *address) {
  /* RFC 6890, but for what is only for documentation, which no host has and tests can. */
  static const struct network unknown[] = {{{.family = 4}, 8},
                                           {{.family = 4, .bytes = {10}}, 8},
                                           {{.family = 4, .bytes = {100, 64}}, 10},
                                           {{.family = 4, .bytes = {127}}, 8},
                                           {{.family = 4, .bytes = {169, 254}}, 16},
                                           {{.family = 4, .bytes = {172, 16}}, 12},
                                           {{.family = 4, .bytes = {192, 168}}, 16},
                                           {{.family = 4, .bytes = {224}}, 3}};
  static const struct network global = {{.family = 6, .bytes = {0x20}}, 3}; /* RFC 4291 2.4 */
  struct netaddr client = plain(address);
  if (client.family == 6) return network_contains(&global, &client);
  return client.family == 4 && !networks_contain(unknown, sizeof unknown / sizeof *unknown, &client);
}

void list_question(struct dns_name *name, const struct netaddr *address, struct span zone) {
  static const char digits[] = "0123456789abcdef";
  struct netaddr client = plain(address);
  struct fmt out = fmt_over(name->text, DNS_NAME_MAX);
  for (unsigned i = client.family == 4 ? V4_BYTES : 0; i-- > 0;) {
    fmt_u64(&out, client.bytes[i]);
    fmt_char(&out, '.');
  }
  for (unsigned i = client.family == 6 ? V6_BYTES : 0; i-- > 0;) {
    char nibbles[] = {digits[client.bytes[i] & 15], '.', digits[client.bytes[i] >> 4], '.'};
    fmt_bytes(&out, nibbles, sizeof nibbles);
  }
  fmt_put(&out, zone);
  must(!out.overflow);
  name->len = (uint8_t)out.len;
  name->text[out.len] = '\0';
}

static bool is_in_order(const struct netaddr *answer) {
  static const struct network all = {{.family = 4, .bytes = {127}}, 8}, none = {{.family = 4, .bytes = {127, 255, 255}}, 24};
  return answer->family == 4 && network_contains(&all, answer) && !network_contains(&none, answer);
}

enum list_verdict list_verdict(const struct dns_answer *answer, const struct network *networks, unsigned count, struct netaddr *which) {
  bool present = false;
  if (answer->outcome == DNS_NO_NAME || answer->outcome == DNS_NO_DATA) return LIST_ABSENT;
  if (answer->outcome != DNS_FOUND) return LIST_UNKNOWN;
  for (unsigned i = 0; i < answer->count; i++) {
    const struct netaddr *address = &answer->address[i];
    if (!is_in_order(address)) {
      *which = *address;
      return LIST_OUT_OF_ORDER;
    }
    if (present || !networks_contain(networks, count, address)) continue;
    *which = *address;
    present = true;
  }
  return present ? LIST_PRESENT : LIST_ABSENT;
}
