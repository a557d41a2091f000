#include "queue/restore.h"
#include "queue/schedule.h"

#include "tests/unit/queue/fake_slab.c"
#include "tests/unit/queue/fake_spool.c"

#include "tests/lib/unit.h"

#define START_WALL_MS 1000000
#define DUE_MAX 4096

struct due {
  struct message *message;
  unsigned recipient;
};

/* What a test wants done at once with a recipient that is due. */
enum at_once { KEEP, FINISH, PUT_OFF };

static struct slab slab;
static struct spool spool;
static struct shard shard;
static struct counters counters;
static struct schedule schedule;
static struct due due[DUE_MAX];
static unsigned due_count;
static enum at_once (*at_once)(unsigned recipient);

static void when_due(void *context, struct message *message, unsigned recipient) {
  ck_quick(context == &schedule && message->recipient[recipient].state == RECIPIENT_READY);
  enum at_once what = at_once == NULL ? KEEP : at_once(recipient);
  if (what == FINISH) {
    schedule_done(&schedule, message, recipient, RECORD_DELIVERED);
  } else if (what == PUT_OFF) {
    schedule_defer(&schedule, message, recipient, shard.wall_ms + 5000, false);
  } else {
    ck_quick(due_count < DUE_MAX);
    due[due_count++] = (struct due){message, recipient};
    schedule_job_began(message);
  }
}

static void open_schedule(void) {
  shard.now_ms = 500;
  shard.now_ns = 500000000;
  shard.wall_ms = START_WALL_MS;
  wheel_init(&shard.wheel, shard.now_ms);
  schedule_init(&schedule, &shard, &slab, &spool, &counters, when_due, &schedule);
  due_count = 0;
  at_once = NULL;
}

static void open_world(void) {
  slab_init(&slab, 64 << 20);
  open_schedule();
}

static void close_world(void) {
  schedule_fini(&schedule);
  ck_assert_uint_eq(shard.wheel.count, 0);
  fake_spool_free(&spool);
  slab_fini(&slab); /* every test gives back what it took */
}

/* All has ended, by itself. */
static void expect_nothing_left(void) {
  ck_assert_uint_eq(schedule.messages, 0);
  ck_assert_uint_eq(schedule.waiting, 0);
  ck_assert_uint_eq(schedule.ready, 0);
  for (unsigned i = 0; i < SCHEDULE_LISTS; i++) ck_assert(schedule.list[i].first == NULL && schedule.list[i].last == NULL);
  ck_assert_uint_eq(slab.used_bytes, 0);
  ck_assert_uint_eq(fake_spool_live(&spool), 0);
  ck_assert_uint_eq(shard.wheel.count, 0);
}

static void expect_counts(uint64_t messages, uint64_t waiting, uint64_t ready) {
  ck_assert_uint_eq(schedule.messages, messages);
  ck_assert_uint_eq(schedule.waiting, waiting);
  ck_assert_uint_eq(schedule.ready, ready);
}

static struct message *first_of(enum schedule_list list) { return schedule.list[list].first; }

static void pass(uint64_t ms) {
  shard.now_ms += ms;
  shard.wall_ms += ms;
  wheel_advance(&shard.wheel, shard.now_ms, NULL, 1000);
}

/* ---- making messages ---- */

struct plan {          /* of a message; zero is the usual one */
  uint32_t recipients; /* 0: one */
  uint64_t due_ms;
  uint32_t content; /* bytes */
  uint32_t parts;
  enum record_type type;
  uint32_t number; /* of a part */
  uint32_t skip;   /* the first recipients are not in it any more */
  uint16_t attempts;
};

static uint8_t pattern(uint64_t id, uint64_t at) { return (uint8_t)(id * 7 + at * 31 + (at >> 8)); }

static struct content *make_record(uint64_t id, const struct plan *plan) {
  struct content *content = content_new(&slab, 0);
  static const uint8_t header[RECORD_HEADER_SIZE];
  uint8_t room[512];
  uint32_t recipients = plan->recipients == 0 ? 1 : plan->recipients;
  struct record_envelope envelope = {.sender = SPAN("s@example.org"), .created_ms = START_WALL_MS, .recipients = recipients - plan->skip};
  struct fmt out = fmt_over(room, sizeof room);
  record_envelope_encode(&envelope, &out);
  ck_quick(content_append(&slab, content, span_of(header, sizeof header)) && content_append(&slab, content, fmt_span(&out)));
  for (uint32_t i = plan->skip; i < recipients; i++) {
    struct span address = i % 2 == 0 ? SPAN("r@example.net") : SPAN("r@Example.org");
    struct record_recipient recipient = {.address = address, .index = (uint16_t)i, .due_ms = plan->due_ms, .attempts = plan->attempts};
    out = fmt_over(room, sizeof room);
    record_recipient_encode(&recipient, &out);
    ck_quick(content_append(&slab, content, fmt_span(&out)));
  }
  content_end_head(content);
  for (uint32_t at = 0; at < plan->content; at++) {
    uint8_t byte = pattern(id, at);
    ck_quick(content_append(&slab, content, span_of(&byte, 1)));
  }
  uint32_t size = (uint32_t)content_size(content);
  struct record_header encoded = {.type = plan->type == RECORD_INVALID ? RECORD_MESSAGE : plan->type,
                                  .length = content_pad(content, FAKE_SPOOL_PADDING),
                                  .envelope_size = content->head_size - RECORD_HEADER_SIZE,
                                  .content_size = size,
                                  .parts = plan->type == RECORD_PART ? plan->number : plan->parts,
                                  .id = id};
  record_header_encode(&encoded, content->slice[0].at);
  return content;
}

static void note_place(struct spool_entry *entry, int error) {
  ck_assert_int_eq(error, E_OK);
  (void)entry;
}

static struct spool_place write_record(const struct content *content) {
  struct spool_entry entry = {
      .slices = (struct io_slice *)(uintptr_t)content->slice, .slices_count = content->chunks, .store = true, .durable = note_place};
  spool_append(&spool, &entry);
  spool_turn(&spool, shard.now_ms);
  return entry.place;
}

static struct message *make_message(uint64_t id, const struct plan *plan, bool on_disk) {
  struct content *content = make_record(id, plan);
  struct span envelope = span_of((uint8_t *)content->slice[0].at + RECORD_HEADER_SIZE, content->head_size - RECORD_HEADER_SIZE);
  struct message *message = message_new(&slab, id, envelope);
  ck_assert_ptr_nonnull(message);
  message->content = content;
  message->size = plan->content;
  if (on_disk) message->place = write_record(content);
  return message;
}

static struct message *accept_message(uint64_t id, const struct plan *plan) {
  struct message *message = make_message(id, plan, spool.durability != SPOOL_MEMORY);
  schedule_add(&schedule, message);
  return message;
}

