#include "core/conf/routes.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/base/error.h"
#include "core/conf/system.h"
#include "core/conf/value.h"

enum {
  SMTP_PORT = 25,
  PATH_ROOM = 96,
  SECRET_MAX = 255, /* RFC 4616 2 */
  FILE_MAX = 4096,
  FORBIDDEN_MODE = 0027, /* write for the group, anything for others */
};

static const char *const action_words[] = {[CONF_DELIVER] = "deliver", [CONF_DISCARD] = "discard", [CONF_REJECT] = "reject"};

static struct span route_key(const void *object) { return span_of_text(((const struct conf_route *)object)->domain); }

/* ---- which route ---- */

const struct conf_route *routes_find(const struct conf *conf, struct span domain) {
  if (conf->routes_count == 0) return NULL;
  const struct conf_route *route = map_find(&conf->routes_by_domain, domain);
  return route != NULL ? route : map_find(&conf->routes_by_domain, SPAN("*"));
}

bool routes_reject(const struct conf *conf, struct span domain) {
  uint8_t room[256];
  if (!conf->any_route_rejects) return false;
  const struct conf_route *route = routes_find(conf, span_lower(domain, room, sizeof room));
  return route != NULL && route->action == CONF_REJECT;
}

static bool same_text(const char *a, const char *b) { return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0; }

bool routes_same(const struct conf_route *a, const struct conf_route *b) {
  bool same = strcmp(a->domain, b->domain) == 0 && a->action == b->action && a->tls == b->tls && same_text(a->tls_name, b->tls_name) &&
              same_text(a->user, b->user) && same_text(a->password, b->password) && a->hosts_count == b->hosts_count;
  for (unsigned i = 0; same && i < a->hosts_count; i++) same = netaddr_equal(&a->hosts[i], &b->hosts[i]);
  return same;
}

/* ---- reading ---- */

struct entry {
  struct conf *conf;
  const struct raw_route *from;
  struct conf_route *to;
  const struct reading *r;
  char base[PATH_ROOM / 2], path[PATH_ROOM];
};

static const char *path_of(struct entry *e, const char *key) {
  snprintf(e->path, sizeof e->path, "%s.%s", e->base, key);
  return e->path;
}

static void lower(char *text) {
  for (char *c = text; c != NULL && *c != '\0'; c++) *c = (char)ascii_lower((uint8_t)*c);
}

static int read_domain(struct entry *e) {
  char quoted[REPORT_QUOTE_ROOM];
  const char *text = e->from->domain, *path = path_of(e, "domain");
  if (text == NULL) return reading_error(e->r, E_SYNTAX, e->base, "has no domain; it needs one (like example.org, or \"*\" for all)");
  report_quote(quoted, span_of_text(text));
  if (strcmp(text, "*") != 0 && !setting_is_name(span_of_text(text)))
    return reading_error(e->r, E_SYNTAX, path, "%s is no domain (like example.org, xn--bcher-kva.example, or \"*\" for all)", quoted);
  if (value_copy(&e->to->domain, text) != E_OK) return E_NO_MEMORY;
  lower(e->to->domain);
  if (map_find(&e->conf->routes_by_domain, route_key(e->to)) != NULL)
    return reading_error(e->r, E_SYNTAX, path, "%s has a route already; give all its hosts there", quoted);
  return map_insert(&e->conf->routes_by_domain, e->to);
}

static int read_words(struct entry *e) {
  unsigned action = CONF_DELIVER;
  int error = E_OK;
  if (e->from->action != NULL) error = value_choice(&action, e->from->action, action_words, 3, path_of(e, "action"), e->r);
  if (error == E_OK) error = value_security(&e->to->tls, e->from->tls, true, path_of(e, "tls"), e->r);
  e->to->action = (enum conf_action)action;
  e->conf->any_route_rejects |= action == CONF_REJECT;
  return error;
}

static int read_hosts(struct entry *e) {
  if (e->to->action != CONF_DELIVER) {
    bool more = e->from->hosts_count > 0 || e->from->tls != NULL || e->from->tls_name != NULL || e->from->user != NULL;
    return !more ? E_OK
                 : reading_error(e->r, E_SYNTAX, path_of(e, "action"), "'%s' connects to nobody: hosts, tls, tls_name and user have no use beside it",
                                 action_words[e->to->action]);
  }
  if (e->from->hosts_count == 0)
    return reading_error(e->r, E_SYNTAX, e->base, "has no hosts; it needs a list of addresses (like hosts: [\"192.0.2.1:25\"])");
  return value_addresses(&e->to->hosts, &e->to->hosts_count, e->from->hosts, e->from->hosts_count, SMTP_PORT, path_of(e, "hosts"), e->r);
}

static int read_tls_name(struct entry *e) {
  char quoted[REPORT_QUOTE_ROOM];
  const char *text = e->from->tls_name;
  if (text == NULL) return E_OK;
  if (!setting_is_name(span_of_text(text)))
    return reading_error(e->r, E_SYNTAX, path_of(e, "tls_name"), "%s is no host name (like smtp.example.net)",
                         report_quote(quoted, span_of_text(text)));
  int error = value_copy(&e->to->tls_name, text);
  lower(e->to->tls_name);
  return error;
}

static int read_user(struct entry *e) {
  const char *user = e->from->user;
  if (user == NULL && e->from->password_file == NULL) return E_OK;
  if (user == NULL || e->from->password_file == NULL)
    return reading_error(e->r, E_SYNTAX, e->base, "has %s, but no %s; both are needed for AUTH", user != NULL ? "a user" : "a password_file",
                         user != NULL ? "password_file" : "user");
  if (user[0] == '\0' || strlen(user) > SECRET_MAX)
    return reading_error(e->r, E_RANGE, path_of(e, "user"), "has %zu bytes; it may have 1 to %d", strlen(user), SECRET_MAX);
  int error = value_copy(&e->to->user, user);
  return error == E_OK ? value_path(&e->to->password_file, e->from->password_file, path_of(e, "password_file"), e->r) : error;
}

