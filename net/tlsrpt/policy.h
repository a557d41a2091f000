/*
 * policy: what a domain had said of its TLS when mail went there, as reports show it (RFC 8460 4.4): type, domain, the policy's own lines, its patterns of MX hosts. Pure
 * (malloc).
 *
 * A policy never changes once it is there and is counted, so threads may share it: make it when it is found out how a host is to be talked to, hold it as long as that
 * counts. No policy at all ("no-policy-found") is NULL.
 *
 *   if (tlsrpt_policy_of_sts(&policy, domain, sts) == E_OK) ... tlsrpt_policy_drop(policy);
 */
#ifndef NET_TLSRPT_POLICY_H
#define NET_TLSRPT_POLICY_H

#include <stdatomic.h>

#include "core/base/must.h"
#include "core/base/span.h"
#include "dns/name.h"

#define TLSRPT_LINES_MAX 20480 /* bytes of lines, and of patterns, with line ends: what an MTA-STS policy or the TLSA records of an answer can have */

enum tlsrpt_policy_type { TLSRPT_POLICY_INVALID = 0, TLSRPT_POLICY_STS, TLSRPT_POLICY_TLSA };

struct tlsrpt_policy {
  enum tlsrpt_policy_type type;
  /* private */
  _Atomic unsigned _holders;
  uint32_t _domain_len, _lines_len, _patterns_len;
  char _bytes[]; /* domain, lines, patterns */
};

/* `domain`: the recipients', or that of the smart host. E_NO_MEMORY; E_SYNTAX: it is no domain. The policy is the caller's to drop. */
struct sts_policy;
must_check int tlsrpt_policy_of_sts(struct tlsrpt_policy **policy, struct span domain, const struct sts_policy *sts);
/* Of DANE_USE and DANE_UNUSABLE; the domain is the TLSA base domain (RFC 8460 1.1). E_NO_MEMORY. */
struct dane;
must_check int tlsrpt_policy_of_dane(struct tlsrpt_policy **policy, const struct dane *dane);
/* From its pieces: printable lines that end in LF. E_NO_MEMORY; E_SYNTAX: it could not be one. */
must_check int tlsrpt_policy_make(struct tlsrpt_policy **policy, enum tlsrpt_policy_type type, struct span domain, struct span lines,
                                  struct span patterns);

struct tlsrpt_policy *tlsrpt_policy_hold(struct tlsrpt_policy *policy);
/* NULL is fine. */
void tlsrpt_policy_drop(struct tlsrpt_policy *policy);

/* Do they say the same? Either may be NULL. */
bool tlsrpt_policy_equal(const struct tlsrpt_policy *a, const struct tlsrpt_policy *b);
/* Bytes of memory. NULL: 0. */
size_t tlsrpt_policy_size(const struct tlsrpt_policy *policy);

static inline struct span tlsrpt_policy_domain(const struct tlsrpt_policy *policy) { return span_of(policy->_bytes, policy->_domain_len); }
/* Each ends in LF. */
static inline struct span tlsrpt_policy_lines(const struct tlsrpt_policy *policy) {
  return span_of(policy->_bytes + policy->_domain_len, policy->_lines_len);
}
static inline struct span tlsrpt_policy_patterns(const struct tlsrpt_policy *policy) {
  return span_of(policy->_bytes + policy->_domain_len + policy->_lines_len, policy->_patterns_len);
}

#endif
