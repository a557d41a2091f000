#include "tests/sim/program.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "core/base/error.h"
#include "core/base/slab.h"
#include "net/cli/reload.h"
#include "net/control/control.h"
#include "net/relay.h"
#include "tests/sim/io.h"
#include "tests/sim/ledger.h"
#include "tests/sim/orders.h"
#include "tests/sim/system.h"
#include "tests/sim/world.h"

#define GAUGE_NS (5 * SECOND_NS) /* within that a failed spool is told of */
#define TICK_NS (500 * MILLISECOND_NS)

/* ---- its threads ---- */

struct worker {
  struct relay *relay;
  unsigned index;
};

#define BARRIERS 6

static struct program {
  struct conf conf;
  struct shard_group *group;
  struct worker workers[SHARDS_MAX];
  struct counters *counters[SHARDS_MAX];
  struct relay *relays[SHARDS_MAX]; /* once all listen */
  struct control *control;
  struct reload reload;
  struct fiber *minder;
  _Atomic uint32_t sessions;
  struct slab_pool memory;
  _Atomic uint64_t newest_id;
  unsigned at_barrier[BARRIERS];
  struct fiber *waiting[BARRIERS][SHARDS_MAX + 1];
  bool runs;
  bool stopping;      /* it is told to */
  bool hung_up;       /* it is told to read its configuration */
  bool refused;       /* it could not start */
  bool wants_room;    /* ... for want of room */
  uint64_t failed_ns; /* when a write or a sync of a spool failed first; 0: none has */
  unsigned failed_shard;
  uint64_t repair_ns;     /* when somebody starts it again because of that */
  uint64_t disk_failures; /* there were before it started */
} * program;

static const struct plan *plan;
static unsigned lives; /* of the program */

/* For all shards and the one who minds them. */
static void barrier(unsigned which) {
  unsigned all = program->conf.shards + 1, at = program->at_barrier[which]++;
  program->waiting[which][at] = fiber_current();
  while (program->at_barrier[which] < all) fiber_sleep(UINT64_MAX);
  for (unsigned i = 0; at + 1 == all && i < at; i++) fiber_wake(program->waiting[which][i]);
}

/* Errors of the disk are what a plan may have, and then there is only one thing to do: not to start, or to end with an error. */
static bool is_of_disk(int error) { return error == E_IO && disk_stats()->failures > program->disk_failures; }

static void check(int error, const struct fmt *why, const char *what) {
  if (error != E_OK) fault("%s: %s: %.*s", what, error_text(error), (int)why->len, (const char *)why->at);
}

/* For ever. */
static void refuse_to_start(int error, const struct fmt *why) {
  trace("it cannot start: %.*s", (int)why->len, (const char *)why->at);
  program->refused = true;
  program->wants_room |= error == E_NO_SPACE;
  fiber_sleep(UINT64_MAX);
}

static void work(void *context) {
  struct worker *worker = context;
  char room[512];
  struct fmt why = fmt_over(room, sizeof room);
  struct relay_options options = {.conf = &program->conf,
                                  .group = program->group,
                                  .index = worker->index,
                                  .counters = program->counters[worker->index],
                                  .sessions_open = &program->sessions,
                                  .memory = &program->memory,
                                  .newest_id = &program->newest_id,
                                  .held = control_holds(program->control)};
  int error = relay_open(&worker->relay, &options, &why);
  if ((error == E_NO_SPACE && memmem(why.at, why.len, "copying the mail", 16) != NULL) || is_of_disk(error)) refuse_to_start(error, &why);
  check(error, &why, "relay_open");
  barrier(0);
  if (worker->index == 0) check(relay_listen(worker->relay, &why), &why, "relay_listen");
  barrier(1);
  if (worker->index > 0) check(relay_listen(worker->relay, &why), &why, "relay_listen");
  barrier(2);
  program->runs = true;
  relay_run(worker->relay);
  error = relay_failed(worker->relay, &why);
  if (!is_of_disk(error)) check(error, &why, "relay_failed");
  barrier(3);
  relay_release(worker->relay);
  barrier(4);
  relay_close(worker->relay);
  barrier(5);
}

/* ---- the main thread ---- */

static int take_configuration(void *context, struct fmt *why) {
  (void)context;
  settings_taking();
  int error = reload_conf(&program->reload, why);
  settings_taken(error, fmt_span(why), !program->stopping);
  return error;
}

static void open_control(void) {
  char room[512];
  struct fmt why = fmt_over(room, sizeof room);
  struct control_options options = {.counters = (const struct counters *const *)program->counters,
                                    .shards = program->conf.shards,
                                    .spool_path = program->conf.spool_path,
                                    .started_ms = world_wall_ms(),
                                    .reload = take_configuration};
  int error = control_open(&program->control, &options, &why);
  if (is_of_disk(error)) refuse_to_start(error, &why);
  check(error, &why, "control_open");
}

static void hang_up(void) {
  program->hung_up = true;
  fiber_wake(program->minder);
}

/* As long as something else is under way it is tried again. */
static void reload(void) {
  char room[512];
  struct fmt why = fmt_over(room, sizeof room);
  bool now;
  program->hung_up = false;
  int error = control_reload(program->control, &why, &now); /* what there is to say is said */
  program->hung_up |= !now && error != E_OK;
}

static void wait_for_signals(void) {
  while (!program->stopping) {
    if (program->hung_up) reload();
    control_tick(program->control);
    if (!program->stopping) fiber_sleep(world_now_ns() + TICK_NS);
  }
}

