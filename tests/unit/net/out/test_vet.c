/* What the hosts of a domain have to prove, of answers in any order: which of them may be tried, and under which name. */
#include "net/out/vet.h"

#include <stdio.h>

#include "core/base/error.h"
#include "core/conf/system.h"
#include "net/sts/sts.h"
#include "tests/lib/unit.h"

#define ENFORCE "version: STSv1\nmode: enforce\nmx: *.example\nmax_age: 1\n"
#define ENFORCE_OTHER "version: STSv1\nmode: enforce\nmx: other.test\nmx: b.example\nmax_age: 1\n"
#define TESTING_OTHER "version: STSv1\nmode: testing\nmx: b.example\nmax_age: 1\n"

static struct conf conf;
static struct outlet outlet;
static char name[] = "example.org";
static struct domain domain;
static struct mx_host hosts[2];
static struct mx_set set;

static struct dane_query *asked[2]; /* about TLSA, of host a and b */
static struct sts_query *sts_asked;
static unsigned cancelled;
static uint8_t digest[32];
static uint16_t port;

static struct {
  unsigned count;
  bool no_memory;
  char way[VET_WAY_MAX + 1], reason[VET_REASON_MAX + 1], hosts[64];
  unsigned addresses;
  uint32_t ttl_s;
  enum proof_result result;
  enum demand demand[2];
  bool misses;
} told;

/* ---- what is called ---- */

void resolver_dane(struct resolver *resolver, const struct mx_set *of, const struct mx_host *host, struct span next_hop, uint16_t at,
                   struct dane_query *query) {
  (void)resolver;
  (void)of;
  ck_assert(span_equal(next_hop, span_of_text(name)));
  asked[host->name[0] - 'a'] = query;
  port = at;
}

void resolver_dane_cancel(struct resolver *resolver, struct dane_query *query) {
  (void)resolver;
  (void)query;
  cancelled++;
}

void sts_ask(struct sts_view *view, struct span of, struct sts_query *query) {
  ck_assert(view == outlet.o.sts && span_equal(of, span_of_text(name)));
  sts_asked = query;
}

void sts_cancel(struct sts_query *query) {
  (void)query;
  cancelled++;
}

void domain_vetted(struct domain *of, const struct vetted *vetted) {
  ck_assert(of == &domain && domain.vet == NULL);
  told.count++;
  told.no_memory = vetted == NULL;
  if (vetted == NULL) return;
  told.ttl_s = vetted->ttl_s;
  told.result = vetted->result;
  snprintf(told.way, sizeof told.way, "%s", vetted->way);
  snprintf(told.reason, sizeof told.reason, "%s", vetted->reason);
  for (unsigned i = 0; i < vetted->set->hosts; i++) {
    strcat(told.hosts, vetted->set->host[i].name);
    told.addresses += vetted->set->host[i].addresses;
    told.demand[i] = vetted->proof[i] != NULL ? vetted->proof[i]->demand : DEMAND_ANY;
    told.misses |= vetted->proof[i] != NULL && vetted->proof[i]->misses_policy;
  }
}

/* ---- the world ---- */

static struct mx_host host_of(const char *text, unsigned addresses) {
  struct mx_host host = {.addresses = (uint8_t)addresses, .name_len = (uint8_t)strlen(text)};
  snprintf(host.name, sizeof host.name, "%s", text);
  return host;
}

static void open_world(void) {
  static uint8_t view;
  conf = (struct conf){.dane = true, .mta_sts = true, .delivery_port = 2525, .delivery_tls = CONF_SECURITY_OPPORTUNISTIC};
  outlet = (struct outlet){.o = {.conf = &conf, .sts = (struct sts_view *)&view}};
  domain = (struct domain){.outlet = &outlet, .name = name};
  hosts[0] = host_of("a.example", 1);
  hosts[1] = host_of("b.example", 2);
  set = (struct mx_set){.status = MX_OK, .mx_secure = true, .hosts = 2, .host = hosts, .ttl_s = 300};
  memset(&told, 0, sizeof told);
  memset(asked, 0, sizeof asked);
  sts_asked = NULL;
  cancelled = 0;
}

