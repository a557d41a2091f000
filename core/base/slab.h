/*
 * slab: memory of many sizes for one shard, in classes with free lists: getting and putting are a few instructions, and no lock.
 *
 * Owner: one thread. Sizes up to SLAB_MAX; blocks of 4096 bytes and more are page-aligned. Memory comes from the system in regions and stays with the
 * slab until slab_fini, but for what slab_trim gives back; large blocks that are free may become small ones. A limit bounds what is handed out; at the
 * limit slab_get gives NULL, which is an ordinary event for the caller (452, wait, drop).
 * Whoever puts a block back says its size, which must be the size it was got with.
 *
 * Slabs of several threads can have a limit in common (slab_share): each has a share, and one that needs more takes what the others do not need, but for their
 * floor. A slab gives back what it neither uses nor keeps from the system when another is short.
 */
#ifndef CORE_BASE_SLAB_H
#define CORE_BASE_SLAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/must.h"

#define SLAB_MAX 65536
#define SLAB_CLASSES 22
#define SLAB_CLASSES_LARGE 7 /* of them: more than 4096 bytes */

struct slab_large { /* the free blocks of a large class */
  uint32_t free;    /* in the free list */
  uint32_t least;   /* ... at any time since the last pass of slab_trim began */
  uint32_t surplus; /* still to be trimmed in this pass */
  void **bare;      /* those without memory behind them; malloc */
  uint32_t bare_count, bare_size;
};

/* What slabs have in common. Zeroed at first; any thread. */
struct slab_pool {
  _Atomic int64_t free_bytes; /* of the limits of all; below zero: they have yet to come down to what was set */
  _Atomic int short_of;       /* somebody needs more than there is */
};

struct slab {
  struct slab_block *_free[SLAB_CLASSES];
  struct slab_large _large[SLAB_CLASSES_LARGE];
  bool _trimming;   /* within a pass */
  uint8_t *_region; /* what is left of the newest one */
  size_t _region_left;
  struct slab_region *_regions;
  struct slab_pool *_pool; /* NULL: the limit is its own */
  uint64_t _share_bytes, _floor_bytes;
  uint64_t kept_bytes; /* that the system gave and did not get back, used or not */
  uint64_t used_bytes; /* handed out, in class sizes */
  uint64_t limit_bytes;
};

void slab_init(struct slab *slab, uint64_t limit_bytes);
void slab_fini(struct slab *slab);

/*
 * From now on the limit is one with the others of this pool: its share of it is what it may have while all need theirs, and its floor what is never lent.
 * Again with other figures: takes effect as memory is put back.
 */
void slab_share(struct slab *slab, struct slab_pool *pool, uint64_t share_bytes, uint64_t floor_bytes);
/* Takes from the pool, or gives back to it: once in a turn of the loop. */
void slab_balance(struct slab *slab);
/* Takes from the pool what is missing for `more` beyond what is used; false: there is not so much. */
bool slab_grow(struct slab *slab, uint64_t more);

/* Not zeroed. NULL at the limit, when the system has no memory, or if size is 0 or above SLAB_MAX. */
void *slab_get(struct slab *slab, size_t size);
void slab_put(struct slab *slab, void *block, size_t size);
/*
 * Beyond the limit, by a quarter of it: for what cannot wait, such as replies and bytes that have come already, while slab_get gives nothing any more. slab_count is for
 * memory from elsewhere (larger than SLAB_MAX), that is to count as handed out; false: it does not.
 */
void *slab_get_beyond(struct slab *slab, size_t size);
must_check static inline bool slab_count(struct slab *slab, size_t size) {
  uint64_t used = slab->used_bytes + size;
  if (used > slab->limit_bytes && !slab_grow(slab, size) && used > slab->limit_bytes + slab->limit_bytes / 4) return false;
  slab->used_bytes += size;
  return true;
}
static inline void slab_uncount(struct slab *slab, size_t size) {
  must(slab->used_bytes >= size);
  slab->used_bytes -= size;
}
/* With so much more, is a part of the limit (one of `parts`) left? */
static inline bool slab_leaves(struct slab *slab, size_t more, unsigned parts) {
  uint64_t used = slab->used_bytes + more;
  return used <= slab->limit_bytes - slab->limit_bytes / parts || slab_grow(slab, more + used / (parts - 1) + 1);
}
/* The last eighth is for what delivers: a queue without memory for jobs would never become shorter. */
static inline bool slab_has_room(struct slab *slab, size_t more) { return slab_leaves(slab, more, 8); }
/*
 * Gives back to the system the memory of large blocks as many as were free all the time since the last pass began; at most `most` at once (some
 * microseconds each). False: this pass is over, and the next call begins another. The addresses stay with the slab, and blocks get memory again when
 * they are needed.
 */
bool slab_trim(struct slab *slab, unsigned most);
/* What a block of this size really takes. */
size_t slab_size(size_t size);

#endif
