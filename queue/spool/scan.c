#include "queue/spool/scan.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/base/error.h"

#define SEGMENT_SIZE_DEFAULT (64ull << 20)
#define SEGMENT_SIZE_MIN (64ull << 10)
#define GAPS_MAX 100000
#define BUSY_WAIT_NS (5000 * 1000000ull)
#define BUSY_STEP_NS (5 * 1000000ull)
#define SEGMENTS_AT_LEAST 3 /* the head, the one kept back, and one to be freed */
#define MIN_FREE_PARTS 16
#define SEGMENTS_FITTING 8 /* as many as a disk should hold, if that does not make them too small */

static int complain(struct fmt *why, const char *what, const char *text, int error) {
  fmt_text(why, what);
  fmt_text(why, ": ");
  fmt_text(why, text != NULL ? text : error_text(error));
  return error;
}

static int take_options(struct segments *s, const struct spool_options *options, struct fmt *why) {
  s->size_bytes = options->segment_size_bytes == 0 ? SEGMENT_SIZE_DEFAULT : options->segment_size_bytes;
  s->size_bytes -= s->size_bytes % SEGMENT_BLOCK;
  s->synced = options->durability == SPOOL_SYNC;
  s->disk_max_bytes = options->disk_max_bytes;
  s->disk_min_free_bytes = options->disk_min_free_bytes;
  if (s->size_bytes < SEGMENT_SIZE_MIN) return complain(why, s->path, "segments of a spool have at least 64 KiB", E_RANGE);
  return E_OK;
}

/* The lock, and on the same file the question whether direct I/O works here, at a granularity that goes with our blocks. */
static int take_lock(struct segments *s, bool buffered, struct fmt *why) {
  const char *path = segments_path(s, "lock");
  int error = io_file_open(s->io, path, IO_FILE_WRITE | IO_FILE_CREATE | IO_FILE_LOCK, &s->lock);
  if (error == E_BUSY) return complain(why, path, "another process has this spool", error);
  if (error != E_OK) return complain(why, path, NULL, error);
  io_file probe;
  if (buffered || io_file_open(s->io, path, IO_FILE_WRITE | IO_FILE_DIRECT, &probe) != E_OK) return E_OK;
  unsigned alignment = io_file_alignment(s->io, probe);
  io_file_close(s->io, probe);
  s->direct = alignment <= SEGMENT_BLOCK;
  if (s->direct) s->alignment = alignment;
  return E_OK;
}

static int take_memory(struct segments *s) {
  s->block_free = aligned_alloc(SPOOL_ALIGNMENT, SEGMENT_BLOCK);
  s->block = aligned_alloc(SPOOL_ALIGNMENT, SEGMENT_BLOCK);
  s->zeros = aligned_alloc(SPOOL_ALIGNMENT, SEGMENT_ZEROS);
  if (s->block_free == NULL || s->block == NULL || s->zeros == NULL) return E_NO_MEMORY;
  memset(s->zeros, 0, SEGMENT_ZEROS);
  return E_OK;
}

/*
 * A disk that does not hold many segments gets smaller ones, of a power of two so that a little more or less of free space at the next start does
 * not make all of them anew.
 */
static int choose_size(struct segments *s, unsigned sharers, struct fmt *why) {
  uint64_t share = 0, total_bytes;
  if (sharers > 0) {
    int error = io_directory_space(s->io, s->path, &share, &total_bytes);
    if (error != E_OK) return complain(why, s->path, NULL, error);
    share = share / sharers + s->disk_bytes;
    if (s->disk_min_free_bytes > total_bytes / MIN_FREE_PARTS) s->disk_min_free_bytes = total_bytes / MIN_FREE_PARTS;
    if (s->disk_max_bytes != 0 && s->disk_max_bytes < share) share = s->disk_max_bytes;
    uint64_t fitting = SPOOL_SEGMENT_FIT_MIN;
    while (fitting * 2 <= share / SEGMENTS_FITTING) fitting *= 2;
    if (fitting < s->size_bytes) s->size_bytes = fitting;
  }
  if (s->disk_max_bytes != 0 && s->disk_max_bytes < SEGMENTS_AT_LEAST * s->size_bytes)
    return complain(why, s->path, "the largest size of a spool must hold three segments", E_RANGE);
  struct record_segment nothing = {.alignment = s->alignment, .size_bytes = s->size_bytes};
  record_segment_encode(&nothing, s->block_free);
  s->block_free_slice = (struct io_slice){s->block_free, SEGMENT_BLOCK};
  return E_OK;
}

