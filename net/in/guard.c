#include "net/in/guard.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <xxhash.h>

#include "core/base/error.h"

#define BUCKET 8           /* entries that a client may have its own among */
#define CLAIMED UINT32_MAX /* as a number of sessions: somebody is making the entry another client's */

struct guard_entry {
  _Alignas(64) _Atomic uint64_t client; /* a hash; 0: nobody's */
  _Atomic uint32_t sessions;
  _Atomic uint64_t full_us[GUARD_RATES]; /* what was counted is worked off by then (GCRA's theoretical arrival time) */
};

struct guard {
  void *memory;
  struct guard_entry *entries; /* in it, each on a cache line of its own */
  uint32_t mask;
  uint64_t seed;
};

int guard_open(struct guard **out, uint32_t entries, uint64_t seed) {
  must(entries >= 64 && (entries & (entries - 1)) == 0);
  struct guard *guard = calloc(1, sizeof *guard);
  void *memory = calloc(entries + 1ul, sizeof(struct guard_entry)); /* pages of it are taken as clients come */
  if (guard == NULL || memory == NULL) {
    free(guard);
    free(memory);
    return E_NO_MEMORY;
  }
  uintptr_t first = ((uintptr_t)memory + sizeof(struct guard_entry) - 1) / sizeof(struct guard_entry) * sizeof(struct guard_entry);
  guard->memory = memory;
  guard->entries = (struct guard_entry *)first;
  guard->mask = entries - 1;
  guard->seed = seed;
  *out = guard;
  return E_OK;
}

void guard_close(struct guard *guard) {
  if (guard == NULL) return;
  free(guard->memory);
  free(guard);
}

/* An IPv4 address behind IPv6 ("::ffff:192.0.2.1") is that address: else whoever listens on both families would give a client two entries. */
struct span guard_client(const struct netaddr *client, uint8_t room[GUARD_CLIENT_KEY]) {
  static const uint8_t mapped[12] = {[10] = 0xff, 0xff};
  bool is_mapped = client->family == 6 && memcmp(client->bytes, mapped, sizeof mapped) == 0;
  bool is_v4 = client->family == 4 || is_mapped;
  memset(room, 0, GUARD_CLIENT_KEY);
  room[0] = is_v4 ? 4 : 6;
  memcpy(room + 1, is_mapped ? client->bytes + 12 : client->bytes, is_v4 ? 4 : 8);
  return span_of(room, GUARD_CLIENT_KEY);
}

static uint64_t hash_of(const struct guard *guard, struct span who) {
  uint64_t hash = XXH3_64bits_withSeed(who.at, who.len, guard->seed);
  return hash == 0 ? 1 : hash;
}

/* ---- rates ---- */

static bool is_over(uint64_t full_us, const struct guard_rate *rate, uint64_t now_us, uint64_t *next_us) {
  uint64_t period_us = rate->period_s * UINT64_C(1000000), each_us = period_us / rate->most;
  *next_us = (full_us > now_us ? full_us : now_us) + (each_us > 0 ? each_us : 1);
  return *next_us > now_us + period_us;
}

bool guard_count(struct guard_entry *entry, const struct guard_limits *limits, unsigned rate, uint64_t now_ms) {
  if (entry == NULL || limits->rate[rate].most == 0) return true;
  uint64_t full_us = atomic_load_explicit(&entry->full_us[rate], memory_order_relaxed), next_us;
  do {
    if (is_over(full_us, &limits->rate[rate], now_ms * 1000, &next_us)) return false;
  } while (!atomic_compare_exchange_weak_explicit(&entry->full_us[rate], &full_us, next_us, memory_order_relaxed, memory_order_relaxed));
  return true;
}

bool guard_allows(const struct guard_entry *entry, const struct guard_limits *limits, unsigned rate, uint64_t now_ms) {
  uint64_t next_us;
  if (entry == NULL || limits->rate[rate].most == 0) return true;
  return !is_over(atomic_load_explicit(&entry->full_us[rate], memory_order_relaxed), &limits->rate[rate], now_ms * 1000, &next_us);
}

