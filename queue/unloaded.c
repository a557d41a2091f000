#include "queue/unloaded.h"

#include <stdlib.h>

#define MANY_FIRST 4 /* room for outcomes, when one is not enough; from there on it doubles */

static uint64_t hash_of(struct span envelope) { return record_hash(0, &envelope, 1); }

static struct unloaded_outcome *outcomes_of(struct unloaded_message *message) {
  return message->outcomes_count > 1 ? message->outcomes.many : &message->outcomes.one;
}

/* ---- at the start ---- */

/* True: all of it can be read, and the recipients are numbered without a gap, as those of a message are that was never written anew. */
static bool number_recipients(struct unloaded_message *message, uint32_t recipients, struct span bytes) {
  bool dense = true;
  for (uint32_t i = 0; i < recipients; i++) {
    struct record_recipient recipient;
    if (record_recipient_decode(&recipient, &bytes) != 0) return false;
    if (i == 0) {
      message->first = recipient.index;
      message->untold = record_is_new(recipient.attempts, recipient.due_ms);
    }
    dense = dense && recipient.index == message->first + i;
  }
  message->recipients = dense ? (uint16_t)recipients : 0;
  return true;
}

static void read_envelope(struct unloaded_message *message, struct span bytes) {
  struct record_envelope envelope;
  if (record_envelope_decode(&envelope, &bytes) != 0 || envelope.recipients > UINT16_MAX) return;
  if (number_recipients(message, envelope.recipients, bytes)) message->created_ms = envelope.created_ms;
}

static uint32_t unused(struct unloaded *list) {
  if (list->unused > 0) {
    uint32_t index = list->unused - 1;
    list->unused = list->message[index].oldest;
    return index;
  }
  if (list->count == list->capacity) {
    list->capacity = list->capacity == 0 ? 64 : list->capacity * 2;
    list->message = realloc(list->message, list->capacity * sizeof *list->message);
    must(list->message != NULL);
  }
  return list->count++;
}

uint32_t unloaded_add(struct unloaded *list, const struct record_header *header, struct span envelope, struct spool_place place) {
  uint32_t index = unused(list);
  struct unloaded_message *message = &list->message[index];
  *message = (struct unloaded_message){.id = header->id,
                                       .envelope_hash = hash_of(envelope),
                                       .place = place,
                                       .envelope_size = header->envelope_size,
                                       .parts_count = header->parts,
                                       .oldest = place.segment,
                                       .state = UNLOADED_WAITS};
  read_envelope(message, envelope);
  list->present++;
  return index;
}

