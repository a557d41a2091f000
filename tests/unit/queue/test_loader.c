/*
 * A restart with less memory than the queue needs, on the fake spool: what stays on disk, and how it is taken up.
 */
#include "queue/loader.h"
#include "queue/restore.h"
#include "queue/schedule.h"

#include "tests/unit/queue/fake_slab.c"
#include "tests/unit/queue/fake_spool.c"

#include "tests/lib/unit.h"

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

static void answer_later(unsigned at, uint64_t delay_ms) {
  struct due entry = due[at];
  memmove(&due[at], &due[at + 1], (--due_count - at) * sizeof *due);
  schedule_defer(&schedule, entry.message, entry.recipient, shard.wall_ms + delay_ms, true);
  schedule_job_ended(&schedule, entry.message);
}

static unsigned reads(void) {
  unsigned count = 0;
  for (const struct spool_read *read = spool.reads; read != NULL; read = read->_next) count++;
  return count;
}

/* ---- how much, and when ---- */

START_TEST(what_did_not_fit_is_taken_up_oldest_first) {
  for (uint64_t id = 1; id <= 200; id++) put_on_disk(id, &(struct plan){0});
  restart_with(100 * size_of_one());
  ck_assert_uint_eq(schedule.messages, 75);
  ck_assert_uint_eq(schedule.unloaded, 125);
  pass(0);
  for (uint64_t id = 1; id <= 200; id++) {
    for (unsigned i = 0; i < 20 && due_count == 0; i++) turn();
    ck_assert_uint_gt(due_count, 0);
    ck_quick(due[0].message->id == id && schedule.messages <= 100);
    answer(0, RECORD_DELIVERED);
  }
  ck_assert_uint_eq(news.loaded, 125);
  expect_nothing_left();
}
END_TEST

/* Much at once when there is much room, and then nothing before something ends. */
START_TEST(there_is_no_read_for_each_byte_that_gets_free) {
  for (uint64_t id = 1; id <= 300; id++) put_on_disk(id, &(struct plan){0});
  uint64_t one = size_of_one();
  restart_with(160 * one);
  ck_assert_uint_eq(schedule.messages, 120);
  pass(0);
  void *taken = slab_get(&slab, one);
  turns(5);
  slab_put(&slab, taken, one); /* memory that others had is no reason */
  turns(5);
  ck_assert_uint_eq(news.loaded, 0);
  spool.hold_reads = true;
  for (unsigned i = 0; i < 19; i++) answer(0, RECORD_DELIVERED); /* 101: more than five eighths */
  spool.hold_reads = false;
  turns(5);
  ck_assert_uint_eq(news.loaded, 19);                            /* one for each that ended */
  for (unsigned i = 0; i < 21; i++) answer(0, RECORD_DELIVERED); /* 99: less */
  spool.hold_reads = true;
  turns(3);
  ck_assert_uint_ge(reads(), 5);
  ck_assert_uint_le(reads(), LOADER_FETCHES_MAX);
  spool.hold_reads = false;
  turns(20);
  ck_assert_uint_ge(slab.used_bytes, slab.limit_bytes / 8 * 6 - one);
  ck_assert_uint_le(slab.used_bytes, slab.limit_bytes / 8 * 6 + LOADER_FETCHES_MAX * one);
  unsigned loaded = news.loaded;
  turns(20);
  ck_assert_uint_eq(news.loaded, loaded);
}
END_TEST

/* New mail may keep the memory full for ever: then old mail goes on with what ends. */
START_TEST(under_pressure_each_end_lets_one_in) {
  for (uint64_t id = 1; id <= 20; id++) put_on_disk(id, &(struct plan){0});
  uint64_t one = size_of_one();
  restart_with(16 * one);
  ck_assert_uint_eq(schedule.messages, 12);
  void *taken[2];
  for (unsigned i = 0; i < 2; i++) taken[i] = slab_get(&slab, one);
  pass(0);
  for (unsigned i = 1; i <= 8; i++) {
    turns(3);
    ck_assert_uint_eq(news.loaded, i - 1);
    answer(0, RECORD_DELIVERED);
  }
  turns(3);
  ck_assert_uint_eq(schedule.unloaded, 0);
  for (unsigned i = 0; i < 2; i++) slab_put(&slab, taken[i], one);
  while (due_count > 0) answer(0, RECORD_DELIVERED);
  expect_nothing_left();
}
END_TEST

