/* The queues of all shards as one table, by domain or by site. */
#include <stdlib.h>
#include <sys/mman.h>
#include <xxhash.h>

#include "core/base/error.h"
#include "net/control/inside.h"

#define DOMAINS_A_STEP 1024
#define RECIPIENTS_A_STEP 4096 /* looked at for the oldest */
#define SITES_A_STEP 1024

/* ---- rows, as a shard writes them and as all are added up ---- */

#define NO_TEXT UINT32_MAX
struct row {
  uint64_t oldest_ms, error_ms, blocked_ms;
  uint32_t waiting, given, in_flight; /* given: in flight or ready */
  uint32_t name, site, error;         /* where the texts are; NO_TEXT: none */
  uint32_t connections, limit;
  bool is_home; /* of a site: its limit is what this shard says */
};

struct table {
  struct row *row;
  uint32_t rows, capacity;
  char *text;
  uint32_t text_len, text_capacity;
  bool no_memory;
};

/* A hundred thousand rows and more: in pages of 2 MiB, where the system has them, as page by page the kernel takes longer than we do. free */
static void *large_alloc(size_t size) {
  size_t page = (size_t)2 << 20, whole = (size + page - 1) / page * page;
  if (size < page / 2) return malloc(size);
  void *memory = aligned_alloc(page, whole);
  if (memory != NULL) (void)madvise(memory, whole, MADV_HUGEPAGE);
  return memory;
}

static void table_free(struct table *table) {
  free(table->row);
  free(table->text);
}

static uint32_t keep_text(struct table *table, struct span text) {
  if (text.at == NULL) return NO_TEXT;
  if (table->text_len + text.len + 1 > table->text_capacity) {
    uint32_t capacity = table->text_capacity * 2 + (uint32_t)text.len + 65536;
    char *grown = realloc(table->text, capacity);
    table->no_memory |= grown == NULL;
    if (grown == NULL) return NO_TEXT;
    table->text = grown;
    table->text_capacity = capacity;
  }
  uint32_t at = table->text_len;
  memcpy(table->text + at, text.at, text.len);
  table->text[at + text.len] = '\0';
  table->text_len += (uint32_t)text.len + 1;
  return at;
}

static uint32_t keep_string(struct table *table, const char *text) { return text == NULL ? NO_TEXT : keep_text(table, span_of_text(text)); }

/* Before the first row: so many are expected. Should there be no memory, it is seen when they come. */
static void expect_rows(struct table *table, uint32_t rows) {
  table->row = large_alloc(((size_t)rows + 1) * sizeof *table->row);
  if (table->row != NULL) table->capacity = rows;
}

static struct row *new_row(struct table *table, struct span name) {
  if (table->rows == table->capacity) {
    uint32_t capacity = table->capacity * 2 + 1024;
    struct row *grown = realloc(table->row, capacity * sizeof *grown);
    table->no_memory |= grown == NULL;
    if (grown == NULL) return NULL;
    table->row = grown;
    table->capacity = capacity;
  }
  struct row *row = &table->row[table->rows];
  *row = (struct row){.oldest_ms = UINT64_MAX, .name = keep_text(table, name), .site = NO_TEXT, .error = NO_TEXT};
  if (row->name == NO_TEXT) return NULL;
  table->rows++;
  return row;
}

/* ---- on a shard ---- */

enum phase { PHASE_BEGIN = 0, PHASE_DOMAINS, PHASE_SITES, PHASE_CONNECTIONS };

struct listing {
  struct asked asked;
  bool by_site;
  enum phase phase;
  struct table table;
  struct domain_queue *queue; /* the next */
  const struct site *site;    /* the last */
  uint32_t connection;
  uint32_t looks; /* recipients of `queue` still to be looked at for the oldest */
};

/* Since the oldest known has left, all that wait have to be looked at. False: it goes on in the next step. */
static bool find_oldest(struct listing *listing, struct domain_queue *queue, unsigned *budget) {
  unsigned i;
  if (queue->oldest_stale && listing->looks == 0) {
    listing->looks = queue->waiting;
    queue->oldest_ms = UINT64_MAX;
    queue->oldest_stale = false;
  }
  for (; listing->looks > 0 && *budget > 0; listing->looks--, (*budget)--) {
    const struct message *message = domain_queue_rotate(queue, &i);
    if (message != NULL && message->created_ms < queue->oldest_ms) queue->oldest_ms = message->created_ms;
  }
  return listing->looks == 0;
}

