#include "queue/policy/backoff.h"

void backoff_failed(struct backoff *backoff, const struct backoff_policy *policy, uint64_t now_ms) {
  if (backoff_blocks(backoff, now_ms)) return;
  uint64_t delay_ms = policy->initial_ms;
  for (uint32_t i = 0; i < backoff->failures && delay_ms < policy->max_ms; i++) delay_ms *= 2;
  if (delay_ms > policy->max_ms) delay_ms = policy->max_ms;
  if (backoff->failures < UINT32_MAX) backoff->failures++;
  backoff->until_ms = now_ms + delay_ms;
}

void backoff_succeeded(struct backoff *backoff) { *backoff = (struct backoff){0}; }
