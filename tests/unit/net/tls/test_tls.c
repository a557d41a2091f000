/* Our client against our server, over memory: what comes about, and what does not and why. */
#include <stdlib.h>

#include "core/base/error.h"
#include "bench/lib/certs.h"
#include "tests/lib/tlspair.h"
#include "tests/lib/unit.h"

static char dir[CERTS_PATH];
static uint8_t text_room[512];

#define PEM(name) certs_path(dir, name, ".pem")
#define FILES(name)                                                                                                                                  \
  { certs_path(dir, name, ".pem"), certs_path(dir, name, ".key") }

static void make_certificates(void) {
  certs_begin(dir);
  certs_make(dir, "ca", &(struct certs_spec){.common_name = "Test CA", .ca = true});
  certs_make(dir, "other-ca", &(struct certs_spec){.common_name = "Other CA", .ca = true});
  certs_make(dir, "middle", &(struct certs_spec){.common_name = "Middle CA", .ca = true, .issuer = "ca"});
  certs_make(dir, "ec",
             &(struct certs_spec){.common_name = "a", .alt_names = "DNS:mx.example.org,DNS:*.wild.example", .issuer = "middle", .with_issuer = true});
  certs_make(dir, "rsa", &(struct certs_spec){.kind = CERTS_RSA, .alt_names = "DNS:mx.example.org", .common_name = "r", .issuer = "ca"});
  certs_make(dir, "p384", &(struct certs_spec){.kind = CERTS_P384, .alt_names = "DNS:p384.example", .common_name = "p", .issuer = "ca"});
  certs_make(dir, "expired", &(struct certs_spec){.alt_names = "DNS:mx.example.org", .issuer = "ca", .from_days = -10, .to_days = -1});
  certs_make(dir, "self", &(struct certs_spec){.common_name = "self.example", .alt_names = "DNS:self.example"});
  certs_make(dir, "me", &(struct certs_spec){.common_name = "The Client", .issuer = "ca", .usage = "clientAuth"});
  certs_make(dir, "me-rsa", &(struct certs_spec){.kind = CERTS_RSA, .common_name = "The RSA Client", .issuer = "ca", .usage = "clientAuth"});
}

static struct tls_server *server_of(const struct tls_server_config *config) {
  struct fmt why = fmt_over(text_room, sizeof text_room), warnings = fmt_over(text_room + 256, 256);
  struct tls_server *server;
  int error = tls_server_new(&server, config, tlspair_now_ms(), &why, &warnings);
  ck_assert_msg(error == E_OK, "%.*s", (int)why.len, (const char *)why.at);
  return server;
}

static struct tls_server *server_with(const char *name, enum tls_least least) {
  struct tls_files files = FILES(name);
  return server_of(&(struct tls_server_config){.certificates = &files, .certificate_count = 1, .least = least});
}

static struct tls_client *client_of(const struct tls_client_config *config) {
  struct fmt why = fmt_over(text_room, sizeof text_room), warnings = fmt_over(text_room + 256, 256);
  struct tls_client *client;
  int error = tls_client_new(&client, config, tlspair_now_ms(), &why, &warnings);
  ck_assert_msg(error == E_OK, "%.*s", (int)why.len, (const char *)why.at);
  return client;
}
static struct tls_client *client_with(const char *ca) { return client_of(&(struct tls_client_config){.ca = PEM(ca)}); }

static const struct span mx = {(const uint8_t *)"mx.example.org", 14};

static const struct tls_expect verify_mx = {.policy = TLS_VERIFY, .host = {(const uint8_t *)"mx.example.org", 14}, .names = &mx, .name_count = 1};

static void talk(struct tlspair *pair) {
  tlspair_write(&pair->client, SPAN("EHLO client\r\n"));
  tlspair_write(&pair->server, SPAN("250 server\r\n"));
  tlspair_run(pair);
  ck_assert(span_equal(buffer_span(&pair->server.got), SPAN("EHLO client\r\n")));
  ck_assert(span_equal(buffer_span(&pair->client.got), SPAN("250 server\r\n")));
}

/* ---- handshakes ---- */

static const struct {
  const char *certificate, *host;
  size_t cut;
} shakes[] = {{"ec", "mx.example.org", 0},
              {"ec", "mx.example.org", 1},
              {"rsa", "mx.example.org", 0},
              {"rsa", "mx.example.org", 1},
              {"p384", "p384.example", 7}};

