/*
 * outbox: replies waiting to be sent on one connection, in order, with what may hold them back: a delay before a reply, a drip of one byte
 * at a time. Pure: the time is an argument.
 */
#ifndef BENCH_LIB_OUTBOX_H
#define BENCH_LIB_OUTBOX_H

#include "core/base/span.h"

enum {
  OUTBOX_MAX = 1 << 20, /* a peer that lets more pile up is not reading */
  OUTBOX_HOLDS = 16,
};

struct outbox_hold {
  uint64_t at; /* bytes of the stream before it */
  uint64_t until_ns;
};

struct outbox {
  uint8_t *_bytes;
  size_t _cap;
  size_t _begin;
  size_t _end;
  uint64_t _taken; /* bytes of the stream that are gone */
  uint64_t _drip_ns;
  uint64_t _drip_next_ns;
  struct outbox_hold _holds[OUTBOX_HOLDS];
  unsigned _hold_count;
  bool overflow; /* more than OUTBOX_MAX, or no memory: drop the connection */
};

/* All zeros is an empty outbox. */
void outbox_fini(struct outbox *outbox);

void outbox_put(struct outbox *outbox, struct span bytes);
/* What is put from now on waits until then. Beyond OUTBOX_HOLDS the last one is moved. */
void outbox_hold(struct outbox *outbox, uint64_t until_ns);
/* From now on one byte every so often; 0 ends it. */
void outbox_drip(struct outbox *outbox, uint64_t every_ns);

/* What may be sent now; empty if nothing. Valid until the next outbox_put. */
struct span outbox_ready(const struct outbox *outbox, uint64_t now_ns);
/* The first `len` ready bytes are on their way. */
void outbox_take(struct outbox *outbox, size_t len, uint64_t now_ns);
/* Bytes that have not gone. */
size_t outbox_left(const struct outbox *outbox);
/* When outbox_ready will have more, or a hold at the very end will be over; in the past if that is so already; UINT64_MAX if there is nothing to
 * wait for, because all has gone. */
uint64_t outbox_next_ns(const struct outbox *outbox);

#endif
