/*
 * What io.h promises, as facts to be checked: #include this file behind the functions below, which say what world the implementation under test
 * lives in.
 *
 *   static void open_world(void);                          // a new one, and `directory` in it
 *   static void close_world(void);
 *   static void remove_directory(const char *path);        // an empty one
 *   static void in_thread(void *(*run)(void *), void *argument, void (*meanwhile)(void));
 *   static void echo_open(struct netaddr *address);        // a server that sends datagrams back, of the world as it is now
 *   static void echo(void);                                // those that have come by now; at the latest
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/error.h"
#include "core/io/io.h"
#include "tests/lib/unit.h"

#define NOTIFY 99

static struct io *io;

static void open_io(void) {
  open_world();
  struct io_options options = {.sockets_max = 64, .receive_buffers = 4, .receive_buffer_size = 4096, .notify_token = NOTIFY};
  const char *why = "";
  int error = io_open(&io, &options, &why);
  ck_assert_msg(error == E_OK, "io_open: %s", why);
}

static void remove_one(void *context, const char *name) {
  char path[512];
  (void)context;
  snprintf(path, sizeof path, "%s/%s", directory, name);
  ck_assert_int_eq(io_file_remove(io, path), E_OK);
}

static void close_io(void) {
  ck_assert_int_eq(io_directory_list(io, directory, remove_one, NULL), E_OK);
  io_destroy(io);
  close_world();
}

static const char *in_directory(const char *name) {
  static char path[512];
  snprintf(path, sizeof path, "%s/%s", directory, name);
  return path;
}

/* Completions are kept until a test asks for them by token; received bytes are copied. */
static struct {
  uint64_t token;
  int64_t result;
  uint8_t bytes[4096];
  size_t len;
} seen[256];
static unsigned seen_count;

static bool turn(uint64_t limit_ms) {
  const struct io_completion *done;
  unsigned count = io_wait(io, io_now_ns(io) + limit_ms * 1000000, &done);
  for (unsigned i = 0; i < count; i++) {
    ck_assert_uint_lt(seen_count, 256);
    seen[seen_count].token = done[i].token;
    seen[seen_count].result = done[i].result;
    seen[seen_count].len = done[i].bytes.len;
    if (done[i].bytes.len > 0) memcpy(seen[seen_count].bytes, done[i].bytes.at, done[i].bytes.len);
    seen_count++;
  }
  return count > 0;
}

static bool take(uint64_t token, int64_t *result, uint8_t *bytes, size_t *len) {
  for (unsigned i = 0; i < seen_count; i++) {
    if (seen[i].token != token) continue;
    *result = seen[i].result;
    if (bytes != NULL) memcpy(bytes, seen[i].bytes, seen[i].len);
    if (len != NULL) *len = seen[i].len;
    memmove(&seen[i], &seen[i + 1], (seen_count - i - 1) * sizeof seen[0]);
    seen_count--;
    return true;
  }
  return false;
}

static int64_t await(uint64_t token) {
  int64_t result = 0;
  for (unsigned i = 0; i < 5000; i++) {
    if (take(token, &result, NULL, NULL)) return result;
    turn(10);
  }
  ck_abort_msg("no completion of token %llu", (unsigned long long)token);
  return 0;
}

static struct netaddr loopback(void) { return (struct netaddr){.family = 4, .bytes = {127, 0, 0, 1}}; }

struct pair {
  io_socket listener, client, server;
};

static struct pair connected(void) {
  struct pair pair;
  struct netaddr address = loopback();
  seen_count = 0;
  ck_assert_int_eq(io_listen(io, &address, 16, true, &pair.listener), E_OK);
  io_local(io, pair.listener, &address);
  ck_assert_uint_ne(address.port, 0);
  io_accept(io, pair.listener, 1);
  ck_assert_int_eq(io_stream(io, &address, NULL, &pair.client), E_OK);
  io_connect(io, pair.client, &address, 2);
  ck_assert_int_eq(await(2), 0);
  pair.server = (io_socket)await(1);
  ck_assert_int_ge(pair.server, 0);
  return pair;
}

