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

void security_decide(const struct site *site, const char *host, bool plain, struct security *security) {
  struct span name = span_of_text(site->tls_name != NULL ? site->tls_name : host);
  bool verifies = site->tls == CONF_SECURITY_VERIFY || site->tls_name != NULL;
  *security = (struct security){.mode = mode_of(site->tls, plain), .implicit = site->tls == CONF_SECURITY_IMPLICIT, .name = name};
  security->expect = (struct tls_expect){.policy = verifies ? TLS_VERIFY : TLS_ANY,
                                         .host = is_address(name) ? span_of(NULL, 0) : name,
                                         .names = &security->name,
                                         .name_count = verifies ? 1 : 0};
}
