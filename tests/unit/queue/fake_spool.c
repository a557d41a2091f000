/*
 * The spool in memory, for tests of those who use it: #include this file; being in the test's own object its spool_ functions stand before those of the library.
 *
 * It keeps the contract of queue/spool/log.h and watches that its users do: what is appended stays untouched until it is durable, what is forgotten was there and is
 * forgotten once, what is read was not forgotten. A commit is made by spool_turn, unless a test holds it back.
 */
#include <stdlib.h>
#include <string.h>

#include "core/base/error.h"
#include "core/base/must.h"
#include "queue/spool/log.h"
#include "queue/spool/record.h"

#define FAKE_SPOOL_PADDING 512
#define FAKE_SPOOL_SALT 77

struct fake_item { /* what is on disk, in the order it was written */
  bool outcome, live;
  struct spool_place place;
  unsigned readers;
  uint8_t *bytes;
  size_t len;
};

struct fake_append {
  struct spool_entry *entry; /* NULL: an outcome */
  uint8_t *bytes;
  size_t len;
};

/* Members a test sets; zero is the ordinary spool. */
struct spool {
  enum spool_durability durability;
  bool hold, hold_reads; /* nothing is committed, or read */
  bool full;
  int fail_append; /* records from now on */
  unsigned fail_append_after;
  int fail_read;
  int failed;
  struct fake_item *items;
  unsigned items_count;
  struct fake_append *appends;
  unsigned appends_count;
  struct spool_read *reads;
  struct spool_stats stats;
  uint64_t outcomes;
  spool_move move_ask;
  void *move_context;
};

/* ---- for tests ---- */

static inline void fake_spool_free(struct spool *spool) {
  for (unsigned i = 0; i < spool->items_count; i++) free(spool->items[i].bytes);
  for (unsigned i = 0; i < spool->appends_count; i++) free(spool->appends[i].bytes);
  free(spool->items);
  free(spool->appends);
  *spool = (struct spool){0};
}

/* The process died: what was not committed is gone, and all records are live again, as those of segments that were not recycled yet are. */
static inline void fake_spool_restart(struct spool *spool) {
  for (unsigned i = 0; i < spool->appends_count; i++) free(spool->appends[i].bytes);
  spool->appends_count = 0;
  spool->reads = NULL;
  for (unsigned i = 0; i < spool->items_count; i++) {
    spool->items[i].live = !spool->items[i].outcome;
    spool->items[i].readers = 0;
  }
}

static inline unsigned fake_spool_live(const struct spool *spool) {
  unsigned live = 0;
  for (unsigned i = 0; i < spool->items_count; i++) live += spool->items[i].live;
  return live;
}

/* Outcomes that are on disk. */
static inline unsigned fake_spool_outcomes(const struct spool *spool) {
  unsigned count = 0;
  for (unsigned i = 0; i < spool->items_count; i++) count += spool->items[i].outcome;
  return count;
}

/* The newest outcome of this recipient on disk; kind INVALID: none. */
static inline struct record_outcome fake_spool_outcome(const struct spool *spool, uint64_t id, unsigned recipient) {
  struct record_outcome found = {0}, outcome;
  for (unsigned i = 0; i < spool->items_count; i++) {
    if (!spool->items[i].outcome) continue;
    must(record_outcome_decode(&outcome, span_of(spool->items[i].bytes, spool->items[i].len)) == E_OK);
    if (outcome.id == id && outcome.recipient == recipient) found = outcome;
  }
  return found;
}

static struct fake_item *item_at(const struct spool *spool, struct spool_place place) {
  for (unsigned i = 0; i < spool->items_count; i++) {
    struct fake_item *item = &spool->items[i];
    if (!item->outcome && item->place.segment == place.segment && item->place.offset == place.offset) return item;
  }
  return NULL;
}

/* ---- appending ---- */

