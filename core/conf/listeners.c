#include "core/conf/listeners.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/base/error.h"
#include "core/conf/dns_lists.h"
#include "core/conf/value.h"

enum { SMTP_PORT = 25, SUBMISSIONS_PORT = 465, SUBMISSION_PORT = 587 };

static const char *const tls_words[] = {[CONF_TLS_NONE] = "none", [CONF_TLS_STARTTLS] = "starttls", [CONF_TLS_IMPLICIT] = "implicit"};
static const char *const auth_words[] = {[CONF_AUTH_OFF] = "off", [CONF_AUTH_OPTIONAL] = "optional", [CONF_AUTH_REQUIRED] = "required"};
static const char *const certificate_words[] = {
    [CONF_CLIENTS_UNASKED] = "off", [CONF_CLIENTS_ASKED] = "optional", [CONF_CLIENTS_REQUIRED] = "required"};

/* ---- certificates and users ---- */

static int read_certificate(struct conf *conf, const struct raw *raw, unsigned index, const struct reading *r) {
  const struct raw_certificate *from = &raw->tls.certificates[index];
  struct conf_certificate *to = &conf->certificates[index];
  char base[64], path[80];
  snprintf(base, sizeof base, "tls.certificates[%u]", index);
  if (from->cert == NULL || from->key == NULL)
    return reading_error(r, E_SYNTAX, base, "has no %s; it needs both files (like {cert: /etc/ringpost/cert.pem, key: /etc/ringpost/key.pem})",
                         from->cert == NULL ? "cert" : "key");
  snprintf(path, sizeof path, "%s.cert", base);
  int error = value_path(&to->cert, from->cert, path, r);
  snprintf(path, sizeof path, "%s.key", base);
  return error == E_OK ? value_path(&to->key, from->key, path, r) : error;
}

static int read_certificates(struct conf *conf, const struct raw *raw, const struct reading *r) {
  int error = value_path(&conf->client_ca, raw->tls.client_ca, "tls.client_ca", r);
  if (error != E_OK || raw->tls.certificates_count == 0) return error;
  conf->certificates = calloc(raw->tls.certificates_count, sizeof *conf->certificates);
  if (conf->certificates == NULL) return E_NO_MEMORY;
  conf->certificates_count = raw->tls.certificates_count;
  for (unsigned i = 0; error == E_OK && i < raw->tls.certificates_count; i++) error = read_certificate(conf, raw, i, r);
  return error;
}

/* ---- one listener ---- */

struct entry {
  struct conf *conf;
  const struct raw_listener *from;
  struct conf_listener *to;
  const struct reading *r;
  char base[64], path[96];
};

static const char *path_of(struct entry *e, const char *key) {
  snprintf(e->path, sizeof e->path, "%s.%s", e->base, key);
  return e->path;
}

static int refuse_second(struct entry *e) {
  const struct netaddr *address = &e->to->address;
  char text[64];
  struct fmt out = fmt_over(text, sizeof text - 1);
  if (address->port == 0) return E_OK; /* any free port: as many as you like */
  for (const struct conf_listener *other = e->conf->listeners; other < e->to; other++) {
    if (!netaddr_equal(&other->address, address)) continue;
    netaddr_format_with_port(address, &out);
    text[out.len] = '\0';
    return reading_error(e->r, E_SYNTAX, e->base, "%s is listed already, as listeners[%td]; give each address and port once", text,
                         other - e->conf->listeners);
  }
  return E_OK;
}

static int read_address(struct entry *e) {
  uint16_t port = SMTP_PORT;
  int error = E_OK;
  e->to->address = (struct netaddr){.family = 4}; /* an entry of a list is whole or wrong: its defaults are part of its meaning */
  if (e->from->address != NULL) error = value_address(&e->to->address, e->from->address, path_of(e, "address"), e->r);
  if (error == E_OK && e->from->port != NULL) error = setting_port(&port, e->from->port, 0, path_of(e, "port"), e->r);
  e->to->address.port = port;
  return error == E_OK ? refuse_second(e) : error;
}

/* With a certificate there is no reason not to offer TLS, and 465 is for nothing else (RFC 8314 3.3). */
static int read_tls(struct entry *e) {
  bool has_certificate = e->conf->certificates_count > 0;
  unsigned mode = !has_certificate ? CONF_TLS_NONE : e->to->address.port == SUBMISSIONS_PORT ? CONF_TLS_IMPLICIT : CONF_TLS_STARTTLS;
  int error = E_OK;
  if (e->from->tls != NULL) error = value_choice(&mode, e->from->tls, tls_words, 3, path_of(e, "tls"), e->r);
  if (error == E_OK && mode != CONF_TLS_NONE && !has_certificate)
    error = reading_error(e->r, E_SYNTAX, path_of(e, "tls"), "%s needs a certificate; add tls.certificates: [{cert: .., key: ..}]", tls_words[mode]);
  e->to->tls = (enum conf_tls)mode;
  return error;
}

static int read_client_certificates(struct entry *e) {
  unsigned mode = CONF_CLIENTS_UNASKED;
  const char *path = path_of(e, "client_certificates");
  if (e->from->client_certificates == NULL) return E_OK;
  int error = value_choice(&mode, e->from->client_certificates, certificate_words, 3, path, e->r);
  if (error == E_OK && mode != CONF_CLIENTS_UNASKED && e->to->tls == CONF_TLS_NONE)
    error = reading_error(e->r, E_SYNTAX, path, "%s needs TLS; this listener has none", certificate_words[mode]);
  if (error == E_OK && mode != CONF_CLIENTS_UNASKED && e->conf->client_ca == NULL)
    error = reading_error(e->r, E_SYNTAX, path, "%s needs tls.client_ca, the authorities whose certificates count", certificate_words[mode]);
  e->to->client_certificates = (enum conf_clients)mode;
  return error;
}

