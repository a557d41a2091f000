/*
 * sim: the whole relay, all shards in one thread, in a simulated world (world.h): its clients, the mail exchangers, DNS, the net and the disk, and
 * what goes wrong with them, from one seed. First with faults, then without; a ledger (ledger.h) holds what came of every message against the
 * specification.
 *
 *   sim [--seeds FROM-TO] [--jobs N] [--seconds N] [--first]   many; a seed that shows a fault is printed with the last lines of its trace
 *   sim --seeds FROM-TO --twice                                 ... and the same seed has to make the same trace again
 *   sim --seeds FROM-TO --cuts                                  three messages, and the power is cut at every sync, and at two
 *   sim --seed N [--trace]                                      one, with all of its trace
 */
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/base/error.h"
#include "net/relay.h"
#include "tests/sim/client.h"
#include "tests/sim/disk.h"
#include "tests/sim/dns.h"
#include "tests/sim/io.h"
#include "tests/sim/ledger.h"
#include "tests/sim/mx.h"
#include "tests/sim/net.h"
#include "tests/sim/world.h"

#define SHARDS_MAX 4
#define SEED_SECONDS 120 /* of real time: then it hangs */

/* ---- what a seed decides ---- */

struct plan {
  unsigned shards, sessions, messages, domains, mx_hosts;
  struct mx_limits limits, special[MX_SPECIAL]; /* zeros: none */
  enum conf_durability durability;
  uint64_t segment_bytes, memory_bytes;
  uint64_t faults_ns; /* how long things go wrong */
  unsigned kills, stops, clock_jumps;
  bool power;    /* kills are power cuts */
  bool reshards; /* each life of the program has another number of shards */
  struct mx_habits mx;
  struct dns_habits dns;
  struct client_habits client;
  struct net_weather weather;
  struct disk_faults disk;
};

/* A kind of fault is there in half of the seeds, and then often or not. */
static unsigned maybe(unsigned low, unsigned high) { return chance_once(2) ? (unsigned)chance_spread(low, high) : 0; }

