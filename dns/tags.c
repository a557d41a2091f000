#include "dns/tags.h"

#include "core/base/error.h"
#include "dns/codec.h"

bool tags_name_is_valid(struct span name) {
  if (name.len == 0 || name.len > 32) return false;
  for (size_t i = 0; i < name.len; i++) {
    uint8_t c = name.at[i];
    if (!ascii_is_alpha(c) && !ascii_is_digit(c) && (i == 0 || (c != '_' && c != '-' && c != '.'))) return false;
  }
  return true;
}

bool tags_has_controls(struct span text) {
  for (size_t i = 0; i < text.len; i++)
    if ((text.at[i] < ' ' && text.at[i] != '\t') || text.at[i] == 0x7f) return true;
  return false;
}

bool tags_begin(struct span *text, struct span version) {
  struct span rest = *text;
  if (!span_equal(span_trim(span_take_until(&rest, ';')), version)) return false;
  *text = rest;
  return true;
}

int tags_next(struct span *text, struct span *name, struct span *value) {
  if (text->len == 0) return E_NOT_FOUND;
  struct span field = span_trim(span_take_until(text, ';'));
  if (field.len == 0 && text->len == 0) return E_NOT_FOUND;
  if (tags_has_controls(field) || span_find(field, '=') < 0) return E_SYNTAX;
  *name = span_take_until(&field, '=');
  *value = field;
  return tags_name_is_valid(*name) ? E_OK : E_SYNTAX;
}

bool tags_announced(const struct dns_answer *answer, struct span version, struct span *text) {
  unsigned records = 0;
  for (unsigned i = 0; answer->outcome == DNS_FOUND && i < answer->count; i++) {
    struct span bytes = dns_answer_bytes(answer, i);
    if (!tags_begin(&bytes, version)) continue;
    records++;
    *text = bytes;
  }
  return records == 1;
}
