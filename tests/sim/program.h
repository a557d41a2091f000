/*
 * program: the relay, as net/cli/serve.c runs it, its threads being fibers: started, killed, stopped, and started again by somebody who looks after it: when it could not start
 * for want of room, or because of the disk, and a while after its spool failed.
 */
#ifndef TESTS_SIM_PROGRAM_H
#define TESTS_SIM_PROGRAM_H

#include "tests/sim/plan.h"

/* The plan is kept, by reference. */
void program_open(const struct plan *plan);
void program_start(void);
void program_kill(bool power);
/* In an orderly way, to its end. */
void program_stop(void);
/* The power is cut just before the first-th thing becomes durable, then before the second-th after that (0: not again); it comes back at once. */
void program_cut_at(uint64_t first, uint64_t second);
unsigned program_cuts(void);
/* One thing happens (world_step). */
bool program_step(uint64_t limit_ns);
void program_run_until(uint64_t until_ns);
/* It takes mail. */
bool program_runs(void);
/* Messages. Only while there is a program. */
uint64_t program_queued(void);

#endif
