/*
 * pool: a fixed number of equal slots, addressed by index and generation, so that an id kept across an asynchronous gap
 * is recognised as stale instead of reaching somebody else's object.
 *
 * Owner: one thread. Memory is reserved at init and touched as slots are first used, so an unused slot costs no memory.
 * A slot is zeroed by pool_get. Slots never move. An empty pool is an ordinary event (NULL), not an error.
 */
#ifndef CORE_BASE_POOL_H
#define CORE_BASE_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/must.h"

#define POOL_CAPACITY_MAX (1u << 24) /* an index fits into 24 bits of an io token */
#define POOL_SLOT_SIZE_MAX ((size_t)1 << 30)

struct pool {
  uint8_t *_slots;
  uint32_t *_generation; /* odd while the slot is in use */
  uint32_t *_free;       /* stack of slots that were given back */
  uint32_t _free_count;
  uint32_t _touched; /* slots below this index were used at least once */
  uint32_t capacity;
  uint32_t used;
  size_t slot_size_bytes;
};

/* E_NO_MEMORY if the address space cannot be had, E_RANGE if capacity is 0 or above POOL_CAPACITY_MAX, or a slot
 * is empty or above POOL_SLOT_SIZE_MAX. After an error there is nothing to give back. */
must_check int pool_init(struct pool *pool, size_t slot_size_bytes, uint32_t capacity);
/* Gives all memory back; slots in use become invalid. */
void pool_fini(struct pool *pool);

/* A zeroed slot, or NULL when all are used. */
void *pool_get(struct pool *pool);
void pool_put(struct pool *pool, void *slot);

uint32_t pool_index(const struct pool *pool, const void *slot);
uint32_t pool_generation(const struct pool *pool, uint32_t index);
/* The slot if it is in use and still of that generation, else NULL. Any numbers may be passed. */
void *pool_find(const struct pool *pool, uint32_t index, uint32_t generation);
/* The slot if it is in use, whatever its generation: for walking over all of them. */
void *pool_slot(const struct pool *pool, uint32_t index);

#endif
