/*
 * For the tests of site.c: the site of one name on several shards, in one thread: what they write to each other is kept here until a test lets it arrive, so letters can cross. Connections are
 * numbers only: one that is opened works at once, takes a job, and stays until the test closes it.
 */
#include <stdio.h>
#include <stdlib.h>

#include "core/base/error.h"
#include "net/out/outlet.h"
#include "tests/lib/unit.h"

#define SHARDS 3
#define LETTERS 4096
#define JOBS 4096
#define LIMIT 10
#define NAME "mx.example.net"

static struct shard shards[SHARDS];
static struct outlet outlets[SHARDS];
static struct counters counters[SHARDS];
static struct schedule schedules[SHARDS]; /* only its texts */
static struct conf conf;
static struct site *sites[SHARDS];
static unsigned home, guest, other;
static unsigned closing[SHARDS];    /* of the open ones, those that have failed */
static unsigned retired_to[SHARDS]; /* the limit last asked for by connections_retire_surplus */
static unsigned opened, deferred, ended;
static bool dead; /* nobody answers: what is opened fails, when the test says so */

static struct line { /* of letters from one shard to another, in order */
  struct letter letter[LETTERS];
  unsigned first, end;
} lines[SHARDS][SHARDS];

static struct job jobs[JOBS];
static struct message messages[JOBS];
static unsigned jobs_made;

/* ---- what site.c calls ---- */

unsigned shard_group_count(const struct shard_group *group) {
  (void)group;
  return SHARDS;
}

void shard_post(struct shard *from, unsigned to, struct letter letter) {
  struct line *line = &lines[from->index][to];
  must(line->end < LETTERS);
  line->letter[line->end++] = letter;
}

bool connection_open(struct site *site) {
  if (backoff_blocks(&site->targets[0].backoff, site->outlet->o.shard->now_ms)) return false;
  site->open++;
  opened++;
  if (!dead) site_pop(site);
  if (dead) site->opening++;
  return true;
}

void connection_pull(struct connection *connection) { (void)connection; }

bool connections_live(const struct site *site, const struct connection *but) {
  (void)but;
  return site->open > closing[site->outlet->o.shard->index];
}

static unsigned lax_retired; /* calls */
static unsigned unproven;
void connections_retire_unproven(struct site *site) {
  (void)site;
  unproven++;
}

void connections_retire_lax(struct site *site) {
  (void)site;
  lax_retired++;
}
static unsigned sessions_forgotten;
void safety_forget_session(struct slab *slab, struct target *target) {
  (void)slab;
  sessions_forgotten += target->session != NULL;
  target->session = NULL;
}
void connections_retire_surplus(struct site *site, uint32_t limit) { retired_to[site->outlet->o.shard->index] = limit; }

void outlet_defer_rest(struct outlet *outlet, struct job *job, const struct failure *failure, struct site *site, const struct outlet_peer *peer) {
  (void)outlet;
  (void)job;
  (void)failure;
  (void)site;
  (void)peer;
  deferred++;
}

void outlet_job_end(struct outlet *outlet, struct job *job) {
  (void)outlet;
  (void)job;
  ended++;
}

/* ---- the world ---- */

static struct span site_key(const void *object) { return span_of_text(((const struct site *)object)->name); }

static void pump(unsigned shard) {
  struct outlet *outlet = &outlets[shard];
  for (struct site *site; (site = outlet->dirty_sites) != NULL;) {
    outlet->dirty_sites = site->next_dirty;
    site->dirty = false;
    site_pump(site);
  }
}

static void pump_all(void) {
  for (unsigned i = 0; i < SHARDS; i++) pump(i);
}

static void let_pass(uint64_t ms) {
  for (unsigned i = 0; i < SHARDS; i++) {
    shards[i].now_ms += ms;
    shards[i].wall_ms += ms;
    wheel_advance(&shards[i].wheel, shards[i].now_ms, NULL, 100);
  }
}

static void open_world(void) {
  conf = (struct conf){.connections_per_site = LIMIT};
  memset(lines, 0, sizeof lines);
  memset(closing, 0, sizeof closing);
  memset(outlets, 0, sizeof outlets);
  jobs_made = opened = deferred = ended = 0;
  dead = false;
  for (unsigned i = 0; i < SHARDS; i++) {
    shards[i] = (struct shard){.index = i, .now_ms = 10000, .wall_ms = 1764000000000};
    wheel_init(&shards[i].wheel, shards[i].now_ms);
    outlets[i].o = (struct outlet_options){.shard = &shards[i], .conf = &conf, .counters = &counters[i], .schedule = &schedules[i]};
    outlets[i].backoff = (struct backoff_policy){30000, 900000};
    map_init(&outlets[i].sites, site_key, 1);
    sites[i] = site_get(&outlets[i], NAME);
    sites[i]->targets = calloc(1, sizeof(struct target));
    sites[i]->targets_count = sites[i]->best_count = 1;
    sites[i]->domains = 1; /* or a sweep would forget it */
    retired_to[i] = UINT32_MAX;
  }
  home = sites[0]->home;
  guest = (home + 1) % SHARDS;
  other = (home + 2) % SHARDS;
}

