/* The facts about io.h on the real ring, with the real kernel. */
#include <arpa/inet.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

static char directory[64];

static void open_world(void);
static void close_world(void);
static void remove_directory(const char *path);
static void in_thread(void *(*run)(void *argument), void *argument, void (*meanwhile)(void));
struct netaddr;
static void echo_open(struct netaddr *address);
static void echo(void);

#define KERNEL_QUEUES
#include "tests/contract/facts.c"

static void open_world(void) {
  snprintf(directory, sizeof directory, "/tmp/ringpost-io-XXXXXX");
  ck_assert_ptr_nonnull(mkdtemp(directory));
}

static void close_world(void) { rmdir(directory); }

static void remove_directory(const char *path) { ck_assert_int_eq(rmdir(path), 0); }

static void in_thread(void *(*run)(void *argument), void *argument, void (*meanwhile)(void)) {
  pthread_t thread;
  pthread_create(&thread, NULL, run, argument);
  meanwhile();
  pthread_join(thread, NULL);
}

static int echo_fd;

static void echo_open(struct netaddr *address) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  socklen_t len = sizeof at;
  echo_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  ck_assert_int_eq(bind(echo_fd, (struct sockaddr *)&at, sizeof at), 0);
  ck_assert_int_eq(getsockname(echo_fd, (struct sockaddr *)&at, &len), 0);
  *address = (struct netaddr){.family = 4, .port = ntohs(at.sin_port), .bytes = {127, 0, 0, 1}};
}

static void echo(void) {
  char bytes[64];
  struct sockaddr_in from;
  socklen_t from_len = sizeof from;
  for (ssize_t len; (len = recvfrom(echo_fd, bytes, sizeof bytes, MSG_DONTWAIT, (struct sockaddr *)&from, &from_len)) >= 0;)
    ck_assert_int_eq(sendto(echo_fd, bytes, (size_t)len, 0, (struct sockaddr *)&from, from_len), len);
}
