#include "dns/pack.h"

#include <stdio.h>

#include "tests/lib/unit.h"

static uint8_t room[PACK_MAX];

static struct dns_name longest(unsigned first) {
  struct dns_name name = {.len = 253};
  memset(name.text, 'a', 253);
  name.text[0] = (char)('a' + first % 26);
  name.text[1] = (char)('a' + first / 26);
  return name;
}

START_TEST(answers_come_back_as_they_went) {
  static struct dns_answer answer, back;
  struct fmt out = fmt_over(room, sizeof room);
  answer = (struct dns_answer){.outcome = DNS_FOUND, .secure = true, .total = 500, .count = DNS_ANSWERS_MAX, .canonical = longest(0)};
  for (unsigned i = 0; i < answer.count; i++) answer.mx[i] = (struct dns_mx){(uint16_t)(i * 2000), longest(i)};
  dns_answer_pack(&answer, DNS_MX, &out);
  ck_assert(!out.overflow);
  dns_answer_unpack(fmt_span(&out), DNS_MX, &back);
  ck_assert_int_eq(memcmp(&answer, &back, offsetof(struct dns_answer, mx)), 0);
  ck_assert_int_eq(memcmp(answer.mx, back.mx, sizeof answer.mx), 0);
}
END_TEST

START_TEST(addresses_and_failures_too) {
  struct dns_answer answer = {.outcome = DNS_FOUND, .total = 2, .count = 2}, back = {0};
  struct fmt out = fmt_over(room, sizeof room);
  answer.address[0] = (struct netaddr){.family = 4, .bytes = {192, 0, 2, 1}};
  answer.address[1] = (struct netaddr){.family = 6, .bytes = {0x20, 1, [15] = 9}};
  dns_answer_pack(&answer, DNS_A, &out);
  dns_answer_unpack(fmt_span(&out), DNS_A, &back);
  ck_assert_int_eq(memcmp(answer.address, back.address, 2 * sizeof *back.address), 0);
  answer = (struct dns_answer){.outcome = DNS_FAILED, .silent = true, .rcode = 4095};
  out = fmt_over(room, sizeof room);
  dns_answer_pack(&answer, DNS_A, &out);
  dns_answer_unpack(fmt_span(&out), DNS_A, &back);
  ck_assert(back.silent && !back.secure && back.outcome == DNS_FAILED && back.rcode == 4095 && back.count == 0);
}
END_TEST

START_TEST(bytes_too) {
  static struct dns_answer answer, back;
  answer = (struct dns_answer){.outcome = DNS_FOUND, .secure = true, .cut = true, .total = 3, .count = 3};
  for (unsigned i = 0, at = 0; i < 3; i++) {
    answer.bytes.piece[i].at = (uint16_t)at;
    answer.bytes.piece[i].len = (uint16_t)(i == 1 ? 0 : DNS_BYTES_MAX / 2);
    memset(answer.bytes.room + at, (int)i + 1, answer.bytes.piece[i].len);
    at += answer.bytes.piece[i].len;
  }
  for (unsigned type = DNS_TXT; type != 0; type = type == DNS_TXT ? DNS_TLSA : 0) {
    struct fmt out = fmt_over(room, sizeof room);
    dns_answer_pack(&answer, (uint16_t)type, &out);
    ck_assert(!out.overflow);
    dns_answer_unpack(fmt_span(&out), (uint16_t)type, &back);
    ck_assert(back.cut && back.secure && back.count == 3);
    ck_assert_int_eq(memcmp(&back.bytes, &answer.bytes, sizeof back.bytes), 0);
  }
}
END_TEST

START_TEST(the_largest_set_fits_and_comes_back) {
  static struct mx_host hosts[MX_HOSTS_MAX];
  struct mx_set set = {.status = MX_OK, .implicit = true, .secure = true, .mx_secure = true, .ttl_s = 77, .hosts = MX_HOSTS_MAX, .host = hosts}, back;
  struct fmt out = fmt_over(room, sizeof room);
  for (unsigned i = 0; i < MX_HOSTS_MAX; i++) {
    struct dns_name name = longest(i);
    hosts[i] = (struct mx_host){
        .preference = (uint16_t)i, .addresses = MX_ADDRESSES_MAX, .name_len = name.len, .canonical_len = name.len, .secure = i % 2 == 0};
    memcpy(hosts[i].name, name.text, sizeof name.text);
    memcpy(hosts[i].canonical, longest(i + 1).text, sizeof name.text);
    for (unsigned a = 0; a < MX_ADDRESSES_MAX; a++) hosts[i].address[a] = (struct netaddr){.family = a % 2 == 0 ? 6 : 4, .bytes = {(uint8_t)a, 1}};
  }
  mx_set_pack(&set, &out);
  ck_assert(!out.overflow);
  ck_assert(mx_set_unpack(fmt_span(&out), &back));
  ck_assert(back.status == MX_OK && back.implicit && back.secure && back.mx_secure && !back.stale && back.ttl_s == 77 && back.hosts == MX_HOSTS_MAX);
  for (unsigned i = 0; i < MX_HOSTS_MAX; i++) {
    ck_assert_str_eq(back.host[i].name, hosts[i].name);
    ck_assert_str_eq(back.host[i].canonical, hosts[i].canonical);
    ck_assert(back.host[i].secure == hosts[i].secure && back.host[i].addresses == MX_ADDRESSES_MAX);
    ck_assert_uint_eq(back.host[i].preference, i);
    ck_assert_int_eq(memcmp(back.host[i].address, hosts[i].address, sizeof hosts[i].address), 0);
  }
  mx_set_clear(&back);
}
END_TEST

START_TEST(a_set_without_hosts_keeps_its_reason) {
  struct mx_set set = {0}, back;
  struct fmt out = fmt_over(room, sizeof room);
  mx_set_fail(&set, MX_NO_DOMAIN, "because of %d", 7);
  mx_set_pack(&set, &out);
  ck_assert(mx_set_unpack(fmt_span(&out), &back));
  ck_assert_int_eq(back.status, MX_NO_DOMAIN);
  ck_assert_str_eq(back.reason, "because of 7");
  ck_assert_ptr_null(back.host);
}
END_TEST

int main(void) {
  TCase *pack = tcase_create("pack");
  tcase_add_test(pack, answers_come_back_as_they_went);
  tcase_add_test(pack, addresses_and_failures_too);
  tcase_add_test(pack, bytes_too);
  tcase_add_test(pack, the_largest_set_fits_and_comes_back);
  tcase_add_test(pack, a_set_without_hosts_keeps_its_reason);
  return unit_main("dns/pack", &pack, 1);
}
