/*
 * domains: the numbered domains and recipients of a test run. A pattern like "d%05d.test" stands for d00000.test, d00001.test...;
 * recipient n is user-<n>@<its domain>. The number in the local part identifies one recipient of one message of a run. Pure.
 */
#ifndef BENCH_LIB_DOMAINS_H
#define BENCH_LIB_DOMAINS_H

#include "core/base/fmt.h"
#include "core/base/must.h"
#include "core/base/span.h"

#define DOMAIN_NAME_MAX 253 /* RFC 1035 2.3.4, without the root's dot */

struct domains {
  char _prefix[64];
  char _suffix[192];
  unsigned _digits; /* at least so many, padded with zeros */
};

enum domain_order { DOMAIN_ROUND_ROBIN, DOMAIN_RANDOM };

/* One %d or %0Nd (N up to 18) in letters, digits, dots, hyphens and underscores. E_SYNTAX otherwise. */
must_check int domains_parse(struct domains *domains, struct span pattern);
void domains_format(const struct domains *domains, uint64_t index, struct fmt *out);
/* The index of a name of this pattern; letters in any case; false if it is not one that domains_format writes. */
must_check bool domains_index(const struct domains *domains, struct span name, uint64_t *index);
/* What follows the number: ".test". Borrows. */
struct span domains_suffix(const struct domains *domains);

/* Which of `count` domains the n-th thing goes to. The random order is a fixed one: the same for the same n and seed. */
uint64_t domain_pick(enum domain_order order, uint64_t n, uint64_t count, uint64_t seed);

/* "user-<n>@domain", split. False if the local part is another one. */
must_check bool recipient_parse(struct span address, uint64_t *number, struct span *domain);

/* A well-mixed function of x (splitmix64's finaliser): for spreading, not for secrets. */
uint64_t mix64(uint64_t x);

#endif
