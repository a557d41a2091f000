#include "bench/lib/process.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

uint64_t process_now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

uint64_t process_wall_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

uint64_t process_random(void) {
  uint64_t value = 0;
  must(getrandom(&value, sizeof value, 0) == sizeof value);
  return value;
}

static struct process_usage usage_of(int who) {
  struct rusage usage;
  must(getrusage(who, &usage) == 0);
  return (struct process_usage){(double)usage.ru_utime.tv_sec + (double)usage.ru_utime.tv_usec / 1e6,
                                (double)usage.ru_stime.tv_sec + (double)usage.ru_stime.tv_usec / 1e6, (uint64_t)usage.ru_maxrss};
}

struct process_usage process_usage(void) {
  return usage_of(RUSAGE_SELF);
}
struct process_usage process_thread_usage(void) {
  return usage_of(RUSAGE_THREAD);
}

static sigset_t taken_signals(void) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGUSR1);
  sigaddset(&set, SIGUSR2);
  return set;
}

void process_take_signals(void) {
  sigset_t set = taken_signals();
  pthread_sigmask(SIG_BLOCK, &set, NULL);
  signal(SIGPIPE, SIG_IGN);
}

int process_wait_signal(uint64_t until_ns) {
  sigset_t set = taken_signals();
  uint64_t now_ns = process_now_ns();
  uint64_t left_ns = until_ns > now_ns ? until_ns - now_ns : 0;
  struct timespec timeout = {.tv_sec = (time_t)(left_ns / 1000000000), .tv_nsec = (long)(left_ns % 1000000000)};
  int number = sigtimedwait(&set, NULL, &timeout);
  return number > 0 ? number : 0;
}

uint64_t process_raise_files(void) {
  struct rlimit limit;
  must(getrlimit(RLIMIT_NOFILE, &limit) == 0);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  return limit.rlim_cur;
}

bool process_pin(unsigned cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (cpu >= CPU_SETSIZE) return false;
  CPU_SET(cpu, &set);
  return sched_setaffinity(0, sizeof set, &set) == 0;
}

void process_fail(const char *program, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fprintf(stderr, "%s: ", program);
  vfprintf(stderr, format, arguments);
  fprintf(stderr, "\n");
  va_end(arguments);
  exit(1);
}

int endpoint_parse(struct endpoint *endpoint, const char *text, const char **why) {
  char host[256];
  const char *colon = strrchr(text, ':');
  size_t len = colon == NULL ? 0 : (size_t)(colon - text);
  *why = "not HOST:PORT";
  if (colon == NULL || len >= sizeof host || colon[1] == '\0') return -1;
  bool bracketed = len >= 2 && text[0] == '[' && text[len - 1] == ']';
  memcpy(host, text + bracketed, len - 2 * bracketed);
  host[len - 2 * bracketed] = '\0';
  struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV}, *found;
  int result = getaddrinfo(host[0] == '\0' ? NULL : host, colon + 1, &hints, &found);
  if (result != 0) {
    *why = gai_strerror(result);
    return -1;
  }
  memcpy(&endpoint->address, found->ai_addr, found->ai_addrlen);
  endpoint->length = found->ai_addrlen;
  freeaddrinfo(found);
  return 0;
}

static void switch_on(int fd, int level, int name) {
  int on = 1;
  must(setsockopt(fd, level, name, &on, sizeof on) == 0);
}

int endpoint_socket(const struct endpoint *endpoint) {
  int fd = socket(endpoint->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  switch_on(fd, IPPROTO_TCP, TCP_NODELAY);
  return fd;
}

int endpoint_listen(const struct endpoint *endpoint, unsigned flags) {
  int fd = endpoint_socket(endpoint);
  if (fd < 0) return fd;
  switch_on(fd, SOL_SOCKET, SO_REUSEADDR);
  if ((flags & ENDPOINT_SHARED) != 0) switch_on(fd, SOL_SOCKET, SO_REUSEPORT);
  bool bound = (flags & ENDPOINT_LOOPBACK) == 0 || setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3) == 0;
  if (bound && bind(fd, (const struct sockaddr *)&endpoint->address, endpoint->length) == 0 && listen(fd, 4096) == 0) return fd;
  int error = -errno;
  close(fd);
  return error;
}
