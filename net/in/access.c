#include "net/in/access.h"

static bool is_among(const struct network *networks, unsigned count, const struct netaddr *peer) {
  for (unsigned i = 0; i < count; i++)
    if (network_contains(&networks[i], peer)) return true;
  return false;
}

bool access_may_relay(const struct conf *conf, const struct netaddr *peer) { return is_among(conf->relay_from, conf->relay_from_count, peer); }

bool access_is_limited(const struct conf *conf, const struct netaddr *peer) {
  return !is_among(conf->clients_except, conf->clients_except_count, peer);
}
