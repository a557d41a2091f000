#include "queue/spool/replay.h"

#include <stdlib.h>

#include "core/base/canary.h"
#include "core/base/error.h"

#define CHUNK (1u << 20)
#define SEARCH_MAX (16u << 20) /* how far a record is looked for behind something that is none: the longest commit, and then some */
#define WINDOW (RECORD_LENGTH_MAX + 2 * CHUNK)

/* The content of outcomes: each behind a byte with its length. False at the end; *error is E_CORRUPT if that is not where the content ends. */
static bool outcomes_next(struct span *content, struct span *outcome, int *error) {
  *error = E_OK;
  if (content->len == 0) return false;
  size_t len = content->at[0];
  if (len == 0 || len > SPOOL_OUTCOME_MAX || len > content->len - 1) {
    *error = E_CORRUPT;
    return false;
  }
  *outcome = span_of(content->at + 1, len);
  *content = span_skip(*content, 1 + len);
  return true;
}

/* A piece of a segment in memory: file bytes from `base`, of which `have` are there; `at` is the next to look at. Offsets in the file. */
struct window {
  struct segments *segments;
  struct segment *segment;
  uint8_t *bytes;
  uint64_t base, at, limit;
  size_t have;
};

/* Keeps memory and file aligned to each other, as direct I/O wants it. */
static void make_room(struct window *w) {
  uint64_t keep = w->at - w->at % SPOOL_ALIGNMENT;
  memmove(w->bytes, w->bytes + (keep - w->base), w->base + w->have - keep);
  w->have -= keep - w->base;
  w->base = keep;
}

/* Sees to it that `len` bytes from `at` are in memory, or as many as there are before the limit. */
static int fetch(struct window *w, size_t len, size_t *available) {
  uint64_t wanted = w->at + len < w->limit ? w->at + len : w->limit;
  while (w->base + w->have < wanted) {
    if (w->have + CHUNK > WINDOW) make_room(w);
    size_t got;
    int error = io_file_read_now(w->segments->io, w->segment->file, w->bytes + w->have, CHUNK, w->base + w->have, &got);
    if (error != E_OK) return error;
    w->have += got;
    if (got == CHUNK) continue;
    if (w->base + w->have < w->limit) w->limit = w->base + w->have; /* the file ends here */
    break;
  }
  uint64_t end = w->base + w->have < w->limit ? w->base + w->have : w->limit;
  *available = end > w->at ? (size_t)(end - w->at) : 0;
  return E_OK;
}

static bool outcomes_are_whole(struct span content) {
  int error;
  for (struct span outcome; outcomes_next(&content, &outcome, &error);) {
  }
  return error == E_OK;
}

static bool record_is_whole(const struct segment *segment, const uint8_t *record, const struct record_header *header, uint64_t hash) {
  struct span body = span_of(record + RECORD_HEADER_SIZE, header->length - RECORD_HEADER_SIZE);
  if (record_hash(segment->salt, &body, 1) != hash && !canary(CANARY_TORN_RECORD)) return false;
  return header->type != RECORD_OUTCOMES || outcomes_are_whole(span_first(body, header->content_size));
}

static void hand_out(struct window *w, const struct spool_replay *replay, const uint8_t *record, const struct record_header *header) {
  if (header->type == RECORD_OUTCOMES) {
    struct span content = span_of(record + RECORD_HEADER_SIZE, header->content_size);
    int error;
    for (struct span outcome; outcomes_next(&content, &outcome, &error);) replay->outcome(replay->context, outcome);
    return;
  }
  segments_count_live(w->segments, w->segment, header->length);
  struct spool_place place = {.segment = w->segment->sequence, .length = header->length, .offset = w->at};
  replay->record(replay->context, span_of(record, header->length), place);
}

