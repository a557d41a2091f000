/*
 * certificate: a certificate chain and its private key, read from PEM files, with what is wrong with them; and which hosts it is for. Immutable and
 * shared by threads once loaded.
 */
#ifndef NET_TLS_CERTIFICATE_H
#define NET_TLS_CERTIFICATE_H

#include "core/base/fmt.h"
#include "core/base/must.h"
#include "net/tls/hello.h"

struct evp_pkey_st;
struct x509_st;

#define CERTIFICATE_CHAIN_MAX 8 /* wolfSSL takes 9 with the leaf */

struct certificate {
  enum hello_key kind;
  struct evp_pkey_st *key;
  uint8_t *chain; /* DER, one behind the other, the leaf first */
  size_t chain_len;
  uint8_t *key_der;
  size_t key_len;
  char **names; /* DNS names it is for, in lower case; some begin with "*." */
  unsigned name_count;
};

/*
 * E_NOT_FOUND, E_PERMISSION, E_SYNTAX, E_UNSUPPORTED (kind of key), E_RANGE (a weak one, too many), with the file and what is wrong appended to `why`.
 * What is no error but should be told (expired, not yet valid, a name missing) goes to `warnings`, a line each.
 */
must_check int certificate_load(struct certificate *certificate, const char *cert_file, const char *key_file, uint64_t wall_ms, struct fmt *why,
                                struct fmt *warnings);
void certificate_clear(struct certificate *certificate);

enum certificate_match { CERTIFICATE_OTHER, CERTIFICATE_WILDCARD, CERTIFICATE_EXACT };
/* Case does not matter; "*" stands for one whole label (RFC 6125 section 6.4.3); a dot at the end is nothing. */
enum certificate_match certificate_matches(const struct certificate *certificate, struct span host);

#endif
