#include "net/relay.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/base/error.h"
#include "core/conf/sites.h"
#include "core/event/writer.h"
#include "dns/resolver.h"
#include "net/in/intake.h"
#include "net/out/deliver.h"
#include "net/out/operate.h"
#include "net/sts/sts.h"
#include "queue/restore.h"
#include "queue/schedule.h"
#include "queue/spool/adopt.h"
#include "queue/spool/log.h"

/* Receive buffers of a shard. A large one takes a whole burst of content in one completion; they are few, and used again at once, so that they stay in the cache. */
#define RECEIVE_BUFFERS 128
#define RECEIVE_BUFFER_SIZE 65536

#define STOP_POLL_MS 2
#define STORE_AGAIN_MS 100 /* at a stop, while the spool is full */
#define TELL_LINES 1024    /* of restored messages: so many wait to be written at most */
#define TELL_WAIT_NS (100 * 1000000ull)
#define FULL_SAID_MS 10000
#define EVENTS_SAID_MS 60000
#define TRIM_MS 30000 /* what was not needed for so long is given back, */
#define TRIM_ON_MS 20 /* and then so many blocks (TRIM_BLOCKS) at a time */
#define TRIM_BLOCKS 64
#define BALANCE_MS 1000 /* a shard that has nothing to do gives others what it does not need */
#define WAIT_MORE_MS 60000
#define SPOOL_WAIT_NS (3 * 1000000000ull)
#define SPOOL_RETRY_NS (20 * 1000000ull)

enum token_kind { KIND_SPOOL = 1, KIND_RESOLVER, KIND_EVENTS, KIND_INTAKE, KIND_OUTLET };

struct relay {
  struct shard shard;
  struct relay_options o;
  struct slab slab;
  struct spool *spool;
  struct schedule schedule;
  struct resolver *resolver;
  struct event_writer *events;
  struct { /* once so many event lines are settled, the outcomes up to this position may be committed */
    uint64_t events, outcomes;
  } waiting;
  struct intake *intake;
  struct outlet *outlet;
  const struct conf *next; /* a configuration that is being prepared; NULL: none */
  struct timer stop_timer, trim_timer, balance_timer;
  uint64_t longest_age_ms; /* that a message may have, wherever it goes */
  bool stopping;
  bool out_of_time;
  bool all_told;     /* every event is written, and the spool knows or will */
  bool unsafe;       /* it ended before the spool had everything */
  uint64_t unstored; /* messages only in memory, as of the last try to store them */
  uint64_t store_again_ms;
  uint64_t progress_ms; /* when they last became fewer */
  bool schedule_ready;
  bool failed_said;
  uint64_t events_said_ms; /* when the last line about unwritten events was written; 0: never */
  bool full_said;          /* standard error has a line that the spool is full, and none yet that it no longer is */
  uint64_t full_said_ms;   /* when the last such line was written */
};

/* ---- the turn ---- */

static void set_gauges(struct relay *relay) {
  struct counters *counters = relay->o.counters;
  const struct spool_stats *spool = spool_stats(relay->spool);
  const struct resolver_stats *dns = resolver_stats(relay->resolver);
  count_set(counters, GAUGE_QUEUED_MESSAGES, relay->schedule.messages);
  count_set(counters, GAUGE_UNLOADED_MESSAGES, relay->schedule.unloaded);
  count_set(counters, GAUGE_READY_RECIPIENTS, relay->schedule.ready);
  count_set(counters, GAUGE_DEFERRED_RECIPIENTS, relay->schedule.waiting);
  count_set(counters, GAUGE_HELD_RECIPIENTS, relay->schedule.held);
  count_set(counters, GAUGE_BODY_BYTES, relay->slab.used_bytes);
  count_set(counters, GAUGE_SPOOL_SEGMENTS, spool->segments);
  count_set(counters, GAUGE_SPOOL_DISK_BYTES, spool->disk_bytes);
  count_set(counters, GAUGE_SPOOL_FAILED, spool_failed(relay->spool) != E_OK);
  count_set(counters, GAUGE_SPOOL_FULL, spool_full(relay->spool));
  count_set(counters, GAUGE_QUEUE_FULL, relay->schedule.messages >= relay->o.conf->queue_messages_max / relay->o.conf->shards);
  count_set(counters, COUNT_SPOOL_COMMITS, spool->commits);
  count_set(counters, COUNT_SPOOL_BYTES, spool->bytes_written);
  count_set(counters, COUNT_DNS_QUERIES, dns->queries_sent);
  count_set(counters, COUNT_DNS_CACHE_HITS, dns->cache_hits);
  count_set(counters, COUNT_DNS_CACHE_MISSES, dns->cache_misses);
  count_set(counters, COUNT_DNS_TIMEOUTS, dns->timeouts);
  count_set(counters, COUNT_LOOP_TURNS, relay->shard.turns);
}

