#include "net/sts/cache.h"

#include <jansson.h>
#include <stdlib.h>

#include "core/base/error.h"
#include "core/conf/system.h"

#define FILE_BYTES_MAX (256u << 20) /* some 16,000 policies of 64 long names */
#define VERSION 1

static struct span key_of(const void *object) { return dns_name_span(&((const struct sts_entry *)object)->domain); }

void sts_cache_init(struct sts_cache *cache, uint32_t entries_max, uint64_t seed) {
  *cache = (struct sts_cache){.entries_max = entries_max};
  TAILQ_INIT(&cache->recent);
  map_init(&cache->map, key_of, seed);
}

static void drop(struct sts_cache *cache, struct sts_entry *entry) {
  must(map_remove(&cache->map, key_of(entry)));
  TAILQ_REMOVE(&cache->recent, entry, _recent);
  sts_policy_drop(entry->policy);
  free(entry);
}

void sts_cache_fini(struct sts_cache *cache) {
  while (!TAILQ_EMPTY(&cache->recent)) drop(cache, TAILQ_FIRST(&cache->recent));
  map_fini(&cache->map);
}

/* ---- entries ---- */

bool sts_entry_holds(const struct sts_entry *entry, uint64_t now_ms) {
  return entry->policy != NULL && now_ms < entry->fetched_ms + (uint64_t)entry->policy->max_age_s * 1000;
}

struct sts_entry *sts_cache_find(struct sts_cache *cache, struct span domain, uint64_t now_ms) {
  struct sts_entry *entry = map_find(&cache->map, domain);
  if (entry == NULL) return NULL;
  TAILQ_REMOVE(&cache->recent, entry, _recent);
  TAILQ_INSERT_HEAD(&cache->recent, entry, _recent);
  entry->used_ms = now_ms;
  if (entry->policy != NULL && !sts_entry_holds(entry, now_ms)) {
    sts_policy_drop(entry->policy);
    entry->policy = NULL;
  }
  return entry;
}

static bool make_room(struct sts_cache *cache) {
  struct sts_entry *last = TAILQ_LAST(&cache->recent, sts_entries);
  if (cache->map.count < cache->entries_max) return true;
  while (last != NULL && last->fetching) last = TAILQ_PREV(last, sts_entries, _recent);
  if (last == NULL) return false;
  drop(cache, last);
  return true;
}

struct sts_entry *sts_cache_get(struct sts_cache *cache, struct span domain, uint64_t now_ms) {
  struct sts_entry *entry = sts_cache_find(cache, domain, now_ms);
  if (entry != NULL) return entry;
  if (!make_room(cache)) return NULL;
  entry = calloc(1, sizeof *entry);
  if (entry == NULL) return NULL;
  if (dns_name_parse(&entry->domain, domain) != E_OK || map_insert(&cache->map, entry) != E_OK) {
    free(entry);
    return NULL;
  }
  entry->used_ms = now_ms;
  entry->refresh_ms = UINT64_MAX;
  TAILQ_INSERT_HEAD(&cache->recent, entry, _recent);
  return entry;
}

static void set_id(char to[STS_ID_MAX + 1], const char *id) {
  size_t len = strlen(id);
  must(len <= STS_ID_MAX);
  memmove(to, id, len + 1);
}

void sts_cache_set(struct sts_entry *entry, struct sts_policy *policy, const char *id, uint64_t now_ms) {
  sts_policy_drop(entry->policy);
  entry->policy = policy;
  entry->fetched_ms = now_ms;
  set_id(entry->id, id);
}

/* ---- the file ---- */

static json_t *entry_json(const struct sts_entry *entry, uint8_t *room) {
  struct fmt text = fmt_over(room, STS_POLICY_BYTES_MAX);
  sts_policy_write(entry->policy, &text);
  return json_pack("{s:s, s:s, s:I, s:I, s:s%}", "domain", entry->domain.text, "id", entry->id, "fetched", (json_int_t)entry->fetched_ms, "used",
                   (json_int_t)entry->used_ms, "policy", (const char *)text.at, text.len);
}

int sts_cache_save(const struct sts_cache *cache, const char *path, uint64_t now_ms) {
  static const size_t flags = JSON_INDENT(1) | JSON_ENSURE_ASCII;
  uint8_t *room = malloc(STS_POLICY_BYTES_MAX);
  json_t *policies = json_array(), *whole = json_pack("{s:i, s:O}", "version", VERSION, "policies", policies);
  int failed = room == NULL || whole == NULL;
  for (const struct sts_entry *entry = TAILQ_LAST(&cache->recent, sts_entries); entry != NULL; entry = TAILQ_PREV(entry, sts_entries, _recent)) {
    if (!failed && sts_entry_holds(entry, now_ms)) failed = json_array_append_new(policies, entry_json(entry, room));
  }
  char *text = failed ? NULL : json_dumps(whole, flags);
  int error = text == NULL ? E_NO_MEMORY : system_write_file(path, span_of_text(text));
  free(text);
  json_decref(policies);
  json_decref(whole);
  free(room);
  return error;
}

/* False: it is no good, or it does not hold any more. */
static bool take_in(struct sts_cache *cache, json_t *one, uint64_t now_ms) {
  const char *domain, *id, *text;
  json_int_t fetched, used;
  size_t len;
  uint8_t phrase[96];
  struct fmt why = fmt_over(phrase, sizeof phrase);
  struct dns_name name;
  struct sts_policy *policy;
  if (json_unpack(one, "{s:s, s:s, s:I, s:I, s:s%}", "domain", &domain, "id", &id, "fetched", &fetched, "used", &used, "policy", &text, &len) != 0)
    return false;
  bool sound =
      strlen(id) <= STS_ID_MAX && fetched >= 0 && (uint64_t)fetched <= now_ms && used >= 0 && dns_name_parse(&name, span_of_text(domain)) == E_OK;
  if (!sound || sts_policy_parse(&policy, span_of(text, len), &why) != E_OK) return false;
  struct sts_entry *entry = sts_cache_get(cache, dns_name_span(&name), now_ms);
  if (entry == NULL) {
    sts_policy_drop(policy);
    return false;
  }
  sts_cache_set(entry, policy, id, (uint64_t)fetched);
  entry->used_ms = (uint64_t)used < now_ms ? (uint64_t)used : now_ms;
  if (sts_entry_holds(entry, now_ms)) return true;
  drop(cache, entry);
  return false;
}

static int take_in_all(struct sts_cache *cache, json_t *whole, uint64_t now_ms, unsigned *left_out) {
  json_t *policies = json_object_get(whole, "policies"), *one;
  size_t i;
  if (json_integer_value(json_object_get(whole, "version")) != VERSION || !json_is_array(policies)) return E_SYNTAX;
  json_array_foreach(policies, i, one) {
    if (!take_in(cache, one, now_ms)) ++*left_out;
  }
  return E_OK;
}

int sts_cache_load(struct sts_cache *cache, const char *path, uint64_t now_ms, unsigned *left_out) {
  uint8_t *bytes;
  size_t len;
  *left_out = 0;
  int error = system_read_file(path, FILE_BYTES_MAX, &bytes, &len);
  if (error != E_OK) return error == E_NOT_FOUND || error == E_NOT_DIRECTORY ? E_OK : error; /* what is wrong with its directory others say */
  json_t *whole = json_loadb((const char *)bytes, len, JSON_REJECT_DUPLICATES, NULL);
  error = whole == NULL ? E_SYNTAX : take_in_all(cache, whole, now_ms, left_out);
  json_decref(whole);
  free(bytes);
  return error;
}
