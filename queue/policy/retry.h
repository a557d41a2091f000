/*
 * retry: when to try again. Pure: time and chance are arguments.
 */
#ifndef QUEUE_POLICY_RETRY_H
#define QUEUE_POLICY_RETRY_H

#include <stdbool.h>
#include <stdint.h>

struct retry_policy {
  uint64_t initial_ms;
  double factor;
  uint64_t max_ms;     /* cap of one delay */
  uint64_t max_age_ms; /* of a message; after that it has expired */
  uint32_t jitter_ppm; /* of a delay, in millionths, to each side; at most 500000 */
};

/*
 * The delay after `attempts` failed ones: initial * factor^(attempts - 1), capped, then longer or shorter by `random`, up to the jitter, so that what failed together does not
 * come back together (also at the cap, where most deferred messages are). Never 0. `factor` is at least 1; 0 attempts count as 1. RFC 5321 4.5.4.1
 * wants 30 minutes or more in the long run.
 */
uint64_t retry_delay_ms(const struct retry_policy *policy, unsigned attempts, uint64_t random);
/*
 * The wall-clock time of the next try. *expired (and now_ms) if the message is past its age now, or has just had its last try, at the limit itself; a
 * next try beyond the limit is moved to the limit: the last thing a message gets is a try, not a wait.
 */
uint64_t retry_due_ms(const struct retry_policy *policy, uint64_t created_ms, uint64_t now_ms, unsigned attempts, uint64_t random, bool *expired);

#endif