/* Is there a record at w->at? E_NOT_FOUND: none, *why says what is there instead (NULL: nothing, the end). */
static int look(struct window *w, struct record_header *header, const char **why) {
  uint64_t hash;
  size_t available;
  *why = NULL;
  int error = fetch(w, RECORD_HEADER_SIZE, &available);
  if (error != E_OK) return error;
  if (available < RECORD_HEADER_SIZE) return E_NOT_FOUND;
  error = record_header_decode(header, w->bytes + (w->at - w->base), available, w->segment->sequence, &hash);
  if (error == E_UNSUPPORTED) return error;
  *why = "no valid record header";
  if (error != E_OK) return E_NOT_FOUND;
  error = fetch(w, header->length, &available);
  if (error != E_OK) return error;
  *why = "a record goes beyond the end";
  if (available < header->length) return E_NOT_FOUND;
  *why = "a record's content does not match its hash";
  return record_is_whole(w->segment, w->bytes + (w->at - w->base), header, hash) ? E_OK : E_NOT_FOUND;
}

/* All up to the first thing that is none. */
static int replay_records(struct window *w, const struct spool_replay *replay) {
  struct record_header header;
  int error;
  while ((error = look(w, &header, &w->segment->stopped)) == E_OK) {
    hand_out(w, replay, w->bytes + (w->at - w->base), &header);
    w->segment->records++;
    w->at += header.length;
  }
  return error == E_NOT_FOUND ? E_OK : error;
}

static void seek(struct window *w, uint64_t at) {
  w->at = at;
  w->base = at - at % SPOOL_ALIGNMENT;
  w->have = 0;
}

/* Moves on from something that is no record to the next that is one. */
static bool search(struct window *w, struct record_header *header) {
  uint64_t to = w->limit - w->at < SEARCH_MAX ? w->limit : w->at + SEARCH_MAX;
  const char *why;
  for (w->at += RECORD_UNIT; w->at < to; w->at += RECORD_UNIT)
    if (look(w, header, &why) == E_OK) return true;
  return false;
}

/*
 * The window is at a record behind a gap in the newest segment. The gap may be in a commit that did not come to its end, of which nothing need count. But a commit has
 * one record of outcomes, its last one: if another record follows such a one, it is of a later commit, which was not begun before the gap's was durable.
 */
static bool gap_is_damage(struct window *w, struct record_header header) {
  const char *why;
  for (;;) {
    bool ended = header.type == RECORD_OUTCOMES;
    w->at += header.length;
    if (look(w, &header, &why) != E_OK && !search(w, &header)) return false;
    if (ended) return true;
  }
}

/*
 * Behind what is no record there may be some: each is right by itself, salt and hash say so, so one bad sector does not cost what lies behind it. False: none
 * that count; w->at is as it was.
 */
static bool find_next(struct window *w, bool newest, bool synced) {
  struct segment *segment = w->segment;
  uint64_t from = w->at, next = from;
  struct record_header header;
  if (search(w, &header)) {
    next = w->at;
    if (newest && !(synced && gap_is_damage(w, header))) next = from;
  }
  seek(w, next);
  if (next == from) return false;
  if (segment->holes++ == 0) {
    segment->hole = from;
    segment->hole_why = segment->stopped;
  }
  return true;
}

/* Up to `limit`, where the next segment says this one ended; what stands behind was never answered for. */
static int replay_segment(struct segments *s, struct segment *segment, uint64_t limit, uint8_t *room, const struct spool_replay *replay) {
  bool newest = segment->sequence == s->sequence;
  struct window window = {.segments = s, .segment = segment, .bytes = room, .base = SEGMENT_BLOCK, .at = SEGMENT_BLOCK, .limit = limit};
  int error = E_OK;
  segment->records = 0;
  segment->stopped = segment->hole_why = NULL;
  segment->holes = 0;
  segment->hole = 0;
  do {
    error = replay_records(&window, replay);
  } while (error == E_OK && segment->stopped != NULL && find_next(&window, newest, s->synced));
  segment->end = window.at;
  return error;
}

