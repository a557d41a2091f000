#include "bench/lib/zone.h"

enum { TYPE_A = 1, TYPE_SOA = 6, TYPE_MX = 15, TYPE_OPT = 41, TYPE_ANY = 255, CLASS_IN = 1 };
enum { RCODE_OK = 0, RCODE_FORMAT = 1, RCODE_SERVFAIL = 2, RCODE_NXDOMAIN = 3, RCODE_NOT_IMPLEMENTED = 4, RCODE_REFUSED = 5 };
enum { FLAG_QR = 0x8000, FLAG_AA = 0x0400, FLAG_TC = 0x0200, FLAG_RD = 0x0100, FLAG_RA = 0x0080, OPCODE_MASK = 0x7800 };
enum { HEADER_SIZE = 12, UDP_PLAIN_MAX = 512 /* RFC 1035 4.2.1 */ };

struct question {
  uint16_t id;
  uint16_t flags;
  struct span wire; /* the question as it was asked: name, type, class */
  char name[DOMAIN_NAME_MAX + 2];
  size_t name_len;
  uint16_t type;
  uint16_t class;
  bool edns;
  uint16_t udp_size;
};

static uint16_t get16(const uint8_t *at) { return (uint16_t)(at[0] << 8 | at[1]); }
static void put16(struct fmt *out, unsigned value) { fmt_bytes(out, (uint8_t[]){(uint8_t)(value >> 8), (uint8_t)value}, 2); }
static void put32(struct fmt *out, uint32_t value) {
  put16(out, value >> 16);
  put16(out, value & 0xffff);
}

/* Reads the question's name: plain labels (a pointer has nothing to point to there). The bytes after it, or NULL. */
static const uint8_t *read_name(struct question *q, struct span rest) {
  while (rest.len > 0) {
    size_t len = rest.at[0];
    if (len == 0) return rest.at + 1;
    if (len > 63 || rest.len < len + 1 || q->name_len + len + 1 > DOMAIN_NAME_MAX) return NULL;
    if (q->name_len > 0) q->name[q->name_len++] = '.';
    for (size_t i = 1; i <= len; i++) q->name[q->name_len++] = (char)ascii_lower(rest.at[i]);
    rest = span_skip(rest, len + 1);
  }
  return NULL;
}

/* EDNS: an OPT record with the root name, first of the additional section (queries have nothing before it). */
static void read_edns(struct question *q, struct span rest, unsigned additional) {
  if (additional == 0 || rest.len < 11 || rest.at[0] != 0 || get16(rest.at + 1) != TYPE_OPT) return;
  q->edns = true;
  q->udp_size = get16(rest.at + 3);
}

/* The response code for a query that cannot be answered, or 0. */
static unsigned read_question(struct question *q, struct span query) {
  q->id = get16(query.at);
  q->flags = get16(query.at + 2);
  if ((q->flags & OPCODE_MASK) != 0) return RCODE_NOT_IMPLEMENTED;
  if (get16(query.at + 4) != 1) return RCODE_FORMAT;
  struct span rest = span_skip(query, HEADER_SIZE);
  const uint8_t *after = read_name(q, rest);
  if (after == NULL || (size_t)(query.at + query.len - after) < 4) return RCODE_FORMAT;
  q->type = get16(after);
  q->class = get16(after + 2);
  q->wire = span_of(rest.at, (size_t)(after + 4 - rest.at));
  if (get16(query.at + 6) == 0 && get16(query.at + 8) == 0) read_edns(q, span_skip(rest, q->wire.len), get16(query.at + 10));
  return q->class == CLASS_IN ? RCODE_OK : RCODE_REFUSED;
}

enum name_kind { NAME_UNKNOWN, NAME_DOMAIN, NAME_HOST, NAME_NULL_MX, NAME_SERVFAIL, NAME_SILENT };

struct meaning {
  enum name_kind kind;
  uint64_t site;
  uint32_t mx;
};

static uint64_t site_of(const struct zone *zone, uint64_t domain) { return zone->sites > 0 ? domain % zone->sites : domain; }

static uint32_t site_address(const struct zone *zone, uint64_t site, uint32_t mx) {
  return zone->host_base + (uint32_t)((site * zone->mx_hosts + mx) % zone->host_count);
}

uint32_t zone_address(const struct zone *zone, uint64_t domain, uint32_t mx) { return site_address(zone, site_of(zone, domain), mx); }

bool zone_is_address_of(const struct zone *zone, uint64_t domain, uint32_t address) {
  for (uint32_t mx = 0; mx < zone->mx_hosts; mx++) {
    if (zone_address(zone, domain, mx) == address) return true;
  }
  return false;
}

static bool domain_exists(const struct zone *zone, struct span name, uint64_t *index) {
  return domains_index(&zone->domains, name, index) && (zone->count == 0 || *index < zone->count);
}

