/*
 * The thread: takes the counts of all shards, ends days, and has reports sent.
 */
#include "net/tlsrpt/tlsrpt.h"

#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "core/base/error.h"
#include "core/conf/system.h"
#include "net/tlsrpt/inside.h"
#include "net/tlsrpt/keep.h"

#define WAIT_MAX_MS 60000ull
#define ANSWER_MAX 65536 /* bytes of what a POST is answered with */
#define LINE_ROOM 512
#define BEGIN_MAX 100 /* reports that a job may come to the end of in a turn */

const struct tlsrpt_options tlsrpt_defaults = {.views = 1,
                                               .hostname = "",
                                               .organization = "",
                                               .contact = "",
                                               .shard = {.domains = 32768, .policies = 8, .kinds = 64, .bytes = 8u << 20},
                                               .day = {.domains = 65536, .policies = 8, .kinds = 64, .bytes = 16u << 20},
                                               .sender = {.spread_ms = 4 * 3600000ull, .retry_ms = 900000, .patience_ms = 86400000},
                                               .jobs = 32,
                                               .timeout_ms = 30000,
                                               .collect_ms = 600000,
                                               .save_ms = 30000,
                                               .wall_ms = system_wall_ms};

void tlsrpt_say(const struct tlsrpt *tlsrpt, const char *format, ...) {
  char line[LINE_ROOM];
  va_list arguments;
  if (tlsrpt->o.say == NULL) return;
  va_start(arguments, format);
  vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  tlsrpt->o.say(tlsrpt->o.context, line);
}

/* ---- the file ---- */

void tlsrpt_changed(struct tlsrpt *tlsrpt, uint64_t now_ms) {
  if (tlsrpt->changed_ms == 0) tlsrpt->changed_ms = now_ms;
}

static void save(struct tlsrpt *tlsrpt) {
  tlsrpt->changed_ms = 0;
  if (tlsrpt->o.file == NULL) return;
  int error = tlsrpt_keep_save(tlsrpt->o.file, &tlsrpt->today, &tlsrpt->sender);
  if (error != E_OK)
    tlsrpt_say(tlsrpt, "%s cannot be written: %s; what is to be reported of TLS is not kept over a restart", tlsrpt->o.file, error_text(error));
}

static void load(struct tlsrpt *tlsrpt, uint64_t now_ms) {
  unsigned left_out = 0;
  if (tlsrpt->o.file == NULL) return;
  int error = tlsrpt_keep_load(tlsrpt->o.file, &tlsrpt->today, &tlsrpt->sender, now_ms, &left_out);
  if (error != E_OK)
    tlsrpt_say(tlsrpt, "%s is passed over: %s; what was to be reported of TLS is lost", tlsrpt->o.file,
               error == E_SYNTAX ? "it is damaged" : error_text(error));
  if (left_out > 0) tlsrpt_say(tlsrpt, "%s: %u entries are damaged", tlsrpt->o.file, left_out);
}

/* ---- counts ---- */

static void take_counts(struct tlsrpt *tlsrpt, struct tlsrpt_tally *counted, uint64_t now_ms) {
  if (tlsrpt_tally_is_empty(counted)) return;
  tlsrpt_tally_merge(&tlsrpt->today.tally, counted);
  tlsrpt_tally_clear(counted);
  tlsrpt_changed(tlsrpt, now_ms);
}

static void end_day(struct tlsrpt *tlsrpt, uint64_t now_ms) {
  const struct tlsrpt_tally *tally = &tlsrpt->today.tally;
  unsigned long long rest = tally->rest_successes;
  rest += tally->rest_failures;
  if (rest > 0) tlsrpt_say(tlsrpt, "%llu sessions of a day were with more domains than TLS reports have room for: they are told to nobody", rest);
  int error = tally->map.count > 0 ? tlsrpt_sender_add(&tlsrpt->sender, tlsrpt->today.number, &tlsrpt->today.tally, now_ms) : E_OK;
  tlsrpt_tally_clear(&tlsrpt->today.tally);
  if (error != E_OK) tlsrpt_say(tlsrpt, "TLS reports of a day are lost: %s", error_text(error));
  tlsrpt_changed(tlsrpt, now_ms);
}

static uint64_t least(uint64_t a, uint64_t b) { return a < b ? a : b; }

