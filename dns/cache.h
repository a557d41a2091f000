/*
 * cache: values under keys for a time, in bounded memory; the least recently used go first. Pure: the time is an argument.
 *
 * Owner: one shard. Keys and values are plain bytes, copied in. Memory: one block per entry, CACHE_ENTRY_OVERHEAD bytes plus key and value, and
 * 16..32 bytes of index; the sum of the blocks stays below entries_max * CACHE_BYTES_PER_ENTRY, whatever sizes others make us keep.
 */
#ifndef DNS_CACHE_H
#define DNS_CACHE_H

#include <sys/queue.h>

#include "core/base/map.h"
#include "core/base/span.h"

#define CACHE_BYTES_PER_ENTRY 384

struct cache_entry {
  TAILQ_ENTRY(cache_entry) _recent;
  uint64_t expires_ms; /* fresh before this */
  uint64_t dies_ms;    /* usable as a stale value before this */
  bool stale;          /* its life was prolonged with cache_prolong */
  uint16_t _key_len;
  uint32_t _value_len;
  uint8_t _bytes[]; /* key, value */
};

#define CACHE_ENTRY_OVERHEAD sizeof(struct cache_entry)

TAILQ_HEAD(cache_entries, cache_entry);

struct cache {
  struct map _map;
  struct cache_entries _recent; /* the latest used first */
  uint32_t _entries_max;
  uint64_t bytes; /* in entries */
};

void cache_init(struct cache *cache, uint32_t entries_max, uint64_t seed);
void cache_fini(struct cache *cache);

/* The entry, fresh or stale, or NULL. Valid until the next call that changes the cache. */
struct cache_entry *cache_find(struct cache *cache, struct span key, uint64_t now_ms);
static inline struct span cache_value(const struct cache_entry *entry) { return span_of(entry->_bytes + entry->_key_len, entry->_value_len); }

/* Stores or replaces. Without memory, or if the value is too large for this cache, nothing is stored under the key any more. */
void cache_put(struct cache *cache, struct span key, struct span value, uint64_t expires_ms, uint64_t dies_ms);
/* Lets a stale entry count as fresh until then, or until it dies. */
void cache_prolong(struct cache_entry *entry, uint64_t until_ms);

static inline uint32_t cache_count(const struct cache *cache) { return cache->_map.count; }

#endif
