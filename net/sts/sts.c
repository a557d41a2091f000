/*
 * The thread: takes the questions of all shards in turn, answers each at once, and fetches.
 */
#include "net/sts/sts.h"

#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "core/base/error.h"
#include "core/conf/system.h"
#include "net/sts/cache.h"
#include "net/sts/fetch.h"
#include "net/sts/inside.h"

#define LOOK_MS 1000                 /* as long as there are policies: so often it is looked whose time has come */
#define BEGIN_MS 1000                /* while a policy is being fetched shards are told to ask again after so long */
#define UNUSED_MS (30ull * 86400000) /* for whom no mail came for so long is not fetched for any more */
#define LINE_ROOM 512

struct sts {
  struct sts_options o;
  struct sts_view *views;
  unsigned views_count; /* opened */
  struct sts_cache cache;
  struct sts_fetcher *fetcher;
  pthread_t thread;
  bool started;
  _Atomic bool stopping;
  uint64_t changed_ms; /* 0: the file is as the cache */
  uint64_t look_ms;    /* at refreshes, next */
};

const struct sts_options sts_defaults = {.views = 1,
                                         .entries_max = 16384,
                                         .places_max = 16384,
                                         .under_way = 64,
                                         .timeout_ms = 60000,
                                         .retry_ms = 300000,
                                         .refresh_ms = 86400000,
                                         .save_ms = 30000};

const struct sts_options *sts_options_of(const struct sts *sts) { return &sts->o; }
void sts_wake(struct sts *sts) { sts_fetcher_wake(sts->fetcher); }

__attribute__((format(printf, 2, 3))) static void say(const struct sts *sts, const char *format, ...) {
  char line[LINE_ROOM];
  va_list arguments;
  if (sts->o.say == NULL) return;
  va_start(arguments, format);
  vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  sts->o.say(sts->o.context, line);
}

/* ---- fetching ---- */

static uint64_t least(uint64_t a, uint64_t b) { return a < b ? a : b; }

static void plan_refresh(const struct sts *sts, struct sts_entry *entry) {
  entry->refresh_ms = entry->fetched_ms + least((uint64_t)entry->policy->max_age_s * 500, sts->o.refresh_ms);
}

static void fetch_failed(struct sts *sts, struct sts_entry *entry, const char *why, uint64_t now_ms) {
  entry->refresh_ms = sts_entry_holds(entry, now_ms) ? now_ms + sts->o.retry_ms : UINT64_MAX;
  say(sts, "MTA-STS policy of %s could not be fetched: %s%s", entry->domain.text, why,
      entry->policy != NULL ? "; the one that is there holds on" : "");
}

static void fetched(void *context, void *owner, enum sts_trouble trouble, struct span text, const char *why) {
  struct sts *sts = context;
  struct sts_entry *entry = owner;
  struct sts_policy *policy = NULL;
  char phrase[96 + 1];
  struct fmt out = fmt_over(phrase, sizeof phrase - 1);
  uint64_t now_ms = system_wall_ms();
  entry->fetching = false;
  entry->tried_ms = now_ms;
  if (trouble == STS_FINE && sts_policy_parse(&policy, text, &out) != E_OK) {
    trouble = STS_NOT_VALID;
    phrase[out.len] = '\0';
    why = phrase;
  }
  entry->trouble = trouble;
  if (trouble != STS_FINE) {
    fetch_failed(sts, entry, why, now_ms);
    return;
  }
  sts_cache_set(entry, policy, entry->tried_id, now_ms);
  plan_refresh(sts, entry);
  if (sts->changed_ms == 0) sts->changed_ms = now_ms;
}

/* With what the record says now, which for a refresh is what it said last. */
static void fetch(struct sts *sts, struct sts_entry *entry, const char *id) {
  if (entry->fetching) return;
  memcpy(entry->tried_id, id, strlen(id) + 1);
  entry->fetching = sts_fetcher_start(sts->fetcher, entry->domain.text, entry);
}

static void refresh_due(struct sts *sts, uint64_t now_ms) {
  if (now_ms < sts->look_ms) return;
  sts->look_ms = now_ms + LOOK_MS;
  for (struct sts_entry *entry = TAILQ_FIRST(&sts->cache.recent); entry != NULL; entry = TAILQ_NEXT(entry, _recent)) {
    if (entry->refresh_ms > now_ms || entry->fetching || now_ms - entry->used_ms > UNUSED_MS) continue;
    if (sts_entry_holds(entry, now_ms)) {
      fetch(sts, entry, entry->id);
    } else {
      entry->refresh_ms = UINT64_MAX;
    }
  }
}

/* ---- answering ---- */

/* The policy announced is not there, and was not tried a moment ago: in vain, or it holds for no time at all. */
static bool wanted(const struct sts *sts, const struct sts_entry *entry, const char *id, uint64_t now_ms) {
  if (sts_entry_holds(entry, now_ms) && strcmp(entry->id, id) == 0) return false;
  return entry->tried_ms == 0 || now_ms - entry->tried_ms >= sts->o.retry_ms || strcmp(entry->tried_id, id) != 0;
}

static void decide(struct sts *sts, const struct sts_entry *entry, struct sts_told *told, uint64_t now_ms) {
  *told = (struct sts_told){.state = STS_NONE, .again_ms = sts->o.retry_ms};
  if (entry == NULL) return;
  told->trouble = entry->trouble;
  if (entry->fetching) told->again_ms = BEGIN_MS;
  if (sts_entry_holds(entry, now_ms) && entry->policy->mode != STS_MODE_NONE) {
    told->state = STS_KNOWN;
    told->policy = sts_policy_hold(entry->policy);
    told->until_ms = entry->fetched_ms + (uint64_t)entry->policy->max_age_s * 1000;
  } else if (entry->fetching && entry->policy == NULL) {
    told->state = STS_FETCHING;
  }
}