/* Whoever looks for why mail is refused finds it on standard error; a spool on the brink writes no more than a line in FULL_SAID_MS. */
static void tell_of_full(struct relay *relay) {
  uint64_t now_ms = relay->shard.now_ms;
  bool full = spool_full(relay->spool);
  if (full == relay->full_said || (relay->full_said_ms != 0 && now_ms - relay->full_said_ms < FULL_SAID_MS)) return;
  relay->full_said = full;
  relay->full_said_ms = now_ms;
  const struct spool_stats *spool = spool_stats(relay->spool);
  if (full) {
    fprintf(stderr,
            "ringpost: shard=%u spool %s is full: new mail is refused (452) until there is room; it has %llu segments of %llu MiB and needs two free "
            "ones: the disk, spool.max_size or spool.min_free gives no more\n",
            relay->o.index, relay->o.conf->spool_path, (unsigned long long)spool->segments, (unsigned long long)(spool->segment_size_bytes >> 20));
  } else {
    fprintf(stderr, "ringpost: shard=%u spool %s has room again\n", relay->o.index, relay->o.conf->spool_path);
  }
}

static void tell_of_failure(struct relay *relay) {
  if (relay->failed_said || spool_failed(relay->spool) == E_OK) return;
  relay->failed_said = true;
  fprintf(stderr, "ringpost: shard=%u spool %s/shard-%03u failed: %s; no mail is accepted (451) until a restart\n", relay->o.index,
          relay->o.conf->spool_path, relay->o.index, error_text(spool_failed(relay->spool)));
}

static void tell_of_events(struct relay *relay) {
  uint64_t now_ms = relay->shard.now_ms;
  int error = event_writer_error(relay->events);
  if (error == E_OK || (relay->events_said_ms != 0 && now_ms - relay->events_said_ms < EVENTS_SAID_MS)) return;
  relay->events_said_ms = now_ms;
  fprintf(stderr, "ringpost: shard=%u events cannot be written to %s: %s; mail goes on, what finds no room in memory is lost (so far %llu events)\n",
          relay->o.index, relay->o.conf->events_path, error_text(error), (unsigned long long)count_get(relay->o.counters, COUNT_EVENTS_LOST));
}

/* Has the spool all it should have? Or is it no use to wait any longer: it failed, or nothing moves after the time is over. */
static bool all_is_stored(struct relay *relay) {
  uint64_t now_ms = relay->shard.now_ms, left = relay->unstored;
  if (left == 0 || now_ms >= relay->store_again_ms) {
    left = schedule_store_all(&relay->schedule);
    if (spool_full(relay->spool)) relay->store_again_ms = now_ms + STORE_AGAIN_MS;
  }
  spool_turn(relay->spool, now_ms);
  if (left < relay->unstored || !relay->out_of_time) relay->progress_ms = now_ms;
  relay->unstored = left;
  if (left == 0 && spool_idle(relay->spool)) return true;
  relay->unsafe = spool_failed(relay->spool) != E_OK || now_ms >= relay->progress_ms + RELAY_STORE_MS;
  return relay->unsafe;
}

