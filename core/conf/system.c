#include "core/conf/system.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/base/error.h"

#define PATH_ROOM 4096

enum { DNS_PORT = 53, SMALL_FILE_MAX = 65536, PIPE_WAIT_MS = 2000 };

/* Reads into *bytes, which grows; *len is what came. */
static int read_stream(FILE *file, size_t max, uint8_t **bytes, size_t *len) {
  size_t cap = 0;
  for (;;) {
    if (*len == cap) {
      cap = cap == 0 ? 4096 : cap * 2;
      uint8_t *larger = realloc(*bytes, cap);
      if (larger == NULL) return E_NO_MEMORY;
      *bytes = larger;
    }
    size_t got = fread(*bytes + *len, 1, cap - *len, file);
    *len += got;
    if (*len > max) return E_TOO_LONG;
    if (got > 0) continue;
    return ferror(file) ? error_from_errno(errno) : E_OK;
  }
}

/* A pipe may be given in place of a file, but one that nobody writes to must not hold us up: a relay that reads its configuration again would not even end. */
static int open_to_read(const char *path) {
  int handle = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  struct pollfd ready = {.fd = handle, .events = POLLIN};
  if (handle < 0) return -1;
  if (poll(&ready, 1, PIPE_WAIT_MS) > 0 && fcntl(handle, F_SETFL, 0) == 0) return handle;
  close(handle);
  errno = ETIMEDOUT;
  return -1;
}

int system_read_file(const char *path, size_t max, uint8_t **bytes, size_t *len) {
  *bytes = NULL;
  *len = 0;
  int handle = open_to_read(path);
  FILE *file = handle < 0 ? NULL : fdopen(handle, "r");
  if (file == NULL) return error_from_errno(errno);
  int error = read_stream(file, max, bytes, len);
  fclose(file);
  if (error == E_OK) return E_OK;
  free(*bytes);
  *bytes = NULL;
  return error;
}

static int write_out(FILE *file, struct span bytes) {
  bool written = fwrite(bytes.at, 1, bytes.len, file) == bytes.len && fflush(file) == 0 && fsync(fileno(file)) == 0;
  return written ? E_OK : error_from_errno(errno);
}

static int write_synced(const char *path, struct span bytes, const struct stat *like) {
  (void)like;
  FILE *file = fopen(path, "we");
  if (file == NULL) return error_from_errno(errno);
  int error = write_out(file, bytes);
  if (fclose(file) != 0 && error == E_OK) error = error_from_errno(errno);
  return error;
}

/* At no moment may others read it: made anew, for us alone, before it is given its owner and mode. */
static int write_secret_synced(const char *path, struct span bytes, const struct stat *like) {
  if (unlink(path) != 0 && errno != ENOENT) return error_from_errno(errno);
  int handle = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (handle < 0) return error_from_errno(errno);
  int error = E_OK;
  if (like != NULL && (fchown(handle, like->st_uid, like->st_gid) != 0 || fchmod(handle, like->st_mode & 07777) != 0))
    error = error_from_errno(errno);
  FILE *file = error == E_OK ? fdopen(handle, "w") : NULL;
  if (file == NULL) {
    close(handle);
    return error == E_OK ? E_NO_MEMORY : error;
  }
  error = write_out(file, bytes);
  if (fclose(file) != 0 && error == E_OK) error = error_from_errno(errno);
  return error;
}

/* Only then is a rename in it on stable storage. */
static int sync_directory_of(const char *path) {
  char directory[PATH_ROOM];
  const char *slash = strrchr(path, '/');
  snprintf(directory, sizeof directory, "%.*s", slash == NULL || slash == path ? 1 : (int)(slash - path), slash == NULL ? "." : path);
  int handle = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  int error = handle >= 0 && fsync(handle) == 0 ? E_OK : error_from_errno(errno);
  if (handle >= 0) close(handle);
  return error;
}

static int replace(const char *path, struct span bytes, const struct stat *like, int (*write)(const char *, struct span, const struct stat *)) {
  char beside[PATH_ROOM];
  if (strlen(path) + sizeof ".new" > sizeof beside) return E_TOO_LONG;
  snprintf(beside, sizeof beside, "%s.new", path);
  int error = write(beside, bytes, like);
  if (error == E_OK && rename(beside, path) != 0) error = error_from_errno(errno);
  if (error != E_OK) {
    (void)unlink(beside);
    return error;
  }
  return sync_directory_of(path);
}

int system_write_file(const char *path, struct span bytes) { return replace(path, bytes, NULL, write_synced); }

int system_write_secret_file(const char *path, struct span bytes) {
  struct stat there;
  bool is_there = stat(path, &there) == 0;
  if (!is_there && errno != ENOENT) return error_from_errno(errno);
  return replace(path, bytes, is_there ? &there : NULL, write_secret_synced);
}

