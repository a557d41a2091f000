#include "queue/domain_queue.h"

#include <stddef.h>
#include <stdlib.h>

#include "core/base/error.h"
#include "queue/message.h"

#define SWEEP_COUNT 2048
#define REMEMBER_MS 600000 /* the last failure of one that is empty */

static struct span queue_key(const void *object) {
  const struct domain_queue *queue = object;
  return span_of(queue->name, queue->name_len);
}

static size_t size_of(size_t name_len) { return sizeof(struct domain_queue) + name_len + 1; }

static struct domain_queue *queue_new(struct domain_queues *queues, struct span name) {
  struct domain_queue *queue = slab_get(&queues->slab, size_of(name.len));
  if (queue == NULL) return NULL;
  *queue = (struct domain_queue){.oldest_ms = UINT64_MAX, .name_len = (uint8_t)name.len};
  if (name.len > 0) memcpy(queue->name, name.at, name.len);
  queue->name[name.len] = '\0';
  queue->prev = queues->last;
  *(queues->last != NULL ? &queues->last->next : &queues->first) = queue;
  queues->last = queue;
  return queue;
}

static void queue_free(struct domain_queues *queues, struct domain_queue *queue) {
  *(queue->prev != NULL ? &queue->prev->next : &queues->first) = queue->next;
  *(queue->next != NULL ? &queue->next->prev : &queues->last) = queue->prev;
  free(queue->site);
  texts_put(&queues->texts, queue->error);
  slab_put(&queues->slab, queue, size_of(queue->name_len));
}

void domain_queues_init(struct domain_queues *queues, uint64_t seed) {
  *queues = (struct domain_queues){.walkers = 0};
  map_init(&queues->map, queue_key, seed);
  slab_init(&queues->slab, UINT64_MAX);
  texts_init(&queues->texts, seed);
  queues->nowhere = queue_new(queues, span_of(NULL, 0));
  must(queues->nowhere != NULL);
}

void domain_queues_fini(struct domain_queues *queues) {
  while (queues->first != NULL) queue_free(queues, queues->first);
  map_fini(&queues->map);
  slab_fini(&queues->slab);
  texts_fini(&queues->texts);
}

struct domain_queue *domain_queue_find(const struct domain_queues *queues, struct span domain) {
  uint8_t room[256];
  return map_find(&queues->map, span_lower(domain, room, sizeof room));
}

struct domain_queue *domain_queue_get(struct domain_queues *queues, struct span domain) {
  uint8_t room[256];
  struct span name = span_lower(domain, room, sizeof room);
  struct domain_queue *queue = map_find(&queues->map, name);
  if (queue != NULL) return queue;
  if (name.len > UINT8_MAX || (queue = queue_new(queues, name)) == NULL) return queues->nowhere;
  if (map_insert(&queues->map, queue) == E_OK) return queue;
  queue_free(queues, queue);
  return queues->nowhere;
}

/* ---- those that wait ---- */

static struct message *message_of(struct recipient *recipient) {
  return (struct message *)((uint8_t *)(recipient - recipient->at) - offsetof(struct message, recipient));
}

static void link_last(struct domain_queue *queue, struct recipient *recipient) {
  recipient->next = NULL;
  recipient->prev = queue->last;
  *(queue->last != NULL ? &queue->last->next : &queue->first) = recipient;
  queue->last = recipient;
}

static void unlink_recipient(struct domain_queue *queue, struct recipient *recipient) {
  *(recipient->prev != NULL ? &recipient->prev->next : &queue->first) = recipient->next;
  *(recipient->next != NULL ? &recipient->next->prev : &queue->last) = recipient->prev;
  recipient->next = recipient->prev = NULL;
}

void domain_queue_add(struct domain_queue *queue, struct message *message, unsigned i) {
  link_last(queue, &message->recipient[i]);
  queue->waiting++;
  if (message->created_ms < queue->oldest_ms) queue->oldest_ms = message->created_ms;
}

void domain_queue_remove(struct domain_queue *queue, struct message *message, unsigned i) {
  must(queue->waiting > 0);
  unlink_recipient(queue, &message->recipient[i]);
  queue->waiting--;
  if (message->created_ms <= queue->oldest_ms) queue->oldest_stale = true;
  if (queue->waiting > 0) return;
  queue->oldest_ms = UINT64_MAX;
  queue->oldest_stale = false;
}

struct message *domain_queue_rotate(struct domain_queue *queue, unsigned *i) {
  struct recipient *recipient = queue->first;
  if (recipient == NULL) return NULL;
  unlink_recipient(queue, recipient);
  link_last(queue, recipient);
  *i = recipient->at;
  return message_of(recipient);
}

void domain_queue_hold(struct domain_queues *queues, struct domain_queue *queue, bool held) {
  if (queue->held == held) return;
  queue->held = held;
  queues->held += held ? 1u : 0u;
  queues->held -= held ? 0u : 1u;
}

/* ---- walks ---- */

static void walk_to(struct domain_walk *walk, struct domain_queue *queue) {
  walk->queue = queue;
  walk->left = queue != NULL && walk->enter(walk->context, queue) ? queue->waiting : 0;
}

void domain_walk_begin(struct domain_walk *walk, struct domain_queues *queues, struct domain_queue *first, bool only) {
  queues->walkers++;
  walk->queues = queues;
  walk->only = only;
  walk_to(walk, first);
}

bool domain_walk_on(struct domain_walk *walk, unsigned budget) {
  bool goes_on = true;
  for (; walk->queue != NULL && budget > 0 && goes_on; budget--) {
    unsigned i;
    struct message *message = walk->left > 0 ? domain_queue_rotate(walk->queue, &i) : NULL;
    if (message == NULL) {
      walk_to(walk, walk->only ? NULL : walk->queue->next);
      continue;
    }
    walk->left--;
    goes_on = walk->each(walk->context, message, i);
  }
  if (walk->queue != NULL) return false;
  walk->queues->walkers--;
  return true;
}

void domain_queue_note_error(struct domain_queues *queues, struct domain_queue *queue, const char *text, uint64_t wall_ms) {
  queue->error_ms = wall_ms;
  texts_set(&queues->texts, &queue->error, text);
}

/* ---- sweep ---- */

/* One without a name stands for many: the outgoing side may know it without having said so. */
static bool is_unused(struct domain_queue *queue, uint64_t now_ms) {
  bool needed = queue->waiting > 0 || queue->given > 0 || queue->held || queue->outgoing != NULL || queue->name_len == 0;
  if (needed) {
    queue->empty_ms = 0;
  } else if (queue->empty_ms == 0) {
    queue->empty_ms = now_ms;
  }
  return !needed && (queue->error == NULL || now_ms >= queue->empty_ms + REMEMBER_MS);
}

bool domain_queues_sweep(struct domain_queues *queues, uint64_t now_ms) {
  if (queues->walkers > 0) return false;
  struct domain_queue *queue = queues->swept != NULL ? queues->swept : queues->first;
  for (unsigned i = 0; i < SWEEP_COUNT && queue != NULL; i++) {
    struct domain_queue *next = queue->next;
    if (is_unused(queue, now_ms)) {
      map_remove(&queues->map, queue_key(queue));
      queue_free(queues, queue);
    }
    queue = next;
  }
  queues->swept = queue;
  return queue != NULL;
}
