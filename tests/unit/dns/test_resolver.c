#include "dns/resolver.h"

#include "tests/unit/dns/fake_io.c"
#include "tests/unit/dns/fake_server.c"

#include "dns/cache.h"
#include "tests/lib/unit.h"

#define KIND 7

static struct io *io;
static struct wheel wheel;
static struct resolver *resolver;
static struct netaddr addresses[FAKE_SERVERS];
static struct resolver_options options;

/* ---- what came back ---- */

struct wanted {
  struct resolver_query query;
  unsigned calls;
  enum mx_status status;
  bool implicit, secure, stale;
  uint32_t ttl_s;
  char hosts[2048]; /* "10 mx1.org 192.0.2.1 2001:db8::1; ..." */
  char site[MX_SITE_NAME_MAX + 1];
  char reason[96];
  void (*then)(struct wanted *wanted);
};

static void describe(struct wanted *wanted, const struct mx_set *set) {
  size_t len = 0;
  wanted->hosts[0] = '\0';
  for (unsigned i = 0; i < set->hosts; i++) {
    const struct mx_host *host = &set->host[i];
    len += (size_t)snprintf(wanted->hosts + len, sizeof wanted->hosts - len, "%s%u %s", i > 0 ? "; " : "", host->preference, host->name);
    for (unsigned a = 0; a < host->addresses; a++) {
      char text[64];
      inet_ntop(host->address[a].family == 4 ? AF_INET : AF_INET6, host->address[a].bytes, text, sizeof text);
      len += (size_t)snprintf(wanted->hosts + len, sizeof wanted->hosts - len, " %s", text);
    }
  }
}

static void done(struct resolver_query *query, const struct mx_set *set) {
  struct wanted *wanted = query->context;
  struct fmt site = fmt_over(wanted->site, MX_SITE_NAME_MAX);
  wanted->calls++;
  wanted->status = set->status;
  wanted->implicit = set->implicit, wanted->secure = set->secure, wanted->stale = set->stale;
  wanted->ttl_s = set->ttl_s;
  strcpy(wanted->reason, set->reason);
  describe(wanted, set);
  mx_site_name(set, &site);
  wanted->site[site.len] = '\0';
  if (wanted->then != NULL) wanted->then(wanted);
  char before[sizeof wanted->hosts];
  strcpy(before, wanted->hosts);
  describe(wanted, set); /* nothing done in `then` may change the set we borrowed */
  ck_assert_str_eq(before, wanted->hosts);
}

/* ---- the world ---- */

static const char *const zone[] = {
    "one.org 300 MX 10 mx1.one.org",
    "mx1.one.org 200 A 192.0.2.1",
    "mx1.one.org 250 AAAA 2001:db8::1",
    "two.org 300 MX 20 b.two.org",
    "two.org 300 MX 10 a.two.org",
    "a.two.org 300 A 192.0.2.2",
    "b.two.org 300 A 192.0.2.3",
    "twin.org 300 MX 5 b.two.org",
    "twin.org 300 MX 5 a.two.org",
    "null.org 300 MX 0 .",
    "plain.org 300 A 192.0.2.4",
    "alias.org 300 CNAME plain.org",
    "mxalias.org 100 CNAME one.org",
    "loop.org 300 CNAME pool.org",
    "pool.org 300 CNAME loop.org",
    "empty.org 300 CNAME bare.org",
    "nohost.org 300 MX 10 missing.org",
    "literal.org 300 MX 10 192.0.2.9",
    "half.org 3000 MX 10 servfail.half.org",
    "half.org 3000 MX 20 a.two.org",
    "sick.org 300 MX 10 servfail.sick.org",
    "numb.org 300 MX 10 silent.numb.org",
    "us.org 300 MX 10 relay.example.net",
    "backup.org 300 MX 10 a.two.org",
    "backup.org 300 MX 20 relay.example.net",
    "backup.org 300 MX 30 b.two.org",
    "zero.org 0 MX 10 mx1.one.org",
    "xn--bcher-kva.example 300 MX 10 mx1.one.org",
    NULL,
};

