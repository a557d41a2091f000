#include "tests/lib/wire.h"

static bool at_text(struct span bytes, size_t at, const char *text) {
  struct span wanted = span_of_text(text);
  return bytes.len - at >= wanted.len && memcmp(bytes.at + at, text, wanted.len) == 0;
}

static bool line_begins(struct span bytes, size_t at) { return at == 0 || (at >= 2 && memcmp(bytes.at + at - 2, "\r\n", 2) == 0); }

static void find_end(struct span bytes, struct wire *wire) {
  wire->content = wire->used = bytes.len;
  for (size_t i = 0; i < bytes.len; i++) {
    if (!line_begins(bytes, i)) continue;
    if (at_text(bytes, i, ".\r\n")) {
      wire->end = true;
      wire->content = i;
      wire->used = i + 3;
      return;
    }
    struct span rest = span_skip(bytes, i);
    if (span_equal(rest, SPAN(".")) || span_equal(rest, SPAN(".\r"))) wire->content = i;
  }
}

static void look_at_octets(struct span content, bool end, struct wire *wire) {
  for (size_t i = 0; i < content.len; i++) {
    uint8_t c = content.at[i];
    if (c == '\n' && (i == 0 || content.at[i - 1] != '\r')) wire->bare = true;
    if (c == '\r' && i + 1 < content.len && content.at[i + 1] != '\n') wire->bare = true;
    if (c == '\r' && i + 1 == content.len && end) wire->bare = true;
    if (c > 127) wire->eight_bit = true;
    if (c == 0) wire->nul = true;
  }
}

static void look_at_lines(struct span content, struct wire *wire) {
  bool header = true;
  for (size_t line = 0; line < content.len;) {
    size_t len = 0;
    while (line + len < content.len && !at_text(content, line + len, "\r\n")) len++;
    bool whole = line + len < content.len;
    if (content.at[line] == '.') {
      wire->leading_dot = true;
      wire->stuffed++;
    }
    if (content.at[line] == '\r') header = false;
    if (header && len >= 9 && span_starts_nocase(span_skip(content, line), SPAN("Received:"))) wire->received_headers++;
    if (header && len > 65536) wire->long_header = true;
    if (whole && len > wire->longest_line) wire->longest_line = (uint32_t)len;
    line += len + (whole ? 2 : 0);
  }
}

struct wire wire_read(struct span bytes) {
  struct wire wire = {0};
  find_end(bytes, &wire);
  struct span content = span_first(bytes, wire.content);
  look_at_octets(content, wire.end || wire.content < bytes.len, &wire);
  look_at_lines(content, &wire);
  return wire;
}

size_t wire_stuff(struct span message, uint8_t *room) {
  size_t len = 0;
  for (size_t i = 0; i < message.len; i++) {
    if (message.at[i] == '.' && line_begins(message, i)) room[len++] = '.';
    room[len++] = message.at[i];
  }
  if (!line_begins(message, message.len)) {
    room[len++] = '\r';
    room[len++] = '\n';
  }
  return len;
}

size_t wire_unstuff(struct span content, uint8_t *room) {
  size_t len = 0;
  for (size_t i = 0; i < content.len; i++)
    if (content.at[i] != '.' || !line_begins(content, i)) room[len++] = content.at[i];
  return len;
}
