#include "dns/codec.h"

#include <ldns/ldns.h>

#include "core/base/error.h"

/* ---- questions ---- */

static bool upper_wanted(const struct dns_question *question, size_t i) {
  return question->mix != NULL && (question->mix[i / 8] >> (i % 8) & 1) != 0 && ascii_is_alpha(question->name.at[i]);
}

static uint8_t byte_sent(const struct dns_question *question, size_t i) {
  uint8_t c = question->name.at[i];
  return upper_wanted(question, i) ? (uint8_t)(c & ~0x20) : c;
}

static ldns_pkt *query_packet(const struct dns_question *question, uint16_t id, bool edns) {
  char text[DNS_NAME_MAX + 1];
  for (size_t i = 0; i < question->name.len; i++) text[i] = (char)byte_sent(question, i);
  text[question->name.len] = '\0';
  ldns_rdf *name = ldns_dname_new_frm_str(text);
  if (name == NULL) return NULL;
  ldns_pkt *packet = ldns_pkt_query_new(name, (ldns_rr_type)question->type, LDNS_RR_CLASS_IN, LDNS_RD | LDNS_AD);
  if (packet == NULL) {
    ldns_rdf_deep_free(name);
    return NULL;
  }
  ldns_pkt_set_id(packet, id);
  if (edns) ldns_pkt_set_edns_udp_size(packet, DNS_EDNS_SIZE);
  return packet;
}

int dns_encode(const struct dns_question *question, uint16_t id, bool edns, struct fmt *out) {
  uint8_t room[DNS_QUERY_MAX];
  if (question->type == 0 || dns_name_check(question->name) != E_OK) return E_SYNTAX; /* type 0: ldns would make it A */
  ldns_pkt *packet = query_packet(question, id, edns);
  if (packet == NULL) return E_NO_MEMORY;
  /* A buffer over our own memory: ldns would take 64 KiB for every query. Fixed, so it never reallocates. */
  ldns_buffer buffer = {._limit = sizeof room, ._capacity = sizeof room, ._data = room, ._fixed = 1, ._status = LDNS_STATUS_OK};
  ldns_status status = ldns_pkt2buffer_wire(&buffer, packet);
  ldns_pkt_free(packet);
  if (status != LDNS_STATUS_OK) return E_NO_MEMORY;
  fmt_bytes(out, room, ldns_buffer_position(&buffer));
  return out->overflow ? E_FULL : E_OK;
}

/* ---- names on the wire ---- */

/* An uncompressed name. Length octets are below 64, so they compare as they are under a comparison without case. */
static struct span wire_of(const ldns_rdf *name) { return span_of(ldns_rdf_data(name), ldns_rdf_size(name)); }

/* False if a label has a byte that host names do not have. The root becomes the empty name. */
static bool name_from_wire(struct dns_name *name, struct span wire, bool lower) {
  struct fmt text = fmt_over(name->text, DNS_NAME_MAX);
  for (size_t at = 0; at < wire.len && wire.at[at] != 0;) {
    size_t end = at + 1 + wire.at[at];
    if (wire.at[at] > 63 || end >= wire.len) return false;
    if (text.len > 0) fmt_char(&text, '.');
    for (at++; at < end; at++) {
      if (!dns_name_byte(wire.at[at])) return false;
      fmt_char(&text, (char)(lower ? ascii_lower(wire.at[at]) : wire.at[at]));
    }
  }
  if (text.overflow) return false;
  name->len = (uint8_t)text.len;
  name->text[text.len] = '\0';
  return true;
}

/* ---- packets ---- */

struct reader {
  struct span packet;
  size_t at;
  unsigned records; /* read so far */
  ldns_rr *question;
  ldns_rr *answer[DNS_PACKET_RECORDS_MAX];
  unsigned answers;
  bool has_soa;
  bool has_ns;
  uint32_t negative_ttl_s;
  uint8_t rcode_high; /* of the OPT record */
};

static uint32_t sane_ttl(uint32_t ttl_s) { return ttl_s > DNS_TTL_MAX_S ? 0 : ttl_s; }
static uint32_t least(uint32_t a, uint32_t b) { return a < b ? a : b; }

