#include "queue/spool/log.h"

#include <assert.h>
#include <stddef.h>
#include <stdlib.h>

#include "core/base/canary.h"
#include "core/base/error.h"
#include "queue/spool/fill.h"
#include "queue/spool/read.h"
#include "queue/spool/record.h"
#include "queue/spool/replay.h"
#include "queue/spool/scan.h"

#define GROUP_BYTES_MAX (8u << 20)      /* of one commit, unless a single record is longer */
#define OUTCOMES_RECORD_MAX (64u << 10) /* bytes of the record of a group of outcomes, but for the filling up to a whole block */
#define OUTCOMES_MEMORY_MAX (64u << 20) /* of outcomes waiting; reached only when the disk has been full for long */
#define OUTCOMES_MEMORY_FIRST (256u << 10)
#define LAZY_SYNC_MS 100
#define OUTCOME_DELAY_MS 5
#define FULL_DELAYS 20 /* a full spool waits so many times longer for company: each commit takes a block */
#define SPACE_RETRY_MS 1000

static_assert(SPOOL_RECORD_MAX == RECORD_LENGTH_MAX, "the log and its records agree on the longest");

struct entries {
  struct spool_entry *first, *last;
};

/* What waits of outcomes: frames (length byte, bytes), a run of memory that moves to the front when its end is reached. */
struct outcomes {
  uint8_t *bytes;
  size_t first, len, capacity;
  bool due; /* waited long enough for company */
};

/* The commit under way. */
struct group {
  bool under_way;
  bool begins; /* the segment: its header block is the first slice */
  struct segment *segment;
  struct entries entries;
  uint64_t offset; /* of the first record */
  uint64_t bytes;  /* of the records */
  unsigned slices_count;
  size_t outcome_bytes;
  unsigned outcomes;
};

struct spool {
  struct segments segments;
  struct wheel *wheel;
  enum spool_durability durability;
  uint32_t lazy_sync_ms, outcome_delay_ms;
  uint64_t now_ms;
  struct entries waiting;
  struct entries finished; /* with their _error, to be told in the next turn */
  struct outcomes outcomes;
  uint64_t released; /* position of the first outcome that is held; UINT64_MAX: none ever is */
  struct group group;
  struct segment *unsynced; /* written to without sync; NULL: none */
  bool sync_under_way;
  struct segment_mark written, sync_mark; /* what writes have reached; what the sync under way will make durable */
  struct timer outcome_timer, sync_timer, space_timer, turn_timer, give_timer;
  struct reads reads;
  struct spool_stats stats;
  uint8_t *outcome_block;
  struct io_slice slices[IO_SLICES_MAX];
};

static uint64_t round_up(uint64_t value) { return (value + SEGMENT_BLOCK - 1) / SEGMENT_BLOCK * SEGMENT_BLOCK; }

/* What came after this turn of the spool needs another one: nothing else may be there to end the loop's sleep. */
static void want_turn(struct spool *spool) {
  if (!timer_is_set(&spool->turn_timer)) timer_set(spool->wheel, &spool->turn_timer, spool->now_ms);
}

/* ---- entries ---- */

static void entries_append(struct entries *entries, struct spool_entry *entry) {
  entry->_next = NULL;
  if (entries->first == NULL) {
    entries->first = entry;
  } else {
    entries->last->_next = entry;
  }
  entries->last = entry;
}

static struct spool_entry *entries_take(struct entries *entries) {
  struct spool_entry *entry = entries->first;
  if (entry != NULL) entries->first = entry->_next;
  return entry;
}