/* The end comes for all shards together: one may still hold jobs of another, whose outcomes have to reach it. */
static void finish_if_over(struct relay *relay) {
  relay->shard.turn_due_ms = relay->shard.now_ms + STOP_POLL_MS;
  bool quiet = (intake_idle(relay->intake) && outlet_idle(relay->outlet)) || relay->out_of_time;
  if (!quiet || !shard_group_done(&relay->shard) || !mailbox_clear(&relay->shard)) return;
  bool stored = all_is_stored(relay);
  event_writer_turn(relay->events, relay->shard.now_ms, true);
  if (!stored || !(event_writer_idle(relay->events) || relay->out_of_time)) return;
  bool told = relay->all_told || relay->unsafe || !event_writer_idle(relay->events);
  relay->all_told = true;
  if (told || !schedule_all_told(&relay->schedule)) shard_finish(&relay->shard);
}

/*
 * Events leave before the outcomes they tell of become durable: a crash in between repeats an event, but loses none. The lines of jobs that were
 * done on other shards are out before we hear of them (outlet_job_end).
 */
static void release_outcomes(struct relay *relay) {
  uint64_t settled = event_writer_settled(relay->events);
  if (settled < relay->waiting.events) return;
  spool_release_outcomes(relay->spool, relay->waiting.outcomes);
  relay->waiting.events = event_writer_gathered(relay->events);
  relay->waiting.outcomes = spool_outcomes(relay->spool);
  if (settled >= relay->waiting.events) spool_release_outcomes(relay->spool, relay->waiting.outcomes);
}

/* Each may have a line of its Reception to write: they wait while many others do. */
static void take_up_unloaded(struct relay *relay) {
  if (event_writer_gathered(relay->events) - event_writer_settled(relay->events) > TELL_LINES) return;
  loader_turn(&relay->schedule.loader, relay->longest_age_ms);
}

static void end_of_turn(void *context) {
  struct relay *relay = context;
  slab_balance(&relay->slab);
  take_up_unloaded(relay);
  outlet_turn(relay->outlet);
  event_writer_turn(relay->events, relay->shard.now_ms, false);
  release_outcomes(relay);
  spool_turn(relay->spool, relay->shard.now_ms);
  intake_turn(relay->intake);
  relay->shard.turn_due_ms = event_writer_due_ms(relay->events);
  set_gauges(relay);
  tell_of_full(relay);
  tell_of_failure(relay);
  if (relay->o.conf->events_path != NULL) tell_of_events(relay);
  if (relay->stopping) finish_if_over(relay);
}

static void on_letter(void *context, unsigned from, const struct letter *letter) {
  struct relay *relay = context;
  outlet_letter(relay->outlet, from, letter);
}

static void complete_spool(void *context, const struct io_completion *completion) { spool_complete(((struct relay *)context)->spool, completion); }
static void complete_resolver(void *context, const struct io_completion *completion) {
  resolver_complete(((struct relay *)context)->resolver, completion);
}
static void complete_events(void *context, const struct io_completion *completion) {
  event_writer_complete(((struct relay *)context)->events, completion);
}
static void complete_intake(void *context, const struct io_completion *completion) { intake_complete(((struct relay *)context)->intake, completion); }
static void complete_outlet(void *context, const struct io_completion *completion) { outlet_complete(((struct relay *)context)->outlet, completion); }
static void recipient_due(void *context, struct message *message, unsigned recipient) {
  outlet_due(((struct relay *)context)->outlet, message, recipient);
}

/* ---- stop ---- */

static void out_of_time(void *context, struct timer *timer) {
  (void)context;
  struct relay *relay = (struct relay *)((uint8_t *)timer - offsetof(struct relay, stop_timer));
  relay->out_of_time = true;
}

