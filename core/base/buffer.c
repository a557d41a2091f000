#include "core/base/buffer.h"

#include <stdlib.h>

static uint8_t *get(struct slab *slab, size_t size) {
  if (size <= SLAB_MAX) return slab_get_beyond(slab, size);
  if (!slab_count(slab, size)) return NULL;
  uint8_t *memory = malloc(size);
  if (memory == NULL) slab_uncount(slab, size);
  return memory;
}

static void put(struct slab *slab, uint8_t *at, size_t size) {
  if (size <= SLAB_MAX) {
    slab_put(slab, at, size);
  } else {
    free(at);
    slab_uncount(slab, size);
  }
}

/* Above the slab's sizes it grows in place where it can, by a quarter: a megabyte that only waits must not take three for a moment. */
static bool grow_large(struct slab *slab, struct buffer *buffer, size_t wanted) {
  size_t size = buffer->cap + buffer->cap / 4 > wanted ? buffer->cap + buffer->cap / 4 : wanted;
  if (!slab_count(slab, size - buffer->cap)) return false;
  uint8_t *grown = realloc(buffer->at, size);
  if (grown == NULL) {
    slab_uncount(slab, size - buffer->cap);
    return false;
  }
  buffer->at = grown;
  buffer->cap = (uint32_t)size;
  return true;
}

bool buffer_reserve(struct slab *slab, struct buffer *buffer, size_t more) {
  if (buffer->cap - buffer->len >= more) return true;
  size_t wanted = buffer->len + more;
  if (wanted > UINT32_MAX / 2) return false;
  if (buffer->cap > SLAB_MAX) return grow_large(slab, buffer, wanted);
  if (wanted < (size_t)buffer->cap * 2) wanted = (size_t)buffer->cap * 2; /* doubling: appending stays linear */
  if (wanted < 256) wanted = 256;
  if (wanted <= SLAB_MAX) wanted = slab_size(wanted);
  uint8_t *grown = get(slab, wanted);
  if (grown == NULL) return false;
  if (buffer->len > 0) memcpy(grown, buffer->at, buffer->len);
  if (buffer->cap > 0) put(slab, buffer->at, buffer->cap);
  buffer->at = grown;
  buffer->cap = (uint32_t)wanted;
  return true;
}

bool buffer_append(struct slab *slab, struct buffer *buffer, struct span bytes) {
  if (bytes.len == 0) return true;
  if (!buffer_reserve(slab, buffer, bytes.len)) return false;
  memcpy(buffer->at + buffer->len, bytes.at, bytes.len);
  buffer->len += (uint32_t)bytes.len;
  return true;
}

void buffer_consume(struct buffer *buffer, size_t n) {
  must(n <= buffer->len);
  buffer->len -= (uint32_t)n;
  if (buffer->len > 0 && n > 0) memmove(buffer->at, buffer->at + n, buffer->len);
}

void buffer_free(struct slab *slab, struct buffer *buffer) {
  if (buffer->cap > 0) put(slab, buffer->at, buffer->cap);
  *buffer = (struct buffer){0};
}