/* ---- what is there ---- */

struct found {
  struct segment *segment;
  struct record_segment header;
  bool valid; /* the header is */
};

struct scan {
  uint32_t *slots;
  size_t slots_count, slots_capacity;
  struct found *found;
  size_t found_count;
  uint32_t first, last; /* sequences that count */
  uint64_t last_end;
  bool failed, changed;
};

static void note_name(void *context, const char *name) {
  struct scan *scan = context;
  size_t len = strlen(name);
  uint64_t slot;
  if (len != 12 || strcmp(name + 8, ".seg") != 0 || !span_to_u64(span_of(name, 8), &slot)) return;
  if (scan->slots_count == scan->slots_capacity) {
    size_t capacity = scan->slots_capacity == 0 ? 64 : scan->slots_capacity * 2;
    uint32_t *grown = realloc(scan->slots, capacity * sizeof *grown);
    scan->failed |= grown == NULL;
    if (grown == NULL) return;
    scan->slots = grown;
    scan->slots_capacity = capacity;
  }
  scan->slots[scan->slots_count++] = (uint32_t)slot;
}

/* The kernel keeps a file of a killed process open, and locked, until the write that was under way is done: usually for a few milliseconds. */
static int open_file(struct segments *s, uint32_t slot, bool direct, io_file *file) {
  uint64_t until_ns = io_now_ns(s->io) + BUSY_WAIT_NS;
  unsigned flags = (s->view ? IO_FILE_READ : IO_FILE_WRITE) | (s->exclusive ? IO_FILE_LOCK : 0) | (direct ? IO_FILE_DIRECT : 0);
  for (;;) {
    int error = io_file_open(s->io, segment_path(s, slot), flags, file);
    uint64_t now_ns = io_now_ns(s->io);
    if (error != E_BUSY || now_ns >= until_ns) return error;
    const struct io_completion *done;
    io_wait(s->io, now_ns + BUSY_STEP_NS, &done);
  }
}

/* A file whose records are finer than direct I/O can go here (it came from another disk) is read through the page cache. */
static int read_header(struct segments *s, struct found *found) {
  struct segment *segment = found->segment;
  size_t got;
  int error = io_file_read_now(s->io, segment->file, s->block, SEGMENT_BLOCK, 0, &got);
  if (error != E_OK) return error;
  error = got == SEGMENT_BLOCK ? record_segment_decode(&found->header, s->block) : E_CORRUPT;
  found->valid = error == E_OK;
  if (!found->valid) return error == E_UNSUPPORTED ? error : E_OK;
  segment->sequence = found->header.sequence;
  segment->salt = found->header.salt;
  segment->previous_end = found->header.previous_end;
  if (!s->direct || found->header.alignment >= s->alignment) return E_OK;
  io_file_close(s->io, segment->file);
  return open_file(s, segment->slot, false, &segment->file);
}

static int open_slot(struct segments *s, struct found *found, uint32_t slot) {
  struct segment *segment = calloc(1, sizeof *segment);
  if (segment == NULL) return E_NO_MEMORY;
  segment->slot = slot;
  int error = open_file(s, slot, s->direct, &segment->file);
  if (error != E_OK) {
    free(segment);
    return error;
  }
  found->segment = segment;
  s->count++;
  if (slot >= s->slot_next) s->slot_next = slot + 1;
  error = io_file_size(s->io, segment->file, &segment->size_bytes);
  s->disk_bytes += segment->size_bytes;
  segment->filled_bytes = segment->size_bytes;
  segment->end = SEGMENT_BLOCK;
  return error == E_OK ? read_header(s, found) : error;
}

