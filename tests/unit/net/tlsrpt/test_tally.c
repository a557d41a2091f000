/* Sums: whatever is counted, wherever it is counted first, and however little room there is, nothing gets lost; a merge of parts is the whole; memory is bounded. */
#include "net/tlsrpt/tally.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/base/error.h"
#include "dns/dane.h"
#include "net/sts/policy.h"
#include "tests/lib/unit.h"

#define PARTS 3
#define POLICIES 4

static const struct tlsrpt_limits wide = {.domains = 10000, .policies = 100, .kinds = 1000, .bytes = 64u << 20};
static struct tlsrpt_tally whole, merged, part[PARTS];
static struct tlsrpt_policy *policy[POLICIES]; /* the first is NULL */

static void setup(void) {
  for (unsigned i = 1; i < POLICIES; i++) {
    char lines[64];
    snprintf(lines, sizeof lines, "3 1 1 0%u\n", i / 2 * 2); /* the last two say the same */
    ck_assert_int_eq(tlsrpt_policy_make(&policy[i], TLSRPT_POLICY_TLSA, SPAN("mx.example.org"), span_of_text(lines), span_of(NULL, 0)), E_OK);
  }
  tlsrpt_tally_init(&whole, &wide, 1);
  tlsrpt_tally_init(&merged, &wide, 2);
  for (unsigned i = 0; i < PARTS; i++) tlsrpt_tally_init(&part[i], &wide, 3 + i);
}

static void teardown(void) {
  tlsrpt_tally_clear(&whole);
  tlsrpt_tally_clear(&merged);
  for (unsigned i = 0; i < PARTS; i++) tlsrpt_tally_clear(&part[i]);
  for (unsigned i = 1; i < POLICIES; i++) tlsrpt_policy_drop(policy[i]);
}

/* ---- sums ---- */

struct sums {
  uint64_t successes, failures;
};

static struct sums sums_of(const struct tlsrpt_tally *tally) {
  struct sums sums = {tally->rest_successes, tally->rest_failures};
  const struct tlsrpt_domain *domain;
  const struct tlsrpt_applied *applied;
  const struct tlsrpt_kind *kind;
  unsigned domains = 0;
  for (uint32_t cursor = 0; (domain = tlsrpt_tally_next(tally, &cursor)) != NULL; domains++) {
    unsigned policies = 0;
    STAILQ_FOREACH(applied, &domain->applied, _link) {
      uint64_t failures = applied->rest;
      unsigned kinds = 0;
      STAILQ_FOREACH(kind, &applied->kinds, _link) failures += kind->sessions, kinds++;
      ck_quick(failures == applied->failures && kinds == applied->kinds_count && kinds <= tally->limits.kinds);
      sums.successes += applied->successes;
      sums.failures += applied->failures;
      policies++;
    }
    ck_quick(policies > 0 && policies == domain->applied_count && policies <= tally->limits.policies);
  }
  ck_quick(domains == tally->map.count && domains <= tally->limits.domains && tally->bytes <= tally->limits.bytes);
  return sums;
}

static bool has_all(const struct tlsrpt_tally *a, const struct tlsrpt_tally *b) {
  const struct tlsrpt_domain *domain;
  const struct tlsrpt_applied *applied, *other;
  const struct tlsrpt_kind *kind, *same;
  for (uint32_t cursor = 0; (domain = tlsrpt_tally_next(b, &cursor)) != NULL;) {
    const struct tlsrpt_domain *there = tlsrpt_tally_find(a, tlsrpt_domain_name(domain));
    if (there == NULL) return false;
    STAILQ_FOREACH(applied, &domain->applied, _link) {
      STAILQ_FOREACH(other, &there->applied, _link) if (tlsrpt_policy_equal(other->policy, applied->policy)) break;
      if (other == NULL || other->successes != applied->successes || other->failures != applied->failures || other->rest != applied->rest)
        return false;
      STAILQ_FOREACH(kind, &applied->kinds, _link) {
        STAILQ_FOREACH(same, &other->kinds, _link) {
          struct tlsrpt_failure x = tlsrpt_kind_failure(kind), y = tlsrpt_kind_failure(same);
          if (x.result == y.result && netaddr_equal(&x.sending, &y.sending) && netaddr_equal(&x.receiving, &y.receiving) &&
              span_equal(x.mx_host, y.mx_host) && span_equal(x.info, y.info) && span_equal(x.reason, y.reason))
            break;
        }
        if (same == NULL || same->sessions != kind->sessions) return false;
      }
    }
  }
  return true;
}