static struct spool_place put_on_disk(uint64_t id, const struct plan *plan) {
  struct content *content = make_record(id, plan);
  struct spool_place place = write_record(content);
  content_free(&slab, content);
  return place;
}

/* The outgoing side's answer to entry number `at` of `due`, and the end of its job. */
static void answer_done(unsigned at, enum record_outcome_kind kind) {
  schedule_done(&schedule, due[at].message, due[at].recipient, kind);
  schedule_job_ended(&schedule, due[at].message);
}

static void answer_defer(unsigned at, uint64_t delay_ms) {
  schedule_defer(&schedule, due[at].message, due[at].recipient, shard.wall_ms + delay_ms, true);
  schedule_job_ended(&schedule, due[at].message);
}

/* ---- the way of a message ---- */

START_TEST(delivered_at_once) {
  accept_message(7, &(struct plan){0});
  ck_assert_uint_eq(due_count, 1);
  expect_counts(1, 0, 1);
  answer_done(0, RECORD_DELIVERED);
  spool_turn(&spool, 0);
  ck_assert_uint_eq(fake_spool_outcome(&spool, 7, 0).kind, RECORD_DELIVERED);
  expect_nothing_left();
}
END_TEST

START_TEST(each_recipient_has_its_own_outcome) {
  struct message *message = accept_message(7, &(struct plan){.recipients = 4});
  ck_assert_uint_eq(due_count, 4);
  expect_counts(1, 0, 4);
  answer_done(2, RECORD_FAILED);
  answer_done(0, RECORD_DELIVERED);
  answer_defer(3, 60000);
  ck_assert_ptr_nonnull(message->content); /* one is still in an attempt */
  answer_defer(1, 30000);
  ck_assert_ptr_null(message->content);
  expect_counts(1, 2, 0);
  spool_turn(&spool, 0);
  ck_assert_uint_eq(fake_spool_outcome(&spool, 7, 0).kind, RECORD_DELIVERED);
  ck_assert_uint_eq(fake_spool_outcome(&spool, 7, 2).kind, RECORD_FAILED);
  struct record_outcome put_off = fake_spool_outcome(&spool, 7, 1);
  ck_assert_uint_eq(put_off.kind, RECORD_DEFERRED);
  ck_assert_uint_eq(put_off.attempts, 1);
  ck_assert_uint_eq(put_off.due_ms, START_WALL_MS + 30000);
  pass(29999);
  ck_assert_uint_eq(due_count, 4);
  pass(1);
  ck_assert_uint_eq(due_count, 5);
  ck_assert_uint_eq(due[4].recipient, 1);
  pass(30000);
  ck_assert_uint_eq(due_count, 6);
  ck_assert_uint_eq(due[5].recipient, 3);
  answer_done(5, RECORD_EXPIRED);
  answer_done(4, RECORD_DELIVERED);
  expect_nothing_left();
}
END_TEST

START_TEST(an_attempt_is_counted_if_there_was_one) {
  struct message *message = accept_message(7, &(struct plan){0});
  schedule_defer(&schedule, message, 0, shard.wall_ms + 10, false);
  schedule_job_ended(&schedule, message);
  ck_assert_uint_eq(message->recipient[0].attempts, 0);
  for (unsigned i = 1; i <= 3; i++) {
    pass(10);
    ck_assert_uint_eq(due_count, 1 + i);
    answer_defer(i, 10);
    ck_assert_uint_eq(message->recipient[0].attempts, i);
  }
  pass(10);
  answer_done(4, RECORD_DELIVERED);
  expect_nothing_left();
}
END_TEST

START_TEST(what_is_not_due_yet_waits) {
  accept_message(7, &(struct plan){.recipients = 2, .due_ms = START_WALL_MS + 100});
  ck_assert_uint_eq(due_count, 0);
  expect_counts(1, 2, 0);
  pass(99);
  ck_assert_uint_eq(due_count, 0);
  pass(1);
  ck_assert_uint_eq(due_count, 2);
  answer_done(0, RECORD_DELIVERED);
  answer_done(1, RECORD_DELIVERED);
  expect_nothing_left();
}
END_TEST

START_TEST(a_clock_that_is_set_makes_nobody_early_or_late) {
  static const int64_t jumps_ms[] = {-50, -500000, 50, 86400000};
  accept_message(7, &(struct plan){.due_ms = START_WALL_MS + 100});
  pass(99);
  ck_assert_uint_eq(due_count, 0);
  shard.wall_ms -= 50;
  pass(1);
  ck_assert_uint_eq(due_count, 1);
  for (unsigned i = 0; i < 4; i++) {
    answer_defer(i, 1000);
    shard.wall_ms += (uint64_t)jumps_ms[i];
    pass(999);
    ck_assert_uint_eq(due_count, i + 1);
    pass(1);
    ck_assert_uint_eq(due_count, i + 2);
  }
  answer_done(4, RECORD_DELIVERED);
  expect_nothing_left();
}
END_TEST

START_TEST(a_clock_that_is_set_back_keeps_the_order) {
  accept_message(7, &(struct plan){.recipients = 2, .due_ms = START_WALL_MS + 100});
  pass(100);
  ck_assert_uint_eq(due_count, 2);
  answer_defer(0, 1000);
  answer_defer(1, 3000);
  shard.wall_ms -= 500000;
  pass(1000);
  ck_assert_uint_eq(due_count, 3);
  pass(1999);
  ck_assert_uint_eq(due_count, 3);
  pass(1);
  ck_assert_uint_eq(due_count, 4);
  answer_done(2, RECORD_DELIVERED);
  answer_done(3, RECORD_DELIVERED);
  expect_nothing_left();
}
END_TEST

/* They were noted when the clock was wrong, and are read back now. */
START_TEST(nobody_waits_longer_than_may_be) {
  schedule.wait_max_ms = 60000;
  accept_message(7, &(struct plan){.recipients = 2, .due_ms = START_WALL_MS + 86400000});
  first_of(SCHEDULE_STORED)->recipient[0].due_ms = START_WALL_MS + 1000; /* one is tried again and again meanwhile */
  schedule_begin(&schedule);
  schedule.waiting = 2; /* it had counted them already */
  for (unsigned i = 0; i < 59; i++) {
    pass(1000);
    ck_assert_uint_eq(due_count, i + 1);
    answer_defer(i, 1000);
  }
  pass(1000);
  ck_assert_uint_eq(due_count, 61);
  answer_done(59, RECORD_DELIVERED);
  answer_done(60, RECORD_DELIVERED);
  expect_nothing_left();
}
END_TEST

START_TEST(a_time_further_than_the_wheel_goes) {
  accept_message(7, &(struct plan){.due_ms = START_WALL_MS + 1});
  pass(1);
  answer_defer(0, (uint64_t)90 * 86400000); /* further than the wheel goes */
  for (unsigned day = 0; day < 89; day++) pass(86400000);
  ck_assert_uint_eq(due_count, 1);
  pass(86400000);
  ck_assert_uint_eq(due_count, 2);
  answer_done(1, RECORD_DELIVERED);
  expect_nothing_left();
}
END_TEST