/* Only what stands in the queue itself: each further look would be a miss of the cache, a hundred thousand times. */
static void list_domain(struct listing *listing, const struct domain_queue *queue) {
  if (queue->waiting == 0 && queue->given == 0 && !queue->held) return;
  struct row *row = new_row(&listing->table, span_of(queue->name, queue->name_len));
  if (row == NULL) return;
  row->waiting = queue->waiting;
  row->given = queue->given;
  row->oldest_ms = queue->oldest_ms;
  uint64_t oldest_ready_ms = queue->given > 0 ? operate_oldest_ready_ms(queue) : UINT64_MAX;
  if (oldest_ready_ms < row->oldest_ms) row->oldest_ms = oldest_ready_ms;
}

static bool list_domains(struct listing *listing, struct relay *relay) {
  struct domain_queues *queues = &relay_schedule(relay)->domains;
  unsigned domains = DOMAINS_A_STEP, looks = RECIPIENTS_A_STEP;
  if (listing->phase == PHASE_BEGIN) {
    queues->walkers++;
    expect_rows(&listing->table, queues->map.count);
    listing->queue = queues->first;
    listing->phase = PHASE_DOMAINS;
  }
  for (; listing->queue != NULL && domains > 0; domains--) {
    if (listing->queue->next != NULL) __builtin_prefetch(listing->queue->next->name);
    if (!find_oldest(listing, listing->queue, &looks)) return false;
    list_domain(listing, listing->queue);
    listing->queue = listing->queue->next;
  }
  if (listing->queue != NULL) return false;
  queues->walkers--;
  listing->phase = PHASE_CONNECTIONS;
  return true;
}

static void list_site(struct listing *listing, const struct site *site) {
  struct site_view view;
  operate_view_site(site, &view);
  if (view.ready == 0 && view.connections == 0 && view.failures == 0 && !view.held) return;
  struct row *row = new_row(&listing->table, span_of_text(view.name));
  if (row == NULL) return;
  row->given = view.ready + view.in_flight;
  row->in_flight = view.in_flight;
  row->oldest_ms = view.oldest_ms;
  row->connections = view.connections;
  row->limit = view.limit;
  row->blocked_ms = view.blocked_ms;
  row->is_home = view.home;
  row->error_ms = view.error_ms;
  row->error = keep_string(&listing->table, view.error);
}

static bool list_sites(struct listing *listing, struct relay *relay) {
  struct outlet *outlet = relay_outlet(relay);
  if (listing->phase == PHASE_BEGIN) operate_walk(outlet, 1);
  listing->phase = PHASE_SITES;
  for (unsigned i = 0; i < SITES_A_STEP; i++) {
    const struct site *site = operate_next_site(outlet, listing->site);
    if (site == NULL) {
      operate_walk(outlet, -1);
      return true;
    }
    list_site(listing, site);
    listing->site = site;
  }
  return false;
}

static void count_in_flight(void *context, const struct message *message, unsigned recipient) {
  struct listing *listing = context;
  uint8_t room[256];
  struct row *row = new_row(&listing->table, span_lower(message_domain(message, recipient), room, sizeof room));
  if (row != NULL) row->in_flight = 1;
}

static bool list_step(struct errand *errand, void *context) {
  struct listing *listing = (struct listing *)errand;
  struct relay *relay = context;
  if (listing->by_site) return list_sites(listing, relay);
  if (listing->phase < PHASE_CONNECTIONS) {
    list_domains(listing, relay);
    return false;
  }
  return !operate_in_flight(relay_outlet(relay), &listing->connection, count_in_flight, listing);
}

/* ---- of the domains that are shown, the rest ---- */

struct total;
struct details {
  struct asked asked;
  struct total **shown;
  uint32_t count, next;
  struct table table; /* a row for each of them */
};

static bool details_step(struct errand *errand, void *relay);

/* ---- all together ---- */

struct total {
  const char *name, *site, *error;
  struct row sum;
};

struct totals {
  struct total *total;
  uint32_t count;
  uint32_t *index; /* by hash; 0: free, else number + 1 */
  uint32_t mask;
};

static const char *text_of(const struct table *table, uint32_t at) { return at == NO_TEXT ? NULL : table->text + at; }

static uint32_t place_of(const struct totals *totals, const char *name) { return (uint32_t)XXH3_64bits(name, strlen(name)) & totals->mask; }

static struct total *total_of(struct totals *totals, const char *name) {
  uint32_t at = place_of(totals, name);
  for (; totals->index[at] != 0; at = (at + 1) & totals->mask)
    if (strcmp(totals->total[totals->index[at] - 1].name, name) == 0) return &totals->total[totals->index[at] - 1];
  struct total *total = &totals->total[totals->count++];
  totals->index[at] = totals->count;
  *total = (struct total){.name = name, .sum = {.oldest_ms = UINT64_MAX}};
  return total;
}

