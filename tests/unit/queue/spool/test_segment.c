/* The life of segments: recycled in order, kept while something in them is live, moved when they are in the way. */
#include "tests/unit/queue/spool/segment_world.c"

START_TEST(segments_are_recycled) {
  struct world *world = world_new(1);
  world_start(world);
  struct spool_place place, last = {0};
  for (uint64_t id = 1; id <= 200; id++) {
    ck_assert_int_eq(store(world, id, LONG, &place), E_OK);
    ck_assert_uint_ge(place.segment, last.segment);
    finish_message(world, id, place);
    last = place;
  }
  world_settle(world);
  ck_assert_uint_ge(last.segment, 100);
  ck_assert_uint_le(spool_stats(world->spool)->segments, 5);
  world_crash(world, true);
  world_start(world);
  ck_assert_uint_le(world->noted_count, 12);
  world_free(world);
}
END_TEST

START_TEST(one_live_record_holds_its_segment_and_those_behind) {
  struct world *world = world_new(1);
  world_start(world);
  struct spool_place first, place;
  ck_assert_int_eq(store(world, 1, 512, &first), E_OK);
  for (uint64_t id = 2; id <= 11; id++) {
    ck_assert_int_eq(store(world, id, LONG, &place), E_OK);
    finish_message(world, id, place);
  }
  world_settle(world);
  uint64_t free_before = spool_stats(world->spool)->segments_free;
  ck_assert_uint_ge(spool_stats(world->spool)->segments, 6);
  finish_message(world, 1, first);
  world_settle(world);
  ck_assert_uint_ge(spool_stats(world->spool)->segments_free, free_before + 4);
  world_free(world);
}
END_TEST

START_TEST(a_segment_is_not_freed_before_the_outcomes_are_durable) {
  struct world *world = world_new(1);
  world_start(world);
  struct spool_place places[3];
  for (unsigned i = 0; i < 3; i++) ck_assert_int_eq(store(world, i + 1, LONG, &places[i]), E_OK);
  world_settle(world);
  uint64_t free_before = spool_stats(world->spool)->segments_free;
  world->io->hold = true;
  struct message *m = message_new(world, 9, 0, false, 512, 1);
  spool_append(world->spool, &m->entry);
  world_turn(world);
  for (unsigned i = 0; i < 2; i++) finish_message(world, i + 1, places[i]); /* too late for this commit */
  world->io->hold = false;
  world_turns(world, 2);
  ck_assert_uint_eq(spool_stats(world->spool)->segments_free, free_before);
  world_settle(world);
  ck_assert_uint_eq(spool_stats(world->spool)->segments_free, free_before + 1);
  message_free(m);
  world_free(world);
}
END_TEST

START_TEST(commits_need_not_wait_for_a_segment_to_be_filled) {
  struct world *world = world_new(1);
  world->options.segment_size_bytes = 8 << 20;
  world_start(world);
  ck_assert_int_eq(store(world, 1, 4096, NULL), E_OK);
  ck_assert_uint_lt(world->io->written_bytes, 3 << 20); /* one or two pieces of zeros */
  unsigned count = 1;
  for (; count < 3000; count++) ck_assert_int_eq(store(world, count + 1, 8192, NULL), E_OK); /* and never overtake the zeros */
  world_crash(world, true);
  world_start(world);
  ck_assert_uint_eq(world->noted_count, count);
  ck_assert_uint_eq(world->damaged, 0);
  world_free(world);
}
END_TEST

/* What is left of it is the end of a commit, not a gap in which something seems to be missing at each later start. */
START_TEST(behind_a_commit_that_was_cut_short_nothing_seems_to_be_missing) {
  struct world *world = world_new((uint64_t)_i + 1);
  world->options.disk_max_bytes = 3 * world->options.segment_size_bytes;
  world_start(world);
  for (uint64_t id = 1; id <= 3; id++) ck_assert_int_eq(store(world, id, LONG, NULL), E_OK);
  struct message *cut[4];
  for (unsigned i = 0; i < 4; i++) {
    cut[i] = message_new(world, 11 + i, 0, false, 1536, 1);
    cut[i]->entry.move = true;
    spool_append(world->spool, &cut[i]->entry);
  }
  world->io->hold = true;
  world_turn(world);
  world_crash(world, true);
  world_start(world);
  struct message *next = message_new(world, 20, 0, false, 1536, 1);
  next->entry.move = true;
  spool_append(world->spool, &next->entry);
  world_settle(world);
  ck_assert(next->told && next->error == E_OK);
  ck_assert_uint_eq(next->entry.place.segment, 2); /* it went on */
  world_crash(world, false);
  world_start(world);
  ck_assert_uint_eq(world->damaged, 0);
  ck_assert_uint_eq(world->noted[world->noted_count - 1].id, 20);
  for (unsigned i = 0; i < 4; i++) message_free(cut[i]);
  message_free(next);
  world_free(world);
}
END_TEST

