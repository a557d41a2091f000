/* How safe a connection has to be, and to whom it is made. */
#include "net/out/security.h"
#include "tests/lib/unit.h"

static struct security security;

static void decide(struct site site, const char *host, bool plain) { security_decide(&site, NULL, host, plain, &security); }

static void decide_by(enum conf_security tls, const struct proof *proof, bool plain) {
  struct site site = {.tls = tls};
  security_decide(&site, proof, "mx.example", plain, &security);
}

static void expect(enum security_mode mode, enum tls_policy policy, const char *host, const char *name) {
  ck_assert_int_eq(security.mode, mode);
  ck_assert_int_eq(security.expect.policy, policy);
  ck_assert(span_equal(security.expect.host, span_of_text(host)));
  ck_assert_uint_eq(security.expect.name_count, name != NULL);
  if (name != NULL) ck_assert(span_equal(security.expect.names[0], span_of_text(name)));
  ck_assert_uint_eq(security.expect.tlsa_count, 0);
}

START_TEST(of_mx_hosts) {
  decide((struct site){.tls = CONF_SECURITY_NONE}, "mx.example", false);
  expect(SECURITY_CLEAR, TLS_ANY, "mx.example", NULL);
  decide((struct site){.tls = CONF_SECURITY_OPPORTUNISTIC}, "mx.example", false);
  expect(SECURITY_MAY, TLS_ANY, "mx.example", NULL);
  decide((struct site){.tls = CONF_SECURITY_REQUIRE}, "mx.example", false);
  expect(SECURITY_MUST, TLS_ANY, "mx.example", NULL);
  decide((struct site){.tls = CONF_SECURITY_VERIFY}, "mx.example", false);
  expect(SECURITY_MUST, TLS_VERIFY, "mx.example", "mx.example");
  ck_assert(!security.implicit);
}
END_TEST

/* Only where it may be is a host whose TLS is broken spoken to in the clear. */
START_TEST(of_broken_ones) {
  for (int tls = CONF_SECURITY_NONE; tls <= CONF_SECURITY_IMPLICIT; tls++) {
    decide((struct site){.tls = (enum conf_security)tls}, "mx.example", true);
    ck_assert_int_eq(security.mode, tls <= CONF_SECURITY_OPPORTUNISTIC ? SECURITY_CLEAR : SECURITY_MUST);
  }
}
END_TEST

START_TEST(of_addresses) {
  decide((struct site){.tls = CONF_SECURITY_OPPORTUNISTIC}, "192.0.2.1", false);
  expect(SECURITY_MAY, TLS_ANY, "", NULL);
  decide((struct site){.tls = CONF_SECURITY_REQUIRE}, "2001:db8::1", false);
  expect(SECURITY_MUST, TLS_ANY, "", NULL);
  decide((struct site){.tls = CONF_SECURITY_VERIFY}, "192.0.2.1", false); /* nobody's certificate will do */
  expect(SECURITY_MUST, TLS_VERIFY, "", "192.0.2.1");
}
END_TEST

START_TEST(of_routes) {
  char name[] = "smtp.example";
  decide((struct site){.tls = CONF_SECURITY_VERIFY, .routed = true, .tls_name = name}, "192.0.2.1", false);
  expect(SECURITY_MUST, TLS_VERIFY, "smtp.example", "smtp.example");
  decide((struct site){.tls = CONF_SECURITY_IMPLICIT, .routed = true, .tls_name = name}, "192.0.2.1", false);
  expect(SECURITY_MUST, TLS_VERIFY, "smtp.example", "smtp.example");
  ck_assert(security.implicit);
  decide((struct site){.tls = CONF_SECURITY_IMPLICIT, .routed = true}, "192.0.2.1", false);
  expect(SECURITY_MUST, TLS_ANY, "", NULL);
}
END_TEST

/* What has to be proved has to be, whatever was broken before and whatever is configured. */
START_TEST(of_hosts_that_have_to_prove_something) {
  struct proof proof = {.names = 1, .name[0] = "base.example"};
  for (int plain = 0; plain <= 1; plain++) {
    for (int tls = CONF_SECURITY_OPPORTUNISTIC; tls <= CONF_SECURITY_VERIFY; tls++) {
      bool verifies = tls == CONF_SECURITY_VERIFY;
      proof.demand = DEMAND_ENCRYPT;
      decide_by((enum conf_security)tls, &proof, plain);
      expect(SECURITY_MUST, verifies ? TLS_VERIFY : TLS_ANY, "base.example", verifies ? "mx.example" : NULL);
      proof.demand = DEMAND_VERIFY;
      decide_by((enum conf_security)tls, &proof, plain);
      expect(SECURITY_MUST, TLS_VERIFY, "base.example", "base.example");
      proof.demand = DEMAND_DANE;
      decide_by((enum conf_security)tls, &proof, plain);
      expect(SECURITY_MUST, TLS_DANE, "base.example", "base.example");
    }
  }
}
END_TEST

START_TEST(of_records_and_both_names) {
  struct tls_tlsa records[2] = {{.usage = 2}, {.usage = 3}};
  struct proof proof = {.demand = DEMAND_DANE, .names = 2, .name = {"base.example", "example.org"}, .count = 2, .tlsa = records};
  decide_by(CONF_SECURITY_OPPORTUNISTIC, &proof, true);
  ck_assert_int_eq(security.mode, SECURITY_MUST);
  ck_assert_uint_eq(security.expect.name_count, 2);
  ck_assert(span_equal(security.expect.names[1], SPAN("example.org")));
  ck_assert(security.expect.tlsa == records && security.expect.tlsa_count == 2);
}
END_TEST

/* It is looked at, and nothing follows from it. */
START_TEST(of_what_is_only_told) {
  struct proof proof = {.demand = DEMAND_TRY_VERIFY, .names = 1, .name[0] = "mx.example"};
  decide_by(CONF_SECURITY_OPPORTUNISTIC, &proof, false);
  expect(SECURITY_MAY, TLS_ANY, "mx.example", "mx.example");
  decide_by(CONF_SECURITY_OPPORTUNISTIC, &proof, true);
  ck_assert_int_eq(security.mode, SECURITY_CLEAR);
  decide_by(CONF_SECURITY_VERIFY, &proof, true);
  expect(SECURITY_MUST, TLS_VERIFY, "mx.example", "mx.example");
}
END_TEST

int main(void) {
  TCase *all = tcase_create("all");
  tcase_add_test(all, of_mx_hosts);
  tcase_add_test(all, of_broken_ones);
  tcase_add_test(all, of_addresses);
  tcase_add_test(all, of_routes);
  tcase_add_test(all, of_hosts_that_have_to_prove_something);
  tcase_add_test(all, of_records_and_both_names);
  tcase_add_test(all, of_what_is_only_told);
  return unit_main("net/out/security", &all, 1);
}
