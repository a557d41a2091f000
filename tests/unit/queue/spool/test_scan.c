/* What is found at start: legal leftovers of a crash, damage, and what does not belong there. */
#include "tests/unit/queue/spool/world.c"

#include <xxhash.h>

#include "tests/lib/unit.h"

static void check_seen(const struct world *world, const char *ids) {
  ck_assert_uint_eq(world->noted_count, strlen(ids));
  for (unsigned i = 0; i < world->noted_count; i++) ck_assert_uint_eq(world->noted[i].id, (uint64_t)(ids[i] - '0'));
}

static bool why_has(const struct world *world, const char *text) { return memmem(world->why.at, world->why.len, text, strlen(text)) != NULL; }

START_TEST(an_empty_directory_and_an_idle_restart) {
  struct world *world = world_new(1);
  world_start(world);
  ck_assert_uint_le(wheel_next_ms(&world->wheel), world->now_ms); /* a loop with nothing else to do takes a turn */
  world_settle(world);
  world_stop(world);
  world_start(world);
  world_settle(world);
  ck_assert_uint_eq(world->noted_count, 0);
  ck_assert_uint_eq(spool_stats(world->spool)->segments, 2);
  ck_assert_uint_eq(spool_stats(world->spool)->segments_free, 2);
  world_free(world);
}
END_TEST

START_TEST(what_was_replayed_is_synced_though_nothing_is_appended) {
  struct world *world = world_with_messages(3);
  world_crash(world, false);
  world_start(world);
  ck_assert(!spool_idle(world->spool));
  uint64_t syncs = world->io->syncs;
  world_settle(world);
  ck_assert_uint_eq(world->io->syncs, syncs + 1);
  world_free(world);
}
END_TEST

START_TEST(one_process_at_a_time) {
  struct world *world = world_with_messages(1);
  struct spool *other;
  ck_assert_int_eq(spool_open(&other, world->io, &world->wheel, &world->options, WORLD_KIND + 1, &world->why), E_BUSY);
  ck_assert(why_has(world, "/spool/0/lock: another process"));
  world_stop(world);
  world_file(world, 1)->locked = true; /* a write of a process that was killed has not ended yet */
  world->why.len = 0;
  ck_assert_int_eq(world_open(world), E_BUSY);
  ck_assert(why_has(world, "00000001.seg"));
  ck_assert_uint_ge(world->io->clock_ns, 5000000000); /* it was waited for */
  world->io->unlock_in = 20;
  world_start(world);
  ck_assert_uint_eq(world->io->unlock_in, 0);
  check_seen(world, "1");
  world_free(world);
}
END_TEST

START_TEST(damage_costs_its_record_and_is_counted) {
  struct world *world = world_with_messages(6);
  world_crash(world, true);
  world_file(world, 1)->now[4096 + WORLD_LONG + 5000] ^= 1;
  world_start(world);
  check_seen(world, "12356");
  ck_assert_uint_eq(world->damaged, 1);
  world_crash(world, true);
  world_file(world, 0)->now[4096] ^= 1; /* the first record: what is behind it is found */
  world_start(world);
  check_seen(world, "2356");
  ck_assert_uint_eq(world->damaged, 2);
  world_free(world);
}
END_TEST

/* In the newest segment a gap may be a commit that never ended; but not if whole commits follow, which end with their outcomes. */
START_TEST(damage_in_the_newest_costs_its_record_too) {
  struct world *world = world_new(1);
  world->options.segment_size_bytes = 1 << 20;
  world_start(world);
  for (unsigned id = 1; id <= 9; id++) {
    struct message *m = message_new(world, id, 0, false, 5120, 1);
    spool_append(world->spool, &m->entry);
    append_outcome(world, RECORD_DEFERRED, id, 1);
    world_settle(world);
    message_free(m);
  }
  struct fake_file *file = world_file(world, 0);
  world_crash(world, true);
  file->now[4096 + 3 * 8192 + 2000] ^= 1; /* number 4 */
  file->now[4096 + 6 * 8192] ^= 1;        /* and 7 */
  world_start(world);
  char seen[16] = "";
  for (unsigned i = 0; i < world->noted_count; i++)
    if (!world->noted[i].outcome) seen[strlen(seen)] = (char)('0' + world->noted[i].id);
  ck_assert_str_eq(seen, "1235689");
  ck_assert_uint_eq(world->damaged, 1);
  world_crash(world, true);
  file->now[4096 + 8 * 8192 + 2000] ^= 1; /* the last: as a commit that did not end looks, and behind it there is one of its outcomes at most */
  world_start(world);
  ck_assert_uint_eq(world->damaged, 1);
  world_free(world);
}
END_TEST