static void start_with(unsigned servers_count) {
  io = calloc(1, sizeof *io);
  io->now_ns = 5000000000;
  io->random = 42;
  io->serve = serve;
  memset(&servers, 0, sizeof servers);
  servers.zone = zone;
  wheel_init(&wheel, io->now_ns / 1000000);
  for (unsigned i = 0; i < FAKE_SERVERS; i++)
    addresses[i] = (struct netaddr){.family = 4, .port = (uint16_t)(FAKE_PORT + i), .bytes = {127, 0, 0, 1}};
  options.servers = addresses;
  options.servers_count = servers_count;
  options.hostname = SPAN("Relay.example.net");
  options.ipv6 = true;
  ck_assert_int_eq(resolver_open(&resolver, io, &wheel, &options, KIND), E_OK);
}

static void setup(void) {
  options = (struct resolver_options){0};
  start_with(2);
}

static void teardown(void) {
  resolver_close(resolver);
  fake_fini(io);
  free(io);
}

static void restart(unsigned servers_count) {
  teardown();
  start_with(servers_count);
}

static void turn(uint64_t until_ms) {
  const struct io_completion *completions;
  uint64_t timer_ms = wheel_next_ms(&wheel);
  unsigned count = io_wait(io, (timer_ms < until_ms ? timer_ms : until_ms) * 1000000, &completions);
  for (unsigned i = 0; i < count; i++) {
    ck_assert_uint_eq(completions[i].token >> 56, KIND);
    resolver_complete(resolver, &completions[i]);
  }
  wheel_advance(&wheel, io->now_ns / 1000000, NULL, 1000);
}

static uint64_t now_ms(void) { return io->now_ns / 1000000; }

static void pass(uint64_t ms) {
  uint64_t end = now_ms() + ms;
  while (now_ms() < end) turn(end);
}

static void want(struct wanted *wanted, const char *domain) {
  wanted->query.done = done;
  wanted->query.context = wanted;
  resolver_mx(resolver, span_of_text(domain), &wanted->query);
}

/* Asks and waits until there is an answer; returns how long that took, in ms. */
static uint64_t get(struct wanted *wanted, const char *domain) {
  uint64_t begin = now_ms();
  unsigned calls = wanted->calls;
  want(wanted, domain);
  while (wanted->calls == calls && now_ms() < begin + 100000) turn(begin + 100000);
  ck_assert_uint_eq(wanted->calls, calls + 1);
  return now_ms() - begin;
}

static unsigned asked(void) { return servers.asked_total; }

/* ---- answers ---- */

START_TEST(mx_with_both_families) {
  struct wanted w = {0};
  get(&w, "One.ORG");
  ck_assert_int_eq(w.status, MX_OK);
  ck_assert_str_eq(w.hosts, "10 mx1.one.org 2001:db8::1 192.0.2.1");
  ck_assert_str_eq(w.site, "mx1.one.org");
  ck_assert_uint_eq(w.ttl_s, 200);
  ck_assert(!w.implicit && !w.stale && w.secure);
  ck_assert_uint_eq(asked(), 3);
  ck_assert(servers.seen_upper);
  ck_assert_uint_eq(servers.without_edns, 0);
}
END_TEST

START_TEST(without_ipv6_no_aaaa_is_asked) {
  struct wanted w = {0};
  teardown();
  options = (struct resolver_options){0};
  start_with(1);
  resolver_close(resolver);
  options.ipv6 = false;
  ck_assert_int_eq(resolver_open(&resolver, io, &wheel, &options, KIND), E_OK);
  get(&w, "one.org");
  ck_assert_str_eq(w.hosts, "10 mx1.one.org 192.0.2.1");
  ck_assert_uint_eq(asked(), 2);
}
END_TEST

START_TEST(same_hosts_are_one_site) {
  struct wanted w = {0}, twin = {0};
  get(&w, "two.org");
  get(&twin, "twin.org");
  ck_assert_str_eq(w.hosts, "10 a.two.org 192.0.2.2; 20 b.two.org 192.0.2.3");
  ck_assert_str_eq(w.site, "a.two.org,b.two.org");
  ck_assert_str_eq(twin.site, w.site);
}
END_TEST

