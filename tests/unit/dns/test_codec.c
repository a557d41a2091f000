#include "dns/codec.h"

#include <stdio.h>

#include "core/base/error.h"
#include "tests/lib/unit.h"
#include "tests/unit/dns/packet.h"

static uint8_t room[65535];
static struct fmt out;
static struct dns_reply reply;

static void begin(unsigned flags) {
  out = fmt_over(room, sizeof room);
  packet_begin(&out, 0x1234, PACKET_QR | PACKET_RD | PACKET_RA | flags);
}

static void begin_about(const char *name, unsigned type) {
  begin(0);
  packet_question(&out, name, type);
}

static void set_rcode(unsigned rcode) { room[3] = (uint8_t)((room[3] & 0xf0) | rcode); }

static void decode(void) {
  ck_assert(!out.overflow);
  ck_assert_int_eq(dns_decode(fmt_span(&out), &reply), E_OK);
}

static void conclude(enum dns_outcome outcome) {
  decode();
  ck_assert_int_eq(reply.answer.outcome, outcome);
}

/* ---- queries ---- */

START_TEST(query_bytes_are_exact) {
  static const char expected[] = "\x12\x34\x01\x20\x00\x01\x00\x00\x00\x00\x00\x01"
                                 "\x01"
                                 "a\x02"
                                 "bc\x00\x00\x0f\x00\x01"
                                 "\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00";
  struct dns_question question = {DNS_MX, SPAN("a.bc"), NULL};
  out = fmt_over(room, sizeof room);
  ck_assert_int_eq(dns_encode(&question, 0x1234, true, &out), E_OK);
  ck_assert(span_equal(fmt_span(&out), span_of(expected, sizeof expected - 1)));
  out = fmt_over(room, sizeof room);
  ck_assert_int_eq(dns_encode(&question, 0x1234, false, &out), E_OK);
  ck_assert_uint_eq(out.len, sizeof expected - 1 - 11);
}
END_TEST

START_TEST(mixed_case_goes_out_and_must_come_back) {
  uint8_t mix[32] = {0x05}; /* letters 0 and 2 */
  struct dns_question question = {DNS_A, SPAN("abc.de"), mix};
  out = fmt_over(room, sizeof room);
  ck_assert_int_eq(dns_encode(&question, 1, true, &out), E_OK);
  ck_assert(memcmp(room + 12,
                   "\x03"
                   "AbC\x02"
                   "de",
                   7) == 0);
  begin_about("AbC.de", DNS_A);
  decode();
  ck_assert_int_eq(dns_match(&reply, &question), DNS_MATCH);
  begin_about("abc.de", DNS_A);
  decode();
  ck_assert_int_eq(dns_match(&reply, &question), DNS_MATCH_BUT_CASE);
}
END_TEST

START_TEST(longest_name_fits_a_query) {
  char name[254];
  uint8_t query[DNS_QUERY_MAX];
  memset(name, 'a', sizeof name);
  for (unsigned i = 63; i < 253; i += 64) name[i] = '.';
  struct dns_question question = {DNS_AAAA, span_of(name, 253), NULL};
  out = fmt_over(query, sizeof query);
  ck_assert_int_eq(dns_encode(&question, 1, true, &out), E_OK);
  struct dns_question none = {DNS_AAAA, SPAN("a..b"), NULL};
  ck_assert_int_eq(dns_encode(&none, 1, true, &out), E_SYNTAX);
  out = fmt_over(query, 20);
  ck_assert_int_eq(dns_encode(&question, 1, true, &out), E_FULL);
}
END_TEST

/* ---- whose reply ---- */

START_TEST(only_a_response_to_the_question_matches) {
  struct dns_question question = {DNS_A, SPAN("a.b"), NULL};
  begin_about("a.b", DNS_A);
  decode();
  ck_assert_uint_eq(reply.id, 0x1234);
  ck_assert_int_eq(dns_match(&reply, &question), DNS_MATCH);
  begin_about("a.c", DNS_A);
  decode();
  ck_assert_int_eq(dns_match(&reply, &question), DNS_NO_MATCH);
  begin_about("a.b", DNS_MX);
  decode();
  ck_assert_int_eq(dns_match(&reply, &question), DNS_NO_MATCH);
  begin_about("a.bb", DNS_A);
  decode();
  ck_assert_int_eq(dns_match(&reply, &question), DNS_NO_MATCH);
  begin(0);
  decode();
  ck_assert(!reply.asked);
  ck_assert_int_eq(dns_match(&reply, &question), DNS_NO_MATCH);
  begin_about("a.b", DNS_A);
  room[2] &= 0x7f; /* a query */
  decode();
  ck_assert_int_eq(dns_match(&reply, &question), DNS_NO_MATCH);
}
END_TEST

