/* What a configuration says is taken over, what it does not say has its default, and the example tells the truth. */
#include "tests/unit/core/conf/reading.c"

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
  ck_assert(conf.dns_ipv6 && !conf.dns_dnssec);
  ck_assert(!conf.dane && conf.mta_sts && conf.mta_sts_server.family == 0);
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
              "  dane: false\n"
              "  mta_sts: off\n"
              "  mta_sts_server: \"127.0.0.1:8443\"\n"
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
  ck_assert(!conf.dns_ipv6 && conf.dns_dnssec);
  ck_assert(!conf.dane && !conf.mta_sts);
  check_address(&conf.mta_sts_server, "127.0.0.1:8443");
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
  ck_assert(conf.dns_dnssec && conf.dane); /* its servers are on loopback */
  SAME(mta_sts);
  ck_assert_uint_eq(conf.mta_sts_server.family, 0);
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
  tcase_add_test(all, many_routes);
  tcase_add_test(all, durations);
  tcase_add_test(all, sizes);
  tcase_add_test(all, the_example_names_every_setting);
  tcase_add_test(all, the_example_parses_and_tells_the_defaults);
  tcase_add_test(all, files_that_cannot_be_read);
  return unit_main("core/conf/conf", &all, 1);
}