static bool is_submission_port(const struct entry *e) { return e->to->address.port == SUBMISSION_PORT || e->to->address.port == SUBMISSIONS_PORT; }

/* Ports for submission are for users (RFC 6409 4.3); elsewhere those who may relay without a name go on as before. */
static int read_auth(struct entry *e) {
  bool is_safe = e->to->tls != CONF_TLS_NONE || e->to->auth_in_clear;
  unsigned mode = e->conf->users_path == NULL || !is_safe ? CONF_AUTH_OFF : is_submission_port(e) ? CONF_AUTH_REQUIRED : CONF_AUTH_OPTIONAL;
  int error = E_OK;
  if (e->from->auth != NULL) error = value_choice(&mode, e->from->auth, auth_words, 3, path_of(e, "auth"), e->r);
  if (error == E_OK && mode != CONF_AUTH_OFF && e->conf->users_path == NULL)
    error = reading_error(e->r, E_SYNTAX, path_of(e, "auth"), "%s needs users; add a line like `users: /etc/ringpost/users`", auth_words[mode]);
  if (error == E_OK && mode != CONF_AUTH_OFF && !is_safe)
    error =
        reading_error(e->r, E_SYNTAX, path_of(e, "auth"),
                      "%s without TLS would let passwords travel in the clear; give the listener tls, or say auth_in_clear: true", auth_words[mode]);
  e->to->auth = (enum conf_auth)mode;
  return error;
}

static int read_switch(struct entry *e, bool *to, const char *text, const char *key, bool fallback) {
  *to = fallback;
  return text == NULL ? E_OK : setting_switch(to, text, path_of(e, key), e->r);
}

static int read_listener(struct conf *conf, const struct raw *raw, unsigned index, const struct reading *r) {
  struct entry e = {.conf = conf, .from = &raw->listeners[index], .to = &conf->listeners[index], .r = r};
  snprintf(e.base, sizeof e.base, "listeners[%u]", index);
  int error = read_address(&e);
  if (error == E_OK) error = read_tls(&e);
  if (error == E_OK) error = read_client_certificates(&e);
  if (error == E_OK) error = read_switch(&e, &e.to->auth_in_clear, e.from->auth_in_clear, "auth_in_clear", false);
  if (error == E_OK) error = read_auth(&e);
  if (error == E_OK) error = read_switch(&e, &e.to->submission, e.from->submission, "submission", is_submission_port(&e));
  if (error == E_OK)
    error = value_networks(&e.to->proxy_from, &e.to->proxy_from_count, e.from->proxy_from, e.from->proxy_from_count, path_of(&e, "proxy_from"), r);
  return error == E_OK ? dns_lists_read(&e.to->dns_lists, e.from, e.base, r) : error;
}

/* ---- all ---- */

int listeners_read(struct conf *conf, const struct raw *raw, const struct reading *r) {
  int error = read_certificates(conf, raw, r);
  if (error == E_OK) error = value_path(&conf->users_path, raw->users, "users", r);
  if (error == E_OK) error = value_networks(&conf->relay_from, &conf->relay_from_count, raw->relay_from, raw->relay_from_count, "relay_from", r);
  if (error == E_OK)
    error = value_networks(&conf->clients_except, &conf->clients_except_count, raw->clients.except, raw->clients.except_count, "clients.except", r);
  if (error != E_OK) return error;
  if (raw->listeners_count == 0)
    return reading_error(r, E_SYNTAX, "listeners", "is missing; at least one is needed, like [{address: \"0.0.0.0\", port: 25}]");
  conf->listeners = calloc(raw->listeners_count, sizeof *conf->listeners);
  if (conf->listeners == NULL) return E_NO_MEMORY;
  conf->listeners_count = raw->listeners_count;
  for (unsigned i = 0; error == E_OK && i < raw->listeners_count; i++) error = read_listener(conf, raw, i, r);
  return error;
}

static int copy_networks(struct network **to, unsigned *to_count, const struct network *from, unsigned count) {
  if (*to_count > 0) return E_OK;
  *to = calloc(count, sizeof **to);
  if (*to == NULL) return E_NO_MEMORY;
  memcpy(*to, from, count * sizeof **to);
  *to_count = count;
  return E_OK;
}

int listeners_default(struct conf *conf) {
  static const struct network loopback[] = {{.base = {.family = 4, .bytes = {127}}, .prefix_bits = 8},
                                            {.base = {.family = 6, .bytes = {[15] = 1}}, .prefix_bits = 128}};
  int error = copy_networks(&conf->relay_from, &conf->relay_from_count, loopback, 2);
  return error == E_OK ? copy_networks(&conf->clients_except, &conf->clients_except_count, conf->relay_from, conf->relay_from_count) : error;
}

void listeners_free(struct conf *conf) {
  for (unsigned i = 0; i < conf->listeners_count; i++) {
    free(conf->listeners[i].proxy_from);
    dns_lists_put(conf->listeners[i].dns_lists);
  }
  free(conf->listeners);
  free(conf->relay_from);
  free(conf->clients_except);
  for (unsigned i = 0; i < conf->certificates_count; i++) {
    free(conf->certificates[i].cert);
    free(conf->certificates[i].key);
  }
  free(conf->certificates);
  free(conf->client_ca);
  free(conf->users_path);
}
