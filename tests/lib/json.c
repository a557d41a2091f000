#include "tests/lib/json.h"

#define DEPTH_MAX 16

struct cursor {
  const uint8_t *at, *end;
};

static bool value(struct cursor *c, unsigned depth);

static bool take(struct cursor *c, uint8_t byte) {
  if (c->at == c->end || *c->at != byte) return false;
  c->at++;
  return true;
}

static bool take_text(struct cursor *c, const char *text) {
  for (; *text != '\0'; text++)
    if (!take(c, (uint8_t)*text)) return false;
  return true;
}

/* One character above 0x7f, by decoding it and looking whether this was its shortest form. */
static bool utf8_character(struct cursor *c) {
  uint32_t first = *c->at++;
  unsigned more = first >= 0xf0 && first < 0xf8 ? 3 : first >= 0xe0 && first < 0xf0 ? 2 : first >= 0xc0 && first < 0xe0 ? 1 : 0;
  if (more == 0) return false;
  uint32_t code = first & (0x3fu >> more);
  for (unsigned i = 0; i < more; i++) {
    if (c->at == c->end || (*c->at & 0xc0) != 0x80) return false;
    code = code << 6 | (*c->at++ & 0x3f);
  }
  uint32_t least = more == 1 ? 0x80 : more == 2 ? 0x800 : 0x10000;
  return code >= least && code <= 0x10ffff && !(code >= 0xd800 && code <= 0xdfff);
}

static bool escape(struct cursor *c) {
  if (c->at == c->end) return false;
  uint8_t kind = *c->at++;
  if (kind != 'u') return memchr("\"\\/bfnrt", kind, 8) != NULL;
  for (unsigned i = 0; i < 4; i++) {
    if (c->at == c->end || !(ascii_is_digit(*c->at) || (ascii_lower(*c->at) >= 'a' && ascii_lower(*c->at) <= 'f'))) return false;
    c->at++;
  }
  return true;
}

static bool string(struct cursor *c) {
  if (!take(c, '"')) return false;
  while (c->at < c->end && *c->at != '"') {
    if (*c->at < 0x20) return false;
    if (*c->at == '\\') {
      c->at++;
      if (!escape(c)) return false;
    } else if (*c->at < 0x80) {
      c->at++;
    } else if (!utf8_character(c)) {
      return false;
    }
  }
  return take(c, '"');
}

static bool digits(struct cursor *c) {
  const uint8_t *from = c->at;
  while (c->at < c->end && ascii_is_digit(*c->at)) c->at++;
  return c->at > from;
}

static bool number(struct cursor *c) {
  (void)take(c, '-');
  if (!take(c, '0') && !digits(c)) return false;
  return !take(c, '.') || digits(c);
}

static bool members(struct cursor *c, bool named, uint8_t close, unsigned depth) {
  if (take(c, close)) return true;
  do {
    if (named && !(string(c) && take(c, ':'))) return false;
    if (!value(c, depth)) return false;
  } while (take(c, ','));
  return take(c, close);
}

static bool value(struct cursor *c, unsigned depth) {
  if (c->at == c->end || depth == 0) return false;
  switch (*c->at) {
  case '{': c->at++; return members(c, true, '}', depth - 1);
  case '[': c->at++; return members(c, false, ']', depth - 1);
  case '"': return string(c);
  case 't': return take_text(c, "true");
  case 'f': return take_text(c, "false");
  case 'n': return take_text(c, "null");
  default: return number(c);
  }
}

bool json_is_object(struct span text) {
  struct cursor c = {text.at, text.at + text.len};
  return text.len > 0 && *c.at == '{' && value(&c, DEPTH_MAX) && c.at == c.end;
}