static unsigned pick; /* bits: of recipient number i, two */
static enum at_once picked(unsigned recipient) { return (enum at_once)((pick >> (recipient * 2)) & 3); }
static enum at_once finished(unsigned recipient) {
  (void)recipient;
  return FINISH;
}

START_TEST(answers_may_come_at_once) {
  for (pick = 0; pick < 256; pick++) {
    if ((pick & 3) == 3 || (pick >> 2 & 3) == 3 || (pick >> 4 & 3) == 3 || (pick >> 6) == 3) continue;
    due_count = 0;
    at_once = picked;
    accept_message(pick + 1, &(struct plan){.recipients = 4});
    for (unsigned i = 0; i < due_count; i++) answer_done(i, RECORD_DELIVERED);
    at_once = finished;
    pass(5000);
    expect_nothing_left();
  }
}
END_TEST

START_TEST(memory_is_kept_low) {
  schedule.memory_high_bytes = 0;
  struct message *message = accept_message(7, &(struct plan){0});
  ck_assert_ptr_null(message->content); /* it is on disk */
  answer_done(0, RECORD_DELIVERED);
  expect_nothing_left();
}
END_TEST

START_TEST(all_is_freed_at_the_end) {
  accept_message(1, &(struct plan){.recipients = 3});
  accept_message(2, &(struct plan){.due_ms = START_WALL_MS + 100});
  accept_message(3, &(struct plan){0});
  answer_defer(0, 1000);
}
END_TEST

/* ---- what operators do ---- */

/* The queues by domain hold what the messages say, each recipient once, and the counts are theirs. */
static void check_queues(void) {
  uint64_t waiting = 0, held = 0, given = 0, listed = 0, queues_waiting = 0, queues_given = 0;
  for (unsigned i = 0; i < SCHEDULE_LISTS; i++) {
    for (const struct message *message = schedule.list[i].first; message != NULL; message = message->next) {
      for (unsigned r = 0; r < message->recipients; r++) {
        waiting += message->recipient[r].state == RECIPIENT_WAITING;
        given += message->recipient[r].state == RECIPIENT_READY;
        held += message->recipient[r].held;
        ck_quick(!message->recipient[r].held || message->recipient[r].state == RECIPIENT_WAITING);
      }
    }
  }
  for (const struct domain_queue *queue = schedule.domains.first; queue != NULL; queue = queue->next) {
    const struct recipient *before = NULL;
    for (const struct recipient *one = queue->first; one != NULL; before = one, one = one->next, listed++)
      ck_quick(one->prev == before && one->domain == queue && one->state == RECIPIENT_WAITING);
    ck_quick(queue->last == before);
    queues_waiting += queue->waiting;
    queues_given += queue->given;
  }
  ck_quick(waiting == schedule.waiting && waiting == listed && waiting == queues_waiting);
  ck_quick(given == schedule.ready && given == queues_given);
  ck_quick(held == schedule.held);
}

static void answer_hold(unsigned at, uint64_t delay_ms) {
  schedule_hold(&schedule, due[at].message, due[at].recipient, shard.wall_ms + delay_ms);
  schedule_job_ended(&schedule, due[at].message);
}

START_TEST(what_is_suspended_waits_for_a_retry_or_its_end) {
  struct message *message = accept_message(7, &(struct plan){.recipients = 4});
  for (unsigned i = 0; i < 4; i++) answer_hold(i, 5000);
  expect_counts(1, 4, 0);
  ck_assert_uint_eq(schedule.held, 4);
  ck_assert_uint_eq(message->recipient[0].domain->waiting, 2);
  ck_assert_ptr_eq(message->recipient[0].domain, message->recipient[2].domain);
  ck_assert_ptr_ne(message->recipient[0].domain, message->recipient[1].domain);
  schedule_retry(&schedule, message, 1);
  ck_assert_uint_eq(due_count, 5);
  ck_assert_uint_eq(due[4].recipient, 1);
  ck_assert_uint_eq(message->recipient[1].domain->given, 1);
  check_queues();
  schedule_job_began(message);
  schedule_take(&schedule, message, 0);
  schedule_done(&schedule, message, 0, RECORD_FAILED);
  schedule_job_ended(&schedule, message);
  ck_assert_uint_eq(due_count, 5); /* nobody was asked */
  ck_assert_uint_eq(schedule.held, 2);
  pass(4999);
  ck_assert_uint_eq(due_count, 5);
  pass(1);
  ck_assert_uint_eq(due_count, 7);
  ck_assert_uint_eq(schedule.held, 0);
  check_queues();
  answer_defer(4, 10);
  answer_done(5, RECORD_EXPIRED);
  answer_done(6, RECORD_EXPIRED);
  pass(10);
  answer_done(7, RECORD_DELIVERED);
  expect_nothing_left();
}
END_TEST

static bool only(const struct message *message) { return message->next == NULL && message->prev == NULL; }

START_TEST(a_message_is_found_wherever_it_is) {
  struct message *stored = accept_message(1, &(struct plan){0});
  spool.durability = SPOOL_MEMORY;
  struct message *fresh = accept_message(2, &(struct plan){0});
  ck_assert(only(stored) && only(fresh));
  ck_assert_ptr_eq(schedule_find(&schedule, 1), stored);
  ck_assert_ptr_eq(schedule_find(&schedule, 2), fresh);
  ck_assert_ptr_null(schedule_find(&schedule, 3));
  answer_done(0, RECORD_DELIVERED);
  answer_done(1, RECORD_DELIVERED);
  ck_assert_ptr_null(schedule_find(&schedule, 1));
}
END_TEST

/* ---- memory mode ---- */

START_TEST(in_memory_mode_nothing_is_stored_that_is_delivered) {
  spool.durability = SPOOL_MEMORY;
  accept_message(7, &(struct plan){.recipients = 2});
  answer_done(0, RECORD_DELIVERED);
  answer_done(1, RECORD_FAILED);
  spool_turn(&spool, 0);
  ck_assert_uint_eq(spool.items_count, 0);
  expect_nothing_left();
}
END_TEST

static void restart(void) {
  schedule_fini(&schedule);
  spool_turn(&spool, 0);
  fake_spool_restart(&spool);
  ck_assert_uint_eq(slab.used_bytes, 0);
  open_schedule();
  uint64_t newest_id, damaged;
  uint8_t room[128];
  struct fmt why = fmt_over(room, sizeof room);
  ck_assert_int_eq(restore_schedule(&schedule, &newest_id, &damaged, &why), E_OK);
}

