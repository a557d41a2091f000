/* Looking at a spool: all of it is told, nothing is changed, whoever else has it. */
#include "tests/unit/queue/spool/world.c"

#include "queue/spool/view.h"
#include "tests/lib/unit.h"

static struct view *open_view(struct world *world) {
  struct view *view;
  world->why = fmt_over(world->why_room, sizeof world->why_room);
  int error = view_open(&view, world->io, "/spool/0", false, &world->why);
  ck_assert_int_eq(error, E_OK);
  return view;
}

static void replay(struct world *world, struct view *view) {
  struct spool_replay notes = {note_record, note_outcome, world};
  world->noted_count = 0;
  int error = view_replay(view, &notes, &world->damaged, &world->why);
  ck_assert_int_eq(error, E_OK);
}

static struct view_segment segment_of(struct view *view, uint32_t sequence) {
  struct view_segment segment;
  for (unsigned i = 0; view_segment(view, i, &segment); i++)
    if (segment.sequence == sequence && strcmp(segment.state, "live") == 0) return segment;
  ck_abort_msg("no segment %u", sequence);
  return segment;
}

static uint64_t hash_of_disk(const struct world *world) {
  uint64_t hash = 0;
  for (unsigned i = 0; i < FAKE_FILES; i++) {
    const struct fake_file *file = &world->io->files[i];
    struct span all = span_of(file->now, file->size);
    if (file->used) hash = hash * 31 + record_hash(strlen(file->path), &all, 1);
  }
  return hash;
}

/* As the next start of the spool itself would see it. */
START_TEST(damage_in_the_newest_costs_its_record_alone_if_commits_were_synced) {
  struct world *world = world_new(1);
  world->options.segment_size_bytes = 1 << 20;
  world_start(world);
  for (unsigned id = 1; id <= 4; id++) {
    struct message *m = message_new(world, id, 0, false, 5120, 1);
    spool_append(world->spool, &m->entry);
    world_settle(world);
    message_free(m);
  }
  world_crash(world, true);
  world_file(world, 0)->now[4096 + 8192 + 2000] ^= 1; /* number 2 */
  struct view *view = open_view(world);
  replay(world, view);
  ck_assert_uint_eq(world->noted_count, 1);
  view_expect_synced(view);
  replay(world, view);
  ck_assert_uint_eq(world->noted_count, 3);
  ck_assert_uint_eq(world->damaged, 1);
  view_close(view);
  world_free(world);
}
END_TEST

START_TEST(all_is_seen_and_nothing_is_changed) {
  struct world *world = world_with_messages(5);
  for (unsigned closed = 0; closed < 2; closed++) {
    if (closed) world_crash(world, false);
    uint64_t before = hash_of_disk(world), writes = world->io->writes;
    ck_assert_int_eq(view_is_in_use(world->io, "/spool/0"), !closed);
    struct view *view = open_view(world);
    for (unsigned twice = 0; twice < 2; twice++) {
      replay(world, view);
      ck_assert_uint_eq(world->noted_count, 5);
      ck_assert_uint_eq(world->damaged, 0);
    }
    struct view_segment segment;
    unsigned live = 0, other = 0;
    for (unsigned i = 0; view_segment(view, i, &segment); i++) *(strcmp(segment.state, "live") == 0 ? &live : &other) += 1;
    ck_assert_uint_eq(live, 3);
    ck_assert_uint_ge(other, 2);
    segment = segment_of(view, 2);
    ck_assert_uint_eq(segment.end, 4096 + 2 * WORLD_LONG);
    ck_assert_uint_eq(segment.expected, segment.end);
    ck_assert_uint_eq(segment.records, 2);
    ck_assert_str_eq(segment.path, "/spool/0/00000001.seg");
    view_close(view);
    ck_assert_uint_eq(hash_of_disk(world), before);
    ck_assert_uint_eq(world->io->writes, writes);
  }
  world_free(world);
}
END_TEST