static const struct {
  const char *domain;
  enum mx_status status;
  uint32_t ttl_s;
  bool implicit;
  const char *hosts;
} table[] = {
    {"null.org", MX_NULL, 300, false, ""},
    {"missing.org", MX_NO_DOMAIN, 60, false, ""},
    {"plain.org", MX_OK, 60, true, "0 plain.org 192.0.2.4"},
    {"alias.org", MX_OK, 60, true, "0 plain.org 192.0.2.4"},
    {"mxalias.org", MX_OK, 100, false, "10 mx1.one.org 2001:db8::1 192.0.2.1"},
    {"loop.org", MX_TEMPORARY, 5, false, ""},
    {"empty.org", MX_NO_DOMAIN, 60, false, ""},
    {"nohost.org", MX_NO_ADDRESS, 60, false, ""},
    {"literal.org", MX_NO_ADDRESS, 300, false, ""},
    {"half.org", MX_OK, 60, false, "10 servfail.half.org; 20 a.two.org 192.0.2.2"},
    {"sick.org", MX_TEMPORARY, 5, false, ""},
    {"servfail.org", MX_TEMPORARY, 5, false, ""},
    {"us.org", MX_SELF, 300, false, ""},
    {"relay.example.net", MX_NO_DOMAIN, 60, false, ""},
    {"backup.org", MX_OK, 60, false, "10 a.two.org 192.0.2.2"},
    {"b\xc3\xbc"
     "cher.example",
     MX_OK, 200, false, "10 mx1.one.org 2001:db8::1 192.0.2.1"},
    {"a..b", MX_BAD_NAME, 0, false, ""},
    {"", MX_BAD_NAME, 0, false, ""},
};

START_TEST(every_kind_of_domain) {
  struct wanted w = {0};
  ck_assert_uint_le(get(&w, table[_i].domain), 100);
  ck_assert_msg(w.status == table[_i].status, "%s: %s", table[_i].domain, mx_status_text(w.status));
  ck_assert_str_eq(w.hosts, table[_i].hosts);
  ck_assert_uint_eq(w.ttl_s, table[_i].ttl_s);
  ck_assert(w.implicit == table[_i].implicit);
  ck_assert((w.status == MX_OK) == (w.reason[0] == '\0'));
  ck_assert(!w.stale);
}
END_TEST

START_TEST(secure_only_if_all_answers_were) {
  struct wanted w = {0};
  servers.fault[0] = NO_AD;
  get(&w, "one.org");
  ck_assert(!w.secure);
  get(&w, "one.org");
  ck_assert(!w.secure);
}
END_TEST

/* ---- cache and merging ---- */

START_TEST(known_domains_cost_no_query_and_call_back_at_once) {
  struct wanted w = {0};
  get(&w, "one.org");
  unsigned before = asked();
  pass(50000);
  want(&w, "ONE.org");
  ck_assert_uint_eq(w.calls, 2);
  ck_assert_str_eq(w.hosts, "10 mx1.one.org 2001:db8::1 192.0.2.1");
  ck_assert_uint_eq(w.ttl_s, 150);
  ck_assert_uint_eq(asked(), before);
  ck_assert_uint_eq(resolver_stats(resolver)->cache_hits, 1);
  ck_assert_uint_eq(resolver_stats(resolver)->cache_misses, 1);
}
END_TEST

START_TEST(only_what_expired_is_asked_again) {
  struct wanted w = {0};
  get(&w, "one.org");
  pass(201000); /* A is gone, AAAA and MX are not */
  unsigned before = asked();
  get(&w, "one.org");
  ck_assert_uint_eq(asked(), before + 1);
  ck_assert_uint_le(w.ttl_s, 49);
  ck_assert(!w.stale);
}
END_TEST

START_TEST(negative_answers_and_failures_are_remembered) {
  struct wanted w = {0};
  get(&w, "missing.org");
  unsigned before = asked();
  get(&w, "missing.org");
  ck_assert_int_eq(w.status, MX_NO_DOMAIN);
  ck_assert_uint_eq(asked(), before);
  pass(61000);
  get(&w, "missing.org");
  ck_assert_uint_gt(asked(), before);
  get(&w, "servfail.org");
  before = asked();
  get(&w, "servfail.org");
  ck_assert_int_eq(w.status, MX_TEMPORARY);
  ck_assert_uint_eq(asked(), before);
  pass(5001);
  get(&w, "servfail.org");
  ck_assert_uint_gt(asked(), before);
}
END_TEST

