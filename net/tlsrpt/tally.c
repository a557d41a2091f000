#include "net/tlsrpt/tally.h"

#include <stdlib.h>

#include "core/base/error.h"

static struct span key_of(const void *object) { return tlsrpt_domain_name(object); }

/* ---- memory ---- */

/* NULL: no room, or no memory. */
static void *take(struct tlsrpt_tally *tally, size_t size, size_t with) {
  if (size + with > tally->limits.bytes - tally->bytes) return NULL;
  void *memory = malloc(size);
  if (memory != NULL) tally->bytes += size + with;
  return memory;
}

static void give_back(struct tlsrpt_tally *tally, void *memory, size_t size, size_t with) {
  must(tally->bytes >= size + with);
  tally->bytes -= size + with;
  free(memory);
}

static size_t size_of_kind(const struct tlsrpt_kind *kind) {
  return sizeof *kind + (size_t)kind->host_len + (size_t)kind->info_len + (size_t)kind->reason_len;
}

static void free_applied(struct tlsrpt_tally *tally, struct tlsrpt_applied *applied) {
  struct tlsrpt_kind *kind;
  while ((kind = STAILQ_FIRST(&applied->kinds)) != NULL) {
    STAILQ_REMOVE_HEAD(&applied->kinds, _link);
    give_back(tally, kind, size_of_kind(kind), 0);
  }
  size_t with = tlsrpt_policy_size(applied->policy);
  tlsrpt_policy_drop(applied->policy);
  give_back(tally, applied, sizeof *applied, with);
}

static void free_domain(struct tlsrpt_tally *tally, struct tlsrpt_domain *domain) {
  struct tlsrpt_applied *applied;
  while ((applied = STAILQ_FIRST(&domain->applied)) != NULL) {
    STAILQ_REMOVE_HEAD(&domain->applied, _link);
    free_applied(tally, applied);
  }
  give_back(tally, domain, sizeof *domain + domain->len + 1u, 0);
}

void tlsrpt_tally_remove(struct tlsrpt_tally *tally, struct tlsrpt_domain *domain) {
  must(map_remove(&tally->map, key_of(domain)));
  free_domain(tally, domain);
}

/* ---- life ---- */

void tlsrpt_tally_init(struct tlsrpt_tally *tally, const struct tlsrpt_limits *limits, uint64_t seed) {
  *tally = (struct tlsrpt_tally){.limits = *limits, ._seed = seed};
  map_init(&tally->map, key_of, seed);
}

void tlsrpt_tally_clear(struct tlsrpt_tally *tally) {
  struct tlsrpt_limits limits = tally->limits;
  struct tlsrpt_domain *domain;
  uint32_t cursor = 0;
  while ((domain = map_next(&tally->map, &cursor)) != NULL) free_domain(tally, domain);
  must(tally->bytes == 0);
  map_fini(&tally->map);
  tlsrpt_tally_init(tally, &limits, tally->_seed);
}

bool tlsrpt_tally_is_empty(const struct tlsrpt_tally *tally) {
  return tally->map.count == 0 && tally->rest_successes == 0 && tally->rest_failures == 0;
}

struct tlsrpt_domain *tlsrpt_tally_find(const struct tlsrpt_tally *tally, struct span domain) {
  return map_find(&tally->map, domain);
}
struct tlsrpt_domain *tlsrpt_tally_next(const struct tlsrpt_tally *tally, uint32_t *cursor) {
  return map_next(&tally->map, cursor);
}

/* ---- what is counted where ---- */

static struct tlsrpt_domain *new_domain(struct tlsrpt_tally *tally, struct span name) {
  size_t size = sizeof(struct tlsrpt_domain) + name.len + 1;
  if (tally->map.count >= tally->limits.domains || name.len == 0 || name.len > DNS_NAME_MAX) return NULL;
  struct tlsrpt_domain *domain = take(tally, size, 0);
  if (domain == NULL) return NULL;
  *domain = (struct tlsrpt_domain){.len = (uint8_t)name.len};
  STAILQ_INIT(&domain->applied);
  memcpy(domain->name, name.at, name.len);
  domain->name[name.len] = '\0';
  if (map_insert(&tally->map, domain) == E_OK) return domain;
  give_back(tally, domain, size, 0);
  return NULL;
}

