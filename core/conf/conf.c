#include "core/conf/conf.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/base/error.h"
#include "core/base/map.h"
#include "core/conf/listeners.h"
#include "core/conf/outline.h"
#include "core/conf/routes.h"
#include "core/conf/setting.h"
#include "core/conf/sites.h"
#include "core/conf/system.h"
#include "core/conf/value.h"

enum {
  FILE_BYTES_MAX = 16 << 20,
  SMTP_PORT = 25,
  DNS_PORT = 53,
  HTTP_PORT = 8025,
};

/*
 * A long message goes through memory in parts of 1 MiB and a little: room for one that comes in, one that goes out, and as much again for all else. With less
 * there might never be room for a part, and its message would never leave.
 */

/* ---- validation, key by key: what is given is checked and taken over, what is missing stays zero ---- */

static int read_hostname(struct conf *conf, const struct raw *raw, const struct reading *r) {
  char quoted[REPORT_QUOTE_ROOM];
  if (raw->hostname == NULL) return E_OK;
  if (!setting_is_name(span_of_text(raw->hostname)))
    return reading_error(r, E_SYNTAX, "hostname", "%s is no host name (like relay.example.net)", report_quote(quoted, span_of_text(raw->hostname)));
  return value_copy(&conf->hostname, raw->hostname);
}

static int read_user(struct conf *conf, const struct raw *raw, const struct reading *r) {
  if (raw->user == NULL) return E_OK;
  if (raw->user[0] == '\0') return reading_error(r, E_SYNTAX, "user", "is empty; it must name a user of this system");
  return value_copy(&conf->user, raw->user);
}

static int read_spool(struct conf *conf, const struct raw *raw, const struct reading *r) {
  static const char *const words[] = {[CONF_SYNC] = "sync", [CONF_LAZY] = "lazy", [CONF_MEMORY] = "memory"};
  unsigned choice = CONF_SYNC;
  int error = value_path(&conf->spool_path, raw->spool.path, "spool.path", r);
  if (error == E_OK && raw->spool.durability != NULL) error = value_choice(&choice, raw->spool.durability, words, 3, "spool.durability", r);
  conf->durability = (enum conf_durability)choice;
  return error;
}

static int read_dns_servers(struct conf *conf, const struct raw *raw, const struct reading *r) {
  if (raw->dns.servers_count == 0) return E_OK;
  return value_addresses(&conf->dns_servers, &conf->dns_servers_count, raw->dns.servers, raw->dns.servers_count, DNS_PORT, "dns.servers", r);
}

static int read_sources(struct conf *conf, const struct raw *raw, const struct reading *r) {
  char path[64];
  for (unsigned i = 0; i < raw->delivery.source_count; i++) {
    struct netaddr address;
    snprintf(path, sizeof path, "delivery.source[%u]", i);
    int error = value_address(&address, raw->delivery.source[i], path, r);
    if (error != E_OK) return error;
    struct netaddr *to = address.family == 4 ? &conf->source_v4 : &conf->source_v6;
    if (to->family != 0) return reading_error(r, E_SYNTAX, path, "is a second IPv%u address; at most one of each family is possible", address.family);
    *to = address;
  }
  return E_OK;
}

static int read_security(struct conf *conf, const struct raw *raw, const struct reading *r) {
  int error = value_path(&conf->tls_ca, raw->tls.ca, "tls.ca", r);
  if (error == E_OK) error = value_security(&conf->delivery_tls, raw->delivery.tls, false, "delivery.tls", r);
  if (error != E_OK || raw->delivery.mta_sts_server == NULL) return error;
  return value_address_with_port(&conf->mta_sts_server, raw->delivery.mta_sts_server, 443, "delivery.mta_sts_server", r);
}

static int read_http(struct conf *conf, const struct raw *raw, const struct reading *r) {
  int error = E_OK;
  if (raw->http.address != NULL) error = value_address(&conf->http, raw->http.address, "http.address", r);
  if (error == E_OK && raw->http.port != NULL) error = setting_port(&conf->http.port, raw->http.port, 0, "http.port", r);
  return error;
}

static int read_retry_factor(struct conf *conf, const struct raw *raw, const struct reading *r) {
  return raw->queue.retry_factor == NULL ? E_OK : setting_factor(&conf->retry_factor, raw->queue.retry_factor, "queue.retry_factor", r);
}

static int read_events_path(struct conf *conf, const struct raw *raw, const struct reading *r) {
  return value_path(&conf->events_path, raw->events.path, "events.path", r);
}

