#include "queue/restore.h"

#include <stdlib.h>

#include "core/base/error.h"
#include "core/base/map.h"

/* Of the memory, messages that are restored take so many parts. */
#define MEMORY_PARTS 4
#define MESSAGE_PARTS 3

#define KNOWN_IN_BLOCK 4000 /* some pages less than a power of two */

enum known_state { KNOWN_PARTS, KNOWN_MESSAGE, KNOWN_UNLOADED };

/* A message id seen in the spool. There is one for each message in memory, too: hence small, and from blocks. */
struct known {
  uint64_t id;
  union {
    struct message *message;
    uint32_t unloaded; /* its number in the list of those that found no room */
    struct known *next_unused;
  } as;
  struct unloaded_parts *parts; /* NULL: none so far */
  uint32_t stops;               /* before its record; UINT32_MAX: something happened to it, so it was told of */
  uint8_t state;                /* enum known_state */
};

struct known_block {
  struct known_block *next;
  struct known known[KNOWN_IN_BLOCK];
};

struct restore {
  struct schedule *schedule;
  struct map by_id; /* struct known */
  struct known_block *blocks;
  unsigned used; /* of the first block */
  struct known *unused;
  uint64_t newest_id;
  uint32_t stops; /* orderly ones, so far */
};

/* ---- what is known of an id ---- */

static struct span known_key(const void *object) { return span_of(&((const struct known *)object)->id, sizeof(uint64_t)); }

static struct known *known_new(struct restore *restore) {
  struct known *known = restore->unused;
  if (known != NULL) {
    restore->unused = known->as.next_unused;
    return known;
  }
  if (restore->blocks == NULL || restore->used == KNOWN_IN_BLOCK) {
    struct known_block *block = malloc(sizeof *block);
    must(block != NULL);
    block->next = restore->blocks;
    restore->blocks = block;
    restore->used = 0;
  }
  return &restore->blocks->known[restore->used++];
}

static struct known *know(struct restore *restore, uint64_t id) {
  struct known *known = map_find(&restore->by_id, span_of(&id, sizeof id));
  if (known != NULL) return known;
  known = known_new(restore);
  *known = (struct known){.id = id, .state = KNOWN_PARTS};
  int error = map_insert(&restore->by_id, known);
  must(error == E_OK);
  if (id > restore->newest_id) restore->newest_id = id;
  return known;
}

static struct unloaded_message *unloaded_of(const struct restore *restore, const struct known *known) {
  return &restore->schedule->loader.list.message[known->as.unloaded];
}

static void forget_parts(const struct restore *restore, struct known *known) {
  for (uint32_t i = 0; known->parts != NULL && i < known->parts->count; i++) spool_forget(restore->schedule->spool, known->parts->place[i]);
  if (known->parts != NULL) free(known->parts->place);
  free(known->parts);
  known->parts = NULL;
}

/* What is known of its record until now is over. */
static void forget_record(struct restore *restore, struct known *known) {
  struct schedule *schedule = restore->schedule;
  if (known->state == KNOWN_MESSAGE) {
    struct message *message = known->as.message;
    spool_forget(schedule->spool, message->place);
    schedule_unlink(schedule, message);
    message_free(schedule->slab, message);
  } else if (known->state == KNOWN_UNLOADED) {
    struct unloaded_message *unloaded = unloaded_of(restore, known);
    spool_forget(schedule->spool, unloaded->place);
    unloaded_remove(&schedule->loader.list, unloaded);
  }
  known->state = KNOWN_PARTS;
}

/* It has ended: what it took is for others that are still to be read. */
static void forget(struct restore *restore, struct known *known) {
  forget_record(restore, known);
  forget_parts(restore, known);
  map_remove(&restore->by_id, known_key(known));
  known->as.next_unused = restore->unused;
  restore->unused = known;
}

/* ---- records ---- */

static void make_room(struct unloaded_parts *parts, uint32_t number) {
  if (number < parts->capacity) return;
  uint32_t capacity = number < 8 ? 16 : number * 2;
  parts->place = realloc(parts->place, capacity * sizeof *parts->place);
  must(parts->place != NULL);
  memset(parts->place + parts->capacity, 0, (capacity - parts->capacity) * sizeof *parts->place);
  parts->capacity = capacity;
}

static void restore_part(struct restore *restore, struct known *known, const struct record_header *header, struct spool_place place) {
  uint32_t number = header->parts;
  if (number >= 65536) return;
  if (known->parts == NULL) known->parts = calloc(1, sizeof *known->parts);
  struct unloaded_parts *parts = known->parts;
  must(parts != NULL);
  make_room(parts, number);
  if (parts->place[number].segment != 0) { /* moved ahead: the newer one counts */
    spool_forget(restore->schedule->spool, parts->place[number]);
  } else {
    parts->bytes += header->content_size;
  }
  parts->place[number] = place;
  if (number >= parts->count) parts->count = number + 1;
}

static bool has_room(const struct slab *slab) { return slab->used_bytes < slab->limit_bytes / MEMORY_PARTS * MESSAGE_PARTS; }

