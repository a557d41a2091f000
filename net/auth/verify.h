/*
 * verify: is this the password? Asked on a shard, computed by threads of its own (crypt(3) takes tens of milliseconds), answered on the shard.
 *
 *   on the shard:  verify_ask(lane, users, name, password, token)   -> VERIFY_RIGHT at once (it was right some minutes ago),
 *                                                                      VERIFY_WAIT: `answered` comes in a later turn, VERIFY_BUSY: 454 4.7.0
 *
 * How a request travels: each shard has a lane: so many requests, a ring of one producer (the shard) to the threads, who share its other end under a lock of theirs
 * alone; a semaphore wakes one. The answer comes back as an errand of the shard (core/shard/errand.h), which wakes it if it sleeps; the thread waits for that one turn,
 * because until then the errand, which lies in the request, is the shard's. A shard takes no lock and never waits; a lane that is full says so.
 *
 * Who does not exist, is disabled or has no password is checked all the same, against the hash of some other user (always the same one for a name), so that it takes
 * as long and looks like a wrong password.
 *
 * What was right is remembered for some minutes, per lane: HMAC-SHA-256, under a random key of this process, of name, password and what the users file has for it, never
 * the password. So a user whose password is changed has to be asked anew. What was wrong is not remembered. A look costs two microseconds.
 */
#ifndef NET_AUTH_VERIFY_H
#define NET_AUTH_VERIFY_H

#include "core/base/must.h"
#include "core/base/span.h"
#include "net/auth/users.h"

struct shard;
struct verify;
struct verify_lane;

struct verify_options {
  unsigned lanes;      /* shards */
  unsigned threads;    /* configuration: 2 */
  unsigned requests;   /* of each lane under way at a time, 1 to 4096: 64 */
  unsigned remembered; /* right passwords per lane: 4096; rounded up to a power of two */
  uint64_t remember_ms;
};
/* One lane; 2 threads, 64 requests, 4096 remembered for 5 minutes. */
extern const struct verify_options verify_defaults;

/* On the shard's thread, in a turn of its own, never within verify_ask. Not called if the shard or the threads were stopped before. */
typedef void (*verify_answered)(void *context, uint64_t token, bool right);

enum verify_answer { VERIFY_WAIT = 0, VERIFY_RIGHT, VERIFY_BUSY };

/* Starts the threads. E_NO_MEMORY, E_OTHER. Takes as long as one hash. */
must_check int verify_open(struct verify **verify, const struct verify_options *options);
/* When shard_run has returned on all of them, and before any shard_fini (a thread may just be waking one): ends the threads; what waits is dropped. NULL is fine, here
 * and below. */
void verify_stop(struct verify *verify);
/* Afterwards, when nobody asks any more. */
void verify_free(struct verify *verify);

/* The lane of a shard, from its own thread, once, before its first question. */
struct verify_lane *verify_lane(struct verify *verify, unsigned index, struct shard *shard, verify_answered answered, void *context);

/* `users` NULL: nobody is there. Name and password (SECRET_NAME_MAX and SECRET_PASSWORD_MAX bytes at most) are copied, and wiped as soon as they were looked at. */
must_check enum verify_answer verify_ask(struct verify_lane *lane, const struct users *users, struct span name, struct span password, uint64_t token);

#endif
