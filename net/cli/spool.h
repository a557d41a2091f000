/*
 * spool: `ringpost spool verify|dump DIR`: looks at a spool without running it. Never writes to it, and takes its lock only for the moment in which it
 * asks whether somebody else has it.
 *
 * `verify` refuses a spool that is in use, as what it sees changes while it looks; `dump` reads on and says so.
 */
#ifndef NET_CLI_SPOOL_H
#define NET_CLI_SPOOL_H

/*
 * `arguments`: what stands behind "spool". Writes to standard output, errors to standard error. Returns the exit status: 0; 1: something that counts
 * is damaged, or the message asked for is not there; 2: bad usage, or something could not be read.
 */
int spool_command(int count, char **arguments);

#endif
