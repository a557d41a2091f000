/* What callers of the resolver see: sets, cache, stale answers, and that they may ask and cancel as they like. test_ask.c has the servers' faults. */
#include "tests/unit/dns/world.c"

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
  ck_assert_uint_eq(asked(), 256); /* the window of a server */
  for (unsigned i = 0; i < COUNT; i += 3) resolver_cancel(resolver, &w[i].query);
  pass(20000);
  for (unsigned i = 0; i < COUNT; i++) ck_assert_uint_eq(w[i].calls, i % 3 != 0);
  ck_assert_uint_eq(resolver_stats(resolver)->timeouts, 0);
  free(w);
}
END_TEST

START_TEST(too_many_domains_are_refused_at_once) {
  enum { MAX = 100000 };
  struct resolver_query *queries = calloc(MAX, sizeof *queries); /* none of them is called */
  struct wanted last = {0};
  char domain[32];
  servers.fault[0] = servers.fault[1] = SILENT;
  for (unsigned i = 0; i < MAX; i++) {
    snprintf(domain, sizeof domain, "x%u.org", i);
    resolver_mx(resolver, span_of_text(domain), &queries[i]);
  }
  want(&last, "one.more.org");
  ck_assert_uint_eq(last.calls, 1);
  ck_assert_int_eq(last.status, MX_TEMPORARY);
  want(&last, "x7.org"); /* joins */
  ck_assert_uint_eq(last.calls, 1);
  free(queries);
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

int main(void) {
  TCase *cases[] = {new_case("answers"), new_case("cache"), new_case("stale"), new_case("callers")};
  tcase_add_test(cases[0], mx_with_both_families);
  tcase_add_test(cases[0], without_ipv6_no_aaaa_is_asked);
  tcase_add_test(cases[0], same_hosts_are_one_site);
  tcase_add_loop_test(cases[0], every_kind_of_domain, 0, sizeof table / sizeof *table);
  tcase_add_test(cases[0], secure_only_if_all_answers_were);
  tcase_add_test(cases[1], known_domains_cost_no_query_and_call_back_at_once);
  tcase_add_test(cases[1], only_what_expired_is_asked_again);
  tcase_add_test(cases[1], negative_answers_and_failures_are_remembered);
  tcase_add_test(cases[1], ttl_caps_hold);
  tcase_add_test(cases[1], identical_queries_under_way_are_one);
  tcase_add_test(cases[1], different_domains_share_questions_under_way);
  tcase_add_test(cases[1], ttl_zero_serves_all_who_wait_and_nobody_else);
  tcase_add_test(cases[1], cache_is_bounded);
  tcase_add_test(cases[2], expired_answers_serve_while_no_server_replies);
  tcase_add_test(cases[2], stale_answers_die_after_a_day);
  tcase_add_test(cases[2], a_server_that_says_servfail_is_believed);
  tcase_add_test(cases[2], negative_answers_are_never_stale);
  tcase_add_test(cases[3], canceled_queries_are_not_called);
  tcase_add_test(cases[3], done_may_ask_and_cancel);
  tcase_add_test(cases[3], done_may_ask_the_same_again);
  tcase_add_test(cases[3], asking_on_from_done_does_not_nest);
  tcase_add_test(cases[3], thousands_at_once_all_end);
  tcase_add_test(cases[3], too_many_domains_are_refused_at_once);
  tcase_add_test(cases[3], closing_with_everything_under_way_is_clean);
  return unit_main("dns/resolver", cases, 4);
}