static void on_stop(void *context) {
  struct relay *relay = context;
  relay->stopping = true;
  count_set(relay->o.counters, GAUGE_READY, 0);
  errands_close(&relay->shard); /* what they would post might come after the others' end */
  intake_stop(relay->intake);
  loader_stop(&relay->schedule.loader);
  outlet_stop(relay->outlet);
  relay->stop_timer.fire = out_of_time;
  timer_set(&relay->shard.wheel, &relay->stop_timer, relay->shard.now_ms + RELAY_STOP_MS);
}

void relay_stop(struct relay *relay) { shard_stop(&relay->shard); }

/* ---- opening ---- */

static int open_shard(struct relay *relay, struct fmt *why) {
  struct io_options io = {.sockets_max = SHARD_SLOTS_MAX, .receive_buffers = RECEIVE_BUFFERS, .receive_buffer_size = RECEIVE_BUFFER_SIZE};
  const char *reason = NULL;
  int error = shard_init(&relay->shard, relay->o.group, relay->o.index, &io, &reason);
  if (error != E_OK) fmt_text(why, reason);
  relay->shard.context = relay;
  relay->shard.on_turn = end_of_turn;
  relay->shard.on_letter = on_letter;
  relay->shard.on_stop = on_stop;
  return error;
}

static enum spool_durability durability_of(const struct conf *conf) {
  switch (conf->durability) {
  case CONF_LAZY: return SPOOL_LAZY;
  case CONF_MEMORY: return SPOOL_MEMORY;
  default: return SPOOL_SYNC;
  }
}

static struct spool_options spool_options_of(const struct conf *conf, const char *path) {
  return (struct spool_options){.path = path,
                                .durability = durability_of(conf),
                                .segment_size_bytes = conf->segment_size_bytes,
                                .disk_max_bytes = conf->spool_max_bytes / conf->shards,
                                .disk_sharers = conf->shards,
                                .disk_min_free_bytes = conf->spool_min_free_bytes,
                                .lazy_sync_ms = 100,
                                .outcome_delay_ms = 5,
                                .hold_outcomes = conf->events_path != NULL};
}

/* A process that was killed holds its spool until the kernel has ended its last writes: that is waited for, shortly. */
static int open_spool(struct relay *relay, struct fmt *why) {
  char path[4096];
  snprintf(path, sizeof path, "%s/shard-%03u", relay->o.conf->spool_path, relay->o.index);
  struct spool_options options = spool_options_of(relay->o.conf, path);
  struct io *io = relay->shard.io;
  uint64_t give_up_ns = io_now_ns(io) + SPOOL_WAIT_NS;
  for (;;) {
    struct fmt reason = *why;
    const struct io_completion *done;
    int error = spool_open(&relay->spool, io, &relay->shard.wheel, &options, KIND_SPOOL, &reason);
    if (error == E_OK) return error;
    if (error != E_BUSY || io_now_ns(io) >= give_up_ns) {
      *why = reason;
      return error;
    }
    io_wait(io, io_now_ns(io) + SPOOL_RETRY_NS, &done);
  }
}

static void tell_adopted(void *context, const struct adoption *adoption) {
  const struct relay *relay = context;
  fprintf(stderr, "ringpost: shard=%u adopted the spool of shard %u: messages=%llu damaged=%llu", adoption->to, adoption->from,
          (unsigned long long)adoption->messages, (unsigned long long)adoption->damaged);
  if (adoption->kept != NULL) fprintf(stderr, "; what is not in order there was kept: %s/%s", relay->o.conf->spool_path, adoption->kept);
  fprintf(stderr, "\n");
}

/* Mail in the spool of a shard that is not started would wait for ever. Nothing of our own is in memory yet: half of what is allowed is free. */
static int adopt(struct relay *relay, struct fmt *why) {
  const struct conf *conf = relay->o.conf;
  struct adopt_options options = {.path = conf->spool_path,
                                  .shard = relay->o.index,
                                  .shards = conf->shards,
                                  .spool = spool_options_of(conf, NULL),
                                  .memory_bytes = conf->memory_bytes / conf->shards / 2,
                                  .token_kind = KIND_SPOOL,
                                  .adopted = tell_adopted,
                                  .context = relay};
  return adopt_spools(relay->shard.io, &options, why);
}

