/*
 * ctl: `ringpost ctl COMMAND`: asks a running relay over its HTTP API (net/control), and shows the answer as text or, with --json, as it came.
 */
#ifndef NET_CLI_CTL_H
#define NET_CLI_CTL_H

/* The arguments behind `ctl`, which stands (and is written over) before them. Returns the exit status: 0 done, 1 the relay says no or cannot be reached, 2 bad usage. */
int ctl_command(int count, char **arguments);

#endif
