/*
 * Domains: from a recipient's domain to its site. What DNS said is kept for as long as it said, so that the usual recipient costs one look-up in a map.
 */
#include <stdlib.h>
#include <xxhash.h>

#include "core/base/error.h"
#include "core/conf/routes.h"
#include "core/conf/sites.h"
#include "dns/name.h"
#include "net/out/vet.h"

#define TTL_MIN_MS 1000 /* a TTL of 0 is used for those who wait, and for the rest of this second */
#define TTL_MAX_MS 3600000
#define IDLE_MS 60000 /* a domain is forgotten so long after its answer ran out */

/* ---- what is configured ---- */

/* Patterns are in A-labels; the domain may be in UTF-8. */
static const struct conf_site *entry_of_name(const struct conf *conf, struct span name) {
  struct dns_name ascii;
  if (conf->sites_count == 0 || dns_name_parse(&ascii, name) != E_OK) return NULL;
  return sites_find(conf, dns_name_span(&ascii));
}

static const struct conf_site *entry_of(const struct domain *domain) {
  return domain->site == NULL ? domain->entry : sites_earlier(domain->entry, domain->site->entry);
}

const struct conf_site *domain_entry(const struct outlet *outlet, const struct message *message, unsigned recipient) {
  uint8_t room[256];
  if (outlet->o.conf->sites_count == 0) return NULL;
  struct span name = span_lower(message_domain(message, recipient), room, sizeof room);
  const struct domain *domain = map_find(&outlet->domains, name);
  return domain != NULL ? entry_of(domain) : entry_of_name(outlet->o.conf, name);
}

static bool is_usual(const struct domain *domain) { return !domain->require_tls && !domain->tls_optional; }

/* ---- giving out ---- */
/* Then DNS is not asked. */
static bool is_held(const struct domain *domain) {
  const struct domain_queue *queue = domain->queue;
  if (queue == NULL) queue = domain_queue_find(&domain->outlet->o.schedule->domains, span_of_text(domain->name));
  return domain->outlet->held_all || (queue != NULL && queue->held);
}

static void give_to_site(struct domain *domain, struct job *job) { site_enqueue(domain->site, job); }

static void give_failure(struct domain *domain, struct job *job) {
  struct failure failure = {.kind = FAILURE_DNS, .mx = domain->status, .text = domain->reason != NULL ? domain->reason : ""};
  if (domain->refused != PROOF_FINE) {
    struct outlet_peer peer = {.host = "", .tls_policy = domain->refused_by, .tls_result = proof_result_text(domain->refused)};
    failure = (struct failure){.kind = FAILURE_TLS, .stage = SMTP_STAGE_GREETING, .text = domain->reason};
    outlet_defer_rest(domain->outlet, job, &failure, NULL, &peer);
    outlet_job_end(domain->outlet, job);
    return;
  }
  if (domain->status == MX_INVALID) failure = (struct failure){.kind = FAILURE_INTERNAL, .stage = SMTP_STAGE_GREETING, .error = E_NO_MEMORY};
  outlet_decide_rest(domain->outlet, job, &failure, NULL, NULL);
  outlet_job_end(domain->outlet, job);
}

static void give_to_route(struct domain *domain, struct job *job) {
  struct failure failure = {.kind = FAILURE_ROUTE, .stage = SMTP_STAGE_GREETING, .rejected = domain->action == CONF_REJECT};
  outlet_decide_rest(domain->outlet, job, &failure, NULL, NULL);
  outlet_job_end(domain->outlet, job);
}

static void give(struct domain *domain, struct job *job) {
  bool is_ok = domain->status == MX_OK;
  outlet_set_entry(domain->outlet, job, entry_of(domain));
  if (outlet_hold(domain->outlet, job, is_ok ? domain->site : NULL)) return;
  if (domain->action != CONF_DELIVER) {
    give_to_route(domain, job);
  } else if (is_ok) {
    give_to_site(domain, job);
  } else {
    give_failure(domain, job);
  }
}

static void point_to(struct domain *domain, struct site *site) {
  if (site == domain->site) return;
  if (domain->site != NULL) domain->site->domains--;
  if (site != NULL) site->domains++;
  domain->site = site;
}

static void fail(struct domain *domain, enum mx_status status, const char *reason) {
  domain->status = status;
  free(domain->reason);
  domain->reason = strdup(reason);
}

/* No memory: that is told to those who wait, and the next one asks again. */
static void fail_for_memory(struct domain *domain) {
  domain->status = MX_INVALID;
  domain->valid_until_ms = 0;
}

