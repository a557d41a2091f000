/*
 * client: what connections that go out have in common: whom they trust, and the certificate they show if they are asked. Immutable, refcounted, any thread.
 */
#ifndef NET_TLS_CLIENT_H
#define NET_TLS_CLIENT_H

#include "core/base/fmt.h"
#include "core/base/must.h"
#include "net/tls/server.h"

struct tls_client;

struct tls_client_config {
  const char *ca; /* trusted authorities, PEM; NULL: the system's */
  enum tls_least least;
  enum tls_most most;
  bool x25519;                         /* first, whatever costs less here */
  const struct tls_files *certificate; /* NULL: none */
};

/* As tls_server_new. Without the system's authorities (none installed) nothing verifies; that is a warning. */
must_check int tls_client_new(struct tls_client **client, const struct tls_client_config *config, uint64_t wall_ms, struct fmt *why,
                              struct fmt *warnings);
struct tls_client *tls_client_share(struct tls_client *client);
void tls_client_put(struct tls_client *client);

/* ---- for net/tls alone ---- */
struct WOLFSSL_CTX *tls_client_ctx(const struct tls_client *client);
struct evp_pkey_st *tls_client_key(const struct tls_client *client);
struct trust_store *tls_client_authorities(const struct tls_client *client);
uint64_t tls_client_id(const struct tls_client *client); /* no two clients of a process have the same */

#endif