int system_look_at_file(const char *path, struct system_file *file) {
  struct stat status;
  if (stat(path, &status) != 0) return error_from_errno(errno);
  *file = (struct system_file){.device = status.st_dev,
                               .inode = status.st_ino,
                               .size = (uint64_t)status.st_size,
                               .changed_ns = status.st_mtim.tv_sec * (int64_t)1000000000 + status.st_mtim.tv_nsec,
                               .mode = status.st_mode & 07777};
  return E_OK;
}

bool system_same_file(const struct system_file *a, const struct system_file *b) {
  return a->device == b->device && a->inode == b->inode && a->size == b->size && a->changed_ns == b->changed_ns && a->mode == b->mode;
}

int system_lock_file(const char *path, unsigned wait_ms, int *handle) {
  static const struct timespec pause = {.tv_nsec = 20000000};
  static const unsigned pause_ms = 20;
  char beside[PATH_ROOM];
  if (strlen(path) + sizeof ".lock" > sizeof beside) return E_TOO_LONG;
  snprintf(beside, sizeof beside, "%s.lock", path);
  *handle = open(beside, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (*handle < 0) return error_from_errno(errno);
  for (unsigned waited_ms = 0; flock(*handle, LOCK_EX | LOCK_NB) != 0; waited_ms += pause_ms) {
    int error = errno == EWOULDBLOCK ? E_BUSY : errno == EINTR ? E_OK : error_from_errno(errno);
    if (error == E_OK || (error == E_BUSY && waited_ms < wait_ms)) {
      nanosleep(&pause, NULL);
      continue;
    }
    close(*handle);
    return error;
  }
  return E_OK;
}

void system_unlock_file(int handle) { close(handle); }

/* The next word of a line, words being parted by blanks; empty at its end. */
static struct span take_word(struct span *line) {
  size_t start = 0, end;
  while (start < line->len && (line->at[start] == ' ' || line->at[start] == '\t' || line->at[start] == '\r')) start++;
  for (end = start; end < line->len && line->at[end] != ' ' && line->at[end] != '\t' && line->at[end] != '\r';) end++;
  struct span word = span_skip(span_first(*line, end), start);
  *line = span_skip(*line, end);
  return word;
}

void system_read_resolvers(struct conf_system *system, struct span text) {
  while (text.len > 0 && system->resolvers_count < SYSTEM_RESOLVERS_MAX) {
    ptrdiff_t end = span_find(text, '\n');
    struct span line = span_first(text, end < 0 ? text.len : (size_t)end);
    text = span_skip(text, end < 0 ? text.len : (size_t)end + 1);
    struct netaddr *resolver = &system->resolvers[system->resolvers_count];
    if (!span_equal(take_word(&line), SPAN("nameserver")) || netaddr_parse(resolver, take_word(&line)) != E_OK) continue;
    resolver->port = DNS_PORT;
    system->resolvers_count++;
  }
}

static void look_at_resolvers(struct conf_system *system) {
  uint8_t *bytes;
  size_t len;
  if (system_read_file("/etc/resolv.conf", SMALL_FILE_MAX, &bytes, &len) != E_OK) return;
  system_read_resolvers(system, span_of(bytes, len));
  free(bytes);
}

/* What the control group (version 2) may use; UINT64_MAX if there is no limit or no such file. */
static uint64_t group_memory_bytes(void) {
  uint8_t *bytes;
  size_t len;
  uint64_t limit;
  if (system_read_file("/sys/fs/cgroup/memory.max", SMALL_FILE_MAX, &bytes, &len) != E_OK) return UINT64_MAX;
  struct span word = span_of(bytes, len);
  ptrdiff_t end = span_find(word, '\n');
  bool has_limit = span_to_u64(span_first(word, end < 0 ? len : (size_t)end), &limit); /* else "max" */
  free(bytes);
  return has_limit ? limit : UINT64_MAX;
}

static uint64_t memory_bytes(void) {
  long pages = sysconf(_SC_PHYS_PAGES), page_size = sysconf(_SC_PAGESIZE);
  uint64_t machine = pages > 0 && page_size > 0 ? (uint64_t)pages * (uint64_t)page_size : (uint64_t)1 << 30;
  uint64_t group = group_memory_bytes();
  return group < machine ? group : machine;
}

static unsigned cores(void) {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) != 0 || CPU_COUNT(&set) < 1) return 1;
  return (unsigned)CPU_COUNT(&set);
}

void system_look(struct conf_system *system) {
  *system = (struct conf_system){.cores = cores(), .memory_bytes = memory_bytes()};
  if (gethostname(system->hostname, sizeof system->hostname - 1) != 0) system->hostname[0] = '\0';
  look_at_resolvers(system);
}

uint64_t system_wall_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}