/* It will end by itself; but one at a time, should it not. */
START_TEST(what_is_past_its_age_comes_first_though_nothing_ends) {
  for (uint64_t id = 1; id <= 12; id++) put_on_disk(id, &(struct plan){.due_ms = START_WALL_MS + 1000000000});
  put_on_disk(13, &(struct plan){0});
  put_on_disk(14, &(struct plan){.created_ms = START_WALL_MS - MAX_AGE_MS + 60000});
  put_on_disk(15, &(struct plan){.created_ms = START_WALL_MS - MAX_AGE_MS + 50000});
  put_on_disk(16, &(struct plan){.created_ms = START_WALL_MS + 999 * (uint64_t)MAX_AGE_MS}); /* a clock was wrong */
  restart_with(16 * size_of_one());
  ck_assert_uint_eq(schedule.messages, 12);
  pass(0);
  for (unsigned i = 0; i < 49; i++) pass(1000);
  ck_assert_uint_eq(news.loaded, 0);
  fake_slab_requests_left = 1; /* for reading: it comes back to its turn */
  pass(1000);
  fake_slab_requests_left = UINT64_MAX;
  for (unsigned i = 0; i < 30; i++) pass(1000);
  ck_assert_uint_eq(news.loaded, 1);
  ck_assert_uint_eq(due[0].message->id, 15);
  answer(0, RECORD_EXPIRED);
  turns(3);
  ck_assert_uint_eq(due[0].message->id, 14);
  answer(0, RECORD_EXPIRED);
  turns(3);
  ck_assert_uint_eq(news.loaded, 2); /* what it took is paid back; the others are not old */
  ck_assert_uint_eq(schedule.unloaded, 2);
  schedule.ended++; /* as if */
  turns(3);
  ck_assert_uint_eq(due[0].message->id, 13);
  turns(3);
  ck_assert_uint_eq(schedule.unloaded, 1); /* what comes from the future is not old */
}
END_TEST

/* Nor does it depend on somebody looking: the loop sleeps until something is due. */
START_TEST(the_loop_is_woken_while_something_waits) {
  put_on_disk(1, &(struct plan){0});
  restart_with(1);
  turn();
  ck_assert_uint_le(wheel_next_ms(&shard.wheel), shard.now_ms + 1000);
  slab.limit_bytes = MEMORY;
  pass(1000);
  turn();
  ck_assert_uint_eq(schedule.unloaded, 0);
  answer(0, RECORD_DELIVERED);
  expect_nothing_left();
}
END_TEST

START_TEST(without_memory_for_a_message_it_waits) {
  put_on_disk(1, &(struct plan){0});
  restart_without_memory();
  fake_slab_requests_left = 1; /* for reading */
  turn();
  ck_assert_uint_eq(news.loaded, 0);
  ck_assert_uint_eq(schedule.unloaded, 1);
  fake_slab_requests_left = UINT64_MAX;
  turns(3);
  ck_assert_uint_eq(news.loaded, 0); /* not in each turn */
  pass(1000);
  turn();
  ck_assert_uint_eq(news.loaded, 1);
  answer(0, RECORD_DELIVERED);
  expect_nothing_left();
}
END_TEST

START_TEST(a_stop_takes_nothing_up) {
  for (uint64_t id = 1; id <= 40; id++) put_on_disk(id, &(struct plan){0});
  restart_without_memory();
  spool.hold_reads = true;
  turn();
  ck_assert_uint_eq(reads(), LOADER_FETCHES_MAX);
  loader_stop(&schedule.loader);
  spool.hold_reads = false;
  turns(3);
  ck_assert_uint_eq(schedule.messages, 0);
  ck_assert_uint_eq(schedule.unloaded, 40);
  ck_assert_uint_eq(fake_spool_live(&spool), 40);
  ck_assert_uint_eq(slab.used_bytes, 0);
}
END_TEST

