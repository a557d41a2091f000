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
#include "tests/sim/io.h"
#include "tests/sim/ledger.h"
#include "tests/sim/operator.h"
#include "tests/sim/orders.h"
#include "tests/sim/program.h"
#include "tests/sim/settings.h"
#include "tests/sim/world.h"

#define SEED_SECONDS 120 /* of real time: then it hangs */

/* ---- the world ---- */

static struct plan plan; /* of the run: it has its own process */
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
  zone.ttl_s = chance_once(5) ? 0 : (uint32_t)chance_spread(1, 3600);
  zone.negative_ttl_s = 2;
  plan.fixed.route_address = zone.host_base + zone.host_count;
  settings_open(&plan.settings, &plan.fixed);
  orders_open(plan.mx_hosts);
  operator_open(&plan.operating);
  program_open(&plan);
  dns_open(&zone, &dns);
  mx_open(&zone);
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

static int64_t clock_error_ms;

static void set_clock(int64_t by_ms) {
  orders_clock(); /* what was over is over, though it is no more, */
  world_set_wall(by_ms);
  clock_error_ms += by_ms;
  ledger_clock_set(by_ms);
  orders_clock(); /* and what is over now */
  trace("the clock is set by %" PRId64 " ms", by_ms);
}

static void disturb(void) {
  uint64_t end_ns = world_now_ns() + plan.faults_ns;
  unsigned kills = plan.kills, stops = plan.stops, jumps = plan.clock_jumps;
  while (kills + stops + jumps > 0) {
    unsigned left = kills + stops + jumps;
    program_run_until(world_now_ns() + chance((end_ns > world_now_ns() ? end_ns - world_now_ns() : SECOND_NS) / left * 2 + 1));
    uint64_t which = chance(left);
    if (which < jumps) {
      jumps--;
      set_clock((int64_t)chance(2 * plan.jump_ms) - (int64_t)plan.jump_ms);
      continue;
    }
    if (which < jumps + kills) {
      kills--;
      program_kill(plan.power == POWER_ALWAYS || (plan.power == POWER_SOMETIMES && chance_once(2)));
    } else {
      stops--;
      program_stop();
    }
    program_run_until(world_now_ns() + chance(2 * SECOND_NS));
    program_start();
  }
  if (world_now_ns() < end_ns) program_run_until(end_ns);
}

static void finish(void) {
  trace("calm");
  calm();
  if (clock_error_ms != 0) set_clock(-clock_error_ms);
  uint64_t limit_ns = world_now_ns() + 250 * SECOND_NS + plan.fixed.max_age_s * SECOND_NS;
  while ((!client_is_over() || !program_runs() || program_queued() > 0) && world_now_ns() < limit_ns && program_step(limit_ns)) {
    if (world_now_ns() > limit_ns - 200 * SECOND_NS) client_stop();
  }
  if (program_queued() > 0)
    fault("%" PRIu64 " messages are still queued, %u recipients have not got theirs", program_queued(), ledger_open_recipients());
  if (!client_is_over()) fault("clients wait for ever");
  operator_look_last();
  while (!operator_has_looked() && world_now_ns() < limit_ns + 100 * SECOND_NS && program_step(limit_ns + 100 * SECOND_NS)) continue;
  if (!operator_has_looked()) fault("the operator waits for ever");
  program_stop();
  disk_list("/events", read_events_file, NULL);
  ledger_close(plan.disk.events_fail > 0 && ledger_was_killed());
}

static void run(uint64_t seed, FILE *trace_file) {
  world_open(seed, trace_file);
  plan = plan_make();
  plan_tell(&plan);
  open_world();
  let_faults_in();
  program_start();
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
                       .settings = {.limits = {.connections_per_site = 2, .messages_per_connection = 10},
                                    .retry_initial_ms = 1000,
                                    .retry_max_ms = 8000,
                                    .dns_timeout_s = 1},
                       .fixed = {.segment_bytes = 2 << 20, .memory_bytes = 64 << 20, .max_age_s = 150},
                       .client = {.pause_low_ns = MICROSECOND_NS,
                                  .pause_high_ns = MILLISECOND_NS,
                                  .size_low = 500,
                                  .size_high = seed % 3 == 0 ? 2500000 : 20000,
                                  .recipients_max = 3,
                                  .refused_once = 4,
                                  .domains = 2,
                                  .messages_per_session = 1}};
  open_world();
  calm();
  program_cut_at(first, second);
  program_start();
  finish();
  return program_cuts() == (second == 0 ? 1 : 2);
}

static void print_sums(uint64_t seed) {
  const struct ledger_sums *sums = ledger_sums();
  printf(
      "seed %" PRIu64
      ": %u messages, %u accepted, %u recipients: %u delivered, %u refused, %u expired, %u given up; %u twice; %u without events; trace %016" PRIx64
      "\n",
      seed, sums->messages, sums->accepted, sums->recipients, sums->delivered, sums->refused, sums->expired, sums->given_up, sums->twice,
      sums->lost_events, trace_hash());
  const struct operator_sums *operated = operator_sums();
  const struct orders_sums *orders = orders_sums();
  const struct settings_sums *settings = settings_sums();
  if (operated->requests > 0)
    printf("seed %" PRIu64 ": the operator asked %u times, suspended %u (%u recipients of them were tried, in time), bounced %u with %u orders; "
           "reloads %u, refused %u; messages listed %u\n",
           seed, operated->requests, orders->suspended, orders->checked, orders->bounced, orders->bounces, settings->reloads, settings->refused,
           operated->listed);
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
