/* How sessions end, and what happens when slots or memory run out. */
#include "tests/unit/net/in/session_world.c"

/* ---- how sessions end ---- */

START_TEST(whoever_closes_his_half_gets_his_replies) {
  for (unsigned held = 0; held < 2; held++) {
    struct client *c = client_new(0);
    spool.hold = held == 1;
    say(c, "EHLO a.example\r\n" ENVELOPE CONTENT "NOOP\r\n"); /* no QUIT */
    ck_assert_int_eq(shutdown(c->fd, SHUT_WR), 0);
    if (held == 1) {
      UNTIL(!spool_idle(&spool));
      for (unsigned i = 0; i < 20; i++) turn(); /* the end of the stream is seen */
      spool.hold = false;
    }
    EXPECT(c, "354 ");
    EXPECT(c, "250 2.0.0");
    EXPECT(c, "250 2.0.0");
    UNTIL(is_closed(c));
    ck_assert_uint_eq(stored, held + 1);
    client_free(c);
  }
  struct client *c = client_new(0);
  say(c, "NOOP\r\nNOO");
  ck_assert_int_eq(shutdown(c->fd, SHUT_WR), 0);
  EXPECT(c, "220 ");
  EXPECT(c, "250 2.0.0");
  UNTIL(is_closed(c));
  ck_assert_uint_eq(c->len, 0 + strlen(c->got));
  client_free(c);
  UNTIL(intake_idle(intake));
}
END_TEST

START_TEST(a_half_that_closes_in_the_middle_leaves_nothing) {
  static const char *const beginnings[] = {"", "EHLO a.ex", "EHLO a.example\r\nMAIL FROM:<>\r\n", "EHLO a.example\r\n" ENVELOPE "some\r\n",
                                           "EHLO a.example\r\n" ENVELOPE CONTENT "MAIL FROM:<a@example.org>\r\n"};
  for (unsigned i = 0; i < sizeof beginnings / sizeof beginnings[0]; i++) {
    struct client *c = client_new(0);
    say(c, beginnings[i]);
    ck_assert_int_eq(shutdown(c->fd, SHUT_WR), 0);
    UNTIL(is_closed(c));
    client_free(c);
    UNTIL(intake_idle(intake));
    ck_assert_uint_eq(slab.used_bytes, 0);
  }
  ck_assert_uint_eq(stored, 1);
}
END_TEST

START_TEST(a_peer_that_is_gone_before_its_250_has_its_message_stored_all_the_same) {
  struct client *c = greeted();
  spool.hold = true;
  say(c, ENVELOPE);
  EXPECT(c, "354 ");
  say(c, CONTENT);
  UNTIL(!spool_idle(&spool));
  client_reset(c);
  UNTIL(intake_idle(intake));
  uint64_t before = count_get(&counters, COUNT_EVENTS);
  spool.hold = false;
  UNTIL(stored == 1);
  ck_assert_uint_eq(count_get(&counters, COUNT_EVENTS), before + 1); /* its Reception */
}
END_TEST

START_TEST(a_reset_at_any_time_leaves_nothing) {
  static char part[1200000];
  memset(part, 'x', sizeof part);
  for (size_t i = 70; i < sizeof part; i += 72) memcpy(part + i, "\r\n", 2);
  for (unsigned stage = 0; stage < 6; stage++) {
    struct client *c = stage == 0 ? client_new(0) : greeted();
    if (stage >= 2) say(c, "MAIL FROM:<s@example.org>\r\nRCPT TO:<r@example.net>\r\n");
    if (stage >= 3) say(c, "DATA\r\n");
    if (stage >= 4) spool.hold = true;
    if (stage >= 4) say_bytes(c, part, sizeof part);
    if (stage >= 4) UNTIL(!spool_idle(&spool));      /* a part is on its way */
    if (stage >= 5) say_bytes(c, part, sizeof part); /* and one more: now it has to wait */
    if (stage >= 5) UNTIL(spool.appends_count == 2);
    client_reset(c);
    if (stage >= 5) spool.hold = false; /* nothing is read from it while it waits: the reset is seen after that */
    UNTIL(count_get(&counters, COUNT_SESSIONS) == stage + 1 && intake_idle(intake));
    spool.hold = false;
    UNTIL(spool_idle(&spool));
    ck_assert_uint_eq(slab.used_bytes, 0);
    ck_assert_uint_eq(fake_spool_live(&spool), 0);
  }
  ck_assert_uint_eq(stored, 0);
}
END_TEST

START_TEST(silence_ends_a_session) {
  conf.session_timeout_ms = 60;
  struct client *idle = client_new(0), *data = client_new(0), *waiting = client_new(0);
  EXPECT(idle, "220 ");
  say(data, "EHLO a.example\r\n" ENVELOPE "some\r\n");
  spool.hold = true;
  say(waiting, "EHLO a.example\r\n" ENVELOPE CONTENT);
  EXPECT(idle, "421 4.4.2");
  UNTIL(is_closed(idle));
  EXPECT(data, "354 ");
  EXPECT(data, "421 4.4.2");
  UNTIL(is_closed(data));
  uint64_t later_ms = shard.now_ms + 200;
  UNTIL(shard.now_ms > later_ms);
  EXPECT(waiting, "354 "); /* the peer owes nothing while the disk is at work */
  ck_assert(!is_closed(waiting) && strstr(waiting->got, "421") == NULL);
  spool.hold = false;
  EXPECT(waiting, "250 2.0.0");
  EXPECT(waiting, "421 4.4.2");
  UNTIL(is_closed(waiting));
  client_free(idle);
  client_free(data);
  client_free(waiting);
}
END_TEST

