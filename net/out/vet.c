#include "net/out/vet.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/base/error.h"
#include "core/conf/sites.h"
#include "net/sts/sts.h"

struct candidate {
  struct dane_query query;
  bool asked;
  enum demand demand;
  struct proof *proof;
};

struct vet {
  struct domain *domain;
  struct dns_name name;
  struct mx_set set;
  unsigned pending;
  bool no_memory;
  uint32_t ttl_s;
  struct sts_query sts;
  struct sts_policy *policy; /* held; NULL: none */
  struct candidate candidate[];
};

/* ---- whether ---- */

/* Where the operator has said what TLS is due, at these hosts or for this domain, that is the last word; and where there is to be none there is nothing to prove. */
bool vet_wanted(const struct domain *domain, const struct mx_set *set) {
  const struct outlet *outlet = domain->outlet;
  const struct conf *conf = outlet->o.conf;
  const struct conf_site *entry = domain->entry;
  const struct conf_site *of_hosts = NULL;
  bool dane = conf->dane && set->mx_secure, mta_sts = conf->mta_sts && outlet->o.sts != NULL;
  if (domain->require_tls || domain->tls_optional) return domain->require_tls;
  if (!dane && !mta_sts) return false;
  for (unsigned i = 0; conf->sites_count > 0 && i < set->hosts; i++)
    of_hosts = sites_earlier(of_hosts, sites_find(conf, span_of(set->host[i].name, set->host[i].name_len)));
  if (of_hosts != NULL) entry = of_hosts;
  return entry != NULL ? !entry->tls_said && entry->tls != CONF_SECURITY_NONE : conf->delivery_tls != CONF_SECURITY_NONE;
}

/* ---- life ---- */

static void vet_free(struct vet *vet) {
  for (unsigned i = 0; i < vet->set.hosts; i++) proof_drop(vet->candidate[i].proof);
  sts_policy_drop(vet->policy);
  mx_set_clear(&vet->set);
  free(vet);
}

static struct vet *vet_new(struct domain *domain, const struct mx_set *set) {
  struct vet *vet = calloc(1, sizeof *vet + set->hosts * sizeof *vet->candidate);
  struct mx_host *hosts = malloc(set->hosts * sizeof *hosts);
  if (vet == NULL || hosts == NULL) {
    free(vet);
    free(hosts);
    return NULL;
  }
  memcpy(hosts, set->host, set->hosts * sizeof *hosts);
  vet->domain = domain;
  vet->set = *set;
  vet->set.host = hosts;
  vet->ttl_s = set->ttl_s;
  return vet;
}

void vet_cancel(struct domain *domain) {
  struct vet *vet = domain->vet;
  if (vet == NULL) return;
  for (unsigned i = 0; i < vet->set.hosts; i++)
    if (vet->candidate[i].asked) resolver_dane_cancel(domain->outlet->o.resolver, &vet->candidate[i].query);
  sts_cancel(&vet->sts);
  domain->vet = NULL;
  vet_free(vet);
}

/* ---- what came of it ---- */

/* The domain stands for its only host where it has no MX: an alias that DNSSEC does not prove may lead anywhere. */
static struct span name_of(const struct vet *vet, const struct mx_host *host) {
  return vet->set.implicit ? dns_name_span(&vet->name) : span_of(host->name, host->name_len);
}

/* RFC 8689 4.2.1: that the host is one of the domain's has to be said by DNSSEC or by the policy. */
static bool is_proved(const struct vet *vet, struct span host) {
  return vet->set.mx_secure || (vet->policy != NULL && !demand_misses_policy(vet->policy, host));
}

