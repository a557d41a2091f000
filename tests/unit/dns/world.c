/*
 * The resolver in a world of its own: fake io, fake servers, a zone and a caller that notes what it is told. Included by the test programs that
 * need it; they say setup() and teardown() around each test.
 */
#include "dns/resolver.h"

#include "tests/unit/dns/fake_io.c"
#include "tests/unit/dns/fake_server.c"

#include "tests/lib/unit.h"

#define KIND 7

static struct io *io;
static struct wheel wheel;
static struct resolver *resolver;
static struct netaddr addresses[FAKE_SERVERS];
static struct resolver_options options;
static uint64_t turn_ms; /* what else the loop does in each turn */

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
    "_25._tcp.mx1.one.org 150 TLSA 3:1:1:32",
    "_25._tcp.mx1.one.org 150 TLSA 1:1:1:32", /* none for SMTP */
    "_25._tcp.a.two.org 300 TLSA 0:1:1:32",
    "_25._tcp.b.two.org 300 CNAME servfail.b.two.org",
    "_25._tcp.plain.org 300 CNAME tlsa.plain.org",
    "tlsa.plain.org 50 TLSA 2:0:2:64",
    "mxcname.org 300 MX 10 way.org",
    "way.org 300 CNAME end.org",
    "end.org 300 A 192.0.2.7",
    "_25._tcp.way.org 300 TLSA 3:1:1:32",
    "texts.org 300 TXT v=STSv1;_id=1; more",
    "texts.org 300 TXT second",
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
  options = (struct resolver_options){.dnssec = true};
  start_with(2);
}

static void teardown(void) {
  resolver_close(resolver);
  fake_fini(io);
  free(io);
}

static void turn(uint64_t until_ms) {
  const struct io_completion *completions;
  uint64_t timer_ms = wheel_next_ms(&wheel);
  unsigned count = io_wait(io, (timer_ms < until_ms ? timer_ms : until_ms) * 1000000, &completions);
  for (unsigned i = 0; i < count; i++) {
    ck_assert_uint_eq(completions[i].token >> 56, KIND);
    resolver_complete(resolver, &completions[i]);
  }
  io->now_ns += turn_ms * 1000000;
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

static TCase *new_case(const char *name) {
  TCase *made = tcase_create(name);
  tcase_add_checked_fixture(made, setup, teardown);
  return made;
}