static void use(struct domain *domain, const char *site_name, const struct mx_set *set, uint16_t port, const struct conf_route *route,
                struct proof *const *proof) {
  struct site *site = site_get(domain->outlet, site_name);
  if (site == NULL || !site_set_hosts(site, set, port, proof) || (route != NULL && !site_set_route(site, route))) {
    fail_for_memory(domain);
    return;
  }
  point_to(domain, site);
  site_heed(site, domain->entry);
  free(domain->reason);
  domain->reason = NULL;
  domain->status = MX_OK;
}

static void give_out_waiting(struct domain *domain) {
  while (domain->first != NULL) {
    struct job *job = domain->first;
    domain->first = job->next;
    if (domain->first == NULL) domain->last = NULL;
    give(domain, job);
  }
}

#define LONG_NAME 2048 /* 16 hosts, a user and a name */
#define HASH_ROOM 17   /* "#" and 16 digits */

/* As mx_site_name: of a long one the end is a hash of it all. */
static void shorten(const struct fmt *whole, char name[MX_SITE_NAME_MAX + 1]) {
  bool is_long = whole->len > MX_SITE_NAME_MAX;
  struct fmt out = fmt_over(name, MX_SITE_NAME_MAX);
  fmt_put(&out, span_first(fmt_span(whole), is_long ? MX_SITE_NAME_MAX - HASH_ROOM : whole->len));
  if (is_long) {
    fmt_char(&out, '#');
    fmt_hex64(&out, XXH3_64bits(whole->at, whole->len));
  }
  name[out.len] = '\0';
}

/* The answer has come, for so long. */
static void answered(struct domain *domain, uint32_t ttl_s) {
  uint64_t ttl_ms = (uint64_t)ttl_s * 1000;
  if (ttl_ms < TTL_MIN_MS) ttl_ms = TTL_MIN_MS;
  if (ttl_ms > TTL_MAX_MS) ttl_ms = TTL_MAX_MS;
  domain->asked = domain->vetted = false;
  domain->refused = PROOF_FINE;
  domain->valid_until_ms = domain->outlet->o.shard->now_ms + ttl_ms;
}

static void resolved(struct resolver_query *query, const struct mx_set *set) {
  struct domain *domain = query->context;
  struct outlet *outlet = domain->outlet;
  if (set->status == MX_OK && vet_wanted(domain, set)) {
    if (!vet_begin(domain, set)) domain_vetted(domain, NULL);
    return;
  }
  answered(domain, set->ttl_s);
  if (set->status == MX_OK) {
    char name[MX_SITE_NAME_MAX + 1];
    struct fmt out = fmt_over(name, sizeof name - 1);
    mx_site_name(set, &out);
    name[out.len] = '\0';
    use(domain, name, set, outlet->o.conf->delivery_port, NULL, NULL);
  } else {
    fail(domain, set->status, set->reason);
  }
  give_out_waiting(domain);
}

/* What has to be proved is part of a site's name, before the hosts. */
void domain_vetted(struct domain *domain, const struct vetted *vetted) {
  char name[MX_SITE_NAME_MAX + 1];
  uint8_t room[VET_WAY_MAX + MX_SITE_NAME_MAX];
  struct fmt out = fmt_over(room, sizeof room);
  answered(domain, vetted != NULL ? vetted->ttl_s : 0);
  if (vetted == NULL) {
    fail_for_memory(domain);
  } else if (vetted->result != PROOF_FINE) {
    fail(domain, MX_TEMPORARY, vetted->reason);
    domain->refused = vetted->result;
    domain->refused_by = vetted->result == PROOF_TLSA_FAILED ? "tlsa" : "sts";
    domain->vetted = true;
  } else {
    fmt_text(&out, vetted->way);
    mx_site_name(vetted->set, &out);
    shorten(&out, name);
    use(domain, name, vetted->set, domain->outlet->o.conf->delivery_port, NULL, vetted->proof);
    domain->vetted = vetted->way[0] != '\0';
  }
  give_out_waiting(domain);
}

/* ---- destinations that need no DNS ---- */

static void set_literal_host(struct mx_host *host, const struct netaddr *address) {
  struct fmt text = fmt_over(host->name, sizeof host->name - 1);
  netaddr_format(address, &text);
  host->name[text.len] = '\0';
  host->name_len = (uint8_t)text.len;
  host->preference = 0;
  host->addresses = 1;
  host->address[0] = *address;
}

