/*
 * shard: a thread of its own with a ring, a clock, timers, and mailboxes to the other shards. It knows nothing of mail.
 *
 * Whoever runs on a shard (the relay) gets completions by the kind in the top 8 bits of their token, letters by their kind, timers by themselves,
 * and a call at the end of every turn. A turn: wait, completions, letters, timers, errands, end of turn. All of it happens on the shard's thread;
 * only shard_stop and errand_ask are for others.
 *
 * The loop can also be driven from outside, a turn at a time (shard_turn): that is how several shards are simulated in one thread.
 */
#ifndef CORE_SHARD_SHARD_H
#define CORE_SHARD_SHARD_H

#include <stdatomic.h>

#include "core/base/wheel.h"
#include "core/io/io.h"
#include "core/shard/errand.h"
#include "core/shard/mailbox.h"

#define SHARD_KINDS 16
#define SHARD_KIND_NOTIFY 255 /* our own tokens */

struct shard;
typedef void (*shard_complete)(void *context, const struct io_completion *completion);
typedef void (*shard_letter)(void *context, unsigned from, const struct letter *letter);

struct shard_handler {
  shard_complete complete;
  void *context;
};

struct shard {
  unsigned index;
  struct shard_group *group;
  struct io *io;
  struct wheel wheel;
  uint64_t now_ns;  /* monotonic, as of the beginning of the turn */
  uint64_t now_ms;  /* the same: the wheel's clock */
  uint64_t wall_ms; /* since 1970, likewise */
  struct shard_handler handlers[SHARD_KINDS];
  shard_letter on_letter;
  void (*on_turn)(void *context); /* end of each turn */
  void (*on_stop)(void *context); /* once, when shard_stop was called; the loop goes on until shard_finish */
  void *context;                  /* of the three above */
  uint64_t turn_due_ms;           /* on_turn wants to be called again by then at the latest; set by on_turn, UINT64_MAX if not */
  bool busy;                      /* on_turn has more to do at once: do not sleep */
  uint64_t turns;
  struct errands errands;
  bool _finished;
  bool _done;
  bool _stop_seen;
  _Atomic bool _stop;
};

/* A token: what handler it is for (8 bits), and of the handler's own: which operation (4), which slot (20), which generation of the slot (32). */
#define SHARD_SLOTS_MAX (1u << 20)
static inline uint64_t shard_token(uint8_t kind, unsigned operation, uint32_t slot, uint32_t generation) {
  return ((uint64_t)kind << 56) | ((uint64_t)(operation & 15) << 52) | ((uint64_t)(slot & (SHARD_SLOTS_MAX - 1)) << 32) | generation;
}
static inline unsigned shard_token_operation(uint64_t token) { return (unsigned)(token >> 52) & 15; }
static inline uint32_t shard_token_slot(uint64_t token) { return (uint32_t)(token >> 32) & (SHARD_SLOTS_MAX - 1); }
static inline uint32_t shard_token_generation(uint64_t token) { return (uint32_t)token; }

/* Opens io (so: on the shard's own thread) and clears the rest. `why` as io_open. */
must_check int shard_init(struct shard *shard, struct shard_group *group, unsigned index, const struct io_options *options, const char **why);
void shard_fini(struct shard *shard);

void shard_handle(struct shard *shard, uint8_t kind, shard_complete complete, void *context);

/* One turn; sleeps until something happens, at most until `until_ns`. */
void shard_turn(struct shard *shard, uint64_t until_ns);
/* Turns until shard_finish; from then on errands end undone. */
void shard_run(struct shard *shard);
void shard_finish(struct shard *shard);

/* From any thread: on_stop will be called on the shard. */
void shard_stop(struct shard *shard);

#endif
