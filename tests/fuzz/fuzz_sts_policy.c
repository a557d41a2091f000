/* Any text is refused with a phrase, or is a policy whose own text is the same policy; each of its patterns allows a host that fits, and none one label more. */
#include "core/base/error.h"
#include "net/sts/policy.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static void allows_what_fits(const struct sts_policy *policy) {
  for (const char *pattern = NULL; (pattern = sts_policy_next(policy, pattern)) != NULL;) {
    char host[300] = "x", deep[300] = "x.y";
    bool wide = pattern[0] == '*';
    strcpy(wide ? host + 1 : host, wide ? pattern + 1 : pattern);
    must(sts_policy_allows(policy, span_of_text(host)));
    strcpy(deep + 3, wide ? pattern + 1 : "");
    must(policy->patterns > 1 || !sts_policy_allows(policy, span_of_text(deep)));
  }
}

static void writes_itself(const struct sts_policy *policy) {
  static uint8_t room[STS_POLICY_BYTES_MAX], again_room[STS_POLICY_BYTES_MAX], phrase[96];
  struct fmt out = fmt_over(room, sizeof room), second = fmt_over(again_room, sizeof again_room), why = fmt_over(phrase, sizeof phrase);
  struct sts_policy *again;
  sts_policy_write(policy, &out);
  must(!out.overflow && sts_policy_parse(&again, fmt_span(&out), &why) == E_OK);
  must(again->mode == policy->mode && again->max_age_s == policy->max_age_s && again->patterns == policy->patterns);
  sts_policy_write(again, &second);
  must(span_equal(fmt_span(&out), fmt_span(&second)));
  sts_policy_drop(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
  uint8_t phrase[96];
  char id[STS_ID_MAX + 1];
  struct fmt why = fmt_over(phrase, sizeof phrase);
  struct sts_policy *policy;
  if (sts_record_parse(span_of(bytes, len), id) == E_OK) must(id[0] != '\0' && strlen(id) <= STS_ID_MAX);
  int error = sts_policy_parse(&policy, span_of(bytes, len), &why);
  must((error == E_OK) == (why.len == 0) && !why.overflow);
  if (error != E_OK) return 0;
  unsigned patterns = 0;
  for (const char *pattern = NULL; (pattern = sts_policy_next(policy, pattern)) != NULL;) patterns++;
  must(patterns == policy->patterns && patterns <= STS_PATTERNS_MAX && policy->max_age_s <= STS_MAX_AGE_MAX_S);
  must(patterns > 0 || policy->mode == STS_MODE_NONE);
  allows_what_fits(policy);
  writes_itself(policy);
  sts_policy_drop(policy);
  return 0;
}
