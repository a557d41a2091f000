#include "net/out/deliver.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/base/canary.h"
#include "core/base/error.h"
#include "core/conf/change.h"
#include "net/out/dsn.h"
#include "net/out/operate.h"
#include "net/out/outlet.h"
#include "net/tls/client.h"

#define ROUNDS_MAX 6           /* how often a recipient is sent round at once before it has to wait for its retry */
#define POSTPONE_MS 5000       /* what we had no memory or descriptors for is tried again after this, or up to twice as much */
#define HELD_ELSEWHERE_MS 1000 /* what only another shard sees suspended is tried again after this */
#define SHORTAGE_SAID_MS 60000 /* ... and said in the log so often at most */
#define SWEEP_MS 30000         /* between two looks at all domains and sites; */
#define SWEEP_ON_MS 20         /* a look goes so many (OUTLET_SWEEP_COUNT) at a time */
#define CONTENT_PART 16        /* of the memory, one part in so many is left for content: jobs without it would wait for each other */
#define AT_LIMIT_MS 1000       /* so near to it a try counts as the last: timers run by another clock than the one that gave the time */
#define LAST_TRY_MS 60000      /* until it has begun */
#define BLOCK_MAX_MS 900000    /* 15 min: longest time a failing site or address is left alone */
#define BLOCK_INITIAL_MS 30000
#define ERROR_ROOM 256 /* of a last error, for operators */

