#include "tests/sim/disk_inside.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/error.h"
#include "tests/sim/world.h"

#define SECTOR 512

enum kind { WRITE, READ, SYNC };

struct operation {
  enum kind kind;
  struct io *io;
  struct file *file;
  const struct io_slice *slices;
  unsigned count;
  uint64_t offset, token;
  uint64_t time; /* number of the last write when it was started */
  bool sync, append, cached, given_up;
  uint8_t *copy; /* of a write's bytes when it was started: they must not change meanwhile */
  size_t len;
  struct operation *next;
};

struct disk_state disk;

void disk_open(void) {
  memset(&disk, 0, sizeof disk);
  contents_open();
}

void disk_on_write(disk_write on_write) { disk.on_write = on_write; }
void disk_give_room(void) { disk.faults.capacity_bytes = 0; }
void disk_set_faults(const struct disk_faults *faults) { disk.faults = *faults; }
const struct disk_stats *disk_stats(void) { return &disk.stats; }

void disk_cut_at(uint64_t number) { disk.cut_at = number == 0 ? 0 : disk.durable_number + number; }
bool disk_is_cut(void) { return disk.is_cut; }

/* False: this does not happen any more. */
static bool may_become_durable(void) {
  disk.is_cut |= ++disk.durable_number == disk.cut_at;
  return !disk.is_cut;
}

/* For calls that return at once: who called is gone with the machine. */
void disk_become_durable_or_die(void) {
  while (!may_become_durable()) fiber_sleep(UINT64_MAX);
}

/* ---- room ---- */

static bool is_of_events(const struct file *file) { return strncmp(file->path, "/events", 7) == 0; }
static bool is_of_spool(const char *path) { return strncmp(path, "/spool", 6) == 0; }

uint64_t disk_used(void) {
  uint64_t bytes = 0;
  for (unsigned i = 0; i < disk.files_used; i++)
    if (disk.files[i].used && !disk.files[i].removed && is_of_spool(disk.files[i].path)) bytes += disk.files[i].contents.size;
  return bytes;
}

static bool has_room(const struct file *file, uint64_t size) {
  return disk.faults.capacity_bytes == 0 || !is_of_spool(file->path) || size <= file->contents.size ||
         disk_used() - file->contents.size + size <= disk.faults.capacity_bytes;
}

void disk_forget(struct file *file) {
  contents_free(&file->contents);
  *file = (struct file){0};
}

/* ---- crashes ---- */

static void crash_operation(struct operation *op) {
  op->given_up = true; /* its time will come, and nobody hears of it */
  op->file->operations--;
  struct contents *contents = &op->file->contents;
  if (op->kind == WRITE) contents_write(contents, op->append ? contents->size : op->offset, span_of(op->copy, op->len), (unsigned)chance(5), 4);
}

static void cut_power(struct file *file) {
  bool remains = file->removed ? disk_find(file->path) == NULL && chance_once(2) : file->name_safe || chance_once(2);
  if (!remains) {
    disk_forget(file);
    return;
  }
  file->removed = false;
  file->name_safe = true;
  contents_cut_power(&file->contents);
}

void disk_crash(bool power) {
  if (power) names_forget_renamings(true);
  if (power) names_settle_replaced();
  for (struct operation *op = disk.operations; op != NULL; op = op->next) crash_operation(op);
  disk.operations = NULL;
  disk.is_cut = false;
  disk.cut_at = 0;
  memset(disk.handles, 0, sizeof disk.handles);
  for (unsigned i = 0; i < disk.files_used; i++) {
    disk.files[i].locked = false;
    if (disk.files[i].used && power) cut_power(&disk.files[i]);
  }
}

/* ---- names ---- */

struct file *disk_find(const char *path) {
  for (unsigned i = 0; i < disk.files_used; i++)
    if (disk.files[i].used && !disk.files[i].removed && strcmp(disk.files[i].path, path) == 0) return &disk.files[i];
  return NULL;
}

