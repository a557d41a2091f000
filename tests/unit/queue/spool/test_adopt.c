/*
 * Fewer shards than last time, on the simulated disk: every message that was live is live afterwards, in one spool, as it was; whenever the power is
 * cut, and however many shards the next start has.
 */
#include "queue/spool/adopt.h"

#include <stdlib.h>

#include "core/base/error.h"
#include "queue/spool/view.h"
#include "tests/lib/unit.h"
#include "tests/sim/disk.h"
#include "tests/sim/io.h"
#include "tests/sim/net.h"
#include "tests/sim/world.h"

/* The world gives nothing back. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "detect_leaks=0"; }

#define KIND 9
#define SHARDS 4
#define SEGMENT (64u << 10)
#define LIVE_MAX 200

/* ---- what a shard's life leaves: ids tell shard and kind ---- */

enum kind { PLAIN, SEVERAL, TRIED, ENDED, MOVED, LONG, UNENDED, UNTOLD, KINDS };

static uint64_t id_of(unsigned shard, enum kind kind) { return (uint64_t)1000 << 22 | (uint64_t)shard << 14 | (1 + kind); }
static bool lives(enum kind kind) { return kind != ENDED && kind != UNENDED; }

struct writer {
  struct io *io;
  struct wheel wheel;
  struct spool *spool;
  unsigned told, shard;
};

static void turn(struct writer *w) {
  const struct io_completion *done;
  uint64_t now_ms = io_now_ns(w->io) / 1000000;
  wheel_advance(&w->wheel, now_ms, NULL, 1000);
  spool_turn(w->spool, now_ms);
  unsigned count = io_wait(w->io, io_now_ns(w->io) + MILLISECOND_NS, &done);
  for (unsigned i = 0; i < count; i++) spool_complete(w->spool, &done[i]);
}

struct write {
  struct spool_entry entry;
  struct io_slice slice;
  struct writer *writer;
};

static void told(struct spool_entry *entry, int error) {
  ck_quick(error == E_OK);
  ((struct write *)entry)->writer->told++;
}

static uint8_t content_byte(uint64_t id, uint32_t part, size_t at) { return (uint8_t)(id * 31 + part * 7 + at * 13 + at / 251); }

static void write_record(struct writer *w, enum record_type type, uint64_t id, uint32_t parts, unsigned first, unsigned recipients, uint16_t attempts,
                         uint32_t size) {
  uint32_t length = (size + 2048) / 4096 * 4096 + 4096;
  uint8_t *room = aligned_alloc(SPOOL_ALIGNMENT, length);
  memset(room, 0, length);
  struct fmt envelope = fmt_over(room + RECORD_HEADER_SIZE, 2048);
  if (type == RECORD_MESSAGE) {
    record_envelope_encode(&(struct record_envelope){.sender = SPAN("a@b.example"), .created_ms = id, .session = 3, .recipients = recipients},
                           &envelope);
    for (unsigned i = 0; i < recipients; i++)
      record_recipient_encode(&(struct record_recipient){.address = SPAN("c@d.example"), .index = (uint16_t)(first + i), .attempts = attempts},
                              &envelope);
  }
  for (size_t i = 0; i < size; i++) room[RECORD_HEADER_SIZE + envelope.len + i] = content_byte(id, parts, i);
  struct record_header header = {
      .type = type, .length = length, .envelope_size = (uint32_t)envelope.len, .content_size = size, .parts = parts, .id = id};
  record_header_encode(&header, room);
  struct write *write = calloc(1, sizeof *write);
  *write = (struct write){.slice = {room, length}, .writer = w};
  write->entry = (struct spool_entry){.slices = &write->slice, .slices_count = 1, .durable = told};
  w->told = 0;
  spool_append(w->spool, &write->entry);
  while (w->told == 0) turn(w);
}

static void write_outcome(struct writer *w, enum record_outcome_kind kind, uint64_t id, uint16_t recipient, uint16_t attempts, uint64_t due_ms) {
  uint8_t room[RECORD_OUTCOME_SIZE];
  record_outcome_encode(&(struct record_outcome){.kind = kind, .id = id, .recipient = recipient, .attempts = attempts, .due_ms = due_ms}, room);
  spool_append_outcome(w->spool, span_of(room, sizeof room));
}

