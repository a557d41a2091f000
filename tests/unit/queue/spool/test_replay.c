/*
 * Crashes: a queue of its own on the spool, killed or cut off from power at any moment, again and again on the same disk. After each restart a ledger is held
 * against what replay hands out. The rules are DESIGN's, not the log's: what was answered is there, what has ended does not come back, nothing is invented.
 */
#include "tests/unit/queue/spool/world.c"

#include "tests/lib/unit.h"

#define IDS 16384
#ifndef SEEDS
#define SEEDS 12
#endif
#define CRASHES 25

/* As ck_assert_msg, but Check hears only of what fails: it takes notes of every assertion, and there are millions. */
#define hold(cond, ...) ((cond) ? (void)0 : ck_abort_msg(__VA_ARGS__))

/* What the ledger knows of a message. It may have a part, stored before it. */
struct known {
  bool appended, acknowledged, refused, ended; /* ended: its outcome was appended */
  bool safe, end_safe;                         /* ... and of these two we know for certain that they were made durable */
  bool has_part;
  bool live;
  unsigned moving;  /* copies under way */
  bool absent;      /* was not there after a restart */
  bool dropped;     /* came back without its part: the queue gives it up */
  uint32_t version; /* the newest appended */
  struct spool_place place, part_place;
};

struct ledger {
  struct world *world;
  struct known known[IDS];
  uint64_t ids;       /* 1..ids are in use */
  uint64_t oldest;    /* below, all have ended */
  unsigned under_way; /* records appended whose durable was not called */
  struct message *flying[4096];
  unsigned flying_count;
  uint32_t move_from; /* 0: nothing to move */
  bool stalls;        /* the disk finds no space for writes now and then */
  uint64_t refusals, moves, replayed;
};

static struct ledger *ledger_of; /* the test's own; Check runs each test in a process of its own */

static void fly(struct ledger *l, struct message *m) {
  l->flying[l->flying_count++] = m;
  must(l->flying_count < 4096);
  spool_append(l->world->spool, &m->entry);
}

static uint32_t some_length(struct ledger *l) {
  return 512 * (uint32_t)(1 + fake_random(l->world->io) % (fake_random(l->world->io) % 8 == 0 ? 60 : 8));
}

static void land(struct message *m) {
  struct ledger *l = ledger_of;
  struct known *k = &l->known[m->id];
  if (m->error != E_OK) {
    must(m->error == E_NO_SPACE);
    if (m->entry.move) {
      k->moving--;
    } else if (l->stalls) {
      k->live = false; /* may be there after a restart, or not */
    } else {
      k->refused = true;
      l->refusals++;
    }
    return;
  }
  if (m->entry.move) {
    struct spool_place *place = m->part ? &k->part_place : &k->place;
    k->moving--;
    spool_forget(l->world->spool, *place);
    *place = m->entry.place;
    return;
  }
  if (m->part) {
    k->part_place = m->entry.place;
    fly(l, message_new(l->world, m->id, 0, false, some_length(l), 1));
    return;
  }
  k->acknowledged = true;
  k->place = m->entry.place;
  k->live = true;
}

static void collect_flying(struct ledger *l, bool all) {
  unsigned kept = 0;
  for (unsigned i = 0; i < l->flying_count; i++) {
    struct message *m = l->flying[i];
    if (all || m->told) {
      message_free(m);
    } else {
      l->flying[kept++] = m;
    }
  }
  l->flying_count = kept;
}

static void send_new(struct ledger *l) {
  uint64_t id = ++l->ids;
  must(id < IDS);
  struct known *k = &l->known[id];
  *k = (struct known){.appended = true};
  k->has_part = fake_random(l->world->io) % 4 == 0;
  if (k->has_part) {
    fly(l, message_new(l->world, id, 0, true, some_length(l), 1)); /* the rest follows when this is stored */
  } else {
    fly(l, message_new(l->world, id, 0, false, some_length(l), 1));
  }
}

static bool is_settled(const struct known *k) { return k->live && k->moving == 0; }

static void forget_all(struct ledger *l, struct known *k) {
  spool_forget(l->world->spool, k->place);
  if (k->has_part) spool_forget(l->world->spool, k->part_place);
  k->live = false;
}

static void end_one(struct ledger *l) {
  uint64_t span = l->ids - l->oldest + 1;
  if (span == 0) return;
  uint64_t id = l->oldest + fake_random(l->world->io) % span;
  if (fake_random(l->world->io) % 3 != 0) id = l->oldest; /* mostly in order */
  struct known *k = &l->known[id];
  if (!is_settled(k)) return;
  if (fake_random(l->world->io) % 4 == 0) {
    append_outcome(l->world, RECORD_DEFERRED, id, 1);
    return;
  }
  append_outcome(l->world, RECORD_DELIVERED, id, 2);
  k->ended = true;
  forget_all(l, k);
}