static struct file *make(const char *path) {
  unsigned i = 0;
  while (i < disk.files_used && disk.files[i].used) i++;
  must(i < FILES_MAX && strlen(path) < sizeof disk.files[i].path);
  if (i == disk.files_used) disk.files_used++;
  disk.files[i] = (struct file){.used = true};
  strcpy(disk.files[i].path, path);
  return &disk.files[i];
}

bool disk_is_directory(const char *path) {
  for (unsigned i = 0; i < disk.directories_count; i++)
    if (strcmp(disk.directories[i], path) == 0) return true;
  return false;
}

/* Of the spool, and done at once. */
bool disk_call_fails(const char *path) {
  bool fails = is_of_spool(path) && chance_once(disk.faults.calls_fail);
  if (fails) trace("disk fails at %s", path);
  disk.stats.failures += fails;
  if (fails && disk.on_write != NULL) disk.on_write(path, span_of(NULL, 0), true);
  return fails;
}

bool disk_is_open(const struct file *file) {
  for (int i = 0; i < HANDLES_MAX; i++)
    if (disk.handles[i].file == file) return true;
  return false;
}

int io_file_open(struct io *io, const char *path, unsigned flags, io_file *handle) {
  (void)io;
  if (disk_call_fails(path)) return E_IO;
  if ((flags & IO_FILE_DIRECT) != 0 && disk.faults.refuse_direct) return E_UNSUPPORTED;
  struct file *file = disk_find(path);
  if (disk_is_directory(path)) return E_IS_DIRECTORY;
  if (file != NULL && (flags & IO_FILE_EXCLUSIVE) != 0) return E_EXISTS;
  if (file == NULL && (flags & IO_FILE_CREATE) == 0) return E_NOT_FOUND;
  if (file == NULL) file = make(path);
  if (disk.stats.failures > 0 && !disk_is_open(file) && chance_once(3)) contents_evict(&file->contents);
  if ((flags & IO_FILE_LOCK) != 0 && file->locked) return E_BUSY;
  for (int i = 0; i < HANDLES_MAX; i++) {
    if (disk.handles[i].file != NULL) continue;
    disk.handles[i] = (struct handle){file, (flags & IO_FILE_LOCK) != 0, (flags & IO_FILE_DIRECT) != 0, (flags & IO_FILE_APPEND) != 0};
    if (disk.handles[i].lock) file->locked = true;
    *handle = i;
    return E_OK;
  }
  return E_TOO_MANY_FILES;
}

static struct file *file_of(io_file handle) {
  must(handle >= 0 && handle < HANDLES_MAX && disk.handles[handle].file != NULL);
  return disk.handles[handle].file;
}

void io_file_close(struct io *io, io_file handle) {
  (void)io;
  struct file *file = file_of(handle);
  must(file->operations == 0); /* the kernel still has something of it */
  if (disk.handles[handle].lock) file->locked = false;
  disk.handles[handle] = (struct handle){0};
}

int io_directory_space(struct io *io, const char *path, uint64_t *free_bytes, uint64_t *total_bytes) {
  (void)io;
  (void)path;
  uint64_t used = disk_used(), capacity = disk.faults.capacity_bytes == 0 ? (uint64_t)1 << 40 : disk.faults.capacity_bytes;
  *free_bytes = used < capacity ? capacity - used : 0;
  if (total_bytes != NULL) *total_bytes = capacity;
  return E_OK;
}

/* ---- at once ---- */

int io_file_size(struct io *io, io_file handle, uint64_t *size_bytes) {
  (void)io;
  *size_bytes = file_of(handle)->contents.size;
  return E_OK;
}

unsigned io_file_alignment(struct io *io, io_file handle) {
  (void)io;
  (void)handle;
  return SECTOR;
}

int io_file_allocate(struct io *io, io_file handle, uint64_t size_bytes) {
  (void)io;
  struct file *file = file_of(handle);
  if (disk_call_fails(file->path)) return E_IO;
  if (!has_room(file, size_bytes)) return E_NO_SPACE;
  if (size_bytes > file->contents.size) file->contents.size = size_bytes;
  return E_OK;
}

int io_file_truncate(struct io *io, io_file handle, uint64_t size_bytes) {
  (void)io;
  file_of(handle)->contents.size = size_bytes;
  return E_OK;
}

