#include "core/conf/sites.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/base/error.h"
#include "core/conf/value.h"

enum { PATH_ROOM = 96 };

/* ---- which entry ---- */

static struct span pattern_key(const void *object) { return span_of_text(((const struct conf_pattern *)object)->key); }

/* The entry that comes first in the file, not the pattern that fits closest. */
static const struct conf_pattern *find_pattern(const struct conf *conf, struct span name) {
  const struct conf_pattern *first = map_find(&conf->site_patterns, name);
  for (size_t i = 1; i < name.len; i++) {
    if (name.at[i] != '.') continue;
    const struct conf_pattern *below = map_find(&conf->site_patterns, span_skip(name, i));
    if (below != NULL && (first == NULL || below->site < first->site)) first = below;
  }
  return first;
}

const struct conf_site *sites_find(const struct conf *conf, struct span name) {
  if (conf->sites_count == 0) return NULL;
  const struct conf_pattern *pattern = find_pattern(conf, name);
  return pattern == NULL ? NULL : &conf->sites[pattern->site];
}

const struct conf_site *sites_earlier(const struct conf_site *a, const struct conf_site *b) {
  if (a == NULL || b == NULL) return a == NULL ? b : a;
  return a < b ? a : b;
}

/* ---- reading ---- */

static bool is_below(const char *text) { return text[0] == '*' && text[1] == '.'; }

static int check_pattern(const char *text, const char *path, const struct reading *r) {
  char quoted[REPORT_QUOTE_ROOM];
  if (strcmp(text, "*") == 0)
    return reading_error(r, E_SYNTAX, path, "'*' would be for all destinations; what holds for all belongs into queue and delivery");
  if (setting_is_name(span_of_text(is_below(text) ? text + 2 : text))) return E_OK;
  return reading_error(r, E_SYNTAX, path, "%s is no pattern (like example.org, or \"*.example.net\" for all names below that)",
                       report_quote(quoted, span_of_text(text)));
}

static char *key_of(const char *text) {
  char *key = strdup(is_below(text) ? text + 1 : text);
  for (char *c = key; c != NULL && *c != '\0'; c++) *c = (char)ascii_lower((uint8_t)*c);
  return key;
}

/* A pattern that can never count, because others before it take all its names, is a mistake in the order. */
static int refuse_covered(const struct conf *conf, const struct conf_pattern *pattern, const char *text, const char *path, const struct reading *r) {
  char quoted[REPORT_QUOTE_ROOM];
  const struct conf_pattern *before = find_pattern(conf, pattern_key(pattern));
  if (before == NULL || (before->site == pattern->site && strcmp(before->key, pattern->key) != 0)) return E_OK;
  report_quote(quoted, span_of_text(text));
  if (strcmp(before->key, pattern->key) == 0)
    return reading_error(r, E_SYNTAX, path, "%s is listed already, in sites[%u]; give each pattern once", quoted, before->site);
  return reading_error(r, E_SYNTAX, path, "%s never counts: \"*%s\" in sites[%u] comes first and matches all of it; put this before that", quoted,
                       before->key, before->site);
}

static int read_pattern(struct conf *conf, struct conf_pattern *pattern, const char *text, const char *path, const struct reading *r) {
  int error = check_pattern(text, path, r);
  if (error != E_OK) return error;
  pattern->key = key_of(text);
  if (pattern->key == NULL) return E_NO_MEMORY;
  error = refuse_covered(conf, pattern, text, path, r);
  return error == E_OK ? map_insert(&conf->site_patterns, pattern) : error;
}

static int read_match(struct conf *conf, const struct raw_site *from, unsigned site, const char *base, const struct reading *r) {
  struct conf_site *to = &conf->sites[site];
  int error = E_OK;
  if (from->match_count == 0)
    return reading_error(r, E_SYNTAX, base, "has no match; it needs a list of patterns (like match: [example.org, \"*.example.net\"])");
  to->match = calloc(from->match_count, sizeof *to->match);
  if (to->match == NULL) return E_NO_MEMORY;
  to->match_count = from->match_count;
  for (unsigned i = 0; error == E_OK && i < from->match_count; i++) {
    char path[PATH_ROOM];
    snprintf(path, sizeof path, "%s.match[%u]", base, i);
    to->match[i].site = site;
    error = read_pattern(conf, &to->match[i], from->match[i], path, r);
  }
  return error;
}

