#include "net/tls/trust.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdlib.h>

#include "core/base/error.h"
#include "net/tls/crypto.h"

#define DEPTH_MAX 10
#define SECURITY_LEVEL 2 /* 112 bits: RSA of 2048, no SHA-1 */

static struct tls_trust untrusted(enum tls_policy policy, const char *text, enum tls_fault fault) {
  return (struct tls_trust){TLS_UNTRUSTED, policy == TLS_ANY, text, fault};
}

static enum tls_fault fault_of(int code) {
  switch (code) {
  case X509_V_ERR_HOSTNAME_MISMATCH: return TLS_FAULT_NAME;
  case X509_V_ERR_CERT_HAS_EXPIRED:
  case X509_V_ERR_CERT_NOT_YET_VALID: return TLS_FAULT_DATE;
  case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
  case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
  case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
  case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
  case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
  case X509_V_ERR_CERT_UNTRUSTED: return TLS_FAULT_TRUST;
  default: return TLS_FAULT_OTHER;
  }
}

static struct tls_trust refused(enum tls_policy policy, int code) { return untrusted(policy, X509_verify_cert_error_string(code), fault_of(code)); }
static struct tls_trust trusted(enum tls_trust_by by) { return (struct tls_trust){by, true, "", TLS_FAULT_NONE}; }

/* ---- certificates ---- */

#define CACHE_SETS 64
#define CACHE_WAYS 4

struct cached {
  uint8_t digest[32];
  X509 *x509; /* shared: libcrypto counts references, and does not change it */
};

struct trust_store {
  X509_STORE *authorities;
  pthread_mutex_t lock;                        /* of: */
  struct cached cache[CACHE_SETS][CACHE_WAYS]; /* the newest first */
};

static X509 *decode(struct span der) {
  const uint8_t *at = der.at;
  X509 *x509 = der.len > 0 && der.len < 65536 ? d2i_X509(NULL, &at, (long)der.len) : NULL;
  if (x509 != NULL && at != der.at + der.len) { /* something behind it */
    X509_free(x509);
    x509 = NULL;
  }
  return x509;
}

static X509 *cache_get(struct trust_store *store, const uint8_t digest[32]) {
  struct cached *set = store->cache[digest[0] % CACHE_SETS];
  X509 *found = NULL;
  pthread_mutex_lock(&store->lock);
  for (unsigned i = 0; i < CACHE_WAYS && found == NULL; i++)
    if (set[i].x509 != NULL && memcmp(set[i].digest, digest, 32) == 0) found = set[i].x509;
  if (found != NULL) X509_up_ref(found);
  pthread_mutex_unlock(&store->lock);
  return found;
}

static void cache_put(struct trust_store *store, const uint8_t digest[32], X509 *x509) {
  struct cached *set = store->cache[digest[0] % CACHE_SETS];
  X509_up_ref(x509);
  pthread_mutex_lock(&store->lock);
  X509 *last = set[CACHE_WAYS - 1].x509;
  memmove(set + 1, set, (CACHE_WAYS - 1) * sizeof *set);
  memcpy(set[0].digest, digest, 32);
  set[0].x509 = x509;
  pthread_mutex_unlock(&store->lock);
  X509_free(last);
}

/* A reference that is the caller's. All of the bytes are compared, by their digest: two certificates are never taken for one. */
static X509 *certificate_of(struct trust_store *store, struct span der) {
  uint8_t digest[32];
  if (store == NULL) return decode(der);
  crypto_sha256(&der, 1, digest);
  X509 *x509 = cache_get(store, digest);
  if (x509 != NULL || (x509 = decode(der)) == NULL) return x509;
  X509_check_purpose(x509, -1, 0); /* libcrypto fills in what it works out of the extensions now, not when several threads look */
  cache_put(store, digest, x509);
  return x509;
}

struct chain {
  X509 *leaf;
  STACK_OF(X509) * all; /* the leaf too */
};

static void chain_clear(struct chain *chain) {
  sk_X509_pop_free(chain->all, X509_free);
  ERR_clear_error();
}

static bool chain_decode(struct chain *chain, const struct trust_question *question) {
  chain->all = sk_X509_new_null();
  for (unsigned i = 0; chain->all != NULL && i < question->chain_count; i++) {
    X509 *x509 = certificate_of(question->store, question->chain[i]);
    if (x509 == NULL || sk_X509_push(chain->all, x509) <= 0) {
      X509_free(x509);
      return false;
    }
  }
  chain->leaf = sk_X509_value(chain->all, 0);
  return chain->leaf != NULL;
}

/* ---- by authorities ---- */

