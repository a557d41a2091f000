/* The incoming side of a shard with real sockets on loopback, and a spool that takes its time as a test wants it. */
#include "net/in/intake.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/queue/fake_slab.c"
#include "tests/unit/queue/fake_spool.c"

#include "tests/lib/unit.h"

#define KIND_EVENTS 3
#define KIND_INTAKE 4
#define PATIENCE_NS 20000000000 /* a test that waits longer than this has failed */
#define TEXT_MAX (1 << 20)

static struct slab slab;
static struct spool spool;
static struct shard shard;
static struct shard_group *group;
static struct counters counters;
static struct schedule schedule;
static struct event_writer *events;
static struct intake *intake;
static struct conf conf;
static struct conf_listener listener;
static struct network relay_from;
static _Atomic uint32_t sessions_open;
static unsigned stored;       /* messages */
static uint64_t stored_bytes; /* of their contents */

static void when_due(void *unused, struct message *message, unsigned recipient) {
  (void)unused;
  stored += recipient == 0;
  stored_bytes += recipient == 0 ? message->size : 0;
  schedule_done(&schedule, message, recipient, RECORD_DELIVERED);
}

static void end_of_turn(void *unused) {
  (void)unused;
  spool_turn(&spool, shard.now_ms);
  intake_turn(intake);
}

static void on_events(void *unused, const struct io_completion *completion) {
  (void)unused;
  event_writer_complete(events, completion);
}

static void set_conf(void) {
  listener.address = (struct netaddr){.family = 4, .bytes = {127, 0, 0, 1}};
  ck_assert_int_eq(network_parse(&relay_from, SPAN("127.0.0.0/8")), E_OK);
  conf = (struct conf){.hostname = (char *)(uintptr_t) "relay.example.org",
                       .shards = 1,
                       .listeners = &listener,
                       .listeners_count = 1,
                       .relay_from = &relay_from,
                       .relay_from_count = 1,
                       .sessions_max = 100,
                       .recipients_max = 1000,
                       .session_errors_max = 20,
                       .session_messages_max = 0,
                       .session_timeout_ms = 300000,
                       .message_size_max = 50 << 20,
                       .queue_messages_max = 1000};
}

static void open_intake(void) {
  struct io_options io = {.sockets_max = 200, .receive_buffers = 16, .receive_buffer_size = 16384};
  const char *reason = "";
  uint8_t room[256];
  struct fmt why = fmt_over(room, sizeof room);
  ck_assert_int_eq(shard_group_open(&group, 1), E_OK);
  ck_assert_msg(shard_init(&shard, group, 0, &io, &reason) == E_OK, "%s", reason);
  slab_init(&slab, 64 << 20);
  schedule_init(&schedule, &shard, &slab, &spool, &counters, when_due, NULL);
  struct event_writer_options writer = {.counters = &counters};
  ck_assert_int_eq(event_writer_open(&events, shard.io, &writer, KIND_EVENTS, &why), E_OK);
  struct intake_options options = {.shard = &shard,
                                   .conf = &conf,
                                   .slab = &slab,
                                   .spool = &spool,
                                   .schedule = &schedule,
                                   .counters = &counters,
                                   .events = events,
                                   .sessions_open = &sessions_open,
                                   .token_kind = KIND_INTAKE};
  ck_assert_int_eq(intake_open(&intake, &options), E_OK);
  ck_assert_int_eq(intake_listen(intake, &why), E_OK);
  shard_handle(&shard, KIND_EVENTS, on_events, NULL);
  shard_handle(&shard, KIND_INTAKE, intake_complete, intake);
  shard.on_turn = end_of_turn;
  stored = 0;
  stored_bytes = 0;
}

static void open_world(void) {
  set_conf();
  open_intake();
}

static void turn(void) { shard_turn(&shard, io_now_ns(shard.io) + 2000000); }

/* Takes turns until it is so. */
#define UNTIL(condition)                                                                                                                             \
  do {                                                                                                                                               \
    for (uint64_t patience = io_now_ns(shard.io) + PATIENCE_NS; !(condition); turn())                                                                \
      if (io_now_ns(shard.io) > patience) ck_abort_msg("%s did not come", #condition);                                                               \
  } while (0)

static void close_world(void) {
  spool.hold = false;
  intake_stop(intake);
  UNTIL(intake_idle(intake) && spool_idle(&spool));
  intake_close(intake);
  ck_assert_uint_eq(sessions_open, 0);
  event_writer_close(events);
  ck_assert_uint_eq(schedule.messages, 0);
  ck_assert_uint_eq(fake_spool_live(&spool), 0);
  schedule_fini(&schedule);
  ck_assert_uint_eq(shard.wheel.count, 0);
  shard_fini(&shard);
  shard_group_close(group);
  fake_spool_free(&spool);
  slab_fini(&slab); /* every session gives back what it took */
}

/* ---- the other side ---- */

struct client {
  int fd;
  bool closed; /* by the server */
  size_t len;
  char got[TEXT_MAX + 1];
};

static struct client *client_new(int receive_buffer) {
  struct client *c = calloc(1, sizeof *c);
  struct netaddr address;
  intake_address(intake, &address);
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(address.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (receive_buffer > 0) ck_assert_int_eq(setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer), 0);
  ck_assert_int_eq(connect(c->fd, (struct sockaddr *)&to, sizeof to), 0);
  ck_assert_int_eq(fcntl(c->fd, F_SETFL, O_NONBLOCK), 0);
  return c;
}

static void client_free(struct client *c) {
  close(c->fd);
  free(c);
}

/* Closes so that the server sees a reset. */
static void client_reset(struct client *c) {
  struct linger linger = {1, 0};
  ck_assert_int_eq(setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger), 0);
  client_free(c);
}

