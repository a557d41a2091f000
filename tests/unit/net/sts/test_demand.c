/* Every combination of what DANE and MTA-STS may say. */
#include "net/sts/demand.h"

#include <stddef.h>

#include "core/base/error.h"
#include "tests/lib/unit.h"

enum said { NONE, OFF, TESTING, TESTING_OTHER, ENFORCE, ENFORCE_OTHER, SAYS }; /* OTHER: the host is not in the policy */

static const char *const texts[SAYS] = {
    [OFF] = "version: STSv1\nmode: none\nmax_age: 1\n",
    [TESTING] = "version: STSv1\nmode: testing\nmx: *.org\nmax_age: 1\n",
    [TESTING_OTHER] = "version: STSv1\nmode: testing\nmx: other.org\nmax_age: 1\n",
    [ENFORCE] = "version: STSv1\nmode: enforce\nmx: mx.org\nmax_age: 1\n",
    [ENFORCE_OTHER] = "version: STSv1\nmode: enforce\nmx: *.mx.org\nmax_age: 1\n",
};

static const enum demand table[][SAYS] = {
    [DANE_PENDING] = {DEMAND_DEFER_HOST, DEMAND_DEFER_HOST, DEMAND_DEFER_HOST, DEMAND_DEFER_HOST, DEMAND_DEFER_HOST, DEMAND_DEFER_HOST},
    [DANE_NONE] = {DEMAND_ANY, DEMAND_ANY, DEMAND_TRY_VERIFY, DEMAND_TRY_VERIFY, DEMAND_VERIFY, DEMAND_SKIP_HOST},
    [DANE_USE] = {DEMAND_DANE, DEMAND_DANE, DEMAND_DANE, DEMAND_DANE, DEMAND_DANE, DEMAND_DANE},
    [DANE_UNUSABLE] = {DEMAND_ENCRYPT, DEMAND_ENCRYPT, DEMAND_ENCRYPT, DEMAND_ENCRYPT, DEMAND_VERIFY, DEMAND_SKIP_HOST},
    [DANE_DEFER] = {DEMAND_DEFER_HOST, DEMAND_DEFER_HOST, DEMAND_DEFER_HOST, DEMAND_DEFER_HOST, DEMAND_DEFER_HOST, DEMAND_DEFER_HOST},
};

START_TEST(what_counts) {
  struct sts_policy *policy = NULL;
  uint8_t room[96];
  struct fmt why = fmt_over(room, sizeof room);
  if (texts[_i] != NULL) ck_assert_int_eq(sts_policy_parse(&policy, span_of_text(texts[_i]), &why), E_OK);
  for (unsigned dane = 0; dane < sizeof table / sizeof *table; dane++) {
    enum demand got = demand_choose((enum dane_status)dane, policy, SPAN("mx.org"));
    ck_assert_msg(got == table[dane][_i], "dane %s, policy %d: %s, not %s", dane_status_text((enum dane_status)dane), _i, demand_text(got),
                  demand_text(table[dane][_i]));
  }
  ck_assert(demand_misses_policy(policy, SPAN("mx.org")) == (_i == TESTING_OTHER || _i == ENFORCE_OTHER));
  sts_policy_drop(policy);
}
END_TEST

int main(void) {
  TCase *all = tcase_create("demand");
  tcase_add_loop_test(all, what_counts, 0, SAYS);
  return unit_main("net/sts/demand", &all, 1);
}