/* ---- answers ---- */

START_TEST(mx_records_come_ordered) {
  begin_about("example.org", DNS_MX);
  packet_mx(&out, "example.org", 300, 20, "MX2.Example.org");
  packet_mx(&out, "EXAMPLE.org", 200, 10, "mx1.example.org");
  packet_mx(&out, "example.org", 400, 20, "mx0.example.org");
  packet_mx(&out, "other.org", 1, 1, "not.this");
  conclude(DNS_FOUND);
  ck_assert_uint_eq(reply.answer.count, 3);
  ck_assert_uint_eq(reply.answer.total, 3);
  ck_assert_uint_eq(reply.answer.ttl_s, 200);
  ck_assert_str_eq(reply.answer.mx[0].target.text, "mx1.example.org");
  ck_assert_str_eq(reply.answer.mx[1].target.text, "mx0.example.org");
  ck_assert_str_eq(reply.answer.mx[2].target.text, "mx2.example.org");
  ck_assert_uint_eq(reply.answer.mx[2].preference, 20);
  ck_assert_uint_eq(reply.answer.canonical.len, 0);
}
END_TEST

START_TEST(of_many_mx_the_best_are_kept) {
  char target[40];
  begin_about("big.org", DNS_MX);
  for (unsigned i = 0; i < 100; i++) {
    snprintf(target, sizeof target, "mx%03u.big.org", i);
    packet_mx(&out, "big.org", 300, 1000 - i, target);
  }
  conclude(DNS_FOUND);
  ck_assert_uint_eq(reply.answer.total, 100);
  ck_assert_uint_eq(reply.answer.count, DNS_ANSWERS_MAX);
  for (unsigned i = 0; i < DNS_ANSWERS_MAX; i++) ck_assert_uint_eq(reply.answer.mx[i].preference, 901 + i);
}
END_TEST

START_TEST(null_mx_is_the_empty_name) {
  begin_about("null.org", DNS_MX);
  packet_mx(&out, "null.org", 300, 0, "");
  conclude(DNS_FOUND);
  ck_assert_uint_eq(reply.answer.count, 1);
  ck_assert_uint_eq(reply.answer.mx[0].target.len, 0);
}
END_TEST

START_TEST(targets_with_foreign_bytes_are_left_out) {
  begin_about("odd.org", DNS_MX);
  packet_mx(&out, "odd.org", 300, 1, "a b.org");
  packet_mx(&out, "odd.org", 300, 2, "a\\b.org");
  packet_mx(&out, "odd.org", 300, 3, "fine.org");
  conclude(DNS_FOUND);
  ck_assert_uint_eq(reply.answer.total, 3);
  ck_assert_uint_eq(reply.answer.count, 1);
  ck_assert_str_eq(reply.answer.mx[0].target.text, "fine.org");
}
END_TEST

START_TEST(addresses_and_ad_bit) {
  begin_about("h.org", DNS_A);
  packet_bytes(&out, "h.org", DNS_A, 60, "\xc0\x00\x02\x01", 4);
  packet_bytes(&out, "h.org", DNS_A, 60, "\xc0\x00\x02\x02", 4);
  conclude(DNS_FOUND);
  ck_assert(!reply.answer.secure);
  ck_assert_uint_eq(reply.answer.count, 2);
  ck_assert_uint_eq(reply.answer.address[1].family, 4);
  ck_assert_uint_eq(reply.answer.address[1].bytes[3], 2);
  begin(PACKET_AD);
  packet_question(&out, "h.org", DNS_AAAA);
  packet_bytes(&out, "h.org", DNS_AAAA, 60, "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x05", 16);
  conclude(DNS_FOUND);
  ck_assert(reply.answer.secure);
  ck_assert_uint_eq(reply.answer.address[0].family, 6);
  ck_assert_uint_eq(reply.answer.address[0].bytes[15], 5);
  ck_assert_uint_eq(reply.answer.address[0].port, 0);
}
END_TEST

