#include "queue/content.h"

#include "core/base/must.h"

static bool add_chunk(struct slab *slab, struct content *content, uint32_t size) {
  if (content->chunks == CONTENT_CHUNKS_MAX) return false;
  void *memory = slab_get(slab, size);
  if (memory == NULL) return false;
  content->slice[content->chunks] = (struct io_slice){memory, 0};
  content->capacity[content->chunks] = size;
  content->chunks++;
  content->room = size;
  return true;
}

struct content *content_new(struct slab *slab, uint64_t expected) {
  struct content *content = slab_get(slab, sizeof *content);
  if (content == NULL) return NULL;
  content->chunks = 0;
  content->head_size = 0;
  content->total = 0;
  if (add_chunk(slab, content, expected > CONTENT_CHUNK_SMALL ? CONTENT_CHUNK_LARGE : CONTENT_CHUNK_SMALL)) return content;
  slab_put(slab, content, sizeof *content);
  return NULL;
}

void content_free(struct slab *slab, struct content *content) {
  if (content == NULL) return;
  for (uint32_t i = 0; i < content->chunks; i++) slab_put(slab, content->slice[i].at, content->capacity[i]);
  slab_put(slab, content, sizeof *content);
}

bool content_append(struct slab *slab, struct content *content, struct span bytes) {
  while (bytes.len > 0) {
    if (content->room == 0 && !add_chunk(slab, content, CONTENT_CHUNK_LARGE)) return false;
    struct io_slice *last = &content->slice[content->chunks - 1];
    size_t n = bytes.len < content->room ? bytes.len : content->room;
    memcpy((uint8_t *)last->at + last->len, bytes.at, n);
    last->len += n;
    content->room -= (uint32_t)n;
    content->total += n;
    bytes = span_skip(bytes, n);
  }
  return true;
}

bool content_has_room(const struct content *content, uint64_t bytes) {
  return bytes <= content->room + (uint64_t)(CONTENT_CHUNKS_MAX - content->chunks) * CONTENT_CHUNK_LARGE;
}

uint32_t content_pad(struct content *content, uint32_t padding) {
  struct io_slice *last = &content->slice[content->chunks - 1];
  size_t padded = (last->len + padding - 1) / padding * padding;
  must(padded <= content->capacity[content->chunks - 1]);
  memset((uint8_t *)last->at + last->len, 0, padded - last->len);
  content->room = 0;
  uint32_t length = (uint32_t)(content->total + (padded - last->len));
  last->len = padded;
  return length;
}

unsigned content_slices(const struct content *content, struct io_slice *slices) {
  uint64_t skip = content->head_size, left = content_size(content);
  unsigned count = 0;
  for (uint32_t i = 0; i < content->chunks && left > 0; i++) {
    const struct io_slice *chunk = &content->slice[i];
    if (skip >= chunk->len) {
      skip -= chunk->len;
      continue;
    }
    size_t n = chunk->len - (size_t)skip;
    if (n > left) n = (size_t)left;
    slices[count++] = (struct io_slice){(uint8_t *)chunk->at + skip, n};
    left -= n;
    skip = 0;
  }
  return count;
}

struct content *content_for_read(struct slab *slab, uint32_t length) {
  struct content *content = content_new(slab, length);
  if (content == NULL) return NULL;
  uint32_t capacity = content->capacity[0];
  while (capacity < length && add_chunk(slab, content, CONTENT_CHUNK_LARGE)) capacity += CONTENT_CHUNK_LARGE;
  if (capacity < length) {
    content_free(slab, content);
    return NULL;
  }
  uint32_t left = length;
  for (uint32_t i = 0; i < content->chunks; i++) {
    content->slice[i].len = left < content->capacity[i] ? left : content->capacity[i];
    left -= (uint32_t)content->slice[i].len;
  }
  content->room = 0;
  content->total = length;
  return content;
}
