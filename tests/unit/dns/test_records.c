/* Single questions, and what the resolver finds out about DANE: with cache, merging, failures, cancelled callers. The rules alone are in test_dane.c. */
#include "tests/unit/dns/world.c"

struct got {
  struct record_query records;
  struct dane_query dane;
  unsigned calls;
  struct dns_answer answer;
  enum dane_status status;
  unsigned count;
  uint32_t ttl_s;
  char base[256];
};

/* ---- records ---- */

static void records_done(struct record_query *query, const struct dns_answer *answer) {
  struct got *got = query->context;
  got->calls++;
  got->answer = *answer;
}

static void ask_records(struct got *got, unsigned type, const char *name) {
  got->records.done = records_done;
  got->records.context = got;
  resolver_records(resolver, (uint16_t)type, span_of_text(name), &got->records);
}

START_TEST(texts_are_found_and_remembered) {
  static struct got got, again;
  got = again = (struct got){0};
  ask_records(&got, DNS_TXT, "texts.org");
  ck_assert_uint_eq(got.calls, 0);
  pass(100);
  ck_assert_uint_eq(got.calls, 1);
  ck_assert(got.answer.outcome == DNS_FOUND && got.answer.count == 2 && got.answer.secure);
  ck_assert(span_equal(dns_answer_bytes(&got.answer, 0), SPAN("v=STSv1;_id=1;more")));
  ck_assert(span_equal(dns_answer_bytes(&got.answer, 1), SPAN("second")));
  ask_records(&again, DNS_TXT, "texts.org");
  ck_assert_uint_eq(again.calls, 1);
  ck_assert(span_equal(dns_answer_bytes(&again.answer, 1), SPAN("second")));
  ck_assert_uint_eq(asked(), 1);
  pass(301000);
  ask_records(&again, DNS_TXT, "texts.org");
  pass(100);
  ck_assert(again.calls == 2 && asked() == 2);
}
END_TEST

START_TEST(the_same_question_is_asked_once) {
  static struct got got[3];
  memset(got, 0, sizeof got);
  for (unsigned i = 0; i < 3; i++) ask_records(&got[i], DNS_TXT, "texts.org");
  resolver_records_cancel(resolver, &got[1].records);
  resolver_records_cancel(resolver, &got[1].records);
  pass(100);
  ck_assert(got[0].calls == 1 && got[1].calls == 0 && got[2].calls == 1 && asked() == 1);
}
END_TEST

START_TEST(what_is_missing_or_fails) {
  static struct got got;
  got = (struct got){0};
  ask_records(&got, DNS_TXT, "missing.org");
  pass(100);
  ck_assert_int_eq(got.answer.outcome, DNS_NO_NAME);
  ask_records(&got, DNS_TXT, "servfail.org");
  pass(100);
  ck_assert(got.calls == 2 && got.answer.outcome == DNS_FAILED && got.answer.rcode == DNS_SERVFAIL && !got.answer.silent);
  ask_records(&got, DNS_TXT, "no..name");
  ck_assert(got.calls == 3 && got.answer.outcome == DNS_NO_NAME && !got.answer.secure);
}
END_TEST

START_TEST(closing_drops_what_waits) {
  static struct got got;
  got = (struct got){0};
  ask_records(&got, DNS_TXT, "silent.org");
  pass(10);
  ck_assert_uint_eq(got.calls, 0); /* the rest is the leak checker's, after teardown */
}
END_TEST

/* ---- DANE ---- */

static void dane_is_done(struct dane_query *query) {
  struct got *got = query->context;
  got->calls++;
  got->status = query->dane.status;
  got->count = query->dane.count;
  got->ttl_s = query->dane.ttl_s;
  strcpy(got->base, query->dane.base.text);
  for (unsigned i = 0; i < got->count; i++) ck_assert_uint_eq(query->dane.record[i].association.at[0], 1);
}

static struct got *dane_of_set; /* of the first host */

static void set_done(struct resolver_query *query, const struct mx_set *set) {
  const char *domain = query->context;
  ck_assert_msg(set->status == MX_OK, "%s: %s", domain, set->reason);
  resolver_dane(resolver, set, &set->host[0], span_of_text(domain), 25, &dane_of_set->dane);
}

/* What is said about the first host of the domain. */
static void dane(struct got *got, const char *domain) {
  struct resolver_query query = {.done = set_done, .context = (void *)domain};
  *got = (struct got){.dane = {.done = dane_is_done, .context = got}};
  dane_of_set = got;
  resolver_mx(resolver, span_of_text(domain), &query);
  for (unsigned i = 0; got->calls == 0 && i < 1000; i++) pass(10);
  ck_assert_uint_eq(got->calls, 1);
}

