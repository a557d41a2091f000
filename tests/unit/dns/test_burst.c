/* Thousands of new domains at once: what waits, in which order, and what the servers get to see of it. */
#include "tests/unit/dns/world.c"

#define MANY 4000 /* all of them asked about at once: as many as the resolver looks up at a time, less a few */

static struct wanted *many;

static void get_ready(void) { many = calloc(MANY, sizeof *many); }
static void clear_up(void) { free(many); }

static void restart(unsigned servers_count) {
  teardown();
  start_with(servers_count);
}

static void want_many(unsigned count, const char *pattern) {
  char domain[64];
  for (unsigned i = 0; i < count; i++) {
    snprintf(domain, sizeof domain, pattern, i);
    want(&many[i], domain);
  }
}

static unsigned ended(unsigned count, enum mx_status status) {
  unsigned found = 0;
  for (unsigned i = 0; i < count; i++) found += many[i].calls == 1 && many[i].status == status;
  return found;
}

/* A shard at work comes round every 10 ms only. */
START_TEST(what_is_not_sent_yet_does_not_time_out) {
  turn_ms = 10;
  want_many(MANY, "x%u.org");
  pass(10000);
  ck_assert_uint_eq(ended(MANY, MX_NO_DOMAIN), MANY);
  ck_assert_uint_eq(asked(), MANY);
  ck_assert_uint_eq(resolver_stats(resolver)->timeouts, 0);
  ck_assert_uint_eq(resolver_stats(resolver)->retries, 0);
}
END_TEST

START_TEST(many_are_sent_in_a_turn) {
  turn_ms = 100;
  want_many(MANY, "x%u.org");
  uint64_t begin = now_ms();
  while (ended(MANY, MX_NO_DOMAIN) < MANY && now_ms() < begin + 20000) turn(begin + 20000);
  ck_assert_uint_le(now_ms() - begin, 8000); /* eight sockets with one datagram each would need 50 s */
}
END_TEST

START_TEST(a_server_has_a_window_of_queries) {
  servers.fault[0] = servers.fault[1] = SILENT;
  want_many(MANY, "x%u.org");
  pass(1000);
  ck_assert_uint_eq(asked(), 256);
  servers.fault[0] = servers.fault[1] = FINE;
  pass(8000);
  ck_assert_uint_eq(ended(MANY, MX_NO_DOMAIN), MANY); /* those that got no reply too: they were asked again */
  ck_assert_uint_eq(resolver_stats(resolver)->timeouts, 256);
  ck_assert_uint_eq(resolver_stats(resolver)->retries, 256);
}
END_TEST

/* 200 queries a second, and room for 277 that wait, as a socket has: ten times as many a second would be lost. */
START_TEST(a_slow_server_is_not_flooded) {
  restart(1);
  servers.each_us = 5000;
  servers.backlog_max = 277;
  want_many(MANY, "x%u.org");
  pass(60000);
  ck_assert_uint_eq(ended(MANY, MX_NO_DOMAIN), MANY);
  ck_assert_uint_le(servers.dropped, MANY / 10);
  ck_assert_uint_le(asked(), MANY + MANY / 10);
}
END_TEST

START_TEST(a_far_server_gets_a_wider_window) {
  restart(1);
  servers.fault[0] = SLOW; /* 300 ms */
  want_many(MANY, "x%u.org");
  uint64_t begin = now_ms();
  while (ended(MANY, MX_NO_DOMAIN) < MANY && now_ms() < begin + 20000) turn(begin + 20000);
  ck_assert_uint_le(now_ms() - begin, 4300); /* with 256 all the time 4.7 s */
  ck_assert_uint_eq(asked(), MANY);
}
END_TEST

START_TEST(names_nobody_answers_hold_up_the_others_only_for_a_while) {
  want_many(200, "silent%u.org");
  for (unsigned i = 200; i < 1200; i++) {
    char domain[64];
    snprintf(domain, sizeof domain, "x%u.org", i);
    want(&many[i], domain);
  }
  pass(100); /* of 256 places 56 are free */
  for (unsigned i = 200; i < 1200; i++) ck_assert_int_eq(many[i].status, MX_NO_DOMAIN);
  pass(9000);
  ck_assert_uint_eq(ended(200, MX_TEMPORARY), 200);
  ck_assert_uint_eq(resolver_stats(resolver)->timeouts, 800);
  ck_assert_uint_eq(servers.asked[0] + servers.asked[1], 1000 + 800);
}
END_TEST

