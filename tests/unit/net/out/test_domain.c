#include <stdio.h>
#include <stdlib.h>

#include "core/base/error.h"
#include "net/out/vet.h"
#include "tests/lib/unit.h"

#define ROUTES 3000

static struct shard shard;
static struct conf conf;
static struct conf_route routes[ROUTES];
static char names[ROUTES][32];
static struct netaddr hosts[ROUTES];
static struct outlet outlet;
static struct schedule schedule; /* only its domain queues */
static struct site site;
static bool no_memory; /* for sites */
static bool hangs;     /* DNS */

/* What became of the job dispatched last. */
static struct {
  unsigned asked, enqueued, ended, held, cancelled;
  struct resolver_query *query;
  struct job *job; /* enqueued or ended last */
  const struct conf_site *heeded;
  const struct conf_route *route; /* that is special */
  char site[MX_SITE_NAME_MAX + 1];
  struct failure failure;
  const char *policy, *result; /* of a failure whose peer was told */
  char text[64];
  struct proof *const *proof;
  unsigned vets;
} told;
static bool require_tls, tls_optional; /* does mail say so */
static bool vets;                      /* are sets of hosts vetted */
static struct domain *under;           /* which is, last */

/* ---- what domain.c calls ---- */

bool vet_wanted(const struct domain *domain, const struct mx_set *set) {
  (void)domain;
  ck_assert_int_eq(set->status, MX_OK);
  return vets;
}

bool vet_begin(struct domain *domain, const struct mx_set *set) {
  (void)set;
  told.vets++;
  under = domain;
  return !no_memory;
}

void vet_cancel(struct domain *domain) { (void)domain; }

void outlet_defer_rest(struct outlet *of, struct job *job, const struct failure *failure, struct site *at, const struct outlet_peer *peer) {
  (void)of;
  (void)job;
  (void)at;
  told.failure = *failure;
  told.policy = peer->tls_policy;
  told.result = peer->tls_result;
  snprintf(told.text, sizeof told.text, "%s", failure->text);
}

void resolver_mx(struct resolver *resolver, struct span domain, struct resolver_query *query) {
  (void)resolver;
  (void)domain;
  struct mx_set set = {.status = MX_TEMPORARY, .reason = "asked"};
  told.asked++;
  told.query = query;
  if (hangs) return; /* the answer is given by answer() */
  query->done(query, &set);
}

/* DNS has come to an end with the one question: this host, or none. */
static void answer(struct resolver_query *query, const char *host) {
  struct mx_host one = {.addresses = 1, .address[0] = {.family = 4, .bytes = {192, 0, 2, 9}}};
  one.name_len = (uint8_t)snprintf(one.name, sizeof one.name, "%s", host != NULL ? host : "");
  struct mx_set set = {.status = host != NULL ? MX_OK : MX_TEMPORARY, .ttl_s = 60, .hosts = 1, .host = &one};
  query->done(query, &set);
}

void resolver_cancel(struct resolver *resolver, struct resolver_query *query) {
  (void)resolver;
  (void)query;
  told.cancelled++;
}

struct site *site_get(struct outlet *of, const char *name) {
  (void)of;
  snprintf(told.site, sizeof told.site, "%s", name);
  return no_memory ? NULL : &site;
}

bool site_set_hosts(struct site *of, const struct mx_set *set, uint16_t port, struct proof *const *proof) {
  (void)of;
  (void)port;
  told.proof = proof;
  return set->hosts > 0;
}

bool site_set_route(struct site *of, const struct conf_route *route) {
  (void)of;
  told.route = route;
  return true;
}

void site_enqueue(struct site *to, struct job *job) {
  (void)to;
  told.job = job;
  told.enqueued++;
}

void site_heed(struct site *of, const struct conf_site *entry) {
  (void)of;
  told.heeded = entry;
}

void outlet_set_entry(const struct outlet *of, struct job *job, const struct conf_site *entry) {
  (void)of;
  job->entry = entry;
}

