#include "queue/spool/segment.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/base/error.h"

#define MOVE_SLACK 8 /* segments that may be in use beyond twice what is live */
#define MOVE_AGAIN_MS (60 * 1000)
#define GIVE_BACK_MS 1000
#define ROOM_KEPT_PARTS 8 /* "full" is when less than this part of the last segment is left */

/* ---- names and lists ---- */

const char *segments_path(struct segments *s, const char *name) {
  int len = snprintf(s->name, s->name_size, "%s/%s", s->path, name);
  must(len > 0 && (size_t)len < s->name_size);
  return s->name;
}

const char *segment_path(struct segments *s, uint32_t slot) {
  char name[16];
  snprintf(name, sizeof name, "%08u.seg", slot % 100000000);
  return segments_path(s, name);
}

void segment_list_append(struct segment_list *list, struct segment *segment) {
  segment->next = NULL;
  if (list->first == NULL) {
    list->first = segment;
  } else {
    list->last->next = segment;
  }
  list->last = segment;
  list->count++;
}

struct segment *segment_list_take(struct segment_list *list) {
  struct segment *segment = list->first;
  if (segment == NULL) return NULL;
  list->first = segment->next;
  list->count--;
  segment->next = NULL;
  return segment;
}

int segment_drop(struct segments *s, struct segment *segment) {
  io_file_close(s->io, segment->file);
  int error = io_file_remove(s->io, segment_path(s, segment->slot));
  s->disk_bytes -= segment->size_bytes;
  s->count--;
  free(segment);
  return error;
}

/* ---- the live ones ---- */

static struct segment **live_cell(const struct segments *s, uint32_t sequence) { return &s->live[sequence & (s->live_capacity - 1)]; }

struct segment *segments_find(const struct segments *s, uint32_t sequence) {
  if (sequence < s->tail || sequence > s->sequence) return NULL;
  return *live_cell(s, sequence);
}

static void grow_live(struct segments *s) {
  uint32_t span = s->sequence - s->tail + 1;
  if (span <= s->live_capacity) return;
  struct segments grown = *s;
  if (grown.live_capacity == 0) grown.live_capacity = 16;
  while (grown.live_capacity < span) grown.live_capacity *= 2;
  grown.live = calloc(grown.live_capacity, sizeof *grown.live);
  must(grown.live != NULL);
  for (uint32_t i = 0; i < s->live_capacity; i++)
    if (s->live[i] != NULL) *live_cell(&grown, s->live[i]->sequence) = s->live[i];
  free(s->live);
  s->live = grown.live;
  s->live_capacity = grown.live_capacity;
}

void segments_enter_live(struct segments *s, struct segment *segment) {
  must(segment->sequence >= s->tail && segment->sequence <= s->sequence);
  grow_live(s);
  segment->state = SEGMENT_LIVE;
  must(*live_cell(s, segment->sequence) == NULL);
  *live_cell(s, segment->sequence) = segment;
}

void segments_count_live(struct segments *s, struct segment *segment, uint32_t length) {
  segment->live_records++;
  segment->live_bytes += length;
  s->live_bytes += length;
}

void segments_forget(struct segments *s, struct spool_place place) {
  struct segment *segment = segments_find(s, place.segment);
  must(segment != NULL && segment->live_records > 0 && segment->live_bytes >= place.length);
  segment->live_records--;
  segment->live_bytes -= place.length;
  s->live_bytes -= place.length;
  segment->dead_outcomes = s->appended.outcomes;
  segment->dead_commits = s->appended.commits;
}

/* ---- the next one ---- */

/* Nothing in it counts any more, and on disk that is known. */
static bool is_dead(const struct segments *s, const struct segment *segment) {
  if (segment->live_records > 0 || segment == s->filling) return false;
  return s->durable.commits >= segment->dead_commits && s->durable.outcomes >= segment->dead_outcomes;
}

/* The newest is all there is, and is dead: it is retired as soon as another is begun, and then is the one to be kept. */
static bool gives_way(const struct segments *s) {
  const struct segment *newest = s->sequence > 0 && s->tail >= s->sequence ? segments_find(s, s->sequence) : NULL;
  return newest != NULL && is_dead(s, newest);
}

