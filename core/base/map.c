#include "core/base/map.h"

#include <stdlib.h>
#include <xxhash.h>

#include "core/base/error.h"

struct map_cell {
  uint64_t hash;
  void *object; /* NULL: free */
};

void map_init(struct map *map, map_key_of key_of, uint64_t seed) { *map = (struct map){._seed = seed, ._key_of = key_of}; }

void map_fini(struct map *map) {
  free(map->_cells);
  map->_cells = NULL;
  map->_mask = 0;
  map->count = 0;
}

static uint64_t hash_of(const struct map *map, struct span key) { return XXH3_64bits_withSeed(key.at, key.len, map->_seed); }

/* The cell that holds the key, or the free cell where it would go. */
static uint32_t probe(const struct map *map, uint64_t hash, struct span key) {
  uint32_t at = (uint32_t)hash & map->_mask;
  for (;; at = (at + 1) & map->_mask) {
    const struct map_cell *cell = &map->_cells[at];
    if (cell->object == NULL) return at;
    if (cell->hash == hash && span_equal(map->_key_of(cell->object), key)) return at;
  }
}

void *map_find(const struct map *map, struct span key) {
  if (map->count == 0) return NULL;
  return map->_cells[probe(map, hash_of(map, key), key)].object;
}

static int grow(struct map *map) {
  uint32_t size = map->_cells == NULL ? 16 : (map->_mask + 1) * 2;
  if (size == 0) return E_NO_MEMORY;
  struct map_cell *cells = calloc(size, sizeof *cells);
  if (cells == NULL) return E_NO_MEMORY;
  for (uint32_t i = 0; map->_cells != NULL && i <= map->_mask; i++) {
    if (map->_cells[i].object == NULL) continue;
    uint32_t at = (uint32_t)map->_cells[i].hash & (size - 1);
    while (cells[at].object != NULL) at = (at + 1) & (size - 1);
    cells[at] = map->_cells[i];
  }
  free(map->_cells);
  map->_cells = cells;
  map->_mask = size - 1;
  return E_OK;
}

int map_insert(struct map *map, void *object) {
  if (map->_cells == NULL || (map->count + 1) * (uint64_t)4 > ((uint64_t)map->_mask + 1) * 3) {
    int error = grow(map);
    if (error != E_OK) return error;
  }
  struct span key = map->_key_of(object);
  uint64_t hash = hash_of(map, key);
  uint32_t at = probe(map, hash, key);
  must(map->_cells[at].object == NULL);
  map->_cells[at] = (struct map_cell){hash, object};
  map->count++;
  return E_OK;
}

bool map_remove(struct map *map, struct span key) {
  if (map->count == 0) return false;
  uint32_t hole = probe(map, hash_of(map, key), key);
  if (map->_cells[hole].object == NULL) return false;
  map->_cells[hole].object = NULL;
  map->count--;
  /* Close the gap: an entry may move back into the hole if its own place is not between hole and entry. */
  for (uint32_t at = (hole + 1) & map->_mask; map->_cells[at].object != NULL; at = (at + 1) & map->_mask) {
    uint32_t home = (uint32_t)map->_cells[at].hash & map->_mask;
    if (((at - home) & map->_mask) < ((at - hole) & map->_mask)) continue;
    map->_cells[hole] = map->_cells[at];
    map->_cells[at].object = NULL;
    hole = at;
  }
  return true;
}

void *map_next(const struct map *map, uint32_t *cursor) {
  for (; map->_cells != NULL && *cursor <= map->_mask; (*cursor)++)
    if (map->_cells[*cursor].object != NULL) return map->_cells[(*cursor)++].object;
  return NULL;
}
