/* What hosts have to prove: who it is asked of, when two are the same, and what is said of failures. */
#include "net/out/proof.h"

#include "core/base/error.h"
#include "tests/lib/unit.h"

static uint8_t digests[3][64] = {{1}, {2}, {3}};

static struct dane dane_of(const char *base) {
  struct dane dane = {.status = DANE_USE};
  ck_assert_int_eq(dns_name_parse(&dane.base, span_of_text(base)), E_OK);
  return dane;
}

static void add(struct dane *dane, uint8_t usage, unsigned digest, size_t len) {
  dane->record[dane->count++] = (struct dane_record){usage, 1, len == 32 ? 1 : 2, span_of(digests[digest], len)};
}

static struct proof *proof_of(const struct dane *dane) {
  struct proof *proof = proof_new(DEMAND_DANE, SPAN("mx.example"), SPAN("example.org"), dane);
  ck_assert_ptr_nonnull(proof);
  return proof;
}

/* The domain itself counts where an authority is named, and nowhere else: such hosts are not shared. */
START_TEST(whom_the_certificate_is_for) {
  struct dane dane = dane_of("base.example");
  add(&dane, 3, 0, 32);
  struct proof *own = proof_of(&dane);
  ck_assert(own->names == 1 && !proof_is_own(own));
  ck_assert_str_eq(own->name[0], "base.example");
  add(&dane, 2, 1, 32);
  struct proof *both = proof_of(&dane);
  ck_assert(both->names == 2 && both->count == 2 && proof_is_own(both));
  ck_assert_str_eq(both->name[0], "base.example");
  ck_assert_str_eq(both->name[1], "example.org");
  struct proof *verify = proof_new(DEMAND_VERIFY, SPAN("mx.example"), SPAN("example.org"), NULL);
  ck_assert(verify->names == 1 && verify->count == 0 && !proof_is_own(verify));
  ck_assert_str_eq(verify->name[0], "mx.example");
  struct proof *told = proof_new(DEMAND_TRY_VERIFY, SPAN("mx.example"), SPAN("example.org"), NULL);
  ck_assert(proof_is_own(told) && !proof_is_own(NULL));
  proof_drop(own);
  proof_drop(both);
  proof_drop(verify);
  proof_drop(told);
}
END_TEST

START_TEST(the_order_of_records_does_not_matter) {
  struct dane dane = dane_of("mx.example"), turned = dane;
  add(&dane, 3, 0, 32);
  add(&dane, 3, 1, 32);
  add(&dane, 3, 2, 64);
  add(&turned, 3, 2, 64);
  add(&turned, 3, 1, 32);
  add(&turned, 3, 0, 32);
  struct proof *one = proof_of(&dane), *other = proof_of(&turned);
  ck_assert(proof_same(one, other) && proof_same(NULL, NULL) && !proof_same(one, NULL) && !proof_same(NULL, one));
  digests[2][63] = 9; /* they have copies */
  ck_assert(proof_same(one, other));
  proof_drop(other);
  other = proof_of(&turned);
  ck_assert(!proof_same(one, other));
  digests[2][63] = 0;
  proof_drop(other);
  turned.count--;
  other = proof_of(&turned);
  ck_assert(!proof_same(one, other));
  proof_drop(other);
  proof_drop(one);
}
END_TEST

START_TEST(others_are_others) {
  struct proof *all[6];
  struct dane dane = dane_of("mx.example"), elsewhere = dane_of("my.example");
  add(&dane, 3, 0, 32);
  add(&elsewhere, 3, 0, 32);
  all[0] = proof_of(&dane);
  all[1] = proof_of(&elsewhere);
  all[2] = proof_new(DEMAND_VERIFY, SPAN("mx.example"), SPAN("example.org"), NULL);
  all[3] = proof_new(DEMAND_TRY_VERIFY, SPAN("mx.example"), SPAN("example.org"), NULL);
  all[4] = proof_new(DEMAND_TRY_VERIFY, SPAN("mx.example"), SPAN("example.org"), NULL);
  all[4]->misses_policy = true;
  all[5] = proof_new(DEMAND_ENCRYPT, SPAN("mx.example"), SPAN("example.org"), &dane);
  for (unsigned i = 0; i < 6; i++)
    for (unsigned k = 0; k < 6; k++) ck_assert(proof_same(all[i], all[k]) == (i == k));
  ck_assert_ptr_null(proof_policy_text(all[2]));
  all[2]->by_policy = all[3]->by_policy = all[4]->by_policy = true;
  static const char *const policies[] = {"tlsa", "tlsa", "sts", "sts", "sts", "tlsa"};
  for (unsigned i = 0; i < 6; i++) ck_assert_str_eq(proof_policy_text(all[i]), policies[i]);
  ck_assert_ptr_null(proof_policy_text(NULL));
  ck_assert_ptr_eq(proof_hold(all[0]), all[0]);
  for (unsigned i = 0; i < 6; i++) proof_drop(all[i]);
  ck_assert_str_eq(all[0]->name[0], "mx.example"); /* held once more */
  proof_drop(all[0]);
  ck_assert_ptr_null(proof_hold(NULL));
  proof_drop(NULL);
}
END_TEST

START_TEST(what_is_said_of_failures) {
  struct tls_trust trust = {TLS_TRUSTED_EE, true, "", TLS_FAULT_NONE};
  ck_assert_ptr_null(proof_result_text(proof_result_of(&trust)));
  trust.by = TLS_UNTRUSTED;
  static const char *const texts[] = {[TLS_FAULT_NONE] = "validation-failure",
                                      [TLS_FAULT_NAME] = "certificate-host-mismatch",
                                      [TLS_FAULT_DATE] = "certificate-expired",
                                      [TLS_FAULT_TRUST] = "certificate-not-trusted",
                                      [TLS_FAULT_OTHER] = "validation-failure"};
  for (unsigned fault = 0; fault < sizeof texts / sizeof *texts; fault++) {
    trust.fault = (enum tls_fault)fault;
    ck_assert_str_eq(proof_result_text(proof_result_of(&trust)), texts[fault]);
  }
  ck_assert_str_eq(proof_result_text(PROOF_NO_STARTTLS), "starttls-not-supported");
}
END_TEST

int main(void) {
  TCase *all = tcase_create("proof");
  tcase_add_test(all, whom_the_certificate_is_for);
  tcase_add_test(all, the_order_of_records_does_not_matter);
  tcase_add_test(all, others_are_others);
  tcase_add_test(all, what_is_said_of_failures);
  return unit_main("net/out/proof", &all, 1);
}
