#include "tests/sim/plan.h"

#include <inttypes.h>

#include "tests/sim/world.h"

#define OPERATOR_NS (60 * SECOND_NS) /* for so long one acts at most */

/* A kind of fault is there in half of the seeds, and then often or not. */
static unsigned maybe(unsigned low, unsigned high) { return chance_once(2) ? (unsigned)chance_spread(low, high) : 0; }

/* Some of the operations fail for good. What is done at once is done by the dozen at each start, so that must not fail too often. */
static void break_disk(struct disk_faults *disk) {
  disk->write_fails = maybe(30, 1000);
  disk->sync_fails = maybe(30, 1000);
  disk->read_fails = maybe(2, 50);
  disk->calls_fail = maybe(100, 2000);
  disk->events_fail = maybe(2, 50);
}

/* What is suspended gets older, so mail may wait for longer than without. */
static void add_operator(struct plan *p) {
  p->operating = (struct operator_plan){.acts_ns = chance_spread(3 * SECOND_NS, OPERATOR_NS),
                                        .acts_max = (unsigned)chance_spread(5, 200),
                                        .pause_low_ns = MILLISECOND_NS,
                                        .pause_high_ns = chance_spread(50 * MILLISECOND_NS, 3 * SECOND_NS),
                                        .domains = p->domains,
                                        .disk_fails = p->disk.calls_fail > 0 || p->disk.capacity_bytes > 0};
  p->operating.weight[ACT_LIST] = 4;
  for (unsigned i = ACT_LIST + 1; i < ACTS; i++) p->operating.weight[i] = chance_once(3) ? 0 : (unsigned)chance_spread(1, 10);
  p->fixed.max_age_s += (unsigned)(OPERATOR_NS / SECOND_NS);
}

struct plan plan_make(void) {
  struct plan p = {
      .shards = 1 + (unsigned)chance(SHARDS_MAX),
      .sessions = (unsigned)chance_spread(1, 20),
      .messages = (unsigned)chance_spread(10, 200),
      .domains = (unsigned)chance_spread(1, 30),
      .mx_hosts = 1 + (unsigned)chance(3),
      .settings = {.limits = {.connections_per_site = (unsigned)chance_spread(1, 10), .messages_per_connection = (unsigned)chance_spread(1, 100)},
                   .retry_initial_ms = 1000,
                   .retry_max_ms = 8000,
                   .dns_timeout_s = 1},
      .fixed = {.durability = chance_once(5) ? (chance_once(2) ? CONF_LAZY : CONF_MEMORY) : CONF_SYNC,
                .segment_bytes = chance_spread(64 << 10, 4 << 20) / 4096 * 4096,
                .memory_bytes = chance_spread(64 << 20, 256 << 20),
                .max_age_s = 150},
      .faults_ns = chance_spread(SECOND_NS, 20 * SECOND_NS),
      .stops = maybe(1, 2),
      .clock_jumps = maybe(1, 3),
  };
  p.jump_ms = chance_once(4) ? chance_spread(1000, 10 * 24 * 3600 * 1000ull) : 10000;
  if (p.fixed.durability == CONF_SYNC) p.kills = maybe(1, 4);
  p.power = (enum power)chance(3);
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
      .untaken_and_cut = maybe(10, 100),
      .cut_in_content = maybe(100, 3000),
      .extra_reply = maybe(20, 300),
      .mute = maybe(30, 1000),
      .reads_slowly = maybe(30, 1000),
      .down = maybe(3, 30),
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
                              .outage = maybe(2, 10),
                              .forged = maybe(2, 20),
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
                                    .aliases = maybe(1, 10),
                                    .messages_per_session = (unsigned)chance_spread(1, 100)};
  if (p.clock_jumps > 0 && p.jump_ms > 10000)
    p.client.expires_once = 0; /* mail from the future counts as new until that is reached: far too long for us */
  if (p.mx.helo_only == 0) p.client.eight_bit = maybe(1, 10);
  if (p.client.size_high > 50000 && p.fixed.segment_bytes < (2 << 20)) p.fixed.segment_bytes = 2 << 20; /* to hold any record */
  p.weather = (struct net_weather){.delay_low_ns = 20 * MICROSECOND_NS,
                                   .delay_high_ns = chance_spread(100 * MICROSECOND_NS, 100 * MILLISECOND_NS),
                                   .window_bytes = chance_spread(1000, 200000),
                                   .piece_max = chance_spread(p.client.size_high > 100000 ? 1000 : 10, 65536),
                                   .resets_once = maybe(10, 100),
                                   .lost_once = maybe(3, 30)};
  p.disk = (struct disk_faults){.write_ns = chance_spread(10 * MICROSECOND_NS, 20 * MILLISECOND_NS),
                                .sync_ns = chance_spread(50 * MICROSECOND_NS, 50 * MILLISECOND_NS),
                                .refuse_direct = chance_once(4)};
  if (p.fixed.durability == CONF_SYNC && chance_once(3)) { /* with the smallest segments a full spool would be short even of blocks for outcomes */
    if (p.fixed.segment_bytes < (1 << 20)) p.fixed.segment_bytes = 1 << 20;
    p.disk.capacity_bytes = p.shards * p.fixed.segment_bytes * (3 + chance(6)) + chance_spread(1 << 16, 4 << 20);
  }
  p.reshards = chance_once(2);
  if (p.fixed.durability == CONF_SYNC && chance_once(4)) break_disk(&p.disk);
  for (unsigned i = 0; i < SETTINGS_SPECIAL; i++)
    if (chance_once(2)) p.settings.special[i] = (struct limits){(unsigned)chance_spread(1, 20), (unsigned)chance_spread(1, 100)};
  p.fixed.by_hosts = p.client.aliases > 0;
  if (chance_once(2)) add_operator(&p);
  p.fixed.strangers = chance_once(3);
  return p;
}

