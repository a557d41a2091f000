#include "bench/lib/zone.h"
#include "core/base/error.h"
#include "tests/lib/unit.h"

#include <ldns/ldns.h>
#include <stdlib.h>

static struct zone zone;

static void setup(void) {
  zone = (struct zone){.count = 100, .mx_hosts = 2, .host_base = 0x7f000101, .host_count = 254, .ttl_s = 3600, .negative_ttl_s = 60};
  ck_assert_int_eq(domains_parse(&zone.domains, SPAN("d%05d.test")), E_OK);
}

static size_t query(uint8_t *room, const char *name, ldns_rr_type type, uint16_t udp_size) {
  ldns_pkt *packet = ldns_pkt_query_new(ldns_dname_new_frm_str(name), type, LDNS_RR_CLASS_IN, LDNS_RD);
  ldns_pkt_set_id(packet, 0x1234);
  if (udp_size > 0) ldns_pkt_set_edns_udp_size(packet, udp_size);
  uint8_t *wire;
  size_t len;
  ck_assert_int_eq(ldns_pkt2wire(&wire, packet, &len), LDNS_STATUS_OK);
  memcpy(room, wire, len);
  free(wire);
  ldns_pkt_free(packet);
  return len;
}

/* The answer as another implementation reads it. The caller frees it. */
static ldns_pkt *ask(const char *name, ldns_rr_type type, bool udp, uint16_t udp_size) {
  uint8_t room[512], response[ZONE_RESPONSE_MAX];
  struct fmt out = fmt_over(response, sizeof response);
  size_t len = query(room, name, type, udp_size);
  if (!zone_answer(&zone, span_of(room, len), udp, &out)) return NULL;
  ldns_pkt *packet;
  ck_assert_int_eq(ldns_wire2pkt(&packet, response, out.len), LDNS_STATUS_OK);
  ck_assert_uint_eq(ldns_pkt_id(packet), 0x1234);
  ck_assert(ldns_pkt_qr(packet) && ldns_pkt_rd(packet) && ldns_pkt_ra(packet));
  ck_assert_uint_eq(ldns_pkt_edns(packet), udp_size > 0);
  return packet;
}

static void expect_record(const ldns_pkt *packet, size_t index, const char *text) {
  ck_assert_uint_gt(ldns_rr_list_rr_count(ldns_pkt_answer(packet)), index);
  char *got = ldns_rr2str(ldns_rr_list_rr(ldns_pkt_answer(packet), index));
  got[strcspn(got, "\n")] = '\0';
  ck_assert_str_eq(got, text);
  free(got);
}

static void expect_negative(const char *name, ldns_rr_type type, ldns_pkt_rcode rcode) {
  ldns_pkt *packet = ask(name, type, true, 1232);
  ck_assert_int_eq(ldns_pkt_get_rcode(packet), rcode);
  ck_assert_uint_eq(ldns_pkt_ancount(packet), 0);
  ck_assert_uint_eq(ldns_pkt_nscount(packet), 1);
  ck_assert_int_eq(ldns_rr_get_type(ldns_rr_list_rr(ldns_pkt_authority(packet), 0)), LDNS_RR_TYPE_SOA);
  ldns_pkt_free(packet);
}

START_TEST(mx_and_address) {
  ldns_pkt *packet = ask("d00007.test", LDNS_RR_TYPE_MX, true, 1232);
  ck_assert_uint_eq(ldns_pkt_ancount(packet), 2);
  expect_record(packet, 0, "d00007.test.\t3600\tIN\tMX\t10 mx1.d00007.test.");
  expect_record(packet, 1, "d00007.test.\t3600\tIN\tMX\t20 mx2.d00007.test.");
  ldns_pkt_free(packet);
  packet = ask("MX2.d00007.test", LDNS_RR_TYPE_A, true, 0);
  expect_record(packet, 0, "MX2.d00007.test.\t3600\tIN\tA\t127.0.1.16");
  ck_assert_uint_eq(zone_address(&zone, 7, 1), 0x7f000110);
  ck_assert(zone_is_address_of(&zone, 7, 0x7f000110) && !zone_is_address_of(&zone, 7, 0x7f000111));
  ldns_pkt_free(packet);
}
END_TEST

START_TEST(sites_share_hosts) {
  zone.sites = 3;
  ldns_pkt *packet = ask("d00007.test", LDNS_RR_TYPE_MX, true, 0);
  expect_record(packet, 0, "d00007.test.\t3600\tIN\tMX\t10 mx1.site1.test.");
  ldns_pkt_free(packet);
  packet = ask("mx1.site1.test", LDNS_RR_TYPE_A, false, 0);
  expect_record(packet, 0, "mx1.site1.test.\t3600\tIN\tA\t127.0.1.3");
  ldns_pkt_free(packet);
  expect_negative("mx1.site3.test", LDNS_RR_TYPE_A, LDNS_RCODE_NXDOMAIN);
  ck_assert_uint_eq(zone_address(&zone, 7, 0), zone_address(&zone, 1, 0));
}
END_TEST

