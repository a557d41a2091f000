/* Group commit, its order, its failures. */
#include "tests/unit/queue/spool/world.c"

#include "tests/lib/unit.h"

static struct message *send(struct world *world, uint64_t id, uint32_t length) {
  struct message *m = message_new(world, id, 0, false, length, 1);
  spool_append(world->spool, &m->entry);
  return m;
}

static struct world *started(void) {
  struct world *world = world_new(1);
  world_start(world);
  world_turns(world, 40); /* two segments are free now */
  ck_assert_uint_eq(spool_stats(world->spool)->segments_free, 2);
  world->io->writes = world->io->synced_writes = world->io->syncs = 0;
  return world;
}

START_TEST(all_that_waits_goes_out_in_one_synced_write) {
  struct world *world = started();
  struct message *m[8];
  for (unsigned i = 0; i < 8; i++) m[i] = send(world, 100 + i, 512 * (i + 1));
  append_outcome(world, RECORD_DELIVERED, 5, 1);
  ck_assert(!spool_idle(world->spool));
  world->io->hold = true;
  world_turn(world);
  struct message *late = send(world, 200, 4096);
  world_turns(world, 3);
  for (unsigned i = 0; i < 8; i++) ck_assert(!m[i]->told);
  ck_assert_uint_eq(world->io->operations_count, 1 + 1); /* the commit, and a new segment being filled */
  world->io->hold = false;
  world_turn(world);
  ck_assert(m[7]->told && !late->told);
  world_settle(world);
  ck_assert(late->told && late->error == E_OK);
  ck_assert_uint_eq(spool_stats(world->spool)->commits, 2);
  ck_assert_uint_eq(spool_stats(world->spool)->committed_messages, 9);
  ck_assert_uint_eq(spool_stats(world->spool)->committed_outcomes, 1);
  uint64_t offset = 4096;
  for (unsigned i = 0; i < 8; i++) {
    ck_assert_int_eq(m[i]->error, E_OK);
    ck_assert_uint_eq(m[i]->entry.place.segment, 1);
    ck_assert_uint_eq(m[i]->entry.place.offset, offset);
    ck_assert_uint_eq(m[i]->entry.place.length, 512 * (i + 1));
    offset += 512 * (i + 1);
    message_free(m[i]);
  }
  ck_assert_uint_eq(late->entry.place.offset % 4096, 0); /* commits share no block */
  message_free(late);
  world_free(world);
}
END_TEST

START_TEST(what_was_stored_is_replayed_in_order) {
  struct world *world = started();
  for (unsigned i = 0; i < 100; i++) {
    struct message *m = message_new(world, i + 1, 3, i % 3 == 0, 512 * 4 * (1 + i % 5), i % 2 == 0 ? 4 : 1);
    spool_append(world->spool, &m->entry);
    if (i % 7 == 0) append_outcome(world, RECORD_DEFERRED, i + 1, (uint16_t)i);
    world_settle(world);
    ck_assert(m->told && m->error == E_OK);
    message_free(m);
  }
  world_crash(world, true);
  world_start(world);
  ck_assert_uint_eq(world->damaged, 0);
  unsigned at = 0;
  for (unsigned i = 0; i < 100; i++) {
    ck_assert(!world->noted[at].outcome && world->noted[at].id == i + 1 && world->noted[at].part == (i % 3 == 0));
    at++;
    if (i % 7 != 0) continue;
    ck_assert(world->noted[at].outcome && world->noted[at].id == i + 1 && world->noted[at].version == i);
    at++;
  }
  ck_assert_uint_eq(at, world->noted_count);
  world_free(world);
}
END_TEST

