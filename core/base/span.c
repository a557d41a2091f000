#include "core/base/span.h"

bool span_equal_nocase(struct span a, struct span b) {
  if (a.len != b.len) return false;
  for (size_t i = 0; i < a.len; i++)
    if (ascii_lower(a.at[i]) != ascii_lower(b.at[i])) return false;
  return true;
}

bool span_starts_nocase(struct span s, struct span prefix) { return s.len >= prefix.len && span_equal_nocase(span_first(s, prefix.len), prefix); }

bool span_ends_nocase(struct span s, struct span suffix) {
  return s.len >= suffix.len && span_equal_nocase(span_skip(s, s.len - suffix.len), suffix);
}

struct span span_lower(struct span s, uint8_t *room, size_t size) {
  size_t i = 0;
  while (i < s.len && ascii_lower(s.at[i]) == s.at[i]) i++;
  if (i == s.len) return s;
  size_t len = s.len < size ? s.len : size;
  for (i = 0; i < len; i++) room[i] = ascii_lower(s.at[i]);
  return span_of(room, len);
}

bool span_to_u64(struct span s, uint64_t *value) {
  uint64_t sum = 0;
  if (s.len == 0) return false;
  for (size_t i = 0; i < s.len; i++) {
    if (!ascii_is_digit(s.at[i])) return false;
    if (__builtin_mul_overflow(sum, 10, &sum) || __builtin_add_overflow(sum, s.at[i] - '0', &sum)) return false;
  }
  *value = sum;
  return true;
}

size_t span_utf8_length(struct span s) {
  uint8_t first = s.at[0];
  if (first < 0x80) return 1;
  size_t len = first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
  if (len == 0 || s.len < len) return 0;
  uint8_t low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;  /* no overlong forms */
  uint8_t high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf; /* no surrogates, nothing above U+10FFFF */
  if (s.at[1] < low || s.at[1] > high) return 0;
  for (size_t i = 2; i < len; i++)
    if ((s.at[i] & 0xc0) != 0x80) return 0;
  return len;
}

static bool is_blank(uint8_t c) { return c == ' ' || c == '\t'; }

struct span span_trim(struct span s) {
  while (s.len > 0 && is_blank(s.at[0])) s = span_skip(s, 1);
  while (s.len > 0 && is_blank(s.at[s.len - 1])) s.len--;
  return s;
}

struct span span_take_until(struct span *s, uint8_t byte) {
  ptrdiff_t at = span_find(*s, byte);
  struct span taken = span_first(*s, at < 0 ? s->len : (size_t)at);
  *s = span_skip(*s, taken.len + (at < 0 ? 0 : 1));
  return taken;
}
