/* What follows from which answers: the rules alone, without a resolver. */
#include "dns/dane.h"

#include <stdio.h>
#include <stdlib.h>

#include "dns/lookup.h"
#include "tests/lib/unit.h"

static struct mx_host host;
static struct mx_set set;
static struct dane dane;
static struct dns_answer answer;

static void set_text(char *to, uint8_t *len, const char *text) {
  strcpy(to, text);
  *len = (uint8_t)strlen(text);
}

/* All secure, no alias. */
static void setup(void) {
  host = (struct mx_host){.secure = true, .addresses = 1};
  set_text(host.name, &host.name_len, "mx.org");
  set = (struct mx_set){.status = MX_OK, .mx_secure = true, .ttl_s = 300, .hosts = 1, .host = &host};
}
static void teardown(void) {}

static void begin(void) { dane_begin(&dane, &set, &host, SPAN("Example.org"), 25); }
static void alias(const char *canonical) { set_text(host.canonical, &host.canonical_len, canonical); }

static void needs(unsigned type, const char *name) {
  struct dns_key key;
  ck_assert_int_eq(dane.status, DANE_PENDING);
  dane_needs(&dane, &key);
  ck_assert_uint_eq(dns_key_type(&key), type);
  ck_assert(span_equal(dns_key_name(&key), span_of_text(name)));
}

static void reply(enum dns_outcome outcome, bool secure) { answer = (struct dns_answer){.outcome = outcome, .secure = secure, .ttl_s = 200}; }

static void add(unsigned usage, unsigned selector, unsigned matching, unsigned len) {
  struct dns_bytes *bytes = &answer.bytes;
  uint16_t at = answer.count == 0 ? 0 : (uint16_t)(bytes->piece[answer.count - 1].at + bytes->piece[answer.count - 1].len);
  uint8_t *to = bytes->room + at;
  to[0] = (uint8_t)usage, to[1] = (uint8_t)selector, to[2] = (uint8_t)matching;
  memset(to + 3, (int)answer.count + 1, len);
  bytes->piece[answer.count].at = at;
  bytes->piece[answer.count++].len = (uint16_t)(3 + len);
  answer.total++;
}

static void take(enum dane_status status) {
  dane_take(&dane, &answer);
  ck_assert_msg(dane.status == status, "%s: %s", dane_status_text(dane.status), dane.reason);
  ck_assert((status == DANE_PENDING) == (dane.reason[0] == '\0'));
}

START_TEST(records_are_used) {
  begin();
  needs(DNS_TLSA, "_25._tcp.mx.org");
  reply(DNS_FOUND, true);
  add(3, 1, 1, 32);
  add(1, 1, 1, 32);
  add(2, 0, 2, 64);
  take(DANE_USE);
  ck_assert_uint_eq(dane.count, 2);
  ck_assert(dane.record[0].usage == 3 && dane.record[0].selector == 1 && dane.record[0].matching == 1);
  ck_assert(dane.record[1].usage == 2 && dane.record[1].selector == 0 && dane.record[1].matching == 2);
  ck_assert(dane.record[1].association.len == 64 && dane.record[1].association.at[63] == 3);
  ck_assert_str_eq(dane.base.text, "mx.org");
  ck_assert_uint_eq(dane.ttl_s, 200);
}
END_TEST

START_TEST(another_port_has_other_records) {
  dane_begin(&dane, &set, &host, SPAN("example.org"), 2526);
  needs(DNS_TLSA, "_2526._tcp.mx.org");
}
END_TEST

START_TEST(a_copy_has_its_own_bytes) {
  begin();
  reply(DNS_FOUND, true);
  add(3, 1, 1, 32);
  add(3, 1, 0, 100);
  take(DANE_USE);
  struct dane *copy = dane_copy(&dane);
  memset(&answer, 0, sizeof answer);
  ck_assert_uint_eq(copy->count, 2);
  ck_assert_uint_eq(copy->record[0].association.at[31], 1);
  ck_assert(copy->record[1].association.len == 100 && copy->record[1].association.at[99] == 2);
  free(copy);
}
END_TEST

static const struct {
  unsigned usage, selector, matching, len;
  bool usable;
} records[] = {
    {3, 1, 1, 32, true},  {3, 0, 1, 32, true},  {2, 0, 1, 32, true},  {2, 1, 2, 64, true},  {3, 1, 0, 1, true},
    {0, 1, 1, 32, false}, {1, 1, 1, 32, false}, {4, 1, 1, 32, false}, {3, 2, 1, 32, false}, {3, 1, 3, 32, false},
    {3, 1, 1, 31, false}, {3, 1, 2, 32, false}, {3, 1, 0, 0, false},
};

START_TEST(which_are_usable) {
  begin();
  reply(DNS_FOUND, true);
  add(records[_i].usage, records[_i].selector, records[_i].matching, records[_i].len);
  take(records[_i].usable ? DANE_USE : DANE_UNUSABLE);
  ck_assert_str_eq(dane.base.text, "mx.org");
}
END_TEST

START_TEST(what_had_no_room_may_be_usable) {
  begin();
  reply(DNS_FOUND, true);
  answer.total = 1;
  answer.cut = true;
  take(DANE_DEFER);
  begin();
  add(3, 1, 1, 32);
  take(DANE_USE);
}
END_TEST

