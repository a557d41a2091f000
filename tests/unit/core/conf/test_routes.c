/* What routes and the TLS of deliveries may say. */
#include "core/conf/routes.h"

#include "core/conf/change.h"
#include "tests/unit/core/conf/reading.c"

#define PASSWORD "user: bob, password_file: pw"

static struct conf routes_of(const char *routes) {
  char text[4096];
  snprintf(text, sizeof text, LISTENERS "%s", routes);
  return conf_of(text);
}

START_TEST(every_key_is_taken_over) {
  struct conf conf = routes_of("tls: {ca: /ca.pem}\n"
                               "delivery: {tls: require}\n"
                               "sites: [{match: [a.b], tls: none}, {match: [c.d], tls: verify}, {match: [e.f]}]\n"
                               "routes:\n"
                               " - {domain: A.example, action: deliver, hosts: [192.0.2.1], tls: implicit, tls_name: Smtp.Example, " PASSWORD "}\n"
                               " - {domain: b.example, action: discard}\n"
                               " - {domain: \"*\", action: reject}\n");
  const struct conf_route *route = &conf.routes[0];
  ck_assert_str_eq(conf.tls_ca, "/ca.pem");
  ck_assert_int_eq(conf.delivery_tls, CONF_SECURITY_REQUIRE);
  ck_assert_int_eq(conf.sites[0].tls, CONF_SECURITY_NONE);
  ck_assert_int_eq(conf.sites[1].tls, CONF_SECURITY_VERIFY);
  ck_assert_int_eq(conf.sites[2].tls, CONF_SECURITY_REQUIRE);
  ck_assert_int_eq(route->action, CONF_DELIVER);
  ck_assert_int_eq(route->tls, CONF_SECURITY_IMPLICIT);
  ck_assert_str_eq(route->tls_name, "smtp.example");
  ck_assert_str_eq(route->user, "bob");
  ck_assert_str_eq(route->password_file, "pw");
  ck_assert_int_eq(conf.routes[1].action, CONF_DISCARD);
  ck_assert_uint_eq(conf.routes[1].hosts_count, 0);
  ck_assert_ptr_eq(routes_find(&conf, SPAN("a.example")), route);
  ck_assert_ptr_eq(routes_find(&conf, SPAN("c.example")), &conf.routes[2]);
  ck_assert(!routes_reject(&conf, SPAN("A.EXAMPLE")) && !routes_reject(&conf, SPAN("B.example")) && routes_reject(&conf, SPAN("c.example")));
  conf_free(&conf);
  conf_free(&conf); /* again: no harm */
}
END_TEST

START_TEST(what_is_missing) {
  struct conf conf = routes_of("routes: [{domain: a.b, hosts: [192.0.2.1]}, {domain: c.d, hosts: [192.0.2.1], " PASSWORD "}]\n");
  ck_assert_ptr_null(conf.tls_ca);
  ck_assert_int_eq(conf.delivery_tls, CONF_SECURITY_OPPORTUNISTIC);
  ck_assert_int_eq(conf.routes[0].tls, CONF_SECURITY_OPPORTUNISTIC);
  ck_assert_int_eq(conf.routes[1].tls, CONF_SECURITY_REQUIRE); /* a password is not for whoever listens */
  ck_assert_ptr_null(routes_find(&conf, SPAN("e.f")));
  ck_assert(!routes_reject(&conf, SPAN("e.f")));
  conf_free(&conf);
  conf = routes_of("delivery: {tls: none}\nroutes: [{domain: a.b, hosts: [192.0.2.1]}, {domain: c.d, hosts: [192.0.2.1], " PASSWORD "},\n"
                   " {domain: e.f, hosts: [192.0.2.1], tls: none, " PASSWORD "}]\n");
  ck_assert_int_eq(conf.routes[0].tls, CONF_SECURITY_NONE);
  ck_assert_int_eq(conf.routes[1].tls, CONF_SECURITY_REQUIRE);
  ck_assert_int_eq(conf.routes[2].tls, CONF_SECURITY_NONE); /* it says so */
  conf_free(&conf);
}
END_TEST

