/*
 * tally: what the sessions of some time came to, by the domain that is told of it, by policy and, of failures, by kind (RFC 8460 4.3), in bounded memory. Pure (malloc).
 *
 * Owner: one thread at a time. What has no room, for number or for bytes, is counted all the same, in a rest: a kind of failure in its policy's, all else in the tally's,
 * which nobody is told of. So nothing is lost in the sums, whatever the peers do, and a merge of parts is the whole.
 *
 *   tlsrpt_tally_success(&tally, SPAN("example.org"), policy, 1);      // an old domain: a look into the map, and an increment
 *   tlsrpt_tally_failure(&tally, SPAN("example.org"), policy, &failure, 1);
 *   tlsrpt_tally_merge(&whole, &tally);   tlsrpt_tally_clear(&tally);
 */
#ifndef NET_TLSRPT_TALLY_H
#define NET_TLSRPT_TALLY_H

#include <sys/queue.h>

#include "core/base/fmt.h"
#include "core/base/map.h"
#include "core/base/netaddr.h"
#include "net/tlsrpt/policy.h"

#define TLSRPT_HOST_MAX 255
#define TLSRPT_TEXT_MAX 255 /* of additional information and of a reason; what is longer is cut */

/* RFC 8460 4.3 */
enum tlsrpt_result {
  TLSRPT_RESULT_INVALID = 0,
  TLSRPT_STARTTLS_NOT_SUPPORTED,
  TLSRPT_CERTIFICATE_HOST_MISMATCH,
  TLSRPT_CERTIFICATE_NOT_TRUSTED,
  TLSRPT_CERTIFICATE_EXPIRED,
  TLSRPT_VALIDATION_FAILURE, /* whatever has no name of its own */
  TLSRPT_TLSA_INVALID,
  TLSRPT_DNSSEC_INVALID,
  TLSRPT_DANE_REQUIRED,
  TLSRPT_STS_POLICY_FETCH_ERROR,
  TLSRPT_STS_POLICY_INVALID,
  TLSRPT_STS_WEBPKI_INVALID,
  TLSRPT_RESULTS_END,
};

struct tlsrpt_failure {
  enum tlsrpt_result result;
  struct netaddr sending, receiving; /* ports do not count; family 0: there is none */
  struct span mx_host;               /* as in the MX set; empty: none was chosen */
  struct span info;                  /* a URI; empty: none */
  struct span reason;                /* any bytes; those that are not printable ASCII become "?". Empty: none */
};

struct tlsrpt_kind { /* of failure */
  STAILQ_ENTRY(tlsrpt_kind) _link;
  uint64_t sessions;
  enum tlsrpt_result result;
  struct netaddr sending, receiving;
  uint16_t host_len, info_len, reason_len;
  char _text[]; /* the three, clean */
};
STAILQ_HEAD(tlsrpt_kinds, tlsrpt_kind);

struct tlsrpt_applied { /* a policy of a domain */
  STAILQ_ENTRY(tlsrpt_applied) _link;
  struct tlsrpt_policy *policy; /* held; NULL: none was found */
  uint64_t successes, failures; /* sessions, all of them */
  uint64_t rest;                /* of the failures, those that are in no kind */
  unsigned kinds_count;
  struct tlsrpt_kinds kinds;
};
STAILQ_HEAD(tlsrpt_applieds, tlsrpt_applied);

struct tlsrpt_domain {
  struct tlsrpt_applieds applied;
  unsigned applied_count;
  uint8_t len;
  char name[]; /* with a NUL */
};

struct tlsrpt_limits {
  unsigned domains;
  unsigned policies; /* of a domain */
  unsigned kinds;    /* of a policy */
  size_t bytes;      /* of all, the map's cells not included; a policy that several hold counts with each */
};

struct tlsrpt_tally {
  struct tlsrpt_limits limits;
  size_t bytes;
  uint64_t rest_successes, rest_failures; /* of domains and policies that had no room */
  struct map map;                         /* of struct tlsrpt_domain, by name */
  uint64_t _seed;
};

/* No memory is taken before something is counted. */
void tlsrpt_tally_init(struct tlsrpt_tally *tally, const struct tlsrpt_limits *limits, uint64_t seed);
/* Forgets all that was counted, and gives all memory back: the end, or another beginning. */
void tlsrpt_tally_clear(struct tlsrpt_tally *tally);
bool tlsrpt_tally_is_empty(const struct tlsrpt_tally *tally);

/* `domain`: whose _smtp._tls record is asked, in lower case and A-labels; the policy is held as long as it is needed. */
void tlsrpt_tally_success(struct tlsrpt_tally *tally, struct span domain, struct tlsrpt_policy *policy, uint64_t sessions);
void tlsrpt_tally_failure(struct tlsrpt_tally *tally, struct span domain, struct tlsrpt_policy *policy, const struct tlsrpt_failure *failure,
                          uint64_t sessions);
/* Failures of which more is not known than that there were some: they go to the policy's rest. */
void tlsrpt_tally_rest(struct tlsrpt_tally *tally, struct span domain, struct tlsrpt_policy *policy, uint64_t sessions);
/* Adds what `from` has. */
void tlsrpt_tally_merge(struct tlsrpt_tally *tally, const struct tlsrpt_tally *from);

struct tlsrpt_domain *tlsrpt_tally_find(const struct tlsrpt_tally *tally, struct span domain);
/* As map_next. */
struct tlsrpt_domain *tlsrpt_tally_next(const struct tlsrpt_tally *tally, uint32_t *cursor);
void tlsrpt_tally_remove(struct tlsrpt_tally *tally, struct tlsrpt_domain *domain);

static inline struct span tlsrpt_domain_name(const struct tlsrpt_domain *domain) { return span_of(domain->name, domain->len); }
/* Borrows from the kind. */
static inline struct tlsrpt_failure tlsrpt_kind_failure(const struct tlsrpt_kind *kind) {
  return (struct tlsrpt_failure){.result = kind->result,
                                 .sending = kind->sending,
                                 .receiving = kind->receiving,
                                 .mx_host = span_of(kind->_text, kind->host_len),
                                 .info = span_of(kind->_text + kind->host_len, kind->info_len),
                                 .reason = span_of(kind->_text + kind->host_len + kind->info_len, kind->reason_len)};
}

/* "starttls-not-supported" and so on; "invalid". Never NULL. */
const char *tlsrpt_result_text(enum tlsrpt_result result);
/* TLSRPT_RESULT_INVALID: there is no such. */
enum tlsrpt_result tlsrpt_result_parse(struct span text);

#endif
