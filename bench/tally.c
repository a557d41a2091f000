/*
 * tally: what counting a session for TLS reports costs. Prints nanoseconds for a success and for a failure of a known kind, with so many domains, some of which get most
 * of the mail; and, per domain, for taking a tally over into the day's.
 *
 *   build/bench/tally [rounds]
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "core/base/error.h"
#include "net/tlsrpt/tally.h"

#define DOMAINS_MAX 16384

static const struct tlsrpt_limits limits = {.domains = DOMAINS_MAX, .policies = 8, .kinds = 64, .bytes = 64u << 20};
static char names[DOMAINS_MAX][32];
static struct span domain[DOMAINS_MAX];

static double now_s(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Half of the sessions are with one domain in 16. */
static unsigned choose(unsigned i, unsigned domains) {
  unsigned any = (i * 2654435761u) >> 8;
  return any % 2 == 0 ? any / 2 % domains : any / 2 % (domains / 16 + 1);
}

static void count(struct tlsrpt_tally *tally, struct tlsrpt_policy *policy, bool fails, unsigned i, unsigned domains) {
  static const struct tlsrpt_failure failure = {.result = TLSRPT_CERTIFICATE_EXPIRED,
                                                .sending = {.family = 4, .bytes = {192, 0, 2, 1}},
                                                .receiving = {.family = 4, .bytes = {198, 51, 100, 7}},
                                                .mx_host = SPAN("mx1.example.org"),
                                                .reason = SPAN("the certificate has expired")};
  struct span name = domain[choose(i, domains)];
  if (fails) {
    tlsrpt_tally_failure(tally, name, policy, &failure, 1);
  } else {
    tlsrpt_tally_success(tally, name, policy, 1);
  }
}

static void measure(unsigned domains, struct tlsrpt_policy *policy, bool fails, unsigned rounds) {
  struct tlsrpt_tally tally, day;
  double best = 1e9, merged = 1e9;
  for (int run = 0; run < 5; run++) { /* the best of five: the others were disturbed */
    tlsrpt_tally_init(&tally, &limits, 1);
    tlsrpt_tally_init(&day, &limits, 2);
    for (unsigned i = 0; i < domains; i++) tlsrpt_tally_success(&tally, domain[i], policy, 1);
    for (unsigned i = 0; i < rounds / 10; i++) count(&tally, policy, fails, i, domains);
    double started = now_s();
    for (unsigned i = 0; i < rounds; i++) count(&tally, policy, fails, i, domains);
    double took = now_s() - started;
    if (took < best) best = took;
    started = now_s();
    tlsrpt_tally_merge(&day, &tally);
    took = now_s() - started;
    if (took < merged) merged = took;
    tlsrpt_tally_clear(&tally);
    tlsrpt_tally_clear(&day);
  }
  printf("%-8s %-10s %6u domains %7.1f ns/session %8.1f ns/domain merged\n", fails ? "failure" : "success", policy != NULL ? "policy" : "no policy",
         domains, best / rounds * 1e9, merged / domains * 1e9);
}

int main(int argc, char **argv) {
  unsigned rounds = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 1000000;
  struct tlsrpt_policy *policy;
  if (rounds < 10 || tlsrpt_policy_make(&policy, TLSRPT_POLICY_TLSA, SPAN("mx1.example.org"), SPAN("3 1 1 00\n"), span_of(NULL, 0)) != E_OK) return 2;
  for (unsigned i = 0; i < DOMAINS_MAX; i++) domain[i] = span_of(names[i], (size_t)snprintf(names[i], sizeof names[i], "domain%u.example.org", i));
  for (unsigned domains = 16; domains <= DOMAINS_MAX; domains *= 32) {
    measure(domains, NULL, false, rounds);
    measure(domains, policy, false, rounds);
    measure(domains, policy, true, rounds);
  }
  tlsrpt_policy_drop(policy);
  return 0;
}