static bool disk_gives_more(const struct segments *s) {
  uint64_t wanted = SEGMENT_FREE_WANTED > segments_spare(s) ? (SEGMENT_FREE_WANTED - segments_spare(s)) * s->size_bytes : 0, free_bytes;
  if (s->disk_max_bytes != 0 && s->disk_bytes + wanted > s->disk_max_bytes) return false;
  return wanted == 0 || io_directory_space(s->io, s->path, &free_bytes, NULL) != E_OK || free_bytes >= wanted + s->disk_min_free_bytes;
}

static int clear_rest(const struct segments *s, const struct segment *segment) {
  int error = E_OK;
  for (uint64_t at = segment->end; at < segment->size_bytes && error == E_OK; at += SEGMENT_ZEROS) {
    uint64_t left = segment->size_bytes - at;
    error = io_file_write_now(s->io, segment->file, s->zeros, left < SEGMENT_ZEROS ? (size_t)left : SEGMENT_ZEROS, at);
  }
  return error;
}

/* A commit begins with a whole block: what is left of the last one gets a record without outcomes, so that later nothing seems to be missing here. */
static int fill_block(const struct segments *s, const struct segment *segment, uint64_t to) {
  uint32_t length = (uint32_t)(to - segment->end);
  struct record_header header = {.type = RECORD_OUTCOMES, .length = length};
  if (length == 0) return E_OK;
  memset(s->block, 0, SEGMENT_BLOCK); /* it is not in use yet */
  record_header_encode(&header, s->block);
  struct span body = span_of(s->block + RECORD_HEADER_SIZE, length - RECORD_HEADER_SIZE);
  record_header_seal(s->block, segment->sequence, record_hash(segment->salt, &body, 1));
  return io_file_write_now(s->io, segment->file, s->block, length, segment->end);
}

int segments_go_on(struct segments *s, bool *durable, struct fmt *why) {
  struct segment *newest = s->sequence == 0 ? NULL : segments_find(s, s->sequence);
  *durable = false;
  if (newest == NULL || !newest->recyclable || disk_gives_more(s)) return E_OK;
  uint64_t end = (newest->end + SEGMENT_BLOCK - 1) / SEGMENT_BLOCK * SEGMENT_BLOCK;
  *durable = newest->end < newest->size_bytes; /* else nothing is written */
  int error = fill_block(s, newest, end);
  newest->end = end;
  if (error == E_OK) error = clear_rest(s, newest);
  if (error == E_OK) {
    s->head = newest;
    s->sequence_end = newest->end;
  } else {
    *durable = false;
    fmt_text(why, segment_path(s, newest->slot));
    fmt_text(why, ": ");
    fmt_text(why, error_text(error));
  }
  return error;
}

int segments_replay(struct segments *s, const struct spool_replay *replay, uint64_t *damaged, struct fmt *why) {
  *damaged = s->gaps;
  if (s->sequence == 0) return E_OK; /* nothing was ever stored */
  uint8_t *room = aligned_alloc(SPOOL_ALIGNMENT, WINDOW);
  if (room == NULL) {
    fmt_text(why, "no memory for reading the spool");
    return E_NO_MEMORY;
  }
  int error = E_OK;
  uint32_t last = s->sequence;
  for (uint32_t sequence = s->tail; sequence <= last && error == E_OK; sequence++) {
    struct segment *segment = segments_find(s, sequence);
    if (segment == NULL) continue; /* counted in gaps */
    const struct segment *next = segments_find(s, sequence + 1);
    uint64_t expected = next == NULL ? 0 : next->previous_end;
    uint64_t limit = expected != 0 && expected < segment->size_bytes ? expected : segment->size_bytes;
    error = replay_segment(s, segment, limit, room, replay);
    if (error == E_OK && ((expected != 0 && segment->end != expected) || segment->holes > 0)) (*damaged)++;
    if (error == E_OK) s->sequence_end = segment->end;
    if (error == E_OK) continue;
    fmt_text(why, segment_path(s, segment->slot));
    fmt_text(why, ": ");
    fmt_text(why, error == E_UNSUPPORTED ? "it has records of a newer version of ringpost" : error_text(error));
  }
  free(room);
  return error;
}
