#include "dns/name.h"

#include <idn2.h>

#include "core/base/error.h"

#define NAME_WIRE_TEXT_MAX 253 /* 255 on the wire (RFC 1035 3.1), less the first length and the root */
#define LABEL_MAX 63
#define UTF8_MAX 1000 /* longer cannot become a valid name; bounds the work of the conversion */

static bool all_digits(struct span label) {
  for (size_t i = 0; i < label.len; i++)
    if (!ascii_is_digit(label.at[i])) return false;
  return true;
}

int dns_name_check(struct span text) {
  size_t start = 0;
  if (text.len == 0 || text.len > NAME_WIRE_TEXT_MAX) return E_RANGE;
  for (size_t i = 0; i <= text.len; i++) {
    if (i < text.len && text.at[i] != '.') {
      if (!dns_name_byte(text.at[i])) return E_SYNTAX;
      continue;
    }
    if (i == start) return E_SYNTAX;
    if (i - start > LABEL_MAX) return E_RANGE;
    if (i == text.len && all_digits(span_of(text.at + start, i - start))) return E_SYNTAX; /* RFC 3696 2 */
    start = i + 1;
  }
  return E_OK;
}

static int take(struct dns_name *name, struct span text) {
  int error = dns_name_check(text);
  if (error != E_OK) return error;
  name->len = (uint8_t)text.len;
  for (size_t i = 0; i < text.len; i++) name->text[i] = (char)ascii_lower(text.at[i]);
  name->text[text.len] = '\0';
  return E_OK;
}

static bool is_ascii(struct span text) {
  for (size_t i = 0; i < text.len; i++)
    if (text.at[i] >= 0x80) return false;
  return true;
}

int dns_name_parse(struct dns_name *name, struct span text) {
  char utf8[UTF8_MAX + 1];
  char *ascii = NULL;
  if (is_ascii(text)) return take(name, text);
  if (text.len > UTF8_MAX) return E_RANGE;
  if (span_find(text, '\0') >= 0) return E_SYNTAX;
  memcpy(utf8, text.at, text.len);
  utf8[text.len] = '\0';
  if (idn2_to_ascii_8z(utf8, &ascii, IDN2_NONTRANSITIONAL | IDN2_NFC_INPUT) != IDN2_OK) return E_SYNTAX;
  int error = take(name, span_of_text(ascii));
  idn2_free(ascii);
  return error;
}

void dns_key_make(struct dns_key *key, uint16_t type, struct span name) {
  must(name.len <= DNS_NAME_MAX);
  key->at[0] = (uint8_t)(type >> 8);
  key->at[1] = (uint8_t)type;
  memcpy(key->at + 2, name.at, name.len);
  key->len = (uint16_t)(2 + name.len);
}
