#include "net/tlsrpt/sender.h"

#include <stdlib.h>
#include <xxhash.h>

#include "core/base/error.h"

void tlsrpt_sender_init(struct tlsrpt_sender *sender, const struct tlsrpt_sender_options *options, uint64_t seed) {
  *sender = (struct tlsrpt_sender){.o = *options, .next_ms = UINT64_MAX, ._seed = seed};
  TAILQ_INIT(&sender->days);
  TAILQ_INIT(&sender->dues);
}

void tlsrpt_sender_fini(struct tlsrpt_sender *sender) {
  for (struct tlsrpt_due *due = TAILQ_FIRST(&sender->dues), *next; due != NULL; due = next) {
    next = TAILQ_NEXT(due, _link);
    tlsrpt_sender_done(sender, due);
  }
  must(sender->days_count == 0);
}

/* ---- days ---- */

struct tlsrpt_day *tlsrpt_sender_add_day(struct tlsrpt_sender *sender, uint64_t number, struct tlsrpt_tally *tally) {
  struct tlsrpt_limits limits = tally->limits;
  struct tlsrpt_day *day = sender->days_count < TLSRPT_DAYS_MAX ? malloc(sizeof *day) : NULL;
  if (day == NULL) {
    tlsrpt_tally_clear(tally);
    return NULL;
  }
  *day = (struct tlsrpt_day){.number = number, .tally = *tally};
  tlsrpt_tally_init(tally, &limits, tally->_seed);
  TAILQ_INSERT_TAIL(&sender->days, day, _link);
  sender->days_count++;
  return day;
}

void tlsrpt_sender_tidy(struct tlsrpt_sender *sender, struct tlsrpt_day *day) {
  if (day->tally.map.count > 0) return;
  TAILQ_REMOVE(&sender->days, day, _link);
  sender->days_count--;
  tlsrpt_tally_clear(&day->tally);
  free(day);
}

int tlsrpt_sender_add(struct tlsrpt_sender *sender, uint64_t number, struct tlsrpt_tally *tally, uint64_t now_ms) {
  bool full = sender->days_count == TLSRPT_DAYS_MAX;
  struct tlsrpt_day *day = tlsrpt_sender_add_day(sender, number, tally);
  struct tlsrpt_domain *domain;
  if (day == NULL) return full ? E_FULL : E_NO_MEMORY;
  for (uint32_t cursor = 0; (domain = tlsrpt_tally_next(&day->tally, &cursor)) != NULL;) {
    if (tlsrpt_sender_plan(sender, day, domain, now_ms) != NULL) continue;
    tlsrpt_tally_remove(&day->tally, domain);
    cursor = 0;
  }
  tlsrpt_sender_tidy(sender, day);
  return E_OK;
}

/* ---- reports ---- */

static void wake_at(struct tlsrpt_sender *sender, uint64_t ms) {
  if (ms < sender->next_ms) sender->next_ms = ms;
}

/* The same for a domain and a seed, another for each `number`. */
static uint64_t chance(const struct tlsrpt_sender *sender, const struct tlsrpt_due *due, unsigned number) {
  return XXH3_64bits_withSeed(due->domain->name, due->domain->len, sender->_seed + due->day->number * 16 + number);
}

struct tlsrpt_due *tlsrpt_sender_plan(struct tlsrpt_sender *sender, struct tlsrpt_day *day, struct tlsrpt_domain *domain, uint64_t now_ms) {
  struct tlsrpt_due *due = malloc(sizeof *due);
  if (due == NULL) return NULL;
  *due = (struct tlsrpt_due){.day = day, .domain = domain};
  due->id = chance(sender, due, 0);
  due->due_ms = now_ms + chance(sender, due, 1) % (sender->o.spread_ms + 1);
  due->until_ms = due->due_ms + sender->o.patience_ms;
  TAILQ_INSERT_TAIL(&sender->dues, due, _link);
  sender->dues_count++;
  wake_at(sender, due->due_ms);
  return due;
}

struct tlsrpt_due *tlsrpt_sender_take(struct tlsrpt_sender *sender, uint64_t now_ms) {
  struct tlsrpt_due *due;
  if (now_ms < sender->next_ms) return NULL;
  uint64_t next_ms = UINT64_MAX;
  for (due = TAILQ_FIRST(&sender->dues); due != NULL; due = TAILQ_NEXT(due, _link)) {
    if (due->taken) continue;
    if (due->due_ms <= now_ms) {
      due->taken = true;
      return due;
    }
    if (due->due_ms < next_ms) next_ms = due->due_ms;
  }
  sender->next_ms = next_ms;
  return NULL;
}

int tlsrpt_due_set_uris(struct tlsrpt_due *due, const struct tlsrpt_uri *uris, unsigned count) {
  must(!due->asked && count > 0);
  due->uris = malloc(count * sizeof *uris);
  if (due->uris == NULL) return E_NO_MEMORY;
  memcpy(due->uris, uris, count * sizeof *uris);
  due->uris_count = count;
  due->asked = true;
  return E_OK;
}

void tlsrpt_due_served(struct tlsrpt_due *due, unsigned uri) {
  must(uri < due->uris_count);
  due->uris[uri] = due->uris[--due->uris_count];
}

bool tlsrpt_sender_later(struct tlsrpt_sender *sender, struct tlsrpt_due *due, uint64_t now_ms) {
  must(due->taken);
  uint64_t wait_ms = sender->o.retry_ms << (due->tries < 10 ? due->tries : 10);
  due->tries++;
  due->taken = false;
  due->due_ms = now_ms + wait_ms;
  if (due->due_ms > due->until_ms) return false;
  wake_at(sender, due->due_ms);
  return true;
}

void tlsrpt_sender_done(struct tlsrpt_sender *sender, struct tlsrpt_due *due) {
  struct tlsrpt_day *day = due->day;
  TAILQ_REMOVE(&sender->dues, due, _link);
  sender->dues_count--;
  tlsrpt_tally_remove(&day->tally, due->domain);
  free(due->uris);
  free(due);
  tlsrpt_sender_tidy(sender, day);
}
