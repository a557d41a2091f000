/*
 * server: certificates and rules for connections that come in. Immutable and refcounted: a reload makes a new one, connections keep theirs. Any thread.
 */
#ifndef NET_TLS_SERVER_H
#define NET_TLS_SERVER_H

#include "core/base/fmt.h"
#include "core/base/must.h"
#include "net/tls/hello.h"
#include "net/tls/tickets.h"

struct tls_server;
struct WOLFSSL_CTX;
struct evp_pkey_st;
struct trust_store;

enum tls_least { TLS_LEAST_1_2, TLS_LEAST_1_3 };
enum tls_most { TLS_MOST_1_3, TLS_MOST_1_2 }; /* 1.2: to test with, and for peers whose 1.3 is broken */

struct tls_files {  /* PEM */
  const char *cert; /* with its chain, the leaf first */
  const char *key;
};

#define TLS_CERTIFICATES_MAX 64

struct tls_server_config {
  const struct tls_files *certificates; /* at least one; the first one's names stand for a client that names no host, or one that none is for */
  unsigned certificate_count;
  enum tls_least least;
  enum tls_most most;
  const char *client_ca;       /* ask for certificates of these authorities, and tell what came of it; NULL: do not ask */
  struct tls_tickets *tickets; /* NULL: no resumption. Not given to clients while certificates are asked for: a ticket would not tell whose it is */
};

/* Borrows all of it. An error is appended to `why` and returned: E_NOT_FOUND, E_PERMISSION, E_SYNTAX, E_UNSUPPORTED, E_RANGE, E_NO_MEMORY. `warnings`: lines. */
must_check int tls_server_new(struct tls_server **server, const struct tls_server_config *config, uint64_t wall_ms, struct fmt *why,
                              struct fmt *warnings);
struct tls_server *tls_server_share(struct tls_server *server);
void tls_server_put(struct tls_server *server);

/* ---- for net/tls alone ---- */

struct tls_choice {
  struct WOLFSSL_CTX *ctx;
  struct evp_pkey_st *key;
};
/*
 * The certificate for this client: for the host it names, or else for the first one's names; of a kind that it takes; exact names before wildcards, ECDSA
 * before RSA, which costs twelve times the processor. False: it takes none.
 */
must_check bool tls_server_choose(const struct tls_server *server, const struct hello *hello, struct tls_choice *choice);
bool tls_server_speaks(const struct tls_server *server, const struct hello *hello); /* a version that the client has too */
struct tls_tickets *tls_server_tickets(const struct tls_server *server);            /* NULL: none */
struct trust_store *tls_server_authorities(const struct tls_server *server);        /* NULL: clients are not asked */

#endif