static void judge(struct vet *vet, unsigned i) {
  struct candidate *candidate = &vet->candidate[i];
  struct mx_host *host = &vet->set.host[i];
  struct span name = name_of(vet, host);
  const struct dane *dane = candidate->asked ? &candidate->query.dane : NULL;
  candidate->demand = demand_choose(dane != NULL ? dane->status : DANE_NONE, vet->policy, name);
  if (vet->domain->require_tls && candidate->demand < DEMAND_VERIFY) candidate->demand = is_proved(vet, name) ? DEMAND_VERIFY : DEMAND_SKIP_HOST;
  if (candidate->demand == DEMAND_DEFER_HOST) host->addresses = 0;
  if (candidate->demand >= DEMAND_SKIP_HOST || candidate->demand == DEMAND_ANY || candidate->demand == DEMAND_DANE) return; /* which has its proof */
  candidate->proof = proof_new(candidate->demand, name, dns_name_span(&vet->name), dane);
  if (candidate->proof == NULL) {
    vet->no_memory = true;
  } else {
    candidate->proof->by_policy = vet->policy != NULL;
    candidate->proof->misses_policy = candidate->demand == DEMAND_TRY_VERIFY && demand_misses_policy(vet->policy, name);
  }
}

static bool any_demands(const struct vet *vet, enum demand one, enum demand other) {
  for (unsigned i = 0; i < vet->set.hosts; i++)
    if (vet->candidate[i].demand == one || vet->candidate[i].demand == other) return true;
  return false;
}

/* One that must not be tried for now keeps its host in this company, so that the site's name stays. */
static void put_way(const struct vet *vet, char way[VET_WAY_MAX + 1]) {
  struct fmt out = fmt_over(way, VET_WAY_MAX);
  bool dane = any_demands(vet, DEMAND_DANE, DEMAND_ENCRYPT) || any_demands(vet, DEMAND_DEFER_HOST, DEMAND_DEFER_HOST), own = false;
  for (unsigned i = 0; i < vet->set.hosts; i++) own |= proof_is_own(vet->candidate[i].proof);
  if (dane) fmt_text(&out, "+dane");
  if (any_demands(vet, DEMAND_VERIFY, DEMAND_VERIFY)) fmt_text(&out, vet->domain->require_tls ? "+requiretls" : "+sts");
  if (any_demands(vet, DEMAND_TRY_VERIFY, DEMAND_TRY_VERIFY)) fmt_text(&out, "+testing");
  if (own) {
    fmt_char(&out, '=');
    fmt_put(&out, dns_name_span(&vet->name));
  }
  if (out.len > 0) fmt_char(&out, ',');
  way[out.len] = '\0';
  if (out.len == 0) return;
  memmove(way + 3, way, out.len + 1);
  memcpy(way, "tls=", 4);
}

static int first_of(const struct vet *vet, enum demand demand) {
  for (unsigned i = 0; i < vet->set.hosts; i++)
    if (vet->candidate[i].demand == demand) return (int)i;
  return -1;
}

static void refuse(const struct vet *vet, struct vetted *vetted) {
  int deferred = first_of(vet, DEMAND_DEFER_HOST), skipped = first_of(vet, DEMAND_SKIP_HOST);
  if (deferred >= 0) {
    vetted->result = PROOF_TLSA_FAILED;
    snprintf(vetted->reason, sizeof vetted->reason, "TLS: what %s has to prove (DANE) cannot be found out: %s", vet->set.host[deferred].name,
             vet->candidate[deferred].query.dane.reason);
  } else if (vet->policy == NULL) {
    must(skipped >= 0 && vet->domain->require_tls); /* later there may be one: it may be under way just now */
    vetted->result = PROOF_FAILED;
    snprintf(vetted->reason, sizeof vetted->reason,
             "TLS: REQUIRETLS needs MX records that are secure by DNSSEC, or an MTA-STS policy: the domain has neither, for %s",
             vet->set.host[skipped].name);
  } else {
    must(skipped >= 0); /* there were addresses */
    vetted->result = PROOF_FAILED;
    snprintf(vetted->reason, sizeof vetted->reason, "TLS: the MTA-STS policy of the domain allows none of its MX hosts, as %s",
             vet->set.host[skipped].name);
  }
}

