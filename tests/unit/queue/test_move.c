/* What stays for long is taken to the front of the spool, whatever happens to it meanwhile. */
#include "tests/unit/queue/move_world.c"

static struct message *message_of(uint64_t id) {
  for (unsigned i = 0; i < SCHEDULE_LISTS; i++)
    for (struct message *message = schedule.list[i].first; message != NULL; message = message->next)
      if (message->id == id) return message;
  return NULL;
}

static unsigned due_of(uint64_t id) {
  unsigned at = 0;
  while (at < due_count && due[at].message->id != id) at++;
  hold(at < due_count, "message %lu is not due", (unsigned long)id);
  return at;
}

/* Sends, and has all delivered but the recipients of `but`. */
static void stream(unsigned count, uint32_t content, uint64_t but) {
  for (unsigned i = 0; i < count; i++) {
    uint64_t id = send(1, content, 0);
    for (unsigned turns = 0; turns < 100 && !known[id].accepted && refused == 0; turns++) turn();
    ck_assert_uint_eq(refused, 0);
    for (unsigned at = due_count; at-- > 0;)
      if (due[at].message->id != but) answer_done(at);
    ck_assert_uint_le(spool_stats(spool)->disk_bytes, options.disk_max_bytes == 0 ? UINT64_MAX : options.disk_max_bytes);
    if (ids == IDS - 1) ids = but;
  }
}

static uint64_t send_straggler(unsigned recipients, uint32_t content, uint32_t parts) {
  uint64_t id = send(recipients, content, parts);
  for (unsigned turns = 0; turns < 100 && !known[id].accepted; turns++) turn();
  ck_assert(known[id].accepted);
  return id;
}

/* ---- one that waits, and a stream that passes ---- */

static void one_stays(enum spool_durability durability, uint32_t parts) {
  options.disk_max_bytes = (durability == SPOOL_SYNC ? 5 : 12) * SEGMENT_BYTES; /* without a sync a segment is retired later */
  options.durability = durability;
  open_all();
  uint64_t id = send_straggler(3, 6000, parts);
  answer_done(due_of(id));
  answer_defer(due_of(id), 3600 * 1000);
  answer_defer(due_of(id), 3600 * 1000 + 1);
  uint32_t first = message_of(id)->oldest;
  stream(3000, 3000, id);
  settle();
  struct message *message = message_of(id);
  ck_assert_uint_gt(message->oldest, first + 20);
  ck_assert_uint_gt(spool_stats(spool)->copied_forward, 20);
  if (message->content == NULL) ck_assert_uint_eq(message->jobs, 0);
  crash(true);
  ck_assert_uint_eq(schedule.messages, 1);
  message = message_of(id);
  ck_assert_uint_eq(message->live, 2);
  ck_assert_uint_eq(message->size, 6000 * (parts + 1));
  for (unsigned i = 0; i < 2; i++) {
    const struct recipient *recipient = &message->recipient[i];
    const struct kept *kept = &known[id].kept[recipient->index];
    ck_assert(!kept->done);
    ck_assert_uint_eq(recipient->attempts, 1);
    ck_assert_uint_eq(recipient->due_ms, kept->due_ms[1]);
  }
  for (uint32_t part = 0; part <= parts; part++) {
    struct wish *wish = &wishes[0];
    begin_wish(wish, message);
    for (unsigned turns = 0; turns < 100 && !wish->told; turns++) turn();
    ck_assert(wish->told);
    end_wishes();
  }
}

START_TEST(one_that_waits_does_not_keep_the_rest_on_disk) { one_stays(SPOOL_SYNC, 0); }
END_TEST
START_TEST(the_same_without_a_sync_for_each) { one_stays(SPOOL_LAZY, 0); }
END_TEST
START_TEST(the_same_with_a_long_message) { one_stays(SPOOL_SYNC, 3); }
END_TEST

