#include "tests/sim/settings.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/base/error.h"
#include "tests/sim/disk.h"
#include "tests/sim/net.h"
#include "tests/sim/world.h"

#define HISTORY_MAX 1024
#define FOR_EVER UINT64_MAX
/* docs/DECISIONS.md: until what is above a lower limit has ended its transactions there is more. None is begun meanwhile but what was on its way to another shard. */
#define GRACE_NS (2 * SECOND_NS)
#define FILE_MAX 3000

struct past {
  struct settings settings;
  uint64_t until_ns; /* from then on it was no longer in force */
};

static struct {
  struct settings_fixed fixed;
  struct settings in_file;
  enum wrong wrong;        /* with the file */
  struct settings taking;  /* what the reload under way has read, */
  enum wrong taking_wrong; /* and what is wrong with it */
  struct past history[HISTORY_MAX];
  unsigned history_count;
  unsigned shards; /* of this life */
  struct settings_sums sums;
} state;

void settings_open(const struct settings *first, const struct settings_fixed *fixed) {
  memset(&state, 0, sizeof state);
  state.fixed = *fixed;
  state.in_file = *first;
}

bool settings_strangers(void) { return state.fixed.strangers; }

const struct settings_sums *settings_sums(void) { return &state.sums; }

/* ---- the file ---- */

__attribute__((format(printf, 3, 4))) static void put(char *file, size_t *len, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  *len += (size_t)vsnprintf(file + *len, FILE_MAX - *len, format, arguments);
  va_end(arguments);
  must(*len < FILE_MAX);
}

/* For the first two domains, one by its name, the other by its hosts. */
static void put_sites(const struct settings *settings, char *file, size_t *len) {
  const char *const patterns[SETTINGS_SPECIAL] = {state.fixed.by_hosts ? "*.d00000.test" : "d00000.test", "*.d00001.test"};
  const char *begin = "sites:\n";
  for (unsigned i = 0; i < SETTINGS_SPECIAL; i++) {
    const struct limits *limits = &settings->special[i];
    if (limits->connections_per_site == 0) continue;
    put(file, len,
        "%s  - {match: [\"%s\"], connections_per_site: %u, messages_per_connection: %u, retry_initial: 500ms, retry_jitter: 40%%, max_age: %us}\n",
        begin, patterns[i], limits->connections_per_site, limits->messages_per_connection, state.fixed.max_age_s - 30);
    begin = "";
  }
}

static void put_routes(char *file, size_t *len) {
  static const char *const domains[] = {"nx.test", "nullmx.test", "silent.test", "servfail.test"};
  uint32_t ip = state.fixed.route_address;
  put(file, len, "routes:\n");
  for (size_t i = 0; i < sizeof domains / sizeof *domains; i++)
    put(file, len, "  - {domain: %s, hosts: [\"%u.%u.%u.%u:25\"]}\n", domains[i], ip >> 24, ip >> 16 & 255, ip >> 8 & 255, ip & 255);
}

static void put_file(const struct settings *settings, enum wrong wrong) {
  static const char *const durability[] = {[CONF_SYNC] = "sync", [CONF_LAZY] = "lazy", [CONF_MEMORY] = "memory"};
  char file[FILE_MAX];
  size_t len = 0;
  put(file, &len, "hostname: %s.example\nshards: %u\nspool: {path: /spool, durability: %s}\n", settings->other_name ? "other" : "relay", state.shards,
      durability[state.fixed.durability]);
  const char *lists = state.fixed.strangers ? ", dns_lists_timeout: 3s, dns_lists: [{zone: bl.test, weight: 2}, {zone: good.test, weight: -1}]" : "";
  put(file, &len, "listeners:\n  - {address: 10.0.0.1, port: %u%s}\n", SETTINGS_DOOR, lists);
  if (settings->second_door) put(file, &len, "  - {address: 10.0.0.1, port: %u%s}\n", SETTINGS_SECOND_DOOR, lists);
  if (wrong == WRONG_ADDRESS) put(file, &len, "  - {address: 10.9.9.9, port: 25}\n");
  if (state.fixed.strangers) put(file, &len, "relay_from: [0.0.0.0/0]\n");
  put(file, &len, "dns: {servers: [\"10.0.0.53:53\"], timeout: %us, ipv6: false}\n", settings->dns_timeout_s);
  put(file, &len, "queue: {retry_initial: %ums, retry_max: %ums, retry_factor: 1.7, max_age: %us}\n", settings->retry_initial_ms,
      settings->retry_max_ms, state.fixed.max_age_s);
  put(file, &len, "delivery: {connections_per_site: %u, messages_per_connection: %u, idle: 5s,", settings->limits.connections_per_site,
      settings->limits.messages_per_connection);
  put(file, &len, " timeouts: {connect: 3s, greeting: 5s, command: 5s, data: 10s, final: 10s}%s}\n", wrong == WRONG_KEY ? ", speed: high" : "");
  put(file, &len, "limits: {memory: %" PRIu64 "KiB, session_timeout: %s}\n", state.fixed.memory_bytes >> 10,
      wrong == WRONG_VALUE ? "5 parsecs" : "60s");
  put(file, &len, "events: {path: /events}\ndsn: {rate: 1000000}\n");
  put_sites(settings, file, &len);
  if (settings->routed) put_routes(file, &len);
  if (wrong == WRONG_TORN) len = 15 + chance(70); /* within what begins with the name, and ends with the first listener */
  disk_put(SETTINGS_PATH, span_of(file, len));
}

