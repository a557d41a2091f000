#include "queue/spool/census.h"

#include <stdlib.h>

#include "core/base/error.h"

#define SHARE_BITS_MAX 20
#define PARTS_MAX 65536 /* a message has not more, nor has its restoring */

static struct span key_of(const void *object) { return span_of(&((const struct census_message *)object)->id, sizeof(uint64_t)); }

/* Ids are times: their low bits are seldom other than zero, all of them go into the upper ones of the product. */
static bool is_counted(const struct census *census, uint64_t id) {
  uint64_t hash = (id * 0x9e3779b97f4a7c15) >> 32;
  return (hash & (((uint64_t)1 << census->share_bits) - 1)) == census->share;
}

static uint64_t size_of(const struct census_message *message) {
  return sizeof *message + 2 * sizeof(void *) + message->recipients * sizeof *message->recipient + message->parts_known * sizeof *message->parts;
}

static void drop_message(struct census *census, struct census_message *message) {
  census->bytes -= size_of(message);
  free(message->recipient);
  free(message->parts);
  free(message);
}

/* All of them. */
static void drop(struct census *census) {
  uint32_t cursor = 0;
  for (struct census_message *message; (message = map_next(&census->by_id, &cursor)) != NULL;) drop_message(census, message);
  map_fini(&census->by_id);
  map_init(&census->by_id, key_of, census->seed);
}

void census_init(struct census *census, uint64_t bytes_max, uint64_t seed) {
  *census = (struct census){.bytes_max = bytes_max, .seed = seed};
  map_init(&census->by_id, key_of, seed);
}

void census_fini(struct census *census) {
  drop(census);
  map_fini(&census->by_id);
}

void census_begin(struct census *census) {
  drop(census);
  census->stops = 0;
}

/* ---- shares: a binary tree over the bits of the hash, walked from left to right; a share that takes too much goes down to its left half ---- */

bool census_next_share(struct census *census) {
  while (census->share_bits > 0 && (census->share >> (census->share_bits - 1)) != 0) {
    census->share_bits--;
    census->share &= ((uint64_t)1 << census->share_bits) - 1;
  }
  if (census->share_bits == 0) return false;
  census->share |= (uint64_t)1 << (census->share_bits - 1);
  return true;
}

static void narrow(struct census *census) {
  struct map all = census->by_id;
  census->share_bits++;
  map_init(&census->by_id, key_of, census->seed);
  uint32_t cursor = 0;
  for (struct census_message *message; (message = map_next(&all, &cursor)) != NULL;) {
    int error = is_counted(census, message->id) ? map_insert(&census->by_id, message) : E_RANGE;
    must(error != E_NO_MEMORY);
    if (error == E_RANGE) drop_message(census, message);
  }
  map_fini(&all);
}

static void keep_within_limit(struct census *census) {
  while (census->bytes_max != 0 && census->bytes > census->bytes_max && census->by_id.count > 1 && census->share_bits < SHARE_BITS_MAX)
    narrow(census);
}

/* ---- records ---- */

static struct census_message *know(struct census *census, uint64_t id) {
  struct census_message *message = census_find(census, id);
  if (message != NULL) return message;
  message = calloc(1, sizeof *message);
  must(message != NULL);
  message->id = id;
  int error = map_insert(&census->by_id, message);
  must(error == E_OK);
  census->bytes += size_of(message);
  return message;
}

static void count_part(struct census *census, struct census_message *message, const struct record_header *header, struct spool_place place) {
  uint32_t number = header->parts;
  if (number >= PARTS_MAX) return;
  if (number >= message->parts_known) {
    message->parts = realloc(message->parts, (number + 1) * sizeof *message->parts);
    must(message->parts != NULL);
    memset(message->parts + message->parts_known, 0, (number + 1 - message->parts_known) * sizeof *message->parts);
    census->bytes += (number + 1 - message->parts_known) * sizeof *message->parts;
    message->parts_known = number + 1;
  }
  if (message->parts[number].segment == 0) message->parts_bytes += header->content_size;
  message->parts[number] = place; /* what was moved ahead counts */
}

