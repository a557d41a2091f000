/*
 * engine: wolfSSL's ways out: its crypto callback and public key callbacks into crypto.h, and its allocator, which counts.
 *
 * wolfSSL hands neither a connection to its crypto callback nor tells when a cipher ends (5.5.4 has no free callback), so what belongs to a
 * connection is found through a pointer of the thread, set around each call into wolfSSL: engine_enter, engine_leave. They nest.
 */
#ifndef NET_TLS_ENGINE_H
#define NET_TLS_ENGINE_H

#include "core/base/fmt.h"
#include "core/base/must.h"
#include "net/tls/crypto.h"

struct WOLFSSL;
struct WOLFSSL_CTX;

/* Before any other use of wolfSSL, once, before there are threads. libcrypto: with the callbacks. E_UNSUPPORTED with a text if the library is not one we know. */
must_check int engine_init(bool libcrypto, struct fmt *why);

struct engine_mark {
  struct crypto *crypto;
  int64_t bytes;
};
struct engine_mark engine_enter(struct crypto *crypto);
/* How many bytes wolfSSL has taken since (negative: given back), by this thread. */
int64_t engine_leave(struct engine_mark before);

/*
 * Gives the system back what wolfSSL has cleared and will hardly touch again. Of the 39 KiB of its session object 37 are room for the
 * peer's certificates, twice. A page that holds zeros reads as zeros afterwards, so nothing is lost if it is touched. For the connection entered.
 */
void engine_trim(void);

/* Bytes this thread got from wolfSSL's allocator, less those it gave back; below 0 on a thread that frees what others made. The sum over threads is true. */
int64_t engine_bytes(void);

/* Which group costs least: with libcrypto P-256, for wolfSSL 5.5 does X25519 of TLS 1.3 itself, in C. */
bool engine_prefers_p256(void);
/* Device and callbacks of a context; signatures by `key` of a connection (NULL: it signs nothing). */
void engine_attach(struct WOLFSSL_CTX *ctx);
void engine_sign_with(struct WOLFSSL *ssl, struct evp_pkey_st *key);

#endif
