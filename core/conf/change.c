#include "core/conf/change.h"

#include <string.h>

#include "core/conf/routes.h"

static bool same_text(const char *a, const char *b) { return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0; }

static bool same_addresses(const struct netaddr *a, unsigned a_count, const struct netaddr *b, unsigned b_count) {
  bool same = a_count == b_count;
  for (unsigned i = 0; same && i < a_count; i++) same = netaddr_equal(&a[i], &b[i]);
  return same;
}

const char *conf_needs_restart(const struct conf *a, const struct conf *b) {
  const struct {
    const char *key;
    bool same;
  } fixed[] = {
      {"hostname", same_text(a->hostname, b->hostname)},
      {"shards", a->shards == b->shards},
      {"user", same_text(a->user, b->user)},
      {"sandbox", a->sandbox == b->sandbox},
      {"spool.path", same_text(a->spool_path, b->spool_path)},
      {"spool.durability", a->durability == b->durability},
      {"spool.segment_size", a->segment_size_bytes == b->segment_size_bytes},
      {"spool.max_size", a->spool_max_bytes == b->spool_max_bytes},
      {"spool.min_free", a->spool_min_free_bytes == b->spool_min_free_bytes},
      {"dns.servers", same_addresses(a->dns_servers, a->dns_servers_count, b->dns_servers, b->dns_servers_count)},
      {"dns.timeout", a->dns_timeout_ms == b->dns_timeout_ms},
      {"dns.ipv6", a->dns_ipv6 == b->dns_ipv6},
      {"dns.dnssec", a->dns_dnssec == b->dns_dnssec},
      {"delivery.mta_sts_server", same_addresses(&a->mta_sts_server, 1, &b->mta_sts_server, 1)},
      {"users", same_text(a->users_path, b->users_path)},
      {"events.path", same_text(a->events_path, b->events_path)},
      {"events.file_size", a->events_file_size_bytes == b->events_file_size_bytes},
      {"events.files", a->events_files_max == b->events_files_max},
      {"http.address, http.port", same_addresses(&a->http, 1, &b->http, 1)},
  };
  for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
    if (!fixed[i].same) return fixed[i].key;
  return NULL;
}

static bool same_patterns(const struct conf_site *a, const struct conf_site *b) {
  bool same = a->match_count == b->match_count;
  for (unsigned i = 0; same && i < a->match_count; i++) same = strcmp(a->match[i].key, b->match[i].key) == 0;
  return same;
}

static bool same_settings(const struct conf_site *a, const struct conf_site *b) {
  return a->retry_initial_ms == b->retry_initial_ms && a->retry_max_ms == b->retry_max_ms && a->max_age_ms == b->max_age_ms &&
         !(a->retry_factor < b->retry_factor) && !(a->retry_factor > b->retry_factor) && a->retry_jitter_ppm == b->retry_jitter_ppm &&
         a->connections_per_site == b->connections_per_site && a->messages_per_connection == b->messages_per_connection && a->tls == b->tls &&
         a->tls_said == b->tls_said;
}

bool conf_same_limits(const struct conf *a, const struct conf *b) {
  bool same = a->sites_count == b->sites_count && a->connections_per_site == b->connections_per_site &&
              a->messages_per_connection == b->messages_per_connection && a->delivery_tls == b->delivery_tls;
  for (unsigned i = 0; same && i < a->sites_count; i++) same = same_patterns(&a->sites[i], &b->sites[i]) && same_settings(&a->sites[i], &b->sites[i]);
  return same;
}

bool conf_same_routes(const struct conf *a, const struct conf *b) {
  bool same = a->routes_count == b->routes_count && a->dane == b->dane && a->mta_sts == b->mta_sts;
  for (unsigned i = 0; same && i < a->routes_count; i++) same = routes_same(&a->routes[i], &b->routes[i]);
  return same;
}