void outlet_decide_rest(struct outlet *of, struct job *job, const struct failure *failure, struct site *at, const struct outlet_peer *peer) {
  (void)of;
  (void)job;
  (void)at;
  (void)peer;
  told.failure = *failure;
}

void outlet_job_end(struct outlet *of, struct job *job) {
  (void)of;
  told.job = job;
  *(job->each[0].fate == FATE_HELD ? &told.held : &told.ended) += 1;
}

/* ---- the world ---- */

static struct span route_key(const void *object) { return span_of_text(((const struct conf_route *)object)->domain); }

static void open_routes(unsigned count) {
  shard.now_ms = 1000;
  conf = (struct conf){.routes = routes, .routes_count = count};
  map_init(&conf.routes_by_domain, route_key, 0);
  for (unsigned i = 0; i < count; i++) ck_assert_int_eq(map_insert(&conf.routes_by_domain, &routes[i]), E_OK);
  outlet = (struct outlet){.o = {.shard = &shard, .conf = &conf, .schedule = &schedule, .map_seed = 5}};
  domain_queues_init(&schedule.domains, 5);
  domains_open(&outlet);
  no_memory = hangs = vets = require_tls = tls_optional = false;
  site.entry = NULL;
}

static void close_domains(void) {
  domains_close(&outlet);
  for (struct domain_queue *queue = schedule.domains.first; queue != NULL; queue = queue->next) ck_assert_ptr_null(queue->outgoing);
  domain_queues_fini(&schedule.domains);
}

static void close_routes(void) {
  close_domains();
  map_fini(&conf.routes_by_domain);
}

static void set_route(unsigned i, const char *domain) {
  snprintf(names[i], sizeof names[i], "%s", domain);
  hosts[i] = (struct netaddr){.family = 4, .port = (uint16_t)(1000 + i), .bytes = {192, 0, 2, 1}};
  routes[i] = (struct conf_route){.domain = names[i], .hosts = &hosts[i], .hosts_count = 1};
}

/* Which is there until free_waiting. */
static struct slab waiting_slab;
static struct job *waiting[4];
static unsigned waiting_count;

static struct job *make_job(struct slab *slab, const char *domain) {
  static uint8_t room[1024];
  char address[64];
  struct fmt out = fmt_over(room, sizeof room);
  struct record_envelope envelope = {.sender = SPAN("s@example.org"), .require_tls = require_tls, .tls_optional = tls_optional, .recipients = 1};
  snprintf(address, sizeof address, "r@%s", domain);
  record_envelope_encode(&envelope, &out);
  struct record_recipient recipient = {.address = span_of_text(address)};
  record_recipient_encode(&recipient, &out);
  struct message *message = message_new(slab, 1, fmt_span(&out));
  message->recipient[0].domain = domain_queue_get(&schedule.domains, span_of_text(domain));
  return job_new(slab, message, 0, 0, 0);
}

static void free_message_of(struct slab *slab, struct job *job) {
  struct message *message = job->message;
  job_free(slab, job);
  message_free(slab, message);
}

static struct job *waiting_job(const char *domain) {
  if (waiting_count == 0) slab_init(&waiting_slab, 1 << 20);
  return waiting[waiting_count++] = make_job(&waiting_slab, domain);
}

static void free_waiting(void) {
  for (unsigned i = 0; i < waiting_count; i++) free_message_of(&waiting_slab, waiting[i]);
  slab_fini(&waiting_slab);
  waiting_count = 0;
}

static void dispatch(const char *domain) {
  static struct slab slab;
  slab_init(&slab, 1 << 20);
  struct job *job = make_job(&slab, domain);
  memset(&told, 0, sizeof told);
  domain_dispatch(&outlet, job);
  ck_assert_uint_eq(told.enqueued + told.ended + told.held, 1);
  free_message_of(&slab, job);
  slab_fini(&slab);
}

static void check_route(const char *domain, unsigned route) {
  char expected[32];
  snprintf(expected, sizeof expected, "192.0.2.1:%u", 1000 + route);
  dispatch(domain);
  ck_assert_str_eq(told.site, expected);
  ck_assert_uint_eq(told.enqueued, 1);
  ck_assert_uint_eq(told.asked, 0);
}

