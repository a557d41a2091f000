/* One question and the servers it goes to, with all their faults, seen through the resolver. */
#include "tests/unit/dns/world.c"

static void restart(unsigned servers_count) {
  teardown();
  start_with(servers_count);
}

/* ---- servers ---- */

START_TEST(silent_server_gives_way_to_the_next) {
  struct wanted w = {0};
  servers.fault[0] = SILENT;
  uint64_t took = get(&w, "null.org");
  ck_assert_int_eq(w.status, MX_NULL);
  ck_assert(took >= 2000 && took < 2100);
  ck_assert_uint_eq(resolver_stats(resolver)->timeouts, 1);
  ck_assert_uint_le(get(&w, "missing.org"), 100); /* and is not the first to be asked any more */
  ck_assert_uint_eq(servers.asked[0], 1);
}
END_TEST

START_TEST(all_silent_is_temporary_after_all_tries) {
  struct wanted w = {0};
  servers.fault[0] = servers.fault[1] = SILENT;
  uint64_t took = get(&w, "one.org");
  ck_assert_int_eq(w.status, MX_TEMPORARY);
  ck_assert(took >= 8000 && took < 8100);
  ck_assert_uint_eq(servers.asked[0], 2);
  ck_assert_uint_eq(servers.asked[1], 2);
  ck_assert_str_eq(w.reason, "no name server replied about one.org");
}
END_TEST

START_TEST(closed_port_is_passed_over_at_once) {
  struct wanted w = {0};
  servers.fault[0] = CLOSED_PORT;
  ck_assert_uint_le(get(&w, "one.org"), 100);
  ck_assert_int_eq(w.status, MX_OK);
  ck_assert_uint_eq(servers.asked[0], 1); /* the later questions begin with the one that works */
  pass(10);
  for (unsigned i = 0; i < FAKE_SOCKETS; i++) ck_assert(!io->sockets[i].open || io->sockets[i].server.port != FAKE_PORT);
}
END_TEST

START_TEST(all_ports_closed_waits_for_a_restart) {
  struct wanted w = {0};
  servers.fault[0] = servers.fault[1] = CLOSED_PORT;
  want(&w, "one.org");
  pass(1000);
  ck_assert_uint_eq(w.calls, 0);
  ck_assert_uint_le(asked(), 2);
  servers.fault[0] = servers.fault[1] = FINE;
  pass(1100);
  ck_assert_uint_eq(w.calls, 1);
  ck_assert_int_eq(w.status, MX_OK);
}
END_TEST

START_TEST(a_closed_port_gets_another_chance_each_round) {
  struct wanted w = {0};
  servers.fault[0] = CLOSED_PORT;
  servers.fault[1] = SILENT;
  want(&w, "null.org");
  pass(1000);
  servers.fault[0] = FINE;
  pass(1100);
  ck_assert_uint_eq(w.calls, 1);
  ck_assert_int_eq(w.status, MX_NULL);
}
END_TEST

START_TEST(no_sockets_is_temporary_and_heals) {
  struct wanted w = {0};
  io->fail_datagram = E_TOO_MANY_FILES;
  uint64_t took = get(&w, "one.org");
  ck_assert_int_eq(w.status, MX_TEMPORARY);
  ck_assert_uint_ge(took, 4000);
  ck_assert_uint_eq(asked(), 0);
  io->fail_datagram = E_OK;
  pass(5001);
  get(&w, "one.org");
  ck_assert_int_eq(w.status, MX_OK);
}
END_TEST

START_TEST(no_servers_at_all_is_temporary) {
  struct wanted w = {0};
  restart(0);
  want(&w, "one.org");
  ck_assert_uint_eq(w.calls, 0); /* never from within, if not from the cache */
  pass(10);
  ck_assert_uint_eq(w.calls, 1);
  ck_assert_int_eq(w.status, MX_TEMPORARY);
}
END_TEST

START_TEST(servfail_and_refused_ask_each_server_once) {
  struct wanted w = {0};
  servers.fault[0] = SAYS_SERVFAIL + _i;
  ck_assert_uint_le(get(&w, "null.org"), 100);
  ck_assert_int_eq(w.status, MX_NULL);
  servers.fault[1] = SAYS_SERVFAIL + _i;
  unsigned before = asked();
  get(&w, "one.org");
  ck_assert_int_eq(w.status, MX_TEMPORARY);
  ck_assert_uint_eq(asked(), before + 2);
  ck_assert_ptr_nonnull(strstr(w.reason, _i == 0 ? "SERVFAIL" : "REFUSED"));
}
END_TEST

START_TEST(a_server_without_edns_is_asked_without) {
  struct wanted w = {0};
  servers.fault[0] = servers.fault[1] = HATES_EDNS;
  ck_assert_uint_le(get(&w, "one.org"), 100);
  ck_assert_int_eq(w.status, MX_OK);
  ck_assert_uint_eq(servers.without_edns, 3);
  ck_assert_uint_eq(asked(), 6);
}
END_TEST

