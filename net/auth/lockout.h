/*
 * lockout: who guesses at passwords is made to wait. Failures are counted for the client's address (of IPv6 its /64) and for the name it tries, and fade: half of them
 * after `half_life_ms`. From the fourth on, each doubles a delay; at a number of them the address, or the name, is locked for a time.
 *
 * A name that is locked by others must not lock its owner out: an address from which that name came in before is not held up by what others do to the name, only by
 * its own failures. Names are counted whether there is such a user or not.
 *
 * Pure: time is an argument, in milliseconds of a clock that does not go back. Owner: one shard, so what is counted is what came to that shard. Memory is taken once,
 * 40 bytes a place; a full table forgets what is oldest, first of all what is not locked.
 *
 *   if (lockout_ask(l, &peer, name, now).locked) 454 4.7.0, without a look at the password
 *   right: lockout_succeeded(l, &peer, name, now);
 *   wrong: 535 after lockout_failed(l, &peer, name, now).delay_ms
 */
#ifndef NET_AUTH_LOCKOUT_H
#define NET_AUTH_LOCKOUT_H

#include "core/base/must.h"
#include "core/base/netaddr.h"
#include "core/base/span.h"

struct lockout_options {
  uint32_t places;           /* of the table, at least 8: rounded up to a power of two */
  uint32_t free_failures;    /* so many without a delay */
  uint32_t address_failures; /* so many lock an address */
  uint32_t name_failures;    /* so many lock a name */
  uint64_t delay_first_ms, delay_max_ms;
  uint64_t half_life_ms;
  uint64_t lock_ms;
};
/* 16384 places; 3, 20 and 100 failures; 500 ms to 8 s; 10 minutes; 15 minutes. */
extern const struct lockout_options lockout_defaults;

struct lockout_answer {
  bool locked;
  uint64_t delay_ms; /* that the client should wait for the answer to its next failure, or this one; 0: none */
};

struct lockout;
/* `seed` is random, so that nobody can choose addresses that meet in one place. E_NO_MEMORY. */
must_check int lockout_open(struct lockout **lockout, const struct lockout_options *options, uint64_t seed);
void lockout_close(struct lockout *lockout);

/* How it stands, without counting. An empty name: only the address. */
struct lockout_answer lockout_ask(const struct lockout *lockout, const struct netaddr *address, struct span name, uint64_t now_ms);
/* Counts, and how it stands then. */
struct lockout_answer lockout_failed(struct lockout *lockout, const struct netaddr *address, struct span name, uint64_t now_ms);
/* The failures of the name are forgotten, those of the address are not: who has one password must not get endless tries at others. */
void lockout_succeeded(struct lockout *lockout, const struct netaddr *address, struct span name, uint64_t now_ms);

#endif