/* More of them than the window, all of them asked again by now: half of it is free for who comes. */
START_TEST(names_nobody_answers_leave_room_for_who_comes_later) {
  restart(1);
  want_many(600, "silent%u.org");
  pass(6900);
  ck_assert_uint_eq(ended(600, MX_TEMPORARY), 0);
  for (unsigned i = 600; i < 1600; i++) {
    char domain[64];
    snprintf(domain, sizeof domain, "x%u.org", i);
    want(&many[i], domain);
  }
  pass(100);
  for (unsigned i = 600; i < 1600; i++) ck_assert_int_eq(many[i].status, MX_NO_DOMAIN);
  pass(60000);
  ck_assert_uint_eq(ended(600, MX_TEMPORARY), 600);
  ck_assert_uint_le(asked(), 600 * 4 + 1000);
}
END_TEST

/* So many are under way to a server that replies to none. */
static unsigned window_now(void) {
  unsigned before = asked();
  servers.fault[0] = SILENT;
  for (unsigned i = 3000; i < MANY; i++) {
    char domain[64];
    snprintf(domain, sizeof domain, "z%u.org", i);
    want(&many[i], domain);
  }
  pass(100);
  return asked() - before;
}

/* One of eleven is no more than may be: a name that takes its time has one reply too late, and one to the next try. */
START_TEST(a_reply_that_comes_late_is_one_loss) {
  restart(1);
  unsigned next = 0;
  for (unsigned round = 0; round < 16; round++) {
    for (unsigned i = 0; i < 110; i++, next++) {
      char domain[64];
      snprintf(domain, sizeof domain, i < 10 ? "late%u.org" : "x%u.org", next);
      want(&many[next], domain);
    }
    pass(1000);
  }
  pass(5000);
  ck_assert_uint_eq(ended(next, MX_NO_DOMAIN), next);
  ck_assert_uint_eq(resolver_stats(resolver)->timeouts, 160);
  ck_assert_uint_eq(window_now(), 256);
}
END_TEST

START_TEST(a_reply_that_comes_twice_is_no_loss) {
  restart(1);
  servers.fault[0] = TWICE;
  for (unsigned i = 0; i < 2000; i += 100) {
    for (unsigned k = 0; k < 100; k++) {
      char domain[64];
      snprintf(domain, sizeof domain, "x%u.org", i + k);
      want(&many[i + k], domain);
    }
    pass(500);
  }
  ck_assert_uint_eq(ended(2000, MX_NO_DOMAIN), 2000);
  ck_assert_uint_eq(window_now(), 256);
}
END_TEST

/* Each try takes the kernel some time. */
START_TEST(without_sockets_few_are_tried_for) {
  io->fail_datagram = E_TOO_MANY_FILES;
  want_many(MANY, "x%u.org");
  ck_assert_uint_le(io->failed_datagrams, 2);
  pass(3000);
  ck_assert_uint_le(io->failed_datagrams, 2 * 301);
  ck_assert_uint_eq(ended(MANY, MX_TEMPORARY), 0);
  io->fail_datagram = E_OK;
  pass(3000);
  ck_assert_uint_eq(ended(MANY, MX_NO_DOMAIN), MANY);
}
END_TEST

START_TEST(without_sockets_all_have_their_end) {
  io->fail_datagram = E_TOO_MANY_FILES;
  want_many(MANY, "x%u.org");
  pass(16000); /* who waited for long may have its own tries yet */
  ck_assert_uint_eq(ended(MANY, MX_TEMPORARY), MANY);
}
END_TEST

/* Nobody waits for ever, nor is it said of a name what is true of the servers. */
START_TEST(silence_ends_those_that_wait_too) {
  servers.fault[0] = servers.fault[1] = SILENT;
  want_many(MANY, "x%u.org");
  pass(20000);
  ck_assert_uint_eq(ended(MANY, MX_TEMPORARY), MANY);
  ck_assert_ptr_nonnull(strstr(many[MANY - 1].reason, "no name server replied"));
}
END_TEST

