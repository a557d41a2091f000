/* Against another implementation: OpenSSL's libssl, in memory, as client and as server; also what only it can be made to do. */
#include <openssl/ssl.h>
#include <stdlib.h>

#include "bench/lib/certs.h"
#include "core/base/error.h"
#include "tests/lib/tlspair.h"
#include "tests/lib/unit.h"

static char dir[CERTS_PATH];
static uint8_t text_room[512];

#define PEM(name) certs_path(dir, name, ".pem")
#define KEY(name) certs_path(dir, name, ".key")

static void make_certificates(void) {
  certs_begin(dir);
  certs_make(dir, "ca", &(struct certs_spec){.common_name = "Test CA", .ca = true});
  certs_make(dir, "ec", &(struct certs_spec){.common_name = "ec", .alt_names = "DNS:mx.example.org", .issuer = "ca"});
  certs_make(dir, "rsa", &(struct certs_spec){.kind = CERTS_RSA, .common_name = "rsa", .alt_names = "DNS:mx.example.org", .issuer = "ca"});
  certs_make(dir, "me", &(struct certs_spec){.common_name = "The Client", .issuer = "ca", .usage = "clientAuth"});
}

static struct tls_server *our_server(struct tls_tickets *tickets, const char *client_ca) {
  struct fmt why = fmt_over(text_room, sizeof text_room), warnings = fmt_over(text_room, 0);
  struct tls_files files[] = {{PEM("ec"), KEY("ec")}, {PEM("rsa"), KEY("rsa")}};
  struct tls_server *server;
  ck_assert_int_eq(
      tls_server_new(&server, &(struct tls_server_config){.certificates = files, .certificate_count = 2, .tickets = tickets, .client_ca = client_ca},
                     tlspair_now_ms(), &why, &warnings),
      E_OK);
  return server;
}

static struct tls_client *our_client(void) {
  struct fmt why = fmt_over(text_room, sizeof text_room), warnings = fmt_over(text_room, 0);
  struct tls_files mine = {PEM("me"), KEY("me")};
  struct tls_client *client;
  ck_assert_int_eq(tls_client_new(&client, &(struct tls_client_config){.ca = PEM("ca"), .certificate = &mine}, tlspair_now_ms(), &why, &warnings),
                   E_OK);
  return client;
}

/* ---- one of each ---- */

struct mixed {
  struct slab slab;
  struct tlsend us;
  SSL *they;
  size_t cut;
  int they_said; /* of their last SSL_do_handshake */
  char they_got[64];
  int they_got_len;
};

static const char *their_host = "mx.example.org";

