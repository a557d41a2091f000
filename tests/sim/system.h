/*
 * system: what net/control and core/conf take from the system besides core/io, in the simulated world: the simulator is linked with --wrap for each of these calls (Makefile).
 * Semaphores and mutexes let other fibers go on while theirs waits; whole files are those of the simulated disk; the clock on the wall is the world's.
 *
 *   sem_wait, sem_post, pthread_mutex_lock, system_read_file, system_write_file, system_wall_ms
 */
#ifndef TESTS_SIM_SYSTEM_H
#define TESTS_SIM_SYSTEM_H

/* All fibers are gone: nobody waits any more. */
void system_crash(void);

#endif