/* A whole segment of them, on a disk with room: after all they lie in one place, and the rest is free. */
START_TEST(many_that_wait_are_moved_a_few_at_a_time) {
  open_all();
  uint64_t most_moves = 0, most_bytes = 0;
  for (unsigned i = 0; i < 300; i++) {
    send(1, 500, 0);
    for (unsigned turns = 0; turns < 3; turns++) turn();
    while (due_count > 0) answer_defer(0, 3600 * 1000);
  }
  settle();
  uint64_t before = slab.used_bytes;
  for (unsigned i = 0; i < 2000 && spool_stats(spool)->copied_forward < 300; i++) {
    stream(1, 3000, 0);
    if (schedule.mover.moves > most_moves) most_moves = schedule.mover.moves;
    if (slab.used_bytes - before > most_bytes) most_bytes = slab.used_bytes - before;
  }
  settle();
  ck_assert_uint_ge(spool_stats(spool)->copied_forward, 300);
  ck_assert_uint_gt(most_moves, 1);
  ck_assert_uint_le(most_moves, 32);
  ck_assert_uint_le(most_bytes, 1 << 20);
  ck_assert_uint_eq(schedule.messages, 300);
  ck_assert_uint_le(spool_stats(spool)->segments, 24);
}
END_TEST

/* ---- what may happen to a message meanwhile ---- */

/* A straggler in an old segment; mover asked by hand. */
static uint64_t old_one(uint32_t content, uint32_t parts) {
  open_all();
  uint64_t id = send_straggler(2, content, parts);
  answer_defer(due_of(id), 1000);
  answer_defer(due_of(id), 1000);
  stream(60, 3000, id);
  settle();
  ck_assert_uint_lt(message_of(id)->oldest, spool_stats(spool)->segments);
  return id;
}

static void ask_for(uint64_t id) {
  schedule.mover.segment = message_of(id)->oldest;
  mover_look(&schedule.mover);
}

static void become_due(uint64_t id) {
  set_clock(shard.now_ms + 1000);
  wheel_advance(&shard.wheel, shard.now_ms, NULL, 1000);
  due_of(id);
}

static void turns_until_moved(uint64_t id, uint32_t from) {
  for (unsigned turns = 0; turns < 3000 && (message_of(id)->oldest == from || schedule.mover.moves > 0); turns++) turn();
  ck_assert_uint_gt(message_of(id)->oldest, from);
}

/* It ends after `steps` turns of its move, whatever stage that is. */
START_TEST(one_that_ends_meanwhile_is_gone) {
  for (unsigned steps = 0; steps < 8; steps++) {
    uint64_t id = old_one(6000, 2);
    ask_for(id);
    become_due(id);
    for (unsigned i = 0; i < steps; i++) turn();
    answer_done(due_of(id));
    answer_done(due_of(id));
    settle();
    ck_assert_ptr_null(message_of(id));
    ck_assert_uint_eq(schedule.mover.moves, 0);
    ck_assert_uint_eq(slab.used_bytes, 0);
    crash(true);
    ck_assert_uint_eq(schedule.messages, 0);
    close_all();
    fake_free(disk);
    disk = fake_new(steps + 2);
  }
  open_all();
}
END_TEST

/* All its recipients have ended; some job has not: it is passed over, and others are moved. */
START_TEST(one_that_has_ended_but_for_a_job_is_passed_over) {
  uint64_t id = old_one(6000, 0);
  struct message *message = message_of(id);
  become_due(id);
  begin_wish(&wishes[0], message);
  for (unsigned turns = 0; turns < 100 && !wishes[0].told; turns++) turn();
  answer_done(due_of(id));
  answer_done(due_of(id));
  ck_assert(message_of(id) == message && message->content != NULL);
  ask_for(id);
  for (unsigned turns = 0; turns < 10; turns++) turn();
  ck_assert_uint_eq(schedule.mover.moves, 0);
  end_wishes();
  ck_assert_uint_eq(schedule.messages, 0);
}
END_TEST