static bool set_names(X509_VERIFY_PARAM *param, const struct trust_question *question) {
  X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
  for (unsigned i = 0; i < question->name_count; i++) {
    struct span name = question->names[i];
    if (name.len > 0 && name.at[name.len - 1] == '.') name.len--;
    if (name.len == 0 || memchr(name.at, 0, name.len) != NULL) return false;
    if (X509_VERIFY_PARAM_add1_host(param, (const char *)name.at, name.len) != 1) return false;
  }
  return true;
}

/* An X509_V_... code. `anchors` are trusted as they are, wherever in a chain they stand; without them the question's store is. */
static int verify(const struct chain *chain, STACK_OF(X509) * anchors, const struct trust_question *question) {
  X509_STORE_CTX *ctx = X509_STORE_CTX_new();
  int code = X509_V_ERR_OUT_OF_MEM;
  if (ctx == NULL || X509_STORE_CTX_init(ctx, question->store == NULL ? NULL : question->store->authorities, chain->leaf, chain->all) != 1) goto out;
  X509_STORE_CTX_set_default(ctx, question->client ? "ssl_client" : "ssl_server");
  X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(ctx);
  X509_VERIFY_PARAM_set_depth(param, DEPTH_MAX);
  X509_VERIFY_PARAM_set_auth_level(param, SECURITY_LEVEL);
  X509_VERIFY_PARAM_set_time(param, (time_t)(question->wall_ms / 1000));
  if (!set_names(param, question)) {
    code = X509_V_ERR_HOSTNAME_MISMATCH;
    goto out;
  }
  if (anchors != NULL) {
    X509_STORE_CTX_set0_trusted_stack(ctx, anchors);
    X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_PARTIAL_CHAIN);
  }
  int ok = X509_verify_cert(ctx);
  code = X509_STORE_CTX_get_error(ctx);
  if (ok == 1)
    code = X509_V_OK;
  else if (code == X509_V_OK)
    code = X509_V_ERR_UNSPECIFIED;
out:
  X509_STORE_CTX_free(ctx);
  return code;
}

static struct tls_trust by_store(const struct chain *chain, const struct trust_question *question) {
  if (question->store == NULL) return untrusted(question->policy, "no authority is trusted", TLS_FAULT_TRUST);
  int code = verify(chain, NULL, question);
  return code == X509_V_OK ? trusted(TLS_TRUSTED) : refused(question->policy, code);
}

/* ---- by TLSA records ---- */

bool trust_tlsa_usable(const struct tls_tlsa *tlsa) {
  if (tlsa->usage != 2 && tlsa->usage != 3) return false;
  if (tlsa->selector > 1) return false;
  if (tlsa->matching == 0) return tlsa->association.len > 0;
  return (tlsa->matching == 1 && tlsa->association.len == 32) || (tlsa->matching == 2 && tlsa->association.len == 64);
}

static bool matches_bytes(const struct tls_tlsa *tlsa, struct span bytes) {
  uint8_t digest[EVP_MAX_MD_SIZE];
  unsigned len = 0;
  if (tlsa->matching == 0) return span_equal(bytes, tlsa->association);
  if (EVP_Digest(bytes.at, bytes.len, digest, &len, tlsa->matching == 1 ? EVP_sha256() : EVP_sha512(), NULL) != 1) return false;
  return span_equal(span_of(digest, len), tlsa->association);
}

static bool matches(const struct tls_tlsa *tlsa, X509 *x509) {
  unsigned char *der = NULL;
  int len = tlsa->selector == 0 ? i2d_X509(x509, &der) : i2d_X509_PUBKEY(X509_get_X509_PUBKEY(x509), &der);
  bool hit = len > 0 && matches_bytes(tlsa, span_of(der, (size_t)len));
  OPENSSL_free(der);
  return hit;
}

/* The authorities that records of usage 2 name: those of the chain, and those that stand in DNS as a whole (2 0 0). */
static STACK_OF(X509) * anchors_of(const struct chain *chain, const struct trust_question *question) {
  STACK_OF(X509) *anchors = sk_X509_new_null();
  for (unsigned i = 0; anchors != NULL && i < question->tlsa_count; i++) {
    const struct tls_tlsa *tlsa = &question->tlsa[i];
    if (tlsa->usage != 2 || !trust_tlsa_usable(tlsa)) continue;
    for (int depth = 1; depth < sk_X509_num(chain->all); depth++) {
      X509 *x509 = sk_X509_value(chain->all, depth);
      if (matches(tlsa, x509) && X509_up_ref(x509) == 1 && sk_X509_push(anchors, x509) <= 0) X509_free(x509);
    }
    X509 *whole = tlsa->matching == 0 && tlsa->selector == 0 ? decode(tlsa->association) : NULL;
    if (whole != NULL && sk_X509_push(anchors, whole) <= 0) X509_free(whole);
  }
  return anchors;
}