/* What is not as in general is part of a route's name, before the hosts: so is whose password goes there. */
static bool is_special(const struct conf *conf, const struct conf_route *route) {
  return route != NULL && (route->tls != conf->delivery_tls || route->tls_name != NULL || route->user != NULL);
}

static void put_way(const struct conf_route *route, struct fmt *out) {
  static const char *const words[] = {[CONF_SECURITY_NONE] = "tls=none,",
                                      [CONF_SECURITY_OPPORTUNISTIC] = "tls=opportunistic,",
                                      [CONF_SECURITY_REQUIRE] = "tls=require,",
                                      [CONF_SECURITY_VERIFY] = "tls=verify,",
                                      [CONF_SECURITY_IMPLICIT] = "tls=implicit,"};
  fmt_text(out, words[route->tls]);
  if (route->user != NULL) {
    fmt_text(out, "user=");
    fmt_text(out, route->user);
    fmt_char(out, ',');
  }
  if (route->tls_name != NULL) {
    fmt_text(out, route->tls_name);
    fmt_char(out, '=');
  }
}

static void refuse_unnamed(struct domain *domain) {
  fail(domain, MX_TEMPORARY, "TLS: REQUIRETLS needs a certificate to verify, and these hosts have no name (tls_name of the route)");
  domain->refused = PROOF_FAILED;
  domain->refused_by = NULL;
  domain->valid_until_ms = domain->outlet->o.shard->now_ms + TTL_MAX_MS;
}

/* A site of fixed addresses, named after them: routes with the same hosts share it, if they speak to them in the same way. `route` may be NULL. */
static void use_addresses(struct domain *domain, const struct netaddr *addresses, unsigned count, const struct conf_route *route) {
  struct mx_host *hosts = calloc(count, sizeof *hosts);
  char name[MX_SITE_NAME_MAX + 1];
  uint8_t room[LONG_NAME];
  struct fmt out = fmt_over(room, sizeof room);
  bool special = is_special(domain->outlet->o.conf, route);
  domain->valid_until_ms = domain->outlet->o.shard->now_ms + TTL_MAX_MS;
  if (hosts == NULL) {
    fail_for_memory(domain);
    return;
  }
  if (special) put_way(route, &out);
  for (unsigned i = 0; i < count; i++) {
    set_literal_host(&hosts[i], &addresses[i]);
    hosts[i].preference = (uint16_t)i; /* in the order given */
    if (i > 0) fmt_char(&out, ',');
    netaddr_format_with_port(&addresses[i], &out);
  }
  shorten(&out, name);
  struct mx_set set = {.status = MX_OK, .hosts = count, .host = hosts};
  use(domain, name, &set, 0, special ? route : NULL, NULL);
  free(hosts);
}

/* RFC 8689 2: also there the certificate has to be for whom the mail goes to, and an address is nobody. */
static void use_route(struct domain *domain, const struct conf_route *route) {
  struct conf_route verified = *route;
  if (!domain->require_tls) {
    use_addresses(domain, route->hosts, route->hosts_count, route);
  } else if (route->tls_name == NULL) {
    refuse_unnamed(domain);
  } else {
    if (verified.tls < CONF_SECURITY_VERIFY) verified.tls = CONF_SECURITY_VERIFY;
    use_addresses(domain, route->hosts, route->hosts_count, &verified);
  }
}

static void use_literal(struct domain *domain, struct span literal) {
  struct netaddr address;
  struct span inside = {literal.at + 1, literal.len - 2};
  if (span_starts_nocase(inside, SPAN("ipv6:"))) inside = span_skip(inside, 5);
  if (netaddr_parse(&address, inside) != E_OK) {
    fail(domain, MX_BAD_NAME, "not an address literal we can use");
    domain->valid_until_ms = domain->outlet->o.shard->now_ms + TTL_MAX_MS;
    return;
  }
  address.port = domain->outlet->o.conf->delivery_port;
  if (domain->require_tls) {
    refuse_unnamed(domain);
  } else {
    use_addresses(domain, &address, 1, NULL);
  }
}

static void use_no_host(struct domain *domain) {
  point_to(domain, NULL);
  domain->status = MX_INVALID;
  domain->valid_until_ms = domain->outlet->o.shard->now_ms + TTL_MAX_MS;
}

