/*
 * Three layers of the same economy: queries for one domain share a lookup, lookups that need the same answer share a question, and what is known is
 * not asked. The cache holds answers under (type, name) and finished sets under (LOOKUP_KEY, domain), so a domain in use costs one look into the map.
 *
 * Nothing here recurses with the number of domains: a lookup that ends starts those that wait through pump(), which runs once at a time.
 */
#include "dns/resolver.h"

#include <stddef.h>
#include <stdlib.h>

#include "core/base/error.h"
#include "dns/ask.h"
#include "dns/cache.h"
#include "dns/lookup.h"
#include "dns/pack.h"

#define LOOKUPS_MAX 100000       /* waiting ones included; more are refused with MX_TEMPORARY */
#define LOOKUPS_ACTIVE_MAX 4096  /* asking at once: about 20,000 questions */
#define SINGLES_MAX 100000       /* more are answered with SERVFAIL */
#define STALE_MAX_MS 86400000ull /* RFC 8767 5 suggests one to three days */
#define STALE_AGAIN_MS 30000ull  /* RFC 8767 5: servers that do not reply are tried again after 30 s */

TAILQ_HEAD(lookups, lookup);

struct single { /* one question on its way, for one caller */
  struct lookup_need need;
  struct record_query *query; /* NULL: he does not wait any more */
  LIST_ENTRY(single) link;
};
LIST_HEAD(singles, single);

struct resolver {
  struct io *io;
  struct asker asker;
  struct cache cache;
  struct map lookups; /* by domain; all that have not ended */
  struct lookups waiting;
  struct singles singles;
  unsigned singles_count;
  unsigned active;
  bool pumping;
  bool ipv6;
  bool dnssec;
  struct dns_name self;
  uint32_t ttl_max_s;
  uint32_t negative_ttl_max_s;
  struct resolver_stats stats;
  struct dns_answer known; /* an answer out of the cache; used up before the next is looked at */
  uint8_t packed[PACK_MAX];
};

static uint64_t now_ms(const struct resolver *r) { return io_now_ns(r->io) / 1000000; }
static uint32_t least(uint32_t a, uint32_t b) { return a < b ? a : b; }
static struct span self_of(const struct resolver *r) { return dns_name_span(&r->self); }
static uint32_t seconds_left(const struct cache_entry *entry, uint64_t now) { return (uint32_t)((entry->expires_ms - now + 999) / 1000); }

static uint64_t chance(const struct resolver *r) {
  uint64_t value;
  io_random(r->io, &value, sizeof value);
  return value;
}

/* ---- sets in the cache ---- */

static struct cache_entry *set_entry(struct resolver *r, const struct dns_key *key, uint64_t now) {
  return cache_find(&r->cache, dns_key_span(key), now);
}

static void set_store(struct resolver *r, const struct lookup *lookup) {
  const struct mx_set *set = &lookup->set;
  if (set->status == MX_TEMPORARY || set->ttl_s == 0) return; /* failures are cached as answers; what was good stays for worse times */
  struct fmt out = fmt_over(r->packed, sizeof r->packed);
  uint64_t expires_ms = now_ms(r) + set->ttl_s * 1000ull;
  mx_set_pack(set, &out);
  must(!out.overflow);
  cache_put(&r->cache, dns_key_span(&lookup->key), fmt_span(&out), expires_ms, set->status == MX_OK ? expires_ms + STALE_MAX_MS : expires_ms);
}

static bool set_from_cache(const struct cache_entry *entry, uint64_t now, struct mx_set *set) {
  if (!mx_set_unpack(cache_value(entry), set)) return false;
  set->ttl_s = seconds_left(entry, now);
  set->stale = entry->stale;
  return true;
}

/* No server replies, but an old answer is there: better than none (RFC 8767). For a moment it counts as fresh. */
static void set_use_stale(struct resolver *r, struct lookup *lookup) {
  uint64_t now = now_ms(r);
  struct mx_set old;
  if (lookup->set.status != MX_TEMPORARY || !lookup->silent) return;
  struct cache_entry *entry = set_entry(r, &lookup->key, now);
  if (entry == NULL) return;
  cache_prolong(entry, now + STALE_AGAIN_MS);
  if (!set_from_cache(entry, now, &old)) return;
  mx_set_clear(&lookup->set);
  lookup->set = old;
  r->stats.stale_served++;
}