/* What the socket takes of it; how much that was. */
static size_t offer(struct client *c, const char *bytes, size_t len) {
  ssize_t n = send(c->fd, bytes, len, MSG_NOSIGNAL);
  ck_assert(n >= 0 || errno == EAGAIN || errno == EPIPE || errno == ECONNRESET);
  return n < 0 ? 0 : (size_t)n;
}

static void say_bytes(struct client *c, const char *bytes, size_t len) {
  size_t at = offer(c, bytes, len);
  UNTIL(at == len || (at += offer(c, bytes + at, len - at)) == len);
}

static void say(struct client *c, const char *text) { say_bytes(c, text, strlen(text)); }

static void listen_to(struct client *c) {
  while (!c->closed && c->len < TEXT_MAX) {
    ssize_t n = recv(c->fd, c->got + c->len, TEXT_MAX - c->len, 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) c->closed = true;
    if (n > 0) c->len += (size_t)n;
    c->got[c->len] = '\0';
  }
}

static bool heard(struct client *c, const char *text) {
  listen_to(c);
  char *found = strstr(c->got, text);
  if (found == NULL) return false;
  size_t end = (size_t)(found - c->got) + strlen(text);
  memmove(c->got, c->got + end, c->len - end + 1);
  c->len -= end;
  return true;
}

static bool is_closed(struct client *c) {
  listen_to(c);
  return c->closed;
}

/* The text comes; what was before it is thrown away. */
#define EXPECT(c, text) UNTIL(heard(c, text))

static struct client *greeted(void) {
  struct client *c = client_new(0);
  EXPECT(c, "220 ");
  say(c, "EHLO client.example.org\r\n");
  EXPECT(c, "\r\n250 ");
  EXPECT(c, "\r\n");
  return c;
}

#define ENVELOPE "MAIL FROM:<s@example.org>\r\nRCPT TO:<r@example.net>\r\nDATA\r\n"
#define CONTENT "Subject: x\r\n\r\nhello\r\n.\r\n"

/* Segments with data that came in. */
static unsigned segments(const struct client *c) {
  struct tcp_info tcp;
  socklen_t len = sizeof tcp;
  ck_assert_int_eq(getsockopt(c->fd, IPPROTO_TCP, TCP_INFO, &tcp, &len), 0);
  return tcp.tcpi_data_segs_in;
}

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

static const char dialogue[] =
    "EHLO a.example\r\n" ENVELOPE "a\r\n..\r\nb\r\n.\r\nNOOP\r\nMAIL FROM:<>\r\nRCPT TO:<bad\r\nRCPT TO:<x@example.org>\r\nRSET\r\n"
    "MAIL FROM:<s@example.org>\r\nRCPT TO:<r@example.net>\r\nBDAT 5\r\nabcdeBDAT 3 LAST\r\nf\r\nHELP\r\n" ENVELOPE CONTENT "QUIT\r\n";

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
  TCase *replies = tcase_create("replies"), *slow = tcase_create("slow"), *ends = tcase_create("ends"), *small = tcase_create("small"),
        *memory = tcase_create("memory");
  TCase *const cases[] = {replies, slow, ends, small, memory};
  for (unsigned i = 0; i < 5; i++) {
    tcase_add_checked_fixture(cases[i], cases[i] == small ? open_small : open_world, close_world);
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
  tcase_add_test(ends, whoever_closes_his_half_gets_his_replies);
  tcase_add_test(ends, a_half_that_closes_in_the_middle_leaves_nothing);
  tcase_add_test(ends, a_peer_that_is_gone_before_its_250_has_its_message_stored_all_the_same);
  tcase_add_test(ends, a_reset_at_any_time_leaves_nothing);
  tcase_add_test(ends, silence_ends_a_session);
  tcase_add_test(ends, at_a_stop_everybody_gets_his_421_when_it_suits);
  tcase_add_test(small, without_a_slot_there_is_421_and_room_again_later);
  tcase_add_test(memory, memory_may_end_anywhere);
  return unit_main("net/in/session", cases, 5);
}