START_TEST(ttl_caps_hold) {
  struct wanted w = {0};
  teardown();
  options = (struct resolver_options){.ttl_max_s = 30, .negative_ttl_max_s = 7};
  start_with(2);
  get(&w, "one.org");
  ck_assert_uint_eq(w.ttl_s, 30);
  get(&w, "missing.org");
  ck_assert_uint_eq(w.ttl_s, 7);
}
END_TEST

START_TEST(identical_queries_under_way_are_one) {
  struct wanted w[5];
  memset(w, 0, sizeof w);
  for (unsigned i = 0; i < 5; i++) want(&w[i], "one.org");
  pass(100);
  for (unsigned i = 0; i < 5; i++) ck_assert_uint_eq(w[i].calls, 1);
  ck_assert_uint_eq(asked(), 3);
  ck_assert_uint_eq(resolver_stats(resolver)->merged, 4);
}
END_TEST

START_TEST(different_domains_share_questions_under_way) {
  struct wanted a = {0}, b = {0};
  want(&a, "two.org");
  want(&b, "twin.org");
  pass(100);
  ck_assert_int_eq(a.status, MX_OK);
  ck_assert_int_eq(b.status, MX_OK);
  ck_assert_uint_eq(asked(), 2 + 4);
}
END_TEST

START_TEST(ttl_zero_serves_all_who_wait_and_nobody_else) {
  struct wanted a = {0}, b = {0};
  want(&a, "zero.org");
  want(&b, "zero.org");
  pass(100);
  ck_assert(a.status == MX_OK && b.status == MX_OK);
  ck_assert_uint_eq(a.ttl_s, 0);
  unsigned before = asked();
  get(&a, "zero.org");
  ck_assert_uint_eq(asked(), before + 1);
}
END_TEST

START_TEST(cache_is_bounded) {
  struct wanted w = {0};
  teardown();
  options = (struct resolver_options){.cache_entries = 8};
  start_with(1);
  get(&w, "one.org");
  for (unsigned i = 0; i < 50; i++) {
    char domain[32];
    snprintf(domain, sizeof domain, "d%u.missing.org", i);
    get(&w, domain);
  }
  unsigned before = asked();
  get(&w, "one.org");
  ck_assert_uint_eq(asked(), before + 3);
  get(&w, "d49.missing.org");
  ck_assert_uint_eq(asked(), before + 3);
}
END_TEST

/* ---- servers ---- */

START_TEST(silent_server_gives_way_to_the_next) {
  struct wanted w = {0};
  servers.fault[0] = SILENT;
  uint64_t took = get(&w, "null.org");
  ck_assert_int_eq(w.status, MX_NULL);
  ck_assert(took >= 2000 && took < 2100);
  ck_assert_uint_eq(resolver_stats(resolver)->timeouts, 1);
  ck_assert_uint_le(get(&w, "missing.org"), 100); /* and is not the first to be asked any more */
  ck_assert_uint_eq(servers.asked[0], 1);
}
END_TEST

START_TEST(all_silent_is_temporary_after_all_tries) {
  struct wanted w = {0};
  servers.fault[0] = servers.fault[1] = SILENT;
  uint64_t took = get(&w, "one.org");
  ck_assert_int_eq(w.status, MX_TEMPORARY);
  ck_assert(took >= 8000 && took < 8100);
  ck_assert_uint_eq(servers.asked[0], 2);
  ck_assert_uint_eq(servers.asked[1], 2);
  ck_assert_str_eq(w.reason, "no name server replied about one.org");
}
END_TEST

START_TEST(closed_port_is_passed_over_at_once) {
  struct wanted w = {0};
  servers.fault[0] = CLOSED_PORT;
  ck_assert_uint_le(get(&w, "one.org"), 100);
  ck_assert_int_eq(w.status, MX_OK);
  ck_assert_uint_eq(servers.asked[0], 1); /* the later questions begin with the one that works */
  pass(10);
  for (unsigned i = 0; i < FAKE_SOCKETS; i++) ck_assert(!io->sockets[i].open || io->sockets[i].server.port != FAKE_PORT);
}
END_TEST

START_TEST(all_ports_closed_waits_for_a_restart) {
  struct wanted w = {0};
  servers.fault[0] = servers.fault[1] = CLOSED_PORT;
  want(&w, "one.org");
  pass(1000);
  ck_assert_uint_eq(w.calls, 0);
  ck_assert_uint_le(asked(), 2);
  servers.fault[0] = servers.fault[1] = FINE;
  pass(1100);
  ck_assert_uint_eq(w.calls, 1);
  ck_assert_int_eq(w.status, MX_OK);
}
END_TEST

