/* What happens on a full disk, or when a write finds no space. */
#include "tests/unit/queue/spool/segment_world.c"

/* Fills it until messages are refused; the last segment is kept for outcomes. */
static unsigned fill_up(struct world *world, struct spool_place *places, unsigned max) {
  unsigned count = 0;
  while (count < max && store(world, count + 1, LONG, &places[count]) == E_OK) count++;
  ck_assert_uint_lt(count, max);
  ck_assert(spool_full(world->spool));
  ck_assert_int_eq(spool_failed(world->spool), E_OK);
  return count;
}

START_TEST(a_full_disk_refuses_messages_takes_outcomes_and_recovers) {
  struct world *world = world_new(1);
  struct spool_place places[64];
  if (_i == 0) {
    world->options.disk_max_bytes = 6 * world->options.segment_size_bytes;
  } else {
    world->io->capacity = 6 * world->options.segment_size_bytes;
  }
  world_start(world);
  ck_assert(!spool_full(world->spool));
  unsigned count = fill_up(world, places, 64);
  ck_assert_uint_eq(count, 10);
  ck_assert_uint_eq(world->noted_count, 0);
  for (unsigned i = 0; i < 2000; i++) append_outcome(world, RECORD_DEFERRED, 1 + i % count, 1);
  world_settle(world); /* 2000 * 25 bytes: more than a segment's rest, less than the one kept */
  ck_assert_uint_eq(spool_stats(world->spool)->outcomes_lost, 0);
  ck_assert_int_eq(store(world, 100, 512, NULL), E_NO_SPACE);
  for (unsigned i = 0; i < 4; i++) finish_message(world, i + 1, places[i]);
  world_settle(world);
  ck_assert(!spool_full(world->spool));
  ck_assert_int_eq(store(world, 101, LONG, NULL), E_OK);
  world_crash(world, true);
  world_start(world);
  ck_assert_uint_eq(world->damaged, 0);
  unsigned live = 0;
  for (unsigned i = 0; i < world->noted_count; i++) live += !world->noted[i].outcome;
  ck_assert_uint_eq(live, 10 - 4 + 1);
  world_free(world);
}
END_TEST

START_TEST(a_moved_record_may_use_what_is_kept_for_outcomes) {
  struct world *world = world_new(1);
  struct spool_place places[64];
  world->options.disk_max_bytes = 4 * world->options.segment_size_bytes;
  world_start(world);
  unsigned count = fill_up(world, places, 64);
  struct message *m = message_new(world, 1, 1, false, LONG, 1);
  m->entry.move = true;
  struct message *n = message_new(world, 90, 0, false, 512, 1), *o = message_new(world, 91, 0, false, 512, 1);
  o->entry.move = true;
  spool_append(world->spool, &m->entry);
  spool_append(world->spool, &n->entry); /* does not slip in with the two */
  spool_append(world->spool, &o->entry);
  world_settle(world);
  ck_assert_int_eq(m->error, E_OK);
  ck_assert_int_eq(n->error, E_NO_SPACE);
  ck_assert_int_eq(o->error, E_OK);
  message_free(n);
  message_free(o);
  spool_forget(world->spool, places[0]);
  finish_message(world, 2, places[1]);
  world_settle(world);
  ck_assert_uint_eq(spool_stats(world->spool)->copied_forward, 2);
  ck_assert_uint_eq(spool_stats(world->spool)->segments_free, 1); /* again one to keep */
  (void)count;
  message_free(m);
  world_free(world);
}
END_TEST

/* Nothing is left to write outcomes to: the segment of messages that have ended goes without them. */
START_TEST(a_cornered_spool_frees_what_has_ended) {
  struct world *world = world_new(1);
  struct spool_place places[64];
  world->options.disk_max_bytes = 3 * world->options.segment_size_bytes;
  world_start(world);
  unsigned count = fill_up(world, places, 64);
  for (unsigned i = 0; i < 20000; i++) append_outcome(world, RECORD_DEFERRED, 1 + i % count, 1);
  world_turns(world, 200);
  ck_assert(!spool_idle(world->spool)); /* the one kept is full of them, and there are more */
  for (unsigned i = 0; i < count; i++) finish_message(world, i + 1, places[i]);
  world_settle(world);
  ck_assert_int_eq(store(world, 100, LONG, NULL), E_OK);
  world_free(world);
}
END_TEST

