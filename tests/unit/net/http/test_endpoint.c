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
  snprintf(text, sizeof text, "%s HTTP/1.1\r\nHost: 127.0.0.1:80\r\nConnection: close\r\n\r\n", line);
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
  expect(503, "shard 1: is stopping\n");
  count_set(&shard[0], GAUGE_SPOOL_FULL, 1);
  count_set(&shard[0], GAUGE_SPOOL_FAILED, 1);
  request("GET /health");
  expect(503, "shard 0: spool failed\nshard 0: spool full\nshard 1: is stopping\n");
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
  say(fd, "POST /health HTTP/1.1\r\nHost: 127.0.0.1:80\r\nContent-Length: 1000000000\r\n\r\nabc");
  hear(fd); /* answered and closed without the rest */
  expect(405, "method not allowed\n");
  fd = connect_to(INADDR_LOOPBACK);
  say(fd, "GET /health HTTP/1.1\r\nHost: 127.0.0.1:80\r\nContent-Length: 1000000000\r\n\r\nabc");
  hear(fd);
  ck_assert_ptr_null(strstr(answer, "200"));
}
END_TEST

START_TEST(a_connection_serves_several_requests) {
  int fd = connect_to(INADDR_LOOPBACK);
  say(fd, "GET /health HTTP/1.1\r\nHost: 127.0.0.1:80\r\n\r\nGET /nowhere HTTP/1.1\r\nHost: 127.0.0.1:80\r\nConnection: close\r\n\r\n");
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
  say(fd, "GET /health HTTP/1.1\r\nHost: 127.0.0.1:80\r\nConnection: close\r\n\r\n");
  hear(fd);
  expect(200, "ok\n");
  endpoint_close(six);
}
END_TEST

/* ---- the API ---- */

/* Says what it was asked. */
static void echo(void *context, const struct http_request *request, struct http_answer *said) {
  (void)context;
  struct fmt out = fmt_over(malloc(1 << 17), 1 << 17);
  fmt_text(&out, request->method == HTTP_CHANGES ? "POST " : "GET ");
  fmt_text(&out, request->path);
  for (unsigned i = 0; i < request->arguments; i++) {
    fmt_char(&out, '|');
    fmt_text(&out, request->argument[i].name);
    fmt_char(&out, '=');
    fmt_text(&out, request->argument[i].value != NULL ? request->argument[i].value : "(none)");
  }
  fmt_char(&out, '#');
  fmt_u64(&out, request->body.len);
  if (request->body.len > 0 && request->body.len < 100) fmt_put(&out, request->body);
  bool writes = strcmp(request->path, "write") == 0;
  said->status = request->method == HTTP_OTHER || (writes && request->method == HTTP_READS) ? 405 : 200;
  said->allow = writes ? "POST" : "GET, HEAD";
  said->json = (char *)out.at;
  said->len = out.len;
  if (strcmp(request->path, "nothing") != 0) return;
  free(said->json);
  said->json = NULL;
}

static void set_up_api(void) {
  char room[256];
  struct fmt why = fmt_over(room, sizeof room);
  struct endpoint_options options = options_of(loopback);
  options.api = echo;
  ck_assert_int_eq(endpoint_open(&endpoint, &options, &why), E_OK);
}

static void post(const char *path, const char *headers, const char *body) {
  char text[1024];
  snprintf(text, sizeof text, "POST %s HTTP/1.1\r\nHost: 127.0.0.1:80\r\nConnection: close\r\n%sContent-Length: %zu\r\n\r\n", path, headers,
           strlen(body));
  int fd = connect_to(INADDR_LOOPBACK);
  say(fd, text);
  (void)!send(fd, body, strlen(body), MSG_NOSIGNAL);
  hear(fd);
}
#define JSON "Content-Type: application/json\r\n"

START_TEST(the_api_is_asked) {
  request("GET /api/v1/queue/d%2Fe%C3%BC?a=1&b&c=%26x+y&=z");
  expect(200, "GET queue/d/e\xc3\xbc|a=1|b=(none)|c=&x y|=z#0");
  ck_assert_ptr_nonnull(strstr(answer, "Content-Type: application/json; charset=utf-8\r\n"));
  request("GET /api/v1/");
  expect(200, "GET #0");
  request("HEAD /api/v1/queue");
  expect(200, "");
  ck_assert_ptr_nonnull(strstr(answer, "Content-Length: 11\r\n"));
  post("/api/v1/bounce?x=y", JSON, "{\"all\":true}");
  expect(200, "POST bounce|x=y#12{\"all\":true}");
  request("GET /api/v1/nothing");
  expect(503, "{\"error\":\"busy, stopping, or out of memory\"}\n");
  request("GET /api/v1/a?1=1&2=2&3=3&4=4&5=5&6=6&7=7&8=8&9=9&10=10");
  expect(200, "GET a|1=1|2=2|3=3|4=4|5=5|6=6|7=7|8=8#0");
  request("GET /health");
  expect(503, "shard 0: is stopping\nshard 1: is stopping\n"); /* the pages are still there */
}
END_TEST

