/*
 * security: how safe a connection to a host has to be, and by what its certificate is judged: the one place that decides it. From the configuration (of its
 * route, of its site, in general) and from what the host has to prove. Pure.
 */
#ifndef NET_OUT_SECURITY_H
#define NET_OUT_SECURITY_H

#include "net/out/outlet.h"
#include "net/out/proof.h"
#include "net/tls/tls.h"

enum security_mode {
  SECURITY_CLEAR = 1, /* no TLS */
  SECURITY_MAY,       /* TLS if it works; without it in the clear */
  SECURITY_MUST,      /* TLS as `expect` says, or not at all */
};

struct security {
  enum security_mode mode;
  bool implicit; /* from the first byte; else by STARTTLS */
  struct tls_expect
      expect;          /* of the handshake; borrows from the site, the proof, the host's name and this struct, which therefore must not be moved */
  struct span name[2]; /* whom the certificate is for, where it is verified */
};

/*
 * `host`: the name of the MX host, or an address as text; `plain`: its TLS was broken lately, so nobody hopes for it. `proof` NULL: the host has nothing to prove. What it has to prove goes
 * before what is configured, but for verify, which holds besides, unless DANE has already said who the host is.
 */
void security_decide(const struct site *site, const struct proof *proof, const char *host, bool plain, struct security *security);

#endif
