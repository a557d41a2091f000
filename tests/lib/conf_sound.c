#include "tests/lib/conf_sound.h"

#include "core/conf/dns_lists.h"
#include "core/conf/routes.h"
#include "core/conf/setting.h"
#include "core/conf/sites.h"

struct ranges {
  const char *broken;
};

static void check_range(void *context, const char *path, uint64_t value, uint64_t min, uint64_t max) {
  struct ranges *ranges = context;
  if (value < min || value > max) ranges->broken = path;
}

static const char *unsound_list(const struct dns_list *list) {
  static const struct netaddr longest = {.family = 6,
                                         .bytes = {1, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11}};
  uint8_t room[DNS_LIST_SAYING_MAX];
  struct fmt saying = fmt_over(room, sizeof room);
  if (!setting_is_name(span_of_text(list->zone)) || strlen(list->zone) + 64 > 253) return "a DNS list whose questions are no names";
  for (const char *c = list->zone; *c != '\0'; c++)
    if (*c >= 'A' && *c <= 'Z') return "a DNS list's zone with a capital";
  if (list->weight == 0) return "a DNS list without weight";
  if (list->answers_count == 0) return "a DNS list of which no answer counts";
  for (unsigned i = 0; i < list->answers_count; i++)
    if (list->answers[i].base.family != 4 || list->answers[i].base.bytes[0] != 127 || list->answers[i].prefix_bits < 8)
      return "an answer out of order";
  dns_list_say(list, &longest, &saying);
  if (saying.overflow) return "a DNS list with too much to say";
  for (size_t i = 0; i < saying.len; i++)
    if (saying.at[i] < ' ' || saying.at[i] > '~') return "a DNS list that says what no reply may hold";
  return NULL;
}

static const char *unsound_lists(const struct dns_lists *lists) {
  int most = 0;
  const char *broken = NULL;
  for (unsigned i = 0; i < lists->count && broken == NULL; i++) {
    broken = unsound_list(&lists->list[i]);
    if (lists->list[i].weight > 0) most += lists->list[i].weight;
  }
  if (broken != NULL) return broken;
  return lists->threshold < 1 || lists->threshold > most || lists->timeout_ms == 0 ? "DNS lists that never decide anything" : NULL;
}

static const char *unsound_listeners(const struct conf *conf) {
  if (conf->listeners_count == 0) return "no listeners";
  for (unsigned i = 0; i < conf->listeners_count; i++) {
    const struct netaddr *one = &conf->listeners[i].address;
    if (one->family != 4 && one->family != 6) return "listener without a family";
    for (unsigned k = 0; k < i; k++)
      if (one->port != 0 && netaddr_equal(one, &conf->listeners[k].address)) return "two equal listeners";
    const struct conf_listener *listener = &conf->listeners[i];
    if (listener->tls != CONF_TLS_NONE && conf->certificates_count == 0) return "TLS without a certificate";
    if (listener->auth != CONF_AUTH_OFF && conf->users_path == NULL) return "AUTH without users";
    if (listener->auth != CONF_AUTH_OFF && listener->tls == CONF_TLS_NONE && !listener->auth_in_clear) return "AUTH in the clear";
    if (listener->client_certificates != CONF_CLIENTS_UNASKED && (listener->tls == CONF_TLS_NONE || conf->client_ca == NULL))
      return "client certificates that cannot be";
    const char *lists = listener->dns_lists == NULL ? NULL : unsound_lists(listener->dns_lists);
    if (lists != NULL) return lists;
  }
  return NULL;
}

static const char *unsound_addresses(const struct netaddr *addresses, unsigned count) {
  if (count == 0 || addresses == NULL) return "an empty list of addresses";
  for (unsigned i = 0; i < count; i++)
    if ((addresses[i].family != 4 && addresses[i].family != 6) || addresses[i].port == 0) return "an address without family or port";
  return NULL;
}

