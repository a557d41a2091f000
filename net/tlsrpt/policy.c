#include "net/tlsrpt/policy.h"

#include <stdlib.h>

#include "core/base/error.h"
#include "core/base/fmt.h"
#include "dns/dane.h"
#include "net/sts/policy.h"

static bool are_lines(struct span text) {
  if (text.len > TLSRPT_LINES_MAX || (text.len > 0 && text.at[text.len - 1] != '\n')) return false;
  for (size_t i = 0; i < text.len; i++)
    if (text.at[i] != '\n' && (text.at[i] < ' ' || text.at[i] >= 0x7f)) return false;
  return true;
}

int tlsrpt_policy_make(struct tlsrpt_policy **policy, enum tlsrpt_policy_type type, struct span domain, struct span lines, struct span patterns) {
  bool is_type = type == TLSRPT_POLICY_STS || type == TLSRPT_POLICY_TLSA;
  if (!is_type || dns_name_check(domain) != E_OK || !are_lines(lines) || !are_lines(patterns)) return E_SYNTAX;
  struct tlsrpt_policy *made = malloc(sizeof *made + domain.len + lines.len + patterns.len);
  if (made == NULL) return E_NO_MEMORY;
  *made = (struct tlsrpt_policy){
      .type = type, ._holders = 1, ._domain_len = (uint32_t)domain.len, ._lines_len = (uint32_t)lines.len, ._patterns_len = (uint32_t)patterns.len};
  struct fmt out = fmt_over(made->_bytes, domain.len + lines.len + patterns.len);
  fmt_put(&out, domain);
  fmt_put(&out, lines);
  fmt_put(&out, patterns);
  *policy = made;
  return E_OK;
}

int tlsrpt_policy_of_sts(struct tlsrpt_policy **policy, struct span domain, const struct sts_policy *sts) {
  char lines_room[TLSRPT_LINES_MAX], patterns_room[TLSRPT_LINES_MAX];
  struct fmt lines = fmt_over(lines_room, sizeof lines_room), patterns = fmt_over(patterns_room, sizeof patterns_room);
  sts_policy_write(sts, &lines);
  for (const char *pattern = NULL; (pattern = sts_policy_next(sts, pattern)) != NULL;) {
    fmt_text(&patterns, pattern);
    fmt_char(&patterns, '\n');
  }
  must(!lines.overflow && !patterns.overflow);
  return tlsrpt_policy_make(policy, TLSRPT_POLICY_STS, domain, fmt_span(&lines), fmt_span(&patterns));
}

/* As RFC 6698 2.2 writes it: "3 1 1 0B9F...". */
static void put_record(struct fmt *out, const struct dane_record *record) {
  static const char digits[] = "0123456789ABCDEF";
  const uint8_t numbers[] = {record->usage, record->selector, record->matching};
  for (unsigned i = 0; i < sizeof numbers; i++) {
    fmt_u64(out, numbers[i]);
    fmt_char(out, ' ');
  }
  for (size_t i = 0; i < record->association.len; i++) {
    fmt_char(out, digits[record->association.at[i] >> 4]);
    fmt_char(out, digits[record->association.at[i] & 15]);
  }
  fmt_char(out, '\n');
}

int tlsrpt_policy_of_dane(struct tlsrpt_policy **policy, const struct dane *dane) {
  char room[TLSRPT_LINES_MAX];
  struct fmt lines = fmt_over(room, sizeof room);
  for (unsigned i = 0; dane->status == DANE_USE && i < dane->count; i++) put_record(&lines, &dane->record[i]);
  must(!lines.overflow); /* an answer has less: DNS_BYTES_MAX */
  return tlsrpt_policy_make(policy, TLSRPT_POLICY_TLSA, dns_name_span(&dane->base), fmt_span(&lines), span_of(NULL, 0));
}

struct tlsrpt_policy *tlsrpt_policy_hold(struct tlsrpt_policy *policy) {
  if (policy != NULL) atomic_fetch_add_explicit(&policy->_holders, 1, memory_order_relaxed);
  return policy;
}

void tlsrpt_policy_drop(struct tlsrpt_policy *policy) {
  if (policy != NULL && atomic_fetch_sub_explicit(&policy->_holders, 1, memory_order_acq_rel) == 1) free(policy);
}

bool tlsrpt_policy_equal(const struct tlsrpt_policy *a, const struct tlsrpt_policy *b) {
  if (a == b) return true;
  return a != NULL && b != NULL && a->type == b->type && span_equal(tlsrpt_policy_domain(a), tlsrpt_policy_domain(b)) &&
         span_equal(tlsrpt_policy_lines(a), tlsrpt_policy_lines(b)) && span_equal(tlsrpt_policy_patterns(a), tlsrpt_policy_patterns(b));
}

size_t tlsrpt_policy_size(const struct tlsrpt_policy *policy) {
  return policy == NULL ? 0 : sizeof *policy + policy->_domain_len + policy->_lines_len + policy->_patterns_len;
}
