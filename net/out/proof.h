/*
 * proof: what a host has to prove before mail of some domains goes there, by DANE (RFC 7672) or MTA-STS (RFC 8461): the demand, the records and the names. And by what words it is told how
 * that went (RFC 8460). Pure (malloc for a proof).
 *
 * It never changes once it is made, and is counted: the address of a site has it, and each connection there, which so never goes by anything else than what it was begun with. One shard's.
 */
#ifndef NET_OUT_PROOF_H
#define NET_OUT_PROOF_H

#include "net/sts/demand.h"
#include "net/tls/tls.h"

/* RFC 8460 section 4.3, as far as it can be known here. */
enum proof_result {
  PROOF_FINE = 0,
  PROOF_NO_STARTTLS,
  PROOF_OTHER_HOST,
  PROOF_EXPIRED,
  PROOF_UNTRUSTED,
  PROOF_FAILED,      /* whatever else */
  PROOF_TLSA_FAILED, /* what the host has to prove could not be found out */
};
/* "starttls-not-supported"...; NULL: fine. */
const char *proof_result_text(enum proof_result result);
/* Of a handshake that failed, or one of which nothing was demanded. */
enum proof_result proof_result_of(const struct tls_trust *trust);

struct proof {
  enum demand demand; /* none of SKIP_HOST and DEFER_HOST */
  bool by_policy;     /* (TRY_)VERIFY: MTA-STS asks for it. Makes no difference */
  bool misses_policy; /* TRY_VERIFY: the policy would not have allowed the host */
  unsigned names;
  char name[2][DNS_NAME_MAX + 1]; /* whom the certificate is for: one of them. The first is also asked for (SNI) */
  unsigned count;
  struct tls_tlsa *tlsa; /* DANE: sorted, in the same piece of memory as what they point to; NULL: none */
  /* private */
  unsigned _holders;
};

/*
 * What a host of a domain (`next_hop`: where its mail is to go, A-labels, lower case) has to prove. `host`: its name, by which a policy knows it. `dane`: of DANE_USE and DANE_UNUSABLE, else
 * its records are not looked at. NULL: no memory.
 */
struct proof *proof_new(enum demand demand, struct span host, struct span next_hop, const struct dane *dane);
struct proof *proof_hold(struct proof *proof); /* NULL is fine, here and below */
void proof_drop(struct proof *proof);
/* Is a connection that was made for the one good for the other? */
bool proof_same(const struct proof *a, const struct proof *b);
/* Does it depend on the domain, so that hosts cannot be shared with others? */
bool proof_is_own(const struct proof *proof);
/* "tlsa", "sts"; NULL: nothing is demanded (RFC 8460 4.4: policy-type). */
const char *proof_policy_text(const struct proof *proof);

#endif
