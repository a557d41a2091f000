#include "net/in/access.h"

bool access_may_relay(const struct conf *conf, const struct netaddr *peer) {
  return networks_contain(conf->relay_from, conf->relay_from_count, peer);
}

bool access_is_limited(const struct conf *conf, const struct netaddr *peer) {
  return !networks_contain(conf->clients_except, conf->clients_except_count, peer);
}

static bool names(const struct network *networks, unsigned count, const struct netaddr *peer) {
  for (unsigned i = 0; i < count; i++)
    if (networks[i].prefix_bits > 0 && network_contains(&networks[i], peer)) return true;
  return false;
}

bool access_is_trusted(const struct conf *conf, const struct netaddr *peer) {
  return names(conf->relay_from, conf->relay_from_count, peer) || names(conf->clients_except, conf->clients_except_count, peer);
}
