#include "core/base/slab.h"

#include <string.h>
#include <sys/mman.h>

#define REGION_SIZE ((size_t)4 << 20)

struct slab_block {
  struct slab_block *next;
};

struct slab_region { /* for slab_fini; itself the first page of the region */
  struct slab_region *next;
};

static const uint32_t class_size[SLAB_CLASSES] = {64,   128,  192,  256,  384,   512,   768,   1024,  1280,  1536,
                                                  2048, 3072, 4096, 8192, 12288, 16384, 24576, 32768, 49152, 65536};

/* By size in units of 64 bytes up to 4096, in units of 4096 above; rounded up. */
static const uint8_t class_small[65] = {0,  0,  1,  2,  3,  4,  4,  5,  5,  6,  6,  6,  6,  7,  7,  7,  7,  8,  8,  8,  8,  9,
                                        9,  9,  9,  10, 10, 10, 10, 10, 10, 10, 10, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11,
                                        11, 11, 11, 11, 11, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12};
static const uint8_t class_large[17] = {12, 12, 13, 14, 15, 16, 16, 17, 17, 18, 18, 18, 18, 19, 19, 19, 19};

#define CLASS_LARGE class_large[2] /* the first one above 4096 */

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

static void push(struct slab *slab, unsigned class, void *memory) {
  struct slab_block *block = memory;
  block->next = slab->_free[class];
  slab->_free[class] = block;
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
    struct slab_block *block = slab->_free[large];
    if (block == NULL) continue;
    slab->_free[large] = block->next;
    cut(slab, class, (uint8_t *)block, class_size[large]);
    return true;
  }
  return false;
}

/* Cuts fresh blocks: of a small class a page (or three, for sizes that fit badly) at once, so that page alignment of the large ones is never lost. */
static bool refill(struct slab *slab, unsigned class) {
  size_t size = class_size[class];
  size_t batch = size >= 4096 ? size : 12288;
  if (slab->_region_left < batch && size < 4096 && cut_large(slab, class)) return true;
  if (slab->_region_left < batch && !new_region(slab)) return false;
  cut(slab, class, slab->_region, batch);
  slab->_region += batch;
  slab->_region_left -= batch;
  return true;
}

void *slab_get(struct slab *slab, size_t size) {
  if (size == 0 || size > SLAB_MAX) return NULL;
  unsigned class = class_of(size);
  if (slab->used_bytes + class_size[class] > slab->limit_bytes) return NULL;
  if (slab->_free[class] == NULL && !refill(slab, class)) return NULL;
  struct slab_block *block = slab->_free[class];
  slab->_free[class] = block->next;
  slab->used_bytes += class_size[class];
  return block;
}

void slab_put(struct slab *slab, void *block, size_t size) {
  if (block == NULL) return;
  unsigned class = class_of(size);
  must(slab->used_bytes >= class_size[class]);
  slab->used_bytes -= class_size[class];
  push(slab, class, block);
}
