/* An open connection between our client and our server: contents, ends, memory. */
#include <stdlib.h>

#include "bench/lib/certs.h"
#include "core/base/error.h"
#include "net/tls/crypto.h"
#include "tests/lib/tlspair.h"
#include "tests/lib/unit.h"

static char dir[CERTS_PATH];
static uint8_t text_room[512];

static struct tls_server *make_server(void) {
  struct fmt why = fmt_over(text_room, sizeof text_room), warnings = fmt_over(text_room, 0);
  struct tls_files files = {certs_path(dir, "ec", ".pem"), certs_path(dir, "ec", ".key")};
  struct tls_server *server;
  ck_assert_int_eq(
      tls_server_new(&server, &(struct tls_server_config){.certificates = &files, .certificate_count = 1}, tlspair_now_ms(), &why, &warnings), E_OK);
  return server;
}

static struct tls_client *make_client(enum tls_most most) {
  struct fmt why = fmt_over(text_room, sizeof text_room), warnings = fmt_over(text_room, 0);
  struct tls_client *client;
  ck_assert_int_eq(
      tls_client_new(&client, &(struct tls_client_config){.ca = certs_path(dir, "ca", ".pem"), .most = most}, tlspair_now_ms(), &why, &warnings),
      E_OK);
  return client;
}

static const struct span mx = {(const uint8_t *)"mx.example.org", 14};
static const struct tls_expect verify_mx = {.policy = TLS_VERIFY, .host = {(const uint8_t *)"mx.example.org", 14}, .names = &mx, .name_count = 1};

static void talk(struct tlspair *pair) {
  uint32_t server_had = pair->server.got.len, client_had = pair->client.got.len;
  tlspair_write(&pair->client, SPAN("EHLO client\r\n"));
  tlspair_write(&pair->server, SPAN("250 server\r\n"));
  tlspair_run(pair);
  ck_assert(span_equal(span_skip(buffer_span(&pair->server.got), server_had), SPAN("EHLO client\r\n")));
  ck_assert(span_equal(span_skip(buffer_span(&pair->client.got), client_had), SPAN("250 server\r\n")));
}

/* ---- contents ---- */

START_TEST(a_megabyte_goes_both_ways) {
  enum { SIZE = 1 << 20 };
  struct tlspair pair;
  struct tls_server *server = make_server();
  struct tls_client *client = _i % 2 == 0 ? make_client(TLS_MOST_1_3) : make_client(TLS_MOST_1_2);
  uint8_t *content = malloc(SIZE);
  for (size_t i = 0; i < SIZE; i++) content[i] = (uint8_t)(i * 2654435761u >> 13);
  tlspair_begin(&pair, server, client, &verify_mx, NULL);
  tlspair_run(&pair);
  pair.cut = _i < 2 ? 0 : 1000;
  for (unsigned side = 0; side < 2; side++) { /* as one slice, and as slices of all sizes */
    struct tlsend *end = side == 0 ? &pair.client : &pair.server;
    struct span slices[600];
    unsigned count = 0;
    size_t at = 0;
    for (; count < 599 && at < SIZE; count++) {
      size_t n = side == 0 ? SIZE : count % 7 == 0 ? 40000 : count * 7 % 1500;
      slices[count] = span_of(content + at, at + n > SIZE ? SIZE - at : n);
      at += slices[count].len;
    }
    slices[count++] = span_of(content + at, SIZE - at);
    ck_assert_int_eq(tls_write(end->tls, slices, count, &end->out), E_OK);
    ck_assert_uint_lt(end->out.len, SIZE + 66 * 40); /* full records, but for two or three around slices that are not copied */
  }
  tlspair_run(&pair);
  ck_assert(span_equal(buffer_span(&pair.server.got), span_of(content, SIZE)));
  ck_assert(span_equal(buffer_span(&pair.client.got), span_of(content, SIZE)));
  free(content);
  tlspair_end(&pair);
  tls_server_put(server);
  tls_client_put(client);
}
END_TEST