static struct plan make_plan(void) {
  struct plan p = {
      .shards = 1 + (unsigned)chance(SHARDS_MAX),
      .sessions = (unsigned)chance_spread(1, 20),
      .messages = (unsigned)chance_spread(10, 200),
      .domains = (unsigned)chance_spread(1, 30),
      .mx_hosts = 1 + (unsigned)chance(3),
      .limits = {.connections_per_site = (unsigned)chance_spread(1, 10), .messages_per_connection = (unsigned)chance_spread(1, 100)},
      .durability = chance_once(5) ? (chance_once(2) ? CONF_LAZY : CONF_MEMORY) : CONF_SYNC,
      .segment_bytes = chance_spread(64 << 10, 4 << 20) / 4096 * 4096,
      .memory_bytes = chance_spread(64 << 20, 256 << 20),
      .faults_ns = chance_spread(SECOND_NS, 20 * SECOND_NS),
      .stops = maybe(1, 2),
      .clock_jumps = maybe(1, 3),
  };
  if (p.durability == CONF_SYNC) p.kills = maybe(1, 4);
  p.power = chance_once(2);
  p.mx = (struct mx_habits){
      .refuse_connection = maybe(3, 50),
      .greeting_421 = maybe(3, 50),
      .greeting_silence = maybe(10, 100),
      .mail_4xx = maybe(3, 100),
      .rcpt_4xx = maybe(3, 100),
      .data_4xx = maybe(3, 100),
      .final_4xx = maybe(3, 100),
      .any_421 = maybe(10, 300),
      .cut = maybe(10, 300),
      .reset = maybe(10, 300),
      .taken_and_cut = maybe(10, 100),
      .extra_reply = maybe(20, 300),
      .greylist = maybe(1, 10),
      .drip = maybe(2, 20),
      .no_pipelining = maybe(1, 10),
      .no_chunking = maybe(1, 10),
      .helo_only = maybe(2, 10),
      .limits = maybe(1, 10),
      .reply_low_ns = 10 * MICROSECOND_NS,
      .reply_high_ns = chance_spread(MILLISECOND_NS, 2 * SECOND_NS),
  };
  p.dns = (struct dns_habits){.silence = maybe(2, 20),
                              .servfail = maybe(2, 20),
                              .truncated = maybe(1, 10),
                              .garbage = maybe(5, 50),
                              .twice = maybe(2, 20),
                              .low_ns = 50 * MICROSECOND_NS,
                              .high_ns = chance_spread(MILLISECOND_NS, 3 * SECOND_NS)};
  p.client = (struct client_habits){.leaves_in_data = maybe(5, 50),
                                    .leaves_behind_data = maybe(5, 50),
                                    .rset = maybe(5, 50),
                                    .refused_content = maybe(10, 50),
                                    .dawdles = maybe(20, 100),
                                    .pause_low_ns = 10 * MICROSECOND_NS,
                                    .pause_high_ns = chance_spread(MILLISECOND_NS, SECOND_NS),
                                    .size_low = 100,
                                    .size_high = chance_spread(1000, chance_once(10) ? 3 << 20 : 60000),
                                    .recipients_max = (unsigned)chance_spread(1, 60),
                                    .refused_once = maybe(5, 50),
                                    .expires_once = maybe(20, 200),
                                    .domains = p.domains,
                                    .messages_per_session = (unsigned)chance_spread(1, 100)};
  if (p.mx.helo_only == 0) p.client.eight_bit = maybe(1, 10);
  if (p.client.size_high > 50000 && p.segment_bytes < (2 << 20)) p.segment_bytes = 2 << 20; /* to hold any record */
  p.weather = (struct net_weather){.delay_low_ns = 20 * MICROSECOND_NS,
                                   .delay_high_ns = chance_spread(100 * MICROSECOND_NS, 100 * MILLISECOND_NS),
                                   .window_bytes = chance_spread(1000, 200000),
                                   .piece_max = chance_spread(p.client.size_high > 100000 ? 1000 : 10, 65536),
                                   .resets_once = maybe(10, 100),
                                   .lost_once = maybe(3, 30)};
  p.disk = (struct disk_faults){.write_ns = chance_spread(10 * MICROSECOND_NS, 20 * MILLISECOND_NS),
                                .sync_ns = chance_spread(50 * MICROSECOND_NS, 50 * MILLISECOND_NS),
                                .refuse_direct = chance_once(4)};
  if (p.durability == CONF_SYNC && chance_once(3)) { /* with the smallest segments a full spool would be short even of blocks for outcomes */
    if (p.segment_bytes < (1 << 20)) p.segment_bytes = 1 << 20;
    p.disk.capacity_bytes = p.shards * p.segment_bytes * (3 + chance(6)) + chance_spread(1 << 16, 4 << 20);
  }
  p.reshards = chance_once(2);
  for (unsigned i = 0; i < MX_SPECIAL; i++)
    if (chance_once(2)) p.special[i] = (struct mx_limits){(unsigned)chance_spread(1, 20), (unsigned)chance_spread(1, 100)};
  return p;
}

static struct plan plan; /* of the run: it has its own process */

/* ---- the program: as net/cli/serve.c runs it, its threads being fibers ---- */

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
  bool refused; /* it could not start for want of room, as it may say when it has to copy the mail of missing shards */
} * program;

static void barrier(unsigned which) {
  program->at_barrier[which]++;
  while (program->at_barrier[which] < program->conf.shards) fiber_sleep(world_now_ns() + 50 * MICROSECOND_NS);
}

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
  if (error == E_NO_SPACE && memmem(why.at, why.len, "copying the mail", 16) != NULL) {
    program->refused = true;
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
  check(error, &why, "relay_failed");
  barrier(3);
  relay_release(worker->relay);
  barrier(4);
  relay_close(worker->relay);
}

/* For the first two domains, one by its name, the other by its hosts. */
static int put_sites(char *to, size_t size) {
  static const char *const patterns[MX_SPECIAL] = {"d00000.test", "*.d00001.test"};
  int len = 0;
  for (unsigned i = 0; i < MX_SPECIAL; i++) {
    const struct mx_limits *limits = &plan.special[i];
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
                     plan.durability == CONF_SYNC   ? "sync"
                     : plan.durability == CONF_LAZY ? "lazy"
                                                    : "memory",
                     plan.limits.connections_per_site, plan.limits.messages_per_connection, plan.memory_bytes >> 10);
  must(len > 0 && (size_t)len < sizeof text);
  len += put_sites(text + len, sizeof text - (size_t)len);
  must((size_t)len < sizeof text);
  check(conf_parse(conf, span_of(text, (size_t)len), "sim.yaml", &why), &why, "conf_parse");
  conf->segment_size_bytes = plan.segment_bytes; /* smaller than a user may have them: to see many of them */
}