static void tell_operator(const struct operator_plan *plan) {
  if (plan->acts_ns == 0) return;
  trace("an operator for %.3f s, acts %u, pauses up to %.3f s: lists %u, retries %u, bounces %u, suspends %u, resumes %u, reloads %u, nonsense %u",
        (double)plan->acts_ns / SECOND_NS, plan->acts_max, (double)plan->pause_high_ns / SECOND_NS, plan->weight[ACT_LIST], plan->weight[ACT_RETRY],
        plan->weight[ACT_BOUNCE], plan->weight[ACT_SUSPEND], plan->weight[ACT_RESUME], plan->weight[ACT_RELOAD], plan->weight[ACT_NONSENSE]);
}

void plan_tell(const struct plan *plan) {
  trace("shards %u, sessions %u, messages %u, domains %u, hosts %u, connections %u, messages on each %u", plan->shards, plan->sessions,
        plan->messages, plan->domains, plan->mx_hosts, plan->settings.limits.connections_per_site, plan->settings.limits.messages_per_connection);
  for (unsigned i = 0; i < SETTINGS_SPECIAL; i++)
    trace("site %u: connections %u, messages on each %u", i, plan->settings.special[i].connections_per_site,
          plan->settings.special[i].messages_per_connection);
  trace("disk fails: writes %u, syncs %u, reads %u, calls %u, events %u", plan->disk.write_fails, plan->disk.sync_fails, plan->disk.read_fails,
        plan->disk.calls_fail, plan->disk.events_fail);
  trace("durability %d, segments %" PRIu64 ", memory %" PRIu64 ", kills %u%s, stops %u, jumps %u, size %" PRIu64, plan->fixed.durability,
        plan->fixed.segment_bytes, plan->fixed.memory_bytes, plan->kills,
        plan->power == POWER_NEVER    ? ""
        : plan->power == POWER_ALWAYS ? " (power)"
                                      : " (some of power)",
        plan->stops, plan->clock_jumps, plan->client.size_high);
  tell_operator(&plan->operating);
}