START_TEST(a_disk_that_gets_room_is_used_again) {
  struct world *world = world_new(1);
  struct spool_place places[64];
  world->io->capacity = 4 * world->options.segment_size_bytes;
  world_start(world);
  fill_up(world, places, 64);
  world->io->capacity *= 2;
  uint64_t since = world->now_ms;
  while (spool_full(world->spool) && world->now_ms < since + 3000) world_turn(world);
  ck_assert_uint_le(world->now_ms, since + 1100);
  ck_assert_int_eq(store(world, 100, LONG, NULL), E_OK);
  world_free(world);
}
END_TEST

START_TEST(three_segments_are_enough) {
  struct world *world = world_new(1);
  world->options.disk_max_bytes = 3 * world->options.segment_size_bytes;
  world_start(world);
  struct spool_place place;
  unsigned refused = 0;
  for (uint64_t id = 1; id <= 100; id++) {
    if (store(world, id, LONG, &place) == E_OK) {
      finish_message(world, id, place);
    } else {
      refused++; /* the oldest is just being freed */
    }
    world_settle(world);
  }
  ck_assert_uint_eq(refused, 0);
  ck_assert_uint_eq(spool_stats(world->spool)->segments, 3);
  world_free(world);
}
END_TEST

/* All there is, drained: the segment that is full gives way to the one that was kept back. Also after a restart, and however often. */
START_TEST(two_segments_are_enough) {
  struct world *world = world_new(1);
  world->io->capacity = 2 * world->options.segment_size_bytes + 8192;
  world->options.durability = _i == 0 ? SPOOL_SYNC : SPOOL_LAZY;
  world_start(world);
  struct spool_place places[64];
  for (unsigned round = 0; round < 10; round++) {
    unsigned count = 0;
    while (count < 64 && store(world, round * 64 + count + 1, LONG, &places[count]) == E_OK) count++;
    ck_assert_uint_eq(count, 2);
    ck_assert(spool_full(world->spool));
    for (unsigned i = 0; i < count; i++) finish_message(world, round * 64 + i + 1, places[i]);
    world_settle(world);
    world_turns(world, 1100); /* it has looked for more once again */
    ck_assert(!spool_full(world->spool));
    if (round % 3 != 2) continue;
    if (round % 2 == 0) {
      world_stop(world);
    } else {
      world_crash(world, true);
    }
    world_start(world);
    for (unsigned n = 0; n < world->noted_count; n++)
      if (!world->noted[n].outcome) spool_forget(world->spool, world->noted[n].place);
    world_settle(world);
    world_turns(world, 20);
  }
  ck_assert_uint_eq(spool_stats(world->spool)->segments, 2);
  world_free(world);
}
END_TEST

/* One that waits in the only segment is asked out of it, to where nothing else may go. */
START_TEST(a_straggler_does_not_hold_the_only_segment) {
  struct world *world = world_new(1);
  world->io->capacity = 2 * world->options.segment_size_bytes + 8192;
  world_start(world);
  struct asked asked = {0};
  spool_on_move(world->spool, note_asked, &asked);
  struct spool_place first, place;
  ck_assert_int_eq(store(world, 1, 512, &first), E_OK);
  for (unsigned i = 0; i < 2; i++) {
    ck_assert_int_eq(store(world, 2 + i, LONG, &place), E_OK);
    finish_message(world, 2 + i, place);
  }
  world_settle(world);
  ck_assert_int_eq(store(world, 9, LONG, NULL), E_NO_SPACE);
  ck_assert_uint_eq(asked.times, 1);
  ck_assert_uint_eq(asked.segment, first.segment);
  ck_assert(asked.cornered);
  struct message *m = message_new(world, 1, 1, false, 512, 1);
  m->entry.move = true;
  spool_append(world->spool, &m->entry);
  world_settle(world);
  ck_assert_int_eq(m->error, E_OK);
  ck_assert_uint_gt(m->entry.place.segment, first.segment);
  spool_forget(world->spool, first);
  world_settle(world);
  ck_assert(!spool_full(world->spool));
  ck_assert_int_eq(store(world, 10, LONG, NULL), E_OK);
  message_free(m);
  world_crash(world, true);
  world_start(world);
  ck_assert_uint_eq(copies_of(world, 1) - 1 + copies_of(world, 10), 1);
  world_free(world);
}
END_TEST