/* ---- lookups ---- */

static struct span lookup_key(const void *object) { return dns_key_span(&((const struct lookup *)object)->key); }

static void pump(struct resolver *r);

static void finish(struct resolver *r, struct lookup *lookup) {
  lookup_conclude(lookup, self_of(r));
  set_store(r, lookup);
  set_use_stale(r, lookup);
  must(map_remove(&r->lookups, lookup_key(lookup)));
  r->active--;
  for (struct resolver_query *query; (query = TAILQ_FIRST(&lookup->callers)) != NULL;) {
    TAILQ_REMOVE(&lookup->callers, query, _link);
    query->_lookup = NULL;
    query->done(query, &lookup->set);
  }
  lookup_free(lookup);
  pump(r);
}

static void ask(struct resolver *r, struct lookup_need *need);

static void single_answered(struct resolver *r, struct single *single, const struct dns_answer *answer) {
  struct record_query *query = single->query;
  LIST_REMOVE(single, link);
  r->singles_count--;
  free(single);
  if (query == NULL) return;
  query->_single = NULL;
  query->done(query, answer);
}

static void lookup_answered(struct resolver *r, struct lookup_need *need, const struct dns_answer *answer) {
  struct lookup *lookup = need->lookup;
  if (need->type != DNS_MX) {
    lookup_take_address(need, answer);
  } else {
    lookup_take_mx(lookup, answer, self_of(r), r->ipv6, chance(r));
    lookup->pending++; /* so that answers out of the cache do not end it while we are asking */
    for (unsigned i = 0; i < lookup->needs_count; i++) ask(r, &lookup->needs[i]);
    lookup->pending--;
  }
  if (lookup->pending == 0) finish(r, lookup);
}

static void answered(struct resolver *r, struct lookup_need *need, const struct dns_answer *answer) {
  if (need->lookup != NULL) {
    lookup_answered(r, need, answer);
  } else {
    single_answered(r, (struct single *)((char *)need - offsetof(struct single, need)), answer);
  }
}

/* ---- answers ---- */

static bool answer_from_cache(struct resolver *r, const struct dns_key *key) {
  uint64_t now = now_ms(r);
  const struct cache_entry *entry = cache_find(&r->cache, dns_key_span(key), now);
  if (entry == NULL) return false;
  dns_answer_unpack(cache_value(entry), dns_key_type(key), &r->known);
  r->known.ttl_s = seconds_left(entry, now);
  return true;
}

static const struct dns_answer *no_room(struct resolver *r) {
  r->known = (struct dns_answer){.outcome = DNS_FAILED, .rcode = DNS_SERVFAIL};
  return &r->known;
}

static void ask_about(struct resolver *r, const struct dns_key *key, struct lookup_need *need) {
  if (answer_from_cache(r, key)) {
    answered(r, need, &r->known);
    return;
  }
  struct question *question = ask_find(&r->asker, key);
  if (question != NULL) {
    r->stats.merged++;
  } else {
    question = ask_start(&r->asker, key);
  }
  if (question == NULL) {
    answered(r, need, no_room(r));
    return;
  }
  need->next = question->waiters;
  question->waiters = need;
}

static void ask(struct resolver *r, struct lookup_need *need) {
  struct dns_key key;
  dns_key_make(&key, need->type, lookup_need_name(need));
  ask_about(r, &key, need);
}

static void answer_store(struct resolver *r, const struct dns_key *key, const struct dns_answer *answer) {
  struct fmt out = fmt_over(r->packed, sizeof r->packed);
  uint32_t ttl_s = answer->outcome == DNS_FAILED ? LOOKUP_FAILURE_TTL_S : answer->ttl_s;
  uint64_t expires_ms = now_ms(r) + ttl_s * 1000ull;
  if (ttl_s == 0) return; /* good for those who wait, for nobody after them */
  dns_answer_pack(answer, dns_key_type(key), &out);
  must(!out.overflow);
  cache_put(&r->cache, dns_key_span(key), fmt_span(&out), expires_ms, expires_ms);
}