static bool wants(const struct conf_site *entry) {
  domain.entry = entry;
  return vet_wanted(&domain, &set);
}

static void answer_dane(unsigned host, enum dane_status status, uint8_t usage) {
  struct dane *dane = &asked[host]->dane;
  *dane = (struct dane){.status = status, .ttl_s = 200, .reason = "SERVFAIL"};
  if (status == DANE_USE) dane->record[dane->count++] = (struct dane_record){usage, 1, 1, span_of(digest, sizeof digest)};
  ck_assert_int_eq(dns_name_parse(&dane->base, span_of(hosts[host].name, hosts[host].name_len)), E_OK);
  asked[host]->done(asked[host]);
}

static void answer_sts(const char *text) {
  uint8_t room[96];
  struct fmt why = fmt_over(room, sizeof room);
  struct sts_answer answer = {.state = text != NULL ? STS_KNOWN : STS_FETCHING, .ttl_s = 100};
  if (text != NULL) ck_assert_int_eq(sts_policy_parse(&answer.policy, span_of_text(text), &why), E_OK);
  sts_asked->done(sts_asked, &answer);
  sts_policy_drop(answer.policy);
}

static void vet(enum dane_status a, enum dane_status b, uint8_t usage, const char *policy) {
  open_world();
  ck_assert(wants(NULL) && vet_begin(&domain, &set));
  ck_assert(asked[0] != NULL && asked[1] != NULL && sts_asked != NULL && port == 2525);
  answer_dane(1, b, usage);
  answer_sts(policy);
  ck_assert_uint_eq(told.count, 0);
  answer_dane(0, a, usage);
  ck_assert(told.count == 1 && !told.no_memory);
  ck_assert_uint_eq(told.ttl_s, 100);
}

static void check(const char *way, const char *of_hosts, unsigned addresses, enum demand a, enum demand b) {
  ck_assert_str_eq(told.way, way);
  ck_assert_str_eq(told.hosts, of_hosts);
  ck_assert_uint_eq(told.addresses, addresses);
  ck_assert_int_eq(told.demand[0], a);
  ck_assert_int_eq(told.demand[1], b);
}

/* ---- tests ---- */

START_TEST(each_host_has_its_own) {
  vet(DANE_NONE, DANE_NONE, 0, NULL);
  check("", "a.exampleb.example", 3, DEMAND_ANY, DEMAND_ANY);
  vet(DANE_USE, DANE_NONE, 3, NULL);
  check("tls=dane,", "a.exampleb.example", 3, DEMAND_DANE, DEMAND_ANY);
  vet(DANE_UNUSABLE, DANE_USE, 2, NULL); /* whose certificate may be for the domain */
  check("tls=dane=example.org,", "a.exampleb.example", 3, DEMAND_ENCRYPT, DEMAND_DANE);
  vet(DANE_NONE, DANE_USE, 3, ENFORCE);
  check("tls=dane+sts,", "a.exampleb.example", 3, DEMAND_VERIFY, DEMAND_DANE);
  vet(DANE_NONE, DANE_NONE, 0, ENFORCE);
  check("tls=sts,", "a.exampleb.example", 3, DEMAND_VERIFY, DEMAND_VERIFY);
  ck_assert_int_eq(told.result, PROOF_FINE);
}
END_TEST

START_TEST(hosts_that_must_not_be_tried) {
  vet(DANE_NONE, DANE_NONE, 0, ENFORCE_OTHER);
  check("tls=sts,", "b.example", 2, DEMAND_VERIFY, DEMAND_INVALID);
  vet(DANE_USE, DANE_NONE, 3, ENFORCE_OTHER); /* DANE goes before the policy */
  check("tls=dane+sts,", "a.exampleb.example", 3, DEMAND_DANE, DEMAND_VERIFY);
  vet(DANE_DEFER, DANE_NONE, 0, NULL); /* for now: its name stays */
  check("tls=dane,", "a.exampleb.example", 2, DEMAND_ANY, DEMAND_ANY);
  ck_assert_int_eq(told.result, PROOF_FINE);
}
END_TEST