START_TEST(in_memory_mode_the_first_deferral_stores) {
  spool.durability = SPOOL_MEMORY;
  struct message *message = accept_message(7, &(struct plan){.recipients = 4, .content = 20000});
  answer_done(0, RECORD_DELIVERED);
  answer_defer(1, 1000);
  ck_assert(!message->storing); /* others are still in an attempt */
  answer_defer(2, 2000);
  answer_defer(3, 3000);
  ck_assert(message->storing && message->content != NULL);
  pass(1000);
  answer_done(4, RECORD_DELIVERED); /* while the write is under way */
  spool_turn(&spool, 0);
  ck_assert(!message->storing && message->content == NULL && message->place.segment != 0);
  restart();
  ck_assert_uint_eq(schedule.messages, 1);
  message = first_of(SCHEDULE_STORED);
  ck_assert_uint_eq(message->live, 2);
  ck_assert_uint_eq(message->recipient[0].state, RECIPIENT_DONE);
  ck_assert_uint_eq(message->recipient[1].state, RECIPIENT_DONE);
  for (unsigned i = 2; i < 4; i++) {
    ck_assert_uint_eq(message->recipient[i].attempts, 1); /* what happened before it was stored counts */
    ck_assert_uint_eq(message->recipient[i].due_ms, START_WALL_MS + 1000 * i);
  }
}
END_TEST

/* Else it would come no more when a restart finds it, suspended or not. */
START_TEST(what_is_suspended_is_due_at_once_after_a_restart) {
  for (unsigned mode = 0; mode < 2; mode++) {
    spool.durability = mode == 0 ? SPOOL_MEMORY : SPOOL_SYNC;
    accept_message(7 + mode, &(struct plan){.recipients = 2});
    answer_defer(1, 1000);
    answer_hold(0, 86400000);
    pass(1000);
    answer_hold(2, 86400000);
    spool_turn(&spool, 0);
    restart();
    struct message *message = first_of(SCHEDULE_STORED);
    schedule_begin(&schedule);
    pass(60000u << mode); /* a restart sets this clock back */
    ck_assert_uint_eq(due_count, 2);
    ck_assert_uint_eq(message->recipient[1].attempts, 1);
    answer_done(0, RECORD_DELIVERED);
    answer_done(1, RECORD_DELIVERED);
    due_count = 0;
    expect_nothing_left();
  }
}
END_TEST

START_TEST(in_memory_mode_a_write_that_fails_is_tried_again) {
  spool.durability = SPOOL_MEMORY;
  spool.fail_append = E_NO_SPACE;
  struct message *message = accept_message(7, &(struct plan){0});
  answer_defer(0, 1000);
  spool_turn(&spool, 0);
  ck_assert(!message->storing && message->content != NULL && message->place.segment == 0);
  pass(1000);
  spool.fail_append = E_OK;
  answer_defer(1, 1000);
  spool_turn(&spool, 0);
  ck_assert(message->content == NULL && message->place.segment != 0);
  pass(1000);
  answer_done(2, RECORD_DELIVERED);
  expect_nothing_left();
}
END_TEST

START_TEST(before_a_stop_all_is_stored) {
  spool.durability = SPOOL_MEMORY;
  accept_message(1, &(struct plan){0});
  accept_message(2, &(struct plan){.due_ms = START_WALL_MS + 10000});
  accept_message(3, &(struct plan){0});
  spool_turn(&spool, 0);
  spool.hold = true;
  ck_assert_uint_eq(schedule_store_all(&schedule), 2); /* that which is not due yet was stored at once */
  answer_done(0, RECORD_DELIVERED);                    /* the last outcome of one that is being stored */
  ck_assert_uint_eq(schedule.messages, 3);
  spool.hold = false;
  spool_turn(&spool, 0);
  ck_assert_uint_eq(schedule.messages, 2);
  ck_assert_uint_eq(schedule_store_all(&schedule), 0);
  spool_turn(&spool, 0);
  restart();
  ck_assert_uint_eq(schedule.messages, 2);
  schedule_begin(&schedule);
  expect_counts(2, 2, 0);
  pass(0);
  ck_assert_uint_eq(due_count, 1);
}
END_TEST

/* One at a time, with what was set aside for it. */
START_TEST(without_memory_messages_are_stored_one_by_one) {
  spool.durability = SPOOL_MEMORY;
  for (unsigned i = 1; i <= 3; i++) accept_message(i, &(struct plan){0});
  spool_turn(&spool, 0);
  fake_slab_requests_left = 0;
  for (unsigned left = 3; left > 0; left--) {
    ck_assert_uint_eq(schedule_store_all(&schedule), left);
    ck_assert_uint_eq(spool.appends_count, 1);
    spool_turn(&spool, 0);
  }
  ck_assert_uint_eq(schedule_store_all(&schedule), 0);
}
END_TEST

/* ---- loads ---- */

struct wish {
  struct load load;
  unsigned calls;
  int error;
};

static void loaded(struct load *load, int error) {
  struct wish *wish = load->context;
  wish->calls++;
  wish->error = error;
}

static void ask(struct wish *wish, struct message *message, uint32_t part) {
  *wish = (struct wish){.load = {.message = message, .part = part, .done = loaded, .context = wish}};
  schedule_load(&schedule, &wish->load);
}

static void check_content(const struct content *content, uint64_t id, uint32_t size) {
  struct io_slice slices[CONTENT_CHUNKS_MAX];
  unsigned count = content_slices(content, slices);
  uint64_t at = 0;
  for (unsigned i = 0; i < count; i++)
    for (size_t j = 0; j < slices[i].len; j++, at++) ck_quick(((uint8_t *)slices[i].at)[j] == pattern(id, at));
  ck_assert_uint_eq(at, size);
}

/* A message whose content is on disk only, with one job. */
static struct message *message_on_disk(uint64_t id, const struct plan *plan) {
  struct message *message = accept_message(id, plan);
  unsigned at = due_count - 1;
  answer_defer(at, 1000);
  ck_assert_ptr_null(message->content);
  pass(1000);
  return message;
}

START_TEST(content_comes_back_from_disk) {
  static const uint32_t sizes[] = {0, 1, 5000, 60000, 70000, 400000};
  for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    struct wish first, second, third;
    struct message *message = message_on_disk(i + 1, &(struct plan){.content = sizes[i]});
    ask(&first, message, 0);
    ask(&second, message, 0);
    ck_assert_uint_eq(first.calls + second.calls, 0);
    for (unsigned turns = 0; turns < 20 && first.calls == 0; turns++) spool_turn(&spool, 0);
    ck_assert(first.calls == 1 && first.error == E_OK && second.calls == 1 && second.error == E_OK);
    check_content(message->content, i + 1, sizes[i]);
    ask(&third, message, 0); /* it is there */
    ck_assert(third.calls == 1 && third.error == E_OK);
    answer_done(due_count - 1, RECORD_DELIVERED);
    expect_nothing_left();
  }
}
END_TEST

