#include "net/tls/engine.h"

#include <malloc.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <wolfssl/options.h>
#include <wolfssl/ssl.h>
#include <wolfssl/wolfcrypt/cryptocb.h>
#include <wolfssl/wolfcrypt/curve25519.h>
#include <wolfssl/wolfcrypt/ecc.h>
#include <wolfssl/wolfcrypt/kdf.h>
#include <wolfssl/wolfcrypt/rsa.h>
#include <wolfssl/wolfcrypt/sha256.h>
#include <wolfssl/wolfcrypt/sha512.h>

#include "core/base/error.h"

/*
 * What net/tls relies on. WOLFSSL_ALT_CERT_CHAINS: without it a chain's CA whose error the verify callback passes over would be kept as one that is
 * trusted by all connections of the context. Nothing here asks whom wolfSSL trusts, but it would grow.
 */
#if defined(HAVE_PK_CALLBACKS) && defined(WOLF_CRYPTO_CB) && defined(HAVE_SESSION_TICKET) && defined(HAVE_SNI) && defined(WOLFSSL_TLS13) &&          \
    defined(WOLFSSL_ALWAYS_VERIFY_CB) && defined(HAVE_EXT_CACHE) && defined(HAVE_CURVE25519) && defined(WOLFSSL_ALT_CERT_CHAINS)
#define COMPLETE 1
#else
#define COMPLETE 0
#endif
#ifndef __cppcheck__ /* which does not read the library's options */
_Static_assert(COMPLETE, "this wolfSSL lacks what net/tls needs: Debian's libwolfssl-dev has it (configure --enable-distro)");
#endif

#define DEVICE 0x52504f53 /* any number that is not INVALID_DEVID */
#define EC_PUBLIC_MAX 133 /* P-384's is 97 */

/* What hangs off a thread rather than a shard, for wolfSSL passes nothing of ours to its allocator and its crypto callback. */
static _Thread_local struct {
  struct crypto *crypto; /* of the connection that is being worked on */
  int64_t bytes;
} thread;

static bool offload; /* set by engine_init, before there are threads */

/* ---- memory ---- */

static void *count(void *memory) {
  if (memory != NULL) thread.bytes += (int64_t)malloc_usable_size(memory);
  return memory;
}
static void uncount(void *memory) {
  if (memory != NULL) thread.bytes -= (int64_t)malloc_usable_size(memory);
}
#define PAGE 4096
#define LARGE 32768 /* only the session object is: buffers of records take 17 KiB */

static void *on_malloc(size_t size) {
  void *memory = count(malloc(size));
  if (size >= LARGE && thread.crypto != NULL && thread.crypto->large == NULL) thread.crypto->large = memory;
  return memory;
}

/* What was given back of it does not count a second time. */
static void forget_large(const void *memory) {
  if (memory == NULL || thread.crypto == NULL || memory != thread.crypto->large) return;
  thread.bytes += (int64_t)thread.crypto->large_bare;
  thread.crypto->large = NULL;
  thread.crypto->large_bare = 0;
}

static bool is_zero(const uint8_t *page) { return page[0] == 0 && memcmp(page, page + 1, PAGE - 1) == 0; }

void engine_trim(void) {
  struct crypto *crypto = thread.crypto;
  if (crypto->large == NULL || crypto->large_bare > 0) return;
  uint8_t *end = (uint8_t *)crypto->large + malloc_usable_size(crypto->large);
  uint8_t *at = (uint8_t *)(((uintptr_t)crypto->large + PAGE - 1) & ~(uintptr_t)(PAGE - 1));
  while (at + PAGE <= end) {
    uint8_t *from = at;
    while (at + PAGE <= end && is_zero(at)) at += PAGE;
    if (at > from && madvise(from, (size_t)(at - from), MADV_DONTNEED) == 0) crypto->large_bare += (size_t)(at - from);
    at += PAGE;
  }
  thread.bytes -= (int64_t)crypto->large_bare;
}

static void on_free(void *memory) {
  forget_large(memory);
  uncount(memory);
  free(memory);
}
static void *on_realloc(void *memory, size_t size) {
  forget_large(memory);
  uncount(memory);
  void *grown = realloc(memory, size);
  if (grown != NULL) return count(grown);
  if (size > 0) count(memory); /* it is still there */
  return NULL;
}

struct engine_mark engine_enter(struct crypto *crypto) {
  struct engine_mark before = {thread.crypto, thread.bytes};
  thread.crypto = crypto;
  return before;
}

int64_t engine_leave(struct engine_mark before) {
  thread.crypto = before.crypto;
  return thread.bytes - before.bytes;
}

