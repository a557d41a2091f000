/*
 * The functions that libcrypto 3 calls deprecated are used where they spare a connection 10 to 20 us (measured, docs/DECISIONS.md): building an
 * EVP_PKEY out of a peer's point costs more than a signature.
 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "net/tls/crypto.h"

#include <limits.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/ecdh.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/sha.h>

/* Never changed after crypto_init; those of libcrypto's keys are copies. */
static EC_GROUP *group_p256, *group_p384;

bool crypto_init(void) {
  if (group_p256 == NULL) group_p256 = EC_GROUP_new_by_curve_name(NID_X9_62_prime256v1);
  if (group_p384 == NULL) group_p384 = EC_GROUP_new_by_curve_name(NID_secp384r1);
  return group_p256 != NULL && group_p384 != NULL;
}

static void cipher_clear(struct crypto_cipher *cipher) {
  EVP_CIPHER_CTX_free(cipher->_ctx);
  OPENSSL_cleanse(cipher->_key, sizeof cipher->_key);
  *cipher = (struct crypto_cipher){0};
}

void crypto_forget_ephemeral(struct crypto *crypto) {
  EVP_PKEY_free(crypto->x25519);
  EC_KEY_free(crypto->ec);
  crypto->x25519 = NULL;
  crypto->ec = NULL;
}

void crypto_clear(struct crypto *crypto) {
  cipher_clear(&crypto->seal);
  cipher_clear(&crypto->open);
  crypto_forget_ephemeral(crypto);
}

void crypto_random(uint8_t *out, size_t len) { must(RAND_bytes(out, (int)len) == 1); }
void crypto_wipe(void *at, size_t len) { OPENSSL_cleanse(at, len); }

/* ---- AES-GCM ---- */

static bool cipher_key(struct crypto_cipher *cipher, struct span key, int encrypt) {
  if (cipher->_key_len == key.len && CRYPTO_memcmp(cipher->_key, key.at, key.len) == 0) return true;
  if (key.len != 16 && key.len != 32) return false;
  if (cipher->_ctx == NULL && (cipher->_ctx = EVP_CIPHER_CTX_new()) == NULL) return false;
  cipher->_key_len = 0;
  if (EVP_CipherInit_ex(cipher->_ctx, key.len == 16 ? EVP_aes_128_gcm() : EVP_aes_256_gcm(), NULL, key.at, NULL, encrypt) != 1) return false;
  memcpy(cipher->_key, key.at, key.len);
  cipher->_key_len = (uint8_t)key.len;
  return true;
}

/* 12 bytes are GCM's own and the default length; wolfSSL's TLS uses no other. */
static bool cipher_begin(struct crypto_cipher *cipher, struct span key, struct span iv, struct span aad, int encrypt) {
  int len = 0;
  if (iv.len != 12 || !cipher_key(cipher, key, encrypt)) return false;
  if (EVP_CipherInit_ex(cipher->_ctx, NULL, NULL, NULL, iv.at, -1) != 1) return false;
  return aad.len == 0 || EVP_CipherUpdate(cipher->_ctx, NULL, &len, aad.at, (int)aad.len) == 1;
}

bool crypto_seal(struct crypto_cipher *cipher, struct span key, struct span iv, struct span aad, struct span in, uint8_t *out,
                 uint8_t tag[CRYPTO_TAG]) {
  int len = 0, last = 0;
  if (in.len > INT_MAX / 2 || !cipher_begin(cipher, key, iv, aad, 1)) return false;
  if (in.len > 0 && EVP_EncryptUpdate(cipher->_ctx, out, &len, in.at, (int)in.len) != 1) return false;
  return EVP_EncryptFinal_ex(cipher->_ctx, out + len, &last) == 1 && EVP_CIPHER_CTX_ctrl(cipher->_ctx, EVP_CTRL_AEAD_GET_TAG, CRYPTO_TAG, tag) == 1;
}

bool crypto_open(struct crypto_cipher *cipher, struct span key, struct span iv, struct span aad, struct span in, uint8_t *out,
                 const uint8_t tag[CRYPTO_TAG]) {
  int len = 0, last = 0;
  uint8_t expected[CRYPTO_TAG], none[1];
  memcpy(expected, tag, CRYPTO_TAG);
  if (in.len > INT_MAX / 2 || !cipher_begin(cipher, key, iv, aad, 0)) return false;
  if (in.len > 0 && EVP_DecryptUpdate(cipher->_ctx, out, &len, in.at, (int)in.len) != 1) return false;
  if (EVP_CIPHER_CTX_ctrl(cipher->_ctx, EVP_CTRL_AEAD_SET_TAG, CRYPTO_TAG, expected) != 1) return false;
  return EVP_DecryptFinal_ex(cipher->_ctx, in.len > 0 ? out + len : none, &last) == 1;
}

/* ---- ephemeral keys ---- */