START_TEST(an_end_gives_up_what_is_being_read) {
  for (uint64_t id = 1; id <= 40; id++) put_on_disk(id, &(struct plan){.recipients = 3000});
  put_outcome(4, 7, RECORD_DELIVERED, 1, 0);
  put_outcome(4, 8, RECORD_DELIVERED, 1, 0);
  restart_without_memory();
  spool.hold_reads = true;
  turn();
  ck_assert_uint_gt(schedule.loader.fetches, 0);
}
END_TEST

/* ---- as it is now ---- */

START_TEST(what_happened_before_is_known) {
  put_on_disk(1, &(struct plan){.recipients = 5});
  put_outcome(1, 3, RECORD_DEFERRED, 1, START_WALL_MS + 1000);
  put_outcome(1, 0, RECORD_DELIVERED, 1, 0);
  put_outcome(1, 3, RECORD_DEFERRED, 2, START_WALL_MS + 5000);
  put_outcome(1, 3, RECORD_DEFERRED, 1, START_WALL_MS + 2000); /* older */
  put_outcome(1, 2, RECORD_FAILED, 3, 0);
  put_outcome(1, 2, RECORD_DEFERRED, 3, START_WALL_MS); /* of before it ended */
  put_outcome(1, 4, RECORD_WARNED, 0, 0);
  restart_without_memory();
  ck_assert_uint_eq(schedule.unloaded, 1);
  turns(2);
  ck_assert_uint_eq(due_count, 2);
  const struct message *message = due[0].message;
  ck_assert(due[0].recipient == 1 && due[1].recipient == 4);
  ck_assert_uint_eq(message->live, 3);
  ck_assert_uint_eq(message->recipient[4].notify, RECORD_WARNED_BIT);
  ck_assert_uint_eq(message->recipient[4].attempts, 0);
  ck_assert_uint_eq(message->recipient[1].notify, 0);
  ck_assert_uint_eq(schedule.waiting, 1);
  answer(0, RECORD_DELIVERED);
  answer(0, RECORD_DELIVERED);
  pass(4999);
  ck_assert_uint_eq(due_count, 0);
  pass(1);
  ck_assert_uint_eq(due_count, 1);
  ck_assert_uint_eq(due[0].recipient, 3);
  ck_assert_uint_eq(due[0].message->recipient[3].attempts, 2);
  answer(0, RECORD_DELIVERED);
  expect_nothing_left();
}
END_TEST

/* Of a record that was written anew the start cannot tell: its recipients are not all. Then it is seen when it is read. */
START_TEST(what_has_ended_for_all_is_never_due) {
  put_on_disk(1, &(struct plan){.recipients = 3});
  put_on_disk(2, &(struct plan){.recipients = 9, .first = 6});
  put_on_disk(3, &(struct plan){.recipients = 2});
  put_on_disk(3, &(struct plan){.recipients = 2, .first = 1}); /* anew */
  put_on_disk(4, &(struct plan){.recipients = 2});
  for (unsigned i = 0; i < 3; i++) put_outcome(1, i, RECORD_DELIVERED, 1, 0);
  for (unsigned i = 0; i < 9; i++) put_outcome(2, 8 - i, i == 4 ? RECORD_EXPIRED : RECORD_DELIVERED, 1, 0);
  put_outcome(3, 1, RECORD_DELIVERED, 1, 0);
  put_outcome(4, 1, RECORD_DELIVERED, 1, 0);
  put_outcome(4, 1, RECORD_DELIVERED, 1, 0); /* twice is not both */
  put_outcome(4, 2, RECORD_DELIVERED, 1, 0);
  restart_without_memory();
  ck_assert_uint_eq(schedule.unloaded, 1);
  ck_assert_uint_eq(fake_spool_live(&spool), 1);
  turns(3);
  ck_assert_uint_eq(due_count, 1);
  ck_assert(due[0].message->id == 4 && due[0].recipient == 0);
  answer(0, RECORD_DELIVERED);
  expect_nothing_left();
}
END_TEST