/* ---- aliases ---- */

START_TEST(aliases_are_followed_in_any_order) {
  begin_about("a.org", DNS_MX);
  packet_mx(&out, "c.org", 500, 10, "mx.c.org");
  packet_named(&out, PACKET_ANSWER, "b.org", DNS_CNAME, 50, "C.org");
  packet_named(&out, PACKET_ANSWER, "A.org", DNS_CNAME, 100, "b.org");
  packet_mx(&out, "a.org", 500, 10, "not.this");
  conclude(DNS_FOUND);
  ck_assert_uint_eq(reply.answer.count, 1);
  ck_assert_str_eq(reply.answer.mx[0].target.text, "mx.c.org");
  ck_assert_str_eq(reply.answer.canonical.text, "c.org");
  ck_assert_uint_eq(reply.answer.ttl_s, 50);
}
END_TEST

START_TEST(loops_and_long_chains_of_aliases_fail) {
  begin_about("a.org", DNS_A);
  packet_named(&out, PACKET_ANSWER, "a.org", DNS_CNAME, 50, "b.org");
  packet_named(&out, PACKET_ANSWER, "b.org", DNS_CNAME, 50, "a.org");
  conclude(DNS_FAILED);
  for (unsigned links = DNS_CHAIN_MAX; links <= DNS_CHAIN_MAX + 1; links++) {
    begin_about("a0", DNS_A);
    for (unsigned i = 0; i < links; i++) {
      char from[16], to[16];
      snprintf(from, sizeof from, "a%u", i);
      snprintf(to, sizeof to, "a%u", i + 1);
      packet_named(&out, PACKET_ANSWER, from, DNS_CNAME, 50, to);
    }
    packet_bytes(&out, links == DNS_CHAIN_MAX ? "a8" : "a9", DNS_A, 50, "\x7f\0\0\x01", 4);
    conclude(links == DNS_CHAIN_MAX ? DNS_FOUND : DNS_FAILED);
  }
}
END_TEST

/* ---- negative answers ---- */

START_TEST(negative_ttl_is_the_smaller_of_soa_ttl_and_minimum) {
  begin_about("no.org", DNS_A);
  set_rcode(DNS_NXDOMAIN);
  packet_soa(&out, "org", 500, 90);
  conclude(DNS_NO_NAME);
  ck_assert_uint_eq(reply.answer.ttl_s, 90);
  begin_about("no.org", DNS_A);
  packet_soa(&out, "org", 50, 90);
  conclude(DNS_NO_DATA);
  ck_assert_uint_eq(reply.answer.ttl_s, 50);
  begin_about("no.org", DNS_A);
  conclude(DNS_NO_DATA);
  ck_assert_uint_eq(reply.answer.ttl_s, 0); /* no SOA: not to be cached */
}
END_TEST

START_TEST(alias_to_a_missing_name_is_a_missing_name) {
  begin_about("a.org", DNS_MX);
  set_rcode(DNS_NXDOMAIN);
  packet_named(&out, PACKET_ANSWER, "a.org", DNS_CNAME, 10, "b.org");
  packet_soa(&out, "org", 500, 90);
  conclude(DNS_NO_NAME);
  ck_assert_uint_eq(reply.answer.ttl_s, 10);
}
END_TEST

START_TEST(a_referral_is_no_negative_answer) {
  begin_about("a.org", DNS_MX);
  packet_named(&out, PACKET_AUTHORITY, "org", DNS_NS, 500, "ns.org");
  conclude(DNS_FAILED);
}
END_TEST

START_TEST(other_rcodes_fail_and_edns_extends_them) {
  begin_about("a.org", DNS_MX);
  set_rcode(DNS_REFUSED);
  conclude(DNS_FAILED);
  ck_assert_uint_eq(reply.answer.rcode, DNS_REFUSED);
  begin_about("a.org", DNS_MX);
  size_t start = packet_record(&out, PACKET_ADDITIONAL, "", DNS_OPT, 0x01000000);
  packet_end(&out, start);
  conclude(DNS_FAILED);
  ck_assert_uint_eq(reply.rcode, 16); /* BADVERS */
}
END_TEST

