/*
 * worker: a thread that answers requests which take a while (the API asks the shards), one after the other, so that /health and /metrics never wait for
 * them.
 */
#ifndef NET_HTTP_WORKER_H
#define NET_HTTP_WORKER_H

#include "core/base/must.h"
#include "core/base/span.h"

#define HTTP_ARGUMENTS_MAX 8

enum http_method {
  HTTP_READS,   /* GET, HEAD */
  HTTP_CHANGES, /* POST, with JSON */
  HTTP_OTHER,   /* nothing of ours takes it: 404 or 405 */
};

struct http_request {
  enum http_method method;
  const char *path; /* decoded, behind /api/v1/ */
  struct {
    char *name, *value; /* decoded; a value may be NULL */
  } argument[HTTP_ARGUMENTS_MAX];
  unsigned arguments;
  struct span body;
};

struct http_answer {
  unsigned status;
  const char *allow; /* with 405: the methods that this path takes; static */
  char *json;        /* malloc; the caller frees it */
  size_t len;
};

/* The value of an argument; NULL: it is not there, or has none. */
const char *http_argument(const struct http_request *request, const char *name);

/* On the worker's thread. Leaves answer->json NULL only without memory. */
typedef void (*http_api)(void *context, const struct http_request *request, struct http_answer *answer);

/* A request on its way. The caller owns it; from worker_give to `done` (on the worker's thread) it is the worker's. */
struct task {
  struct http_request request;
  struct http_answer answer; /* status 0: the worker was stopped before */
  void (*done)(struct task *task);
  struct task *_next;
};

struct worker_thread;
/* E_NO_MEMORY, E_OTHER. */
must_check int worker_open(struct worker_thread **worker, http_api api, void *context);
/* From one thread. False: so many wait already. */
#define WORKER_TASKS_MAX 32
bool worker_give(struct worker_thread *worker, struct task *task);
/* Ends the thread; all tasks are done on return, and no more are taken. NULL is fine, here and below. */
void worker_stop(struct worker_thread *worker);
/* Afterwards, when nobody calls worker_give any more. */
void worker_free(struct worker_thread *worker);

#endif
