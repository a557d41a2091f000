/* What a connection does with bytes that nobody honest sends: it never gives plaintext that was not sent, never does much work, and says why it ended. */
#include <stdlib.h>

#include "bench/lib/certs.h"
#include "core/base/error.h"
#include "tests/lib/tlspair.h"
#include "tests/lib/unit.h"

static char dir[CERTS_PATH];
static uint8_t text_room[512];
static struct tls_server *server;
static struct tls_client *client, *older;

static const struct span mx = {(const uint8_t *)"mx.example.org", 14};
static const struct tls_expect verify_mx = {.policy = TLS_VERIFY, .host = {(const uint8_t *)"mx.example.org", 14}, .names = &mx, .name_count = 1};

static void make_ends(void) {
  struct fmt why = fmt_over(text_room, sizeof text_room), warnings = fmt_over(text_room, 0);
  certs_begin(dir);
  certs_make(dir, "ca", &(struct certs_spec){.common_name = "Test CA", .ca = true});
  certs_make(dir, "ec", &(struct certs_spec){.common_name = "ec", .alt_names = "DNS:mx.example.org", .issuer = "ca"});
  struct tls_files files = {certs_path(dir, "ec", ".pem"), certs_path(dir, "ec", ".key")};
  struct tls_client_config config = {.ca = certs_path(dir, "ca", ".pem")};
  must(tls_server_new(&server, &(struct tls_server_config){.certificates = &files, .certificate_count = 1}, tlspair_now_ms(), &why, &warnings) ==
       E_OK);
  must(tls_client_new(&client, &config, tlspair_now_ms(), &why, &warnings) == E_OK);
  config.most = TLS_MOST_1_2;
  must(tls_client_new(&older, &config, tlspair_now_ms(), &why, &warnings) == E_OK);
}

static void begin_open(struct tlspair *pair, bool tls12) {
  tlspair_begin(pair, server, tls12 ? older : client, &verify_mx, NULL);
  tlspair_run(pair);
  ck_quick(tlspair_open(pair));
}

/* ---- every byte, changed ---- */

/* The handshake with byte number `at` of all that this side sends changed; both write as soon as they may. False: it has not sent so many. */
static bool with_a_byte_changed(bool tls12, bool of_server, size_t at, unsigned *came_about) {
  struct tlspair pair;
  size_t sent = 0;
  bool wrote[2] = {false, false};
  tlspair_begin(&pair, server, tls12 ? older : client, &verify_mx, NULL);
  for (unsigned turns = 0; turns < 12; turns++) {
    struct tlsend *from = turns % 2 == 0 ? &pair.client : &pair.server, *to = turns % 2 == 0 ? &pair.server : &pair.client;
    if (tls_state(from->tls) == TLS_OPEN && !wrote[turns % 2]) {
      tlspair_write(from, turns % 2 == 0 ? SPAN("what the client says") : SPAN("what the server says"));
      wrote[turns % 2] = true;
    }
    struct buffer moving = from->out;
    from->out = (struct buffer){0};
    if ((from == &pair.server) == of_server) {
      if (sent <= at && at < sent + moving.len) moving.at[at - sent] ^= at % 2 == 0 ? 0x01 : 0x80;
      sent += moving.len;
    }
    if (moving.len > 0) tlsend_feed(to, buffer_span(&moving));
    buffer_free(&pair.slab, &moving);
  }
  struct span c = buffer_span(&pair.client.got), s = buffer_span(&pair.server.got);
  ck_quick(c.len == 0 || span_equal(c, SPAN("what the server says")));
  ck_quick(s.len == 0 || span_equal(s, SPAN("what the client says")));
  if (c.len > 0 && s.len > 0) {
    ck_quick(tls_trust(pair.client.tls).by == TLS_TRUSTED);
    (*came_about)++;
  } else {
    ck_quick(tls_state(pair.client.tls) == TLS_FAILED || tls_state(pair.server.tls) == TLS_FAILED || c.len == 0 || s.len == 0);
  }
  tlspair_end(&pair);
  return at < sent;
}

START_TEST(every_byte_of_both_sides_changed) {
  unsigned came_about = 0;
  size_t at = 0;
  while (with_a_byte_changed(_i % 2 == 0, _i / 2 == 0, at, &came_about)) at++;
  ck_assert_uint_gt(at, 300);
  ck_assert_uint_lt(came_about, 12); /* versions in the headers of records, which mean nothing, and the untouched one at the end */
}
END_TEST

