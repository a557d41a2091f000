#include "dns/pack.h"

#include <stdlib.h>

/* ---- fields ---- */

static void put_u8(struct fmt *out, unsigned value) { fmt_char(out, (char)(uint8_t)value); }
static void put_u16(struct fmt *out, uint16_t value) { fmt_bytes(out, &value, sizeof value); }
static void put_u32(struct fmt *out, uint32_t value) { fmt_bytes(out, &value, sizeof value); }
static void put_text(struct fmt *out, struct span text) {
  put_u8(out, (unsigned)text.len);
  fmt_put(out, text);
}
static void put_address(struct fmt *out, const struct netaddr *address) {
  put_u8(out, address->family);
  fmt_bytes(out, address->bytes, address->family == 4 ? 4 : 16);
}

static void get(struct span *in, void *to, size_t len) {
  must(len <= in->len);
  if (len > 0) memcpy(to, in->at, len);
  *in = span_skip(*in, len);
}
static uint8_t get_u8(struct span *in) {
  uint8_t value;
  get(in, &value, sizeof value);
  return value;
}
static uint16_t get_u16(struct span *in) {
  uint16_t value;
  get(in, &value, sizeof value);
  return value;
}
static uint32_t get_u32(struct span *in) {
  uint32_t value;
  get(in, &value, sizeof value);
  return value;
}
/* Into `room` bytes, with a NUL behind. */
static uint8_t get_text(struct span *in, char *to, size_t room) {
  uint8_t len = get_u8(in);
  must(len < room);
  get(in, to, len);
  to[len] = '\0';
  return len;
}
static void get_address(struct span *in, struct netaddr *address) {
  *address = (struct netaddr){.family = get_u8(in)};
  get(in, address->bytes, address->family == 4 ? 4 : 16);
}

/* ---- answers ---- */

void dns_answer_pack(const struct dns_answer *answer, uint16_t type, struct fmt *out) {
  put_u8(out, answer->outcome | (unsigned)answer->secure << 4 | (unsigned)answer->silent << 5 | (unsigned)answer->cut << 6);
  put_u16(out, answer->rcode);
  put_u16(out, (uint16_t)answer->total);
  put_u8(out, answer->count);
  put_text(out, dns_name_span(&answer->canonical));
  for (unsigned i = 0; i < answer->count; i++) {
    switch (type) {
    case DNS_MX:
      put_u16(out, answer->mx[i].preference);
      put_text(out, dns_name_span(&answer->mx[i].target));
      break;
    case DNS_TLSA:
    case DNS_TXT:
      put_u16(out, answer->bytes.piece[i].len);
      fmt_put(out, dns_answer_bytes(answer, i));
      break;
    default: put_address(out, &answer->address[i]); break;
    }
  }
}

static uint16_t get_bytes(struct span *in, struct dns_bytes *bytes, unsigned i, uint16_t at) {
  uint16_t len = get_u16(in);
  must(at + len <= DNS_BYTES_MAX);
  bytes->piece[i].at = at;
  bytes->piece[i].len = len;
  get(in, bytes->room + at, len);
  return len;
}

void dns_answer_unpack(struct span packed, uint16_t type, struct dns_answer *answer) {
  uint16_t at = 0;
  uint8_t first = get_u8(&packed);
  answer->outcome = (enum dns_outcome)(first & 15);
  answer->secure = (first >> 4 & 1) != 0;
  answer->silent = (first >> 5 & 1) != 0;
  answer->cut = (first >> 6 & 1) != 0;
  answer->rcode = get_u16(&packed);
  answer->ttl_s = 0;
  answer->total = get_u16(&packed);
  answer->count = get_u8(&packed);
  answer->canonical.len = get_text(&packed, answer->canonical.text, sizeof answer->canonical.text);
  must(answer->count <= DNS_ANSWERS_MAX);
  for (unsigned i = 0; i < answer->count; i++) {
    switch (type) {
    case DNS_MX:
      answer->mx[i].preference = get_u16(&packed);
      answer->mx[i].target.len = get_text(&packed, answer->mx[i].target.text, sizeof answer->mx[i].target.text);
      break;
    case DNS_TLSA:
    case DNS_TXT: at += get_bytes(&packed, &answer->bytes, i, at); break;
    default: get_address(&packed, &answer->address[i]); break;
    }
  }
  must(packed.len == 0);
}

/* ---- sets ---- */

void mx_set_pack(const struct mx_set *set, struct fmt *out) {
  put_u8(out, set->status | (unsigned)set->implicit << 4 | (unsigned)set->secure << 5 | (unsigned)set->mx_secure << 6);
  put_u32(out, set->ttl_s);
  put_text(out, span_of_text(set->reason));
  put_u8(out, set->hosts);
  for (unsigned i = 0; i < set->hosts; i++) {
    const struct mx_host *host = &set->host[i];
    put_u16(out, host->preference);
    put_text(out, span_of(host->name, host->name_len));
    put_text(out, span_of(host->canonical, host->canonical_len));
    put_u8(out, host->addresses | (unsigned)host->secure << 7);
    for (unsigned a = 0; a < host->addresses; a++) put_address(out, &host->address[a]);
  }
}

static void host_unpack(struct span *in, struct mx_host *host) {
  host->preference = get_u16(in);
  host->name_len = get_text(in, host->name, sizeof host->name);
  host->canonical_len = get_text(in, host->canonical, sizeof host->canonical);
  uint8_t count = get_u8(in);
  host->addresses = count & 0x7f;
  host->secure = count >> 7 != 0;
  must(host->addresses <= MX_ADDRESSES_MAX);
  for (unsigned a = 0; a < host->addresses; a++) get_address(in, &host->address[a]);
}

bool mx_set_unpack(struct span packed, struct mx_set *set) {
  uint8_t first = get_u8(&packed);
  *set = (struct mx_set){
      .status = (enum mx_status)(first & 15), .implicit = (first >> 4 & 1) != 0, .secure = (first >> 5 & 1) != 0, .mx_secure = (first >> 6 & 1) != 0};
  set->ttl_s = get_u32(&packed);
  get_text(&packed, set->reason, sizeof set->reason);
  unsigned hosts = get_u8(&packed);
  if (hosts == 0) return true;
  must(hosts <= MX_HOSTS_MAX);
  set->host = malloc(hosts * sizeof *set->host);
  if (set->host == NULL) {
    mx_set_fail(set, MX_TEMPORARY, "out of memory");
    return false;
  }
  for (; set->hosts < hosts; set->hosts++) host_unpack(&packed, &set->host[set->hosts]);
  must(packed.len == 0);
  return true;
}