static size_t gather(const struct spool_entry *entry, uint8_t *room) {
  size_t len = 0;
  for (unsigned i = 0; i < entry->slices_count; i++) {
    if (room != NULL) memcpy(room + len, entry->slices[i].at, entry->slices[i].len);
    len += entry->slices[i].len;
  }
  return len;
}

static void add_append(struct spool *spool, struct fake_append append) {
  spool->appends = realloc(spool->appends, (spool->appends_count + 1) * sizeof append);
  must(spool->appends != NULL);
  spool->appends[spool->appends_count++] = append;
}

void spool_append(struct spool *spool, struct spool_entry *entry) {
  size_t len = gather(entry, NULL);
  must(entry->slices_count > 0 && entry->slices_count <= SPOOL_SLICES_MAX && entry->durable != NULL && len <= SPOOL_RECORD_MAX);
  for (unsigned i = 0; i < entry->slices_count; i++)
    must((uintptr_t)entry->slices[i].at % SPOOL_ALIGNMENT == 0 && entry->slices[i].len % FAKE_SPOOL_PADDING == 0 && entry->slices[i].len > 0);
  must(record_header_length(entry->slices[0].at) == len);
  uint8_t *bytes = malloc(len);
  must(bytes != NULL);
  gather(entry, bytes);
  add_append(spool, (struct fake_append){entry, bytes, len});
}

void spool_append_outcome(struct spool *spool, struct span outcome) {
  must(outcome.len > 0 && outcome.len <= SPOOL_OUTCOME_MAX);
  uint8_t *bytes = malloc(outcome.len);
  must(bytes != NULL);
  memcpy(bytes, outcome.at, outcome.len);
  add_append(spool, (struct fake_append){NULL, bytes, outcome.len});
  spool->outcomes++;
}

static void add_item(struct spool *spool, struct fake_item item) {
  spool->items = realloc(spool->items, (spool->items_count + 1) * sizeof item);
  must(spool->items != NULL);
  spool->items[spool->items_count++] = item;
}

static int commit_record(struct spool *spool, struct fake_append *append) {
  struct spool_entry *entry = append->entry;
  uint8_t *now = malloc(append->len);
  must(now != NULL);
  gather(entry, now);
  must(memcmp(now, append->bytes, append->len) == 0); /* untouched while the write was under way */
  free(now);
  entry->place = (struct spool_place){0};
  if (spool->fail_append != E_OK && spool->fail_append_after == 0) return spool->fail_append;
  if (spool->fail_append_after > 0) spool->fail_append_after--;
  if (spool->durability == SPOOL_MEMORY && !entry->store) return E_OK;
  entry->place = (struct spool_place){1 + spool->items_count / 4, (uint32_t)append->len, 4096 + (uint64_t)spool->items_count * 8192};
  struct span rest = span_of(append->bytes + RECORD_HEADER_SIZE, append->len - RECORD_HEADER_SIZE);
  uint64_t hash = record_hash(FAKE_SPOOL_SALT, &rest, 1);
  record_header_seal(append->bytes, entry->place.segment, hash);
  record_header_seal(entry->slices[0].at, entry->place.segment, hash);
  add_item(spool, (struct fake_item){.live = true, .place = entry->place, .bytes = append->bytes, .len = append->len});
  append->bytes = NULL;
  return E_OK;
}

/* Records first, then outcomes, and only then the news. */
static void commit(struct spool *spool) {
  unsigned count = spool->appends_count;
  struct fake_append *appends = spool->appends;
  int *errors = calloc(count + 1, sizeof *errors);
  must(errors != NULL);
  spool->appends = NULL;
  spool->appends_count = 0;
  for (unsigned i = 0; i < count; i++)
    if (appends[i].entry != NULL) errors[i] = commit_record(spool, &appends[i]);
  for (unsigned i = 0; i < count; i++) {
    if (appends[i].entry != NULL) continue;
    add_item(spool, (struct fake_item){.outcome = true, .bytes = appends[i].bytes, .len = appends[i].len});
    appends[i].bytes = NULL;
  }
  for (unsigned i = 0; i < count; i++) {
    free(appends[i].bytes);
    if (appends[i].entry != NULL) appends[i].entry->durable(appends[i].entry, errors[i]);
  }
  free(errors);
  free(appends);
}

