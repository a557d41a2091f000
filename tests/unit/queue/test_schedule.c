/* The way of a message from its 250 to its last outcome, what operators do with it, and what is only in memory. */
#include "tests/unit/queue/schedule_world.c"

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

static struct message *find(uint64_t id, unsigned budget) {
  struct message *message;
  schedule_find_begin(&schedule, id);
  while (!schedule_find_on(&schedule, budget, &message)) ck_assert_ptr_null(message);
  return message;
}

START_TEST(a_message_is_found_wherever_it_is) {
  struct message *stored = accept_message(1, &(struct plan){0});
  spool.durability = SPOOL_MEMORY;
  struct message *fresh = accept_message(2, &(struct plan){0});
  ck_assert(only(stored) && only(fresh));
  for (unsigned budget = 1; budget < 9; budget++) {
    ck_assert_ptr_eq(find(1, budget), stored);
    ck_assert_ptr_eq(find(2, budget), fresh);
    ck_assert_ptr_null(find(3, budget));
  }
  answer_done(0, RECORD_DELIVERED);
  answer_done(1, RECORD_DELIVERED);
  ck_assert_ptr_null(find(1, 9));
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

int main(void) {
  TCase *way = tcase_create("way"), *memory = tcase_create("memory");
  TCase *const cases[] = {way, memory};
  for (unsigned i = 0; i < 2; i++) tcase_add_checked_fixture(cases[i], open_world, close_world);
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
  return unit_main("queue/schedule", cases, 2);
}
