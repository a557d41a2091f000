#include "net/sts/security.h"

bool security_misses_policy(const struct sts_policy *policy, struct span host) {
  return policy != NULL && policy->mode != STS_MODE_NONE && !sts_policy_allows(policy, host);
}

/* Of the policy alone; `without` is what counts without one. */
static enum security by_policy(const struct sts_policy *policy, struct span host, enum security without) {
  switch (policy == NULL ? STS_MODE_NONE : policy->mode) {
  case STS_MODE_ENFORCE: return security_misses_policy(policy, host) ? SECURITY_SKIP_HOST : SECURITY_VERIFY;
  case STS_MODE_TESTING: return without == SECURITY_ANY ? SECURITY_TRY_VERIFY : without;
  default: return without;
  }
}

enum security security_choose(enum dane_status dane, const struct sts_policy *policy, struct span host) {
  switch (dane) {
  case DANE_USE: return SECURITY_DANE;
  case DANE_NONE: return by_policy(policy, host, SECURITY_ANY);
  case DANE_UNUSABLE: return by_policy(policy, host, SECURITY_ENCRYPT);
  default: return SECURITY_DEFER_HOST; /* DANE_DEFER, and what is not known yet */
  }
}

const char *security_text(enum security security) {
  static const char *const text[] = {"invalid", "any", "encrypt", "try-verify", "verify", "dane", "skip-host", "defer-host"};
  return (unsigned)security < sizeof text / sizeof *text ? text[security] : "invalid";
}
