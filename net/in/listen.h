/*
 * listen: opens the listeners of the configuration, and says what is wrong with one in the words of its key.
 */
#ifndef NET_IN_LISTEN_H
#define NET_IN_LISTEN_H

#include "core/conf/conf.h"
#include "core/io/io.h"

/*
 * One socket for each of conf->listeners; listener[i] stays IO_NONE from the first that fails on. Shard 0 comes first (io_listen). E_BUSY, E_NO_ADDRESS
 * and others, with key and address in `why`.
 */
must_check int listen_all(struct io *io, const struct conf *conf, unsigned shard, io_socket *listener, struct fmt *why);

#endif