static int open_resolver(struct relay *relay, struct fmt *why) {
  const struct conf *conf = relay->o.conf;
  struct resolver_options options = {.servers = conf->dns_servers,
                                     .servers_count = conf->dns_servers_count,
                                     .hostname = span_of_text(conf->hostname),
                                     .timeout_ms = conf->dns_timeout_ms,
                                     .tries = 4,
                                     .cache_entries = 65536,
                                     .ttl_max_s = 86400,
                                     .negative_ttl_max_s = 900,
                                     .ipv6 = conf->dns_ipv6,
                                     .dnssec = conf->dns_dnssec};
  int error = resolver_open(&relay->resolver, relay->shard.io, &relay->shard.wheel, &options, KIND_RESOLVER);
  if (error != E_OK) {
    fmt_text(why, "cannot open the resolver: ");
    fmt_text(why, error_text(error));
  }
  return error;
}

static int open_events(struct relay *relay, struct fmt *why) {
  const struct conf *conf = relay->o.conf;
  struct event_writer_options options = {.path = conf->events_path,
                                         .shard = relay->o.index,
                                         .file_size_bytes = conf->events_file_size_bytes,
                                         .files_max = conf->events_files_max,
                                         .counters = relay->o.counters};
  return event_writer_open(&relay->events, relay->shard.io, &options, KIND_EVENTS, why);
}

/* Ids of one shard may lie in the spools of others: what is newest of all is known when all have opened. */
static void note_newest(struct relay *relay, uint64_t id) {
  uint64_t newest = atomic_load(relay->o.newest_id);
  while (id > newest && !atomic_compare_exchange_weak(relay->o.newest_id, &newest, id)) continue;
}

static uint64_t share_bytes(const struct relay *relay) { return relay->o.conf->memory_bytes / relay->o.conf->shards; }

/* Half of its share a shard keeps, and in any case what it needs to go on at all. */
static void share_memory(struct relay *relay) {
  uint64_t share = share_bytes(relay), floor = share / 2 > CONF_SHARD_MEMORY_MIN ? share / 2 : CONF_SHARD_MEMORY_MIN;
  slab_share(&relay->slab, relay->o.memory, share, floor);
}

/* What the schedule and the loader go by, whatever the destination: with its jitter no wait between two tries comes near the first, and what cannot be read has no domain to tell its age. */
static void take_limits(struct relay *relay) {
  relay->schedule.memory_high_bytes = share_bytes(relay) / 2;
  relay->schedule.wait_max_ms = 2 * sites_longest_retry_ms(relay->o.conf) + WAIT_MORE_MS;
  relay->longest_age_ms = sites_longest_age_ms(relay->o.conf);
}

/* ---- what was on disk at the start ---- */

static void tell_loaded(void *context, struct message *message) {
  struct relay *relay = context;
  if (message->untold) intake_tell_restored(relay->intake, message);
  operate_loaded(relay->outlet, message);
}

static void tell_unreadable(void *context, const struct unloaded_message *message, int error, bool given_up) {
  const struct relay *relay = context;
  if (given_up) outlet_lost(relay->outlet, message, error);
  fprintf(stderr, "ringpost: shard=%u spool %s/shard-%03u: message %016llx in segment %u cannot be read: %s; %s\n", relay->o.index,
          relay->o.conf->spool_path, relay->o.index, (unsigned long long)message->id, message->place.segment, error_text(error),
          given_up ? "past its age it is given up" : "it is tried again each minute");
}

