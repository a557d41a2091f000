/*
 * A spool on a disk in memory, with a clock, and messages to put into it, for tests: #include this file. What replay hands out is noted and compared with
 * what was written, byte by byte.
 */
#include "tests/unit/queue/spool/fake_disk.c"

#include "core/base/wheel.h"
#include "queue/spool/log.h"
#include "queue/spool/record.h"

#define WORLD_KIND 7
#define WORLD_MESSAGES 8192
#define UNUSED __attribute__((unused))

/* One record: a version of a message, or its part. Content follows from id, part and version. */
struct message {
  struct spool_entry entry;
  struct io_slice slices[SPOOL_SLICES_MAX];
  uint64_t id;
  uint32_t version;
  bool part;
  bool told; /* durable was called */
  int error;
  struct world *world;
};

struct noted {
  uint64_t id;
  uint32_t version;
  bool part, outcome, forgotten;
  struct spool_place place;
};

struct world {
  struct io *io;
  struct wheel wheel;
  struct spool *spool;
  struct spool_options options;
  uint64_t now_ms;
  uint8_t why_room[256];
  struct fmt why;
  uint64_t damaged;
  struct noted *noted; /* by replay, in order */
  unsigned noted_count, noted_capacity;
  void (*on_durable)(struct message *message);
};

/* ---- messages ---- */

/* The n-th eight bytes of a record. */
static uint64_t pattern(uint64_t id, uint32_t version, bool part, size_t n) {
  return (id * 2 + part) * 0x9e3779b97f4a7c15 + version + n * 0x100000001b3;
}

/* How far it goes; behind is padding. */
static size_t pattern_words(const struct record_header *header) { return (RECORD_HEADER_SIZE + 12 + (size_t)header->content_size) / 8; }

static void message_durable(struct spool_entry *entry, int error) {
  struct message *message = (struct message *)entry;
  must(!message->told);
  message->told = true;
  message->error = error;
  if (message->world->on_durable != NULL) message->world->on_durable(message);
}

/* A record of `length` bytes with padding; the last few bytes are padding indeed. In `cuts` slices. */
static struct message *message_new(struct world *world, uint64_t id, uint32_t version, bool part, uint32_t length, unsigned cuts) {
  struct message *m = calloc(1, sizeof *m);
  must(m != NULL && cuts >= 1 && length % (512 * cuts) == 0);
  *m = (struct message){.id = id, .version = version, .part = part, .world = world};
  m->entry.slices = m->slices;
  m->entry.slices_count = cuts;
  m->entry.durable = message_durable;
  struct record_header header = {.type = part ? RECORD_PART : RECORD_MESSAGE, .length = length, .envelope_size = 12, .parts = version, .id = id};
  header.content_size = length - RECORD_HEADER_SIZE - 12 - (uint32_t)(id % 100);
  size_t n = 0;
  for (unsigned c = 0; c < cuts; c++) {
    uint32_t len = length / cuts;
    uint64_t *at = aligned_alloc(SPOOL_ALIGNMENT, (len + SPOOL_ALIGNMENT - 1) / SPOOL_ALIGNMENT * SPOOL_ALIGNMENT);
    must(at != NULL);
    for (size_t i = 0; i < len / 8; i++, n++) at[i] = n < pattern_words(&header) ? pattern(id, version, part, n) : 0;
    if (c == 0) record_header_encode(&header, (uint8_t *)at);
    m->slices[c] = (struct io_slice){at, len};
  }
  return m;
}

static void message_free(struct message *m) {
  for (unsigned c = 0; c < m->entry.slices_count; c++) free(m->slices[c].at);
  free(m);
}

/* Whether these bytes are what message_new made of this header. */
static bool message_is_true(struct span record, const struct record_header *header) {
  if (header->length != record.len || header->envelope_size != 12 ||
      header->content_size != header->length - RECORD_HEADER_SIZE - 12 - header->id % 100)
    return false;
  for (size_t n = RECORD_HEADER_SIZE / 8; n < record.len / 8; n++) {
    uint64_t word;
    memcpy(&word, record.at + n * 8, sizeof word);
    if (word != (n < pattern_words(header) ? pattern(header->id, header->parts, header->type == RECORD_PART, n) : 0)) return false;
  }
  return true;
}

static UNUSED void append_outcome(struct world *world, enum record_outcome_kind kind, uint64_t id, uint16_t attempts) {
  uint8_t bytes[RECORD_OUTCOME_SIZE];
  struct record_outcome outcome = {.kind = kind, .id = id, .attempts = attempts};
  record_outcome_encode(&outcome, bytes);
  spool_append_outcome(world->spool, span_of(bytes, sizeof bytes));
}

