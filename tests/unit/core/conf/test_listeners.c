#include "core/conf/conf.h"
#include "tests/lib/unit.h"

#include <stdlib.h>

#include "core/base/error.h"
#include "core/conf/system.h"
#include "tests/lib/conf_sound.h"

static char why_room[512];

static int parse(struct conf *conf, const char *text) {
  struct conf_system system = {.hostname = "host.example.com", .cores = 2, .memory_bytes = (uint64_t)8 << 30};
  struct fmt why = fmt_over(why_room, sizeof why_room - 1);
  int error = conf_parse_on(conf, &system, span_of_text(text), "c.yaml", &why);
  why_room[why.len] = '\0';
  return error;
}

static struct conf conf_of(const char *text) {
  struct conf conf;
  ck_assert_msg(parse(&conf, text) == E_OK, "refused: %s", why_room);
  ck_assert_msg(conf_unsound(&conf) == NULL, "%s", conf_unsound(&conf));
  return conf;
}

#define TLS "tls: {certificates: [{cert: c.pem, key: k.pem}]}\n"
#define USERS "users: /etc/ringpost/users\n"
#define PORTS "listeners: [{port: 25}, {port: 465}, {port: 587}, {port: 2525}]\n"

static void check_listener(const struct conf *conf, unsigned index, enum conf_tls tls, enum conf_auth auth, bool submission) {
  ck_assert_int_eq(conf->listeners[index].tls, tls);
  ck_assert_int_eq(conf->listeners[index].auth, auth);
  ck_assert_int_eq(conf->listeners[index].submission, submission);
}

START_TEST(what_ports_are_for) {
  struct conf conf = conf_of(PORTS);
  for (unsigned i = 0; i < 4; i++) check_listener(&conf, i, CONF_TLS_NONE, CONF_AUTH_OFF, i == 1 || i == 2);
  conf_free(&conf);
  conf = conf_of(PORTS TLS);
  for (unsigned i = 0; i < 4; i++) check_listener(&conf, i, i == 1 ? CONF_TLS_IMPLICIT : CONF_TLS_STARTTLS, CONF_AUTH_OFF, i == 1 || i == 2);
  conf_free(&conf);
  conf = conf_of(PORTS USERS); /* nobody's password is asked for in the clear */
  for (unsigned i = 0; i < 4; i++) check_listener(&conf, i, CONF_TLS_NONE, CONF_AUTH_OFF, i == 1 || i == 2);
  conf_free(&conf);
  conf = conf_of(PORTS USERS TLS);
  check_listener(&conf, 0, CONF_TLS_STARTTLS, CONF_AUTH_OPTIONAL, false);
  check_listener(&conf, 1, CONF_TLS_IMPLICIT, CONF_AUTH_REQUIRED, true);
  check_listener(&conf, 2, CONF_TLS_STARTTLS, CONF_AUTH_REQUIRED, true);
  check_listener(&conf, 3, CONF_TLS_STARTTLS, CONF_AUTH_OPTIONAL, false);
  conf_free(&conf);
}
END_TEST