START_TEST(a_read_that_fails_is_told_to_all_who_asked) {
  struct wish wishes[3], again;
  struct message *message = message_on_disk(7, &(struct plan){.content = 100000});
  spool.fail_read = E_IO;
  for (unsigned i = 0; i < 3; i++) ask(&wishes[i], message, 0);
  spool_turn(&spool, 0);
  for (unsigned i = 0; i < 3; i++) ck_assert(wishes[i].calls == 1 && wishes[i].error == E_IO);
  ck_assert(message->content == NULL && message->loads == NULL);
  spool.fail_read = E_OK;
  ask(&again, message, 0);
  for (unsigned turns = 0; turns < 20 && again.calls == 0; turns++) spool_turn(&spool, 0);
  ck_assert_int_eq(again.error, E_OK);
  answer_done(due_count - 1, RECORD_DELIVERED);
  expect_nothing_left();
}
END_TEST

START_TEST(bytes_that_changed_on_disk_are_seen) {
  struct wish wish;
  struct message *message = message_on_disk(7, &(struct plan){.content = 100000});
  struct fake_item *item = item_at(&spool, message->place);
  uint8_t *bytes = malloc(item->len); /* the fake compares with what it keeps: another record in its place */
  memcpy(bytes, item->bytes, item->len);
  struct record_header header = {.type = RECORD_MESSAGE, .length = (uint32_t)item->len, .envelope_size = 64, .content_size = 10, .id = 8};
  record_header_encode(&header, bytes);
  struct span rest = span_of(bytes + RECORD_HEADER_SIZE, item->len - RECORD_HEADER_SIZE);
  record_header_seal(bytes, item->place.segment, record_hash(FAKE_SPOOL_SALT, &rest, 1));
  free(item->bytes);
  item->bytes = bytes;
  ask(&wish, message, 0);
  for (unsigned turns = 0; turns < 20 && wish.calls == 0; turns++) spool_turn(&spool, 0);
  ck_assert_int_eq(wish.error, E_CORRUPT);
  ck_assert_ptr_null(message->content);
  answer_done(due_count - 1, RECORD_FAILED);
  expect_nothing_left();
}
END_TEST

START_TEST(without_memory_nothing_is_loaded) {
  struct wish wish;
  struct message *message = message_on_disk(7, &(struct plan){.content = 100000});
  for (unsigned requests = 0; requests < 3; requests++) { /* the record itself, and its chunks */
    fake_slab_requests_left = requests;
    ask(&wish, message, 0);
    ck_assert(wish.calls == 1 && wish.error == E_NO_MEMORY && message->loads == NULL);
  }
  fake_slab_requests_left = UINT64_MAX;
  answer_done(due_count - 1, RECORD_FAILED);
  expect_nothing_left();
}
END_TEST

START_TEST(the_last_outcome_may_come_during_a_load) {
  struct wish wish;
  struct message *message = message_on_disk(7, &(struct plan){.content = 100000});
  ask(&wish, message, 0);
  schedule_done(&schedule, message, 0, RECORD_FAILED); /* the connection died, and its job waits for the load to end */
  ck_assert_uint_eq(schedule.messages, 1);
  for (unsigned turns = 0; turns < 20 && wish.calls == 0; turns++) spool_turn(&spool, 0);
  ck_assert_uint_eq(schedule.messages, 1);
  schedule_job_ended(&schedule, message);
  expect_nothing_left();
}
END_TEST

/* ---- restart ---- */

START_TEST(what_is_unfinished_comes_back_as_it_was) {
  accept_message(1, &(struct plan){.recipients = 5, .content = 3000});
  accept_message(2, &(struct plan){.recipients = 2});
  accept_message(3, &(struct plan){0}); /* never tried */
  answer_done(0, RECORD_DELIVERED);
  answer_done(1, RECORD_FAILED);
  answer_done(2, RECORD_EXPIRED);
  answer_defer(3, 7000);
  answer_defer(4, 8000);
  answer_done(5, RECORD_DELIVERED);
  answer_done(6, RECORD_DELIVERED);
  pass(7000);
  answer_defer(8, 9000);
  restart();
  ck_assert_uint_eq(schedule.messages, 2);
  struct message *message = first_of(SCHEDULE_STORED);
  ck_assert_uint_eq(message->id, 1);
  ck_assert_uint_eq(message->live, 2);
  ck_assert_uint_eq(message->size, 3000);
  ck_assert_uint_eq(message->recipient[3].attempts, 2);
  ck_assert_uint_eq(message->recipient[3].due_ms, START_WALL_MS + 16000);
  ck_assert_uint_eq(message->recipient[4].attempts, 1);
  ck_assert_uint_eq(message->recipient[4].due_ms, START_WALL_MS + 8000);
  ck_assert_uint_eq(fake_spool_live(&spool), 2);
  schedule_begin(&schedule);
  expect_counts(2, 3, 0);
  pass(0);
  ck_assert_uint_eq(due_count, 1);
  ck_assert_uint_eq(due[0].message->id, 3);
  pass(8000);
  ck_assert_uint_eq(due_count, 2);
  pass(8000);
  ck_assert_uint_eq(due_count, 3);
  struct wish wish;
  ask(&wish, message, 0);
  for (unsigned turns = 0; turns < 20 && wish.calls == 0; turns++) spool_turn(&spool, 0);
  check_content(message->content, 1, 3000);
  for (unsigned i = 0; i < 3; i++) answer_done(i, RECORD_DELIVERED);
  expect_nothing_left();
}
END_TEST

/* Of what had an outcome, or was there at an orderly stop, the Reception is written; of the rest it may not be. */
START_TEST(what_may_not_have_been_told_of_is_known) {
  accept_message(1, &(struct plan){0});
  accept_message(2, &(struct plan){0});
  accept_message(3, &(struct plan){.recipients = 2});
  pass(0);
  answer_defer(0, 9000);
  answer_done(3, RECORD_FAILED);
  restart();
  ck_assert_uint_eq(schedule.messages, 3);
  for (struct message *m = first_of(SCHEDULE_STORED); m != NULL; m = m->next) ck_assert_int_eq(m->untold, m->id == 2);
  ck_assert(schedule_all_told(&schedule));
  spool_turn(&spool, 0);
  put_on_disk(4, &(struct plan){0});
  put_on_disk(5, &(struct plan){.attempts = 2}); /* moved: it is not new */
  restart();
  ck_assert_uint_eq(schedule.messages, 5);
  for (struct message *m = first_of(SCHEDULE_STORED); m != NULL; m = m->next) ck_assert_int_eq(m->untold, m->id == 4);
}
END_TEST

START_TEST(nothing_is_left_nothing_need_be_told) {
  ck_assert(!schedule_all_told(&schedule));
  spool_turn(&spool, 0);
  ck_assert_uint_eq(spool.items_count, 0);
}
END_TEST

