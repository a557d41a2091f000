#include "net/tls/certificate.h"

#include <openssl/asn1.h>
#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <stdlib.h>

#include "core/base/error.h"

#define RSA_BITS_MIN 2048

static int fault(struct fmt *why, int error, const char *file, const char *text) {
  fmt_text(why, file);
  fmt_text(why, ": ");
  fmt_text(why, text);
  ERR_clear_error();
  return error;
}

static BIO *open_file(const char *file, struct fmt *why, int *error) {
  ERR_clear_error();
  BIO *bio = BIO_new_file(file, "r");
  if (bio != NULL) return bio;
  unsigned long code = ERR_peek_error(); /* the first is the system's */
  int number = ERR_SYSTEM_ERROR(code) ? ERR_GET_REASON(code) : 0;
  *error = number == 0 ? E_OTHER : error_from_errno(number);
  fault(why, *error, file, error_text(*error));
  return NULL;
}

/* ---- the key ---- */

static int refuse_password(char *room, int size, int writing, void *asked) {
  (void)room, (void)size, (void)writing;
  *(bool *)asked = true;
  return 0;
}

static int key_kind(struct certificate *certificate, const char *file, struct fmt *why) {
  int bits = EVP_PKEY_get_bits(certificate->key);
  char group[32] = "";
  if (EVP_PKEY_is_a(certificate->key, "RSA")) {
    if (bits < RSA_BITS_MIN) return fault(why, E_RANGE, file, "an RSA key of less than 2048 bits");
    if (bits > 4096) return fault(why, E_RANGE, file, "an RSA key of more than 4096 bits");
    certificate->kind = HELLO_KEY_RSA;
    return E_OK;
  }
  if (EVP_PKEY_is_a(certificate->key, "EC")) EVP_PKEY_get_group_name(certificate->key, group, sizeof group, NULL);
  certificate->kind = strcmp(group, "secp384r1") == 0 ? HELLO_KEY_P384 : HELLO_KEY_P256;
  if (strcmp(group, "secp384r1") == 0 || strcmp(group, "prime256v1") == 0) return E_OK;
  return fault(why, E_UNSUPPORTED, file, "keys are RSA, P-256 or P-384");
}

static int load_key(struct certificate *certificate, const char *file, struct fmt *why) {
  int error = E_OK;
  bool asked = false;
  BIO *bio = open_file(file, why, &error);
  if (bio == NULL) return error;
  certificate->key = PEM_read_bio_PrivateKey(bio, NULL, refuse_password, &asked);
  BIO_free(bio);
  if (asked) return fault(why, E_SYNTAX, file, "the key has a password");
  if (certificate->key == NULL) return fault(why, E_SYNTAX, file, "no private key in PEM form");
  error = key_kind(certificate, file, why);
  if (error != E_OK) return error;
  unsigned char *der = NULL;
  int len = i2d_PrivateKey(certificate->key, &der);
  if (len <= 0) return fault(why, E_SYNTAX, file, "the key cannot be used");
  certificate->key_der = der;
  certificate->key_len = (size_t)len;
  return E_OK;
}

/* ---- the chain ---- */

static bool append(struct certificate *certificate, X509 *x509) {
  unsigned char *der = NULL;
  int len = i2d_X509(x509, &der);
  if (len <= 0) return false;
  uint8_t *chain = realloc(certificate->chain, certificate->chain_len + (size_t)len);
  if (chain != NULL) {
    memcpy(chain + certificate->chain_len, der, (size_t)len);
    certificate->chain = chain;
    certificate->chain_len += (size_t)len;
  }
  OPENSSL_free(der);
  return chain != NULL;
}

static bool add_name(struct certificate *certificate, const uint8_t *at, size_t len) {
  char **names = realloc(certificate->names, (certificate->name_count + 1) * sizeof *names);
  if (names == NULL) return false;
  certificate->names = names;
  char *name = malloc(len + 1);
  if (name == NULL) return false;
  for (size_t i = 0; i < len; i++) name[i] = (char)ascii_lower(at[i]);
  name[len] = '\0';
  certificate->names[certificate->name_count++] = name;
  return true;
}

static bool add_string(struct certificate *certificate, const ASN1_STRING *string) {
  int len = ASN1_STRING_length(string);
  const uint8_t *at = ASN1_STRING_get0_data(string);
  if (len <= 0 || len > 255 || memchr(at, 0, (size_t)len) != NULL) return true; /* no name that could be asked for */
  return add_name(certificate, at, (size_t)len);
}

