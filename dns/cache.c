#include "dns/cache.h"

#include <stdlib.h>

#include "core/base/error.h"

static struct span key_of(const void *object) {
  const struct cache_entry *entry = object;
  return span_of(entry->_bytes, entry->_key_len);
}

static size_t size_of(const struct cache_entry *entry) { return sizeof *entry + entry->_key_len + entry->_value_len; }
static uint64_t bytes_max(const struct cache *cache) { return (uint64_t)cache->_entries_max * CACHE_BYTES_PER_ENTRY; }

void cache_init(struct cache *cache, uint32_t entries_max, uint64_t seed) {
  must(entries_max > 0);
  *cache = (struct cache){._entries_max = entries_max};
  map_init(&cache->_map, key_of, seed);
  TAILQ_INIT(&cache->_recent);
}

static void drop(struct cache *cache, struct cache_entry *entry) {
  must(map_remove(&cache->_map, key_of(entry)));
  TAILQ_REMOVE(&cache->_recent, entry, _recent);
  cache->bytes -= size_of(entry);
  free(entry);
}

void cache_fini(struct cache *cache) {
  while (!TAILQ_EMPTY(&cache->_recent)) drop(cache, TAILQ_FIRST(&cache->_recent));
  map_fini(&cache->_map);
}

struct cache_entry *cache_find(struct cache *cache, struct span key, uint64_t now_ms) {
  struct cache_entry *entry = map_find(&cache->_map, key);
  if (entry == NULL) return NULL;
  if (now_ms >= entry->expires_ms && now_ms >= entry->dies_ms) {
    drop(cache, entry);
    return NULL;
  }
  TAILQ_REMOVE(&cache->_recent, entry, _recent);
  TAILQ_INSERT_HEAD(&cache->_recent, entry, _recent);
  return entry;
}

static void make_room(struct cache *cache, size_t size) {
  while (cache->_map.count >= cache->_entries_max || cache->bytes + size > bytes_max(cache)) drop(cache, TAILQ_LAST(&cache->_recent, cache_entries));
}

void cache_put(struct cache *cache, struct span key, struct span value, uint64_t expires_ms, uint64_t dies_ms) {
  size_t size = sizeof(struct cache_entry) + key.len + value.len;
  struct cache_entry *old = map_find(&cache->_map, key);
  must(key.len <= UINT16_MAX && value.len <= UINT32_MAX);
  if (old != NULL) drop(cache, old);
  if (size > bytes_max(cache)) return;
  make_room(cache, size);
  struct cache_entry *entry = malloc(size);
  if (entry == NULL) return;
  *entry = (struct cache_entry){.expires_ms = expires_ms, .dies_ms = dies_ms, ._key_len = (uint16_t)key.len, ._value_len = (uint32_t)value.len};
  memcpy(entry->_bytes, key.at, key.len);
  if (value.len > 0) memcpy(entry->_bytes + key.len, value.at, value.len);
  if (map_insert(&cache->_map, entry) != E_OK) {
    free(entry);
    return;
  }
  TAILQ_INSERT_HEAD(&cache->_recent, entry, _recent);
  cache->bytes += size;
}

void cache_prolong(struct cache_entry *entry, uint64_t until_ms) {
  entry->expires_ms = until_ms < entry->dies_ms ? until_ms : entry->dies_ms;
  entry->stale = true;
}
