#include "core/conf/conf.h"
#include "tests/lib/unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/error.h"
#include "core/conf/setting.h"
#include "core/conf/system.h"
#include "tests/lib/conf_sound.h"

static struct conf_system machine(void) {
  return (struct conf_system){.hostname = "host.example.com",
                              .cores = 6,
                              .memory_bytes = (uint64_t)8 << 30,
                              .resolvers = {{.family = 4, .port = 53, .bytes = {192, 0, 2, 53}}, {.family = 4, .port = 53, .bytes = {192, 0, 2, 54}}},
                              .resolvers_count = 2};
}

static char why_room[512];

static int parse(struct conf *conf, struct span text) {
  struct conf_system system = machine();
  struct fmt why = fmt_over(why_room, sizeof why_room - 1);
  int error = conf_parse_on(conf, &system, text, "c.yaml", &why);
  ck_assert(!why.overflow);
  why_room[why.len] = '\0';
  ck_assert_int_eq(error == E_OK, why.len == 0);
  for (size_t i = 0; i < why.len; i++) ck_assert_msg(why_room[i] >= ' ' && why_room[i] < 0x7f, "not one line of text: %s", why_room);
  return error;
}

static struct conf conf_of(const char *text) {
  struct conf conf;
  ck_assert_msg(parse(&conf, span_of_text(text)) == E_OK, "refused: %s", why_room);
  ck_assert_msg(conf_unsound(&conf) == NULL, "%s", conf_unsound(&conf));
  return conf;
}

static void check_address(const struct netaddr *address, const char *expected) {
  char room[64];
  struct fmt out = fmt_over(room, sizeof room - 1);
  netaddr_format_with_port(address, &out);
  room[out.len] = '\0';
  ck_assert_str_eq(room, expected);
}

#define ROOT_KEYS                                                                                                                                    \
  "hostname, shards, user, sandbox, spool, listeners, relay_from, users, tls, clients, dns, queue, delivery, routes, sites, limits, dsn, events, "   \
  "http"
#define LISTENER_KEYS "address, port, tls, auth, auth_in_clear, client_certificates, submission, proxy_from"
#define LISTENERS "listeners: [{address: 127.0.0.1, port: 2525}]\n"

START_TEST(what_is_not_said) {
  struct conf conf = conf_of(LISTENERS);
  ck_assert_str_eq(conf.hostname, "host.example.com");
  ck_assert_uint_eq(conf.shards, 6);
  ck_assert_str_eq(conf.spool_path, "/var/spool/ringpost");
  ck_assert_int_eq(conf.durability, CONF_SYNC);
  ck_assert_uint_eq(conf.segment_size_bytes, 64 << 20);
  ck_assert_uint_eq(conf.spool_max_bytes, 0);
  ck_assert_uint_eq(conf.listeners_count, 1);
  check_address(&conf.listeners[0].address, "127.0.0.1:2525");
  ck_assert_uint_eq(conf.relay_from_count, 2);
  struct netaddr loopback = {.family = 4, .bytes = {127, 9, 9, 9}}, loopback6 = {.family = 6, .bytes = {[15] = 1}},
                 other = {.family = 6, .bytes = {[15] = 2}};
  ck_assert(network_contains(&conf.relay_from[0], &loopback));
  ck_assert(network_contains(&conf.relay_from[1], &loopback6));
  ck_assert(!network_contains(&conf.relay_from[1], &other));
  ck_assert_uint_eq(conf.dns_servers_count, 2);
  check_address(&conf.dns_servers[1], "192.0.2.54:53");
  ck_assert_uint_eq(conf.dns_timeout_ms, 2000);
  ck_assert(conf.dns_ipv6);
  ck_assert_uint_eq(conf.retry_initial_ms, 300000);
  ck_assert_double_eq(conf.retry_factor, 2);
  ck_assert_uint_eq(conf.retry_max_ms, 14400000);
  ck_assert_uint_eq(conf.retry_jitter_ppm, 100000);
  ck_assert_uint_eq(conf.max_age_ms, 432000000);
  ck_assert_uint_eq(conf.delivery_port, 25);
  ck_assert_uint_eq(conf.connections_per_site, 10);
  ck_assert_uint_eq(conf.messages_per_connection, 100);
  ck_assert_uint_eq(conf.idle_ms, 60000);
  ck_assert_uint_eq(conf.timeout_connect_ms, 30000);
  ck_assert_uint_eq(conf.timeout_greeting_ms, 300000);
  ck_assert_uint_eq(conf.timeout_command_ms, 300000);
  ck_assert_uint_eq(conf.timeout_data_ms, 180000);
  ck_assert_uint_eq(conf.timeout_final_ms, 600000);
  ck_assert(conf.pipelining && conf.chunking);
  ck_assert_uint_eq(conf.source_v4.family + conf.source_v6.family, 0);
  ck_assert_uint_eq(conf.routes_count + conf.sites_count, 0);
  ck_assert_uint_eq(conf.sessions_max, 32768);
  ck_assert_uint_eq(conf.recipients_max, 1000);
  ck_assert_uint_eq(conf.session_errors_max, 20);
  ck_assert_uint_eq(conf.session_messages_max, 0);
  ck_assert_uint_eq(conf.session_timeout_ms, 300000);
  ck_assert_uint_eq(conf.message_size_max, 50 << 20);
  ck_assert_uint_eq(conf.memory_bytes, (uint64_t)2 << 30);
  ck_assert_uint_eq(conf.queue_messages_max, 4000000);
  ck_assert_ptr_null(conf.events_path);
  ck_assert_ptr_null(conf.users_path);
  ck_assert_uint_eq(conf.events_file_size_bytes, 256 << 20);
  ck_assert_uint_eq(conf.events_files_max, 0);
  ck_assert_uint_eq(conf.http.family, 0);
  conf_free(&conf);
  conf_free(&conf); /* again: no harm */
}
END_TEST