int64_t engine_bytes(void) { return thread.bytes; }

/* ---- the crypto callback: 0, an error, or CRYPTOCB_UNAVAILABLE, upon which wolfSSL does it itself ---- */

static int on_gcm(wc_CryptoInfo *info) {
  if (thread.crypto == NULL) return CRYPTOCB_UNAVAILABLE;
  if (info->cipher.enc) {
    if (info->cipher.aesgcm_enc.ivSz != 12 || info->cipher.aesgcm_enc.authTagSz != CRYPTO_TAG) return CRYPTOCB_UNAVAILABLE;
    Aes *aes = info->cipher.aesgcm_enc.aes;
    return crypto_seal(&thread.crypto->seal, span_of(aes->devKey, (size_t)aes->keylen), span_of(info->cipher.aesgcm_enc.iv, 12),
                       span_of(info->cipher.aesgcm_enc.authIn, info->cipher.aesgcm_enc.authInSz),
                       span_of(info->cipher.aesgcm_enc.in, info->cipher.aesgcm_enc.sz), info->cipher.aesgcm_enc.out, info->cipher.aesgcm_enc.authTag)
               ? 0
               : BAD_STATE_E;
  }
  if (info->cipher.aesgcm_dec.ivSz != 12 || info->cipher.aesgcm_dec.authTagSz != CRYPTO_TAG) return CRYPTOCB_UNAVAILABLE;
  Aes *aes = info->cipher.aesgcm_dec.aes;
  return crypto_open(&thread.crypto->open, span_of(aes->devKey, (size_t)aes->keylen), span_of(info->cipher.aesgcm_dec.iv, 12),
                     span_of(info->cipher.aesgcm_dec.authIn, info->cipher.aesgcm_dec.authInSz),
                     span_of(info->cipher.aesgcm_dec.in, info->cipher.aesgcm_dec.sz), info->cipher.aesgcm_dec.out, info->cipher.aesgcm_dec.authTag)
             ? 0
             : AES_GCM_AUTH_E;
}

static unsigned curve_bits(int curve) { return curve == ECC_SECP256R1 ? 256 : curve == ECC_SECP384R1 ? 384 : 0; }
static unsigned key_bits(const ecc_key *key) { return key->dp == NULL ? 0 : curve_bits(key->dp->id); }

static struct span ec_public(ecc_key *key, uint8_t room[EC_PUBLIC_MAX]) {
  word32 len = EC_PUBLIC_MAX;
  return wc_ecc_export_x963(key, room, &len) == 0 ? span_of(room, len) : (struct span){NULL, 0};
}

static int on_ec_make(wc_CryptoInfo *info) {
  ecc_key *key = info->pk.eckg.key;
  unsigned bits = key_bits(key);
  uint8_t private[48], public[EC_PUBLIC_MAX];
  if (thread.crypto == NULL || bits == 0) return CRYPTOCB_UNAVAILABLE;
  if (!crypto_ec_make(thread.crypto, bits, private, public)) return CRYPTOCB_UNAVAILABLE;
  int error = wc_ecc_import_private_key_ex(private, bits / 8, public, 1 + bits / 4, key, key->dp->id);
  crypto_wipe(private, sizeof private);
  return error;
}

static int on_ec_share(wc_CryptoInfo *info) {
  uint8_t own[EC_PUBLIC_MAX], peer[EC_PUBLIC_MAX];
  unsigned bits = key_bits(info->pk.ecdh.private_key);
  if (thread.crypto == NULL || bits == 0 || bits != key_bits(info->pk.ecdh.public_key) || *info->pk.ecdh.outlen < bits / 8)
    return CRYPTOCB_UNAVAILABLE;
  if (!crypto_ec_share(thread.crypto, ec_public(info->pk.ecdh.private_key, own), ec_public(info->pk.ecdh.public_key, peer), info->pk.ecdh.out))
    return CRYPTOCB_UNAVAILABLE;
  *info->pk.ecdh.outlen = bits / 8;
  return 0;
}

static int on_ec_verify(wc_CryptoInfo *info) {
  uint8_t public[EC_PUBLIC_MAX];
  unsigned bits = key_bits(info->pk.eccverify.key);
  if (bits == 0) return CRYPTOCB_UNAVAILABLE;
  *info->pk.eccverify.res =
      crypto_ecdsa_verify(bits, ec_public(info->pk.eccverify.key, public), span_of(info->pk.eccverify.hash, info->pk.eccverify.hashlen),
                          span_of(info->pk.eccverify.sig, info->pk.eccverify.siglen));
  return 0;
}

