/*
 * spool: what storing one record costs. A number of producers append records to a spool, each the next as soon as its last is durable, then the record is
 * forgotten (with an outcome, as after a delivery), so that segments are recycled as in steady work.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "bench/lib/histogram.h"
#include "bench/lib/options.h"
#include "bench/lib/report.h"
#include "core/base/error.h"
#include "queue/spool/log.h"
#include "queue/spool/record.h"

#define KIND 3

struct producer {
  struct spool_entry entry;
  struct io_slice slice;
  uint64_t since_ns;
  struct bench *bench;
  struct producer *next;
};

struct bench {
  struct io *io;
  struct wheel wheel;
  struct spool *spool;
  struct producer *ready; /* append in the next turn */
  uint64_t now_ns;
  uint64_t records;
  struct histogram latency;
  bool measuring;
  bool outcomes;
};

struct plan {
  const char *path;
  uint64_t size_bytes, producers, segment_bytes, duration_ns, warm_up_ns;
  unsigned durability;
  bool buffered, json, outcomes;
};

static void fail(const char *what, const char *why) {
  fprintf(stderr, "spool: %s: %s\n", what, why);
  exit(1);
}

static void durable(struct spool_entry *entry, int error) {
  struct producer *producer = (struct producer *)entry;
  struct bench *bench = producer->bench;
  if (error != E_OK) fail("a record was not stored", error_text(error));
  bench->records++;
  if (bench->measuring) histogram_record(&bench->latency, bench->now_ns - producer->since_ns);
  if (bench->outcomes) {
    uint8_t outcome[RECORD_OUTCOME_SIZE];
    record_outcome_encode(&(struct record_outcome){.kind = RECORD_DELIVERED, .id = bench->records, .attempts = 1}, outcome);
    spool_append_outcome(bench->spool, span_of(outcome, sizeof outcome));
  }
  spool_forget(bench->spool, entry->place);
  producer->next = bench->ready;
  bench->ready = producer;
}

static void append_ready(struct bench *bench) {
  struct producer *producer = bench->ready;
  bench->ready = NULL;
  while (producer != NULL) {
    struct producer *next = producer->next;
    producer->since_ns = bench->now_ns;
    spool_append(bench->spool, &producer->entry);
    producer = next;
  }
}

static void turn(struct bench *bench) {
  uint64_t due_ms = wheel_next_ms(&bench->wheel);
  const struct io_completion *done;
  unsigned count = io_wait(bench->io, due_ms == WHEEL_NEVER ? UINT64_MAX : due_ms * 1000000, &done);
  bench->now_ns = io_now_ns(bench->io);
  for (unsigned i = 0; i < count; i++) spool_complete(bench->spool, &done[i]);
  wheel_advance(&bench->wheel, bench->now_ns / 1000000, NULL, 1000);
  append_ready(bench);
  spool_turn(bench->spool, bench->now_ns / 1000000);
}

static void run_for(struct bench *bench, uint64_t duration_ns) {
  uint64_t until_ns = io_now_ns(bench->io) + duration_ns;
  while (bench->now_ns < until_ns) turn(bench);
}

static void make_producers(struct bench *bench, const struct plan *plan) {
  uint32_t length = (uint32_t)((plan->size_bytes + RECORD_HEADER_SIZE + spool_padding(bench->spool) - 1) / spool_padding(bench->spool) *
                               spool_padding(bench->spool));
  if (plan->size_bytes > SPOOL_RECORD_MAX - 8192) fail("--size", "too large for a record");
  struct producer *producers = calloc(plan->producers, sizeof *producers);
  if (producers == NULL) fail("producers", "no memory");
  for (uint64_t i = 0; i < plan->producers; i++) {
    struct producer *producer = &producers[i];
    uint8_t *at = aligned_alloc(SPOOL_ALIGNMENT, (length + SPOOL_ALIGNMENT - 1) / SPOOL_ALIGNMENT * SPOOL_ALIGNMENT);
    if (at == NULL) fail("producers", "no memory");
    for (uint32_t n = 0; n < length; n++) at[n] = (uint8_t)(n * 7 + i);
    struct record_header header = {.type = RECORD_MESSAGE, .length = length, .content_size = (uint32_t)plan->size_bytes, .id = i + 1};
    record_header_encode(&header, at);
    *producer = (struct producer){.slice = {at, length}, .bench = bench, .next = bench->ready};
    producer->entry = (struct spool_entry){.slices = &producer->slice, .slices_count = 1, .durable = durable};
    bench->ready = producer;
  }
}

static void ignore_record(void *context, struct span record, struct spool_place place) {
  (void)record;
  spool_forget(((struct bench *)context)->spool, place);
}

static void ignore_outcome(void *context, struct span outcome) {
  (void)context;
  (void)outcome;
}

