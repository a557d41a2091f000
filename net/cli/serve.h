/*
 * serve: `ringpost --config FILE`: starts the shards, waits for signals, and stops them.
 */
#ifndef NET_CLI_SERVE_H
#define NET_CLI_SERVE_H

#include "core/conf/conf.h"

/* Runs until SIGTERM or SIGINT. `path`: of the configuration, read again on SIGHUP. Returns the exit status: 0 after a clean stop, 1 on a runtime failure (said on stderr). */
int serve(const struct conf *conf, const char *path);

#endif
