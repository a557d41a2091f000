/*
 * A disk in memory behind the file half of core/io/io.h, for tests of the spool: #include this file; being in the test's own object its io_ functions stand
 * before those of the library. Everything is decided by one seed.
 *
 * The model: sectors of 512 bytes are written whole or not at all. A sector that was written and not synced survives a power cut in its old or in its new
 * state; a name that was made and not synced, or a size, likewise. A synced write makes its own range (and the file's size) durable and nothing else. A
 * killed process leaves what it wrote in the cache of the living system, and writes under way done in part.
 */
#include <stdio.h>
#include <stdlib.h>

#include "core/base/error.h"
#include "core/io/io.h"

#define FAKE_FILES 256
#define FAKE_HANDLES 1024
#define FAKE_OPERATIONS 512
#define FAKE_SECTOR 512

struct fake_file {
  bool used, name_safe, locked;
  char path[96];
  uint8_t *now, *safe;
  uint64_t *dirty; /* per sector: 0: now and safe are the same; else when it was written */
  uint64_t size, safe_size, capacity;
};

struct fake_handle {
  struct fake_file *file;
  bool lock, direct;
};

enum fake_kind { FAKE_WRITE, FAKE_READ, FAKE_SYNC };

struct fake_operation {
  enum fake_kind kind;
  struct fake_file *file;
  const struct io_slice *slices;
  unsigned count;
  uint64_t offset, token;
  uint64_t time; /* when it was started */
  bool sync;
  uint8_t *copy; /* of a write's bytes when it was started: they must not change meanwhile */
  size_t len;
};

/* Options are members a test sets; zero is the ordinary disk. */
struct io {
  struct fake_file files[FAKE_FILES];
  struct fake_handle handles[FAKE_HANDLES];
  struct fake_operation operations[FAKE_OPERATIONS];
  unsigned operations_count;
  struct io_completion completions[IO_COMPLETIONS_MAX];
  uint64_t random, time, clock_ns;
  unsigned unlock_in; /* after so many waits no file is locked */
  unsigned alignment; /* 0: 512 */
  bool refuse_direct;
  uint64_t capacity;                                         /* bytes of all files; 0: no end */
  int fail_write, fail_sync, fail_open, fail_directory_sync; /* every one from now on */
  unsigned fail_write_in;                                    /* not yet those before the n-th */
  bool fail_write_alone;                                     /* only one */
  bool short_writes;                                         /* a write that reports less than it was given */
  bool fail_whole;                                           /* ... though all of it is on the disk */
  bool hold, hold_sync;                                      /* nothing completes; no io_sync */
  unsigned one_at_a_time;                                    /* at most this many completions a wait, in any order; 0: all, in order */
  bool dead; /* between fake_crash and fake_revive: the old process ends, and the disk hears nothing of it */
  uint64_t dead_tokens[FAKE_OPERATIONS];
  unsigned dead_count;
  uint64_t writes, synced_writes, syncs, written_bytes;
};