static const char *unsound_routes(const struct conf *conf) {
  for (unsigned i = 0; i < conf->routes_count; i++) {
    const struct conf_route *route = &conf->routes[i];
    if (route->domain == NULL || route->domain[0] == '\0') return "a route without a domain";
    for (const char *c = route->domain; *c != '\0'; c++)
      if (*c >= 'A' && *c <= 'Z') return "a route's domain with a capital";
    for (unsigned k = 0; k < i; k++)
      if (strcmp(route->domain, conf->routes[k].domain) == 0) return "two routes of one domain";
    if (routes_find(conf, span_of_text(route->domain)) != route) return "a route that is not found";
    if (route->tls > CONF_SECURITY_IMPLICIT || route->action > CONF_REJECT) return "a route that does what there is not";
    if ((route->user == NULL) != (route->password_file == NULL)) return "a user without a password, or a password without a user";
    if (route->user != NULL && route->tls == CONF_SECURITY_OPPORTUNISTIC) return "a password in the clear by chance";
    if (route->action != CONF_DELIVER) {
      if (route->hosts_count > 0 || route->user != NULL) return "a route that delivers and does not";
      continue;
    }
    const char *hosts = unsound_addresses(route->hosts, route->hosts_count);
    if (hosts != NULL) return hosts;
  }
  return NULL;
}

static const char *unsound_site(const struct conf *conf, const struct conf_site *site) {
  if (site->match_count == 0) return "a site without a pattern";
  for (unsigned i = 0; i < site->match_count; i++) {
    const char *key = site->match[i].key;
    for (const char *c = key; *c != '\0'; c++)
      if (*c >= 'A' && *c <= 'Z') return "a site's pattern with a capital";
    if (site->match[i].site >= conf->sites_count || &conf->sites[site->match[i].site] != site) return "a pattern of another site";
    if (sites_find(conf, span_of_text(key)) != site) return "a pattern that is not found, or never counts";
  }
  if (!(site->retry_factor >= 1 && site->retry_factor <= 100)) return "retry factor of a site";
  if (site->retry_initial_ms == 0 || site->retry_initial_ms > site->retry_max_ms) return "retry_initial of a site above its retry_max";
  if (site->retry_jitter_ppm > 500000) return "retry_jitter of a site";
  if (site->max_age_ms == 0 || site->connections_per_site == 0 || site->messages_per_connection == 0) return "a site's value that is missing";
  return NULL;
}

static const char *unsound_sites(const struct conf *conf) {
  for (unsigned i = 0; i < conf->sites_count; i++) {
    const char *broken = unsound_site(conf, &conf->sites[i]);
    if (broken != NULL) return broken;
  }
  return NULL;
}

static const char *unsound_networks(const struct conf *conf) {
  if (conf->relay_from_count == 0) return "no network may relay";
  for (unsigned i = 0; i < conf->relay_from_count; i++) {
    const struct network *network = &conf->relay_from[i];
    if (network->prefix_bits > (network->base.family == 4 ? 32 : 128)) return "a prefix that is too long";
    if (!network_contains(network, &network->base) && network->base.family != 6) return "a network without its own base";
  }
  return NULL;
}

const char *conf_unsound(const struct conf *conf) {
  struct ranges ranges = {NULL};
  const char *broken;
  setting_each(conf, check_range, &ranges);
  if (ranges.broken != NULL) return ranges.broken;
  if (conf->shards == 0) return "no shards";
  if (conf->memory_bytes == 0) return "no memory";
  if (conf->hostname == NULL || conf->hostname[0] == '\0') return "no hostname";
  if (conf->spool_path == NULL || conf->spool_path[0] == '\0') return "no spool path";
  if (conf->events_path != NULL && conf->events_path[0] == '\0') return "an empty events path";
  if (conf->users_path != NULL && conf->users_path[0] == '\0') return "an empty path of users";
  if (conf->durability != CONF_SYNC && conf->durability != CONF_LAZY && conf->durability != CONF_MEMORY) return "durability";
  if (!(conf->retry_factor >= 1 && conf->retry_factor <= 100)) return "retry factor";
  if (conf->retry_initial_ms > conf->retry_max_ms) return "retry_initial above retry_max";
  if (conf->spool_max_bytes > 0 && conf->spool_max_bytes / conf->shards < CONF_SPOOL_MIN) return "spool smaller than three of the smallest segments";
  if (conf->source_v4.family != 0 && conf->source_v4.family != 4) return "source_v4";
  if (conf->source_v6.family != 0 && conf->source_v6.family != 6) return "source_v6";
  if ((broken = unsound_listeners(conf)) != NULL) return broken;
  if ((broken = unsound_addresses(conf->dns_servers, conf->dns_servers_count)) != NULL) return broken;
  if ((broken = unsound_networks(conf)) != NULL) return broken;
  if ((broken = unsound_sites(conf)) != NULL) return broken;
  return unsound_routes(conf);
}
