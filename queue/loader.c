#include "queue/loader.h"

#include <stdlib.h>

#include "core/base/error.h"
#include "queue/schedule.h"

/* Of the memory, in eighths. */
#define PLENTY_FROM 5 /* less is in use: more is read until */
#define PLENTY_TO 6   /* so much is, what messages take at the start (restore.c) */
#define CREDIT_MAX 256
#define LOOK_MS 1000
#define RETRY_MS 60000
#define PIECE_MIN 4096 /* page-aligned from here on */

/* ---- life ---- */

/* It only ends the loop's sleep. */
static void look(void *context, struct timer *timer) {
  (void)context;
  (void)timer;
}

void loader_init(struct loader *loader, struct schedule *schedule) { *loader = (struct loader){.schedule = schedule, .timer.fire = look}; }

void loader_on_news(struct loader *loader, const struct loader_news *news) { loader->news = *news; }

void loader_begin(struct loader *loader) {
  unloaded_begin(&loader->list);
  loader->schedule->unloaded = loader->list.present;
}

void loader_stop(struct loader *loader) { loader->stopped = true; }

/* ---- one fetch ---- */

static uint32_t piece_size(const struct fetch *fetch) {
  uint32_t size = fetch->size < SLAB_MAX ? fetch->size : SLAB_MAX;
  return size < PIECE_MIN ? PIECE_MIN : size;
}

static void fetch_free(struct fetch *fetch) {
  struct loader *loader = fetch->loader;
  slab_put(loader->schedule->slab, fetch->piece, piece_size(fetch));
  free(fetch->head);
  fetch->of = NULL;
  fetch->head = NULL;
  loader->fetches--;
}

void loader_fini(struct loader *loader) {
  timer_cancel(&loader->schedule->shard->wheel, &loader->timer);
  for (unsigned i = 0; i < LOADER_FETCHES_MAX; i++)
    if (loader->fetch[i].of != NULL) fetch_free(&loader->fetch[i]);
  unloaded_fini(&loader->list);
}

static uint64_t now_ms(const struct loader *loader) { return loader->schedule->shard->now_ms; }

static bool is_past(const struct loader *loader, const struct unloaded_message *message) {
  uint64_t wall_ms = loader->schedule->shard->wall_ms;
  return wall_ms > message->created_ms && wall_ms - message->created_ms >= loader->max_age_ms;
}

/* It is of no more use, on disk either. */
static void drop(struct loader *loader, struct unloaded_message *of) {
  struct spool *spool = loader->schedule->spool;
  spool_forget(spool, of->place);
  for (uint32_t i = 0; of->parts != NULL && i < of->parts->count; i++) spool_forget(spool, of->parts->place[i]);
  loader->schedule->unloaded--;
  unloaded_remove(&loader->list, of);
}

/*
 * Its segment may live on, and the disk read it well at the next start: then it must not end once more. Where its recipients have gaps only the record can tell who they are.
 * One that has ended already stays what it is.
 */
static void expire_all(const struct loader *loader, const struct unloaded_message *of) {
  uint8_t room[RECORD_OUTCOME_SIZE];
  for (uint32_t i = 0; i < of->recipients; i++) {
    record_outcome_encode(&(struct record_outcome){.kind = RECORD_EXPIRED, .id = of->id, .recipient = (uint16_t)(of->first + i)}, room);
    spool_append_outcome(loader->schedule->spool, span_of(room, sizeof room));
  }
}

static void failed(struct loader *loader, struct unloaded_message *of, int error) {
  bool given_up = is_past(loader, of);
  if ((given_up || !of->said) && loader->news.unreadable != NULL) loader->news.unreadable(loader->news.context, of, error, given_up);
  of->said = true;
  if (loader->list.failed == 0) loader->retry_ms = now_ms(loader) + RETRY_MS;
  if (given_up) {
    expire_all(loader, of);
    drop(loader, of);
  } else {
    unloaded_put_back(&loader->list, of, true);
  }
}