/* Holes among the recipients come when two of four had ended as it was moved. */
START_TEST(what_the_start_could_not_tell_is_dropped_when_it_is_read) {
  put_on_disk(1, &(struct plan){.recipients = 4});
  restart_with(MEMORY);
  pass(0);
  answer(2, RECORD_DELIVERED);
  answer(0, RECORD_DELIVERED);
  spool.move_ask(spool.move_context, 1, false);
  for (unsigned i = 0; i < 5; i++) pass(0);
  ck_assert_uint_eq(spool.items[spool.items_count - 1].outcome, false);
  put_outcome(1, 1, RECORD_DELIVERED, 1, 0);
  put_outcome(1, 3, RECORD_DELIVERED, 1, 0);
  for (unsigned i = 0; i < due_count; i++) schedule_job_ended(&schedule, due[i].message);
  restart_without_memory();
  ck_assert_uint_eq(schedule.unloaded, 1);
  slab.limit_bytes = 1 << 20;
  void *most[14];
  for (unsigned i = 0; i < 14; i++) most[i] = slab_get(&slab, 65536); /* no plenty: it goes by what ends */
  schedule.ended++;
  turns(3);
  ck_assert_uint_eq(news.loaded, 0);
  ck_assert_int_eq(schedule.loader.credit, 1); /* it took no memory */
  for (unsigned i = 0; i < 14; i++) slab_put(&slab, most[i], 65536);
  expect_nothing_left();
}
END_TEST

/* The record has 1 and 3; within a commit an outcome of 2 may stand behind it. */
START_TEST(an_end_of_another_recipient_does_not_count) {
  put_on_disk(1, &(struct plan){.recipients = 4});
  restart_with(MEMORY);
  pass(0);
  answer(2, RECORD_DELIVERED);
  answer(0, RECORD_DELIVERED);
  spool.move_ask(spool.move_context, 1, false);
  for (unsigned i = 0; i < 5; i++) pass(0);
  put_outcome(1, 2, RECORD_DELIVERED, 1, 0);
  put_outcome(1, 1, RECORD_DELIVERED, 1, 0);
  for (unsigned i = 0; i < due_count; i++) schedule_job_ended(&schedule, due[i].message);
  restart_without_memory();
  turns(3);
  ck_assert_uint_eq(due_count, 1);
  ck_assert_uint_eq(due[0].message->recipient[due[0].recipient].index, 3);
  answer(0, RECORD_DELIVERED);
  expect_nothing_left();
}
END_TEST

START_TEST(a_long_message_comes_with_its_parts) {
  put_on_disk(5, &(struct plan){.part = true, .number = 0, .content = 1000});  /* the oldest, by this */
  for (unsigned i = 0; i < 3; i++) put_outcome(99, 0, RECORD_DELIVERED, 1, 0); /* to the end of the segment */
  put_on_disk(2, &(struct plan){0});
  put_on_disk(1, &(struct plan){.part = true, .number = 0, .content = 10000});
  put_on_disk(1, &(struct plan){.part = true, .number = 1, .content = 20000});
  put_on_disk(1, &(struct plan){.parts = 2, .content = 1000});
  put_on_disk(3, &(struct plan){.part = true, .number = 0, .content = 1000});
  put_on_disk(3, &(struct plan){.parts = 2, .content = 1000}); /* one is missing */
  put_on_disk(4, &(struct plan){.part = true, .content = 1000});
  put_on_disk(4, &(struct plan){.parts = 1, .content = 1000});
  put_on_disk(1, &(struct plan){.part = true, .number = 0, .content = 10000}); /* moved ahead */
  put_outcome(4, 0, RECORD_DELIVERED, 1, 0);
  put_on_disk(5, &(struct plan){.parts = 1});
  restart_without_memory();
  ck_assert_uint_eq(schedule.unloaded, 3);
  ck_assert_uint_eq(fake_spool_live(&spool), 6);
  turns(2);
  ck_assert_uint_eq(due_count, 3);
  const struct message *message = due[2].message;
  ck_assert(due[0].message->id == 5 && due[1].message->id == 2 && message->id == 1);
  ck_assert_uint_eq(message->size, 31000);
  ck_assert_uint_eq(message->parts_count, 2);
  ck_assert_uint_gt(message->parts[0].offset, message->parts[1].offset);
  ck_assert(message->oldest == message->parts[1].segment && message->oldest == 2 && schedule.list[SCHEDULE_LATE].last == message);
  while (due_count > 0) answer(0, RECORD_DELIVERED);
  expect_nothing_left();
}
END_TEST