/* False: it cannot be read. */
static bool read_recipients(struct census_message *message, struct span envelope) {
  struct record_envelope decoded;
  if (record_envelope_decode(&decoded, &envelope) != E_OK || decoded.recipients > UINT16_MAX) return false;
  message->recipient = calloc(decoded.recipients + 1, sizeof *message->recipient);
  must(message->recipient != NULL);
  for (uint32_t i = 0; i < decoded.recipients; i++) {
    struct record_recipient recipient;
    if (record_recipient_decode(&recipient, &envelope) != E_OK) return false;
    message->recipient[i] = (struct census_recipient){
        .due_ms = recipient.due_ms, .index = recipient.index, .attempts = recipient.attempts, .marks = recipient.notify & RECORD_MARKS};
  }
  message->recipients = message->live = (uint16_t)decoded.recipients;
  return true;
}

/* The newest of an id counts, whatever was said of those before it. */
static void count_message(struct census *census, struct census_message *message, const struct record_header *header, struct span envelope) {
  census->bytes -= size_of(message);
  free(message->recipient);
  message->recipient = NULL;
  message->recipients = message->live = 0;
  message->readable = read_recipients(message, envelope);
  bool changed = message->recipients > 0 && !record_is_new(message->recipient[0].attempts, message->recipient[0].due_ms);
  message->stops = changed ? UINT32_MAX : census->stops;
  message->content_size = header->content_size;
  message->parts_count = header->parts;
  census->bytes += size_of(message);
}

void census_record(struct census *census, struct span record, struct spool_place place) {
  struct record_header header;
  uint64_t hash;
  int error = record_header_decode(&header, record.at, record.len, place.segment, &hash);
  must(error == E_OK);
  if (!is_counted(census, header.id)) return;
  struct census_message *message = know(census, header.id);
  if (header.type == RECORD_PART) {
    count_part(census, message, &header, place);
  } else {
    message->place = place;
    count_message(census, message, &header, span_of(record.at + RECORD_HEADER_SIZE, header.envelope_size));
  }
  keep_within_limit(census);
}

/* ---- outcomes ---- */

static void apply(struct census_message *message, struct census_recipient *recipient, const struct record_outcome *outcome) {
  uint8_t mark = record_outcome_mark(outcome->kind);
  recipient->marks |= mark;
  if (mark != 0) return;
  bool ended = record_outcome_is_end(outcome->kind);
  if (recipient->done || (!ended && outcome->attempts < recipient->attempts)) return; /* from before the record was written anew */
  recipient->attempts = outcome->attempts;
  recipient->due_ms = outcome->due_ms;
  recipient->done = ended;
  recipient->kind = (uint8_t)outcome->kind;
  if (ended) message->live--;
}

void census_outcome(struct census *census, struct span bytes) {
  struct record_outcome outcome;
  if (record_outcome_decode(&outcome, bytes) != E_OK) return;
  if (outcome.kind == RECORD_TOLD) {
    census->stops++;
    return;
  }
  struct census_message *message = census_find(census, outcome.id);
  if (message == NULL || message->place.segment == 0) return;
  message->stops = UINT32_MAX;
  for (unsigned i = 0; i < message->recipients; i++)
    if (message->recipient[i].index == outcome.recipient) apply(message, &message->recipient[i], &outcome);
}

/* ---- questions ---- */

struct census_message *census_find(const struct census *census, uint64_t id) {
  return map_find(&census->by_id, span_of(&id, sizeof id));
}

struct census_message *census_next(const struct census *census, uint32_t *cursor) {
  return map_next(&census->by_id, cursor);
}

bool census_is_live(const struct census_message *message) { return message->place.segment != 0 && (message->live > 0 || !message->readable); }

bool census_is_whole(const struct census_message *message) {
  if (message->parts_known < message->parts_count) return false;
  for (uint32_t i = 0; i < message->parts_count; i++)
    if (message->parts[i].segment == 0) return false;
  return true;
}

bool census_is_told(const struct census *census, const struct census_message *message) { return message->stops != census->stops; }
