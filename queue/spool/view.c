#include "queue/spool/view.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/base/error.h"
#include "queue/spool/read.h"
#include "queue/spool/replay.h"
#include "queue/spool/scan.h"

struct view {
  struct segments segments;
};

int view_open(struct view **out, struct io *io, const char *path, bool exclusive, struct fmt *why) {
  struct view *view = calloc(1, sizeof *view);
  if (view == NULL) {
    fmt_text(why, error_text(E_NO_MEMORY));
    return E_NO_MEMORY;
  }
  int error = segments_open_view(&view->segments, io, path, exclusive, why);
  if (error != E_OK) {
    free(view);
    return error;
  }
  *out = view;
  return E_OK;
}

void view_expect_synced(struct view *view) { view->segments.synced = true; }

void view_close(struct view *view) {
  if (view == NULL) return;
  segments_close(&view->segments);
  free(view);
}

bool view_is_in_use(struct io *io, const char *path) {
  char name[4096];
  io_file lock;
  int len = snprintf(name, sizeof name, "%s/lock", path);
  if (len < 0 || (size_t)len >= sizeof name) return false;
  int error = io_file_open(io, name, IO_FILE_READ | IO_FILE_LOCK, &lock);
  if (error == E_OK) io_file_close(io, lock);
  return error == E_BUSY;
}

/* ---- reading ---- */

int view_replay(struct view *view, const struct spool_replay *replay, uint64_t *damaged, struct fmt *why) {
  return segments_replay(&view->segments, replay, damaged, why);
}

static void count_record(void *context, struct span record, struct spool_place place) { census_record(context, record, place); }
static void count_outcome(void *context, struct span outcome) { census_outcome(context, outcome); }

int view_count(struct view *view, struct census *census, uint64_t *damaged, struct fmt *why) {
  struct spool_replay replay = {count_record, count_outcome, census};
  census_begin(census);
  return segments_replay(&view->segments, &replay, damaged, why);
}

struct visits {
  const struct census *census;
  const struct view_visitor *visitor;
  int error;
};

static void visit_record(void *context, struct span record, struct spool_place place) {
  struct visits *visits = context;
  struct record_header header;
  uint64_t hash;
  if (visits->error != E_OK || record_header_decode(&header, record.at, record.len, place.segment, &hash) != E_OK) return;
  struct census_message *message = header.type == RECORD_MESSAGE ? census_find(visits->census, header.id) : NULL;
  if (message == NULL || message->place.segment != place.segment || message->place.offset != place.offset) return;
  if (census_is_live(message) && census_is_whole(message)) visits->error = visits->visitor->visit(visits->visitor->context, message, record);
}

static void visit_outcome(void *context, struct span outcome) {
  (void)context;
  (void)outcome;
}

int view_visit(struct view *view, const struct census *census, const struct view_visitor *visitor, struct fmt *why) {
  struct visits visits = {census, visitor, E_OK};
  struct spool_replay replay = {visit_record, visit_outcome, &visits};
  uint64_t damaged;
  int error = segments_replay(&view->segments, &replay, &damaged, why);
  return error != E_OK ? error : visits.error;
}

int view_read(struct view *view, struct spool_place place, void *room) {
  const struct segment *segment = segments_find(&view->segments, place.segment);
  size_t got;
  if (segment == NULL) return E_NOT_FOUND;
  int error = io_file_read_now(view->segments.io, segment->file, room, place.length, place.offset, &got);
  if (error != E_OK) return error;
  return got == place.length ? record_check(&view->segments, place, &(struct io_slice){room, place.length}, 1) : E_CORRUPT;
}

/* ---- segments ---- */

/* What stands where the newest ends: of a commit that was not finished, or damaged. */
static uint64_t bytes_behind(struct view *view, const struct segment *segment) {
  uint8_t *block = view->segments.block;
  size_t got, count = 0;
  if (io_file_read_now(view->segments.io, segment->file, block, SEGMENT_BLOCK, segment->end - segment->end % SEGMENT_BLOCK, &got) != E_OK) return 0;
  for (size_t i = segment->end % SEGMENT_BLOCK; i < got; i++) count += block[i] != 0;
  return count;
}

static void tell_live(struct view *view, const struct segment *segment, struct view_segment *out) {
  const struct segment *next = segments_find(&view->segments, segment->sequence + 1);
  out->state = "live";
  out->end = segment->end;
  out->expected = next == NULL ? 0 : next->previous_end;
  out->stopped = segment->stopped;
  out->hole = segment->hole;
  out->hole_why = segment->hole_why;
  out->holes = segment->holes;
  out->records = segment->records;
  if (segment->sequence == view->segments.sequence) out->behind = bytes_behind(view, segment);
}

bool view_segment(struct view *view, unsigned index, struct view_segment *out) {
  struct segments *s = &view->segments;
  const struct segment *found = NULL;
  for (uint32_t sequence = s->tail; found == NULL && s->sequence != 0 && sequence <= s->sequence; sequence++) {
    const struct segment *live = segments_find(s, sequence);
    if (live != NULL && index-- == 0) found = live;
  }
  bool live = found != NULL;
  for (const struct segment *other = s->retired.first; found == NULL && other != NULL; other = other->next)
    if (index-- == 0) found = other;
  for (const struct segment *other = s->unfilled.first; found == NULL && other != NULL; other = other->next)
    if (index-- == 0) found = other;
  if (found == NULL) return false;
  *out = (struct view_segment){.sequence = found->sequence, .size_bytes = found->size_bytes};
  out->state = found->state == SEGMENT_UNFILLED ? "no header" : found->sequence == 0 ? "free" : "left over";
  if (live) tell_live(view, found, out);
  out->path = segment_path(s, found->slot);
  return true;
}

unsigned view_gaps(const struct view *view) { return view->segments.gaps; }