static const struct {
  const char *domain;
  const char *insecure;
  enum dane_status status;
  unsigned count;
  uint32_t ttl_s;
  const char *base;
} table[] = {
    {"one.org", NULL, DANE_USE, 1, 150, "mx1.one.org"},
    {"one.org", "one.org", DANE_NONE, 0, 200, ""},              /* the MX */
    {"one.org", "mx1.one.org", DANE_NONE, 0, 200, ""},          /* the addresses */
    {"one.org", "_25._tcp.mx1.one.org", DANE_NONE, 0, 150, ""}, /* the records */
    {"two.org", NULL, DANE_UNUSABLE, 0, 60, "a.two.org"},       /* 60: the proof that it has no AAAA */
    {"backup.org", NULL, DANE_UNUSABLE, 0, 60, "a.two.org"},
    {"plain.org", NULL, DANE_USE, 1, 50, "plain.org"}, /* no MX; the records' name is an alias */
    {"alias.org", NULL, DANE_USE, 1, 50, "plain.org"}, /* an alias without MX: the end of the way */
    {"mxcname.org", NULL, DANE_USE, 1, 60, "way.org"}, /* nothing at the end, records at the beginning */
    {"mxcname.org", "_25._tcp.end.org", DANE_USE, 1, 60, "way.org"},
    {"mxcname.org", "way.org", DANE_NONE, 0, 60, ""}, /* neither the addresses nor the alias are secure */
};

START_TEST(what_is_said_of_the_first_host) {
  static struct got got;
  servers.insecure = table[_i].insecure;
  dane(&got, table[_i].domain);
  ck_assert_msg(got.status == table[_i].status, "%s: %s", dane_status_text(got.status), got.dane.dane.reason);
  ck_assert_uint_eq(got.count, table[_i].count);
  ck_assert_str_eq(got.base, table[_i].base);
  ck_assert_uint_eq(got.ttl_s, table[_i].ttl_s);
}
END_TEST

START_TEST(a_record_that_cannot_be_had_defers) {
  static struct got got;
  static const char *const broken[] = {"b.org 300 MX 10 b.two.org", "b.two.org 300 A 192.0.2.3", "_25._tcp.b.two.org 300 CNAME servfail.b.two.org",
                                       NULL};
  servers.zone = broken;
  dane(&got, "b.org");
  ck_assert_int_eq(got.status, DANE_DEFER);
  ck_assert(strstr(got.dane.dane.reason, "SERVFAIL") != NULL);
  unsigned before = asked();
  dane(&got, "b.org");
  ck_assert_int_eq(got.status, DANE_DEFER); /* remembered as that, not as nothing */
  ck_assert_uint_eq(asked(), before);
}
END_TEST

START_TEST(servers_that_say_nothing_defer) {
  static struct got got;
  struct wanted w = {0};
  get(&w, "one.org");
  for (unsigned i = 0; i < FAKE_SERVERS; i++) servers.fault[i] = SILENT;
  dane(&got, "one.org");
  ck_assert_int_eq(got.status, DANE_DEFER);
}
END_TEST

START_TEST(a_host_in_use_costs_no_question) {
  static struct got got;
  dane(&got, "one.org");
  unsigned before = asked();
  dane(&got, "one.org");
  ck_assert(got.status == DANE_USE && got.count == 1);
  ck_assert_uint_eq(asked(), before);
}
END_TEST

START_TEST(without_trust_there_is_no_dane) {
  static struct got got;
  struct wanted w = {0};
  teardown();
  options.dnssec = false;
  start_with(2);
  get(&w, "one.org");
  ck_assert(!w.secure);
  unsigned before = asked();
  dane(&got, "one.org");
  ck_assert_int_eq(got.status, DANE_NONE);
  ck_assert_uint_eq(asked(), before);
}
END_TEST

START_TEST(cancelled_callers_are_not_called) {
  static struct got got;
  static struct mx_host host = {.secure = true, .addresses = 1, .name = "mx1.one.org", .name_len = 11};
  struct mx_set set = {.status = MX_OK, .mx_secure = true, .ttl_s = 300, .hosts = 1, .host = &host};
  got = (struct got){.dane = {.done = dane_is_done, .context = &got}};
  resolver_dane(resolver, &set, &host, SPAN("one.org"), 25, &got.dane);
  resolver_dane_cancel(resolver, &got.dane);
  pass(100);
  ck_assert(got.calls == 0 && asked() == 1);
  resolver_dane(resolver, &set, &host, SPAN("one.org"), 25, &got.dane);
  ck_assert(got.calls == 1 && got.status == DANE_USE && asked() == 1); /* the answer was kept */
}
END_TEST

int main(void) {
  TCase *cases[] = {new_case("records"), new_case("dane")};
  tcase_add_test(cases[0], texts_are_found_and_remembered);
  tcase_add_test(cases[0], the_same_question_is_asked_once);
  tcase_add_test(cases[0], what_is_missing_or_fails);
  tcase_add_test(cases[0], closing_drops_what_waits);
  tcase_add_loop_test(cases[1], what_is_said_of_the_first_host, 0, sizeof table / sizeof *table);
  tcase_add_test(cases[1], a_record_that_cannot_be_had_defers);
  tcase_add_test(cases[1], servers_that_say_nothing_defer);
  tcase_add_test(cases[1], a_host_in_use_costs_no_question);
  tcase_add_test(cases[1], without_trust_there_is_no_dane);
  tcase_add_test(cases[1], cancelled_callers_are_not_called);
  return unit_main("dns/records", cases, 2);
}
