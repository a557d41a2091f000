/* What a start left on disk is taken up: how much and when, with the mover, and in any order. */
#include "tests/unit/queue/loader_world.c"

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

static bool is_on_disk_only(uint64_t id, unsigned budget) {
  uint32_t cursor = 0;
  bool found;
  while (!unloaded_find(&schedule.loader.list, id, &cursor, budget, &found)) ck_quick(!found);
  return found;
}

START_TEST(it_is_known_which_wait_on_disk) {
  bool is_held = true;
  for (uint64_t id = 1; id <= 40; id++) put_on_disk(id, &(struct plan){0});
  restart_without_memory();
  slab.limit_bytes = size_of_one() * 20;
  pass(0);
  turn();
  turns(5);
  for (uint64_t id = 1; id <= 41; id++) {
    bool is_loaded = false;
    for (unsigned i = 0; i < due_count; i++) is_loaded |= due[i].message->id == id;
    is_held &= is_loaded;
    for (unsigned budget = 1; budget < 60; budget += 19) ck_quick(is_on_disk_only(id, budget) == (!is_loaded && id <= 40));
  }
  ck_assert(!is_held && due_count > 0);
  while (schedule.messages > 0 || schedule.unloaded > 0) {
    while (due_count > 0) answer(0, RECORD_DELIVERED);
    turn();
  }
  ck_assert(!is_on_disk_only(40, 7)); /* the list itself is gone */
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
  TCase *when = tcase_create("when"), *mover = tcase_create("mover"), *order = tcase_create("order");
  TCase *const cases[] = {when, mover, order};
  for (unsigned i = 0; i < 3; i++) tcase_add_checked_fixture(cases[i], open_world, close_world);
  tcase_set_timeout(order, 120);
  tcase_add_test(when, what_did_not_fit_is_taken_up_oldest_first);
  tcase_add_test(when, it_is_known_which_wait_on_disk);
  tcase_add_test(when, there_is_no_read_for_each_byte_that_gets_free);
  tcase_add_test(when, under_pressure_each_end_lets_one_in);
  tcase_add_test(when, what_is_past_its_age_comes_first_though_nothing_ends);
  tcase_add_test(when, the_loop_is_woken_while_something_waits);
  tcase_add_test(when, without_memory_for_a_message_it_waits);
  tcase_add_test(when, a_stop_takes_nothing_up);
  tcase_add_test(when, an_end_gives_up_what_is_being_read);
  tcase_add_test(mover, a_segment_it_holds_is_cleared_in_the_end);
  tcase_add_test(order, in_any_order_and_life_every_recipient_ends_once);
  return unit_main("queue/loader", cases, 3);
}