START_TEST(a_verified_handshake_and_a_talk) {
  struct tlspair pair;
  struct tls_server *server = server_with(shakes[_i].certificate, TLS_LEAST_1_2);
  struct tls_client *client = client_with("ca");
  struct span host = span_of_text(shakes[_i].host);
  tlspair_begin(&pair, server, client, &(struct tls_expect){.policy = TLS_VERIFY, .host = host, .names = &host, .name_count = 1}, NULL);
  pair.cut = shakes[_i].cut;
  tlspair_run(&pair);
  ck_assert_msg(tlspair_open(&pair), "client: %s; server: %s", tls_error(pair.client.tls), tls_error(pair.server.tls));
  talk(&pair);
  ck_assert_str_eq(tls_version(pair.client.tls), "TLSv1.3");
  ck_assert_str_eq(tls_version(pair.server.tls), "TLSv1.3");
  ck_assert_str_eq(tls_cipher(pair.client.tls), "TLS_AES_128_GCM_SHA256");
  ck_assert_str_eq(tls_cipher(pair.server.tls), "TLS_AES_128_GCM_SHA256");
  ck_assert_str_eq(tls_host(pair.server.tls), shakes[_i].host);
  ck_assert_int_eq(tls_trust(pair.client.tls).by, TLS_TRUSTED);
  ck_assert(!tls_resumed(pair.client.tls) && !tls_resumed(pair.server.tls));
  tlspair_end(&pair);
  tls_server_put(server);
  tls_client_put(client);
}
END_TEST

static void refused(const char *certificate, const char *ca, struct span name, const char *expected) {
  struct tlspair pair;
  struct tls_server *server = server_with(certificate, TLS_LEAST_1_2);
  struct tls_client *client = client_with(ca);
  tlspair_begin(&pair, server, client, &(struct tls_expect){.policy = TLS_VERIFY, .host = name, .names = &name, .name_count = 1}, NULL);
  tlspair_run(&pair);
  ck_assert_int_eq(tls_state(pair.client.tls), TLS_FAILED);
  ck_assert_int_eq(pair.client.error, E_PROTOCOL);
  ck_assert_str_eq(tls_error(pair.client.tls), expected);
  ck_assert_int_eq(tls_state(pair.server.tls), TLS_FAILED);
  ck_assert_ptr_nonnull(strstr(tls_error(pair.server.tls), "peer sent alert: "));
  ck_assert_int_eq(tls_trust(pair.client.tls).by, TLS_UNTRUSTED);
  struct span bytes = SPAN("x");
  ck_assert_int_eq(tls_write(pair.client.tls, &bytes, 1, &pair.client.out), E_PROTOCOL);
  ck_assert_uint_eq(pair.client.got.len + pair.server.got.len, 0);
  /* Told but let through where any certificate will do. */
  tlspair_end(&pair);
  tlspair_begin(&pair, server, client, &(struct tls_expect){.policy = TLS_ANY, .host = name, .names = &name, .name_count = 1}, NULL);
  tlspair_run(&pair);
  ck_assert_msg(tlspair_open(&pair), "%s", tls_error(pair.client.tls));
  ck_assert_int_eq(tls_trust(pair.client.tls).by, TLS_UNTRUSTED);
  ck_assert_str_eq(tls_trust(pair.client.tls).text, expected + strlen("certificate: "));
  talk(&pair);
  tlspair_end(&pair);
  tls_server_put(server);
  tls_client_put(client);
}

START_TEST(an_unknown_authority_is_refused) { refused("ec", "other-ca", mx, "certificate: unable to get local issuer certificate"); }
END_TEST
START_TEST(an_unknown_authority_is_refused_for_rsa) { refused("rsa", "other-ca", mx, "certificate: unable to get local issuer certificate"); }
END_TEST
START_TEST(a_wrong_name_is_refused) { refused("ec", "ca", SPAN("mail.example.org"), "certificate: hostname mismatch"); }
END_TEST
START_TEST(two_labels_are_no_wildcard) { refused("ec", "ca", SPAN("a.b.wild.example"), "certificate: hostname mismatch"); }
END_TEST
START_TEST(an_expired_certificate_is_refused) { refused("expired", "ca", mx, "certificate: certificate has expired"); }
END_TEST
START_TEST(a_self_signed_certificate_is_refused) { refused("self", "ca", SPAN("self.example"), "certificate: self-signed certificate"); }
END_TEST

