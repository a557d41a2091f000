/*
 * A restart with less memory than the queue needs, on the fake spool, for tests: #include this file.
 */
#include "queue/loader.h"
#include "queue/restore.h"
#include "queue/schedule.h"

#include "tests/unit/queue/fake_slab.c"
#include "tests/unit/queue/fake_spool.c"

#include "tests/lib/unit.h"

#define UNUSED __attribute__((unused))
#define START_WALL_MS 1000000000
#define MAX_AGE_MS 500000000
#define MEMORY (64u << 20)
#define DUE_MAX 4096

struct due {
  struct message *message;
  unsigned recipient;
};

static struct slab slab;
static struct spool spool;
static struct shard shard;
static struct counters counters;
static struct schedule schedule;
static struct due due[DUE_MAX];
static unsigned due_count;
static struct news { /* of the loader */
  unsigned loaded, untold, unreadable, given_up;
  uint64_t id;
  int error;
} news;

/* Long: a message takes about what is read of it, so that both can be counted together. */
static uint8_t sender[3800];

static void when_due(void *context, struct message *message, unsigned recipient) {
  (void)context;
  ck_quick(due_count < DUE_MAX && message->recipient[recipient].state == RECIPIENT_READY);
  due[due_count++] = (struct due){message, recipient};
  schedule_job_began(message);
}

static void when_loaded(void *context, struct message *message) {
  (void)context;
  ck_quick(message->live > 0 && message->place.segment != 0 && message->late);
  for (unsigned i = 0; i < due_count; i++) ck_quick(due[i].message != message);
  news.loaded++;
  news.untold += message->untold;
}

static void when_unreadable(void *context, const struct unloaded_message *message, int error, bool given_up) {
  (void)context;
  news.unreadable++;
  news.given_up += given_up;
  news.id = message->id;
  news.error = error;
}

static void open_schedule(void) {
  shard.now_ms = 500;
  shard.now_ns = 500000000;
  shard.wall_ms = START_WALL_MS;
  wheel_init(&shard.wheel, shard.now_ms);
  schedule_init(&schedule, &shard, &slab, &spool, &counters, when_due, NULL);
  loader_on_news(&schedule.loader, &(struct loader_news){when_loaded, when_unreadable, NULL});
  due_count = 0;
  news = (struct news){0};
}

static void open_world(void) {
  memset(sender, 's', sizeof sender);
  slab_init(&slab, MEMORY);
  open_schedule();
}

static void close_world(void) {
  schedule_fini(&schedule);
  ck_assert_uint_eq(shard.wheel.count, 0);
  fake_spool_free(&spool);
  slab_fini(&slab);
}

static void turn(void) {
  loader_turn(&schedule.loader, MAX_AGE_MS);
  spool_turn(&spool, shard.now_ms);
}

static void turns(unsigned count) {
  for (unsigned i = 0; i < count; i++) turn();
}

static void pass(uint64_t ms) {
  shard.now_ms += ms;
  shard.wall_ms += ms;
  wheel_advance(&shard.wheel, shard.now_ms, NULL, 1000);
  turn();
}

/* All has ended, and nothing is kept of what was not loaded. */
static void expect_nothing_left(void) {
  turn();
  ck_assert_uint_eq(schedule.messages, 0);
  ck_assert_uint_eq(schedule.unloaded, 0);
  ck_assert_uint_eq(schedule.waiting, 0);
  ck_assert_uint_eq(schedule.ready, 0);
  ck_assert_ptr_null(schedule.loader.list.message);
  ck_assert_ptr_null(schedule.loader.list.by_age);
  ck_assert_uint_eq(schedule.loader.fetches, 0);
  ck_assert_uint_eq(slab.used_bytes, 0);
  ck_assert_uint_eq(fake_spool_live(&spool), 0);
  ck_assert_uint_eq(shard.wheel.count, 0);
}

/* ---- what is on disk ---- */

struct plan {          /* of a message; zero is the usual one */
  uint32_t recipients; /* 0: one */
  uint32_t first;      /* those before are not in it any more */
  uint64_t due_ms;
  uint64_t created_ms; /* 0: now */
  uint32_t content;    /* bytes */
  uint32_t parts;
  bool part;
  uint32_t number; /* of a part */
  bool strange;    /* its envelope is no such thing */
};

static void append(struct content *content, const struct fmt *bytes) { ck_quick(content_append(&slab, content, fmt_span(bytes))); }

