#include "net/out/security.h"

#include "core/base/error.h"

/* An address is no name to ask for (RFC 6066 section 3). */
static bool is_address(struct span host) {
  struct netaddr address;
  return netaddr_parse(&address, host) == E_OK;
}

static enum security_mode mode_of(enum conf_security tls, bool plain) {
  switch (tls) {
  case CONF_SECURITY_NONE: return SECURITY_CLEAR;
  case CONF_SECURITY_OPPORTUNISTIC: return plain ? SECURITY_CLEAR : SECURITY_MAY;
  default: return SECURITY_MUST;
  }
}

static void expect_name(struct security *security, enum tls_policy policy, struct span name) {
  security->name[0] = name;
  security->expect.policy = policy;
  security->expect.names = security->name;
  security->expect.name_count = 1;
}

static void expect_records(struct security *security, const struct proof *proof) {
  security->expect.policy = TLS_DANE;
  security->expect.names = security->name;
  for (unsigned i = 0; i < proof->names; i++) security->name[i] = span_of_text(proof->name[i]);
  security->expect.name_count = proof->names;
  security->expect.tlsa = proof->tlsa;
  security->expect.tlsa_count = proof->count;
}

/* Of TRY_VERIFY names are looked at, and what comes of it is only told. */
static void demand_proof(struct security *security, const struct proof *proof, bool verifies) {
  struct span name = span_of_text(proof->name[0]);
  security->expect.host = name;
  if (proof->demand == DEMAND_TRY_VERIFY) {
    if (!verifies) expect_name(security, TLS_ANY, name);
    return;
  }
  security->mode = SECURITY_MUST;
  if (proof->demand == DEMAND_VERIFY) expect_name(security, TLS_VERIFY, name);
  if (proof->demand == DEMAND_DANE) expect_records(security, proof);
}

void security_decide(const struct site *site, const struct proof *proof, const char *host, bool plain, struct security *security) {
  struct span name = span_of_text(site->tls_name != NULL ? site->tls_name : host);
  bool verifies = site->tls == CONF_SECURITY_VERIFY || site->tls_name != NULL;
  *security = (struct security){.mode = mode_of(site->tls, plain), .implicit = site->tls == CONF_SECURITY_IMPLICIT};
  security->expect = (struct tls_expect){.policy = TLS_ANY, .host = is_address(name) ? span_of(NULL, 0) : name};
  if (verifies) expect_name(security, TLS_VERIFY, name);
  if (proof != NULL && proof->demand != DEMAND_ANY) demand_proof(security, proof, verifies);
}
