/* What is asked about an address, about which addresses, and what an answer means. */
#include "dns/list.h"

#include "core/base/error.h"
#include "tests/lib/unit.h"

static struct netaddr address(const char *text) {
  struct netaddr parsed;
  ck_assert_msg(netaddr_parse(&parsed, span_of_text(text)) == E_OK, "%s", text);
  return parsed;
}

static void check_question(const char *client, const char *zone, const char *expected) {
  struct netaddr parsed = address(client);
  struct dns_name name;
  list_question(&name, &parsed, span_of_text(zone));
  ck_assert_str_eq(name.text, expected);
  ck_assert_uint_eq(name.len, strlen(expected));
  ck_assert_int_eq(dns_name_check(dns_name_span(&name)), E_OK);
}

START_TEST(names) { /* RFC 5782 2.1 and 2.4 */
  check_question("192.0.2.99", "bad.example.com", "99.2.0.192.bad.example.com");
  check_question("255.1.20.0", "a", "0.20.1.255.a");
  check_question("2001:db8:1:2:3:4:567:89ab", "ugly.example.com", "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2.ugly.example.com");
  check_question("::ffff:192.0.2.99", "bad.example.com", "99.2.0.192.bad.example.com");
}
END_TEST

START_TEST(the_longest_name) {
  char zone[190];
  struct netaddr client = address("2001:db8::1");
  struct dns_name name;
  memset(zone, 'z', sizeof zone - 1);
  zone[sizeof zone - 1] = '\0';
  for (unsigned i = 60; i < sizeof zone - 1; i += 60) zone[i] = '.';
  list_question(&name, &client, span_of_text(zone));
  ck_assert_uint_eq(name.len, 253);
  ck_assert_int_eq(dns_name_check(dns_name_span(&name)), E_OK);
}
END_TEST

START_TEST(whom_lists_know) {
  static const char *const known[] = {"1.1.1.1",     "9.255.255.255", "11.0.0.0",    "100.63.0.1",   "100.128.0.1",   "126.0.0.1",
                                      "128.0.0.1",   "172.15.0.1",    "172.32.0.1",  "192.0.2.1",    "203.0.113.7",   "223.0.0.1",
                                      "169.253.1.1", "192.167.0.1",   "2001:db8::1", "3fff:ffff::1", "::ffff:8.8.8.8"};
  static const char *const unknown[] = {"0.0.0.0",
                                        "10.1.2.3",
                                        "100.64.0.1",
                                        "100.127.255.255",
                                        "127.0.0.1",
                                        "169.254.1.1",
                                        "172.16.0.1",
                                        "172.31.255.255",
                                        "192.168.7.7",
                                        "224.0.0.1",
                                        "240.0.0.1",
                                        "255.255.255.255",
                                        "::",
                                        "::1",
                                        "fe80::1",
                                        "fd00::1",
                                        "fc00::1",
                                        "ff02::1",
                                        "4000::1",
                                        "::ffff:10.0.0.1",
                                        "::ffff:127.0.0.1"};
  for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
    struct netaddr client = address(known[i]);
    ck_assert_msg(list_knows(&client), "%s", known[i]);
  }
  for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
    struct netaddr client = address(unknown[i]);
    ck_assert_msg(!list_knows(&client), "%s", unknown[i]);
  }
  ck_assert(!list_knows(&(struct netaddr){0}));
}
END_TEST

static enum list_verdict verdict_of(const char *const *answers, const char *const *networks, struct netaddr *which) {
  struct dns_answer answer = {.outcome = DNS_FOUND};
  struct network wanted[4];
  unsigned count = 0;
  for (; *answers != NULL; answers++) answer.address[answer.count++] = address(*answers);
  for (; networks[count] != NULL; count++) ck_assert_int_eq(network_parse(&wanted[count], span_of_text(networks[count])), E_OK);
  return list_verdict(&answer, wanted, count, which);
}

#define LIST_OF(...)                                                                                                                                 \
  (const char *const[]) { __VA_ARGS__, NULL }
#define CHECK(verdict, at, answers, networks)                                                                                                        \
  do {                                                                                                                                               \
    struct netaddr which = {0}, expected = address(at);                                                                                              \
    ck_assert_int_eq(verdict_of(answers, networks, &which), verdict);                                                                                \
    if (verdict != LIST_ABSENT) ck_assert(netaddr_equal(&which, &expected));                                                                         \
  } while (0)

START_TEST(answers) {
  const char *const *all = LIST_OF("127.0.0.0/8"), *const *some = LIST_OF("127.0.0.2", "127.0.0.4/30");
  CHECK(LIST_PRESENT, "127.0.0.2", LIST_OF("127.0.0.2"), all);
  CHECK(LIST_PRESENT, "127.0.0.2", LIST_OF("127.0.0.2"), some);
  CHECK(LIST_PRESENT, "127.0.0.7", LIST_OF("127.0.0.3", "127.0.0.7", "127.0.0.2"), some); /* the first that counts */
  CHECK(LIST_ABSENT, "::", LIST_OF("127.0.0.3"), some);
  CHECK(LIST_ABSENT, "::", LIST_OF("127.0.0.8", "127.1.0.2"), some);
  CHECK(LIST_OUT_OF_ORDER, "192.0.2.1", LIST_OF("192.0.2.1"), all);
  CHECK(LIST_OUT_OF_ORDER, "128.0.0.2", LIST_OF("127.0.0.2", "128.0.0.2"), all); /* one spoils all */
  CHECK(LIST_OUT_OF_ORDER, "126.0.0.2", LIST_OF("126.0.0.2", "127.0.0.2"), all);
  CHECK(LIST_OUT_OF_ORDER, "127.255.255.254", LIST_OF("127.255.255.254"), all); /* "ask with another resolver" is no listing */
  CHECK(LIST_OUT_OF_ORDER, "127.255.255.1", LIST_OF("127.0.0.2", "127.255.255.1"), some);
  CHECK(LIST_PRESENT, "127.255.254.1", LIST_OF("127.255.254.1"), all);
}
END_TEST

START_TEST(what_is_no_answer) {
  struct network all;
  struct netaddr which = {0};
  ck_assert_int_eq(network_parse(&all, SPAN("127.0.0.0/8")), E_OK);
  static const struct {
    enum dns_outcome outcome;
    enum list_verdict verdict;
  } cases[] = {
      {DNS_NO_NAME, LIST_ABSENT}, {DNS_NO_DATA, LIST_ABSENT}, {DNS_FAILED, LIST_UNKNOWN}, {DNS_NONE, LIST_UNKNOWN}, {DNS_FOUND, LIST_ABSENT}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct dns_answer answer = {.outcome = cases[i].outcome, .silent = true};
    ck_assert_int_eq(list_verdict(&answer, &all, 1, &which), cases[i].verdict);
  }
  ck_assert_uint_eq(which.family, 0);
}
END_TEST

int main(void) {
  TCase *tc = tcase_create("list");
  tcase_add_test(tc, names);
  tcase_add_test(tc, the_longest_name);
  tcase_add_test(tc, whom_lists_know);
  tcase_add_test(tc, answers);
  tcase_add_test(tc, what_is_no_answer);
  return unit_main("dns/list", &tc, 1);
}
