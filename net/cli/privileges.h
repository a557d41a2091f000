/*
 * privileges: root for as long as it takes to open ports, and nothing after that.
 *
 * Started as root with `user:` in the configuration, the process becomes that user before it opens anything, and keeps one capability, to bind ports below 1024,
 * until it listens. Started as another user with capabilities (systemd's AmbientCapabilities) it does the same with those. Without `user:` root stays
 * root, and that is said.
 */
#ifndef NET_CLI_PRIVILEGES_H
#define NET_CLI_PRIVILEGES_H

#include "core/conf/conf.h"

/* Main thread, before any other is started: makes the directories the user needs, becomes the user. `why` has a line on error. */
must_check int privileges_begin(const struct conf *conf, struct fmt *why);
/* The calling thread is done with ports: it has no capabilities any more. Each thread for itself. */
void privileges_end(const struct conf *conf);
/* No core dump, and no debugger of another user: for a process that has keys or passwords in memory. */
void privileges_no_dumps(void);

#endif