static void check_asked(const char *domain) {
  dispatch(domain);
  ck_assert_uint_eq(told.asked, 1);
  ck_assert_int_eq(told.failure.kind, FAILURE_DNS);
}

static void check_held(const char *domain) {
  dispatch(domain);
  ck_assert_uint_eq(told.held, 1);
  ck_assert_uint_eq(told.asked, 0);
}

static void check_enqueued(const char *domain) {
  dispatch(domain);
  ck_assert_uint_eq(told.enqueued, 1);
}

static struct span site_key(const void *object) { return span_of_text(((const struct site *)object)->name); }

/* ---- tests ---- */

START_TEST(a_route_is_for_its_domain_and_no_other) {
  set_route(0, "example.org");
  set_route(1, "sub.example.org");
  open_routes(2);
  check_route("EXAMPLE.Org", 0);
  check_route("sub.example.org", 1);
  check_asked("other.example.org");
  check_asked("org");
  check_asked("xexample.org");
  close_routes();
}
END_TEST

START_TEST(a_star_is_for_all_others) {
  set_route(0, "example.net");
  set_route(1, "*");
  set_route(2, "example.org");
  open_routes(3);
  check_route("example.net", 0);
  check_route("example.org", 2);
  check_route("sub.example.org", 1);
  check_route("com", 1);
  close_routes();
}
END_TEST

START_TEST(many_routes) {
  char domain[32];
  for (unsigned i = 0; i < ROUTES; i++) {
    snprintf(domain, sizeof domain, "d%u.example", i);
    set_route(i, domain);
  }
  open_routes(ROUTES);
  for (unsigned i = 0; i < ROUTES; i += 7) {
    snprintf(domain, sizeof domain, "d%u.example", i);
    check_route(domain, i);
  }
  check_asked("d3000.example");
  close_routes();
}
END_TEST

/* Neither DNS nor a site; and after a reload that takes the route away the domain goes its way again. */
START_TEST(routes_that_deliver_nothing) {
  set_route(0, "discarded.example");
  set_route(1, "rejected.example");
  routes[0] = (struct conf_route){.domain = names[0], .action = CONF_DISCARD};
  routes[1] = (struct conf_route){.domain = names[1], .action = CONF_REJECT};
  open_routes(2);
  for (unsigned i = 0; i < 4; i++) {
    dispatch(i % 2 == 0 ? "Discarded.example" : "rejected.example");
    ck_assert(told.ended == 1 && told.asked == 0 && told.enqueued == 0);
    ck_assert_int_eq(told.failure.kind, FAILURE_ROUTE);
    ck_assert(told.failure.rejected == (i % 2 == 1));
  }
  routes[0] = (struct conf_route){.domain = names[0], .hosts = &hosts[0], .hosts_count = 1};
  domains_take_conf(&outlet, false, false);
  check_route("discarded.example", 0);
  routes[0] = (struct conf_route){.domain = names[0], .action = CONF_DISCARD};
  domains_take_conf(&outlet, false, false);
  dispatch("discarded.example");
  ck_assert_int_eq(told.failure.kind, FAILURE_ROUTE);
  ck_assert_uint_eq(site.domains, 0);
  close_routes();
}
END_TEST

