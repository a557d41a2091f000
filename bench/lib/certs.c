#include "bench/lib/certs.h"

#include <dirent.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/must.h"

void certs_begin(char dir[CERTS_PATH]) {
  snprintf(dir, CERTS_PATH, "/tmp/ringpost-certs-XXXXXX");
  must(mkdtemp(dir) != NULL);
}

const char *certs_path(const char *dir, const char *name, const char *suffix) {
  static char room[8][CERTS_PATH * 2];
  static unsigned next;
  char *path = room[next++ % 8];
  snprintf(path, sizeof room[0], "%s/%s%s", dir, name, suffix);
  return path;
}

void certs_end(const char *dir) {
  DIR *open = opendir(dir);
  for (struct dirent *entry; open != NULL && (entry = readdir(open)) != NULL;)
    if (entry->d_name[0] != '.') unlink(certs_path(dir, entry->d_name, ""));
  if (open != NULL) closedir(open);
  rmdir(dir);
}

static EVP_PKEY *make_key(enum certs_kind kind) {
  EVP_PKEY *key = NULL;
  if (kind == CERTS_P256) key = EVP_EC_gen("P-256");
  if (kind == CERTS_P384) key = EVP_EC_gen("P-384");
  if (kind == CERTS_RSA) key = EVP_RSA_gen(2048);
  if (kind == CERTS_RSA_1024) key = EVP_RSA_gen(1024);
  if (kind == CERTS_ED25519) key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
  must(key != NULL);
  return key;
}

static FILE *open_file(const char *dir, const char *name, const char *suffix, const char *mode) {
  FILE *file = fopen(certs_path(dir, name, suffix), mode);
  must(file != NULL);
  return file;
}

static X509 *read_cert(const char *dir, const char *name) {
  FILE *file = open_file(dir, name, ".pem", "r");
  X509 *x509 = PEM_read_X509(file, NULL, NULL, NULL);
  must(x509 != NULL);
  fclose(file);
  return x509;
}

static EVP_PKEY *read_key(const char *dir, const char *name) {
  FILE *file = open_file(dir, name, ".key", "r");
  EVP_PKEY *key = PEM_read_PrivateKey(file, NULL, NULL, NULL);
  must(key != NULL);
  fclose(file);
  return key;
}

static void extend(X509 *x509, X509 *issuer, int nid, const char *value) {
  X509V3_CTX ctx;
  X509V3_set_ctx(&ctx, issuer, x509, NULL, NULL, 0);
  X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
  must(extension != NULL && X509_add_ext(x509, extension, -1) == 1);
  X509_EXTENSION_free(extension);
}

static X509 *make_cert(const struct certs_spec *spec, EVP_PKEY *key, X509 *issuer, EVP_PKEY *signer) {
  X509 *x509 = X509_new();
  uint8_t serial[8];
  must(x509 != NULL && RAND_bytes(serial, sizeof serial) == 1);
  BIGNUM *number = BN_bin2bn(serial, sizeof serial, NULL);
  BN_to_ASN1_INTEGER(number, X509_get_serialNumber(x509));
  BN_free(number);
  X509_set_version(x509, X509_VERSION_3);
  bool year = spec->from_days == 0 && spec->to_days == 0;
  X509_gmtime_adj(X509_getm_notBefore(x509), (year ? -1L : spec->from_days) * 86400);
  X509_gmtime_adj(X509_getm_notAfter(x509), (year ? 365L : spec->to_days) * 86400);
  X509_NAME *name = X509_get_subject_name(x509);
  if (spec->common_name != NULL) X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const uint8_t *)spec->common_name, -1, -1, 0);
  X509_set_issuer_name(x509, issuer == NULL ? name : X509_get_subject_name(issuer));
  X509_set_pubkey(x509, key);
  if (issuer == NULL) issuer = x509;
  extend(x509, issuer, NID_basic_constraints, spec->ca ? "critical,CA:TRUE" : "critical,CA:FALSE");
  extend(x509, issuer, NID_key_usage, spec->ca ? "critical,keyCertSign,cRLSign" : "critical,digitalSignature");
  extend(x509, issuer, NID_subject_key_identifier, "hash");
  if (spec->alt_names != NULL) extend(x509, issuer, NID_subject_alt_name, spec->alt_names);
  if (spec->usage != NULL) extend(x509, issuer, NID_ext_key_usage, spec->usage);
  must(X509_sign(x509, signer, EVP_PKEY_is_a(signer, "ED25519") ? NULL : EVP_sha256()) > 0);
  return x509;
}

static void append_file(FILE *to, const char *path) {
  char room[65536];
  FILE *from = fopen(path, "r");
  must(from != NULL);
  size_t len = fread(room, 1, sizeof room, from);
  must(fwrite(room, 1, len, to) == len);
  fclose(from);
}

void certs_make(const char *dir, const char *name, const struct certs_spec *spec) {
  EVP_PKEY *key = make_key(spec->kind);
  X509 *issuer = spec->issuer == NULL ? NULL : read_cert(dir, spec->issuer);
  EVP_PKEY *signer = spec->issuer == NULL ? key : read_key(dir, spec->issuer);
  X509 *x509 = make_cert(spec, key, issuer, signer);
  FILE *file = open_file(dir, name, ".pem", "w");
  must(PEM_write_X509(file, x509) == 1);
  if (spec->with_issuer) append_file(file, certs_path(dir, spec->issuer, ".pem"));
  fclose(file);
  file = open_file(dir, name, ".key", "w");
  must(PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL) == 1);
  fclose(file);
  X509_free(x509);
  X509_free(issuer);
  if (signer != key) EVP_PKEY_free(signer);
  EVP_PKEY_free(key);
}

uint8_t *certs_der(const char *dir, const char *name, bool key_only, size_t *len) {
  X509 *x509 = read_cert(dir, name);
  unsigned char *der = NULL;
  int size = key_only ? i2d_X509_PUBKEY(X509_get_X509_PUBKEY(x509), &der) : i2d_X509(x509, &der);
  must(size > 0);
  uint8_t *copy = malloc((size_t)size);
  must(copy != NULL);
  memcpy(copy, der, (size_t)size);
  OPENSSL_free(der);
  X509_free(x509);
  *len = (size_t)size;
  return copy;
}

void certs_write(const char *dir, const char *name, const char *suffix, const void *bytes, size_t len) {
  FILE *file = open_file(dir, name, suffix, "w");
  must(fwrite(bytes, 1, len, file) == len);
  fclose(file);
}