START_TEST(a_closed_port_gets_another_chance_each_round) {
  struct wanted w = {0};
  servers.fault[0] = CLOSED_PORT;
  servers.fault[1] = SILENT;
  want(&w, "null.org");
  pass(1000);
  servers.fault[0] = FINE;
  pass(1100);
  ck_assert_uint_eq(w.calls, 1);
  ck_assert_int_eq(w.status, MX_NULL);
}
END_TEST

START_TEST(no_sockets_is_temporary_and_heals) {
  struct wanted w = {0};
  io->fail_datagram = E_TOO_MANY_FILES;
  uint64_t took = get(&w, "one.org");
  ck_assert_int_eq(w.status, MX_TEMPORARY);
  ck_assert_uint_ge(took, 4000);
  ck_assert_uint_eq(asked(), 0);
  io->fail_datagram = E_OK;
  pass(5001);
  get(&w, "one.org");
  ck_assert_int_eq(w.status, MX_OK);
}
END_TEST

START_TEST(no_servers_at_all_is_temporary) {
  struct wanted w = {0};
  restart(0);
  want(&w, "one.org");
  ck_assert_uint_eq(w.calls, 0); /* never from within, if not from the cache */
  pass(10);
  ck_assert_uint_eq(w.calls, 1);
  ck_assert_int_eq(w.status, MX_TEMPORARY);
}
END_TEST

START_TEST(servfail_and_refused_ask_each_server_once) {
  struct wanted w = {0};
  servers.fault[0] = SAYS_SERVFAIL + _i;
  ck_assert_uint_le(get(&w, "null.org"), 100);
  ck_assert_int_eq(w.status, MX_NULL);
  servers.fault[1] = SAYS_SERVFAIL + _i;
  unsigned before = asked();
  get(&w, "one.org");
  ck_assert_int_eq(w.status, MX_TEMPORARY);
  ck_assert_uint_eq(asked(), before + 2);
  ck_assert_ptr_nonnull(strstr(w.reason, _i == 0 ? "SERVFAIL" : "REFUSED"));
}
END_TEST

START_TEST(a_server_without_edns_is_asked_without) {
  struct wanted w = {0};
  servers.fault[0] = servers.fault[1] = HATES_EDNS;
  ck_assert_uint_le(get(&w, "one.org"), 100);
  ck_assert_int_eq(w.status, MX_OK);
  ck_assert_uint_eq(servers.without_edns, 3);
  ck_assert_uint_eq(asked(), 6);
}
END_TEST

START_TEST(truncated_replies_come_over_tcp) {
  struct wanted w = {0};
  servers.fault[0] = servers.fault[1] = _i == 0 ? TRUNCATES : TCP_TALKS_ON;
  ck_assert_uint_le(get(&w, "one.org"), 200);
  ck_assert_int_eq(w.status, MX_OK);
  ck_assert_uint_eq(servers.asked_tcp[0], 3);
  ck_assert_uint_eq(resolver_stats(resolver)->truncated, 3);
  pass(10);
  for (unsigned i = 0; i < FAKE_SOCKETS; i++) ck_assert(!io->sockets[i].open || io->sockets[i].datagram); /* all closed again */
}
END_TEST

START_TEST(more_truncated_than_streams) {
  static struct wanted w[200];
  char domain[32];
  memset(w, 0, sizeof w);
  servers.fault[0] = servers.fault[1] = TRUNCATES;
  for (unsigned i = 0; i < 200; i++) {
    snprintf(domain, sizeof domain, "x%u.org", i);
    want(&w[i], domain);
  }
  pass(8000);
  for (unsigned i = 0; i < 200; i++) ck_assert_int_eq(w[i].status, MX_NO_DOMAIN);
}
END_TEST

START_TEST(tcp_has_its_faults_too) {
  static const enum fault faults[] = {TCP_REFUSED, TCP_SILENT, TCP_CUTS, TCP_WRONG_ID};
  struct wanted w = {0};
  servers.fault[0] = faults[_i];
  uint64_t took = get(&w, "null.org");
  ck_assert_int_eq(w.status, MX_NULL); /* from the other server */
  ck_assert(took < 4200 && (faults[_i] != TCP_SILENT || took >= 4000));
  servers.fault[1] = faults[_i];
  get(&w, "one.org");
  ck_assert_int_eq(w.status, MX_TEMPORARY);
  ck_assert_ptr_null(strstr(w.reason, "no name server replied")); /* they did say something */
}
END_TEST