START_TEST(what_is_said_counts) {
  struct conf conf =
      conf_of("tls: {certificates: [{cert: a, key: b}, {cert: /c, key: /d}], client_ca: ca.pem, handshake_timeout: 5s}\n" USERS "listeners:\n"
              "  - {port: 465, tls: none, auth: off, submission: no}\n"
              "  - {port: 587, tls: implicit, auth: optional, client_certificates: required}\n"
              "  - {port: 25, tls: none, auth: required, auth_in_clear: yes, submission: true, proxy_from: [10.0.0.0/8, \"2001:db8::1\"]}\n"
              "  - {port: 26, client_certificates: optional}\n"
              "clients: {sessions: 7, connections: 8, messages: 9, recipients: 10, errors: 11, greeting_delay: 2s, error_delay: 300ms}\n");
  check_listener(&conf, 0, CONF_TLS_NONE, CONF_AUTH_OFF, false);
  check_listener(&conf, 1, CONF_TLS_IMPLICIT, CONF_AUTH_OPTIONAL, true);
  check_listener(&conf, 2, CONF_TLS_NONE, CONF_AUTH_REQUIRED, true);
  ck_assert_int_eq(conf.listeners[0].client_certificates, CONF_CLIENTS_UNASKED);
  ck_assert_int_eq(conf.listeners[1].client_certificates, CONF_CLIENTS_REQUIRED);
  ck_assert_int_eq(conf.listeners[3].client_certificates, CONF_CLIENTS_ASKED);
  ck_assert(conf.listeners[2].auth_in_clear && !conf.listeners[1].auth_in_clear);
  ck_assert_uint_eq(conf.listeners[2].proxy_from_count, 2);
  ck_assert_uint_eq(conf.listeners[2].proxy_from[0].prefix_bits, 8);
  ck_assert_uint_eq(conf.listeners[1].proxy_from_count, 0);
  ck_assert_uint_eq(conf.certificates_count, 2);
  ck_assert_str_eq(conf.certificates[0].cert, "a");
  ck_assert_str_eq(conf.certificates[1].key, "/d");
  ck_assert_str_eq(conf.client_ca, "ca.pem");
  ck_assert_str_eq(conf.users_path, "/etc/ringpost/users");
  ck_assert_uint_eq(conf.tls_handshake_ms, 5000);
  ck_assert_uint_eq(conf.clients.sessions, 7);
  ck_assert_uint_eq(conf.clients.connections, 8);
  ck_assert_uint_eq(conf.clients.messages, 9);
  ck_assert_uint_eq(conf.clients.recipients, 10);
  ck_assert_uint_eq(conf.clients.errors, 11);
  ck_assert_uint_eq(conf.greeting_delay_ms, 2000);
  ck_assert_uint_eq(conf.error_delay_ms, 300);
  conf_free(&conf);
}
END_TEST

START_TEST(what_cannot_be) {
  static const char *const wrong[][2] = {
      {"listeners: [{tls: starttls}]\n", "c.yaml:1: listeners[0].tls: starttls needs a certificate; add tls.certificates: [{cert: .., key: ..}]"},
      {"listeners: [{tls: ssl}]\n", "c.yaml:1: listeners[0].tls: 'ssl' must be none, starttls or implicit"},
      {TLS "listeners:\n  - {auth: required}\n", "c.yaml:3: listeners[0].auth: required needs users; add a line like `users: /etc/ringpost/users`"},
      {USERS "listeners: [{auth: optional}]\n", "c.yaml:2: listeners[0].auth: optional without TLS would let passwords travel in the clear; give the "
                                                "listener tls, or say auth_in_clear: true"},
      {USERS TLS "listeners: [{auth: optional, tls: none}]\n", "c.yaml:3: listeners[0].auth: optional without TLS would let passwords travel in the "
                                                               "clear; give the listener tls, or say auth_in_clear: true"},
      {TLS "listeners: [{client_certificates: required}]\n",
       "c.yaml:2: listeners[0].client_certificates: required needs tls.client_ca, the authorities whose certificates count"},
      {"listeners: [{client_certificates: optional}]\n", "c.yaml:1: listeners[0].client_certificates: optional needs TLS; this listener has none"},
      {"listeners: [{submission: maybe}]\n", "c.yaml:1: listeners[0].submission: 'maybe' is neither true nor false"},
      {"listeners: [{proxy_from: [10.0.0.1/8]}]\n", "c.yaml:1: listeners[0].proxy_from[0]: '10.0.0.1/8' has a prefix that is too long, or bits set "
                                                    "behind its prefix (10.0.0.0/8 is right, 10.0.0.1/8 is "
                                                    "not)"},
      {"tls: {certificates: [{cert: a}]}\nlisteners: [{port: 25}]\n",
       "c.yaml:1: tls.certificates[0]: has no key; it needs both files (like {cert: /etc/ringpost/cert.pem, key: /etc/ringpost/key.pem})"},
      {"tls: {certificates: [{cert: \"\", key: a}]}\nlisteners: [{port: 25}]\n",
       "c.yaml:1: tls.certificates[0].cert: is empty; it must name a file or a directory"},
      {"clients: {sessions: many}\nlisteners: [{port: 25}]\n", "c.yaml:1: clients.sessions: 'many' is no whole number; it may be 0 to 1000000"},
  };
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    struct conf conf;
    ck_assert_int_ne(parse(&conf, wrong[i][0]), E_OK);
    ck_assert_str_eq(why_room, wrong[i][1]);
  }
}
END_TEST

int main(void) {
  TCase *tc = tcase_create("listeners");
  tcase_add_test(tc, what_ports_are_for);
  tcase_add_test(tc, what_is_said_counts);
  tcase_add_test(tc, what_cannot_be);
  return unit_main("core/conf/listeners", &tc, 1);
}