/* The move must not take from under a reader what it reads, nor leave it where nobody forgets it. */
START_TEST(one_that_is_being_read_keeps_its_old_place_so_long) {
  uint64_t id = old_one(30000, 0);
  struct message *message = message_of(id);
  become_due(id);
  begin_wish(&wishes[0], message);
  ask_for(id);
  for (unsigned turns = 0; turns < 100 && !wishes[0].told; turns++) turn();
  end_wishes();
  turns_until_moved(id, 1);
  answer_done(due_of(id));
  answer_done(due_of(id));
  settle();
  ck_assert_uint_eq(slab.used_bytes, 0);
}
END_TEST

START_TEST(without_memory_it_is_tried_again) {
  uint64_t id = old_one(6000, 1);
  uint32_t from = message_of(id)->oldest;
  for (unsigned requests = 0; requests < 6; requests++) {
    fake_slab_requests_left = requests;
    ask_for(id);
    for (unsigned turns = 0; turns < 20 && fake_slab_requests_left > 0; turns++) turn();
    turn();
    turn();
    ck_assert_uint_eq(message_of(id)->oldest, from);
    ck_assert_uint_eq(schedule.mover.moves, 0);
    fake_slab_requests_left = UINT64_MAX;
    set_clock(shard.now_ms + 1000);
  }
  turns_until_moved(id, from); /* nobody had to ask again */
}
END_TEST

START_TEST(without_room_on_disk_it_is_tried_again) {
  uint64_t id = old_one(6000, 0);
  uint32_t from = message_of(id)->oldest;
  disk->fail_write = E_NO_SPACE;
  ask_for(id);
  for (unsigned turns = 0; turns < 30; turns++) turn();
  ck_assert_uint_eq(message_of(id)->oldest, from);
  disk->fail_write = E_OK;
  turns_until_moved(id, from);
}
END_TEST

START_TEST(what_cannot_be_read_is_left_where_it_is) {
  uint64_t id = old_one(6000, 0);
  struct message *message = message_of(id);
  for (unsigned i = 0; i < FAKE_FILES; i++)
    if (disk->files[i].used && disk->files[i].size > message->place.offset + 1000) disk->files[i].now[message->place.offset + 1000] ^= 1;
  ask_for(id);
  for (unsigned turns = 0; turns < 50; turns++) turn();
  ck_assert_uint_eq(schedule.mover.moves, 0);
  ck_assert_uint_eq(schedule.mover.segment, 0);
  ck_assert_uint_eq(message->jobs, 0);
  become_due(id);
  answer_done(due_of(id));
  answer_done(due_of(id));
  settle();
}
END_TEST

START_TEST(a_stop_begins_no_more) {
  uint64_t id = old_one(6000, 0);
  uint32_t from = message_of(id)->oldest;
  ck_assert_uint_eq(schedule_store_all(&schedule), 0);
  ask_for(id);
  for (unsigned turns = 0; turns < 30; turns++) turn();
  ck_assert_uint_eq(message_of(id)->oldest, from);
}
END_TEST

int main(void) {
  TCase *stay = tcase_create("stay"), *meanwhile = tcase_create("meanwhile");
  TCase *const cases[] = {stay, meanwhile};
  for (unsigned i = 0; i < 2; i++) {
    tcase_add_checked_fixture(cases[i], open_world, close_world);
    tcase_set_timeout(cases[i], 60);
  }
  tcase_add_test(stay, one_that_waits_does_not_keep_the_rest_on_disk);
  tcase_add_test(stay, the_same_without_a_sync_for_each);
  tcase_add_test(stay, the_same_with_a_long_message);
  tcase_add_test(stay, many_that_wait_are_moved_a_few_at_a_time);
  tcase_add_test(meanwhile, one_that_ends_meanwhile_is_gone);
  tcase_add_test(meanwhile, one_that_has_ended_but_for_a_job_is_passed_over);
  tcase_add_test(meanwhile, one_that_is_being_read_keeps_its_old_place_so_long);
  tcase_add_test(meanwhile, without_memory_it_is_tried_again);
  tcase_add_test(meanwhile, without_room_on_disk_it_is_tried_again);
  tcase_add_test(meanwhile, what_cannot_be_read_is_left_where_it_is);
  tcase_add_test(meanwhile, a_stop_begins_no_more);
  return unit_main("queue/move", cases, 2);
}
