#include "core/base/spsc.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/error.h"

int spsc_init(struct spsc *ring, size_t item_size_bytes, uint32_t capacity) {
  if (item_size_bytes == 0 || capacity == 0 || (capacity & (capacity - 1)) != 0) return E_RANGE;
  memset(ring, 0, sizeof *ring);
  ring->_items = calloc(capacity, item_size_bytes);
  if (ring->_items == NULL) return E_NO_MEMORY;
  ring->_item_size_bytes = item_size_bytes;
  ring->_mask = capacity - 1;
  return E_OK;
}

void spsc_fini(struct spsc *ring) {
  free(ring->_items);
  ring->_items = NULL;
}

bool spsc_push(struct spsc *ring, const void *item) {
  uint32_t tail = atomic_load_explicit(&ring->_tail, memory_order_relaxed);
  if (tail - ring->_head_seen > ring->_mask) {
    ring->_head_seen = atomic_load_explicit(&ring->_head, memory_order_acquire);
    if (tail - ring->_head_seen > ring->_mask) return false;
  }
  memcpy(ring->_items + (size_t)(tail & ring->_mask) * ring->_item_size_bytes, item, ring->_item_size_bytes);
  atomic_store_explicit(&ring->_tail, tail + 1, memory_order_release);
  return true;
}

bool spsc_empty(struct spsc *ring) {
  uint32_t head = atomic_load_explicit(&ring->_head, memory_order_relaxed);
  if (head != ring->_tail_seen) return false;
  ring->_tail_seen = atomic_load_explicit(&ring->_tail, memory_order_acquire);
  return head == ring->_tail_seen;
}

bool spsc_pop(struct spsc *ring, void *item) {
  if (spsc_empty(ring)) return false;
  uint32_t head = atomic_load_explicit(&ring->_head, memory_order_relaxed);
  memcpy(item, ring->_items + (size_t)(head & ring->_mask) * ring->_item_size_bytes, ring->_item_size_bytes);
  atomic_store_explicit(&ring->_head, head + 1, memory_order_release);
  return true;
}
