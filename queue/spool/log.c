#include "queue/spool/log.h"

#include <stddef.h>
#include <stdlib.h>

#include "core/base/error.h"
#include "queue/spool/fill.h"
#include "queue/spool/inside.h"
#include "queue/spool/record.h"
#include "queue/spool/replay.h"
#include "queue/spool/scan.h"

#define OUTCOMES_MEMORY_MAX (64u << 20) /* of outcomes waiting; reached only when the disk has been full for long */
#define OUTCOMES_MEMORY_FIRST (256u << 10)
#define LAZY_SYNC_MS 100
#define OUTCOME_DELAY_MS 5
#define SPACE_RETRY_MS 1000

/* What came after this turn of the spool needs another one: nothing else may be there to end the loop's sleep. */
static void want_turn(struct spool *spool) {
  if (!timer_is_set(&spool->turn_timer)) timer_set(spool->wheel, &spool->turn_timer, spool->now_ms);
}

/* ---- entries ---- */

void spool_finish(struct spool *spool, struct spool_entry *entry, int error) {
  entry->_error = error;
  entries_append(&spool->finished, entry);
}

static void tell_finished(struct spool *spool) {
  struct entries now = spool->finished;
  spool->finished.first = NULL;
  for (struct spool_entry *entry; (entry = entries_take(&now)) != NULL;) entry->durable(entry, entry->_error);
}

static void check_entry(const struct spool *spool, struct spool_entry *entry) {
  must(entry->slices_count > 0 && entry->slices_count <= SPOOL_SLICES_MAX && entry->slices[0].len >= RECORD_UNIT);
  uint64_t length = 0;
  for (unsigned i = 0; i < entry->slices_count; i++) {
    must((uintptr_t)entry->slices[i].at % SPOOL_ALIGNMENT == 0 && entry->slices[i].len % spool->segments.alignment == 0);
    length += entry->slices[i].len;
  }
  must(length <= SPOOL_RECORD_MAX && length == record_header_length(entry->slices[0].at));
  entry->_length = (uint32_t)length;
}

void spool_append(struct spool *spool, struct spool_entry *entry) {
  check_entry(spool, entry);
  entry->place = (struct spool_place){0};
  entry->_outcomes = spool->segments.appended.outcomes;
  if (spool->segments.failed != E_OK) {
    spool_finish(spool, entry, spool->segments.failed);
  } else if (spool->durability == SPOOL_MEMORY && !entry->store) {
    spool_finish(spool, entry, E_OK);
  } else {
    entries_append(&spool->waiting, entry);
  }
  if (!spool->group.under_way || spool->finished.first != NULL) want_turn(spool);
}

/* ---- outcomes ---- */

static bool outcomes_make_room(struct outcomes *outcomes, size_t len) {
  if (outcomes->first + outcomes->len + len <= outcomes->capacity) return true;
  if (outcomes->first >= outcomes->capacity / 2) {
    memmove(outcomes->bytes, outcomes->bytes + outcomes->first, outcomes->len);
    outcomes->first = 0;
    return true;
  }
  size_t capacity = outcomes->capacity * 2;
  uint8_t *grown = capacity > OUTCOMES_MEMORY_MAX ? NULL : realloc(outcomes->bytes, capacity);
  if (grown == NULL) return false;
  outcomes->bytes = grown;
  outcomes->capacity = capacity;
  return true;
}

void spool_append_outcome(struct spool *spool, struct span outcome) {
  struct outcomes *outcomes = &spool->outcomes;
  must(outcome.len > 0 && outcome.len <= SPOOL_OUTCOME_MAX);
  if (spool->segments.failed != E_OK || !outcomes_make_room(outcomes, 1 + outcome.len)) {
    spool->stats.outcomes_lost++;
    return;
  }
  uint8_t *at = outcomes->bytes + outcomes->first + outcomes->len;
  at[0] = (uint8_t)outcome.len;
  memcpy(at + 1, outcome.at, outcome.len);
  outcomes->len += 1 + outcome.len;
  spool->segments.appended.outcomes += 1 + outcome.len;
  bool held = spool->segments.appended.outcomes > spool->released; /* then it is the release that brings a turn */
  if (!held && !spool->group.under_way && !timer_is_set(&spool->outcome_timer)) want_turn(spool);
}