/* ---- some day ---- */

static unsigned any(unsigned below) { return (unsigned)rand() % below; }

static void count_something(struct tlsrpt_tally *tally, struct tlsrpt_tally *also, struct sums *sums) {
  static const char *const reasons[] = {"", "peer sent alert: handshake failure", "\r\n\x80\"x", "certificate expired"};
  char domain[32], host[32];
  uint64_t sessions = 1 + any(3);
  struct tlsrpt_policy *with = policy[any(POLICIES)];
  snprintf(domain, sizeof domain, "d%u.example", any(40));
  snprintf(host, sizeof host, "mx%u.example", any(3));
  struct tlsrpt_failure failure = {.result = (enum tlsrpt_result)(1 + any(TLSRPT_RESULTS_END - 1)),
                                   .sending = {.family = 4, .port = (uint16_t)any(65536), .bytes = {192, 0, 2, (uint8_t)any(2)}},
                                   .receiving = {.family = (uint8_t)(any(3) * 2), .bytes = {9}},
                                   .mx_host = span_of_text(host),
                                   .info = any(2) > 0 ? SPAN("https://example.org/") : SPAN(""),
                                   .reason = span_of_text(reasons[any(4)])};
  if (failure.receiving.family == 2) failure.receiving = (struct netaddr){0};
  unsigned what = any(4);
  *(what < 2 ? &sums->successes : &sums->failures) += sessions;
  for (unsigned i = 0; i < 2; i++, tally = also) {
    if (what < 2) tlsrpt_tally_success(tally, span_of_text(domain), with, sessions);
    if (what == 2) tlsrpt_tally_failure(tally, span_of_text(domain), with, &failure, sessions);
    if (what == 3) tlsrpt_tally_rest(tally, span_of_text(domain), with, sessions);
  }
}

START_TEST(the_sum_of_the_parts_is_the_whole) {
  srand((unsigned)_i + 1);
  struct sums sums = {0, 0};
  unsigned events = any(5000);
  for (unsigned i = 0; i < events; i++) {
    unsigned at = any(PARTS);
    count_something(&part[at], &whole, &sums);
    if (any(500) > 0) continue;
    tlsrpt_tally_merge(&merged, &part[at]);
    tlsrpt_tally_clear(&part[at]);
  }
  for (unsigned i = 0; i < PARTS; i++) tlsrpt_tally_merge(&merged, &part[i]);
  ck_assert(has_all(&merged, &whole) && has_all(&whole, &merged));
  struct sums of_whole = sums_of(&whole), of_merged = sums_of(&merged);
  ck_assert(memcmp(&of_whole, &sums, sizeof sums) == 0 && memcmp(&of_merged, &sums, sizeof sums) == 0);
  ck_assert(whole.rest_failures == 0 && merged.rest_successes == 0 && whole.bytes == merged.bytes);
  ck_assert(tlsrpt_tally_is_empty(&merged) == (events == 0));
  tlsrpt_tally_clear(&merged);
  ck_assert(tlsrpt_tally_is_empty(&merged) && merged.bytes == 0);
}
END_TEST

