/* A configuration is read as if on a machine that is known, for tests: #include this file. */
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

#define UNUSED __attribute__((unused))

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

static UNUSED struct conf conf_of(const char *text) {
  struct conf conf;
  ck_assert_msg(parse(&conf, span_of_text(text)) == E_OK, "refused: %s", why_room);
  ck_assert_msg(conf_unsound(&conf) == NULL, "%s", conf_unsound(&conf));
  return conf;
}

static UNUSED void check_address(const struct netaddr *address, const char *expected) {
  char room[64];
  struct fmt out = fmt_over(room, sizeof room - 1);
  netaddr_format_with_port(address, &out);
  room[out.len] = '\0';
  ck_assert_str_eq(room, expected);
}

#define ROOT_KEYS                                                                                                                                    \
  "hostname, shards, user, sandbox, spool, listeners, relay_from, users, tls, clients, dns, queue, delivery, routes, sites, limits, dsn, events, "   \
  "http"
#define LISTENER_KEYS                                                                                                                                \
  "address, port, tls, auth, auth_in_clear, client_certificates, submission, proxy_from, dns_lists, "                                                \
  "dns_lists_threshold, dns_lists_timeout"
#define LISTENERS "listeners: [{address: 127.0.0.1, port: 2525}]\n"
