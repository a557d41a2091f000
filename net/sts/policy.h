/*
 * policy: MTA-STS policies and the TXT records that announce them (RFC 8461 section 3), as text and as what they mean. Pure (malloc for a policy).
 *
 * A policy never changes once it is there and is counted, so threads may share it: sts_policy_hold, sts_policy_drop.
 *
 *   if (sts_policy_parse(&policy, text, &why) == E_OK) allowed = sts_policy_allows(policy, SPAN("mx1.example.net"));
 */
#ifndef NET_STS_POLICY_H
#define NET_STS_POLICY_H

#include <stdatomic.h>

#include "core/base/fmt.h"
#include "core/base/must.h"
#include "core/base/span.h"

#define STS_POLICY_BYTES_MAX 65536  /* RFC 8461 3.3 suggests this limit */
#define STS_PATTERNS_MAX 64         /* a policy with more is refused */
#define STS_MAX_AGE_MAX_S 31557600u /* 3.2: a year; more counts as this */
#define STS_ID_MAX 32               /* 3.1 */

enum sts_mode { STS_MODE_INVALID = 0, STS_MODE_NONE, STS_MODE_TESTING, STS_MODE_ENFORCE };

/* Why there is no (newer) policy, though one is announced. */
enum sts_trouble { STS_FINE = 0, STS_NOT_FETCHED, STS_NOT_TRUSTED, STS_NOT_VALID };
/* By the words of RFC 8460 section 4.3: "sts-policy-fetch-error", "sts-webpki-invalid", "sts-policy-invalid"; NULL: fine. */
const char *sts_trouble_text(enum sts_trouble trouble);

struct sts_policy {
  enum sts_mode mode;
  uint32_t max_age_s;
  unsigned patterns; /* 0 only with STS_MODE_NONE */
  /* private */
  _Atomic unsigned _holders;
  uint32_t _len;
  char _pattern[]; /* lower case, each with a NUL behind: "mx.example.net", "*.example.net" */
};

/* The text of /.well-known/mta-sts.txt. Lines end in LF or CRLF; of fields given twice the first counts; unknown fields are passed over. E_SYNTAX, with a phrase in `why`
 * (room for 96 bytes); E_NO_MEMORY. The policy is the caller's to drop. */
must_check int sts_policy_parse(struct sts_policy **policy, struct span text, struct fmt *why);
/* A text that parses to the same policy; at most STS_POLICY_BYTES_MAX bytes. */
void sts_policy_write(const struct sts_policy *policy, struct fmt *out);
/* May mail for the domain go to this host (lower case)? "*." stands for exactly one label (4.1). */
bool sts_policy_allows(const struct sts_policy *policy, struct span host);
/* One after the other, beginning with NULL; NULL: no more. */
const char *sts_policy_next(const struct sts_policy *policy, const char *pattern);

struct sts_policy *sts_policy_hold(struct sts_policy *policy);
/* NULL is fine. */
void sts_policy_drop(struct sts_policy *policy);

/* "none", "testing", "enforce". Never NULL. */
const char *sts_mode_text(enum sts_mode mode);

/* The TXT record of _mta-sts.DOMAIN: its id. E_NOT_FOUND: it is a record of something else; E_SYNTAX. */
must_check int sts_record_parse(struct span text, char id[STS_ID_MAX + 1]);

struct dns_answer;
/* From all TXT records there are. False: no policy is announced; so also if two records say they do (3.1). */
bool sts_announced(const struct dns_answer *answer, char id[STS_ID_MAX + 1]);

#endif