START_TEST(false_packets_do_not_hurt) {
  static const enum fault faults[] = {WRONG_ID_FIRST, WRONG_NAME_FIRST, GARBAGE_FIRST};
  struct wanted w = {0};
  servers.fault[0] = faults[_i];
  ck_assert_uint_le(get(&w, "one.org"), 100);
  ck_assert_int_eq(w.status, MX_OK);
  ck_assert_uint_eq(resolver_stats(resolver)->mismatches, 3);
}
END_TEST

START_TEST(a_server_that_changes_case_is_asked_over_tcp) {
  struct wanted w = {0};
  servers.fault[0] = LOWERS_CASE;
  get(&w, "one.org");
  ck_assert_int_eq(w.status, MX_OK);
  ck_assert_uint_ge(servers.asked_tcp[0], 2); /* a name may by chance have gone out in lower case */
}
END_TEST

START_TEST(ports_change_with_use_and_time) {
  struct wanted w = {0};
  char domain[32];
  for (unsigned i = 0; i < 3000; i++) {
    snprintf(domain, sizeof domain, "x%u.org", i);
    get(&w, domain);
  }
  ck_assert_uint_ge(io->opened, 16); /* eight at a time, 256 queries each */
  unsigned before = io->opened, open = 0;
  pass(61000);
  for (unsigned i = 0; i < 100; i++) {
    snprintf(domain, sizeof domain, "y%u.org", i);
    get(&w, domain);
  }
  ck_assert_uint_ge(io->opened, before + 8);
  pass(1000);
  for (unsigned i = 0; i < FAKE_SOCKETS; i++) open += io->sockets[i].open;
  ck_assert_uint_le(open, 8);
}
END_TEST

/* ---- stale answers ---- */

START_TEST(expired_answers_serve_while_no_server_replies) {
  struct wanted w = {0};
  get(&w, "one.org");
  servers.fault[0] = servers.fault[1] = SILENT;
  pass(3600000);
  ck_assert_uint_ge(get(&w, "one.org"), 8000);
  ck_assert_int_eq(w.status, MX_OK);
  ck_assert(w.stale);
  ck_assert_uint_eq(w.ttl_s, 30);
  ck_assert_str_eq(w.hosts, "10 mx1.one.org 2001:db8::1 192.0.2.1");
  unsigned before = asked();
  pass(10000);
  ck_assert_uint_eq(get(&w, "one.org"), 0); /* for a while nobody is asked */
  ck_assert(w.stale);
  ck_assert_uint_eq(w.ttl_s, 20);
  ck_assert_uint_eq(asked(), before);
  ck_assert_uint_eq(resolver_stats(resolver)->stale_served, 2);
  pass(20001);
  servers.fault[0] = servers.fault[1] = FINE;
  get(&w, "one.org");
  ck_assert(!w.stale);
  ck_assert_uint_eq(w.ttl_s, 200);
}
END_TEST

START_TEST(stale_answers_die_after_a_day) {
  struct wanted w = {0};
  get(&w, "one.org");
  servers.fault[0] = servers.fault[1] = SILENT;
  pass(86400000 - 60000);
  get(&w, "one.org");
  ck_assert(w.stale);
  pass(400000);
  get(&w, "one.org");
  ck_assert_int_eq(w.status, MX_TEMPORARY);
}
END_TEST

START_TEST(a_server_that_says_servfail_is_believed) {
  struct wanted w = {0};
  get(&w, "one.org");
  pass(400000);
  servers.fault[0] = servers.fault[1] = SAYS_SERVFAIL;
  get(&w, "one.org");
  ck_assert_int_eq(w.status, MX_TEMPORARY);
  pass(6000);
  servers.fault[0] = servers.fault[1] = SILENT; /* the old answer was not lost by that */
  get(&w, "one.org");
  ck_assert(w.stale);
}
END_TEST

