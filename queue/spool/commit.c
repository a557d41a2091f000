/*
 * commit: a group on its way to disk.
 *
 * All that waits goes out together, in one write with its sync: records first, outcomes behind them. While it is under way the next group gathers. A group
 * lies in one segment; who finds no room in any waits, or is refused.
 */
#include <assert.h>

#include "core/base/canary.h"
#include "core/base/error.h"
#include "queue/spool/inside.h"
#include "queue/spool/record.h"

#define GROUP_BYTES_MAX (8u << 20) /* of one commit, unless a single record is longer */
#define FULL_DELAYS 20             /* a full spool waits so many times longer for company: each commit takes a block */

static_assert(SPOOL_RECORD_MAX == RECORD_LENGTH_MAX, "the log and its records agree on the longest");

static uint64_t round_up(uint64_t value) { return (value + SEGMENT_BLOCK - 1) / SEGMENT_BLOCK * SEGMENT_BLOCK; }

/* ---- sync without a write: SPOOL_LAZY and SPOOL_MEMORY, and once after a start ---- */

void commit_sync(struct spool *spool) {
  if (spool->sync_under_way || spool->unsynced == NULL || spool->segments.failed != E_OK) return;
  spool->sync_under_way = true;
  spool->sync_mark = spool->written;
  spool->segments.operations++;
  timer_cancel(spool->wheel, &spool->sync_timer);
  io_sync(spool->segments.io, spool->unsynced->file, segments_token(&spool->segments, SPOOL_SYNC_HEAD, 0));
}

void commit_synced(struct spool *spool, int64_t result) {
  spool->sync_under_way = false;
  if (result < 0) {
    spool_fail(spool, (int)result);
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

/* ---- commit: what there is ---- */

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
  commit_sync(spool); /* what the new header block says of its predecessor has to be true */
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
    spool_finish(spool, entries_take(&spool->waiting), error);
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

static void refuse_waiting(struct spool *spool) {
  struct entries all = spool->waiting;
  spool->waiting.first = NULL;
  for (struct spool_entry *entry; (entry = entries_take(&all)) != NULL;) {
    if (entry->move) {
      entries_append(&spool->waiting, entry);
    } else {
      spool_finish(spool, entry, E_NO_SPACE);
    }
  }
}

void commit_start(struct spool *spool) {
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

void commit_complete(struct spool *spool, int64_t result) {
  struct group group = spool->group;
  spool->group.under_way = false;
  uint64_t expected = group.bytes + (group.begins ? SEGMENT_BLOCK : 0);
  int error = result < 0 ? (int)result : (uint64_t)result != expected ? E_IO : E_OK; /* a short write was not synced as a whole */
  if (error == E_OK) {
    commit_succeeded(spool, &group);
  } else if (error == E_NO_SPACE) {
    commit_found_no_space(spool, &group);
  } else {
    spool_fail(spool, error);
  }
  for (struct spool_entry *entry; (entry = entries_take(&group.entries)) != NULL;) {
    if (error != E_OK) entry->place = (struct spool_place){0};
    entry->durable(entry, error == E_IO && canary(CANARY_FAILED_COMMIT) ? E_OK : error);
  }
}