static void check_direct(io_file handle, const void *at, size_t len, uint64_t offset) {
  if (disk.handles[handle].direct) must((uintptr_t)at % SECTOR == 0 && len % SECTOR == 0 && offset % SECTOR == 0);
}

int io_file_read_now(struct io *io, io_file handle, void *at, size_t len, uint64_t offset, size_t *got) {
  (void)io;
  const struct file *file = file_of(handle);
  check_direct(handle, at, len, offset);
  if (disk_call_fails(file->path)) return E_IO;
  *got = offset >= file->contents.size ? 0 : file->contents.size - offset < len ? (size_t)(file->contents.size - offset) : len;
  contents_read(&file->contents, offset, at, *got);
  return E_OK;
}

int io_file_write_now(struct io *io, io_file handle, const void *at, size_t len, uint64_t offset) {
  (void)io;
  struct file *file = file_of(handle);
  check_direct(handle, at, len, offset);
  if (!has_room(file, offset + len)) return E_NO_SPACE;
  bool fails = disk_call_fails(file->path);
  contents_write(&file->contents, offset, span_of(at, len), fails ? (unsigned)chance(5) : 0, 4);
  if (fails) {
    contents_save_failed(&file->contents, 0, file->contents.size, UINT64_MAX, !disk.handles[handle].direct);
    return E_IO;
  }
  disk_become_durable_or_die();
  contents_save(&file->contents, 0, file->contents.size, UINT64_MAX);
  return E_OK;
}

bool disk_contents(const char *path, uint8_t **bytes, size_t *len) {
  const struct file *file = disk_find(path);
  if (file == NULL) return false;
  *len = file->contents.size;
  *bytes = sim_alloc(file->contents.size + 1);
  contents_read(&file->contents, 0, *bytes, file->contents.size);
  return true;
}

void disk_put(const char *path, struct span bytes) {
  struct file *file = disk_find(path);
  if (file == NULL) file = make(path);
  contents_free(&file->contents);
  file->contents = (struct contents){0};
  file->name_safe = true;
  contents_write(&file->contents, 0, bytes, 0, 1);
  contents_save(&file->contents, 0, bytes.len, UINT64_MAX);
}

/* ---- under way ---- */

static void tell(const struct operation *op, bool failed) {
  if (disk.on_write != NULL && !is_of_events(op->file)) disk.on_write(op->file->path, span_of(op->copy, op->len), failed);
}

/* A write or a sync fails for good: what is known of it afterwards, nobody can say. */
static int64_t fail(const struct operation *op) {
  disk.stats.failures++;
  if (op->sync) {
    bool all = op->kind == SYNC;
    contents_save_failed(&op->file->contents, all ? 0 : op->offset, all ? op->file->contents.size : op->len, all ? op->time : UINT64_MAX, op->cached);
  }
  tell(op, true);
  return E_IO;
}

static int64_t do_write(struct operation *op) {
  for (size_t i = 0, at = 0; i < op->count; at += op->slices[i++].len) must(memcmp(op->copy + at, op->slices[i].at, op->slices[i].len) == 0);
  if (op->append) op->offset = op->file->contents.size;
  disk.stats.writes++;
  disk.stats.synced_writes += op->sync;
  if (!has_room(op->file, op->offset + op->len)) return E_NO_SPACE;
  bool fails = chance_once(is_of_events(op->file) ? disk.faults.events_fail : disk.faults.write_fails);
  contents_write(&op->file->contents, op->offset, span_of(op->copy, op->len), fails ? (unsigned)chance(5) : 0, 4);
  if (fails || (op->sync && !is_of_events(op->file) && chance_once(disk.faults.sync_fails))) return fail(op);
  if (op->sync) contents_save(&op->file->contents, op->offset, op->len, UINT64_MAX);
  tell(op, false);
  return (int64_t)op->len;
}