START_TEST(a_record_written_anew_wins) {
  put_on_disk(5, &(struct plan){.recipients = 4});
  uint8_t room[RECORD_OUTCOME_SIZE];
  record_outcome_encode(&(struct record_outcome){.kind = RECORD_DELIVERED, .id = 5, .recipient = 0, .attempts = 1}, room);
  spool_append_outcome(&spool, span_of(room, sizeof room));
  record_outcome_encode(&(struct record_outcome){.kind = RECORD_DEFERRED, .id = 5, .recipient = 3, .attempts = 4, .due_ms = 99}, room);
  put_on_disk(5, &(struct plan){.recipients = 4, .skip = 2, .attempts = 3, .due_ms = 42}); /* number 1 ended, too */
  spool_append_outcome(&spool, span_of(room, sizeof room));
  restart();
  ck_assert_uint_eq(schedule.messages, 1);
  ck_assert_uint_eq(first_of(SCHEDULE_STORED)->live, 2);
  ck_assert_uint_eq(first_of(SCHEDULE_STORED)->recipient[0].index, 2);
  ck_assert_uint_eq(first_of(SCHEDULE_STORED)->recipient[0].attempts, 3);
  ck_assert_uint_eq(first_of(SCHEDULE_STORED)->recipient[0].due_ms, 42);
  ck_assert_uint_eq(first_of(SCHEDULE_STORED)->recipient[1].attempts, 4);
  ck_assert_uint_eq(first_of(SCHEDULE_STORED)->recipient[1].due_ms, 99);
  ck_assert_uint_eq(fake_spool_live(&spool), 1);
  schedule_begin(&schedule);
  pass(0);
  ck_assert_uint_eq(due_count, 2);
  answer_done(0, RECORD_DELIVERED);
  answer_done(1, RECORD_DELIVERED);
  spool_turn(&spool, 0);
  ck_assert_uint_eq(fake_spool_outcome(&spool, 5, 2).kind, RECORD_DELIVERED); /* by the number it came with */
  ck_assert_uint_eq(fake_spool_outcome(&spool, 5, 3).kind, RECORD_DELIVERED);
  expect_nothing_left();
}
END_TEST

START_TEST(a_long_message_has_all_its_parts_or_is_none) {
  struct plan part = {.type = RECORD_PART, .content = 1000};
  for (uint32_t i = 0; i < 20; i++) { /* more than the table of parts begins with */
    part.number = 19 - i;
    put_on_disk(1, &part);
  }
  put_on_disk(1, &(struct plan){.parts = 20, .content = 10});
  part.number = 0;
  put_on_disk(2, &part); /* its end never came */
  put_on_disk(3, &part); /* number 1 is missing */
  part.number = 2;
  put_on_disk(3, &part);
  put_on_disk(3, &(struct plan){.parts = 3});
  put_on_disk(4, &(struct plan){.parts = 1}); /* of the only one nothing is there */
  restart();
  ck_assert_uint_eq(schedule.messages, 1);
  struct message *message = first_of(SCHEDULE_LONG);
  ck_assert_uint_eq(message->id, 1);
  ck_assert_uint_eq(message->size, 20010);
  ck_assert_uint_eq(message->parts_count, 20);
  ck_assert_uint_eq(fake_spool_live(&spool), 21);
  schedule_begin(&schedule);
  pass(0);
  for (uint32_t i = 0; i < 20; i++) {
    struct wish wish;
    ask(&wish, message, i);
    spool_turn(&spool, 0);
    ck_assert(wish.calls == 1 && wish.error == E_OK);
    check_content(wish.load.content, 1, 1000);
    content_free(&slab, wish.load.content);
  }
  answer_done(0, RECORD_DELIVERED);
  expect_nothing_left();
}
END_TEST

/*
 * The copy is durable while a job is still reading the part, a piece at a time: it goes on where it began, and only then the old place is forgotten.
 */
START_TEST(what_is_being_read_is_not_forgotten_by_a_move) {
  put_on_disk(1, &(struct plan){.type = RECORD_PART, .content = 150000, .recipients = 2});
  put_on_disk(1, &(struct plan){.parts = 1, .content = 10, .recipients = 2});
  restart();
  schedule_begin(&schedule);
  pass(0);
  struct message *message = first_of(SCHEDULE_LONG);
  struct spool_place old = message->parts[0];
  answer_done(0, RECORD_DELIVERED);
  spool_turn(&spool, 0);
  spool.hold = true;
  spool.move_ask(spool.move_context, 1, false);
  pass(0);
  for (unsigned turns = 0; turns < 10 && spool.appends_count == 0; turns++) spool_turn(&spool, 0);
  struct wish wish;
  ask(&wish, message, 0);
  spool_turn(&spool, 0);
  spool.hold = false;
  spool.hold_reads = true;
  spool_turn(&spool, 0);
  pass(0);
  ck_assert(message->parts[0].segment != 0 && message->parts[0].offset != old.offset);
  ck_assert(item_at(&spool, old)->live && wish.calls == 0);
  spool.hold_reads = false;
  for (unsigned turns = 0; turns < 10 && wish.calls == 0; turns++) spool_turn(&spool, 0);
  ck_assert(wish.calls == 1 && wish.error == E_OK);
  check_content(wish.load.content, 1, 150000);
  content_free(&slab, wish.load.content);
  pass(0);
  ck_assert(!item_at(&spool, old)->live);
  for (unsigned turns = 0; turns < 10; turns++, pass(0)) spool_turn(&spool, 0);
  ck_assert_uint_eq(schedule.mover.moves, 0);
  ck_assert_uint_eq(fake_spool_live(&spool), 2);
  answer_done(1, RECORD_DELIVERED);
  expect_nothing_left();
}
END_TEST

START_TEST(a_part_that_was_moved_counts_once) {
  struct plan part = {.type = RECORD_PART, .content = 1000};
  put_on_disk(1, &part);
  put_on_disk(1, &(struct plan){.parts = 1, .content = 10});
  put_on_disk(1, &part);
  restart();
  ck_assert_uint_eq(schedule.messages, 1);
  ck_assert_uint_eq(first_of(SCHEDULE_LONG)->size, 1010);
  ck_assert_uint_eq(fake_spool_live(&spool), 2);
}
END_TEST

START_TEST(the_newest_id_is_known_even_of_what_is_over) {
  uint64_t newest_id = 0, damaged;
  uint8_t room[128];
  struct fmt why = fmt_over(room, sizeof room);
  put_on_disk(9, &(struct plan){.type = RECORD_PART, .content = 10});
  put_on_disk(4, &(struct plan){0});
  ck_assert_int_eq(restore_schedule(&schedule, &newest_id, &damaged, &why), E_OK);
  ck_assert_uint_eq(newest_id, 9);
}
END_TEST

