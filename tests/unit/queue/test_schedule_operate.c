/* What operators need of the schedule: a message is found by its id while others come, go and move; and many recipients of one message change their state without all being looked at each time. */
#include "queue/schedule.h"

#include "tests/unit/queue/fake_slab.c"
#include "tests/unit/queue/fake_spool.c"

#include "tests/lib/unit.h"

#define START_WALL_MS 1000000
#define MANY 60000

static struct slab slab;
static struct spool spool;
static struct shard shard;
static struct counters counters;
static struct schedule schedule;
static unsigned due[MANY], due_count;

static void when_due(void *context, struct message *message, unsigned recipient) {
  (void)context;
  (void)message;
  due[due_count++] = recipient;
}

static void open_world(void) {
  slab_init(&slab, 64 << 20);
  shard.now_ms = 500;
  shard.wall_ms = START_WALL_MS;
  wheel_init(&shard.wheel, shard.now_ms);
  schedule_init(&schedule, &shard, &slab, &spool, &counters, when_due, &schedule);
  due_count = 0;
}

static void close_world(void) {
  schedule_fini(&schedule);
  fake_spool_free(&spool);
  slab_fini(&slab);
}

static void pass(uint64_t ms) {
  shard.now_ms += ms;
  shard.wall_ms += ms;
  wheel_advance(&shard.wheel, shard.now_ms, NULL, 1000);
}

static struct message *make_message(uint64_t id, unsigned recipients) {
  size_t size = 200 + (size_t)recipients * 64;
  uint8_t *room = malloc(size);
  struct fmt out = fmt_over(room, size);
  record_envelope_encode(&(struct record_envelope){.sender = SPAN("s@example.org"), .created_ms = START_WALL_MS, .recipients = recipients}, &out);
  for (unsigned i = 0; i < recipients; i++)
    record_recipient_encode(&(struct record_recipient){.address = SPAN("r@example.net"), .index = (uint16_t)i}, &out);
  struct message *message = message_new(&slab, id, fmt_span(&out));
  ck_assert_ptr_nonnull(message);
  free(room);
  return message;
}

/* ---- looking for one ---- */

static uint32_t chance;
static uint32_t any(uint32_t below) {
  chance = chance * 1664525u + 1013904223u;
  return (chance >> 8) % below;
}

#define THERE 24
static struct message *there[THERE];
static uint32_t segment; /* the newest */
static uint64_t next_id;

static struct message *come(void) {
  struct message *message = make_message(next_id++, 1);
  unsigned kind = any(3);
  if (kind > 0) message->place = (struct spool_place){.segment = kind == 1 ? segment : 1 + any(3), .length = 512};
  message->late = kind == 2;
  schedule_link(&schedule, message);
  return message;
}

static void go(unsigned at) {
  schedule_unlink(&schedule, there[at]);
  message_free(&slab, there[at]);
  there[at] = come();
}

static void any_change(uint64_t but) {
  unsigned at = any(THERE);
  for (unsigned i = 0; any(4) == 0 && i < THERE; i++) /* it above all */
    if (there[i]->id == but) at = i;
  if (any(4) == 0) segment++;
  if (any(3) > 0) { /* it is stored for the first time, or anew */
    schedule_set_place(&schedule, there[at], there[at]->parts_count, (struct spool_place){.segment = segment, .length = 512});
  } else if (there[at]->id != but) {
    go(at);
  }
}

static struct message *find(uint64_t id, uint64_t but) {
  struct message *message;
  unsigned steps = 0;
  schedule_find_begin(&schedule, id);
  while (!schedule_find_on(&schedule, 1 + any(3), &message)) {
    ck_quick(message == NULL && ++steps < 10000);
    for (unsigned changes = any(3); changes > 0; changes--) any_change(but);
  }
  return message;
}

START_TEST(who_was_there_all_the_time_is_found) {
  for (uint32_t seed = 1; seed <= 3000; seed++) {
    chance = seed;
    segment = 10;
    next_id = 1;
    for (unsigned i = 0; i < THERE; i++) there[i] = come();
    uint64_t id = there[any(THERE)]->id;
    const struct message *found = find(id, id);
    ck_quick_msg(found != NULL && found->id == id, "seed %u", seed);
    ck_quick(find(UINT64_MAX, 0) == NULL);
    for (unsigned i = 0; i < THERE; i++) {
      schedule_unlink(&schedule, there[i]);
      message_free(&slab, there[i]);
    }
  }
}
END_TEST