static int read_route(struct conf *conf, const struct raw *raw, unsigned index, const struct reading *r) {
  struct entry e = {.conf = conf, .from = &raw->routes[index], .to = &conf->routes[index], .r = r};
  snprintf(e.base, sizeof e.base, "routes[%u]", index);
  int error = read_domain(&e);
  if (error == E_OK) error = read_words(&e);
  if (error == E_OK) error = read_hosts(&e);
  if (error == E_OK) error = read_tls_name(&e);
  return error == E_OK ? read_user(&e) : error;
}

int routes_read(struct conf *conf, const struct raw *raw, const struct reading *reading) {
  int error = E_OK;
  if (raw->routes_count == 0) return E_OK;
  conf->routes = calloc(raw->routes_count, sizeof *conf->routes);
  if (conf->routes == NULL) return E_NO_MEMORY;
  conf->routes_count = raw->routes_count;
  map_init(&conf->routes_by_domain, route_key, 0); /* who writes the configuration chooses the keys, nobody else */
  for (unsigned i = 0; error == E_OK && i < raw->routes_count; i++) error = read_route(conf, raw, i, reading);
  return error;
}

/* A password is not for whoever listens: with a user, TLS is a must unless the route says otherwise. */
void routes_default(struct conf *conf, const struct raw *raw) {
  for (unsigned i = 0; i < conf->routes_count; i++) {
    struct conf_route *route = &conf->routes[i];
    if (raw->routes[i].tls != NULL) continue;
    route->tls = conf->delivery_tls;
    if (route->user != NULL && route->tls < CONF_SECURITY_REQUIRE) route->tls = CONF_SECURITY_REQUIRE;
  }
}

int routes_check(const struct conf *conf, const struct reading *reading) {
  for (unsigned i = 0; i < conf->routes_count; i++) {
    const struct conf_route *route = &conf->routes[i];
    char path[PATH_ROOM];
    snprintf(path, sizeof path, "routes[%u].tls", i);
    if (route->action != CONF_DELIVER) continue;
    if (route->user != NULL && route->tls == CONF_SECURITY_OPPORTUNISTIC)
      return reading_error(reading, E_SYNTAX, path, "opportunistic TLS does not keep the password; say require, verify or implicit, or none");
    if (route->tls == CONF_SECURITY_VERIFY && route->tls_name == NULL)
      return reading_error(reading, E_SYNTAX, path, "verify needs tls_name, the name the hosts' certificates are for (like smtp.example.net)");
    if (route->tls_name != NULL && route->tls < CONF_SECURITY_VERIFY)
      return reading_error(reading, E_SYNTAX, path, "tls_name is for verify and implicit, where it is verified; say one of these, or leave it out");
  }
  return E_OK;
}

/* ---- passwords ---- */

static int complain(const struct reading *r, int error, unsigned route, const char *file, const char *what) {
  char path[PATH_ROOM];
  snprintf(path, sizeof path, "routes[%u].password_file", route);
  return reading_error(r, error, path, "%s: %s", file, what);
}

/* The first line, without its end. */
static struct span line_of(struct span bytes) {
  ptrdiff_t end = span_find(bytes, '\n');
  struct span line = end < 0 ? bytes : span_first(bytes, (size_t)end);
  return line.len > 0 && line.at[line.len - 1] == '\r' ? span_first(line, line.len - 1) : line;
}

static int take_password(struct conf_route *route, unsigned index, struct span bytes, const struct reading *r) {
  struct span password = line_of(bytes);
  if (password.len == 0 || password.len > SECRET_MAX || span_find(password, '\0') >= 0)
    return complain(r, E_RANGE, index, route->password_file, "its first line is no password: 1 to 255 bytes, and no NUL");
  route->password = malloc(password.len + 1);
  if (route->password == NULL) return E_NO_MEMORY;
  memcpy(route->password, password.at, password.len);
  route->password[password.len] = '\0';
  return E_OK;
}

static int read_password(struct conf_route *route, unsigned index, const struct reading *r) {
  struct system_file file;
  uint8_t *bytes;
  size_t len;
  int error = system_look_at_file(route->password_file, &file);
  if (error != E_OK) return complain(r, error, index, route->password_file, error_text(error));
  if ((file.mode & FORBIDDEN_MODE) != 0)
    return complain(r, E_PERMISSION, index, route->password_file, "others may read or write it; make it 0640 or 0600");
  error = system_read_file(route->password_file, FILE_MAX, &bytes, &len);
  if (error != E_OK) return complain(r, error, index, route->password_file, error_text(error));
  error = take_password(route, index, span_of(bytes, len), r);
  explicit_bzero(bytes, len);
  free(bytes);
  return error;
}

int routes_read_passwords(struct conf *conf, const struct reading *reading) {
  int error = E_OK;
  for (unsigned i = 0; error == E_OK && i < conf->routes_count; i++)
    if (conf->routes[i].password_file != NULL) error = read_password(&conf->routes[i], i, reading);
  return error;
}

void routes_free(struct conf *conf) {
  for (unsigned i = 0; i < conf->routes_count; i++) {
    struct conf_route *route = &conf->routes[i];
    if (route->password != NULL) explicit_bzero(route->password, strlen(route->password));
    free(route->domain);
    free(route->hosts);
    free(route->tls_name);
    free(route->user);
    free(route->password_file);
    free(route->password);
  }
  if (conf->routes_count > 0) map_fini(&conf->routes_by_domain);
  free(conf->routes);
}