/* How hosts are spoken to, and as whom, is part of the site: nobody's password goes over another's connection. */
START_TEST(routes_with_a_way_of_their_own) {
  char long_user[200], prefix[64], bob[] = "bob", name[] = "smtp.example";
  memset(long_user, 'u', sizeof long_user - 1);
  long_user[sizeof long_user - 1] = '\0';
  for (unsigned i = 0; i < 6; i++) {
    snprintf(prefix, sizeof prefix, "%c.example", 'a' + (int)i);
    set_route(i, prefix);
    hosts[i].port = 465;
  }
  routes[1].tls = CONF_SECURITY_REQUIRE;
  routes[2].tls = CONF_SECURITY_IMPLICIT, routes[2].user = bob, routes[2].tls_name = name;
  routes[3].user = bob;
  routes[4].user = routes[5].user = long_user;
  hosts[5].port = 466;
  open_routes(6);
  static const char *const names_of_sites[] = {"192.0.2.1:465", "tls=require,192.0.2.1:465", "tls=implicit,user=bob,smtp.example=192.0.2.1:465",
                                               "tls=none,user=bob,192.0.2.1:465"};
  for (unsigned i = 0; i < 4; i++) {
    dispatch(routes[i].domain);
    ck_assert_str_eq(told.site, names_of_sites[i]);
    ck_assert_ptr_eq(told.route, i == 0 ? NULL : &routes[i]);
  }
  struct netaddr many[16];
  for (unsigned i = 0; i < 16; i++) many[i] = hosts[4];
  routes[4].hosts = routes[5].hosts = many;
  routes[4].hosts_count = 16, routes[5].hosts_count = 15;
  char first[MX_SITE_NAME_MAX + 1];
  dispatch("e.example");
  snprintf(first, sizeof first, "%s", told.site);
  ck_assert_uint_eq(strlen(first), MX_SITE_NAME_MAX);
  ck_assert_int_eq(first[MX_SITE_NAME_MAX - 17], '#');
  dispatch("f.example");
  ck_assert_str_ne(told.site, first);
  close_routes();
}
END_TEST

START_TEST(no_routes) {
  open_routes(0);
  check_asked("example.org");
  close_routes();
}
END_TEST

START_TEST(a_lack_of_memory_is_ours_and_not_remembered) {
  set_route(0, "*");
  open_routes(1);
  no_memory = true;
  for (unsigned i = 0; i < 2; i++) {
    dispatch("example.org");
    ck_assert_uint_eq(told.ended, 1);
    ck_assert_int_eq(told.failure.kind, FAILURE_INTERNAL);
    ck_assert_int_eq(told.failure.error, E_NO_MEMORY);
  }
  no_memory = false;
  check_route("example.org", 0);
  close_routes();
}
END_TEST

START_TEST(what_is_suspended_is_held_without_a_question) {
  set_route(0, "example.net");
  open_routes(1);
  check_route("example.net", 0);
  domain_queue_hold(&schedule.domains, domain_queue_get(&schedule.domains, SPAN("example.net")), true);
  domain_queue_hold(&schedule.domains, domain_queue_get(&schedule.domains, SPAN("example.org")), true);
  check_held("Example.NET");
  check_held("example.org");
  check_asked("example.com");
  outlet.held_all = true;
  check_held("example.com");
  outlet.held_all = false;
  domain_queue_hold(&schedule.domains, domain_queue_get(&schedule.domains, SPAN("example.net")), false);
  check_enqueued("example.net");
  site.held = true;
  check_held("example.net");
  site.held = false;
  check_enqueued("example.net");
  close_routes();
}
END_TEST

START_TEST(the_site_of_what_waits_is_remembered) {
  set_route(0, "*");
  open_routes(1);
  static char name[] = "192.0.2.1:1000";
  site.name = name;
  check_enqueued("example.net");
  check_enqueued("example.org");
  struct domain_queue *waits = domain_queue_get(&schedule.domains, SPAN("example.net")),
                      *empty = domain_queue_get(&schedule.domains, SPAN("example.org"));
  waits->waiting = 1;
  ck_assert(waits->outgoing != NULL && empty->outgoing != NULL);
  shard.now_ms += 3 * 3600000;
  domains_sweep(&outlet);
  ck_assert(waits->outgoing == NULL && empty->outgoing == NULL);
  ck_assert_str_eq(waits->site, site.name);
  ck_assert_ptr_null(empty->site);
  ck_assert(!outlet_is_held(&outlet, waits));
  struct map *sites = &outlet.sites;
  map_init(sites, site_key, 1);
  ck_assert_int_eq(map_insert(sites, &site), E_OK);
  site.held = true;
  ck_assert(outlet_is_held(&outlet, waits) && !outlet_is_held(&outlet, empty));
  site.held = false;
  check_enqueued("example.net"); /* it is known again */
  ck_assert(waits->outgoing != NULL && waits->site == NULL);
  waits->waiting = 0;
  map_fini(sites);
  close_routes();
}
END_TEST