static int restore(struct relay *relay, struct fmt *why) {
  uint64_t damaged = 0, newest_id = 0;
  schedule_init(&relay->schedule, &relay->shard, &relay->slab, relay->spool, relay->o.counters, recipient_due, relay);
  take_limits(relay);
  relay->schedule_ready = true;
  int error = restore_schedule(&relay->schedule, &newest_id, &damaged, why);
  note_newest(relay, newest_id);
  if (error == E_OK && relay->schedule.messages > 0)
    fprintf(stderr, "ringpost: shard=%u restored messages=%llu damaged_segments=%llu\n", relay->o.index, (unsigned long long)relay->schedule.messages,
            (unsigned long long)damaged);
  if (error == E_OK && damaged > 0)
    fprintf(stderr,
            "ringpost: shard=%u spool %s: %llu segments are damaged, some mail may be lost; `ringpost spool verify` says where, once the relay is "
            "stopped\n",
            relay->o.index, relay->o.conf->spool_path, (unsigned long long)damaged);
  if (error == E_OK && relay->schedule.unloaded > 0)
    fprintf(stderr, "ringpost: shard=%u waiting on disk: %llu messages do not fit in limits.memory; they are taken up as memory gets free\n",
            relay->o.index, (unsigned long long)relay->schedule.unloaded);
  return error;
}

/* ---- both sides ---- */

static uint64_t new_id(void *context) { return intake_new_id(((struct relay *)context)->intake); }

static int open_sides(struct relay *relay, struct fmt *why) {
  uint64_t seed;
  io_random(relay->shard.io, &seed, sizeof seed);
  struct outlet_options outlet = {.shard = &relay->shard,
                                  .conf = relay->o.conf,
                                  .slab = &relay->slab,
                                  .schedule = &relay->schedule,
                                  .resolver = relay->resolver,
                                  .sts = relay->o.sts != NULL ? sts_view(relay->o.sts, relay->o.index, &relay->shard, relay->resolver) : NULL,
                                  .counters = relay->o.counters,
                                  .events = relay->events,
                                  .tls = relay->o.tls,
                                  .new_id = new_id,
                                  .ids = relay,
                                  .map_seed = seed,
                                  .token_kind = KIND_OUTLET};
  struct intake_options intake = {.shard = &relay->shard,
                                  .conf = relay->o.conf,
                                  .slab = &relay->slab,
                                  .spool = relay->spool,
                                  .schedule = &relay->schedule,
                                  .resolver = relay->resolver,
                                  .counters = relay->o.counters,
                                  .events = relay->events,
                                  .sessions_open = relay->o.sessions_open,
                                  .guard = relay->o.guard,
                                  .certificates = relay->o.certificates,
                                  .directory = relay->o.directory,
                                  .verify = relay->o.verify,
                                  .login_secret = relay->o.login_secret,
                                  .newest_id = atomic_load(relay->o.newest_id),
                                  .token_kind = KIND_INTAKE};
  int error = outlet_open(&relay->outlet, &outlet);
  if (error == E_OK && relay->o.held) operate_hold_all(relay->outlet, true);
  if (error == E_OK) error = intake_open(&relay->intake, &intake);
  if (error == E_OK) mover_on_pinned(&relay->schedule.mover, intake_clear_segment, relay->intake);
  if (error == E_OK) loader_on_news(&relay->schedule.loader, &(struct loader_news){tell_loaded, tell_unreadable, relay});
  if (error != E_OK) fmt_text(why, error_text(error));
  return error;
}

static int make_spool_directory(struct relay *relay, struct fmt *why) {
  const char *path = relay->o.conf->spool_path;
  int error = io_directory_make(relay->shard.io, path);
  if (error == E_OK) return E_OK;
  fmt_text(why, "spool.path ");
  fmt_text(why, path);
  fmt_text(why, ": ");
  fmt_text(why, error_text(error));
  return error;
}

/* No error: an address that moves between hosts may come later. */
static void warn_of_source(struct relay *relay, const struct netaddr *source) {
  char text[64];
  struct fmt out = fmt_over(text, sizeof text);
  if (source->family == 0 || io_address_check(relay->shard.io, source) != E_NO_ADDRESS) return;
  netaddr_format(source, &out);
  fprintf(stderr, "ringpost: delivery.source: %.*s is no address of this host; mail over IPv%u is deferred until it is\n", (int)out.len, text,
          source->family);
}

