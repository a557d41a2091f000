/*
 * buffer: bytes that grow, in slab memory (above SLAB_MAX in malloc's, which counts all the same; both may go a quarter beyond the slab's limit). Owner: one shard. `{0}` is the empty buffer and holds no memory.
 */
#ifndef CORE_BASE_BUFFER_H
#define CORE_BASE_BUFFER_H

#include "core/base/fmt.h"
#include "core/base/must.h"
#include "core/base/slab.h"
#include "core/base/span.h"

struct buffer {
  uint8_t *at;
  uint32_t len;
  uint32_t cap;
};

/* Room for `more` bytes behind `len`. False without memory: the buffer is as before. */
must_check bool buffer_reserve(struct slab *slab, struct buffer *buffer, size_t more);
must_check bool buffer_append(struct slab *slab, struct buffer *buffer, struct span bytes);
/* Drops the first n bytes. */
void buffer_consume(struct buffer *buffer, size_t n);
/* Gives the memory back; empty afterwards. */
void buffer_free(struct slab *slab, struct buffer *buffer);

static inline struct span buffer_span(const struct buffer *buffer) { return span_of(buffer->at, buffer->len); }
/* Writing with fmt: fmt_over the free room, then buffer_wrote. */
static inline struct fmt buffer_fmt(const struct buffer *buffer) { return fmt_over(buffer->at + buffer->len, buffer->cap - buffer->len); }
static inline void buffer_wrote(struct buffer *buffer, const struct fmt *out) { buffer->len += (uint32_t)out->len; }

#endif
