/*
 * map: a hash index from a byte string to a pointer. The map holds no keys: the objects do, and `key_of` reads the key
 * back from the object. Open addressing with linear probing and backward-shift deletion; grows by doubling.
 *
 * Owner: one thread. The seed makes collisions unpredictable to whoever chooses the keys (domains come from outside).
 */
#ifndef CORE_BASE_MAP_H
#define CORE_BASE_MAP_H

#include "core/base/must.h"
#include "core/base/span.h"

typedef struct span (*map_key_of)(const void *object);

struct map {
  struct map_cell *_cells;
  uint32_t _mask;
  uint32_t count;
  uint64_t _seed;
  map_key_of _key_of;
};

/* No memory is taken until the first insert. */
void map_init(struct map *map, map_key_of key_of, uint64_t seed);
void map_fini(struct map *map);

/* The object stored under this key, or NULL. */
void *map_find(const struct map *map, struct span key);
/* The key must not be in the map yet. E_NO_MEMORY leaves the map as it was. */
must_check int map_insert(struct map *map, void *object);
/* True if an object with this key was there and is now out of the map. */
bool map_remove(struct map *map, struct span key);
/* Walks over all objects in no order: start with *cursor = 0, ends with NULL. The map must not change meanwhile. */
void *map_next(const struct map *map, uint32_t *cursor);

#endif