START_TEST(every_key_is_taken_over) {
  struct conf conf =
      conf_of("hostname: Relay.example.NET\n"
              "shards: 3\n"
              "spool: {path: spool, durability: lazy, segment_size: 8MiB, max_size: 1GiB}\n"
              "listeners:\n"
              "  - {address: \"0.0.0.0\", port: 0, tls: none, auth: off}\n"
              "  - {address: \"0.0.0.0\", port: 0}\n"
              "  - {address: \"::\"}\n"
              "  - {port: 465}\n"
              "users: /u\n"
              "relay_from: [10.0.0.0/8, \"2001:db8::/32\", 192.0.2.7]\n"
              "dns: {servers: [127.0.0.1, \"[::1]:5353\", \"127.0.0.1:5300\"], timeout: 300ms, ipv6: No}\n"
              "queue: {retry_initial: 100ms, retry_factor: 1.25, retry_max: 2h, retry_jitter: 12.5%, max_age: 30d}\n"
              "delivery:\n"
              "  port: 2526\n"
              "  connections_per_site: 1\n"
              "  messages_per_connection: 7\n"
              "  idle: 1s\n"
              "  pipelining: false\n"
              "  chunking: off\n"
              "  source: [\"2001:db8::9\", 192.0.2.9]\n"
              "  timeouts: {connect: 1s, greeting: 2s, command: 3s, data: 4s, final: 5s}\n"
              "routes:\n"
              "  - {domain: Example.ORG, hosts: [\"192.0.2.1:2526\", \"[2001:db8::1]:26\", 192.0.2.2, \"2001:db8::2\"]}\n"
              "  - {domain: \"*\", hosts: [127.0.0.1]}\n"
              "limits: {sessions: 1, message_size: 1KiB, recipients: 2, session_errors: 3, session_messages: 4, session_timeout: 5s, memory: 12MiB,\n"
              "         messages: 7}\n"
              "events: {path: /e, file_size: 64KiB, files: 8}\n"
              "http: {address: \"::1\", port: 0}\n");
  ck_assert_str_eq(conf.hostname, "Relay.example.NET");
  ck_assert_uint_eq(conf.shards, 3);
  ck_assert_str_eq(conf.spool_path, "spool");
  ck_assert_int_eq(conf.durability, CONF_LAZY);
  ck_assert_uint_eq(conf.segment_size_bytes, 8 << 20);
  ck_assert_uint_eq(conf.spool_max_bytes, 1 << 30);
  ck_assert_uint_eq(conf.listeners_count, 4);
  check_address(&conf.listeners[0].address, "0.0.0.0:0");
  check_address(&conf.listeners[2].address, "[::]:25");
  check_address(&conf.listeners[3].address, "0.0.0.0:465");
  ck_assert_uint_eq(conf.relay_from_count, 3);
  ck_assert_uint_eq(conf.relay_from[1].prefix_bits, 32);
  ck_assert_uint_eq(conf.relay_from[2].prefix_bits, 32);
  ck_assert_uint_eq(conf.dns_servers_count, 3);
  check_address(&conf.dns_servers[0], "127.0.0.1:53");
  check_address(&conf.dns_servers[1], "[::1]:5353");
  check_address(&conf.dns_servers[2], "127.0.0.1:5300");
  ck_assert_uint_eq(conf.dns_timeout_ms, 300);
  ck_assert(!conf.dns_ipv6);
  ck_assert_uint_eq(conf.retry_initial_ms, 100);
  ck_assert_double_eq(conf.retry_factor, 1.25);
  ck_assert_uint_eq(conf.retry_max_ms, 7200000);
  ck_assert_uint_eq(conf.retry_jitter_ppm, 125000);
  ck_assert_uint_eq(conf.max_age_ms, (uint64_t)30 * 86400000);
  ck_assert_uint_eq(conf.delivery_port, 2526);
  ck_assert_uint_eq(conf.connections_per_site, 1);
  ck_assert_uint_eq(conf.messages_per_connection, 7);
  ck_assert_uint_eq(conf.idle_ms, 1000);
  ck_assert(!conf.pipelining && !conf.chunking);
  check_address(&conf.source_v4, "192.0.2.9:0");
  check_address(&conf.source_v6, "[2001:db8::9]:0");
  ck_assert_uint_eq(conf.timeout_connect_ms, 1000);
  ck_assert_uint_eq(conf.timeout_greeting_ms, 2000);
  ck_assert_uint_eq(conf.timeout_command_ms, 3000);
  ck_assert_uint_eq(conf.timeout_data_ms, 4000);
  ck_assert_uint_eq(conf.timeout_final_ms, 5000);
  ck_assert_uint_eq(conf.routes_count, 2);
  ck_assert_str_eq(conf.routes[0].domain, "example.org");
  ck_assert_uint_eq(conf.routes[0].hosts_count, 4);
  check_address(&conf.routes[0].hosts[0], "192.0.2.1:2526");
  check_address(&conf.routes[0].hosts[1], "[2001:db8::1]:26");
  check_address(&conf.routes[0].hosts[2], "192.0.2.2:25");
  check_address(&conf.routes[0].hosts[3], "[2001:db8::2]:25");
  ck_assert_str_eq(conf.routes[1].domain, "*");
  ck_assert_uint_eq(conf.sessions_max, 1);
  ck_assert_uint_eq(conf.message_size_max, 1024);
  ck_assert_uint_eq(conf.recipients_max, 2);
  ck_assert_uint_eq(conf.session_errors_max, 3);
  ck_assert_uint_eq(conf.session_messages_max, 4);
  ck_assert_uint_eq(conf.session_timeout_ms, 5000);
  ck_assert_uint_eq(conf.memory_bytes, 12 << 20);
  ck_assert_uint_eq(conf.queue_messages_max, 7);
  ck_assert_str_eq(conf.events_path, "/e");
  ck_assert_str_eq(conf.users_path, "/u");
  ck_assert_uint_eq(conf.events_file_size_bytes, 65536);
  ck_assert_uint_eq(conf.events_files_max, 8);
  check_address(&conf.http, "[::1]:0");
  conf_free(&conf);
}
END_TEST