START_TEST(parts_are_freed_with_what_is_not_taken_up) {
  put_on_disk(1, &(struct plan){.part = true, .content = 1000});
  put_on_disk(1, &(struct plan){.parts = 1});
  restart_with(1);
  ck_assert_uint_eq(schedule.unloaded, 1);
}
END_TEST

/* More recipients than a piece of memory holds. */
START_TEST(a_long_envelope_is_read_in_pieces) {
  put_on_disk(1, &(struct plan){.recipients = 4000, .content = 1000});
  for (unsigned i = 0; i < 4000; i++)
    if (i % 1000 != 7) put_outcome(1, 3999 - i, RECORD_DELIVERED, 1, 0);
  restart_without_memory();
  turns(5);
  ck_assert_uint_eq(due_count, 4);
  for (unsigned i = 0; i < 4; i++) ck_assert_uint_eq(due[i].recipient % 1000, 999 - 7);
  while (due_count > 0) answer(0, RECORD_DELIVERED);
  expect_nothing_left();
}
END_TEST

/* ---- its Reception ---- */

static void put_stop(void) {
  uint8_t room[RECORD_OUTCOME_SIZE];
  record_outcome_encode(&(struct record_outcome){.kind = RECORD_TOLD}, room);
  spool_append_outcome(&spool, span_of(room, sizeof room));
  spool_turn(&spool, 0);
}

START_TEST(what_may_not_have_been_told_of_is_known) {
  put_on_disk(1, &(struct plan){0});
  put_stop();
  put_on_disk(2, &(struct plan){0});
  put_on_disk(3, &(struct plan){0});
  put_on_disk(4, &(struct plan){.due_ms = RECORD_DUE_OLD});
  put_outcome(3, 0, RECORD_DEFERRED, 1, START_WALL_MS);
  restart_without_memory();
  ck_assert_uint_eq(schedule.unloaded, 4);
  turns(2);
  ck_assert_uint_eq(due_count, 4);
  ck_assert_uint_eq(news.untold, 1);
  for (unsigned i = 0; i < 4; i++) ck_assert_int_eq(due[i].message->untold, due[i].message->id == 2);
}
END_TEST

/* A stop says of all messages before it that they were told of: only when they are. */
START_TEST(a_stop_speaks_of_what_is_on_disk_too) {
  put_on_disk(1, &(struct plan){0});
  put_on_disk(2, &(struct plan){0});
  put_outcome(2, 0, RECORD_DEFERRED, 1, START_WALL_MS);
  uint64_t one = size_of_one();
  restart_with(one); /* it fits once */
  ck_assert(schedule.messages == 1 && schedule.unloaded == 1);
  ck_assert(schedule_all_told(&schedule)); /* of 2 it is known already */
  spool_turn(&spool, 0);
  put_on_disk(3, &(struct plan){0});
  restart_with(one);
  ck_assert(schedule.messages == 1 && schedule.unloaded == 2);
  ck_assert(!schedule_all_told(&schedule)); /* 3 is not told of */
  slab.limit_bytes = MEMORY;
  turns(2);
  ck_assert_uint_eq(news.untold, 1);
  ck_assert(schedule_all_told(&schedule));
}
END_TEST

/* ---- damage ---- */

