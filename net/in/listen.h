/*
 * listen: opens the listeners of the configuration, at the start and when it changes, and says what is wrong with one in the words of its key.
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
/*
 * The listeners of `next` while those of `now` (at `open`) are at work: one that has the same address is taken over, others are opened. After an
 * error those that `is_new` names are open all the same, unless they are IO_NONE: listen_close_others closes them.
 */
must_check int listen_change(struct io *io, const struct conf *now, const io_socket *open, const struct conf *next, unsigned shard,
                             io_socket *listener, bool *is_new, struct fmt *why);
/* Closes those of `open` that are in no use any more, and returns how many; `token` as io_close. Until all have completed their addresses are in use. */
must_check unsigned listen_close_others(struct io *io, const io_socket *open, unsigned open_count, const io_socket *kept, unsigned kept_count,
                                        uint64_t token);

#endif