static uint64_t fake_random(struct io *io) { /* splitmix64 */
  uint64_t z = (io->random += 0x9e3779b97f4a7c15);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

static struct io *fake_new(uint64_t seed) {
  struct io *io = calloc(1, sizeof *io);
  must(io != NULL);
  io->random = seed;
  return io;
}

static void fake_file_free(struct fake_file *file) {
  free(file->now);
  free(file->safe);
  free(file->dirty);
  *file = (struct fake_file){0};
}

static void fake_drop_operations(struct io *io) {
  for (unsigned i = 0; i < io->operations_count; i++) free(io->operations[i].copy);
  io->operations_count = 0;
}

static void fake_free(struct io *io) {
  fake_drop_operations(io);
  for (unsigned i = 0; i < FAKE_FILES; i++) fake_file_free(&io->files[i]);
  free(io);
}

static struct fake_file *fake_find(struct io *io, const char *path) {
  for (unsigned i = 0; i < FAKE_FILES; i++)
    if (io->files[i].used && strcmp(io->files[i].path, path) == 0) return &io->files[i];
  return NULL;
}

static void fake_reserve(struct fake_file *file, uint64_t size) {
  if (size <= file->capacity) return;
  uint64_t capacity = (size + 65535) / 65536 * 65536;
  file->now = realloc(file->now, capacity);
  file->safe = realloc(file->safe, capacity);
  file->dirty = realloc(file->dirty, capacity / FAKE_SECTOR * sizeof *file->dirty);
  must(file->now != NULL && file->safe != NULL && file->dirty != NULL);
  memset(file->now + file->capacity, 0, capacity - file->capacity);
  memset(file->safe + file->capacity, 0, capacity - file->capacity);
  memset(file->dirty + file->capacity / FAKE_SECTOR, 0, (capacity - file->capacity) / FAKE_SECTOR * sizeof *file->dirty);
  file->capacity = capacity;
}

static uint64_t fake_used(const struct io *io) {
  uint64_t bytes = 0;
  for (unsigned i = 0; i < FAKE_FILES; i++) bytes += io->files[i].size;
  return bytes;
}

static bool fake_has_room(const struct io *io, const struct fake_file *file, uint64_t size) {
  return io->capacity == 0 || size <= file->size || fake_used(io) - file->size + size <= io->capacity;
}

/* Whole sectors, as the spool writes them. */
static void fake_put_sector(struct io *io, struct fake_file *file, uint64_t offset, const uint8_t *bytes) {
  must(offset % FAKE_SECTOR == 0);
  fake_reserve(file, offset + FAKE_SECTOR);
  memcpy(file->now + offset, bytes, FAKE_SECTOR);
  file->dirty[offset / FAKE_SECTOR] = ++io->time;
  if (offset + FAKE_SECTOR > file->size) file->size = offset + FAKE_SECTOR;
}

/* What was written until then. */
static void fake_make_safe(struct fake_file *file, uint64_t offset, uint64_t len, uint64_t until) {
  for (uint64_t at = offset; at < offset + len && at < file->capacity; at += FAKE_SECTOR) {
    if (file->dirty[at / FAKE_SECTOR] == 0 || file->dirty[at / FAKE_SECTOR] > until) continue;
    memcpy(file->safe + at, file->now + at, FAKE_SECTOR);
    file->dirty[at / FAKE_SECTOR] = 0;
  }
  file->safe_size = file->size;
}

/* ---- crashes ---- */

static void fake_crash(struct io *io, bool power) {
  for (unsigned i = 0; i < io->operations_count; i++) {
    struct fake_operation *op = &io->operations[i];
    unsigned share = (unsigned)(fake_random(io) % 5); /* none, some, all of it */
    for (uint64_t at = 0; op->kind == FAKE_WRITE && at < op->len; at += FAKE_SECTOR)
      if (fake_random(io) % 4 < share) fake_put_sector(io, op->file, op->offset + at, op->copy + at);
  }
  for (unsigned i = 0; i < io->operations_count; i++) io->dead_tokens[i] = io->operations[i].token;
  io->dead_count = io->operations_count;
  fake_drop_operations(io);
  memset(io->handles, 0, sizeof io->handles);
  io->dead = true;
  for (unsigned i = 0; i < FAKE_FILES; i++) {
    struct fake_file *file = &io->files[i];
    if (!file->used) continue;
    file->locked = false;
    if (!power) continue;
    if (!file->name_safe && fake_random(io) % 2 == 0) {
      fake_file_free(file);
      continue;
    }
    file->name_safe = true;
    unsigned share = (unsigned)(fake_random(io) % 5);
    for (uint64_t at = 0; at < file->capacity; at += FAKE_SECTOR) {
      if (!file->dirty[at / FAKE_SECTOR]) continue;
      if (fake_random(io) % 4 >= share) memcpy(file->now + at, file->safe + at, FAKE_SECTOR);
    }
    if (fake_random(io) % 2 == 0) file->size = file->safe_size;
    fake_make_safe(file, 0, file->capacity, UINT64_MAX);
  }
}

static void fake_revive(struct io *io) {
  must(io->dead_count == 0);
  io->dead = false;
}

/* ---- files ---- */

static struct fake_file *fake_create(struct io *io, const char *path) {
  for (unsigned i = 0; i < FAKE_FILES; i++) {
    if (io->files[i].used) continue;
    io->files[i].used = true;
    must(strlen(path) < sizeof io->files[i].path);
    strcpy(io->files[i].path, path);
    return &io->files[i];
  }
  return NULL;
}

int io_file_open(struct io *io, const char *path, unsigned flags, io_file *handle) {
  if (io->fail_open != 0) return io->fail_open;
  if ((flags & IO_FILE_DIRECT) != 0 && io->refuse_direct) return E_UNSUPPORTED;
  struct fake_file *file = fake_find(io, path);
  if (file != NULL && (flags & IO_FILE_EXCLUSIVE) != 0) return E_EXISTS;
  if (file == NULL && (flags & IO_FILE_CREATE) == 0) return E_NOT_FOUND;
  if (file == NULL) file = fake_create(io, path);
  if (file == NULL) return E_TOO_MANY_FILES;
  if ((flags & IO_FILE_LOCK) != 0 && file->locked) return E_BUSY;
  for (int i = 0; i < FAKE_HANDLES; i++) {
    if (io->handles[i].file != NULL) continue;
    io->handles[i] = (struct fake_handle){file, (flags & IO_FILE_LOCK) != 0, (flags & IO_FILE_DIRECT) != 0};
    if (io->handles[i].lock) file->locked = true;
    *handle = i;
    return E_OK;
  }
  return E_TOO_MANY_FILES;
}

static struct fake_file *fake_at(struct io *io, io_file handle) {
  must(handle >= 0 && handle < FAKE_HANDLES && io->handles[handle].file != NULL);
  return io->handles[handle].file;
}

void io_file_close(struct io *io, io_file handle) {
  if (io->dead) return;
  struct fake_file *file = fake_at(io, handle);
  for (unsigned i = 0; i < io->operations_count; i++) must(io->operations[i].file != file); /* the kernel still has something of it */
  if (io->handles[handle].lock) file->locked = false;
  io->handles[handle] = (struct fake_handle){0};
}

int io_file_size(struct io *io, io_file handle, uint64_t *size_bytes) {
  *size_bytes = fake_at(io, handle)->size;
  return E_OK;
}

unsigned io_file_alignment(struct io *io, io_file handle) {
  fake_at(io, handle);
  return io->alignment == 0 ? FAKE_SECTOR : io->alignment;
}

int io_file_allocate(struct io *io, io_file handle, uint64_t size_bytes) {
  struct fake_file *file = fake_at(io, handle);
  if (!fake_has_room(io, file, size_bytes)) return E_NO_SPACE;
  fake_reserve(file, size_bytes);
  if (size_bytes > file->size) file->size = size_bytes;
  return E_OK;
}

int io_file_truncate(struct io *io, io_file handle, uint64_t size_bytes) {
  fake_at(io, handle)->size = size_bytes;
  return E_OK;
}

static void fake_check_direct(struct io *io, io_file handle, const void *at, size_t len, uint64_t offset) {
  unsigned alignment = io_file_alignment(io, handle);
  if (!io->handles[handle].direct) alignment = FAKE_SECTOR;
  must((uintptr_t)at % alignment == 0 && len % alignment == 0 && offset % alignment == 0);
}

int io_file_read_now(struct io *io, io_file handle, void *at, size_t len, uint64_t offset, size_t *got) {
  struct fake_file *file = fake_at(io, handle);
  fake_check_direct(io, handle, at, len, offset);
  *got = offset >= file->size ? 0 : file->size - offset < len ? (size_t)(file->size - offset) : len;
  if (*got > 0) memcpy(at, file->now + offset, *got);
  return E_OK;
}

int io_file_write_now(struct io *io, io_file handle, const void *at, size_t len, uint64_t offset) {
  struct fake_file *file = fake_at(io, handle);
  fake_check_direct(io, handle, at, len, offset);
  for (size_t i = 0; i < len; i += FAKE_SECTOR) fake_put_sector(io, file, offset + i, (const uint8_t *)at + i);
  fake_make_safe(file, 0, file->capacity, UINT64_MAX);
  return E_OK;
}

int io_file_rename(struct io *io, const char *from, const char *to) {
  struct fake_file *file = fake_find(io, from);
  if (file == NULL) return E_NOT_FOUND;
  if (fake_find(io, to) != NULL) fake_file_free(fake_find(io, to));
  strcpy(file->path, to);
  return E_OK;
}

int io_file_remove(struct io *io, const char *path) {
  struct fake_file *file = fake_find(io, path);
  if (file == NULL) return E_NOT_FOUND;
  for (int i = 0; i < FAKE_HANDLES; i++) must(io->handles[i].file != file);
  fake_file_free(file);
  return E_OK;
}

int io_directory_make(struct io *io, const char *path) {
  (void)io;
  (void)path;
  return E_OK;
}

int io_directory_sync(struct io *io, const char *path) {
  (void)path;
  if (io->fail_directory_sync != 0) return io->fail_directory_sync;
  for (unsigned i = 0; i < FAKE_FILES; i++) io->files[i].name_safe = true;
  return E_OK;
}

int io_directory_list(struct io *io, const char *path, void (*each)(void *context, const char *name), void *context) {
  size_t len = strlen(path);
  for (unsigned i = 0; i < FAKE_FILES; i++)
    if (io->files[i].used && strncmp(io->files[i].path, path, len) == 0) each(context, io->files[i].path + len + 1);
  return E_OK;
}

int io_directory_space(struct io *io, const char *path, uint64_t *free_bytes, uint64_t *total_bytes) {
  (void)path;
  *free_bytes = io->capacity == 0 ? UINT64_MAX : io->capacity - fake_used(io);
  if (total_bytes != NULL) *total_bytes = io->capacity == 0 ? UINT64_MAX : io->capacity;
  return E_OK;
}

/* ---- operations ---- */

static struct fake_operation *fake_start(struct io *io, enum fake_kind kind, io_file handle, uint64_t token) {
  must(io->operations_count < FAKE_OPERATIONS);
  struct fake_operation *op = &io->operations[io->operations_count++];
  *op = (struct fake_operation){.kind = kind, .file = fake_at(io, handle), .token = token};
  return op;
}

void io_write(struct io *io, io_file handle, const struct io_slice *slices, unsigned count, uint64_t offset, unsigned flags, uint64_t token) {
  must(count > 0 && count <= IO_SLICES_MAX);
  struct fake_operation *op = fake_start(io, FAKE_WRITE, handle, token);
  op->slices = slices;
  op->count = count;
  op->offset = offset;
  op->sync = (flags & IO_WRITE_SYNC) != 0;
  for (unsigned i = 0; i < count; i++) {
    fake_check_direct(io, handle, slices[i].at, slices[i].len, offset + op->len);
    op->len += slices[i].len;
  }
  op->copy = malloc(op->len);
  must(op->copy != NULL);
  for (size_t i = 0, at = 0; i < count; at += slices[i++].len) memcpy(op->copy + at, slices[i].at, slices[i].len);
}

void io_read(struct io *io, io_file handle, const struct io_slice *slices, unsigned count, uint64_t offset, uint64_t token) {
  struct fake_operation *op = fake_start(io, FAKE_READ, handle, token);
  must(count == 1);
  fake_check_direct(io, handle, slices->at, slices->len, offset);
  op->slices = slices;
  op->offset = offset;
}

void io_sync(struct io *io, io_file handle, uint64_t token) { fake_start(io, FAKE_SYNC, handle, token)->time = io->time; }

static int64_t fake_write(struct io *io, const struct fake_operation *op) {
  for (size_t i = 0, at = 0; i < op->count; at += op->slices[i++].len) must(memcmp(op->copy + at, op->slices[i].at, op->slices[i].len) == 0);
  io->writes++;
  int error = 0;
  if (io->fail_write != 0 && (io->fail_write_in == 0 || --io->fail_write_in == 0)) error = io->fail_write;
  if (error != 0 && io->fail_write_alone) io->fail_write = 0;
  if (error == 0 && !fake_has_room(io, op->file, op->offset + op->len)) error = E_NO_SPACE;
  for (size_t at = 0; at < op->len; at += FAKE_SECTOR)
    if (error == 0 || io->fail_whole || fake_random(io) % 2 == 0) fake_put_sector(io, op->file, op->offset + at, op->copy + at);
  if (error != 0) return error;
  io->written_bytes += op->len;
  if (io->short_writes) return (int64_t)op->len - FAKE_SECTOR;
  if (op->sync) fake_make_safe(op->file, op->offset, op->len, UINT64_MAX);
  io->synced_writes += op->sync;
  return (int64_t)op->len;
}

static int64_t fake_read(const struct fake_operation *op) {
  const struct fake_file *file = op->file;
  size_t len = op->offset >= file->size ? 0 : op->slices->len;
  if (op->offset + len > file->size) len = (size_t)(file->size - op->offset);
  memcpy(op->slices->at, file->now + op->offset, len);
  return (int64_t)len;
}

static int64_t fake_sync(struct io *io, const struct fake_operation *op) {
  if (io->fail_sync != 0) return io->fail_sync;
  io->syncs++;
  fake_make_safe(op->file, 0, op->file->capacity, op->time);
  return 0;
}

/* What is under way is done here. A sync covers only the writes that were done when it was started. */
unsigned io_wait(struct io *io, uint64_t until_ns, const struct io_completion **done) {
  must(!io->hold || until_ns != UINT64_MAX);
  unsigned count = 0;
  *done = io->completions;
  while (io->dead_count > 0) io->completions[count++] = (struct io_completion){io->dead_tokens[--io->dead_count], E_CANCELED, {NULL, 0}};
  if (until_ns != UINT64_MAX && until_ns > io->clock_ns) io->clock_ns = until_ns;
  for (unsigned i = 0; io->unlock_in > 0 && i < FAKE_FILES; i++) io->files[i].locked &= io->unlock_in > 1;
  if (io->unlock_in > 0) io->unlock_in--;
  unsigned held = 0; /* at the front */
  while (!io->hold && io->operations_count > held && (io->one_at_a_time == 0 || count < io->one_at_a_time)) {
    unsigned which = io->one_at_a_time == 0 ? held : (unsigned)(fake_random(io) % io->operations_count);
    if (io->hold_sync && io->operations[which].kind == FAKE_SYNC) {
      held++;
      continue;
    }
    struct fake_operation op = io->operations[which];
    memmove(&io->operations[which], &io->operations[which + 1], (--io->operations_count - which) * sizeof op);
    int64_t result = op.kind == FAKE_WRITE ? fake_write(io, &op) : op.kind == FAKE_READ ? fake_read(&op) : fake_sync(io, &op);
    free(op.copy);
    io->completions[count++] = (struct io_completion){op.token, result, {NULL, 0}};
  }
  return count;
}

uint64_t io_now_ns(struct io *io) { return io->clock_ns; }

void io_random(struct io *io, void *room, size_t len) {
  for (size_t i = 0; i < len; i++) ((uint8_t *)room)[i] = (uint8_t)fake_random(io);
}