static int on_x25519_make(wc_CryptoInfo *info) {
  uint8_t private[CURVE25519_KEYSIZE], public[CURVE25519_KEYSIZE];
  if (thread.crypto == NULL || !crypto_x25519_make(thread.crypto, private, public)) return CRYPTOCB_UNAVAILABLE;
  int error = wc_curve25519_import_private_raw_ex(private, sizeof private, public, sizeof public, info->pk.curve25519kg.key, EC25519_LITTLE_ENDIAN);
  crypto_wipe(private, sizeof private);
  return error;
}

static int on_x25519_share(wc_CryptoInfo *info) {
  const curve25519_key *own = info->pk.curve25519.private_key, *peer = info->pk.curve25519.public_key;
  if (thread.crypto == NULL || info->pk.curve25519.endian != EC25519_LITTLE_ENDIAN) return CRYPTOCB_UNAVAILABLE;
  if (!crypto_x25519_share(thread.crypto, own->k, peer->p.point, info->pk.curve25519.out)) return CRYPTOCB_UNAVAILABLE;
  *info->pk.curve25519.outlen = CURVE25519_KEYSIZE;
  return 0;
}

/* Verification only: wolfSSL takes the padding off. */
static int on_rsa(wc_CryptoInfo *info) {
  uint8_t n[512], e[8];
  word32 n_len = sizeof n, e_len = sizeof e;
  if (info->pk.rsa.type != RSA_PUBLIC_DECRYPT) return CRYPTOCB_UNAVAILABLE;
  if (wc_RsaFlattenPublicKey(info->pk.rsa.key, e, &e_len, n, &n_len) != 0 || *info->pk.rsa.outLen < n_len) return CRYPTOCB_UNAVAILABLE;
  if (!crypto_rsa_public(span_of(n, n_len), span_of(e, e_len), span_of(info->pk.rsa.in, info->pk.rsa.inLen), info->pk.rsa.out))
    return CRYPTOCB_UNAVAILABLE;
  *info->pk.rsa.outLen = n_len;
  return 0;
}

static int on_pk(wc_CryptoInfo *info) {
  switch (info->pk.type) {
  case WC_PK_TYPE_RSA: return on_rsa(info);
  case WC_PK_TYPE_EC_KEYGEN: return on_ec_make(info);
  case WC_PK_TYPE_ECDH: return on_ec_share(info);
  case WC_PK_TYPE_ECDSA_VERIFY: return on_ec_verify(info);
  case WC_PK_TYPE_CURVE25519_KEYGEN: return on_x25519_make(info);
  case WC_PK_TYPE_CURVE25519: return on_x25519_share(info);
  default: return CRYPTOCB_UNAVAILABLE;
  }
}

/*
 * Whole blocks go through libcrypto, on wolfSSL's own state: it stays copyable, and nothing is to be freed. What is left waits in wolfSSL's
 * buffer, and the last block is wolfSSL's.
 */
static int on_sha256(wc_CryptoInfo *info) {
  wc_Sha256 *sha = info->hash.sha256;
  const uint8_t *in = info->hash.in;
  word32 len = info->hash.inSz;
  if (in == NULL || sha->buffLen >= WC_SHA256_BLOCK_SIZE) return CRYPTOCB_UNAVAILABLE;
  word32 before = sha->loLen;
  sha->loLen += len;
  if (sha->loLen < before) sha->hiLen++;
  if (sha->buffLen > 0) {
    word32 more = WC_SHA256_BLOCK_SIZE - sha->buffLen < len ? WC_SHA256_BLOCK_SIZE - sha->buffLen : len;
    memcpy((uint8_t *)sha->buffer + sha->buffLen, in, more);
    sha->buffLen += more;
    in += more;
    len -= more;
    if (sha->buffLen < WC_SHA256_BLOCK_SIZE) return 0;
    crypto_sha256_blocks(sha->digest, (const uint8_t *)sha->buffer, 1);
    sha->buffLen = 0;
  }
  if (len >= WC_SHA256_BLOCK_SIZE) crypto_sha256_blocks(sha->digest, in, len / WC_SHA256_BLOCK_SIZE);
  sha->buffLen = len % WC_SHA256_BLOCK_SIZE;
  if (sha->buffLen > 0) memcpy(sha->buffer, in + (len - sha->buffLen), sha->buffLen);
  return 0;
}