START_TEST(outcomes_alone_wait_for_company_but_not_for_long) {
  struct world *world = started();
  append_outcome(world, RECORD_DELIVERED, 1, 1);
  world_turns(world, 4);
  ck_assert_uint_eq(spool_stats(world->spool)->commits, 0);
  world_turns(world, 4);
  ck_assert_uint_eq(spool_stats(world->spool)->commits, 1);
  ck_assert(spool_idle(world->spool));
  for (unsigned i = 0; i < 1500; i++) append_outcome(world, RECORD_DELIVERED, i, 1); /* many do not wait */
  world_turns(world, 2);
  ck_assert_uint_ge(spool_stats(world->spool)->commits, 2);
  world_settle(world);
  world_crash(world, true);
  world_start(world);
  ck_assert_uint_eq(world->noted_count, 1501);
  world_free(world);
}
END_TEST

START_TEST(outcomes_do_not_overtake_a_record_that_has_to_wait) {
  struct world *world = started();
  struct message *m[5];
  for (unsigned i = 0; i < 5; i++) { /* 4 fit into the segment's 60 KiB */
    append_outcome(world, RECORD_DEFERRED, i, 1);
    m[i] = send(world, i, 14336);
  }
  append_outcome(world, RECORD_DELIVERED, 4, 1);
  world_turns(world, 2);
  ck_assert_uint_eq(spool_stats(world->spool)->commits, 1);
  ck_assert_uint_eq(spool_stats(world->spool)->committed_outcomes, 5);
  world_settle(world);
  world_crash(world, true);
  world_start(world);
  ck_assert_uint_eq(world->noted_count, 11);
  ck_assert(!world->noted[9].outcome && world->noted[9].id == 4);
  ck_assert(world->noted[10].outcome && world->noted[10].id == 4);
  for (unsigned i = 0; i < 5; i++) message_free(m[i]);
  world_free(world);
}
END_TEST

/* Records go on; outcomes wait for their release, without a write or a turn that is of no use, and then for company as ever. */
START_TEST(outcomes_that_are_held_wait_for_their_release) {
  struct world *world = world_new(1);
  world->options.hold_outcomes = true;
  world_start(world);
  world_turns(world, 40);
  uint64_t writes = world->io->writes;
  append_outcome(world, RECORD_DELIVERED, 1, 1);
  uint64_t first = spool_outcomes(world->spool);
  append_outcome(world, RECORD_DELIVERED, 2, 1);
  world_turns(world, 50);
  ck_assert_uint_eq(world->io->writes, writes);
  ck_assert_uint_eq(wheel_next_ms(&world->wheel), WHEEL_NEVER);
  ck_assert(!spool_idle(world->spool));
  struct message *m = send(world, 9, 4096);
  world_turns(world, 10);
  ck_assert(m->told && m->error == E_OK);
  ck_assert_uint_eq(spool_stats(world->spool)->committed_outcomes, 0);
  ck_assert_uint_eq(spool_outcomes_released(world->spool), 0);
  spool_release_outcomes(world->spool, first);
  ck_assert_uint_eq(spool_outcomes_released(world->spool), first);
  world_turns(world, 20);
  ck_assert_uint_eq(spool_stats(world->spool)->committed_outcomes, 1);
  ck_assert(!spool_idle(world->spool));
  ck_assert_uint_eq(wheel_next_ms(&world->wheel), WHEEL_NEVER);
  world_crash(world, false);
  world_start(world);
  ck_assert_uint_eq(world->noted_count, 2); /* the record, and the one outcome */
  append_outcome(world, RECORD_DELIVERED, 2, 1);
  spool_release_outcomes(world->spool, spool_outcomes(world->spool));
  world_settle(world);
  ck_assert_uint_eq(spool_stats(world->spool)->committed_outcomes, 1);
  message_free(m);
  world_free(world);
}
END_TEST

START_TEST(more_than_a_write_can_take_is_split) {
  struct world *world = world_new(1);
  world->options.segment_size_bytes = 4 << 20;
  world_start(world);
  world_turns(world, 40);
  enum { COUNT = 2500 };
  struct message **m = calloc(COUNT, sizeof *m);
  for (unsigned i = 0; i < COUNT; i++) m[i] = send(world, i + 1, 512);
  world_settle(world);
  for (unsigned i = 0; i < COUNT; i++) {
    ck_assert(m[i]->told && m[i]->error == E_OK);
    message_free(m[i]);
  }
  ck_assert_uint_eq(spool_stats(world->spool)->commits, 3);
  free(m);
  world_crash(world, true);
  world_start(world);
  ck_assert_uint_eq(world->noted_count, COUNT);
  world_free(world);
}
END_TEST

