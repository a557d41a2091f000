/*
 * recover: how long a start takes with so many messages in the spool. Fills one with messages that wait, then opens it as a start does, by parts: the bytes
 * alone, read as replay reads them; the replay with its checks; and all of it, the messages in memory. Direct I/O, so the page cache has no part in it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "bench/lib/options.h"
#include "bench/lib/report.h"
#include "core/base/error.h"
#include "queue/restore.h"
#include "queue/schedule.h"
#include "queue/spool/log.h"
#include "queue/spool/record.h"

#define KIND 3
#define BATCH 128
#define PATH_ROOM 4096

struct plan {
  const char *path;
  uint64_t size_bytes, messages, segment_bytes, rounds;
  bool json;
};

struct bench {
  struct io *io;
  struct wheel wheel;
  struct spool *spool;

  char segment[PATH_ROOM]; /* reading the bytes alone */
  uint8_t *room;
  uint64_t bytes;
  const struct plan *plan;
};

static void fail(const char *what, const char *why) {
  fprintf(stderr, "recover: %s: %s\n", what, why);
  exit(1);
}

struct write {
  struct spool_entry entry; /* first: the entry is the write */
  bool done;
  struct io_slice slice;
};

static void durable(struct spool_entry *entry, int error) {
  if (error != E_OK) fail("a message was not stored", error_text(error));
  ((struct write *)entry)->done = true;
}

static void turn(struct bench *bench) {
  uint64_t due_ms = wheel_next_ms(&bench->wheel), now_ms = io_now_ns(bench->io) / 1000000;
  const struct io_completion *done;
  wheel_advance(&bench->wheel, now_ms, NULL, 1000);
  spool_turn(bench->spool, now_ms);
  unsigned count = io_wait(bench->io, due_ms == WHEEL_NEVER ? UINT64_MAX : due_ms * 1000000, &done);
  for (unsigned i = 0; i < count; i++) spool_complete(bench->spool, &done[i]);
}

static void open_spool(struct bench *bench) {
  char room[512];
  struct fmt why = fmt_over(room, sizeof room - 1);
  struct spool_options options = {.path = bench->plan->path, .segment_size_bytes = bench->plan->segment_bytes};
  wheel_init(&bench->wheel, io_now_ns(bench->io) / 1000000);
  int error = spool_open(&bench->spool, bench->io, &bench->wheel, &options, KIND, &why);
  room[why.len] = '\0';
  if (error != E_OK) fail("spool", room);
}

static void count_record(void *context, struct span record, struct spool_place place) {
  (void)place;
  ((struct bench *)context)->bytes += record.len;
}

static void ignore_outcome(void *context, struct span outcome) {
  (void)context;
  (void)outcome;
}

static void replay_all(struct bench *bench) {
  struct spool_replay replay = {count_record, ignore_outcome, bench};
  char room[512];
  struct fmt why = fmt_over(room, sizeof room - 1);
  uint64_t damaged = 0;
  bench->bytes = 0;
  if (spool_replay(bench->spool, &replay, &damaged, &why) != E_OK || damaged > 0) fail("replay", "damaged");
}

/* ---- filling ---- */

static uint32_t encode(uint8_t *at, uint64_t id, uint64_t size_bytes, unsigned padding) {
  struct fmt envelope = fmt_over(at + RECORD_HEADER_SIZE, 1024);
  char address[64];
  snprintf(address, sizeof address, "recipient%llu@d%05llu.example", (unsigned long long)id, (unsigned long long)(id % 10000));
  record_envelope_encode(
      &(struct record_envelope){.sender = SPAN("bounces+newsletter@sender.example"), .peer = SPAN("192.0.2.7"), .created_ms = 1, .recipients = 1},
      &envelope);
  record_recipient_encode(&(struct record_recipient){.address = span_of_text(address)}, &envelope);
  uint32_t length = (uint32_t)((RECORD_HEADER_SIZE + envelope.len + size_bytes + padding - 1) / padding * padding);
  struct record_header header = {
      .type = RECORD_MESSAGE, .length = length, .envelope_size = (uint32_t)envelope.len, .content_size = (uint32_t)size_bytes, .id = id};
  record_header_encode(&header, at);
  return length;
}