static struct message *restore_message(const struct restore *restore, const struct record_header *header, struct span envelope,
                                       struct spool_place place) {
  struct schedule *schedule = restore->schedule;
  if (!has_room(schedule->slab)) slab_balance(schedule->slab);
  struct message *message = has_room(schedule->slab) ? message_new(schedule->slab, header->id, envelope) : NULL;
  if (message == NULL) return NULL;
  message->place = place;
  message->size = header->content_size;
  message->parts_count = header->parts;
  schedule_link(schedule, message);
  return message;
}

static void restore_record(void *context, struct span record, struct spool_place place) {
  struct restore *restore = context;
  struct record_header header;
  uint64_t hash;
  int error = record_header_decode(&header, record.at, record.len, place.segment, &hash);
  must(error == E_OK);
  struct known *known = know(restore, header.id);
  if (header.type == RECORD_PART) {
    restore_part(restore, known, &header, place);
    return;
  }
  forget_record(restore, known); /* if it was written anew under way: the newer one has the present recipients */
  struct span envelope = span_of(record.at + RECORD_HEADER_SIZE, header.envelope_size);
  struct message *message = restore_message(restore, &header, envelope, place);
  bool is_new;
  if (message != NULL) {
    known->state = KNOWN_MESSAGE;
    known->as.message = message;
    is_new = message->recipients > 0 && record_is_new(message->recipient[0].attempts, message->recipient[0].due_ms);
  } else {
    known->state = KNOWN_UNLOADED;
    known->as.unloaded = unloaded_add(&restore->schedule->loader.list, &header, envelope, place);
    is_new = unloaded_of(restore, known)->untold;
  }
  known->stops = is_new ? restore->stops : UINT32_MAX;
}

/* ---- outcomes ---- */

/* True: it has ended for all. */
static bool apply(const struct restore *restore, const struct known *known, const struct record_outcome *outcome) {
  switch ((enum known_state)known->state) {
  case KNOWN_MESSAGE: message_outcome(known->as.message, outcome); return known->as.message->live == 0;
  case KNOWN_UNLOADED: return unloaded_outcome(&restore->schedule->loader.list, known->as.unloaded, outcome);
  case KNOWN_PARTS: break;
  }
  return false;
}

static void restore_outcome(void *context, struct span bytes) {
  struct restore *restore = context;
  struct record_outcome outcome;
  if (record_outcome_decode(&outcome, bytes) != E_OK) return;
  if (outcome.kind == RECORD_TOLD) {
    restore->stops++;
    return;
  }
  struct known *known = map_find(&restore->by_id, span_of(&outcome.id, sizeof outcome.id));
  if (known == NULL) return; /* of a message that has ended, or whose segment is long recycled */
  if (record_outcome_mark(outcome.kind) == 0) known->stops = UINT32_MAX;
  if (apply(restore, known, &outcome)) forget(restore, known);
}

/* ---- the end ---- */

static bool has_all_parts(const struct known *known, uint32_t count) {
  if (count == 0) return true;
  if (known->parts == NULL || known->parts->count < count) return false;
  for (uint32_t i = 0; i < count; i++)
    if (known->parts->place[i].segment == 0) return false;
  return true;
}

/* Now the message has its true size and its places, and is older than its own record. */
static void end_message(struct restore *restore, struct known *known) {
  struct message *message = known->as.message;
  message->untold = known->stops == restore->stops;
  if (message->parts_count == 0) return;
  message->size += known->parts->bytes;
  schedule_set_parts(restore->schedule, message, known->parts->place);
  known->parts->place = NULL;
  known->parts->count = 0;
}

static void end_unloaded(const struct restore *restore, struct known *known) {
  struct unloaded_message *unloaded = unloaded_of(restore, known);
  unloaded->untold = known->stops == restore->stops;
  if (unloaded->parts_count == 0) return;
  unloaded->parts = known->parts;
  known->parts = NULL;
  for (uint32_t i = 0; i < unloaded->parts->count; i++)
    if (unloaded->parts->place[i].segment < unloaded->oldest) unloaded->oldest = unloaded->parts->place[i].segment;
}

static void restore_end(struct restore *restore, struct known *known) {
  if (known->state == KNOWN_MESSAGE && known->as.message->live > 0 && has_all_parts(known, known->as.message->parts_count)) {
    end_message(restore, known);
  } else if (known->state == KNOWN_UNLOADED && has_all_parts(known, unloaded_of(restore, known)->parts_count)) {
    end_unloaded(restore, known);
  } else { /* its end never came: never answered with 250 */
    forget_record(restore, known);
  }
  forget_parts(restore, known); /* of nobody */
}

static void free_known(struct restore *restore) {
  map_fini(&restore->by_id);
  for (struct known_block *block = restore->blocks, *next; block != NULL; block = next) {
    next = block->next;
    free(block);
  }
}

int restore_schedule(struct schedule *schedule, uint64_t *newest_id, uint64_t *damaged, struct fmt *why) {
  struct restore restore = {.schedule = schedule};
  map_init(&restore.by_id, known_key, schedule->shard->now_ns);
  struct spool_replay replay = {.record = restore_record, .outcome = restore_outcome, .context = &restore};
  int error = spool_replay(schedule->spool, &replay, damaged, why);
  uint32_t cursor = 0;
  for (struct known *known; (known = map_next(&restore.by_id, &cursor)) != NULL;) restore_end(&restore, known);
  free_known(&restore);
  loader_begin(&schedule->loader);
  *newest_id = restore.newest_id;
  return error;
}
