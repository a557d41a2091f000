/* The worker: each task is done once, in the order they were given, whatever happens meanwhile. */
#include "net/http/worker.h"

#include <pthread.h>
#include <stdlib.h>

#include "core/base/error.h"
#include "tests/lib/unit.h"

#define TASKS 2000

static struct worker_thread *worker;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t change = PTHREAD_COND_INITIALIZER;
static bool closed; /* the api waits at this gate */
static unsigned at_gate, answered, done;

struct numbered {
  struct task task;
  unsigned number, done;
};

static void api(void *context, const struct http_request *request, struct http_answer *answer) {
  ck_quick(context == &worker);
  pthread_mutex_lock(&lock);
  at_gate++;
  pthread_cond_broadcast(&change);
  while (closed) pthread_cond_wait(&change, &lock);
  answered++;
  pthread_mutex_unlock(&lock);
  answer->status = request->method == HTTP_CHANGES ? 201 : 200;
}

static void on_done(struct task *task) {
  struct numbered *one = (struct numbered *)task;
  pthread_mutex_lock(&lock);
  one->done++;
  ck_quick(one->number == done++);
  pthread_cond_broadcast(&change);
  pthread_mutex_unlock(&lock);
}

static void set_gate(bool to) {
  pthread_mutex_lock(&lock);
  closed = to;
  pthread_cond_broadcast(&change);
  pthread_mutex_unlock(&lock);
}

static void wait_for(const unsigned *what, unsigned count) {
  pthread_mutex_lock(&lock);
  while (*what < count) pthread_cond_wait(&change, &lock);
  pthread_mutex_unlock(&lock);
}

static void open_world(void) {
  closed = false;
  at_gate = answered = done = 0;
  ck_assert_int_eq(worker_open(&worker, api, &worker), E_OK);
}

static struct numbered tasks[TASKS];
static bool give(unsigned i) {
  tasks[i] = (struct numbered){.task = {.done = on_done, .request = {.method = i % 2 == 1 ? HTTP_CHANGES : HTTP_READS}}, .number = i};
  return worker_give(worker, &tasks[i].task);
}

START_TEST(tasks_are_done_in_their_order) {
  for (unsigned i = 0; i < TASKS; i++)
    while (!give(i)) sched_yield();
  wait_for(&done, TASKS);
  for (unsigned i = 0; i < TASKS; i++) ck_quick(tasks[i].done == 1 && tasks[i].task.answer.status == 200 + i % 2);
  worker_stop(worker);
  worker_free(worker);
}
END_TEST

START_TEST(only_so_many_wait) {
  set_gate(true);
  ck_assert(give(0));
  wait_for(&at_gate, 1);
  for (unsigned i = 1; i <= WORKER_TASKS_MAX; i++) ck_assert(give(i));
  ck_assert(!give(WORKER_TASKS_MAX + 1));
  set_gate(false);
  wait_for(&done, WORKER_TASKS_MAX + 1);
  ck_assert(give(WORKER_TASKS_MAX + 1));
  wait_for(&done, WORKER_TASKS_MAX + 2);
  worker_stop(worker);
  worker_free(worker);
}
END_TEST

static void *open_soon(void *argument) {
  (void)argument;
  set_gate(false);
  return NULL;
}

/* The one the API is at has its answer, the others are done without. */
START_TEST(at_a_stop_all_are_done) {
  pthread_t opener;
  set_gate(true);
  for (unsigned i = 0; i < 20; i++) ck_assert(give(i));
  wait_for(&at_gate, 1);
  pthread_create(&opener, NULL, open_soon, NULL);
  worker_stop(worker);
  pthread_join(opener, NULL);
  ck_assert_uint_eq(done, 20);
  ck_assert_uint_ge(answered, 1);
  for (unsigned i = 0; i < 20; i++) {
    ck_assert_uint_eq(tasks[i].done, 1);
    ck_assert_uint_eq(tasks[i].task.answer.status, i < answered ? 200 + i % 2 : 0);
  }
  ck_assert(!give(20)); /* and no more are taken */
  ck_assert_uint_eq(done, 20);
  worker_free(worker);
}
END_TEST

START_TEST(one_with_nothing_to_do_stops) {
  worker_stop(worker);
  worker_free(worker);
  worker_stop(NULL);
  worker_free(NULL);
}
END_TEST

START_TEST(arguments_by_name) {
  char a[] = "a", empty[] = "", one[] = "1", two[] = "2", b[] = "b";
  struct http_request request = {.argument = {{a, one}, {b, NULL}, {empty, two}, {a, two}}, .arguments = 4};
  ck_assert_str_eq(http_argument(&request, "a"), "1");
  ck_assert_ptr_null(http_argument(&request, "b"));
  ck_assert_str_eq(http_argument(&request, ""), "2");
  ck_assert_ptr_null(http_argument(&request, "c"));
  worker_stop(worker);
  worker_free(worker);
}
END_TEST

int main(void) {
  TCase *all = tcase_create("all");
  tcase_add_checked_fixture(all, open_world, NULL);
  tcase_add_test(all, tasks_are_done_in_their_order);
  tcase_add_test(all, only_so_many_wait);
  tcase_add_loop_test(all, at_a_stop_all_are_done, 0, 20);
  tcase_add_test(all, one_with_nothing_to_do_stops);
  tcase_add_test(all, arguments_by_name);
  return unit_main("net/http/worker", &all, 1);
}