static struct tlsrpt_applied *new_applied(struct tlsrpt_tally *tally, struct tlsrpt_domain *domain, struct tlsrpt_policy *policy) {
  struct tlsrpt_applied *applied = domain->applied_count < tally->limits.policies ? take(tally, sizeof *applied, tlsrpt_policy_size(policy)) : NULL;
  if (applied == NULL) return NULL;
  *applied = (struct tlsrpt_applied){.policy = tlsrpt_policy_hold(policy)};
  STAILQ_INIT(&applied->kinds);
  STAILQ_INSERT_TAIL(&domain->applied, applied, _link);
  domain->applied_count++;
  return applied;
}

/* NULL: no room. A domain that would be left without anything goes again. */
static struct tlsrpt_applied *applied_of(struct tlsrpt_tally *tally, struct span name, struct tlsrpt_policy *policy) {
  struct tlsrpt_domain *domain = map_find(&tally->map, name);
  struct tlsrpt_applied *applied;
  if (domain == NULL && (domain = new_domain(tally, name)) == NULL) return NULL;
  for (applied = STAILQ_FIRST(&domain->applied); applied != NULL; applied = STAILQ_NEXT(applied, _link)) {
    if (tlsrpt_policy_equal(applied->policy, policy)) return applied;
  }
  applied = new_applied(tally, domain, policy);
  if (applied == NULL && domain->applied_count == 0) tlsrpt_tally_remove(tally, domain);
  return applied;
}

void tlsrpt_tally_success(struct tlsrpt_tally *tally, struct span domain, struct tlsrpt_policy *policy, uint64_t sessions) {
  struct tlsrpt_applied *applied = applied_of(tally, domain, policy);
  *(applied != NULL ? &applied->successes : &tally->rest_successes) += sessions;
}

void tlsrpt_tally_rest(struct tlsrpt_tally *tally, struct span domain, struct tlsrpt_policy *policy, uint64_t sessions) {
  struct tlsrpt_applied *applied = applied_of(tally, domain, policy);
  if (applied != NULL) applied->rest += sessions;
  *(applied != NULL ? &applied->failures : &tally->rest_failures) += sessions;
}

/* ---- kinds of failures ---- */

static struct netaddr without_port(const struct netaddr *address) {
  struct netaddr bare = *address;
  bare.port = 0;
  return bare;
}

static uint16_t put_clean(struct fmt *out, struct span text, size_t max) {
  text = span_first(text, max);
  for (size_t i = 0; i < text.len; i++) fmt_char(out, text.at[i] >= ' ' && text.at[i] < 0x7f ? (char)text.at[i] : '?');
  return (uint16_t)text.len;
}

static bool is_same(const struct tlsrpt_kind *a, const struct tlsrpt_kind *b, struct span b_text) {
  return a->result == b->result && a->host_len == b->host_len && a->info_len == b->info_len && a->reason_len == b->reason_len &&
         netaddr_equal(&a->receiving, &b->receiving) && netaddr_equal(&a->sending, &b->sending) && memcmp(a->_text, b_text.at, b_text.len) == 0;
}

/* NULL: no room. */
static struct tlsrpt_kind *kind_of(struct tlsrpt_tally *tally, struct tlsrpt_applied *applied, const struct tlsrpt_failure *failure) {
  char room[TLSRPT_HOST_MAX + 2 * TLSRPT_TEXT_MAX + 1];
  struct fmt text = fmt_over(room, sizeof room);
  struct tlsrpt_kind *kind,
      wanted = {.result = failure->result, .sending = without_port(&failure->sending), .receiving = without_port(&failure->receiving)};
  wanted.host_len = put_clean(&text, failure->mx_host, TLSRPT_HOST_MAX);
  wanted.info_len = put_clean(&text, failure->info, TLSRPT_TEXT_MAX);
  wanted.reason_len = put_clean(&text, failure->reason, TLSRPT_TEXT_MAX);
  for (kind = STAILQ_FIRST(&applied->kinds); kind != NULL; kind = STAILQ_NEXT(kind, _link)) {
    if (is_same(kind, &wanted, fmt_span(&text))) return kind;
  }
  kind = applied->kinds_count < tally->limits.kinds ? take(tally, size_of_kind(&wanted), 0) : NULL;
  if (kind == NULL) return NULL;
  *kind = wanted;
  memcpy(kind->_text, text.at, text.len);
  STAILQ_INSERT_TAIL(&applied->kinds, kind, _link);
  applied->kinds_count++;
  return kind;
}

