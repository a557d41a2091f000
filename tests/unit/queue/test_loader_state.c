/* What was on disk comes into memory as it is now, is told of once, and does no harm when it cannot be read. */
#include "tests/unit/queue/loader_world.c"

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
  put_outcome(1, 4, RECORD_OWED, 0, 0);
  restart_without_memory();
  ck_assert_uint_eq(schedule.unloaded, 1);
  turns(2);
  ck_assert_uint_eq(due_count, 2);
  const struct message *message = due[0].message;
  ck_assert(due[0].recipient == 1 && due[1].recipient == 4);
  ck_assert_uint_eq(message->live, 3);
  ck_assert_uint_eq(message->recipient[4].notify, RECORD_WARNED_BIT | RECORD_OWED_BIT);
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

/* The disk may have had a moment only. */
START_TEST(what_was_given_up_stays_so_though_it_can_be_read_again) {
  struct spool_place place = put_on_disk(1, &(struct plan){.recipients = 5, .first = 2, .created_ms = START_WALL_MS - MAX_AGE_MS + 1000});
  put_outcome(1, 3, RECORD_DELIVERED, 1, 0);
  put_outcome(1, 4, RECORD_DEFERRED, 2, START_WALL_MS);
  restart_without_memory();
  *byte_on_disk(place, RECORD_HEADER_SIZE + 40) ^= 1;
  for (unsigned i = 0; i < 100; i++) pass(1000);
  ck_assert_uint_eq(news.given_up, 1);
  expect_nothing_left();
  *byte_on_disk(place, RECORD_HEADER_SIZE + 40) ^= 1;
  restart_with(_i == 0 ? MEMORY : 1);
  slab.limit_bytes = MEMORY;
  turns(5);
  ck_assert_uint_eq(news.loaded, 0);
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

int main(void) {
  TCase *state = tcase_create("state"), *told = tcase_create("told"), *damage = tcase_create("damage");
  TCase *const cases[] = {state, told, damage};
  for (unsigned i = 0; i < 3; i++) tcase_add_checked_fixture(cases[i], open_world, close_world);
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
  tcase_add_loop_test(damage, what_was_given_up_stays_so_though_it_can_be_read_again, 0, 2);
  tcase_add_test(damage, an_envelope_that_is_none_is_given_up);
  return unit_main("queue/loader: state", cases, 3);
}