static struct io *new_io(void) {
  struct io *io;
  struct io_options options = {.sockets_max = 1, .receive_buffers = 1, .receive_buffer_size = 512};
  must(io_open(&io, &options, NULL) == E_OK);
  return io;
}

static void write_shard(struct writer *w) {
  unsigned s = w->shard;
  write_record(w, RECORD_MESSAGE, id_of(s, PLAIN), 0, 0, 1, 0, 500);
  write_record(w, RECORD_MESSAGE, id_of(s, ENDED), 0, 0, 1, 0, 3000);
  write_record(w, RECORD_MESSAGE, id_of(s, SEVERAL), 0, 0, 3, 0, 9000);
  write_record(w, RECORD_MESSAGE, id_of(s, MOVED), 0, 0, 3, 0, 20000);
  write_outcome(w, RECORD_DELIVERED, id_of(s, SEVERAL), 1, 1, 0);
  write_outcome(w, RECORD_DEFERRED, id_of(s, SEVERAL), 2, 2, 123456);
  write_outcome(w, RECORD_DELIVERED, id_of(s, MOVED), 0, 1, 0);
  write_record(w, RECORD_PART, id_of(s, LONG), 0, 0, 0, 0, 30000);
  write_record(w, RECORD_PART, id_of(s, UNENDED), 0, 0, 0, 0, 5000);
  write_record(w, RECORD_PART, id_of(s, LONG), 1, 0, 0, 0, 30000);
  write_record(w, RECORD_MESSAGE, id_of(s, LONG), 2, 0, 2, 0, 1000);
  write_record(w, RECORD_MESSAGE, id_of(s, TRIED), 0, 0, 1, 4, 1000);
  write_record(w, RECORD_MESSAGE, id_of(s, MOVED), 0, 1, 2, 3, 20000); /* a copy that leaves out who has ended */
  write_outcome(w, RECORD_EXPIRED, id_of(s, ENDED), 0, 1, 0);
  write_outcome(w, RECORD_TOLD, 0, 0, 0, 0);
  while (!spool_idle(w->spool)) turn(w); /* else it stood behind the next one */
  write_record(w, RECORD_MESSAGE, id_of(s, UNTOLD), 0, 0, 1, 0, 100);
}

static struct spool_options spool_options(const char *path) { return (struct spool_options){.path = path, .segment_size_bytes = SEGMENT}; }

static void write_life(void *context) {
  struct writer w = {.io = new_io(), .shard = *(const unsigned *)context};
  char path[64], room[200];
  struct fmt why = fmt_over(room, sizeof room);
  snprintf(path, sizeof path, "/spool/shard-%03u", w.shard);
  struct spool_options options = spool_options(path);
  struct spool_replay replay = {NULL, NULL, NULL};
  uint64_t damaged;
  wheel_init(&w.wheel, io_now_ns(w.io) / 1000000);
  must(spool_open(&w.spool, w.io, &w.wheel, &options, KIND, &why) == E_OK);
  must(spool_replay(w.spool, &replay, &damaged, &why) == E_OK);
  write_shard(&w);
  while (!spool_idle(w.spool)) turn(&w);
  spool_close(w.spool);
}

/* ---- starts ---- */

static struct start {
  unsigned shards, done, failed;
  int error;
  char why[300];
  uint64_t memory_bytes, messages, damaged;
  unsigned kept;
} start;

static void adopted(void *context, const struct adoption *adoption) {
  (void)context;
  start.messages += adoption->messages;
  start.damaged += adoption->damaged;
  start.kept += adoption->kept != NULL;
}

/* As relay_open: first others', then its own, which has to be free for that. */
static void start_shard(void *context) {
  unsigned shard = *(const unsigned *)context;
  char path[64];
  struct fmt why = fmt_over(start.why, sizeof start.why - 1);
  struct io *io = new_io();
  snprintf(path, sizeof path, "/spool/shard-%03u", shard);
  struct adopt_options options = {.path = "/spool",
                                  .shard = shard,
                                  .shards = start.shards,
                                  .spool = spool_options(NULL),
                                  .memory_bytes = start.memory_bytes,
                                  .token_kind = KIND,
                                  .adopted = adopted};
  int error = adopt_spools(io, &options, &why);
  struct wheel wheel;
  struct spool *spool;
  wheel_init(&wheel, io_now_ns(io) / 1000000);
  struct spool_options own = spool_options(path);
  if (error == E_OK && (error = spool_open(&spool, io, &wheel, &own, KIND, &why)) == E_OK) spool_close(spool);
  if (error != E_OK) {
    start.error = error;
    start.failed++;
  }
  start.done++;
}

