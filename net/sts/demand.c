#include "net/sts/demand.h"

bool demand_misses_policy(const struct sts_policy *policy, struct span host) {
  return policy != NULL && policy->mode != STS_MODE_NONE && !sts_policy_allows(policy, host);
}

/* Of the policy alone; `without` is what counts without one. */
static enum demand by_policy(const struct sts_policy *policy, struct span host, enum demand without) {
  switch (policy == NULL ? STS_MODE_NONE : policy->mode) {
  case STS_MODE_ENFORCE: return demand_misses_policy(policy, host) ? DEMAND_SKIP_HOST : DEMAND_VERIFY;
  case STS_MODE_TESTING: return without == DEMAND_ANY ? DEMAND_TRY_VERIFY : without;
  default: return without;
  }
}

enum demand demand_choose(enum dane_status dane, const struct sts_policy *policy, struct span host) {
  switch (dane) {
  case DANE_USE: return DEMAND_DANE;
  case DANE_NONE: return by_policy(policy, host, DEMAND_ANY);
  case DANE_UNUSABLE: return by_policy(policy, host, DEMAND_ENCRYPT);
  default: return DEMAND_DEFER_HOST; /* DANE_DEFER, and what is not known yet */
  }
}

const char *demand_text(enum demand demand) {
  static const char *const text[] = {"invalid", "any", "encrypt", "try-verify", "verify", "dane", "skip-host", "defer-host"};
  return (unsigned)demand < sizeof text / sizeof *text ? text[demand] : "invalid";
}
