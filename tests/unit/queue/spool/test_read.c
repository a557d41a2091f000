/* Stored records on their way back. */
#include "tests/unit/queue/spool/world.c"

#include "tests/lib/unit.h"

static uint8_t room[4][16384] __attribute__((aligned(SPOOL_ALIGNMENT)));

struct reading {
  struct spool_read read;
  bool done;
  int64_t result;
};

static void read_done(struct spool_read *read, int64_t result) {
  struct reading *reading = (struct reading *)read;
  ck_assert(!reading->done);
  reading->done = true;
  reading->result = result;
}

static int64_t read_now(struct world *world, struct spool_place place, uint32_t offset, void *at, size_t len) {
  struct reading reading = {.read = {.place = place, .offset = offset, .slice = {at, len}, .done = read_done}};
  spool_read_start(world->spool, &reading.read);
  ck_assert(!reading.done);
  ck_assert_uint_le(wheel_next_ms(&world->wheel), world->now_ms); /* no sleep before it is started */
  for (unsigned i = 0; i < 10 && !reading.done; i++) world_turn(world);
  ck_assert(reading.done);
  return reading.result;
}

static struct world *with_message(struct message **m) {
  struct world *world = world_new(3);
  world_start(world);
  struct message *before = message_new(world, 5, 0, false, 1024, 1);
  *m = message_new(world, 77, 0, false, 12288, 3);
  spool_append(world->spool, &before->entry);
  spool_append(world->spool, &(*m)->entry);
  world_settle(world);
  ck_assert((*m)->told && (*m)->error == E_OK);
  message_free(before);
  return world;
}

static void damage(struct world *world, struct spool_place place, uint32_t at) {
  for (unsigned i = 0; i < FAKE_FILES; i++) /* whichever file it is */
    if (world->io->files[i].size > place.offset + at) world->io->files[i].now[place.offset + at] ^= 1;
}

START_TEST(a_whole_record_is_read_and_checked) {
  struct message *m;
  struct world *world = with_message(&m);
  struct spool_place place = m->entry.place;
  ck_assert_int_eq(read_now(world, place, 0, room[0], 12288), 12288);
  for (unsigned i = 0; i < 3; i++) ck_assert_int_eq(memcmp(room[0] + 4096 * i, m->slices[i].at, 4096), 0);
  damage(world, place, 9000);
  ck_assert_int_eq(read_now(world, place, 0, room[0], 12288), E_CORRUPT);
  damage(world, place, 9000);
  damage(world, place, 20); /* the header */
  ck_assert_int_eq(read_now(world, place, 0, room[0], 12288), E_CORRUPT);
  message_free(m);
  world_free(world);
}
END_TEST

START_TEST(pieces_are_read_and_checked_together) {
  struct message *m;
  struct world *world = with_message(&m);
  struct spool_place place = m->entry.place;
  struct io_slice slices[3] = {{room[0], 4096}, {room[1], 7680}, {room[2], 512}};
  ck_assert_int_eq(read_now(world, place, 0, room[0], 4096), 4096);
  ck_assert_int_eq(read_now(world, place, 4096, room[1], 7680), 7680);
  ck_assert_int_eq(read_now(world, place, 4096 + 7680, room[2], 512), 512);
  ck_assert_int_eq(spool_check(world->spool, place, slices, 3), E_OK);
  ck_assert_int_eq(spool_check(world->spool, place, slices, 2), E_CORRUPT);
  room[1][100] ^= 1;
  ck_assert_int_eq(spool_check(world->spool, place, slices, 3), E_CORRUPT);
  message_free(m);
  world_free(world);
}
END_TEST

START_TEST(what_is_not_there_is_not_read) {
  struct message *m;
  struct world *world = with_message(&m);
  struct spool_place place = m->entry.place, other = place;
  other.segment = 0;
  ck_assert_int_eq(read_now(world, other, 0, room[0], 512), E_NOT_FOUND);
  other.segment = 2;
  ck_assert_int_eq(read_now(world, other, 0, room[0], 512), E_NOT_FOUND);
  other = place;
  other.offset += 1 << 20;
  ck_assert_int_eq(read_now(world, other, 0, room[0], 512), E_NOT_FOUND);
  ck_assert_int_eq(read_now(world, place, 12288, room[0], 512), E_NOT_FOUND); /* beyond its end */
  ck_assert_int_eq(spool_check(world->spool, other, &(struct io_slice){room[0], 512}, 1), E_CORRUPT);
  message_free(m);
  world_free(world);
}
END_TEST

START_TEST(many_reads_wait_their_turn) {
  struct message *m;
  struct world *world = with_message(&m);
  enum { COUNT = 700 };
  struct reading *readings = calloc(COUNT, sizeof *readings);
  for (unsigned i = 0; i < COUNT; i++) {
    readings[i].read = (struct spool_read){.place = m->entry.place, .slice = {room[i % 4], 12288}, .done = read_done};
    spool_read_start(world->spool, &readings[i].read);
  }
  for (unsigned i = 0; i < 10; i++) {
    world_turn(world);
    ck_assert_uint_le(world->io->operations_count, 300);
  }
  for (unsigned i = 0; i < COUNT; i++) ck_assert(readings[i].done && readings[i].result == 12288);
  free(readings);
  message_free(m);
  world_free(world);
}
END_TEST

/* On a device of 4 KiB sectors, and through the page cache where direct I/O is refused; after a restart too, and on the other kind then. */
START_TEST(other_disks) {
  struct world *world = world_new(3);
  world->io->alignment = _i == 0 ? 4096 : 512;
  world->io->refuse_direct = _i == 1;
  world_start(world);
  ck_assert_uint_eq(spool_padding(world->spool), _i == 0 ? 4096 : 512);
  uint32_t unit = spool_padding(world->spool);
  struct message *m = message_new(world, 1, 0, false, unit, 1), *n = message_new(world, 2, 0, false, unit * 3, 1);
  spool_append(world->spool, &m->entry);
  spool_append(world->spool, &n->entry);
  append_outcome(world, RECORD_DEFERRED, 1, 1);
  world_settle(world);
  ck_assert_int_eq(read_now(world, n->entry.place, 0, room[0], unit * 3), unit * 3);
  world_crash(world, true);
  world->io->alignment = 4096; /* the directory was copied to another disk */
  world->io->refuse_direct = false;
  world_start(world);
  ck_assert_uint_eq(spool_padding(world->spool), 4096);
  ck_assert_uint_eq(world->noted_count, 3);
  ck_assert_int_eq(read_now(world, n->entry.place, 0, room[0], unit * 3), unit * 3);
  spool_forget(world->spool, m->entry.place);
  spool_forget(world->spool, n->entry.place);
  struct message *next = message_new(world, 3, 0, false, 4096, 1);
  spool_append(world->spool, &next->entry);
  world_settle(world);
  ck_assert(next->told && next->error == E_OK);
  message_free(m);
  message_free(n);
  message_free(next);
  world_free(world);
}
END_TEST

int main(void) {
  TCase *read = tcase_create("read");
  tcase_add_test(read, a_whole_record_is_read_and_checked);
  tcase_add_test(read, pieces_are_read_and_checked_together);
  tcase_add_test(read, what_is_not_there_is_not_read);
  tcase_add_test(read, many_reads_wait_their_turn);
  tcase_add_loop_test(read, other_disks, 0, 3);
  return unit_main("queue/spool/read", (TCase *[]){read}, 1);
}