static uint8_t *byte_on_disk(struct spool_place place, size_t at) { return &item_at(&spool, place)->bytes[at]; }

START_TEST(what_cannot_be_read_is_told_of_and_tried_again) {
  struct spool_place place = put_on_disk(1, &(struct plan){.content = 9000});
  put_on_disk(2, &(struct plan){0});
  restart_without_memory();
  *byte_on_disk(place, RECORD_HEADER_SIZE + 40) ^= 1; /* in the envelope */
  turns(5);
  ck_assert_uint_eq(due_count, 1); /* nobody waits for it */
  ck_assert_uint_eq(due[0].message->id, 2);
  answer(0, RECORD_DELIVERED);
  ck_assert(news.unreadable == 1 && news.id == 1 && news.error == E_CORRUPT && news.given_up == 0);
  spool.fail_read = E_IO;
  for (unsigned i = 0; i < 130; i++) pass(1000);
  ck_assert_uint_eq(news.unreadable, 1); /* once */
  ck_assert_uint_eq(schedule.unloaded, 1);
  spool.fail_read = E_OK;
  *byte_on_disk(place, RECORD_HEADER_SIZE + 40) ^= 1;
  for (unsigned i = 0; i < 61; i++) pass(1000);
  ck_assert_uint_eq(due_count, 1);
  answer(0, RECORD_DELIVERED);
  expect_nothing_left();
}
END_TEST

/* Its recipients can have their end as all others, when its content turns out to be lost. */
START_TEST(an_envelope_is_enough_though_its_header_is_damaged) {
  put_on_disk(1, &(struct plan){.part = true, .content = 1000});
  struct spool_place place = put_on_disk(1, &(struct plan){.parts = 1, .content = 9000, .recipients = 2});
  put_outcome(1, 0, RECORD_DELIVERED, 1, 0);
  restart_without_memory();
  *byte_on_disk(place, 20) ^= 1;
  turns(3);
  ck_assert_uint_eq(news.unreadable, 0);
  ck_assert_uint_eq(due_count, 1);
  const struct message *message = due[0].message;
  ck_assert(message->id == 1 && message->live == 1 && message->parts_count == 1 && due[0].recipient == 1);
  ck_assert(message->size >= 1000 + 9000 && message->size < 1000 + place.length); /* as near as can be told */
  answer(0, RECORD_EXPIRED);
  expect_nothing_left();
}
END_TEST

START_TEST(another_record_in_its_place_is_damage) {
  struct spool_place first = put_on_disk(1, &(struct plan){.content = 9000});
  struct spool_place second = put_on_disk(2, &(struct plan){.content = 9000});
  ck_assert_uint_eq(first.segment, second.segment);
  restart_without_memory();
  memcpy(byte_on_disk(first, 0), byte_on_disk(second, 0), first.length);
  turns(5);
  ck_assert_uint_eq(due_count, 1);
  ck_assert(news.unreadable == 1 && news.id == 1 && news.error == E_CORRUPT);
  answer(0, RECORD_DELIVERED);
}
END_TEST

/* As the content of a message in memory is: its place must not be held for ever. */
START_TEST(what_cannot_be_read_is_given_up_past_its_age) {
  put_on_disk(1, &(struct plan){.part = true, .content = 1000});
  struct spool_place place = put_on_disk(1, &(struct plan){.parts = 1, .content = 9000, .created_ms = START_WALL_MS - MAX_AGE_MS + 90000});
  restart_without_memory();
  *byte_on_disk(place, RECORD_HEADER_SIZE + 40) ^= 1;
  for (unsigned i = 0; i < 90; i++) pass(1000);
  ck_assert(news.unreadable == 1 && news.given_up == 0);
  for (unsigned i = 0; i < 60; i++) pass(1000);
  ck_assert(news.unreadable == 2 && news.given_up == 1);
  ck_assert_uint_eq(due_count, 0);
  expect_nothing_left();
}
END_TEST

