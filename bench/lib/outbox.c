#include "bench/lib/outbox.h"

#include <stdlib.h>

void outbox_fini(struct outbox *outbox) {
  free(outbox->_bytes);
  *outbox = (struct outbox){0};
}

static bool grow(struct outbox *outbox, size_t needed) {
  size_t cap = outbox->_cap > 0 ? outbox->_cap : 512;
  while (cap < needed) cap *= 2;
  uint8_t *bytes = cap > OUTBOX_MAX ? NULL : realloc(outbox->_bytes, cap);
  if (bytes == NULL) return false;
  outbox->_bytes = bytes;
  outbox->_cap = cap;
  return true;
}

void outbox_put(struct outbox *outbox, struct span bytes) {
  if (outbox->_begin > 0 && bytes.len > outbox->_cap - outbox->_end) {
    memmove(outbox->_bytes, outbox->_bytes + outbox->_begin, outbox->_end - outbox->_begin);
    outbox->_end -= outbox->_begin;
    outbox->_begin = 0;
  }
  if (bytes.len > outbox->_cap - outbox->_end && !grow(outbox, outbox->_end + bytes.len)) {
    outbox->overflow = true;
    return;
  }
  if (bytes.len > 0) memcpy(outbox->_bytes + outbox->_end, bytes.at, bytes.len);
  outbox->_end += bytes.len;
}

size_t outbox_left(const struct outbox *outbox) { return outbox->_end - outbox->_begin; }

static uint64_t stream_end(const struct outbox *outbox) { return outbox->_taken + outbox_left(outbox); }

void outbox_hold(struct outbox *outbox, uint64_t until_ns) {
  if (outbox->_hold_count == OUTBOX_HOLDS) outbox->_hold_count--;
  outbox->_holds[outbox->_hold_count++] = (struct outbox_hold){stream_end(outbox), until_ns};
}

void outbox_drip(struct outbox *outbox, uint64_t every_ns) { outbox->_drip_ns = every_ns; }

struct span outbox_ready(const struct outbox *outbox, uint64_t now_ns) {
  size_t len = outbox_left(outbox);
  for (unsigned i = 0; i < outbox->_hold_count; i++) {
    if (outbox->_holds[i].until_ns <= now_ns) continue;
    size_t before = (size_t)(outbox->_holds[i].at - outbox->_taken);
    if (before < len) len = before;
    break;
  }
  if (outbox->_drip_ns > 0 && len > 0) len = outbox->_drip_next_ns <= now_ns ? 1 : 0;
  return span_of(outbox->_bytes + outbox->_begin, len);
}

/* Holds whose time has come, or whose place has passed, are of no use any more. */
static void drop_holds(struct outbox *outbox, uint64_t now_ns) {
  unsigned gone = 0;
  while (gone < outbox->_hold_count && outbox->_holds[gone].until_ns <= now_ns) gone++;
  outbox->_hold_count -= gone;
  memmove(outbox->_holds, outbox->_holds + gone, outbox->_hold_count * sizeof *outbox->_holds);
}

void outbox_take(struct outbox *outbox, size_t len, uint64_t now_ns) {
  outbox->_begin += len;
  outbox->_taken += len;
  if (outbox->_begin == outbox->_end) outbox->_begin = outbox->_end = 0;
  if (outbox->_drip_ns > 0) outbox->_drip_next_ns = now_ns + outbox->_drip_ns;
  if (outbox->_hold_count > 0) drop_holds(outbox, now_ns);
}

uint64_t outbox_next_ns(const struct outbox *outbox) {
  bool empty = outbox->_begin == outbox->_end;
  uint64_t next = empty ? UINT64_MAX : outbox->_drip_ns > 0 ? outbox->_drip_next_ns : 0;
  /* Several holds may stand at the same place: the latest counts. A passed one is dropped only when bytes are taken. */
  for (unsigned i = 0; i < outbox->_hold_count && outbox->_holds[i].at == outbox->_taken; i++) {
    if (next == UINT64_MAX || outbox->_holds[i].until_ns > next) next = outbox->_holds[i].until_ns;
  }
  return next;
}