static int open_slots(struct segments *s, struct scan *scan, struct fmt *why) {
  int error = io_directory_list(s->io, s->path, note_name, scan);
  if (error == E_OK && scan->failed) error = E_NO_MEMORY;
  if (error != E_OK) return complain(why, s->path, NULL, error);
  scan->found = calloc(scan->slots_count + 1, sizeof *scan->found);
  if (scan->found == NULL) return complain(why, s->path, NULL, E_NO_MEMORY);
  for (size_t i = 0; i < scan->slots_count; i++) {
    struct found *found = &scan->found[scan->found_count];
    error = open_slot(s, found, scan->slots[i]);
    if (found->segment != NULL) scan->found_count++;
    if (error == E_NOT_FOUND && !s->exclusive) continue; /* whoever has the spool removed it meanwhile */
    if (error == E_BUSY) return complain(why, segment_path(s, scan->slots[i]), "a write of the last process is still under way", error);
    if (error == E_UNSUPPORTED) return complain(why, segment_path(s, scan->slots[i]), "written by a newer version of ringpost", error);
    if (error != E_OK) return complain(why, segment_path(s, scan->slots[i]), NULL, error);
  }
  return E_OK;
}

/* ---- what each is ---- */

static int by_sequence(const void *a, const void *b) {
  uint32_t left = ((const struct found *)a)->segment->sequence, right = ((const struct found *)b)->segment->sequence;
  return left < right ? -1 : left > right;
}

/* From the newest header and its tail: which sequences count. Those that are missing at their beginning were freed since; any other is damage. */
static int find_range(struct segments *s, struct scan *scan, struct fmt *why) {
  qsort(scan->found, scan->found_count, sizeof *scan->found, by_sequence);
  const struct found *newest = scan->found_count == 0 ? NULL : &scan->found[scan->found_count - 1];
  s->tail = 1;
  if (newest == NULL || newest->segment->sequence == 0) return E_OK;
  scan->last = newest->segment->sequence;
  if (scan->last == UINT32_MAX) return complain(why, segment_path(s, newest->segment->slot), "the sequence numbers are used up", E_RANGE);
  size_t first = scan->found_count - 1;
  while (first > 0 && scan->found[first - 1].segment->sequence >= newest->header.tail) {
    if (scan->found[first - 1].segment->sequence == scan->found[first].segment->sequence)
      return complain(why, segment_path(s, scan->found[first].segment->slot), "another segment has the same sequence number", E_CORRUPT);
    first--;
  }
  scan->first = scan->found[first].segment->sequence;
  s->gaps = scan->last - scan->first + 1 - (unsigned)(scan->found_count - first);
  if (s->gaps > GAPS_MAX) return complain(why, s->path, "segments of different spools are mixed here", E_CORRUPT);
  s->tail = scan->first;
  s->sequence = scan->last;
  return E_OK;
}

/* Without a valid header. Either it was never finished, or, if something is missing, it may be that: then somebody should look at it. */
static int place_unknown(struct segments *s, struct segment *segment) {
  if (s->view) {
    segment->state = SEGMENT_UNFILLED;
    segment_list_append(&s->unfilled, segment);
    return E_OK;
  }
  if (s->gaps > 0) {
    char name[16];
    snprintf(name, sizeof name, "%08u.bad", segment->slot % 100000000);
    size_t size = s->name_size;
    char *to = malloc(size);
    if (to == NULL) return E_NO_MEMORY;
    memcpy(to, segments_path(s, name), size);
    int error = io_file_rename(s->io, segment_path(s, segment->slot), to);
    free(to);
    io_file_close(s->io, segment->file);
    s->disk_bytes -= segment->size_bytes;
    s->count--;
    free(segment);
    return error;
  }
  if (segment->size_bytes != s->size_bytes) return segment_drop(s, segment);
  segment->state = SEGMENT_UNFILLED;
  segment->filled_bytes = 0;
  segment->recyclable = true;
  segment_list_append(&s->unfilled, segment);
  return E_OK;
}