static int open_parts(struct relay *relay, struct fmt *why) {
  int error = open_shard(relay, why);
  if (error == E_OK) error = make_spool_directory(relay, why);
  if (error == E_OK) error = adopt(relay, why);
  if (error == E_OK) error = open_spool(relay, why);
  if (error == E_OK) error = open_resolver(relay, why);
  if (error == E_OK) error = open_events(relay, why);
  return error == E_OK ? restore(relay, why) : error;
}

int relay_open(struct relay **out, const struct relay_options *options, struct fmt *why) {
  struct relay *relay = calloc(1, sizeof *relay);
  if (relay == NULL) {
    fmt_text(why, error_text(E_NO_MEMORY));
    return E_NO_MEMORY;
  }
  relay->o = *options;
  slab_init(&relay->slab, 0);
  share_memory(relay);
  int error = open_parts(relay, why);
  if (error != E_OK) {
    relay_close(relay);
    return error;
  }
  shard_handle(&relay->shard, KIND_SPOOL, complete_spool, relay);
  shard_handle(&relay->shard, KIND_RESOLVER, complete_resolver, relay);
  shard_handle(&relay->shard, KIND_EVENTS, complete_events, relay);
  shard_handle(&relay->shard, KIND_INTAKE, complete_intake, relay);
  shard_handle(&relay->shard, KIND_OUTLET, complete_outlet, relay);
  *out = relay;
  return E_OK;
}

/* After a burst its memory goes back to the system, little by little: 64 blocks are a good part of a millisecond. */
static void trim(void *context, struct timer *timer) {
  (void)context;
  struct relay *relay = (struct relay *)((uint8_t *)timer - offsetof(struct relay, trim_timer));
  bool more = slab_trim(&relay->slab, TRIM_BLOCKS);
  timer_set(&relay->shard.wheel, timer, relay->shard.now_ms + (more ? TRIM_ON_MS : TRIM_MS));
}

/* The turn that it wakes up does it. */
static void balance(void *context, struct timer *timer) {
  (void)context;
  struct relay *relay = (struct relay *)((uint8_t *)timer - offsetof(struct relay, balance_timer));
  timer_set(&relay->shard.wheel, timer, relay->shard.now_ms + BALANCE_MS);
}

/* As many lines as the writer holds well go out before the next; nothing but the writer has anything under way yet. */
static void let_lines_out(struct relay *relay) {
  struct io *io = relay->shard.io;
  while (event_writer_gathered(relay->events) - event_writer_settled(relay->events) > TELL_LINES) {
    uint64_t now_ns = io_now_ns(io);
    const struct io_completion *done;
    event_writer_turn(relay->events, now_ns / 1000000, true);
    unsigned count = io_wait(io, now_ns + TELL_WAIT_NS, &done);
    for (unsigned i = 0; i < count; i++)
      if (done[i].token >> 56 == KIND_EVENTS) event_writer_complete(relay->events, &done[i]);
  }
}

/* Whole, before anything can happen to them: whoever follows the events sees a beginning before an end, and none is lost for want of room. */
static void tell_restored(struct relay *relay) {
  for (unsigned i = 0; i < SCHEDULE_LISTS; i++) {
    for (struct message *message = relay->schedule.list[i].first; message != NULL; message = message->next) {
      if (!message->untold) continue;
      intake_tell_restored(relay->intake, message);
      let_lines_out(relay);
    }
  }
}

int relay_listen(struct relay *relay, struct fmt *why) {
  int error = open_sides(relay, why);
  if (error == E_OK) {
    tell_restored(relay);
    error = intake_listen(relay->intake, why);
  }
  if (error != E_OK) return error;
  if (relay->o.index == 0) warn_of_source(relay, &relay->o.conf->source_v4);
  if (relay->o.index == 0) warn_of_source(relay, &relay->o.conf->source_v6);
  schedule_begin(&relay->schedule);
  relay->trim_timer.fire = trim;
  timer_set(&relay->shard.wheel, &relay->trim_timer, relay->shard.now_ms + TRIM_MS);
  relay->balance_timer.fire = balance;
  if (relay->o.conf->shards > 1) timer_set(&relay->shard.wheel, &relay->balance_timer, relay->shard.now_ms + BALANCE_MS);
  set_gauges(relay); /* who reads them when we are ready sees what was restored */
  count_set(relay->o.counters, GAUGE_READY, 1);
  return E_OK;
}