START_TEST(the_api_says_what_is_allowed) {
  static const char *const lines[][2] = {{"GET /api/v1/write", "Allow: POST\r\n"},
                                         {"PUT /api/v1/write", "Allow: POST\r\n"},
                                         {"OPTIONS /api/v1/write", "Allow: POST\r\n"},
                                         {"DELETE /api/v1/queue", "Allow: GET, HEAD\r\n"},
                                         {"get /api/v1/queue", "Allow: GET, HEAD\r\n"}};
  for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
    request(lines[i][0]);
    expect(405, NULL);
    ck_assert_ptr_nonnull(strstr(answer, lines[i][1]));
  }
  request("DELETE /health");
  expect(405, NULL);
  ck_assert_ptr_nonnull(strstr(answer, "Allow: GET, HEAD\r\n"));
}
END_TEST

/* A page in somebody's browser can send a form, and text, to any address: but not this type, unless the answer to a question of the browser's allows it. */
START_TEST(only_json_changes_anything) {
  const char *others[] = {"",
                          "Content-Type: text/plain\r\n",
                          "Content-Type: application/x-www-form-urlencoded\r\n",
                          "Content-Type: multipart/form-data\r\n",
                          "Content-Type: application/jsonx\r\n",
                          "Content-Type: application/json+x\r\n",
                          "Content-Type: application/json, text/plain\r\n",
                          "Content-Type: application/json x\r\n"};
  for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
    post("/api/v1/bounce", others[i], "{}");
    expect(415, NULL);
  }
  const char *good[] = {"content-type: Application/JSON; charset=utf-8\r\n", "Content-Type: application/json;charset=x\r\n",
                        "Content-Type: application/json ; a=b\r\n", "Content-Type: application/json \r\n"};
  for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
    post("/api/v1/bounce", good[i], "{}");
    expect(200, NULL);
  }
  request("OPTIONS /api/v1/bounce");
  expect(405, NULL);
  ck_assert_ptr_null(strstr(answer, "Access-Control"));
}
END_TEST

/* A page whose name leads here by trickery cannot hide that name. */
START_TEST(the_api_is_for_those_who_call_it_by_its_address) {
  static const struct {
    const char *host;
    unsigned status;
  } hosts[] = {
      {"127.0.0.1:80", 200},           {"127.0.0.1", 200},      {"[::1]:80", 200}, {"localhost", 200}, {"LocalHost:8025", 200}, {"evil.example", 403},
      {"127.0.0.1.evil.example", 403}, {"localhost.evil", 403}, {"", 403}};
  for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++) {
    char text[256];
    snprintf(text, sizeof text, "GET /api/v1/status HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", hosts[i].host);
    int fd = connect_to(INADDR_LOOPBACK);
    say(fd, text);
    hear(fd);
    expect(hosts[i].status, NULL);
  }
}
END_TEST

START_TEST(a_body_has_its_limit) {
  static char body[70000];
  memset(body, 'x', 65536);
  post("/api/v1/bounce", JSON, body);
  expect(200, "POST bounce#65536");
  body[65536] = 'x';
  post("/api/v1/bounce", JSON, body);
  expect(413, "{\"error\":\"the body is longer than 64 KiB\"}\n");
  post("/api/v1/bounce", JSON, "");
  expect(200, "POST bounce#0");
}
END_TEST

