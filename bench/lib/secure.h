/*
 * secure: TLS on one connection of source or sink: net/tls with the ciphertext that is to be sent. All zeros is a connection in the clear.
 *
 *   secure_connect(&s->secure, ...) or secure_accept(&s->secure, ...)
 *   error = secure_feed(&s->secure, bytes, on_plaintext, who);     what came
 *   error = secure_write(&s->secure, slices, count);               once it is open; the slices are free again
 *   bytes = secure_next(&s->secure);                               to be sent next; they stay where they are until
 *   secure_sent(&s->secure, n);                                    n of them are gone
 *
 * Owner: one thread, as of the slab.
 */
#ifndef BENCH_LIB_SECURE_H
#define BENCH_LIB_SECURE_H

#include <sys/uio.h>

#include "net/tls/client.h"
#include "net/tls/server.h"
#include "net/tls/tls.h"

/* More than anybody has: what a load tool takes is bounded by its sessions. */
#define SECURE_SLAB_BYTES (UINT64_C(1) << 40)

struct secure {
  struct tls *tls; /* NULL: in the clear */
  struct slab *_slab;
  struct buffer _waiting; /* behind what is under way */
  struct buffer _under_way;
  size_t _sent; /* of what is under way */
};

/* Whatever the certificate; resumes the session if it is not NULL. False: no memory. */
must_check bool secure_connect(struct secure *secure, struct tls_client *client, const struct tls_session *session, struct slab *slab);
must_check bool secure_accept(struct secure *secure, struct tls_server *server, struct slab *slab);
/* The connection is gone, and no byte of it is with the kernel: zeros again. */
void secure_clear(struct secure *secure);

/* As tls_feed. */
must_check int secure_feed(struct secure *secure, struct span bytes, tls_take *take, void *who);
/* As tls_write; at most IOV_MAX of them. */
must_check int secure_write(struct secure *secure, const struct iovec *slices, unsigned count);
void secure_close(struct secure *secure); /* close_notify */

struct span secure_next(struct secure *secure); /* empty: nothing */
void secure_sent(struct secure *secure, size_t n);

#endif