START_TEST(at_a_stop_everybody_gets_his_421_when_it_suits) {
  struct client *idle = greeted(), *open = greeted(), *content = greeted(), *waiting = greeted();
  say(open, "MAIL FROM:<s@example.org>\r\nRCPT TO:<r@example.net>\r\n");
  EXPECT(open, "250 2.1.5");
  say(content, ENVELOPE "some\r\n");
  EXPECT(content, "354 ");
  spool.hold = true;
  say(waiting, ENVELOPE CONTENT ENVELOPE);
  EXPECT(waiting, "354 ");
  UNTIL(!spool_idle(&spool));
  struct netaddr address;
  intake_address(intake, &address);
  intake_stop(intake);
  EXPECT(idle, "421 4.3.2");
  UNTIL(is_closed(idle));
  for (unsigned i = 0; i < 20; i++) turn();
  ck_assert(!is_closed(open) && !is_closed(content) && !is_closed(waiting));
  spool.hold = false;
  EXPECT(waiting, "250 2.0.0");
  EXPECT(waiting, "421 4.3.2");
  UNTIL(is_closed(waiting));
  ck_assert_ptr_null(strstr(waiting->got, "354")); /* no new transaction */
  say(content, ".\r\n");
  EXPECT(content, "250 2.0.0");
  EXPECT(content, "421 4.3.2");
  UNTIL(is_closed(content));
  say(open, "DATA\r\n" CONTENT);
  EXPECT(open, "250 2.0.0");
  EXPECT(open, "421 4.3.2");
  UNTIL(is_closed(open));
  UNTIL(intake_idle(intake));
  ck_assert_uint_eq(stored, 3);
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(address.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  ck_assert_int_eq(connect(fd, (struct sockaddr *)&to, sizeof to), -1);
  close(fd);
  client_free(idle);
  client_free(open);
  client_free(content);
  client_free(waiting);
}
END_TEST

/* ---- what runs out ---- */

static void open_small(void) {
  set_conf();
  conf.sessions_max = 2;
  open_intake();
}

START_TEST(without_a_slot_there_is_421_and_room_again_later) {
  struct client *first = greeted(), *second = greeted();
  for (unsigned i = 0; i < 10; i++) {
    struct client *more = client_new(0);
    EXPECT(more, "421 4.3.2");
    UNTIL(is_closed(more));
    client_free(more);
  }
  ck_assert_uint_eq(count_get(&counters, COUNT_SESSIONS_REFUSED), 10);
  say(first, "QUIT\r\n");
  UNTIL(is_closed(first));
  client_free(first);
  UNTIL(count_get(&counters, GAUGE_SESSIONS) == 1);
  client_free(greeted());
  client_free(second);
}
END_TEST

START_TEST(memory_may_end_anywhere) {
  bool all = false;
  for (uint64_t requests = 0; !all; requests++) {
    ck_assert_uint_lt(requests, 300);
    fake_slab_requests_left = requests;
    struct client *c = client_new(0);
    say(c, dialogue);
    UNTIL(is_closed(c));
    all = strstr(c->got, "452") == NULL && strstr(c->got, "221") != NULL;
    client_free(c);
    UNTIL(intake_idle(intake) && spool_idle(&spool));
    ck_assert_uint_eq(slab.used_bytes, 0);
    ck_assert_uint_eq(fake_spool_live(&spool), 0);
  }
}
END_TEST

int main(void) {
  TCase *ends = tcase_create("ends"), *small = tcase_create("small"), *memory = tcase_create("memory");
  TCase *const cases[] = {ends, small, memory};
  for (unsigned i = 0; i < 3; i++) {
    tcase_add_checked_fixture(cases[i], cases[i] == small ? open_small : open_world, close_world);
    tcase_set_timeout(cases[i], 60);
  }
  tcase_add_test(ends, whoever_closes_his_half_gets_his_replies);
  tcase_add_test(ends, a_half_that_closes_in_the_middle_leaves_nothing);
  tcase_add_test(ends, a_peer_that_is_gone_before_its_250_has_its_message_stored_all_the_same);
  tcase_add_test(ends, a_reset_at_any_time_leaves_nothing);
  tcase_add_test(ends, silence_ends_a_session);
  tcase_add_test(ends, at_a_stop_everybody_gets_his_421_when_it_suits);
  tcase_add_test(small, without_a_slot_there_is_421_and_room_again_later);
  tcase_add_test(memory, memory_may_end_anywhere);
  return unit_main_forked("net/in/session: ends", cases, 3);
}
