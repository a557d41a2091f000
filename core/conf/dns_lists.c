#include "core/conf/dns_lists.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/base/error.h"
#include "core/conf/value.h"

enum {
  ZONE_BYTES_MAX = 253 - 64, /* RFC 1035 2.3.4, and 32 nibbles with their dots (RFC 5782 2.4) */
  WEIGHT_MAX = 100,
  THRESHOLD_MAX = 1000,
  DEFAULT_TIMEOUT_MS = 5000,
  TIMEOUT_MAX_MS = 30000, /* clients wait for some minutes (RFC 5321 4.5.3.2), but people look on at submission */
};

static const struct network all_answers = {.base = {.family = 4, .bytes = {127}}, .prefix_bits = 8}; /* RFC 5782 2.1 */
static const struct network no_answers = {.base = {.family = 4, .bytes = {127, 255, 255}},
                                          .prefix_bits = 24}; /* by which lists say that they do not answer */

/* ---- what clients are told ---- */

static void put_text(const char *text, const struct netaddr *client, struct fmt *out) {
  for (const char *c = text; *c != '\0'; c++) {
    if (*c != '%') {
      fmt_char(out, *c);
    } else if (*++c == 'a') {
      netaddr_format(client, out);
    } else {
      fmt_char(out, '%');
    }
  }
}

void dns_list_say(const struct dns_list *list, const struct netaddr *client, struct fmt *out) {
  fmt_char(out, '[');
  netaddr_format(client, out);
  fmt_text(out, "] is listed by ");
  fmt_text(out, list->name);
  if (list->text == NULL) return;
  fmt_text(out, "; ");
  put_text(list->text, client, out);
}

/* ---- one list ---- */

struct entry {
  const struct raw_dns_list *from;
  struct dns_list *to;
  const struct reading *r;
  char base[64], path[96];
};

static const char *path_of(struct entry *e, const char *key) {
  snprintf(e->path, sizeof e->path, "%s.%s", e->base, key);
  return e->path;
}

static int read_name(struct entry *e, char **to, const char *text, const char *key) {
  char quoted[REPORT_QUOTE_ROOM];
  report_quote(quoted, span_of_text(text));
  if (!setting_is_name(span_of_text(text)))
    return reading_error(e->r, E_SYNTAX, path_of(e, key), "%s is no domain name (like zen.example.org)", quoted);
  int error = value_copy(to, text);
  for (char *c = *to; error == E_OK && *c != '\0'; c++) *c = (char)ascii_lower((uint8_t)*c);
  return error;
}

static int read_names(struct entry *e) {
  if (e->from->zone == NULL) return reading_error(e->r, E_SYNTAX, e->base, "has no zone; it needs one (like zone: zen.example.org)");
  int error = read_name(e, &e->to->zone, e->from->zone, "zone");
  if (error == E_OK && strlen(e->to->zone) > ZONE_BYTES_MAX)
    error = reading_error(e->r, E_RANGE, path_of(e, "zone"), "is too long: %d bytes are the most, with an address in front of it", ZONE_BYTES_MAX);
  if (error != E_OK) return error;
  return e->from->name == NULL ? value_copy(&e->to->name, e->to->zone) : read_name(e, &e->to->name, e->from->name, "name");
}

static bool is_within(const struct network *network, const struct network *outer) {
  return network->base.family == outer->base.family && network->prefix_bits >= outer->prefix_bits && network_contains(outer, &network->base);
}

static int read_answers(struct entry *e) {
  struct dns_list *to = e->to;
  int error = value_networks(&to->answers, &to->answers_count, e->from->answers, e->from->answers_count, path_of(e, "answers"), e->r);
  for (unsigned i = 0; error == E_OK && i < to->answers_count; i++) {
    char path[112];
    snprintf(path, sizeof path, "%s.answers[%u]", e->base, i);
    if (!is_within(&to->answers[i], &all_answers))
      error =
          reading_error(e->r, E_RANGE, path, "'%s' is not within 127.0.0.0/8; whatever else a list answers, it is out of order", e->from->answers[i]);
    else if (is_within(&to->answers[i], &no_answers))
      error = reading_error(e->r, E_RANGE, path, "'%s' is within 127.255.255.0/24, by which lists say that they do not answer", e->from->answers[i]);
  }
  if (error != E_OK || to->answers_count > 0) return error;
  to->answers = malloc(sizeof *to->answers);
  if (to->answers == NULL) return E_NO_MEMORY;
  *to->answers = all_answers;
  to->answers_count = 1;
  return E_OK;
}

static int read_weight(struct entry *e) {
  char quoted[REPORT_QUOTE_ROOM];
  const char *text = e->from->weight;
  uint64_t value = 1;
  bool below = text != NULL && text[0] == '-';
  if (text != NULL && (!span_to_u64(span_of_text(text + below), &value) || value == 0 || value > WEIGHT_MAX))
    return reading_error(e->r, E_RANGE, path_of(e, "weight"),
                         "%s is no weight (like 1, or -2 of a list of good addresses); it may be -%d to %d, but not 0",
                         report_quote(quoted, span_of_text(text)), WEIGHT_MAX, WEIGHT_MAX);
  e->to->weight = below ? -(int)value : (int)value;
  return E_OK;
}