START_TEST(what_a_flood_left_behind_is_given_back) {
  struct world *world = world_new(1);
  world_start(world);
  struct spool_place places[40];
  for (unsigned i = 0; i < 40; i++) ck_assert_int_eq(store(world, i + 1, LONG, &places[i]), E_OK);
  ck_assert_uint_ge(spool_stats(world->spool)->segments, 20);
  for (unsigned i = 0; i < 40; i++) finish_message(world, i + 1, places[i]);
  world_settle(world);
  uint64_t at_once = spool_stats(world->spool)->segments;
  ck_assert_uint_le(wheel_next_ms(&world->wheel), world->now_ms + 1000); /* though nothing else goes on */
  ck_assert_uint_ge(at_once, 18);
  world_turns(world, 3000);
  ck_assert_uint_ge(spool_stats(world->spool)->segments, at_once - 4); /* not all at a time */
  world_turns(world, 20000);
  ck_assert_uint_le(spool_stats(world->spool)->segments, 5);
  ck_assert_uint_ge(spool_stats(world->spool)->segments, 3);
  ck_assert_int_eq(store(world, 100, LONG, NULL), E_OK);
  world_crash(world, true);
  world_start(world);
  ck_assert_uint_eq(copies_of(world, 100), 1);
  ck_assert_uint_eq(world->damaged, 0);
  world_free(world);
}
END_TEST

START_TEST(part_of_the_disk_is_left_to_others) {
  struct world *world = world_new(1);
  struct spool_place places[64];
  world->io->capacity = 10 * world->options.segment_size_bytes + 8192;
  world->options.disk_min_free_bytes = 4 * world->options.segment_size_bytes;
  world_start(world);
  fill_up(world, places, 64);
  ck_assert_uint_eq(spool_stats(world->spool)->segments, 6);
  world_free(world);
}
END_TEST

/* Somebody left files with names such as ours; the numbers behind the last begin at 0 again, where there are files, too. */
START_TEST(names_that_are_taken_are_passed_over) {
  struct world *world = world_new(1);
  world_start(world);
  struct spool_place places[8];
  for (unsigned i = 0; i < 8; i++) ck_assert_int_eq(store(world, i + 1, LONG, &places[i]), E_OK);
  world_stop(world);
  io_file file;
  ck_assert_int_eq(io_file_open(world->io, "/spool/0/99999999.seg", IO_FILE_WRITE | IO_FILE_CREATE, &file), E_OK);
  io_file_close(world->io, file);
  world_start(world);
  for (unsigned i = 8; i < 40; i++) ck_assert_int_eq(store(world, i + 1, LONG, NULL), E_OK);
  ck_assert(!spool_full(world->spool));
  world_free(world);
}
END_TEST

START_TEST(a_disk_that_cannot_make_files_is_final) {
  struct world *world = world_new(1);
  world_start(world);
  world->io->fail_directory_sync = E_IO;
  struct message *m = message_new(world, 1, 0, false, 512, 1);
  spool_append(world->spool, &m->entry);
  world_settle(world);
  ck_assert(m->told && m->error == E_IO);
  ck_assert_int_eq(spool_failed(world->spool), E_IO);
  message_free(m);
  world_free(world);
}
END_TEST

/* ---- a write into a segment finds no space ---- */

/* The n-th write from now; then what was refused stays away, what is accepted afterwards is there, also after a crash. */
static void check_stalled(unsigned nth, bool long_ones) {
  struct world *world = world_new(nth + 10);
  world_start(world);
  world_turns(world, 40);
  ck_assert_int_eq(store(world, 1, 4096, NULL), E_OK);
  world->io->fail_write = E_NO_SPACE;
  world->io->fail_write_in = nth;
  world->io->fail_write_alone = true;
  bool stored[64] = {false, true};
  unsigned refused = 0;
  for (unsigned id = 2; id < 40; id++) {
    append_outcome(world, RECORD_DEFERRED, 1, (uint16_t)id);
    stored[id] = store(world, id, long_ones ? LONG : 4096, NULL) == E_OK;
    if (stored[id]) continue;
    refused++;
    world_turns(world, 1100);
  }
  ck_assert_uint_le(refused, 1);
  ck_assert_int_eq(spool_failed(world->spool), E_OK);
  world_settle(world);
  world_crash(world, true);
  world_start(world);
  ck_assert_uint_eq(world->damaged, 0);
  unsigned outcomes = 1;
  bool seen[64] = {false};
  for (unsigned i = 0; i < world->noted_count; i++) {
    const struct noted *n = &world->noted[i];
    if (n->outcome) {
      ck_assert_uint_eq(n->version, ++outcomes); /* in order, none lost, none twice */
    } else {
      ck_assert(stored[n->id] && !seen[n->id]);
      seen[n->id] = true;
    }
  }
  ck_assert_uint_eq(outcomes, 39);
  for (unsigned id = 1; id < 40; id++) ck_assert_int_eq(stored[id], seen[id]);
  world_free(world);
}