START_TEST(records_longer_than_a_segment_are_refused_and_nothing_else) {
  struct world *world = started();
  struct message *longest = send(world, 1, (64 << 10) - 4096), *longer = send(world, 2, 64 << 10), *next = send(world, 3, 512);
  ck_assert(!longer->told);
  world_settle(world);
  ck_assert_int_eq(longest->error, E_OK);
  ck_assert_int_eq(longer->error, E_TOO_LONG);
  ck_assert(next->told && next->error == E_OK);
  ck_assert_uint_eq(longer->entry.place.segment, 0);
  ck_assert_int_eq(spool_failed(world->spool), E_OK);
  message_free(longest);
  message_free(longer);
  message_free(next);
  world_free(world);
}
END_TEST

/* Appends again from within durable: happens in the same turn or a next one, never inside the call. */
static struct message *appended_inside;
static void append_inside(struct message *m) {
  if (m->id != 1) return;
  spool_append(m->world->spool, &appended_inside->entry);
  ck_assert(!appended_inside->told);
}

static void check_append_inside(struct world *world) {
  world->on_durable = append_inside;
  appended_inside = message_new(world, 2, 0, false, 512, 1);
  struct message *m = send(world, 1, 512);
  unsigned turns = 0;
  while (!appended_inside->told && turns < 10) {
    turns++;
    world_turn(world);
    if (world->io->operations_count == 0 && !spool_idle(world->spool)) ck_assert_uint_le(wheel_next_ms(&world->wheel), world->now_ms); /* no sleep */
  }
  ck_assert(appended_inside->told && appended_inside->error == E_OK);
  message_free(m);
  message_free(appended_inside);
  world_free(world);
}

START_TEST(appending_from_within_durable_works) {
  check_append_inside(started());
  struct world *world = world_new(1);
  world->options.durability = SPOOL_MEMORY;
  world_start(world);
  world_turns(world, 40);
  check_append_inside(world);
}
END_TEST

START_TEST(memory_mode_writes_only_what_has_to_be_stored) {
  struct world *world = world_new(1);
  world->options.durability = SPOOL_MEMORY;
  world_start(world);
  world_turns(world, 40);
  uint64_t before = world->io->written_bytes;
  struct message *m = send(world, 1, 4096);
  ck_assert(!m->told);
  world_turn(world);
  ck_assert(m->told && m->error == E_OK && m->entry.place.segment == 0);
  spool_forget(world->spool, m->entry.place);
  world_settle(world);
  ck_assert_uint_eq(world->io->written_bytes, before);
  m->told = false;
  m->entry.store = true;
  spool_append(world->spool, &m->entry);
  world_settle(world);
  ck_assert(m->told && m->error == E_OK && m->entry.place.segment == 1);
  message_free(m);
  world_crash(world, true);
  world_start(world);
  ck_assert_uint_eq(world->noted_count, 1);
  world_free(world);
}
END_TEST

START_TEST(lazy_mode_syncs_after_its_time) {
  struct world *world = world_new(1);
  world->options.durability = SPOOL_LAZY;
  world_start(world);
  world_turns(world, 40);
  struct message *first = send(world, 1, 4096);
  world_turns(world, 2); /* begins a segment: synced */
  world_turns(world, 120);
  uint64_t syncs = world->io->syncs, synced_writes = world->io->synced_writes;
  struct message *m = send(world, 2, 4096);
  world_turns(world, 2);
  ck_assert(m->told && m->error == E_OK);
  ck_assert(!spool_idle(world->spool)); /* not synced yet */
  ck_assert_uint_eq(world->io->synced_writes, synced_writes);
  world_turns(world, 90);
  ck_assert_uint_eq(world->io->syncs, syncs);
  world_turns(world, 20);
  ck_assert_uint_eq(world->io->syncs, syncs + 1);
  ck_assert(spool_idle(world->spool));
  message_free(first);
  message_free(m);
  world_crash(world, true);
  world_start(world);
  ck_assert_uint_eq(world->noted_count, 2);
  world_free(world);
}
END_TEST

