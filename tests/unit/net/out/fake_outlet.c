/*
 * For the tests of what operators do: the outgoing side of one shard of two. Sites and jobs are real, connections and the other shard are not. Jobs that
 * end stay here, with their fates.
 */
#include "net/out/operate.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/base/error.h"
#include "net/out/connection.h"
#include "tests/lib/unit.h"

#define SHARDS 2
#define ENDED_MAX 4096
#define NAME "mx.example.net"

static struct slab slab;
static struct shard shard;
static struct counters counters;
static struct conf conf;
static struct schedule schedule; /* only its domain queues */
static struct outlet outlet;
static struct job *ended[ENDED_MAX];
static unsigned ended_count, notes_to_home;
static struct site *site, *other;
static uint64_t next_id;

/* ---- what they call ---- */

unsigned shard_group_count(const struct shard_group *group) {
  (void)group;
  return SHARDS;
}

void shard_post(struct shard *from, unsigned to, struct letter letter) {
  (void)from;
  (void)to;
  notes_to_home += letter.kind == LETTER_SITE_RETRY;
  if (letter.kind != LETTER_JOB) free(letter.what);
}

bool mailbox_clear(struct shard *of) {
  (void)of;
  return true;
}

static unsigned opened;
bool connection_open(struct site *of) {
  (void)of;
  opened++;
  return false;
}

void connection_pull(struct connection *connection) { (void)connection; }

bool connections_live(const struct site *of, const struct connection *but) {
  (void)of;
  (void)but;
  return false;
}

void connections_retire_lax(struct site *of) { (void)of; }
void connections_retire_unproven(struct site *of) { (void)of; }
void safety_forget_session(struct slab *of, struct target *target) {
  (void)of;
  (void)target;
}
void connections_retire_surplus(struct site *of, uint32_t limit) {
  (void)of;
  (void)limit;
}

void outlet_defer_rest(struct outlet *of, struct job *job, const struct failure *failure, struct site *at, const struct outlet_peer *peer) {
  (void)of;
  (void)job;
  (void)failure;
  (void)at;
  (void)peer;
}

void outlet_job_end(struct outlet *of, struct job *job) {
  (void)of;
  must(ended_count < ENDED_MAX);
  ended[ended_count++] = job;
}

uint64_t outlet_random(struct outlet *of) {
  (void)of;
  return 0;
}

static struct {
  unsigned count, recipient;
  bool quiet;
} bounced;
void outlet_admin_bounce(struct outlet *of, struct message *message, unsigned recipient, struct span reason, bool quiet) {
  (void)of;
  (void)reason;
  ck_assert_int_eq(message->recipient[recipient].state, RECIPIENT_READY);
  bounced.count++;
  bounced.recipient = recipient;
  bounced.quiet = quiet;
  schedule_defer(&schedule, message, recipient, shard.wall_ms + 1000000, false); /* so that it can be seen */
}

/* ---- the world ---- */

static struct span site_key(const void *object) { return span_of_text(((const struct site *)object)->name); }

static struct site *make_site(const char *name) {
  struct site *made = site_get(&outlet, name);
  made->home = 0;
  made->targets = calloc(1, sizeof *made->targets);
  made->targets_count = made->best_count = 1;
  made->targets[0] =
      (struct target){.host = strdup("mx1.example.net"), .preference = 10, .address = {.family = 4, .port = 25, .bytes = {192, 0, 2, 1}}};
  made->domains = 1;
  return made;
}

static void open_world(void) {
  slab_init(&slab, 16 << 20);
  conf = (struct conf){.connections_per_site = 10, .retry_initial_ms = 300000};
  shard = (struct shard){.index = 0, .now_ms = 10000, .wall_ms = 1764000000000};
  wheel_init(&shard.wheel, shard.now_ms);
  schedule = (struct schedule){.shard = &shard, .slab = &slab};
  domain_queues_init(&schedule.domains, 3);
  outlet = (struct outlet){.o = {.shard = &shard, .conf = &conf, .slab = &slab, .schedule = &schedule, .counters = &counters}};
  outlet.backoff = (struct backoff_policy){30000, 900000};
  map_init(&outlet.sites, site_key, 1);
  site = make_site(NAME);
  other = make_site("mx.example.org");
  ended_count = notes_to_home = opened = 0;
  next_id = 1;
  memset(&bounced, 0, sizeof bounced);
}