static int read_record(struct reader *r, ldns_pkt_section section, ldns_rr **record) {
  if (++r->records > DNS_PACKET_RECORDS_MAX) return E_TOO_LONG;
  if (r->at >= r->packet.len) return E_SYNTAX;
  return ldns_wire2rr(record, r->packet.at, r->packet.len, &r->at, section) == LDNS_STATUS_OK ? E_OK : E_SYNTAX;
}

static int read_question(struct reader *r, unsigned count, struct dns_reply *reply) {
  if (count == 0) return E_OK;
  if (count > 1) return E_SYNTAX; /* RFC 9619 */
  int error = read_record(r, LDNS_SECTION_QUESTION, &r->question);
  if (error != E_OK) return error;
  if (ldns_rr_get_class(r->question) != LDNS_RR_CLASS_IN) return E_SYNTAX;
  reply->type = (uint16_t)ldns_rr_get_type(r->question);
  reply->asked = name_from_wire(&reply->name, wire_of(ldns_rr_owner(r->question)), false);
  return reply->asked ? E_OK : E_SYNTAX; /* we never ask for such a name */
}

static int read_answers(struct reader *r, unsigned count) {
  for (unsigned i = 0; i < count; i++) {
    int error = read_record(r, LDNS_SECTION_ANSWER, &r->answer[r->answers]);
    if (error != E_OK) return error;
    r->answers++; /* never more than records */
  }
  return E_OK;
}

static bool is(const ldns_rr *record, enum dns_type type, size_t fields) {
  return (unsigned)ldns_rr_get_type(record) == (unsigned)type && ldns_rr_rd_count(record) >= fields;
}

static void note_authority(struct reader *r, const ldns_rr *record) {
  if (ldns_rr_get_class(record) != LDNS_RR_CLASS_IN) return;
  if (is(record, DNS_NS, 1)) r->has_ns = true;
  if (!is(record, DNS_SOA, 7) || ldns_rdf_size(ldns_rr_rdf(record, 6)) != 4) return;
  r->has_soa = true;
  r->negative_ttl_s = least(sane_ttl(ldns_rr_ttl(record)), sane_ttl(ldns_rdf2native_int32(ldns_rr_rdf(record, 6)))); /* RFC 2308 5 */
}

static int read_rest(struct reader *r, unsigned authority, unsigned additional) {
  for (unsigned i = 0; i < authority + additional; i++) {
    ldns_rr *record = NULL;
    int error = read_record(r, i < authority ? LDNS_SECTION_AUTHORITY : LDNS_SECTION_ADDITIONAL, &record);
    if (error != E_OK) return error;
    if (i < authority) {
      note_authority(r, record);
    } else if (is(record, DNS_OPT, 0)) {
      r->rcode_high = (uint8_t)(ldns_rr_ttl(record) >> 24); /* RFC 6891 6.1.3 */
    }
    ldns_rr_free(record);
  }
  return E_OK;
}

/* ---- from records to the answer ---- */

static const ldns_rr *alias_of(const struct reader *r, struct span owner) {
  for (unsigned i = 0; i < r->answers; i++)
    if (is(r->answer[i], DNS_CNAME, 1) && span_equal_nocase(wire_of(ldns_rr_owner(r->answer[i])), owner)) return r->answer[i];
  return NULL;
}

/* From the name asked for to the one that has the records, as far as the packet tells (RFC 1034 3.6.2). */
static int follow_aliases(const struct reader *r, struct span *owner, uint32_t *ttl_s) {
  for (unsigned steps = 0;; steps++) {
    const ldns_rr *alias = alias_of(r, *owner);
    if (alias == NULL) return E_OK;
    if (steps == DNS_CHAIN_MAX) return E_PROTOCOL; /* a loop, or as good as one */
    *owner = wire_of(ldns_rr_rdf(alias, 0));
    *ttl_s = least(*ttl_s, sane_ttl(ldns_rr_ttl(alias)));
  }
}

static int mx_compare(const struct dns_mx *a, const struct dns_mx *b) {
  if (a->preference != b->preference) return a->preference < b->preference ? -1 : 1;
  return strcmp(a->target.text, b->target.text);
}