static void question_done(void *context, struct question *question, struct dns_answer *answer) {
  struct resolver *r = context;
  if (!r->dnssec) answer->secure = false;
  answer->ttl_s = least(answer->ttl_s, answer->outcome == DNS_FOUND ? r->ttl_max_s : r->negative_ttl_max_s);
  answer_store(r, &question->key, answer);
  for (struct lookup_need *need = question->waiters, *next; need != NULL; need = next) {
    next = need->next; /* what this one is of may end in the call; the others still wait */
    answered(r, need, answer);
  }
}

/* ---- queries ---- */

/* Starts what waits, as far as there is room. Ending lookups call this too: then the loop that runs already goes on. */
static void pump(struct resolver *r) {
  if (r->pumping) return;
  r->pumping = true;
  while (r->active < LOOKUPS_ACTIVE_MAX && !TAILQ_EMPTY(&r->waiting)) {
    struct lookup *lookup = TAILQ_FIRST(&r->waiting);
    TAILQ_REMOVE(&r->waiting, lookup, waiting);
    r->active++;
    ask(r, &lookup->mx);
  }
  r->pumping = false;
}

static void refuse(struct resolver_query *query, enum mx_status status, const char *reason) {
  struct mx_set set = {0};
  mx_set_fail(&set, status, "%s", reason);
  query->done(query, &set);
}

static struct lookup *lookup_begin(struct resolver *r, struct span domain) {
  if (r->lookups.count >= LOOKUPS_MAX) return NULL;
  struct lookup *lookup = lookup_new(domain);
  if (lookup == NULL) return NULL;
  if (map_insert(&r->lookups, lookup) != E_OK) {
    lookup_free(lookup);
    return NULL;
  }
  TAILQ_INSERT_TAIL(&r->waiting, lookup, waiting);
  return lookup;
}

static void join(struct lookup *lookup, struct resolver_query *query) {
  query->_lookup = lookup;
  TAILQ_INSERT_TAIL(&lookup->callers, query, _link);
}

static void miss(struct resolver *r, const struct dns_key *key, struct resolver_query *query) {
  struct lookup *lookup = map_find(&r->lookups, dns_key_span(key));
  if (lookup != NULL) {
    r->stats.merged++;
    join(lookup, query);
    return;
  }
  r->stats.cache_misses++;
  lookup = lookup_begin(r, dns_key_name(key));
  if (lookup == NULL) {
    refuse(query, MX_TEMPORARY, "too many domains are being looked up");
    return;
  }
  join(lookup, query);
  pump(r);
}

void resolver_mx(struct resolver *r, struct span domain, struct resolver_query *query) {
  struct dns_name name;
  struct dns_key key;
  struct mx_set set;
  must(query->_lookup == NULL);
  if (dns_name_parse(&name, domain) != E_OK) {
    refuse(query, MX_BAD_NAME, "not a valid domain name");
    return;
  }
  dns_key_make(&key, LOOKUP_KEY, dns_name_span(&name));
  uint64_t now = now_ms(r);
  const struct cache_entry *entry = set_entry(r, &key, now);
  if (entry == NULL || now >= entry->expires_ms) {
    miss(r, &key, query);
    return;
  }
  r->stats.cache_hits++;
  r->stats.stale_served += entry->stale;
  if (!set_from_cache(entry, now, &set)) set.ttl_s = LOOKUP_FAILURE_TTL_S;
  query->done(query, &set); /* a set of its own: `done` may ask again and find another one in the cache */
  mx_set_clear(&set);
}

void resolver_cancel(struct resolver *r, struct resolver_query *query) {
  (void)r;
  if (query->_lookup == NULL) return;
  TAILQ_REMOVE(&query->_lookup->callers, query, _link); /* the lookup goes on: its answers are for the cache */
  query->_lookup = NULL;
}

/* ---- records ---- */