static void tell_plan(void) {
  trace("shards %u, sessions %u, messages %u, domains %u, hosts %u, connections %u, messages on each %u", plan.shards, plan.sessions, plan.messages,
        plan.domains, plan.mx_hosts, plan.limits.connections_per_site, plan.limits.messages_per_connection);
  for (unsigned i = 0; i < MX_SPECIAL; i++)
    trace("site %u: connections %u, messages on each %u", i, plan.special[i].connections_per_site, plan.special[i].messages_per_connection);
  trace("durability %d, segments %" PRIu64 ", memory %" PRIu64 ", kills %u%s, stops %u, jumps %u, size %" PRIu64, plan.durability, plan.segment_bytes,
        plan.memory_bytes, plan.kills, plan.power ? " (power)" : "", plan.stops, plan.clock_jumps, plan.client.size_high);
}

static unsigned lives; /* of the program */

static void start_program(void) {
  unsigned shards = lives++ > 0 && plan.reshards ? 1 + (unsigned)chance(SHARDS_MAX) : plan.shards;
  program = sim_alloc(sizeof *program);
  read_conf(&program->conf, shards);
  must(shard_group_open(&program->group, shards) == E_OK);
  for (unsigned i = 0; i < shards; i++) {
    program->workers[i] = (struct worker){.index = i, .counters = sim_alloc(sizeof(struct counters))};
    fiber_start(work, &program->workers[i]);
  }
  trace("the program starts with %u shards", shards);
}

static void kill_program(bool power) {
  trace(power ? "the power is cut" : "the program is killed");
  fibers_kill();
  sim_io_crash();
  disk_crash(power);
  ledger_killed(power);
  program = NULL;
}

/* What an operator does then: gives the disk more room. Nothing may be lost by the vain try. */
static void start_again(void) {
  struct disk_faults roomy = plan.disk;
  roomy.capacity_bytes = 0;
  kill_program(false);
  disk_set_faults(&roomy);
  start_program();
}

/* The power is cut where a test wants it, and comes back at once. */
static struct {
  uint64_t second; /* the next cut: so many syncs after the first */
  unsigned done;
} cuts;

static bool step(uint64_t limit_ns) {
  bool more = world_step(limit_ns);
  if (program != NULL && program->refused) start_again();
  if (!disk_is_cut()) return more;
  kill_program(true);
  start_program();
  disk_cut_at(cuts.second);
  cuts.second = 0;
  cuts.done++;
  return true;
}

static void run_until(uint64_t until_ns) {
  while (world_now_ns() < until_ns && step(until_ns)) continue;
  if (world_now_ns() < until_ns) world_skip(until_ns);
}

/* An orderly stop has 30 s for transactions, and then a bit. */
static void stop_program(void) {
  trace("the program is stopped");
  uint64_t until_ns = world_now_ns() + 60 * SECOND_NS;
  while (!program->runs && step(until_ns)) continue;
  const struct program *stopped = program;
  for (unsigned i = 0; i < program->conf.shards; i++) relay_stop(program->workers[i].relay);
  while (fibers_alive() > 0 && program == stopped && world_now_ns() < until_ns && step(until_ns)) continue;
  if (program != stopped) { /* the power was cut meanwhile */
    stop_program();
    return;
  }
  if (fibers_alive() > 0) fault("the program did not end within a minute of its stop");
  program = NULL;
}

static uint64_t queued(void) {
  uint64_t sum = 0;
  for (unsigned i = 0; i < program->conf.shards; i++) sum += count_get(program->workers[i].counters, GAUGE_QUEUED_MESSAGES);
  return sum;
}

/* ---- the world ---- */

static struct zone zone;

static void open_world(void) {
  static const struct netaddr v4 = {.family = 4, .bytes = {10, 0, 0, 1}}, v6 = {.family = 6, .bytes = {0xfd, [15] = 1}};
  static const struct netaddr dns = {.family = 4, .port = 53, .bytes = {10, 0, 0, 53}};
  struct netaddr relay = v4;
  relay.port = 25;
  disk_open();
  net_open();
  sim_io_open(&v4, &v6);
  ledger_open();
  must(domains_parse(&zone.domains, SPAN("d%05d.test")) == E_OK);
  zone.count = plan.domains;
  zone.mx_hosts = plan.mx_hosts;
  zone.host_base = 10u << 24 | 1 << 16;
  zone.host_count = plan.domains * plan.mx_hosts;
  zone.ttl_s = (uint32_t)chance_spread(1, 3600);
  zone.negative_ttl_s = 2;
  dns_open(&zone, &dns);
  mx_open(&zone, &plan.limits, plan.special);
  client_open(&relay, plan.sessions, plan.messages);
}