START_TEST(negative_answers_are_never_stale) {
  struct wanted w = {0};
  get(&w, "missing.org");
  servers.fault[0] = servers.fault[1] = SILENT;
  pass(100000);
  get(&w, "missing.org");
  ck_assert_int_eq(w.status, MX_TEMPORARY);
}
END_TEST

/* ---- callers ---- */

START_TEST(canceled_queries_are_not_called) {
  struct wanted a = {0}, b = {0};
  want(&a, "one.org");
  want(&b, "one.org");
  resolver_cancel(resolver, &a.query);
  resolver_cancel(resolver, &a.query);
  pass(100);
  ck_assert_uint_eq(a.calls, 0);
  ck_assert_uint_eq(b.calls, 1);
  resolver_cancel(resolver, &b.query);
  want(&a, "one.org"); /* may be used again */
  ck_assert_uint_eq(a.calls, 1);
}
END_TEST

static struct wanted inner[3];

static void cancel_and_ask_more(struct wanted *wanted) {
  wanted->then = NULL;
  resolver_cancel(resolver, &inner[0].query); /* waits behind us for the same */
  want(&inner[1], "one.org");                 /* known by now */
  want(&inner[2], "two.org");                 /* not known */
  wanted->query.done = done;
}

START_TEST(done_may_ask_and_cancel) {
  struct wanted w = {.then = cancel_and_ask_more};
  memset(inner, 0, sizeof inner);
  want(&w, "one.org");
  want(&inner[0], "one.org");
  pass(100);
  ck_assert_uint_eq(w.calls, 1);
  ck_assert_uint_eq(inner[0].calls, 0);
  ck_assert_uint_eq(inner[1].calls, 1);
  ck_assert_uint_eq(inner[2].calls, 1);
  w.then = cancel_and_ask_more;
  want(&w, "one.org"); /* the same out of the cache */
  ck_assert_uint_eq(w.calls, 2);
  ck_assert_uint_eq(inner[1].calls, 2);
  ck_assert_uint_eq(inner[2].calls, 2);
}
END_TEST

static void ask_again(struct wanted *wanted) {
  if (wanted->calls < 3) want(wanted, "zero.org");
}

START_TEST(done_may_ask_the_same_again) {
  struct wanted w = {.then = ask_again};
  want(&w, "zero.org");
  pass(100);
  ck_assert_uint_eq(w.calls, 3);
}
END_TEST

static void ask_on(struct wanted *wanted) {
  if (wanted->calls < 20000) want(wanted, "servfail.org");
}

START_TEST(asking_on_from_done_does_not_nest) {
  struct wanted w = {.then = ask_on};
  want(&w, "servfail.org"); /* a failure is remembered, but not as a set: each time a new lookup ends at once */
  pass(100);
  ck_assert_uint_eq(w.calls, 20000);
}
END_TEST

START_TEST(thousands_at_once_all_end) {
  enum { COUNT = 12000 };
  static struct wanted *w;
  char domain[32];
  w = calloc(COUNT, sizeof *w);
  for (unsigned i = 0; i < COUNT; i++) {
    snprintf(domain, sizeof domain, "x%u.org", i);
    want(&w[i], domain);
  }
  servers.fault[0] = SLOW;
  pass(200);
  ck_assert_uint_eq(asked(), 4096);
  for (unsigned i = 0; i < COUNT; i += 3) resolver_cancel(resolver, &w[i].query);
  pass(20000);
  for (unsigned i = 0; i < COUNT; i++) ck_assert_uint_eq(w[i].calls, i % 3 != 0);
  ck_assert_uint_eq(resolver_stats(resolver)->timeouts, 0);
  free(w);
}
END_TEST

START_TEST(closing_with_everything_under_way_is_clean) {
  static struct wanted w[300];
  char domain[32];
  memset(w, 0, sizeof w);
  servers.fault[0] = TRUNCATES;
  servers.fault[1] = SILENT;
  for (unsigned i = 0; i < 300; i++) {
    snprintf(domain, sizeof domain, i % 2 == 0 ? "x%u.org" : "silent%u.org", i);
    want(&w[i], domain);
    if (i % 50 == 0) turn(now_ms() + 1);
  }
}
END_TEST

/* ---- resolv.conf ---- */

