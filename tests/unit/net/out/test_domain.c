#include <stdio.h>
#include <stdlib.h>

#include "core/base/error.h"
#include "net/out/outlet.h"
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

/* What became of the job dispatched last. */
static struct {
  unsigned asked, enqueued, ended, held;
  char site[MX_SITE_NAME_MAX + 1];
  struct failure failure;
} told;

/* ---- what domain.c calls ---- */

void resolver_mx(struct resolver *resolver, struct span domain, struct resolver_query *query) {
  (void)resolver;
  (void)domain;
  struct mx_set set = {.status = MX_TEMPORARY, .reason = "asked"};
  told.asked++;
  query->done(query, &set);
}

void resolver_cancel(struct resolver *resolver, struct resolver_query *query) {
  (void)resolver;
  (void)query;
}

struct site *site_get(struct outlet *of, const char *name) {
  (void)of;
  snprintf(told.site, sizeof told.site, "%s", name);
  return no_memory ? NULL : &site;
}

bool site_set_hosts(struct site *of, const struct mx_set *set, uint16_t port) {
  (void)of;
  (void)port;
  return set->hosts > 0;
}

void site_enqueue(struct site *to, struct job *job) {
  (void)to;
  (void)job;
  told.enqueued++;
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
  *(job->each[0].fate == FATE_HELD ? &told.held : &told.ended) += 1;
}

/* ---- the world ---- */

static void open_routes(unsigned count) {
  shard.now_ms = 1000;
  conf = (struct conf){.routes = routes, .routes_count = count};
  outlet = (struct outlet){.o = {.shard = &shard, .conf = &conf, .schedule = &schedule, .map_seed = 5}};
  domain_queues_init(&schedule.domains, 5);
  ck_assert_int_eq(domains_open(&outlet), E_OK);
  no_memory = false;
}

static void close_domains(void) {
  domains_close(&outlet);
  for (struct domain_queue *queue = schedule.domains.first; queue != NULL; queue = queue->next) ck_assert_ptr_null(queue->outgoing);
  domain_queues_fini(&schedule.domains);
}

static void set_route(unsigned i, const char *domain) {
  snprintf(names[i], sizeof names[i], "%s", domain);
  hosts[i] = (struct netaddr){.family = 4, .port = (uint16_t)(1000 + i), .bytes = {192, 0, 2, 1}};
  routes[i] = (struct conf_route){.domain = names[i], .hosts = &hosts[i], .hosts_count = 1};
}

static void dispatch(const char *domain) {
  static uint8_t room[1024];
  static struct slab slab;
  char address[64];
  struct fmt out = fmt_over(room, sizeof room);
  struct record_envelope envelope = {.sender = SPAN("s@example.org"), .recipients = 1};
  snprintf(address, sizeof address, "r@%s", domain);
  record_envelope_encode(&envelope, &out);
  struct record_recipient recipient = {.address = span_of_text(address)};
  record_recipient_encode(&recipient, &out);
  slab_init(&slab, 1 << 20);
  struct message *message = message_new(&slab, 1, fmt_span(&out));
  struct job *job = job_new(&slab, message, 0, 0, 0);
  message->recipient[0].domain = domain_queue_get(&schedule.domains, span_of_text(domain));
  memset(&told, 0, sizeof told);
  domain_dispatch(&outlet, job);
  ck_assert_uint_eq(told.enqueued + told.ended + told.held, 1);
  job_free(&slab, job);
  message_free(&slab, message);
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
  close_domains();
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
  close_domains();
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
  close_domains();
}
END_TEST

START_TEST(no_routes) {
  open_routes(0);
  check_asked("example.org");
  close_domains();
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
  close_domains();
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
  close_domains();
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
  close_domains();
}
END_TEST

int main(void) {
  TCase *all = tcase_create("all");
  tcase_add_test(all, a_route_is_for_its_domain_and_no_other);
  tcase_add_test(all, a_star_is_for_all_others);
  tcase_add_test(all, many_routes);
  tcase_add_test(all, no_routes);
  tcase_add_test(all, what_is_suspended_is_held_without_a_question);
  tcase_add_test(all, the_site_of_what_waits_is_remembered);
  tcase_add_test(all, a_lack_of_memory_is_ours_and_not_remembered);
  return unit_main("net/out/domain", &all, 1);
}