static void fill(struct bench *bench) {
  static struct write writes[BATCH];
  size_t room = (bench->plan->size_bytes + 2048 + SPOOL_ALIGNMENT) / SPOOL_ALIGNMENT * SPOOL_ALIGNMENT;
  uint8_t *memory = aligned_alloc(SPOOL_ALIGNMENT, BATCH * room);
  if (memory == NULL) fail("filling", "no memory");
  for (size_t i = 0; i < BATCH * room; i++) memory[i] = (uint8_t)(i * 7 + i / 511);
  open_spool(bench);
  replay_all(bench);
  if (bench->bytes > 0) fail(bench->plan->path, "the spool is not empty");
  for (uint64_t id = 1; id <= bench->plan->messages;) {
    unsigned count = 0;
    for (; count < BATCH && id <= bench->plan->messages; count++, id++) {
      uint8_t *at = memory + count * room;
      writes[count] = (struct write){.slice = {at, encode(at, id, bench->plan->size_bytes, spool_padding(bench->spool))}};
      writes[count].entry = (struct spool_entry){.slices = &writes[count].slice, .slices_count = 1, .durable = durable};
      spool_append(bench->spool, &writes[count].entry);
    }
    for (unsigned i = 0; i < count; i++)
      while (!writes[i].done) turn(bench);
  }
  while (!spool_idle(bench->spool)) turn(bench);
  spool_close(bench->spool);
  free(memory);
}

/* ---- the parts of a start ---- */

static void read_segment(void *context, const char *name) {
  struct bench *bench = context;
  io_file file;
  size_t len = strlen(name), got = 1;
  if (len < 4 || strcmp(name + len - 4, ".seg") != 0) return;
  snprintf(bench->segment, sizeof bench->segment, "%s/%s", bench->plan->path, name);
  if (io_file_open(bench->io, bench->segment, IO_FILE_READ | IO_FILE_DIRECT, &file) != E_OK &&
      io_file_open(bench->io, bench->segment, IO_FILE_READ, &file) != E_OK)
    fail(bench->segment, "cannot be read");
  if (io_file_read_now(bench->io, file, bench->room, SPOOL_ALIGNMENT, 0, &got) == E_OK && memcmp(bench->room + 12, "\0\0\0\0", 4) != 0)
    for (uint64_t at = 0; got > 0; at += got)
      if (io_file_read_now(bench->io, file, bench->room, 1 << 20, at, &got) != E_OK) got = 0;
  io_file_close(bench->io, file);
}

static void read_bytes(struct bench *bench) {
  if (io_directory_list(bench->io, bench->plan->path, read_segment, bench) != E_OK) fail(bench->plan->path, "cannot be listed");
}

static void replay_records(struct bench *bench) {
  open_spool(bench);
  replay_all(bench);
  spool_close(bench->spool);
}

static void when_due(void *context, struct message *message, unsigned recipient) {
  (void)context;
  (void)message;
  (void)recipient;
}

static void restore(struct bench *bench) {
  static struct shard shard;
  static struct counters counters;
  struct slab slab;
  struct schedule schedule;
  char room[512];
  struct fmt why = fmt_over(room, sizeof room - 1);
  uint64_t newest_id, damaged;
  memset(&shard, 0, sizeof shard);
  wheel_init(&shard.wheel, 1);
  slab_init(&slab, 8ull << 30);
  open_spool(bench);
  schedule_init(&schedule, &shard, &slab, bench->spool, &counters, when_due, NULL);
  if (restore_schedule(&schedule, &newest_id, &damaged, &why) != E_OK || schedule.messages != bench->plan->messages)
    fail("restore", "messages are missing");
  schedule_begin(&schedule);
  schedule_fini(&schedule);
  spool_close(bench->spool);
  slab_fini(&slab);
}

struct took {
  double wall_ms, cpu_ms;
};

static double cpu_ms(void) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e3 + (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e3;
}

static int by_wall(const void *a, const void *b) {
  double left = ((const struct took *)a)->wall_ms, right = ((const struct took *)b)->wall_ms;
  return left < right ? -1 : left > right;
}