START_TEST(an_envelope_that_is_none_is_given_up) {
  put_on_disk(1, &(struct plan){.strange = true});
  restart_without_memory();
  ck_assert_uint_eq(schedule.unloaded, 1);
  turns(3);
  ck_assert(news.unreadable == 1 && news.given_up == 1 && news.error == E_CORRUPT);
  expect_nothing_left();
}
END_TEST

/* ---- with the mover ---- */

/* The log asks while it is on disk: the mover goes on when it is there. */
START_TEST(a_segment_it_holds_is_cleared_in_the_end) {
  put_on_disk(1, &(struct plan){.part = true, .content = 1000});
  put_on_disk(1, &(struct plan){.parts = 1, .due_ms = START_WALL_MS + 1000000});
  put_on_disk(2, &(struct plan){.due_ms = START_WALL_MS + 1000000});
  for (uint64_t id = 3; id <= 12; id++) put_on_disk(id, &(struct plan){.due_ms = START_WALL_MS + 1000000});
  restart_with(1);
  spool.move_ask(spool.move_context, 1, false);
  for (unsigned i = 0; i < 5; i++) pass(0);
  ck_assert_uint_eq(schedule.mover.segment, 1);
  slab.limit_bytes = MEMORY;
  for (unsigned i = 0; i < 10; i++) pass(1000);
  ck_assert_uint_eq(schedule.unloaded, 0);
  ck_assert_uint_eq(schedule.mover.segment, 0);
  ck_assert_uint_eq(schedule.mover.moves, 0);
  for (unsigned i = 0; i < spool.items_count; i++) ck_assert(!spool.items[i].live || spool.items[i].place.segment > 1);
  ck_assert_uint_eq(fake_spool_live(&spool), 13);
  for (const struct message *message = schedule.list[SCHEDULE_LATE].first; message != NULL; message = message->next)
    ck_assert_uint_gt(message->id, 2); /* what was moved lies where what is new does */
  uint32_t oldest = 0;                 /* each list is in order, for the next time */
  for (const struct message *message = schedule.list[SCHEDULE_LATE].first; message != NULL; message = message->next) {
    ck_assert(message->late && message->oldest >= oldest);
    oldest = message->oldest;
  }
  pass(1000000);
  ck_assert_uint_eq(due_count, 12);
  while (due_count > 0) answer(0, RECORD_DELIVERED);
  expect_nothing_left();
}
END_TEST

/* ---- any order ---- */

static uint64_t chance;
static uint32_t any(uint32_t below) {
  chance = chance * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(chance >> 33) % below;
}

#define ANY_MESSAGES 30
#define ANY_RECIPIENTS 5
static unsigned ends[ANY_MESSAGES][ANY_RECIPIENTS];

static void any_answer(void) {
  unsigned at = any(due_count);
  const struct message *message = due[at].message;
  if (any(3) == 0) {
    answer_later(at, any(5000));
  } else {
    ends[message->id - 1][message->recipient[due[at].recipient].index]++;
    answer(at, any(2) == 0 ? RECORD_DELIVERED : RECORD_FAILED);
  }
}

static void any_step(void) {
  if (any(3) == 0) spool.hold_reads = any(3) == 0;
  if (any(20) == 0) spool.fail_read = any(2) == 0 ? E_IO : E_OK;
  fake_slab_requests_left = any(10) == 0 ? any(6) : UINT64_MAX;
  if (any(10) == 0) spool.move_ask(spool.move_context, 1 + any(1 + spool.items_count / 4), false);
  for (unsigned i = any(4); i > 0 && due_count > 0; i--) any_answer();
  pass(any(2000));
}

static void any_restart(void) {
  spool.hold_reads = false;
  spool.fail_read = E_OK;
  fake_slab_requests_left = UINT64_MAX;
  spool_turn(&spool, 0);
  for (unsigned i = 0; i < 1000 && schedule.mover.moves > 0; i++) pass(5); /* an orderly end: what is appended is written */
  for (unsigned i = 0; i < due_count; i++) schedule_job_ended(&schedule, due[i].message);
  restart_with(size_of_one() * (4 + any(60)));
}