/* ---- entries of the configuration, and DNS that hangs ---- */

static struct slab slab;
static struct message *messages[16];
static unsigned messages_count;

static void open_sites(const char *sites) {
  char text[512], room[512];
  struct fmt why = fmt_over(room, sizeof room);
  snprintf(text, sizeof text, "hostname: a.b\nlisteners: [{port: 25}]\nsites: %s\n", sites);
  ck_assert_int_eq(conf_parse(&conf, span_of_text(text), "c.yaml", &why), E_OK);
  shard.now_ms = 1000;
  shard.wall_ms = 1764000000000;
  outlet = (struct outlet){.o = {.shard = &shard, .conf = &conf, .schedule = &schedule, .map_seed = 5}};
  domain_queues_init(&schedule.domains, 5);
  domains_open(&outlet);
  slab_init(&slab, 1 << 20);
  messages_count = 0;
  no_memory = hangs = false;
  site = (struct site){.outlet = &outlet};
  memset(&told, 0, sizeof told);
}

static void close_sites(void) {
  close_domains();
  for (unsigned i = 0; i < messages_count; i++) message_free(&slab, messages[i]);
  slab_fini(&slab);
  conf_free(&conf);
}

/* A job that is not to be freed by dispatch(): it waits. */
static struct job *dispatch_job(const char *domain, uint64_t give_up_ms) {
  uint8_t room[512];
  char address[64];
  struct fmt out = fmt_over(room, sizeof room);
  struct record_envelope envelope = {.sender = SPAN("s@example.org"), .recipients = 1};
  snprintf(address, sizeof address, "r@%s", domain);
  record_envelope_encode(&envelope, &out);
  struct record_recipient recipient = {.address = span_of_text(address)};
  record_recipient_encode(&recipient, &out);
  struct message *message = messages[messages_count++] = message_new(&slab, 1, fmt_span(&out));
  message->recipient[0].domain = domain_queue_get(&schedule.domains, span_of_text(domain));
  struct job *job = job_new(&slab, message, 0, 0, 0);
  job->give_up_ms = give_up_ms;
  domain_dispatch(&outlet, job);
  return job;
}

START_TEST(an_entry_is_for_the_name_of_a_domain_or_its_hosts) {
  open_sites("[{match: [example.org]}, {match: [\"*.google.com\", xn--bcher-kva.example]}, {match: [example.com]}]");
  hangs = true;
  struct job *job = dispatch_job("EXAMPLE.org", UINT64_MAX);
  ck_assert_ptr_eq(job->entry, &conf.sites[0]); /* already while DNS is asked */
  answer(told.query, "mx.example.net");
  ck_assert_ptr_eq(told.heeded, &conf.sites[0]);
  ck_assert_uint_eq(told.enqueued, 1);
  job_free(&slab, job);

  site.entry = &conf.sites[1]; /* as site.c finds it */
  job = dispatch_job("example.com", UINT64_MAX);
  ck_assert_ptr_eq(job->entry, &conf.sites[2]);
  answer(told.query, "aspmx.l.google.com");
  ck_assert_ptr_eq(job->entry, &conf.sites[1]); /* it comes first in the file */
  ck_assert_ptr_eq(domain_entry(&outlet, messages[1], 0), &conf.sites[1]);
  job_free(&slab, job);

  job = dispatch_job("customer.example", UINT64_MAX);
  ck_assert_ptr_null(job->entry);
  answer(told.query, "aspmx.l.google.com");
  ck_assert_ptr_eq(job->entry, &conf.sites[1]);
  ck_assert_ptr_null(told.heeded);
  job_free(&slab, job);

  shard.now_ms += 3600000; /* DNS does not answer any more: what was known still holds */
  job = dispatch_job("customer.example", UINT64_MAX);
  answer(told.query, NULL);
  ck_assert_ptr_eq(job->entry, &conf.sites[1]);
  job_free(&slab, job);

  site.entry = NULL;
  job = dispatch_job("b\xc3\xbc"
                     "cher.example",
                     UINT64_MAX);
  ck_assert_ptr_eq(job->entry, &conf.sites[1]);
  answer(told.query, NULL);
  job_free(&slab, job);
  close_sites();
}
END_TEST

