/* The incoming side of a shard with real sockets on loopback, and a spool that takes its time as a test wants it, for tests: #include this file. */
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

#define UNUSED __attribute__((unused))
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
static UNUSED void client_reset(struct client *c) {
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
static UNUSED unsigned segments(const struct client *c) {
  struct tcp_info tcp;
  socklen_t len = sizeof tcp;
  ck_assert_int_eq(getsockopt(c->fd, IPPROTO_TCP, TCP_INFO, &tcp, &len), 0);
  return tcp.tcpi_data_segs_in;
}

/* ---- what is said ---- */

static const char dialogue[] =
    "EHLO a.example\r\n" ENVELOPE "a\r\n..\r\nb\r\n.\r\nNOOP\r\nMAIL FROM:<>\r\nRCPT TO:<bad\r\nRCPT TO:<x@example.org>\r\nRSET\r\n"
    "MAIL FROM:<s@example.org>\r\nRCPT TO:<r@example.net>\r\nBDAT 5\r\nabcdeBDAT 3 LAST\r\nf\r\nHELP\r\n" ENVELOPE CONTENT "QUIT\r\n";
