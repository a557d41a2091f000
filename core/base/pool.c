#include "core/base/pool.h"

#include <string.h>
#include <sys/mman.h>

#include "core/base/error.h"

static void *reserve(size_t bytes) {
  void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return at == MAP_FAILED ? NULL : at;
}

int pool_init(struct pool *pool, size_t slot_size_bytes, uint32_t capacity) {
  *pool = (struct pool){0};
  if (capacity == 0 || capacity > POOL_CAPACITY_MAX || slot_size_bytes == 0 || slot_size_bytes > POOL_SLOT_SIZE_MAX) return E_RANGE;
  pool->capacity = capacity;
  pool->slot_size_bytes = (slot_size_bytes + 15) & ~(size_t)15;
  pool->_slots = reserve(pool->slot_size_bytes * capacity);
  pool->_generation = reserve(sizeof *pool->_generation * capacity);
  pool->_free = reserve(sizeof *pool->_free * capacity);
  if (pool->_slots != NULL && pool->_generation != NULL && pool->_free != NULL) return E_OK;
  pool_fini(pool);
  return E_NO_MEMORY;
}

void pool_fini(struct pool *pool) {
  if (pool->_slots != NULL) munmap(pool->_slots, pool->slot_size_bytes * pool->capacity);
  if (pool->_generation != NULL) munmap(pool->_generation, sizeof *pool->_generation * pool->capacity);
  if (pool->_free != NULL) munmap(pool->_free, sizeof *pool->_free * pool->capacity);
  *pool = (struct pool){0};
}

void *pool_get(struct pool *pool) {
  uint32_t index;
  if (pool->_free_count > 0) {
    index = pool->_free[--pool->_free_count];
  } else if (pool->_touched < pool->capacity) {
    index = pool->_touched++;
  } else {
    return NULL;
  }
  void *slot = pool->_slots + pool->slot_size_bytes * index;
  memset(slot, 0, pool->slot_size_bytes);
  pool->_generation[index]++;
  pool->used++;
  return slot;
}

void pool_put(struct pool *pool, void *slot) {
  uint32_t index = pool_index(pool, slot);
  must((pool->_generation[index] & 1) == 1);
  pool->_generation[index]++;
  pool->_free[pool->_free_count++] = index;
  pool->used--;
}

uint32_t pool_index(const struct pool *pool, const void *slot) {
  size_t offset = (size_t)((const uint8_t *)slot - pool->_slots);
  must(offset % pool->slot_size_bytes == 0 && offset / pool->slot_size_bytes < pool->_touched);
  return (uint32_t)(offset / pool->slot_size_bytes);
}

uint32_t pool_generation(const struct pool *pool, uint32_t index) {
  must(index < pool->capacity);
  return pool->_generation[index];
}

void *pool_find(const struct pool *pool, uint32_t index, uint32_t generation) {
  if (index >= pool->_touched || pool->_generation[index] != generation || (generation & 1) == 0) return NULL;
  return pool->_slots + pool->slot_size_bytes * index;
}

void *pool_slot(const struct pool *pool, uint32_t index) {
  if (index >= pool->_touched || (pool->_generation[index] & 1) == 0) return NULL;
  return pool->_slots + pool->slot_size_bytes * index;
}