START_TEST(a_second_search_takes_the_place_of_the_first) {
  struct message *message;
  segment = 10;
  next_id = 1;
  for (unsigned i = 0; i < THERE; i++) there[i] = come();
  schedule_find_begin(&schedule, 3);
  ck_assert(!schedule_find_on(&schedule, 2, &message));
  schedule_find_begin(&schedule, 5);
  ck_assert(schedule_find_on(&schedule, 100, &message));
  ck_assert_uint_eq(message->id, 5);
  ck_assert(schedule_find_on(&schedule, 100, &message)); /* it is over */
  ck_assert_ptr_null(message);
}
END_TEST

/* ---- many recipients of one message ---- */

START_TEST(who_leaves_makes_nobody_early_or_late) {
  struct message *message = make_message(7, 4);
  schedule_job_began(message);
  schedule_add(&schedule, message);
  for (unsigned i = 0; i < 4; i++) schedule_defer(&schedule, message, i, shard.wall_ms + 1000 * (i + 1), false);
  due_count = 0;
  schedule_take(&schedule, message, 0); /* the first: the timer is for it */
  pass(1999);
  ck_assert_uint_eq(due_count, 0);
  pass(1);
  ck_assert(due_count == 1 && due[0] == 1);
  schedule_set_due(&schedule, message, 2, shard.wall_ms + 5000); /* it was the next, */
  pass(1999);
  ck_assert_uint_eq(due_count, 1);
  pass(1);
  ck_assert(due_count == 2 && due[1] == 3);
  schedule_set_due(&schedule, message, 2, shard.wall_ms + 10); /* ... and is again */
  pass(9);
  ck_assert_uint_eq(due_count, 2);
  pass(1);
  ck_assert(due_count == 3 && due[2] == 2);
  for (unsigned i = 0; i < 4; i++) schedule_done(&schedule, message, i, RECORD_DELIVERED);
  schedule_job_ended(&schedule, message);
  ck_assert_uint_eq(shard.wheel.count, 0);
  ck_assert_uint_eq(slab.used_bytes, 0);
}
END_TEST

/* Timers of messages that have long gone elsewhere would keep the shard awake. */
START_TEST(the_only_one_leaves_no_timer) {
  struct message *message = make_message(7, 1);
  schedule_job_began(message);
  schedule_add(&schedule, message);
  schedule_defer(&schedule, message, 0, shard.wall_ms + 1000, false);
  ck_assert_uint_eq(shard.wheel.count, 1);
  schedule_take(&schedule, message, 0);
  ck_assert_uint_eq(shard.wheel.count, 0);
  schedule_done(&schedule, message, 0, RECORD_DELIVERED);
  schedule_job_ended(&schedule, message);
}
END_TEST

START_TEST(a_clock_that_was_set_back_keeps_nobody_waiting_because_another_left) {
  struct message *message = make_message(7, 2);
  schedule.wait_max_ms = 10000;
  schedule_job_began(message);
  schedule_add(&schedule, message);
  for (unsigned i = 0; i < 2; i++) schedule_defer(&schedule, message, i, shard.wall_ms + 1000 * (i + 1), false);
  due_count = 0;
  shard.wall_ms -= 900000;
  schedule_take(&schedule, message, 0);
  pass(1000); /* the timer was for who left */
  pass(9999);
  ck_assert_uint_eq(due_count, 0);
  pass(1);
  ck_assert(due_count == 1 && due[0] == 1); /* after no longer than anybody waits */
  for (unsigned i = 0; i < 2; i++) schedule_done(&schedule, message, i, RECORD_DELIVERED);
  schedule_job_ended(&schedule, message);
}
END_TEST

