/*
 * crypto: what libcrypto does for wolfSSL, whose build in the distribution has no assembly (docs/DECISIONS.md): AES-GCM, ECDHE, signatures, hashes.
 *
 * struct crypto is the memory of one connection for that, and has its owner's thread: cipher contexts for both directions and the ephemeral key
 * of a handshake. {0} holds nothing; what it holds is freed by crypto_clear, whatever became of the connection. Private keys are EVP_PKEYs and
 * shared by threads. This header names libcrypto's types by their tags, for wolfssl/ssl.h and openssl/evp.h cannot be in one file.
 */
#ifndef NET_TLS_CRYPTO_H
#define NET_TLS_CRYPTO_H

#include "core/base/must.h"
#include "core/base/span.h"

struct evp_pkey_st;
struct evp_cipher_ctx_st;
struct ec_key_st;

#define CRYPTO_TAG 16

/* What it takes in libcrypto's memory once both directions are in use; malloc's, not counted elsewhere. */
#define CRYPTO_BYTES 2304

struct crypto_cipher { /* of one direction */
  struct evp_cipher_ctx_st *_ctx;
  uint8_t _key[32];
  uint8_t _key_len; /* 0: none yet */
};

struct crypto {
  struct crypto_cipher seal, open;
  struct evp_pkey_st *x25519; /* ephemeral, between the making of a key and the shared secret */
  struct ec_key_st *ec;
  void *large; /* wolfSSL's one large block, for engine_trim */
  size_t large_bare;
};

/* Once, before there are threads: what all keys of a curve have in common, which takes longer to make than a key. */
must_check bool crypto_init(void);

void crypto_clear(struct crypto *crypto);
/* After the handshake nothing ephemeral is left. */
void crypto_forget_ephemeral(struct crypto *crypto);

/*
 * One record. `key` of 16 or 32 bytes: if it is another than the last time, the context takes it (a rekey costs one key schedule and no memory).
 * `out` may be `in`. False: libcrypto would not, or the tag is wrong (open); then out holds nothing of use.
 */
must_check bool crypto_seal(struct crypto_cipher *cipher, struct span key, struct span iv, struct span aad, struct span in, uint8_t *out,
                            uint8_t tag[CRYPTO_TAG]);
must_check bool crypto_open(struct crypto_cipher *cipher, struct span key, struct span iv, struct span aad, struct span in, uint8_t *out,
                            const uint8_t tag[CRYPTO_TAG]);

/* An ephemeral key, kept in `crypto`. Both bytes are wolfSSL's to keep too. */
must_check bool crypto_x25519_make(struct crypto *crypto, uint8_t private[32], uint8_t public[32]);
must_check bool crypto_x25519_share(const struct crypto *crypto, const uint8_t private[32], const uint8_t public[32], uint8_t secret[32]);
/* bits: 256 or 384; public: 1 + 2 * bits / 8 bytes, uncompressed. */
must_check bool crypto_ec_make(struct crypto *crypto, unsigned bits, uint8_t *private, uint8_t *public);
/* False as well if the key in `crypto` is not the one with this public half, or the peer's is not on the curve. */
must_check bool crypto_ec_share(const struct crypto *crypto, struct span own_public, struct span peer_public, uint8_t *secret);

/* A signature as DER under an uncompressed public key. */
bool crypto_ecdsa_verify(unsigned bits, struct span public, struct span digest, struct span signature);
/* The public operation without padding; `out` has as many bytes as n. */
must_check bool crypto_rsa_public(struct span n, struct span e, struct span in, uint8_t *out);

/* Signatures; `*len` is the room and then the length. PKCS1: `in` is the DigestInfo. PSS: `in` is a digest of 32, 48 or 64 bytes, salt as long. */
must_check bool crypto_ecdsa_sign(struct evp_pkey_st *key, struct span digest, uint8_t *out, size_t *len);
must_check bool crypto_rsa_sign_pkcs1(struct evp_pkey_st *key, struct span in, uint8_t *out, size_t *len);
must_check bool crypto_rsa_sign_pss(struct evp_pkey_st *key, struct span digest, uint8_t *out, size_t *len);

/* Whole blocks into a state that is somebody else's. */
void crypto_sha256_blocks(uint32_t state[8], const uint8_t *blocks, size_t count);
void crypto_sha512_blocks(uint64_t state[8], const uint8_t *blocks, size_t count);

/* HMAC (RFC 2104) over several spans, with SHA-256 (bits 256) or SHA-384; the key is no longer than a block. `mac` has bits / 8 bytes. */
void crypto_hmac(unsigned bits, struct span key, const struct span *parts, unsigned count, uint8_t *mac);
/* 32 bytes over several spans. */
void crypto_sha256(const struct span *parts, unsigned count, uint8_t digest[32]);
void crypto_random(uint8_t *out, size_t len);
/* Memory that held a secret. */
void crypto_wipe(void *at, size_t len);

#endif
