/*
 * user: `ringpost ctl user COMMAND`: changes the users file (net/auth/users.h), also while a relay runs, which takes the new one by itself within a second.
 * Passwords come from the terminal, without echo, or from standard input; never from the command line, which others can see.
 */
#ifndef NET_CLI_USER_H
#define NET_CLI_USER_H

#include <stdbool.h>

/* Do these arguments, those behind `ctl`, ask for `user`? */
bool user_is_meant(int count, char **arguments);
/* The arguments behind `ctl`. Returns the exit status: 0 done, 1 it could not be done, 2 bad usage. */
int user_command(int count, char **arguments);

#endif