/* Asks whoever knows. The answer may be there on return, or comes with resolved(). */
static void find_out(struct domain *domain) {
  struct outlet *outlet = domain->outlet;
  struct span name = span_of_text(domain->name);
  const struct conf_route *route = routes_find(outlet->o.conf, name);
  bool is_literal = name.len > 2 && name.at[0] == '[' && name.at[name.len - 1] == ']';
  domain->action = route != NULL ? route->action : CONF_DELIVER;
  if (route != NULL || is_literal) { /* what there was to prove belongs to hosts that DNS names */
    domain->vetted = false;
    domain->refused = PROOF_FINE;
  }
  if (domain->action != CONF_DELIVER) {
    use_no_host(domain);
    give_out_waiting(domain);
  } else if (route != NULL) {
    use_route(domain, route);
    give_out_waiting(domain);
  } else if (is_literal) {
    use_literal(domain, name);
    give_out_waiting(domain);
  } else {
    domain->query.done = resolved;
    domain->query.context = domain;
    domain->asked = true;
    resolver_mx(outlet->o.resolver, name, &domain->query);
  }
}

/* ---- look-up ---- */

/* No name has that in it. */
#define REQUIRED_MARK '!'
#define OPTIONAL_MARK '?'

static char mark_of(const struct message *message) { return message->require_tls ? REQUIRED_MARK : message->tls_optional ? OPTIONAL_MARK : '\0'; }

/* What the mail of a message for this domain goes by. */
static struct span key_of(const struct message *message, unsigned recipient, uint8_t room[257]) {
  struct span name = span_lower(message_domain(message, recipient), room + 1, 256);
  if (mark_of(message) == '\0') return name;
  if (name.len > 256) name.len = 256;
  if (name.at != room + 1) memcpy(room + 1, name.at, name.len); /* it was in lower case */
  room[0] = (uint8_t)mark_of(message);
  return span_of(room, name.len + 1);
}

static struct domain *domain_new(struct outlet *outlet, struct span key) {
  struct domain *domain = calloc(1, sizeof *domain);
  char *copy = malloc(key.len + 1);
  if (domain != NULL && copy != NULL) {
    memcpy(copy, key.at, key.len);
    copy[key.len] = '\0';
    domain->require_tls = copy[0] == REQUIRED_MARK;
    domain->tls_optional = copy[0] == OPTIONAL_MARK;
    domain->key = copy;
    domain->name = is_usual(domain) ? copy : copy + 1;
    domain->outlet = outlet;
    domain->entry = entry_of_name(outlet->o.conf, span_of_text(domain->name));
    if (is_usual(domain)) domain->queue = domain_queue_get(&outlet->o.schedule->domains, span_of_text(copy));
    if (map_insert(&outlet->domains, domain) == E_OK) {
      if (!is_usual(domain) || domain->queue->name_len == 0) return domain; /* it stands for many */
      domain->queue->outgoing = domain;
      free(domain->queue->site);
      domain->queue->site = NULL;
      return domain;
    }
  }
  free(copy);
  free(domain);
  return NULL;
}

/* With DNS it may take long: until the answer is there, age counts by what is known. */
static void wait_for_answer(struct domain *domain, struct job *job) {
  outlet_set_entry(domain->outlet, job, entry_of(domain));
  job->next = NULL;
  if (domain->last != NULL) {
    domain->last->next = job;
  } else {
    domain->first = job;
  }
  domain->last = job;
}

/* The queue of our own recipients knows it already: the usual one costs no look-up at all. */
static struct domain *domain_of(struct outlet *outlet, const struct job *job) {
  uint8_t room[257];
  const struct message *message = job->message;
  unsigned i = job->each[0].index;
  bool is_ours = job->owner == outlet->o.shard->index && mark_of(message) == '\0';
  if (is_ours && message->recipient[i].domain->outgoing != NULL) return message->recipient[i].domain->outgoing;
  struct span key = key_of(message, i, room);
  struct domain *domain = map_find(&outlet->domains, key);
  return domain != NULL ? domain : domain_new(outlet, key);
}

static const struct domain *known_domain(const struct outlet *outlet, const struct job *job, unsigned at) {
  uint8_t room[257];
  unsigned i = job->each[at].index;
  if (job->owner == outlet->o.shard->index && mark_of(job->message) == '\0') return job->message->recipient[i].domain->outgoing;
  return map_find(&outlet->domains, key_of(job->message, i, room));
}

bool domain_left(const struct outlet *outlet, const struct job *job, const struct site *site) {
  if (!outlet->o.conf->dane && !(outlet->o.conf->mta_sts && outlet->o.sts != NULL)) return false;
  for (unsigned at = 0; at < job->recipients; at++) {
    const struct domain *domain = known_domain(outlet, job, at);
    if (domain != NULL && domain->vetted && (domain->refused != PROOF_FINE || domain->site != site)) return true;
  }
  return false;
}

