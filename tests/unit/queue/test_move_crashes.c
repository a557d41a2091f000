/* What is moved is neither lost nor comes back: any order of events, on a disk that is full, or short of memory, or loses its power at any moment. */
#include "tests/unit/queue/move_world.c"

/* ---- any order, and crashes ---- */

static void look_at(struct message *message, bool power) {
  struct known *k = &known[message->id];
  hold(message->id <= ids && message->recipients <= k->recipients, "message %lu was never sent", (unsigned long)message->id);
  for (unsigned i = 0; i < message->recipients; i++) {
    const struct recipient *recipient = &message->recipient[i];
    struct kept *kept = &k->kept[recipient->index];
    if (recipient->state == RECIPIENT_DONE) continue;
    hold(!kept->done_safe, "message %lu recipient %u had ended and is back", (unsigned long)message->id, recipient->index);
    hold(recipient->attempts >= kept->attempts_safe && recipient->attempts <= kept->attempts, "message %lu: %u attempts of %u..%u",
         (unsigned long)message->id, recipient->attempts, kept->attempts_safe, kept->attempts);
    bool untried = recipient->attempts == 0 && recipient->due_ms <= 1; /* 1: moved */
    hold(untried || recipient->due_ms == kept->due_ms[recipient->attempts], "message %lu is due at another time", (unsigned long)message->id);
    kept->attempts = kept->attempts_noted = recipient->attempts;
    if (power) kept->attempts_safe = recipient->attempts;
    kept->done = kept->unsure = false;
  }
}

/*
 * Not there after a crash. Behind a loss of power that is for good. But after a kill what says so may be in the cache alone, and be taken away by a loss of power that
 * follows: then it is back as it was, tries and all. So long as the newest segment is not synced, or, where a full disk freed a segment without the outcomes, at any time.
 */
static void note_gone(struct kept *kept, bool power, bool sound) {
  kept->done = true;
  kept->done_safe |= power;
  kept->unsure = !power && !sound;
  kept->done_at = 0; /* positions begin anew */
}

static bool is_live_in(const struct message *message, unsigned index) {
  for (unsigned i = 0; message != NULL && i < message->recipients; i++)
    if (message->recipient[i].index == index && message->recipient[i].state != RECIPIENT_DONE) return true;
  return false;
}

/* What found no room at the start. */
static void load_rest(void) {
  for (unsigned i = 0; i < 2000 && schedule.unloaded > 0; i++) {
    loader_turn(&schedule.loader, UINT64_MAX);
    turn();
  }
  hold(schedule.unloaded == 0, "%lu messages stay on disk", (unsigned long)schedule.unloaded);
}

/*
 * What was not released must not be there; but on a disk so full that not even outcomes find room a segment goes without them (FORMAT.md), and a
 * write that found no space may be there.
 */
static void crash_and_check(bool power, bool sound) {
  static struct message *found[IDS];
  uint64_t released = spool_outcomes_released(spool);
  slab.limit_bytes = any(2) == 0 ? MEMORY : any(MEMORY_SCARCE);
  crash(power);
  slab.limit_bytes = MEMORY;
  schedule_begin(&schedule);
  load_rest();
  memset(found, 0, sizeof found);
  for (unsigned i = 0; i < SCHEDULE_LISTS; i++)
    for (struct message *message = schedule.list[i].first; message != NULL; message = message->next) found[message->id] = message;
  for (uint64_t id = 1; id <= ids; id++) {
    struct known *k = &known[id];
    bool owed = power ? k->safe : k->accepted; /* what a kill found in the cache was never answered for */
    for (unsigned r = 0; r < k->recipients; r++) {
      bool live = is_live_in(found[id], r);
      hold(!owed || k->kept[r].done || live, "message %lu recipient %u is lost", (unsigned long)id, r);
      bool held = k->kept[r].done && k->kept[r].done_at > released;
      hold(!sound || !owed || !held || live, "message %lu recipient %u: its end was written before it was released", (unsigned long)id, r);
      if (!live) note_gone(&k->kept[r], power, sound);
    }
    if (found[id] != NULL) look_at(found[id], power);
    k->accepted = found[id] != NULL;
    k->safe = found[id] != NULL && (power || k->safe);
  }
}

static void note_safe(void) {
  if (!spool_idle(spool)) return;
  for (uint64_t id = 1; id <= ids; id++) {
    known[id].safe = known[id].accepted;
    for (unsigned r = 0; r < known[id].recipients; r++) {
      known[id].kept[r].done_safe = known[id].kept[r].done && !known[id].kept[r].unsure;
      known[id].kept[r].attempts_safe = known[id].kept[r].attempts_noted;
    }
  }
}

static void any_answer(void) {
  if (due_count == 0) return;
  unsigned at = any(due_count);
  if (any(3) == 0 || kept_of(&due[at])->attempts == ATTEMPTS - 1) {
    answer_done(at);
  } else {
    answer_defer(at, 1 + any(100));
  }
}

