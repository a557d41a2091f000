/*
 * What the parts of a connection share: tls.c (bytes), handshake.c (how it begins), session.c (how it is resumed), context.c, failure.c. Nobody else's.
 */
#ifndef NET_TLS_INSIDE_H
#define NET_TLS_INSIDE_H

#include "net/tls/certificate.h"
#include "net/tls/client.h"
#include "net/tls/crypto.h"
#include "net/tls/engine.h"
#include "net/tls/hello.h"
#include "net/tls/server.h"
#include "net/tls/tls.h"

struct WOLFSSL;

#define TLS_HANDSHAKE_BYTES 65536 /* what a peer may send before it is over; OpenSSL takes 100 KB of certificates, those in use have 3 to 8 */
#define TLS_HANDSHAKE_RECORDS 256
#define TLS_EMPTY_RECORDS 32 /* without content (tickets, key updates, padding), and one more for every 4 KiB of content */
#define TLS_RECORD 16384
#define TLS_NAME_MAX 128

struct tls_want { /* a client's expectation, in one block of the slab with what it points to */
  struct tls_expect expect;
  size_t block_len;
};

struct tls {
  struct WOLFSSL *ssl; /* NULL in TLS_HELLO */
  struct slab *slab;
  struct tls_server *server; /* one of the two */
  struct tls_client *client;
  struct tls_want *want; /* until the handshake is over */
  struct crypto crypto;

  /* of the call that is under way */
  struct span in;
  struct buffer *out;
  bool no_room; /* `out` could not take what was to be written */

  struct hello_reader reader;
  struct buffer hello;
  uint8_t record[5]; /* header of the record that comes in */
  uint8_t record_len;
  uint16_t record_left;
  uint32_t records, records_with_content; /* since the last change of state */
  uint64_t bytes_in, content_in;

  uint64_t wall_ms;
  int64_t bytes; /* of wolfSSL's allocator */
  uint8_t state; /* enum tls_state */
  bool tls12, resumed, judged, said_bye;
  struct tls_trust trust, session_trust;
  bool offered;               /* a session was, */
  uint8_t offered_ticket[32]; /* with a ticket of this digest */
  uint8_t policy[32];         /* a digest of what was expected, for sessions */
  char host[HELLO_HOST_MAX + 1];
  char peer[TLS_NAME_MAX];
  char cipher[64];
  char error[128];
};

/* handshake.c: goes on with the handshake as far as the bytes in tls->in go; tls_enter'ed. */
void tls_shake(struct tls *tls);
/* The ClientHello is in tls->hello: picks the certificate, makes the object. */
void tls_begin_server(struct tls *tls);
bool tls_begin_client(struct tls *tls, const struct tls_session *session);

/* session.c */
void tls_policy_digest(const struct tls_client *client, const struct tls_expect *expect, uint8_t digest[32]);
bool tls_session_offer(struct tls *tls, const struct tls_session *session);

/* failure.c: TLS_FAILED, with the first reason that was given. `code` is wolfSSL's, of its last call. */
void tls_fail(struct tls *tls, const char *text);
void tls_fail_code(struct tls *tls, int code);
/* An alert in the clear, where there is no object to send it. */
void tls_send_alert(struct tls *tls, uint8_t description);

/* context.c: a context for one side, with suites, groups and callbacks; NULL: no memory, or the library would not. */
struct WOLFSSL_CTX *context_new(bool server, enum tls_least least, enum tls_most most, bool x25519);
must_check bool context_certificate(struct WOLFSSL_CTX *ctx, const struct certificate *certificate);
void context_tickets(struct WOLFSSL_CTX *ctx, uint32_t period_s); /* 0: none */
void context_ask(struct WOLFSSL_CTX *ctx);                        /* the peer for its certificate */
void context_resume(struct WOLFSSL_CTX *ctx);
void context_free(struct WOLFSSL_CTX *ctx);

#endif