START_TEST(no_space_for_a_write_refuses_and_goes_on) {
  check_stalled((unsigned)_i + 1, false);
  check_stalled((unsigned)_i + 1, true);
}
END_TEST

static void fail_next_write_of(struct world *world, const uint64_t *ids, unsigned count, uint32_t length) {
  world_settle(world);
  world->io->fail_write = E_NO_SPACE;
  world->io->fail_write_in = 1;
  world->io->fail_write_alone = world->io->fail_whole = true;
  struct message *m[4];
  for (unsigned i = 0; i < count; i++) {
    m[i] = message_new(world, ids[i], 0, false, length, 1);
    spool_append(world->spool, &m[i]->entry);
  }
  while (!m[0]->told) world_turn(world);
  for (unsigned i = 0; i < count; i++) {
    ck_assert(m[i]->told && m[i]->error == E_NO_SPACE);
    message_free(m[i]);
  }
}

/* All three were on disk when the write was refused. What is written next must not make the last two of them follow it. */
START_TEST(what_was_refused_is_not_found_behind_what_comes_next) {
  struct world *world = world_new(1);
  world_start(world);
  world_turns(world, 40);
  ck_assert_int_eq(store(world, 1, 4096, NULL), E_OK);
  fail_next_write_of(world, (uint64_t[]){2, 3, 4}, 3, 4096);
  world_turns(world, 1100);
  ck_assert_int_eq(store(world, 5, 4096, NULL), E_OK);
  world_crash(world, false);
  world_start(world);
  ck_assert_uint_eq(world->noted_count, 2);
  ck_assert_uint_eq(world->noted[1].id, 5);
  world_free(world);
}
END_TEST

/* The header block of the next segment was on disk when its write was refused: its number must not be used in another file while it is there. */
START_TEST(a_sequence_number_is_never_on_disk_twice) {
  struct world *world = world_new((uint64_t)_i + 500);
  world_start(world);
  world_turns(world, 40);
  ck_assert_int_eq(store(world, 1, LONG, NULL), E_OK);
  ck_assert_int_eq(store(world, 2, LONG, NULL), E_OK);
  world_settle(world);
  fail_next_write_of(world, (uint64_t[]){3}, 1, LONG);
  struct message *m = message_new(world, 4, 0, false, LONG, 1);
  m->entry.move = true; /* waits instead of being refused */
  spool_append(world->spool, &m->entry);
  while (spool_full(world->spool)) world_turn(world);
  world->io->one_at_a_time = 1;
  world_turns(world, (unsigned)_i % 5);
  world_crash(world, false);
  world_start(world); /* would not, with a number twice */
  ck_assert_uint_ge(world->noted_count, 2);
  message_free(m);
  world_free(world);
}
END_TEST

int main(void) {
  TCase *full = tcase_create("full");
  tcase_add_loop_test(full, a_full_disk_refuses_messages_takes_outcomes_and_recovers, 0, 2);
  tcase_add_test(full, a_moved_record_may_use_what_is_kept_for_outcomes);
  tcase_add_test(full, a_cornered_spool_frees_what_has_ended);
  tcase_add_test(full, a_disk_that_gets_room_is_used_again);
  tcase_add_test(full, three_segments_are_enough);
  tcase_add_loop_test(full, two_segments_are_enough, 0, 2);
  tcase_add_test(full, a_straggler_does_not_hold_the_only_segment);
  tcase_add_test(full, part_of_the_disk_is_left_to_others);
  tcase_add_test(full, names_that_are_taken_are_passed_over);
  tcase_add_test(full, what_a_flood_left_behind_is_given_back);
  tcase_add_test(full, a_disk_that_cannot_make_files_is_final);
  tcase_add_test(full, what_was_refused_is_not_found_behind_what_comes_next);
  tcase_add_loop_test(full, a_sequence_number_is_never_on_disk_twice, 0, 60);
  tcase_add_loop_test(full, no_space_for_a_write_refuses_and_goes_on, 0, 12);
  return unit_main("queue/spool/segment: full", &full, 1);
}