static struct span envelope_in(const struct unloaded_message *of, struct span head) {
  return span_first(span_skip(head, RECORD_HEADER_SIZE), of->envelope_size);
}

/*
 * The head as it was read: is it what was there at the start? That was whole, by its hash; the content is looked at when it is needed. Of a header that is damaged nothing is
 * needed but the size, which is then that of all there is.
 */
static int check_head(const struct unloaded_message *of, struct span head, uint32_t *content_size) {
  struct record_header header;
  uint64_t hash;
  int error = record_header_decode(&header, head.at, head.len, of->place.segment, &hash);
  if (error != E_OK && error != E_CORRUPT) return error;
  bool same = error == E_CORRUPT || (header.type == RECORD_MESSAGE && header.id == of->id && header.length == of->place.length &&
                                     header.parts == of->parts_count && header.envelope_size == of->envelope_size);
  *content_size = error == E_OK ? header.content_size : of->place.length - RECORD_HEADER_SIZE - of->envelope_size;
  return same && unloaded_is_envelope(of, envelope_in(of, head)) ? E_OK : E_CORRUPT;
}

static void take_parts(struct message *message, struct unloaded_message *of) {
  message->parts_count = of->parts_count;
  if (of->parts_count == 0) return;
  must(of->parts != NULL && of->parts->count >= of->parts_count);
  message->size += of->parts->bytes;
  message->parts = of->parts->place;
  of->parts->place = NULL;
  of->parts->count = 0;
}

static void give(struct loader *loader, struct unloaded_message *of, struct message *message) {
  struct schedule *schedule = loader->schedule;
  bool to_move = of->oldest <= schedule->mover.segment;
  message->untold = of->untold;
  message->late = true;
  schedule->unloaded--;
  unloaded_remove(&loader->list, of);
  if (loader->news.loaded != NULL) loader->news.loaded(loader->news.context, message);
  schedule_add(schedule, message); /* it may be over at once */
  if (to_move) mover_look(&schedule->mover);
}

/* E_OK: it is of the list no more; *credit: nothing of it is in memory. */
static int take_up(struct loader *loader, struct unloaded_message *of, struct span head, bool *credit) {
  uint32_t content_size;
  int error = check_head(of, head, &content_size);
  if (error != E_OK) return error;
  if (of->created_ms == 0) return E_CORRUPT;
  struct message *message = message_new(loader->schedule->slab, of->id, envelope_in(of, head));
  if (message == NULL) return E_NO_MEMORY; /* it could be read at the start */
  message->place = of->place;
  message->size = content_size;
  unloaded_apply(of, message);
  if (message->live == 0) {
    message_free(loader->schedule->slab, message);
    drop(loader, of);
    return E_OK;
  }
  *credit = false;
  take_parts(message, of);
  give(loader, of, message);
  return E_OK;
}

static void fetch_end(struct fetch *fetch, int error) {
  struct loader *loader = fetch->loader;
  struct unloaded_message *of = fetch->of;
  if (loader->stopped) error = E_NO_MEMORY; /* not now */
  if (error == E_OK) error = take_up(loader, of, span_of(fetch->head != NULL ? fetch->head : fetch->piece, fetch->size), &fetch->on_credit);
  if (fetch->on_credit) loader->credit++;
  fetch_free(fetch);
  if (error == E_OK) return;
  if (error == E_NO_MEMORY) {
    unloaded_put_back(&loader->list, of, false);
    loader->not_before_ms = now_ms(loader) + LOOK_MS;
  } else {
    failed(loader, of, error);
  }
}

static void read_piece(struct fetch *fetch, uint32_t offset);

static void piece_read(struct spool_read *read, int64_t result) {
  struct fetch *fetch = (struct fetch *)read;
  if (result != (int64_t)read->slice.len) {
    fetch_end(fetch, result < 0 ? (int)result : E_CORRUPT);
    return;
  }
  uint32_t next = read->offset + (uint32_t)read->slice.len;
  if (fetch->head != NULL) memcpy(fetch->head + read->offset, fetch->piece, read->slice.len);
  if (next < fetch->size) {
    read_piece(fetch, next);
  } else {
    fetch_end(fetch, E_OK);
  }
}