static int64_t do_read(const struct operation *op) {
  disk.stats.reads++;
  if (chance_once(disk.faults.read_fails)) {
    trace("disk fails to read %s at %llu", op->file->path, (unsigned long long)op->offset);
    return E_IO;
  }
  uint64_t at = op->offset;
  for (unsigned i = 0; i < op->count && at < op->file->contents.size; i++) {
    size_t len = op->file->contents.size - at < op->slices[i].len ? (size_t)(op->file->contents.size - at) : op->slices[i].len;
    contents_read(&op->file->contents, at, op->slices[i].at, len);
    at += len;
  }
  return (int64_t)(at - op->offset);
}

static int64_t do_sync(const struct operation *op) {
  disk.stats.syncs++;
  if (!is_of_events(op->file) && chance_once(disk.faults.sync_fails)) return fail(op);
  contents_save(&op->file->contents, 0, op->file->contents.size, op->time);
  return 0;
}

static void complete(void *context, uint64_t number) {
  (void)number;
  struct operation *op = context;
  if (!op->given_up && (op->kind == SYNC || op->sync) && !may_become_durable()) return; /* disk_crash finds it under way */
  if (!op->given_up) {
    int64_t result = op->kind == WRITE ? do_write(op) : op->kind == READ ? do_read(op) : do_sync(op);
    if (op->kind != READ)
      trace("disk %s %s at %llu: %lld", op->kind == SYNC || op->sync ? "sync" : "write", op->file->path, (unsigned long long)op->offset,
            (long long)result);
    struct operation **at = &disk.operations;
    while (*at != op) at = &(*at)->next;
    *at = op->next;
    op->file->operations--;
    io_done(op->io, op->token, result);
  }
  free(op->copy);
  free(op);
}

static uint64_t duration(enum kind kind, bool sync) {
  uint64_t usual = kind == READ ? disk.faults.read_ns : kind == SYNC || sync ? disk.faults.sync_ns : disk.faults.write_ns;
  if (usual == 0) usual = kind == READ ? 100 * MICROSECOND_NS : kind == SYNC || sync ? 300 * MICROSECOND_NS : 30 * MICROSECOND_NS;
  return chance_spread(usual / 4 + 1, usual * 4);
}

static bool is_handle(io_file handle) { return handle >= 0 && handle < HANDLES_MAX && disk.handles[handle].file != NULL; }

static struct operation *start(struct io *io, enum kind kind, io_file handle, bool sync, uint64_t token) {
  struct operation *op = sim_alloc(sizeof *op);
  *op = (struct operation){.kind = kind,
                           .io = io,
                           .file = file_of(handle),
                           .token = token,
                           .sync = sync,
                           .time = contents_writes(),
                           .cached = !disk.handles[handle].direct,
                           .next = disk.operations};
  disk.operations = op;
  op->file->operations++;
  world_after(duration(kind, sync), complete, op, 0);
  return op;
}

void io_write(struct io *io, io_file handle, const struct io_slice *slices, unsigned count, uint64_t offset, unsigned flags, uint64_t token) {
  must(count > 0 && count <= IO_SLICES_MAX);
  if (!is_handle(handle)) {
    io_done(io, token, E_OTHER);
    return;
  }
  struct operation *op = start(io, WRITE, handle, (flags & IO_WRITE_SYNC) != 0, token);
  op->slices = slices;
  op->count = count;
  op->offset = offset;
  op->append = disk.handles[handle].append;
  for (unsigned i = 0; i < count; i++) {
    check_direct(handle, slices[i].at, slices[i].len, offset + op->len);
    op->len += slices[i].len;
  }
  op->copy = sim_alloc(op->len);
  for (size_t i = 0, at = 0; i < count; at += slices[i++].len) memcpy(op->copy + at, slices[i].at, slices[i].len);
}

void io_read(struct io *io, io_file handle, const struct io_slice *slices, unsigned count, uint64_t offset, uint64_t token) {
  struct operation *op = start(io, READ, handle, false, token);
  for (unsigned i = 0; i < count; i++) check_direct(handle, slices[i].at, slices[i].len, offset);
  op->slices = slices;
  op->count = count;
  op->offset = offset;
}

void io_sync(struct io *io, io_file handle, uint64_t token) { start(io, SYNC, handle, true, token); }