static size_t receive_all(uint64_t token, uint8_t *room, size_t wanted) {
  size_t got = 0;
  for (unsigned i = 0; got < wanted && i < 5000; i++) {
    int64_t result;
    size_t len;
    uint8_t bytes[4096];
    while (take(token, &result, bytes, &len)) {
      ck_assert_int_gt(result, 0);
      ck_assert_uint_eq(len, (size_t)result);
      ck_assert_uint_le(got + len, wanted);
      memcpy(room + got, bytes, len);
      got += len;
    }
    if (got < wanted) turn(10);
  }
  ck_assert_uint_eq(got, wanted);
  return got;
}

START_TEST(accept_tells_peer_and_local) {
  struct pair pair = connected();
  struct netaddr client_local, server_peer;
  io_local(io, pair.client, &client_local);
  io_peer(io, pair.server, &server_peer);
  ck_assert(netaddr_equal(&client_local, &server_peer));
}
END_TEST

START_TEST(send_gathers_all_slices_and_completes_once) {
  struct pair pair = connected();
  static uint8_t big[300000], got[300010];
  for (size_t i = 0; i < sizeof big; i++) big[i] = (uint8_t)(i * 7 + i / 251);
  struct io_slice slices[3] = {{(void *)"abc", 3}, {big, sizeof big}, {(void *)"defg", 4}};
  io_receive(io, pair.server, 10);
  io_send(io, pair.client, slices, 3, 11);
  receive_all(10, got, sizeof big + 7);
  ck_assert_int_eq(await(11), (int64_t)sizeof big + 7);
  ck_assert(memcmp(got, "abc", 3) == 0 && memcmp(got + 3, big, sizeof big) == 0 && memcmp(got + 3 + sizeof big, "defg", 4) == 0);
}
END_TEST

/* Four buffers only, and much more data before anybody looks: receiving has to recover by itself. */
START_TEST(receive_survives_lack_of_buffers) {
  struct pair pair = connected();
  static uint8_t big[200000], got[200000];
  memset(big, 'x', sizeof big);
  struct io_slice slice = {big, sizeof big};
  io_receive(io, pair.server, 10);
  io_send(io, pair.client, &slice, 1, 11);
  receive_all(10, got, sizeof big);
  ck_assert(memcmp(got, big, sizeof big) == 0);
}
END_TEST

START_TEST(end_of_stream_is_zero_and_the_other_half_goes_on) {
  struct pair pair = connected();
  struct io_slice slice = {(void *)"late", 4};
  uint8_t got[4];
  io_receive(io, pair.server, 10);
  io_receive(io, pair.client, 12);
  io_shutdown(io, pair.client);
  ck_assert_int_eq(await(10), 0);
  io_send(io, pair.server, &slice, 1, 11);
  receive_all(12, got, 4);
  ck_assert(memcmp(got, "late", 4) == 0);
}
END_TEST

START_TEST(pause_loses_nothing) {
  struct pair pair = connected();
  uint8_t got[8];
  struct io_slice first = {(void *)"1234", 4}, second = {(void *)"5678", 4};
  io_receive(io, pair.server, 10);
  io_send(io, pair.client, &first, 1, 11);
  receive_all(10, got, 4);
  ck_assert_int_eq(await(11), 4);
  io_receive_pause(io, pair.server);
  turn(0);
  turn(0);
  io_send(io, pair.client, &second, 1, 11);
  ck_assert_int_eq(await(11), 4);
  for (unsigned i = 0; i < 5; i++) turn(1);
  int64_t result;
  ck_assert_msg(!take(10, &result, NULL, NULL), "received while paused");
  io_receive(io, pair.server, 13);
  receive_all(13, got + 4, 4);
  ck_assert(memcmp(got, "12345678", 8) == 0);
}
END_TEST

START_TEST(pause_and_at_once_receive_goes_on) {
  struct pair pair = connected();
  uint8_t got[4];
  struct io_slice slice = {(void *)"1234", 4};
  io_receive(io, pair.server, 10);
  turn(0);
  io_receive_pause(io, pair.server);
  io_receive(io, pair.server, 10);
  io_send(io, pair.client, &slice, 1, 11);
  receive_all(10, got, 4);
}
END_TEST