struct answerer {
  struct tlsend *end;
  unsigned times;
};

static void answer(void *who, struct span plaintext) {
  struct answerer *answerer = who;
  (void)plaintext;
  answerer->times++;
  tlspair_write(answerer->end, SPAN("250 ok\r\n"));
  if (answerer->times == 2) tls_close(answerer->end->tls, &answerer->end->out);
}

START_TEST(it_may_be_answered_and_closed_from_within) {
  struct tlspair pair;
  struct tls_server *server = make_server();
  struct tls_client *client = make_client(TLS_MOST_1_3);
  tlspair_begin(&pair, server, client, &verify_mx, NULL);
  tlspair_run(&pair);
  struct answerer answerer = {&pair.server, 0};
  tlspair_write(&pair.client, SPAN("NOOP\r\n"));
  tlspair_write(&pair.client, SPAN("QUIT\r\n"));
  ck_assert_int_eq(tls_feed(pair.server.tls, buffer_span(&pair.client.out), &pair.server.out, answer, &answerer), E_OK);
  buffer_consume(&pair.client.out, pair.client.out.len);
  ck_assert_uint_eq(answerer.times, 2);
  struct span more = SPAN("x");
  ck_assert_int_eq(tls_write(pair.server.tls, &more, 1, &pair.server.out), E_PROTOCOL); /* it has said good-bye */
  tlspair_run(&pair);
  ck_assert(span_equal(buffer_span(&pair.client.got), SPAN("250 ok\r\n250 ok\r\n")));
  ck_assert_int_eq(tls_state(pair.client.tls), TLS_CLOSED);
  ck_assert_int_eq(tls_end(pair.client.tls), E_CLOSED);
  tlspair_end(&pair);
  tls_server_put(server);
  tls_client_put(client);
}
END_TEST

START_TEST(an_end_without_close_notify_is_one_cut_short) {
  struct tlspair pair;
  struct tls_server *server = make_server();
  for (unsigned i = 0; i < 2; i++) {
    struct tls_client *client = i == 0 ? make_client(TLS_MOST_1_3) : make_client(TLS_MOST_1_2);
    tlspair_begin(&pair, server, client, &verify_mx, NULL);
    ck_assert_int_eq(tls_end(pair.server.tls), E_RESET);
    ck_assert_str_eq(tls_error(pair.server.tls), "the connection ended in the handshake");
    tlspair_end(&pair);
    tlspair_begin(&pair, server, client, &verify_mx, NULL);
    tlspair_run(&pair);
    tlspair_write(&pair.client, SPAN("DATA that is cut short"));
    struct span half = span_first(buffer_span(&pair.client.out), pair.client.out.len - 1);
    tlsend_feed(&pair.server, half);
    ck_assert_int_eq(pair.server.error, E_OK);
    ck_assert_uint_eq(pair.server.got.len, 0);
    ck_assert_int_eq(tls_end(pair.server.tls), E_RESET);
    ck_assert_str_eq(tls_error(pair.server.tls), "the connection ended without close notify");
    tls_close(pair.client.tls, &pair.client.out);
    tls_close(pair.client.tls, &pair.client.out);
    tlspair_end(&pair);
    tls_client_put(client);
  }
  tls_server_put(server);
}
END_TEST

/* ---- memory ---- */

