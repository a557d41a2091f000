/* The facts about io.h on the real ring, with the real kernel. */
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

static char directory[64];

static void open_world(void);
static void close_world(void);
static void remove_directory(const char *path);
static void in_thread(void *(*run)(void *argument), void *argument, void (*meanwhile)(void));

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