bool crypto_x25519_make(struct crypto *crypto, uint8_t private[32], uint8_t public[32]) {
  size_t len = 32;
  if (RAND_priv_bytes(private, 32) != 1) return false;
  private[0] &= 0xf8; /* RFC 7748 section 5, as wolfSSL wants to see it */
  private[31] = (uint8_t)((private[31] & 0x7f) | 0x40);
  EVP_PKEY_free(crypto->x25519);
  crypto->x25519 = EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, NULL, private, 32);
  return crypto->x25519 != NULL && EVP_PKEY_get_raw_public_key(crypto->x25519, public, &len) == 1 && len == 32;
}

static bool x25519_derive(EVP_PKEY *own, EVP_PKEY *peer, uint8_t secret[32]) {
  size_t len = 32;
  EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(own, NULL);
  bool ok =
      ctx != NULL && EVP_PKEY_derive_init(ctx) == 1 && EVP_PKEY_derive_set_peer_ex(ctx, peer, 0) == 1 && EVP_PKEY_derive(ctx, secret, &len) == 1;
  EVP_PKEY_CTX_free(ctx);
  return ok && len == 32; /* libcrypto refuses an all-zero secret: RFC 8446 section 7.4.2 */
}

bool crypto_x25519_share(const struct crypto *crypto, const uint8_t private[32], const uint8_t public[32], uint8_t secret[32]) {
  uint8_t kept[32];
  size_t len = sizeof kept;
  if (crypto->x25519 == NULL || EVP_PKEY_get_raw_private_key(crypto->x25519, kept, &len) != 1) return false;
  bool same = len == 32 && CRYPTO_memcmp(kept, private, 32) == 0;
  OPENSSL_cleanse(kept, sizeof kept);
  if (!same) return false;
  EVP_PKEY *peer = EVP_PKEY_new_raw_public_key(EVP_PKEY_X25519, NULL, public, 32);
  bool ok = peer != NULL && x25519_derive(crypto->x25519, peer, secret);
  EVP_PKEY_free(peer);
  return ok;
}

static EC_KEY *ec_new(unsigned bits) {
  const EC_GROUP *group = bits == 256 ? group_p256 : bits == 384 ? group_p384 : NULL;
  EC_KEY *key = group == NULL ? NULL : EC_KEY_new();
  if (key != NULL && EC_KEY_set_group(key, group) == 1) return key;
  EC_KEY_free(key);
  return NULL;
}

static size_t ec_public(const EC_KEY *key, uint8_t *out, size_t room) {
  return EC_POINT_point2oct(EC_KEY_get0_group(key), EC_KEY_get0_public_key(key), POINT_CONVERSION_UNCOMPRESSED, out, room, NULL);
}

bool crypto_ec_make(struct crypto *crypto, unsigned bits, uint8_t *private, uint8_t *public) {
  int size = (int)bits / 8;
  EC_KEY_free(crypto->ec);
  crypto->ec = ec_new(bits);
  if (crypto->ec == NULL || EC_KEY_generate_key(crypto->ec) != 1) return false;
  if (BN_bn2binpad(EC_KEY_get0_private_key(crypto->ec), private, size) != size) return false;
  return ec_public(crypto->ec, public, 1 + 2 * (size_t)size) == 1 + 2 * (size_t)size;
}

bool crypto_ec_share(const struct crypto *crypto, struct span own_public, struct span peer_public, uint8_t *secret) {
  uint8_t kept[133];
  if (crypto->ec == NULL) return false;
  size_t len = ec_public(crypto->ec, kept, sizeof kept);
  if (len == 0 || !span_equal(span_of(kept, len), own_public) || peer_public.len != len) return false;
  const EC_GROUP *group = EC_KEY_get0_group(crypto->ec);
  EC_POINT *peer = EC_POINT_new(group); /* oct2point checks that it is on the curve */
  size_t size = (len - 1) / 2;
  bool ok = peer != NULL && EC_POINT_oct2point(group, peer, peer_public.at, peer_public.len, NULL) == 1 &&
            ECDH_compute_key(secret, size, peer, crypto->ec, NULL) == (int)size;
  EC_POINT_free(peer);
  return ok;
}

/* ---- signatures ---- */

bool crypto_ecdsa_verify(unsigned bits, struct span public, struct span digest, struct span signature) {
  EC_KEY *key = ec_new(bits);
  bool ok = key != NULL && EC_KEY_oct2key(key, public.at, public.len, NULL) == 1 &&
            ECDSA_verify(0, digest.at, (int)digest.len, signature.at, (int)signature.len, key) == 1;
  EC_KEY_free(key);
  return ok;
}

bool crypto_rsa_public(struct span n, struct span e, struct span in, uint8_t *out) {
  RSA *key = RSA_new();
  BIGNUM *modulus = BN_bin2bn(n.at, (int)n.len, NULL), *exponent = BN_bin2bn(e.at, (int)e.len, NULL);
  if (key == NULL || modulus == NULL || exponent == NULL || RSA_set0_key(key, modulus, exponent, NULL) != 1) {
    BN_free(modulus);
    BN_free(exponent);
    RSA_free(key);
    return false;
  }
  bool ok = RSA_public_decrypt((int)in.len, in.at, out, key, RSA_NO_PADDING) == (int)n.len;
  RSA_free(key);
  return ok;
}

