#include "net/tls/client.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "core/base/error.h"
#include "net/tls/inside.h"

struct tls_client {
  atomic_uint refs;
  uint64_t id;
  struct WOLFSSL_CTX *ctx;
  struct trust_store *authorities; /* NULL: none */
  struct certificate certificate;  /* key NULL: none */
};

static int load_authorities(struct tls_client *client, const char *file, struct fmt *why, struct fmt *warnings) {
  client->authorities = trust_store_load(file, file == NULL ? warnings : why);
  if (client->authorities == NULL && file == NULL) fmt_char(warnings, '\n');
  return client->authorities == NULL && file != NULL ? E_SYNTAX : E_OK;
}

static int load(struct tls_client *client, const struct tls_client_config *config, uint64_t wall_ms, struct fmt *why, struct fmt *warnings) {
  int error = load_authorities(client, config->ca, why, warnings);
  if (error != E_OK) return error;
  client->ctx = context_new(false, config->least, config->most, config->x25519);
  if (client->ctx == NULL) {
    fmt_text(why, "the TLS library makes no context");
    return E_UNSUPPORTED;
  }
  context_ask(client->ctx);
  context_resume(client->ctx);
  if (config->certificate == NULL) return E_OK;
  error = certificate_load(&client->certificate, config->certificate->cert, config->certificate->key, wall_ms, why, warnings);
  if (error != E_OK) return error;
  if (context_certificate(client->ctx, &client->certificate)) return E_OK;
  fmt_text(why, config->certificate->cert);
  fmt_text(why, ": the TLS library does not take it");
  return E_UNSUPPORTED;
}

int tls_client_new(struct tls_client **client, const struct tls_client_config *config, uint64_t wall_ms, struct fmt *why, struct fmt *warnings) {
  static atomic_uint_fast64_t last_id;
  *client = NULL;
  struct tls_client *made = calloc(1, sizeof *made);
  if (made == NULL) return E_NO_MEMORY;
  atomic_init(&made->refs, 1);
  made->id = atomic_fetch_add(&last_id, 1) + 1;
  int error = load(made, config, wall_ms, why, warnings);
  if (error == E_OK)
    *client = made;
  else
    tls_client_put(made);
  return error;
}

struct tls_client *tls_client_share(struct tls_client *client) {
  atomic_fetch_add(&client->refs, 1);
  return client;
}

void tls_client_put(struct tls_client *client) {
  if (client == NULL || atomic_fetch_sub(&client->refs, 1) != 1) return;
  context_free(client->ctx);
  certificate_clear(&client->certificate);
  trust_store_free(client->authorities);
  free(client);
}

struct WOLFSSL_CTX *tls_client_ctx(const struct tls_client *client) {
  return client->ctx;
}
struct evp_pkey_st *tls_client_key(const struct tls_client *client) {
  return client->certificate.key;
}
struct trust_store *tls_client_authorities(const struct tls_client *client) {
  return client->authorities;
}
uint64_t tls_client_id(const struct tls_client *client) { return client->id; }
