/*
 * prompt: a password from a person: at the terminal, without echo, asked for twice; or the first line of standard input.
 */
#ifndef NET_CLI_PROMPT_H
#define NET_CLI_PROMPT_H

#include <stdbool.h>
#include <stddef.h>

#include "core/base/must.h"

/* Into `room`, without its newline; *len bytes. NULL: all is well; else what is wrong, as text. The caller wipes the room. */
must_check const char *prompt_password(bool from_stdin, char *room, size_t size, size_t *len);

#endif