START_TEST(sequence_numbers_go_on_after_a_restart) {
  struct world *world = world_new(1);
  world_start(world);
  struct spool_place place, next;
  ck_assert_int_eq(store(world, 1, LONG, &place), E_OK);
  finish_message(world, 1, place);
  for (unsigned i = 0; i < 3; i++) {
    world_settle(world);
    world_stop(world);
    world_start(world);
    for (unsigned n = 0; n < world->noted_count; n++)
      if (!world->noted[n].outcome) spool_forget(world->spool, world->noted[n].place);
  }
  world_settle(world);
  ck_assert_int_eq(store(world, 2, LONG, &next), E_OK);
  ck_assert_uint_gt(next.segment, place.segment);
  world_free(world);
}
END_TEST

/* ---- without a sync for each commit ---- */

/* Record 1 lies in the first segment, and is alone there; the head is another. Its copy is written, but not synced. */
static struct world *with_an_unsynced_copy(uint64_t seed, struct spool_place *first) {
  struct world *world = world_new(seed);
  world->options.durability = SPOOL_LAZY;
  world_start(world);
  ck_assert_int_eq(store(world, 1, LONG, first), E_OK);
  struct spool_place place;
  ck_assert_int_eq(store(world, 2, LONG, &place), E_OK);
  spool_forget(world->spool, place);
  ck_assert_int_eq(store(world, 3, 8192, &place), E_OK);
  ck_assert_uint_eq(place.segment, 2);
  world->io->hold_sync = true;
  world_turns(world, 110); /* the sync of this is under way */
  ck_assert_int_eq(store(world, 1, LONG, &place), E_OK);
  return world;
}

START_TEST(the_old_copy_stays_until_the_new_one_is_synced) {
  struct spool_place first;
  struct world *world = with_an_unsynced_copy((uint64_t)_i + 1, &first);
  spool_forget(world->spool, first);
  world->io->hold_sync = false; /* it covers what was written before it, not the copy */
  world_turns(world, 20);
  world_crash(world, true);
  world_start(world);
  ck_assert_uint_ge(copies_of(world, 1), 1);
  world_free(world);
}
END_TEST

START_TEST(the_old_copy_stays_though_the_new_one_was_replayed) {
  struct spool_place first;
  struct world *world = with_an_unsynced_copy((uint64_t)_i + 1, &first);
  world_crash(world, false);
  world->io->hold_sync = true;
  world_start(world);
  ck_assert_uint_eq(copies_of(world, 1), 2);
  for (unsigned i = 0; i < world->noted_count; i++)
    if (world->noted[i].place.segment == first.segment) spool_forget(world->spool, world->noted[i].place);
  world_turns(world, 20);
  world_crash(world, true);
  world->io->hold_sync = false;
  world_start(world);
  ck_assert_uint_ge(copies_of(world, 1), 1);
  world_free(world);
}
END_TEST

/* ---- moving ---- */

START_TEST(a_straggler_is_asked_to_move_and_then_its_segment_is_freed) {
  struct world *world = world_new(1);
  world_start(world);
  struct asked asked = {0};
  spool_on_move(world->spool, note_asked, &asked);
  struct spool_place first, place;
  ck_assert_int_eq(store(world, 1, 512, &first), E_OK);
  uint64_t id = 2;
  for (; asked.times == 0 && id < 100; id++) {
    ck_assert_int_eq(store(world, id, LONG, &place), E_OK);
    finish_message(world, id, place);
  }
  ck_assert_uint_eq(asked.times, 1);
  ck_assert_uint_eq(asked.segment, first.segment);
  ck_assert_uint_ge(id, 2 * 8);
  ck_assert_uint_le(id, 2 * 11);
  world_turns(world, 1000);
  ck_assert_uint_eq(asked.times, 1);
  world->now_ms += 60000; /* nobody did */
  world_turns(world, 2);
  ck_assert_uint_eq(asked.times, 2);
  struct message *m = message_new(world, 1, 1, false, 512, 1);
  m->entry.move = true;
  spool_append(world->spool, &m->entry);
  world_settle(world);
  spool_forget(world->spool, first);
  world_settle(world);
  ck_assert_uint_ge(spool_stats(world->spool)->segments_free, 8);
  ck_assert_uint_eq(asked.times, 2);
  message_free(m);
  world_crash(world, true);
  world_start(world);
  unsigned live = 0;
  for (unsigned i = 0; i < world->noted_count; i++) live += world->noted[i].id == 1 && world->noted[i].version == 1 && !world->noted[i].outcome;
  ck_assert_uint_eq(live, 1);
  world_free(world);
}
END_TEST

int main(void) {
  TCase *life = tcase_create("life");
  tcase_add_test(life, segments_are_recycled);
  tcase_add_test(life, one_live_record_holds_its_segment_and_those_behind);
  tcase_add_test(life, a_segment_is_not_freed_before_the_outcomes_are_durable);
  tcase_add_test(life, commits_need_not_wait_for_a_segment_to_be_filled);
  tcase_add_test(life, a_straggler_is_asked_to_move_and_then_its_segment_is_freed);
  tcase_add_test(life, sequence_numbers_go_on_after_a_restart);
  tcase_add_loop_test(life, behind_a_commit_that_was_cut_short_nothing_seems_to_be_missing, 0, 20);
  tcase_add_loop_test(life, the_old_copy_stays_until_the_new_one_is_synced, 0, 10);
  tcase_add_loop_test(life, the_old_copy_stays_though_the_new_one_was_replayed, 0, 10);
  return unit_main("queue/spool/segment", &life, 1);
}