/* What is counted until a collection begins is of the day in which the last one began. */
static void collected(struct tlsrpt *tlsrpt, uint64_t now_ms) {
  uint64_t began_ms = tlsrpt->began_ms, number = began_ms / TLSRPT_DAY_MS;
  tlsrpt->began_ms = 0;
  if (number > tlsrpt->today.number) end_day(tlsrpt, now_ms);
  tlsrpt->today.number = number; /* or the clock was put back */
  tlsrpt->collect_ms = least(began_ms + tlsrpt->o.collect_ms, (tlsrpt->today.number + 1) * TLSRPT_DAY_MS);
}

static void collect(struct tlsrpt *tlsrpt, uint64_t now_ms) {
  bool waits = false;
  if (tlsrpt->began_ms == 0) {
    bool put_back = now_ms + tlsrpt->o.collect_ms < tlsrpt->collect_ms;
    if (now_ms < tlsrpt->collect_ms && !put_back) return;
    tlsrpt->began_ms = now_ms;
    for (unsigned i = 0; i < tlsrpt->o.views; i++) view_collect(&tlsrpt->views[i]);
  }
  for (unsigned i = 0; i < tlsrpt->o.views; i++) {
    struct tlsrpt_view *view = &tlsrpt->views[i];
    if (!call_is_over(&view->collect)) {
      waits = waits || view->collect.used;
    } else if (call_end(&view->collect)) {
      take_counts(tlsrpt, view->spare, now_ms);
    }
  }
  if (!waits) collected(tlsrpt, now_ms);
}

/* ---- reports ---- */

/* False: none is due, or there is no shard to ask. */
static bool begin_one(struct tlsrpt *tlsrpt, struct job *job, uint64_t now_ms) {
  bool can = atomic_load_explicit(&tlsrpt->views[0].shard, memory_order_acquire) != NULL;
  struct tlsrpt_due *due = can ? tlsrpt_sender_take(&tlsrpt->sender, now_ms) : NULL;
  if (due != NULL) job_begin(job, due, now_ms);
  return due != NULL;
}

/* Whether a job is free, for what is due next. */
static bool work_on_jobs(struct tlsrpt *tlsrpt, uint64_t now_ms) {
  bool is_free = false;
  for (unsigned i = 0; i < tlsrpt->o.jobs; i++) {
    struct job *job = &tlsrpt->jobs[i];
    if (job->state != JOB_FREE) job_turn(job, now_ms);
    for (unsigned n = 0; n < BEGIN_MAX && job->state == JOB_FREE && begin_one(tlsrpt, job, now_ms);) n++;
    is_free = is_free || job->state == JOB_FREE;
  }
  return is_free;
}

/* ---- the thread ---- */

static unsigned until(const struct tlsrpt *tlsrpt, uint64_t now_ms, bool is_free) {
  uint64_t wake_ms = now_ms + WAIT_MAX_MS;
  if (tlsrpt->began_ms == 0) wake_ms = least(wake_ms, tlsrpt->collect_ms);
  if (is_free) wake_ms = least(wake_ms, tlsrpt->sender.next_ms > now_ms ? tlsrpt->sender.next_ms : now_ms + 1000);
  if (tlsrpt->changed_ms > 0) wake_ms = least(wake_ms, tlsrpt->changed_ms + tlsrpt->o.save_ms);
  return wake_ms > now_ms ? (unsigned)(wake_ms - now_ms) : 1;
}

static void *work(void *argument) {
  struct tlsrpt *tlsrpt = argument;
  if (tlsrpt->o.begin != NULL) tlsrpt->o.begin(tlsrpt->o.context);
  while (!atomic_load_explicit(&tlsrpt->stopping, memory_order_acquire)) {
    uint64_t now_ms = tlsrpt->o.wall_ms();
    collect(tlsrpt, now_ms);
    bool is_free = work_on_jobs(tlsrpt, now_ms);
    if (tlsrpt->changed_ms > 0 && now_ms - tlsrpt->changed_ms >= tlsrpt->o.save_ms) save(tlsrpt);
    https_turn(tlsrpt->https, until(tlsrpt, now_ms, is_free));
  }
  return NULL;
}

