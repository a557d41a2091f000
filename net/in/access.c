#include "net/in/access.h"

bool access_may_relay(const struct conf *conf, const struct netaddr *peer) {
  return networks_contain(conf->relay_from, conf->relay_from_count, peer);
}

bool access_is_limited(const struct conf *conf, const struct netaddr *peer) {
  return !networks_contain(conf->clients_except, conf->clients_except_count, peer);
}
