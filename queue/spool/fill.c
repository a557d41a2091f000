#include "queue/spool/fill.h"

#include <stdlib.h>

#include "core/base/error.h"

/* What may be over in a second is waited out; anything else of the disk is final. */
static bool is_passing(int error) { return error == E_NO_SPACE || error == E_TOO_MANY_FILES || error == E_NO_MEMORY || error == E_EXISTS; }

static void give_up(struct segments *s, int error) {
  if (is_passing(error)) {
    s->no_space = true;
  } else {
    s->failed = error;
  }
}

/* A file without room behind it must not stay. */
static void abandon(struct segments *s, struct segment *segment, int error) {
  int removed = segment_drop(s, segment);
  if (removed == E_OK) removed = io_directory_sync(s->io, s->path);
  give_up(s, is_passing(error) && removed != E_OK ? removed : error);
}

#define NAME_TRIES 1000

/* With so much more taken, is there what others are to have? */
static bool leaves_free(const struct segments *s, uint64_t more_bytes) {
  uint64_t free_bytes;
  return s->disk_min_free_bytes == 0 || io_directory_space(s->io, s->path, &free_bytes, NULL) != E_OK ||
         free_bytes >= more_bytes + s->disk_min_free_bytes;
}

static void create(struct segments *s) {
  if (!leaves_free(s, s->size_bytes) || (s->disk_max_bytes != 0 && s->disk_bytes + s->size_bytes > s->disk_max_bytes)) {
    s->no_space = true;
    return;
  }
  struct segment *segment = calloc(1, sizeof *segment);
  must(segment != NULL);
  *segment = (struct segment){.state = SEGMENT_UNFILLED, .slot = s->slot_next++, .size_bytes = s->size_bytes, .recyclable = true};
  unsigned flags = IO_FILE_WRITE | IO_FILE_CREATE | IO_FILE_EXCLUSIVE | IO_FILE_LOCK | (s->direct ? IO_FILE_DIRECT : 0);
  int error = E_EXISTS; /* anybody may have put a file there */
  for (unsigned tries = 0; error == E_EXISTS && tries < NAME_TRIES; tries++) {
    if (tries > 0) segment->slot = s->slot_next++;
    error = io_file_open(s->io, segment_path(s, segment->slot), flags, &segment->file);
  }
  if (error != E_OK) {
    free(segment);
    give_up(s, error);
    return;
  }
  s->count++;
  s->disk_bytes += segment->size_bytes;
  error = io_file_allocate(s->io, segment->file, segment->size_bytes);
  if (error == E_OK && !leaves_free(s, 0)) error = E_NO_SPACE; /* another shard was as fast */
  if (error == E_UNSUPPORTED) error = E_OK;                    /* the zeros will take the blocks */
  if (error == E_OK) error = io_directory_sync(s->io, s->path);
  if (error != E_OK) {
    abandon(s, segment, error);
    return;
  }
  segment_list_append(&s->unfilled, segment);
}

static uint64_t piece_size(const struct segment *segment) {
  uint64_t left = segment->size_bytes - segment->filled_bytes;
  return left < (uint64_t)SEGMENT_PIECE_SLICES * SEGMENT_ZEROS ? left : (uint64_t)SEGMENT_PIECE_SLICES * SEGMENT_ZEROS;
}

static void write_zeros(struct segments *s, struct segment *segment) {
  uint64_t left = piece_size(segment);
  unsigned count = 0;
  for (; left > 0; count++) {
    s->zero_slices[count] = (struct io_slice){s->zeros, left < SEGMENT_ZEROS ? left : SEGMENT_ZEROS};
    left -= s->zero_slices[count].len;
  }
  io_write(s->io, segment->file, s->zero_slices, count, segment->filled_bytes, 0, segments_token(s, SPOOL_FILL, 0));
}

/* The header block that says "free" comes after the zeros: a segment that was not filled to its end is filled anew after a restart. */
static void start_stage(struct segments *s) {
  struct segment *segment = s->filling;
  uint64_t token = segments_token(s, SPOOL_FILL, 0);
  s->fill_under_way = true;
  s->operations++;
  switch (s->fill_stage) {
  case FILL_ZEROS: write_zeros(s, segment); break;
  case FILL_MARK: io_write(s->io, segment->file, &s->block_free_slice, 1, 0, 0, token); break;
  case FILL_SYNC: io_sync(s->io, segment->file, token); break;
  }
}

void fill_turn(struct segments *s) {
  while (s->failed == E_OK && !s->no_space && segments_spare(s) < SEGMENT_FREE_WANTED) create(s);
  if (s->failed != E_OK || s->fill_under_way) return;
  if (s->filling == NULL) {
    s->filling = segment_list_take(&s->unfilled);
    s->fill_stage = FILL_ZEROS;
  }
  if (s->filling != NULL) start_stage(s);
}

static void fill_failed(struct segments *s, int error) {
  struct segment *segment = s->filling;
  s->filling = NULL;
  if (segment->state != SEGMENT_UNFILLED) { /* commits find out for themselves whether there is room */
    segment->filled_bytes = segment->size_bytes;
    if (!is_passing(error)) s->failed = error;
  } else {
    abandon(s, segment, error);
  }
}

/* Goes to the next stage; a segment that was begun meanwhile needs none behind the zeros. */
static void stage_done(struct segments *s) {
  struct segment *segment = s->filling;
  if (s->fill_stage == FILL_ZEROS) segment->filled_bytes += piece_size(segment);
  if (segment->filled_bytes < segment->size_bytes) return;
  if (segment->state != SEGMENT_UNFILLED) {
    s->filling = NULL;
  } else if (s->fill_stage != FILL_SYNC) {
    s->fill_stage++;
  } else {
    s->filling = NULL;
    segment->state = SEGMENT_FREE;
    segment_list_append(&s->free, segment);
  }
}

void fill_complete(struct segments *s, int64_t result) {
  uint64_t wanted = s->fill_stage == FILL_ZEROS ? piece_size(s->filling) : s->fill_stage == FILL_MARK ? SEGMENT_BLOCK : 0;
  s->fill_under_way = false;
  if (result >= 0 && (uint64_t)result == wanted) {
    stage_done(s);
  } else {
    fill_failed(s, result < 0 ? (int)result : E_IO);
  }
}