static void work_on(struct sts *sts, struct sts_place *place) {
  uint64_t now_ms = system_wall_ms();
  struct span domain = dns_name_span(&place->domain);
  struct sts_entry *entry = place->announced ? sts_cache_get(&sts->cache, domain, now_ms) : sts_cache_find(&sts->cache, domain, now_ms);
  bool begins = place->announced && entry != NULL && !entry->fetching && wanted(sts, entry, place->id, now_ms);
  if (begins) fetch(sts, entry, place->id);
  decide(sts, entry, &place->coming, now_ms);
  if (begins && !entry->fetching) { /* too many are under way */
    place->coming.again_ms = BEGIN_MS;
    if (place->coming.state == STS_NONE && entry->policy == NULL) place->coming.state = STS_FETCHING;
  }
  sts_view_tell(place); /* it is the shard's now */
}

static void work_on_all(struct sts *sts) {
  struct sts_place *place;
  for (unsigned i = 0; i < sts->o.views; i++)
    while (spsc_pop(&sts->views[i].asked, &place)) work_on(sts, place);
}

/* ---- the file ---- */

static void save(struct sts *sts, uint64_t now_ms) {
  sts->changed_ms = 0;
  if (sts->o.file == NULL) return;
  int error = sts_cache_save(&sts->cache, sts->o.file, now_ms);
  if (error != E_OK) say(sts, "%s cannot be written: %s; MTA-STS policies are not kept over a restart", sts->o.file, error_text(error));
}

static void load(struct sts *sts) {
  unsigned left_out = 0;
  uint64_t now_ms = system_wall_ms();
  if (sts->o.file == NULL) return;
  int error = sts_cache_load(&sts->cache, sts->o.file, now_ms, &left_out);
  if (error != E_OK)
    say(sts, "%s is passed over: %s; MTA-STS policies are fetched anew", sts->o.file, error == E_SYNTAX ? "it is damaged" : error_text(error));
  if (left_out > 0) say(sts, "%s: %u MTA-STS policies are too old or damaged", sts->o.file, left_out);
  for (struct sts_entry *entry = TAILQ_FIRST(&sts->cache.recent); entry != NULL; entry = TAILQ_NEXT(entry, _recent)) plan_refresh(sts, entry);
}

/* ---- the thread ---- */

static void *work(void *argument) {
  struct sts *sts = argument;
  if (sts->o.begin != NULL) sts->o.begin(sts->o.context);
  while (!atomic_load_explicit(&sts->stopping, memory_order_acquire)) {
    uint64_t now_ms = system_wall_ms();
    work_on_all(sts);
    refresh_due(sts, now_ms);
    if (sts->changed_ms > 0 && now_ms - sts->changed_ms >= sts->o.save_ms) save(sts, now_ms);
    sts_fetcher_turn(sts->fetcher, sts->cache.map.count > 0 ? LOOK_MS : 60 * LOOK_MS);
  }
  if (sts->changed_ms > 0) save(sts, system_wall_ms());
  return NULL;
}

void sts_stop(struct sts *sts) {
  if (sts == NULL || !sts->started) return;
  atomic_store_explicit(&sts->stopping, true, memory_order_release);
  sts_wake(sts);
  pthread_join(sts->thread, NULL);
  sts->started = false;
}

/* ---- open and close ---- */

static int start(struct sts *sts) {
  sigset_t all, before; /* signals are the main thread's */
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  sts->started = pthread_create(&sts->thread, NULL, work, sts) == 0;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return sts->started ? E_OK : E_OTHER;
}

static uint64_t chance(void) {
  uint64_t value = 0;
  must(getrandom(&value, sizeof value, 0) == (ssize_t)sizeof value);
  return value;
}

int sts_open(struct sts **out, const struct sts_options *options) {
  struct sts *sts = calloc(1, sizeof *sts);
  if (sts == NULL) return E_NO_MEMORY;
  sts->o = *options;
  sts_cache_init(&sts->cache, options->entries_max, chance());
  struct sts_fetcher_options fetcher = {.under_way = options->under_way,
                                        .timeout_ms = options->timeout_ms,
                                        .ca_file = options->ca_file,
                                        .connect_to = options->connect_to,
                                        .done = fetched,
                                        .context = sts};
  sts->views = aligned_alloc(64, options->views * sizeof *sts->views);
  int error = sts->views == NULL ? E_NO_MEMORY : sts_fetcher_open(&sts->fetcher, &fetcher);
  if (sts->views != NULL) memset(sts->views, 0, options->views * sizeof *sts->views);
  while (error == E_OK && sts->views_count < options->views) {
    error = sts_view_open(&sts->views[sts->views_count], sts, chance());
    if (error == E_OK) sts->views_count++;
  }
  if (error == E_OK) {
    load(sts);
    error = start(sts);
  }
  if (error != E_OK) {
    sts_free(sts);
    return error;
  }
  *out = sts;
  return E_OK;
}

void sts_free(struct sts *sts) {
  if (sts == NULL) return;
  must(!sts->started);
  for (unsigned i = 0; i < sts->views_count; i++) sts_view_close(&sts->views[i]);
  sts_fetcher_close(sts->fetcher);
  sts_cache_fini(&sts->cache);
  free(sts->views);
  free(sts);
}

struct sts_view *sts_view(struct sts *sts, unsigned index, struct shard *shard, struct resolver *resolver) {
  must(index < sts->o.views);
  struct sts_view *view = &sts->views[index];
  view->shard = shard;
  view->resolver = resolver;
  return view;
}