/* "site<n><suffix>" */
static bool site_exists(const struct zone *zone, struct span name, uint64_t *site) {
  struct span suffix = domains_suffix(&zone->domains);
  if (zone->sites == 0 || name.len <= 4 + suffix.len || memcmp(name.at, "site", 4) != 0 || !span_ends_nocase(name, suffix)) return false;
  return span_to_u64(span_of(name.at + 4, name.len - 4 - suffix.len), site) && *site < zone->sites;
}

/* "mx<n>.": what follows, and n - 1. */
static bool host_label(const struct zone *zone, struct span name, struct span *rest, uint32_t *mx) {
  ptrdiff_t dot = span_find(name, '.');
  uint64_t number;
  if (dot < 3 || memcmp(name.at, "mx", 2) != 0 || !span_to_u64(span_of(name.at + 2, (size_t)dot - 2), &number)) return false;
  if (number == 0 || number > zone->mx_hosts) return false;
  *rest = span_skip(name, (size_t)dot + 1);
  *mx = (uint32_t)number - 1;
  return true;
}

static bool is_special(const struct zone *zone, struct span name, const char *label) {
  struct span suffix = domains_suffix(&zone->domains);
  size_t label_len = strlen(label);
  if (name.len < label_len + suffix.len || !span_ends_nocase(name, suffix)) return false;
  struct span front = span_first(name, name.len - suffix.len);
  if (memcmp(front.at + front.len - label_len, label, label_len) != 0) return false;
  return front.len == label_len || front.at[front.len - label_len - 1] == '.';
}

static struct meaning understand(const struct zone *zone, struct span name) {
  struct meaning means = {NAME_UNKNOWN, 0, 0};
  struct span rest;
  uint64_t index;
  if (domain_exists(zone, name, &index)) {
    means = (struct meaning){NAME_DOMAIN, site_of(zone, index), 0};
  } else if (host_label(zone, name, &rest, &means.mx)) {
    bool found = zone->sites > 0 ? site_exists(zone, rest, &means.site) : domain_exists(zone, rest, &means.site);
    if (found) means.kind = NAME_HOST;
  } else if (is_special(zone, name, "nullmx")) {
    means.kind = NAME_NULL_MX;
  } else if (is_special(zone, name, "servfail")) {
    means.kind = NAME_SERVFAIL;
  } else if (is_special(zone, name, "silent")) {
    means.kind = NAME_SILENT;
  }
  return means;
}

static void put_label(struct fmt *out, struct span label) {
  fmt_char(out, (char)label.len);
  fmt_put(out, label);
}

/* A dotted name without a final dot, as labels with the root's. */
static void put_name(struct fmt *out, struct span name) {
  for (;;) {
    ptrdiff_t dot = span_find(name, '.');
    struct span label = dot < 0 ? name : span_first(name, (size_t)dot);
    if (label.len > 0) put_label(out, label);
    if (dot < 0) break;
    name = span_skip(name, (size_t)dot + 1);
  }
  fmt_char(out, 0);
}

static void record_head(struct fmt *out, bool of_question, uint16_t type, uint32_t ttl_s) {
  if (of_question) {
    put16(out, 0xc000 | HEADER_SIZE); /* a pointer to the name in the question */
  } else {
    fmt_char(out, 0);
  }
  put16(out, type);
  put16(out, CLASS_IN);
  put32(out, ttl_s);
}

static size_t length_begin(struct fmt *out) {
  put16(out, 0);
  return out->len;
}

static void length_end(struct fmt *out, size_t begin) {
  if (out->overflow) return;
  out->at[begin - 2] = (uint8_t)((out->len - begin) >> 8);
  out->at[begin - 1] = (uint8_t)(out->len - begin);
}

static void put_mx(const struct zone *zone, uint64_t site, uint32_t mx, struct fmt *out) {
  uint8_t room[64];
  struct fmt label = fmt_over(room, sizeof room);
  record_head(out, true, TYPE_MX, zone->ttl_s);
  size_t begin = length_begin(out);
  put16(out, (mx + 1) * 10);
  fmt_text(&label, "mx");
  fmt_u64(&label, mx + 1);
  put_label(out, fmt_span(&label));
  if (zone->sites == 0) {
    put16(out, 0xc000 | HEADER_SIZE);
  } else {
    label.len = 0;
    fmt_text(&label, "site");
    fmt_u64(&label, site);
    put_label(out, fmt_span(&label));
    put_name(out, domains_suffix(&zone->domains));
  }
  length_end(out, begin);
}

static void put_null_mx(const struct zone *zone, struct fmt *out) {
  record_head(out, true, TYPE_MX, zone->ttl_s);
  put16(out, 3);
  put16(out, 0);
  fmt_char(out, 0);
}

