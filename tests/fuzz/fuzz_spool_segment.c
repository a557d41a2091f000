/*
 * Records and outcomes as the input says are put into a spool on a disk in memory, then bytes of its segment are changed as the input says. What replay hands
 * out afterwards must be some of what was put in, in its order (note_record compares every byte): all that lies in front of the first change, and of the rest what is whole.
 */
#include "tests/unit/queue/spool/world.c"

#define RECORDS 24

struct input {
  const uint8_t *at;
  size_t len;
};

static uint32_t take(struct input *input, unsigned bytes) {
  uint32_t value = 0;
  for (; bytes > 0 && input->len > 0; bytes--, input->at++, input->len--) value = value << 8 | *input->at;
  return value;
}

/* Each item: a length, or an outcome. Returns how many there are. */
static unsigned put_in(struct world *world, struct input *input) {
  unsigned count = take(input, 1) % RECORDS;
  for (unsigned i = 0; i < count; i++) {
    uint32_t what = take(input, 1);
    if (what >= 192) {
      append_outcome(world, RECORD_DEFERRED, i + 1, 1);
    } else {
      struct message *m = message_new(world, i + 1, 0, what % 2 == 1, 512 * (1 + what % 7), 1);
      spool_append(world->spool, &m->entry);
      if (what >= 96) world_settle(world);
      for (unsigned turns = 0; turns < 100 && !m->told; turns++) world_turn(world);
      must(m->told && m->error == E_OK && m->entry.place.segment == 1);
      message_free(m);
    }
  }
  world_settle(world);
  return count;
}

static uint64_t damage(struct world *world, struct input *input) {
  struct fake_file *file = fake_find(world->io, "/spool/0/00000000.seg");
  uint64_t first = UINT64_MAX;
  while (input->len >= 3) {
    uint64_t at = RECORD_SEGMENT_SIZE + take(input, 2) % (file->size - RECORD_SEGMENT_SIZE);
    uint8_t change = (uint8_t)take(input, 1);
    if (change != 0 && at < first) first = at;
    file->now[at] ^= change;
  }
  return first;
}

static bool is_same(const struct noted *a, const struct noted *b) {
  return a->id == b->id && a->version == b->version && a->part == b->part && a->outcome == b->outcome && a->place.segment == b->place.segment &&
         a->place.offset == b->place.offset && a->place.length == b->place.length;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
  struct input input = {bytes, len < 512 ? len : 512};
  struct world *world = world_new(len);
  world->options.segment_size_bytes = 256 << 10; /* it takes all that comes */
  world_start(world);
  unsigned count = put_in(world, &input);
  world_crash(world, true);
  world_start(world);
  unsigned whole = world->noted_count; /* in the order of the disk: within a commit, outcomes come behind */
  must(whole == count);
  struct noted *before = malloc((whole + 1) * sizeof *before);
  for (unsigned i = 0; i < whole; i++) before[i] = world->noted[i];
  world_crash(world, true);
  uint64_t first = count > 0 ? damage(world, &input) : UINT64_MAX;
  world_start(world);
  must(world->noted_count <= whole);
  unsigned at = 0; /* in what was put in */
  for (unsigned i = 0; i < world->noted_count; i++, at++) {
    for (; at < whole && !is_same(&before[at], &world->noted[i]); at++)
      must(before[at].outcome || before[at].place.offset + before[at].place.length > first);
    must(at < whole);
  }
  for (; at < whole; at++) must(before[at].outcome || before[at].place.offset + before[at].place.length > first);
  free(before);
  world_free(world);
  return 0;
}