START_TEST(every_byte_of_a_record_with_data_changed_or_missing) {
  bool tls12 = _i == 0;
  struct tlspair pair;
  size_t len = 1;
  for (size_t at = 0; at < len; at++) {
    begin_open(&pair, tls12);
    tlspair_write(&pair.client, SPAN("MAIL FROM:<a@example.org>\r\n"));
    len = pair.client.out.len;
    pair.client.out.at[at] ^= (uint8_t)(1u << at % 8);
    tlsend_feed(&pair.server, buffer_span(&pair.client.out));
    ck_quick(pair.server.got.len == 0);
    ck_quick(pair.server.error == E_PROTOCOL || at == 3 || at == 4); /* a longer record has not come yet */
    ck_quick(pair.server.error == E_OK || tls_error(pair.server.tls)[0] != '\0');
    tlspair_end(&pair);
    begin_open(&pair, tls12);
    tlspair_write(&pair.client, SPAN("MAIL FROM:<a@example.org>\r\n"));
    tlsend_feed(&pair.server, span_first(buffer_span(&pair.client.out), at));
    ck_quick(pair.server.error == E_OK && pair.server.got.len == 0 && tls_end(pair.server.tls) == E_RESET);
    tlspair_end(&pair);
  }
  ck_assert_uint_gt(len, 40);
}
END_TEST

START_TEST(a_record_that_comes_again_or_too_late_is_refused) {
  for (unsigned i = 0; i < 4; i++) {
    struct tlspair pair;
    begin_open(&pair, i % 2 == 0);
    tlspair_write(&pair.client, SPAN("one"));
    size_t one = pair.client.out.len;
    tlspair_write(&pair.client, SPAN("two"));
    struct span all = buffer_span(&pair.client.out);
    if (i / 2 == 0) tlsend_feed(&pair.server, span_first(all, one));
    tlsend_feed(&pair.server, i / 2 == 0 ? span_first(all, one) : span_skip(all, one));
    ck_assert_int_eq(pair.server.error, E_PROTOCOL);
    ck_assert_str_eq(tls_error(pair.server.tls), "a record that cannot be decrypted");
    ck_assert(span_equal(buffer_span(&pair.server.got), i / 2 == 0 ? SPAN("one") : SPAN("")));
    tlsend_feed(&pair.server, all); /* and nothing any more */
    ck_assert_int_eq(pair.server.error, E_PROTOCOL);
    ck_assert_uint_le(pair.server.got.len, 3);
    tlspair_end(&pair);
  }
}
END_TEST

/* ---- other beginnings ---- */

struct alone {
  struct slab slab;
  struct tlsend end;
};

static void alone_begin(struct alone *alone) {
  *alone = (struct alone){0};
  slab_init(&alone->slab, 64u << 20);
  alone->end.slab = &alone->slab;
  alone->end.tls = tls_accept(server, &alone->slab, tlspair_now_ms());
}

static void alone_end(struct alone *alone) {
  tls_free(alone->end.tls);
  buffer_free(&alone->slab, &alone->end.out);
  ck_quick(alone->end.got.len == 0 && alone->slab.used_bytes == 0);
  slab_fini(&alone->slab);
}

static const struct {
  struct span bytes;
  const char *error;
  int alert; /* -1: none */
} beginnings[] = {
    {{(const uint8_t *)"EHLO example.org\r\n", 18}, "not TLS", -1},
    {{(const uint8_t *)"GET / HTTP/1.0\r\n\r\n", 18}, "not TLS", -1},
    {{(const uint8_t *)"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10", 11}, "the client has SSL 2 only", 70},
    {{(const uint8_t *)"\x16\x03\x01\x00\x04\x02\x00\x00\x00", 9}, "no ClientHello", 10},
    {{(const uint8_t *)"\x16\x03\x01\x00\x04\x01\x00\x50\x00", 9}, "the hello is too long", 10},
    {{(const uint8_t *)"\x16\x03\x01\x00\x06\x01\x00\x00\x02\x03\x03", 11}, "a malformed hello", 50},
    {{(const uint8_t *)"\x15\x03\x01\x00\x02\x02\x28", 7}, "no ClientHello", 10},
};

START_TEST(what_is_no_hello_is_refused_with_an_alert_and_a_reason) {
  struct alone alone;
  alone_begin(&alone);
  tlsend_feed(&alone.end, beginnings[_i].bytes);
  ck_assert_int_eq(alone.end.error, E_PROTOCOL);
  ck_assert_str_eq(tls_error(alone.end.tls), beginnings[_i].error);
  if (beginnings[_i].alert < 0) {
    ck_assert_uint_eq(alone.end.out.len, 0);
  } else {
    const uint8_t alert[] = {21, 3, 1, 0, 2, 2, (uint8_t)beginnings[_i].alert};
    ck_assert(span_equal(buffer_span(&alone.end.out), span_of(alert, sizeof alert)));
  }
  ck_assert_uint_eq(tls_bytes(alone.end.tls), 0);
  alone_end(&alone);
}
END_TEST

START_TEST(garbage_is_refused_whatever_it_is) {
  static uint8_t garbage[70000];
  srand(5);
  for (unsigned round = 0; round < 300; round++) {
    struct alone alone;
    size_t len = 1 + (size_t)rand() % sizeof garbage;
    for (size_t i = 0; i < len; i++) garbage[i] = (uint8_t)rand();
    if (round % 3 > 0) memcpy(garbage, "\x16\x03\x01", 3);
    if (round % 3 > 1) memcpy(garbage + 3, "\x10\x00\x01\x00\x0f\xfc\x03\x03", 8);
    alone_begin(&alone);
    tlsend_feed(&alone.end, span_of(garbage, len));
    ck_quick(tls_state(alone.end.tls) == TLS_FAILED || len < 17000);
    alone_end(&alone);
  }
}
END_TEST