/* The common name counts only where there are no alternative names (RFC 6125 section 6.4.4). */
static bool load_names(struct certificate *certificate, const X509 *leaf) {
  bool ok = true;
  GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
  for (int i = 0; ok && i < sk_GENERAL_NAME_num(names); i++) {
    const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
    if (name->type == GEN_DNS) ok = add_string(certificate, name->d.dNSName);
  }
  if (names == NULL) {
    const X509_NAME *subject = X509_get_subject_name(leaf);
    int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    if (at >= 0) ok = add_string(certificate, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
  }
  GENERAL_NAMES_free(names);
  return ok;
}

static void warn_line(struct fmt *warnings, const char *file, const char *text) {
  fmt_text(warnings, file);
  fmt_text(warnings, ": ");
  fmt_text(warnings, text);
  fmt_char(warnings, '\n');
}

static void warn(const struct certificate *certificate, const X509 *leaf, const char *file, uint64_t wall_ms, struct fmt *warnings) {
  time_t now = (time_t)(wall_ms / 1000);
  if (X509_cmp_time(X509_get0_notAfter(leaf), &now) < 0) warn_line(warnings, file, "the certificate has expired");
  if (X509_cmp_time(X509_get0_notBefore(leaf), &now) > 0) warn_line(warnings, file, "the certificate is not valid yet");
  if (certificate->name_count == 0) warn_line(warnings, file, "the certificate is for no host name");
}

static int read_chain(struct certificate *certificate, BIO *bio, const char *file, uint64_t wall_ms, struct fmt *why, struct fmt *warnings) {
  unsigned count = 0;
  for (X509 *x509; (x509 = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL; count++) {
    bool matches = count > 0 || X509_check_private_key(x509, certificate->key) == 1;
    bool ok = matches && count <= CERTIFICATE_CHAIN_MAX && append(certificate, x509) && (count > 0 || load_names(certificate, x509));
    if (ok && count == 0) warn(certificate, x509, file, wall_ms, warnings);
    X509_free(x509);
    if (!matches) return fault(why, E_SYNTAX, file, "the private key is not that of the first certificate");
    if (!ok)
      return fault(why, count > CERTIFICATE_CHAIN_MAX ? E_RANGE : E_NO_MEMORY, file,
                   count > CERTIFICATE_CHAIN_MAX ? "too many certificates" : "no memory");
  }
  unsigned long end = ERR_peek_last_error();
  bool clean = ERR_GET_LIB(end) == ERR_LIB_PEM && ERR_GET_REASON(end) == PEM_R_NO_START_LINE;
  if (count == 0) return fault(why, E_SYNTAX, file, clean ? "no certificate in PEM form" : "the certificate is damaged");
  if (!clean) return fault(why, E_SYNTAX, file, "a certificate of the chain is damaged");
  ERR_clear_error();
  return E_OK;
}

int certificate_load(struct certificate *certificate, const char *cert_file, const char *key_file, uint64_t wall_ms, struct fmt *why,
                     struct fmt *warnings) {
  *certificate = (struct certificate){0};
  int error = load_key(certificate, key_file, why);
  if (error == E_OK) {
    BIO *bio = open_file(cert_file, why, &error);
    if (bio != NULL) error = read_chain(certificate, bio, cert_file, wall_ms, why, warnings);
    BIO_free(bio);
  }
  if (error != E_OK) certificate_clear(certificate);
  return error;
}

void certificate_clear(struct certificate *certificate) {
  EVP_PKEY_free(certificate->key);
  if (certificate->key_der != NULL) OPENSSL_clear_free(certificate->key_der, certificate->key_len);
  free(certificate->chain);
  for (unsigned i = 0; i < certificate->name_count; i++) free(certificate->names[i]);
  free(certificate->names);
  *certificate = (struct certificate){0};
}

enum certificate_match certificate_matches(const struct certificate *certificate, struct span host) {
  enum certificate_match best = CERTIFICATE_OTHER;
  if (host.len > 0 && host.at[host.len - 1] == '.') host.len--;
  ptrdiff_t dot = span_find(host, '.');
  struct span parent = dot > 0 ? span_skip(host, (size_t)dot) : (struct span){NULL, 0};
  for (unsigned i = 0; i < certificate->name_count; i++) {
    struct span name = span_of_text(certificate->names[i]);
    if (span_equal_nocase(name, host)) return CERTIFICATE_EXACT;
    bool wildcard = name.len > 2 && name.at[0] == '*' && name.at[1] == '.';
    if (wildcard && parent.len > 0 && span_equal_nocase(span_skip(name, 1), parent)) best = CERTIFICATE_WILDCARD;
  }
  return best;
}