static unsigned numbers[SHARDS] = {0, 1, 2, 3};

/* False: the power was cut. */
static bool run_start(unsigned shards) {
  uint64_t memory_bytes = start.memory_bytes;
  start = (struct start){.shards = shards, .memory_bytes = memory_bytes};
  for (unsigned i = 0; i < shards; i++) fiber_start(start_shard, &numbers[i]);
  while (start.done < shards && !disk_is_cut()) ck_quick(world_step(UINT64_MAX));
  if (!disk_is_cut()) return true;
  fibers_kill();
  sim_io_crash();
  disk_crash(true);
  return false;
}

/* ---- what is there ---- */

struct seen {
  unsigned times[SHARDS][KINDS];
};

struct check {
  struct view *view;
  const struct census *census;
  struct seen *seen;
};

static void check_content(uint64_t id, uint32_t part, const uint8_t *record, const struct record_header *header, uint32_t size) {
  ck_quick(header->content_size == size);
  for (size_t i = 0; i < size; i++) ck_quick(record[RECORD_HEADER_SIZE + header->envelope_size + i] == content_byte(id, part, i));
}

static void check_parts(const struct check *check, const struct census_message *message) {
  for (uint32_t i = 0; i < message->parts_count; i++) {
    uint8_t *room = aligned_alloc(SPOOL_ALIGNMENT, SPOOL_RECORD_MAX);
    struct record_header header;
    uint64_t hash;
    ck_quick(view_read(check->view, message->parts[i], room) == E_OK);
    ck_quick(record_header_decode(&header, room, message->parts[i].length, message->parts[i].segment, &hash) == E_OK);
    ck_quick(header.id == message->id && header.parts == i && header.type == RECORD_PART);
    check_content(message->id, i, room, &header, 30000);
    free(room);
  }
}

static void check_recipient(const struct census_message *m, unsigned i, unsigned index, unsigned attempts, uint64_t due_ms) {
  ck_quick(m->recipient[i].index == index && !m->recipient[i].done);
  bool at_once = due_ms == 0 && m->recipient[i].due_ms == RECORD_DUE_OLD; /* the same, in a copy; that it says so rightly shows in census_is_told */
  ck_quick(m->recipient[i].attempts == attempts && (m->recipient[i].due_ms == due_ms || at_once));
}

/* Its live recipients, in their order. */
static void check_state(const struct census_message *m, enum kind kind) {
  unsigned at[3], count = 0;
  for (unsigned i = 0; i < m->recipients; i++)
    if (!m->recipient[i].done) at[count++] = i;
  ck_quick(count == (kind == SEVERAL || kind == MOVED || kind == LONG ? 2 : 1));
  switch (kind) {
  case SEVERAL:
    check_recipient(m, at[0], 0, 0, 0);
    check_recipient(m, at[1], 2, 2, 123456);
    break;
  case MOVED:
    check_recipient(m, at[0], 1, 3, 0);
    check_recipient(m, at[1], 2, 3, 0);
    break;
  case TRIED: check_recipient(m, at[0], 0, 4, 0); break;
  default: check_recipient(m, at[0], 0, 0, 0); break;
  }
}

static int visit(void *context, struct census_message *m, struct span record) {
  static const uint32_t sizes[KINDS] = {[PLAIN] = 500, [SEVERAL] = 9000, [TRIED] = 1000, [MOVED] = 20000, [LONG] = 1000, [UNTOLD] = 100};
  const struct check *check = context;
  unsigned shard = (unsigned)(m->id >> 14 & 255);
  enum kind kind = (enum kind)((m->id & 0x3fff) - 1);
  struct record_header header;
  uint64_t hash;
  ck_quick(shard < SHARDS && kind < KINDS && lives(kind));
  check->seen->times[shard][kind]++;
  check_state(m, kind);
  ck_quick(record_header_decode(&header, record.at, record.len, m->place.segment, &hash) == E_OK);
  check_content(m->id, m->parts_count, record.at, &header, sizes[kind]);
  check_parts(check, m);
  ck_quick_msg(census_is_told(check->census, m) == (kind != UNTOLD), "message %d of shard %u is told or not", kind, shard);
  return E_OK;
}

