#include "dns/mx.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/base/error.h"
#include "dns/codec.h"
#include "tests/lib/unit.h"

static struct mx_set set;
static struct dns_answer answer;

static void setup(void) {
  set = (struct mx_set){0};
  answer = (struct dns_answer){.outcome = DNS_FOUND};
}
static void teardown(void) { mx_set_clear(&set); }

static void add(unsigned preference, const char *target) {
  struct dns_mx *mx = &answer.mx[answer.count++];
  answer.total++;
  mx->preference = (uint16_t)preference;
  mx->target.len = (uint8_t)snprintf(mx->target.text, sizeof mx->target.text, "%s", target);
}

static void build(const char *self, uint64_t random) { ck_assert(mx_set_records(&set, &answer, span_of_text(self), random)); }

static const char *order(void) {
  static char text[1024];
  text[0] = '\0';
  for (unsigned i = 0; i < set.hosts; i++) {
    strcat(text, set.host[i].name);
    if (i + 1 < set.hosts) strcat(text, " ");
  }
  return text;
}

START_TEST(hosts_are_ordered_by_preference) {
  add(10, "b.org"), add(20, "a.org"), add(65535, "c.org");
  build("us.org", 1);
  ck_assert_int_eq(set.status, MX_OK);
  ck_assert_str_eq(order(), "b.org a.org c.org");
  ck_assert_uint_eq(set.host[2].preference, 65535);
}
END_TEST

START_TEST(equals_are_shuffled_evenly_and_never_cross_preferences) {
  unsigned first[3] = {0};
  add(5, "z.org"), add(10, "a.org"), add(10, "b.org"), add(10, "c.org"), add(20, "y.org");
  for (unsigned i = 0; i < 3000; i++) {
    build("us.org", i * 0x9e3779b97f4a7c15u);
    ck_assert_str_eq(set.host[0].name, "z.org");
    ck_assert_str_eq(set.host[4].name, "y.org");
    first[set.host[1].name[0] - 'a']++;
    mx_set_clear(&set);
  }
  for (unsigned i = 0; i < 3; i++) ck_assert(first[i] > 850 && first[i] < 1150);
}
END_TEST

START_TEST(self_drops_its_preference_and_what_is_behind) {
  add(5, "a.org"), add(10, "b.org"), add(10, "us.org"), add(20, "c.org");
  build("US.org", 1);
  ck_assert_str_eq(order(), "a.org");
  ck_assert_int_eq(set.status, MX_OK);
}
END_TEST

START_TEST(only_self_left_is_a_loop) {
  add(10, "b.org"), add(10, "us.org"), add(20, "c.org");
  build("us.org", 1);
  ck_assert_int_eq(set.status, MX_SELF);
  ck_assert_uint_eq(set.hosts, 0);
  ck_assert_ptr_null(set.host);
  ck_assert_uint_gt(strlen(set.reason), 0);
}
END_TEST

START_TEST(null_mx_stands_alone) {
  add(0, "");
  build("us.org", 1);
  ck_assert_int_eq(set.status, MX_NULL);
  setup();
  add(0, ""), add(10, "a.org"); /* RFC 7505 3: not together; the real one counts */
  build("us.org", 1);
  ck_assert_int_eq(set.status, MX_OK);
  ck_assert_str_eq(order(), "a.org");
}
END_TEST

START_TEST(targets_that_are_no_hosts_are_skipped) {
  add(1, "192.0.2.1"), add(2, "a.org"), add(3, "a.org");
  build("us.org", 1);
  ck_assert_str_eq(order(), "a.org");
  ck_assert_uint_eq(set.host[0].preference, 2);
  mx_set_clear(&set);
  setup();
  add(1, "192.0.2.1");
  answer.total = 2; /* and one that did not get through the codec */
  build("us.org", 1);
  ck_assert_int_eq(set.status, MX_NO_ADDRESS);
  setup();
  answer.total = 1;
  build("us.org", 1);
  ck_assert_int_eq(set.status, MX_NO_ADDRESS);
}
END_TEST

START_TEST(too_many_hosts_are_cut_to_the_same_ones_always) {
  char first[MX_SITE_NAME_MAX + 1], again[MX_SITE_NAME_MAX + 1];
  struct fmt name = fmt_over(first, sizeof first), other = fmt_over(again, sizeof again);
  for (unsigned i = 0; i < 30; i++) {
    char target[24];
    snprintf(target, sizeof target, "h%02u.org", i);
    add(10, target);
  }
  build("us.org", 1);
  ck_assert_uint_eq(set.hosts, MX_HOSTS_MAX);
  mx_site_name(&set, &name);
  mx_set_clear(&set);
  build("us.org", 2);
  mx_site_name(&set, &other);
  ck_assert(span_equal(fmt_span(&name), fmt_span(&other)));
}
END_TEST