/* SHA-384 is SHA-512 with another start. */
static int on_sha512(wc_CryptoInfo *info) {
  wc_Sha512 *sha = info->hash.sha512;
  const uint8_t *in = info->hash.in;
  word32 len = info->hash.inSz;
  if (in == NULL || sha->buffLen >= WC_SHA512_BLOCK_SIZE) return CRYPTOCB_UNAVAILABLE;
  sha->loLen += len;
  if (sha->loLen < len) sha->hiLen++;
  if (sha->buffLen > 0) {
    word32 more = WC_SHA512_BLOCK_SIZE - sha->buffLen < len ? WC_SHA512_BLOCK_SIZE - sha->buffLen : len;
    memcpy((uint8_t *)sha->buffer + sha->buffLen, in, more);
    sha->buffLen += more;
    in += more;
    len -= more;
    if (sha->buffLen < WC_SHA512_BLOCK_SIZE) return 0;
    crypto_sha512_blocks((uint64_t *)sha->digest, (const uint8_t *)sha->buffer, 1);
    sha->buffLen = 0;
  }
  if (len >= WC_SHA512_BLOCK_SIZE) crypto_sha512_blocks((uint64_t *)sha->digest, in, len / WC_SHA512_BLOCK_SIZE);
  sha->buffLen = len % WC_SHA512_BLOCK_SIZE;
  if (sha->buffLen > 0) memcpy(sha->buffer, in + (len - sha->buffLen), sha->buffLen);
  return 0;
}

static int on_hash(wc_CryptoInfo *info) {
  if (info->hash.type == WC_HASH_TYPE_SHA256) return on_sha256(info);
  if (info->hash.type == WC_HASH_TYPE_SHA384 || info->hash.type == WC_HASH_TYPE_SHA512) return on_sha512(info);
  return CRYPTOCB_UNAVAILABLE;
}

static int on_crypto(int device, wc_CryptoInfo *info, void *ctx) {
  (void)device;
  (void)ctx;
  if (info == NULL) return CRYPTOCB_UNAVAILABLE;
  if (info->algo_type == WC_ALGO_TYPE_CIPHER) return info->cipher.type == WC_CIPHER_AES_GCM ? on_gcm(info) : CRYPTOCB_UNAVAILABLE;
  if (info->algo_type == WC_ALGO_TYPE_PK) return on_pk(info);
  if (info->algo_type == WC_ALGO_TYPE_HASH) return on_hash(info);
  return CRYPTOCB_UNAVAILABLE;
}

/* ---- the key schedule of TLS 1.3: some 40 HMACs a handshake ---- */

static unsigned hash_bits(int digest) { return digest == WC_SHA256 ? 256 : digest == WC_SHA384 ? 384 : 0; }

static int on_hkdf_extract(byte *prk, const byte *salt, word32 salt_len, byte *ikm, word32 ikm_len, int digest, void *ctx) {
  unsigned bits = hash_bits(digest);
  (void)ctx;
  if (bits == 0 || salt_len > bits / 8) return wc_Tls13_HKDF_Extract(prk, salt, (int)salt_len, ikm, (int)ikm_len, digest);
  if (ikm_len == 0) { /* RFC 8446 section 7.1: as many zeros */
    memset(ikm, 0, bits / 8);
    ikm_len = bits / 8;
  }
  crypto_hmac(bits, span_of(salt, salt_len), &(struct span){ikm, ikm_len}, 1, prk);
  return 0;
}

/* RFC 8446 section 7.1; one block of output is all that TLS ever wants of it. */
/* NOLINTNEXTLINE(readability-function-size): the parameters are wolfSSL's */
static int on_hkdf_expand(byte *okm, word32 okm_len, const byte *prk, word32 prk_len, const byte *protocol, word32 protocol_len, const byte *label,
                          word32 label_len, const byte *info, word32 info_len, int digest, int side) {
  unsigned bits = hash_bits(digest);
  uint8_t mac[48];
  (void)side;
  if (bits == 0 || okm_len > bits / 8 || prk_len > bits / 8) return NOT_COMPILED_IN;
  uint8_t head[] = {0, (uint8_t)okm_len, (uint8_t)(protocol_len + label_len)}, info_head[] = {(uint8_t)info_len};
  struct span parts[] = {span_of(head, 3),      span_of(protocol, protocol_len), span_of(label, label_len),
                         span_of(info_head, 1), span_of(info, info_len),         SPAN("\x01")};
  crypto_hmac(bits, span_of(prk, prk_len), parts, 6, mac);
  memcpy(okm, mac, okm_len);
  crypto_wipe(mac, sizeof mac);
  return 0;
}

/* ---- signatures by private key: these callbacks, unlike the above, are given what we attached to the connection ---- */

static int on_ecdsa_sign(WOLFSSL *ssl, const unsigned char *in, unsigned int in_len, unsigned char *out, word32 *out_len, const unsigned char *der,
                         unsigned int der_len, void *key) {
  (void)ssl, (void)der, (void)der_len;
  size_t len = *out_len;
  if (key == NULL || !crypto_ecdsa_sign(key, span_of(in, in_len), out, &len)) return BAD_STATE_E;
  *out_len = (word32)len;
  return 0;
}

