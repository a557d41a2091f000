/* Replies, and the pace of a session: slow disks, slow peers, input cut anywhere. */
#include "tests/unit/net/in/session_world.c"

/* ---- replies ---- */

START_TEST(a_pipelined_group_is_answered_in_one_send) {
  struct client *c = greeted();
  unsigned before = segments(c);
  say(c, ENVELOPE);
  EXPECT(c, "250 2.1.0");
  EXPECT(c, "250 2.1.5");
  EXPECT(c, "354 ");
  ck_assert_uint_eq(segments(c), before + 1);
  EXPECT(c, "\r\n");
  say(c, CONTENT ENVELOPE);
  EXPECT(c, "250 2.0.0");
  EXPECT(c, "354 ");
  ck_assert_uint_le(segments(c), before + 3); /* the disk is between them */
  say(c, CONTENT "QUIT\r\n");
  EXPECT(c, "250 2.0.0");
  EXPECT(c, "221 ");
  UNTIL(is_closed(c));
  ck_assert_uint_eq(stored, 2);
  client_free(c);
}
END_TEST

START_TEST(no_250_before_the_message_is_safe) {
  struct client *c = greeted();
  spool.hold = true;
  say(c, ENVELOPE);
  EXPECT(c, "354 ");
  EXPECT(c, "\r\n");
  say(c, CONTENT "NOOP\r\nQUIT\r\n");
  UNTIL(!spool_idle(&spool));
  for (unsigned i = 0; i < 20; i++) turn();
  listen_to(c);
  ck_assert_uint_eq(c->len, 0);
  spool.hold = false;
  EXPECT(c, "250 2.0.0");
  EXPECT(c, "250 2.0.0");
  EXPECT(c, "221 ");
  UNTIL(is_closed(c));
  client_free(c);
}
END_TEST

START_TEST(what_is_wrong_with_the_spool_is_told) {
  struct client *c = greeted();
  spool.full = true;
  say(c, "MAIL FROM:<s@example.org>\r\n");
  EXPECT(c, "452 4.3.1");
  spool.full = false;
  spool.failed = E_IO;
  say(c, "MAIL FROM:<s@example.org>\r\n");
  EXPECT(c, "451 4.3.0");
  spool.failed = E_OK;
  conf.queue_messages_max = 0;
  say(c, "MAIL FROM:<s@example.org>\r\n");
  EXPECT(c, "452 4.3.1");
  conf.queue_messages_max = 10;
  uint64_t taken = slab.limit_bytes / 16 * 15; /* there is some left, but not for new mail */
  slab.used_bytes += taken;
  say(c, "MAIL FROM:<s@example.org>\r\n");
  EXPECT(c, "452 4.3.1");
  slab.used_bytes -= taken;
  static const struct {
    int error;
    const char *reply;
  } table[] = {{E_NO_SPACE, "452 4.3.1"}, {E_IO, "451 4.3.0"}, {E_TOO_LONG, "451 4.3.0"}, {E_OK, "250 2.0.0"}};
  for (unsigned i = 0; i < 4; i++) {
    spool.fail_append = table[i].error;
    say(c, ENVELOPE);
    EXPECT(c, "354 ");
    say(c, CONTENT);
    EXPECT(c, table[i].reply);
    ck_assert_uint_eq(stored, i / 3);
  }
  client_free(c);
}
END_TEST

START_TEST(strangers_may_not_relay) {
  conf.relay_from_count = 0;
  struct client *c = greeted();
  say(c, "MAIL FROM:<s@example.org>\r\nRCPT TO:<r@example.net>\r\nRSET\r\n");
  EXPECT(c, "250 2.1.0");
  EXPECT(c, "550 5.7.1");
  EXPECT(c, "250 2.0.0");
  client_free(c);
}
END_TEST

/* ---- slow, long, cut ---- */

START_TEST(behind_a_slow_disk_the_peer_waits_and_memory_is_bounded) {
  static char content[3 << 20];
  struct client *c = greeted();
  size_t len = 0, at = 0;
  while (len < sizeof content - 1000) len += (size_t)snprintf(content + len, 100, "%078zu\r\n", len);
  strcpy(content + len, ".\r\nQUIT\r\n");
  size_t whole = len + strlen(".\r\nQUIT\r\n");
  spool.hold = true;
  say(c, ENVELOPE CONTENT ENVELOPE);
  UNTIL(!spool_idle(&spool));
  for (unsigned i = 0; i < 400; i++) {
    at += offer(c, content + at, whole - at);
    turn();
  }
  ck_assert_uint_lt(slab.used_bytes, 1 << 20);
  ck_assert_uint_eq(stored, 0);
  spool.hold = false;
  EXPECT(c, "250 2.0.0");
  UNTIL(at == whole || (at += offer(c, content + at, whole - at)) == whole);
  EXPECT(c, "354 ");
  EXPECT(c, "250 2.0.0");
  EXPECT(c, "221 ");
  ck_assert_uint_eq(stored, 2);
  ck_assert_uint_gt(stored_bytes, len);
  ck_assert_uint_lt(stored_bytes, len + 1000);
  client_free(c);
}
END_TEST