static void let_faults_in(void) {
  mx_set_habits(&plan.mx);
  dns_set_habits(&plan.dns);
  client_set_habits(&plan.client);
  net_set_weather(&plan.weather);
  disk_set_faults(&plan.disk);
}

static void calm(void) {
  struct client_habits client = plan.client;
  client.leaves_in_data = client.leaves_behind_data = client.rset = client.dawdles = 0;
  client_set_habits(&client);
  mx_set_habits(&(struct mx_habits){.reply_low_ns = 10 * MICROSECOND_NS, .reply_high_ns = 2 * MILLISECOND_NS});
  dns_set_habits(&(struct dns_habits){.low_ns = 50 * MICROSECOND_NS, .high_ns = MILLISECOND_NS});
  net_set_weather(
      &(struct net_weather){.delay_low_ns = 20 * MICROSECOND_NS, .delay_high_ns = 200 * MICROSECOND_NS, .window_bytes = 200000, .piece_max = 65536});
  disk_set_faults(&(struct disk_faults){.refuse_direct = plan.disk.refuse_direct});
}

/* ---- events ---- */

static void read_events_file(void *context, const char *name) {
  (void)context;
  char path[128];
  uint8_t *bytes;
  size_t len;
  snprintf(path, sizeof path, "/events/%s", name);
  must(disk_contents(path, &bytes, &len));
  struct span rest = span_of(bytes, len);
  for (ptrdiff_t end; (end = span_find(rest, '\n')) >= 0; rest = span_skip(rest, (size_t)end + 1)) {
    struct span line = span_first(rest, (size_t)end);
    bool torn = ledger_was_killed() && (line.len == 0 || line.at[0] != '{' || line.at[line.len - 1] != '}' || memchr(line.at, 0, line.len) != NULL);
    if (!torn) ledger_event(line);
  }
  if (rest.len > 0 && !ledger_was_killed()) fault("%s ends within a line", path);
}

/* ---- a run ---- */

static void disturb(void) {
  uint64_t end_ns = world_now_ns() + plan.faults_ns;
  unsigned kills = plan.kills, stops = plan.stops, jumps = plan.clock_jumps;
  while (kills + stops + jumps > 0) {
    unsigned left = kills + stops + jumps;
    run_until(world_now_ns() + chance((end_ns > world_now_ns() ? end_ns - world_now_ns() : SECOND_NS) / left * 2 + 1));
    uint64_t which = chance(left);
    if (which < jumps) {
      jumps--;
      world_set_wall((int64_t)chance(20000) - 10000);
      trace("the clock is set");
      continue;
    }
    if (which < jumps + kills) {
      kills--;
      kill_program(plan.power);
    } else {
      stops--;
      stop_program();
    }
    run_until(world_now_ns() + chance(2 * SECOND_NS));
    start_program();
  }
  if (world_now_ns() < end_ns) run_until(end_ns);
}

static void finish(void) {
  trace("calm");
  calm();
  uint64_t limit_ns = world_now_ns() + 400 * SECOND_NS;
  while ((!client_is_over() || !program->runs || queued() > 0) && world_now_ns() < limit_ns && step(limit_ns)) {
    if (world_now_ns() > limit_ns - 200 * SECOND_NS) client_stop();
  }
  if (queued() > 0) fault("%" PRIu64 " messages are still queued, %u recipients have not got theirs", queued(), ledger_open_recipients());
  if (!client_is_over()) fault("clients wait for ever");
  stop_program();
  disk_list("/events", read_events_file, NULL);
  ledger_close(false);
}

static void run(uint64_t seed, FILE *trace_file) {
  world_open(seed, trace_file);
  plan = make_plan();
  tell_plan();
  open_world();
  let_faults_in();
  start_program();
  disturb();
  finish();
}

