#include "tests/sim/plan.h"

#include <inttypes.h>

#include "tests/sim/world.h"

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

struct plan plan_make(void) {
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
  p.jump_ms = chance_once(4) ? chance_spread(1000, 10 * 24 * 3600 * 1000ull) : 10000;
  if (p.durability == CONF_SYNC) p.kills = maybe(1, 4);
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
  if (p.durability == CONF_SYNC && chance_once(4)) break_disk(&p.disk);
  for (unsigned i = 0; i < MX_SPECIAL; i++)
    if (chance_once(2)) p.special[i] = (struct mx_limits){(unsigned)chance_spread(1, 20), (unsigned)chance_spread(1, 100)};
  return p;
}

void plan_tell(const struct plan *plan) {
  trace("shards %u, sessions %u, messages %u, domains %u, hosts %u, connections %u, messages on each %u", plan->shards, plan->sessions,
        plan->messages, plan->domains, plan->mx_hosts, plan->limits.connections_per_site, plan->limits.messages_per_connection);
  for (unsigned i = 0; i < MX_SPECIAL; i++)
    trace("site %u: connections %u, messages on each %u", i, plan->special[i].connections_per_site, plan->special[i].messages_per_connection);
  trace("disk fails: writes %u, syncs %u, reads %u, calls %u, events %u", plan->disk.write_fails, plan->disk.sync_fails, plan->disk.read_fails,
        plan->disk.calls_fail, plan->disk.events_fail);
  trace("durability %d, segments %" PRIu64 ", memory %" PRIu64 ", kills %u%s, stops %u, jumps %u, size %" PRIu64, plan->durability,
        plan->segment_bytes, plan->memory_bytes, plan->kills,
        plan->power == POWER_NEVER    ? ""
        : plan->power == POWER_ALWAYS ? " (power)"
                                      : " (some of power)",
        plan->stops, plan->clock_jumps, plan->client.size_high);
}