void tlsrpt_tally_failure(struct tlsrpt_tally *tally, struct span domain, struct tlsrpt_policy *policy, const struct tlsrpt_failure *failure,
                          uint64_t sessions) {
  must(failure->result > TLSRPT_RESULT_INVALID && failure->result < TLSRPT_RESULTS_END);
  struct tlsrpt_applied *applied = applied_of(tally, domain, policy);
  if (applied == NULL) {
    tally->rest_failures += sessions;
    return;
  }
  struct tlsrpt_kind *kind = kind_of(tally, applied, failure);
  applied->failures += sessions;
  *(kind != NULL ? &kind->sessions : &applied->rest) += sessions;
}

/* ---- merging ---- */

static void merge_applied(struct tlsrpt_tally *tally, struct span name, const struct tlsrpt_applied *applied) {
  const struct tlsrpt_kind *kind;
  if (applied->successes > 0) tlsrpt_tally_success(tally, name, applied->policy, applied->successes);
  if (applied->rest > 0) tlsrpt_tally_rest(tally, name, applied->policy, applied->rest);
  for (kind = STAILQ_FIRST(&applied->kinds); kind != NULL; kind = STAILQ_NEXT(kind, _link)) {
    struct tlsrpt_failure failure = tlsrpt_kind_failure(kind);
    tlsrpt_tally_failure(tally, name, applied->policy, &failure, kind->sessions);
  }
}

void tlsrpt_tally_merge(struct tlsrpt_tally *tally, const struct tlsrpt_tally *from) {
  const struct tlsrpt_domain *domain;
  const struct tlsrpt_applied *applied;
  for (uint32_t cursor = 0; (domain = tlsrpt_tally_next(from, &cursor)) != NULL;) {
    for (applied = STAILQ_FIRST(&domain->applied); applied != NULL; applied = STAILQ_NEXT(applied, _link))
      merge_applied(tally, tlsrpt_domain_name(domain), applied);
  }
  tally->rest_successes += from->rest_successes;
  tally->rest_failures += from->rest_failures;
}

/* ---- words ---- */

static const char *const results[] = {
    [TLSRPT_RESULT_INVALID] = "invalid",
    [TLSRPT_STARTTLS_NOT_SUPPORTED] = "starttls-not-supported",
    [TLSRPT_CERTIFICATE_HOST_MISMATCH] = "certificate-host-mismatch",
    [TLSRPT_CERTIFICATE_NOT_TRUSTED] = "certificate-not-trusted",
    [TLSRPT_CERTIFICATE_EXPIRED] = "certificate-expired",
    [TLSRPT_VALIDATION_FAILURE] = "validation-failure",
    [TLSRPT_TLSA_INVALID] = "tlsa-invalid",
    [TLSRPT_DNSSEC_INVALID] = "dnssec-invalid",
    [TLSRPT_DANE_REQUIRED] = "dane-required",
    [TLSRPT_STS_POLICY_FETCH_ERROR] = "sts-policy-fetch-error",
    [TLSRPT_STS_POLICY_INVALID] = "sts-policy-invalid",
    [TLSRPT_STS_WEBPKI_INVALID] = "sts-webpki-invalid",
};

const char *tlsrpt_result_text(enum tlsrpt_result result) {
  return (unsigned)result < TLSRPT_RESULTS_END ? results[result] : results[TLSRPT_RESULT_INVALID];
}

enum tlsrpt_result tlsrpt_result_parse(struct span text) {
  for (unsigned i = TLSRPT_RESULT_INVALID + 1; i < TLSRPT_RESULTS_END; i++)
    if (span_equal(text, span_of_text(results[i]))) return (enum tlsrpt_result)i;
  return TLSRPT_RESULT_INVALID;
}