START_TEST(an_endless_hello_costs_its_bytes_and_not_more_than_so_many) {
  struct alone alone;
  static const uint8_t start[] = {22, 3, 1, 0x3f, 0xff, 1, 0, 0x3f, 0xfb, 3, 3};
  alone_begin(&alone);
  tlsend_feed(&alone.end, span_of(start, sizeof start));
  for (unsigned i = 0; i < 20000 && alone.end.error == E_OK; i++) tlsend_feed(&alone.end, SPAN("\x00"));
  ck_assert_int_eq(alone.end.error, E_PROTOCOL); /* complete by then, and malformed */
  alone_end(&alone);
}
END_TEST

/* ---- floods ---- */

/* Records after the hello, of TLS 1.2, until it says no; how many it took. */
static unsigned flood(struct span first, struct span record, const char *error) {
  struct tlspair pair;
  unsigned count = 0;
  tlspair_begin(&pair, server, older, &verify_mx, NULL);
  tlsend_feed(&pair.server, buffer_span(&pair.client.out));
  buffer_consume(&pair.client.out, pair.client.out.len);
  ck_assert_int_eq(tls_state(pair.server.tls), TLS_HANDSHAKE);
  if (first.len > 0) tlsend_feed(&pair.server, first);
  while (count < 20000 && pair.server.error == E_OK) {
    tlsend_feed(&pair.server, record);
    count++;
  }
  ck_assert_int_eq(tls_state(pair.server.tls), TLS_FAILED);
  if (error != NULL) ck_assert_str_eq(tls_error(pair.server.tls), error);
  tlspair_end(&pair);
  return count;
}

START_TEST(floods_in_the_handshake_end_soon) {
  static uint8_t fragment[16384 + 5] = {22, 3, 3, 0x40, 0, 11, 0, 0xff, 0xff};
  struct span none = {NULL, 0};
  ck_assert_uint_le(flood(none, SPAN("\x15\x03\x03\x00\x02\x01\x5a"), NULL), 256);         /* warnings */
  ck_assert_uint_le(flood(none, SPAN("\x14\x03\x03\x00\x01\x01"), NULL), 256);             /* changes of cipher */
  ck_assert_uint_le(flood(none, SPAN("\x16\x03\x03\x00\x04\x00\x00\x00\x00"), NULL), 256); /* hello requests */
  ck_assert_uint_le(flood(none, span_of(fragment, sizeof fragment), NULL), 5);             /* a message that goes on and on */
  unsigned bytes = flood(SPAN("\x16\x03\x03\x00\x04\x10\x00\x20\x00"), SPAN("\x16\x03\x03\x00\x01\x00"), "too many records in the handshake");
  ck_assert_uint_gt(bytes, 200);
  ck_assert_uint_le(bytes, 256);
}
END_TEST

START_TEST(a_handshake_that_is_too_long_ends) {
  static uint8_t piece[400] = {22, 3, 3, 1, 0x8b, 11, 0, 0xf0, 0};
  struct tlspair pair;
  unsigned count = 0;
  tlspair_begin(&pair, server, older, &verify_mx, NULL);
  tlsend_feed(&pair.server, buffer_span(&pair.client.out));
  while (count < 2000 && pair.server.error == E_OK) {
    tlsend_feed(&pair.server, span_of(piece, sizeof piece));
    count++;
  }
  ck_assert_int_eq(tls_state(pair.server.tls), TLS_FAILED);
  ck_assert_uint_lt(count, 65536 / 400 + 2);
  tlspair_end(&pair);
}
END_TEST

#define LOOP(tcase, test, table) tcase_add_loop_test(tcase, test, 0, sizeof(table) / sizeof *(table))

int main(void) {
  struct fmt why = fmt_over(text_room, sizeof text_room);
  if (tls_init(TLS_LIBCRYPTO, &why) != E_OK) return 1;
  make_ends();
  TCase *hostile = tcase_create("hostile");
  tcase_set_timeout(hostile, 60);
  tcase_add_loop_test(hostile, every_byte_of_both_sides_changed, 0, 4);
  tcase_add_loop_test(hostile, every_byte_of_a_record_with_data_changed_or_missing, 0, 2);
  tcase_add_test(hostile, a_record_that_comes_again_or_too_late_is_refused);
  LOOP(hostile, what_is_no_hello_is_refused_with_an_alert_and_a_reason, beginnings);
  tcase_add_test(hostile, garbage_is_refused_whatever_it_is);
  tcase_add_test(hostile, an_endless_hello_costs_its_bytes_and_not_more_than_so_many);
  tcase_add_test(hostile, floods_in_the_handshake_end_soon);
  tcase_add_test(hostile, a_handshake_that_is_too_long_ends);
  int failed = unit_main("net/tls/hostile", (TCase *const[]){hostile}, 1);
  tls_server_put(server);
  tls_client_put(client);
  tls_client_put(older);
  certs_end(dir);
  return failed;
}
