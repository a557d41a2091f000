/*
 * trust: is a chain of certificates what it should be? By libcrypto alone, whatever wolfSSL thinks of it: against a trust store and names (RFC 5280,
 * 6125), or against TLSA records (DANE: RFC 6698, 7671, 7672). Pure but for loading a store; a store is shared by threads.
 */
#ifndef NET_TLS_TRUST_H
#define NET_TLS_TRUST_H

#include "core/base/fmt.h"
#include "core/base/must.h"
#include "core/base/span.h"

struct trust_store;

/* RFC 6698 section 2.1, as they come from DNS, validated. */
struct tls_tlsa {
  uint8_t usage, selector, matching;
  struct span association;
};

enum tls_policy {
  TLS_ANY,    /* opportunistic: whatever certificate; how it would have fared is told all the same */
  TLS_VERIFY, /* by a certificate authority we trust, for one of the names */
  TLS_DANE,   /* as TLSA records say; if none of them is usable, any (RFC 7672 section 2.2: encrypted, not authenticated) */
};

enum tls_trust_by {
  TLS_UNTRUSTED,  /* `text` says why */
  TLS_TRUSTED,    /* by an authority */
  TLS_TRUSTED_TA, /* DANE, by an authority named in DNS (usage 2) */
  TLS_TRUSTED_EE, /* DANE, itself (usage 3) */
};

enum tls_fault {
  TLS_FAULT_NONE,
  TLS_FAULT_NAME,  /* of another host */
  TLS_FAULT_DATE,  /* expired, or not valid yet */
  TLS_FAULT_TRUST, /* of nobody we trust; no TLSA record matches */
  TLS_FAULT_OTHER, /* no certificate, a weak or broken one */
};

struct tls_trust {
  enum tls_trust_by by;
  bool accepted;    /* by the policy */
  const char *text; /* static, e.g. "certificate has expired"; "" if trusted */
  enum tls_fault fault;
};

struct trust_question {
  const struct span *chain; /* DER, the leaf first */
  unsigned chain_count;
  struct trust_store *store; /* NULL: no authority is trusted */
  bool client;               /* the certificate of a client */
  enum tls_policy policy;
  const struct span *names; /* any of them; none: names are not looked at */
  unsigned name_count;
  const struct tls_tlsa *tlsa;
  unsigned tlsa_count;
  uint64_t wall_ms;
};

/*
 * Also the first common name or, without one, the first alternative name of the leaf, escaped, is appended to `subject`; nothing if it has none.
 */
struct tls_trust trust_judge(const struct trust_question *question, struct fmt *subject);

/* Could such a record ever match? RFC 7672 section 3.1.3: usages 0 and 1 are none for SMTP. */
bool trust_tlsa_usable(const struct tls_tlsa *tlsa);

/* Where authorities are read from: this file, or the system's if it is NULL. */
const char *trust_file(const char *file);
/*
 * The authorities of a PEM file, or (NULL) of the system. NULL with a text. With it goes a store of the last certificates that were decoded, for libcrypto 3
 * takes 120 us to decode one, more than to verify it, and a relay sees the same ones again and again: some 256 of them, 10 KB each; a lock is held for a look.
 */
struct trust_store *trust_store_load(const char *file, struct fmt *why);
void trust_store_free(struct trust_store *store);

#endif