void spool_release_outcomes(struct spool *spool, uint64_t position) {
  must(position <= spool->segments.appended.outcomes);
  if (position > spool->released) spool->released = position;
}

uint64_t spool_outcomes(const struct spool *spool) { return spool->segments.appended.outcomes; }

uint64_t spool_outcomes_released(const struct spool *spool) {
  return spool->released < spool->segments.appended.outcomes ? spool->released : spool->segments.appended.outcomes;
}

/* ---- failure ---- */

void spool_fail(struct spool *spool, int error) {
  if (spool->segments.failed == E_OK) spool->segments.failed = error;
  for (struct spool_entry *entry; (entry = entries_take(&spool->waiting)) != NULL;) spool_finish(spool, entry, spool->segments.failed);
  spool->outcomes.len = spool->group.under_way ? spool->group.outcome_bytes : 0; /* what is on its way may still arrive */
}

/* ---- timers: the spool is found from the timer within it ---- */

#define SPOOL_OF(timer, member) ((struct spool *)((uint8_t *)(timer)-offsetof(struct spool, member)))

static void outcomes_are_due(void *context, struct timer *timer) {
  (void)context;
  SPOOL_OF(timer, outcome_timer)->outcomes.due = true;
}

static void sync_is_due(void *context, struct timer *timer) {
  (void)context;
  commit_sync(SPOOL_OF(timer, sync_timer));
}

static void look_for_space(void *context, struct timer *timer) {
  (void)context;
  struct segments *segments = &SPOOL_OF(timer, space_timer)->segments;
  segments->no_space = segments->stalled = false;
}

/* It only ends the loop's sleep. */
static void turn_is_due(void *context, struct timer *timer) {
  (void)context;
  (void)timer;
}

/* ---- the loop ---- */

static void look_at_segments(struct spool *spool) {
  spool->stats.segments = spool->segments.count;
  spool->stats.segments_free = spool->segments.free.count;
  spool->stats.disk_bytes = spool->segments.disk_bytes;
  spool->stats.segment_size_bytes = spool->segments.size_bytes;
}

void spool_turn(struct spool *spool, uint64_t now_ms) {
  struct segments *segments = &spool->segments;
  spool->now_ms = now_ms;
  segments_turn(segments, now_ms);
  fill_turn(segments);
  if (segments->failed != E_OK && (spool->waiting.first != NULL || spool->outcomes.len > 0)) spool_fail(spool, segments->failed);
  tell_finished(spool);
  reads_turn(&spool->reads, segments);
  if (spool->written.commits <= 1) commit_sync(spool); /* what was read */
  commit_start(spool);                                 /* last: the callbacks may have appended */
  if ((segments->no_space || segments->stalled) && !timer_is_set(&spool->space_timer)) {
    timer_set(spool->wheel, &spool->space_timer, now_ms + SPACE_RETRY_MS);
  }
  if (spool->finished.first != NULL) want_turn(spool);
  uint64_t give_ms = segments_give_back_ms(segments);
  if (give_ms != 0 && !timer_is_set(&spool->give_timer)) timer_set(spool->wheel, &spool->give_timer, give_ms);
  look_at_segments(spool);
}

void spool_complete(struct spool *spool, const struct io_completion *completion) {
  struct segments *segments = &spool->segments;
  segments->operations--;
  switch ((enum spool_operation)((completion->token >> 32) & 0xffffff)) {
  case SPOOL_COMMIT: commit_complete(spool, completion->result); break;
  case SPOOL_SYNC_HEAD: commit_synced(spool, completion->result); break;
  case SPOOL_MARK_FREE: segments_marked(segments, completion->result); break;
  case SPOOL_FILL: fill_complete(segments, completion->result); break;
  case SPOOL_READ: reads_complete(&spool->reads, segments, (uint32_t)completion->token, completion->result); break;
  default: must(!"a token of the spool");
  }
}

/* ---- life ---- */