/* The peer has sent more than a buffer holds: each call brings a buffer, in order, and nothing comes without one. */
static void receive_by_the_buffer(io_socket socket, size_t bytes) {
  uint8_t got[4096];
  size_t len, total = 0;
  int64_t result;
  while (total < bytes) {
    for (unsigned i = 0; i < 3; i++) turn(1);
    ck_assert_msg(!take(10, &result, NULL, NULL), "received without being asked");
    io_receive_once(io, socket, 10);
    while (!take(10, &result, got, &len)) turn(1000);
    ck_assert(result == (int64_t)len && len > 0 && len <= 4096);
    for (size_t i = 0; i < len; i++) ck_assert_uint_eq(got[i], (total + i) % 251);
    total += len;
  }
}

START_TEST(receiving_once_is_one_buffer) {
  struct pair pair = connected();
  static uint8_t bytes[40000];
  struct io_slice slice = {bytes, sizeof bytes};
  for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)(i % 251);
  io_send(io, pair.client, &slice, 1, 11);
  ck_assert_int_eq(await(11), sizeof bytes);
  receive_by_the_buffer(pair.server, sizeof bytes);
  io_shutdown(io, pair.client);
  io_receive_once(io, pair.server, 10);
  ck_assert_int_eq(await(10), 0);
}
END_TEST

START_TEST(receiving_once_and_on_change_into_each_other) {
  struct pair pair = connected();
  uint8_t got[8];
  struct io_slice slice = {(void *)"1234", 4}, rest = {(void *)"5678", 4};
  int64_t result;
  io_receive(io, pair.server, 10);
  turn(0);
  io_receive_once(io, pair.server, 10); /* while the other is armed */
  io_send(io, pair.client, &slice, 1, 11);
  receive_all(10, got, 4);
  ck_assert_int_eq(await(11), 4);
  io_send(io, pair.client, &rest, 1, 11);
  ck_assert_int_eq(await(11), 4);
  for (unsigned i = 0; i < 5; i++) turn(1);
  ck_assert_msg(!take(10, &result, NULL, NULL), "received twice");
  io_receive_once(io, pair.server, 10);
  io_receive(io, pair.server, 10); /* now all that comes */
  receive_all(10, got + 4, 4);
  ck_assert(memcmp(got, "12345678", 8) == 0);
  for (unsigned i = 0; i < 3; i++) {
    io_send(io, pair.client, &slice, 1, 11);
    ck_assert_int_eq(await(11), 4);
    receive_all(10, got, 4);
  }
}
END_TEST

START_TEST(close_completes_last_and_silences_the_rest) {
  struct pair pair = connected();
  static uint8_t big[8 << 20];
  struct io_slice slice = {big, sizeof big};
  io_receive(io, pair.client, 10);
  io_send(io, pair.client, &slice, 1, 11); /* nobody reads: it hangs */
  turn(1);
  io_close(io, pair.client, 12);
  ck_assert_int_eq(await(12), 0);
  for (unsigned i = 0; i < 5; i++) turn(1);
  int64_t result;
  ck_assert(!take(10, &result, NULL, NULL) && !take(11, &result, NULL, NULL));
}
END_TEST

#ifdef KERNEL_QUEUES /* of the real one: a listener whose queue is full lets connects hang */
START_TEST(close_ends_a_connect_under_way) {
  struct netaddr address = loopback();
  io_socket listener, client[4];
  ck_assert_int_eq(io_listen(io, &address, 0, true, &listener), E_OK);
  io_local(io, listener, &address);
  for (unsigned i = 0; i < 4; i++) {
    ck_assert_int_eq(io_stream(io, &address, NULL, &client[i]), E_OK);
    io_connect(io, client[i], &address, 20 + i);
  }
  turn(1);
  for (unsigned i = 0; i < 4; i++) io_close(io, client[i], 30 + i);
  for (unsigned i = 0; i < 4; i++) ck_assert_int_eq(await(30 + i), 0);
}
END_TEST
#endif

START_TEST(a_closed_slot_is_used_again) {
  struct netaddr address = loopback();
  address.port = 9;
  for (unsigned i = 0; i < 500; i++) { /* far more than sockets_max */
    io_socket socket;
    ck_assert_int_eq(io_stream(io, &address, NULL, &socket), E_OK);
    io_close(io, socket, 5);
    ck_assert_int_eq(await(5), 0);
  }
}
END_TEST

