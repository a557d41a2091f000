#include "core/shard/shard.h"

#include <string.h>

#include "core/base/error.h"

#define LETTERS_A_TURN 1024
#define TIMERS_A_TURN 1024

static void look_at_clock(struct shard *shard) {
  shard->now_ns = io_now_ns(shard->io);
  shard->now_ms = shard->now_ns / 1000000;
  shard->wall_ms = io_wall_ms(shard->io);
}

int shard_init(struct shard *shard, struct shard_group *group, unsigned index, const struct io_options *options, const char **why) {
  memset(shard, 0, sizeof *shard);
  struct io_options own = *options;
  own.notify_token = shard_token(SHARD_KIND_NOTIFY, 0, 0, 0);
  int error = io_open(&shard->io, &own, why);
  if (error != E_OK) return error;
  shard->index = index;
  shard->group = group;
  shard->turn_due_ms = shard->errands.due_ms = UINT64_MAX;
  shard->busy = true; /* the first turn does not sleep: on_turn may have work from the start */
  look_at_clock(shard);
  wheel_init(&shard->wheel, shard->now_ms);
  shard_group_join(group, shard);
  return E_OK;
}

void shard_fini(struct shard *shard) {
  errands_close(shard);
  io_destroy(shard->io);
  shard->io = NULL;
}

void shard_handle(struct shard *shard, uint8_t kind, shard_complete complete, void *context) {
  must(kind < SHARD_KINDS && shard->handlers[kind].complete == NULL);
  shard->handlers[kind] = (struct shard_handler){complete, context};
}

/* When to wake without any event: the next timer, an errand that waits, or what on_turn asked for. The io clock is in nanoseconds, the wheel's in whole milliseconds. */
static uint64_t wake_ns(const struct shard *shard, uint64_t until_ns) {
  uint64_t due_ms = wheel_next_ms(&shard->wheel);
  if (shard->turn_due_ms < due_ms) due_ms = shard->turn_due_ms;
  if (shard->errands.due_ms < due_ms) due_ms = shard->errands.due_ms;
  if (due_ms < UINT64_MAX / 1000000 && due_ms * 1000000 < until_ns) until_ns = due_ms * 1000000;
  return until_ns;
}

static void dispatch(struct shard *shard, const struct io_completion *completion) {
  uint8_t kind = (uint8_t)(completion->token >> 56);
  if (kind == SHARD_KIND_NOTIFY) return; /* it only ends the sleep */
  must(kind < SHARD_KINDS && shard->handlers[kind].complete != NULL);
  shard->handlers[kind].complete(shard->handlers[kind].context, completion);
}

static void look_at_stop(struct shard *shard) {
  if (shard->_stop_seen || !atomic_load_explicit(&shard->_stop, memory_order_acquire)) return;
  shard->_stop_seen = true;
  if (shard->on_stop != NULL) shard->on_stop(shard->context);
}

void shard_turn(struct shard *shard, uint64_t until_ns) {
  bool may_sleep = !shard->busy && mailbox_may_sleep(shard);
  const struct io_completion *done;
  unsigned count = io_wait(shard->io, may_sleep ? wake_ns(shard, until_ns) : 0, &done);
  mailbox_awake(shard);
  look_at_clock(shard);
  shard->turns++;
  for (unsigned i = 0; i < count; i++) dispatch(shard, &done[i]);
  bool more = shard->on_letter != NULL && mailbox_take(shard, LETTERS_A_TURN);
  more |= wheel_advance(&shard->wheel, shard->now_ms, shard->context, TIMERS_A_TURN) == TIMERS_A_TURN;
  look_at_stop(shard);
  more |= errands_turn(shard);
  shard->busy = more;
  shard->turn_due_ms = UINT64_MAX;
  if (shard->on_turn != NULL) shard->on_turn(shard->context);
  mailbox_flush(shard);
}

void shard_run(struct shard *shard) {
  while (!shard->_finished) shard_turn(shard, UINT64_MAX);
  errands_close(shard);
}

void shard_finish(struct shard *shard) { shard->_finished = true; }

void shard_stop(struct shard *shard) {
  atomic_store_explicit(&shard->_stop, true, memory_order_release);
  io_notify(NULL, shard->io);
}