/* Three messages, one of them of several parts, and the power is cut at the first-th thing that becomes durable, then at the second-th after that. False: it
 * came to an end before. */
static bool run_cut(uint64_t seed, uint64_t first, uint64_t second) {
  world_open(seed, NULL);
  plan = (struct plan){.shards = 1 + (unsigned)(seed % 3),
                       .reshards = seed % 2 == 0,
                       .sessions = 3,
                       .messages = 3,
                       .domains = 2,
                       .mx_hosts = 1,
                       .limits = {.connections_per_site = 2, .messages_per_connection = 10},
                       .segment_bytes = 2 << 20,
                       .memory_bytes = 64 << 20,
                       .client = {.pause_low_ns = MICROSECOND_NS,
                                  .pause_high_ns = MILLISECOND_NS,
                                  .size_low = 500,
                                  .size_high = seed % 3 == 0 ? 2500000 : 20000,
                                  .recipients_max = 3,
                                  .refused_once = 4,
                                  .domains = 2,
                                  .messages_per_session = 1}};
  cuts.second = second;
  open_world();
  calm();
  disk_cut_at(first);
  start_program();
  finish();
  return cuts.done == (second == 0 ? 1 : 2);
}

static void print_sums(uint64_t seed) {
  const struct ledger_sums *sums = ledger_sums();
  printf("seed %" PRIu64
         ": %u messages, %u accepted, %u recipients: %u delivered, %u refused, %u expired; %u twice; %u without events; trace %016" PRIx64 "\n",
         seed, sums->messages, sums->accepted, sums->recipients, sums->delivered, sums->refused, sums->expired, sums->twice, sums->lost_events,
         trace_hash());
}

/* ---- many ---- */

/* A process of its own: what a crash leaves behind goes with it. *hash: of its trace. */
static bool run_apart(uint64_t seed, bool quiet, uint64_t *hash) {
  int ends[2];
  must(pipe(ends) == 0);
  fflush(NULL);
  pid_t child = fork();
  must(child >= 0);
  if (child == 0) {
    alarm(SEED_SECONDS);
    if (freopen("/dev/null", "w", stderr) == NULL) _exit(2);
    run(seed, NULL);
    if (!quiet) print_sums(seed);
    fflush(NULL);
    uint64_t own = trace_hash();
    _exit(write(ends[1], &own, sizeof own) == sizeof own ? 0 : 2);
  }
  close(ends[1]);
  int status = 0;
  waitpid(child, &status, 0);
  bool good = WIFEXITED(status) && WEXITSTATUS(status) == 0 && read(ends[0], hash, sizeof *hash) == sizeof *hash;
  close(ends[0]);
  if (WIFSIGNALED(status)) printf("FAULT with seed %" PRIu64 ": the process was ended by signal %d\n", seed, WTERMSIG(status));
  return good;
}

/* `twice`: the second time has to be as the first. */
static int run_one(uint64_t seed, bool quiet, bool twice) {
  uint64_t first, second;
  if (!run_apart(seed, quiet, &first)) return 1;
  if (!twice) return 0;
  if (!run_apart(seed, true, &second)) return 1;
  if (first != second) printf("FAULT with seed %" PRIu64 ": its trace differs from run to run\n", seed);
  return first != second;
}

/* *more: there was such a sync, so there may be a later one. */
static bool cut_apart(uint64_t seed, uint64_t first, uint64_t second, bool *more) {
  fflush(NULL);
  pid_t child = fork();
  must(child >= 0);
  if (child == 0) {
    alarm(SEED_SECONDS);
    if (freopen("/dev/null", "w", stderr) == NULL) _exit(2);
    bool cut = run_cut(seed, first, second);
    fflush(NULL);
    _exit(cut ? 0 : 3);
  }
  int status = 0;
  waitpid(child, &status, 0);
  *more = WIFEXITED(status) && WEXITSTATUS(status) == 0;
  bool good = WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 3);
  if (!good) printf("FAULT with the power cut at sync %" PRIu64 " and %" PRIu64 " of seed %" PRIu64 "\n", first, second, seed);
  return good;
}