void relay_address(const struct relay *relay, struct netaddr *address) { intake_address(relay->intake, address); }

static void take_memory(struct relay *relay) {
  share_memory(relay);
  take_limits(relay);
}

int relay_prepare(struct relay *relay, const struct conf *conf, struct fmt *why) {
  outlet_prepare(relay->outlet, conf);
  int error = intake_prepare(relay->intake, conf, why);
  if (error != E_OK) outlet_abort(relay->outlet);
  if (error == E_OK) relay->next = conf;
  return error;
}

void relay_abort(struct relay *relay) {
  if (relay->next == NULL) return;
  relay->next = NULL;
  outlet_abort(relay->outlet);
  intake_abort(relay->intake);
}

void relay_take_tls(struct relay *relay, struct tls_client *tls) { outlet_take_tls(relay->outlet, tls); }

void relay_take_certificates(struct relay *relay, struct certificates *certificates) { intake_take_certificates(relay->intake, certificates); }

void relay_commit(struct relay *relay) {
  relay->o.conf = relay->next;
  relay->next = NULL;
  outlet_commit(relay->outlet);
  intake_commit(relay->intake);
  take_memory(relay);
}

bool relay_is_settled(const struct relay *relay) { return intake_is_settled(relay->intake); }

struct shard *relay_shard(struct relay *relay) {
  return &relay->shard;
}
struct schedule *relay_schedule(struct relay *relay) {
  return &relay->schedule;
}
struct outlet *relay_outlet(struct relay *relay) {
  return relay->outlet;
}

void relay_run(struct relay *relay) { shard_run(&relay->shard); }

int relay_failed(const struct relay *relay, struct fmt *why) {
  if (!relay->unsafe) return spool_failed(relay->spool);
  int error = spool_failed(relay->spool) != E_OK ? spool_failed(relay->spool) : E_NO_SPACE;
  fmt_text(why, "spool: ");
  fmt_text(why, error_text(error));
  if (relay->unstored > 0) {
    fmt_text(why, ": ");
    fmt_u64(why, relay->unstored);
    fmt_text(why, " messages were only in memory and are lost");
  } else {
    fmt_text(why, ": the last outcomes were not written, mail may be delivered again");
  }
  return error;
}

void relay_release(struct relay *relay) {
  if (relay == NULL || relay->outlet == NULL) return;
  outlet_close(relay->outlet);
  relay->outlet = NULL;
}

/* What waits is written now, or never. */
static void close_events(struct relay *relay) {
  uint64_t before = count_get(relay->o.counters, COUNT_EVENTS_LOST);
  event_writer_close(relay->events);
  uint64_t lost = count_get(relay->o.counters, COUNT_EVENTS_LOST) - before;
  if (lost > 0)
    fprintf(stderr, "ringpost: shard=%u %llu events that waited to be written to %s are lost\n", relay->o.index, (unsigned long long)lost,
            relay->o.conf->events_path);
}

void relay_close(struct relay *relay) {
  if (relay == NULL) return;
  relay_release(relay);
  if (relay->intake != NULL) intake_close(relay->intake);
  if (relay->resolver != NULL) resolver_close(relay->resolver);
  if (relay->events != NULL) close_events(relay);
  if (relay->schedule_ready) schedule_fini(&relay->schedule);
  if (relay->spool != NULL) spool_close(relay->spool);
  if (relay->shard.io != NULL) shard_fini(&relay->shard);
  slab_fini(&relay->slab);
  free(relay);
}
