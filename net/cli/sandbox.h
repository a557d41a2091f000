/*
 * sandbox: what the process cannot do even if somebody takes it over: see or change files but its own (Landlock), or make system calls that a mail relay has no
 * use for (seccomp): run programs, trace others, mount, load modules, become somebody else.
 *
 * io_uring passes by seccomp, which sees only io_uring_enter; the kernel holds its file operations against Landlock all the same.
 */
#ifndef NET_CLI_SANDBOX_H
#define NET_CLI_SANDBOX_H

#include "core/conf/conf.h"

/*
 * Main thread, before any other is started, when the directories exist: from here on the process may read its configuration, certificates and what
 * the system's libraries need, and write below spool.path and events.path. Where the kernel has no Landlock a line says so. `why` has a line on error.
 */
must_check int sandbox_files(const struct conf *conf, const char *conf_path, struct fmt *why);
/* For all threads there are and will be, once all listen. */
must_check int sandbox_calls(struct fmt *why);

#endif