START_TEST(outcomes_that_fit_nothing_change_nothing) {
  uint8_t room[RECORD_OUTCOME_SIZE];
  put_on_disk(5, &(struct plan){.recipients = 2});
  for (unsigned i = 0; i < 4; i++) {
    record_outcome_encode(&(struct record_outcome){.kind = RECORD_DELIVERED, .id = i < 2 ? 6 : 5, .recipient = (uint16_t)(i < 2 ? i : 7 + i)}, room);
    spool_append_outcome(&spool, span_of(room, sizeof room));
  }
  spool_append_outcome(&spool, SPAN("nonsense"));
  record_outcome_encode(&(struct record_outcome){.kind = RECORD_DELIVERED, .id = 5, .recipient = 1, .attempts = 1}, room);
  spool_append_outcome(&spool, span_of(room, sizeof room));
  spool_append_outcome(&spool, span_of(room, sizeof room)); /* twice: it counts once */
  restart();
  ck_assert_uint_eq(schedule.messages, 1);
  ck_assert_uint_eq(first_of(SCHEDULE_STORED)->live, 1);
}
END_TEST

START_TEST(without_memory_at_the_start_nothing_on_disk_is_given_up) {
  struct plan part = {.type = RECORD_PART, .content = 1000};
  put_on_disk(1, &part);
  put_on_disk(1, &(struct plan){.parts = 1, .content = 10});
  put_on_disk(2, &(struct plan){0});
  put_on_disk(3, &part);
  fake_spool_restart(&spool);
  fake_slab_requests_left = 0;
  uint64_t newest_id = 0, damaged;
  uint8_t room[128];
  struct fmt why = fmt_over(room, sizeof room);
  ck_assert_int_eq(restore_schedule(&schedule, &newest_id, &damaged, &why), E_OK);
  fake_slab_requests_left = UINT64_MAX;
  ck_assert_uint_eq(newest_id, 3);
  ck_assert_uint_eq(schedule.messages, 0);
  ck_assert_uint_eq(fake_spool_live(&spool), 3); /* all but the part that never had a message */
  ck_assert_uint_eq(schedule.unloaded, 2);
  restart();
  ck_assert_uint_eq(schedule.messages, 2);
}
END_TEST

static void put_outcome(uint64_t id, enum record_outcome_kind kind) {
  uint8_t room[RECORD_OUTCOME_SIZE];
  record_outcome_encode(&(struct record_outcome){.kind = kind, .id = id, .attempts = 1}, room);
  spool_append_outcome(&spool, span_of(room, sizeof room));
  spool_turn(&spool, 0);
}

/* A part of the memory stays for jobs and content; what ended is not in the way of what did not. */
START_TEST(messages_do_not_take_all_memory_at_the_start) {
  uint64_t taken = slab_size(sizeof(struct message) + sizeof(struct recipient) + 24);
  for (uint64_t id = 1; id <= 200; id++) {
    put_on_disk(id, &(struct plan){0});
    if (id > 20 && id <= 100) put_outcome(id, RECORD_DELIVERED);
  }
  slab.limit_bytes = 100 * taken;
  restart();
  ck_assert_uint_eq(schedule.messages, 75);
  ck_assert_uint_eq(schedule.unloaded, 120 - 75);
  ck_assert_uint_eq(fake_spool_live(&spool), 120);
  slab.limit_bytes = 64 << 20;
}
END_TEST

/* Nor is it waited for if its end is read later; but of several recipients nobody can tell. */
START_TEST(what_did_not_fit_and_ended_is_forgotten) {
  put_on_disk(1, &(struct plan){0});
  put_on_disk(2, &(struct plan){.type = RECORD_PART, .content = 1000});
  put_on_disk(2, &(struct plan){.parts = 1});
  put_on_disk(3, &(struct plan){0});
  put_on_disk(4, &(struct plan){.recipients = 2});
  put_on_disk(5, &(struct plan){0});
  put_on_disk(5, &(struct plan){0}); /* written anew */
  put_outcome(1, RECORD_DEFERRED);
  for (uint64_t id = 2; id <= 4; id++) put_outcome(id, RECORD_DELIVERED);
  slab.limit_bytes = 1;
  restart();
  ck_assert_uint_eq(schedule.messages, 0);
  ck_assert_uint_eq(schedule.unloaded, 3);
  ck_assert_uint_eq(fake_spool_live(&spool), 3);
  slab.limit_bytes = 64 << 20;
}
END_TEST

/* Outcomes of before stand behind a new record in the same commit; the newer state is the record's. */
START_TEST(an_older_deferral_does_not_undo_a_newer_record) {
  put_on_disk(5, &(struct plan){.attempts = 3, .due_ms = 42});
  put_outcome(5, RECORD_DEFERRED);
  restart();
  ck_assert_uint_eq(first_of(SCHEDULE_STORED)->recipient[0].attempts, 3);
  ck_assert_uint_eq(first_of(SCHEDULE_STORED)->recipient[0].due_ms, 42);
}
END_TEST

/* ---- any order ---- */

static uint64_t chance;
static uint32_t any(uint32_t below) {
  chance = chance * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(chance >> 33) % below;
}

#define ANY_MESSAGES 6
#define ANY_RECIPIENTS 5
static unsigned ends[ANY_MESSAGES][ANY_RECIPIENTS]; /* how often each ended */

/* Entry `at` of the due list ends in one way or another; its job may outlive the outcome. */
static void any_answer(unsigned at) {
  struct due entry = due[at];
  due[at] = due[--due_count];
  if (any(5) == 0) {
    schedule_hold(&schedule, entry.message, entry.recipient, shard.wall_ms + any(5000));
  } else if (any(3) == 0) {
    schedule_defer(&schedule, entry.message, entry.recipient, shard.wall_ms + any(3000), any(2) == 0);
  } else {
    ends[entry.message->id - 1][entry.message->recipient[entry.recipient].index]++;
    schedule_done(&schedule, entry.message, entry.recipient, any(2) == 0 ? RECORD_DELIVERED : RECORD_FAILED);
  }
  schedule_job_ended(&schedule, entry.message);
}

struct any_wish {
  struct wish wish;
  bool under_way;
};

static void any_load(struct any_wish *wishes) {
  struct any_wish *free_one = NULL;
  for (unsigned i = 0; i < 4; i++) {
    if (wishes[i].under_way && wishes[i].wish.calls > 0) {
      wishes[i].under_way = false;
      schedule_job_ended(&schedule, wishes[i].wish.load.message);
    }
    if (!wishes[i].under_way) free_one = &wishes[i];
  }
  if (free_one == NULL || due_count == 0) return;
  struct message *message = due[any(due_count)].message;
  schedule_job_began(message);
  free_one->under_way = true;
  ask(&free_one->wish, message, 0);
}