static struct tls_trust by_anchors(const struct chain *chain, const struct trust_question *question) {
  STACK_OF(X509) *anchors = anchors_of(chain, question);
  struct tls_trust trust = untrusted(TLS_DANE, "no TLSA record matches", TLS_FAULT_TRUST);
  if (sk_X509_num(anchors) > 0) {
    int code = verify(chain, anchors, question);
    trust = code == X509_V_OK ? trusted(TLS_TRUSTED_TA) : refused(TLS_DANE, code);
  }
  sk_X509_pop_free(anchors, X509_free);
  return trust;
}

/* Usage 3 says all there is to say: neither names nor dates count (RFC 7672 section 3.1.1). */
static struct tls_trust by_dane(const struct chain *chain, const struct trust_question *question) {
  bool usable = false;
  for (unsigned i = 0; i < question->tlsa_count; i++) {
    const struct tls_tlsa *tlsa = &question->tlsa[i];
    if (!trust_tlsa_usable(tlsa)) continue;
    usable = true;
    if (tlsa->usage == 3 && matches(tlsa, chain->leaf)) return trusted(TLS_TRUSTED_EE);
  }
  if (!usable) return untrusted(TLS_ANY, "no TLSA record is usable", TLS_FAULT_TRUST);
  return by_anchors(chain, question);
}

static bool put_string(const ASN1_STRING *string, struct fmt *name) {
  unsigned char *text = NULL;
  int len = ASN1_STRING_to_UTF8(&text, string);
  if (len > 0) fmt_escaped(name, span_of(text, (size_t)len));
  OPENSSL_free(text);
  return len > 0;
}

static void put_subject(const X509 *leaf, struct fmt *name) {
  const X509_NAME *subject = X509_get_subject_name(leaf);
  int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
  if (at >= 0 && put_string(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)), name)) return;
  GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
  for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
    const GENERAL_NAME *one = sk_GENERAL_NAME_value(names, i);
    const ASN1_STRING *string = one->type == GEN_DNS ? one->d.dNSName : one->type == GEN_EMAIL ? one->d.rfc822Name : NULL;
    if (string != NULL && put_string(string, name)) break;
  }
  GENERAL_NAMES_free(names);
}

struct tls_trust trust_judge(const struct trust_question *question, struct fmt *subject) {
  struct chain chain = {0};
  struct tls_trust trust =
      untrusted(question->policy, question->chain_count == 0 ? "no certificate" : "a certificate that cannot be read", TLS_FAULT_OTHER);
  if (question->chain_count > 0 && chain_decode(&chain, question)) {
    put_subject(chain.leaf, subject);
    trust = question->policy == TLS_DANE ? by_dane(&chain, question) : by_store(&chain, question);
  }
  chain_clear(&chain);
  return trust;
}

/* ---- stores ---- */

/* As one file, read at once: a directory of hashed names would be looked into while a connection waits. */
static const char *system_bundle(void) {
  static const char *const places[] = {"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"};
  for (unsigned i = 0; i < sizeof places / sizeof *places; i++) {
    BIO *bio = BIO_new_file(places[i], "r");
    BIO_free(bio);
    if (bio != NULL) return places[i];
  }
  return X509_get_default_cert_file();
}

const char *trust_file(const char *file) { return file != NULL ? file : system_bundle(); }

struct trust_store *trust_store_load(const char *file, struct fmt *why) {
  file = trust_file(file);
  ERR_clear_error();
  struct trust_store *store = calloc(1, sizeof *store);
  if (store == NULL) return NULL;
  must(pthread_mutex_init(&store->lock, NULL) == 0);
  store->authorities = X509_STORE_new();
  if (store->authorities != NULL && X509_STORE_load_file(store->authorities, file) == 1) {
    ERR_clear_error();
    return store;
  }
  trust_store_free(store);
  unsigned long code = ERR_peek_error();
  fmt_text(why, file);
  fmt_text(why, ": ");
  fmt_text(why, ERR_SYSTEM_ERROR(code) ? error_text(error_from_errno(ERR_GET_REASON(code))) : "no certificate in PEM form");
  ERR_clear_error();
  return NULL;
}

void trust_store_free(struct trust_store *store) {
  if (store == NULL) return;
  for (unsigned i = 0; i < CACHE_SETS; i++)
    for (unsigned j = 0; j < CACHE_WAYS; j++) X509_free(store->cache[i][j].x509);
  pthread_mutex_destroy(&store->lock);
  X509_STORE_free(store->authorities);
  free(store);
}