static void free_job(struct job *job) {
  struct message *message = job->message;
  job_free(&slab, job);
  if (--message->jobs > 0) return;
  timer_cancel(&shard.wheel, &message->timer);
  message_free(&slab, message);
}

static void close_world(void) {
  for (unsigned i = 0; i < ended_count; i++) free_job(ended[i]);
  for (struct site *one = outlet.first_site; one != NULL; one = one->next)
    for (struct job *job; (job = site_pop(one)) != NULL;) free_job(job);
  sites_close(&outlet);
  map_fini(&outlet.sites);
  domain_queues_fini(&schedule.domains);
  ck_assert_uint_eq(slab.used_bytes, 0);
  slab_fini(&slab);
}

/* One recipient in each of these domains, a space between. */
static struct message *make_message(const char *domains, unsigned owner) {
  uint8_t room[2048];
  char names[512], address[300], *next = NULL;
  struct fmt out = fmt_over(room, sizeof room);
  unsigned count = 1;
  for (const char *c = domains; *c != '\0'; c++) count += *c == ' ';
  struct record_envelope envelope = {.sender = SPAN("s@example.org"), .created_ms = shard.wall_ms, .recipients = count};
  record_envelope_encode(&envelope, &out);
  snprintf(names, sizeof names, "%s", domains);
  uint16_t index = 0;
  for (const char *name = strtok_r(names, " ", &next); name != NULL; name = strtok_r(NULL, " ", &next), index++) {
    snprintf(address, sizeof address, "r%u@%s", index, name);
    struct record_recipient recipient = {.address = span_of_text(address), .index = index};
    record_recipient_encode(&recipient, &out);
  }
  struct message *message = message_new(&slab, next_id++, fmt_span(&out));
  ck_assert_ptr_nonnull(message);
  for (unsigned i = 0; i < count; i++) {
    message->recipient[i].state = RECIPIENT_READY;
    message->schedule = &schedule;
    if (owner == shard.index)
      message->recipient[i].domain = domain_queue_get(&schedule.domains, message_domain(message, i)); /* another's is its own */
  }
  return message;
}

/* A job of all of them; by letter if its owner is another. */
static struct job *make_job(const char *domains, unsigned owner) {
  struct message *message = make_message(domains, owner);
  struct job *job = job_new(&slab, message, 0, owner, 0);
  for (unsigned i = 1; i < message->recipients; i++) ck_assert(job_merge(&slab, job, job_new(&slab, message, i, owner, 0), 100));
  job->handed_over = owner != shard.index;
  return job;
}

static struct job *enqueue(struct site *to, const char *domains, unsigned owner) {
  struct job *job = make_job(domains, owner);
  site_enqueue(to, job);
  return job;
}

static void expect_fates(const struct job *job, const char *fates) {
  for (unsigned i = 0; i < ended_count; i++) {
    if (ended[i] != job) continue;
    ck_assert_uint_eq(job->recipients, strlen(fates));
    for (unsigned at = 0; at < job->recipients; at++) ck_assert_int_eq(job->each[at].fate, fates[at] == 'H' ? FATE_HELD : FATE_AGAIN);
    return;
  }
  ck_abort_msg("the job has not ended");
}

static void expect_ready(const struct site *of, unsigned count) {
  unsigned listed = 0;
  const struct job *last = NULL;
  for (const struct job *job = of->first; job != NULL; last = job, job = job->next, listed++)
    for (unsigned at = 0; at < job->recipients; at++) ck_assert_int_eq(job->each[at].fate, FATE_INVALID);
  ck_assert_uint_eq(of->jobs, count);
  ck_assert_uint_eq(listed, count);
  ck_assert_ptr_eq(of->last, last);
}

static void recall_all(void) {
  while (!operate_recall(&outlet)) continue;
}

static void hold_domain(const char *name, bool held) {
  ck_assert_int_eq(operate_hold_domain(&outlet, span_of_text(name), held), E_OK);
  recall_all();
}

static void hold_site(const char *name, bool held) {
  ck_assert_int_eq(operate_hold_site(&outlet, span_of_text(name), held), E_OK);
  recall_all();
}