START_TEST(what_waits_for_long_is_asked_as_long_as_others_get_replies) {
  restart(1);
  servers.each_us = 20000; /* 50 a second: the last one waits for 20 s, more than all its tries would take */
  want_many(1000, "x%u.org");
  pass(60000);
  ck_assert_uint_eq(ended(1000, MX_NO_DOMAIN), 1000);
}
END_TEST

START_TEST(a_live_server_is_not_left_for_a_silent_name) {
  struct wanted w = {0};
  want_many(1, "silent%u.org");
  for (unsigned i = 0; i < 1000; i++) { /* something is answered all the time */
    char domain[64];
    snprintf(domain, sizeof domain, "y%u.org", i);
    memset(&w, 0, sizeof w);
    get(&w, domain);
    pass(2);
  }
  ck_assert_uint_ge(resolver_stats(resolver)->timeouts, 1);
  ck_assert_uint_eq(servers.asked[1], 1); /* the second try of the silent one */
}
END_TEST

START_TEST(more_than_the_streams_wait_for_one) {
  servers.fault[0] = servers.fault[1] = TRUNCATES;
  want_many(MANY, "x%u.org");
  pass(8000);
  ck_assert_uint_eq(ended(MANY, MX_NO_DOMAIN), MANY);
  ck_assert_uint_eq(asked(), MANY); /* none had to be asked again over UDP */
}
END_TEST

START_TEST(two_servers_one_unable_one_silent_do_not_hold_up_the_rest) {
  servers.fault[1] = SILENT;
  want_many(1000, "servfail%u.org");
  for (unsigned i = 1000; i < 2000; i++) {
    char domain[64];
    snprintf(domain, sizeof domain, "x%u.org", i);
    want(&many[i], domain);
  }
  pass(100);
  for (unsigned i = 1000; i < 2000; i++) ck_assert_int_eq(many[i].status, MX_NO_DOMAIN);
  pass(10000);
  ck_assert_uint_eq(ended(1000, MX_TEMPORARY), 1000);
  ck_assert_uint_eq(servers.asked[1], 1000); /* each once */
}
END_TEST

START_TEST(closing_with_all_that_waits_is_clean) {
  servers.fault[0] = _i == 0 ? SILENT : TRUNCATES;
  want_many(MANY, "x%u.org");
  pass(2);
}
END_TEST

int main(void) {
  TCase *tests = new_case("burst");
  tcase_add_checked_fixture(tests, get_ready, clear_up);
  tcase_set_timeout(tests, 60);
  tcase_add_test(tests, what_is_not_sent_yet_does_not_time_out);
  tcase_add_test(tests, many_are_sent_in_a_turn);
  tcase_add_test(tests, a_server_has_a_window_of_queries);
  tcase_add_test(tests, a_slow_server_is_not_flooded);
  tcase_add_test(tests, a_far_server_gets_a_wider_window);
  tcase_add_test(tests, names_nobody_answers_hold_up_the_others_only_for_a_while);
  tcase_add_test(tests, names_nobody_answers_leave_room_for_who_comes_later);
  tcase_add_test(tests, a_reply_that_comes_late_is_one_loss);
  tcase_add_test(tests, a_reply_that_comes_twice_is_no_loss);
  tcase_add_test(tests, without_sockets_few_are_tried_for);
  tcase_add_test(tests, without_sockets_all_have_their_end);
  tcase_add_test(tests, silence_ends_those_that_wait_too);
  tcase_add_test(tests, what_waits_for_long_is_asked_as_long_as_others_get_replies);
  tcase_add_test(tests, a_live_server_is_not_left_for_a_silent_name);
  tcase_add_test(tests, more_than_the_streams_wait_for_one);
  tcase_add_test(tests, two_servers_one_unable_one_silent_do_not_hold_up_the_rest);
  tcase_add_loop_test(tests, closing_with_all_that_waits_is_clean, 0, 2);
  return unit_main_forked("dns/burst", &tests, 1);
}
