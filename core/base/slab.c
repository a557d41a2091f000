#include "core/base/slab.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define REGION_SIZE ((size_t)4 << 20)

struct slab_block {
  struct slab_block *next;
};

struct slab_region { /* for slab_fini; itself the first page of the region */
  struct slab_region *next;
};

static const uint32_t class_size[SLAB_CLASSES] = {64,   128,  192,  256,  320,  384,   448,   512,   768,   1024,  1280,
                                                  1536, 2048, 3072, 4096, 8192, 12288, 16384, 24576, 32768, 49152, 65536};

/* By size in units of 64 bytes up to 4096, in units of 4096 above; rounded up. */
static const uint8_t class_small[65] = {0,  0,  1,  2,  3,  4,  5,  6,  7,  8,  8,  8,  8,  9,  9,  9,  9,  10, 10, 10, 10, 11,
                                        11, 11, 11, 12, 12, 12, 12, 12, 12, 12, 12, 13, 13, 13, 13, 13, 13, 13, 13, 13, 13, 13,
                                        13, 13, 13, 13, 13, 14, 14, 14, 14, 14, 14, 14, 14, 14, 14, 14, 14, 14, 14, 14, 14};
static const uint8_t class_large[17] = {14, 14, 15, 16, 17, 18, 18, 19, 19, 20, 20, 20, 20, 21, 21, 21, 21};

#define CLASS_LARGE (SLAB_CLASSES - SLAB_CLASSES_LARGE) /* the first of the large ones */

static unsigned class_of(size_t size) {
  must(size <= SLAB_MAX);
  return size <= 4096 ? class_small[(size + 63) / 64] : class_large[(size + 4095) / 4096];
}

size_t slab_size(size_t size) { return class_size[class_of(size)]; }

void slab_init(struct slab *slab, uint64_t limit_bytes) {
  memset(slab, 0, sizeof *slab);
  slab->limit_bytes = limit_bytes;
}

void slab_fini(struct slab *slab) {
  while (slab->_regions != NULL) {
    struct slab_region *region = slab->_regions;
    slab->_regions = region->next;
    munmap(region, REGION_SIZE);
  }
  for (unsigned i = 0; i < SLAB_CLASSES_LARGE; i++) free(slab->_large[i].bare);
  memset(slab, 0, sizeof *slab);
}