START_TEST(implicit_host_is_the_domain) {
  ck_assert(mx_set_implicit(&set, SPAN("a.org"), SPAN("us.org")));
  ck_assert_int_eq(set.status, MX_OK);
  ck_assert(set.implicit);
  ck_assert_str_eq(order(), "a.org");
  mx_set_clear(&set);
  ck_assert(mx_set_implicit(&set, SPAN("us.org"), SPAN("us.org")));
  ck_assert_int_eq(set.status, MX_SELF);
}
END_TEST

START_TEST(addresses_interleave_ipv6_first) {
  static const struct {
    unsigned v6, v4;
    const char *families;
  } table[] = {{0, 0, ""}, {1, 1, "64"}, {2, 1, "646"}, {1, 3, "6444"}, {8, 8, "64646464"}, {0, 12, "44444444"}, {7, 0, "6666666"}};
  struct netaddr v6[12] = {{0}}, v4[12] = {{0}};
  struct mx_host host;
  for (unsigned i = 0; i < 12; i++)
    v6[i] = (struct netaddr){.family = 6, .bytes = {(uint8_t)i}}, v4[i] = (struct netaddr){.family = 4, .bytes = {(uint8_t)i}};
  for (unsigned t = 0; t < sizeof table / sizeof *table; t++) {
    mx_host_set_addresses(&host, v6, table[t].v6, v4, table[t].v4);
    ck_assert_uint_eq(host.addresses, strlen(table[t].families));
    for (unsigned i = 0; i < host.addresses; i++) ck_assert_int_eq(host.address[i].family, table[t].families[i] - '0');
  }
}
END_TEST

static const char *site(void) {
  static char text[MX_SITE_NAME_MAX + 1];
  struct fmt out = fmt_over(text, MX_SITE_NAME_MAX);
  mx_site_name(&set, &out);
  ck_assert(!out.overflow);
  text[out.len] = '\0';
  return text;
}

START_TEST(site_name_is_sorted_distinct_and_without_preferences) {
  add(10, "c.org"), add(20, "a.org"), add(20, "b.org");
  build("us.org", 7);
  ck_assert_str_eq(site(), "a.org,b.org,c.org");
  strcpy(set.host[0].name, "b.org");
  ck_assert_str_eq(site(), "a.org,b.org");
  mx_set_clear(&set);
  ck_assert_str_eq(site(), "");
}
END_TEST

START_TEST(long_site_names_end_in_a_hash_of_the_whole) {
  char first[MX_SITE_NAME_MAX + 1], target[120];
  for (unsigned last = 0; last < 2; last++) {
    setup();
    for (unsigned i = 0; i < 4; i++) {
      const char *label = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";
      snprintf(target, sizeof target, "%u.%s.%s.org", i, label, label);
      add(10, i == 3 && last == 1 ? "z.org" : target);
    }
    build("us.org", last);
    ck_assert_uint_eq(strlen(site()), MX_SITE_NAME_MAX);
    ck_assert_int_eq(site()[MX_SITE_NAME_MAX - 17], '#');
    if (last == 0) strcpy(first, site());
    if (last == 1) ck_assert_str_ne(first, site()); /* the difference lies behind the cut */
    if (last == 1) ck_assert(strncmp(first, site(), 200) == 0);
    mx_set_clear(&set);
  }
}
END_TEST

START_TEST(status_texts) {
  ck_assert_str_eq(mx_status_text(MX_OK), "ok");
  ck_assert_str_eq(mx_status_text(MX_BAD_NAME), "bad-name");
  ck_assert_str_eq(mx_status_text((enum mx_status)99), "invalid");
}
END_TEST

int main(void) {
  TCase *mx = tcase_create("mx");
  tcase_add_checked_fixture(mx, setup, teardown);
  tcase_add_test(mx, hosts_are_ordered_by_preference);
  tcase_add_test(mx, equals_are_shuffled_evenly_and_never_cross_preferences);
  tcase_add_test(mx, self_drops_its_preference_and_what_is_behind);
  tcase_add_test(mx, only_self_left_is_a_loop);
  tcase_add_test(mx, null_mx_stands_alone);
  tcase_add_test(mx, targets_that_are_no_hosts_are_skipped);
  tcase_add_test(mx, too_many_hosts_are_cut_to_the_same_ones_always);
  tcase_add_test(mx, implicit_host_is_the_domain);
  tcase_add_test(mx, addresses_interleave_ipv6_first);
  tcase_add_test(mx, site_name_is_sorted_distinct_and_without_preferences);
  tcase_add_test(mx, long_site_names_end_in_a_hash_of_the_whole);
  tcase_add_test(mx, status_texts);
  return unit_main("dns/mx", &mx, 1);
}