typedef int (*reader)(struct conf *conf, const struct raw *raw, const struct reading *r);
static const reader readers[] = {setting_read_all, read_hostname, read_user,  read_spool, listeners_read,    read_dns_servers, read_sources,
                                 read_security,    routes_read,   sites_read, read_http,  read_retry_factor, read_events_path};

/* ---- defaults ---- */

static int default_hostname(struct conf *conf, const struct conf_system *system, const struct reading *r) {
  char quoted[REPORT_QUOTE_ROOM];
  struct span name = span_of_text(system->hostname);
  if (conf->hostname != NULL) return E_OK;
  if (!setting_is_name(name) || span_find(name, '.') < 0)
    return reading_error(r, E_SYNTAX, "hostname",
                         "is missing, and this system's own name %s has no domain to stand for it; add a line like `hostname: relay.example.net`",
                         report_quote(quoted, name));
  return value_copy(&conf->hostname, system->hostname);
}

static int default_dns_servers(struct conf *conf, const struct conf_system *system) {
  static const struct netaddr local = {.family = 4, .port = DNS_PORT, .bytes = {127, 0, 0, 1}};
  unsigned count = system->resolvers_count > 0 ? system->resolvers_count : 1;
  if (conf->dns_servers_count > 0) return E_OK;
  conf->dns_servers = calloc(count, sizeof *conf->dns_servers);
  if (conf->dns_servers == NULL) return E_NO_MEMORY;
  memcpy(conf->dns_servers, system->resolvers_count > 0 ? system->resolvers : &local, count * sizeof *conf->dns_servers);
  conf->dns_servers_count = count;
  return E_OK;
}

/* On the way from another machine anybody may set the AD bit; on this one only the server, if it validates. */
static void default_dnssec(struct conf *conf, const struct raw *raw) {
  static const struct network loopback[] = {{{.family = 4, .bytes = {127}}, 8}, {{.family = 6, .bytes = {[15] = 1}}, 128}};
  if (raw->dns.dnssec != NULL) return;
  conf->dns_dnssec = true;
  for (unsigned i = 0; i < conf->dns_servers_count; i++) {
    const struct netaddr *server = &conf->dns_servers[i];
    if (!network_contains(&loopback[0], server) && !network_contains(&loopback[1], server)) conf->dns_dnssec = false;
  }
}

static void default_http(struct conf *conf, const struct raw *raw) {
  static const uint8_t loopback[4] = {127, 0, 0, 1};
  if (raw->http.address == NULL && raw->http.port == NULL) return; /* no endpoint */
  if (raw->http.port == NULL) conf->http.port = HTTP_PORT;
  if (raw->http.address != NULL) return;
  conf->http.family = 4;
  memcpy(conf->http.bytes, loopback, sizeof loopback);
}

static uint64_t most(uint64_t a, uint64_t b) { return a > b ? a : b; }

static int set_defaults(struct conf *conf, const struct raw *raw, const struct conf_system *system, const struct reading *r) {
  static const uint64_t memory_floor_bytes = (uint64_t)64 << 20;
  setting_default_all(conf, raw);
  if (conf->shards == 0) conf->shards = system->cores < 256 ? system->cores : 256;
  if (conf->memory_bytes == 0) conf->memory_bytes = most(system->memory_bytes / 4, most(memory_floor_bytes, conf->shards * CONF_SHARD_MEMORY_MIN));
  if (conf->retry_factor == 0) conf->retry_factor = 2;
  if (raw->delivery.tls == NULL) conf->delivery_tls = CONF_SECURITY_OPPORTUNISTIC;
  sites_default(conf, raw);
  routes_default(conf, raw);
  default_http(conf, raw);
  int error = default_hostname(conf, system, r);
  if (error == E_OK) error = listeners_default(conf);
  if (error == E_OK) error = default_dns_servers(conf, system);
  if (error == E_OK) default_dnssec(conf, raw);
  if (raw->delivery.dane == NULL) conf->dane = conf->dns_dnssec;
  if (error == E_OK && conf->spool_path == NULL) error = value_copy(&conf->spool_path, "/var/spool/ringpost");
  return error;
}

/* ---- what must fit together ---- */