START_TEST(ttl_with_the_top_bit_is_zero) {
  begin_about("a.org", DNS_A);
  packet_bytes(&out, "a.org", DNS_A, 0x80000000, "\x7f\0\0\x01", 4);
  conclude(DNS_FOUND);
  ck_assert_uint_eq(reply.answer.ttl_s, 0);
}
END_TEST

/* ---- hostile packets ---- */

START_TEST(truncated_reply_is_read_up_to_the_question) {
  begin(PACKET_TC);
  packet_question(&out, "a.org", DNS_MX);
  fmt_text(&out, "half a record");
  room[7] = 9;
  decode();
  ck_assert(reply.truncated && reply.asked);
  ck_assert_int_eq(reply.answer.outcome, DNS_NONE);
}
END_TEST

START_TEST(every_cut_is_refused) {
  begin_about("example.org", DNS_MX);
  packet_mx(&out, "example.org", 300, 20, "mx2.example.org");
  packet_soa(&out, "org", 500, 90);
  size_t whole = out.len;
  ck_assert_int_eq(dns_decode(span_of(room, whole), &reply), E_OK);
  for (size_t len = 0; len < whole; len++) ck_assert_int_ne(dns_decode(span_of(room, len), &reply), E_OK);
}
END_TEST

START_TEST(pointer_loops_and_foreign_questions_are_refused) {
  begin(0);
  fmt_bytes(&out, "\xc0\x0c\x00\x01\x00\x01", 6);
  packet_count(&out, PACKET_QUESTION);
  ck_assert_int_eq(dns_decode(fmt_span(&out), &reply), E_SYNTAX);
  begin_about("a.org", DNS_A);
  packet_question(&out, "b.org", DNS_A);
  ck_assert_int_eq(dns_decode(fmt_span(&out), &reply), E_SYNTAX);
  begin_about("a.org", DNS_A);
  room[out.len - 1] = 3; /* CHAOS */
  ck_assert_int_eq(dns_decode(fmt_span(&out), &reply), E_SYNTAX);
  begin_about("a b.org", DNS_A);
  ck_assert_int_eq(dns_decode(fmt_span(&out), &reply), E_SYNTAX);
  begin_about("a.org", DNS_A);
  room[2] |= 0x28; /* UPDATE */
  ck_assert_int_eq(dns_decode(fmt_span(&out), &reply), E_SYNTAX);
}
END_TEST

START_TEST(records_are_bounded) {
  begin_about("a.org", DNS_A);
  for (unsigned i = 0; i < DNS_PACKET_RECORDS_MAX - 1; i++) packet_bytes(&out, "a.org", DNS_A, 1, "\x7f\0\0\x01", 4);
  conclude(DNS_FOUND);
  ck_assert_uint_eq(reply.answer.count, DNS_ANSWERS_MAX);
  packet_bytes(&out, "a.org", DNS_A, 1, "\x7f\0\0\x01", 4);
  ck_assert_int_eq(dns_decode(fmt_span(&out), &reply), E_TOO_LONG);
}
END_TEST

START_TEST(texts) {
  ck_assert_str_eq(dns_rcode_text(DNS_SERVFAIL), "SERVFAIL");
  ck_assert_str_eq(dns_rcode_text(77), "an unusual rcode");
  ck_assert_str_eq(dns_type_text(DNS_MX), "MX");
}
END_TEST

/* ---- records that are bytes ---- */

START_TEST(tlsa_records_come_as_they_are) {
  static const uint8_t one[] = {3, 1, 1, 0xaa, 0, 0xbb}, bare[] = {3, 0, 0};
  begin_about("_25._tcp.a.b", DNS_TLSA);
  packet_bytes(&out, "_25._tcp.a.b", 52, 70, one, sizeof one);
  packet_bytes(&out, "_25._tcp.a.b", 52, 60, bare, sizeof bare);
  packet_bytes(&out, "_25._tcp.c.b", 52, 50, one, sizeof one);
  conclude(DNS_FOUND);
  ck_assert(reply.answer.count == 2 && reply.answer.total == 2 && reply.answer.ttl_s == 60 && !reply.answer.cut);
  ck_assert(span_equal(dns_answer_bytes(&reply.answer, 0), span_of(one, sizeof one)));
  ck_assert(span_equal(dns_answer_bytes(&reply.answer, 1), span_of(bare, sizeof bare)));
}
END_TEST

