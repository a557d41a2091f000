/*
 * fmt: text written into a fixed buffer, with a sticky overflow flag: write ten fields, check once.
 * Pure; borrows the buffer. After an overflow nothing more is written, so `len` is always within `cap`.
 *
 *   uint8_t room[512];
 *   struct fmt out = fmt_over(room, sizeof room);
 *   fmt_text(&out, "250 2.0.0 queued as "); fmt_hex64(&out, id); fmt_text(&out, "\r\n");
 *   if (out.overflow) ...
 */
#ifndef CORE_BASE_FMT_H
#define CORE_BASE_FMT_H

#include "core/base/span.h"

struct fmt {
  uint8_t *at;
  size_t len;
  size_t cap;
  bool overflow;
};

static inline struct fmt fmt_over(void *room, size_t cap) { return (struct fmt){(uint8_t *)room, 0, cap, false}; }
static inline size_t fmt_room(const struct fmt *f) { return f->cap - f->len; }
static inline struct span fmt_span(const struct fmt *f) { return (struct span){f->at, f->len}; }

static inline void fmt_bytes(struct fmt *f, const void *bytes, size_t len) {
  if (f->overflow || len > f->cap - f->len) {
    f->overflow = true;
    return;
  }
  if (len > 0) memcpy(f->at + f->len, bytes, len);
  f->len += len;
}
static inline void fmt_put(struct fmt *f, struct span s) { fmt_bytes(f, s.at, s.len); }
static inline void fmt_char(struct fmt *f, char c) { fmt_bytes(f, &c, 1); }
static inline void fmt_text(struct fmt *f, const char *text) { fmt_bytes(f, text, strlen(text)); }

/* Decimal, without leading zeros. */
void fmt_u64(struct fmt *f, uint64_t value);
/* Decimal, at least `digits` (at most 20) wide, padded with zeros. */
void fmt_u64_padded(struct fmt *f, uint64_t value, unsigned digits);
/* 16 lower-case hexadecimal digits. */
void fmt_hex64(struct fmt *f, uint64_t value);
/* Printable ASCII as it is; every other byte, and backslash and double quote, as \xHH. For logs: one line stays one line. */
void fmt_escaped(struct fmt *f, struct span s);
/* RFC 5322 date in UTC, e.g. "Tue, 24 Nov 2026 01:47:19 +0000", from milliseconds since 1970. */
void fmt_date(struct fmt *f, uint64_t wall_ms);
/* The same as RFC 3339 writes it, e.g. "2026-11-24T01:47:19Z". */
void fmt_timestamp(struct fmt *f, uint64_t wall_ms);

#endif