/* On a full disk the newest segment goes on behind a commit that did not come to its end, of which only the first record was there. */
START_TEST(what_comes_behind_an_unfinished_commit_counts) {
  struct world *world = world_new(1);
  world->options.disk_max_bytes = 3 * world->options.segment_size_bytes;
  world->options.durability = _i == 0 ? SPOOL_SYNC : SPOOL_LAZY;
  world_start(world);
  for (unsigned id = 1; id <= 4; id++) {
    struct message *m = message_new(world, id, 0, false, id <= 2 ? WORLD_LONG : 5120, 1);
    spool_append(world->spool, &m->entry);
    world_settle(world);
    ck_assert(m->told && m->error == E_OK);
    ck_assert_uint_eq(m->entry.place.segment, id <= 2 ? 1 : 2);
    message_free(m);
    if (id < 3) continue;
    world_crash(world, true);
    if (id == 3) world_file(world, 1)->now[4096 + 5120 + 100] ^= 1;
    world_start(world);
    check_seen(world, id == 3 ? "123" : "1234");
    ck_assert_uint_eq(world->damaged, 0);
  }
  world_free(world);
}
END_TEST

START_TEST(an_unfinished_commit_at_the_end_is_no_damage) {
  struct world *world = world_with_messages(6);
  world_crash(world, true);
  world_file(world, 2)->now[4096 + WORLD_LONG + 5000] ^= 1;
  world_start(world);
  check_seen(world, "12345");
  ck_assert_uint_eq(world->damaged, 0);
  struct message *m = message_new(world, 7, 0, false, WORLD_LONG, 1); /* not behind it, but in a new segment */
  spool_append(world->spool, &m->entry);
  world_settle(world);
  ck_assert_uint_eq(m->entry.place.segment, 4);
  message_free(m);
  world_crash(world, true);
  world_file(world, 2)->now[4096 + WORLD_LONG + 5000] ^= 1; /* even if it were whole: it was not there, and so it stays */
  world_start(world);
  check_seen(world, "123457");
  ck_assert_uint_eq(world->damaged, 0);
  world_free(world);
}
END_TEST

START_TEST(a_file_cut_short_gives_what_is_there) {
  struct world *world = world_with_messages(6);
  world_crash(world, true);
  world_file(world, 1)->size = 4096 + WORLD_LONG + 512;
  world_start(world);
  check_seen(world, "12356");
  ck_assert_uint_eq(world->damaged, 1);
  world_free(world);
}
END_TEST

/* The header of one in the middle: what is missing is counted, and the file set aside for whoever wants to look. */
START_TEST(a_damaged_header_in_the_middle_is_set_aside) {
  struct world *world = world_with_messages(6);
  world_crash(world, true);
  world_file(world, 1)->now[13] ^= 1;
  world_start(world);
  check_seen(world, "1256");
  ck_assert_uint_eq(world->damaged, 1);
  ck_assert_ptr_nonnull(fake_find(world->io, "/spool/0/00000001.bad"));
  ck_assert_ptr_null(fake_find(world->io, "/spool/0/00000001.seg"));
  world_settle(world);
  world_free(world);
}
END_TEST

START_TEST(a_torn_header_of_the_next_is_filled_anew) {
  struct world *world = world_with_messages(3);
  world_crash(world, true);
  struct fake_file *next = world_file(world, 2); /* free */
  memset(next->now, 0xaa, 512);
  world_start(world);
  check_seen(world, "123");
  ck_assert_uint_eq(world->damaged, 0);
  world_settle(world);
  ck_assert_uint_eq(spool_stats(world->spool)->segments_free, 2);
  for (unsigned i = 512; i < 65536; i++) ck_assert_msg(next->now[i] == 0, "byte %u", i);
  world_free(world);
}
END_TEST

START_TEST(a_file_that_is_not_finished_goes) {
  struct world *world = world_with_messages(1);
  world_stop(world);
  io_file file;
  ck_assert_int_eq(io_file_open(world->io, "/spool/0/00000077.seg", IO_FILE_WRITE | IO_FILE_CREATE, &file), E_OK);
  io_file_close(world->io, file);
  ck_assert_int_eq(io_file_open(world->io, "/spool/0/notes.txt", IO_FILE_WRITE | IO_FILE_CREATE, &file), E_OK);
  io_file_close(world->io, file);
  world_start(world);
  ck_assert_ptr_null(fake_find(world->io, "/spool/0/00000077.seg"));
  ck_assert_ptr_nonnull(fake_find(world->io, "/spool/0/notes.txt"));
  world_free(world);
}
END_TEST

static void copy_file(struct fake_file *to, const struct fake_file *from) {
  fake_reserve(to, from->size);
  memcpy(to->now, from->now, from->size);
  memcpy(to->safe, from->now, from->size);
  to->size = to->safe_size = from->size;
}