/* ---- forgetting and reading ---- */

void spool_forget(struct spool *spool, struct spool_place place) {
  if (place.segment == 0) return;
  struct fake_item *item = item_at(spool, place);
  must(item != NULL && item->live && item->readers == 0);
  item->live = false;
}

int spool_check(const struct spool *spool, struct spool_place place, const struct io_slice *slices, unsigned slices_count) {
  const struct fake_item *item = item_at(spool, place);
  if (item == NULL) return E_NOT_FOUND;
  size_t at = 0;
  for (unsigned i = 0; i < slices_count; at += slices[i].len, i++)
    if (at + slices[i].len > item->len || memcmp(item->bytes + at, slices[i].at, slices[i].len) != 0) return E_CORRUPT;
  return at == item->len ? E_OK : E_CORRUPT;
}

void spool_read_start(struct spool *spool, struct spool_read *read) {
  struct fake_item *item = item_at(spool, read->place);
  must(item != NULL && item->live && read->offset % FAKE_SPOOL_PADDING == 0 && read->slice.len % FAKE_SPOOL_PADDING == 0);
  must((uintptr_t)read->slice.at % SPOOL_ALIGNMENT == 0 && read->offset + read->slice.len <= item->len);
  item->readers++;
  struct spool_read **last = &spool->reads;
  while (*last != NULL) last = &(*last)->_next;
  read->_next = NULL;
  *last = read;
}

static void finish_reads(struct spool *spool) {
  struct spool_read *reads = spool->reads;
  spool->reads = NULL;
  while (reads != NULL) {
    struct spool_read *read = reads;
    struct fake_item *item = item_at(spool, read->place);
    reads = read->_next;
    item->readers--;
    memcpy(read->slice.at, item->bytes + read->offset, read->slice.len);
    read->done(read, spool->fail_read != E_OK ? spool->fail_read : (int64_t)read->slice.len);
  }
}

/* ---- the rest of the contract ---- */

void spool_turn(struct spool *spool, uint64_t now_ms) {
  (void)now_ms;
  if (!spool->hold) commit(spool);
  if (!spool->hold_reads) finish_reads(spool);
}

int spool_replay(struct spool *spool, const struct spool_replay *replay, uint64_t *damaged, struct fmt *why) {
  (void)why;
  *damaged = 0;
  for (unsigned i = 0; i < spool->items_count; i++) {
    struct fake_item *item = &spool->items[i];
    if (item->outcome) {
      replay->outcome(replay->context, span_of(item->bytes, item->len));
    } else {
      replay->record(replay->context, span_of(item->bytes, item->len), item->place);
    }
  }
  return spool->failed;
}

void spool_complete(struct spool *spool, const struct io_completion *completion) {
  (void)spool;
  (void)completion;
  must(false);
}

void spool_on_move(struct spool *spool, spool_move ask, void *context) {
  spool->move_ask = ask;
  spool->move_context = context;
}

/* They count outcomes, and nothing is ever held. */
uint64_t spool_outcomes(const struct spool *spool) { return spool->outcomes; }
uint64_t spool_outcomes_released(const struct spool *spool) { return spool->outcomes; }

unsigned spool_padding(const struct spool *spool) { return spool == NULL ? 0 : FAKE_SPOOL_PADDING; }
bool spool_idle(const struct spool *spool) { return spool->appends_count == 0; }
int spool_failed(const struct spool *spool) { return spool->failed; }
bool spool_full(const struct spool *spool) { return spool->full; }
const struct spool_stats *spool_stats(const struct spool *spool) { return &spool->stats; }
