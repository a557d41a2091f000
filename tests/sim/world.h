/*
 * world: what a simulated run happens in: virtual time, chance, events in the order of their times, fibers, a trace.
 *
 * There is one world in a process, and one thread. All chance comes from the seed, so a seed decides the whole run; the hash over all trace lines
 * shows that it does. Nothing is given back before the process ends: a run is short, and what a crash leaves behind could not be freed anyway.
 *
 * A fiber is a thread of the program under test: it runs until it sleeps. While it does nothing else happens; whichever of those that may run goes on
 * is chance. An event happens between the fibers.
 */
#ifndef TESTS_SIM_WORLD_H
#define TESTS_SIM_WORLD_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define SECOND_NS 1000000000ull
#define MILLISECOND_NS 1000000ull
#define MICROSECOND_NS 1000ull

/* `trace`: where every line goes as it comes; NULL: only the last are kept. */
void world_open(uint64_t seed, FILE *trace);

uint64_t world_now_ns(void);
/* Milliseconds since 1970. The clock on the wall may be set. */
uint64_t world_wall_ms(void);
void world_set_wall(int64_t by_ms);

/* 0 .. n-1, n > 0. */
uint64_t chance(uint64_t n);
/* Once in `of` times; never with 0. */
bool chance_once(uint64_t of);
/* From low to high, both included; small ones are as likely as large ones: the logarithm is even. low > 0. */
uint64_t chance_spread(uint64_t low, uint64_t high);

typedef void (*world_event)(void *context, uint64_t number);
void world_at(uint64_t at_ns, world_event event, void *context, uint64_t number);
void world_after(uint64_t delay_ns, world_event event, void *context, uint64_t number);

struct fiber;
struct fiber *fiber_start(void (*run)(void *context), void *context);
/* The one that runs; NULL: none does. */
struct fiber *fiber_current(void);
/* Until fiber_wake or this time. A wake that came since the last sleep ends it at once. */
void fiber_sleep(uint64_t until_ns);
void fiber_wake(struct fiber *fiber);
/* All of them are gone, wherever they were. Not from within one. */
void fibers_kill(void);
/* Those that have not returned. */
unsigned fibers_alive(void);

/* Lets one thing happen, at a later time if need be; false: nothing ever will, or only after `limit_ns`. */
bool world_step(uint64_t limit_ns);

/* Nothing happens until then. */
void world_skip(uint64_t until_ns);

/* A line of the trace. */
void trace(const char *format, ...) __attribute__((format(printf, 1, 2)));
uint64_t trace_hash(void);
/* The last lines. */
void trace_print(FILE *file);

/* The run shows a fault of the program under test: prints what, and the trace, and ends the process with status 1. */
_Noreturn void fault(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Never NULL. */
void *sim_alloc(size_t size);

#endif