static bool new_region(struct slab *slab) {
  void *memory = mmap(NULL, REGION_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return false;
  struct slab_region *region = memory;
  region->next = slab->_regions;
  slab->_regions = region;
  slab->_region = (uint8_t *)memory + 4096;
  slab->_region_left = REGION_SIZE - 4096;
  return true;
}

static struct slab_large *large_of(struct slab *slab, unsigned class) { return &slab->_large[class - CLASS_LARGE]; }

static void push(struct slab *slab, unsigned class, void *memory) {
  struct slab_block *block = memory;
  block->next = slab->_free[class];
  slab->_free[class] = block;
  if (class >= CLASS_LARGE) large_of(slab, class)->free++;
}

/* The class has a free block. */
static void *pop(struct slab *slab, unsigned class) {
  struct slab_block *block = slab->_free[class];
  slab->_free[class] = block->next;
  if (class >= CLASS_LARGE) {
    struct slab_large *large = large_of(slab, class);
    if (--large->free < large->least) large->least = large->free;
  }
  return block;
}

/* One that was trimmed becomes an ordinary free one. */
static bool take_bare(struct slab *slab, unsigned class) {
  if (class < CLASS_LARGE || large_of(slab, class)->bare_count == 0) return false;
  struct slab_large *large = large_of(slab, class);
  slab->kept_bytes += class_size[class]; /* cppcheck-suppress arrayIndexOutOfBoundsCond */
  push(slab, class, large->bare[--large->bare_count]);
  return true;
}

static void cut(struct slab *slab, unsigned class, uint8_t *memory, size_t size) {
  for (size_t at = 0; at + class_size[class] <= size; at += class_size[class]) push(slab, class, memory + at);
}

/*
 * Small blocks out of a large one that nobody needs now: what a burst of content has taken serves the messages that stay behind it. It does not
 * become large again; a later burst takes fresh memory, as the small blocks would have.
 */
static bool cut_large(struct slab *slab, unsigned class) {
  for (unsigned large = CLASS_LARGE; large < SLAB_CLASSES; large++) {
    if (slab->_free[large] == NULL && !take_bare(slab, large)) continue;
    cut(slab, class, pop(slab, large), class_size[large]);
    return true;
  }
  return false;
}

/* Cuts fresh blocks: of a small class a page (or three, for sizes that fit badly) at once, so that page alignment of the large ones is never lost. */
static bool refill(struct slab *slab, unsigned class) {
  size_t size = class_size[class];
  size_t batch = size >= 4096 ? size : 12288;
  if (take_bare(slab, class)) return true;
  if (slab->_region_left < batch && size < 4096 && cut_large(slab, class)) return true;
  if (slab->_region_left < batch && !new_region(slab)) return false;
  cut(slab, class, slab->_region, batch);
  slab->kept_bytes += batch;
  slab->_region += batch;
  slab->_region_left -= batch;
  return true;
}

static void *get(struct slab *slab, unsigned class) {
  if (slab->_free[class] == NULL && !refill(slab, class)) return NULL;
  void *block = pop(slab, class);
  slab->used_bytes += class_size[class];
  return block;
}

void *slab_get(struct slab *slab, size_t size) {
  if (size == 0 || size > SLAB_MAX) return NULL;
  unsigned class = class_of(size);
  if (slab->used_bytes + class_size[class] > slab->limit_bytes && !slab_grow(slab, class_size[class])) return NULL;
  return get(slab, class);
}

void *slab_get_beyond(struct slab *slab, size_t size) {
  if (size == 0 || size > SLAB_MAX) return NULL;
  unsigned class = class_of(size);
  uint64_t used = slab->used_bytes + class_size[class];
  if (used > slab->limit_bytes && !slab_grow(slab, class_size[class]) && used > slab->limit_bytes + slab->limit_bytes / 4) return NULL;
  return get(slab, class);
}

void slab_put(struct slab *slab, void *block, size_t size) {
  if (block == NULL) return;
  unsigned class = class_of(size);
  must(slab->used_bytes >= class_size[class]);
  slab->used_bytes -= class_size[class];
  push(slab, class, block);
}

/* ---- what is not needed any more ---- */

static bool has_room(struct slab_large *large) {
  if (large->bare_count < large->bare_size) return true;
  uint32_t size = large->bare_size == 0 ? 64 : 2 * large->bare_size;
  void **bare = realloc(large->bare, size * sizeof *bare);
  if (bare == NULL) return false;
  large->bare = bare;
  large->bare_size = size;
  return true;
}

/* False: nothing more is to be trimmed in this class. */
static bool trim_one(struct slab *slab, unsigned class) {
  struct slab_large *large = large_of(slab, class);
  if (large->surplus == 0 || slab->_free[class] == NULL || !has_room(large)) return false;
  void *block = pop(slab, class);
  madvise(block, class_size[class], MADV_DONTNEED); /* should it fail the block is not bare, but as good as any */
  large->bare[large->bare_count++] = block;
  slab->kept_bytes -= class_size[class];
  large->surplus--;
  return true;
}

static void begin_pass(struct slab *slab) {
  for (unsigned i = 0; i < SLAB_CLASSES_LARGE; i++) {
    struct slab_large *large = &slab->_large[i];
    large->surplus = large->least;
    large->least = large->free;
  }
}

bool slab_trim(struct slab *slab, unsigned most) {
  if (!slab->_trimming) begin_pass(slab);
  for (unsigned class = CLASS_LARGE; class < SLAB_CLASSES; class ++) {
    while (most > 0 && trim_one(slab, class)) most--;
  }
  slab->_trimming = most == 0;
  return slab->_trimming;
}

/* ---- a limit in common ---- */

#define STEP_PART 16 /* of the share: what is taken beyond it at once, and the least that is given back */
#define OVER_PART 12 /* of what is used: so much stays free when the limit comes down, as sessions still need their replies */

void slab_share(struct slab *slab, struct slab_pool *pool, uint64_t share_bytes, uint64_t floor_bytes) {
  must(floor_bytes <= share_bytes && (slab->_pool == NULL || slab->_pool == pool));
  uint64_t before = slab->_pool == NULL ? 0 : slab->_share_bytes, limit = slab->_pool == NULL ? 0 : slab->limit_bytes;
  slab->_pool = pool;
  slab->_share_bytes = share_bytes;
  slab->_floor_bytes = floor_bytes;
  slab->limit_bytes = limit < floor_bytes ? floor_bytes : limit;
  atomic_fetch_add_explicit(&pool->free_bytes, (int64_t)(share_bytes - before) - (int64_t)(slab->limit_bytes - limit), memory_order_relaxed);
}

/* At least `least`, or nothing; at most `most`. */
static bool take(struct slab *slab, uint64_t least, uint64_t most) {
  struct slab_pool *pool = slab->_pool;
  int64_t free_bytes = atomic_load_explicit(&pool->free_bytes, memory_order_relaxed), taken;
  do {
    if (free_bytes <= 0 || (uint64_t)free_bytes < least) return false;
    taken = (uint64_t)free_bytes < most ? free_bytes : (int64_t)most;
  } while (!atomic_compare_exchange_weak_explicit(&pool->free_bytes, &free_bytes, free_bytes - taken, memory_order_relaxed, memory_order_relaxed));
  slab->limit_bytes += (uint64_t)taken;
  return true;
}

static uint64_t step(const struct slab *slab) { return slab->_share_bytes / STEP_PART; }

/* All that the share lacks, at once; beyond it little by little. */
static bool grow(struct slab *slab, uint64_t least) {
  uint64_t most = slab->limit_bytes < slab->_share_bytes ? slab->_share_bytes - slab->limit_bytes : step(slab);
  if (take(slab, least, most < least ? least : most)) return true;
  atomic_store_explicit(&slab->_pool->short_of, 1, memory_order_relaxed);
  return false;
}

bool slab_grow(struct slab *slab, uint64_t more) {
  uint64_t wanted = slab->used_bytes + more;
  if (slab->_pool == NULL) return false;
  return wanted <= slab->limit_bytes || grow(slab, wanted - slab->limit_bytes);
}

static void give_back(struct slab *slab, uint64_t keep, uint64_t least) {
  if (slab->limit_bytes < keep + least) return;
  atomic_fetch_add_explicit(&slab->_pool->free_bytes, (int64_t)(slab->limit_bytes - keep), memory_order_relaxed);
  atomic_store_explicit(&slab->_pool->short_of, 0, memory_order_relaxed);
  slab->limit_bytes = keep;
}

static uint64_t larger(uint64_t a, uint64_t b) { return a > b ? a : b; }

/* Who gives back keeps so much that it does not want it again at once. */
void slab_balance(struct slab *slab) {
  if (slab->_pool == NULL) return;
  uint64_t used = slab->used_bytes, limit = slab->limit_bytes;
  if (atomic_load_explicit(&slab->_pool->free_bytes, memory_order_relaxed) < 0) {
    give_back(slab, larger(slab->_share_bytes, used + used / OVER_PART), 1);
  } else if (limit < slab->_share_bytes ? used > limit / 2 : used > limit / 8 * 5) {
    (void)grow(slab, 1);
  } else if (atomic_load_explicit(&slab->_pool->short_of, memory_order_relaxed) != 0) {
    give_back(slab, larger(slab->_floor_bytes, larger(slab->kept_bytes, used / 3 * 8)), step(slab) + 1);
  }
}
