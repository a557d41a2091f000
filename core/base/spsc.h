/*
 * spsc: a bounded single-producer single-consumer ring of fixed-size items between two threads, without locks.
 *
 * The producer alone calls spsc_push, the consumer alone spsc_pop. Each side keeps a copy of the other's index and looks at
 * the shared one only when its copy says full or empty; the two sides sit on cache lines of their own.
 */
#ifndef CORE_BASE_SPSC_H
#define CORE_BASE_SPSC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/must.h"

struct spsc {
  _Alignas(64) _Atomic uint32_t _tail; /* written by the producer */
  uint32_t _head_seen;
  _Alignas(64) _Atomic uint32_t _head; /* written by the consumer */
  uint32_t _tail_seen;
  _Alignas(64) uint8_t *_items;
  size_t _item_size_bytes;
  uint32_t _mask;
};

/* E_RANGE unless capacity is a power of two and items have a size; E_NO_MEMORY. */
must_check int spsc_init(struct spsc *ring, size_t item_size_bytes, uint32_t capacity);
void spsc_fini(struct spsc *ring);

/* Copies the item in; false if the ring is full. The item is seen by the consumer together with all the producer wrote before. */
bool spsc_push(struct spsc *ring, const void *item);
/* Copies the oldest item out; false if there is none. */
bool spsc_pop(struct spsc *ring, void *item);
/* For the consumer: is there nothing to pop? */
bool spsc_empty(struct spsc *ring);

#endif