START_TEST(abort_resets_the_peer) {
  struct pair pair = connected();
  io_receive(io, pair.server, 10);
  turn(0);
  io_abort(io, pair.client, 11);
  ck_assert_int_eq(await(11), 0);
  ck_assert_int_eq(await(10), E_RESET);
}
END_TEST

START_TEST(refused_connect_says_so) {
  struct netaddr address = loopback();
  io_socket listener, client;
  ck_assert_int_eq(io_listen(io, &address, 1, true, &listener), E_OK);
  io_local(io, listener, &address);
  io_close(io, listener, 3);
  ck_assert_int_eq(await(3), 0);
  ck_assert_int_eq(io_stream(io, &address, NULL, &client), E_OK);
  io_connect(io, client, &address, 4);
  ck_assert_int_eq(await(4), E_REFUSED);
}
END_TEST

START_TEST(source_address_is_bound) {
  struct netaddr address = loopback(), source = {.family = 4, .bytes = {127, 0, 0, 77}}, peer;
  io_socket listener, client;
  ck_assert_int_eq(io_listen(io, &address, 4, true, &listener), E_OK);
  io_local(io, listener, &address);
  io_accept(io, listener, 1);
  ck_assert_int_eq(io_stream(io, &address, &source, &client), E_OK);
  io_connect(io, client, &address, 2);
  io_socket server = (io_socket)await(1);
  io_peer(io, server, &peer);
  ck_assert_uint_eq(peer.bytes[3], 77);
}
END_TEST

START_TEST(listening_twice_works_and_on_a_foreign_address_fails) {
  struct netaddr address = loopback(), foreign = {.family = 4, .port = 1, .bytes = {192, 0, 2, 1}};
  io_socket first, second;
  ck_assert_int_eq(io_listen(io, &address, 4, true, &first), E_OK);
  io_local(io, first, &address);
  ck_assert_int_eq(io_listen(io, &address, 4, false, &second), E_OK);  /* every shard has its own */
  ck_assert_int_eq(io_listen(io, &address, 4, true, &second), E_BUSY); /* only one can be the first */
  ck_assert_int_eq(io_listen(io, &foreign, 4, true, &second), E_NO_ADDRESS);
}
END_TEST

START_TEST(datagrams_keep_their_bounds) {
  struct netaddr to = loopback();
  io_socket one, other;
  uint8_t bytes[4096];
  int64_t result;
  size_t len = 0;
  /* Two sockets connected to each other: the second one takes the first's place as the server it expects. */
  to.port = 53;
  ck_assert_int_eq(io_datagram(io, &to, &one), E_OK);
  io_local(io, one, &to);
  ck_assert_int_eq(io_datagram(io, &to, &other), E_OK);
  struct io_slice slice = {(void *)"query", 5};
  io_receive(io, one, 7);
  io_send(io, other, &slice, 1, 8);
  ck_assert_int_eq(await(8), 5);
  for (unsigned i = 0; i < 20; i++) turn(1);
  ck_assert_msg(!take(7, &result, bytes, &len), "a datagram of a stranger was taken");
}
END_TEST

START_TEST(several_datagrams_go_at_once) {
  struct netaddr to;
  io_socket one;
  char text[IO_DATAGRAMS_MAX][8];
  struct io_slice slices[IO_DATAGRAMS_MAX];
  int64_t sum = 0, result;
  uint8_t bytes[4096];
  bool came[IO_DATAGRAMS_MAX] = {false};
  echo_open(&to);
  ck_assert_int_eq(io_datagram(io, &to, &one), E_OK);
  io_receive(io, one, 7);
  for (unsigned i = 0; i < IO_DATAGRAMS_MAX; i++) {
    slices[i] = (struct io_slice){text[i], (size_t)snprintf(text[i], sizeof text[i], "%u", i)};
    sum += (int64_t)slices[i].len;
  }
  io_send_datagrams(io, one, slices, IO_DATAGRAMS_MAX, 8);
  ck_assert_int_eq(await(8), sum); /* one completion for all, and the last one that has to do with the memory */
  echo();
  for (unsigned i = 0; i < IO_DATAGRAMS_MAX; i++) {
    size_t len = sizeof bytes;
    while (!take(7, &result, bytes, &len)) turn(1000);
    bytes[len] = 0;
    unsigned number = (unsigned)atoi((char *)bytes);
    ck_assert(number < IO_DATAGRAMS_MAX && !came[number] && len == slices[number].len);
    came[number] = true;
  }
  io_send_datagrams(io, one, slices, 1, 8); /* any number may be sent next, and by io_send too */
  ck_assert_int_eq(await(8), 1);
  io_send(io, one, slices, 1, 8);
  ck_assert_int_eq(await(8), 1);
  io_send_datagrams(io, one, slices, IO_DATAGRAMS_MAX, 8);
  io_close(io, one, 9);
  ck_assert_int_eq(await(9), 0);
  ck_assert(!take(8, &result, bytes, &(size_t){0}));
}
END_TEST

