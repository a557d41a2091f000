#include "dns/mx.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

#include "core/base/error.h"
#include "dns/codec.h"

static struct span host_name(const struct mx_host *host) { return span_of(host->name, host->name_len); }

static void host_set(struct mx_host *host, uint16_t preference, struct span name) {
  *host = (struct mx_host){.preference = preference, .name_len = (uint8_t)name.len};
  for (size_t i = 0; i < name.len; i++) host->name[i] = (char)ascii_lower(name.at[i]);
}

/* ---- order ---- */

static int by_preference(const void *a, const void *b) {
  const struct mx_host *x = a, *y = b;
  if (x->preference != y->preference) return x->preference < y->preference ? -1 : 1;
  return strcmp(x->name, y->name);
}

/* RFC 5321 5.1: a relay that is in the list itself may pass mail only to hosts preferred over it. */
static unsigned count_before_self(const struct mx_set *set, struct span self) {
  unsigned at = 0;
  while (at < set->hosts && !span_equal_nocase(host_name(&set->host[at]), self)) at++;
  if (at == set->hosts) return at;
  while (at > 0 && set->host[at - 1].preference == set->host[at].preference) at--;
  return at;
}

static uint64_t next_chance(uint64_t *state) { /* splitmix64: enough for an order of at most MX_HOSTS_MAX */
  uint64_t z = (*state += 0x9e3779b97f4a7c15u);
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}

static void shuffle(struct mx_host *host, unsigned count, uint64_t *state) {
  for (unsigned left = count; left > 1; left--) {
    unsigned pick = (unsigned)(next_chance(state) % left);
    struct mx_host moved = host[left - 1];
    host[left - 1] = host[pick];
    host[pick] = moved;
  }
}

static void shuffle_equals(struct mx_set *set, uint64_t random) {
  for (unsigned start = 0, end; start < set->hosts; start = end) {
    for (end = start + 1; end < set->hosts && set->host[end].preference == set->host[start].preference;) end++;
    shuffle(&set->host[start], end - start, &random);
  }
}

void mx_order(struct mx_set *set, struct span self, uint64_t random) {
  if (set->hosts == 0) return;
  qsort(set->host, set->hosts, sizeof *set->host, by_preference);
  set->hosts = count_before_self(set, self);
  if (set->hosts == 0) {
    mx_set_fail(set, MX_SELF, "mail for this domain is routed back to us");
    return;
  }
  if (set->hosts > MX_HOSTS_MAX) set->hosts = MX_HOSTS_MAX;
  shuffle_equals(set, random);
}

/* ---- building ---- */

static bool known(const struct mx_set *set, struct span name) {
  for (unsigned i = 0; i < set->hosts; i++)
    if (span_equal(host_name(&set->host[i]), name)) return true;
  return false;
}

bool mx_set_records(struct mx_set *set, const struct dns_answer *answer, struct span self, uint64_t random) {
  if (answer->total == 1 && answer->count == 1 && answer->mx[0].target.len == 0) {
    mx_set_fail(set, MX_NULL, "the domain takes no mail (null MX)");
    return true;
  }
  set->host = calloc(answer->count > 0 ? answer->count : 1, sizeof *set->host);
  if (set->host == NULL) return false;
  set->status = MX_OK;
  for (unsigned i = 0; i < answer->count; i++) { /* ordered by preference, so of two equal names the better one is kept */
    struct span name = dns_name_span(&answer->mx[i].target);
    if (dns_name_check(name) == E_OK && !known(set, name)) host_set(&set->host[set->hosts++], answer->mx[i].preference, name);
  }
  if (set->hosts == 0) {
    mx_set_fail(set, MX_NO_ADDRESS, "no MX record names a host");
  } else {
    mx_order(set, self, random);
  }
  return true;
}

bool mx_set_implicit(struct mx_set *set, struct span domain, struct span self) {
  set->host = malloc(sizeof *set->host);
  if (set->host == NULL) return false;
  host_set(set->host, 0, domain);
  set->hosts = 1;
  set->implicit = true;
  set->status = MX_OK;
  mx_order(set, self, 0);
  return true;
}

void mx_host_set_addresses(struct mx_host *host, const struct netaddr *v6, unsigned v6_count, const struct netaddr *v4, unsigned v4_count) {
  host->addresses = 0;
  for (unsigned i = 0; i < v6_count || i < v4_count; i++) {
    if (i < v6_count && host->addresses < MX_ADDRESSES_MAX) host->address[host->addresses++] = v6[i];
    if (i < v4_count && host->addresses < MX_ADDRESSES_MAX) host->address[host->addresses++] = v4[i];
  }
}

void mx_set_clear(struct mx_set *set) {
  free(set->host);
  set->host = NULL;
  set->hosts = 0;
}

void mx_set_fail(struct mx_set *set, enum mx_status status, const char *reason, ...) {
  va_list arguments;
  must(status != MX_OK);
  va_start(arguments, reason);
  vsnprintf(set->reason, sizeof set->reason, reason, arguments);
  va_end(arguments);
  set->status = status;
  mx_set_clear(set);
}

/* ---- names ---- */

static int by_name(const void *a, const void *b) {
  const struct mx_host *const *x = a, *const *y = b;
  return strcmp((*x)->name, (*y)->name);
}

#define HASH_LEN 16

void mx_site_name(const struct mx_set *set, struct fmt *out) {
  const struct mx_host *sorted[MX_HOSTS_MAX];
  char room[MX_HOSTS_MAX * (DNS_NAME_MAX + 1)];
  struct fmt whole = fmt_over(room, sizeof room);
  unsigned hosts = set->hosts < MX_HOSTS_MAX ? set->hosts : MX_HOSTS_MAX;
  for (unsigned i = 0; i < hosts; i++) sorted[i] = &set->host[i];
  if (hosts > 1) qsort(sorted, hosts, sizeof *sorted, by_name);
  for (unsigned i = 0; i < hosts; i++) {
    if (i > 0 && strcmp(sorted[i]->name, sorted[i - 1]->name) == 0) continue;
    if (i > 0) fmt_char(&whole, ',');
    fmt_put(&whole, host_name(sorted[i]));
  }
  if (whole.len <= MX_SITE_NAME_MAX) {
    fmt_put(out, fmt_span(&whole));
    return;
  }
  fmt_put(out, span_first(fmt_span(&whole), MX_SITE_NAME_MAX - 1 - HASH_LEN));
  fmt_char(out, '#');
  fmt_hex64(out, XXH3_64bits(whole.at, whole.len));
}

const char *mx_status_text(enum mx_status status) {
  static const char *const text[] = {"invalid", "ok", "null", "no-domain", "no-address", "self", "temporary", "bad-name"};
  return (unsigned)status < sizeof text / sizeof *text ? text[status] : "invalid";
}
