#include "net/out/proof.h"

#include <stdlib.h>

_Static_assert(sizeof(struct tls_tlsa) == sizeof(struct dane_record) &&
                   offsetof(struct tls_tlsa, association) == offsetof(struct dane_record, association),
               "both are what RFC 6698 2.1 says");

/* ---- results ---- */

const char *proof_result_text(enum proof_result result) {
  static const char *const text[] = {[PROOF_NO_STARTTLS] = "starttls-not-supported", [PROOF_OTHER_HOST] = "certificate-host-mismatch",
                                     [PROOF_EXPIRED] = "certificate-expired",        [PROOF_UNTRUSTED] = "certificate-not-trusted",
                                     [PROOF_FAILED] = "validation-failure",          [PROOF_TLSA_FAILED] = "dnssec-invalid"};
  return (unsigned)result < sizeof text / sizeof *text ? text[result] : NULL;
}

enum proof_result proof_result_of(const struct tls_trust *trust) {
  if (trust->by != TLS_UNTRUSTED) return PROOF_FINE;
  switch (trust->fault) {
  case TLS_FAULT_NAME: return PROOF_OTHER_HOST;
  case TLS_FAULT_DATE: return PROOF_EXPIRED;
  case TLS_FAULT_TRUST: return PROOF_UNTRUSTED;
  default: return PROOF_FAILED;
  }
}

/* ---- proofs ---- */

static size_t bytes_of(const struct dane *dane) {
  size_t bytes = dane->count * sizeof(struct tls_tlsa);
  for (unsigned i = 0; i < dane->count; i++) bytes += dane->record[i].association.len;
  return bytes;
}

static int compare_numbers(size_t a, size_t b) { return a < b ? -1 : a > b; }

static int compare(const void *one, const void *other) {
  const struct tls_tlsa *a = one, *b = other;
  int order = compare_numbers(a->usage, b->usage);
  if (order == 0) order = compare_numbers(a->selector, b->selector);
  if (order == 0) order = compare_numbers(a->matching, b->matching);
  if (order == 0) order = compare_numbers(a->association.len, b->association.len);
  return order != 0 || a->association.len == 0 ? order : memcmp(a->association.at, b->association.at, a->association.len);
}

/* Servers give them in any order, which must not make them others. */
static bool copy_records(struct proof *proof, const struct dane *dane) {
  must(dane->count > 0);
  proof->tlsa = malloc(bytes_of(dane));
  if (proof->tlsa == NULL) return false;
  uint8_t *at = (uint8_t *)(proof->tlsa + dane->count);
  for (unsigned i = 0; i < dane->count; i++) {
    const struct dane_record *record = &dane->record[i];
    proof->tlsa[i] = (struct tls_tlsa){record->usage, record->selector, record->matching, span_of(at, record->association.len)};
    memcpy(at, record->association.at, record->association.len);
    at += record->association.len;
  }
  proof->count = dane->count;
  qsort(proof->tlsa, proof->count, sizeof *proof->tlsa, compare);
  return true;
}

static void add_name(struct proof *proof, struct span name) {
  char *to = proof->name[proof->names++];
  must(name.len <= DNS_NAME_MAX);
  memcpy(to, name.at, name.len);
  to[name.len] = '\0';
}

bool proof_is_own(const struct proof *proof) { return proof != NULL && (proof->names > 1 || proof->demand == DEMAND_TRY_VERIFY); }

static bool has_authority(const struct dane *dane) {
  for (unsigned i = 0; i < dane->count; i++)
    if (dane->record[i].usage == 2) return true;
  return false;
}

/* What is below an authority of usage 2 names the TLSA base domain or the domain itself (RFC 7672 3.2.2). */
struct proof *proof_new(enum demand demand, struct span host, struct span next_hop, const struct dane *dane) {
  struct proof *proof = calloc(1, sizeof *proof);
  must(demand < DEMAND_SKIP_HOST);
  if (proof == NULL) return NULL;
  proof->demand = demand;
  proof->_holders = 1;
  add_name(proof, demand == DEMAND_DANE ? dns_name_span(&dane->base) : host);
  if (demand != DEMAND_DANE) return proof;
  if (has_authority(dane)) add_name(proof, next_hop);
  if (copy_records(proof, dane)) return proof;
  proof_drop(proof);
  return NULL;
}

struct proof *proof_hold(struct proof *proof) {
  if (proof != NULL) proof->_holders++;
  return proof;
}

void proof_drop(struct proof *proof) {
  if (proof == NULL || --proof->_holders > 0) return;
  free(proof->tlsa);
  free(proof);
}

bool proof_same(const struct proof *a, const struct proof *b) {
  if (a == NULL || b == NULL) return a == b;
  bool same = a->demand == b->demand && a->misses_policy == b->misses_policy && a->names == b->names && a->count == b->count;
  for (unsigned i = 0; same && i < a->names; i++) same = strcmp(a->name[i], b->name[i]) == 0;
  for (unsigned i = 0; same && i < a->count; i++) same = compare(&a->tlsa[i], &b->tlsa[i]) == 0;
  return same;
}

const char *proof_policy_text(const struct proof *proof) {
  switch (proof == NULL ? DEMAND_ANY : proof->demand) {
  case DEMAND_DANE:
  case DEMAND_ENCRYPT: return "tlsa";
  case DEMAND_VERIFY:
  case DEMAND_TRY_VERIFY: return proof->by_policy ? "sts" : NULL;
  default: return NULL;
  }
}