/* The median. */
static struct took time_of(struct bench *bench, void (*part)(struct bench *bench)) {
  struct took all[99];
  uint64_t rounds = bench->plan->rounds < 99 ? bench->plan->rounds : 99;
  for (uint64_t i = 0; i < rounds; i++) {
    double before_ms = cpu_ms();
    uint64_t since_ns = io_now_ns(bench->io);
    part(bench);
    all[i] = (struct took){(double)(io_now_ns(bench->io) - since_ns) / 1e6, cpu_ms() - before_ms};
  }
  qsort(all, rounds, sizeof *all, by_wall);
  return all[rounds / 2];
}

static void measure(struct bench *bench) {
  struct took bytes = time_of(bench, read_bytes), replay = time_of(bench, replay_records), all = time_of(bench, restore);
  double per = 100000.0 / (double)bench->plan->messages;
  struct report report;
  report_begin(&report, stdout, bench->plan->json, "recover");
  report_count(&report, "messages", "messages", bench->plan->messages, "");
  report_real(&report, "mib", "in the spool", (double)bench->bytes / (1 << 20), 0, " MiB");
  report_real(&report, "read_ms", "per 100,000: reading the bytes alone", bytes.wall_ms * per, 0, " ms");
  report_real(&report, "read_cpu_ms", "CPU", bytes.cpu_ms * per, 0, " ms");
  report_real(&report, "replay_ms", "with replay", replay.wall_ms * per, 0, " ms");
  report_real(&report, "replay_cpu_ms", "CPU", replay.cpu_ms * per, 0, " ms");
  report_real(&report, "restore_ms", "with messages in memory", all.wall_ms * per, 0, " ms");
  report_real(&report, "restore_cpu_ms", "CPU", all.cpu_ms * per, 0, " ms");
  report_end(&report);
}

static void remove_file(void *context, const char *name) {
  struct bench *bench = context;
  snprintf(bench->segment, sizeof bench->segment, "%s/%s", bench->plan->path, name);
  if (io_file_remove(bench->io, bench->segment) != E_OK) fail(bench->segment, "cannot be removed");
}

int main(int argc, char **argv) {
  struct plan plan = {.path = "build/recover-spool", .size_bytes = 4096, .messages = 100000, .segment_bytes = 64 << 20, .rounds = 5};
  const struct option_usage usage = {"recover", "[options]", "Fills a spool, and reports how long a start with it takes.\n", NULL};
  const struct option table[] = {
      {"path", OPTION_TEXT, &plan.path, "DIR", "the spool's directory (build/recover-spool); empty or not there, and removed afterwards", NULL},
      {"size", OPTION_SIZE, &plan.size_bytes, "BYTES", "of a message's content (4KiB)", NULL},
      {"messages", OPTION_COUNT, &plan.messages, "N", "how many wait (100000)", NULL},
      {"segment", OPTION_SIZE, &plan.segment_bytes, "BYTES", "of a segment (64MiB)", NULL},
      {"rounds", OPTION_COUNT, &plan.rounds, "N", "of which the median counts (5)", NULL},
      {"json", OPTION_FLAG, &plan.json, NULL, "report as JSON", NULL},
  };
  options_run(&usage, table, sizeof table / sizeof *table, argc, argv);
  if (plan.messages == 0 || plan.rounds == 0 || plan.size_bytes > SPOOL_RECORD_MAX - 8192) fail("options", "out of range");
  const struct io_options options = {.sockets_max = 1, .receive_buffers = 1, .receive_buffer_size = 4096};
  struct bench bench = {.plan = &plan, .room = aligned_alloc(SPOOL_ALIGNMENT, 1 << 20)};
  const char *reason = NULL;
  if (bench.room == NULL) fail("start", "no memory");
  if (io_open(&bench.io, &options, &reason) != E_OK) fail("io_uring", reason);
  fill(&bench);
  measure(&bench);
  if (io_directory_list(bench.io, plan.path, remove_file, &bench) != E_OK || io_directory_remove(bench.io, plan.path) != E_OK)
    fail(plan.path, "cannot be removed");
  io_destroy(bench.io);
  free(bench.room);
  return 0;
}