START_TEST(without_room_nothing_is_lost_but_what_it_was) {
  srand((unsigned)_i + 1);
  struct sums sums = {0, 0};
  struct tlsrpt_limits narrow = {.domains = any(50), .policies = any(4), .kinds = any(5), .bytes = any(2) > 0 ? any(20000) : 1u << 20};
  tlsrpt_tally_init(&whole, &narrow, 1);
  tlsrpt_tally_init(&merged, &narrow, 2);
  tlsrpt_tally_init(&part[0], &narrow, 3);
  for (unsigned i = 0; i < 3000; i++) count_something(&part[any(PARTS)], &whole, &sums);
  for (unsigned i = 0; i < PARTS; i++) tlsrpt_tally_merge(&merged, &part[i]);
  struct sums of_whole = sums_of(&whole), of_merged = sums_of(&merged);
  ck_assert(memcmp(&of_whole, &sums, sizeof sums) == 0 && memcmp(&of_merged, &sums, sizeof sums) == 0);
}
END_TEST

START_TEST(domains_go_one_by_one) {
  struct sums sums = {0, 0};
  struct tlsrpt_domain *domain;
  uint32_t cursor = 0;
  for (unsigned i = 0; i < 500; i++) count_something(&whole, &part[0], &sums);
  while ((domain = tlsrpt_tally_next(&whole, &cursor)) != NULL) {
    tlsrpt_tally_remove(&whole, domain);
    sums_of(&whole);
    cursor = 0;
  }
  ck_assert(whole.bytes == 0 && whole.map.count == 0);
}
END_TEST

START_TEST(what_comes_from_outside_is_cleaned_and_cut) {
  char long_text[400];
  memset(long_text, 'x', sizeof long_text);
  struct tlsrpt_failure failure = {
      .result = TLSRPT_VALIDATION_FAILURE, .mx_host = span_of(long_text, 400), .reason = SPAN("a\n\0\x7f\x80z"), .info = span_of(long_text, 300)};
  tlsrpt_tally_failure(&whole, SPAN("a.example"), NULL, &failure, 1);
  failure.reason = SPAN("a\t\1?\xffz");
  failure.sending.port = failure.receiving.port = 7;
  tlsrpt_tally_failure(&whole, SPAN("a.example"), NULL, &failure, 1);
  const struct tlsrpt_applied *applied = STAILQ_FIRST(&tlsrpt_tally_find(&whole, SPAN("a.example"))->applied);
  ck_assert(applied->kinds_count == 1 && applied->policy == NULL);
  struct tlsrpt_failure kept = tlsrpt_kind_failure(STAILQ_FIRST(&applied->kinds));
  ck_assert(kept.mx_host.len == TLSRPT_HOST_MAX && kept.info.len == TLSRPT_TEXT_MAX && span_equal(kept.reason, SPAN("a????z")));
  tlsrpt_tally_success(&whole, span_of(long_text, 256), NULL, 1); /* no name */
  tlsrpt_tally_success(&whole, SPAN(""), NULL, 1);
  ck_assert(whole.map.count == 1 && whole.rest_successes == 2);
}
END_TEST

/* ---- policies ---- */

static bool is(struct span have, const char *want) { return span_equal(have, span_of_text(want)); }

