#include "queue/policy/retry.h"

#include "core/base/must.h"

#define JITTER_MAX_PPM 500000 /* with more, some would come back before they have waited half the time they should */
#define STEPS_MAX 1000        /* a factor close to 1 grows no further than so many attempts: bounds the loop */

uint64_t retry_delay_ms(const struct retry_policy *policy, unsigned attempts, uint64_t random) {
  double grown = (double)policy->initial_ms, cap = (double)policy->max_ms;
  must(policy->factor >= 1.0 && policy->jitter_ppm <= JITTER_MAX_PPM);
  for (unsigned i = 1; i < attempts && i < STEPS_MAX && grown < cap; i++) grown *= policy->factor;
  uint64_t delay_ms = grown < cap ? (uint64_t)grown : policy->max_ms;
  uint64_t spread_ms = (uint64_t)((double)delay_ms * policy->jitter_ppm / 1e6);
  delay_ms = delay_ms - spread_ms + random % (2 * spread_ms + 1);
  return delay_ms > 0 ? delay_ms : 1; /* never at once: what failed has to be left alone for a moment */
}

/* A message that seems to come from the future (the clock was set back) counts as new: its end must not move out of reach. */
static uint64_t limit_ms(const struct retry_policy *policy, uint64_t created_ms, uint64_t now_ms) {
  uint64_t limit;
  if (__builtin_add_overflow(created_ms < now_ms ? created_ms : now_ms, policy->max_age_ms, &limit)) limit = UINT64_MAX;
  return limit;
}

uint64_t retry_due_ms(const struct retry_policy *policy, uint64_t created_ms, uint64_t now_ms, unsigned attempts, uint64_t random, bool *expired) {
  uint64_t limit = limit_ms(policy, created_ms, now_ms), due_ms;
  *expired = now_ms >= limit;
  if (*expired) return now_ms;
  if (__builtin_add_overflow(now_ms, retry_delay_ms(policy, attempts, random), &due_ms)) due_ms = UINT64_MAX;
  return due_ms < limit ? due_ms : limit;
}
