#include "tests/sim/program.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "core/base/error.h"
#include "net/relay.h"
#include "tests/sim/io.h"
#include "tests/sim/ledger.h"
#include "tests/sim/world.h"

#define GAUGE_NS (5 * SECOND_NS) /* within that a failed spool is told of */

/* ---- its threads ---- */

struct worker {
  struct relay *relay;
  struct counters *counters;
  unsigned index;
};

static struct program {
  struct conf conf;
  struct shard_group *group;
  struct worker workers[SHARDS_MAX];
  _Atomic uint32_t sessions;
  _Atomic uint64_t newest_id;
  unsigned at_barrier[8];
  bool runs;
  bool refused;       /* it could not start */
  bool wants_room;    /* ... for want of room */
  uint64_t failed_ns; /* when a write or a sync of a spool failed first; 0: none has */
  unsigned failed_shard;
  uint64_t repair_ns;     /* when somebody starts it again because of that */
  uint64_t disk_failures; /* there were before it started */
} * program;

static const struct plan *plan;
static unsigned lives; /* of the program */

static void barrier(unsigned which) {
  program->at_barrier[which]++;
  while (program->at_barrier[which] < program->conf.shards) fiber_sleep(world_now_ns() + 50 * MICROSECOND_NS);
}

/* Errors of the disk are what a plan may have, and then there is only one thing to do: not to start, or to end with an error. */
static bool is_of_disk(int error) { return error == E_IO && disk_stats()->failures > program->disk_failures; }

static void check(int error, const struct fmt *why, const char *what) {
  if (error != E_OK) fault("%s: %s: %.*s", what, error_text(error), (int)why->len, (const char *)why->at);
}

static void work(void *context) {
  struct worker *worker = context;
  char room[512];
  struct fmt why = fmt_over(room, sizeof room);
  struct relay_options options = {.conf = &program->conf,
                                  .group = program->group,
                                  .index = worker->index,
                                  .counters = worker->counters,
                                  .sessions_open = &program->sessions,
                                  .newest_id = &program->newest_id};
  int error = relay_open(&worker->relay, &options, &why);
  if ((error == E_NO_SPACE && memmem(why.at, why.len, "copying the mail", 16) != NULL) || is_of_disk(error)) {
    trace("it cannot start: %.*s", (int)why.len, (const char *)why.at);
    program->refused = true;
    program->wants_room |= error == E_NO_SPACE;
    fiber_sleep(UINT64_MAX);
  }
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
}

/* For the first two domains, one by its name, the other by its hosts; both by these where mail for other names may go there too. */
static int put_sites(char *to, size_t size) {
  const char *const patterns[MX_SPECIAL] = {plan->client.aliases > 0 ? "*.d00000.test" : "d00000.test", "*.d00001.test"};
  int len = 0;
  for (unsigned i = 0; i < MX_SPECIAL; i++) {
    const struct mx_limits *limits = &plan->special[i];
    if (limits->connections_per_site == 0) continue;
    len += snprintf(
        to + len, size - (size_t)len,
        "%s  - {match: [\"%s\"], connections_per_site: %u, messages_per_connection: %u, retry_initial: 500ms, retry_jitter: 40%%, max_age: 120s}\n",
        len == 0 ? "sites:\n" : "", patterns[i], limits->connections_per_site, limits->messages_per_connection);
  }
  return len;
}

static void read_conf(struct conf *conf, unsigned shards) {
  char text[2000], room[512];
  struct fmt why = fmt_over(room, sizeof room);
  int len = snprintf(text, sizeof text,
                     "hostname: relay.example\nshards: %u\nspool: {path: /spool, durability: %s}\nlisteners: [{address: 10.0.0.1, port: 25}]\n"
                     "dns: {servers: [\"10.0.0.53:53\"], timeout: 1s, ipv6: false}\n"
                     "queue: {retry_initial: 1s, retry_max: 8s, retry_factor: 1.7, max_age: 150s}\n"
                     "delivery: {connections_per_site: %u, messages_per_connection: %u, idle: 5s,"
                     " timeouts: {connect: 3s, greeting: 5s, command: 5s, data: 10s, final: 10s}}\n"
                     "limits: {memory: %" PRIu64 "KiB, session_timeout: 60s}\nevents: {path: /events}\n"
                     "dsn: {rate: 1000000}\n",
                     shards,
                     plan->durability == CONF_SYNC   ? "sync"
                     : plan->durability == CONF_LAZY ? "lazy"
                                                     : "memory",
                     plan->limits.connections_per_site, plan->limits.messages_per_connection, plan->memory_bytes >> 10);
  must(len > 0 && (size_t)len < sizeof text);
  len += put_sites(text + len, sizeof text - (size_t)len);
  must((size_t)len < sizeof text);
  check(conf_parse(conf, span_of(text, (size_t)len), "sim.yaml", &why), &why, "conf_parse");
  conf->segment_size_bytes = plan->segment_bytes; /* smaller than a user may have them: to see many of them */
}

/* ---- life ---- */

bool program_runs(void) { return program != NULL && program->runs; }

/* What stands in a spool is known to the ledger, and that a spool failed, too. */
static void disk_wrote(const char *path, struct span bytes, bool failed) {
  unsigned shard;
  if (plan->disk.write_fails > 0 || plan->disk.sync_fails > 0) ledger_written(bytes, failed);
  if (!failed || !program_runs()) return; /* a start that fails is refused */
  ledger_failing();
  if (program->failed_ns != 0 || sscanf(path, "/spool/shard-%u/", &shard) != 1) return;
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
  program = sim_alloc(sizeof *program);
  program->disk_failures = disk_stats()->failures;
  read_conf(&program->conf, shards);
  must(shard_group_open(&program->group, shards) == E_OK);
  for (unsigned i = 0; i < shards; i++) {
    program->workers[i] = (struct worker){.index = i, .counters = sim_alloc(sizeof(struct counters))};
    fiber_start(work, &program->workers[i]);
  }
  trace("the program starts with %u shards", shards);
}

static void end(bool power) {
  fibers_kill();
  sim_io_crash();
  disk_crash(power);
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
  for (unsigned i = 0; i < program->conf.shards; i++) relay_stop(program->workers[i].relay);
  while (fibers_alive() > 0 && program == stopped && world_now_ns() < until_ns && step(until_ns)) continue;
  if (program != stopped) { /* the power was cut meanwhile */
    program_stop();
    return;
  }
  if (fibers_alive() > 0) fault("the program did not end within a minute of its stop");
  program = NULL;
  if (stopped->failed_ns != 0) ledger_killed(false); /* what it could not write down is forgotten */
}

uint64_t program_queued(void) {
  uint64_t sum = 0;
  for (unsigned i = 0; i < program->conf.shards; i++) sum += count_get(program->workers[i].counters, GAUGE_QUEUED_MESSAGES);
  return sum;
}

/* ---- going on ---- */

/* Somebody starts it again, and may take the occasion to switch the machine off. */
static void repair(void) {
  bool told = count_get(program->workers[program->failed_shard].counters, GAUGE_SPOOL_FAILED) != 0;
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