static void move_one(struct ledger *l, uint64_t id, bool part) {
  struct known *k = &l->known[id];
  k->moving++;
  k->version++;
  struct message *m = message_new(l->world, id, k->version, part, part ? k->part_place.length : k->place.length, 1);
  m->entry.move = m->entry.store = true;
  fly(l, m);
}

static void ask_move(void *context, uint32_t segment, bool cornered) {
  (void)cornered;
  ((struct ledger *)context)->move_from = segment;
}

static void move_some(struct ledger *l) {
  if (l->move_from == 0) return;
  for (uint64_t id = 1; id <= l->ids; id++) {
    struct known *k = &l->known[id];
    if (!is_settled(k)) continue;
    bool message_too = k->place.segment == l->move_from, part_too = k->has_part && k->part_place.segment == l->move_from;
    if (part_too) move_one(l, id, true);
    if (message_too) move_one(l, id, false);
    l->moves += message_too || part_too;
  }
  l->move_from = 0;
}

/* What the log owes from here on, as nothing is waiting. */
static void note_safe(struct ledger *l) {
  if (!spool_idle(l->world->spool)) return;
  for (uint64_t id = l->oldest; id <= l->ids; id++) {
    l->known[id].safe = l->known[id].acknowledged;
    l->known[id].end_safe = l->known[id].ended;
  }
}

static void advance_oldest(struct ledger *l) {
  while (l->oldest <= l->ids && (l->known[l->oldest].end_safe || l->known[l->oldest].refused)) l->oldest++;
}

static void step(struct ledger *l, unsigned appetite) {
  struct io *io = l->world->io;
  for (unsigned i = fake_random(io) % 4; i > 0 && !spool_full(l->world->spool); i--)
    if (fake_random(io) % 8 < appetite) send_new(l);
  for (unsigned i = fake_random(io) % 4; i > 0; i--) end_one(l);
  if (l->oldest <= l->ids && is_settled(&l->known[l->oldest]) && fake_random(io) % 4 == 0) move_one(l, l->oldest, false); /* of its own accord */
  if (l->stalls && io->fail_write == 0 && fake_random(io) % 32 == 0) {
    io->fail_write = E_NO_SPACE;
    io->fail_write_in = 1 + (unsigned)(fake_random(io) % 4);
  }
  move_some(l);
  world_turn(l->world);
  collect_flying(l, false);
  note_safe(l);
  advance_oldest(l);
}

/* ---- after a crash ---- */

struct seen {
  unsigned records, parts;
  bool delivered; /* after the last record */
  uint32_t version;
  struct spool_place place, part_place;
};

static void look_at_replay(struct ledger *l, struct seen *seen) {
  struct world *world = l->world;
  memset(seen, 0, IDS * sizeof *seen);
  for (unsigned i = 0; i < world->noted_count; i++) {
    const struct noted *n = &world->noted[i];
    hold(n->id >= 1 && n->id <= l->ids, "message %lu was never sent", (unsigned long)n->id);
    struct known *k = &l->known[n->id];
    struct seen *s = &seen[n->id];
    hold(k->appended, "message %lu was never sent", (unsigned long)n->id);
    if (n->outcome) {
      hold(n->version == 1 || k->ended, "message %lu never ended", (unsigned long)n->id);
      if (n->version == 2) s->delivered = true;
      continue;
    }
    hold(n->version <= k->version, "message %lu has a version too many", (unsigned long)n->id);
    if (n->part) {
      if (s->parts > 0) spool_forget(world->spool, s->part_place);
      s->parts++;
      s->part_place = n->place;
      continue;
    }
    if (s->records > 0) spool_forget(world->spool, s->place);
    s->records++;
    s->version = n->version;
    s->place = n->place;
  }
}

/*
 * `all`: the cache of the living system survived, or every write was synced: what was answered counts, not only what was certainly made durable.
 * On a full disk the first segment goes although the outcomes of what was in it cannot be written: then a later record may be without its part, if it had ended.
 */
static void check_message(struct ledger *l, uint64_t id, const struct seen *s, bool all) {
  struct known *k = &l->known[id];
  if (k->dropped) return;
  hold(!k->absent || s->records == 0 || s->delivered, "message %lu was gone and is back", (unsigned long)id);
  bool answered = all ? k->acknowledged && !k->refused : k->safe && !k->refused;
  if (answered && !k->ended) hold(s->records > 0, "message %lu was answered and is gone", (unsigned long)id);
  if (answered && k->ended && s->records == 0) return;
  if (k->end_safe && s->records > 0) hold(s->delivered, "message %lu had ended and came back", (unsigned long)id);
  hold(!k->refused || s->records == 0, "message %lu was refused and is there", (unsigned long)id);
  bool may_lack = k->ended && l->world->options.disk_max_bytes != 0;
  if (k->has_part && s->records > 0 && !s->delivered && !may_lack) hold(s->parts > 0, "message %lu lost its part", (unsigned long)id);
}

