#include "net/in/access.h"

bool access_may_relay(const struct conf *conf, const struct netaddr *peer) {
  for (unsigned i = 0; i < conf->relay_from_count; i++)
    if (network_contains(&conf->relay_from[i], peer)) return true;
  return false;
}