START_TEST(what_is_known_of_a_domain_that_was_never_looked_up) {
  open_sites("[{match: [example.org]}]");
  hangs = true;
  struct job *job = dispatch_job("other.example", UINT64_MAX);
  answer(told.query, NULL);
  ck_assert_ptr_null(domain_entry(&outlet, messages[0], 0));
  job_free(&slab, job);
  job = dispatch_job("Example.ORG", UINT64_MAX);
  answer(told.query, NULL);
  job_free(&slab, job);
  domains_close(&outlet);
  domains_open(&outlet);
  ck_assert_ptr_eq(domain_entry(&outlet, messages[1], 0), &conf.sites[0]);
  close_sites();
}
END_TEST

/* The age limit holds for what waits for DNS, too, and the question is not asked again for those that come later. */
START_TEST(what_waits_for_dns_gets_old) {
  open_sites("[{match: [example.org]}]");
  hangs = true;
  struct job *old = dispatch_job("d.example", shard.wall_ms + 1000);
  domains_sweep(&outlet);
  ck_assert_uint_eq(told.ended, 0);
  shard.wall_ms += 1000;
  domains_sweep(&outlet);
  ck_assert_uint_eq(told.ended, 1);
  ck_assert_ptr_eq(told.job, old);
  job_free(&slab, old);
  shard.now_ms += 7200000; /* with an answer under way a domain is not forgotten */
  domains_sweep(&outlet);
  struct job *young = dispatch_job("d.example", UINT64_MAX);
  ck_assert_uint_eq(told.asked, 1);
  answer(told.query, "mx.example.net");
  ck_assert_uint_eq(told.enqueued, 1);
  ck_assert_ptr_eq(told.job, young);
  job_free(&slab, young);
  struct job *last = dispatch_job("e.example", shard.wall_ms);
  ck_assert_uint_eq(told.asked, 2);
  domains_sweep(&outlet);
  ck_assert_uint_eq(told.ended, 2);
  job_free(&slab, last);
  domains_close(&outlet);
  ck_assert_uint_eq(told.cancelled, 1); /* though nobody waits any more */
  domains_open(&outlet);
  close_sites();
}
END_TEST

/* ---- what hosts have to prove ---- */

static struct site strict;

static struct vetted vetted_as(const char *way, const struct mx_set *set) {
  static struct proof *const none[1];
  struct vetted vetted = {.set = set, .proof = none, .ttl_s = 7};
  snprintf(vetted.way, sizeof vetted.way, "%s", way);
  return vetted;
}

static void begin_vetting(const char *domain) {
  memset(&told, 0, sizeof told);
  under = NULL;
  hangs = true;
  struct job *job = waiting_job(domain);
  domain_dispatch(&outlet, job);
  ck_assert(told.asked == 1 && told.enqueued == 0);
  answer(told.query, "mx.example");
  ck_assert(under != NULL && told.vets == 1 && told.enqueued == 0);
}

START_TEST(what_is_demanded_is_part_of_a_sites_name) {
  struct mx_host host = {.addresses = 1, .name = "mx.example", .name_len = 10};
  struct mx_set set = {.status = MX_OK, .hosts = 1, .host = &host, .ttl_s = 60};
  open_routes(0);
  vets = true;
  begin_vetting("example.org");
  struct vetted vetted = vetted_as("tls=sts,", &set);
  domain_vetted(under, &vetted);
  ck_assert_str_eq(told.site, "tls=sts,mx.example");
  ck_assert_ptr_eq(told.proof, vetted.proof);
  ck_assert_uint_eq(told.enqueued, 1);
  ck_assert_uint_eq(under->valid_until_ms, shard.now_ms + 7000);
  ck_assert(!domain_left(&outlet, told.job, &site)); /* nothing of that is configured */
  conf.dane = true;
  ck_assert(!domain_left(&outlet, told.job, &site) && domain_left(&outlet, told.job, &strict));
  vetted = vetted_as("", &set);
  domain_vetted(under, &vetted);
  ck_assert_str_eq(told.site, "mx.example");
  ck_assert(!domain_left(&outlet, told.job, &strict)); /* less is due now: it may go where it is */
  free_waiting();
  close_routes();
}
END_TEST