START_TEST(half_given_sections) {
  struct conf conf = conf_of(LISTENERS "http: {port: 9000}\n");
  check_address(&conf.http, "127.0.0.1:9000");
  conf_free(&conf);
  conf = conf_of(LISTENERS "http: {address: 192.0.2.1}\nspool: {durability: memory}\nqueue: {}\nevents: {files: 3}\n");
  check_address(&conf.http, "192.0.2.1:8025");
  ck_assert_int_eq(conf.durability, CONF_MEMORY);
  ck_assert_str_eq(conf.spool_path, "/var/spool/ringpost");
  ck_assert_ptr_null(conf.events_path);
  ck_assert_uint_eq(conf.events_files_max, 3);
  conf_free(&conf);
  conf = conf_of("%YAML 1.1\n--- # a document may be marked\n\"listeners\": [{\"port\": '026'}, {}]\n...\n");
  check_address(&conf.listeners[0].address, "0.0.0.0:26");
  check_address(&conf.listeners[1].address, "0.0.0.0:25");
  conf_free(&conf);
}
END_TEST

START_TEST(system_defaults_have_fallbacks) {
  struct conf conf;
  struct conf_system system = {.hostname = "relay.example.net", .cores = 1000, .memory_bytes = 1 << 20};
  struct fmt why = fmt_over(why_room, sizeof why_room);
  ck_assert_int_eq(conf_parse_on(&conf, &system, SPAN(LISTENERS), "c.yaml", &why), E_OK);
  ck_assert_uint_eq(conf.shards, 256);
  ck_assert_uint_eq(conf.memory_bytes, 1 << 30); /* 4 MiB for each */
  ck_assert_uint_eq(conf.dns_servers_count, 1);
  check_address(&conf.dns_servers[0], "127.0.0.1:53");
  conf_free(&conf);
  static const char *const names[] = {"relay", "", "192.0.2.1", "relay.", ".net", "a b.c"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    snprintf(system.hostname, sizeof system.hostname, "%s", names[i]);
    ck_assert_msg(conf_parse_on(&conf, &system, SPAN(LISTENERS), "c.yaml", &why) == E_SYNTAX, "took %s", names[i]);
    ck_assert_ptr_nonnull(memmem(why.at, why.len, "hostname: relay.example.net", 27)); /* says how */
  }
}
END_TEST