START_TEST(a_body_comes_in_pieces) {
  int fd = connect_to(INADDR_LOOPBACK);
  say(fd, "POST /api/v1/bounce HTTP/1.1\r\nHost: 127.0.0.1:80\r\nConnection: close\r\n" JSON "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
  say(fd, "4\r\ndefg\r\n");
  say(fd, "0\r\n\r\n");
  hear(fd);
  expect(200, "POST bounce#7abcdefg");
}
END_TEST

START_TEST(requests_on_one_connection_have_each_its_answer) {
  int fd = connect_to(INADDR_LOOPBACK);
  say(fd,
      "GET /api/v1/one HTTP/1.1\r\nHost: 127.0.0.1:80\r\n\r\nPOST /api/v1/two HTTP/1.1\r\nHost: 127.0.0.1:80\r\n" JSON "Content-Length: 2\r\n\r\n{}"
      "GET /api/v1/three HTTP/1.1\r\nHost: 127.0.0.1:80\r\nConnection: close\r\n\r\n");
  hear(fd);
  const char *one = strstr(answer, "GET one#0"), *two = strstr(answer, "POST two#2{}"), *three = strstr(answer, "GET three#0");
  ck_assert(one != NULL && two != NULL && three != NULL && one < two && two < three);
}
END_TEST

/* Whoever stands before us may have taken the other word for it, and would send us a request that we see as a body, or the reverse. */
START_TEST(where_a_body_ends_is_said_once) {
  static const char *const headers[] = {
      "Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
      "Content-Length: 2\r\nX: y\r\ncontent-length: 40\r\n\r\n{}",
      "Content-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
      "transfer-encoding: chunked\r\nCONTENT-LENGTH: 7\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
      "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
  };
  static const char *const lines[] = {"POST /api/v1/bounce", "GET /api/v1/queue", "PUT /api/v1/bounce", "GET /health"};
  for (size_t i = 0; i < 4 * sizeof headers / sizeof *headers; i++) {
    char text[512];
    snprintf(text, sizeof text, "%s HTTP/1.1\r\nHost: 127.0.0.1:80\r\n" JSON "%sGET /api/v1/second HTTP/1.1\r\nHost: 127.0.0.1:80\r\n\r\n",
             lines[i % 4], headers[i / 4]);
    int fd = connect_to(INADDR_LOOPBACK);
    say(fd, text);
    hear(fd);
    expect(400, "{\"error\":\"more than one Content-Length or Transfer-Encoding\"}\n"); /* and nothing behind it: it is closed */
    ck_assert_ptr_nonnull(strstr(answer, "Connection: close\r\n"));
  }
}
END_TEST

START_TEST(a_nul_does_not_cut_a_path) {
  static const char *const lines[] = {"GET /api/v1/queue/%00",
                                      "GET /api/v1/queue%00foo",
                                      "GET /api/v1/queue?by=site%00x",
                                      "GET /api/v1/queue?%00by=x",
                                      "GET /health%00",
                                      "DELETE /api/v1/x%00",
                                      "GET /%00"};
  for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
    request(lines[i]);
    expect(400, "{\"error\":\"a path or argument with %00\"}\n");
  }
  post("/api/v1/retry%00foo", JSON, "{}");
  expect(400, NULL);
  request("GET /api/v1/queue/%2500"); /* is a percent sign and two digits */
  expect(200, "GET queue/%00#0");
}
END_TEST

/* Who hangs up before the answer is there leaves nothing behind (the sanitizers watch), and the end comes with requests under way. */
START_TEST(clients_that_do_not_wait) {
  for (unsigned i = 0; i < 200; i++) {
    int fd = connect_to(INADDR_LOOPBACK);
    say(fd, i % 2 == 0 ? "GET /api/v1/queue?a=b HTTP/1.1\r\nHost: 127.0.0.1:80\r\n\r\n"
                       : "POST /api/v1/x HTTP/1.1\r\nHost: 127.0.0.1:80\r\n" JSON "Content-Length: 9\r\n\r\nhalf");
    close(fd);
  }
  request("GET /api/v1/queue");
  ck_assert(strstr(answer, "GET queue#0") != NULL || strstr(answer, " 503 ") != NULL);
  int fd = connect_to(INADDR_LOOPBACK);
  say(fd, "GET /api/v1/queue HTTP/1.1\r\nHost: 127.0.0.1:80\r\n\r\n");
  endpoint_close(endpoint);
  endpoint = NULL;
  close(fd);
}
END_TEST

START_TEST(without_an_api_there_is_none) {
  request("GET /api/v1/queue");
  expect(404, "not found\n");
}
END_TEST

int main(void) {
  TCase *api = tcase_create("api");
  tcase_add_checked_fixture(api, set_up_api, tear_down);
  TCase *pages = tcase_create("pages"), *bounds = tcase_create("bounds"), *listening = tcase_create("listening");
  TCase *cases[] = {pages, bounds, listening, api};
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
  tcase_add_test(pages, without_an_api_there_is_none);
  tcase_add_test(api, the_api_is_asked);
  tcase_add_test(api, the_api_says_what_is_allowed);
  tcase_add_test(api, only_json_changes_anything);
  tcase_add_test(api, a_body_has_its_limit);
  tcase_add_test(api, the_api_is_for_those_who_call_it_by_its_address);
  tcase_add_test(api, a_body_comes_in_pieces);
  tcase_add_test(api, requests_on_one_connection_have_each_its_answer);
  tcase_add_test(api, where_a_body_ends_is_said_once);
  tcase_add_test(api, a_nul_does_not_cut_a_path);
  tcase_add_test(api, clients_that_do_not_wait);
  return unit_main_forked("net/http/endpoint", cases, 4);
}