uint64_t outlet_random(struct outlet *outlet) { /* splitmix64, seeded from the system: jitter and rotation need no more */
  uint64_t z = (outlet->random_state += 0x9e3779b97f4a7c15);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

/* ---- events ---- */

/* What every event of a recipient has, before it is known what happened. `room` is for its domain, and lives as long. */
static struct event event_about(const struct outlet *outlet, const struct message *message, unsigned i, uint8_t room[256]) {
  return (struct event){
      .id = message->id,
      .session_id = message->session,
      .sender = message_sender(message),
      .recipient = message_address(message, i),
      .queue = span_lower(message_domain(message, i), room, 256),
      .size = message->size,
      .timestamp_ms = outlet->o.shard->wall_ms,
      .created_ms = message->created_ms,
      .num_attempts = message->recipient[i].attempts,
  };
}

/* A recipient of ours fails without an attempt, and its event is written. `quiet`: nobody is to be told. */
static void fail(struct outlet *outlet, struct message *message, unsigned i, const uint16_t enhanced[3], struct span text,
                 enum record_outcome_kind end, bool quiet) {
  struct decision decision = {.fate = FATE_FAILED};
  memcpy(decision.enhanced, enhanced, sizeof decision.enhanced);
  struct note *note = quiet ? NULL : dsn_note(outlet, message, i, &decision, text, NULL);
  struct dsn *dsn = NULL;
  if (note != NULL && dsn_add(outlet, &dsn, REPORT_FAILED, message, i, note, end)) {
    dsn_send(dsn);
  } else {
    schedule_done(outlet->o.schedule, message, i, end);
  }
}

/* It had failed before the start, and its report found no room (dsn.h). What was told then is not told again. */
static bool failed_before(struct outlet *outlet, struct message *message, unsigned i, bool quiet) {
  static const uint16_t enhanced[3] = {5, 0, 0};
  if ((message->recipient[i].notify & RECORD_OWED_BIT) == 0) return false;
  fail(outlet, message, i, enhanced, SPAN("the delivery failed for good some time ago; this report had to wait"), RECORD_FAILED, quiet);
  return true;
}

static void expire(struct outlet *outlet, struct message *message, unsigned i, bool attempted) {
  if (failed_before(outlet, message, i, false)) return;
  uint8_t room[256];
  struct event event = event_about(outlet, message, i, room);
  event.type = EVENT_EXPIRATION;
  event.num_attempts += attempted ? 1u : 0u;
  event.code = 551;
  event.enhanced[0] = 5, event.enhanced[1] = 4, event.enhanced[2] = 7;
  event.content = SPAN("the message has been in the queue too long");
  event.verdict = "soft";
  event.category = "expired";
  event.rule = "max-age";
  count_add(outlet->o.counters, COUNT_EXPIRED, 1);
  event_write(outlet->o.events, &event);
  fail(outlet, message, i, event.enhanced, event.content, RECORD_EXPIRED, false);
}

void outlet_lost(struct outlet *outlet, const struct unloaded_message *message, int error) {
  char room[160];
  struct fmt text = fmt_over(room, sizeof room);
  fmt_text(&text, "the message has been in the queue too long, and its record in segment ");
  fmt_u64(&text, message->place.segment);
  fmt_text(&text, " at ");
  fmt_u64(&text, message->place.offset);
  fmt_text(&text, " cannot be read: ");
  fmt_text(&text, error_text(error));
  count_add(outlet->o.counters, COUNT_EXPIRED, 1);
  event_write(outlet->o.events, &(struct event){.type = EVENT_EXPIRATION,
                                                .id = message->id,
                                                .timestamp_ms = outlet->o.shard->wall_ms,
                                                .created_ms = message->created_ms,
                                                .code = 551,
                                                .enhanced = {5, 4, 7},
                                                .content = fmt_span(&text),
                                                .verdict = "soft",
                                                .category = "expired",
                                                .rule = "unreadable"});
}

void outlet_admin_bounce(struct outlet *outlet, struct message *message, unsigned i, struct span reason, bool quiet) {
  if (failed_before(outlet, message, i, quiet)) return;
  uint8_t room[256];
  struct event event = event_about(outlet, message, i, room);
  event.type = EVENT_ADMIN_BOUNCE;
  event.code = 550;
  event.enhanced[0] = 5, event.enhanced[1] = 7, event.enhanced[2] = 0;
  event.content = reason;
  event.verdict = "soft"; /* it says nothing of the address */
  event.category = "policy";
  event.rule = "admin";
  count_add(outlet->o.counters, COUNT_ADMIN_BOUNCED, 1);
  event_write(outlet->o.events, &event);
  fail(outlet, message, i, event.enhanced, event.content, canary(CANARY_BOUNCED_AGAIN) ? RECORD_DEFERRED : RECORD_FAILED, quiet);
}

/* ---- what is configured ---- */

static struct retry_policy policy_of(const struct conf_site *entry) {
  return (struct retry_policy){entry->retry_initial_ms, entry->retry_factor, entry->retry_max_ms, entry->max_age_ms, entry->retry_jitter_ppm};
}

uint64_t outlet_max_age_ms(const struct outlet *outlet, const struct conf_site *entry) {
  return entry != NULL ? entry->max_age_ms : outlet->o.conf->max_age_ms;
}

/* Past its age a message is not tried any more, with one exception: what comes due at the limit itself (queue/policy/retry.h) has its last try. */
void outlet_set_entry(const struct outlet *outlet, struct job *job, const struct conf_site *entry) {
  if (job->handed_over) return;
  uint64_t limit_ms = job->message->created_ms + outlet_max_age_ms(outlet, entry);
  job->entry = entry;
  job->give_up_ms = job->message->recipient[job->each[0].index].due_ms + AT_LIMIT_MS < limit_ms ? limit_ms : limit_ms + LAST_TRY_MS;
}

/* ---- our own shortage ---- */

static void say_shortage(struct outlet *outlet) {
  uint64_t now_ms = outlet->o.shard->now_ms;
  if (outlet->shortage_said_ms != 0 && now_ms - outlet->shortage_said_ms < SHORTAGE_SAID_MS) return;
  outlet->shortage_said_ms = now_ms;
  fprintf(stderr, "ringpost: shard=%u memory or descriptors are used up: deliveries wait for some seconds (used=%llu limits.memory=%llu)\n",
          outlet->o.shard->index, (unsigned long long)outlet->o.slab->used_bytes, (unsigned long long)outlet->o.slab->limit_bytes);
}

/* No attempt, no event; but a message past its age and its last try expires, however short we are. Not all come back together. */
static void postpone(struct outlet *outlet, struct message *message, unsigned i, const struct conf_site *entry) {
  uint64_t wall_ms = outlet->o.shard->wall_ms;
  say_shortage(outlet);
  if (wall_ms >= message->created_ms + outlet_max_age_ms(outlet, entry) + LAST_TRY_MS) {
    expire(outlet, message, i, false);
  } else {
    schedule_defer(outlet->o.schedule, message, i, wall_ms + POSTPONE_MS + outlet_random(outlet) % POSTPONE_MS, false);
  }
}

/* ---- suspended ---- */

/*
 * Its age is looked at when it would end by itself. What comes back from another shard may have been on its way for long: if nothing is suspended here any more, or not yet,
 * nobody would come for it; it is not sent out again at once either, for another shard may see another site.
 */
static void park(struct outlet *outlet, struct message *message, unsigned i, const struct conf_site *entry) {
  uint64_t wall_ms = outlet->o.shard->wall_ms, limit_ms = message->created_ms + outlet_max_age_ms(outlet, entry);
  if (wall_ms >= limit_ms) {
    expire(outlet, message, i, false);
  } else if (message->id == outlet->held_message || outlet_is_held(outlet, message->recipient[i].domain)) {
    schedule_hold(outlet->o.schedule, message, i, limit_ms);
  } else {
    schedule_defer(outlet->o.schedule, message, i, wall_ms + HELD_ELSEWHERE_MS, false);
  }
}

void operate_set_age(struct outlet *outlet, struct message *message, unsigned i) {
  uint64_t limit_ms = message->created_ms + outlet_max_age_ms(outlet, domain_entry(outlet, message, i));
  if (message->recipient[i].due_ms != limit_ms) schedule_hold_until(outlet->o.schedule, message, i, limit_ms);
}

/* ---- in: a recipient is due ---- */

static struct job *make_job(const struct outlet *outlet, struct message *message, unsigned recipient, unsigned rounds) {
  if (!slab_leaves(outlet->o.slab, 0, CONTENT_PART)) return NULL;
  return job_new(outlet->o.slab, message, recipient, outlet->o.shard->index, rounds);
}

void outlet_due(void *context, struct message *message, unsigned recipient) {
  struct outlet *outlet = context;
  if (failed_before(outlet, message, recipient, false) || outlet_obey(outlet, message, recipient)) return;
  struct job *job = make_job(outlet, message, recipient, 0);
  if (job == NULL) {
    postpone(outlet, message, recipient, domain_entry(outlet, message, recipient));
  } else {
    domain_dispatch(outlet, job);
  }
}

/* ---- out: fates become outcomes, on the owner's shard ---- */

static void send_round(struct outlet *outlet, struct job *job, unsigned at) {
  unsigned rounds = job->rounds + (job->disturbed ? 1u : 0u);
  struct job *again = make_job(outlet, job->message, job->each[at].index, rounds);
  if (again == NULL) {
    postpone(outlet, job->message, job->each[at].index, job->entry);
  } else {
    domain_dispatch(outlet, again);
  }
}

void outlet_count_round(struct job *job, enum fate *fate) {
  if (job->rounds < ROUNDS_MAX) {
    job->disturbed = true;
  } else {
    *fate = FATE_DEFERRED;
  }
}

/* Their senders are to hear of them. False: of this one nobody is to hear, or nobody can be told. */
static bool report(struct outlet *outlet, struct job *job, unsigned at, struct dsn **dsn, enum report_action action, enum record_outcome_kind end) {
  struct note *note = job->each[at].note;
  job->each[at].note = NULL;
  return note != NULL && dsn_add(outlet, dsn, action, job->message, job->each[at].index, note, end);
}

/* Later; then the sender may be told that it takes long. */
static void defer(struct outlet *outlet, struct job *job, unsigned at, struct dsn **delayed) {
  struct message *message = job->message;
  unsigned i = job->each[at].index;
  unsigned attempts = message->recipient[i].attempts + (job->each[at].counts ? 1u : 0u);
  bool expired;
  struct retry_policy policy = job->entry != NULL ? policy_of(job->entry) : outlet->retry;
  uint64_t due_ms = retry_due_ms(&policy, message->created_ms, outlet->o.shard->wall_ms, attempts, outlet_random(outlet), &expired);
  if (expired) {
    expire(outlet, message, i, job->each[at].counts);
    return;
  }
  schedule_defer(outlet->o.schedule, message, i, due_ms, job->each[at].counts);
  if (job->error != NULL) domain_queue_note_error(&outlet->o.schedule->domains, message->recipient[i].domain, job->error, outlet->o.shard->wall_ms);
  if (report(outlet, job, at, delayed, REPORT_DELAYED, RECORD_OUTCOME_INVALID)) schedule_mark(outlet->o.schedule, message, i, RECORD_WARNED);
}

static void end_own(struct outlet *outlet, struct job *job) {
  struct message *message = job->message;
  struct dsn *failed = NULL, *delayed = NULL, *relayed = NULL;
  for (unsigned at = 0; at < job->recipients; at++) {
    unsigned i = job->each[at].index;
    switch ((enum fate)job->each[at].fate) {
    case FATE_DELIVERED:
      report(outlet, job, at, &relayed, REPORT_RELAYED, RECORD_OUTCOME_INVALID);
      schedule_done(outlet->o.schedule, message, i, RECORD_DELIVERED);
      break;
    case FATE_FAILED:
      if (!report(outlet, job, at, &failed, REPORT_FAILED, RECORD_FAILED)) schedule_done(outlet->o.schedule, message, i, RECORD_FAILED);
      break;
    case FATE_AGAIN: send_round(outlet, job, at); break;
    case FATE_POSTPONED: postpone(outlet, message, i, job->entry); break;
    case FATE_HELD: park(outlet, message, i, job->entry); break;
    case FATE_INVALID:
    case FATE_DEFERRED: defer(outlet, job, at, &delayed); break;
    }
  }
  dsn_send(failed);
  dsn_send(delayed);
  dsn_send(relayed);
  job_free(outlet->o.slab, job);
  schedule_job_ended(outlet->o.schedule, message);
}

static void post_ended(struct outlet *outlet) {
  uint64_t settled = event_writer_settled(outlet->o.events);
  for (struct job *job; (job = outlet->ended_first) != NULL && job->events <= settled;) {
    outlet->ended_first = job->next;
    shard_post(outlet->o.shard, job->owner, (struct letter){LETTER_JOB_END, 0, job});
  }
}

void outlet_job_end(struct outlet *outlet, struct job *job) {
  must(!job->loading);
  if (job->owner == outlet->o.shard->index) {
    end_own(outlet, job);
    return;
  }
  job->events = event_writer_gathered(outlet->o.events);
  job->next = NULL;
  *(outlet->ended_first == NULL ? &outlet->ended_first : &outlet->ended_last->next) = job;
  outlet->ended_last = job;
}

/* ---- reports ---- */

static enum event_type event_of(enum fate fate) {
  switch (fate) {
  case FATE_DELIVERED: return EVENT_DELIVERY;
  case FATE_FAILED: return EVENT_BOUNCE;
  default: return EVENT_TRANSIENT_FAILURE;
  }
}

static void count_fate(struct outlet *outlet, enum fate fate) {
  switch (fate) {
  case FATE_DELIVERED: count_add(outlet->o.counters, COUNT_DELIVERED, 1); break;
  case FATE_FAILED: count_add(outlet->o.counters, COUNT_BOUNCED, 1); break;
  default: count_add(outlet->o.counters, COUNT_DEFERRED, 1); break;
  }
}

/* For whoever asks why mail is not moving: the owner hears of it by the job. */
static void note_error(const struct outlet *outlet, struct job *job, struct site *site, const struct decision *decision, struct span text) {
  char room[ERROR_ROOM];
  struct fmt out = fmt_over(room, sizeof room - 1);
  if (job->error == NULL) {
    if (decision->replied) {
      fmt_u64(&out, decision->code);
      fmt_char(&out, ' ');
    }
    for (unsigned i = 0; decision->replied && decision->enhanced[0] > 0 && i < 3; i++) {
      fmt_u64(&out, decision->enhanced[i]);
      fmt_char(&out, i < 2 ? '.' : ' ');
    }
    fmt_put(&out, span_first(text, sizeof room - 1 - out.len));
    room[out.len] = '\0';
    job->error = strdup(room);
  }
  if (site == NULL || job->error == NULL) return;
  site->error_ms = outlet->o.shard->wall_ms;
  texts_set(&outlet->o.schedule->domains.texts, &site->error, job->error);
}

void outlet_report(struct outlet *outlet, struct job *job, unsigned at, const struct decision *decision, struct span text, const char *command,
                   struct site *site, const struct outlet_peer *peer) {
  uint8_t room[256];
  struct event event = event_about(outlet, job->message, job->each[at].index, room);
  event.type = event_of(decision->fate);
  event.num_attempts++;
  event.code = decision->code;
  memcpy(event.enhanced, decision->enhanced, sizeof event.enhanced);
  event.content = text;
  event.command = span_of_text(command);
  event.maybe_duplicate = decision->maybe_duplicate;
  if (decision->fate != FATE_DELIVERED) {
    event.verdict = decision->verdict.hard ? "hard" : "soft";
    event.category = decision->verdict.category;
    event.rule = decision->verdict.rule;
  }
  if (site != NULL) event.site = span_of_text(site->name);
  if (peer != NULL) {
    event.peer = peer->address;
    event.source = peer->source;
    event.peer_name = span_of_text(peer->host);
    event.tls_version = peer->tls_version;
    event.tls_cipher = peer->tls_cipher;
    event.tls_policy = peer->tls_policy;
    event.tls_result = peer->tls_result;
  }
  event_write(outlet->o.events, &event);
  count_fate(outlet, decision->fate);
  job->each[at].note = dsn_note(outlet, job->message, job->each[at].index, decision, text, peer);
  if (decision->fate == FATE_DEFERRED) note_error(outlet, job, site, decision, text);
}

static const char *command_of(const struct failure *failure) {
  switch (failure->kind) {
  case FAILURE_DNS: return "DNS";
  case FAILURE_INTERNAL: return "local";
  case FAILURE_ROUTE: return "route";
  case FAILURE_TLS: return failure->stage == SMTP_STAGE_GREETING ? "TLS" : "STARTTLS";
  case FAILURE_AUTH: return "AUTH";
  default: return failure->connecting ? "connect" : smtp_client_stage_text(failure->stage);
  }
}

static void decide_rest(struct outlet *outlet, struct job *job, const struct failure *failure, struct site *site, const struct outlet_peer *peer,
                        bool elsewhere) {
  uint8_t room[512];
  struct fmt text = fmt_over(room, sizeof room);
  struct decision decision;
  outcome_decide(failure, &decision, &text);
  if (decision.fate == FATE_AGAIN && elsewhere) outlet_count_round(job, &decision.fate);
  if (decision.fate == FATE_AGAIN && !elsewhere) decision.fate = FATE_DEFERRED;
  const char *command = command_of(failure);
  bool attempted = decision.fate != FATE_AGAIN && decision.fate != FATE_POSTPONED;
  for (unsigned at = 0; at < job->recipients; at++) {
    if (job->each[at].fate != FATE_INVALID) continue;
    job->each[at].fate = (uint8_t)decision.fate;
    job->each[at].counts = attempted;
    if (attempted) outlet_report(outlet, job, at, &decision, fmt_span(&text), command, site, peer);
    if (decision.maybe_duplicate) count_add(outlet->o.counters, COUNT_MAYBE_DUPLICATE, 1);
  }
}

void outlet_decide_rest(struct outlet *outlet, struct job *job, const struct failure *failure, struct site *site, const struct outlet_peer *peer) {
  decide_rest(outlet, job, failure, site, peer, true);
}

void outlet_defer_rest(struct outlet *outlet, struct job *job, const struct failure *failure, struct site *site, const struct outlet_peer *peer) {
  decide_rest(outlet, job, failure, site, peer, false);
}

/* ---- content from disk, at the owner's ---- */

static void load_done(struct load *load, int error) {
  struct job *job = (struct job *)((uint8_t *)load - offsetof(struct job, load));
  struct outlet *outlet = load->context;
  if (job->deliverer == outlet->o.shard->index) {
    connection_loaded(outlet, job, error);
  } else {
    shard_post(outlet->o.shard, job->deliverer, (struct letter){LETTER_LOADED, (uint32_t)-error, job});
  }
}

static void load_here(struct outlet *outlet, struct job *job) {
  job->load.message = job->message;
  job->load.done = load_done;
  job->load.context = outlet;
  schedule_load(outlet->o.schedule, &job->load);
}

bool outlet_load(struct outlet *outlet, struct job *job, uint64_t connection) {
  if (job->load.part >= job->message->parts_count && message_content(job->message) != NULL) return true;
  job->loading = true;
  job->connection = connection;
  job->deliverer = (uint16_t)outlet->o.shard->index;
  if (job->owner == outlet->o.shard->index) {
    load_here(outlet, job);
  } else {
    shard_post(outlet->o.shard, job->owner, (struct letter){LETTER_LOAD, 0, job});
  }
  return false;
}

void outlet_free_part(struct outlet *outlet, unsigned owner, struct content *part) {
  if (part == NULL) return;
  if (owner == outlet->o.shard->index) {
    content_free(outlet->o.slab, part);
  } else {
    shard_post(outlet->o.shard, owner, (struct letter){LETTER_FREE_PART, 0, part});
  }
}

/* ---- letters ---- */

void outlet_letter(struct outlet *outlet, unsigned from, const struct letter *letter) {
  struct job *job = letter->what; /* of the kinds that carry one */
  switch ((enum outlet_letter_kind)letter->kind) {
  case LETTER_JOB:
    job->handed_over = true;
    domain_dispatch(outlet, job);
    break;
  case LETTER_JOB_END: end_own(outlet, job); break;
  case LETTER_LOAD: load_here(outlet, job); break;
  case LETTER_LOADED: connection_loaded(outlet, job, -(int)letter->number); break;
  case LETTER_FREE_PART: content_free(outlet->o.slab, letter->what); break;
  case LETTER_LEASE_ASK:
  case LETTER_LEASE_GRANT:
  case LETTER_LEASE_RETURN:
  case LETTER_LEASE_RECALL:
  case LETTER_SITE_FAILED:
  case LETTER_SITE_RETRY:
  case LETTER_SITE_LIMIT: site_letter(outlet, from, letter); break;
  }
}

/* ---- life ---- */

static void sweep(void *context, struct timer *timer) {
  (void)context;
  struct outlet *outlet = (struct outlet *)((uint8_t *)timer - offsetof(struct outlet, sweep));
  bool more = domains_sweep(outlet), more_sites = sites_sweep(outlet);
  more |= more_sites;
  if (outlet->o.schedule->unloaded == 0) orders_forget(outlet);
  more |= domain_queues_sweep(&outlet->o.schedule->domains, outlet->o.shard->now_ms);
  timer_set(&outlet->o.shard->wheel, &outlet->sweep, outlet->o.shard->now_ms + (more ? SWEEP_ON_MS : SWEEP_MS));
}

static struct span site_key(const void *object) { return span_of_text(((const struct site *)object)->name); }

static uint64_t least(uint64_t a, uint64_t b) { return a < b ? a : b; }

/* What is derived from the configuration; the name of this host cannot change. */
static void take_conf(struct outlet *outlet, const struct conf *conf) {
  outlet->o.conf = conf;
  outlet->retry = (struct retry_policy){conf->retry_initial_ms, conf->retry_factor, conf->retry_max_ms, conf->max_age_ms, conf->retry_jitter_ppm};
  outlet->backoff = (struct backoff_policy){least(BLOCK_INITIAL_MS, conf->retry_initial_ms), least(BLOCK_MAX_MS, conf->retry_max_ms)};
  outlet->smtp.pipelining = outlet->smtp.pipeline_messages = conf->pipelining;
  outlet->smtp.chunking = conf->chunking;
}

void outlet_prepare(struct outlet *outlet, const struct conf *conf) {
  must(outlet->next == NULL);
  outlet->next = conf;
}

void outlet_abort(struct outlet *outlet) { outlet->next = NULL; }

void outlet_commit(struct outlet *outlet) {
  const struct conf *next = outlet->next;
  bool other_routes = !conf_same_routes(outlet->o.conf, next), other_limits = !conf_same_limits(outlet->o.conf, next);
  if (canary(CANARY_OLD_LIMIT) && outlet->o.shard->index > 0) other_limits = false;
  outlet->next = NULL;
  take_conf(outlet, next);
  for (struct site *site = outlet->first_site; site != NULL; site = site->next) site_take_conf(site, other_limits);
  /* Which may ask for more safety, and lower limits of sites again, before any connection is opened. */
  domains_take_conf(outlet, other_limits, other_routes);
  for (struct site *site = outlet->first_site; other_limits && site != NULL; site = site->next) connections_retire_lax(site);
  for (struct site *site = outlet->first_site; other_routes && site != NULL; site = site->next) site_send_round(site);
}

void outlet_take_tls(struct outlet *outlet, struct tls_client *tls) {
  if (tls == NULL) return;
  tls_client_put(outlet->o.tls);
  outlet->o.tls = tls_client_share(tls);
}

int outlet_open(struct outlet **out, const struct outlet_options *options) {
  struct outlet *outlet = calloc(1, sizeof *outlet);
  if (outlet == NULL) return E_NO_MEMORY;
  const struct conf *conf = options->conf;
  outlet->o = *options;
  if (outlet->o.tls != NULL) tls_client_share(outlet->o.tls);
  outlet->smtp.hostname = span_of_text(conf->hostname);
  take_conf(outlet, conf);
  outlet->smtp_plain = (struct smtp_client_options){.hostname = outlet->smtp.hostname};
  outlet->random_state = options->map_seed;
  map_init(&outlet->sites, site_key, options->map_seed);
  uint32_t sockets = io_sockets_max(options->shard->io);
  domains_open(outlet);
  int error = connections_open(outlet, sockets);
  if (error != E_OK) {
    domains_close(outlet);
    tls_client_put(outlet->o.tls);
    free(outlet);
    return error;
  }
  outlet->sweep.fire = sweep;
  timer_set(&options->shard->wheel, &outlet->sweep, options->shard->now_ms + SWEEP_MS);
  *out = outlet;
  return E_OK;
}

void outlet_close(struct outlet *outlet) {
  if (outlet == NULL) return;
  timer_cancel(&outlet->o.shard->wheel, &outlet->sweep);
  connections_close(outlet);
  dsns_close(outlet);
  orders_drop(outlet);
  outlet_abort(outlet);
  domains_close(outlet);
  sites_close(outlet);
  map_fini(&outlet->sites);
  tls_client_put(outlet->o.tls);
  free(outlet);
}

void outlet_complete(void *context, const struct io_completion *completion) { connection_complete(context, completion); }

void outlet_turn(struct outlet *outlet) {
  while (outlet->dirty_sites != NULL) {
    struct site *site = outlet->dirty_sites;
    outlet->dirty_sites = site->next_dirty;
    site->dirty = false;
    site_pump(site);
  }
  connections_flush(outlet);
  post_ended(outlet);
  count_set(outlet->o.counters, GAUGE_SITES, outlet->sites.count);
  count_set(outlet->o.counters, GAUGE_CONNECTIONS, outlet->connections.used);
}

void outlet_stop(struct outlet *outlet) {
  outlet->stopping = true;
  connections_stop(outlet);
  dsns_stop(outlet);
}

bool outlet_idle(const struct outlet *outlet) { return outlet->connections.used == 0 && outlet->ended_first == NULL && outlet->dsns == NULL; }
