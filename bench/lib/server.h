/*
 * server: the sink's connections on a ring: one server_run for each thread, all listening on the same ports.
 */
#ifndef BENCH_LIB_SERVER_H
#define BENCH_LIB_SERVER_H

#include "bench/lib/process.h"
#include "bench/lib/receiver.h"
#include "bench/lib/secure.h"

enum { LISTENERS_MAX = 16 };

/* One address, or an IPv4 network of which every address is a host of its own (told apart by the local address of a connection). */
struct listener {
  struct endpoint endpoint;
  const char *text;
  bool loopback;
  uint32_t base;             /* IPv4, host byte order; 0 for IPv6 */
  uint32_t count;            /* addresses; 1 if it is no network */
  uint32_t *connections;     /* now, by address; shared */
  uint32_t *connections_max; /* at most */
};

/* "127.0.1.0/24:2526", "127.0.0.1:2526", "[::1]:2526". 0, or -1 with `why`. */
must_check int listener_parse(struct listener *listener, const char *text, const char **why);

/* Shared by all threads. */
struct server {
  struct receiver_config receiver; /* `starttls` needs `tls` */
  struct tls_server *tls;          /* NULL: none is spoken */
  bool implicit;                   /* from the first byte on */
  struct listener listeners[LISTENERS_MAX];
  unsigned listener_count;
  unsigned threads;
  uint32_t connections_limit; /* of each thread */
  uint32_t connections;       /* now */
  uint32_t connections_max;
  bool stop; /* set by any thread: they end within STOP_LATENCY */
};

struct server_thread {
  struct server *server;
  struct receiver_stats stats;
  unsigned number;
  int sockets[LISTENERS_MAX]; /* listening already */
  double user_s, system_s;    /* when it has ended */
};

/* Opens the listening sockets of one thread. 0, or a negative errno with the listener's text in `which`. */
must_check int server_listen(struct server_thread *thread, const char **which);
/* The thread's whole work: until `stop`. A pthread start routine; the argument is a server_thread. */
void *server_run(void *server_thread);

#endif
