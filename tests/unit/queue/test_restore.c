/* What a start reads back from the spool: as it was, as a whole or not at all, and within the memory there is. */
#include "tests/unit/queue/schedule_world.c"

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

int main(void) {
  TCase *start = tcase_create("restart");
  TCase *const cases[] = {start};
  for (unsigned i = 0; i < 1; i++) tcase_add_checked_fixture(cases[i], open_world, close_world);
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
  return unit_main("queue/restore", cases, 1);
}
