#include "dns/lookup.h"

#include <stdio.h>

#include "tests/lib/unit.h"

static struct lookup *lookup;
static struct dns_answer answer;

static void setup(void) {
  lookup = lookup_new(SPAN("a.org"));
  ck_assert_ptr_nonnull(lookup);
}
static void teardown(void) { lookup_free(lookup); }

static struct dns_answer *reply(enum dns_outcome outcome, uint32_t ttl_s) {
  answer = (struct dns_answer){.outcome = outcome, .ttl_s = ttl_s, .secure = true};
  return &answer;
}

static struct dns_answer *mx(unsigned hosts) {
  reply(DNS_FOUND, 3000);
  for (unsigned i = 0; i < hosts; i++) {
    answer.mx[i].preference = (uint16_t)i;
    answer.mx[i].target.len = (uint8_t)snprintf(answer.mx[i].target.text, sizeof answer.mx[i].target.text, "mx%u.org", i);
  }
  answer.count = answer.total = hosts;
  return &answer;
}

static struct dns_answer *address(uint8_t family, uint8_t last) {
  reply(DNS_FOUND, 2000);
  answer.count = answer.total = 1;
  answer.address[0] = (struct netaddr){.family = family, .bytes = {1, 2, 3, last}};
  return &answer;
}

static void take_mx(struct dns_answer *a) { lookup_take_mx(lookup, a, SPAN("us.org"), true, 1); }

START_TEST(needs_an_mx_answer_first) {
  ck_assert_uint_eq(lookup->pending, 1);
  ck_assert_uint_eq(lookup->mx.type, DNS_MX);
  ck_assert(span_equal(lookup_need_name(&lookup->mx), SPAN("a.org")));
}
END_TEST

START_TEST(each_host_is_as_secure_as_its_addresses) {
  take_mx(mx(3));
  ck_assert(lookup->set.mx_secure);
  for (unsigned i = 0; i < 6; i++) {
    struct dns_answer *a = i < 5 ? address(i % 2 == 0 ? 4 : 6, (uint8_t)i) : reply(DNS_NO_DATA, 60);
    a->secure = i != 3 && i != 5; /* one of the second host's; that the third has no other is not proven */
    lookup_take_address(&lookup->needs[i], a);
  }
  lookup_conclude(lookup, SPAN("us.org"));
  ck_assert(lookup->set.mx_secure && !lookup->set.secure);
  ck_assert(lookup->set.host[0].secure && !lookup->set.host[1].secure && lookup->set.host[2].secure);
}
END_TEST

START_TEST(mx_that_are_not_secure_say_so) {
  struct dns_answer *a = mx(1);
  a->secure = false;
  take_mx(a);
  ck_assert(!lookup->set.mx_secure);
}
END_TEST

START_TEST(then_both_addresses_of_each_host) {
  take_mx(mx(2));
  ck_assert_uint_eq(lookup->pending, 4);
  ck_assert_uint_eq(lookup->needs_count, 4);
  ck_assert(span_equal(lookup_need_name(&lookup->needs[3]), SPAN("mx1.org")));
  ck_assert_uint_eq(lookup->needs[2].type, DNS_A);
  ck_assert_uint_eq(lookup->needs[3].type, DNS_AAAA);
  for (unsigned i = 0; i < 4; i++) lookup_take_address(&lookup->needs[i], address(i % 2 == 0 ? 4 : 6, (uint8_t)i));
  ck_assert_uint_eq(lookup->pending, 0);
  lookup_conclude(lookup, SPAN("us.org"));
  ck_assert_int_eq(lookup->set.status, MX_OK);
  ck_assert(lookup->set.secure);
  ck_assert_uint_eq(lookup->set.ttl_s, 2000);
  ck_assert_uint_eq(lookup->set.host[1].addresses, 2);
  ck_assert_uint_eq(lookup->set.host[1].address[0].bytes[3], 3);
}
END_TEST

START_TEST(a_failed_address_shortens_the_life_of_the_set) {
  take_mx(mx(1));
  lookup_take_address(&lookup->needs[0], address(4, 1));
  lookup_take_address(&lookup->needs[1], reply(DNS_FAILED, 0));
  lookup_conclude(lookup, SPAN("us.org"));
  ck_assert_int_eq(lookup->set.status, MX_OK);
  ck_assert_uint_eq(lookup->set.ttl_s, LOOKUP_PARTIAL_TTL_S);
}
END_TEST

START_TEST(one_failure_makes_no_address_temporary) {
  take_mx(mx(1));
  lookup_take_address(&lookup->needs[0], reply(DNS_NO_DATA, 60));
  reply(DNS_FAILED, 0)->silent = true;
  lookup_take_address(&lookup->needs[1], &answer);
  lookup_conclude(lookup, SPAN("us.org"));
  ck_assert_int_eq(lookup->set.status, MX_TEMPORARY);
  ck_assert(lookup->silent);
  ck_assert_uint_eq(lookup->set.ttl_s, LOOKUP_FAILURE_TTL_S);
  ck_assert_uint_eq(lookup->set.hosts, 0);
}
END_TEST

START_TEST(an_alias_of_our_own_host_is_a_loop) {
  take_mx(reply(DNS_NO_DATA, 60));
  ck_assert(lookup->set.implicit);
  address(4, 1)->canonical = (struct dns_name){6, "us.org"};
  lookup_take_address(&lookup->needs[0], &answer);
  lookup_take_address(&lookup->needs[1], reply(DNS_NO_DATA, 60));
  lookup_conclude(lookup, SPAN("us.org"));
  ck_assert_int_eq(lookup->set.status, MX_SELF);
}
END_TEST

START_TEST(long_domains_do_not_overflow_the_reason) {
  char name[200];
  memset(name, 'x', sizeof name);
  struct lookup *other = lookup_new(span_of(name, sizeof name));
  lookup_take_mx(other, reply(DNS_FAILED, 0), SPAN("us.org"), true, 1);
  lookup_conclude(other, SPAN("us.org"));
  ck_assert_int_eq(other->set.status, MX_TEMPORARY);
  ck_assert_uint_lt(strlen(other->set.reason), sizeof other->set.reason);
  lookup_free(other);
}
END_TEST

int main(void) {
  TCase *tests = tcase_create("lookup");
  tcase_add_checked_fixture(tests, setup, teardown);
  tcase_add_test(tests, needs_an_mx_answer_first);
  tcase_add_test(tests, then_both_addresses_of_each_host);
  tcase_add_test(tests, each_host_is_as_secure_as_its_addresses);
  tcase_add_test(tests, mx_that_are_not_secure_say_so);
  tcase_add_test(tests, a_failed_address_shortens_the_life_of_the_set);
  tcase_add_test(tests, one_failure_makes_no_address_temporary);
  tcase_add_test(tests, an_alias_of_our_own_host_is_a_loop);
  tcase_add_test(tests, long_domains_do_not_overflow_the_reason);
  return unit_main("dns/lookup", &tests, 1);
}
