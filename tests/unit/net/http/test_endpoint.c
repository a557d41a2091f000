/* The endpoint as a client sees it, over loopback. */
#include "tests/lib/unit.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/error.h"
#include "net/http/endpoint.h"

static struct counters shard[2];
static const struct counters *const shards[] = {&shard[0], &shard[1]};
static struct endpoint *endpoint;
static char answer[65536];

static struct endpoint_options options_of(struct netaddr address) {
  return (struct endpoint_options){.address = address, .counters = shards, .counters_count = 2};
}

static const struct netaddr loopback = {.family = 4, .bytes = {127, 0, 0, 1}};

static void set_up(void) {
  char room[256];
  struct fmt why = fmt_over(room, sizeof room);
  struct endpoint_options options = options_of(loopback);
  ck_assert_int_eq(endpoint_open(&endpoint, &options, &why), E_OK);
  ck_assert_uint_ne(endpoint_port(endpoint), 0);
  count_set(&shard[0], GAUGE_READY, 1);
  count_set(&shard[1], GAUGE_READY, 1);
}
static void tear_down(void) { endpoint_close(endpoint); }

static int connect_to(uint32_t host) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(endpoint_port(endpoint)), .sin_addr.s_addr = htonl(host)};
  struct timeval patience = {
      .tv_sec = 5}; /* less than the endpoint's own with silent clients: an answer that only comes when these are thrown out is too late */
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  ck_assert_int_ge(fd, 0);
  ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
  if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0) return fd;
  close(fd);
  return -1;
}

static void say(int fd, const char *text) { ck_assert_int_eq(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text)); }

/* All until the server closes. */
static void hear(int fd) {
  size_t len = 0;
  for (ssize_t got; len < sizeof answer - 1 && (got = recv(fd, answer + len, sizeof answer - 1 - len, 0)) > 0;) len += (size_t)got;
  answer[len] = '\0';
  close(fd);
}

static void request(const char *line) {
  char text[256];
  snprintf(text, sizeof text, "%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", line);
  int fd = connect_to(INADDR_LOOPBACK);
  ck_assert_int_ge(fd, 0);
  say(fd, text);
  hear(fd);
}

static void expect(unsigned status, const char *body) {
  unsigned got = 0;
  ck_assert_int_eq(sscanf(answer, "HTTP/1.1 %u ", &got), 1);
  ck_assert_uint_eq(got, status);
  const char *at = strstr(answer, "\r\n\r\n");
  ck_assert_ptr_nonnull(at);
  if (body != NULL) ck_assert_str_eq(at + 4, body);
}

START_TEST(healthy) {
  request("GET /health");
  expect(200, "ok\n");
  ck_assert_ptr_nonnull(strstr(answer, "Content-Type: text/plain; charset=utf-8\r\n"));
  ck_assert_ptr_nonnull(strstr(answer, "Cache-Control: no-store\r\n"));
}
END_TEST

START_TEST(ill_for_each_reason) {
  count_set(&shard[1], GAUGE_READY, 0);
  request("GET /health");
  expect(503, "shard 1: does not run\n");
  count_set(&shard[0], GAUGE_SPOOL_FULL, 1);
  count_set(&shard[0], GAUGE_SPOOL_FAILED, 1);
  request("GET /health");
  expect(503, "shard 0: spool failed\nshard 0: spool full\nshard 1: does not run\n");
  count_set(&shard[1], GAUGE_SPOOL_FULL, 1);
  count_set(&shard[1], GAUGE_SPOOL_FAILED, 1);
  count_set(&shard[0], GAUGE_READY, 0);
  request("GET /health");
  expect(503, NULL);
}
END_TEST