START_TEST(wait_ends_in_time) {
  const struct io_completion *done;
  uint64_t before = io_now_ns(io);
  ck_assert_uint_eq(io_wait(io, before + 20000000, &done), 0);
  uint64_t took = io_now_ns(io) - before;
  ck_assert_uint_ge(took, 20000000);
  ck_assert_uint_eq(io_wait(io, 0, &done), 0);
}
END_TEST

struct waker {
  struct io *to;
};
static void *wake_from_thread(void *argument) {
  struct waker *waker = argument;
  io_notify(NULL, waker->to);
  return NULL;
}

static void await_notice(void) { await(NOTIFY); }

START_TEST(notify_ends_the_wait) {
  struct waker waker = {io};
  in_thread(wake_from_thread, &waker, await_notice);
  in_thread(wake_from_thread, &waker, await_notice);
}
END_TEST

static void *wake_from_ring(void *argument) {
  struct waker *waker = argument;
  struct io *own;
  const struct io_completion *done;
  struct io_options options = {.sockets_max = 4, .receive_buffers = 2, .receive_buffer_size = 512, .notify_token = 1};
  int error = io_open(&own, &options, NULL);
  ck_assert_int_eq(error, E_OK);
  io_notify(own, waker->to);
  io_wait(own, 0, &done);
  io_destroy(own);
  return argument;
}

START_TEST(notify_from_another_ring) {
  struct waker waker = {io};
  in_thread(wake_from_ring, &waker, await_notice);
}
END_TEST

#include "tests/contract/facts_files.c"

int main(void) {
  TCase *sockets = tcase_create("sockets");
  tcase_add_checked_fixture(sockets, open_io, close_io); /* checked: a ring belongs to the process that made it */
  tcase_add_test(sockets, accept_tells_peer_and_local);
  tcase_add_test(sockets, send_gathers_all_slices_and_completes_once);
  tcase_add_test(sockets, receive_survives_lack_of_buffers);
  tcase_add_test(sockets, end_of_stream_is_zero_and_the_other_half_goes_on);
  tcase_add_test(sockets, pause_loses_nothing);
  tcase_add_test(sockets, pause_and_at_once_receive_goes_on);
  tcase_add_test(sockets, receiving_once_is_one_buffer);
  tcase_add_test(sockets, receiving_once_and_on_change_into_each_other);
  tcase_add_test(sockets, close_completes_last_and_silences_the_rest);
#ifdef KERNEL_QUEUES
  tcase_add_test(sockets, close_ends_a_connect_under_way);
#endif
  tcase_add_test(sockets, a_closed_slot_is_used_again);
  tcase_add_test(sockets, abort_resets_the_peer);
  tcase_add_test(sockets, refused_connect_says_so);
  tcase_add_test(sockets, source_address_is_bound);
  tcase_add_test(sockets, listening_twice_works_and_on_a_foreign_address_fails);
  tcase_add_test(sockets, datagrams_keep_their_bounds);
  tcase_add_test(sockets, several_datagrams_go_at_once);
  tcase_add_test(sockets, wait_ends_in_time);
  tcase_add_test(sockets, notify_ends_the_wait);
  tcase_add_test(sockets, notify_from_another_ring);
  return unit_main("io", (TCase *const[]){sockets, files_case()}, 2);
}
