#include "net/smtp/reply.h"

#include "core/base/error.h"

#define CODE_LEN 3

struct reply_line_parts {
  unsigned code;
  bool last;        /* no hyphen behind the code */
  struct span text; /* behind code and separator, without the line end */
  size_t len;       /* of the whole line, with its end */
};

/* Takes the line at the start of `bytes` apart. 1; 0 if it is not whole; E_PROTOCOL. A code without any text is legal (RFC 5321 4.2). */
static int line_take(struct reply_line_parts *line, struct span bytes) {
  ptrdiff_t end = span_find(bytes, '\n');
  if (end < 0) return 0;
  const uint8_t *at = bytes.at;
  size_t len = end > 0 && at[end - 1] == '\r' ? (size_t)end - 1 : (size_t)end;
  if (len < CODE_LEN || !ascii_is_digit(at[0]) || !ascii_is_digit(at[1]) || !ascii_is_digit(at[2])) return E_PROTOCOL;
  line->code = (at[0] - '0') * 100u + (at[1] - '0') * 10u + (at[2] - '0');
  if (line->code < 200 || line->code > 599) return E_PROTOCOL;
  if (len > CODE_LEN && at[CODE_LEN] != ' ' && at[CODE_LEN] != '-') return E_PROTOCOL;
  line->last = len == CODE_LEN || at[CODE_LEN] == ' ';
  line->text = len == CODE_LEN ? span_of(at + len, 0) : span_of(at + CODE_LEN + 1, len - CODE_LEN - 1);
  line->len = (size_t)end + 1;
  return 1;
}

/* One to three digits at text[*at]; moves *at behind them. */
static bool digits_take(struct span text, size_t *at, uint16_t *value) {
  size_t start = *at;
  for (*value = 0; *at < text.len && *at < start + 3 && ascii_is_digit(text.at[*at]); (*at)++) *value = (uint16_t)(*value * 10 + text.at[*at] - '0');
  return *at > start;
}

/* Reads "class.subject.detail" (RFC 3463 2) at the start of the text, to be followed by a space or the end; returns its length, or 0. */
static size_t enhanced_take(struct smtp_reply *reply, struct span text) {
  if (text.len < 5 || text.at[1] != '.' || (text.at[0] != '2' && text.at[0] != '4' && text.at[0] != '5')) return 0;
  uint16_t subject, detail;
  size_t at = 2;
  if (!digits_take(text, &at, &subject) || at >= text.len || text.at[at++] != '.') return 0;
  if (!digits_take(text, &at, &detail) || (at < text.len && text.at[at] != ' ')) return 0;
  reply->enhanced_class = text.at[0] - '0';
  reply->enhanced[0] = subject;
  reply->enhanced[1] = detail;
  return at;
}

static bool enhanced_repeats(struct span first, size_t len, struct span text) {
  return text.len >= len && memcmp(first.at, text.at, len) == 0 && (text.len == len || text.at[len] == ' ');
}

int reply_parse(struct smtp_reply *reply, struct span *in) {
  struct span window = span_first(*in, REPLY_BYTES_MAX);
  struct span first = {NULL, 0};
  size_t len = 0;
  reply->enhanced_class = 0;
  for (unsigned lines = 0; lines < REPLY_LINES_MAX; lines++) {
    struct reply_line_parts line;
    int got = line_take(&line, span_skip(window, len));
    if (got == 0) return window.len == REPLY_BYTES_MAX ? E_PROTOCOL : 0;
    if (got < 0 || (lines > 0 && line.code != reply->code)) return E_PROTOCOL;
    if (lines == 0) {
      reply->code = (uint16_t)line.code;
      reply->_enhanced_len = (uint8_t)enhanced_take(reply, line.text);
      first = line.text;
    } else {
      if (reply->enhanced_class == 0) enhanced_take(reply, line.text);
      if (!enhanced_repeats(first, reply->_enhanced_len, line.text)) reply->_enhanced_len = 0;
    }
    len += line.len;
    if (line.last) {
      reply->bytes = span_first(window, len);
      *in = span_skip(*in, len);
      return 1;
    }
  }
  return E_PROTOCOL;
}

bool reply_line(const struct smtp_reply *reply, size_t *cursor, struct span *text) {
  struct reply_line_parts line;
  if (*cursor >= reply->bytes.len || line_take(&line, span_skip(reply->bytes, *cursor)) != 1) return false;
  *cursor += line.len;
  *text = span_skip(line.text, reply->_enhanced_len);
  if (reply->_enhanced_len > 0 && text->len > 0) *text = span_skip(*text, 1); /* the space behind the enhanced code */
  return true;
}

void reply_join(const struct smtp_reply *reply, struct fmt *out) {
  struct span text;
  bool between = false;
  for (size_t cursor = 0; !out->overflow && reply_line(reply, &cursor, &text);) {
    if (text.len == 0) continue;
    if (between && fmt_room(out) > 0) out->at[out->len++] = ' ';
    between = true;
    text = span_first(text, fmt_room(out));
    uint8_t *to = out->at + out->len;
    for (size_t i = 0; i < text.len; i++) to[i] = text.at[i] < 0x20 || text.at[i] == 0x7f ? ' ' : text.at[i];
    out->len += text.len;
  }
}