START_TEST(parts_of_a_long_message_wait_for_the_disk_too) {
  static char content[6 << 20];
  struct client *c = greeted();
  size_t len = 0, at = 0;
  while (len < sizeof content - 1000) len += (size_t)snprintf(content + len, 100, "%078zu\r\n", len);
  strcpy(content + len, ".\r\n");
  size_t whole = len + 3;
  spool.hold = true;
  say(c, ENVELOPE);
  EXPECT(c, "354 ");
  for (unsigned i = 0; i < 600; i++) {
    at += offer(c, content + at, whole - at);
    turn();
  }
  ck_assert_uint_lt(slab.used_bytes, 5 << 20); /* two parts under way, what came behind, and a stash */
  ck_assert_uint_eq(spool.appends_count, 2);
  spool.hold = false;
  UNTIL(at == whole || (at += offer(c, content + at, whole - at)) == whole);
  EXPECT(c, "250 2.0.0");
  ck_assert_uint_eq(stored, 1);
  ck_assert_uint_ge(stored_bytes, len);
  say(c, "QUIT\r\n");
  EXPECT(c, "221 ");
  client_free(c);
}
END_TEST

static uint64_t chance = 1;
static uint32_t any(uint32_t below) {
  chance = chance * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(chance >> 33) % below;
}

/* The whole conversation, ids left out. */
static void converse(char *replies, bool cut) {
  struct client *c = client_new(0);
  for (size_t at = 0, len; at < sizeof dialogue - 1; at += len) {
    len = cut ? 1 + any(any(3) == 0 ? 3 : 60) : sizeof dialogue;
    if (len > sizeof dialogue - 1 - at) len = sizeof dialogue - 1 - at;
    say_bytes(c, dialogue + at, len);
    spool.hold = cut && any(2) == 0;
    if (any(2) == 0) turn();
  }
  spool.hold = false;
  UNTIL(is_closed(c));
  for (char *line = c->got, *end; (end = strstr(line, "\r\n")) != NULL; line = end + 2) {
    char *id = strstr(line, "queued as ");
    if (id != NULL && id < end) end = memmove(id, end, (size_t)(c->got + c->len - end) + 1);
  }
  ck_assert_uint_lt(strlen(c->got), 4096);
  strcpy(replies, c->got);
  client_free(c);
}

START_TEST(where_input_is_cut_changes_nothing) {
  char whole[4096], cut[4096];
  converse(whole, false);
  ck_assert_uint_eq(stored, 3);
  ck_assert_ptr_nonnull(strstr(whole, "221 "));
  for (unsigned i = 1; i <= 60; i++) {
    converse(cut, true);
    ck_assert_str_eq(cut, whole);
    ck_assert_uint_eq(stored, 3 + 3 * i);
  }
}
END_TEST

START_TEST(a_peer_that_does_not_read_gets_all_replies_later) {
  struct client *c = client_new(2048);
  unsigned answers = 0;
  EXPECT(c, "220 ");
  for (unsigned i = 0; i < 900; i++) say(c, "EHLO client.example.org\r\n");
  say(c, "QUIT\r\n");
  for (unsigned i = 0; i < 200; i++) turn();
  ck_assert_uint_lt(slab.used_bytes, 1 << 18);
  UNTIL(is_closed(c));
  for (const char *at = c->got; (at = strstr(at, "250-relay.example.org")) != NULL; at++) answers++;
  ck_assert_uint_eq(answers, 900);
  ck_assert_ptr_nonnull(strstr(c->got, "221 "));
  client_free(c);
}
END_TEST

int main(void) {
  TCase *replies = tcase_create("replies"), *slow = tcase_create("slow");
  TCase *const cases[] = {replies, slow};
  for (unsigned i = 0; i < 2; i++) {
    tcase_add_checked_fixture(cases[i], open_world, close_world);
    tcase_set_timeout(cases[i], 60);
  }
  tcase_add_test(replies, a_pipelined_group_is_answered_in_one_send);
  tcase_add_test(replies, no_250_before_the_message_is_safe);
  tcase_add_test(replies, what_is_wrong_with_the_spool_is_told);
  tcase_add_test(replies, strangers_may_not_relay);
  tcase_add_test(slow, behind_a_slow_disk_the_peer_waits_and_memory_is_bounded);
  tcase_add_test(slow, parts_of_a_long_message_wait_for_the_disk_too);
  tcase_add_test(slow, where_input_is_cut_changes_nothing);
  tcase_add_test(slow, a_peer_that_does_not_read_gets_all_replies_later);
  return unit_main("net/in/session", cases, 2);
}