/* ---- TLS 1.2, versions, suites ---- */

static struct tls_client *client_12(void) { return client_of(&(struct tls_client_config){.ca = PEM("ca"), .most = TLS_MOST_1_2}); }

static const struct {
  const char *certificate, *cipher;
  size_t cut;
} older[] = {{"ec", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", 0},
             {"ec", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", 1},
             {"rsa", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", 3}};

START_TEST(tls_1_2_is_spoken_where_1_3_is_not) {
  struct tlspair pair;
  struct tls_server *server = server_with(older[_i].certificate, TLS_LEAST_1_2);
  struct tls_client *client = client_12();
  tlspair_begin(&pair, server, client, &verify_mx, NULL);
  pair.cut = older[_i].cut;
  tlspair_run(&pair);
  ck_assert_msg(tlspair_open(&pair), "client: %s; server: %s", tls_error(pair.client.tls), tls_error(pair.server.tls));
  ck_assert_str_eq(tls_version(pair.server.tls), "TLSv1.2");
  ck_assert_str_eq(tls_cipher(pair.client.tls), older[_i].cipher);
  ck_assert_int_eq(tls_trust(pair.client.tls).by, TLS_TRUSTED);
  talk(&pair);
  tlspair_end(&pair);
  tls_server_put(server);
  tls_client_put(client);
}
END_TEST

START_TEST(a_server_for_1_3_alone_refuses_1_2) {
  struct tlspair pair;
  struct tls_server *server = server_with("ec", TLS_LEAST_1_3);
  struct tls_client *client = client_12(), *newer = client_with("ca");
  tlspair_begin(&pair, server, client, &verify_mx, NULL);
  tlspair_run(&pair);
  ck_assert_str_eq(tls_error(pair.server.tls), "no shared protocol version");
  ck_assert_str_eq(tls_error(pair.client.tls), "peer sent alert: protocol version");
  tlspair_end(&pair);
  tlspair_begin(&pair, server, newer, &verify_mx, NULL);
  tlspair_run(&pair);
  ck_assert(tlspair_open(&pair));
  tlspair_end(&pair);
  tls_client_put(newer);
  tls_server_put(server);
  tls_client_put(client);
}
END_TEST

START_TEST(x25519_is_spoken_too) {
  struct tlspair pair;
  struct tls_server *server = server_with("ec", TLS_LEAST_1_2);
  for (unsigned i = 0; i < 2; i++) {
    struct tls_client *client = client_of(&(struct tls_client_config){.ca = PEM("ca"), .x25519 = true, .most = i == 0 ? TLS_MOST_1_3 : TLS_MOST_1_2});
    tlspair_begin(&pair, server, client, &verify_mx, NULL);
    tlspair_run(&pair);
    ck_assert_msg(tlspair_open(&pair), "client: %s; server: %s", tls_error(pair.client.tls), tls_error(pair.server.tls));
    talk(&pair);
    tlspair_end(&pair);
    tls_client_put(client);
  }
  tls_server_put(server);
}
END_TEST

/* ---- which certificate ---- */

static const struct {
  const char *host, *expected;
} hosts[] = {{"mx.example.org", "a"}, {"MX.Example.ORG", "a"},          {"one.wild.example", "a"},
             {"p384.example", "p"},   {"self.example", "self.example"}, {"a.b.wild.example", "a"},
             {"wild.example", "a"},   {"unknown.example", "a"},         {"", "a"},
             {"mx.example.org.", "a"}};

static struct tls_server *server_of_four(void) {
  struct tls_files files[] = {FILES("rsa"), FILES("ec"), FILES("p384"), FILES("self")};
  return server_of(&(struct tls_server_config){.certificates = files, .certificate_count = 4});
}

START_TEST(the_certificate_is_that_of_the_host) {
  struct tlspair pair;
  struct tls_server *server = server_of_four();
  struct tls_client *client = client_with("ca");
  tlspair_begin(&pair, server, client, &(struct tls_expect){.host = span_of_text(hosts[_i].host)}, NULL);
  tlspair_run(&pair);
  ck_assert(tlspair_open(&pair));
  ck_assert_str_eq(tls_peer_name(pair.client.tls), hosts[_i].expected);
  tlspair_end(&pair);
  tls_server_put(server);
  tls_client_put(client);
}
END_TEST

START_TEST(a_client_without_ecdsa_gets_the_rsa_certificate) {
  struct tls_server *server = server_of_four();
  struct hello hello = {.host = mx, .tls12 = true, .suites_rsa = true, .suites_ecdsa = true, .rsa_pkcs1 = true, .curve_p256 = true};
  struct tls_choice rsa, ec, other;
  ck_assert(tls_server_choose(server, &hello, &rsa));
  hello.p256 = true;
  ck_assert(tls_server_choose(server, &hello, &ec) && ec.ctx != rsa.ctx && ec.key != rsa.key);
  hello.p256 = false;
  hello.host = SPAN("p384.example"); /* its certificate is none for this client: that of the first */
  ck_assert(tls_server_choose(server, &hello, &other) && other.ctx == rsa.ctx);
  hello.rsa_pkcs1 = false;
  ck_assert(!tls_server_choose(server, &hello, &other));
  tls_server_put(server);
}
END_TEST

/* ---- resumption ---- */

static struct tls_server *server_with_tickets(struct tls_tickets *tickets, const char *client_ca) {
  struct tls_files files = FILES("ec");
  return server_of(&(struct tls_server_config){.certificates = &files, .certificate_count = 1, .tickets = tickets, .client_ca = client_ca});
}

static struct tls_session *session_from(struct tls_server *server, struct tls_client *client, const struct tls_expect *expect) {
  struct tlspair pair;
  tlspair_begin(&pair, server, client, expect, NULL);
  ck_assert_ptr_null(tls_session_take(pair.client.tls));
  tlspair_run(&pair);
  ck_assert(tlspair_open(&pair));
  struct tls_session *session = tls_session_take(pair.client.tls);
  tlspair_end(&pair);
  return session;
}

/* Whether it was resumed; the connection must come about in any case. */
static bool resumes(struct tls_server *server, struct tls_client *client, const struct tls_expect *expect, struct tls_session *session) {
  struct tlspair pair;
  tlspair_begin(&pair, server, client, expect, session);
  tlspair_run(&pair);
  ck_assert_msg(tlspair_open(&pair), "client: %s; server: %s", tls_error(pair.client.tls), tls_error(pair.server.tls));
  bool resumed = tls_resumed(pair.client.tls);
  ck_assert_int_eq(tls_resumed(pair.server.tls), resumed);
  ck_assert_int_eq(tls_trust(pair.client.tls).by, TLS_TRUSTED);
  ck_assert_str_eq(tls_peer_name(pair.client.tls), "a");
  talk(&pair);
  tlspair_end(&pair);
  return resumed;
}

START_TEST(a_session_is_resumed_also_after_a_reload) {
  struct tls_tickets *tickets = tls_tickets_new(3600);
  struct tls_server *server = server_with_tickets(tickets, NULL);
  struct tls_client *client = client_with("ca");
  struct tls_session *session = session_from(server, client, &verify_mx);
  ck_assert_ptr_nonnull(session);
  ck_assert_uint_lt(tls_session_bytes(session), 1024);
  if (_i == 1) {
    tls_server_put(server);
    server = server_with_tickets(tickets, NULL);
  }
  for (unsigned i = 0; i < 3; i++) ck_assert(resumes(server, client, &verify_mx, session));
  tls_session_free(session);
  tls_server_put(server);
  tls_client_put(client);
  tls_tickets_put(tickets);
}
END_TEST

START_TEST(a_session_is_not_resumed_where_it_must_not_be) {
  struct tls_tickets *tickets = tls_tickets_new(3600), *others = tls_tickets_new(3600);
  struct tls_server *server = server_with_tickets(tickets, NULL), *other = server_with_tickets(others, NULL),
                    *asks = server_with_tickets(tickets, PEM("ca"));
  struct tls_client *client = client_with("ca"), *second = client_with("ca"), *old = client_12();
  struct tls_expect any = {.policy = TLS_ANY, .host = mx}, elsewhere = verify_mx;
  struct span names[] = {mx, SPAN("b.example")};
  elsewhere.names = names, elsewhere.name_count = 2;
  struct tls_session *session = session_from(server, client, &verify_mx);
  ck_assert(!resumes(other, client, &verify_mx, session));  /* other keys */
  ck_assert(!resumes(asks, client, &verify_mx, session));   /* whose certificate is it that a ticket stands for? */
  ck_assert(!resumes(server, client, &elsewhere, session)); /* other expectations */
  ck_assert(!resumes(server, second, &verify_mx, session)); /* other authorities, maybe */
  ck_assert(resumes(server, client, &verify_mx, session));
  struct tls_session *unverified = session_from(server, client, &any);
  ck_assert(resumes(server, client, &any, unverified));
  ck_assert(!resumes(server, client, &verify_mx, unverified)); /* else what nobody has looked at would be verified */
  ck_assert_ptr_null(session_from(asks, client, &verify_mx));
  ck_assert_ptr_null(session_from(server, old, &verify_mx)); /* TLS 1.2 */
  tls_session_free(session);
  tls_session_free(unverified);
  tls_client_put(client);
  tls_client_put(second);
  tls_client_put(old);
  tls_server_put(server);
  tls_server_put(other);
  tls_server_put(asks);
  tls_tickets_put(tickets);
  tls_tickets_put(others);
}
END_TEST

START_TEST(a_server_without_ticket_keys_gives_no_tickets) {
  struct tls_server *server = server_with("ec", TLS_LEAST_1_2);
  struct tls_client *client = client_with("ca"), *older_client = client_12();
  ck_assert_ptr_null(session_from(server, client, &verify_mx));
  ck_assert_ptr_null(session_from(server, older_client, &verify_mx));
  tls_server_put(server);
  tls_client_put(client);
  tls_client_put(older_client);
}
END_TEST

START_TEST(an_old_server_serves_its_connections_after_a_reload) {
  struct tlspair pair;
  struct tls_server *server = server_with("ec", TLS_LEAST_1_2);
  struct tls_client *client = client_with("ca");
  tlspair_begin(&pair, server, client, &verify_mx, NULL);
  tls_server_put(server);
  tls_client_put(client);
  tlspair_run(&pair);
  ck_assert(tlspair_open(&pair));
  talk(&pair);
  tlspair_end(&pair);
}
END_TEST

/* ---- certificates of clients ---- */

static const struct {
  const char *certificate, *ca, *name, *text;
  enum tls_most most;
} shown[] = {{"me", "ca", "The Client", "", TLS_MOST_1_3},
             {"me", "ca", "The Client", "", TLS_MOST_1_2},
             {"me-rsa", "ca", "The RSA Client", "", TLS_MOST_1_3},
             {"me-rsa", "ca", "The RSA Client", "", TLS_MOST_1_2},
             {"me", "other-ca", "The Client", "unable to get local issuer certificate", TLS_MOST_1_3},
             {NULL, "ca", "", "no certificate", TLS_MOST_1_3},
             {NULL, "ca", "", "no certificate", TLS_MOST_1_2}};

START_TEST(a_client_is_asked_for_its_certificate_and_let_in_without) {
  struct tlspair pair;
  struct tls_files mine = FILES(shown[_i].certificate == NULL ? "me" : shown[_i].certificate);
  struct tls_server *server = server_with_tickets(NULL, PEM(shown[_i].ca));
  struct tls_client *client =
      client_of(&(struct tls_client_config){.ca = PEM("ca"), .most = shown[_i].most, .certificate = shown[_i].certificate == NULL ? NULL : &mine});
  tlspair_begin(&pair, server, client, &verify_mx, NULL);
  pair.cut = 5;
  tlspair_run(&pair);
  ck_assert_msg(tlspair_open(&pair), "client: %s; server: %s", tls_error(pair.client.tls), tls_error(pair.server.tls));
  ck_assert_str_eq(tls_peer_name(pair.server.tls), shown[_i].name);
  ck_assert_str_eq(tls_trust(pair.server.tls).text, shown[_i].text);
  ck_assert_int_eq(tls_trust(pair.server.tls).by, shown[_i].text[0] == '\0' ? TLS_TRUSTED : TLS_UNTRUSTED);
  talk(&pair);
  tlspair_end(&pair);
  tls_server_put(server);
  tls_client_put(client);
}
END_TEST

/* ---- DANE ---- */

static void dane(const char *certificate, const struct tls_tlsa *tlsa, unsigned count, enum tls_trust_by by, const char *text) {
  struct tlspair pair;
  struct tls_server *server = server_with(certificate, TLS_LEAST_1_2);
  struct tls_client *client = client_with("other-ca");
  tlspair_begin(&pair, server, client,
                &(struct tls_expect){.policy = TLS_DANE, .host = mx, .names = &mx, .name_count = 1, .tlsa = tlsa, .tlsa_count = count}, NULL);
  tlspair_run(&pair);
  ck_assert_int_eq(tls_trust(pair.client.tls).by, by);
  ck_assert_str_eq(tls_trust(pair.client.tls).text, text);
  ck_assert_int_eq(tls_state(pair.client.tls) == TLS_OPEN, tls_trust(pair.client.tls).accepted);
  ck_assert_int_eq(tls_state(pair.server.tls) == TLS_OPEN, tls_trust(pair.client.tls).accepted);
  tlspair_end(&pair);
  tls_server_put(server);
  tls_client_put(client);
}

START_TEST(dane_decides) {
  size_t len, wrong_len;
  uint8_t *der = certs_der(dir, "ec", false, &len), *wrong = certs_der(dir, "self", false, &wrong_len);
  size_t middle_len;
  uint8_t *middle = certs_der(dir, "middle", true, &middle_len);
  struct tls_tlsa right = {3, 0, 0, span_of(der, len)}, other = {3, 0, 0, span_of(wrong, wrong_len)},
                  authority = {2, 1, 0, span_of(middle, middle_len)};
  dane("ec", &right, 1, TLS_TRUSTED_EE, "");
  dane("ec", (struct tls_tlsa[]){other, right}, 2, TLS_TRUSTED_EE, "");
  dane("ec", &other, 1, TLS_UNTRUSTED, "no TLSA record matches");
  dane("ec", &authority, 1, TLS_TRUSTED_TA, "");
  dane("rsa", &authority, 1, TLS_UNTRUSTED, "no TLSA record matches");
  struct tls_tlsa unusable[] = {{0, 0, 1, span_of(der, 32)},
                                {1, 1, 1, span_of(der, 32)},
                                {3, 2, 1, span_of(der, 32)},
                                {3, 1, 1, span_of(der, 31)},
                                {3, 1, 9, span_of(der, 32)}};
  dane("ec", unusable, 5, TLS_UNTRUSTED, "no TLSA record is usable"); /* encrypted all the same: RFC 7672 section 2.2 */
  dane("ec", NULL, 0, TLS_UNTRUSTED, "no TLSA record is usable");
  free(der);
  free(wrong);
  free(middle);
}
END_TEST

#define LOOP(tcase, test, table) tcase_add_loop_test(tcase, test, 0, sizeof(table) / sizeof *(table))

int main(void) {
  uint8_t room[256];
  struct fmt why = fmt_over(room, sizeof room);
  if (tls_init(TLS_LIBCRYPTO, &why) != E_OK) return 1;
  make_certificates();
  TCase *shake = tcase_create("handshakes");
  tcase_set_timeout(shake, 30);
  LOOP(shake, a_verified_handshake_and_a_talk, shakes);
  tcase_add_test(shake, an_unknown_authority_is_refused);
  tcase_add_test(shake, an_unknown_authority_is_refused_for_rsa);
  tcase_add_test(shake, a_wrong_name_is_refused);
  tcase_add_test(shake, two_labels_are_no_wildcard);
  tcase_add_test(shake, an_expired_certificate_is_refused);
  tcase_add_test(shake, a_self_signed_certificate_is_refused);
  LOOP(shake, tls_1_2_is_spoken_where_1_3_is_not, older);
  tcase_add_test(shake, a_server_for_1_3_alone_refuses_1_2);
  tcase_add_test(shake, x25519_is_spoken_too);
  LOOP(shake, the_certificate_is_that_of_the_host, hosts);
  tcase_add_test(shake, a_client_without_ecdsa_gets_the_rsa_certificate);
  tcase_add_loop_test(shake, a_session_is_resumed_also_after_a_reload, 0, 2);
  tcase_add_test(shake, a_session_is_not_resumed_where_it_must_not_be);
  tcase_add_test(shake, a_server_without_ticket_keys_gives_no_tickets);
  tcase_add_test(shake, an_old_server_serves_its_connections_after_a_reload);
  LOOP(shake, a_client_is_asked_for_its_certificate_and_let_in_without, shown);
  tcase_add_test(shake, dane_decides);
  int failed = unit_main("net/tls/tls", (TCase *const[]){shake}, 1);
  certs_end(dir);
  return failed;
}
