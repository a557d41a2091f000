#include "net/out/operate.h"

#include <stdlib.h>

#include "core/base/error.h"
#include "net/out/connection.h"

#define CONNECTIONS_A_STEP 2048
#define RECALL_A_STEP 64 /* recipients and sites */
#define REPORTS_MAX 256
#define LINES_MAX 1024
#define LOOKS_MAX OPERATE_LOOKS_MAX

/* ---- suspend ---- */

int operate_hold_domain(struct outlet *outlet, struct span name, bool held) {
  struct domain_queues *queues = &outlet->o.schedule->domains;
  struct domain_queue *queue = held ? domain_queue_get(queues, name) : domain_queue_find(queues, name);
  if (queue == queues->nowhere) return E_NO_MEMORY;
  if (queue != NULL) domain_queue_hold(queues, queue, held);
  if (held) outlet_recall_begin(outlet);
  return E_OK;
}

struct site *operate_find_site(const struct outlet *outlet, struct span name) {
  uint8_t room[MX_SITE_NAME_MAX + 1];
  return map_find(&outlet->sites, span_lower(name, room, sizeof room));
}

int operate_hold_site(struct outlet *outlet, struct span text, bool held) {
  char name[MX_SITE_NAME_MAX + 1];
  uint8_t room[MX_SITE_NAME_MAX];
  if (text.len > MX_SITE_NAME_MAX) return E_TOO_LONG;
  struct span lower = span_lower(text, room, sizeof room);
  memcpy(name, lower.at, lower.len);
  name[lower.len] = '\0';
  struct site *site = held ? site_get(outlet, name) : operate_find_site(outlet, text);
  if (site == NULL) return held ? E_NO_MEMORY : E_OK;
  site->held = held;
  if (held) outlet_recall_begin(outlet);
  return E_OK;
}

void operate_hold_all(struct outlet *outlet, bool held) {
  outlet->held_all = held;
  if (held) outlet_recall_begin(outlet);
}

void operate_hold_message(struct outlet *outlet, uint64_t id, bool held) {
  outlet->held_message = held ? id : 0;
  if (held) outlet_recall_begin(outlet);
}

bool operate_recall(struct outlet *outlet) { return outlet_recall_on(outlet, RECALL_A_STEP); }

bool operate_is_held(const struct outlet *outlet, const struct domain_queue *queue) { return outlet_is_held(outlet, queue); }

bool operate_all_home(const struct outlet *outlet) { return outlet->ended_first == NULL && mailbox_clear(outlet->o.shard); }

/* ---- one recipient that waits ---- */

void operate_bounce(struct outlet *outlet, struct message *message, unsigned recipient, struct span reason, bool quiet) {
  order_settle(outlet, message, recipient);
  schedule_job_began(message);
  schedule_take(outlet->o.schedule, message, recipient);
  outlet_admin_bounce(outlet, message, recipient, reason, quiet);
  schedule_job_ended(outlet->o.schedule, message);
}

bool operate_is_busy(const struct outlet *outlet) {
  return outlet->dsns_count > REPORTS_MAX || event_writer_gathered(outlet->o.events) - event_writer_settled(outlet->o.events) > LINES_MAX;
}

void operate_forget_failures(struct outlet *outlet, const struct domain_queue *queue) {
  struct domain *domain = queue->outgoing;
  struct site *site = domain != NULL ? domain->site : queue->site != NULL ? operate_find_site(outlet, span_of_text(queue->site)) : NULL;
  if (domain != NULL && domain->status != MX_OK) domain->valid_until_ms = 0;
  if (site != NULL) site_retry(site);
}

/* ---- what there is ---- */

struct site *operate_next_site(const struct outlet *outlet, const struct site *site) {
  return site == NULL ? outlet->first_site : site->next;
}

void operate_walk(struct outlet *outlet, int change) {
  must(change > 0 || outlet->site_walkers > 0);
  outlet->site_walkers += (unsigned)change;
}

const char *operate_site_of(const struct domain_queue *queue) {
  const struct domain *domain = queue->outgoing;
  if (domain == NULL) return queue->site;
  return domain->status == MX_OK && domain->site != NULL ? domain->site->name : NULL;
}