/* Text and the whole line it gives. */
static const struct refusal {
  const char *text;
  int error;
  const char *why;
} refusals[] = {
    /* what is missing */
    {"", E_SYNTAX, "c.yaml:1: listeners: is missing; at least one is needed, like [{address: \"0.0.0.0\", port: 25}]"},
    {"# nothing\n", E_SYNTAX, "c.yaml:1: listeners: is missing; at least one is needed, like [{address: \"0.0.0.0\", port: 25}]"},
    {"{}", E_SYNTAX, "c.yaml:1: listeners: is missing; at least one is needed, like [{address: \"0.0.0.0\", port: 25}]"},
    {"routes: [{hosts: [127.0.0.1]}]\n" LISTENERS, E_SYNTAX, "c.yaml:1: routes[0]: has no domain; it needs one (like example.org, or \"*\" for all)"},
    {LISTENERS "routes:\n - domain: a.b\n", E_SYNTAX,
     "c.yaml:3: routes[0]: has no hosts; it needs a list of addresses (like hosts: [\"192.0.2.1:25\"])"},
    /* keys */
    {"hostnam: x\n", E_SYNTAX, "c.yaml:1: hostnam: unknown key; known here are: " ROOT_KEYS},
    {LISTENERS "spool:\n  path: /x\n  size: 1\n", E_SYNTAX,
     "c.yaml:4: spool.size: unknown key; known here are: path, durability, segment_size, max_size, min_free"},
    {"listeners:\n - port: 25\n - port: 26\n   prot: 1\n", E_SYNTAX, "c.yaml:4: listeners[1].prot: unknown key; known here are: " LISTENER_KEYS},
    {LISTENERS "delivery:\n  timeouts:\n    final: 10m\n    finale: 10m\n", E_SYNTAX,
     "c.yaml:5: delivery.timeouts.finale: unknown key; known here are: connect, greeting, command, data, final"},
    {LISTENERS "Hostname: x\n", E_SYNTAX, "c.yaml:2: Hostname: unknown key; known here are: " ROOT_KEYS},
    {LISTENERS "a_key_that_is_longer_than_any_there_is_of_ours: 1\n", E_SYNTAX,
     "c.yaml:2: unknown key 'a_key_that_is_longer_than_any_there_is_of_ours'"},
    {LISTENERS "\"\": 1\n", E_SYNTAX, "c.yaml:2: unknown key ''"},
    {LISTENERS "\"x\\ny\": 1\n", E_SYNTAX, "c.yaml:2: unknown key 'x\\x0ay'"},
    {LISTENERS "a.b: 1\n", E_SYNTAX, "c.yaml:2: unknown key 'a.b'"},
    {LISTENERS "hostname: a.b\nshards: 1\nhostname: a.b\n", E_SYNTAX, "c.yaml:4: the key 'hostname' is here a second time; give it once"},
    {"listeners:\n - port: 1\n   port: 1\n", E_SYNTAX, "c.yaml:3: listeners[0]: the key 'port' is here a second time; give it once"},
    {LISTENERS "? [a]\n: b\n", E_SYNTAX, "c.yaml:2: a key must be one word, not a list or a mapping"},
    {"users: [a]\n" LISTENERS, E_SYNTAX, "c.yaml:1: users: must be one value, not a list or a mapping"},
    {LISTENERS "spool: {tls: a}\n", E_SYNTAX, "c.yaml:2: spool.tls: unknown key; known here are: path, durability, segment_size, max_size, min_free"},
    /* types */
    {"- a\n", E_SYNTAX, "c.yaml:1: must be a mapping with keys of these: " ROOT_KEYS},
    {"just words\n", E_SYNTAX, "c.yaml:1: must be a mapping with keys of these: " ROOT_KEYS},
    {LISTENERS "hostname: [a.b]\n", E_SYNTAX, "c.yaml:2: hostname: must be one value, not a list or a mapping"},
    {LISTENERS "queue:\n  max_age:\n    d: 5\n", E_SYNTAX, "c.yaml:3: queue.max_age: must be one value, not a list or a mapping"},
    {LISTENERS "spool: /var/spool\n", E_SYNTAX,
     "c.yaml:2: spool: must be a mapping with keys of these: path, durability, segment_size, max_size, min_free"},
    {LISTENERS "spool:\n", E_SYNTAX, "c.yaml:2: spool: must be a mapping with keys of these: path, durability, segment_size, max_size, min_free"},
    {"listeners:\nhostname: a.b\n", E_SYNTAX, "c.yaml:1: listeners: must be a list, like [one, two]"},
    {"listeners: {port: 25}\n", E_SYNTAX, "c.yaml:1: listeners: must be a list, like [one, two]"},
    {"listeners: [25]\n", E_SYNTAX, "c.yaml:1: listeners[0]: must be a mapping with keys of these: " LISTENER_KEYS},
    {"listeners: [[25]]\n", E_SYNTAX, "c.yaml:1: listeners[0]: must be a mapping with keys of these: " LISTENER_KEYS},
    {LISTENERS "relay_from:\n - 10.0.0.0/8\n - [a]\n", E_SYNTAX, "c.yaml:4: relay_from[1]: must be one value, not a list or a mapping"},
    {LISTENERS "relay_from: 10.0.0.0/8\n", E_SYNTAX, "c.yaml:2: relay_from: must be a list, like [one, two]"},
    {LISTENERS "routes:\n - domain: a.b\n   hosts: 127.0.0.1\n", E_SYNTAX, "c.yaml:4: routes[0].hosts: must be a list, like [one, two]"},
    /* lists */
    {"listeners: []\n", E_SYNTAX, "c.yaml:1: listeners: the list is empty; it needs one entry at least"},
    {LISTENERS "relay_from: []\n", E_SYNTAX, "c.yaml:2: relay_from: the list is empty; it needs one entry at least, or leave the key out"},
    {LISTENERS "routes:\n - {domain: a.b, hosts: [127.0.0.1]}\n - {domain: a.c, hosts: []}\n", E_SYNTAX,
     "c.yaml:4: routes[1].hosts: the list is empty; it needs one entry at least"},
    {LISTENERS "dns: {servers: [1.1.1.1, 1.1.1.2, 1.1.1.3, 1.1.1.4, 1.1.1.5, 1.1.1.6, 1.1.1.7, 1.1.1.8,\n  1.1.1.9]}\n", E_RANGE,
     "c.yaml:2: dns.servers: the list has too many entries"},
    {"listeners:\n - {port: 25}\n - {address: \"::\", port: 25}\n - {address: 0.0.0.0}\n", E_SYNTAX,
     "c.yaml:4: listeners[2]: 0.0.0.0:25 is listed already, as listeners[0]; give each address and port once"},
    /* values */
    {LISTENERS "delivery: {idle: 5 parsecs}\n", E_SYNTAX,
     "c.yaml:2: delivery.idle: '5 parsecs' is no duration (like 300ms, 5s, 10m, 4h, 5d); it may be 1ms to 1d"},
    {LISTENERS "delivery: {idle: 60}\n", E_SYNTAX, "c.yaml:2: delivery.idle: '60' is no duration (like 300ms, 5s, 10m, 4h, 5d); it may be 1ms to 1d"},
    {LISTENERS "delivery: {idle: 0}\n", E_RANGE, "c.yaml:2: delivery.idle: '0' is out of range; it may be 1ms to 1d"},
    {LISTENERS "delivery: {idle: -5s}\n", E_SYNTAX,
     "c.yaml:2: delivery.idle: '-5s' is no duration (like 300ms, 5s, 10m, 4h, 5d); it may be 1ms to 1d"},
    {LISTENERS "queue: {max_age: 366d}\n", E_RANGE, "c.yaml:2: queue.max_age: '366d' is out of range; it may be 1ms to 365d"},
    {LISTENERS "queue: {max_age: 18446744073709551615d}\n", E_RANGE,
     "c.yaml:2: queue.max_age: '18446744073709551615d' is out of range; it may be 1ms to 365d"},
    {LISTENERS "queue: {max_age: 99999999999999999999999s}\n", E_RANGE,
     "c.yaml:2: queue.max_age: '99999999999999999999999s' is out of range; it may be 1ms to 365d"},
    {LISTENERS "shards: -1\n", E_SYNTAX, "c.yaml:2: shards: '-1' is no whole number; it may be 0 to 256"},
    {LISTENERS "shards: 257\n", E_RANGE, "c.yaml:2: shards: '257' is out of range; it may be 0 to 256"},
    {LISTENERS "shards: 18446744073709551617\n", E_RANGE, "c.yaml:2: shards: '18446744073709551617' is out of range; it may be 0 to 256"},
    {LISTENERS "shards: 2.0\n", E_SYNTAX, "c.yaml:2: shards: '2.0' is no whole number; it may be 0 to 256"},
    {LISTENERS "shards: 0x2\n", E_SYNTAX, "c.yaml:2: shards: '0x2' is no whole number; it may be 0 to 256"},
    {LISTENERS "shards:\n", E_SYNTAX, "c.yaml:2: shards: '' is no whole number; it may be 0 to 256"},
    {LISTENERS "limits: {message_size: 50MB}\n", E_SYNTAX,
     "c.yaml:2: limits.message_size: '50MB' is no size (like 512, 64KiB, 50MiB, 1GiB); it may be 1KiB to 1GiB"},
    {LISTENERS "limits: {message_size: 2GiB}\n", E_RANGE, "c.yaml:2: limits.message_size: '2GiB' is out of range; it may be 1KiB to 1GiB"},
    {LISTENERS "shards: 3\nlimits: {memory: 11MiB}\n", E_RANGE, "c.yaml:3: limits.memory: 11MiB is less than 4MiB for each of the 3 shards"},
    {LISTENERS "limits: {memory: 99999999TiB}\n", E_RANGE, "c.yaml:2: limits.memory: '99999999TiB' is out of range; it may be 1MiB to 16TiB"},
    {LISTENERS "limits: {recipients: 65536}\n", E_RANGE, "c.yaml:2: limits.recipients: '65536' is out of range; it may be 1 to 65535"},
    {LISTENERS "spool: {segment_size: 1023KiB}\n", E_RANGE, "c.yaml:2: spool.segment_size: '1023KiB' is out of range; it may be 8MiB to 1GiB"},
    {LISTENERS "dns: {ipv6: maybe}\n", E_SYNTAX, "c.yaml:2: dns.ipv6: 'maybe' is neither true nor false"},
    {LISTENERS "spool: {durability: always}\n", E_SYNTAX, "c.yaml:2: spool.durability: 'always' must be sync, lazy or memory"},
    {LISTENERS "spool: {path: \"\"}\n", E_SYNTAX, "c.yaml:2: spool.path: is empty; it must name a file or a directory"},
    {LISTENERS "events:\n  path:\n", E_SYNTAX, "c.yaml:3: events.path: is empty; it must name a file or a directory"},
    {LISTENERS "queue: {retry_factor: 0.5}\n", E_RANGE, "c.yaml:2: queue.retry_factor: '0.5' is out of range; it may be 1 to 100"},
    {LISTENERS "queue: {retry_factor: 1e1}\n", E_SYNTAX, "c.yaml:2: queue.retry_factor: '1e1' is no factor (like 2 or 1.5); it may be 1 to 100"},
    {LISTENERS "queue: {retry_factor: nan}\n", E_SYNTAX, "c.yaml:2: queue.retry_factor: 'nan' is no factor (like 2 or 1.5); it may be 1 to 100"},
    {LISTENERS "queue: {retry_factor: 100.5}\n", E_RANGE, "c.yaml:2: queue.retry_factor: '100.5' is out of range; it may be 1 to 100"},
    {LISTENERS "queue: {retry_factor: \"2.\"}\n", E_SYNTAX, "c.yaml:2: queue.retry_factor: '2.' is no factor (like 2 or 1.5); it may be 1 to 100"},
    {LISTENERS "hostname: \"relay example\"\n", E_SYNTAX, "c.yaml:2: hostname: 'relay example' is no host name (like relay.example.net)"},
    {LISTENERS "hostname: a..b\n", E_SYNTAX, "c.yaml:2: hostname: 'a..b' is no host name (like relay.example.net)"},
    {LISTENERS "hostname: a.b.\n", E_SYNTAX, "c.yaml:2: hostname: 'a.b.' is no host name (like relay.example.net)"},
    {LISTENERS "hostname: -a.b\n", E_SYNTAX, "c.yaml:2: hostname: '-a.b' is no host name (like relay.example.net)"},
    {LISTENERS "hostname: a-.b\n", E_SYNTAX, "c.yaml:2: hostname: 'a-.b' is no host name (like relay.example.net)"},
    {LISTENERS "hostname: 192.0.2.1\n", E_SYNTAX, "c.yaml:2: hostname: '192.0.2.1' is no host name (like relay.example.net)"},
    {LISTENERS "hostname: \"a\\r\\nb\"\n", E_SYNTAX, "c.yaml:2: hostname: 'a\\x0d\\x0ab' is no host name (like relay.example.net)"},
    {LISTENERS "hostname: b\xc3\xbc"
               "cher.example\n",
     E_SYNTAX, "c.yaml:2: hostname: 'b\\xc3\\xbccher.example' is no host name (like relay.example.net)"},
    /* addresses and networks */
    {"listeners:\n  - address: localhost\n", E_SYNTAX,
     "c.yaml:2: listeners[0].address: 'localhost' is no IP address (like 192.0.2.1 or \"2001:db8::1\")"},
    {"listeners: [{address: \"127.0.0.1:25\"}]\n", E_SYNTAX,
     "c.yaml:1: listeners[0].address: '127.0.0.1:25' is no IP address (like 192.0.2.1 or \"2001:db8::1\")"},
    {"listeners:\n - address: 127.0.0.1\n   port: 65536\n", E_RANGE, "c.yaml:3: listeners[0].port: '65536' is out of range; it may be 0 to 65535"},
    {"listeners: [{port: smtp}]\n", E_SYNTAX, "c.yaml:1: listeners[0].port: 'smtp' is no whole number; it may be 0 to 65535"},
    {LISTENERS "delivery: {port: 0}\n", E_RANGE, "c.yaml:2: delivery.port: '0' is out of range; it may be 1 to 65535"},
    {LISTENERS "http: {port: 99999}\n", E_RANGE, "c.yaml:2: http.port: '99999' is out of range; it may be 0 to 65535"},
    {LISTENERS "http: {address: localhost}\n", E_SYNTAX, "c.yaml:2: http.address: 'localhost' is no IP address (like 192.0.2.1 or \"2001:db8::1\")"},
    {LISTENERS "relay_from: [10.0.0.0/8, 10.0.0.0/33]\n", E_RANGE,
     "c.yaml:2: relay_from[1]: '10.0.0.0/33' has a prefix that is too long, or bits set behind its prefix (10.0.0.0/8 is right, 10.0.0.1/8 is not)"},
    {LISTENERS "relay_from:\n - 10.0.0.1/8\n", E_RANGE,
     "c.yaml:3: relay_from[0]: '10.0.0.1/8' has a prefix that is too long, or bits set behind its prefix (10.0.0.0/8 is right, 10.0.0.1/8 is not)"},
    {LISTENERS "relay_from: [any]\n", E_SYNTAX, "c.yaml:2: relay_from[0]: 'any' is no network (like 10.0.0.0/8, 192.0.2.1 or \"2001:db8::/32\")"},
    {LISTENERS "dns: {servers: [\"127.0.0.1:0\"]}\n", E_RANGE,
     "c.yaml:2: dns.servers[0]: the port of '127.0.0.1:0' is out of range; it may be 1 to 65535"},
    {LISTENERS "dns:\n  servers:\n    - 127.0.0.1\n    - ns.example\n", E_SYNTAX,
     "c.yaml:5: dns.servers[1]: 'ns.example' is no IP address with or without a port (like \"192.0.2.1:53\" or \"[2001:db8::1]:53\")"},
    {LISTENERS "routes: [{domain: a.b, hosts: [\"192.0.2.1:70000\"]}]\n", E_RANGE,
     "c.yaml:2: routes[0].hosts[0]: the port of '192.0.2.1:70000' is out of range; it may be 1 to 65535"},
    {LISTENERS "routes: [{domain: a.b, hosts: [mx.example]}]\n", E_SYNTAX,
     "c.yaml:2: routes[0].hosts[0]: 'mx.example' is no IP address with or without a port (like \"192.0.2.1:25\" or \"[2001:db8::1]:25\")"},
    {LISTENERS "routes: [{domain: a_b*, hosts: [127.0.0.1]}]\n", E_SYNTAX,
     "c.yaml:2: routes[0].domain: 'a_b*' is no domain (like example.org, xn--bcher-kva.example, or \"*\" for all)"},
    {LISTENERS "routes:\n - {domain: a.b, hosts: [127.0.0.1]}\n - {domain: A.B, hosts: [127.0.0.2]}\n", E_SYNTAX,
     "c.yaml:4: routes[1].domain: 'A.B' has a route already; give all its hosts there"},
    {LISTENERS "delivery: {source: [192.0.2.1, 192.0.2.2]}\n", E_SYNTAX,
     "c.yaml:2: delivery.source[1]: is a second IPv4 address; at most one of each family is possible"},
    {LISTENERS "delivery: {source: [\"192.0.2.1:25\"]}\n", E_SYNTAX,
     "c.yaml:2: delivery.source[0]: '192.0.2.1:25' is no IP address (like 192.0.2.1 or \"2001:db8::1\")"},
    /* what must fit together */
    {LISTENERS "queue:\n  retry_initial: 8h\n", E_RANGE,
     "c.yaml:3: queue.retry_initial: retry_initial (8h) must not be longer than retry_max (default: 4h)"},
    {LISTENERS "queue:\n  retry_max: 1m\n", E_RANGE, "c.yaml:3: queue.retry_max: retry_initial (default: 5m) must not be longer than retry_max (1m)"},
    {LISTENERS "spool: {max_size: 47MiB}\nshards: 2\n", E_RANGE, "c.yaml:2: spool.max_size: 47MiB is less than 24MiB for each of the 2 shards"},
    /* YAML */
    {LISTENERS "hostname: &a a.b\n", E_SYNTAX, "c.yaml:2: hostname: anchors (&) are not used here; write the value out"},
    {LISTENERS "relay_from: &a [10.0.0.0/8]\n", E_SYNTAX, "c.yaml:2: relay_from: anchors (&) are not used here; write the value out"},
    {LISTENERS "routes: [{domain: *, hosts: [a]}]\n", E_SYNTAX,
     "c.yaml:2: this is no YAML: did not find expected alphabetic or numeric character while scanning an alias"},
    {LISTENERS "routes: [{domain: *x , hosts: [a]}]\n", E_SYNTAX,
     "c.yaml:2: routes[0].domain: aliases (*) are not used here; write the value out, and put \"*\" in quotes"},
    {LISTENERS "hostname: !!str a.b\n", E_SYNTAX, "c.yaml:2: hostname: tags (!) are not used here; write the plain value"},
    {LISTENERS "spool: !x {path: a}\n", E_SYNTAX, "c.yaml:2: spool: tags (!) are not used here; write the plain value"},
    {LISTENERS "---\nhostname: a.b\n", E_SYNTAX, "c.yaml:2: a second document begins here; a configuration is one"},
    {LISTENERS "hostname: a: b\n", E_SYNTAX, "c.yaml:2: this is no YAML: mapping values are not allowed in this context"},
    {LISTENERS "spool: {path: /x\n", E_SYNTAX, "c.yaml:3: this is no YAML: did not find expected ',' or '}' while parsing a flow mapping"},
    {LISTENERS "spool:\n\tpath: /x\n", E_SYNTAX, "c.yaml:3: this is no YAML: the line is indented with a tab; use spaces"},
    {LISTENERS "hostname: \"a\\0b\"\n", E_SYNTAX, "c.yaml:2: hostname: has a NUL byte in it, which no value may have"},
    {LISTENERS "hostname: \xff\xfe\n", E_SYNTAX, "c.yaml:2: this is no YAML: invalid leading UTF-8 octet (write UTF-8 text)"},
    {LISTENERS "hostname: \x01\n", E_SYNTAX, "c.yaml:2: this is no YAML: control characters are not allowed (write UTF-8 text)"},
    {"a: {b: {c: {d: {e: {f: {g: {h: {i: 1}}}}}}}}\n", E_SYNTAX, "c.yaml:1: a.b.c.d.e.f.g.h: nested too deeply: 8 levels are the most"},
    {"[[[[[[[[[[]]]]]]]]]]", E_SYNTAX, "c.yaml:1: [0][0][0][0][0][0][0][0]: nested too deeply: 8 levels are the most"},
};

