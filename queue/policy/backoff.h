/*
 * backoff: how long something that failed is left alone: a site, or one of its addresses. Pure.
 *
 * The first failure costs `initial`, each further one in a row twice as much, up to `max`. One success clears it. While blocked nothing is tried; when the block
 * ends one probe may go, and its fate decides.
 */
#ifndef QUEUE_POLICY_BACKOFF_H
#define QUEUE_POLICY_BACKOFF_H

#include <stdbool.h>
#include <stdint.h>

struct backoff_policy {
  uint64_t initial_ms;
  uint64_t max_ms;
};

struct backoff {
  uint32_t failures; /* in a row */
  uint64_t until_ms; /* monotonic; 0: not blocked */
};

/* What fails while it is blocked was begun before, together with what blocked it: it counts no more. */
void backoff_failed(struct backoff *backoff, const struct backoff_policy *policy, uint64_t now_ms);
void backoff_succeeded(struct backoff *backoff);
static inline bool backoff_blocks(const struct backoff *backoff, uint64_t now_ms) { return now_ms < backoff->until_ms; }
/* Failed last time it was tried: only one try at a time, until one succeeds. */
static inline bool backoff_probing(const struct backoff *backoff) { return backoff->failures > 0; }

#endif
