/*
 * octets: where the octets are that mean something in the content of a message, as bit masks, 64 octets at a time. Pure.
 *
 * The one part of the scanner (data.h) that depends on the processor: on x86-64 AVX2 where there is, else SSE2; elsewhere plain words.
 *
 *   octets_find(&batch, span_first(rest, OCTETS_BATCH_SIZE));
 *   bit i of batch.block[b].lf: octet 64 * b + i is LF
 */
#ifndef NET_SMTP_OCTETS_H
#define NET_SMTP_OCTETS_H

#include "core/base/span.h"

#define OCTETS_BLOCK_SIZE 64
#define OCTETS_BATCH_SIZE 1024 /* 16 blocks: the masks stay in the first-level cache, the call is paid for once */

struct octets_block {
  uint64_t cr, lf, dot;
};

struct octets_batch {
  struct octets_block block[OCTETS_BATCH_SIZE / OCTETS_BLOCK_SIZE];
  bool nul;  /* one of the octets is NUL */
  bool high; /* one of them is above 127 */
};

/* Fills the blocks that `octets` (at most OCTETS_BATCH_SIZE) cover; in the last one, bits beyond the end are zero. Later blocks are left as they are. */
void octets_find(struct octets_batch *batch, struct span octets);

enum octets_way { OCTETS_PORTABLE, OCTETS_SSE2, OCTETS_AVX2 };
/* The same in one certain way, for tests to compare them. False if this machine does not have it. */
bool octets_find_in_way(struct octets_batch *batch, struct span octets, enum octets_way way);

#endif