START_TEST(what_is_refused_and_how_it_is_said) {
  const struct refusal *refusal = &refusals[_i];
  struct conf conf;
  ck_assert_int_eq(parse(&conf, span_of_text(refusal->text)), refusal->error);
  ck_assert_str_eq(why_room, refusal->why);
  ck_assert_ptr_null(conf.listeners);
}
END_TEST

START_TEST(nul_bytes) {
  struct conf conf;
  ck_assert_int_eq(parse(&conf, SPAN(LISTENERS "hostname: a.b\n\0shards: 1\n")), E_SYNTAX);
  ck_assert_str_eq(why_room, "c.yaml:3: has a NUL byte in it; write UTF-8 text");
  ck_assert_int_eq(parse(&conf, SPAN("\xff\xfel\0i\0")), E_SYNTAX);
  ck_assert_int_eq(parse(&conf, (struct span){NULL, 0}), E_SYNTAX);
}
END_TEST

/* Each of these would be exponential or quadratic, or overflow a stack, if it were followed. */
START_TEST(hostile_yaml_is_cheap) {
  enum { SIZE = 1 << 20 };
  char *text = malloc(SIZE);
  struct conf conf;
  const char *bomb = "a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\n";
  ck_assert_int_eq(parse(&conf, span_of_text(bomb)), E_SYNTAX);
  static const char fills[] = "[{-?:&*!|>\"'#%";
  for (const char *fill = fills; *fill != '\0'; fill++) {
    memset(text, *fill, SIZE);
    ck_assert_int_eq(parse(&conf, span_of(text, SIZE)), E_SYNTAX);
    for (size_t i = 1; i < SIZE; i += 2) text[i] = '\n';
    ck_assert_int_eq(parse(&conf, span_of(text, SIZE)), E_SYNTAX);
    for (size_t i = 1; i < SIZE; i += 2) text[i] = ' ';
    ck_assert_int_eq(parse(&conf, span_of(text, SIZE)), E_SYNTAX);
  }
  free(text);
}
END_TEST