static void read_piece(struct fetch *fetch, uint32_t offset) {
  uint32_t rest = fetch->size - offset, size = piece_size(fetch);
  fetch->read =
      (struct spool_read){.place = fetch->of->place, .offset = offset, .slice = {fetch->piece, rest < size ? rest : size}, .done = piece_read};
  spool_read_start(fetch->loader->schedule->spool, &fetch->read);
}

static struct fetch *free_fetch(struct loader *loader) {
  struct fetch *fetch = loader->fetch;
  while (fetch->of != NULL) fetch++;
  return fetch;
}

/* False: no memory. */
static bool fetch_begin(struct loader *loader, struct unloaded_message *of, bool on_credit) {
  struct fetch *fetch = free_fetch(loader);
  uint32_t padding = spool_padding(loader->schedule->spool), size = RECORD_HEADER_SIZE + of->envelope_size;
  size = (size + padding - 1) / padding * padding;
  *fetch = (struct fetch){.loader = loader, .size = size < of->place.length ? size : of->place.length, .on_credit = on_credit};
  fetch->piece = slab_get_beyond(loader->schedule->slab, piece_size(fetch));
  if (fetch->piece == NULL) return false;
  if (fetch->size > piece_size(fetch)) {
    fetch->head = malloc(fetch->size);
    must(fetch->head != NULL);
  }
  fetch->of = of;
  loader->fetches++;
  if (on_credit) loader->credit--;
  unloaded_take(&loader->list, of);
  read_piece(fetch, 0);
  return true;
}

/* ---- how much, and which ---- */

/* What is being read counts, too. */
static void look_at_memory(struct loader *loader) {
  const struct slab *slab = loader->schedule->slab;
  if (slab->used_bytes < slab->limit_bytes / 8 * PLENTY_FROM) loader->plenty = true;
  if (slab->used_bytes >= slab->limit_bytes / 8 * PLENTY_TO) loader->plenty = false;
  if (loader->plenty) loader->credit = 0;
}

static void count_ended(struct loader *loader) {
  uint64_t ended = loader->schedule->ended - loader->ended_seen;
  loader->ended_seen = loader->schedule->ended;
  loader->credit += ended > CREDIT_MAX ? CREDIT_MAX : (int)ended;
  if (loader->credit > CREDIT_MAX) loader->credit = CREDIT_MAX;
}

/* NULL: not now. */
static struct unloaded_message *choose(struct loader *loader) {
  look_at_memory(loader);
  if (loader->plenty) return unloaded_oldest(&loader->list);
  if (loader->credit < 0) return NULL;
  struct unloaded_message *eldest = unloaded_eldest(&loader->list);
  if (eldest != NULL && is_past(loader, eldest)) return eldest;
  return loader->credit > 0 ? unloaded_oldest(&loader->list) : NULL;
}

void loader_turn(struct loader *loader, uint64_t max_age_ms) {
  struct schedule *schedule = loader->schedule;
  if (schedule->unloaded == 0 || loader->stopped) {
    timer_cancel(&schedule->shard->wheel, &loader->timer);
    return;
  }
  loader->max_age_ms = max_age_ms;
  count_ended(loader);
  if (loader->list.failed > 0 && now_ms(loader) >= loader->retry_ms) unloaded_retry(&loader->list);
  while (loader->fetches < LOADER_FETCHES_MAX && now_ms(loader) >= loader->not_before_ms) {
    struct unloaded_message *of = choose(loader);
    if (of == NULL) break;
    if (!fetch_begin(loader, of, !loader->plenty)) loader->not_before_ms = now_ms(loader) + LOOK_MS;
  }
  if (!timer_is_set(&loader->timer)) timer_set(&schedule->shard->wheel, &loader->timer, now_ms(loader) + LOOK_MS);
}
