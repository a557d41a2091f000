/*
 * plan: what a seed decides about a run: how much there is of everything, and which habits and faults. Each kind of fault is there in some seeds only, and then often or not,
 * so that there are also runs with few of them.
 */
#ifndef TESTS_SIM_PLAN_H
#define TESTS_SIM_PLAN_H

#include "tests/sim/client.h"
#include "tests/sim/disk.h"
#include "tests/sim/dns.h"
#include "tests/sim/mx.h"
#include "tests/sim/net.h"
#include "tests/sim/operator.h"
#include "tests/sim/settings.h"

#define SHARDS_MAX 4

enum power { POWER_NEVER, POWER_ALWAYS, POWER_SOMETIMES };

struct plan {
  unsigned shards, sessions, messages, domains, mx_hosts;
  struct settings settings; /* at first */
  struct settings_fixed fixed;
  uint64_t faults_ns; /* how long things go wrong */
  unsigned kills, stops, clock_jumps;
  uint64_t jump_ms; /* at most, forwards or backwards */
  enum power power; /* are kills power cuts? */
  bool reshards;    /* each life of the program has another number of shards */
  struct mx_habits mx;
  struct dns_habits dns;
  struct client_habits client;
  struct net_weather weather;
  struct disk_faults disk;
  struct operator_plan operating;
};

/* By chance: after world_open. */
struct plan plan_make(void);
/* For the trace. */
void plan_tell(const struct plan *plan);

#endif
