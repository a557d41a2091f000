/*
 * client: the sessions of source on a ring: one client_run for each thread. Work is shared through one counter of messages.
 */
#ifndef BENCH_LIB_CLIENT_H
#define BENCH_LIB_CLIENT_H

#include "bench/lib/process.h"
#include "bench/lib/secure.h"
#include "bench/lib/sender.h"

enum client_end { CLIENT_RUNNING, CLIENT_FINISHED, CLIENT_STOPPED, CLIENT_NO_CONNECTION, CLIENT_NO_TLS, CLIENT_NO_PROGRESS };

/* Shared by all threads. */
struct client {
  struct sender_plan plan;
  struct endpoint to;
  struct tls_client *tls; /* NULL: none is spoken; else from the first byte on, or as plan.starttls says */
  bool tls_full;          /* no session is resumed */
  unsigned threads;
  uint32_t sessions;       /* in all; 0: the idle ones are held until `stop` or stop_taking_ns, then say QUIT */
  uint32_t idle;           /* sessions besides, that only stay open */
  uint64_t rate;           /* messages a second in all; 0: as fast as replies come */
  uint64_t stop_taking_ns; /* no new message from then on, and seconds later the end, whatever is under way; UINT64_MAX: never */
  uint64_t retry_after_ns;
  uint64_t timeout_ns; /* with no reply at all for so long the run has failed */
  bool no_retry;
  uint64_t started_ns;
  uint64_t _next_seq; /* shared: the next message that nobody has taken */
  bool stop;          /* set by any thread */
};

struct client_thread {
  struct client *client;
  unsigned number;
  struct sender_stats stats;
  uint64_t open; /* connections now */
  uint64_t open_max;
  uint64_t idle_open; /* of them idle ones, greeted */
  uint64_t connect_errors;
  uint64_t again;                       /* recipients sent again */
  uint64_t given_up;                    /* recipients deferred and not sent again */
  uint64_t tls_handshakes, tls_resumed; /* the latter are some of the former */
  uint64_t tls_failed;                  /* that never came to be */
  char tls_error[128];                  /* of the first of them */
  char tls_version[16], tls_cipher[64]; /* of the last one that did */
  int last_error;                       /* errno of the last connection that failed; 0: none did */
  enum client_end end;
  bool ended; /* the thread is done: all of the above is final */
};

/* The thread's whole work. A pthread start routine; the argument is a client_thread. */
void *client_run(void *client_thread);

#endif