/* ---- replay ---- */

static struct noted *note(struct world *world) {
  if (world->noted_count == world->noted_capacity) {
    world->noted_capacity = world->noted_capacity * 2 + 64;
    world->noted = realloc(world->noted, world->noted_capacity * sizeof *world->noted);
    must(world->noted != NULL);
  }
  struct noted *noted = &world->noted[world->noted_count++];
  *noted = (struct noted){0};
  return noted;
}

static void note_record(void *context, struct span record, struct spool_place place) {
  struct record_header header;
  uint64_t hash;
  must(record_header_decode(&header, record.at, record.len, place.segment, &hash) == E_OK);
  must(place.length == header.length && message_is_true(record, &header));
  *note(context) = (struct noted){.id = header.id, .version = header.parts, .part = header.type == RECORD_PART, .place = place};
}

static void note_outcome(void *context, struct span bytes) {
  struct record_outcome outcome;
  must(record_outcome_decode(&outcome, bytes) == E_OK);
  *note(context) = (struct noted){.id = outcome.id, .version = outcome.attempts, .outcome = true};
}

/* ---- life ---- */

static struct world *world_new(uint64_t seed) {
  struct world *world = calloc(1, sizeof *world);
  must(world != NULL);
  world->io = fake_new(seed);
  world->now_ms = 1000;
  world->options = (struct spool_options){.path = "/spool/0", .segment_size_bytes = 64 << 10};
  return world;
}

static int world_open(struct world *world) {
  wheel_init(&world->wheel, world->now_ms);
  world->why = fmt_over(world->why_room, sizeof world->why_room);
  world->noted_count = 0;
  world->damaged = 0;
  return spool_open(&world->spool, world->io, &world->wheel, &world->options, WORLD_KIND, &world->why);
}

static int world_replay(struct world *world) {
  struct spool_replay replay = {note_record, note_outcome, world};
  return spool_replay(world->spool, &replay, &world->damaged, &world->why);
}

static void world_start(struct world *world) {
  int error = world_open(world);
  must(error == E_OK);
  error = world_replay(world);
  must(error == E_OK);
}

static void world_turn(struct world *world) {
  const struct io_completion *done;
  unsigned count = io_wait(world->io, 0, &done);
  for (unsigned i = 0; i < count; i++) spool_complete(world->spool, &done[i]);
  world->now_ms++;
  wheel_advance(&world->wheel, world->now_ms, world, 1000);
  spool_turn(world->spool, world->now_ms);
}

static UNUSED void world_turns(struct world *world, unsigned turns) {
  for (unsigned i = 0; i < turns; i++) world_turn(world);
}

/* Until nothing is waiting, and a few turns on, so that what was started besides is done. */
static UNUSED void world_settle(struct world *world) {
  for (unsigned i = 0; i < 20000 && !spool_idle(world->spool); i++) world_turn(world);
  must(spool_idle(world->spool));
  for (unsigned i = 0; i < 40; i++) world_turn(world);
}

static UNUSED void world_stop(struct world *world) {
  spool_close(world->spool);
  world->spool = NULL;
}

/* The process or the machine dies. */
static UNUSED void world_crash(struct world *world, bool power) {
  world->io->hold = false;
  fake_crash(world->io, power);
  spool_close(world->spool);
  world->spool = NULL;
  fake_revive(world->io);
}

static void world_free(struct world *world) {
  if (world->spool != NULL) spool_close(world->spool);
  fake_free(world->io);
  free(world->noted);
  free(world);
}

/* Ids 1..count, two to a segment, in the files 00000000.seg, 00000001.seg... (as sequences 1, 2...). */
#define WORLD_LONG 28672 /* two fit into a segment of 64 KiB */
static UNUSED struct world *world_with_messages(unsigned count) {
  struct world *world = world_new(1);
  world_start(world);
  for (uint64_t id = 1; id <= count; id++) {
    struct message *m = message_new(world, id, 0, false, WORLD_LONG, 1);
    spool_append(world->spool, &m->entry);
    world_settle(world);
    must(m->told && m->error == E_OK);
    message_free(m);
  }
  return world;
}

static UNUSED struct fake_file *world_file(struct world *world, unsigned slot) {
  char path[64];
  snprintf(path, sizeof path, "/spool/0/%08u.seg", slot);
  struct fake_file *file = fake_find(world->io, path);
  must(file != NULL);
  return file;
}