/* Where the recipient's outcome is, or belongs. */
static unsigned find(struct unloaded_message *message, uint16_t recipient) {
  const struct unloaded_outcome *outcomes = outcomes_of(message);
  unsigned low = 0, high = message->outcomes_count;
  while (low < high) {
    unsigned middle = low + (high - low) / 2;
    if (outcomes[middle].recipient < recipient) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

/* For one more. */
static void make_room(struct unloaded_message *message) {
  unsigned count = message->outcomes_count;
  bool is_full = count == 1 || (count >= MANY_FIRST && (count & (count - 1)) == 0);
  if (!is_full) return;
  struct unloaded_outcome one = message->outcomes.one;
  unsigned room = count == 1 ? MANY_FIRST : count * 2;
  struct unloaded_outcome *many = realloc(count == 1 ? NULL : message->outcomes.many, room * sizeof *many);
  must(many != NULL);
  if (count == 1) many[0] = one;
  message->outcomes.many = many;
}

/* NULL: there are more than a message can have. */
static struct unloaded_outcome *outcome_of(struct unloaded_message *message, uint16_t recipient) {
  unsigned at = find(message, recipient);
  if (at < message->outcomes_count && outcomes_of(message)[at].recipient == recipient) return &outcomes_of(message)[at];
  if (message->outcomes_count == UINT16_MAX) return NULL;
  make_room(message);
  message->outcomes_count++;
  struct unloaded_outcome *outcome = &outcomes_of(message)[at];
  memmove(outcome + 1, outcome, (message->outcomes_count - 1 - at) * sizeof *outcome);
  *outcome = (struct unloaded_outcome){.recipient = recipient};
  return outcome;
}

static bool is_one_of(const struct unloaded_message *message, uint16_t recipient) {
  return recipient >= message->first && recipient - message->first < message->recipients;
}

/* A deferral with fewer attempts is an older one: of before the record was written anew. */
static bool is_older(const struct unloaded_outcome *known, const struct record_outcome *outcome) {
  return record_outcome_is_end(known->kind) || (outcome->kind == RECORD_DEFERRED && outcome->attempts < known->attempts);
}

bool unloaded_outcome(struct unloaded *list, uint32_t index, const struct record_outcome *outcome) {
  struct unloaded_message *message = &list->message[index];
  struct unloaded_outcome *known = outcome_of(message, outcome->recipient);
  if (known == NULL) return false;
  uint8_t mark = record_outcome_mark(outcome->kind);
  known->marks |= mark;
  if (mark != 0) return false;
  if (is_older(known, outcome)) return false;
  known->kind = (uint8_t)outcome->kind;
  known->attempts = outcome->attempts;
  known->due_ms = outcome->due_ms;
  if (!record_outcome_is_end(outcome->kind) || !is_one_of(message, outcome->recipient)) return false;
  return ++message->ended == message->recipients;
}

/* ---- their order ---- */

static int compare(uint64_t a, uint64_t b) { return a < b ? -1 : a > b; }

static int by_place(const void *left, const void *right) {
  const struct unloaded_message *a = left, *b = right;
  if (a->oldest != b->oldest) return compare(a->oldest, b->oldest);
  if (a->place.segment != b->place.segment) return compare(a->place.segment, b->place.segment);
  return compare(a->place.offset, b->place.offset);
}

static int by_creation(const void *left, const void *right, void *context) {
  const struct unloaded_message *message = context;
  uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
  int order = compare(message[a].created_ms, message[b].created_ms);
  return order != 0 ? order : compare(a, b);
}

static bool in_order(const struct unloaded *list) {
  for (uint32_t i = 1; i < list->count; i++)
    if (by_place(&list->message[i - 1], &list->message[i]) > 0) return false;
  return true;
}

void unloaded_begin(struct unloaded *list) {
  uint32_t count = 0;
  for (uint32_t i = 0; i < list->count; i++)
    if (list->message[i].state != UNLOADED_GONE) list->message[count++] = list->message[i];
  list->count = count;
  must(count == list->present);
  if (count == 0) {
    unloaded_fini(list);
    return;
  }
  if (!in_order(list)) qsort(list->message, count, sizeof *list->message, by_place);
  list->by_age = malloc(count * sizeof *list->by_age);
  must(list->by_age != NULL);
  for (uint32_t i = 0; i < count; i++) {
    list->by_age[i] = i;
    if (list->message[i].untold) list->untold++;
  }
  qsort_r(list->by_age, count, sizeof *list->by_age, by_creation, list->message);
}

static struct unloaded_message *at(const struct unloaded *list, const uint32_t *order, uint32_t i) {
  return &list->message[order == NULL ? i : order[i]];
}

static void pass_gone(const struct unloaded *list, struct unloaded_cursor *cursor, const uint32_t *order) {
  while (cursor->gone < list->count && at(list, order, cursor->gone)->state == UNLOADED_GONE) cursor->gone++;
  if (cursor->next < cursor->gone) cursor->next = cursor->gone;
}

static struct unloaded_message *next_of(const struct unloaded *list, struct unloaded_cursor *cursor, const uint32_t *order) {
  pass_gone(list, cursor, order);
  while (cursor->next < list->count && at(list, order, cursor->next)->state != UNLOADED_WAITS) cursor->next++;
  return cursor->next < list->count ? at(list, order, cursor->next) : NULL;
}

struct unloaded_message *unloaded_oldest(struct unloaded *list) {
  return next_of(list, &list->place, NULL);
}

struct unloaded_message *unloaded_eldest(struct unloaded *list) {
  return next_of(list, &list->age, list->by_age);
}

bool unloaded_find(const struct unloaded *list, uint64_t id, uint32_t *cursor, unsigned budget, bool *found) {
  *found = false;
  for (; *cursor < list->count && budget > 0; (*cursor)++, budget--)
    if (list->message[*cursor].id == id && list->message[*cursor].state != UNLOADED_GONE) *found = true;
  return *found || *cursor >= list->count;
}

bool unloaded_holds(struct unloaded *list, uint32_t segment) {
  pass_gone(list, &list->place, NULL);
  return list->place.gone < list->count && list->message[list->place.gone].oldest <= segment;
}

/* ---- one after the other ---- */

void unloaded_take(struct unloaded *list, struct unloaded_message *message) {
  (void)list;
  must(message->state == UNLOADED_WAITS);
  message->state = UNLOADED_TAKEN;
}

/* What waits again may be anywhere behind those that are gone. */
static void look_again(struct unloaded *list) {
  list->place.next = list->place.gone;
  list->age.next = list->age.gone;
}

void unloaded_put_back(struct unloaded *list, struct unloaded_message *message, bool failed) {
  must(message->state == UNLOADED_TAKEN);
  message->state = failed ? UNLOADED_FAILED : UNLOADED_WAITS;
  if (failed) {
    list->failed++;
  } else {
    look_again(list);
  }
}

void unloaded_retry(struct unloaded *list) {
  for (uint32_t i = list->place.gone; i < list->count && list->failed > 0; i++) {
    if (list->message[i].state != UNLOADED_FAILED) continue;
    list->message[i].state = UNLOADED_WAITS;
    list->failed--;
  }
  look_again(list);
}

static void free_owned(struct unloaded_message *message) {
  if (message->outcomes_count > 1) free(message->outcomes.many);
  if (message->parts != NULL) free(message->parts->place);
  free(message->parts);
  message->parts = NULL;
  message->outcomes_count = 0;
}

void unloaded_remove(struct unloaded *list, struct unloaded_message *message) {
  must(message->state != UNLOADED_GONE);
  if (message->state == UNLOADED_FAILED) list->failed--;
  if (message->untold && list->by_age != NULL) list->untold--; /* they are counted from unloaded_begin on */
  message->state = UNLOADED_GONE;
  free_owned(message);
  list->present--;
  if (list->by_age == NULL) {
    message->oldest = list->unused;
    list->unused = (uint32_t)(message - list->message) + 1;
  } else if (list->present == 0) {
    unloaded_fini(list);
  }
}

void unloaded_fini(struct unloaded *list) {
  for (uint32_t i = 0; i < list->count; i++)
    if (list->message[i].state != UNLOADED_GONE) free_owned(&list->message[i]);
  free(list->message);
  free(list->by_age);
  *list = (struct unloaded){0};
}

/* ---- of one ---- */

bool unloaded_is_envelope(const struct unloaded_message *message, struct span envelope) {
  return envelope.len == message->envelope_size && hash_of(envelope) == message->envelope_hash;
}

void unloaded_apply(const struct unloaded_message *from, struct message *message) {
  const struct unloaded_outcome *outcomes = from->outcomes_count > 1 ? from->outcomes.many : &from->outcomes.one;
  for (unsigned i = 0; i < from->outcomes_count; i++) {
    const struct unloaded_outcome *known = &outcomes[i];
    message_mark(message, known->recipient, known->marks);
    if (known->kind == RECORD_OUTCOME_INVALID) continue;
    struct record_outcome outcome = {.kind = (enum record_outcome_kind)known->kind,
                                     .id = from->id,
                                     .recipient = known->recipient,
                                     .attempts = known->attempts,
                                     .due_ms = known->due_ms};
    message_outcome(message, &outcome);
  }
}
