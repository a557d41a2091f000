/*
 * mailbox: letters between shards: one single-producer single-consumer ring per ordered pair.
 *
 * A full mailbox never blocks the sender: letters then wait in the sender's own overflow list and go out with its next turns, in order. The receiver is woken
 * only if it sleeps: before sleeping it says so, fences, and looks once more; the sender pushes, fences, and looks whether it sleeps.
 * The maker of what a letter points to frees it: the receiver sends it back.
 */
#ifndef CORE_SHARD_MAILBOX_H
#define CORE_SHARD_MAILBOX_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/must.h"

struct io;
struct shard;
struct shard_group;

struct letter {
  uint32_t kind; /* the receiver's business */
  uint32_t number;
  void *what;
};

#define MAILBOX_CAPACITY 4096

/* For `count` shards; shared by them. Freed after the last shard_fini. */
must_check int shard_group_open(struct shard_group **group, unsigned count);
void shard_group_close(struct shard_group *group);
unsigned shard_group_count(const struct shard_group *group);
/* Between shard_init and the first letter to it: makes the shard known. All shards have to be known before letters are sent (start them behind a barrier). */
void shard_group_join(struct shard_group *group, struct shard *shard);

/* On the sender's thread. Never fails, never blocks; to oneself is allowed. Letters of one sender arrive in order. */
void shard_post(struct shard *from, unsigned to, struct letter letter);

/* Nothing of ours is left to be sent, and nothing to us is left to be read. */
bool mailbox_clear(struct shard *shard);
/*
 * The end of a group: a shard that has no work of its own says so, once, after its mailbox is clear. True once all have: then what they posted before is here, and
 * when the mailbox is clear once more, nothing will come.
 */
bool shard_group_done(struct shard *shard);

/* ---- for shard.c ---- */
/* Takes at most `budget` letters, calling shard->on_letter; true if more are left. */
bool mailbox_take(struct shard *shard, unsigned budget);
/* Sends overflow on, and wakes every sleeping shard that letters were put in for since the last call: one notification each, at the end of the turn. */
void mailbox_flush(struct shard *shard);
/* About to sleep: true if that is all right, false if a letter is there. */
bool mailbox_may_sleep(struct shard *shard);
void mailbox_awake(struct shard *shard);

#endif