START_TEST(strings_of_a_text_are_joined) {
  begin_about("_mta-sts.a.b", DNS_TXT);
  packet_bytes(&out, "_mta-sts.a.b", 16, 70, "\3abc\0\2de", 8);
  packet_bytes(&out, "_mta-sts.a.b", 16, 70, "\1f", 2);
  conclude(DNS_FOUND);
  ck_assert_uint_eq(reply.answer.count, 2);
  ck_assert(span_equal(dns_answer_bytes(&reply.answer, 0), SPAN("abcde")));
  ck_assert(span_equal(dns_answer_bytes(&reply.answer, 1), SPAN("f")));
}
END_TEST

START_TEST(what_has_no_room_is_told) {
  static uint8_t large[4000] = {3, 0, 0};
  static const uint8_t small[] = {3, 1, 0, 9};
  begin_about("a.b", DNS_TLSA);
  packet_bytes(&out, "a.b", 52, 70, large, sizeof large);
  packet_bytes(&out, "a.b", 52, 70, large, sizeof large);
  packet_bytes(&out, "a.b", 52, 70, small, sizeof small);
  conclude(DNS_FOUND);
  ck_assert(reply.answer.count == 2 && reply.answer.total == 3 && reply.answer.cut);
  ck_assert_uint_eq(dns_answer_bytes(&reply.answer, 0).len, sizeof large);
  ck_assert(span_equal(dns_answer_bytes(&reply.answer, 1), span_of(small, sizeof small)));
  begin_about("a.b", DNS_TLSA);
  for (unsigned i = 0; i < DNS_ANSWERS_MAX + 1; i++) packet_bytes(&out, "a.b", 52, 70, small, sizeof small);
  conclude(DNS_FOUND);
  ck_assert(reply.answer.count == DNS_ANSWERS_MAX && reply.answer.total == DNS_ANSWERS_MAX + 1 && reply.answer.cut);
}
END_TEST

START_TEST(who_asks_for_an_alias_gets_that_and_not_where_it_leads) {
  begin_about("a.b", DNS_CNAME);
  packet_named(&out, PACKET_ANSWER, "a.b", 5, 60, "c.d");
  conclude(DNS_FOUND);
  ck_assert(reply.answer.total == 1 && reply.answer.count == 0 && reply.answer.canonical.len == 0);
}
END_TEST

int main(void) {
  TCase *cases[] = {tcase_create("queries"), tcase_create("answers"), tcase_create("hostile")};
  tcase_add_test(cases[0], query_bytes_are_exact);
  tcase_add_test(cases[0], mixed_case_goes_out_and_must_come_back);
  tcase_add_test(cases[0], longest_name_fits_a_query);
  tcase_add_test(cases[0], only_a_response_to_the_question_matches);
  tcase_add_test(cases[0], texts);
  tcase_add_test(cases[1], mx_records_come_ordered);
  tcase_add_test(cases[1], of_many_mx_the_best_are_kept);
  tcase_add_test(cases[1], null_mx_is_the_empty_name);
  tcase_add_test(cases[1], targets_with_foreign_bytes_are_left_out);
  tcase_add_test(cases[1], addresses_and_ad_bit);
  tcase_add_test(cases[1], aliases_are_followed_in_any_order);
  tcase_add_test(cases[1], loops_and_long_chains_of_aliases_fail);
  tcase_add_test(cases[1], negative_ttl_is_the_smaller_of_soa_ttl_and_minimum);
  tcase_add_test(cases[1], alias_to_a_missing_name_is_a_missing_name);
  tcase_add_test(cases[1], a_referral_is_no_negative_answer);
  tcase_add_test(cases[1], other_rcodes_fail_and_edns_extends_them);
  tcase_add_test(cases[1], ttl_with_the_top_bit_is_zero);
  tcase_add_test(cases[2], truncated_reply_is_read_up_to_the_question);
  tcase_add_test(cases[2], every_cut_is_refused);
  tcase_add_test(cases[2], pointer_loops_and_foreign_questions_are_refused);
  tcase_add_test(cases[2], records_are_bounded);
  tcase_add_test(cases[1], tlsa_records_come_as_they_are);
  tcase_add_test(cases[1], strings_of_a_text_are_joined);
  tcase_add_test(cases[1], what_has_no_room_is_told);
  tcase_add_test(cases[1], who_asks_for_an_alias_gets_that_and_not_where_it_leads);
  return unit_main("dns/codec", cases, 3);
}
