/*
 * intake: the connections that come in. One intake per shard accepts on every listener, runs an SMTP server machine for each session, and hands over accepted messages.
 *
 * Owner: one shard. All replies of a turn leave in one send. Content goes straight from the receive buffers into the chunks of its record (queue/content.h). A message
 * becomes durable through the spool; only then its 250 is written; until then the session reads nothing further, though bytes may wait (bounded) in its stash.
 * An idle session holds no buffers, only its slot.
 */
#ifndef NET_IN_INTAKE_H
#define NET_IN_INTAKE_H

#include "core/conf/conf.h"
#include "core/event/counters.h"
#include "core/event/writer.h"
#include "core/shard/shard.h"
#include "net/smtp/server.h"
#include "queue/schedule.h"

struct certificates;
struct directory;
struct guard;
struct resolver;
struct verify;

struct intake_options {
  struct shard *shard;
  const struct conf *conf;
  struct slab *slab;
  struct spool *spool;
  struct schedule *schedule;
  struct resolver *resolver; /* NULL: no listener has DNS lists. Closed after the intake */
  struct counters *counters;
  struct event_writer *events;
  _Atomic uint32_t *sessions_open;   /* of all shards together, for limits.sessions: one of them for the whole process */
  struct guard *guard;               /* of all shards together; NULL: clients and users are not limited */
  struct certificates *certificates; /* at first; NULL: none. Shared, not taken over */
  struct directory *directory;       /* of all shards; NULL: there are no users */
  struct verify *verify;             /* likewise */
  struct span login_secret;          /* of all shards: random bytes, for what those are told who are nobody */
  uint64_t newest_id;                /* of any shard: ids given out are of later milliseconds, or above it */
  uint8_t token_kind;
};

struct intake;

/* Opens the pools. */
must_check int intake_open(struct intake **intake, const struct intake_options *options);
/* Opens the listeners: shard 0's first, the others' after that (io_listen). E_BUSY and others with key and address in `why`. */
must_check int intake_listen(struct intake *intake, struct fmt *why);
/*
 * Another configuration (core/conf/change.h says what may differ), in two steps: prepare opens what listeners are new (on shard 0 first), commit takes all of it into use and closes
 * listeners that are gone; sessions go on, under the new limits. Or abort. One at a time; `conf` lives from prepare to abort, or until it is replaced.
 * What commit or abort closes is closed when intake_is_settled, some turns later: until then another prepare, on whichever shard, might find its addresses
 * in use.
 */
must_check int intake_prepare(struct intake *intake, const struct conf *conf, struct fmt *why);
void intake_commit(struct intake *intake);
void intake_abort(struct intake *intake);
bool intake_is_settled(const struct intake *intake);
/* From here on new sessions, and those that begin TLS, have these: ours to put. NULL: none. */
void intake_take_certificates(struct intake *intake, struct certificates *certificates);
/* The address the first listener really has (its port may have been 0). */
void intake_address(const struct intake *intake, struct netaddr *address);
/* No new sessions; those outside of a transaction get a 421 now, the others after it. */
void intake_stop(struct intake *intake);
/* An id that no message of this shard had (submit_new_id). */
uint64_t intake_new_id(struct intake *intake);
/* reception_restored, and the message is no longer untold. */
void intake_tell_restored(struct intake *intake, struct message *message);
/* submit_clear_segment. */
void intake_clear_segment(void *intake, uint32_t segment);
/* No session is left. */
bool intake_idle(const struct intake *intake);
void intake_close(struct intake *intake);

void intake_complete(void *intake, const struct io_completion *completion);
/* End of turn: sends what was written. */
void intake_turn(struct intake *intake);

#endif
