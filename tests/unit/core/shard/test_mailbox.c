/* Letters between shards that run in threads of their own: all arrive, in order, also when mailboxes overflow and when the receiver sleeps. */
#include <pthread.h>
#include <stdlib.h>

#include "core/base/error.h"
#include "core/shard/shard.h"
#include "tests/lib/unit.h"

#define SHARDS 3
#define LETTERS 20000 /* several times a mailbox */

struct member {
  struct shard shard;
  struct shard_group *group;
  unsigned index;
  pthread_barrier_t *barrier;
  _Atomic unsigned *all_finished;
  uint32_t sent[SHARDS], got[SHARDS];
  unsigned wrong;
  unsigned finished; /* senders whose last letter came */
  bool failed;
};

static void on_letter(void *context, unsigned from, const struct letter *letter) {
  struct member *member = context;
  if (letter->number != member->got[from]) member->wrong++;
  member->got[from]++;
  if (member->got[from] == LETTERS) member->finished++;
}

/* Sends in bursts of uneven size, so that the receivers sleep at times, and are flooded at others. */
static void on_turn(void *context) {
  struct member *member = context;
  bool all_sent = true;
  for (unsigned to = 0; to < SHARDS; to++) {
    unsigned burst = member->sent[to] % 7 == 0 ? 6000 : 3;
    for (; burst > 0 && member->sent[to] < LETTERS; burst--) shard_post(&member->shard, to, (struct letter){1, member->sent[to]++, NULL});
    all_sent &= member->sent[to] == LETTERS;
  }
  if (!all_sent) member->shard.turn_due_ms = member->shard.now_ms + 1;
  if (all_sent && member->finished == SHARDS) shard_finish(&member->shard);
}

static void *run(void *argument) {
  struct member *member = argument;
  struct io_options options = {.sockets_max = 4, .receive_buffers = 2, .receive_buffer_size = 512};
  const char *why = "";
  member->failed = shard_init(&member->shard, member->group, member->index, &options, &why) != E_OK;
  member->shard.context = member;
  member->shard.on_letter = on_letter;
  member->shard.on_turn = on_turn;
  pthread_barrier_wait(member->barrier);
  if (!member->failed) shard_run(&member->shard);
  /* Letters of ours may still sit in the overflow: others count on them. */
  atomic_fetch_add(member->all_finished, 1);
  while (!member->failed && atomic_load(member->all_finished) < SHARDS) shard_turn(&member->shard, io_now_ns(member->shard.io) + 2000000);
  pthread_barrier_wait(member->barrier);
  if (!member->failed) shard_fini(&member->shard);
  return NULL;
}

START_TEST(all_letters_arrive_in_order) {
  static struct member members[SHARDS];
  static _Atomic unsigned all_finished;
  pthread_t threads[SHARDS];
  pthread_barrier_t barrier;
  struct shard_group *group;
  ck_assert_int_eq(shard_group_open(&group, SHARDS), E_OK);
  pthread_barrier_init(&barrier, NULL, SHARDS);
  for (unsigned i = 0; i < SHARDS; i++) {
    members[i].group = group;
    members[i].index = i;
    members[i].barrier = &barrier;
    members[i].all_finished = &all_finished;
    pthread_create(&threads[i], NULL, run, &members[i]);
  }
  for (unsigned i = 0; i < SHARDS; i++) pthread_join(threads[i], NULL);
  for (unsigned i = 0; i < SHARDS; i++) {
    ck_assert(!members[i].failed);
    ck_assert_uint_eq(members[i].wrong, 0);
    for (unsigned from = 0; from < SHARDS; from++) ck_assert_uint_eq(members[i].got[from], LETTERS);
  }
  shard_group_close(group);
}
END_TEST

struct lone {
  struct shard shard;
  unsigned stops, turns;
};
static void lone_stop(void *context) {
  struct lone *lone = context;
  lone->stops++;
  shard_finish(&lone->shard);
}
static void *stop_it(void *argument) {
  shard_stop(argument);
  return NULL;
}

START_TEST(stop_from_another_thread_wakes_and_is_seen_once) {
  static struct lone lone;
  struct shard_group *group;
  struct io_options options = {.sockets_max = 4, .receive_buffers = 2, .receive_buffer_size = 512};
  pthread_t thread;
  ck_assert_int_eq(shard_group_open(&group, 1), E_OK);
  ck_assert_int_eq(shard_init(&lone.shard, group, 0, &options, NULL), E_OK);
  lone.shard.context = &lone;
  lone.shard.on_stop = lone_stop;
  pthread_create(&thread, NULL, stop_it, &lone.shard);
  shard_run(&lone.shard);
  pthread_join(thread, NULL);
  shard_turn(&lone.shard, 0);
  ck_assert_uint_eq(lone.stops, 1);
  shard_fini(&lone.shard);
  shard_group_close(group);
}
END_TEST

static void *fired_by;
static void fire(void *context, struct timer *timer) {
  (void)context;
  fired_by = timer;
}

START_TEST(timers_end_the_sleep) {
  static struct lone lone;
  struct shard_group *group;
  struct io_options options = {.sockets_max = 4, .receive_buffers = 2, .receive_buffer_size = 512};
  struct timer timer = {.fire = fire};
  ck_assert_int_eq(shard_group_open(&group, 1), E_OK);
  ck_assert_int_eq(shard_init(&lone.shard, group, 0, &options, NULL), E_OK);
  uint64_t before = lone.shard.now_ms;
  timer_set(&lone.shard.wheel, &timer, before + 30);
  while (fired_by == NULL) shard_turn(&lone.shard, UINT64_MAX);
  ck_assert_uint_ge(lone.shard.now_ms, before + 30);
  ck_assert_uint_le(lone.shard.turns, 5);
  shard_fini(&lone.shard);
  shard_group_close(group);
}
END_TEST

int main(void) {
  TCase *letters = tcase_create("letters");
  tcase_add_test(letters, all_letters_arrive_in_order);
  tcase_add_test(letters, stop_from_another_thread_wakes_and_is_seen_once);
  tcase_add_test(letters, timers_end_the_sleep);
  return unit_main("shard", (TCase *const[]){letters}, 1);
}