void domain_dispatch(struct outlet *outlet, struct job *job) {
  struct domain *domain = domain_of(outlet, job);
  if (domain == NULL) {
    struct failure failure = {.kind = FAILURE_INTERNAL, .stage = SMTP_STAGE_GREETING, .error = E_NO_MEMORY};
    outlet_decide_rest(outlet, job, &failure, NULL, NULL);
    outlet_job_end(outlet, job);
  } else if (is_held(domain) || (!domain->asked && domain->valid_until_ms > outlet->o.shard->now_ms)) {
    give(domain, job);
  } else {
    wait_for_answer(domain, job);
    if (!domain->asked) find_out(domain);
  }
}

/* ---- begin and end ---- */

static struct span domain_key(const void *object) { return span_of_text(((const struct domain *)object)->key); }

void domains_open(struct outlet *outlet) { map_init(&outlet->domains, domain_key, outlet->o.map_seed); }

/* Where mail of domains went that are not known now: it may go elsewhere. */
static void forget_sites(struct outlet *outlet) {
  for (struct domain_queue *queue = outlet->o.schedule->domains.first; queue != NULL; queue = queue->next) {
    if (queue->outgoing != NULL) continue;
    free(queue->site);
    queue->site = NULL;
  }
}

void domains_take_conf(struct outlet *outlet, bool other_limits, bool other_routes) {
  uint32_t cursor = 0;
  if (other_routes) forget_sites(outlet);
  for (struct domain *domain; (domain = map_next(&outlet->domains, &cursor)) != NULL;) {
    domain->valid_until_ms = 0;
    domain->entry = entry_of_name(outlet->o.conf, span_of_text(domain->name));
    if (other_limits && domain->site != NULL) site_heed(domain->site, domain->entry);
  }
}

/* Those of its mail that wait are still found by their site. */
static void remember_site(const struct domain *domain) {
  struct domain_queue *queue = domain->queue;
  bool is_wanted = domain->status == MX_OK && (queue->waiting > 0 || queue->given > 0);
  queue->outgoing = NULL;
  queue->site = is_wanted ? strdup(domain->site->name) : NULL;
}

static void domain_free(struct domain *domain) {
  if (is_usual(domain) && domain->queue->outgoing == domain) remember_site(domain);
  point_to(domain, NULL);
  free(domain->reason);
  free(domain->key);
  free(domain);
}

static bool is_stale(const struct domain *domain) { return !domain->asked && domain->valid_until_ms + IDLE_MS < domain->outlet->o.shard->now_ms; }

/* Moves jobs that wait and are past their age in front of the list: their owner lets them expire, even if the answer never comes. */
static void take_too_old(struct domain *domain, struct job **list) {
  struct job *old = jobs_take_old(&domain->first, &domain->last, domain->outlet->o.shard->wall_ms);
  if (old == NULL) return;
  struct job *end = old;
  while (end->next != NULL) end = end->next;
  end->next = *list;
  *list = old;
}

static void end_jobs(struct outlet *outlet, struct job *jobs) {
  while (jobs != NULL) {
    struct job *job = jobs;
    jobs = job->next;
    outlet_job_end(outlet, job);
  }
}

/* What is removed moves others to and fro across the place where the sweep is: they are looked at twice or in the next sweep. */
bool domains_sweep(struct outlet *outlet) {
  struct domain *stale[OUTLET_SWEEP_COUNT], *domain = NULL;
  struct job *old = NULL;
  unsigned count = 0;
  for (unsigned i = 0; i < OUTLET_SWEEP_COUNT && (domain = map_next(&outlet->domains, &outlet->domains_swept)) != NULL; i++) {
    take_too_old(domain, &old);
    if (is_stale(domain)) stale[count++] = domain;
  }
  if (domain == NULL) outlet->domains_swept = 0;
  for (unsigned i = 0; i < count; i++) {
    map_remove(&outlet->domains, span_of_text(stale[i]->key));
    domain_free(stale[i]);
  }
  end_jobs(outlet, old);
  return domain != NULL;
}

void domains_close(struct outlet *outlet) {
  uint32_t cursor = 0;
  for (struct domain *domain; (domain = map_next(&outlet->domains, &cursor)) != NULL;) {
    if (domain->asked) resolver_cancel(outlet->o.resolver, &domain->query);
    vet_cancel(domain);
    while (domain->first != NULL) {
      struct job *job = domain->first;
      domain->first = job->next;
      if (job->owner == outlet->o.shard->index) job_free(outlet->o.slab, job);
    }
    domain_free(domain);
  }
  map_fini(&outlet->domains);
}