void settings_write(const struct settings *settings, enum wrong wrong) {
  state.in_file = *settings;
  state.wrong = wrong;
  put_file(settings, wrong);
}

/* ---- what is in force ---- */

static void add(const struct settings *settings) {
  must(state.history_count < HISTORY_MAX);
  state.history[state.history_count++] = (struct past){*settings, FOR_EVER};
}

void settings_begin_life(unsigned shards) {
  state.shards = shards;
  settings_write(&state.in_file, WRONG_NOT);
  state.history_count = 0; /* all connections are gone */
  add(&state.in_file);
}

/* It is read now; while it is taken over the file may be written again. */
void settings_taking(void) {
  add(&state.in_file);
  state.taking = state.in_file;
  state.taking_wrong = state.wrong;
}

static bool listens(unsigned port) {
  struct netaddr address = {.family = 4, .port = (uint16_t)port, .bytes = {10, 0, 0, 1}};
  return net_is_taken(&address);
}

static void taken_over(bool running) {
  state.sums.reloads++;
  for (unsigned i = 0; i + 1 < state.history_count; i++)
    if (state.history[i].until_ns == FOR_EVER) state.history[i].until_ns = world_now_ns();
  if (!running) return;
  if (!listens(SETTINGS_DOOR)) fault("after a reload nobody listens where somebody did, and should");
  if (listens(SETTINGS_SECOND_DOOR) != state.taking.second_door)
    fault("after a reload the second listener is %s", state.taking.second_door ? "not there" : "still there");
}

void settings_taken(int error, struct span why, bool running) {
  trace("reload: %s %.*s", error_text(error), (int)why.len, (const char *)why.at);
  if (error == E_OK && state.taking_wrong != WRONG_NOT) fault("a configuration was taken that should have been refused (%d)", state.taking_wrong);
  if (error == E_OK) {
    taken_over(running);
    return;
  }
  if (why.len == 0) fault("a configuration was refused without a word");
  if (error == E_CLOSED && !running) return; /* some shards may have the one, some the other */
  state.sums.refused++;
  state.history_count--;
  if (state.taking_wrong == WRONG_NOT) fault("a good configuration was refused: %.*s", (int)why.len, (const char *)why.at);
  bool of_restart = memmem(why.at, why.len, "needs a restart", 15) != NULL;
  if (of_restart != (state.taking_wrong == WRONG_RESTART))
    fault("a configuration (%d) was refused for the wrong reason: %.*s", state.taking_wrong, (int)why.len, (const char *)why.at);
}

static const struct limits *limits_of(const struct settings *settings, unsigned site) {
  return site < SETTINGS_SPECIAL && settings->special[site].connections_per_site > 0 ? &settings->special[site] : &settings->limits;
}

static bool may_count(const struct past *past, uint64_t now_ns) { return past->until_ns == FOR_EVER || past->until_ns + GRACE_NS > now_ns; }

unsigned settings_connections(unsigned site) {
  unsigned most = 0;
  for (unsigned i = 0; i < state.history_count; i++) {
    unsigned one = limits_of(&state.history[i].settings, site)->connections_per_site;
    if (one > most && may_count(&state.history[i], world_now_ns())) most = one;
  }
  return most;
}

unsigned settings_messages(unsigned site, uint64_t since_ns) {
  unsigned most = 0;
  for (unsigned i = 0; i < state.history_count; i++) {
    unsigned one = limits_of(&state.history[i].settings, site)->messages_per_connection;
    if (one > most && may_count(&state.history[i], since_ns)) most = one;
  }
  return most;
}

const struct settings *settings_now(void) { return state.history_count > 0 ? &state.history[state.history_count - 1].settings : &state.in_file; }

bool settings_second_door(void) { return settings_now()->second_door; }

/* ---- as the relay reads it ---- */

int __real_conf_read(struct conf *conf, const char *path, struct fmt *why);
int __wrap_conf_read(struct conf *conf, const char *path, struct fmt *why);

int __wrap_conf_read(struct conf *conf, const char *path, struct fmt *why) {
  int error = __real_conf_read(conf, path, why);
  if (error == E_OK) conf->segment_size_bytes = state.fixed.segment_bytes;
  return error;
}