START_TEST(many_routes) {
  enum { ROUTES = 5000 };
  char *text = malloc(ROUTES * 64 + 128);
  size_t len = (size_t)sprintf(text, LISTENERS "routes:\n");
  for (unsigned i = 0; i < ROUTES; i++) len += (size_t)sprintf(text + len, " - {domain: d%u.example, hosts: [192.0.2.1]}\n", i);
  struct conf conf = conf_of(text);
  ck_assert_uint_eq(conf.routes_count, ROUTES);
  ck_assert_str_eq(conf.routes[ROUTES - 1].domain, "d4999.example");
  conf_free(&conf);
  sprintf(text + len, " - {domain: d7.example, hosts: [192.0.2.1]}\n");
  ck_assert_int_eq(parse(&conf, span_of_text(text)), E_SYNTAX);
  ck_assert_str_eq(why_room, "c.yaml:5003: routes[5000].domain: 'd7.example' has a route already; give all its hosts there");
  free(text);
}
END_TEST

START_TEST(long_values_and_names_keep_the_line_short) {
  char text[4096], name[1000];
  struct conf conf;
  struct conf_system system = machine();
  snprintf(text, sizeof text, LISTENERS "hostname: %0900d\n", 0);
  ck_assert_int_eq(parse(&conf, span_of_text(text)), E_SYNTAX);
  ck_assert_uint_lt(strlen(why_room), 200);
  ck_assert_ptr_nonnull(strstr(why_room, "0000...' is no host name"));
  snprintf(text, sizeof text, LISTENERS "spool: {path: /%01001d}\n", 0);
  ck_assert_int_eq(parse(&conf, span_of_text(text)), E_RANGE);
  ck_assert_str_eq(why_room, "c.yaml:2: spool.path: is too long: 1000 bytes are the most");
  memset(name, 'n', sizeof name - 1);
  strcpy(name + sizeof name - 8, ".\nyaml");
  struct fmt why = fmt_over(why_room, sizeof why_room - 1);
  ck_assert_int_eq(conf_parse_on(&conf, &system, SPAN("unknown: 1"), name, &why), E_SYNTAX);
  why_room[why.len] = '\0';
  ck_assert_ptr_nonnull(strstr(why_room, "nnn.?yaml:1: unknown: unknown key; known here are: hostname,"));
  ck_assert(!why.overflow);
}
END_TEST