static void any_wish(void) {
  end_wishes();
  struct wish *wish = &wishes[any(WISHES)];
  if (!wish->under_way && due_count > 0) begin_wish(wish, due[any(due_count)].message);
}

/* Of the older half, of its own accord: the log asks only when there is much to gain. */
static void any_ask(void) {
  enum schedule_list list = any(2) == 0 ? SCHEDULE_STORED : SCHEDULE_LONG;
  if (schedule.list[list].first == NULL) return;
  uint32_t oldest = schedule.list[list].first->oldest, newest = schedule.list[list].last->oldest;
  if (oldest < newest) schedule.mover.segment = oldest + (newest - oldest) / 2;
  mover_look(&schedule.mover);
}

static unsigned sendings_free(void) {
  unsigned count = 0;
  for (unsigned i = 0; i < SENDS; i++) count += sendings[i].content == NULL;
  return count;
}

static void any_step(bool stalls) {
  switch (any(8)) {
  case 0:
    if (sendings_free() > 0 && ids + 1 < IDS && !spool_full(spool) && schedule.messages < 60)
      send(1 + any(RECIPIENTS), any(6000), any(4) == 0 ? any(4) : 0);
    break;
  case 1:
  case 2: any_answer(); break;
  case 3: any_wish(); break;
  case 4:
    if (any(3) == 0) any_ask();
    break;
  case 5:
    fake_slab_requests_left = any(8) == 0 ? any(6) : UINT64_MAX;
    if (stalls && any(16) == 0) disk->fail_write = E_NO_SPACE;
    if (stalls) disk->fail_write_in = 1 + any(4);
    turn();
    fake_slab_requests_left = UINT64_MAX;
    break;
  default: turn(); break;
  }
  note_safe();
}

static void crash_often(uint64_t seed, enum spool_durability durability, unsigned segments_max, bool stalls) {
  chance = seed;
  disk->random = seed;
  disk->one_at_a_time = seed % 3 == 0 ? 0 : 1 + (unsigned)(seed % 2);
  disk->fail_write_alone = stalls;
  options.durability = durability;
  options.hold_outcomes = seed % 4 != 0;
  options.disk_max_bytes = segments_max * SEGMENT_BYTES;
  open_all();
  for (unsigned i = 0; i < 25; i++) {
    for (unsigned n = any(1200); n > 0; n--) any_step(stalls);
    crash_and_check(any(2) == 0, segments_max == 0 && !stalls);
  }
  for (unsigned i = 0; i < 8000 && schedule.messages > 0; i++) { /* in the end all is delivered, and nothing stays on disk */
    end_wishes();
    while (due_count > 0) answer_done(0);
    turn();
  }
  settle();
  ck_assert_uint_eq(schedule.messages, 0);
  ck_assert_uint_gt(ids, 30);
}

START_TEST(nothing_is_lost_or_comes_back_by_being_moved) { crash_often((uint64_t)_i + 1, SPOOL_SYNC, 0, false); }
END_TEST
START_TEST(nor_without_a_sync_for_each) { crash_often((uint64_t)_i + 101, SPOOL_LAZY, 0, false); }
END_TEST
START_TEST(nor_on_a_disk_that_is_often_full) { crash_often((uint64_t)_i + 201, SPOOL_SYNC, 4 + (unsigned)_i % 4, false); }
END_TEST
START_TEST(nor_on_a_disk_that_finds_no_space) { crash_often((uint64_t)_i + 301, _i % 2 == 0 ? SPOOL_SYNC : SPOOL_LAZY, 0, true); }
END_TEST

/* A kill and then a loss of power, in rare orders: what the kill left in the cache alone is gone, or back, or as it was before. */
static const struct {
  uint64_t seed;
  enum spool_durability durability;
  bool stalls;
} rare[] = {{204, SPOOL_LAZY, false}, {217, SPOOL_LAZY, false}, {1421, SPOOL_SYNC, false}, {464, SPOOL_LAZY, true}};

START_TEST(nor_in_rare_orders) { crash_often(rare[_i].seed, rare[_i].durability, 0, rare[_i].stalls); }
END_TEST

#ifndef SEEDS
#define SEEDS 12
#endif

int main(void) {
  TCase *crashes = tcase_create("crashes");
  tcase_add_checked_fixture(crashes, open_world, close_world);
  tcase_set_timeout(crashes, 60);
  tcase_add_loop_test(crashes, nothing_is_lost_or_comes_back_by_being_moved, 0, SEEDS);
  tcase_add_loop_test(crashes, nor_without_a_sync_for_each, 0, SEEDS);
  tcase_add_loop_test(crashes, nor_on_a_disk_that_is_often_full, 0, SEEDS);
  tcase_add_loop_test(crashes, nor_on_a_disk_that_finds_no_space, 0, SEEDS);
  tcase_add_loop_test(crashes, nor_in_rare_orders, 0, sizeof rare / sizeof rare[0]);
  return unit_main("queue/move: crashes", &crashes, 1);
}
