/*
 * The shard's side: which domains it knows about, who waits, and the question about TXT.
 */
#include <stdlib.h>

#include "core/base/error.h"
#include "net/sts/inside.h"

#define PREFIX "_mta-sts."
#define FRESH_MIN_MS 1000
#define FRESH_MAX_MS 3600000ull

static struct span key_of(const void *object) { return dns_name_span(&((const struct sts_place *)object)->domain); }

static bool holds(const struct sts_place *place) { return place->told.policy != NULL && place->view->shard->wall_ms < place->told.until_ms; }
static bool is_fresh(const struct sts_place *place) { return place->view->shard->now_ms < place->fresh_until_ms; }

/* ---- answers ---- */

static void answer(struct sts_query *query, const struct sts_place *place) {
  struct sts_answer told = {.state = place->told.state};
  uint64_t now_ms = place->view->shard->now_ms;
  if (told.state == STS_KNOWN) {
    told.policy = place->told.policy;
    if (!holds(place)) told = (struct sts_answer){.state = STS_NONE};
  }
  told.trouble = place->told.trouble;
  told.ttl_s = is_fresh(place) ? (uint32_t)((place->fresh_until_ms - now_ms + 999) / 1000) : 1;
  query->done(query, &told);
}

static uint64_t clamp(uint64_t ms) { return ms < FRESH_MIN_MS ? FRESH_MIN_MS : ms > FRESH_MAX_MS ? FRESH_MAX_MS : ms; }

/* On the shard, when the thread has answered. */
static bool told(struct errand *errand, void *context) {
  struct sts_place *place = context;
  struct sts_query *query;
  (void)errand;
  sts_policy_drop(place->told.policy);
  place->told = place->coming;
  place->coming = (struct sts_told){0};
  place->asking = false;
  place->fresh_until_ms = place->view->shard->now_ms + clamp(place->told.again_ms);
  while ((query = TAILQ_FIRST(&place->queries)) != NULL) {
    TAILQ_REMOVE(&place->queries, query, _link);
    query->_place = NULL;
    answer(query, place);
  }
  return true;
}

void sts_view_tell(struct sts_place *place) {
  errand_init(&place->errand, told, place);
  errand_ask(place->view->shard, &place->errand);
}

/* ---- questions ---- */

static void text_found(struct record_query *record, const struct dns_answer *found) {
  struct sts_place *place = record->context;
  struct sts_view *view = place->view;
  place->announced = sts_announced(found, place->id);
  bool pushed = spsc_push(&view->asked, &place);
  must(pushed); /* it has room for all places, and each is in it once */
  place->errand_used = true;
  sts_wake(view->sts);
}

static void look(struct sts_place *place) {
  char name[sizeof PREFIX + DNS_NAME_MAX];
  struct fmt out = fmt_over(name, sizeof name);
  if (place->errand_used)
    (void)errand_await(&place->errand); /* it was over in the turn in which `asking` ended, and nobody looks again within a second of that */
  place->errand_used = false;
  place->asking = true;
  fmt_text(&out, PREFIX);
  fmt_put(&out, dns_name_span(&place->domain));
  place->record = (struct record_query){.done = text_found, .context = place};
  resolver_records(place->view->resolver, DNS_TXT, fmt_span(&out), &place->record);
}

static void forget(struct sts_view *view, struct sts_place *place) {
  must(map_remove(&view->map, key_of(place)));
  TAILQ_REMOVE(&view->recent, place, recent);
  if (place->errand_used) (void)errand_await(&place->errand);
  sts_policy_drop(place->told.policy);
  free(place);
}

/* The one that was not used for the longest; not one that is being asked about, or whose errand is just ending. */
static bool make_room(struct sts_view *view) {
  struct sts_place *last = TAILQ_LAST(&view->recent, sts_places);
  if (view->map.count < sts_options_of(view->sts)->places_max) return true;
  while (last != NULL && (last->asking || (last->errand_used && !errand_is_over(&last->errand)))) last = TAILQ_PREV(last, sts_places, recent);
  if (last == NULL) return false;
  forget(view, last);
  return true;
}

static struct sts_place *place_of(struct sts_view *view, struct span domain) {
  struct sts_place *place = map_find(&view->map, domain);
  if (place != NULL) {
    TAILQ_REMOVE(&view->recent, place, recent);
    TAILQ_INSERT_HEAD(&view->recent, place, recent);
    return place;
  }
  if (!make_room(view) || (place = calloc(1, sizeof *place)) == NULL) return NULL;
  place->view = view;
  TAILQ_INIT(&place->queries);
  if (dns_name_parse(&place->domain, domain) != E_OK || !span_equal(key_of(place), domain) || map_insert(&view->map, place) != E_OK) {
    free(place);
    return NULL;
  }
  TAILQ_INSERT_HEAD(&view->recent, place, recent);
  return place;
}

void sts_ask(struct sts_view *view, struct span domain, struct sts_query *query) {
  static const struct sts_answer unknown = {.state = STS_FETCHING, .ttl_s = 1};
  must(query->_place == NULL);
  struct sts_place *place = place_of(view, domain);
  if (place == NULL) { /* no name, or no memory */
    query->done(query, &unknown);
    return;
  }
  bool known = is_fresh(place) || holds(place); /* what holds does so whatever the new look brings */
  if (!known) {
    query->_place = place;
    TAILQ_INSERT_TAIL(&place->queries, query, _link);
  }
  if (!is_fresh(place) && !place->asking) look(place);
  if (known) answer(query, place);
}

void sts_cancel(struct sts_query *query) {
  if (query->_place == NULL) return;
  TAILQ_REMOVE(&query->_place->queries, query, _link);
  query->_place = NULL;
}

/* ---- life ---- */

int sts_view_open(struct sts_view *view, struct sts *sts, uint64_t seed) {
  uint32_t capacity = 1;
  while (capacity < sts_options_of(sts)->places_max) capacity *= 2;
  view->sts = sts;
  TAILQ_INIT(&view->recent);
  map_init(&view->map, key_of, seed);
  return spsc_init(&view->asked, sizeof(struct sts_place *), capacity);
}

/* What is still in the ring was never given an errand. */
void sts_view_close(struct sts_view *view) {
  struct sts_place *place;
  while (spsc_pop(&view->asked, &place)) place->errand_used = false;
  while ((place = TAILQ_FIRST(&view->recent)) != NULL) {
    sts_policy_drop(place->coming.policy);
    forget(view, place);
  }
  map_fini(&view->map);
  spsc_fini(&view->asked);
}

const char *sts_state_text(enum sts_state state) {
  static const char *const text[] = {"invalid", "none", "fetching", "known"};
  return (unsigned)state < sizeof text / sizeof *text ? text[state] : "invalid";
}