START_TEST(durations) {
  static const struct {
    const char *text;
    uint64_t ms;
  } good[] = {
      {"0", 0},          {"0s", 0},       {"300ms", 300},
      {"5s", 5000},      {"10m", 600000}, {"4h", 14400000},
      {"5d", 432000000}, {"007s", 7000},  {"18446744073709551615ms", UINT64_MAX},
  };
  uint64_t value;
  for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
    ck_assert_int_eq(conf_duration(span_of_text(good[i].text), &value), E_OK);
    ck_assert_uint_eq(value, good[i].ms);
  }
  static const char *const bad[] = {"", "5", "s", "5 s", " 5s", "5s ", "-5s", "+5s", "1.5h", "5S", "5sec", "5m5s", "5ms5"};
  value = 77;
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) ck_assert_msg(conf_duration(span_of_text(bad[i]), &value) == E_SYNTAX, "'%s'", bad[i]);
  ck_assert_int_eq(conf_duration(SPAN("18446744073709551616ms"), &value), E_RANGE);
  ck_assert_int_eq(conf_duration(SPAN("18446744073709552s"), &value), E_RANGE);
  ck_assert_int_eq(conf_duration(SPAN("213503982335d"), &value), E_RANGE);
  ck_assert_int_eq(conf_duration(span_of("5s\0", 3), &value), E_SYNTAX);
  ck_assert_uint_eq(value, 77);
}
END_TEST

START_TEST(sizes) {
  static const struct {
    const char *text;
    uint64_t bytes;
  } good[] = {
      {"0", 0},
      {"512", 512},
      {"64KiB", 65536},
      {"50MiB", 52428800},
      {"1GiB", 1 << 30},
      {"2TiB", (uint64_t)2 << 40},
      {"18446744073709551615", UINT64_MAX},
  };
  uint64_t value;
  for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
    ck_assert_int_eq(conf_size(span_of_text(good[i].text), &value), E_OK);
    ck_assert_uint_eq(value, good[i].bytes);
  }
  static const char *const bad[] = {"", "KiB", "1KB", "1kib", "1K", "1 KiB", "-1", "1.5GiB", "0x10", "1PiB"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) ck_assert_msg(conf_size(span_of_text(bad[i]), &value) == E_SYNTAX, "'%s'", bad[i]);
  ck_assert_int_eq(conf_size(SPAN("18446744073709551616"), &value), E_RANGE);
  ck_assert_int_eq(conf_size(SPAN("16777216TiB"), &value), E_RANGE);
}
END_TEST