START_TEST(memory_is_counted_and_comes_back) {
  struct tlspair pair;
  struct tls_server *server = make_server();
  struct tls_client *client = make_client(TLS_MOST_1_3);
  int64_t before = tls_bytes_all();
  for (unsigned i = 0; i < 3; i++) {
    tlspair_begin(&pair, server, client, &verify_mx, NULL);
    ck_assert_uint_eq(tls_bytes(pair.server.tls), 0); /* nothing until the hello is there */
    size_t slab_before = pair.slab.used_bytes;
    tlsend_feed(&pair.server, span_first(buffer_span(&pair.client.out), pair.client.out.len - 1));
    ck_assert_uint_eq(tls_bytes(pair.server.tls), 0);
    ck_assert_uint_lt(pair.slab.used_bytes - slab_before, 1200);
    tlsend_feed(&pair.server, span_skip(buffer_span(&pair.client.out), pair.client.out.len - 1));
    ck_assert_uint_gt(tls_bytes(pair.server.tls), 10000);
    buffer_consume(&pair.client.out, pair.client.out.len);
    tlspair_run(&pair);
    ck_assert(tlspair_open(&pair));
    ck_assert_uint_gt(tls_bytes(pair.server.tls), 20000);
    ck_assert_uint_lt(tls_bytes(pair.server.tls), 64 << 10);
    ck_assert_uint_lt(tls_bytes(pair.client.tls), 90 << 10);
    for (unsigned j = 0; i > 0 && j < 2; j++) { /* the second time nothing is left to give */
      tls_trim(pair.server.tls);
      tls_trim(pair.client.tls);
      ck_assert_uint_lt(tls_bytes(pair.server.tls), 30 << 10);
      ck_assert_uint_lt(tls_bytes(pair.client.tls), 56 << 10);
      ck_assert_uint_gt(tls_bytes(pair.server.tls), 16 << 10);
    }
    talk(&pair);
    ck_assert_int_eq(tls_bytes_all() - before, (int64_t)(tls_bytes(pair.server.tls) + tls_bytes(pair.client.tls)) - 2 * CRYPTO_BYTES);
    tlspair_end(&pair);
    ck_assert_int_eq(tls_bytes_all(), before);
  }
  tls_server_put(server);
  tls_client_put(client);
}
END_TEST

START_TEST(without_memory_it_fails_or_waits) {
  struct tlspair pair;
  struct tls_server *server = make_server();
  struct tls_client *client = make_client(TLS_MOST_1_3);
  tlspair_begin(&pair, server, client, &verify_mx, NULL);
  tlspair_run(&pair);
  uint64_t limit = pair.slab.limit_bytes;
  static uint8_t content[40000];
  struct span bytes = span_of(content, sizeof content);
  pair.slab.limit_bytes = 10000;
  ck_assert_int_eq(tls_write(pair.client.tls, &bytes, 1, &pair.client.out), E_FULL);
  ck_assert_uint_eq(pair.client.out.len, 0);
  pair.slab.limit_bytes = limit;
  talk(&pair); /* as if nothing had been */
  tlspair_end(&pair);
  tlspair_begin(&pair, server, client, &verify_mx, NULL);
  pair.slab.limit_bytes = 1500;
  tlsend_feed(&pair.server, buffer_span(&pair.client.out));
  ck_assert_int_eq(tls_state(pair.server.tls), TLS_FAILED);
  ck_assert_str_eq(tls_error(pair.server.tls), "no memory");
  ck_assert_ptr_null(tls_accept(server, &pair.slab, 1));
  pair.slab.limit_bytes = limit;
  tlspair_end(&pair);
  tls_server_put(server);
  tls_client_put(client);
}
END_TEST

int main(void) {
  struct fmt why = fmt_over(text_room, sizeof text_room);
  if (tls_init(TLS_LIBCRYPTO, &why) != E_OK) return 1;
  certs_begin(dir);
  certs_make(dir, "ca", &(struct certs_spec){.common_name = "Test CA", .ca = true});
  certs_make(dir, "ec", &(struct certs_spec){.common_name = "ec", .alt_names = "DNS:mx.example.org", .issuer = "ca"});
  TCase *connection = tcase_create("connection");
  tcase_set_timeout(connection, 30);
  tcase_add_loop_test(connection, a_megabyte_goes_both_ways, 0, 4);
  tcase_add_test(connection, it_may_be_answered_and_closed_from_within);
  tcase_add_test(connection, an_end_without_close_notify_is_one_cut_short);
  tcase_add_test(connection, memory_is_counted_and_comes_back);
  tcase_add_test(connection, without_memory_it_fails_or_waits);
  int failed = unit_main("net/tls/connection", (TCase *const[]){connection}, 1);
  certs_end(dir);
  return failed;
}