START_TEST(policies_show_their_lines) {
  struct sts_policy *sts;
  struct tlsrpt_policy *made;
  uint8_t why_room[96], digest[] = {0x0b, 0x9f};
  struct fmt why = fmt_over(why_room, sizeof why_room);
  ck_assert_int_eq(sts_policy_parse(&sts, SPAN("version: STSv1\nmode: testing\nmx: a.example\nmx: *.B.example\nmax_age: 7\n"), &why), E_OK);
  ck_assert_int_eq(tlsrpt_policy_of_sts(&made, SPAN("b.example"), sts), E_OK);
  ck_assert(made->type == TLSRPT_POLICY_STS && is(tlsrpt_policy_domain(made), "b.example") &&
            is(tlsrpt_policy_patterns(made), "a.example\n*.b.example\n"));
  ck_assert(is(tlsrpt_policy_lines(made), "version: STSv1\nmode: testing\nmax_age: 7\nmx: a.example\nmx: *.b.example\n"));
  ck_assert_int_eq(tlsrpt_policy_of_sts(&made, SPAN("b..example"), sts), E_SYNTAX);
  sts_policy_drop(sts);
  ck_assert(!tlsrpt_policy_equal(made, NULL) && !tlsrpt_policy_equal(NULL, made) && tlsrpt_policy_equal(NULL, NULL) &&
            !tlsrpt_policy_equal(made, policy[1]));
  ck_assert(tlsrpt_policy_equal(policy[2], policy[3]) && !tlsrpt_policy_equal(policy[1], policy[2]));
  tlsrpt_policy_drop(made);
  ck_assert_int_eq(tlsrpt_policy_make(&made, TLSRPT_POLICY_STS, SPAN("mx.example.org"), SPAN("3 1 1 02\n"), span_of(NULL, 0)), E_OK);
  ck_assert(!tlsrpt_policy_equal(made, policy[2]) && span_equal(tlsrpt_policy_lines(made), tlsrpt_policy_lines(policy[2])));
  tlsrpt_policy_drop(made);

  static struct dane dane = {.status = DANE_USE, .count = 1};
  dane.record[0] = (struct dane_record){3, 1, 1, span_of(digest, sizeof digest)};
  ck_assert_int_eq(dns_name_parse(&dane.base, SPAN("mx.example.org")), E_OK);
  ck_assert_int_eq(tlsrpt_policy_of_dane(&made, &dane), E_OK);
  ck_assert(made->type == TLSRPT_POLICY_TLSA && is(tlsrpt_policy_lines(made), "3 1 1 0B9F\n") && is(tlsrpt_policy_domain(made), "mx.example.org"));
  tlsrpt_policy_drop(made);
  dane.status = DANE_UNUSABLE;
  ck_assert_int_eq(tlsrpt_policy_of_dane(&made, &dane), E_OK);
  ck_assert(tlsrpt_policy_lines(made).len == 0);
  tlsrpt_policy_drop(made);
}
END_TEST

START_TEST(what_is_no_policy_is_refused) {
  static const struct {
    enum tlsrpt_policy_type type;
    const char *domain, *lines, *patterns;
  } cases[] = {{TLSRPT_POLICY_INVALID, "a.example", "x\n", ""},
               {(enum tlsrpt_policy_type)3, "a.example", "x\n", ""},
               {TLSRPT_POLICY_STS, "", "x\n", ""},
               {TLSRPT_POLICY_STS, "a.example", "x", ""},
               {TLSRPT_POLICY_STS, "a.example", "x\r\n", ""},
               {TLSRPT_POLICY_STS, "a.example", "", "\x80\n"}};
  struct tlsrpt_policy *made;
  for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++)
    ck_assert_int_eq(
        tlsrpt_policy_make(&made, cases[i].type, span_of_text(cases[i].domain), span_of_text(cases[i].lines), span_of_text(cases[i].patterns)),
        E_SYNTAX);
}
END_TEST

START_TEST(results_have_names) {
  for (unsigned i = 1; i < TLSRPT_RESULTS_END; i++)
    ck_assert_uint_eq(tlsrpt_result_parse(span_of_text(tlsrpt_result_text((enum tlsrpt_result)i))), i);
  ck_assert_int_eq(tlsrpt_result_parse(SPAN("invalid")), TLSRPT_RESULT_INVALID);
  ck_assert_str_eq(tlsrpt_result_text(TLSRPT_RESULTS_END), "invalid");
}
END_TEST

int main(void) {
  TCase *cases[] = {tcase_create("tally")};
  tcase_add_checked_fixture(cases[0], setup, teardown);
  tcase_add_loop_test(cases[0], the_sum_of_the_parts_is_the_whole, 0, 20);
  tcase_add_loop_test(cases[0], without_room_nothing_is_lost_but_what_it_was, 0, 100);
  tcase_add_test(cases[0], domains_go_one_by_one);
  tcase_add_test(cases[0], what_comes_from_outside_is_cleaned_and_cut);
  tcase_add_test(cases[0], policies_show_their_lines);
  tcase_add_test(cases[0], what_is_no_policy_is_refused);
  tcase_add_test(cases[0], results_have_names);
  return unit_main("net/tlsrpt/tally", cases, 1);
}