/* _i more wait with it, for longer: the timer is set anew for who got another time. */
START_TEST(a_clock_that_is_set_back_keeps_nobody_waiting_who_got_another_time) {
  unsigned recipients = 1 + (unsigned)_i;
  struct message *message = make_message(7, recipients);
  schedule_job_began(message);
  schedule_add(&schedule, message);
  for (unsigned i = 0; i < recipients; i++) schedule_defer(&schedule, message, i, shard.wall_ms + 5000 + i, false);
  due_count = 0;
  schedule_set_due(&schedule, message, 0, shard.wall_ms + 1000);
  shard.wall_ms -= 900000;
  pass(999);
  ck_assert_uint_eq(due_count, 0);
  pass(1);
  ck_assert(due_count >= 1 && due[0] == 0);
  for (unsigned i = 0; i < recipients; i++) {
    if (message->recipient[i].state == RECIPIENT_WAITING) schedule_take(&schedule, message, i);
    schedule_done(&schedule, message, i, RECORD_DELIVERED);
  }
  schedule_job_ended(&schedule, message);
}
END_TEST

START_TEST(what_is_suspended_may_get_another_end) {
  struct message *message = make_message(7, 2);
  schedule_job_began(message);
  schedule_add(&schedule, message);
  for (unsigned i = 0; i < 2; i++) schedule_hold(&schedule, message, i, shard.wall_ms + 5000);
  due_count = 0;
  schedule_hold_until(&schedule, message, 0, shard.wall_ms + 100);
  schedule_hold_until(&schedule, message, 1, shard.wall_ms + 9000);
  ck_assert(message->recipient[0].held && schedule.held == 2);
  pass(100);
  ck_assert(due_count == 1 && due[0] == 0 && schedule.held == 1);
  pass(8899);
  ck_assert_uint_eq(due_count, 1);
  pass(1);
  ck_assert(due_count == 2 && due[1] == 1 && schedule.held == 0);
  for (unsigned i = 0; i < 2; i++) schedule_done(&schedule, message, i, RECORD_EXPIRED);
  schedule_job_ended(&schedule, message);
}
END_TEST

/* If each change looked at all of them, this would take minutes. */
START_TEST(tens_of_thousands_change_one_by_one) {
  struct message *message = make_message(7, MANY);
  schedule_job_began(message);
  schedule_add(&schedule, message);
  ck_assert_uint_eq(due_count, MANY);
  for (unsigned i = 0; i < MANY; i++) schedule_hold(&schedule, message, i, shard.wall_ms + 1000000 + i);
  for (unsigned i = 0; i < MANY; i++) schedule_hold_until(&schedule, message, i, shard.wall_ms + 900000 + i);
  for (unsigned i = 0; i < MANY; i++) schedule_set_due(&schedule, message, i, shard.wall_ms + 5000 + i);
  for (unsigned i = 0; i < MANY; i++) {
    due_count = 0;
    schedule_retry(&schedule, message, i);
    ck_quick(due_count == 1 && due[0] == i);
    schedule_defer(&schedule, message, i, shard.wall_ms + 6000 + i, true);
  }
  for (unsigned i = 0; i < MANY; i++) {
    schedule_take(&schedule, message, i);
    schedule_done(&schedule, message, i, RECORD_FAILED);
  }
  schedule_job_ended(&schedule, message);
  ck_assert_uint_eq(shard.wheel.count, 0);
}
END_TEST

int main(void) {
  TCase *search = tcase_create("search"), *many = tcase_create("many");
  TCase *const cases[] = {search, many};
  for (unsigned i = 0; i < 2; i++) tcase_add_checked_fixture(cases[i], open_world, close_world);
  tcase_set_timeout(search, 60);
  tcase_set_timeout(many, 5);
  tcase_add_test(search, who_was_there_all_the_time_is_found);
  tcase_add_test(search, a_second_search_takes_the_place_of_the_first);
  tcase_add_test(many, who_leaves_makes_nobody_early_or_late);
  tcase_add_test(many, the_only_one_leaves_no_timer);
  tcase_add_test(many, a_clock_that_was_set_back_keeps_nobody_waiting_because_another_left);
  tcase_add_loop_test(many, a_clock_that_is_set_back_keeps_nobody_waiting_who_got_another_time, 0, 2);
  tcase_add_test(many, what_is_suspended_may_get_another_end);
  tcase_add_test(many, tens_of_thousands_change_one_by_one);
  return unit_main("queue/schedule_operate", cases, 2);
}