START_TEST(truncated_replies_come_over_tcp) {
  struct wanted w = {0};
  servers.fault[0] = servers.fault[1] = _i == 0 ? TRUNCATES : TCP_TALKS_ON;
  ck_assert_uint_le(get(&w, "one.org"), 200);
  ck_assert_int_eq(w.status, MX_OK);
  ck_assert_uint_eq(servers.asked_tcp[0], 3);
  ck_assert_uint_eq(resolver_stats(resolver)->truncated, 3);
  pass(10);
  for (unsigned i = 0; i < FAKE_SOCKETS; i++) ck_assert(!io->sockets[i].open || io->sockets[i].datagram); /* all closed again */
}
END_TEST

START_TEST(more_truncated_than_streams) {
  static struct wanted w[200];
  char domain[32];
  memset(w, 0, sizeof w);
  servers.fault[0] = servers.fault[1] = TRUNCATES;
  for (unsigned i = 0; i < 200; i++) {
    snprintf(domain, sizeof domain, "x%u.org", i);
    want(&w[i], domain);
  }
  pass(8000);
  for (unsigned i = 0; i < 200; i++) ck_assert_int_eq(w[i].status, MX_NO_DOMAIN);
}
END_TEST

START_TEST(tcp_has_its_faults_too) {
  static const enum fault faults[] = {TCP_REFUSED, TCP_SILENT, TCP_CUTS, TCP_WRONG_ID};
  struct wanted w = {0};
  servers.fault[0] = faults[_i];
  uint64_t took = get(&w, "null.org");
  ck_assert_int_eq(w.status, MX_NULL); /* from the other server */
  ck_assert(took < 4200 && (faults[_i] != TCP_SILENT || took >= 4000));
  servers.fault[1] = faults[_i];
  get(&w, "one.org");
  ck_assert_int_eq(w.status, MX_TEMPORARY);
  ck_assert_ptr_null(strstr(w.reason, "no name server replied")); /* they did say something */
}
END_TEST

START_TEST(false_packets_do_not_hurt) {
  static const enum fault faults[] = {WRONG_ID_FIRST, WRONG_NAME_FIRST, GARBAGE_FIRST};
  struct wanted w = {0};
  servers.fault[0] = faults[_i];
  ck_assert_uint_le(get(&w, "one.org"), 100);
  ck_assert_int_eq(w.status, MX_OK);
  ck_assert_uint_eq(resolver_stats(resolver)->mismatches, 3);
}
END_TEST

START_TEST(a_server_that_changes_case_is_asked_over_tcp) {
  struct wanted w = {0};
  servers.fault[0] = LOWERS_CASE;
  get(&w, "one.org");
  ck_assert_int_eq(w.status, MX_OK);
  ck_assert_uint_ge(servers.asked_tcp[0], 2); /* a name may by chance have gone out in lower case */
}
END_TEST

START_TEST(ports_change_with_use_and_time) {
  struct wanted w = {0};
  char domain[32];
  for (unsigned i = 0; i < 3000; i++) {
    snprintf(domain, sizeof domain, "x%u.org", i);
    get(&w, domain);
  }
  ck_assert_uint_ge(io->opened, 16); /* eight at a time, 256 queries each */
  unsigned before = io->opened, open = 0;
  pass(61000);
  for (unsigned i = 0; i < 100; i++) {
    snprintf(domain, sizeof domain, "y%u.org", i);
    get(&w, domain);
  }
  ck_assert_uint_ge(io->opened, before + 8);
  pass(1000);
  for (unsigned i = 0; i < FAKE_SOCKETS; i++) open += io->sockets[i].open;
  ck_assert_uint_le(open, 8);
}
END_TEST

int main(void) {
  TCase *tests = new_case("servers");
  tcase_add_test(tests, silent_server_gives_way_to_the_next);
  tcase_add_test(tests, all_silent_is_temporary_after_all_tries);
  tcase_add_test(tests, closed_port_is_passed_over_at_once);
  tcase_add_test(tests, all_ports_closed_waits_for_a_restart);
  tcase_add_test(tests, a_closed_port_gets_another_chance_each_round);
  tcase_add_test(tests, no_sockets_is_temporary_and_heals);
  tcase_add_test(tests, no_servers_at_all_is_temporary);
  tcase_add_loop_test(tests, servfail_and_refused_ask_each_server_once, 0, 2);
  tcase_add_test(tests, a_server_without_edns_is_asked_without);
  tcase_add_loop_test(tests, truncated_replies_come_over_tcp, 0, 2);
  tcase_add_test(tests, more_truncated_than_streams);
  tcase_add_loop_test(tests, tcp_has_its_faults_too, 0, 4);
  tcase_add_loop_test(tests, false_packets_do_not_hurt, 0, 3);
  tcase_add_test(tests, a_server_that_changes_case_is_asked_over_tcp);
  tcase_add_test(tests, ports_change_with_use_and_time);
  return unit_main("dns/ask", &tests, 1);
}
