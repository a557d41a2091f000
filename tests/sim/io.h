/*
 * io: the other implementation of core/io/io.h: sockets on the simulated net, files on the simulated disk, the clock of the world.
 *
 * In a fiber io_wait sleeps until there is something; outside of all fibers it lets the world go on itself.
 */
#ifndef TESTS_SIM_IO_H
#define TESTS_SIM_IO_H

#include "core/io/io.h"

/* The addresses that sockets have which were not bound to one. */
void sim_io_open(const struct netaddr *v4, const struct netaddr *v6);
/* The process is dead: nothing is done for its ios any more, and its connections are reset. */
void sim_io_crash(void);

#endif
