#include "core/conf/value.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/base/error.h"

int value_copy(char **to, const char *text) {
  *to = strdup(text);
  return *to == NULL ? E_NO_MEMORY : E_OK;
}

int value_path(char **to, const char *text, const char *path, const struct reading *r) {
  if (text == NULL) return E_OK;
  if (text[0] == '\0') return reading_error(r, E_SYNTAX, path, "is empty; it must name a file or a directory");
  return value_copy(to, text);
}

int value_address(struct netaddr *address, const char *text, const char *path, const struct reading *r) {
  char quoted[REPORT_QUOTE_ROOM];
  if (netaddr_parse(address, span_of_text(text)) == E_OK) return E_OK;
  return reading_error(r, E_SYNTAX, path, "%s is no IP address (like 192.0.2.1 or \"2001:db8::1\")", report_quote(quoted, span_of_text(text)));
}

int value_address_with_port(struct netaddr *address, const char *text, uint16_t default_port, const char *path, const struct reading *r) {
  char quoted[REPORT_QUOTE_ROOM];
  report_quote(quoted, span_of_text(text));
  int error = netaddr_parse_with_port(address, span_of_text(text), default_port);
  if (error == E_SYNTAX)
    return reading_error(r, error, path, "%s is no IP address with or without a port (like \"192.0.2.1:%u\" or \"[2001:db8::1]:%u\")", quoted,
                         default_port, default_port);
  if (error == E_RANGE || address->port == 0) return reading_error(r, E_RANGE, path, "the port of %s is out of range; it may be 1 to 65535", quoted);
  return E_OK;
}

int value_choice(unsigned *choice, const char *text, const char *const *words, unsigned count, const char *path, const struct reading *r) {
  char quoted[REPORT_QUOTE_ROOM], all[64];
  struct fmt out = fmt_over(all, sizeof all - 1);
  for (unsigned i = 0; i < count; i++) {
    if (strcmp(text, words[i]) == 0) {
      *choice = i;
      return E_OK;
    }
    if (i > 0) fmt_text(&out, i + 1 < count ? ", " : " or ");
    fmt_text(&out, words[i]);
  }
  all[out.len] = '\0';
  return reading_error(r, E_SYNTAX, path, "%s must be %s", report_quote(quoted, span_of_text(text)), all);
}

int value_security(enum conf_security *security, const char *text, bool implicit, const char *path, const struct reading *r) {
  static const char *const words[] = {[CONF_SECURITY_NONE] = "none",
                                      [CONF_SECURITY_OPPORTUNISTIC] = "opportunistic",
                                      [CONF_SECURITY_REQUIRE] = "require",
                                      [CONF_SECURITY_VERIFY] = "verify",
                                      [CONF_SECURITY_IMPLICIT] = "implicit"};
  unsigned choice;
  if (text == NULL) return E_OK;
  int error = value_choice(&choice, text, words, implicit ? 5 : 4, path, r);
  if (error == E_OK) *security = (enum conf_security)choice;
  return error;
}

static int value_network(struct network *network, const char *text, const char *path, const struct reading *r) {
  char quoted[REPORT_QUOTE_ROOM];
  int error = network_parse(network, span_of_text(text));
  report_quote(quoted, span_of_text(text));
  if (error == E_SYNTAX) return reading_error(r, error, path, "%s is no network (like 10.0.0.0/8, 192.0.2.1 or \"2001:db8::/32\")", quoted);
  if (error == E_RANGE)
    return reading_error(r, error, path, "%s has a prefix that is too long, or bits set behind its prefix (10.0.0.0/8 is right, 10.0.0.1/8 is not)",
                         quoted);
  return error;
}

int value_addresses(struct netaddr **list, unsigned *list_count, char *const *texts, unsigned count, uint16_t port, const char *base,
                    const struct reading *r) {
  char path[96];
  *list = calloc(count, sizeof **list);
  if (*list == NULL) return E_NO_MEMORY;
  *list_count = count;
  int error = E_OK;
  for (unsigned i = 0; error == E_OK && i < count; i++) {
    snprintf(path, sizeof path, "%s[%u]", base, i);
    error = value_address_with_port(&(*list)[i], texts[i], port, path, r);
  }
  return error;
}

int value_networks(struct network **list, unsigned *list_count, char *const *texts, unsigned count, const char *base, const struct reading *r) {
  char path[96];
  if (count == 0) return E_OK;
  *list = calloc(count, sizeof **list);
  if (*list == NULL) return E_NO_MEMORY;
  *list_count = count;
  int error = E_OK;
  for (unsigned i = 0; error == E_OK && i < count; i++) {
    snprintf(path, sizeof path, "%s[%u]", base, i);
    error = value_network(&(*list)[i], texts[i], path, r);
  }
  return error;
}