/* All cuts there are, and behind every `pairs`-th all second ones. */
static int run_cuts(uint64_t from, uint64_t to, unsigned pairs) {
  unsigned runs = 0, failed = 0;
  for (uint64_t seed = from; seed <= to; seed++) {
    bool more = true;
    for (uint64_t first = 1; more; first++) {
      failed += !cut_apart(seed, first, 0, &more);
      runs++;
      bool more_seconds = more && pairs > 0 && first % pairs == 0;
      for (uint64_t second = 1; more_seconds; second++, runs++) failed += !cut_apart(seed, first, second, &more_seconds);
    }
  }
  printf("%u runs of %" PRIu64 " seeds, the power cut at every sync, %u with faults\n", runs, to - from + 1, failed);
  return failed == 0 ? 0 : 1;
}

struct options {
  uint64_t from, to, seed;
  unsigned jobs, seconds; /* no seed is begun after so many; 0: all are */
  bool trace, verbose, first_fault_ends, twice, cuts;
};

/* Of all jobs. */
struct progress {
  _Atomic uint64_t next, done;
  _Atomic unsigned failed;
};

static double now_s(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void run_some(const struct options *options, struct progress *progress, double begin_s) {
  while (options->seconds == 0 || now_s() - begin_s < options->seconds) {
    uint64_t seed = atomic_fetch_add(&progress->next, 1);
    if (seed > options->to || (options->first_fault_ends && atomic_load(&progress->failed) > 0)) return;
    if (run_one(seed, !options->verbose, options->twice) != 0) atomic_fetch_add(&progress->failed, 1);
    atomic_fetch_add(&progress->done, 1);
  }
}

static int run_many(const struct options *options) {
  double begin_s = now_s();
  struct progress *progress = mmap(NULL, sizeof *progress, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  must(progress != MAP_FAILED);
  atomic_store(&progress->next, options->from);
  for (unsigned job = 0; job < options->jobs; job++) {
    fflush(NULL);
    pid_t child = fork();
    must(child >= 0);
    if (child != 0) continue;
    run_some(options, progress, begin_s);
    fflush(NULL);
    _exit(0);
  }
  while (wait(NULL) > 0) continue;
  printf("%" PRIu64 " seeds in %.1f s, %u with faults\n", atomic_load(&progress->done), now_s() - begin_s, atomic_load(&progress->failed));
  return atomic_load(&progress->failed) == 0 ? 0 : 1;
}

static bool read_options(struct options *options, int argc, char **argv) {
  for (int i = 1; i < argc; i++) {
    const char *value = i + 1 < argc ? argv[i + 1] : "";
    int used = 1;
    if (strcmp(argv[i], "--seeds") == 0) {
      used += sscanf(value, "%" SCNu64 "-%" SCNu64, &options->from, &options->to) == 2;
    } else if (strcmp(argv[i], "--seed") == 0) {
      used += sscanf(value, "%" SCNu64, &options->seed) == 1;
    } else if (strcmp(argv[i], "--jobs") == 0) {
      used += sscanf(value, "%u", &options->jobs) == 1;
    } else if (strcmp(argv[i], "--seconds") == 0) {
      used += sscanf(value, "%u", &options->seconds) == 1;
    } else if (strcmp(argv[i], "--trace") == 0) {
      options->trace = true;
    } else if (strcmp(argv[i], "--verbose") == 0) {
      options->verbose = true;
    } else if (strcmp(argv[i], "--first") == 0) {
      options->first_fault_ends = true;
    } else if (strcmp(argv[i], "--cuts") == 0) {
      options->cuts = true;
    } else if (strcmp(argv[i], "--twice") == 0) {
      options->twice = true;
    } else {
      return false;
    }
    bool wants_value = strncmp(argv[i], "--seed", 6) == 0 || strcmp(argv[i], "--jobs") == 0 || strcmp(argv[i], "--seconds") == 0;
    if (wants_value && used == 1) return false;
    i += used - 1;
  }
  return options->from <= options->to && options->jobs > 0;
}

int main(int argc, char **argv) {
  struct options options = {.from = 1, .to = 1000, .jobs = 2};
  if (!read_options(&options, argc, argv)) {
    fprintf(stderr,
            "usage: sim [--seeds FROM-TO] [--jobs N] [--seconds N] [--first] [--twice] [--cuts] [--verbose]\n       sim --seed N [--trace]\n");
    return 2;
  }
  if (options.cuts) return run_cuts(options.from, options.to, 1);
  if (options.seed == 0) return run_many(&options);
  run(options.seed, options.trace ? stdout : NULL);
  print_sums(options.seed);
  fflush(NULL);
  _exit(0);
}