/* Goes on with what the spool knows. */
static void adopt(struct ledger *l, uint64_t id, const struct seen *s, bool power) {
  struct known *k = &l->known[id];
  struct spool *spool = l->world->spool;
  k->dropped |= k->has_part && s->records > 0 && s->parts == 0;
  if (s->delivered || s->records == 0 || k->dropped) {
    if (s->records > 0) spool_forget(spool, s->place);
    if (s->parts > 0) spool_forget(spool, s->part_place);
    k->absent |= s->records == 0;
    k->live = k->acknowledged = k->safe = false; /* nothing is owed any more */
    k->ended = true;
    k->end_safe = power;
    return;
  }
  k->live = true;
  k->acknowledged |= power; /* it is certainly on disk */
  k->safe = power;
  k->ended = k->end_safe = false;
  k->moving = 0;
  k->place = s->place;
  k->part_place = s->part_place;
  l->replayed++;
}

static void crash_and_check(struct ledger *l, bool power, bool synced) {
  static struct seen seen[IDS];
  world_crash(l->world, power);
  collect_flying(l, true);
  world_start(l->world);
  ck_assert_uint_eq(l->world->damaged, 0);
  look_at_replay(l, seen);
  for (uint64_t id = 1; id <= l->ids; id++) check_message(l, id, &seen[id], synced || !power);
  for (uint64_t id = 1; id <= l->ids; id++) adopt(l, id, &seen[id], power);
  l->oldest = 1;
  advance_oldest(l);
  l->move_from = 0;
  spool_on_move(l->world->spool, ask_move, l);
}

static void crash_often(uint64_t seed, enum spool_durability durability, uint64_t disk_max_segments, bool stalls, unsigned steps) {
  static struct ledger ledger;
  struct ledger *l = ledger_of = &ledger;
  memset(l, 0, sizeof *l);
  l->world = world_new(seed);
  l->oldest = 1;
  l->stalls = l->world->io->fail_write_alone = stalls;
  l->world->options.durability = durability;
  l->world->options.disk_max_bytes = disk_max_segments * l->world->options.segment_size_bytes;
  l->world->on_durable = land;
  l->world->io->one_at_a_time = seed % 3 == 0 ? 0 : 1 + (unsigned)(seed % 2);
  l->world->io->refuse_direct = seed % 5 == 0;
  world_start(l->world);
  spool_on_move(l->world->spool, ask_move, l);
  for (unsigned i = 0; i < CRASHES; i++) {
    unsigned appetite = 2 + (unsigned)(fake_random(l->world->io) % 6);
    for (uint64_t n = fake_random(l->world->io) % steps; n > 0; n--) step(l, appetite);
    crash_and_check(l, fake_random(l->world->io) % 2 == 0, durability == SPOOL_SYNC);
  }
  world_free(l->world);
}

START_TEST(nothing_answered_is_lost_and_nothing_ended_comes_back) {
  crash_often((uint64_t)_i + 1, SPOOL_SYNC, 0, false, 300);
  ck_assert_uint_gt(ledger_of->replayed, 0);
}
END_TEST

START_TEST(the_same_without_a_sync_for_each) { crash_often((uint64_t)_i + 100, SPOOL_LAZY, 0, false, 300); }
END_TEST

START_TEST(the_same_on_a_disk_that_is_often_full) { crash_often((uint64_t)_i + 200, SPOOL_SYNC, 4 + (uint64_t)_i % 4, false, 400); }
END_TEST

START_TEST(the_same_on_a_disk_that_finds_no_space_for_writes) {
  crash_often((uint64_t)_i + 300, _i % 2 == 0 ? SPOOL_SYNC : SPOOL_LAZY, 0, true, 300);
}
END_TEST

int main(void) {
  TCase *crash = tcase_create("crash");
  tcase_add_loop_test(crash, nothing_answered_is_lost_and_nothing_ended_comes_back, 0, SEEDS);
  tcase_add_loop_test(crash, the_same_without_a_sync_for_each, 0, SEEDS);
  tcase_add_loop_test(crash, the_same_on_a_disk_that_is_often_full, 0, SEEDS);
  tcase_add_loop_test(crash, the_same_on_a_disk_that_finds_no_space_for_writes, 0, SEEDS);
  return unit_main("queue/spool/replay", (TCase *[]){crash}, 1);
}
