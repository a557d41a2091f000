/*
 * access: who may do what on the incoming side. Pure decisions over the configuration.
 */
#ifndef NET_IN_ACCESS_H
#define NET_IN_ACCESS_H

#include "core/conf/conf.h"

/* May this address relay, i.e. hand over mail for any domain, without AUTH? */
bool access_may_relay(const struct conf *conf, const struct netaddr *peer);
/* Do limits for clients hold for it? */
bool access_is_limited(const struct conf *conf, const struct netaddr *peer);
/*
 * Is it one of those that relay_from or clients.except name, so that no DNS list counts? A network of all addresses (0.0.0.0/0) names nobody: a relay that takes mail for its routes from
 * everywhere has it in relay_from.
 */
bool access_is_trusted(const struct conf *conf, const struct netaddr *peer);

#endif