/* An operator's retry, or bounce, of some that wait. */
static void any_operation(void) {
  struct domain_queue *queue = schedule.domains.first;
  for (unsigned skip = any(3); skip > 0 && queue->next != NULL; skip--) queue = queue->next;
  for (unsigned count = any(4); count > 0 && due_count < DUE_MAX / 2; count--) {
    unsigned recipient;
    struct message *message = domain_queue_rotate(queue, &recipient);
    if (message == NULL) return;
    if (any(3) > 0) {
      schedule_retry(&schedule, message, recipient);
      continue;
    }
    schedule_job_began(message);
    schedule_take(&schedule, message, recipient);
    ends[message->id - 1][message->recipient[recipient].index]++;
    schedule_done(&schedule, message, recipient, RECORD_FAILED);
    schedule_job_ended(&schedule, message);
  }
}

static void any_step(struct any_wish *wishes) {
  check_queues();
  switch (any(7)) {
  case 0:
  case 1:
    if (due_count > 0) any_answer(any(due_count));
    break;
  case 2: pass(any(2000)); break;
  case 3: any_load(wishes); break;
  case 5: any_operation(); break;
  case 4:
    spool.hold = any(2) == 0;
    spool.hold_reads = any(2) == 0;
    spool.fail_append = spool.durability == SPOOL_MEMORY && any(4) == 0 ? E_NO_SPACE : E_OK;
    spool.fail_read = any(4) == 0 ? E_IO : E_OK;
    fake_slab_requests_left = any(8) == 0 ? any(4) : UINT64_MAX;
    break;
  default: spool_turn(&spool, 0); break;
  }
}

static void any_run(uint64_t seed) {
  struct any_wish wishes[4] = {0};
  chance = seed;
  memset(ends, 0, sizeof ends);
  spool.durability = any(2) == 0 ? SPOOL_SYNC : SPOOL_MEMORY;
  unsigned recipients[ANY_MESSAGES];
  for (unsigned i = 0; i < ANY_MESSAGES; i++) {
    spool.fail_append = E_OK;
    spool.hold = false;
    fake_slab_requests_left = UINT64_MAX;
    recipients[i] = 1 + any(ANY_RECIPIENTS);
    accept_message(i + 1, &(struct plan){.recipients = recipients[i], .content = any(3) * 40000, .due_ms = any(2) * (START_WALL_MS + 500)});
    for (unsigned step = any(40); step > 0; step--) any_step(wishes);
  }
  for (unsigned step = 0; step < 100; step++) any_step(wishes);
  spool.hold = spool.hold_reads = false; /* faults off: now all has to end */
  spool.fail_append = spool.fail_read = E_OK;
  fake_slab_requests_left = UINT64_MAX;
  for (unsigned step = 0; step < 3000 && (schedule.messages > 0 || step < 40); step++) {
    pass(3000);
    while (due_count > 0) any_answer(0);
    for (unsigned i = 0; i < 4; i++) any_load(wishes);
    spool_turn(&spool, 0);
  }
  for (unsigned i = 0; i < ANY_MESSAGES; i++)
    for (unsigned r = 0; r < recipients[i]; r++) ck_quick_msg(ends[i][r] == 1, "seed %llu: message %u recipient %u", (unsigned long long)seed, i, r);
  expect_nothing_left();
}

START_TEST(in_any_order_every_recipient_ends_once_and_nothing_is_left) {
  for (uint64_t seed = 1; seed <= 400; seed++) any_run(seed);
}
END_TEST

int main(void) {
  TCase *way = tcase_create("way"), *memory = tcase_create("memory"), *load = tcase_create("load"), *start = tcase_create("restart"),
        *order = tcase_create("order");
  TCase *const cases[] = {way, memory, load, start, order};
  for (unsigned i = 0; i < 5; i++) tcase_add_checked_fixture(cases[i], open_world, close_world);
  tcase_set_timeout(order, 120);
  tcase_add_test(way, delivered_at_once);
  tcase_add_test(way, each_recipient_has_its_own_outcome);
  tcase_add_test(way, an_attempt_is_counted_if_there_was_one);
  tcase_add_test(way, what_is_not_due_yet_waits);
  tcase_add_test(way, a_clock_that_is_set_makes_nobody_early_or_late);
  tcase_add_test(way, a_clock_that_is_set_back_keeps_the_order);
  tcase_add_test(way, nobody_waits_longer_than_may_be);
  tcase_add_test(way, a_time_further_than_the_wheel_goes);
  tcase_add_test(way, answers_may_come_at_once);
  tcase_add_test(way, memory_is_kept_low);
  tcase_add_test(way, all_is_freed_at_the_end);
  tcase_add_test(way, what_is_suspended_waits_for_a_retry_or_its_end);
  tcase_add_test(way, a_message_is_found_wherever_it_is);
  tcase_add_test(memory, what_is_suspended_is_due_at_once_after_a_restart);
  tcase_add_test(memory, in_memory_mode_nothing_is_stored_that_is_delivered);
  tcase_add_test(memory, in_memory_mode_the_first_deferral_stores);
  tcase_add_test(memory, in_memory_mode_a_write_that_fails_is_tried_again);
  tcase_add_test(memory, before_a_stop_all_is_stored);
  tcase_add_test(memory, without_memory_messages_are_stored_one_by_one);
  tcase_add_test(load, content_comes_back_from_disk);
  tcase_add_test(load, a_read_that_fails_is_told_to_all_who_asked);
  tcase_add_test(load, bytes_that_changed_on_disk_are_seen);
  tcase_add_test(load, without_memory_nothing_is_loaded);
  tcase_add_test(load, the_last_outcome_may_come_during_a_load);
  tcase_add_test(start, what_is_unfinished_comes_back_as_it_was);
  tcase_add_test(start, what_may_not_have_been_told_of_is_known);
  tcase_add_test(start, nothing_is_left_nothing_need_be_told);
  tcase_add_test(start, a_record_written_anew_wins);
  tcase_add_test(start, a_long_message_has_all_its_parts_or_is_none);
  tcase_add_test(start, what_is_being_read_is_not_forgotten_by_a_move);
  tcase_add_test(start, a_part_that_was_moved_counts_once);
  tcase_add_test(start, the_newest_id_is_known_even_of_what_is_over);
  tcase_add_test(start, outcomes_that_fit_nothing_change_nothing);
  tcase_add_test(start, without_memory_at_the_start_nothing_on_disk_is_given_up);
  tcase_add_test(start, messages_do_not_take_all_memory_at_the_start);
  tcase_add_test(start, what_did_not_fit_and_ended_is_forgotten);
  tcase_add_test(start, an_older_deferral_does_not_undo_a_newer_record);
  tcase_add_test(order, in_any_order_every_recipient_ends_once_and_nothing_is_left);
  return unit_main("queue/schedule", cases, 5);
}