static bool any_address(const struct vet *vet) {
  for (unsigned i = 0; i < vet->set.hosts; i++)
    if (vet->candidate[i].demand < DEMAND_SKIP_HOST && vet->set.host[i].addresses > 0) return true;
  return false;
}

/* Those that are skipped go, with what belongs to them; the order of the others stays. */
static void leave_out(struct vet *vet, struct proof *proof[MX_HOSTS_MAX]) {
  unsigned kept = 0;
  for (unsigned i = 0; i < vet->set.hosts; i++) {
    if (vet->candidate[i].demand == DEMAND_SKIP_HOST) continue;
    proof[kept] = vet->candidate[i].proof;
    if (kept != i) vet->set.host[kept] = vet->set.host[i];
    kept++;
  }
  vet->set.hosts = kept;
}

static void finish(struct vet *vet) {
  struct domain *domain = vet->domain;
  struct proof *proof[MX_HOSTS_MAX];
  struct vetted vetted = {.set = &vet->set, .proof = proof, .ttl_s = vet->ttl_s};
  unsigned hosts = vet->set.hosts;
  for (unsigned i = 0; i < hosts; i++) judge(vet, i);
  put_way(vet, vetted.way);
  if (!any_address(vet)) refuse(vet, &vetted);
  leave_out(vet, proof);
  domain->vet = NULL;
  domain_vetted(domain, vet->no_memory ? NULL : &vetted);
  vet->set.hosts = hosts;
  vet_free(vet);
}

static void answered(struct vet *vet, uint32_t ttl_s) {
  if (ttl_s < vet->ttl_s) vet->ttl_s = ttl_s;
  must(vet->pending > 0);
  if (--vet->pending == 0) finish(vet);
}

/* ---- the questions ---- */

/* Its records are there for the call only. */
static void dane_answered(struct dane_query *query) {
  struct vet *vet = query->context;
  struct candidate *candidate = (struct candidate *)((uint8_t *)query - offsetof(struct candidate, query));
  if (query->dane.status == DANE_USE) {
    candidate->proof = proof_new(DEMAND_DANE, dns_name_span(&query->dane.base), dns_name_span(&vet->name), &query->dane);
    vet->no_memory |= candidate->proof == NULL;
  }
  answered(vet, query->dane.ttl_s);
}

static void sts_answered(struct sts_query *query, const struct sts_answer *answer) {
  struct vet *vet = query->context;
  if (answer->state == STS_KNOWN) vet->policy = sts_policy_hold(answer->policy);
  answered(vet, answer->ttl_s);
}

bool vet_begin(struct domain *domain, const struct mx_set *set) {
  struct outlet *outlet = domain->outlet;
  const struct conf *conf = outlet->o.conf;
  must(domain->vet == NULL && set->hosts <= MX_HOSTS_MAX);
  struct vet *vet = vet_new(domain, set);
  if (vet == NULL) return false;
  domain->vet = vet;
  vet->pending = 1; /* until all is asked */
  int error = dns_name_parse(&vet->name, span_of_text(domain->name));
  must(error == E_OK); /* DNS has been asked about it */
  for (unsigned i = 0; conf->dane && i < set->hosts; i++) {
    struct candidate *candidate = &vet->candidate[i];
    if (set->host[i].addresses == 0) continue;
    candidate->asked = true;
    candidate->query = (struct dane_query){.done = dane_answered, .context = vet};
    vet->pending++;
    resolver_dane(outlet->o.resolver, &vet->set, &vet->set.host[i], span_of_text(domain->name), conf->delivery_port, &candidate->query);
  }
  if (conf->mta_sts && outlet->o.sts != NULL) {
    vet->sts = (struct sts_query){.done = sts_answered, .context = vet};
    vet->pending++;
    sts_ask(outlet->o.sts, dns_name_span(&vet->name), &vet->sts);
  }
  answered(vet, vet->ttl_s);
  return true;
}