static void mind(void *context) {
  (void)context;
  open_control();
  for (unsigned i = 0; i < program->conf.shards; i++) fiber_start(work, &program->workers[i]);
  for (unsigned i = 0; i < 3; i++) barrier(i);
  for (unsigned i = 0; i < program->conf.shards; i++) program->relays[i] = program->workers[i].relay;
  control_start(program->control, program->relays);
  operator_begin(&(struct operator_life){program->control, lives == 1, &program->stopping, hang_up});
  wait_for_signals();
  for (unsigned i = 0; i < program->conf.shards; i++) relay_stop(program->relays[i]);
  barrier(3);
  operator_end();
  barrier(4);
  barrier(5);
  control_close(program->control);
  reload_fini(&program->reload);
}

/* ---- life ---- */

bool program_runs(void) { return program != NULL && program->runs; }

/* What stands in a spool is known to the ledger, and that a spool failed, too. */
static void disk_wrote(const char *path, struct span bytes, bool failed) {
  unsigned shard;
  if (plan->disk.write_fails > 0 || plan->disk.sync_fails > 0) ledger_written(bytes, failed);
  if (!failed || !program_runs()) return;                   /* a start that fails is refused */
  if (sscanf(path, "/spool/shard-%u", &shard) != 1) return; /* of suspensions, which are written again */
  ledger_failing();
  if (program->failed_ns != 0) return;
  program->failed_ns = world_now_ns();
  program->failed_shard = shard;
  program->repair_ns = world_now_ns() + chance_spread(SECOND_NS, 30 * SECOND_NS);
  trace("the spool of shard %u failed", shard);
}

void program_open(const struct plan *the_plan) {
  plan = the_plan;
  lives = 0;
  program = NULL;
  disk_on_write(disk_wrote);
}

void program_start(void) {
  unsigned shards = lives++ > 0 && plan->reshards ? 1 + (unsigned)chance(SHARDS_MAX) : plan->shards;
  char room[512];
  struct fmt why = fmt_over(room, sizeof room);
  program = sim_alloc(sizeof *program);
  program->disk_failures = disk_stats()->failures;
  settings_begin_life(shards);
  check(conf_read(&program->conf, SETTINGS_PATH, &why), &why, "conf_read");
  program->reload = (struct reload){.path = SETTINGS_PATH, .first = &program->conf, .relays = program->relays};
  must(shard_group_open(&program->group, shards) == E_OK);
  for (unsigned i = 0; i < shards; i++) {
    program->workers[i].index = i;
    program->counters[i] = sim_alloc(sizeof(struct counters));
  }
  trace("the program starts with %u shards", shards);
  program->minder = fiber_start(mind, NULL);
}

static void end(bool power) {
  fibers_kill();
  operator_killed();
  system_crash();
  sim_io_crash();
  disk_crash(power);
  orders_life_ends();
  program = NULL;
}

void program_kill(bool power) {
  trace(power ? "the power is cut" : "the program is killed");
  end(power);
  ledger_killed(power);
}

/* What an operator does then: gives the disk more room. Nothing may be lost by the vain try, and nothing may have been delivered. */
static void start_again(void) {
  if (program->wants_room) disk_give_room();
  end(false);
  program_start();
}

static struct {
  uint64_t second; /* the next cut: so many syncs after the first */
  unsigned done;
} cuts;

void program_cut_at(uint64_t first, uint64_t second) {
  cuts.second = second;
  cuts.done = 0;
  disk_cut_at(first);
}

unsigned program_cuts(void) { return cuts.done; }

static bool step(uint64_t limit_ns) {
  bool more = world_step(limit_ns);
  if (program != NULL && program->refused) start_again();
  if (!disk_is_cut()) return more;
  program_kill(true);
  program_start();
  disk_cut_at(cuts.second);
  cuts.second = 0;
  cuts.done++;
  return true;
}

/* An orderly stop has 30 s for transactions, and then a bit. */
void program_stop(void) {
  trace("the program is stopped");
  uint64_t until_ns = world_now_ns() + 60 * SECOND_NS;
  while (!program->runs && step(until_ns)) continue;
  const struct program *stopped = program;
  program->stopping = true;
  fiber_wake(program->minder);
  while (fibers_alive() > 0 && program == stopped && world_now_ns() < until_ns && step(until_ns)) continue;
  if (program != stopped) { /* the power was cut meanwhile */
    program_stop();
    return;
  }
  if (fibers_alive() > 0) fault("the program did not end within a minute of its stop");
  program = NULL;
  orders_life_ends();
  if (stopped->failed_ns != 0) ledger_killed(false); /* what it could not write down is forgotten */
}

uint64_t program_queued(void) {
  uint64_t sum = 0;
  for (unsigned i = 0; i < program->conf.shards; i++) sum += count_get(program->counters[i], GAUGE_QUEUED_MESSAGES);
  return sum;
}

/* ---- going on ---- */

/* Somebody starts it again, and may take the occasion to switch the machine off. */
static void repair(void) {
  bool told = count_get(program->counters[program->failed_shard], GAUGE_SPOOL_FAILED) != 0;
  if (program->runs && !told && world_now_ns() - program->failed_ns > GAUGE_NS)
    fault("the spool of shard %u failed, and nothing says so", program->failed_shard);
  trace("the program is repaired");
  uint64_t how = chance(3);
  if (how == 0 && program->runs) {
    program_stop();
  } else {
    program_kill(how == 2 && plan->power != POWER_NEVER);
  }
  program_start();
}

bool program_step(uint64_t limit_ns) {
  if (program != NULL && program->failed_ns != 0 && world_now_ns() >= program->repair_ns) repair();
  return step(limit_ns);
}

void program_run_until(uint64_t until_ns) {
  while (world_now_ns() < until_ns && program_step(until_ns)) continue;
  if (world_now_ns() < until_ns) world_skip(until_ns);
}