uint64_t operate_oldest_ready_ms(const struct domain_queue *queue) {
  const struct domain *domain = queue->outgoing;
  return domain == NULL || domain->site == NULL || domain->site->first == NULL ? UINT64_MAX : domain->site->first->message->created_ms;
}

void operate_ready(const struct domain_queue *queue, unsigned jobs, operate_each each, void *context) {
  const struct domain *domain = queue->outgoing;
  const struct job *job = domain != NULL && domain->site != NULL ? domain->site->first : NULL;
  struct span name = span_of(queue->name, queue->name_len);
  for (; job != NULL && jobs > 0; job = job->next, jobs--)
    for (unsigned at = 0; at < job->recipients; at++)
      if (span_equal_nocase(message_domain(job->message, job->each[at].index), name)) each(context, job->message, job->each[at].index);
}

static uint64_t blocked_ms(const struct backoff *backoff, uint64_t now_ms) {
  return backoff_blocks(backoff, now_ms) ? backoff->until_ms - now_ms : 0;
}

static uint32_t in_flight(const struct connection *c) {
  uint32_t count = 0;
  for (unsigned i = 0; i < SMTP_CLIENT_TRANSACTIONS; i++) count += c->transaction[i].job != NULL;
  return count;
}

void operate_view_site(const struct site *site, struct site_view *view) {
  uint64_t now_ms = site->outlet->o.shard->now_ms;
  *view = (struct site_view){.name = site->name,
                             .error = site->error,
                             .error_ms = site->error_ms,
                             .oldest_ms = site->first != NULL ? site->first->message->created_ms : UINT64_MAX,
                             .ready = site->jobs,
                             .connections = site->open,
                             .limit = site->lease_home.limit,
                             .failures = site->backoff.failures,
                             .blocked_ms = blocked_ms(&site->backoff, now_ms),
                             .home = site->home == site->outlet->o.shard->index,
                             .held = site->held};
  for (const struct connection *c = site->connections; c != NULL; c = c->next) view->in_flight += in_flight(c);
}

bool operate_view_target(const struct site *site, unsigned number, struct target_view *view) {
  if (number >= site->targets_count) return false;
  const struct target *target = &site->targets[number];
  *view = (struct target_view){.host = target->host,
                               .address = target->address,
                               .preference = target->preference,
                               .failures = target->backoff.failures,
                               .blocked_ms = blocked_ms(&target->backoff, site->outlet->o.shard->now_ms)};
  return true;
}

bool operate_in_flight(const struct outlet *outlet, uint32_t *cursor, operate_each each, void *context) {
  uint32_t end = *cursor + CONNECTIONS_A_STEP < outlet->connections.capacity ? *cursor + CONNECTIONS_A_STEP : outlet->connections.capacity;
  for (; *cursor < end; (*cursor)++) {
    const struct connection *c = pool_slot(&outlet->connections, *cursor);
    for (unsigned i = 0; c != NULL && i < SMTP_CLIENT_TRANSACTIONS; i++) {
      const struct job *job = c->transaction[i].job;
      for (unsigned at = 0; job != NULL && at < job->recipients; at++) each(context, job->message, job->each[at].index);
    }
  }
  return end < outlet->connections.capacity;
}

/* ---- why ---- */

static bool names(const struct job *job, uint64_t id, unsigned recipient) {
  if (job == NULL || job->message->id != id) return false;
  for (unsigned at = 0; at < job->recipients; at++)
    if (job->each[at].index == recipient) return true;
  return false;
}

static const struct job *find_in(const struct job *jobs, uint64_t id, unsigned recipient, unsigned *ahead) {
  for (*ahead = 0; jobs != NULL && *ahead < LOOKS_MAX; jobs = jobs->next, (*ahead)++)
    if (names(jobs, id, recipient)) return jobs;
  return NULL;
}

static void say_seconds(struct fmt *why, const char *before, uint64_t ms) {
  fmt_text(why, before);
  fmt_u64(why, (ms + 999) / 1000);
  fmt_text(why, " s");
}

static void say_peer(struct fmt *why, const struct connection *c) {
  fmt_text(why, c->host);
  fmt_text(why, " [");
  netaddr_format(&c->peer.address, why);
  fmt_char(why, ']');
}