START_TEST(metrics) {
  count_add(&shard[0], COUNT_DELIVERED, 5);
  count_add(&shard[1], COUNT_DELIVERED, 6);
  request("GET /metrics?whatever=1");
  expect(200, NULL);
  ck_assert_ptr_nonnull(strstr(answer, "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
  ck_assert_ptr_nonnull(strstr(answer, "\nringpost_delivered_total 11\n"));
  ck_assert_ptr_nonnull(strstr(answer, "\nringpost_shards_ready 2\n"));
}
END_TEST

START_TEST(head_has_no_body) {
  request("HEAD /health");
  expect(200, "");
  ck_assert_ptr_nonnull(strstr(answer, "Content-Length: 3\r\n"));
  request("HEAD /nowhere");
  expect(404, "");
}
END_TEST

START_TEST(anything_else_is_refused) {
  const char *lines[] = {"GET /", "GET /healthy", "GET /health/", "GET /../etc/passwd", "POST /x"};
  for (unsigned i = 0; i < 5; i++) {
    request(lines[i]);
    expect(404, "not found\n");
  }
  const char *methods[] = {"PUT /health", "DELETE /metrics", "OPTIONS /health", "get /health"};
  for (unsigned i = 0; i < 4; i++) {
    request(methods[i]);
    expect(405, "method not allowed\n");
    ck_assert_ptr_nonnull(strstr(answer, "Allow: GET, HEAD\r\n"));
  }
}
END_TEST

START_TEST(a_body_is_not_read) {
  int fd = connect_to(INADDR_LOOPBACK);
  say(fd, "POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\nabc");
  hear(fd); /* answered and closed without the rest */
  expect(405, "method not allowed\n");
  fd = connect_to(INADDR_LOOPBACK);
  say(fd, "GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\nabc");
  hear(fd);
  ck_assert_ptr_null(strstr(answer, "200"));
}
END_TEST

START_TEST(a_connection_serves_several_requests) {
  int fd = connect_to(INADDR_LOOPBACK);
  say(fd, "GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  hear(fd);
  expect(200, NULL);
  ck_assert_ptr_nonnull(strstr(answer, "HTTP/1.1 404 "));
}
END_TEST

START_TEST(an_endless_request_is_cut_off) {
  static char junk[1 << 16];
  memset(junk, 'a', sizeof junk - 1);
  int fd = connect_to(INADDR_LOOPBACK);
  say(fd, "GET /health HTTP/1.1\r\nX: ");
  (void)!send(fd, junk, sizeof junk - 1, MSG_NOSIGNAL);
  hear(fd);
  ck_assert_ptr_null(strstr(answer, "200"));
  request("GET /health");
  expect(200, "ok\n");
}
END_TEST

/* Far more unfinished requests than there is room for: the oldest give way, and a newcomer is always served. */
START_TEST(slow_clients_keep_nobody_out) {
  int slow[300];
  for (unsigned i = 0; i < 300; i++) {
    slow[i] = connect_to(INADDR_LOOPBACK);
    ck_assert_int_ge(slow[i], 0);
    (void)!send(slow[i], "GET /hea", 8, MSG_NOSIGNAL);
    if (i % 20 != 19) continue;
    request("GET /health");
    expect(200, "ok\n");
  }
  char byte;
  ck_assert_int_le(recv(slow[0], &byte, 1, 0), 0); /* it was closed: this does not wait */
  for (unsigned i = 0; i < 300; i++) close(slow[i]);
}
END_TEST

START_TEST(only_the_given_address_listens) { ck_assert_int_eq(connect_to(INADDR_LOOPBACK + 1), -1); }
END_TEST

START_TEST(an_address_in_use_is_named) {
  char room[256];
  struct fmt why = fmt_over(room, sizeof room - 1);
  struct endpoint *second;
  struct endpoint_options options = options_of(loopback);
  options.address.port = endpoint_port(endpoint);
  ck_assert_int_lt(endpoint_open(&second, &options, &why), 0);
  room[why.len] = '\0';
  ck_assert_ptr_nonnull(strstr(room, "http.address, http.port: cannot listen on 127.0.0.1:"));
  ck_assert_ptr_nonnull(strstr(room, "already in use"));
  endpoint_close(NULL);
}
END_TEST

START_TEST(ipv6) {
  char room[256];
  struct fmt why = fmt_over(room, sizeof room);
  struct endpoint *six;
  struct endpoint_options options = options_of((struct netaddr){.family = 6, .bytes = {[15] = 1}});
  int probe = socket(AF_INET6, SOCK_STREAM, 0);
  struct sockaddr_in6 to = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
  bool has_ipv6 = probe >= 0 && bind(probe, (struct sockaddr *)&to, sizeof to) == 0;
  close(probe);
  if (!has_ipv6) return;
  ck_assert_int_eq(endpoint_open(&six, &options, &why), E_OK);
  to.sin6_port = htons(endpoint_port(six));
  int fd = socket(AF_INET6, SOCK_STREAM, 0);
  ck_assert_int_eq(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
  say(fd, "GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  hear(fd);
  expect(200, "ok\n");
  endpoint_close(six);
}
END_TEST

int main(void) {
  TCase *pages = tcase_create("pages"), *bounds = tcase_create("bounds"), *listening = tcase_create("listening");
  TCase *cases[] = {pages, bounds, listening};
  for (unsigned i = 0; i < 3; i++) tcase_add_checked_fixture(cases[i], set_up, tear_down);
  tcase_add_test(pages, healthy);
  tcase_add_test(pages, ill_for_each_reason);
  tcase_add_test(pages, metrics);
  tcase_add_test(pages, head_has_no_body);
  tcase_add_test(pages, anything_else_is_refused);
  tcase_add_test(bounds, a_body_is_not_read);
  tcase_add_test(bounds, a_connection_serves_several_requests);
  tcase_add_test(bounds, an_endless_request_is_cut_off);
  tcase_add_test(bounds, slow_clients_keep_nobody_out);
  tcase_add_test(listening, only_the_given_address_listens);
  tcase_add_test(listening, an_address_in_use_is_named);
  tcase_add_test(listening, ipv6);
  return unit_main("net/http/endpoint", cases, 3);
}