void resolver_records(struct resolver *r, uint16_t type, struct span name, struct record_query *query) {
  static const struct dns_answer nothing = {.outcome = DNS_NO_NAME};
  struct dns_key key;
  must(query->_single == NULL);
  if (dns_name_check(name) != E_OK) {
    query->done(query, &nothing);
    return;
  }
  struct single *single = r->singles_count < SINGLES_MAX ? calloc(1, sizeof *single) : NULL;
  if (single == NULL) {
    query->done(query, no_room(r));
    return;
  }
  dns_key_make(&key, type, name);
  single->need.type = type;
  single->query = query;
  query->_single = single;
  LIST_INSERT_HEAD(&r->singles, single, link);
  r->singles_count++;
  ask_about(r, &key, &single->need);
}

void resolver_records_cancel(struct resolver *r, struct record_query *query) {
  (void)r;
  if (query->_single != NULL) query->_single->query = NULL; /* the answer is for the cache */
  query->_single = NULL;
}

static void dane_go_on(struct dane_query *query) {
  struct dns_key key;
  if (query->dane.status != DANE_PENDING) {
    query->done(query);
    return;
  }
  dane_needs(&query->dane, &key);
  resolver_records(query->_resolver, dns_key_type(&key), dns_key_name(&key), &query->_records);
}

static void dane_answered(struct record_query *records, const struct dns_answer *answer) {
  struct dane_query *query = records->context;
  dane_take(&query->dane, answer);
  dane_go_on(query); /* three questions at most */
}

void resolver_dane(struct resolver *r, const struct mx_set *set, const struct mx_host *host, struct span domain, uint16_t port,
                   struct dane_query *query) {
  must(query->_records._single == NULL);
  query->_resolver = r;
  query->_records = (struct record_query){.done = dane_answered, .context = query};
  dane_begin(&query->dane, set, host, domain, port);
  dane_go_on(query);
}

void resolver_dane_cancel(struct resolver *r, struct dane_query *query) { resolver_records_cancel(r, &query->_records); }

/* ---- life ---- */

static uint32_t or_default(uint32_t value, uint32_t otherwise) { return value > 0 ? value : otherwise; }

int resolver_open(struct resolver **out, struct io *io, struct wheel *wheel, const struct resolver_options *options, uint8_t token_kind) {
  struct resolver *r = calloc(1, sizeof *r);
  if (r == NULL) return E_NO_MEMORY;
  r->io = io;
  r->ipv6 = options->ipv6;
  r->dnssec = options->dnssec;
  r->ttl_max_s = least(or_default(options->ttl_max_s, 86400), DNS_TTL_MAX_S);
  r->negative_ttl_max_s = least(or_default(options->negative_ttl_max_s, 900), DNS_TTL_MAX_S);
  if (dns_name_parse(&r->self, options->hostname) != E_OK) r->self = (struct dns_name){0}; /* no name of ours can be in a set */
  TAILQ_INIT(&r->waiting);
  LIST_INIT(&r->singles);
  cache_init(&r->cache, or_default(options->cache_entries, 65536), chance(r));
  map_init(&r->lookups, lookup_key, chance(r));
  int error = ask_open(&r->asker, io, wheel, options, token_kind, &r->stats, question_done, r);
  if (error != E_OK) {
    cache_fini(&r->cache);
    map_fini(&r->lookups);
    free(r);
    return error;
  }
  *out = r;
  return E_OK;
}

void resolver_close(struct resolver *r) {
  uint32_t cursor = 0;
  if (r == NULL) return;
  ask_close(&r->asker);
  for (struct lookup *lookup; (lookup = map_next(&r->lookups, &cursor)) != NULL;) lookup_free(lookup);
  for (struct single *single; (single = LIST_FIRST(&r->singles)) != NULL;) {
    LIST_REMOVE(single, link);
    free(single);
  }
  map_fini(&r->lookups);
  cache_fini(&r->cache);
  free(r);
}

void resolver_complete(struct resolver *r, const struct io_completion *completion) { ask_complete(&r->asker, completion); }

const struct resolver_stats *resolver_stats(const struct resolver *r) { return &r->stats; }