static void check_shard(unsigned shard, struct seen *seen) {
  char path[64], room[200];
  struct fmt why = fmt_over(room, sizeof room);
  struct io *io = new_io();
  struct view *view;
  struct census census;
  uint64_t damaged;
  snprintf(path, sizeof path, "/spool/shard-%03u", shard);
  int error = view_open(&view, io, path, false, &why);
  if (error == E_NOT_FOUND) return;
  ck_quick(error == E_OK);
  census_init(&census, 0, 1);
  ck_quick(view_count(view, &census, &damaged, &why) == E_OK);
  ck_quick(damaged == 0);
  struct check check = {view, &census, seen};
  struct view_visitor visitor = {visit, &check};
  ck_quick(view_visit(view, &census, &visitor, &why) == E_OK);
  census_fini(&census);
  view_close(view);
}

static void note_foreign(void *context, const char *name) {
  unsigned number;
  char rest;
  if (sscanf(name, "shard-%u%c", &number, &rest) != 1 || number >= start.shards) *(bool *)context = true;
}

static void check_all(unsigned shards) {
  struct seen seen = {0};
  bool foreign = false;
  for (unsigned i = 0; i < shards; i++) check_shard(i, &seen);
  for (unsigned s = 0; s < SHARDS; s++)
    for (unsigned k = 0; k < KINDS; k++)
      ck_quick_msg(seen.times[s][k] == lives((enum kind)k), "message %u of shard %u is there %u times", k, s, seen.times[s][k]);
  disk_list("/spool", note_foreign, &foreign);
  ck_quick_msg(!foreign, "a directory is left over");
}

static void new_world(uint64_t seed) {
  static const struct netaddr none = {.family = 4};
  world_open(seed, NULL);
  disk_open();
  net_open();
  sim_io_open(&none, &none);
  start.memory_bytes = 0;
  for (unsigned i = 0; i < SHARDS; i++) {
    fiber_start(write_life, &numbers[i]);
    while (fibers_alive() > 0) ck_quick(world_step(UINT64_MAX));
  }
}

static void must_start(unsigned shards) {
  ck_quick(run_start(shards));
  ck_quick_msg(start.failed == 0, "%s: %s", error_text(start.error), start.why);
  check_all(shards);
}

START_TEST(fewer_and_more_and_fewer) {
  static const unsigned rows[][4] = {{2, 1, 3, 2}, {1, 4, 1, 4}, {3, 2, 1, 1}, {4, 3, 4, 2}};
  for (unsigned r = 0; r < 4; r++) {
    new_world(r);
    for (unsigned i = 0; i < 4; i++) must_start(rows[r][i]);
  }
}
END_TEST

START_TEST(a_small_memory_takes_more_readings) {
  new_world(1);
  start.memory_bytes = 400;
  must_start(1);
  ck_assert_uint_eq(start.messages, (SHARDS - 1) * 6);
}
END_TEST

START_TEST(the_power_is_cut_at_every_sync) {
  unsigned cuts = 0, seconds = 0;
  for (uint64_t first = 1, more = 1; more; first++) {
    uint64_t more_seconds = 1;
    for (uint64_t second = 0; more_seconds && second <= 60; second += 1 + first % 5) {
      new_world(first * 1000 + second);
      disk_cut_at(first);
      if (run_start(1 + first % 3)) {
        more = 0;
        break;
      }
      cuts++;
      disk_cut_at(second);
      if (second > 0) {
        more_seconds = !run_start(1 + (unsigned)((first + second) % 4));
        seconds += more_seconds != 0;
      }
      disk_cut_at(0);
      must_start(1 + (unsigned)chance(4));
      must_start(1 + (unsigned)chance(4));
    }
  }
  ck_assert_uint_gt(cuts, 30);
  ck_assert_uint_gt(seconds, 30);
}
END_TEST