static void append_envelope(struct content *content, const struct plan *plan) {
  uint8_t room[4096];
  uint32_t recipients = plan->recipients == 0 ? 1 : plan->recipients;
  struct record_envelope envelope = {.sender = span_of(sender, sizeof sender),
                                     .created_ms = plan->created_ms == 0 ? START_WALL_MS : plan->created_ms,
                                     .recipients = recipients - plan->first};
  struct fmt out = fmt_over(room, sizeof room);
  record_envelope_encode(&envelope, &out);
  append(content, &out);
  for (uint32_t i = plan->first; i < recipients; i++) {
    struct record_recipient recipient = {.address = SPAN("somebody@example.net"), .index = (uint16_t)i, .due_ms = plan->due_ms};
    out = fmt_over(room, sizeof room);
    record_recipient_encode(&recipient, &out);
    append(content, &out);
  }
}

static void not_refused(struct spool_entry *entry, int error) {
  (void)entry;
  ck_assert_int_eq(error, E_OK);
}

static struct spool_place put_on_disk(uint64_t id, const struct plan *plan) {
  static const uint8_t header[RECORD_HEADER_SIZE], zeros[4096];
  uint64_t limit_bytes = slab.limit_bytes;
  slab.limit_bytes = MEMORY;
  struct content *content = content_new(&slab, 0);
  ck_quick(content_append(&slab, content, span_of(header, sizeof header)));
  if (plan->strange) {
    ck_quick(content_append(&slab, content, SPAN("strange")));
  } else {
    append_envelope(content, plan);
  }
  content_end_head(content);
  for (uint32_t at = 0; at < plan->content; at += 1000) ck_quick(content_append(&slab, content, span_of(zeros, 1000)));
  message_end_record(content, plan->part ? RECORD_PART : RECORD_MESSAGE, id, plan->part ? plan->number : plan->parts, FAKE_SPOOL_PADDING);
  struct spool_entry entry = {.slices = content->slice, .slices_count = content->chunks, .store = true, .durable = not_refused};
  spool_append(&spool, &entry);
  spool_turn(&spool, shard.now_ms);
  content_free(&slab, content);
  slab.limit_bytes = limit_bytes;
  return entry.place;
}

static void put_outcome(uint64_t id, unsigned recipient, enum record_outcome_kind kind, unsigned attempts, uint64_t due_ms) {
  uint8_t room[RECORD_OUTCOME_SIZE];
  record_outcome_encode(
      &(struct record_outcome){.kind = kind, .id = id, .recipient = (uint16_t)recipient, .attempts = (uint16_t)attempts, .due_ms = due_ms}, room);
  spool_append_outcome(&spool, span_of(room, sizeof room));
  spool_turn(&spool, shard.now_ms);
}

/* With so much memory; 1: none for messages. */
static void restart_with(uint64_t memory) {
  uint64_t newest_id, damaged;
  uint8_t room[128];
  struct fmt why = fmt_over(room, sizeof room);
  schedule_fini(&schedule);
  spool_turn(&spool, 0);
  fake_spool_restart(&spool);
  ck_assert_uint_eq(slab.used_bytes, 0);
  slab.limit_bytes = memory;
  open_schedule();
  ck_assert_int_eq(restore_schedule(&schedule, &newest_id, &damaged, &why), E_OK);
  schedule_begin(&schedule);
}

/* Nothing is loaded at the start, then there is memory for all. */
static void restart_without_memory(void) {
  restart_with(1);
  ck_assert_uint_eq(schedule.messages, 0);
  slab.limit_bytes = MEMORY;
}

static uint64_t size_of_one(void) {
  return slab_size(sizeof(struct message) + sizeof(struct recipient) + sizeof sender + sizeof "somebody@example.net" - 1);
}

static void answer(unsigned at, enum record_outcome_kind kind) {
  struct due entry = due[at];
  memmove(&due[at], &due[at + 1], (--due_count - at) * sizeof *due);
  schedule_done(&schedule, entry.message, entry.recipient, kind);
  schedule_job_ended(&schedule, entry.message);
}

static UNUSED void answer_later(unsigned at, uint64_t delay_ms) {
  struct due entry = due[at];
  memmove(&due[at], &due[at + 1], (--due_count - at) * sizeof *due);
  schedule_defer(&schedule, entry.message, entry.recipient, shard.wall_ms + delay_ms, true);
  schedule_job_ended(&schedule, entry.message);
}

static UNUSED unsigned reads(void) {
  unsigned count = 0;
  for (const struct spool_read *read = spool.reads; read != NULL; read = read->_next) count++;
  return count;
}