int spool_open(struct spool **out, struct io *io, struct wheel *wheel, const struct spool_options *options, uint8_t token_kind, struct fmt *why) {
  struct spool *spool = calloc(1, sizeof *spool);
  uint8_t *block = aligned_alloc(SPOOL_ALIGNMENT, OUTCOMES_RECORD_MAX + SEGMENT_BLOCK);
  uint8_t *outcomes = malloc(OUTCOMES_MEMORY_FIRST);
  int error = spool == NULL || block == NULL || outcomes == NULL ? E_NO_MEMORY : E_OK;
  if (error != E_OK) fmt_text(why, "no memory for the spool");
  if (error == E_OK) error = segments_open(&spool->segments, io, options, token_kind, why);
  if (error != E_OK) {
    free(outcomes);
    free(block);
    free(spool);
    return error;
  }
  spool->outcome_block = block;
  spool->outcomes = (struct outcomes){.bytes = outcomes, .capacity = OUTCOMES_MEMORY_FIRST};
  spool->wheel = wheel;
  spool->durability = options->durability;
  spool->released = options->hold_outcomes ? 0 : UINT64_MAX;
  spool->lazy_sync_ms = options->lazy_sync_ms == 0 ? LAZY_SYNC_MS : options->lazy_sync_ms;
  spool->outcome_delay_ms = options->outcome_delay_ms == 0 ? OUTCOME_DELAY_MS : options->outcome_delay_ms;
  spool->outcome_timer.fire = outcomes_are_due;
  spool->sync_timer.fire = sync_is_due;
  spool->space_timer.fire = look_for_space;
  spool->turn_timer.fire = turn_is_due;
  spool->give_timer.fire = turn_is_due;
  reads_init(&spool->reads);
  want_turn(spool); /* segments are to be made ready */
  look_at_segments(spool);
  *out = spool;
  return E_OK;
}

void spool_close(struct spool *spool) {
  struct segments *segments = &spool->segments;
  while (segments->operations > 0) {
    const struct io_completion *done;
    unsigned count = io_wait(segments->io, UINT64_MAX, &done);
    for (unsigned i = 0; i < count; i++)
      if (done[i].token >> 56 == segments->token_kind) segments->operations--;
  }
  timer_cancel(spool->wheel, &spool->outcome_timer);
  timer_cancel(spool->wheel, &spool->sync_timer);
  timer_cancel(spool->wheel, &spool->space_timer);
  timer_cancel(spool->wheel, &spool->turn_timer);
  timer_cancel(spool->wheel, &spool->give_timer);
  segments_close(segments);
  free(spool->outcomes.bytes);
  free(spool->outcome_block);
  free(spool);
}

int spool_replay(struct spool *spool, const struct spool_replay *replay, uint64_t *damaged, struct fmt *why) {
  struct segments *segments = &spool->segments;
  must(segments->head == NULL);
  /* What is read need not be on disk yet, if it was the last process that died and not the machine: as if it were a commit without sync. */
  spool->written.commits = segments->appended.commits = 1;
  bool durable = false;
  int error = segments_replay(segments, replay, damaged, why);
  if (error == E_OK) error = segments_go_on(segments, &durable, why);
  spool->unsynced = durable ? NULL : segments_find(segments, segments->sequence);
  if (spool->unsynced == NULL) segments->durable = spool->written;
  return error;
}

/* ---- questions ---- */

unsigned spool_padding(const struct spool *spool) { return spool->segments.alignment; }

void spool_forget(struct spool *spool, struct spool_place place) {
  if (place.segment != 0) segments_forget(&spool->segments, place);
}

void spool_on_move(struct spool *spool, spool_move ask, void *context) {
  spool->segments.move_ask = ask;
  spool->segments.move_context = context;
}

void spool_read_start(struct spool *spool, struct spool_read *read) {
  reads_append(&spool->reads, read);
  want_turn(spool);
}

int spool_check(const struct spool *spool, struct spool_place place, const struct io_slice *slices, unsigned slices_count) {
  return record_check(&spool->segments, place, slices, slices_count);
}

bool spool_idle(const struct spool *spool) {
  bool waiting = spool->waiting.first != NULL || spool->finished.first != NULL || spool->outcomes.len > 0;
  bool unsynced = spool->unsynced != NULL && spool->segments.failed == E_OK;
  return !waiting && !spool->group.under_way && !unsynced && !spool->sync_under_way;
}

int spool_failed(const struct spool *spool) { return spool->segments.failed; }

bool spool_full(const struct spool *spool) { return segments_full(&spool->segments); }

const struct spool_stats *spool_stats(const struct spool *spool) { return &spool->stats; }