START_TEST(none_that_may_be_tried) {
  vet(DANE_DEFER, DANE_DEFER, 0, ENFORCE);
  ck_assert_int_eq(told.result, PROOF_TLSA_FAILED);
  ck_assert_str_eq(told.reason, "TLS: what a.example has to prove (DANE) cannot be found out: SERVFAIL");
  vet(DANE_DEFER, DANE_NONE, 0, "version: STSv1\nmode: enforce\nmx: a.example\nmax_age: 1\n");
  ck_assert_int_eq(told.result, PROOF_TLSA_FAILED);
  vet(DANE_NONE, DANE_UNUSABLE, 0, "version: STSv1\nmode: enforce\nmx: c.example\nmax_age: 1\n");
  ck_assert_int_eq(told.result, PROOF_FAILED);
  ck_assert_str_eq(told.reason, "TLS: the MTA-STS policy of the domain allows none of its MX hosts, as a.example");
}
END_TEST

START_TEST(a_policy_under_test_is_only_told_of) {
  vet(DANE_NONE, DANE_NONE, 0, TESTING_OTHER);
  check("tls=testing=example.org,", "a.exampleb.example", 3, DEMAND_TRY_VERIFY, DEMAND_TRY_VERIFY);
  ck_assert(told.misses && told.result == PROOF_FINE);
  vet(DANE_USE, DANE_USE, 3, TESTING_OTHER);
  check("tls=dane,", "a.exampleb.example", 3, DEMAND_DANE, DEMAND_DANE);
  vet(DANE_NONE, DANE_NONE, 0, "version: STSv1\nmode: testing\nmx: *.example\nmax_age: 1\n");
  ck_assert(!told.misses);
}
END_TEST

/* Whoever forges the alias of a domain without MX does not choose the name that counts. */
START_TEST(a_domain_without_mx_stands_for_its_host) {
  open_world();
  conf.dane = false;
  set.implicit = true;
  set.hosts = 1;
  ck_assert(vet_begin(&domain, &set));
  answer_sts(ENFORCE);
  ck_assert_int_eq(told.result, PROOF_FAILED);
  open_world();
  conf.dane = false;
  set.implicit = true;
  set.hosts = 1;
  ck_assert(vet_begin(&domain, &set));
  answer_sts("version: STSv1\nmode: enforce\nmx: example.org\nmax_age: 1\n");
  check("tls=sts,", "a.example", 1, DEMAND_VERIFY, DEMAND_INVALID);
}
END_TEST

START_TEST(hosts_without_an_address_are_not_asked_about) {
  open_world();
  hosts[0].addresses = 0;
  ck_assert(vet_begin(&domain, &set));
  ck_assert_ptr_null(asked[0]);
  answer_sts(NULL);
  answer_dane(1, DANE_NONE, 0);
  check("", "a.exampleb.example", 2, DEMAND_ANY, DEMAND_ANY);
}
END_TEST

START_TEST(what_is_wanted) {
  struct conf_site said = {.tls = CONF_SECURITY_REQUIRE, .tls_said = true}, other = {.tls = CONF_SECURITY_NONE},
                   usual = {.tls = CONF_SECURITY_VERIFY};
  open_world();
  ck_assert(wants(NULL) && wants(&usual));
  ck_assert(!wants(&said) && !wants(&other));
  conf.mta_sts = false;
  ck_assert(wants(NULL));
  set.mx_secure = false;
  ck_assert(!wants(NULL));
  conf.mta_sts = true;
  ck_assert(wants(NULL));
  outlet.o.sts = NULL;
  ck_assert(!wants(NULL));
  set.mx_secure = true;
  conf.delivery_tls = CONF_SECURITY_NONE;
  ck_assert(!wants(NULL));
  conf.delivery_tls = CONF_SECURITY_OPPORTUNISTIC;
  struct conf parsed; /* an entry for a host goes before one for the domain */
  uint8_t room[512];
  struct fmt why = fmt_over(room, sizeof room);
  ck_assert_int_eq(
      conf_parse_on(&parsed, &(struct conf_system){.cores = 1, .memory_bytes = 8ull << 30},
                    SPAN("hostname: a.example.net\nlisteners: [{port: 25}]\nsites: [{match: [b.example], tls: require}, {match: [c.example]}]\n"),
                    "c.yaml", &why),
      E_OK);
  outlet.o.conf = &parsed;
  ck_assert(parsed.dane && !wants(&parsed.sites[1]));
  set.hosts = 1;
  ck_assert(wants(&parsed.sites[1]));
  conf_free(&parsed);
}
END_TEST