static void put_address(const struct zone *zone, const struct meaning *means, struct fmt *out) {
  record_head(out, true, TYPE_A, zone->ttl_s);
  put16(out, 4);
  put32(out, site_address(zone, means->site, means->mx));
}

/* The root's SOA stands for every negative answer. */
static void put_soa(const struct zone *zone, struct fmt *out) {
  record_head(out, false, TYPE_SOA, zone->negative_ttl_s);
  size_t begin = length_begin(out);
  put_name(out, SPAN("ns.invalid"));
  put_name(out, SPAN("hostmaster.invalid"));
  static const uint32_t serial_refresh_retry_expire[] = {1, 3600, 600, 86400};
  for (unsigned i = 0; i < 4; i++) put32(out, serial_refresh_retry_expire[i]);
  put32(out, zone->negative_ttl_s);
  length_end(out, begin);
}

/* Writes the answer section; the number of records in it. */
static unsigned put_answers(const struct zone *zone, const struct question *q, const struct meaning *means, struct fmt *out) {
  bool wants_mx = q->type == TYPE_MX || q->type == TYPE_ANY;
  bool wants_a = q->type == TYPE_A || q->type == TYPE_ANY;
  if (means->kind == NAME_DOMAIN && wants_mx) {
    for (uint32_t mx = 0; mx < zone->mx_hosts; mx++) put_mx(zone, means->site, mx, out);
    return zone->mx_hosts;
  }
  if (means->kind == NAME_NULL_MX && wants_mx) {
    put_null_mx(zone, out);
    return 1;
  }
  if (means->kind == NAME_HOST && wants_a) {
    put_address(zone, means, out);
    return 1;
  }
  return 0;
}

static void put_opt(struct fmt *out) {
  fmt_char(out, 0);
  put16(out, TYPE_OPT);
  put16(out, ZONE_UDP_MAX);
  put32(out, 0); /* extended code, version, flags */
  put16(out, 0);
}

static void put_header(struct fmt *out, size_t at, const struct question *q, unsigned rcode, unsigned flags, const unsigned counts[4]) {
  struct fmt head = fmt_over(out->at + at, HEADER_SIZE);
  put16(&head, q->id);
  put16(&head, FLAG_QR | FLAG_AA | FLAG_RA | (q->flags & (OPCODE_MASK | FLAG_RD)) | flags | rcode);
  for (unsigned i = 0; i < 4; i++) put16(&head, counts[i]);
}

static void put_response(const struct zone *zone, const struct question *q, unsigned rcode, const struct meaning *means, bool whole,
                         struct fmt *out) {
  static const uint8_t header[HEADER_SIZE];
  unsigned counts[4] = {q->wire.len > 0, 0, 0, q->edns};
  size_t begin = out->len;
  fmt_bytes(out, header, sizeof header);
  fmt_put(out, q->wire);
  if (whole && means != NULL) counts[1] = put_answers(zone, q, means, out);
  if (whole && means != NULL && counts[1] == 0) {
    put_soa(zone, out);
    counts[2] = 1;
  }
  if (q->edns) put_opt(out);
  if (!out->overflow) put_header(out, begin, q, rcode, whole ? 0 : FLAG_TC, counts);
}

static size_t size_limit(const struct question *q, bool udp) {
  if (!udp) return UINT16_MAX;
  size_t offered = q->edns && q->udp_size > UDP_PLAIN_MAX ? q->udp_size : UDP_PLAIN_MAX;
  return offered < ZONE_UDP_MAX ? offered : ZONE_UDP_MAX;
}

bool zone_answer(const struct zone *zone, struct span query, bool udp, struct fmt *out) {
  if (query.len < HEADER_SIZE || (get16(query.at + 2) & FLAG_QR) != 0) return false;
  struct question q = {0};
  unsigned rcode = read_question(&q, query);
  size_t begin = out->len;
  if (rcode != RCODE_OK) {
    put_response(zone, &q, rcode, NULL, true, out);
    return !out->overflow;
  }
  struct meaning means = understand(zone, span_of(q.name, q.name_len));
  if (means.kind == NAME_SILENT) return false;
  if (means.kind == NAME_UNKNOWN) rcode = RCODE_NXDOMAIN;
  if (means.kind == NAME_SERVFAIL) rcode = RCODE_SERVFAIL;
  bool truncated = udp && zone->truncate;
  put_response(zone, &q, rcode, rcode == RCODE_SERVFAIL ? NULL : &means, !truncated, out);
  if (!out->overflow && !truncated && out->len - begin > size_limit(&q, udp)) {
    out->len = begin;
    put_response(zone, &q, rcode, &means, false, out);
  }
  return !out->overflow;
}