static void add_row(struct totals *totals, const struct table *table, const struct row *row) {
  struct total *total = total_of(totals, table->text + row->name);
  struct row *sum = &total->sum;
  sum->waiting += row->waiting;
  sum->given += row->given;
  sum->in_flight += row->in_flight;
  sum->connections += row->connections;
  if (row->is_home || sum->limit == 0) sum->limit = row->limit;
  if (row->oldest_ms < sum->oldest_ms) sum->oldest_ms = row->oldest_ms;
  if (row->blocked_ms > sum->blocked_ms) sum->blocked_ms = row->blocked_ms;
  if (row->site != NO_TEXT) total->site = text_of(table, row->site);
  if (row->error == NO_TEXT || (total->error != NULL && row->error_ms < sum->error_ms)) return;
  total->error = text_of(table, row->error);
  sum->error_ms = row->error_ms;
}

/* Where the next ones belong lies anywhere: what is looked at is under way from memory by then. */
#define AHEAD 8
static void add_rows(struct totals *totals, const struct table *table) {
  uint32_t ahead[AHEAD] = {0};
  for (uint32_t r = 0; r < table->rows + AHEAD; r++) {
    uint32_t *place = &ahead[r % AHEAD], half = ahead[(r + AHEAD / 2) % AHEAD];
    if (r >= AHEAD / 2 && totals->index[half] != 0) __builtin_prefetch(&totals->total[totals->index[half] - 1]);
    if (r >= AHEAD) add_row(totals, table, &table->row[r - AHEAD]);
    if (r >= table->rows) continue;
    *place = place_of(totals, table->text + table->row[r].name);
    __builtin_prefetch(&totals->index[*place]);
  }
}

/* Between two looks at the shards some may have moved on: what is in flight is never more than what was given out. */
static uint64_t ready_of(const struct row *row) { return row->given > row->in_flight ? row->given - row->in_flight : 0; }

static int compare(const void *a, const void *b) {
  const struct total *one = *(const struct total *const *)a, *other = *(const struct total *const *)b;
  uint64_t first = one->sum.waiting + one->sum.given, second = other->sum.waiting + other->sum.given;
  if (first != second) return first < second ? 1 : -1;
  return strcmp(one->name, other->name);
}

static bool totals_make(struct totals *totals, const struct listing *listings, unsigned shards) {
  uint32_t rows = 0, size = 16;
  for (unsigned i = 0; i < shards; i++) {
    rows += listings[i].table.rows;
    if (listings[i].table.no_memory) return false;
  }
  while (size < rows * 2) size *= 2;
  totals->total = large_alloc((rows + 1) * sizeof *totals->total);
  totals->index = large_alloc(size * sizeof *totals->index);
  totals->mask = size - 1;
  if (totals->total == NULL || totals->index == NULL) return false;
  memset(totals->index, 0, size * sizeof *totals->index);
  for (unsigned i = 0; i < shards; i++) add_rows(totals, &listings[i].table);
  return true;
}

static json_t *domain_row(const struct control *control, const struct total *total) {
  const struct row *sum = &total->sum;
  const struct suspension *suspension = suspension_over(control, total->name, total->site);
  return json_pack("{s:o,s:o,s:I,s:I,s:I,s:o,s:b,s:o,s:o}", "domain", json_text(total->name), "site", json_text(total->site), "ready",
                   (json_int_t)ready_of(sum), "in_flight", (json_int_t)sum->in_flight, "deferred", (json_int_t)sum->waiting, "oldest",
                   json_time(sum->oldest_ms), "suspended", suspension != NULL, "last_error", json_text(total->error), "last_error_at",
                   json_time(total->error != NULL ? sum->error_ms : 0));
}

static json_t *site_row(const struct control *control, const struct total *total) {
  const struct row *sum = &total->sum;
  const struct suspension *suspension = suspension_over(control, NULL, total->name);
  return json_pack("{s:o,s:I,s:I,s:I,s:I,s:o,s:o,s:b,s:o,s:o}", "site", json_text(total->name), "ready", (json_int_t)ready_of(sum), "in_flight",
                   (json_int_t)sum->in_flight, "connections", (json_int_t)sum->connections, "connections_limit", (json_int_t)sum->limit,
                   "oldest_ready", json_time(sum->oldest_ms), "blocked_s", json_real((double)sum->blocked_ms / 1000), "suspended", suspension != NULL,
                   "last_error", json_text(total->error), "last_error_at", json_time(total->error != NULL ? sum->error_ms : 0));
}