/* RFC 8689: somebody has to say who the host is, whatever DANE and the policy ask for, and whatever is configured. */
START_TEST(mail_that_requires_tls) {
  struct conf_site said = {.tls = CONF_SECURITY_NONE, .tls_said = true};
  open_world();
  domain.require_tls = true;
  conf.dane = conf.mta_sts = false;
  ck_assert(wants(&said) && vet_begin(&domain, &set));
  check("tls=requiretls,", "a.exampleb.example", 3, DEMAND_VERIFY, DEMAND_VERIFY);
  open_world();
  domain.tls_optional = true; /* its sender does not want anything to be asked */
  ck_assert(!wants(NULL));
  open_world();
  domain.require_tls = true;
  ck_assert(vet_begin(&domain, &set));
  answer_dane(0, DANE_USE, 3);
  answer_dane(1, DANE_UNUSABLE, 3);
  answer_sts(TESTING_OTHER);
  check("tls=dane+requiretls,", "a.exampleb.example", 3, DEMAND_DANE, DEMAND_VERIFY);
}
END_TEST

/* ... and that it is one of the domain's (4.2.1): DNSSEC, or a policy that lists it, under test too. */
static void vet_required(bool secure, const char *policy) {
  open_world();
  domain.require_tls = true;
  set.mx_secure = secure;
  ck_assert(vet_begin(&domain, &set));
  answer_dane(0, DANE_NONE, 3);
  answer_dane(1, DANE_NONE, 3);
  answer_sts(policy);
}

START_TEST(mail_that_requires_tls_goes_to_hosts_that_are_proved_to_be_the_domains) {
  vet_required(true, NULL);
  check("tls=requiretls,", "a.exampleb.example", 3, DEMAND_VERIFY, DEMAND_VERIFY);
  vet_required(false, ENFORCE);
  check("tls=requiretls,", "a.exampleb.example", 3, DEMAND_VERIFY, DEMAND_VERIFY);
  vet_required(false, TESTING_OTHER);
  check("tls=requiretls,", "b.example", 2, DEMAND_VERIFY, DEMAND_INVALID);
  vet_required(false, "version: STSv1\nmode: testing\nmx: c.example\nmax_age: 1\n");
  ck_assert_int_eq(told.result, PROOF_FAILED);
  vet_required(false, NULL);
  ck_assert_int_eq(told.result, PROOF_FAILED);
  ck_assert_str_eq(told.reason,
                   "TLS: REQUIRETLS needs MX records that are secure by DNSSEC, or an MTA-STS policy: the domain has neither, for a.example");
}
END_TEST

START_TEST(cancelled_in_the_middle) {
  open_world();
  ck_assert(vet_begin(&domain, &set));
  answer_dane(0, DANE_USE, 3);
  answer_sts(ENFORCE);
  vet_cancel(&domain);
  ck_assert(domain.vet == NULL && told.count == 0 && cancelled == 3);
  vet_cancel(&domain);
  ck_assert_uint_eq(cancelled, 3);
}
END_TEST

int main(void) {
  TCase *all = tcase_create("vet");
  tcase_add_test(all, each_host_has_its_own);
  tcase_add_test(all, hosts_that_must_not_be_tried);
  tcase_add_test(all, none_that_may_be_tried);
  tcase_add_test(all, a_policy_under_test_is_only_told_of);
  tcase_add_test(all, a_domain_without_mx_stands_for_its_host);
  tcase_add_test(all, hosts_without_an_address_are_not_asked_about);
  tcase_add_test(all, what_is_wanted);
  tcase_add_test(all, mail_that_requires_tls);
  tcase_add_test(all, mail_that_requires_tls_goes_to_hosts_that_are_proved_to_be_the_domains);
  tcase_add_test(all, cancelled_in_the_middle);
  return unit_main("net/out/vet", &all, 1);
}
