#include "bench/lib/domains.h"

#include "core/base/error.h"

static bool is_name_byte(uint8_t c) { return ascii_is_alpha(c) || ascii_is_digit(c) || c == '-' || c == '.' || c == '_'; }

static bool copy_part(char *room, size_t room_size, struct span part) {
  if (part.len >= room_size) return false;
  for (size_t i = 0; i < part.len; i++) {
    if (!is_name_byte(part.at[i])) return false;
    room[i] = (char)ascii_lower(part.at[i]);
  }
  room[part.len] = '\0';
  return true;
}

/* "%d" or "%0Nd" at the beginning of s; the length of the directive, or 0. */
static size_t directive(struct span s, unsigned *digits) {
  *digits = 1;
  if (s.len >= 2 && s.at[1] == 'd') return 2;
  uint64_t width;
  ptrdiff_t end = span_find(s, 'd');
  if (end < 3 || s.at[1] != '0' || !span_to_u64(span_of(s.at + 2, (size_t)end - 2), &width) || width == 0 || width > 18) return 0;
  *digits = (unsigned)width;
  return (size_t)end + 1;
}

int domains_parse(struct domains *domains, struct span pattern) {
  ptrdiff_t percent = span_find(pattern, '%');
  if (percent < 0) return E_SYNTAX;
  struct span rest = span_skip(pattern, (size_t)percent);
  size_t directive_len = directive(rest, &domains->_digits);
  if (directive_len == 0) return E_SYNTAX;
  if (!copy_part(domains->_prefix, sizeof domains->_prefix, span_first(pattern, (size_t)percent))) return E_SYNTAX;
  if (!copy_part(domains->_suffix, sizeof domains->_suffix, span_skip(rest, directive_len))) return E_SYNTAX;
  return strlen(domains->_prefix) + strlen(domains->_suffix) + 20 <= DOMAIN_NAME_MAX ? E_OK : E_SYNTAX;
}

void domains_format(const struct domains *domains, uint64_t index, struct fmt *out) {
  fmt_text(out, domains->_prefix);
  fmt_u64_padded(out, index, domains->_digits);
  fmt_text(out, domains->_suffix);
}

bool domains_index(const struct domains *domains, struct span name, uint64_t *index) {
  size_t prefix_len = strlen(domains->_prefix), suffix_len = strlen(domains->_suffix);
  if (name.len < prefix_len + suffix_len + domains->_digits) return false;
  struct span number = span_of(name.at + prefix_len, name.len - prefix_len - suffix_len);
  if (!span_equal_nocase(span_first(name, prefix_len), span_of_text(domains->_prefix))) return false;
  if (!span_equal_nocase(span_skip(name, name.len - suffix_len), span_of_text(domains->_suffix))) return false;
  bool padded = number.len > domains->_digits && number.at[0] == '0';
  return !padded && span_to_u64(number, index);
}

struct span domains_suffix(const struct domains *domains) {
  return span_of_text(domains->_suffix);
}

uint64_t mix64(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

uint64_t domain_pick(enum domain_order order, uint64_t n, uint64_t count, uint64_t seed) {
  return (order == DOMAIN_RANDOM ? mix64(n ^ seed) : n) % count;
}

bool recipient_parse(struct span address, uint64_t *number, struct span *domain) {
  static const struct span prefix = {(const uint8_t *)"user-", 5};
  if (address.len < prefix.len || !span_equal_nocase(span_first(address, prefix.len), prefix)) return false;
  struct span rest = span_skip(address, prefix.len);
  ptrdiff_t at = span_find(rest, '@');
  if (at < 0 || !span_to_u64(span_first(rest, (size_t)at), number)) return false;
  *domain = span_skip(rest, (size_t)at + 1);
  return true;
}