static const struct {
  const char *text;
  int error;
  const char *why;
} refusals[] = {
    {"delivery: {tls: implicit}\n", E_SYNTAX, "c.yaml:2: delivery.tls: 'implicit' must be none, opportunistic, require or verify"},
    {"sites: [{match: [a.b], tls: on}]\n", E_SYNTAX, "c.yaml:2: sites[0].tls: 'on' must be none, opportunistic, require or verify"},
    {"tls: {ca: \"\"}\n", E_SYNTAX, "c.yaml:2: tls.ca: is empty; it must name a file or a directory"},
    {"routes: [{domain: a.b, hosts: [192.0.2.1], tls: yes}]\n", E_SYNTAX,
     "c.yaml:2: routes[0].tls: 'yes' must be none, opportunistic, require, verify or implicit"},
    {"routes: [{domain: a.b, action: drop}]\n", E_SYNTAX, "c.yaml:2: routes[0].action: 'drop' must be deliver, discard or reject"},
    {"routes: [{domain: a.b, action: discard, hosts: [192.0.2.1]}]\n", E_SYNTAX,
     "c.yaml:2: routes[0].action: 'discard' connects to nobody: hosts, tls, tls_name and user have no use beside it"},
    {"routes: [{domain: a.b, action: reject, tls: none}]\n", E_SYNTAX,
     "c.yaml:2: routes[0].action: 'reject' connects to nobody: hosts, tls, tls_name and user have no use beside it"},
    {"routes: [{domain: a.b, hosts: [192.0.2.1], user: bob}]\n", E_SYNTAX,
     "c.yaml:2: routes[0]: has a user, but no password_file; both are needed for AUTH"},
    {"routes: [{domain: a.b, hosts: [192.0.2.1], password_file: bob}]\n", E_SYNTAX,
     "c.yaml:2: routes[0]: has a password_file, but no user; both are needed for AUTH"},
    {"routes: [{domain: a.b, hosts: [192.0.2.1], user: \"\", password_file: a}]\n", E_RANGE,
     "c.yaml:2: routes[0].user: has 0 bytes; it may have 1 to 255"},
    {"routes: [{domain: a.b, hosts: [192.0.2.1], tls: opportunistic, " PASSWORD "}]\n", E_SYNTAX,
     "c.yaml:2: routes[0].tls: opportunistic TLS does not keep the password; say require, verify or implicit, or none"},
    {"routes: [{domain: a.b, hosts: [192.0.2.1], tls: verify}]\n", E_SYNTAX,
     "c.yaml:2: routes[0].tls: verify needs tls_name, the name the hosts' certificates are for (like smtp.example.net)"},
    {"routes: [{domain: a.b, hosts: [192.0.2.1], tls: require, tls_name: a.b}]\n", E_SYNTAX,
     "c.yaml:2: routes[0].tls: tls_name is for verify and implicit, where it is verified; say one of these, or leave it out"},
    {"routes: [{domain: a.b, hosts: [192.0.2.1], tls: verify, tls_name: 192.0.2.1}]\n", E_SYNTAX,
     "c.yaml:2: routes[0].tls_name: '192.0.2.1' is no host name (like smtp.example.net)"},
};

START_TEST(what_is_refused_and_how_it_is_said) {
  struct conf conf;
  char text[1024];
  snprintf(text, sizeof text, LISTENERS "%s", refusals[_i].text);
  ck_assert_int_eq(parse(&conf, span_of_text(text)), refusals[_i].error);
  ck_assert_str_eq(why_room, refusals[_i].why);
}
END_TEST

/* ---- passwords ---- */

static char password_path[] = "/tmp/ringpost-test-XXXXXX", conf_path[] = "/tmp/ringpost-test-XXXXXX";

static void make_file(char *path, const char *bytes, size_t len, unsigned mode) {
  if (strstr(path, "XXXXXX") != NULL) close(mkstemp(path));
  FILE *file = fopen(path, "w");
  ck_assert(file != NULL && fwrite(bytes, 1, len, file) == len && fclose(file) == 0 && chmod(path, mode) == 0);
}

static int read_with(const char *password, size_t len, unsigned mode, struct conf *conf) {
  char text[1024];
  make_file(password_path, password, len, mode);
  snprintf(text, sizeof text, "hostname: a.b\n" LISTENERS "routes:\n - {domain: a.b, hosts: [192.0.2.1], user: bob, password_file: %s}\n",
           password_path);
  make_file(conf_path, text, strlen(text), 0600);
  struct fmt why = fmt_over(why_room, sizeof why_room - 1);
  int error = conf_read(conf, conf_path, &why);
  why_room[why.len] = '\0';
  return error;
}

static void check_password(const char *bytes, const char *password) {
  struct conf conf;
  ck_assert_msg(read_with(bytes, strlen(bytes), 0640, &conf) == E_OK, "%s", why_room);
  ck_assert_str_eq(conf.routes[0].password, password);
  conf_free(&conf);
}

