#include "core/shard/mailbox.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/canary.h"
#include "core/base/error.h"
#include "core/base/spsc.h"
#include "core/shard/shard.h"

struct overflow {
  struct letter *letters;
  unsigned count, capacity;
};

struct pair { /* from one shard to another */
  struct spsc ring;
  struct overflow overflow; /* of the sender */
  bool posted;              /* the sender put something in since its last flush */
};

struct place {
  _Alignas(64) _Atomic bool sleeps;
  struct shard *shard;
  unsigned next_from; /* where mailbox_take goes on, so that no sender is starved */
};

struct shard_group {
  unsigned count;
  _Atomic unsigned done;
  struct place *places;
  struct pair *pairs; /* [from * count + to] */
};

int shard_group_open(struct shard_group **out, unsigned count) {
  struct shard_group *group = calloc(1, sizeof *group);
  if (group == NULL) return E_NO_MEMORY;
  group->count = count;
  group->places = aligned_alloc(64, count * sizeof *group->places);
  group->pairs = aligned_alloc(64, (size_t)count * count * sizeof *group->pairs);
  if (group->places == NULL || group->pairs == NULL) {
    free(group->places);
    free(group->pairs);
    free(group);
    return E_NO_MEMORY;
  }
  memset(group->places, 0, count * sizeof *group->places);
  memset(group->pairs, 0, (size_t)count * count * sizeof *group->pairs);
  for (unsigned i = 0; i < count * count; i++) {
    if (spsc_init(&group->pairs[i].ring, sizeof(struct letter), MAILBOX_CAPACITY) != E_OK) {
      shard_group_close(group);
      return E_NO_MEMORY;
    }
  }
  *out = group;
  return E_OK;
}

void shard_group_close(struct shard_group *group) {
  if (group == NULL) return;
  for (unsigned i = 0; i < group->count * group->count; i++) {
    spsc_fini(&group->pairs[i].ring);
    free(group->pairs[i].overflow.letters);
  }
  free(group->places);
  free(group->pairs);
  free(group);
}

unsigned shard_group_count(const struct shard_group *group) { return group->count; }

void shard_group_join(struct shard_group *group, struct shard *shard) { group->places[shard->index].shard = shard; }

static struct pair *pair_of(const struct shard_group *group, unsigned from, unsigned to) { return &group->pairs[from * group->count + to]; }

static void keep(struct overflow *overflow, struct letter letter) {
  if (overflow->count == overflow->capacity) {
    unsigned capacity = overflow->capacity == 0 ? 256 : overflow->capacity * 2;
    struct letter *grown = realloc(overflow->letters, capacity * sizeof *grown);
    must(grown != NULL);
    overflow->letters = grown;
    overflow->capacity = capacity;
  }
  overflow->letters[overflow->count++] = letter;
}

void shard_post(struct shard *from, unsigned to, struct letter letter) {
  must(to < from->group->count);
  struct pair *pair = pair_of(from->group, from->index, to);
  pair->posted = true;
  if (pair->overflow.count > 0 || !spsc_push(&pair->ring, &letter)) keep(&pair->overflow, letter);
}

static void push_overflow(struct pair *pair) {
  unsigned sent = 0;
  while (sent < pair->overflow.count && spsc_push(&pair->ring, &pair->overflow.letters[sent])) sent++;
  memmove(pair->overflow.letters, pair->overflow.letters + sent, (pair->overflow.count - sent) * sizeof(struct letter));
  pair->overflow.count -= sent;
}

void mailbox_flush(struct shard *shard) {
  struct shard_group *group = shard->group;
  for (unsigned to = 0; to < group->count; to++) {
    struct pair *pair = pair_of(group, shard->index, to);
    if (!pair->posted) continue;
    if (pair->overflow.count > 0) push_overflow(pair);
    pair->posted = pair->overflow.count > 0;   /* then try again next turn: the receiver is awake, its ring is full */
    atomic_thread_fence(memory_order_seq_cst); /* the push before the look, against the same pair in mailbox_may_sleep */
    struct place *place = &group->places[to];
    if (atomic_load_explicit(&place->sleeps, memory_order_relaxed) && atomic_exchange_explicit(&place->sleeps, false, memory_order_acq_rel))
      if (!canary(CANARY_LOST_WAKEUP)) io_notify(shard->io, place->shard->io);
  }
}

bool mailbox_clear(struct shard *shard) {
  struct shard_group *group = shard->group;
  for (unsigned peer = 0; peer < group->count; peer++)
    if (!spsc_empty(&pair_of(group, peer, shard->index)->ring) || pair_of(group, shard->index, peer)->overflow.count > 0) return false;
  return true;
}

bool shard_group_done(struct shard *shard) {
  struct shard_group *group = shard->group;
  if (!shard->_done && mailbox_clear(shard)) {
    shard->_done = true;
    atomic_fetch_add_explicit(&group->done, 1, memory_order_acq_rel);
  }
  return atomic_load_explicit(&group->done, memory_order_acquire) == group->count;
}

bool mailbox_take(struct shard *shard, unsigned budget) {
  struct shard_group *group = shard->group;
  struct place *place = &group->places[shard->index];
  for (unsigned i = 0; i < group->count; i++) {
    unsigned from = (place->next_from + i) % group->count;
    struct spsc *ring = &pair_of(group, from, shard->index)->ring;
    struct letter letter;
    while (budget > 0 && spsc_pop(ring, &letter)) {
      budget--;
      shard->on_letter(shard->context, from, &letter);
    }
    if (budget == 0) {
      place->next_from = from + 1;
      return true;
    }
  }
  return false;
}

bool mailbox_may_sleep(struct shard *shard) {
  struct shard_group *group = shard->group;
  struct place *place = &group->places[shard->index];
  atomic_store_explicit(&place->sleeps, true, memory_order_relaxed);
  atomic_thread_fence(memory_order_seq_cst);
  for (unsigned peer = 0; peer < group->count; peer++) {
    bool waiting = !spsc_empty(&pair_of(group, peer, shard->index)->ring) || pair_of(group, shard->index, peer)->posted;
    if (!waiting) continue;
    mailbox_awake(shard);
    return false;
  }
  return true;
}

void mailbox_awake(struct shard *shard) { atomic_store_explicit(&shard->group->places[shard->index].sleeps, false, memory_order_relaxed); }
