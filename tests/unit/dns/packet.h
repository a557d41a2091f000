/*
 * packet: DNS packets written by hand for the tests, without the code under test. Counts are kept up to date in the header.
 */
#ifndef TESTS_UNIT_DNS_PACKET_H
#define TESTS_UNIT_DNS_PACKET_H

#include "core/base/fmt.h"
#include "core/base/must.h"

enum packet_section { PACKET_QUESTION = 0, PACKET_ANSWER = 1, PACKET_AUTHORITY = 2, PACKET_ADDITIONAL = 3 };
enum packet_flag { PACKET_QR = 0x8000, PACKET_AA = 0x0400, PACKET_TC = 0x0200, PACKET_RD = 0x0100, PACKET_RA = 0x0080, PACKET_AD = 0x0020 };

static inline void packet_u16(struct fmt *out, unsigned value) {
  fmt_char(out, (char)(value >> 8));
  fmt_char(out, (char)value);
}

static inline void packet_u32(struct fmt *out, uint32_t value) {
  packet_u16(out, value >> 16);
  packet_u16(out, value & 0xffff);
}

static inline void packet_begin(struct fmt *out, uint16_t id, unsigned flags) {
  packet_u16(out, id);
  packet_u16(out, flags);
  for (unsigned i = 0; i < 4; i++) packet_u16(out, 0);
}

static inline void packet_count(struct fmt *out, enum packet_section section) {
  uint8_t *at = out->at + 4 + 2 * section;
  unsigned count = (unsigned)(at[0] << 8 | at[1]) + 1;
  at[0] = (uint8_t)(count >> 8);
  at[1] = (uint8_t)count;
}

/* Uncompressed; "" is the root. */
static inline void packet_name(struct fmt *out, const char *name) {
  while (*name != '\0') {
    size_t len = strcspn(name, ".");
    fmt_char(out, (char)len);
    fmt_bytes(out, name, len);
    name += len + (name[len] == '.');
  }
  fmt_char(out, 0);
}

static inline void packet_question(struct fmt *out, const char *name, unsigned type) {
  packet_name(out, name);
  packet_u16(out, type);
  packet_u16(out, 1);
  packet_count(out, PACKET_QUESTION);
}

/* Up to the length of the data, which packet_end writes. Returns where it goes. */
static inline size_t packet_record(struct fmt *out, enum packet_section section, const char *name, unsigned type, uint32_t ttl_s) {
  packet_name(out, name);
  packet_u16(out, type);
  packet_u16(out, 1);
  packet_u32(out, ttl_s);
  packet_u16(out, 0);
  packet_count(out, section);
  return out->len;
}

static inline void packet_end(struct fmt *out, size_t start) {
  size_t len = out->len - start;
  must(!out->overflow);
  out->at[start - 2] = (uint8_t)(len >> 8);
  out->at[start - 1] = (uint8_t)len;
}

static inline void packet_mx(struct fmt *out, const char *name, uint32_t ttl_s, unsigned preference, const char *target) {
  size_t start = packet_record(out, PACKET_ANSWER, name, 15, ttl_s);
  packet_u16(out, preference);
  packet_name(out, target);
  packet_end(out, start);
}

static inline void packet_named(struct fmt *out, enum packet_section section, const char *name, unsigned type, uint32_t ttl_s, const char *target) {
  size_t start = packet_record(out, section, name, type, ttl_s);
  packet_name(out, target);
  packet_end(out, start);
}

static inline void packet_bytes(struct fmt *out, const char *name, unsigned type, uint32_t ttl_s, const void *bytes, size_t len) {
  size_t start = packet_record(out, PACKET_ANSWER, name, type, ttl_s);
  fmt_bytes(out, bytes, len);
  packet_end(out, start);
}

static inline void packet_soa(struct fmt *out, const char *zone, uint32_t ttl_s, uint32_t minimum_s) {
  size_t start = packet_record(out, PACKET_AUTHORITY, zone, 6, ttl_s);
  packet_name(out, "ns.invalid");
  packet_name(out, "hostmaster.invalid");
  for (unsigned i = 0; i < 4; i++) packet_u32(out, 7200);
  packet_u32(out, minimum_s);
  packet_end(out, start);
}

#endif