static void check_named(void *context, const char *path, uint64_t value, uint64_t min, uint64_t max) {
  const char *dot = strrchr(path, '.');
  char key[64];
  snprintf(key, sizeof key, "%s: ", dot == NULL ? path : dot + 1);
  ck_assert_msg(strstr(context, key) != NULL, "%s is not in the example", path);
  ck_assert(value >= min && value <= max);
}

START_TEST(the_example_names_every_setting) {
  struct conf conf = conf_of("hostname: relay.example.net\n" LISTENERS);
  uint8_t *bytes;
  size_t len;
  ck_assert_int_eq(system_read_file("dist/ringpost.yaml", 1 << 20, &bytes, &len), E_OK);
  char *text = strndup((const char *)bytes, len);
  setting_each(&conf, check_named, text);
  free(text);
  free(bytes);
  conf_free(&conf);
}
END_TEST

/* The example says of each value that it is the default: hold it to that. */
START_TEST(the_example_parses_and_tells_the_defaults) {
  struct conf conf, defaults = conf_of("hostname: relay.example.net\n" LISTENERS);
  struct fmt why = fmt_over(why_room, sizeof why_room - 1);
  int error = conf_read(&conf, "dist/ringpost.yaml", &why);
  why_room[why.len] = '\0';
  ck_assert_msg(error == E_OK, "%s", why_room);
  ck_assert_msg(conf_unsound(&conf) == NULL, "%s", conf_unsound(&conf));
  ck_assert_str_eq(conf.hostname, defaults.hostname);
  ck_assert_str_eq(conf.spool_path, defaults.spool_path);
  ck_assert_uint_eq(conf.listeners_count, 3);
  ck_assert_uint_eq(conf.relay_from_count, 2);
  ck_assert_uint_eq(conf.routes_count, 1);
  ck_assert_uint_eq(conf.sites_count, 2);
  ck_assert_str_eq(conf.events_path, "/var/log/ringpost");
  check_address(&conf.http, "127.0.0.1:8025");
  ck_assert_double_eq(conf.retry_factor, defaults.retry_factor);
  ck_assert_int_eq(conf.durability, defaults.durability);
#define SAME(member) ck_assert_uint_eq(conf.member, defaults.member)
  SAME(segment_size_bytes);
  SAME(spool_max_bytes);
  SAME(dns_timeout_ms);
  SAME(dns_ipv6);
  SAME(retry_initial_ms);
  SAME(retry_max_ms);
  SAME(retry_jitter_ppm);
  SAME(max_age_ms);
  SAME(delivery_port);
  SAME(connections_per_site);
  SAME(messages_per_connection);
  SAME(idle_ms);
  SAME(timeout_connect_ms);
  SAME(timeout_greeting_ms);
  SAME(timeout_command_ms);
  SAME(timeout_data_ms);
  SAME(timeout_final_ms);
  SAME(pipelining);
  SAME(chunking);
  SAME(sessions_max);
  SAME(recipients_max);
  SAME(session_errors_max);
  SAME(session_messages_max);
  SAME(session_timeout_ms);
  SAME(message_size_max);
  SAME(queue_messages_max);
  SAME(events_file_size_bytes);
  SAME(events_files_max);
#undef SAME
  conf_free(&conf);
  conf_free(&defaults);
}
END_TEST

static int read_at(const char *path) {
  struct conf conf;
  struct fmt why = fmt_over(why_room, sizeof why_room - 1);
  int error = conf_read(&conf, path, &why);
  why_room[why.len] = '\0';
  if (error == E_OK) conf_free(&conf);
  return error;
}

START_TEST(files_that_cannot_be_read) {
  char folder[] = "/tmp/ringpost-conf-XXXXXX", path[64];
  ck_assert_int_eq(read_at("/nonexistent/ringpost.yaml"), E_NOT_FOUND);
  ck_assert_str_eq(why_room, "/nonexistent/ringpost.yaml: the file cannot be read: not found");
  ck_assert_ptr_nonnull(mkdtemp(folder));
  ck_assert_int_ne(read_at(folder), E_OK);
  snprintf(path, sizeof path, "%s/c.yaml", folder);
  FILE *file = fopen(path, "w");
  ck_assert_ptr_nonnull(file);
  fputs("hostname: relay.example.net\n" LISTENERS, file);
  fflush(file);
  ck_assert_int_eq(read_at(path), E_OK);
  fputs("nonsense: 1\n", file);
  fflush(file);
  ck_assert_int_eq(read_at(path), E_SYNTAX);
  ck_assert_ptr_nonnull(strstr(why_room, "/c.yaml:3: nonsense: unknown key"));
  ck_assert_int_eq(ftruncate(fileno(file), (16 << 20) + 1), 0);
  ck_assert_int_eq(read_at(path), E_RANGE);
  ck_assert_ptr_nonnull(strstr(why_room, "the file is larger than 16 MiB"));
  if (geteuid() != 0) { /* root may read everything */
    ck_assert_int_eq(chmod(path, 0), 0);
    ck_assert_int_eq(read_at(path), E_PERMISSION);
  }
  fclose(file);
  unlink(path);
  rmdir(folder);
}
END_TEST

int main(void) {
  TCase *all = tcase_create("all");
  tcase_add_test(all, what_is_not_said);
  tcase_add_test(all, every_key_is_taken_over);
  tcase_add_test(all, half_given_sections);
  tcase_add_test(all, system_defaults_have_fallbacks);
  tcase_add_loop_test(all, what_is_refused_and_how_it_is_said, 0, sizeof refusals / sizeof *refusals);
  tcase_add_test(all, nul_bytes);
  tcase_add_test(all, hostile_yaml_is_cheap);
  tcase_add_test(all, many_routes);
  tcase_add_test(all, long_values_and_names_keep_the_line_short);
  tcase_add_test(all, durations);
  tcase_add_test(all, sizes);
  tcase_add_test(all, the_example_names_every_setting);
  tcase_add_test(all, the_example_parses_and_tells_the_defaults);
  tcase_add_test(all, files_that_cannot_be_read);
  return unit_main("core/conf/conf", &all, 1);
}