START_TEST(a_copy_of_a_live_segment_is_refused) {
  struct world *world = world_with_messages(4);
  world_stop(world);
  copy_file(fake_create(world->io, "/spool/0/00000050.seg"), world_file(world, 1));
  ck_assert_int_eq(world_open(world), E_CORRUPT);
  ck_assert(why_has(world, "same sequence number"));
  world->spool = NULL;
  world_free(world);
}
END_TEST

/* Somebody puts back an old file: it is from before the tail, so it does not count. */
START_TEST(what_was_freed_does_not_come_back_from_a_copy) {
  struct world *world = world_with_messages(4);
  copy_file(fake_create(world->io, "/spool/old"), world_file(world, 0));
  spool_forget(world->spool, (struct spool_place){1, WORLD_LONG, 4096});
  spool_forget(world->spool, (struct spool_place){1, WORLD_LONG, 4096 + WORLD_LONG});
  world_settle(world);
  for (uint64_t id = 5; id <= 7; id++) {
    struct message *m = message_new(world, id, 0, false, WORLD_LONG, 1);
    spool_append(world->spool, &m->entry);
    world_settle(world);
    message_free(m);
  }
  world_stop(world);
  copy_file(fake_create(world->io, "/spool/0/00000060.seg"), fake_find(world->io, "/spool/old"));
  world_start(world);
  check_seen(world, "34567");
  ck_assert_uint_eq(world->damaged, 0);
  world_free(world);
}
END_TEST

START_TEST(segments_of_another_size_are_replayed_and_then_replaced) {
  struct world *world = world_with_messages(6);
  world_stop(world);
  world->options.segment_size_bytes = 128 << 10;
  world_start(world);
  check_seen(world, "123456");
  for (unsigned i = 0; i < 6; i++) spool_forget(world->spool, world->noted[i].place);
  struct message *m = message_new(world, 7, 0, false, 100 * 1024, 1);
  spool_append(world->spool, &m->entry);
  world_settle(world);
  ck_assert(m->told && m->error == E_OK);
  ck_assert_uint_eq(spool_stats(world->spool)->disk_bytes % (128 << 10), 0);
  message_free(m);
  world_crash(world, true);
  world_start(world);
  check_seen(world, "7");
  world_free(world);
}
END_TEST

START_TEST(sizes_that_cannot_work_are_refused) {
  struct world *world = world_new(1);
  world->options.segment_size_bytes = 60 << 10;
  ck_assert_int_eq(world_open(world), E_RANGE);
  ck_assert(why_has(world, "64 KiB"));
  world->options.segment_size_bytes = 1 << 20;
  world->options.disk_max_bytes = 2 << 20;
  ck_assert_int_eq(world_open(world), E_RANGE);
  ck_assert(why_has(world, "three segments"));
  world->spool = NULL;
  world_free(world);
}
END_TEST

/* Eight of its part of the disk, or of what it may take, a power of two; existing ones of another size go when they are free. */
START_TEST(segments_fit_the_disk) {
  static const struct {
    uint64_t capacity_mib, max_mib;
    unsigned sharers;
    uint64_t size_mib;
  } cases[] = {{4096, 0, 2, 64}, {1024, 0, 2, 64}, {1000, 0, 2, 32},   {200, 0, 1, 16},
               {70, 0, 2, 8},    {30, 0, 2, 8},    {4096, 300, 1, 32}, {200, 0, 0, 64}};
  for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    struct world *world = world_new(1);
    world->io->capacity = cases[i].capacity_mib << 20;
    world->options.segment_size_bytes = 64 << 20;
    world->options.disk_sharers = cases[i].sharers;
    world->options.disk_max_bytes = cases[i].max_mib << 20;
    world_start(world);
    ck_assert_uint_eq(spool_stats(world->spool)->segment_size_bytes >> 20, cases[i].size_mib);
    world_free(world);
  }
}
END_TEST

START_TEST(a_smaller_disk_at_the_next_start_loses_nothing) {
  struct world *world = world_new(1);
  world->options.segment_size_bytes = 16 << 20;
  world->options.disk_sharers = 1;
  world->io->capacity = 400 << 20;
  world_start(world);
  struct message *m[3];
  for (unsigned i = 0; i < 3; i++) {
    m[i] = message_new(world, i + 1, 0, false, 1 << 20, 1);
    spool_append(world->spool, &m[i]->entry);
    world_settle(world);
    world_stop(world);
    world->io->capacity = i == 0 ? 100 << 20 : 400 << 20;
    world_start(world);
    ck_assert_uint_eq(spool_stats(world->spool)->segment_size_bytes >> 20, i == 0 ? 8 : 16);
    ck_assert_uint_eq(world->noted_count, i + 1);
    ck_assert_uint_eq(world->damaged, 0);
  }
  for (unsigned i = 0; i < 3; i++) message_free(m[i]);
  world_free(world);
}
END_TEST

