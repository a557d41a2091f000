/* Errands from threads of their own to a shard that sleeps or works: each is done once, a step a turn; none is left behind when the shard ends. */
#include <pthread.h>

#include "core/base/error.h"
#include "core/shard/shard.h"
#include "tests/lib/unit.h"

#define ASKERS 4
#define ERRANDS 500

struct world {
  struct shard shard;
  struct shard_group *group;
  pthread_t thread;
  pthread_barrier_t barrier;
  unsigned steps; /* on the shard's thread: no lock needed */
};

static void on_stop(void *context) { shard_finish(&((struct world *)context)->shard); }

static void *run(void *argument) {
  struct world *world = argument;
  struct io_options options = {.sockets_max = 4, .receive_buffers = 2, .receive_buffer_size = 512};
  const char *why = "";
  ck_quick(shard_init(&world->shard, world->group, 0, &options, &why) == E_OK);
  world->shard.context = world;
  world->shard.on_stop = on_stop;
  pthread_barrier_wait(&world->barrier);
  shard_run(&world->shard);
  pthread_barrier_wait(&world->barrier);
  return NULL;
}

static void open_world(struct world *world) {
  *world = (struct world){.steps = 0};
  pthread_barrier_init(&world->barrier, NULL, 2);
  ck_quick(shard_group_open(&world->group, 1) == E_OK);
  pthread_create(&world->thread, NULL, run, world);
  pthread_barrier_wait(&world->barrier);
}

static void close_world(struct world *world) {
  shard_stop(&world->shard);
  pthread_barrier_wait(&world->barrier);
  pthread_join(world->thread, NULL);
  shard_fini(&world->shard);
  shard_group_close(world->group);
  pthread_barrier_destroy(&world->barrier);
}

struct task { /* takes so many steps */
  struct errand errand;
  unsigned wanted, done;
  uint64_t turn[8]; /* in which each step was */
};

static bool step(struct errand *errand, void *context) {
  struct task *task = (struct task *)errand;
  struct world *world = context;
  world->steps++;
  task->turn[task->done % 8] = world->shard.turns;
  return ++task->done == task->wanted;
}

START_TEST(an_errand_has_a_step_in_each_turn) {
  struct world world;
  open_world(&world);
  struct task task = {.wanted = 5};
  errand_init(&task.errand, step, NULL);
  errand_ask(&world.shard, &task.errand);
  ck_assert(errand_await(&task.errand));
  ck_assert_uint_eq(task.done, 5);
  for (unsigned i = 1; i < 5; i++) ck_assert_uint_eq(task.turn[i], task.turn[0] + i);
  close_world(&world);
}
END_TEST

static void *ask(void *argument) {
  struct world *world = argument;
  for (unsigned i = 0; i < ERRANDS; i++) {
    struct task task = {.wanted = i % 3 + 1}; /* on the stack: nobody may touch it when it is over */
    errand_init(&task.errand, step, NULL);
    errand_ask(&world->shard, &task.errand);
    ck_quick(errand_await(&task.errand) && task.done == task.wanted);
  }
  return NULL;
}

START_TEST(askers_side_by_side_do_not_lose_an_errand) {
  struct world world;
  pthread_t askers[ASKERS];
  unsigned expected = 0;
  open_world(&world);
  for (unsigned i = 0; i < ASKERS; i++) pthread_create(&askers[i], NULL, ask, &world);
  for (unsigned i = 0; i < ASKERS; i++) pthread_join(askers[i], NULL);
  for (unsigned i = 0; i < ERRANDS; i++) expected += ASKERS * (i % 3 + 1);
  ck_assert_uint_eq(world.steps, expected);
  close_world(&world);
}
END_TEST

START_TEST(what_is_under_way_when_the_shard_ends_is_told) {
  struct world world;
  open_world(&world);
  struct task endless = {.wanted = UINT32_MAX};
  errand_init(&endless.errand, step, NULL);
  errand_ask(&world.shard, &endless.errand);
  shard_stop(&world.shard);
  ck_assert(!errand_await(&endless.errand));
  struct task late = {.wanted = 1};
  errand_init(&late.errand, step, NULL);
  ck_assert(!errand_is_over(&late.errand));
  errand_ask(&world.shard, &late.errand);
  ck_assert(errand_is_over(&late.errand));
  ck_assert(!errand_await(&late.errand));
  ck_assert_uint_eq(late.done, 0);
  close_world(&world);
}
END_TEST

static unsigned order[3], orders;
static bool note_order(struct errand *errand, void *context) {
  order[orders++] = (unsigned)(uintptr_t)context;
  (void)errand;
  return true;
}

static void *context_of(unsigned number) { return (void *)(uintptr_t)number; }

START_TEST(they_are_begun_in_the_order_they_were_asked_for) {
  struct world world;
  struct errand errands[3];
  open_world(&world);
  orders = 0;
  for (unsigned i = 0; i < 3; i++) errand_init(&errands[i], note_order, context_of(i + 1));
  for (unsigned i = 0; i < 3; i++) errand_ask(&world.shard, &errands[i]);
  for (unsigned i = 0; i < 3; i++) ck_assert(errand_await(&errands[i]));
  for (unsigned i = 0; i < 3; i++) ck_assert_uint_eq(order[i], i + 1);
  close_world(&world);
}
END_TEST

#define PAUSE_MS 30
struct patient { /* waits a while before its second step */
  struct errand errand;
  unsigned steps;
  uint64_t turns, began_ms, ended_ms;
};

static bool step_of_patient(struct errand *errand, void *context) {
  struct patient *patient = (struct patient *)errand;
  const struct shard *shard = &((struct world *)context)->shard;
  patient->turns = shard->turns - patient->turns;
  patient->ended_ms = shard->now_ms;
  if (patient->steps++ > 0) return true;
  patient->turns = shard->turns;
  patient->began_ms = shard->now_ms;
  errand->not_before_ms = shard->now_ms + PAUSE_MS;
  return false;
}

START_TEST(one_that_waits_lets_the_shard_sleep) {
  struct world world;
  struct patient patient = {.steps = 0};
  open_world(&world);
  errand_init(&patient.errand, step_of_patient, NULL);
  errand_ask(&world.shard, &patient.errand);
  ck_assert(errand_await(&patient.errand));
  ck_assert_uint_eq(patient.steps, 2);
  ck_assert_uint_ge(patient.ended_ms, patient.began_ms + PAUSE_MS);
  ck_assert_uint_le(patient.turns, 5); /* it woke for the end, not to ask for it */
  patient.steps = 0;
  errand_init(&patient.errand, step_of_patient, NULL);
  errand_ask(&world.shard, &patient.errand);
  struct task other = {.wanted = 100}; /* which goes on meanwhile */
  errand_init(&other.errand, step, NULL);
  errand_ask(&world.shard, &other.errand);
  ck_assert(errand_await(&other.errand));
  ck_assert(errand_await(&patient.errand));
  ck_assert_uint_ge(patient.ended_ms, patient.began_ms + PAUSE_MS);
  close_world(&world);
}
END_TEST

int main(void) {
  TCase *errands = tcase_create("errands");
  tcase_add_test(errands, an_errand_has_a_step_in_each_turn);
  tcase_add_test(errands, askers_side_by_side_do_not_lose_an_errand);
  tcase_add_test(errands, what_is_under_way_when_the_shard_ends_is_told);
  tcase_add_test(errands, one_that_waits_lets_the_shard_sleep);
  tcase_add_test(errands, they_are_begun_in_the_order_they_were_asked_for);
  return unit_main("errand", (TCase *const[]){errands}, 1);
}
