/* Segments of a spool on the disk of world.c, for tests: #include this file. */
#include "tests/unit/queue/spool/world.c"

#include "tests/lib/unit.h"

#define LONG 28672 /* two fit into a segment of 64 KiB */

static int store(struct world *world, uint64_t id, uint32_t length, struct spool_place *place) {
  struct message *m = message_new(world, id, 0, false, length, 1);
  spool_append(world->spool, &m->entry);
  for (unsigned i = 0; i < 2000 && !m->told; i++) world_turn(world);
  ck_assert(m->told);
  int error = m->error;
  if (place != NULL) *place = m->entry.place;
  message_free(m);
  return error;
}

static void finish_message(struct world *world, uint64_t id, struct spool_place place) {
  append_outcome(world, RECORD_DELIVERED, id, 1);
  spool_forget(world->spool, place);
}

static unsigned copies_of(const struct world *world, uint64_t id) {
  unsigned copies = 0;
  for (unsigned i = 0; i < world->noted_count; i++) copies += world->noted[i].id == id && !world->noted[i].outcome;
  return copies;
}

struct asked {
  unsigned times;
  uint32_t segment;
  bool cornered;
};

static void note_asked(void *context, uint32_t segment, bool cornered) {
  struct asked *asked = context;
  asked->times++;
  asked->segment = segment;
  asked->cornered = cornered;
}
