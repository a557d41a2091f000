#include "net/tls/server.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "core/base/error.h"
#include "net/tls/inside.h"

struct site { /* a certificate with its context */
  struct certificate certificate;
  struct WOLFSSL_CTX *ctx;
};

struct tls_server {
  atomic_uint refs;
  bool tls12, tls13;
  struct tls_tickets *tickets;
  struct trust_store *authorities;
  unsigned count;
  struct site sites[];
};

static int load_site(struct site *site, const struct tls_server_config *config, const struct tls_files *files, uint64_t wall_ms, struct fmt *why,
                     struct fmt *warnings) {
  int error = certificate_load(&site->certificate, files->cert, files->key, wall_ms, why, warnings);
  if (error != E_OK) return error;
  site->ctx = context_new(true, config->least, config->most, false);
  if (site->ctx == NULL || !context_certificate(site->ctx, &site->certificate)) {
    fmt_text(why, files->cert);
    fmt_text(why, ": the TLS library does not take it");
    return E_UNSUPPORTED;
  }
  bool tickets = config->tickets != NULL && config->client_ca == NULL;
  context_tickets(site->ctx, tickets ? tls_tickets_period_s(config->tickets) : 0);
  if (config->client_ca != NULL) context_ask(site->ctx);
  return E_OK;
}

static int load(struct tls_server *server, const struct tls_server_config *config, uint64_t wall_ms, struct fmt *why, struct fmt *warnings) {
  server->tls12 = config->least == TLS_LEAST_1_2;
  server->tls13 = config->most == TLS_MOST_1_3;
  if (config->tickets != NULL && config->client_ca == NULL) server->tickets = tls_tickets_share(config->tickets);
  if (config->client_ca != NULL) {
    server->authorities = trust_store_load(config->client_ca, why);
    if (server->authorities == NULL) return E_SYNTAX;
  }
  int error = E_OK;
  for (unsigned i = 0; i < config->certificate_count && error == E_OK; i++) {
    server->count++;
    error = load_site(&server->sites[i], config, &config->certificates[i], wall_ms, why, warnings);
  }
  return error;
}

int tls_server_new(struct tls_server **server, const struct tls_server_config *config, uint64_t wall_ms, struct fmt *why, struct fmt *warnings) {
  *server = NULL;
  if (config->certificate_count == 0 || config->certificate_count > TLS_CERTIFICATES_MAX) {
    fmt_text(why, config->certificate_count == 0 ? "no certificate" : "more than 64 certificates");
    return E_RANGE;
  }
  struct tls_server *made = calloc(1, sizeof *made + config->certificate_count * sizeof made->sites[0]);
  if (made == NULL) return E_NO_MEMORY;
  atomic_init(&made->refs, 1);
  int error = load(made, config, wall_ms, why, warnings);
  if (error == E_OK)
    *server = made;
  else
    tls_server_put(made);
  return error;
}

struct tls_server *tls_server_share(struct tls_server *server) {
  atomic_fetch_add(&server->refs, 1);
  return server;
}

void tls_server_put(struct tls_server *server) {
  if (server == NULL || atomic_fetch_sub(&server->refs, 1) != 1) return;
  for (unsigned i = 0; i < server->count; i++) {
    context_free(server->sites[i].ctx);
    certificate_clear(&server->sites[i].certificate);
  }
  trust_store_free(server->authorities);
  tls_tickets_put(server->tickets);
  free(server);
}

bool tls_server_speaks(const struct tls_server *server, const struct hello *hello) {
  return (server->tls12 && hello->tls12) || (server->tls13 && hello->tls13);
}
struct tls_tickets *tls_server_tickets(const struct tls_server *server) {
  return server->tickets;
}
struct trust_store *tls_server_authorities(const struct tls_server *server) {
  return server->authorities;
}

/* ---- which certificate ---- */

/* 0: not for this client. */
static unsigned score(const struct site *site, struct span host, const struct hello *hello, bool tls13) {
  if (!hello_takes(hello, site->certificate.kind, tls13)) return 0;
  enum certificate_match match = host.len == 0 ? CERTIFICATE_OTHER : certificate_matches(&site->certificate, host);
  return match == CERTIFICATE_OTHER ? 0 : 2 * (unsigned)match + (site->certificate.kind != HELLO_KEY_RSA);
}

static const struct site *best_for(const struct tls_server *server, struct span host, const struct hello *hello) {
  const struct site *best = NULL;
  unsigned most = 0;
  for (unsigned i = 0; i < server->count; i++) {
    unsigned points = score(&server->sites[i], host, hello, server->tls13);
    if (points > most) best = &server->sites[i];
    if (points > most) most = points;
  }
  return best;
}

bool tls_server_choose(const struct tls_server *server, const struct hello *hello, struct tls_choice *choice) {
  const struct certificate *first = &server->sites[0].certificate;
  const struct site *site = best_for(server, hello->host, hello);
  if (site == NULL && first->name_count > 0) site = best_for(server, span_of_text(first->names[0]), hello);
  for (unsigned i = 0; site == NULL && i < server->count; i++)
    if (hello_takes(hello, server->sites[i].certificate.kind, server->tls13)) site = &server->sites[i];
  if (site == NULL) return false;
  *choice = (struct tls_choice){site->ctx, site->certificate.key};
  return true;
}