START_TEST(a_domain_without_a_host_that_may_be_tried_waits) {
  struct mx_host host = {.addresses = 0, .name = "mx.example", .name_len = 10};
  struct mx_set set = {.status = MX_OK, .hosts = 1, .host = &host, .ttl_s = 60};
  open_routes(0);
  vets = true;
  begin_vetting("example.org");
  struct vetted vetted = vetted_as("tls=dane,", &set);
  vetted.result = PROOF_TLSA_FAILED;
  snprintf(vetted.reason, sizeof vetted.reason, "SERVFAIL");
  domain_vetted(under, &vetted);
  ck_assert(told.enqueued == 0 && told.ended == 1);
  ck_assert_int_eq(told.failure.kind, FAILURE_TLS);
  ck_assert_str_eq(told.text, "SERVFAIL");
  ck_assert_str_eq(told.policy, "tlsa");
  ck_assert_str_eq(told.result, "dnssec-invalid");
  conf.mta_sts = conf.dane = true;
  ck_assert(domain_left(&outlet, told.job, &site));
  vetted.result = PROOF_FAILED;
  under->valid_until_ms = 0;
  domain_vetted(under, &vetted);
  dispatch("example.org"); /* the answer holds for those that come later */
  ck_assert(told.ended == 1 && told.asked == 0);
  ck_assert_str_eq(told.policy, "sts");
  free_waiting();
  close_routes();
}
END_TEST

START_TEST(without_memory_to_vet_it_is_asked_again) {
  open_routes(0);
  vets = no_memory = true;
  hangs = true;
  memset(&told, 0, sizeof told);
  domain_dispatch(&outlet, waiting_job("example.org"));
  answer(told.query, "mx.example");
  ck_assert(told.ended == 1 && told.vets == 1);
  ck_assert_int_eq(told.failure.error, E_NO_MEMORY);
  no_memory = false;
  begin_vetting("example.org");
  domain_vetted(under, NULL);
  ck_assert_int_eq(told.failure.kind, FAILURE_INTERNAL);
  free_waiting();
  close_routes();
}
END_TEST

/* It has a domain of its own, whose answers and failures are nobody else's; the name is the same, also for who suspends it. */
START_TEST(mail_that_requires_tls_goes_its_own_way) {
  struct mx_host host = {.addresses = 1, .name = "mx.example", .name_len = 10};
  struct mx_set set = {.status = MX_OK, .hosts = 1, .host = &host, .ttl_s = 60};
  open_routes(0);
  vets = require_tls = true;
  begin_vetting("Example.org");
  struct vetted vetted = vetted_as("tls=requiretls,", &set);
  ck_assert(under->require_tls && strcmp(under->name, "example.org") == 0);
  domain_vetted(under, &vetted);
  ck_assert_str_eq(told.site, "tls=requiretls,mx.example");
  conf.dane = true;
  ck_assert(!domain_left(&outlet, told.job, &site) && domain_left(&outlet, told.job, &strict));
  const struct domain *required = under;
  require_tls = false;
  begin_vetting("example.org");
  ck_assert(under != required && !under->require_tls);
  vetted = vetted_as("", &set);
  domain_vetted(under, &vetted);
  ck_assert_str_eq(told.site, "mx.example");
  ck_assert_uint_eq(outlet.domains.count, 2);
  tls_optional = true;
  begin_vetting("example.org");
  ck_assert(under->tls_optional && !under->require_tls && strcmp(under->name, "example.org") == 0);
  domain_vetted(under, &vetted);
  ck_assert_uint_eq(outlet.domains.count, 3);
  tls_optional = false;
  require_tls = true;
  dispatch("example.org");
  ck_assert(told.enqueued == 1 && told.asked == 0);
  domain_queue_hold(&schedule.domains, domain_queue_get(&schedule.domains, SPAN("example.org")), true);
  check_held("example.ORG");
  free_waiting();
  close_routes();
}
END_TEST

