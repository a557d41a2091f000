#include "queue/restore.h"

#include <stdlib.h>

#include "core/base/error.h"
#include "core/base/map.h"

/* Of the memory, messages that are restored take so many parts. */
#define MEMORY_PARTS 4
#define MESSAGE_PARTS 3

struct restore {
  struct schedule *schedule;
  struct map by_id; /* struct known */
  uint64_t newest_id;
  uint32_t stops; /* orderly ones, so far */
};

struct known { /* a message id seen in the spool */
  uint64_t id;
  struct message *message; /* NULL: only parts so far */
  struct spool_place *parts;
  uint64_t parts_bytes; /* of content */
  uint32_t parts_count, parts_capacity;
  uint32_t stops; /* before its record; UINT32_MAX: something happened to it, so it was told of */
  bool unread;    /* its message is on disk, but there was no memory for it */
  bool single;    /* ... and it has one recipient, number `only` */
  uint16_t only;
  struct spool_place place; /* of the unread one */
};

static struct span known_key(const void *object) { return span_of(&((const struct known *)object)->id, sizeof(uint64_t)); }

static struct known *know(struct restore *restore, uint64_t id) {
  struct known *known = map_find(&restore->by_id, span_of(&id, sizeof id));
  if (known != NULL) return known;
  known = calloc(1, sizeof *known);
  must(known != NULL);
  known->id = id;
  int error = map_insert(&restore->by_id, known);
  must(error == E_OK);
  if (id > restore->newest_id) restore->newest_id = id;
  return known;
}

static void restore_part(struct restore *restore, struct known *known, const struct record_header *header, struct spool_place place) {
  uint32_t number = header->parts;
  if (number >= 65536) return;
  if (number >= known->parts_capacity) {
    uint32_t capacity = number < 8 ? 16 : number * 2;
    known->parts = realloc(known->parts, capacity * sizeof *known->parts);
    must(known->parts != NULL);
    memset(known->parts + known->parts_capacity, 0, (capacity - known->parts_capacity) * sizeof *known->parts);
    known->parts_capacity = capacity;
  }
  if (known->parts[number].segment != 0) { /* moved ahead: the newer one counts */
    spool_forget(restore->schedule->spool, known->parts[number]);
  } else {
    known->parts_bytes += header->content_size;
  }
  known->parts[number] = place;
  if (number >= known->parts_count) known->parts_count = number + 1;
}

/* What is known of its record until now is over. */
static void forget_record(struct restore *restore, struct known *known) {
  struct schedule *schedule = restore->schedule;
  if (known->unread) spool_forget(schedule->spool, known->place);
  known->unread = false;
  if (known->message == NULL) return;
  spool_forget(schedule->spool, known->message->place);
  schedule_unlink(schedule, known->message);
  message_free(schedule->slab, known->message);
  known->message = NULL;
}

/* It stays live in its segment, for the next start, unless an outcome of its only recipient follows. */
static void leave_unread(struct known *known, struct span envelope, struct spool_place place) {
  struct record_envelope decoded;
  struct record_recipient recipient;
  known->unread = true;
  known->place = place;
  known->single =
      record_envelope_decode(&decoded, &envelope) == E_OK && decoded.recipients == 1 && record_recipient_decode(&recipient, &envelope) == E_OK;
  if (known->single) known->only = recipient.index;
}

static void restore_record(void *context, struct span record, struct spool_place place) {
  struct restore *restore = context;
  struct schedule *schedule = restore->schedule;
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
  bool has_room = schedule->slab->used_bytes < schedule->slab->limit_bytes / MEMORY_PARTS * MESSAGE_PARTS;
  struct message *message = has_room ? message_new(schedule->slab, header.id, envelope) : NULL;
  known->message = message;
  if (message == NULL) {
    leave_unread(known, envelope, place);
    return;
  }
  known->stops = record_is_new(message->recipient[0].attempts, message->recipient[0].due_ms) ? restore->stops : UINT32_MAX;
  message->place = place;
  message->size = header.content_size;
  message->parts_count = header.parts;
  schedule_link(schedule, message);
}

static void restore_warning(const struct known *known, const struct record_outcome *outcome) {
  struct message *message = known->message;
  for (unsigned i = 0; message != NULL && i < message->recipients; i++)
    if (message->recipient[i].index == outcome->recipient) message->recipient[i].notify |= RECORD_WARNED_BIT;
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
  if (known == NULL) return; /* of a message whose segment is long recycled */
  if (outcome.kind == RECORD_WARNED) {
    restore_warning(known, &outcome);
    return;
  }
  bool ended = record_outcome_is_end(outcome.kind);
  if (known->unread && known->single && ended && outcome.recipient == known->only) forget_record(restore, known);
  struct message *message = known->message;
  if (message == NULL) return;
  known->stops = UINT32_MAX;
  for (unsigned i = 0; i < message->recipients; i++) {
    struct recipient *recipient = &message->recipient[i];
    if (recipient->index != outcome.recipient || recipient->state == RECIPIENT_DONE) continue;
    if (!ended && outcome.attempts < recipient->attempts) continue; /* from before the record was written anew */
    recipient->attempts = outcome.attempts;
    recipient->due_ms = outcome.due_ms;
    if (!ended) continue;
    recipient->state = RECIPIENT_DONE;
    message->live--;
  }
  if (message->live == 0) forget_record(restore, known); /* its memory is for others that are still to be read */
}

static bool has_all_parts(const struct message *message, const struct known *known) {
  if (known->parts_count < message->parts_count) return false;
  for (uint32_t i = 0; i < message->parts_count; i++)
    if (known->parts[i].segment == 0) return false;
  return true;
}

/* Now the message has its true size and its places, and is older than its own record. */
static void attach_parts(struct schedule *schedule, struct message *message, struct known *known) {
  message->size += known->parts_bytes;
  schedule_set_parts(schedule, message, known->parts);
  known->parts = NULL;
}

static void restore_end(struct restore *restore, struct known *known) {
  struct schedule *schedule = restore->schedule;
  struct message *message = known->message;
  bool whole = message != NULL && has_all_parts(message, known);
  if (message != NULL) message->untold = known->stops == restore->stops;
  if (whole && message->parts_count > 0) attach_parts(schedule, message, known);
  if (!whole && !known->unread) /* its end never came: never answered with 250 */
    for (uint32_t i = 0; i < known->parts_count; i++) spool_forget(schedule->spool, known->parts[i]);
  if (message != NULL && (message->live == 0 || !whole)) {
    schedule_unlink(schedule, message);
    spool_forget(schedule->spool, message->place);
    for (uint32_t i = 0; whole && i < message->parts_count; i++) spool_forget(schedule->spool, message->parts[i]);
    message_free(schedule->slab, message);
  }
  if (known->unread) schedule->unloaded++;
  free(known->parts);
  free(known);
}

int restore_schedule(struct schedule *schedule, uint64_t *newest_id, uint64_t *damaged, struct fmt *why) {
  struct restore restore = {.schedule = schedule};
  map_init(&restore.by_id, known_key, schedule->shard->now_ns);
  struct spool_replay replay = {.record = restore_record, .outcome = restore_outcome, .context = &restore};
  int error = spool_replay(schedule->spool, &replay, damaged, why);
  uint32_t cursor = 0;
  for (struct known *known; (known = map_next(&restore.by_id, &cursor)) != NULL;) restore_end(&restore, known);
  map_fini(&restore.by_id);
  *newest_id = restore.newest_id;
  return error;
}