/* One in this state still comes back: the one before the head. */
static bool comes_back(const struct segments *s) {
  if (s->beginning != NULL) return gives_way(s);
  const struct segment *oldest = s->tail < s->sequence ? segments_find(s, s->tail) : NULL;
  return oldest != NULL && is_dead(s, oldest);
}

bool segments_is_last(const struct segments *s) { return s->no_space && segments_spare(s) == 0 && !comes_back(s); }

int segments_offer(const struct segments *s, bool reserve, struct segment **offer) {
  if (s->spoiled) return E_BUSY;
  if (segments_spare(s) < (reserve || gives_way(s) ? 1 : SEGMENT_FREE_WANTED)) return s->no_space ? E_NO_SPACE : E_BUSY;
  struct segment *filling = s->filling;
  *offer = s->free.first;
  if (*offer == NULL && filling != NULL && filling->state == SEGMENT_UNFILLED && s->fill_stage == FILL_ZEROS) *offer = filling;
  return *offer != NULL && (*offer)->filled_bytes > SEGMENT_BLOCK ? E_OK : E_BUSY;
}

void segments_begin(struct segments *s, struct segment *offer) {
  must(s->sequence < UINT32_MAX && s->beginning == NULL);
  if (offer == s->free.first) {
    segment_list_take(&s->free);
  } else {
    must(offer == s->filling); /* and the filler goes on ahead of the commits */
  }
  s->beginning = offer;
  offer->state = SEGMENT_BEGINNING;
  offer->sequence = s->sequence + 1;
  offer->previous_end = s->sequence_end;
  io_random(s->io, &offer->salt, sizeof offer->salt);
  struct record_segment header = {
      .sequence = offer->sequence,
      .tail = s->tail,
      .alignment = s->alignment,
      .size_bytes = offer->size_bytes,
      .previous_end = offer->previous_end,
      .salt = offer->salt,
  };
  record_segment_encode(&header, s->block);
}

void segments_begun(struct segments *s) {
  struct segment *segment = s->beginning;
  s->beginning = NULL;
  segment->end = SEGMENT_BLOCK;
  segment->closed = false;
  segment->dead_outcomes = segment->dead_commits = 0;
  s->sequence = segment->sequence;
  s->sequence_end = segment->end;
  segments_enter_live(s, segment);
  s->head = segment;
}

void segments_begin_failed(struct segments *s) {
  struct segment *segment = s->beginning;
  s->beginning = NULL;
  s->spoiled = true;
  segment->state = SEGMENT_RETIRED;
  segment_list_append(&s->retired, segment);
}

uint64_t segments_head_room(const struct segments *s) { return s->head == NULL || s->head->closed ? 0 : s->head->size_bytes - s->head->end; }

uint64_t segments_room_kept(const struct segments *s) {
  uint64_t kept = s->size_bytes / ROOM_KEPT_PARTS;
  return kept < SPOOL_RECORD_MAX ? kept : SPOOL_RECORD_MAX;
}

bool segments_full(const struct segments *s) {
  if (s->stalled || segments_is_last(s)) return true;
  if (!s->no_space || segments_spare(s) >= SEGMENT_FREE_WANTED || segments_head_room(s) >= segments_room_kept(s)) return false;
  return segments_spare(s) == 0 || !gives_way(s);
}

/* ---- the old ones ---- */

/*
 * The newest is never retired, so sequence numbers go on after a restart. When there is no room for outcomes, waiting for them to become durable
 * would be waiting for ever: then the segment goes without.
 */
static bool tail_is_dead(const struct segments *s) {
  if (s->tail >= s->sequence) return false;
  const struct segment *segment = segments_find(s, s->tail);
  if (segment == NULL || is_dead(s, segment)) return true;
  if (segment->live_records > 0 || segment == s->filling || s->durable.commits < segment->dead_commits) return false;
  return segments_is_last(s) && segments_head_room(s) < SEGMENT_BLOCK;
}