static int on_rsa_sign(WOLFSSL *ssl, const unsigned char *in, unsigned int in_len, unsigned char *out, word32 *out_len, const unsigned char *der,
                       unsigned int der_len, void *key) {
  (void)ssl, (void)der, (void)der_len;
  size_t len = *out_len;
  if (key == NULL || !crypto_rsa_sign_pkcs1(key, span_of(in, in_len), out, &len)) return BAD_STATE_E;
  *out_len = (word32)len;
  return 0;
}

/* NOLINTNEXTLINE(readability-function-size): the parameters are wolfSSL's */
static int on_pss_sign(WOLFSSL *ssl, const unsigned char *in, unsigned int in_len, unsigned char *out, unsigned int *out_len, int hash, int mgf,
                       const unsigned char *der, unsigned int der_len, void *key) {
  (void)ssl, (void)hash, (void)mgf, (void)der, (void)der_len;
  size_t len = *out_len;
  if (key == NULL || !crypto_rsa_sign_pss(key, span_of(in, in_len), out, &len)) return BAD_STATE_E;
  *out_len = (unsigned int)len;
  return 0;
}

/* wolfSSL verifies what it has signed, against a faulty processor; libcrypto has done so (rsa_ossl_mod_exp). */
static int on_rsa_check(WOLFSSL *ssl, unsigned char *sig, unsigned int sig_len, unsigned char **out, const unsigned char *der, unsigned int der_len,
                        void *key) {
  (void)ssl, (void)sig, (void)sig_len, (void)out, (void)der, (void)der_len, (void)key;
  return 0;
}
/* NOLINTNEXTLINE(readability-function-size): the parameters are wolfSSL's */
static int on_pss_check(WOLFSSL *ssl, unsigned char *sig, unsigned int sig_len, unsigned char **out, int hash, int mgf, const unsigned char *der,
                        unsigned int der_len, void *key) {
  (void)ssl, (void)sig, (void)sig_len, (void)out, (void)hash, (void)mgf, (void)der, (void)der_len, (void)key;
  return 0;
}

void engine_attach(WOLFSSL_CTX *ctx) {
  if (!offload) return;
  wolfSSL_CTX_SetDevId(ctx, DEVICE);
  wolfSSL_CTX_SetHKDFExtractCb(ctx, on_hkdf_extract);
  wolfSSL_CTX_SetHKDFExpandLabelCb(ctx, on_hkdf_expand);
  wolfSSL_CTX_SetEccSignCb(ctx, on_ecdsa_sign);
  wolfSSL_CTX_SetRsaSignCb(ctx, on_rsa_sign);
  wolfSSL_CTX_SetRsaSignCheckCb(ctx, on_rsa_check);
  wolfSSL_CTX_SetRsaPssSignCb(ctx, on_pss_sign);
  wolfSSL_CTX_SetRsaPssSignCheckCb(ctx, on_pss_check);
}

void engine_sign_with(WOLFSSL *ssl, struct evp_pkey_st *key) {
  if (!offload || key == NULL) return;
  wolfSSL_SetEccSignCtx(ssl, key);
  wolfSSL_SetRsaSignCtx(ssl, key);
  wolfSSL_SetRsaPssSignCtx(ssl, key);
}

bool engine_prefers_p256(void) { return offload; }

int engine_init(bool libcrypto, struct fmt *why) {
  if (wolfSSL_lib_version_hex() >> 24 != LIBWOLFSSL_VERSION_HEX >> 24) {
    fmt_text(why, "libwolfssl is another major version (");
    fmt_text(why, wolfSSL_lib_version());
    fmt_text(why, ") than this was built with (" LIBWOLFSSL_VERSION_STRING ")");
    return E_UNSUPPORTED;
  }
  if (wolfSSL_SetAllocators(on_malloc, on_free, on_realloc) != 0 || wolfSSL_Init() != WOLFSSL_SUCCESS) {
    fmt_text(why, "wolfSSL does not start");
    return E_UNSUPPORTED;
  }
  if (!crypto_init()) {
    fmt_text(why, "libcrypto does not start");
    return E_UNSUPPORTED;
  }
  offload = libcrypto;
  if (libcrypto && wc_CryptoCb_RegisterDevice(DEVICE, on_crypto, NULL) != 0) {
    fmt_text(why, "wolfSSL takes no crypto callback");
    return E_UNSUPPORTED;
  }
  return E_OK;
}