static bool details_step(struct errand *errand, void *relay) {
  struct details *details = (struct details *)errand;
  for (unsigned i = 0; i < DOMAINS_A_STEP && details->next < details->count; i++, details->next++) {
    struct span name = span_of_text(details->shown[details->next]->name);
    const struct domain_queue *queue = domain_queue_find(&relay_schedule(relay)->domains, name);
    struct row *row = queue != NULL ? new_row(&details->table, name) : NULL;
    if (row == NULL) continue;
    row->error_ms = queue->error_ms;
    row->site = keep_string(&details->table, operate_site_of(queue));
    row->error = keep_string(&details->table, queue->error);
  }
  return details->next == details->count;
}

/* The texts are those of `all` then. */
static bool add_details(struct control *control, struct totals *totals, struct total **shown, uint32_t count, struct details *all) {
  for (unsigned i = 0; i < control->o.shards; i++) {
    all[i].shown = shown;
    all[i].count = count;
  }
  if (!control_ask_all(control, details_step, all, sizeof *all)) return false;
  for (unsigned i = 0; i < control->o.shards; i++) add_rows(totals, &all[i].table);
  return true;
}

/* Only those that are shown are sorted: a hundred thousand domains in whole would take longer than all else. */
static struct total **largest(const struct totals *totals, uint32_t limit, uint32_t *count) {
  struct total **sorted = malloc((totals->count + 1) * sizeof *sorted);
  struct total *last = NULL; /* of the largest so far, once there are enough */
  *count = 0;
  if (sorted == NULL) return NULL;
  for (uint32_t i = 0; i < totals->count; i++) {
    struct total *total = &totals->total[i];
    if (last != NULL && compare(&total, &last) > 0) continue;
    sorted[(*count)++] = total;
    if (*count < limit * 2 + 1024) continue;
    qsort(sorted, *count, sizeof *sorted, compare);
    *count = limit;
    if (limit > 0) last = sorted[limit - 1];
  }
  qsort(sorted, *count, sizeof *sorted, compare);
  if (*count > limit) *count = limit;
  return sorted;
}

static json_t *sum_up(const struct totals *totals) {
  struct row all = {.oldest_ms = UINT64_MAX};
  uint64_t ready = 0;
  for (uint32_t i = 0; i < totals->count; i++) {
    const struct row *sum = &totals->total[i].sum;
    all.waiting += sum->waiting;
    all.in_flight += sum->in_flight;
    ready += ready_of(sum);
    if (sum->oldest_ms < all.oldest_ms) all.oldest_ms = sum->oldest_ms;
  }
  return json_pack("{s:I,s:I,s:I,s:I,s:o}", "count", (json_int_t)totals->count, "ready", (json_int_t)ready, "in_flight", (json_int_t)all.in_flight,
                   "deferred", (json_int_t)all.waiting, "oldest", json_time(all.oldest_ms));
}

static struct reply table_reply(struct control *control, struct totals *totals, bool by_site, unsigned limit) {
  uint32_t count;
  struct details *details = calloc(control->o.shards, sizeof *details);
  struct total **rows = details != NULL ? largest(totals, limit, &count) : NULL;
  struct reply reply = {500, NULL};
  if (rows != NULL && !by_site && !add_details(control, totals, rows, count, details)) {
    reply = reply_error(503, "the relay is stopping");
  } else if (rows != NULL) {
    json_t *list = json_array();
    for (uint32_t i = 0; i < count; i++) json_array_append_new(list, by_site ? site_row(control, rows[i]) : domain_row(control, rows[i]));
    reply = reply_ok(json_pack("{s:o,s:o,s:I,s:o}", "total", sum_up(totals), by_site ? "sites" : "domains", list, "unloaded",
                               (json_int_t)control_sum(control, GAUGE_UNLOADED_MESSAGES), "suspensions", suspend_list(control).json));
  }
  for (unsigned i = 0; details != NULL && i < control->o.shards; i++) table_free(&details[i].table);
  free(details);
  free(rows);
  return reply;
}

struct reply list_queues(struct control *control, bool by_site, unsigned limit) {
  unsigned shards = control->o.shards;
  struct totals totals = {.count = 0};
  struct listing *listings = calloc(shards, sizeof *listings);
  if (listings == NULL) return (struct reply){500, NULL};
  for (unsigned i = 0; i < shards; i++) listings[i].by_site = by_site;
  struct reply reply = {503, NULL};
  if (!control_ask_all(control, list_step, listings, sizeof *listings)) {
    reply = reply_error(503, "the relay is stopping");
  } else if (totals_make(&totals, listings, shards)) {
    reply = table_reply(control, &totals, by_site, limit);
  }
  free(totals.total);
  free(totals.index);
  for (unsigned i = 0; i < shards; i++) table_free(&listings[i].table);
  free(listings);
  return reply;
}
