#include "tests/sim/system.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/error.h"
#include "core/base/must.h"
#include "tests/sim/disk.h"
#include "tests/sim/world.h"

#define WAITERS_MAX 8
#define PATH_ROOM 128

/* ---- waiting ---- */

static struct {
  sem_t *semaphore; /* NULL: free */
  struct fiber *fiber;
} waiters[WAITERS_MAX];

void system_crash(void) { memset(waiters, 0, sizeof waiters); }

int __wrap_sem_wait(sem_t *semaphore);
int __wrap_sem_post(sem_t *semaphore);
int __real_sem_post(sem_t *semaphore);

int __wrap_sem_wait(sem_t *semaphore) {
  unsigned i = 0;
  while (i < WAITERS_MAX && waiters[i].semaphore != NULL) i++;
  must(i < WAITERS_MAX && fiber_current() != NULL);
  waiters[i].semaphore = semaphore;
  waiters[i].fiber = fiber_current();
  while (sem_trywait(semaphore) != 0) fiber_sleep(UINT64_MAX);
  waiters[i].semaphore = NULL;
  return 0;
}

/* Who waits may give the semaphore away as soon as it runs, which is not before we sleep. */
int __wrap_sem_post(sem_t *semaphore) {
  int result = __real_sem_post(semaphore);
  for (unsigned i = 0; i < WAITERS_MAX; i++)
    if (waiters[i].semaphore == semaphore) fiber_wake(waiters[i].fiber);
  return result;
}

int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex);

int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex) {
  uint64_t pause_ns = 10 * MICROSECOND_NS;
  for (; pthread_mutex_trylock(mutex) != 0; pause_ns += pause_ns / 2) {
    must(fiber_current() != NULL);
    fiber_sleep(world_now_ns() + pause_ns);
  }
  return 0;
}

/* ---- the clock ---- */

uint64_t __wrap_system_wall_ms(void);

uint64_t __wrap_system_wall_ms(void) { return world_wall_ms(); }

/* ---- whole files ---- */

int __wrap_system_read_file(const char *path, size_t max, uint8_t **bytes, size_t *len);
int __wrap_system_write_file(const char *path, struct span bytes);

int __wrap_system_read_file(const char *path, size_t max, uint8_t **bytes, size_t *len) {
  io_file file;
  uint64_t size = 0;
  *bytes = NULL;
  *len = 0;
  int error = io_file_open(NULL, path, IO_FILE_READ, &file);
  if (error != E_OK) return error;
  error = io_file_size(NULL, file, &size);
  if (error == E_OK && size > max) error = E_TOO_LONG;
  if (error == E_OK) {
    *bytes = malloc(size + 1);
    must(*bytes != NULL);
    error = io_file_read_now(NULL, file, *bytes, size, 0, len);
  }
  io_file_close(NULL, file);
  if (error == E_OK) return E_OK;
  free(*bytes);
  *bytes = NULL;
  return error;
}

/* Each step takes its time, and the program may be killed in it. */
static void take_time(void) { fiber_sleep(world_now_ns() + chance_spread(10 * MICROSECOND_NS, 20 * MILLISECOND_NS)); }

static int write_synced(const char *path, struct span bytes) {
  io_file file;
  int error = io_file_open(NULL, path, IO_FILE_WRITE | IO_FILE_CREATE, &file);
  if (error != E_OK) return error;
  error = io_file_truncate(NULL, file, 0);
  take_time();
  if (error == E_OK) error = io_file_write_now(NULL, file, bytes.at, bytes.len, 0);
  io_file_close(NULL, file);
  return error;
}

int __wrap_system_write_file(const char *path, struct span bytes) {
  char beside[PATH_ROOM], directory[PATH_ROOM];
  must(snprintf(beside, sizeof beside, "%s.new", path) < PATH_ROOM);
  snprintf(directory, sizeof directory, "%.*s", (int)(strrchr(path, '/') - path), path);
  int error = write_synced(beside, bytes);
  take_time();
  if (error == E_OK) error = io_file_rename(NULL, beside, path);
  if (error != E_OK) {
    int removed = io_file_remove(NULL, beside); /* if it stays it is in nobody's way */
    (void)removed;
    return error;
  }
  take_time();
  return io_directory_sync(NULL, directory);
}