static void close_world(void) {
  for (unsigned i = 0; i < SHARDS; i++) {
    for (unsigned k = 0; k < SHARDS; k++)
      for (struct line *line = &lines[i][k]; line->first < line->end; line->first++)
        if (line->letter[line->first].kind != LETTER_JOB) free(line->letter[line->first].what);
    while (site_pop(sites[i]) != NULL) continue;
    sites_close(&outlets[i]);
    map_fini(&outlets[i].sites);
  }
}

static void enqueue(unsigned shard, unsigned count) {
  for (; count > 0; count--) {
    struct job *job = &jobs[jobs_made % JOBS];
    *job = (struct job){.message = &messages[jobs_made++ % JOBS], .owner = (uint16_t)shard, .give_up_ms = UINT64_MAX};
    site_enqueue(sites[shard], job);
  }
}

/* One that was handed over by a shard that sees the home here. */
static void enqueue_stray(unsigned shard) {
  enqueue(shard, 1);
  sites[shard]->last->handed_over = true;
}

/* The next letter between these two; its kind, or 0 if there is none. */
static unsigned arrive(unsigned from, unsigned to) {
  struct line *line = &lines[from][to];
  if (line->first == line->end) return 0;
  struct letter letter = line->letter[line->first++];
  if (line->first == line->end) line->first = line->end = 0;
  if (letter.kind == LETTER_JOB) {
    struct job *job = letter.what;
    job->handed_over = true;
    site_enqueue(sites[to], job);
  } else {
    site_letter(&outlets[to], from, &letter);
  }
  return letter.kind;
}

/* Lets arrive what is written, and what is written to that, until there is silence. */
static void arrive_all(void) {
  for (bool some = true; some;) {
    some = false;
    pump_all();
    for (unsigned i = 0; i < SHARDS; i++)
      for (unsigned k = 0; k < SHARDS; k++) some |= arrive(i, k) != 0;
  }
}

static unsigned waiting_letters(unsigned from, unsigned to, unsigned kind) {
  unsigned count = 0;
  for (unsigned i = lines[from][to].first; i < lines[from][to].end; i++) count += lines[from][to].letter[i].kind == kind;
  return count;
}

static void close_one(unsigned shard) {
  must(sites[shard]->open > closing[shard]);
  sites[shard]->open--;
  site_connection_closed(sites[shard]);
}

/* A connection that did not open, or broke, as connection.c does it: its close takes a while. */
static void fail_begin(unsigned shard) {
  static const struct failure failure = {.kind = FAILURE_NETWORK, .error = E_REFUSED};
  struct site *site = sites[shard];
  must(site->open > closing[shard]);
  closing[shard]++;
  if (site->opening > 0) site->opening--;
  backoff_failed(&site->targets[0].backoff, &outlets[shard].backoff, shards[shard].now_ms);
  if (!connections_live(site, NULL)) site_failed(site, &failure, NULL);
}

static void fail_end(unsigned shard) {
  must(closing[shard] > 0);
  closing[shard]--;
  sites[shard]->open--;
  site_connection_closed(sites[shard]);
}

static void fail_one(unsigned shard) {
  fail_begin(shard);
  pump(shard);
  fail_end(shard);
}

static unsigned all_open(void) {
  unsigned open = 0;
  for (unsigned i = 0; i < SHARDS; i++) open += sites[i]->open;
  return open;
}

static void check_books(void) {
  const struct lease_home *lease = &sites[home]->lease_home;
  ck_quick(all_open() <= LIMIT);
  ck_quick(lease->granted + lease->owed <= lease->limit);
  for (unsigned i = 0; i < SHARDS; i++) ck_quick(i == home || sites[i]->open <= sites[i]->lease_guest.granted);
}

static void lease_to(unsigned shard) {
  enqueue(shard, LEASE_HOT_JOBS);
  arrive_all();
  while (sites[home]->open > 0) close_one(home);
  arrive_all();
  while (sites[home]->open > 0) close_one(home);
  arrive_all();
  ck_assert_uint_gt(sites[shard]->lease_guest.granted, 0);
}