static bool explain_connection(const struct connection *c, uint64_t id, unsigned recipient, struct fmt *why) {
  bool is_loading = names(c->loading, id, recipient), is_streaming = names(c->streaming, id, recipient), is_here = is_loading || is_streaming;
  for (unsigned i = 0; i < SMTP_CLIENT_TRANSACTIONS; i++) is_here |= names(c->transaction[i].job, id, recipient);
  if (!is_here) return false;
  fmt_text(why, is_loading ? "is being read from disk for a connection to " : is_streaming ? "is being sent to " : "in flight to ");
  say_peer(why, c);
  if (is_loading || is_streaming) return true;
  fmt_text(why, ": waits for the answer to ");
  fmt_text(why, smtp_client_stage_text(smtp_client_stage(&c->client)));
  uint64_t now_ms = c->outlet->o.shard->now_ms;
  if (timer_is_set(&c->timer)) say_seconds(why, ", for at most ", c->timer.due_ms > now_ms ? c->timer.due_ms - now_ms : 0);
  return true;
}

/* The first thing in the pump's way (net/out/site.c). */
static void explain_site(const struct site *site, struct fmt *why) {
  uint64_t now_ms = site->outlet->o.shard->now_ms;
  bool at_home = site->home == site->outlet->o.shard->index;
  if (site->outlet->stopping) {
    fmt_text(why, "the relay is stopping");
  } else if (!at_home && site->lease_guest.granted == 0) {
    fmt_text(why, "shard ");
    fmt_u64(why, site->home);
    fmt_text(why, " is asked for one");
  } else if (backoff_blocks(&site->backoff, now_ms)) {
    say_seconds(why, "the site failed, and is left alone for another ", blocked_ms(&site->backoff, now_ms));
  } else if (site->pause_until_ms > now_ms) {
    fmt_text(why, "we are short of memory or descriptors");
  } else if (site->opening > 0) {
    fmt_u64(why, site->opening);
    fmt_text(why, " are being opened");
  } else if (site->open >= site_limit(site)) {
    fmt_text(why, "all ");
    fmt_u64(why, site_limit(site));
    if (site->outlet->o.conf->shards > 1) {
      fmt_text(why, " that shard ");
      fmt_u64(why, site->outlet->o.shard->index);
      fmt_text(why, " has");
    }
    fmt_text(why, " are in use");
  } else if (site->enough_until_ms > now_ms || backoff_probing(&site->backoff)) {
    fmt_text(why, "the site takes no more than the ");
    fmt_u64(why, site->open);
    fmt_text(why, " there are");
  } else {
    fmt_text(why, "its turn comes at once");
  }
  if (site->error != NULL) {
    fmt_text(why, "; last failure: ");
    fmt_text(why, site->error);
  }
}

static bool explain_in_site(const struct site *site, uint64_t id, unsigned recipient, struct fmt *why) {
  unsigned ahead;
  for (const struct connection *c = site->connections; c != NULL; c = c->next)
    if (explain_connection(c, id, recipient, why)) return true;
  if (find_in(site->first, id, recipient, &ahead) == NULL) return false;
  fmt_text(why, "waits for a connection to ");
  fmt_text(why, site->name);
  fmt_text(why, " behind ");
  fmt_u64(why, ahead);
  fmt_text(why, " others: ");
  explain_site(site, why);
  return true;
}

bool operate_explain(const struct outlet *outlet, uint64_t id, unsigned recipient, const struct domain_queue *queue, struct span site_name,
                     struct fmt *why) {
  const struct site *site = site_name.len > 0 ? operate_find_site(outlet, site_name) : NULL;
  const struct domain *domain = queue != NULL ? queue->outgoing : NULL;
  unsigned ahead;
  if (domain != NULL && find_in(domain->first, id, recipient, &ahead) != NULL) {
    fmt_text(why, "waits for the MX of its domain");
    return true;
  }
  if (site != NULL && explain_in_site(site, id, recipient, why)) return true;
  return domain != NULL && domain->site != NULL && domain->site != site && explain_in_site(domain->site, id, recipient, why);
}