/* Not secure: none, without a question. */
START_TEST(nothing_is_asked_about_what_is_not_secure) {
  set.mx_secure = false;
  begin();
  ck_assert_int_eq(dane.status, DANE_NONE);
  setup();
  host.secure = false;
  begin();
  ck_assert_int_eq(dane.status, DANE_NONE);
}
END_TEST

static const struct {
  enum dns_outcome outcome;
  bool secure;
  enum dane_status status;
} outcomes[] = {
    {DNS_NO_DATA, true, DANE_NONE},  {DNS_NO_NAME, true, DANE_NONE}, {DNS_NO_DATA, false, DANE_NONE},
    {DNS_NO_NAME, false, DANE_NONE}, {DNS_FOUND, false, DANE_NONE},  {DNS_FAILED, false, DANE_DEFER},
};

START_TEST(what_other_answers_mean) {
  begin();
  reply(outcomes[_i].outcome, outcomes[_i].secure);
  if (outcomes[_i].outcome == DNS_FOUND) add(3, 1, 1, 32);
  answer.rcode = outcomes[_i].outcome == DNS_FAILED ? DNS_SERVFAIL : 0;
  take(outcomes[_i].status);
  ck_assert_uint_eq(dane.count, 0);
  if (outcomes[_i].status == DANE_DEFER) ck_assert(strstr(dane.reason, "SERVFAIL") != NULL && dane.ttl_s == LOOKUP_FAILURE_TTL_S);
}
END_TEST

/* ---- aliases: RFC 7672 2.2.2 ---- */

START_TEST(secure_aliases_lead_to_the_records_of_their_end) {
  alias("end.net");
  begin();
  needs(DNS_TLSA, "_25._tcp.end.net");
  reply(DNS_FOUND, true);
  add(3, 1, 1, 32);
  take(DANE_USE);
  ck_assert_str_eq(dane.base.text, "end.net");
}
END_TEST

START_TEST(then_to_those_of_their_beginning) {
  for (unsigned i = 0; i < 2; i++) {
    alias("end.net");
    begin();
    reply(i == 0 ? DNS_NO_NAME : DNS_NO_DATA, i == 0);
    take(DANE_PENDING);
    needs(DNS_TLSA, "_25._tcp.mx.org");
    reply(DNS_FOUND, true);
    add(3, 1, 1, 32);
    take(DANE_USE);
    ck_assert_str_eq(dane.base.text, "mx.org");
  }
}
END_TEST

START_TEST(a_failure_at_the_end_is_none_of_no_records) {
  alias("end.net");
  begin();
  reply(DNS_FAILED, false);
  take(DANE_DEFER);
}
END_TEST

START_TEST(a_secure_alias_into_what_is_not_signed) {
  alias("end.net");
  host.secure = false;
  begin();
  needs(DNS_CNAME, "mx.org");
  reply(DNS_FOUND, true);
  take(DANE_PENDING);
  needs(DNS_TLSA, "_25._tcp.mx.org");
  reply(DNS_NO_NAME, true);
  take(DANE_NONE);
}
END_TEST

START_TEST(an_alias_that_is_not_secure) {
  alias("end.net");
  host.secure = false;
  begin();
  reply(DNS_FOUND, false);
  take(DANE_NONE);
  begin();
  reply(DNS_FAILED, false);
  take(DANE_DEFER);
}
END_TEST

START_TEST(an_implicit_host_begins_as_the_domain) {
  set.implicit = true;
  set_text(host.name, &host.name_len, "end.net"); /* as dns/lookup.c does it */
  alias("end.net");
  begin();
  needs(DNS_TLSA, "_25._tcp.end.net");
  reply(DNS_NO_DATA, true);
  take(DANE_PENDING);
  needs(DNS_TLSA, "_25._tcp.example.org");
}
END_TEST

START_TEST(names_too_long_have_no_records) {
  memset(host.name, 'a', 250);
  for (unsigned i = 50; i < 250; i += 51) host.name[i] = '.';
  host.name[250] = '\0';
  host.name_len = 250;
  begin();
  ck_assert_int_eq(dane.status, DANE_NONE);
  alias("end.net");
  begin();
  reply(DNS_NO_NAME, true);
  take(DANE_NONE);
}
END_TEST

int main(void) {
  TCase *rules = tcase_create("dane");
  tcase_add_checked_fixture(rules, setup, teardown);
  tcase_add_test(rules, records_are_used);
  tcase_add_test(rules, another_port_has_other_records);
  tcase_add_test(rules, a_copy_has_its_own_bytes);
  tcase_add_loop_test(rules, which_are_usable, 0, sizeof records / sizeof *records);
  tcase_add_test(rules, what_had_no_room_may_be_usable);
  tcase_add_test(rules, nothing_is_asked_about_what_is_not_secure);
  tcase_add_loop_test(rules, what_other_answers_mean, 0, sizeof outcomes / sizeof *outcomes);
  tcase_add_test(rules, secure_aliases_lead_to_the_records_of_their_end);
  tcase_add_test(rules, then_to_those_of_their_beginning);
  tcase_add_test(rules, a_failure_at_the_end_is_none_of_no_records);
  tcase_add_test(rules, a_secure_alias_into_what_is_not_signed);
  tcase_add_test(rules, an_alias_that_is_not_secure);
  tcase_add_test(rules, an_implicit_host_begins_as_the_domain);
  tcase_add_test(rules, names_too_long_have_no_records);
  return unit_main("dns/dane", &rules, 1);
}
