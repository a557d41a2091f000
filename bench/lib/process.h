/*
 * process: the clock, the processor time, signals and sockets of a bench program.
 */
#ifndef BENCH_LIB_PROCESS_H
#define BENCH_LIB_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "core/base/must.h"

uint64_t process_now_ns(void);  /* CLOCK_MONOTONIC */
uint64_t process_wall_ms(void); /* since 1970 */
uint64_t process_random(void);

struct process_usage {
  double user_s;
  double system_s;
  uint64_t peak_memory_kib;
};
struct process_usage process_usage(void); /* of all threads */
struct process_usage process_thread_usage(void);

/* Blocks SIGINT, SIGTERM, SIGUSR1 and SIGUSR2 in the calling thread and the ones it makes, SIGPIPE for good. Call before any thread is made. */
void process_take_signals(void);
/* Waits for one of them until `until_ns`; its number, or 0. */
int process_wait_signal(uint64_t until_ns);

/* As many open files as the hard limit allows; the limit. */
uint64_t process_raise_files(void);
/* Binds the calling thread to a processor; false if there is no such. */
bool process_pin(unsigned cpu);

/* Says what went wrong on standard error and ends with status 1. */
__attribute__((noreturn, format(printf, 2, 3))) void process_fail(const char *program, const char *format, ...);

struct endpoint {
  struct sockaddr_storage address;
  socklen_t length;
};
/* HOST:PORT, [IPv6]:PORT; HOST may be a name. 0, or -1 with a static phrase in `why`. */
must_check int endpoint_parse(struct endpoint *endpoint, const char *text, const char **why);

enum {
  ENDPOINT_LOOPBACK = 1, /* on the loopback interface alone, whatever the address */
  ENDPOINT_SHARED = 2,   /* SO_REUSEPORT: several listeners share the port */
};
/* A TCP listener with TCP_NODELAY (which its connections inherit). A descriptor, or a negative errno. */
must_check int endpoint_listen(const struct endpoint *endpoint, unsigned flags);
/* A TCP socket to connect from, with TCP_NODELAY. A descriptor, or a negative errno. */
must_check int endpoint_socket(const struct endpoint *endpoint);

#endif