/* What the shards counted last. */
static void take_last(struct tlsrpt *tlsrpt) {
  for (unsigned i = 0; i < tlsrpt->o.views; i++)
    for (unsigned one = 0; one < 2; one++) take_counts(tlsrpt, &tlsrpt->views[i].pair[one], tlsrpt->o.wall_ms());
}

void tlsrpt_stop(struct tlsrpt *tlsrpt) {
  if (tlsrpt == NULL || !tlsrpt->started) return;
  atomic_store_explicit(&tlsrpt->stopping, true, memory_order_release);
  https_wake(tlsrpt->https);
  pthread_join(tlsrpt->thread, NULL);
  tlsrpt->started = false;
  take_last(tlsrpt);
  if (tlsrpt->changed_ms > 0) save(tlsrpt);
}

/* ---- open and close ---- */

static int start(struct tlsrpt *tlsrpt) {
  sigset_t all, before; /* signals are the main thread's */
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  tlsrpt->started = pthread_create(&tlsrpt->thread, NULL, work, tlsrpt) == 0;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return tlsrpt->started ? E_OK : E_OTHER;
}

static uint64_t chance(void) {
  uint64_t value = 0;
  must(getrandom(&value, sizeof value, 0) == (ssize_t)sizeof value);
  return value;
}

/* E_NO_MEMORY. */
static int make_parts(struct tlsrpt *tlsrpt) {
  const struct tlsrpt_options *o = &tlsrpt->o;
  struct https_options https = {.under_way = o->jobs,
                                .timeout_ms = o->timeout_ms,
                                .answer_max = ANSWER_MAX,
                                .public_only = true,
                                .ca_file = o->ca_file,
                                .connect_to = o->connect_to,
                                .done = job_posted,
                                .context = tlsrpt};
  tlsrpt->views = aligned_alloc(64, o->views * sizeof *tlsrpt->views);
  tlsrpt->jobs = calloc(o->jobs, sizeof *tlsrpt->jobs);
  for (unsigned i = 0; tlsrpt->views != NULL && i < o->views; i++) view_init(&tlsrpt->views[i], tlsrpt, chance());
  for (unsigned i = 0; tlsrpt->jobs != NULL && i < o->jobs; i++) tlsrpt->jobs[i] = (struct job){.tlsrpt = tlsrpt, .state = JOB_FREE};
  return tlsrpt->views == NULL || tlsrpt->jobs == NULL ? E_NO_MEMORY : https_open(&tlsrpt->https, &https);
}

int tlsrpt_open(struct tlsrpt **out, const struct tlsrpt_options *options) {
  struct tlsrpt *tlsrpt = calloc(1, sizeof *tlsrpt);
  uint64_t now_ms = options->wall_ms();
  if (tlsrpt == NULL) return E_NO_MEMORY;
  tlsrpt->o = *options;
  tlsrpt->today.number = now_ms / TLSRPT_DAY_MS;
  tlsrpt_tally_init(&tlsrpt->today.tally, &options->day, chance());
  tlsrpt_sender_init(&tlsrpt->sender, &options->sender, chance());
  int error = make_parts(tlsrpt);
  if (error == E_OK) {
    load(tlsrpt, now_ms);
    tlsrpt->collect_ms = least(now_ms + options->collect_ms, (tlsrpt->today.number + 1) * TLSRPT_DAY_MS);
    error = start(tlsrpt);
  }
  if (error != E_OK) {
    tlsrpt_free(tlsrpt);
    return error;
  }
  *out = tlsrpt;
  return E_OK;
}

void tlsrpt_free(struct tlsrpt *tlsrpt) {
  if (tlsrpt == NULL) return;
  must(!tlsrpt->started);
  https_close(tlsrpt->https); /* before what it POSTs goes */
  for (unsigned i = 0; tlsrpt->jobs != NULL && i < tlsrpt->o.jobs; i++) job_fini(&tlsrpt->jobs[i]);
  for (unsigned i = 0; tlsrpt->views != NULL && i < tlsrpt->o.views; i++) view_fini(&tlsrpt->views[i]);
  tlsrpt_sender_fini(&tlsrpt->sender);
  tlsrpt_tally_clear(&tlsrpt->today.tally);
  free(tlsrpt->views);
  free(tlsrpt->jobs);
  free(tlsrpt);
}