/* In the order of their sequences. */
static int place_found(struct segments *s, struct scan *scan, const struct found *found) {
  struct segment *segment = found->segment;
  if (!found->valid) {
    scan->changed = true;
    return place_unknown(s, segment);
  }
  segment->recyclable = found->header.size_bytes == s->size_bytes && segment->size_bytes == s->size_bytes && found->header.alignment == s->alignment;
  if (segment->sequence >= s->tail && segment->sequence <= s->sequence) {
    segments_enter_live(s, segment);
    return E_OK;
  }
  /* Free, or from before the tail and about to be. What its block says need not have reached the disk: it is marked free before it is used. */
  segment->state = SEGMENT_RETIRED;
  segment_list_append(&s->retired, segment);
  return E_OK;
}

static int scan_directory(struct segments *s, struct scan *scan, unsigned sharers, struct fmt *why) {
  int error = open_slots(s, scan, why);
  if (error == E_OK && !s->view) error = choose_size(s, sharers, why);
  if (error == E_OK) error = find_range(s, scan, why);
  if (error != E_OK) return error;
  for (size_t i = 0; i < scan->found_count && error == E_OK; i++) {
    struct found found = scan->found[i];
    scan->found[i].segment = NULL; /* is in its list, or gone */
    error = place_found(s, scan, &found);
  }
  if (error == E_OK && scan->changed && !s->view) error = io_directory_sync(s->io, s->path);
  return error == E_OK ? E_OK : complain(why, s->path, NULL, error);
}

/* ---- life ---- */

static void release(struct segments *s, struct segment *segment) {
  if (segment == NULL) return;
  io_file_close(s->io, segment->file);
  free(segment);
}

static void release_list(struct segments *s, struct segment_list *list) {
  while (list->first != NULL) release(s, segment_list_take(list));
}

static int begin_open(struct segments *s, const char *path, struct fmt *why) {
  s->path = strdup(path);
  s->name_size = strlen(path) + 16;
  s->name = calloc(1, s->name_size);
  if (s->path != NULL && s->name != NULL) return E_OK;
  return complain(why, path, NULL, E_NO_MEMORY);
}

/* The rest, and the end of it. */
static int end_open(struct segments *s, int error, unsigned sharers, struct fmt *why) {
  struct scan scan = {0};
  if (error == E_OK && (error = take_memory(s)) != E_OK) complain(why, s->path, NULL, error);
  if (error == E_OK) error = scan_directory(s, &scan, sharers, why);
  for (size_t i = 0; i < scan.slots_count && scan.found != NULL; i++) release(s, scan.found[i].segment);
  free(scan.found);
  free(scan.slots);
  if (error != E_OK) segments_close(s);
  return error;
}

int segments_open(struct segments *s, struct io *io, const struct spool_options *options, uint8_t token_kind, struct fmt *why) {
  *s = (struct segments){.io = io, .token_kind = token_kind, .lock = IO_NONE, .tail = 1, .alignment = RECORD_UNIT, .exclusive = true};
  int error = begin_open(s, options->path, why);
  if (error == E_OK) error = take_options(s, options, why);
  if (error == E_OK && (error = io_directory_make(io, s->path)) != E_OK) complain(why, s->path, NULL, error);
  if (error == E_OK) error = take_lock(s, options->buffered, why);
  return end_open(s, error, options->disk_sharers, why);
}

int segments_open_view(struct segments *s, struct io *io, const char *path, bool exclusive, struct fmt *why) {
  *s = (struct segments){.io = io, .lock = IO_NONE, .tail = 1, .alignment = RECORD_UNIT, .view = true, .exclusive = exclusive};
  int error = begin_open(s, path, why);
  if (error == E_OK && exclusive) error = take_lock(s, true, why);
  return end_open(s, error, 0, why);
}

void segments_close(struct segments *s) {
  bool filling_is_elsewhere = s->filling == NULL || s->filling->state != SEGMENT_UNFILLED;
  if (!filling_is_elsewhere) release(s, s->filling);
  release(s, s->beginning);
  release_list(s, &s->unfilled);
  release_list(s, &s->free);
  release_list(s, &s->retired);
  for (uint32_t i = 0; i < s->live_capacity; i++) release(s, s->live[i]);
  if (s->lock != IO_NONE) io_file_close(s->io, s->lock);
  free(s->live);
  free(s->block_free);
  free(s->block);
  free(s->zeros);
  free(s->name);
  free(s->path);
  *s = (struct segments){.lock = IO_NONE};
}