START_TEST(what_is_not_there) {
  expect_negative("d00007.test", LDNS_RR_TYPE_A, LDNS_RCODE_NOERROR);
  expect_negative("mx1.d00007.test", LDNS_RR_TYPE_AAAA, LDNS_RCODE_NOERROR);
  expect_negative("mx3.d00007.test", LDNS_RR_TYPE_A, LDNS_RCODE_NXDOMAIN);
  expect_negative("mx0.d00007.test", LDNS_RR_TYPE_A, LDNS_RCODE_NXDOMAIN);
  expect_negative("d00100.test", LDNS_RR_TYPE_MX, LDNS_RCODE_NXDOMAIN);
  expect_negative("a.nx.test", LDNS_RR_TYPE_MX, LDNS_RCODE_NXDOMAIN);
  expect_negative(".", LDNS_RR_TYPE_NS, LDNS_RCODE_NXDOMAIN);
  expect_negative("xnullmx.test", LDNS_RR_TYPE_MX, LDNS_RCODE_NXDOMAIN);
}
END_TEST

START_TEST(special_names) {
  ldns_pkt *packet = ask("nullmx.test", LDNS_RR_TYPE_MX, true, 0);
  expect_record(packet, 0, "nullmx.test.\t3600\tIN\tMX\t0 .");
  ldns_pkt_free(packet);
  packet = ask("a.servfail.test", LDNS_RR_TYPE_MX, true, 0);
  ck_assert_int_eq(ldns_pkt_get_rcode(packet), LDNS_RCODE_SERVFAIL);
  ldns_pkt_free(packet);
  ck_assert_ptr_null(ask("silent.test", LDNS_RR_TYPE_MX, true, 0));
}
END_TEST

START_TEST(truncation) {
  zone.truncate = true;
  ldns_pkt *packet = ask("d00007.test", LDNS_RR_TYPE_MX, true, 1232);
  ck_assert(ldns_pkt_tc(packet) && ldns_pkt_ancount(packet) == 0);
  ldns_pkt_free(packet);
  packet = ask("d00007.test", LDNS_RR_TYPE_MX, false, 1232);
  ck_assert(!ldns_pkt_tc(packet) && ldns_pkt_ancount(packet) == 2);
  ldns_pkt_free(packet);
  /* By size: sixteen records with long names do not fit into 512 bytes. */
  zone.truncate = false;
  zone.sites = 5;
  zone.mx_hosts = ZONE_MX_MAX;
  ck_assert_int_eq(domains_parse(&zone.domains, SPAN("d%d.a-rather-long-suffix-of-many-letters.example")), E_OK);
  packet = ask("d1.a-rather-long-suffix-of-many-letters.example", LDNS_RR_TYPE_MX, true, 0);
  ck_assert(ldns_pkt_tc(packet));
  ldns_pkt_free(packet);
  packet = ask("d1.a-rather-long-suffix-of-many-letters.example", LDNS_RR_TYPE_MX, false, 0);
  ck_assert(!ldns_pkt_tc(packet));
  ck_assert_uint_eq(ldns_pkt_ancount(packet), 16);
  ldns_pkt_free(packet);
}
END_TEST

START_TEST(broken_queries) {
  uint8_t room[512], response[ZONE_RESPONSE_MAX];
  size_t len = query(room, "d00007.test", LDNS_RR_TYPE_MX, 0);
  for (size_t cut = 0; cut < len; cut++) {
    struct fmt out = fmt_over(response, sizeof response);
    bool answered = zone_answer(&zone, span_of(room, cut), true, &out);
    ck_assert_int_eq(answered, cut >= 12);
    if (answered) ck_assert_int_eq(response[3] & 15, LDNS_RCODE_FORMERR);
  }
  struct fmt out = fmt_over(response, sizeof response);
  room[2] |= 0x80; /* a response is no query */
  ck_assert(!zone_answer(&zone, span_of(room, len), true, &out));
  room[2] = 0x20; /* opcode 4 */
  ck_assert(zone_answer(&zone, span_of(room, len), true, &out));
  ck_assert_int_eq(response[3] & 15, LDNS_RCODE_NOTIMPL);
  room[2] = 0;
  room[12] = 0xc0; /* a pointer in the question */
  out.len = 0;
  ck_assert(zone_answer(&zone, span_of(room, len), true, &out));
  ck_assert_int_eq(response[3] & 15, LDNS_RCODE_FORMERR);
}
END_TEST

int main(void) {
  TCase *answers = tcase_create("answers");
  tcase_add_checked_fixture(answers, setup, NULL);
  tcase_add_test(answers, mx_and_address);
  tcase_add_test(answers, sites_share_hosts);
  tcase_add_test(answers, what_is_not_there);
  tcase_add_test(answers, special_names);
  tcase_add_test(answers, truncation);
  tcase_add_test(answers, broken_queries);
  return unit_main("bench/zone", &answers, 1);
}