START_TEST(damage_has_a_place_and_a_reason) {
  static const struct {
    uint64_t at;
    const char *why;
  } damages[] = {{4096 + WORLD_LONG + 20, "no valid record header"}, {4096 + WORLD_LONG + 5000, "a record's content does not match its hash"}};
  for (unsigned i = 0; i < 2; i++) {
    struct world *world = world_with_messages(5);
    world_stop(world);
    world_file(world, 1)->now[damages[i].at] ^= 1;
    struct view *view = open_view(world);
    replay(world, view);
    ck_assert_uint_eq(world->damaged, 1);
    struct view_segment segment = segment_of(view, 2);
    ck_assert_uint_eq(segment.end, 4096 + WORLD_LONG);
    ck_assert_uint_eq(segment.expected, 4096 + 2 * WORLD_LONG);
    ck_assert_str_eq(segment.stopped, damages[i].why);
    view_close(view);
    world_free(world);
  }
}
END_TEST

START_TEST(a_header_that_is_lost_leaves_a_gap_and_its_file) {
  struct world *world = world_with_messages(5);
  world_stop(world);
  world_file(world, 1)->now[100] ^= 1;
  struct view *view = open_view(world);
  ck_assert_uint_eq(view_gaps(view), 1);
  struct view_segment segment;
  bool found = false;
  for (unsigned i = 0; view_segment(view, i, &segment); i++) found |= strcmp(segment.state, "no header") == 0 && strstr(segment.path, "00000001.seg");
  ck_assert(found);
  view_close(view);
  ck_assert_ptr_nonnull(fake_find(world->io, "/spool/0/00000001.seg"));
  world_free(world);
}
END_TEST

START_TEST(a_record_is_read_back_whole_or_not) {
  struct world *world = world_with_messages(3);
  world_stop(world);
  struct view *view = open_view(world);
  replay(world, view);
  uint8_t *room = aligned_alloc(SPOOL_ALIGNMENT, WORLD_LONG);
  ck_assert_int_eq(view_read(view, world->noted[1].place, room), E_OK);
  struct record_header header;
  uint64_t hash;
  ck_assert_int_eq(record_header_decode(&header, room, WORLD_LONG, 1, &hash), E_OK);
  ck_assert(message_is_true(span_of(room, WORLD_LONG), &header) && header.id == 2);
  world_file(world, 0)->now[world->noted[1].place.offset + 9000] ^= 1;
  ck_assert_int_eq(view_read(view, world->noted[1].place, room), E_CORRUPT);
  struct spool_place nowhere = {.segment = 77, .length = WORLD_LONG, .offset = 4096};
  ck_assert_int_eq(view_read(view, nowhere, room), E_NOT_FOUND);
  free(room);
  view_close(view);
  world_free(world);
}
END_TEST

START_TEST(alone_or_not_at_all) {
  struct world *world = world_with_messages(1);
  struct view *view;
  ck_assert_int_eq(view_open(&view, world->io, "/spool/0", true, &world->why), E_BUSY);
  world_stop(world);
  ck_assert_int_eq(view_open(&view, world->io, "/spool/0", true, &world->why), E_OK);
  ck_assert_int_eq(world_open(world), E_BUSY);
  view_close(view);
  ck_assert(!view_is_in_use(world->io, "/spool/0"));
  world_start(world);
  world_free(world);
}
END_TEST

int main(void) {
  TCase *all = tcase_create("view");
  tcase_add_test(all, all_is_seen_and_nothing_is_changed);
  tcase_add_test(all, damage_in_the_newest_costs_its_record_alone_if_commits_were_synced);
  tcase_add_test(all, damage_has_a_place_and_a_reason);
  tcase_add_test(all, a_header_that_is_lost_leaves_a_gap_and_its_file);
  tcase_add_test(all, a_record_is_read_back_whole_or_not);
  tcase_add_test(all, alone_or_not_at_all);
  return unit_main("queue/spool/view", &all, 1);
}