static void they_begin(struct mixed *m, SSL_CTX *ctx, bool server) {
  m->they = SSL_new(ctx);
  SSL_set_bio(m->they, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
  if (server) {
    SSL_set_accept_state(m->they);
  } else {
    SSL_set_connect_state(m->they);
    SSL_set_tlsext_host_name(m->they, their_host);
  }
}

static void begin(struct mixed *m) {
  *m = (struct mixed){0};
  slab_init(&m->slab, 64u << 20);
  m->us.slab = &m->slab;
}

static void begin_with_our_server(struct mixed *m, struct tls_server *server, SSL_CTX *ctx) {
  begin(m);
  m->us.tls = tls_accept(server, &m->slab, tlspair_now_ms());
  they_begin(m, ctx, false);
}

static const struct span mx = {(const uint8_t *)"mx.example.org", 14};
static const struct tls_expect verify_mx = {.policy = TLS_VERIFY, .host = {(const uint8_t *)"mx.example.org", 14}, .names = &mx, .name_count = 1};

static void begin_with_our_client(struct mixed *m, struct tls_client *client, const struct tls_session *session, SSL_CTX *ctx) {
  begin(m);
  m->us.tls = tls_connect(client, &verify_mx, session, &m->slab, tlspair_now_ms(), &m->us.out);
  they_begin(m, ctx, true);
}

static void end(struct mixed *m) {
  SSL_free(m->they);
  tls_free(m->us.tls);
  buffer_free(&m->slab, &m->us.out);
  buffer_free(&m->slab, &m->us.got);
  ck_assert_uint_eq(m->slab.used_bytes, 0);
  slab_fini(&m->slab);
}

static bool they_to_us(struct mixed *m) {
  static uint8_t room[1 << 20];
  int n = BIO_read(SSL_get_wbio(m->they), room, sizeof room);
  for (int at = 0; at < n;) {
    int piece = m->cut == 0 || n - at < (int)m->cut ? n - at : (int)m->cut;
    tlsend_feed(&m->us, span_of(room + at, (size_t)piece));
    at += piece;
  }
  return n > 0;
}

static bool we_to_them(struct mixed *m) {
  uint32_t len = m->us.out.len;
  if (len > 0) BIO_write(SSL_get_rbio(m->they), m->us.out.at, (int)len);
  buffer_consume(&m->us.out, len);
  return len > 0;
}

static void they_work(struct mixed *m) {
  m->they_said = SSL_do_handshake(m->they);
  int n = SSL_read(m->they, m->they_got + m->they_got_len, (int)sizeof m->they_got - m->they_got_len);
  if (n > 0) m->they_got_len += n;
}

static void run(struct mixed *m) {
  for (unsigned turns = 0; turns < 20; turns++) {
    they_work(m);
    bool some = they_to_us(m);
    some |= we_to_them(m);
    if (!some && turns > 1) break;
  }
}

static bool open(const struct mixed *m) { return tls_state(m->us.tls) == TLS_OPEN && m->they_said == 1; }

static void talk(struct mixed *m) {
  ck_assert_int_eq(SSL_write(m->they, "from them", 9), 9);
  tlspair_write(&m->us, SPAN("from us"));
  run(m);
  ck_assert(span_equal(buffer_span(&m->us.got), SPAN("from them")));
  ck_assert(m->they_got_len == 7 && memcmp(m->they_got, "from us", 7) == 0);
}

static SSL_CTX *their_client(int least, int most) {
  SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
  ck_assert_int_eq(SSL_CTX_load_verify_file(ctx, PEM("ca")), 1);
  SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
  SSL_CTX_set_security_level(ctx, most < TLS1_2_VERSION ? 0 : 2);
  SSL_CTX_set_min_proto_version(ctx, least);
  SSL_CTX_set_max_proto_version(ctx, most);
  return ctx;
}

static SSL_CTX *their_server(const char *name, int most) {
  SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
  ck_assert_int_eq(SSL_CTX_use_certificate_chain_file(ctx, PEM(name)), 1);
  ck_assert_int_eq(SSL_CTX_use_PrivateKey_file(ctx, KEY(name), SSL_FILETYPE_PEM), 1);
  SSL_CTX_set_security_level(ctx, most < TLS1_2_VERSION ? 0 : 2);
  SSL_CTX_set_min_proto_version(ctx, TLS1_VERSION);
  SSL_CTX_set_max_proto_version(ctx, most);
  return ctx;
}

/* ---- our server ---- */

static const struct {
  int version;
  const char *ciphers, *suites13, *groups, *signatures, *expected, *certificate;
  size_t cut;
} clients[] = {
    {TLS1_3_VERSION, NULL, NULL, NULL, NULL, "TLS_AES_128_GCM_SHA256", "ec", 0},
    {TLS1_3_VERSION, NULL, NULL, NULL, NULL, "TLS_AES_128_GCM_SHA256", "ec", 1},
    {TLS1_3_VERSION, NULL, "TLS_AES_256_GCM_SHA384", "P-256", NULL, "TLS_AES_256_GCM_SHA384", "ec", 0},
    {TLS1_3_VERSION, NULL, "TLS_CHACHA20_POLY1305_SHA256", "P-384", NULL, "TLS_CHACHA20_POLY1305_SHA256", "ec", 0},
    {TLS1_3_VERSION, NULL, NULL, "P-521:P-256", NULL, "TLS_AES_128_GCM_SHA256", "ec", 0}, /* its first is none of ours: another hello */
    {TLS1_3_VERSION, NULL, NULL, NULL, "RSA-PSS+SHA256", "TLS_AES_128_GCM_SHA256", "rsa", 0},
    {TLS1_3_VERSION, NULL, NULL, NULL, "RSA-PSS+SHA384", "TLS_AES_128_GCM_SHA256", "rsa", 0},
    {TLS1_2_VERSION, NULL, NULL, NULL, NULL, "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "ec", 0},
    {TLS1_2_VERSION, NULL, NULL, NULL, NULL, "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "ec", 1},
    {TLS1_2_VERSION, NULL, NULL, "P-256", "RSA+SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "rsa", 0},
    {TLS1_2_VERSION, "ECDHE-RSA-AES256-GCM-SHA384", NULL, NULL, NULL, "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "rsa", 0},
    {TLS1_2_VERSION, "ECDHE-ECDSA-CHACHA20-POLY1305", NULL, NULL, NULL, "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "ec", 0},
};

START_TEST(libssl_as_a_client) {
  struct mixed m;
  struct tls_server *server = our_server(NULL, NULL);
  SSL_CTX *ctx = their_client(TLS1_2_VERSION, clients[_i].version);
  if (clients[_i].ciphers != NULL) ck_assert_int_eq(SSL_CTX_set_cipher_list(ctx, clients[_i].ciphers), 1);
  if (clients[_i].suites13 != NULL) ck_assert_int_eq(SSL_CTX_set_ciphersuites(ctx, clients[_i].suites13), 1);
  if (clients[_i].groups != NULL) ck_assert_int_eq(SSL_CTX_set1_groups_list(ctx, clients[_i].groups), 1);
  if (clients[_i].signatures != NULL) ck_assert_int_eq(SSL_CTX_set1_sigalgs_list(ctx, clients[_i].signatures), 1);
  begin_with_our_server(&m, server, ctx);
  SSL_set1_host(m.they, "mx.example.org");
  m.cut = clients[_i].cut;
  run(&m);
  ck_assert_msg(open(&m), "%s", tls_error(m.us.tls));
  ck_assert_str_eq(tls_cipher(m.us.tls), clients[_i].expected);
  ck_assert_str_eq(tls_version(m.us.tls), SSL_get_version(m.they));
  ck_assert_int_eq(SSL_get_verify_result(m.they), X509_V_OK);
  ck_assert_int_eq(EVP_PKEY_is_a(X509_get0_pubkey(SSL_get0_peer_certificate(m.they)), "RSA"), strcmp(clients[_i].certificate, "rsa") == 0);
  talk(&m);
  end(&m);
  SSL_CTX_free(ctx);
  tls_server_put(server);
}
END_TEST

static bool they_resume(struct tls_server *server, SSL_CTX *ctx, SSL_SESSION *session, SSL_SESSION **next) {
  struct mixed m;
  begin_with_our_server(&m, server, ctx);
  if (session != NULL) SSL_set_session(m.they, session);
  run(&m);
  ck_assert_msg(open(&m), "%s", tls_error(m.us.tls));
  talk(&m);
  bool resumed = SSL_session_reused(m.they) == 1;
  ck_assert_int_eq(tls_resumed(m.us.tls), resumed);
  if (next != NULL) *next = SSL_get1_session(m.they);
  SSL_shutdown(m.they); /* else libssl takes the session for spoilt */
  end(&m);
  return resumed;
}

START_TEST(libssl_resumes_with_our_tickets) {
  struct tls_tickets *tickets = tls_tickets_new(3600), *others = tls_tickets_new(3600);
  struct tls_server *server = our_server(tickets, NULL), *stranger = our_server(others, NULL), *asks = our_server(tickets, PEM("ca"));
  SSL_CTX *ctx = their_client(TLS1_2_VERSION, _i == 0 ? TLS1_2_VERSION : TLS1_3_VERSION);
  SSL_SESSION *session, *next;
  ck_assert(!they_resume(server, ctx, NULL, &session));
  tls_server_put(server);
  server = our_server(tickets, NULL);
  ck_assert(they_resume(server, ctx, session, &next));
  ck_assert(they_resume(server, ctx, next, NULL));
  ck_assert(!they_resume(stranger, ctx, session, NULL)); /* and goes on as if there were none */
  ck_assert(!they_resume(asks, ctx, session, NULL));
  their_host = "other.example"; /* a ticket is for the host it was given for */
  ck_assert(!they_resume(server, ctx, session, NULL));
  their_host = "mx.example.org";
  SSL_SESSION_free(session);
  SSL_SESSION_free(next);
  ck_assert(!they_resume(asks, ctx, NULL, &session));
  ck_assert(!SSL_SESSION_has_ticket(session));
  SSL_SESSION_free(session);
  SSL_CTX_free(ctx);
  tls_server_put(server);
  tls_server_put(stranger);
  tls_server_put(asks);
  tls_tickets_put(tickets);
  tls_tickets_put(others);
}
END_TEST

static const struct {
  int most;
  const char *ciphers, *error;
} refused[] = {{TLS1_VERSION, NULL, "the client has neither TLS 1.2 nor 1.3"},
               {TLS1_1_VERSION, NULL, "the client has neither TLS 1.2 nor 1.3"},
               {TLS1_2_VERSION, "AES128-GCM-SHA256:ECDHE-RSA-AES128-SHA", "the client takes no kind of certificate that we have"},
               {TLS1_2_VERSION, "DHE-RSA-AES128-GCM-SHA256", "the client takes no kind of certificate that we have"}};

START_TEST(old_versions_and_suites_are_refused) {
  struct mixed m;
  struct tls_server *server = our_server(NULL, NULL);
  SSL_CTX *ctx = their_client(TLS1_VERSION, refused[_i].most);
  if (refused[_i].ciphers != NULL) ck_assert_int_eq(SSL_CTX_set_cipher_list(ctx, refused[_i].ciphers), 1);
  begin_with_our_server(&m, server, ctx);
  run(&m);
  ck_assert_int_eq(tls_state(m.us.tls), TLS_FAILED);
  ck_assert_str_eq(tls_error(m.us.tls), refused[_i].error);
  ck_assert_int_eq(m.they_said, -1);
  ck_assert_int_eq(SSL_get_error(m.they, m.they_said), SSL_ERROR_SSL);
  ck_assert_uint_eq(tls_bytes(m.us.tls), 0); /* no object was made for it */
  end(&m);
  SSL_CTX_free(ctx);
  tls_server_put(server);
}
END_TEST

/* ---- our client ---- */

static const struct {
  const char *certificate;
  int most;
  const char *groups;
} servers[] = {{"ec", TLS1_3_VERSION, NULL},
               {"rsa", TLS1_3_VERSION, NULL},
               {"ec", TLS1_2_VERSION, NULL},
               {"rsa", TLS1_2_VERSION, NULL},
               {"ec", TLS1_3_VERSION, "P-384"},
               {"ec", TLS1_3_VERSION, "X25519"},
               {"rsa", TLS1_2_VERSION, "X25519:P-256"},
               {"rsa", TLS1_2_VERSION, "P-384:P-256"}};

START_TEST(libssl_as_a_server_that_asks_for_a_certificate) {
  struct mixed m;
  struct tls_client *client = our_client();
  SSL_CTX *ctx = their_server(servers[_i].certificate, servers[_i].most);
  ck_assert_int_eq(SSL_CTX_load_verify_file(ctx, PEM("ca")), 1);
  SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
  SSL_CTX_set_options(ctx, SSL_OP_CIPHER_SERVER_PREFERENCE);
  if (servers[_i].groups != NULL) ck_assert_int_eq(SSL_CTX_set1_groups_list(ctx, servers[_i].groups), 1);
  begin_with_our_client(&m, client, NULL, ctx);
  m.cut = (size_t)_i % 2;
  run(&m);
  ck_assert_msg(open(&m), "%s", tls_error(m.us.tls));
  ck_assert_int_eq(tls_trust(m.us.tls).by, TLS_TRUSTED);
  ck_assert_str_eq(tls_version(m.us.tls), SSL_get_version(m.they));
  ck_assert_str_eq(SSL_get_servername(m.they, TLSEXT_NAMETYPE_host_name), "mx.example.org");
  ck_assert_int_eq(SSL_get_verify_result(m.they), X509_V_OK);
  talk(&m);
  end(&m);
  SSL_CTX_free(ctx);
  tls_client_put(client);
}
END_TEST

/* A server that resumes need not send a new ticket, nor one that does not: then there is no new session, and the old one serves again. */
START_TEST(without_a_new_ticket_there_is_no_new_session) {
  struct mixed m;
  struct tls_client *client = our_client();
  SSL_CTX *ctx = their_server("ec", TLS1_3_VERSION), *restarted = their_server("ec", TLS1_3_VERSION);
  begin_with_our_client(&m, client, NULL, ctx);
  run(&m);
  struct tls_session *session = tls_session_take(m.us.tls);
  ck_assert_ptr_nonnull(session);
  end(&m);
  SSL_CTX_set_num_tickets(ctx, 0);
  SSL_CTX_set_num_tickets(restarted, 0);
  for (unsigned i = 0; i < 3; i++) {
    begin_with_our_client(&m, client, session, i < 2 ? ctx : restarted);
    run(&m);
    talk(&m);
    ck_assert_int_eq(tls_resumed(m.us.tls), i < 2);
    ck_assert_ptr_null(tls_session_take(m.us.tls));
    end(&m);
  }
  tls_session_free(session);
  SSL_CTX_free(ctx);
  SSL_CTX_free(restarted);
  tls_client_put(client);
}
END_TEST

START_TEST(we_resume_with_libssls_tickets) {
  struct mixed m;
  struct tls_client *client = our_client();
  SSL_CTX *ctx = their_server("ec", TLS1_3_VERSION), *restarted = their_server("ec", TLS1_3_VERSION);
  begin_with_our_client(&m, client, NULL, ctx);
  run(&m);
  struct tls_session *session = tls_session_take(m.us.tls);
  ck_assert_ptr_nonnull(session);
  end(&m);
  for (unsigned i = 0; i < 2; i++) {
    begin_with_our_client(&m, client, session, i == 0 ? ctx : restarted);
    run(&m);
    ck_assert_msg(open(&m), "%s", tls_error(m.us.tls));
    ck_assert_int_eq(tls_resumed(m.us.tls), i == 0);
    ck_assert_int_eq(SSL_session_reused(m.they), i == 0);
    ck_assert_int_eq(tls_trust(m.us.tls).by, TLS_TRUSTED);
    talk(&m);
    end(&m);
  }
  tls_session_free(session);
  SSL_CTX_free(ctx);
  SSL_CTX_free(restarted);
  tls_client_put(client);
}
END_TEST

START_TEST(a_server_with_tls_1_1_at_most_is_refused) {
  struct mixed m;
  struct tls_client *client = our_client();
  SSL_CTX *ctx = their_server("rsa", TLS1_1_VERSION);
  begin_with_our_client(&m, client, NULL, ctx);
  run(&m);
  ck_assert_int_eq(tls_state(m.us.tls), TLS_FAILED);
  ck_assert_ptr_nonnull(strstr(tls_error(m.us.tls), "protocol version"));
  end(&m);
  SSL_CTX_free(ctx);
  tls_client_put(client);
}
END_TEST

/* ---- what must not be had ---- */

START_TEST(renegotiation_is_refused) {
  struct mixed m;
  struct tls_server *server = our_server(NULL, NULL);
  struct tls_client *client = our_client();
  SSL_CTX *ctx = _i == 0 ? their_client(TLS1_2_VERSION, TLS1_2_VERSION) : their_server("rsa", TLS1_2_VERSION);
  if (_i == 0)
    begin_with_our_server(&m, server, ctx);
  else
    begin_with_our_client(&m, client, NULL, ctx);
  run(&m);
  ck_assert(open(&m));
  talk(&m);
  ck_assert_int_eq(SSL_renegotiate(m.they), 1);
  they_work(&m);
  they_to_us(&m);
  ck_assert_int_eq(m.us.error, E_PROTOCOL);
  ck_assert_str_eq(tls_error(m.us.tls), "renegotiation refused");
  end(&m);
  SSL_CTX_free(ctx);
  tls_client_put(client);
  tls_server_put(server);
}
END_TEST

START_TEST(key_updates_are_taken_but_no_flood_of_them) {
  struct mixed m;
  struct tls_server *server = our_server(NULL, NULL);
  SSL_CTX *ctx = their_client(TLS1_3_VERSION, TLS1_3_VERSION);
  begin_with_our_server(&m, server, ctx);
  run(&m);
  ck_assert(open(&m));
  for (unsigned i = 0; i < 20; i++) { /* with data between them, both ways, as it should be */
    ck_assert_int_eq(SSL_key_update(m.they, SSL_KEY_UPDATE_REQUESTED), 1);
    ck_assert_int_eq(SSL_write(m.they, "x", 1), 1);
    run(&m);
    tlspair_write(&m.us, SPAN("y"));
    run(&m);
    ck_assert(open(&m));
    ck_assert_int_eq(m.they_got_len, i + 1);
    ck_assert_uint_eq(m.us.got.len, i + 1);
  }
  unsigned more = 0;
  for (; more < 100 && m.us.error == E_OK; more++) {
    SSL_key_update(m.they, SSL_KEY_UPDATE_REQUESTED);
    SSL_do_handshake(m.they);
    they_to_us(&m);
    we_to_them(&m);
  }
  ck_assert_uint_gt(more, 5);
  ck_assert_uint_lt(more, 20);
  ck_assert_int_eq(m.us.error, E_PROTOCOL);
  ck_assert_str_eq(tls_error(m.us.tls), "too many records without content");
  end(&m);
  SSL_CTX_free(ctx);
  tls_server_put(server);
}
END_TEST

START_TEST(good_byes_are_understood_both_ways) {
  struct mixed m;
  struct tls_server *server = our_server(NULL, NULL);
  SSL_CTX *ctx = their_client(TLS1_2_VERSION, _i == 0 ? TLS1_2_VERSION : TLS1_3_VERSION);
  char room[8];
  begin_with_our_server(&m, server, ctx);
  run(&m);
  talk(&m);
  tls_close(m.us.tls, &m.us.out);
  we_to_them(&m);
  ck_assert_int_eq(SSL_read(m.they, room, sizeof room), 0);
  ck_assert_int_eq(SSL_get_error(m.they, 0), SSL_ERROR_ZERO_RETURN);
  SSL_shutdown(m.they);
  they_to_us(&m);
  ck_assert_int_eq(m.us.error, E_CLOSED);
  ck_assert_int_eq(tls_state(m.us.tls), TLS_CLOSED);
  ck_assert_int_eq(tls_end(m.us.tls), E_CLOSED);
  ck_assert_str_eq(tls_error(m.us.tls), "");
  end(&m);
  SSL_CTX_free(ctx);
  tls_server_put(server);
}
END_TEST

#define LOOP(tcase, test, table) tcase_add_loop_test(tcase, test, 0, sizeof(table) / sizeof *(table))

int main(void) {
  struct fmt why = fmt_over(text_room, sizeof text_room);
  if (tls_init(TLS_LIBCRYPTO, &why) != E_OK) return 1;
  make_certificates();
  TCase *libssl = tcase_create("libssl");
  tcase_set_timeout(libssl, 30);
  LOOP(libssl, libssl_as_a_client, clients);
  tcase_add_loop_test(libssl, libssl_resumes_with_our_tickets, 0, 2);
  LOOP(libssl, old_versions_and_suites_are_refused, refused);
  LOOP(libssl, libssl_as_a_server_that_asks_for_a_certificate, servers);
  tcase_add_test(libssl, without_a_new_ticket_there_is_no_new_session);
  tcase_add_test(libssl, we_resume_with_libssls_tickets);
  tcase_add_test(libssl, a_server_with_tls_1_1_at_most_is_refused);
  tcase_add_loop_test(libssl, renegotiation_is_refused, 0, 2);
  tcase_add_test(libssl, key_updates_are_taken_but_no_flood_of_them);
  tcase_add_loop_test(libssl, good_byes_are_understood_both_ways, 0, 2);
  int failed = unit_main("net/tls/libssl", (TCase *const[]){libssl}, 1);
  certs_end(dir);
  return failed;
}
