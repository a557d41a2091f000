/*
 * tls: one TLS connection over memory: ciphertext in, plaintext and ciphertext out. No sockets, no clock but for the library's own look at ticket
 * ages, and it never blocks. TLS 1.2 and 1.3 by wolfSSL, its arithmetic by libcrypto.
 *
 *   tls_init(TLS_LIBCRYPTO, &why);                              once, before there are threads
 *   struct tls *tls = tls_accept(server, slab, wall_ms);        or tls_connect(client, &expect, session, slab, wall_ms, &out)
 *   error = tls_feed(tls, bytes, &out, on_plaintext, who);      whatever came, however it was cut; then send what is in `out`
 *   error = tls_write(tls, slices, count, &out);                once tls_state is TLS_OPEN
 *   tls_close(tls, &out); tls_free(tls);
 *
 * Owner: one thread (a shard), as of its slab. A server and a client (server.h, client.h) are shared by threads; a connection holds a reference.
 *
 * What a peer can make it do is bounded: 64 KiB and 256 records for a handshake, no renegotiation, no early data, few records without content. A server's
 * connection has its bytes alone until the whole ClientHello is there, and about 55 KiB then (a client's 80; idle ones can be trimmed to 23 and 48). For how long it may take is for the caller to say.
 *
 * Memory: the object, the hello and what is written are the slab's. wolfSSL's and libcrypto's are malloc's: tls_bytes says how many for a connection,
 * to be charged to limits.memory with slab_count; tls_bytes_all how many for the thread's all.
 */
#ifndef NET_TLS_TLS_H
#define NET_TLS_TLS_H

#include "core/base/buffer.h"
#include "core/base/fmt.h"
#include "core/base/must.h"
#include "net/tls/trust.h"

struct tls;
struct tls_server;
struct tls_client;
struct tls_session;

enum tls_engine {
  TLS_LIBCRYPTO, /* ciphers, key exchange, signatures by libcrypto */
  TLS_WOLFCRYPT, /* all by wolfSSL: for one that was built with assembly, and to compare */
};
/* E_UNSUPPORTED with a text if the library is not what this was built for. */
must_check int tls_init(enum tls_engine engine, struct fmt *why);

enum tls_state {
  TLS_HELLO = 1, /* a server's: the ClientHello is not there yet */
  TLS_HANDSHAKE,
  TLS_OPEN,
  TLS_CLOSED, /* the peer has said that nothing more comes (close_notify) */
  TLS_FAILED, /* tls_error says why; an alert may be in `out` */
};

/* NULL: no memory. */
struct tls *tls_accept(struct tls_server *server, struct slab *slab, uint64_t wall_ms);

struct tls_expect {
  enum tls_policy policy;
  struct span host;         /* to ask for (SNI); empty: none */
  const struct span *names; /* the certificate is to be for one of them; needed with TLS_VERIFY, and with TLS_DANE for usage 2 */
  unsigned name_count;
  const struct tls_tlsa *tlsa;
  unsigned tlsa_count;
};
/* Copies `expect`, borrows the session for the call (NULL: none), and writes the first flight. NULL: no memory, or with TLS_VERIFY no names. */
struct tls *tls_connect(struct tls_client *client, const struct tls_expect *expect, const struct tls_session *session, struct slab *slab,
                        uint64_t wall_ms, struct buffer *out);
void tls_free(struct tls *tls); /* NULL is nothing */

/* Plaintext is borrowed for the call. May call tls_write and tls_close for the same connection, but not tls_feed or tls_free. */
typedef void tls_take(void *who, struct span plaintext);
/*
 * All of the bytes are consumed. What is to be sent is appended to `out` (after errors too: the alert).
 * E_OK; E_CLOSED: close_notify came, what followed it is dropped; E_PROTOCOL: failed, see tls_error; E_NO_MEMORY: failed likewise.
 */
must_check int tls_feed(struct tls *tls, struct span ciphertext, struct buffer *out, tls_take *take, void *who);

/*
 * All slices, in as few records as can be (16 KiB each), or nothing: E_FULL: `out` has no room, as before; E_PROTOCOL: not open, or failed;
 * E_CLOSED: the peer is gone.
 */
must_check int tls_write(struct tls *tls, const struct span *slices, unsigned count, struct buffer *out);
/* close_notify, once. Nothing can be written afterwards. */
void tls_close(struct tls *tls, struct buffer *out);
/* The transport has ended: E_CLOSED if the peer had said so before, E_RESET if not: what came may be cut short, and tls_error says so. */
must_check int tls_end(struct tls *tls);

enum tls_state tls_state(const struct tls *tls);
/* Lower-case phrase in plain words, e.g. "no shared cipher suite", "peer sent alert: unknown ca"; "" if nothing is wrong. */
const char *tls_error(const struct tls *tls);
/* Both "" before it is open. */
const char *tls_version(const struct tls *tls); /* "TLSv1.3" */
const char *tls_cipher(const struct tls *tls);  /* by IANA: "TLS_AES_128_GCM_SHA256" */
bool tls_resumed(const struct tls *tls);
/* The host the client asked for, in lower case; "" if none. */
const char *tls_host(const struct tls *tls);
/* Of the peer's certificate; of the connection that a session was taken from if this one is resumed. A server that asks for none: untrusted, "". */
struct tls_trust tls_trust(const struct tls *tls);
/* The peer's certificate's name, escaped; "" without one. */
const char *tls_peer_name(const struct tls *tls);

/*
 * A client's, for the next connection with the same expectations: the caller's to free. NULL: the server gave nothing to resume with (so far; what this
 * one was resumed with may serve again), or speaks TLS 1.2, whose sessions this client does not resume (as a server we do).
 */
struct tls_session *tls_session_take(struct tls *tls);
void tls_session_free(struct tls_session *session);
size_t tls_session_bytes(const struct tls_session *session);

/*
 * Gives memory back that an open connection hardly needs, some 31 KiB: for one that has been idle for long and may stay so (seconds). Not for each: it
 * and what it costs the next handshakes, whose memory has to be got anew, come to 25 to 60 us. Nothing else changes; a second call does nothing.
 */
void tls_trim(struct tls *tls);

/* Memory outside of the slab, now. */
size_t tls_bytes(const struct tls *tls);
#define TLS_BYTES ((size_t)64 << 10) /* what a new one takes about, while nobody has counted it */
/* The slab's account of that: *counted is what it knows of (0 at first), and becomes what it knows now; tls_uncount when the connection ends. */
void tls_count(const struct tls *tls, struct slab *slab, size_t *counted);
void tls_uncount(struct slab *slab, size_t *counted);
int64_t tls_bytes_all(void);

#endif