/* Its `durable` is called in the next turn. */
static void finish(struct spool *spool, struct spool_entry *entry, int error) {
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
    finish(spool, entry, spool->segments.failed);
  } else if (spool->durability == SPOOL_MEMORY && !entry->store) {
    finish(spool, entry, E_OK);
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

/* The position of the first outcome that waits. */
static uint64_t outcomes_front(const struct spool *spool) { return spool->segments.appended.outcomes - spool->outcomes.len; }

/* Bytes of outcomes that wait and are not held. */
static size_t outcomes_ready(const struct spool *spool) {
  uint64_t released = spool_outcomes_released(spool), front = outcomes_front(spool);
  return released > front ? (size_t)(released - front) : 0;
}

/* How many bytes of whole frames there are within `limit`. */
static size_t outcomes_within(const struct outcomes *outcomes, size_t limit, unsigned *count) {
  const uint8_t *at = outcomes->bytes + outcomes->first;
  size_t taken = 0;
  for (*count = 0; taken < outcomes->len && taken + 1 + at[taken] <= limit; ++*count) taken += 1 + at[taken];
  return taken;
}

/* ---- failure ---- */

static void fail(struct spool *spool, int error) {
  if (spool->segments.failed == E_OK) spool->segments.failed = error;
  for (struct spool_entry *entry; (entry = entries_take(&spool->waiting)) != NULL;) finish(spool, entry, spool->segments.failed);
  spool->outcomes.len = spool->group.under_way ? spool->group.outcome_bytes : 0; /* what is on its way may still arrive */
}

static void refuse_waiting(struct spool *spool) {
  struct entries all = spool->waiting;
  spool->waiting.first = NULL;
  for (struct spool_entry *entry; (entry = entries_take(&all)) != NULL;) {
    if (entry->move) {
      entries_append(&spool->waiting, entry);
    } else {
      finish(spool, entry, E_NO_SPACE);
    }
  }
}

/* ---- sync without a write: SPOOL_LAZY and SPOOL_MEMORY, and once after a start ---- */

static void sync_start(struct spool *spool) {
  if (spool->sync_under_way || spool->unsynced == NULL || spool->segments.failed != E_OK) return;
  spool->sync_under_way = true;
  spool->sync_mark = spool->written;
  spool->segments.operations++;
  timer_cancel(spool->wheel, &spool->sync_timer);
  io_sync(spool->segments.io, spool->unsynced->file, segments_token(&spool->segments, SPOOL_SYNC_HEAD, 0));
}

static void sync_complete(struct spool *spool, int64_t result) {
  spool->sync_under_way = false;
  if (result < 0) {
    fail(spool, (int)result);
    return;
  }
  spool->segments.durable = spool->sync_mark;
  if (spool->sync_mark.commits == spool->written.commits) {
    spool->unsynced = NULL;
  } else {
    timer_set(spool->wheel, &spool->sync_timer, spool->now_ms + spool->lazy_sync_ms);
  }
}

static void note_written(struct spool *spool, struct segment *segment, size_t outcome_bytes) {
  spool->written.commits++;
  spool->written.outcomes += outcome_bytes;
  spool->segments.appended.commits = spool->written.commits;
  if (spool->durability == SPOOL_SYNC) {
    spool->segments.durable = spool->written;
    return;
  }
  spool->unsynced = segment;
  if (!spool->sync_under_way && !timer_is_set(&spool->sync_timer)) timer_set(spool->wheel, &spool->sync_timer, spool->now_ms + spool->lazy_sync_ms);
}

/* ---- commit: where to ---- */

/* Something to commit, and not worth waiting for company? */
static bool commit_is_due(struct spool *spool) {
  size_t ready = outcomes_ready(spool);
  if (spool->waiting.first != NULL || (ready > 0 && spool->outcomes.due) || ready >= OUTCOMES_RECORD_MAX / 2) return true;
  uint64_t delay_ms = (uint64_t)spool->outcome_delay_ms * (segments_full(&spool->segments) ? FULL_DELAYS : 1);
  if (ready > 0 && !timer_is_set(&spool->outcome_timer)) timer_set(spool->wheel, &spool->outcome_timer, spool->now_ms + delay_ms);
  return false;
}

/* E_OK: *segment, which has room for `need` bytes, and is to be begun if it is not the head. E_BUSY: there will be one. */
static int find_segment(struct spool *spool, uint64_t need, bool reserve, struct segment **segment) {
  struct segments *segments = &spool->segments;
  if (!reserve && segments_is_last(segments)) return E_NO_SPACE;
  if (segments_head_room(segments) >= need) {
    *segment = segments->head;
    return segments->head->filled_bytes - segments->head->end >= need ? E_OK : E_BUSY;
  }
  int error = segments_offer(segments, reserve, segment);
  if (error != E_OK) return error;
  if ((*segment)->filled_bytes < SEGMENT_BLOCK + need) return E_BUSY;
  if (spool->unsynced == NULL) return E_OK;
  sync_start(spool); /* what the new header block says of its predecessor has to be true */
  return E_BUSY;
}

static int find_segment_for(struct spool *spool, const struct spool_entry *entry, struct segment **segment) {
  if (entry->_length > spool->segments.size_bytes - SEGMENT_BLOCK) return E_TOO_LONG;
  return find_segment(spool, round_up(entry->_length), entry->move, segment);
}

/* The segment for the first that waits; what can be stored nowhere is refused. False: nothing can be done now. */
static bool find_target(struct spool *spool, struct segment **segment) {
  while (spool->waiting.first != NULL) {
    int error = find_segment_for(spool, spool->waiting.first, segment);
    if (error == E_OK || error == E_BUSY) return error == E_OK;
    finish(spool, entries_take(&spool->waiting), error);
  }
  return outcomes_ready(spool) > 0 && find_segment(spool, SEGMENT_BLOCK, true, segment) == E_OK;
}

/* ---- commit: what ---- */

static void add_slices(struct spool *spool, const struct io_slice *slices, unsigned count) {
  must(spool->group.slices_count + count <= IO_SLICES_MAX);
  memcpy(spool->slices + spool->group.slices_count, slices, count * sizeof *slices);
  spool->group.slices_count += count;
}

static void seal(const struct segment *segment, const struct io_slice *slices, unsigned count) {
  struct span body[SPOOL_SLICES_MAX];
  must(count > 0 && count <= SPOOL_SLICES_MAX);
  for (unsigned i = 0; i < count; i++) body[i] = span_of(slices[i].at, slices[i].len);
  body[0] = span_skip(body[0], RECORD_HEADER_SIZE);
  record_header_seal(slices[0].at, segment->sequence, record_hash(segment->salt, body, count));
}

static bool entry_fits(const struct group *group, const struct spool_entry *entry, uint64_t room) {
  if (group->slices_count + entry->slices_count > IO_SLICES_MAX - 1) return false; /* one for the outcomes */
  if (group->bytes > 0 && group->bytes + entry->_length > GROUP_BYTES_MAX) return false;
  return round_up(group->bytes + entry->_length) <= room;
}

static void gather_entries(struct spool *spool, uint64_t room) {
  struct group *group = &spool->group;
  bool reserve = segments_is_last(&spool->segments);
  for (struct spool_entry *entry; (entry = spool->waiting.first) != NULL && entry_fits(group, entry, room);) {
    if (reserve && !entry->move) return;
    entries_take(&spool->waiting);
    entry->place = (struct spool_place){.segment = group->segment->sequence, .length = entry->_length, .offset = group->offset + group->bytes};
    seal(group->segment, entry->slices, entry->slices_count);
    add_slices(spool, entry->slices, entry->slices_count);
    group->bytes += entry->_length;
    entries_append(&group->entries, entry);
  }
}

/* Outcomes up to the first entry that stays behind; their record also fills the commit up to a whole block, without any if need be. */
static void gather_outcomes(struct spool *spool, uint64_t room) {
  struct group *group = &spool->group;
  struct outcomes *outcomes = &spool->outcomes;
  uint64_t room_here = room - group->bytes < OUTCOMES_RECORD_MAX ? room - group->bytes : OUTCOMES_RECORD_MAX;
  size_t limit = room_here < RECORD_HEADER_SIZE ? 0 : (size_t)room_here - RECORD_HEADER_SIZE;
  const struct spool_entry *next = spool->waiting.first;
  uint64_t front = outcomes_front(spool);
  uint64_t before_next = next == NULL ? outcomes->len : next->_outcomes > front ? next->_outcomes - front : 0;
  if (before_next < limit) limit = (size_t)before_next;
  if (outcomes_ready(spool) < limit) limit = outcomes_ready(spool);
  group->outcome_bytes = outcomes_within(outcomes, limit, &group->outcomes);
  uint64_t length = round_up(group->bytes + (group->outcome_bytes == 0 ? 0 : RECORD_HEADER_SIZE + group->outcome_bytes)) - group->bytes;
  if (length == 0) return;
  struct record_header header = {.type = RECORD_OUTCOMES, .length = (uint32_t)length, .content_size = (uint32_t)group->outcome_bytes};
  uint8_t *block = spool->outcome_block;
  record_header_encode(&header, block);
  if (group->outcome_bytes > 0) memcpy(block + RECORD_HEADER_SIZE, outcomes->bytes + outcomes->first, group->outcome_bytes);
  memset(block + RECORD_HEADER_SIZE + group->outcome_bytes, 0, length - RECORD_HEADER_SIZE - group->outcome_bytes);
  struct io_slice slice = {block, length};
  seal(group->segment, &slice, 1);
  add_slices(spool, &slice, 1);
  group->bytes += length;
}

static void commit_start(struct spool *spool) {
  struct segments *segments = &spool->segments;
  if (segments->stalled) refuse_waiting(spool);
  if (spool->group.under_way || segments->stalled || segments->failed != E_OK || !commit_is_due(spool)) return;
  struct segment *segment;
  if (!find_target(spool, &segment)) return;
  bool begins = segment != segments->head;
  struct group *group = &spool->group;
  *group = (struct group){.under_way = true, .begins = begins, .segment = segment, .offset = begins ? SEGMENT_BLOCK : segment->end};
  if (begins) {
    segments_begin(segments, segment);
    add_slices(spool, &(struct io_slice){segments->block, SEGMENT_BLOCK}, 1);
  }
  uint64_t room = segment->filled_bytes - group->offset;
  gather_entries(spool, room);
  gather_outcomes(spool, room);
  unsigned flags = spool->durability == SPOOL_SYNC && !canary(CANARY_UNSYNCED) ? IO_WRITE_SYNC : 0;
  segments->operations++;
  io_write(segments->io, segment->file, spool->slices, group->slices_count, begins ? 0 : group->offset, flags,
           segments_token(segments, SPOOL_COMMIT, 0));
}

/* ---- commit: done ---- */

static void count_commit(struct spool *spool, const struct group *group) {
  struct spool_stats *stats = &spool->stats;
  for (const struct spool_entry *entry = group->entries.first; entry != NULL; entry = entry->_next) {
    segments_count_live(&spool->segments, group->segment, entry->_length);
    stats->committed_messages++;
    if (entry->move) stats->copied_forward++;
  }
  stats->commits++;
  stats->committed_outcomes += group->outcomes;
  stats->bytes_written += group->bytes + (group->begins ? SEGMENT_BLOCK : 0);
}

static void commit_succeeded(struct spool *spool, struct group *group) {
  struct segment *segment = group->segment;
  if (group->begins) segments_begun(&spool->segments);
  segment->end += group->bytes;
  spool->segments.sequence_end = segment->end;
  spool->outcomes.first += group->outcome_bytes;
  spool->outcomes.len -= group->outcome_bytes;
  if (spool->outcomes.len == 0) spool->outcomes.first = 0;
  if (outcomes_ready(spool) == 0) {
    spool->outcomes.due = false;
    timer_cancel(spool->wheel, &spool->outcome_timer);
  }
  note_written(spool, segment, group->outcome_bytes);
  count_commit(spool, group);
}

/*
 * No space for what should have its place already, as on copy-on-write file systems. What reached the disk of this commit must not count as more
 * of this segment later: so nothing is written behind it, and the next segment says where this one ended.
 */
static void commit_found_no_space(struct spool *spool, struct group *group) {
  spool->segments.stalled = true;
  if (group->begins) {
    segments_begin_failed(&spool->segments);
  } else {
    group->segment->closed = true;
  }
}

static void commit_complete(struct spool *spool, int64_t result) {
  struct group group = spool->group;
  spool->group.under_way = false;
  uint64_t expected = group.bytes + (group.begins ? SEGMENT_BLOCK : 0);
  int error = result < 0 ? (int)result : (uint64_t)result != expected ? E_IO : E_OK; /* a short write was not synced as a whole */
  if (error == E_OK) {
    commit_succeeded(spool, &group);
  } else if (error == E_NO_SPACE) {
    commit_found_no_space(spool, &group);
  } else {
    fail(spool, error);
  }
  for (struct spool_entry *entry; (entry = entries_take(&group.entries)) != NULL;) {
    if (error != E_OK) entry->place = (struct spool_place){0};
    entry->durable(entry, error == E_IO && canary(CANARY_FAILED_COMMIT) ? E_OK : error);
  }
}

/* ---- timers: the spool is found from the timer within it ---- */

#define SPOOL_OF(timer, member) ((struct spool *)((uint8_t *)(timer)-offsetof(struct spool, member)))

static void outcomes_are_due(void *context, struct timer *timer) {
  (void)context;
  SPOOL_OF(timer, outcome_timer)->outcomes.due = true;
}

static void sync_is_due(void *context, struct timer *timer) {
  (void)context;
  sync_start(SPOOL_OF(timer, sync_timer));
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
  if (segments->failed != E_OK && (spool->waiting.first != NULL || spool->outcomes.len > 0)) fail(spool, segments->failed);
  tell_finished(spool);
  reads_turn(&spool->reads, segments);
  if (spool->written.commits <= 1) sync_start(spool); /* what was read */
  commit_start(spool);                                /* last: the callbacks may have appended */
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
  case SPOOL_SYNC_HEAD: sync_complete(spool, completion->result); break;
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