static int read_site(struct conf *conf, const struct raw *raw, unsigned site, const struct reading *r) {
  const struct raw_site *from = &raw->sites[site];
  char base[PATH_ROOM / 2], path[PATH_ROOM];
  snprintf(base, sizeof base, "sites[%u]", site);
  snprintf(path, sizeof path, "%s.retry_factor", base);
  int error = read_match(conf, from, site, base, r);
  if (error == E_OK) error = setting_read_site(&conf->sites[site], from, base, r);
  if (error == E_OK && from->retry_factor != NULL) error = setting_factor(&conf->sites[site].retry_factor, from->retry_factor, path, r);
  snprintf(path, sizeof path, "%s.tls", base);
  return error == E_OK ? value_security(&conf->sites[site].tls, from->tls, false, path, r) : error;
}

int sites_read(struct conf *conf, const struct raw *raw, const struct reading *reading) {
  int error = E_OK;
  if (raw->sites_count == 0) return E_OK;
  conf->sites = calloc(raw->sites_count, sizeof *conf->sites);
  if (conf->sites == NULL) return E_NO_MEMORY;
  conf->sites_count = raw->sites_count;
  map_init(&conf->site_patterns, pattern_key, 0); /* who writes the configuration chooses the keys, nobody else */
  for (unsigned i = 0; error == E_OK && i < raw->sites_count; i++) error = read_site(conf, raw, i, reading);
  return error;
}

void sites_default(struct conf *conf, const struct raw *raw) {
  for (unsigned i = 0; i < conf->sites_count; i++) {
    setting_default_site(&conf->sites[i], &raw->sites[i], conf);
    conf->sites[i].tls_said = raw->sites[i].tls != NULL;
    if (!conf->sites[i].tls_said) conf->sites[i].tls = conf->delivery_tls;
    if (conf->sites[i].retry_factor == 0) conf->sites[i].retry_factor = conf->retry_factor;
  }
}

int sites_check(const struct conf *conf, const struct raw *raw, const struct reading *reading) {
  for (unsigned i = 0; i < conf->sites_count; i++) {
    const struct raw_site *from = &raw->sites[i];
    char path[PATH_ROOM];
    if (conf->sites[i].retry_initial_ms <= conf->sites[i].retry_max_ms) continue;
    if (from->retry_initial == NULL && from->retry_max == NULL) continue; /* as in queue, which has been told */
    snprintf(path, sizeof path, "sites[%u].%s", i, from->retry_initial != NULL ? "retry_initial" : "retry_max");
    return reading_error(reading, E_RANGE, path, "retry_initial (%s) must not be longer than retry_max (%s)",
                         from->retry_initial != NULL ? from->retry_initial : "as in queue",
                         from->retry_max != NULL ? from->retry_max : "as in queue");
  }
  return E_OK;
}

static uint64_t most(uint64_t a, uint64_t b) { return a > b ? a : b; }

uint64_t sites_longest_retry_ms(const struct conf *conf) {
  uint64_t longest_ms = conf->retry_max_ms;
  for (unsigned i = 0; i < conf->sites_count; i++) longest_ms = most(longest_ms, conf->sites[i].retry_max_ms);
  return longest_ms;
}

uint64_t sites_longest_age_ms(const struct conf *conf) {
  uint64_t longest_ms = conf->max_age_ms;
  for (unsigned i = 0; i < conf->sites_count; i++) longest_ms = most(longest_ms, conf->sites[i].max_age_ms);
  return longest_ms;
}

void sites_free(struct conf *conf) {
  for (unsigned i = 0; i < conf->sites_count; i++) {
    for (unsigned k = 0; k < conf->sites[i].match_count; k++) free(conf->sites[i].match[k].key);
    free(conf->sites[i].match);
  }
  if (conf->sites_count > 0) map_fini(&conf->site_patterns);
  free(conf->sites);
}