/* Keeps the best, in order, so that the same records give the same hosts whatever order a server sends them in. */
static void keep_mx(struct dns_answer *answer, const ldns_rr *record) {
  struct dns_mx mx = {.preference = ldns_rdf2native_int16(ldns_rr_rdf(record, 0))};
  if (!name_from_wire(&mx.target, wire_of(ldns_rr_rdf(record, 1)), true)) return;
  unsigned at = answer->count;
  while (at > 0 && mx_compare(&mx, &answer->mx[at - 1]) < 0) at--;
  if (at == DNS_ANSWERS_MAX) return;
  if (answer->count < DNS_ANSWERS_MAX) answer->count++;
  memmove(&answer->mx[at + 1], &answer->mx[at], (answer->count - 1 - at) * sizeof mx);
  answer->mx[at] = mx;
}

static void keep_address(struct dns_answer *answer, const ldns_rdf *field, uint8_t family) {
  size_t len = family == 4 ? 4 : 16;
  if (answer->count == DNS_ANSWERS_MAX || ldns_rdf_size(field) != len) return;
  struct netaddr *address = &answer->address[answer->count++];
  *address = (struct netaddr){.family = family};
  memcpy(address->bytes, ldns_rdf_data(field), len);
}

/* The fields of a TLSA record as they are; of a TXT record each without its length. */
static void keep_bytes(struct dns_answer *answer, const ldns_rr *record, size_t skipped) {
  struct dns_bytes *bytes = &answer->bytes;
  unsigned last = answer->count - 1u;
  size_t at = answer->count == 0 ? 0 : (size_t)bytes->piece[last].at + bytes->piece[last].len;
  struct fmt out = fmt_over(bytes->room + at, sizeof bytes->room - at);
  for (size_t i = 0; i < ldns_rr_rd_count(record); i++) fmt_put(&out, span_skip(wire_of(ldns_rr_rdf(record, i)), skipped));
  if (answer->count == DNS_ANSWERS_MAX || out.overflow) {
    answer->cut = true;
    return;
  }
  bytes->piece[answer->count].at = (uint16_t)at;
  bytes->piece[answer->count++].len = (uint16_t)out.len;
}

static void keep(struct dns_answer *answer, const ldns_rr *record, uint16_t type) {
  switch (type) {
  case DNS_MX:
    if (is(record, DNS_MX, 2)) keep_mx(answer, record);
    break;
  case DNS_A:
    if (is(record, DNS_A, 1)) keep_address(answer, ldns_rr_rdf(record, 0), 4);
    break;
  case DNS_AAAA:
    if (is(record, DNS_AAAA, 1)) keep_address(answer, ldns_rr_rdf(record, 0), 6);
    break;
  case DNS_TLSA: keep_bytes(answer, record, 0); break;
  case DNS_TXT: keep_bytes(answer, record, 1); break;
  default: break;
  }
}

static void collect(const struct reader *r, struct span owner, uint16_t type, struct dns_answer *answer) {
  for (unsigned i = 0; i < r->answers; i++) {
    const ldns_rr *record = r->answer[i];
    if ((unsigned)ldns_rr_get_type(record) != type || ldns_rr_get_class(record) != LDNS_RR_CLASS_IN) continue;
    if (!span_equal_nocase(wire_of(ldns_rr_owner(record)), owner)) continue;
    answer->total++;
    answer->ttl_s = least(answer->ttl_s, sane_ttl(ldns_rr_ttl(record)));
    keep(answer, record, type);
  }
}

static void failed(struct dns_answer *answer, uint16_t rcode) { *answer = (struct dns_answer){.outcome = DNS_FAILED, .rcode = rcode}; }

static void set_negative(const struct reader *r, struct dns_answer *answer, enum dns_outcome outcome) {
  answer->outcome = outcome;
  answer->count = answer->total = 0;
  answer->cut = false;
  answer->ttl_s = r->has_soa ? least(answer->ttl_s, r->negative_ttl_s) : 0;
}