/* ---- entries ---- */

/* One session more of this client, if the entry is (still) its own and there may be one. */
static bool join(struct guard_entry *entry, uint64_t client, uint32_t most, bool *too_many) {
  uint32_t sessions = atomic_load(&entry->sessions);
  do {
    if (sessions == CLAIMED || atomic_load(&entry->client) != client) return false;
    *too_many = most > 0 && sessions >= most;
    if (*too_many) return true;
  } while (!atomic_compare_exchange_weak(&entry->sessions, &sessions, sessions + 1));
  if (atomic_load(&entry->client) == client) return true; /* while it is in use nobody claims it */
  atomic_fetch_sub(&entry->sessions, 1);
  return false;
}

static bool is_quiet(const struct guard_entry *entry, uint64_t now_ms) {
  bool quiet = atomic_load_explicit(&entry->sessions, memory_order_relaxed) == 0;
  for (unsigned i = 0; i < GUARD_RATES; i++) quiet &= atomic_load_explicit(&entry->full_us[i], memory_order_relaxed) <= now_ms * 1000;
  return quiet;
}

/* With one session. */
static bool claim(struct guard_entry *entry, uint64_t client, uint64_t now_ms) {
  uint32_t none = 0;
  if (!is_quiet(entry, now_ms) || !atomic_compare_exchange_strong(&entry->sessions, &none, CLAIMED)) return false;
  bool still = true; /* somebody may have counted in between */
  for (unsigned i = 0; i < GUARD_RATES; i++) still &= atomic_load_explicit(&entry->full_us[i], memory_order_relaxed) <= now_ms * 1000;
  if (still) {
    for (unsigned i = 0; i < GUARD_RATES; i++) atomic_store_explicit(&entry->full_us[i], 0, memory_order_relaxed);
    atomic_store(&entry->client, client);
  }
  atomic_store(&entry->sessions, still ? 1 : 0);
  return still;
}

static struct guard_entry *bucket_of(const struct guard *guard, uint64_t client) { return &guard->entries[client & guard->mask & ~(BUCKET - 1u)]; }

/* The first of the bucket, below `end`, that is this client's: it then has one session more, or *too_many. */
static struct guard_entry *find(struct guard_entry *bucket, const struct guard_entry *end, uint64_t client, uint32_t most, bool *too_many) {
  for (struct guard_entry *entry = bucket; entry < end; entry++)
    if (atomic_load_explicit(&entry->client, memory_order_relaxed) == client && join(entry, client, most, too_many)) return entry;
  return NULL;
}

static struct guard_entry *claim_any(struct guard_entry *bucket, uint64_t client, uint64_t now_ms) {
  for (unsigned i = 0; i < BUCKET; i++)
    if (claim(&bucket[i], client, now_ms)) return &bucket[i];
  return NULL;
}

bool guard_enter(struct guard *guard, const struct guard_limits *limits, struct span who, uint64_t now_ms, struct guard_entry **out) {
  uint64_t hash = hash_of(guard, who);
  struct guard_entry *bucket = bucket_of(guard, hash);
  bool too_many = false;
  struct guard_entry *entry = find(bucket, bucket + BUCKET, hash, limits->sessions, &too_many);
  *out = NULL;
  if (entry == NULL) {
    entry = claim_any(bucket, hash, now_ms);
    if (entry == NULL) return true;
    struct guard_entry *other = find(bucket, entry, hash, limits->sessions, &too_many); /* another shard was first: one entry for both */
    if (other != NULL) {
      guard_leave(entry);
      entry = other;
    }
  }
  if (!too_many) *out = entry;
  return !too_many;
}

void guard_leave(struct guard_entry *entry) {
  if (entry == NULL) return;
  must(atomic_fetch_sub(&entry->sessions, 1) > 0);
}