static void ignore_record(void *context, struct span record, struct spool_place place) {
  (void)context;
  (void)record;
  (void)place;
}

static void count_outcome(void *context, struct span outcome) {
  ck_assert_uint_eq(outcome.len, 29);
  ++*(unsigned *)context;
}

START_TEST(outcomes_that_are_none_end_a_segment) {
  struct world *world = world_with_messages(1);
  world_crash(world, true);
  struct fake_file *file = world_file(world, 0);
  struct record_segment segment;
  ck_assert_int_eq(record_segment_decode(&segment, file->now), E_OK);
  uint8_t *at = file->now + 4096 + WORLD_LONG;
  struct record_header header = {.type = RECORD_OUTCOMES, .length = 4096, .content_size = 30};
  for (unsigned frame = 0; frame < 4; frame++) {
    static const uint8_t frames[4][3] = {{25, 0, 0}, {29, 0, 0}, {0, 0, 0}, {65, 0, 0}}; /* with more behind, whole, empty, too long */
    memset(at, 0, 4096);
    record_header_encode(&header, at);
    at[64] = frames[frame][0];
    at[65] = RECORD_DELIVERED;
    struct span body = span_of(at + 64, 4096 - 64);
    record_header_seal(at, segment.sequence, record_hash(segment.salt, &body, 1));
    int error = world_open(world);
    ck_assert_int_eq(error, E_OK);
    unsigned outcomes = 0;
    struct spool_replay replay = {ignore_record, count_outcome, &outcomes};
    ck_assert_int_eq(spool_replay(world->spool, &replay, &world->damaged, &world->why), E_OK);
    ck_assert_uint_eq(outcomes, frame == 1 ? 1 : 0);
    world_crash(world, true);
  }
  world_free(world);
}
END_TEST

/* One header block, or one record, of a version nobody knows yet, in the middle of what is well known. */
START_TEST(a_newer_version_is_refused_and_not_touched) {
  for (unsigned of_record = 0; of_record < 2; of_record++) {
    struct world *world = world_with_messages(5);
    world_stop(world);
    struct fake_file *file = world_file(world, 1);
    uint8_t *at = file->now + of_record * 4096, before[4096];
    size_t checksum_at = of_record ? 56 : 504;
    at[of_record ? 4 : 8] = 2;
    uint64_t checksum = XXH3_64bits(at, checksum_at);
    memcpy(at + checksum_at, &checksum, sizeof checksum);
    memcpy(before, at, sizeof before);
    int error = world_open(world);
    if (error == E_OK) error = world_replay(world);
    ck_assert_int_eq(error, E_UNSUPPORTED);
    ck_assert(why_has(world, "00000001.seg: ") && why_has(world, "newer version of ringpost"));
    ck_assert(memcmp(at, before, sizeof before) == 0);
    at[checksum_at] ^= 1; /* without a right checksum it is damage */
    if (of_record) world_stop(world);
    world_start(world);
    ck_assert_uint_eq(world->damaged, 1);
    world_free(world);
  }
}
END_TEST

int main(void) {
  TCase *start = tcase_create("start"), *damage = tcase_create("damage");
  tcase_add_test(start, an_empty_directory_and_an_idle_restart);
  tcase_add_test(start, what_was_replayed_is_synced_though_nothing_is_appended);
  tcase_add_test(start, one_process_at_a_time);
  tcase_add_test(start, a_torn_header_of_the_next_is_filled_anew);
  tcase_add_test(start, a_file_that_is_not_finished_goes);
  tcase_add_test(start, segments_of_another_size_are_replayed_and_then_replaced);
  tcase_add_test(start, sizes_that_cannot_work_are_refused);
  tcase_add_test(damage, damage_costs_its_record_and_is_counted);
  tcase_add_test(damage, damage_in_the_newest_costs_its_record_too);
  tcase_add_loop_test(damage, what_comes_behind_an_unfinished_commit_counts, 0, 2);
  tcase_add_test(damage, an_unfinished_commit_at_the_end_is_no_damage);
  tcase_add_test(damage, a_file_cut_short_gives_what_is_there);
  tcase_add_test(damage, a_damaged_header_in_the_middle_is_set_aside);
  tcase_add_test(damage, a_newer_version_is_refused_and_not_touched);
  tcase_add_test(damage, a_copy_of_a_live_segment_is_refused);
  tcase_add_test(damage, what_was_freed_does_not_come_back_from_a_copy);
  tcase_add_test(damage, outcomes_that_are_none_end_a_segment);
  tcase_add_test(damage, segments_fit_the_disk);
  tcase_add_test(damage, a_smaller_disk_at_the_next_start_loses_nothing);
  return unit_main("queue/spool/scan", (TCase *[]){start, damage}, 2);
}