static int check_proofs(const struct conf *conf, const struct raw *raw, const struct reading *r) {
  if (conf->dane && !conf->dns_dnssec)
    return reading_error(r, E_RANGE, "delivery.dane",
                         "needs dns.dnssec, which is %s; with a resolver that validates, and that nobody can stand before, say dns.dnssec: true",
                         raw->dns.dnssec != NULL ? raw->dns.dnssec : "false as not all dns.servers are on this machine");
  bool is_clear = conf->delivery_tls == CONF_SECURITY_NONE;
  if (is_clear && raw->delivery.dane != NULL && conf->dane)
    return reading_error(r, E_RANGE, "delivery.dane", "has no meaning with delivery.tls: none");
  if (is_clear && raw->delivery.mta_sts != NULL && conf->mta_sts)
    return reading_error(r, E_RANGE, "delivery.mta_sts", "has no meaning with delivery.tls: none");
  return E_OK;
}

static int check_together(const struct conf *conf, const struct raw *raw, const struct reading *r) {
  if (conf->retry_initial_ms > conf->retry_max_ms)
    return reading_error(r, E_RANGE, raw->queue.retry_initial != NULL ? "queue.retry_initial" : "queue.retry_max",
                         "retry_initial (%s) must not be longer than retry_max (%s)",
                         raw->queue.retry_initial != NULL ? raw->queue.retry_initial : "default: 5m",
                         raw->queue.retry_max != NULL ? raw->queue.retry_max : "default: 4h");
  if (conf->spool_max_bytes > 0 && conf->spool_max_bytes / conf->shards < CONF_SPOOL_MIN)
    return reading_error(r, E_RANGE, "spool.max_size", "%s is less than 24MiB for each of the %u shards", raw->spool.max_size, conf->shards);
  if (conf->memory_bytes / conf->shards < CONF_SHARD_MEMORY_MIN)
    return reading_error(r, E_RANGE, "limits.memory", "%s is less than 4MiB for each of the %u shards", raw->limits.memory, conf->shards);
  int error = routes_check(conf, r);
  if (error == E_OK) error = check_proofs(conf, raw, r);
  return error == E_OK ? sites_check(conf, raw, r) : error;
}

/* ---- the whole ---- */

static int build(struct conf *conf, const struct raw *raw, const struct conf_system *system, const struct reading *r) {
  int error = E_OK;
  for (size_t i = 0; error == E_OK && i < sizeof readers / sizeof *readers; i++) error = readers[i](conf, raw, r);
  if (error == E_OK) error = set_defaults(conf, raw, system, r);
  if (error == E_OK) error = check_together(conf, raw, r);
  return error;
}

int conf_parse_on(struct conf *conf, const struct conf_system *system, struct span text, const char *name, struct fmt *why) {
  static const struct raw nothing = {0};
  struct report report = {name, why};
  struct reading reading = {text.len == 0 ? SPAN("") : text, &report};
  struct raw *raw = NULL;
  *conf = (struct conf){0};
  int error = outline_check(reading.text, &report);
  if (error == E_OK) error = raw_load(&raw, reading.text, &report);
  if (error == E_OK) error = build(conf, raw != NULL ? raw : &nothing, system, &reading);
  raw_free(raw);
  if (error == E_NO_MEMORY) (void)report_error(&report, error, 0, "", "%s", error_text(error));
  if (error != E_OK) conf_free(conf);
  return error;
}

int conf_parse(struct conf *conf, struct span text, const char *name, struct fmt *why) {
  struct conf_system system;
  system_look(&system);
  return conf_parse_on(conf, &system, text, name, why);
}

int conf_read(struct conf *conf, const char *path, struct fmt *why) {
  struct report report = {path, why};
  uint8_t *bytes;
  size_t len;
  *conf = (struct conf){0};
  int error = system_read_file(path, FILE_BYTES_MAX, &bytes, &len);
  if (error == E_TOO_LONG) return report_error(&report, E_RANGE, 0, "", "the file is larger than %d MiB", FILE_BYTES_MAX >> 20);
  if (error != E_OK) return report_error(&report, error, 0, "", "the file cannot be read: %s", error_text(error));
  error = conf_parse(conf, span_of(bytes, len), path, why);
  struct reading reading = {span_of(bytes, len), &report};
  if (error == E_OK) error = routes_read_passwords(conf, &reading);
  free(bytes);
  if (error != E_OK) conf_free(conf);
  return error;
}

void conf_free_but_sites(struct conf *conf) {
  struct conf kept = {.sites = conf->sites, .sites_count = conf->sites_count, .site_patterns = conf->site_patterns};
  routes_free(conf);
  free(conf->tls_ca);
  free(conf->hostname);
  free(conf->user);
  free(conf->spool_path);
  listeners_free(conf);
  free(conf->dns_servers);
  free(conf->events_path);
  *conf = kept;
}

void conf_free(struct conf *conf) {
  conf_free_but_sites(conf);
  sites_free(conf);
  *conf = (struct conf){0};
}
