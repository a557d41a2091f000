#include "net/http/worker.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/error.h"

struct worker_thread {
  pthread_t thread;
  pthread_mutex_t lock;
  pthread_cond_t wake;
  struct task *first, **end;
  unsigned tasks;
  bool stopping;
  http_api api;
  void *context;
};

const char *http_argument(const struct http_request *request, const char *name) {
  for (unsigned i = 0; i < request->arguments; i++)
    if (strcmp(request->argument[i].name, name) == 0) return request->argument[i].value;
  return NULL;
}

/* With the lock held. */
static struct task *take(struct worker_thread *worker) {
  struct task *task = worker->first;
  if (task == NULL) return NULL;
  worker->first = task->_next;
  if (worker->first == NULL) worker->end = &worker->first;
  worker->tasks--;
  return task;
}

static void *work(void *context) {
  struct worker_thread *worker = context;
  pthread_mutex_lock(&worker->lock);
  for (;;) {
    struct task *task = take(worker);
    if (task == NULL && worker->stopping) break;
    if (task == NULL) {
      pthread_cond_wait(&worker->wake, &worker->lock);
      continue;
    }
    bool stopping = worker->stopping;
    pthread_mutex_unlock(&worker->lock);
    if (!stopping) worker->api(worker->context, &task->request, &task->answer);
    task->done(task);
    pthread_mutex_lock(&worker->lock);
  }
  pthread_mutex_unlock(&worker->lock);
  return NULL;
}

int worker_open(struct worker_thread **out, http_api api, void *context) {
  struct worker_thread *worker = calloc(1, sizeof *worker);
  if (worker == NULL) return E_NO_MEMORY;
  worker->api = api;
  worker->context = context;
  worker->end = &worker->first;
  pthread_mutex_init(&worker->lock, NULL);
  pthread_cond_init(&worker->wake, NULL);
  sigset_t all, before; /* signals are the main thread's */
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int failed = pthread_create(&worker->thread, NULL, work, worker);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (failed != 0) {
    free(worker);
    return E_OTHER;
  }
  *out = worker;
  return E_OK;
}

bool worker_give(struct worker_thread *worker, struct task *task) {
  pthread_mutex_lock(&worker->lock);
  bool taken = !worker->stopping && worker->tasks < WORKER_TASKS_MAX;
  if (taken) {
    task->_next = NULL;
    *worker->end = task;
    worker->end = &task->_next;
    worker->tasks++;
    pthread_cond_signal(&worker->wake);
  }
  pthread_mutex_unlock(&worker->lock);
  return taken;
}

void worker_stop(struct worker_thread *worker) {
  if (worker == NULL) return;
  pthread_mutex_lock(&worker->lock);
  worker->stopping = true;
  pthread_cond_signal(&worker->wake);
  pthread_mutex_unlock(&worker->lock);
  pthread_join(worker->thread, NULL);
}

void worker_free(struct worker_thread *worker) {
  if (worker == NULL) return;
  pthread_cond_destroy(&worker->wake);
  pthread_mutex_destroy(&worker->lock);
  free(worker);
}