static void retire(struct segments *s) {
  while (tail_is_dead(s)) {
    struct segment *segment = segments_find(s, s->tail);
    *live_cell(s, s->tail) = NULL;
    s->tail++;
    if (segment == NULL) continue;
    segment->state = SEGMENT_RETIRED;
    segment_list_append(&s->retired, segment);
  }
}

/* One after the other, in the order of their sequences: what is left on disk after a crash is without gaps. */
static void free_retired(struct segments *s) {
  while (s->marking == NULL && s->retired.first != NULL && !s->stalled) {
    struct segment *segment = s->retired.first;
    if (segment->recyclable) {
      s->marking = segment;
      s->operations++;
      io_write(s->io, segment->file, &s->block_free_slice, 1, 0, IO_WRITE_SYNC, segments_token(s, SPOOL_MARK_FREE, 0));
      return;
    }
    segment_list_take(&s->retired);
    int error = segment_drop(s, segment);
    if (error == E_OK) error = io_directory_sync(s->io, s->path);
    if (error != E_OK) s->failed = error;
    if (error != E_OK) return;
  }
}

void segments_marked(struct segments *s, int64_t result) {
  struct segment *segment = s->marking;
  s->marking = NULL;
  if (result == E_NO_SPACE) {
    s->stalled = true;
  } else if (result != SEGMENT_BLOCK) {
    s->failed = result < 0 ? (int)result : E_IO;
  } else {
    must(segment_list_take(&s->retired) == segment);
    if (s->retired.first == NULL) s->spoiled = false;
    segment->state = SEGMENT_FREE;
    segment_list_append(&s->free, segment);
  }
}

/* No other can be had, and new records find no room: what is live goes to the one that is kept back, and its place takes the other's. */
static bool is_cornered(const struct segments *s, const struct segment *oldest) {
  if (!s->no_space || segments_spare(s) >= SEGMENT_FREE_WANTED || oldest->live_bytes >= oldest->size_bytes / 2) return false;
  return s->tail < s->sequence || (segments_spare(s) > 0 && segments_head_room(s) < segments_room_kept(s));
}

static void ask_to_move(struct segments *s, uint64_t now_ms) {
  struct segment *oldest = s->move_ask == NULL || s->sequence == 0 ? NULL : segments_find(s, s->tail);
  if (oldest == NULL || oldest->live_records == 0) return;
  uint64_t used_bytes = (uint64_t)(s->sequence - s->tail + 1) * s->size_bytes;
  bool wasteful = s->tail < s->sequence && used_bytes > 2 * s->live_bytes + MOVE_SLACK * s->size_bytes;
  bool cornered = is_cornered(s, oldest);
  if (!wasteful && !cornered) return;
  if (oldest == s->head) oldest->closed = true; /* the copies must not go there */
  if (s->move_asked == s->tail && now_ms - s->move_asked_ms < MOVE_AGAIN_MS) return;
  s->move_asked = s->tail;
  s->move_asked_ms = now_ms;
  s->move_ask(s->move_context, s->tail, cornered);
}

uint64_t segments_give_back_ms(const struct segments *s) { return s->free.count > SEGMENT_FREE_KEPT ? s->given_back_ms + GIVE_BACK_MS : 0; }

/* What a flood left behind goes back to the disk bit by bit: others, our fellow shards too, may need it. */
static void give_back(struct segments *s, uint64_t now_ms) {
  if (s->free.count <= SEGMENT_FREE_KEPT || now_ms - s->given_back_ms < GIVE_BACK_MS) return;
  s->given_back_ms = now_ms;
  int error = segment_drop(s, segment_list_take(&s->free)); /* should its name come back after a crash, it is still marked free */
  if (error != E_OK) s->failed = error;
}

void segments_turn(struct segments *s, uint64_t now_ms) {
  if (s->failed != E_OK) return;
  retire(s);
  free_retired(s);
  if (s->failed == E_OK) ask_to_move(s, now_ms);
  if (s->failed == E_OK) give_back(s, now_ms);
}
