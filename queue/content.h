/*
 * content: the bytes of one spool record in memory, in chunks: what was received, what is written to disk, and what is sent are the same bytes in the same place.
 *
 * A record begins with its header and envelope (the head), then comes message content in wire form. Chunks are page-aligned slab blocks, so that the record goes to
 * disk with direct I/O and to sockets as a gather list, without a copy. Owner: one shard; another shard may read it while a job of it is there.
 */
#ifndef QUEUE_CONTENT_H
#define QUEUE_CONTENT_H

#include "core/base/must.h"
#include "core/base/slab.h"
#include "core/base/span.h"
#include "core/io/io.h"

#define CONTENT_CHUNKS_MAX 24
#define CONTENT_CHUNK_SMALL 8192
#define CONTENT_CHUNK_LARGE 65536

struct content {
  uint32_t chunks;
  uint32_t room;      /* bytes free in the last chunk */
  uint32_t head_size; /* record header and envelope */
  uint64_t total;     /* head and content so far */
  uint32_t capacity[CONTENT_CHUNKS_MAX];
  struct io_slice slice[CONTENT_CHUNKS_MAX]; /* of each chunk, what is used */
};

/* `expected` is a hint of the final size, head included (0: unknown). NULL: no memory. */
struct content *content_new(struct slab *slab, uint64_t expected);
void content_free(struct slab *slab, struct content *content);

/* False when memory or chunks ran out: the content is then short of some of the bytes and of use only to be freed. */
bool content_append(struct slab *slab, struct content *content, struct span bytes);
/* What was appended until now is the head. */
static inline void content_end_head(struct content *content) { content->head_size = (uint32_t)content->total; }
static inline uint64_t content_size(const struct content *content) { return content->total - content->head_size; }
/* May up to `bytes` more be appended? */
bool content_has_room(const struct content *content, uint64_t bytes);

/* Zero-pads the record to a multiple of `padding`, for the disk; returns the padded length. The slices then are the padded record. */
uint32_t content_pad(struct content *content, uint32_t padding);
/* The content without the head, as slices to send (at most CONTENT_CHUNKS_MAX); returns how many. Padding is left out. */
unsigned content_slices(const struct content *content, struct io_slice *slices);

/* Chunks for a record of `length` bytes to be read back from disk. NULL: no memory. */
struct content *content_for_read(struct slab *slab, uint32_t length);

#endif
