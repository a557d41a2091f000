/*
 * certs: certificates made while a test or a bench runs, as PEM files NAME.pem and NAME.key of a directory. Whatever fails ends the program.
 */
#ifndef BENCH_LIB_CERTS_H
#define BENCH_LIB_CERTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CERTS_PATH 256

enum certs_kind { CERTS_P256, CERTS_P384, CERTS_RSA, CERTS_RSA_1024, CERTS_ED25519 };

struct certs_spec {
  enum certs_kind kind;
  const char *common_name;
  const char *alt_names; /* "DNS:a.example,DNS:*.b.example"; NULL: none */
  const char *issuer;    /* NAME of one that was made before; NULL: itself */
  bool ca;
  bool with_issuer;       /* the issuer's file is appended, as a chain */
  int from_days, to_days; /* from now; both 0: a year from yesterday */
  const char *usage;      /* extended key usage; NULL: none */
};

void certs_begin(char dir[CERTS_PATH]);
void certs_end(const char *dir);
void certs_make(const char *dir, const char *name, const struct certs_spec *spec);
/* The path of a file in it; static rooms, eight of them. */
const char *certs_path(const char *dir, const char *name, const char *suffix);
/* DER of the first certificate (or of its public key); the caller's to free. */
uint8_t *certs_der(const char *dir, const char *name, bool key_only, size_t *len);
void certs_write(const char *dir, const char *name, const char *suffix, const void *bytes, size_t len);

#endif