static void any_run(uint64_t seed) {
  unsigned recipients[ANY_MESSAGES], long_ones = 0;
  chance = seed;
  memset(ends, 0, sizeof ends);
  slab.limit_bytes = MEMORY;
  for (unsigned i = 0; i < ANY_MESSAGES; i++) {
    recipients[i] = 1 + any(2) * any(ANY_RECIPIENTS);
    bool is_long = any(8) == 0;
    if (is_long) put_on_disk(i + 1, &(struct plan){.part = true, .content = 1000});
    put_on_disk(i + 1, &(struct plan){.recipients = recipients[i], .parts = is_long});
    long_ones += is_long;
  }
  for (unsigned life = 0; life < 6; life++) {
    any_restart();
    for (unsigned step = 0; step < 15; step++) any_step();
  }
  any_restart();
  for (unsigned step = 0; step < 3000 && schedule.messages + schedule.unloaded > 0; step++) {
    pass(1000);
    while (due_count > 0) any_answer();
  }
  for (unsigned i = 0; i < ANY_MESSAGES; i++)
    for (unsigned r = 0; r < recipients[i]; r++)
      ck_quick_msg(ends[i][r] == 1, "seed %lu: message %u recipient %u: %u ends", (unsigned long)seed, i, r, ends[i][r]);
  for (unsigned i = 0; i < 10; i++) pass(1000);
  expect_nothing_left();
  fake_spool_free(&spool);
  schedule_fini(&schedule);
  open_schedule();
}

START_TEST(in_any_order_and_life_every_recipient_ends_once) {
  for (uint64_t seed = 1; seed <= 300; seed++) any_run(seed);
}
END_TEST

int main(void) {
  TCase *when = tcase_create("when"), *state = tcase_create("state"), *told = tcase_create("told"), *damage = tcase_create("damage"),
        *order = tcase_create("order");
  TCase *const cases[] = {when, state, told, damage, order};
  for (unsigned i = 0; i < 5; i++) tcase_add_checked_fixture(cases[i], open_world, close_world);
  tcase_set_timeout(order, 120);
  tcase_add_test(when, what_did_not_fit_is_taken_up_oldest_first);
  tcase_add_test(when, there_is_no_read_for_each_byte_that_gets_free);
  tcase_add_test(when, under_pressure_each_end_lets_one_in);
  tcase_add_test(when, what_is_past_its_age_comes_first_though_nothing_ends);
  tcase_add_test(when, the_loop_is_woken_while_something_waits);
  tcase_add_test(when, without_memory_for_a_message_it_waits);
  tcase_add_test(when, a_stop_takes_nothing_up);
  tcase_add_test(when, an_end_gives_up_what_is_being_read);
  tcase_add_test(state, what_happened_before_is_known);
  tcase_add_test(state, what_has_ended_for_all_is_never_due);
  tcase_add_test(state, what_the_start_could_not_tell_is_dropped_when_it_is_read);
  tcase_add_test(state, an_end_of_another_recipient_does_not_count);
  tcase_add_test(state, a_long_message_comes_with_its_parts);
  tcase_add_test(state, parts_are_freed_with_what_is_not_taken_up);
  tcase_add_test(state, a_long_envelope_is_read_in_pieces);
  tcase_add_test(told, what_may_not_have_been_told_of_is_known);
  tcase_add_test(told, a_stop_speaks_of_what_is_on_disk_too);
  tcase_add_test(damage, what_cannot_be_read_is_told_of_and_tried_again);
  tcase_add_test(damage, an_envelope_is_enough_though_its_header_is_damaged);
  tcase_add_test(damage, another_record_in_its_place_is_damage);
  tcase_add_test(damage, what_cannot_be_read_is_given_up_past_its_age);
  tcase_add_test(damage, an_envelope_that_is_none_is_given_up);
  tcase_add_test(damage, a_segment_it_holds_is_cleared_in_the_end);
  tcase_add_test(order, in_any_order_and_life_every_recipient_ends_once);
  return unit_main("queue/loader", cases, 5);
}
