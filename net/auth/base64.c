#include "net/auth/base64.h"

#include "core/base/error.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(struct fmt *out, struct span bytes) {
  for (; bytes.len > 0; bytes = span_skip(bytes, bytes.len < 3 ? bytes.len : 3)) {
    uint32_t group = (uint32_t)bytes.at[0] << 16;
    if (bytes.len > 1) group |= (uint32_t)bytes.at[1] << 8;
    if (bytes.len > 2) group |= bytes.at[2];
    char text[4] = {alphabet[group >> 18], alphabet[group >> 12 & 63], alphabet[group >> 6 & 63], alphabet[group & 63]};
    if (bytes.len < 3) text[3] = '=';
    if (bytes.len < 2) text[2] = '=';
    fmt_bytes(out, text, sizeof text);
  }
}

static int value_of(uint8_t c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (ascii_is_digit(c)) return c - '0' + 52;
  return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Four letters, of which the last one or two may be padding; how many bytes they are, or -1. */
static int decode_group(const uint8_t *at, bool last, uint8_t bytes[3]) {
  int padding = last && at[3] == '=' ? (at[2] == '=' ? 2 : 1) : 0;
  uint32_t group = 0;
  for (int i = 0; i < 4; i++) {
    int value = i < 4 - padding ? value_of(at[i]) : 0;
    if (value < 0) return -1;
    group = group << 6 | (uint32_t)value;
  }
  if ((padding == 1 && (group & 0xff) != 0) || (padding == 2 && (group & 0xffff) != 0)) return -1;
  bytes[0] = (uint8_t)(group >> 16);
  bytes[1] = (uint8_t)(group >> 8);
  bytes[2] = (uint8_t)group;
  return 3 - padding;
}

int base64_decode(struct span text, void *room, size_t size, size_t *len) {
  uint8_t *to = room;
  size_t used = 0;
  if (text.len % 4 != 0) return E_SYNTAX;
  for (size_t at = 0; at < text.len; at += 4) {
    uint8_t bytes[3];
    int count = decode_group(text.at + at, at + 4 == text.len, bytes);
    if (count < 0) return E_SYNTAX;
    if ((size_t)count > size - used) return E_TOO_LONG;
    memcpy(to + used, bytes, (size_t)count);
    used += (size_t)count;
  }
  *len = used;
  return E_OK;
}