/* The reply's rcode and records as an answer to its own question. */
static void conclude(const struct reader *r, struct dns_reply *reply) {
  struct dns_answer *answer = &reply->answer;
  struct span asked = wire_of(ldns_rr_owner(r->question));
  struct span owner = asked;
  answer->ttl_s = DNS_TTL_MAX_S;
  if (reply->rcode != DNS_NOERROR && reply->rcode != DNS_NXDOMAIN) {
    failed(answer, reply->rcode);
    return;
  }
  if (reply->type != DNS_CNAME && follow_aliases(r, &owner, &answer->ttl_s) != E_OK) {
    failed(answer, DNS_SERVFAIL);
    return;
  }
  if (owner.at != asked.at && !name_from_wire(&answer->canonical, owner, true)) answer->canonical = (struct dns_name){0};
  collect(r, owner, reply->type, answer);
  if (reply->rcode == DNS_NXDOMAIN) { /* of the last name of the chain: RFC 6604 3 */
    set_negative(r, answer, DNS_NO_NAME);
  } else if (answer->total > 0) {
    answer->outcome = DNS_FOUND;
  } else if (r->has_ns && !r->has_soa) {
    failed(answer, DNS_SERVFAIL); /* a referral (RFC 2308 2.2): this server does not look for us */
  } else {
    set_negative(r, answer, DNS_NO_DATA);
  }
}

static int read_packet(struct reader *r, struct dns_reply *reply) {
  const uint8_t *header = r->packet.at;
  r->at = LDNS_HEADER_SIZE;
  int error = read_question(r, LDNS_QDCOUNT(header), reply);
  if (error != E_OK || reply->truncated) return error;
  error = read_answers(r, LDNS_ANCOUNT(header));
  if (error != E_OK) return error;
  error = read_rest(r, LDNS_NSCOUNT(header), LDNS_ARCOUNT(header));
  if (error != E_OK) return error;
  reply->rcode = (uint16_t)(reply->rcode | r->rcode_high << 4);
  reply->answer.secure = LDNS_AD_WIRE(header) != 0;
  if (reply->asked) conclude(r, reply);
  return E_OK;
}

int dns_decode(struct span packet, struct dns_reply *reply) {
  struct reader r;
  memset(reply, 0, sizeof *reply);
  if (packet.len < LDNS_HEADER_SIZE || packet.len > LDNS_MAX_PACKETLEN) return E_SYNTAX;
  if (LDNS_OPCODE_WIRE(packet.at) != LDNS_PACKET_QUERY) return E_SYNTAX;
  reply->id = LDNS_ID_WIRE(packet.at);
  reply->response = LDNS_QR_WIRE(packet.at) != 0;
  reply->truncated = LDNS_TC_WIRE(packet.at) != 0;
  reply->rcode = LDNS_RCODE_WIRE(packet.at);
  memset(&r, 0, offsetof(struct reader, answer));
  r.packet = packet;
  r.answers = 0;
  r.has_soa = r.has_ns = false;
  r.negative_ttl_s = 0;
  r.rcode_high = 0;
  int error = read_packet(&r, reply);
  ldns_rr_free(r.question);
  for (unsigned i = 0; i < r.answers; i++) ldns_rr_free(r.answer[i]);
  return error;
}

enum dns_match_result dns_match(const struct dns_reply *reply, const struct dns_question *question) {
  bool same_case = true;
  if (!reply->response || !reply->asked || reply->type != question->type || reply->name.len != question->name.len) return DNS_NO_MATCH;
  for (size_t i = 0; i < question->name.len; i++) {
    uint8_t got = (uint8_t)reply->name.text[i];
    if (ascii_lower(got) != question->name.at[i]) return DNS_NO_MATCH;
    if (got != byte_sent(question, i)) same_case = false;
  }
  return same_case ? DNS_MATCH : DNS_MATCH_BUT_CASE;
}

const char *dns_rcode_text(uint16_t rcode) {
  static const char *const text[] = {"NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"};
  return rcode < sizeof text / sizeof *text ? text[rcode] : "an unusual rcode";
}

const char *dns_type_text(uint16_t type) {
  switch (type) {
  case DNS_A: return "A";
  case DNS_AAAA: return "AAAA";
  case DNS_MX: return "MX";
  case DNS_CNAME: return "CNAME";
  case DNS_TXT: return "TXT";
  case DNS_TLSA: return "TLSA";
  default: return "?";
  }
}
