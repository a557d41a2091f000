/*
 * The slab with a malloc of its own for every block, for tests: #include this file; being in the test's own object its slab_ functions stand before those of
 * the library. So the address sanitizer sees every use after a put, and every byte beyond the size that was asked for. A block put back with another size
 * than it was got with, a block lost, and memory that runs out at the n-th request are seen and made here, too.
 */
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/must.h"
#include "core/base/slab.h"

/* A test may set it: so many more requests are met, then none. */
static uint64_t fake_slab_requests_left = UINT64_MAX;

static const uint32_t fake_slab_sizes[SLAB_CLASSES] = {64,   128,  192,  256,  384,   512,   768,   1024,  1280,  1536,
                                                       2048, 3072, 4096, 8192, 12288, 16384, 24576, 32768, 49152, 65536};

size_t slab_size(size_t size) {
  unsigned class = 0;
  while (fake_slab_sizes[class] < size) class ++;
  return fake_slab_sizes[class];
}

void slab_init(struct slab *slab, uint64_t limit_bytes) {
  *slab = (struct slab){.limit_bytes = limit_bytes};
  fake_slab_requests_left = UINT64_MAX;
}

/* Its limit is its own. */
void slab_balance(struct slab *slab) { (void)slab; }
bool slab_grow(struct slab *slab, uint64_t more) {
  (void)slab, (void)more;
  return false;
}

/* Every test gives back what it took. */
void slab_fini(struct slab *slab) {
  must(slab->used_bytes == 0);
  slab->limit_bytes = 0;
}

/* Small blocks have their size in front; large ones are whole pages, as in the real slab. */
void *slab_get(struct slab *slab, size_t size) {
  if (size == 0 || size > SLAB_MAX || slab->used_bytes + slab_size(size) > slab->limit_bytes || fake_slab_requests_left == 0) return NULL;
  if (fake_slab_requests_left != UINT64_MAX) fake_slab_requests_left--;
  uint8_t *block = size >= 4096 ? aligned_alloc(4096, (size + 4095) / 4096 * 4096) : malloc(16 + size);
  must(block != NULL);
  if (size < 4096) {
    memcpy(block, &size, sizeof size);
    block += 16;
  }
  memset(block, 0xa5, size);
  slab->used_bytes += slab_size(size);
  return block;
}

void *slab_get_beyond(struct slab *slab, size_t size) {
  uint64_t limit_bytes = slab->limit_bytes;
  slab->limit_bytes += limit_bytes / 4;
  void *block = slab_get(slab, size);
  slab->limit_bytes = limit_bytes;
  return block;
}

void slab_put(struct slab *slab, void *block, size_t size) {
  size_t got = size;
  if (block == NULL) return;
  if (size < 4096) {
    block = (uint8_t *)block - 16;
    memcpy(&got, block, sizeof got);
  } else {
    must(malloc_usable_size(block) >= size);
  }
  must(got <= SLAB_MAX && slab_size(got) == slab_size(size) && slab->used_bytes >= slab_size(size));
  slab->used_bytes -= slab_size(size);
  free(block);
}