/* Where there is no name to verify it waits. */
START_TEST(routes_for_mail_that_requires_tls) {
  char name[] = "smtp.example";
  for (unsigned i = 0; i < 3; i++) {
    char domain[] = {(char)('a' + (int)i), '.', 'e', '\0'};
    set_route(i, domain);
    routes[i].tls = CONF_SECURITY_OPPORTUNISTIC;
  }
  routes[1].tls_name = routes[2].tls_name = name;
  routes[2].tls = CONF_SECURITY_IMPLICIT;
  open_routes(3);
  require_tls = true;
  dispatch("a.e");
  ck_assert(told.ended == 1 && told.policy == NULL);
  ck_assert_int_eq(told.failure.kind, FAILURE_TLS);
  dispatch("b.e");
  ck_assert_str_eq(told.site, "tls=verify,smtp.example=192.0.2.1:1001");
  dispatch("c.e");
  ck_assert_str_eq(told.site, "tls=implicit,smtp.example=192.0.2.1:1002");
  dispatch("[192.0.2.1]");
  ck_assert_int_eq(told.failure.kind, FAILURE_TLS);
  require_tls = false;
  dispatch("a.e");
  ck_assert_uint_eq(told.enqueued, 1);
  close_routes();
}
END_TEST

/* A route that a reload brings is the operator's word. */
START_TEST(a_route_has_nothing_to_prove) {
  struct mx_host host = {.addresses = 0, .name = "mx.example", .name_len = 10};
  struct mx_set set = {.status = MX_OK, .hosts = 1, .host = &host, .ttl_s = 60};
  set_route(0, "example.org");
  open_routes(0);
  vets = true;
  begin_vetting("example.org");
  struct vetted vetted = vetted_as("tls=dane,", &set);
  vetted.result = PROOF_FAILED;
  domain_vetted(under, &vetted);
  ck_assert_int_eq(told.failure.kind, FAILURE_TLS);
  conf.routes_count = 1;
  ck_assert_int_eq(map_insert(&conf.routes_by_domain, &routes[0]), E_OK);
  domains_take_conf(&outlet, false, true);
  check_route("example.org", 0);
  ck_assert(told.vets == 0 && told.proof == NULL);
  free_waiting();
  close_routes();
}
END_TEST

int main(void) {
  TCase *all = tcase_create("all");
  tcase_add_test(all, a_route_is_for_its_domain_and_no_other);
  tcase_add_test(all, a_star_is_for_all_others);
  tcase_add_test(all, many_routes);
  tcase_add_test(all, routes_that_deliver_nothing);
  tcase_add_test(all, routes_with_a_way_of_their_own);
  tcase_add_test(all, no_routes);
  tcase_add_test(all, what_is_suspended_is_held_without_a_question);
  tcase_add_test(all, the_site_of_what_waits_is_remembered);
  tcase_add_test(all, a_lack_of_memory_is_ours_and_not_remembered);
  tcase_add_test(all, an_entry_is_for_the_name_of_a_domain_or_its_hosts);
  tcase_add_test(all, what_is_known_of_a_domain_that_was_never_looked_up);
  tcase_add_test(all, what_waits_for_dns_gets_old);
  tcase_add_test(all, what_is_demanded_is_part_of_a_sites_name);
  tcase_add_test(all, a_domain_without_a_host_that_may_be_tried_waits);
  tcase_add_test(all, without_memory_to_vet_it_is_asked_again);
  tcase_add_test(all, a_route_has_nothing_to_prove);
  tcase_add_test(all, mail_that_requires_tls_goes_its_own_way);
  tcase_add_test(all, routes_for_mail_that_requires_tls);
  return unit_main("net/out/domain", &all, 1);
}