static void check_final(struct world *world, struct message *m, int error) {
  ck_assert(m->told);
  ck_assert_int_eq(m->error, error);
  ck_assert_uint_eq(m->entry.place.segment, 0);
  ck_assert_int_eq(spool_failed(world->spool), error);
  world->io->fail_write = world->io->fail_sync = 0;
  world->io->short_writes = false;
  uint64_t writes = world->io->writes;
  struct message *later = send(world, 2, 512);
  append_outcome(world, RECORD_DELIVERED, 1, 1);
  world_settle(world);
  ck_assert(later->told && later->error == error);
  ck_assert_uint_eq(world->io->writes, writes);
  message_free(later);
  message_free(m);
  world_free(world);
}

START_TEST(a_failed_write_is_final) {
  struct world *world = started();
  world->io->fail_write = E_IO;
  struct message *m = send(world, 1, 512);
  world_turns(world, 3);
  check_final(world, m, E_IO);
}
END_TEST

START_TEST(a_short_write_is_final) {
  struct world *world = started();
  world->io->short_writes = true;
  struct message *m = send(world, 1, 512);
  world_turns(world, 3);
  check_final(world, m, E_IO);
}
END_TEST

START_TEST(a_failed_sync_is_final) {
  struct world *world = world_new(1);
  world->options.durability = SPOOL_LAZY;
  world_start(world);
  world_turns(world, 40);
  struct message *m = send(world, 1, 512), *n = message_new(world, 3, 0, false, 512, 1);
  world_turns(world, 10);
  ck_assert(m->told && m->error == E_OK);
  world->io->fail_sync = E_IO;
  world_turns(world, 120);
  ck_assert_int_eq(spool_failed(world->spool), E_IO);
  spool_append(world->spool, &n->entry);
  world_turn(world);
  message_free(m);
  check_final(world, n, E_IO);
}
END_TEST

START_TEST(closing_waits_for_the_kernel_and_calls_nobody) {
  struct world *world = started();
  struct message *m = send(world, 1, 512);
  world_turn(world);
  ck_assert_uint_gt(world->io->operations_count, 0);
  world_stop(world);
  ck_assert_uint_eq(world->io->operations_count, 0);
  ck_assert(!m->told);
  message_free(m);
  ck_assert_int_eq(world_open(world), E_OK);
  world_free(world);
}
END_TEST

int main(void) {
  TCase *commit = tcase_create("commit");
  tcase_add_test(commit, all_that_waits_goes_out_in_one_synced_write);
  tcase_add_test(commit, what_was_stored_is_replayed_in_order);
  tcase_add_test(commit, outcomes_alone_wait_for_company_but_not_for_long);
  tcase_add_test(commit, outcomes_do_not_overtake_a_record_that_has_to_wait);
  tcase_add_test(commit, outcomes_that_are_held_wait_for_their_release);
  tcase_add_test(commit, more_than_a_write_can_take_is_split);
  tcase_add_test(commit, records_longer_than_a_segment_are_refused_and_nothing_else);
  tcase_add_test(commit, appending_from_within_durable_works);
  tcase_add_test(commit, memory_mode_writes_only_what_has_to_be_stored);
  tcase_add_test(commit, lazy_mode_syncs_after_its_time);
  TCase *failure = tcase_create("failure");
  tcase_add_test(failure, a_failed_write_is_final);
  tcase_add_test(failure, a_short_write_is_final);
  tcase_add_test(failure, a_failed_sync_is_final);
  tcase_add_test(failure, closing_waits_for_the_kernel_and_calls_nobody);
  return unit_main("queue/spool/log", (TCase *[]){commit, failure}, 2);
}