START_TEST(a_full_disk_refuses_the_start_and_loses_nothing) {
  new_world(1);
  must_start(1);
  uint64_t wanted = disk_used();
  new_world(1);
  disk_set_faults(&(struct disk_faults){.capacity_bytes = disk_used()});
  ck_assert(run_start(1));
  ck_assert_int_eq(start.error, E_NO_SPACE);
  ck_assert_msg(strstr(start.why, "copying the mail of shard") != NULL, "%s", start.why);
  unsigned tries = 0;
  do {
    if (tries++ == 2) disk_set_faults(&(struct disk_faults){.capacity_bytes = disk_used() + SEGMENT});
    ck_assert(run_start(1));
  } while (start.error == E_NO_SPACE && tries < 10);
  ck_assert_uint_eq(tries, 3); /* one segment more was all that it lacked, as what was copied in one try is not copied again in the next */
  ck_assert_uint_le(disk_used(), wanted + 2 * SEGMENT);
  disk_set_faults(&(struct disk_faults){0});
  must_start(1);
}
END_TEST

/* A start fails because a copy cannot be synced, the next finds it in the page cache, where it looks clean, and only then the power is cut. */
START_TEST(what_could_not_be_synced_is_written_again) {
  unsigned failed = 0;
  for (uint64_t seed = 1; seed <= 60; seed++) {
    unsigned shards = 1 + (unsigned)(seed % 3);
    new_world(seed);
    disk_set_faults(&(struct disk_faults){.refuse_direct = true, .sync_fails = 4, .calls_fail = seed % 2 == 0 ? 60 : 0});
    ck_assert(run_start(shards));
    failed += start.failed;
    disk_set_faults(&(struct disk_faults){.refuse_direct = true});
    must_start(shards);
    disk_crash(true);
    must_start(shards);
  }
  ck_assert_uint_gt(failed, 30);
}
END_TEST

START_TEST(a_spool_in_use_is_not_taken) {
  new_world(1);
  struct io *io = new_io();
  struct view *view;
  char room[200];
  struct fmt why = fmt_over(room, sizeof room);
  ck_assert_int_eq(view_open(&view, io, "/spool/shard-003", true, &why), E_OK);
  ck_assert(run_start(2));
  ck_assert_int_eq(start.error, E_BUSY);
  ck_assert_msg(strstr(start.why, "shard-003/lock") != NULL, "%s", start.why);
  view_close(view);
  must_start(2);
}
END_TEST

static void make_file(const char *path) {
  io_file file;
  must(io_file_open(NULL, path, IO_FILE_WRITE | IO_FILE_CREATE, &file) == E_OK);
  io_file_close(NULL, file);
}

START_TEST(what_is_not_in_order_is_kept) {
  new_world(1);
  make_file("/spool/shard-002/00000001.bad");
  start.memory_bytes = 0;
  ck_assert(run_start(2));
  ck_assert_uint_eq(start.failed, 0);
  ck_assert_uint_eq(start.kept, 1);
  uint8_t *bytes;
  size_t len;
  ck_assert(disk_contents("/spool/kept-002-1/00000001.bad", &bytes, &len));
  ck_assert(disk_contents("/spool/kept-002-1/00000001.seg", &bytes, &len));
  struct seen seen = {0};
  for (unsigned i = 0; i < 2; i++) check_shard(i, &seen);
  ck_assert_uint_eq(seen.times[2][LONG], 1);
  ck_assert(run_start(2)); /* and is not looked at again */
  ck_assert_uint_eq(start.failed + start.kept, 0);
}
END_TEST

int main(void) {
  TCase *all = tcase_create("adopt");
  tcase_set_timeout(all, 200);
  tcase_add_test(all, fewer_and_more_and_fewer);
  tcase_add_test(all, a_small_memory_takes_more_readings);
  tcase_add_test(all, the_power_is_cut_at_every_sync);
  tcase_add_test(all, a_full_disk_refuses_the_start_and_loses_nothing);
  tcase_add_test(all, what_could_not_be_synced_is_written_again);
  tcase_add_test(all, a_spool_in_use_is_not_taken);
  tcase_add_test(all, what_is_not_in_order_is_kept);
  return unit_main("queue/spool/adopt", &all, 1);
}
