#include "dns/lookup.h"

#include <stdlib.h>

#include "core/base/error.h"

struct lookup *lookup_new(struct span domain) {
  struct lookup *lookup = calloc(1, sizeof *lookup);
  if (lookup == NULL) return NULL;
  dns_key_make(&lookup->key, LOOKUP_KEY, domain);
  lookup->set.secure = true;
  lookup->set.ttl_s = DNS_TTL_MAX_S;
  lookup->mx = (struct lookup_need){.lookup = lookup, .type = DNS_MX};
  lookup->pending = 1;
  TAILQ_INIT(&lookup->callers);
  return lookup;
}

void lookup_free(struct lookup *lookup) {
  mx_set_clear(&lookup->set);
  free(lookup->needs);
  free(lookup->_found);
  free(lookup);
}

struct span lookup_need_name(const struct lookup_need *need) {
  if (need->type == DNS_MX) return lookup_domain(need->lookup);
  const struct mx_host *host = &need->lookup->set.host[need->host];
  return span_of(host->name, host->name_len);
}

/* What every answer adds to the set, whatever it is about. */
static void note(struct lookup *lookup, const struct dns_answer *answer, uint16_t type) {
  struct mx_set *set = &lookup->set;
  must(lookup->pending > 0);
  lookup->pending--;
  set->secure = set->secure && answer->secure;
  if (answer->outcome != DNS_FAILED) {
    if (answer->ttl_s < set->ttl_s) set->ttl_s = answer->ttl_s;
    return;
  }
  lookup->_failed = true;
  lookup->_failed_type = type;
  lookup->_failed_rcode = answer->rcode;
  lookup->silent = lookup->silent || answer->silent;
}

/* ---- MX ---- */

static void out_of_memory(struct lookup *lookup) {
  mx_set_fail(&lookup->set, MX_TEMPORARY, "out of memory");
  lookup->set.ttl_s = 0;
}

static void need_addresses(struct lookup *lookup, bool ipv6) {
  static const uint16_t types[] = {DNS_A, DNS_AAAA};
  unsigned types_count = ipv6 ? 2 : 1;
  unsigned hosts = lookup->set.hosts;
  lookup->needs = calloc((size_t)hosts * types_count, sizeof *lookup->needs);
  lookup->_found = calloc(hosts, sizeof *lookup->_found);
  if (lookup->needs == NULL || lookup->_found == NULL) {
    out_of_memory(lookup);
    return;
  }
  for (unsigned i = 0; i < hosts * types_count; i++)
    lookup->needs[i] = (struct lookup_need){.lookup = lookup, .type = types[i % types_count], .host = (uint16_t)(i / types_count)};
  lookup->needs_count = lookup->pending = hosts * types_count;
}

static void fail_temporarily(struct lookup *lookup) {
  struct span domain = lookup_domain(lookup);
  int len = domain.len < 40 ? (int)domain.len : 40;
  if (lookup->silent) {
    mx_set_fail(&lookup->set, MX_TEMPORARY, "no name server replied about %.*s", len, (const char *)domain.at);
  } else {
    mx_set_fail(&lookup->set, MX_TEMPORARY, "name server failure (%s) for %s of %.*s", dns_rcode_text(lookup->_failed_rcode),
                dns_type_text(lookup->_failed_type), len, (const char *)domain.at);
  }
  lookup->set.ttl_s = LOOKUP_FAILURE_TTL_S;
}

void lookup_take_mx(struct lookup *lookup, const struct dns_answer *answer, struct span self, bool ipv6, uint64_t random) {
  struct mx_set *set = &lookup->set;
  bool done = true;
  note(lookup, answer, DNS_MX);
  set->mx_secure = answer->secure;
  switch (answer->outcome) {
  case DNS_FOUND: done = mx_set_records(set, answer, self, random); break;
  case DNS_NO_DATA: done = mx_set_implicit(set, lookup_domain(lookup), self); break; /* RFC 5321 5.1 */
  case DNS_NO_NAME: mx_set_fail(set, MX_NO_DOMAIN, "the domain does not exist"); break;
  default: fail_temporarily(lookup); break;
  }
  if (!done) {
    out_of_memory(lookup);
  } else if (set->status == MX_OK) {
    need_addresses(lookup, ipv6);
  }
}

/* ---- addresses ---- */

static uint8_t copy_addresses(struct netaddr *to, const struct dns_answer *answer) {
  unsigned count = answer->count < MX_ADDRESSES_MAX ? answer->count : MX_ADDRESSES_MAX;
  memcpy(to, answer->address, count * sizeof *to);
  return (uint8_t)count;
}

static void set_canonical(struct mx_host *host, const struct dns_name *canonical) {
  memcpy(host->canonical, canonical->text, canonical->len + 1u);
  host->canonical_len = canonical->len;
}

void lookup_take_address(struct lookup_need *need, const struct dns_answer *answer) {
  struct lookup *lookup = need->lookup;
  struct lookup_found *found = &lookup->_found[need->host];
  note(lookup, answer, need->type);
  if (answer->outcome == DNS_FAILED) found->failed = true;
  if (answer->outcome != DNS_FOUND) return;
  found->insecure = found->insecure || !answer->secure;
  if (answer->canonical.len > 0) set_canonical(&lookup->set.host[need->host], &answer->canonical);
  if (need->type == DNS_AAAA) {
    found->v6_count = copy_addresses(found->v6, answer);
  } else {
    found->v4_count = copy_addresses(found->v4, answer);
  }
}

/* ---- the end ---- */

/* RFC 5321 5.1: the name an alias leads to is treated as if it were the first one; so all aliases of one host are one site. */
static void use_canonical_name(struct lookup *lookup, struct span self) {
  struct mx_host *host = &lookup->set.host[0];
  if (dns_name_check(span_of(host->canonical, host->canonical_len)) != E_OK) return;
  memcpy(host->name, host->canonical, host->canonical_len + 1u);
  host->name_len = host->canonical_len;
  mx_order(&lookup->set, self, 0); /* it may be ours */
}

static bool spread_addresses(struct lookup *lookup) {
  bool any = false;
  for (unsigned i = 0; i < lookup->set.hosts; i++) {
    const struct lookup_found *found = &lookup->_found[i];
    mx_host_set_addresses(&lookup->set.host[i], found->v6, found->v6_count, found->v4, found->v4_count);
    lookup->set.host[i].secure = lookup->set.host[i].addresses > 0 && !found->insecure;
    any = any || lookup->set.host[i].addresses > 0;
  }
  return any;
}

void lookup_conclude(struct lookup *lookup, struct span self) {
  struct mx_set *set = &lookup->set;
  must(lookup->pending == 0);
  if (set->status != MX_OK) return;
  if (spread_addresses(lookup)) {
    if (lookup->_failed && set->ttl_s > LOOKUP_PARTIAL_TTL_S) set->ttl_s = LOOKUP_PARTIAL_TTL_S;
    if (set->implicit) use_canonical_name(lookup, self);
  } else if (lookup->_failed) {
    fail_temporarily(lookup);
  } else if (set->implicit) {
    mx_set_fail(set, MX_NO_DOMAIN, "the domain has neither MX nor address records");
  } else {
    mx_set_fail(set, MX_NO_ADDRESS, "no mail exchanger of the domain has an address");
  }
}
