/*
 * cache: the MTA-STS policies of domains, and the fetches that brought none, in bounded memory and in a file, so that a restart does not forget whom mail has to be
 * encrypted for (RFC 8461 section 10: what an attacker at the right moment could use). The least recently used go first. Time is an argument.
 *
 * Owner: one thread. The file is JSON: for each domain its policy as text, its id and times in ms since 1970, the least recently used first. It is taken in with the
 * same suspicion as what comes from the net: an entry that is no good is left out, and counted.
 */
#ifndef NET_STS_CACHE_H
#define NET_STS_CACHE_H

#include <sys/queue.h>

#include "core/base/map.h"
#include "dns/name.h"
#include "net/sts/policy.h"

struct sts_entry {
  TAILQ_ENTRY(sts_entry) _recent;
  struct sts_policy *policy; /* NULL: none was ever fetched, or it is too old */
  uint64_t fetched_ms;       /* the policy was */
  uint64_t used_ms;          /* last asked for */
  uint64_t refresh_ms;       /* when it is to be fetched anew; UINT64_MAX while that is under way */
  uint64_t tried_ms;         /* the last fetch ended then, however it did; 0: there was none since the start */
  enum sts_trouble trouble;  /* how that went */
  bool fetching;             /* must stay */
  char id[STS_ID_MAX + 1];   /* with which it was fetched */
  char tried_id[STS_ID_MAX + 1];
  struct dns_name domain;
};

TAILQ_HEAD(sts_entries, sts_entry);

struct sts_cache {
  struct map map;
  struct sts_entries recent; /* the latest used first */
  uint32_t entries_max;
};

void sts_cache_init(struct sts_cache *cache, uint32_t entries_max, uint64_t seed);
void sts_cache_fini(struct sts_cache *cache);

/* Counts as use; drops a policy that is older than its max_age. NULL: not there. */
struct sts_entry *sts_cache_find(struct sts_cache *cache, struct span domain, uint64_t now_ms);
/* The same, made if it is not there; another goes then, if there are too many. NULL: no memory, or all are being fetched. */
struct sts_entry *sts_cache_get(struct sts_cache *cache, struct span domain, uint64_t now_ms);
/* Takes the policy. */
void sts_cache_set(struct sts_entry *entry, struct sts_policy *policy, const char *id, uint64_t now_ms);
/* Does it hold still? */
bool sts_entry_holds(const struct sts_entry *entry, uint64_t now_ms);

/* Takes in what the file has; without a file nothing. E_SYNTAX: it is none of ours, nothing was taken; or what the system says. `left_out`: entries that were no good. */
must_check int sts_cache_load(struct sts_cache *cache, const char *path, uint64_t now_ms, unsigned *left_out);
/* Writes all policies that hold, in place of the file, atomically and synced. */
must_check int sts_cache_save(const struct sts_cache *cache, const char *path, uint64_t now_ms);

#endif
