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

int main(void) {
  uint8_t room[256];
  struct fmt why = fmt_over(room, sizeof room);
  if (tls_init(TLS_LIBCRYPTO, &why) != E_OK) return 1;
  make_certificates();
  TCase *shake = tcase_create("handshakes");
  tcase_add_loop_test(shake, a_verified_handshake_and_a_talk, 0, sizeof shakes / sizeof *shakes);
  tcase_add_test(shake, an_unknown_authority_is_refused);
  tcase_add_test(shake, an_unknown_authority_is_refused_for_rsa);
  tcase_add_test(shake, a_wrong_name_is_refused);
  tcase_add_test(shake, two_labels_are_no_wildcard);
  tcase_add_test(shake, an_expired_certificate_is_refused);
  tcase_add_test(shake, a_self_signed_certificate_is_refused);
  int failed = unit_main("net/tls/tls", (TCase *const[]){shake}, 1);
  certs_end(dir);
  return failed;
}