bool crypto_ecdsa_sign(EVP_PKEY *key, struct span digest, uint8_t *out, size_t *len) {
  EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key, NULL);
  bool ok = ctx != NULL && EVP_PKEY_sign_init(ctx) == 1 && EVP_PKEY_sign(ctx, out, len, digest.at, digest.len) == 1;
  EVP_PKEY_CTX_free(ctx);
  return ok;
}

bool crypto_rsa_sign_pkcs1(EVP_PKEY *key, struct span in, uint8_t *out, size_t *len) {
  EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key, NULL);
  bool ok = ctx != NULL && EVP_PKEY_sign_init(ctx) == 1 && EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING) == 1 &&
            EVP_PKEY_sign(ctx, out, len, in.at, in.len) == 1;
  EVP_PKEY_CTX_free(ctx);
  return ok;
}

bool crypto_rsa_sign_pss(EVP_PKEY *key, struct span digest, uint8_t *out, size_t *len) {
  const EVP_MD *md = digest.len == 32 ? EVP_sha256() : digest.len == 48 ? EVP_sha384() : digest.len == 64 ? EVP_sha512() : NULL;
  if (md == NULL) return false;
  EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key, NULL);
  bool ok = ctx != NULL && EVP_PKEY_sign_init(ctx) == 1 && EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PSS_PADDING) == 1 &&
            EVP_PKEY_CTX_set_signature_md(ctx, md) == 1 && EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, RSA_PSS_SALTLEN_DIGEST) == 1 &&
            EVP_PKEY_sign(ctx, out, len, digest.at, digest.len) == 1;
  EVP_PKEY_CTX_free(ctx);
  return ok;
}

/* ---- hashes ---- */

/* With no bytes waiting in it (num 0), all of the context that whole blocks touch is h and the count, which nobody reads. */
void crypto_sha256_blocks(uint32_t state[8], const uint8_t *blocks, size_t count) {
  SHA256_CTX ctx = {.md_len = SHA256_DIGEST_LENGTH};
  memcpy(ctx.h, state, sizeof ctx.h);
  SHA256_Update(&ctx, blocks, count * SHA256_CBLOCK);
  memcpy(state, ctx.h, sizeof ctx.h);
}

void crypto_sha512_blocks(uint64_t state[8], const uint8_t *blocks, size_t count) {
  SHA512_CTX ctx = {.md_len = SHA512_DIGEST_LENGTH};
  for (unsigned i = 0; i < 8; i++) ctx.h[i] = state[i];
  SHA512_Update(&ctx, blocks, count * SHA512_CBLOCK);
  for (unsigned i = 0; i < 8; i++) state[i] = ctx.h[i];
}

void crypto_sha256(const struct span *parts, unsigned count, uint8_t digest[32]) {
  SHA256_CTX ctx;
  SHA256_Init(&ctx);
  for (unsigned i = 0; i < count; i++) SHA256_Update(&ctx, parts[i].at, parts[i].len);
  SHA256_Final(digest, &ctx);
}

struct digest {
  bool sha256;
  union {
    SHA256_CTX small;
    SHA512_CTX large;
  };
};

static void digest_begin(struct digest *digest, bool sha256) {
  digest->sha256 = sha256;
  if (sha256)
    SHA256_Init(&digest->small);
  else
    SHA384_Init(&digest->large);
}
static void digest_add(struct digest *digest, const void *at, size_t len) {
  if (digest->sha256)
    SHA256_Update(&digest->small, at, len);
  else
    SHA384_Update(&digest->large, at, len);
}
static void digest_end(struct digest *digest, uint8_t *out) {
  if (digest->sha256)
    SHA256_Final(out, &digest->small);
  else
    SHA384_Final(out, &digest->large);
}

/* The library's own HMAC looks its digest up by name each time, which takes longer than the digest. */
void crypto_hmac(unsigned bits, struct span key, const struct span *parts, unsigned count, uint8_t *mac) {
  struct digest digest;
  uint8_t pad[SHA512_CBLOCK] = {0};
  size_t block = bits == 256 ? SHA256_CBLOCK : SHA512_CBLOCK;
  must(key.len <= block && (bits == 256 || bits == 384));
  if (key.len > 0) memcpy(pad, key.at, key.len);
  for (size_t i = 0; i < block; i++) pad[i] ^= 0x36;
  digest_begin(&digest, bits == 256);
  digest_add(&digest, pad, block);
  for (unsigned i = 0; i < count; i++) digest_add(&digest, parts[i].at, parts[i].len);
  digest_end(&digest, mac);
  for (size_t i = 0; i < block; i++) pad[i] ^= 0x36 ^ 0x5c;
  digest_begin(&digest, bits == 256);
  digest_add(&digest, pad, block);
  digest_add(&digest, mac, bits / 8);
  digest_end(&digest, mac);
  OPENSSL_cleanse(pad, sizeof pad);
  OPENSSL_cleanse(&digest, sizeof digest);
}