static void open_spool(struct bench *bench, const struct plan *plan) {
  struct io_options options = {.sockets_max = 16, .receive_buffers = 16, .receive_buffer_size = 4096};
  const char *reason;
  if (io_open(&bench->io, &options, &reason) != E_OK) fail("io_uring", reason);
  bench->now_ns = io_now_ns(bench->io);
  wheel_init(&bench->wheel, bench->now_ns / 1000000);
  char room[512];
  struct fmt why = fmt_over(room, sizeof room - 1);
  struct spool_options spool = {.path = plan->path,
                                .durability = (enum spool_durability)plan->durability,
                                .segment_size_bytes = plan->segment_bytes,
                                .buffered = plan->buffered};
  struct spool_replay replay = {ignore_record, ignore_outcome, bench};
  uint64_t damaged;
  int error = spool_open(&bench->spool, bench->io, &bench->wheel, &spool, KIND, &why);
  if (error == E_OK) error = spool_replay(bench->spool, &replay, &damaged, &why);
  room[why.len] = '\0';
  if (error != E_OK) fail("spool", room);
}

static double seconds(struct timeval a, struct timeval b) { return (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_usec - a.tv_usec) / 1e6; }

static void measure(struct bench *bench, const struct plan *plan) {
  struct rusage before, after;
  run_for(bench, plan->warm_up_ns);
  struct spool_stats first = *spool_stats(bench->spool);
  uint64_t records = bench->records, since_ns = bench->now_ns;
  bench->measuring = true;
  getrusage(RUSAGE_SELF, &before);
  run_for(bench, plan->duration_ns);
  getrusage(RUSAGE_SELF, &after);
  struct spool_stats last = *spool_stats(bench->spool);
  double took_s = (double)(bench->now_ns - since_ns) / 1e9, count = (double)(bench->records - records);
  double user_us = seconds(before.ru_utime, after.ru_utime) * 1e6 / count, system_us = seconds(before.ru_stime, after.ru_stime) * 1e6 / count;
  static const char *const mode[] = {"sync", "lazy"};
  struct report report;
  report_begin(&report, stdout, plan->json, "spool");
  report_text(&report, "durability", "durability", mode[plan->durability]);
  report_text(&report, "access", "access", plan->buffered ? "buffered" : "direct");
  report_real(&report, "records_per_s", "records", count / took_s, 0, "/s");
  report_real(&report, "cpu_us", "CPU of this process, per record", user_us + system_us, 2, "us");
  report_real(&report, "user_us", "user", user_us, 2, "us");
  report_real(&report, "system_us", "system", system_us, 2, "us");
  report_real(&report, "records_per_commit", "records per commit", count / (double)(last.commits - first.commits), 1, "");
  report_real(&report, "bytes_per_record", "bytes written per record", (double)(last.bytes_written - first.bytes_written) / count, 0, "");
  report_count(&report, "segments", "segments", last.segments, "");
  report_latency(&report, "latency_ms", "until durable", &bench->latency);
  report_end(&report);
}

int main(int argc, char **argv) {
  struct plan plan = {.path = "build/bench-spool",
                      .size_bytes = 4000,
                      .producers = 64,
                      .segment_bytes = 64 << 20,
                      .duration_ns = 3000000000,
                      .warm_up_ns = 2000000000,
                      .outcomes = true};
  const struct option_usage usage = {"spool", "[options]", "Appends records to a spool and reports what each costs.\n", NULL};
  const struct option table[] = {
      {"path", OPTION_TEXT, &plan.path, "DIR", "the spool's directory (build/bench-spool); reused from run to run", NULL},
      {"size", OPTION_SIZE, &plan.size_bytes, "BYTES", "of a record, without header and padding (4000)", NULL},
      {"batch", OPTION_COUNT, &plan.producers, "N", "producers, each with one record under way (64)", NULL},
      {"durability", OPTION_CHOICE, &plan.durability, "MODE", "sync (default) or lazy", "sync|lazy"},
      {"buffered", OPTION_FLAG, &plan.buffered, NULL, "through the page cache instead of direct", NULL},
      {"no-outcomes", OPTION_OFF, &plan.outcomes, NULL, "append records only", NULL},
      {"segment", OPTION_SIZE, &plan.segment_bytes, "BYTES", "of a segment (64MiB)", NULL},
      {"duration", OPTION_DURATION, &plan.duration_ns, "TIME", "to measure (3s)", NULL},
      {"warm-up", OPTION_DURATION, &plan.warm_up_ns, "TIME", "before it (2s)", NULL},
      {"json", OPTION_FLAG, &plan.json, NULL, "report as JSON", NULL},
  };
  options_run(&usage, table, sizeof table / sizeof *table, argc, argv);
  struct bench *bench = calloc(1, sizeof *bench);
  if (bench == NULL) fail("start", "no memory");
  bench->outcomes = plan.outcomes;
  open_spool(bench, &plan);
  make_producers(bench, &plan);
  measure(bench, &plan);
  spool_close(bench->spool);
  io_destroy(bench->io);
  free(bench);
  return 0;
}