static void check_no_password(const char *bytes, size_t len, unsigned mode, int error, const char *what) {
  struct conf conf;
  char expected[512];
  ck_assert_int_eq(read_with(bytes, len, mode, &conf), error);
  snprintf(expected, sizeof expected, "%s:4: routes[0].password_file: %s: %s", conf_path, password_path, what);
  ck_assert_str_eq(why_room, expected);
}

START_TEST(passwords) {
  static char long_text[256];
  memset(long_text, 'x', sizeof long_text);
  check_password("secret", "secret");
  check_password("a b\tc \r\nnot this\n", "a b\tc ");
  check_password("\xc3\xa9\n", "\xc3\xa9");
  check_no_password("secret\n", 7, 0644, E_PERMISSION, "others may read or write it; make it 0640 or 0600");
  check_no_password("secret\n", 7, 0660, E_PERMISSION, "others may read or write it; make it 0640 or 0600");
  check_no_password("\nsecret\n", 8, 0600, E_RANGE, "its first line is no password: 1 to 255 bytes, and no NUL");
  check_no_password("a\0b", 3, 0600, E_RANGE, "its first line is no password: 1 to 255 bytes, and no NUL");
  check_no_password(long_text, 256, 0600, E_RANGE, "its first line is no password: 1 to 255 bytes, and no NUL");
  unlink(password_path);
  unlink(conf_path);
}
END_TEST

START_TEST(a_password_file_that_is_not_there) {
  struct conf conf;
  static const char text[] = "hostname: a.b\n" LISTENERS "routes: [{domain: a.b, hosts: [192.0.2.1], user: bob, password_file: /nowhere/at/all}]\n";
  make_file(conf_path, text, sizeof text - 1, 0600);
  struct fmt why = fmt_over(why_room, sizeof why_room - 1);
  ck_assert_int_eq(conf_read(&conf, conf_path, &why), E_NOT_FOUND);
  why_room[why.len] = '\0';
  ck_assert_ptr_nonnull(strstr(why_room, ":3: routes[0].password_file: /nowhere/at/all: "));
  unlink(conf_path);
}
END_TEST

/* ---- changes ---- */

START_TEST(what_is_another_route) {
  static const char first[] = "routes: [{domain: a.b, hosts: [192.0.2.1], tls: verify, tls_name: a.c, " PASSWORD "}]\n";
  static const char *const others[] = {
      "routes: [{domain: a.b, hosts: [192.0.2.1], tls: verify, tls_name: a.d, " PASSWORD "}]\n",
      "routes: [{domain: a.b, hosts: [192.0.2.1], tls: implicit, tls_name: a.c, " PASSWORD "}]\n",
      "routes: [{domain: a.b, hosts: [192.0.2.1], tls: verify, tls_name: a.c, user: eve, password_file: pw}]\n",
      "routes: [{domain: a.b, hosts: [192.0.2.1], tls: verify, tls_name: a.c}]\n",
      "routes: [{domain: a.b, hosts: [192.0.2.2], tls: verify, tls_name: a.c, " PASSWORD "}]\n",
      "routes: [{domain: a.b, action: discard}]\n",
  };
  struct conf one = routes_of(first), same = routes_of(first), other = routes_of(others[_i]);
  ck_assert(conf_same_routes(&one, &same) && !conf_same_routes(&one, &other) && !conf_same_routes(&other, &one));
  one.routes[0].password = strdup("a");
  same.routes[0].password = strdup("b");
  ck_assert(!conf_same_routes(&one, &same));
  conf_free(&one);
  conf_free(&same);
  conf_free(&other);
}
END_TEST

START_TEST(tls_is_a_limit) {
  struct conf one = routes_of("sites: [{match: [a.b]}]\n"), other = routes_of("sites: [{match: [a.b], tls: verify}]\n");
  struct conf all = routes_of("delivery: {tls: require}\nsites: [{match: [a.b], tls: opportunistic}]\n");
  ck_assert(conf_same_limits(&one, &one) && !conf_same_limits(&one, &other) && !conf_same_limits(&one, &all));
  conf_free(&one);
  conf_free(&other);
  conf_free(&all);
}
END_TEST

int main(void) {
  TCase *all = tcase_create("all");
  tcase_add_test(all, every_key_is_taken_over);
  tcase_add_test(all, what_is_missing);
  tcase_add_loop_test(all, what_is_refused_and_how_it_is_said, 0, sizeof refusals / sizeof *refusals);
  tcase_add_test(all, passwords);
  tcase_add_test(all, a_password_file_that_is_not_there);
  tcase_add_loop_test(all, what_is_another_route, 0, 6);
  tcase_add_test(all, tls_is_a_limit);
  return unit_main("core/conf/routes", &all, 1);
}
