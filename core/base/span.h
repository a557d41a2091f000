/*
 * span: a run of bytes somebody else owns (a borrow). A span never owns and never ends in NUL.
 * Pure. `{NULL, 0}` is the empty span.
 */
#ifndef CORE_BASE_SPAN_H
#define CORE_BASE_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct span {
  const uint8_t *at;
  size_t len;
};

#define SPAN(literal) ((struct span){(const uint8_t *)(literal), sizeof(literal) - 1})

static inline struct span span_of(const void *at, size_t len) { return (struct span){(const uint8_t *)at, len}; }
static inline struct span span_of_text(const char *text) { return span_of(text, strlen(text)); }

static inline bool span_equal(struct span a, struct span b) { return a.len == b.len && (a.len == 0 || memcmp(a.at, b.at, a.len) == 0); }

/* The rest after the first n bytes; n must not exceed the length. */
static inline struct span span_skip(struct span s, size_t n) {
  return n == 0 ? s : (struct span){s.at + n, s.len - n}; /* NULL + 0 is undefined in C */
}

/* The first n bytes, or all of them if there are fewer. */
static inline struct span span_first(struct span s, size_t n) { return (struct span){s.at, n < s.len ? n : s.len}; }

static inline uint8_t ascii_lower(uint8_t c) { return c >= 'A' && c <= 'Z' ? (uint8_t)(c | 0x20) : c; }
static inline bool ascii_is_digit(uint8_t c) { return c >= '0' && c <= '9'; }
static inline bool ascii_is_alpha(uint8_t c) { return (uint8_t)((c | 0x20) - 'a') < 26; }

/* ASCII letters compare without case; every other byte as it is. */
bool span_equal_nocase(struct span a, struct span b);
bool span_starts_nocase(struct span s, struct span prefix);
bool span_ends_nocase(struct span s, struct span suffix);

/* The same in ASCII lower case: the span itself if it is already, else a copy in `room`, cut at `size`. */
struct span span_lower(struct span s, uint8_t *room, size_t size);

/* The index of the first such byte, or -1. */
static inline ptrdiff_t span_find(struct span s, uint8_t byte) {
  const uint8_t *hit = s.len == 0 ? NULL : memchr(s.at, byte, s.len);
  return hit == NULL ? -1 : hit - s.at;
}

/* Without blanks and tabs at both ends. */
struct span span_trim(struct span s);
/* What comes before the byte, which is taken too; all of it if there is none. */
struct span span_take_until(struct span *s, uint8_t byte);

/* Bytes of the well-formed UTF-8 character (RFC 3629 section 4) at the start of s; 0 if there is none. */
size_t span_utf8_length(struct span s);

/* Decimal digits only, the whole span, no sign; false on anything else or on overflow. */
bool span_to_u64(struct span s, uint64_t *value);

#endif