START_TEST(resolv_conf) {
  struct netaddr found[3];
  struct span text = SPAN("# nameserver 192.0.2.9\nsearch a.org\nnameserver 192.0.2.1\n\tnameserver   2001:db8::1 \r\nnameserver\n"
                          "nameserver fe80::1%eth0\n;nameserver 192.0.2.8\nnameservers 192.0.2.7\nnameserver 127.0.0.53");
  ck_assert_uint_eq(resolver_parse_resolv_conf(text, found, 3), 3);
  ck_assert(found[0].family == 4 && found[0].bytes[3] == 1 && found[0].port == 53);
  ck_assert(found[1].family == 6 && found[1].port == 53);
  ck_assert(found[2].family == 4 && found[2].bytes[3] == 53);
  ck_assert_uint_eq(resolver_parse_resolv_conf(text, found, 1), 1);
  ck_assert_uint_eq(resolver_parse_resolv_conf((struct span){NULL, 0}, found, 3), 0);
}
END_TEST

static TCase *new_case(const char *name) {
  TCase *made = tcase_create(name);
  tcase_add_checked_fixture(made, setup, teardown);
  return made;
}

int main(void) {
  TCase *cases[] = {new_case("answers"), new_case("cache"), new_case("servers"), new_case("stale"), new_case("callers")};
  tcase_add_test(cases[0], mx_with_both_families);
  tcase_add_test(cases[0], without_ipv6_no_aaaa_is_asked);
  tcase_add_test(cases[0], same_hosts_are_one_site);
  tcase_add_loop_test(cases[0], every_kind_of_domain, 0, sizeof table / sizeof *table);
  tcase_add_test(cases[0], secure_only_if_all_answers_were);
  tcase_add_test(cases[0], resolv_conf);
  tcase_add_test(cases[1], known_domains_cost_no_query_and_call_back_at_once);
  tcase_add_test(cases[1], only_what_expired_is_asked_again);
  tcase_add_test(cases[1], negative_answers_and_failures_are_remembered);
  tcase_add_test(cases[1], ttl_caps_hold);
  tcase_add_test(cases[1], identical_queries_under_way_are_one);
  tcase_add_test(cases[1], different_domains_share_questions_under_way);
  tcase_add_test(cases[1], ttl_zero_serves_all_who_wait_and_nobody_else);
  tcase_add_test(cases[1], cache_is_bounded);
  tcase_add_test(cases[2], silent_server_gives_way_to_the_next);
  tcase_add_test(cases[2], all_silent_is_temporary_after_all_tries);
  tcase_add_test(cases[2], closed_port_is_passed_over_at_once);
  tcase_add_test(cases[2], all_ports_closed_waits_for_a_restart);
  tcase_add_test(cases[2], a_closed_port_gets_another_chance_each_round);
  tcase_add_test(cases[2], no_sockets_is_temporary_and_heals);
  tcase_add_test(cases[2], no_servers_at_all_is_temporary);
  tcase_add_loop_test(cases[2], servfail_and_refused_ask_each_server_once, 0, 2);
  tcase_add_test(cases[2], a_server_without_edns_is_asked_without);
  tcase_add_loop_test(cases[2], truncated_replies_come_over_tcp, 0, 2);
  tcase_add_test(cases[2], more_truncated_than_streams);
  tcase_add_loop_test(cases[2], tcp_has_its_faults_too, 0, 4);
  tcase_add_loop_test(cases[2], false_packets_do_not_hurt, 0, 3);
  tcase_add_test(cases[2], a_server_that_changes_case_is_asked_over_tcp);
  tcase_add_test(cases[2], ports_change_with_use_and_time);
  tcase_add_test(cases[3], expired_answers_serve_while_no_server_replies);
  tcase_add_test(cases[3], stale_answers_die_after_a_day);
  tcase_add_test(cases[3], a_server_that_says_servfail_is_believed);
  tcase_add_test(cases[3], negative_answers_are_never_stale);
  tcase_add_test(cases[4], canceled_queries_are_not_called);
  tcase_add_test(cases[4], done_may_ask_and_cancel);
  tcase_add_test(cases[4], done_may_ask_the_same_again);
  tcase_add_test(cases[4], asking_on_from_done_does_not_nest);
  tcase_add_test(cases[4], thousands_at_once_all_end);
  tcase_add_test(cases[4], closing_with_everything_under_way_is_clean);
  return unit_main("dns/resolver", cases, 5);
}