static int read_text(struct entry *e) {
  static const struct netaddr longest = {.family = 6,
                                         .bytes = {0x20, 0x01, 0x1d, 0xb8, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11}};
  uint8_t room[DNS_LIST_SAYING_MAX];
  struct fmt saying = fmt_over(room, sizeof room);
  if (e->from->text == NULL || e->from->text[0] == '\0') return E_OK;
  for (const char *c = e->from->text; *c != '\0'; c++) {
    if (*c < ' ' || *c > '~') return reading_error(e->r, E_SYNTAX, path_of(e, "text"), "must be one line of ASCII: it is for replies of SMTP");
    if (*c == '%' && *++c != 'a' && *c != '%')
      return reading_error(e->r, E_SYNTAX, path_of(e, "text"), "has a '%%' that means nothing; it may be %%a, the client's address, or %%%%");
  }
  int error = value_copy(&e->to->text, e->from->text);
  if (error != E_OK) return error;
  dns_list_say(e->to, &longest, &saying);
  if (!saying.overflow) return E_OK;
  return reading_error(e->r, E_RANGE, path_of(e, "text"), "is too long: with name and address, where they stand, %d bytes are the most",
                       DNS_LIST_SAYING_MAX);
}

static int read_list(struct entry *e) {
  int error = read_names(e);
  if (error == E_OK) error = read_answers(e);
  if (error == E_OK) error = read_weight(e);
  return error == E_OK ? read_text(e) : error;
}

/* ---- all of a listener ---- */

static int read_limits(struct dns_lists *lists, const struct raw_listener *raw, const char *base, const struct reading *r) {
  char path[96];
  uint64_t threshold = 1;
  int error = E_OK, most = 0;
  snprintf(path, sizeof path, "%s.dns_lists_timeout", base);
  lists->timeout_ms = DEFAULT_TIMEOUT_MS;
  if (raw->dns_lists_timeout != NULL) error = setting_duration(&lists->timeout_ms, raw->dns_lists_timeout, 10, TIMEOUT_MAX_MS, path, r);
  snprintf(path, sizeof path, "%s.dns_lists_threshold", base);
  if (error == E_OK && raw->dns_lists_threshold != NULL) error = setting_count(&threshold, raw->dns_lists_threshold, 1, THRESHOLD_MAX, path, r);
  if (error != E_OK) return error;
  lists->threshold = (int)threshold;
  for (unsigned i = 0; i < lists->count; i++)
    if (lists->list[i].weight > 0) most += lists->list[i].weight;
  if (most >= lists->threshold) return E_OK;
  if (raw->dns_lists_threshold == NULL) snprintf(path, sizeof path, "%s.dns_lists", base);
  return reading_error(r, E_RANGE, path, "nobody would ever be refused: the weights of all lists together are %d, the threshold is %d", most,
                       lists->threshold);
}

int dns_lists_read(struct dns_lists **out, const struct raw_listener *raw, const char *base, const struct reading *r) {
  char path[96];
  const char *alone = raw->dns_lists_threshold != NULL ? "dns_lists_threshold" : raw->dns_lists_timeout != NULL ? "dns_lists_timeout" : NULL;
  snprintf(path, sizeof path, "%s.%s", base, alone != NULL ? alone : "");
  *out = NULL;
  if (raw->dns_lists_count == 0 && alone != NULL) return reading_error(r, E_SYNTAX, path, "needs dns_lists; this listener has none");
  if (raw->dns_lists_count == 0) return E_OK;
  struct dns_lists *lists = calloc(1, sizeof *lists + raw->dns_lists_count * sizeof lists->list[0]);
  if (lists == NULL) return E_NO_MEMORY;
  atomic_init(&lists->holders, 1);
  lists->count = raw->dns_lists_count;
  int error = E_OK;
  for (unsigned i = 0; error == E_OK && i < lists->count; i++) {
    struct entry e = {.from = &raw->dns_lists[i], .to = &lists->list[i], .r = r};
    snprintf(e.base, sizeof e.base, "%s.dns_lists[%u]", base, i);
    error = read_list(&e);
  }
  if (error == E_OK) error = read_limits(lists, raw, base, r);
  if (error == E_OK) {
    *out = lists;
  } else {
    dns_lists_put(lists);
  }
  return error;
}

struct dns_lists *dns_lists_share(struct dns_lists *lists) {
  if (lists != NULL) atomic_fetch_add_explicit(&lists->holders, 1, memory_order_relaxed);
  return lists;
}

void dns_lists_put(struct dns_lists *lists) {
  if (lists == NULL || atomic_fetch_sub(&lists->holders, 1) > 1) return;
  for (unsigned i = 0; i < lists->count; i++) {
    free(lists->list[i].zone);
    free(lists->list[i].name);
    free(lists->list[i].text);
    free(lists->list[i].answers);
  }
  free(lists);
}
