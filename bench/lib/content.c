#include "bench/lib/content.h"

#include "bench/lib/domains.h"

enum { BODY_DIGITS = 10 };

void content_block_fill(struct content_block *block) {
  static const char alphabet[64] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 ,";
  for (unsigned line = 0; line < CONTENT_BLOCK_LINES; line++) {
    uint8_t *at = block->lines + line * CONTENT_LINE;
    for (unsigned i = 0; i < CONTENT_LINE - 2; i++) at[i] = (uint8_t)alphabet[mix64((uint64_t)line * CONTENT_LINE + i) % 62];
    at[CONTENT_LINE - 2] = '\r';
    at[CONTENT_LINE - 1] = '\n';
    at[CONTENT_LINE / 2] = ' ';
  }
  memset(block->tail, 'x', sizeof block->tail);
  memcpy(block->tail + sizeof block->tail - 2, "\r\n", 2);
}

struct span content_body(const struct content_block *block, uint64_t seq, uint64_t body_size, uint64_t offset) {
  must(offset < body_size);
  /* The last line is 2 to 81 bytes long, so that a lone CR or LF never has to fill the end. */
  uint64_t lines_size = body_size < 2 ? 0 : (body_size - 2) / CONTENT_LINE * CONTENT_LINE;
  if (offset >= lines_size) {
    size_t left = (size_t)(body_size - offset);
    return span_of(block->tail + sizeof block->tail - left, left);
  }
  uint64_t start = mix64(seq) % CONTENT_BLOCK_LINES * CONTENT_LINE;
  size_t at = (size_t)((start + offset) % sizeof block->lines);
  size_t in_block = sizeof block->lines - at;
  uint64_t in_body = lines_size - offset;
  return span_of(block->lines + at, in_body < in_block ? (size_t)in_body : in_block);
}

static void field(struct fmt *out, const char *name, uint64_t value) {
  fmt_text(out, name);
  fmt_u64(out, value);
}

bool content_header(struct content_stamp *stamp, size_t size, struct span from, struct span to, struct span date, struct fmt *out) {
  size_t begin = out->len;
  fmt_text(out, "X-Bench: run=");
  fmt_hex64(out, stamp->run);
  field(out, " seq=", stamp->seq);
  field(out, " sent=", stamp->sent_ns);
  field(out, " of=", stamp->messages);
  field(out, " rcpts=", stamp->recipients);
  fmt_text(out, " body=");
  size_t body_digits = out->len;
  fmt_u64_padded(out, 0, BODY_DIGITS);
  field(out, "\r\nSubject: Test message ", stamp->seq);
  fmt_text(out, "\r\nFrom: <");
  fmt_put(out, from);
  fmt_text(out, ">\r\nTo: <");
  fmt_put(out, to);
  fmt_text(out, ">\r\nDate: ");
  fmt_put(out, date);
  field(out, "\r\nMessage-ID: <", stamp->seq);
  fmt_char(out, '.');
  fmt_hex64(out, stamp->run);
  fmt_text(out, "@bench.invalid>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n");
  if (out->overflow || out->len - begin > size) return false;
  stamp->body_size = size - (out->len - begin);
  if (stamp->body_size == 1) stamp->body_size = 0;
  struct fmt patch = fmt_over(out->at + body_digits, BODY_DIGITS);
  fmt_u64_padded(&patch, stamp->body_size, BODY_DIGITS);
  return !patch.overflow;
}

/* Takes "name=" and the word after it off the front of the value. */
static bool take_word(struct span *value, const char *name, struct span *word) {
  size_t name_len = strlen(name);
  if (value->len < name_len || memcmp(value->at, name, name_len) != 0) return false;
  *value = span_skip(*value, name_len);
  ptrdiff_t space = span_find(*value, ' ');
  size_t len = space < 0 ? value->len : (size_t)space;
  *word = span_first(*value, len);
  *value = span_skip(*value, space < 0 ? len : len + 1);
  return true;
}

static bool take_number(struct span *value, const char *name, uint64_t *number) {
  struct span word;
  return take_word(value, name, &word) && span_to_u64(word, number);
}

static bool hex_to_u64(struct span word, uint64_t *number) {
  *number = 0;
  for (size_t i = 0; i < word.len; i++) {
    uint8_t c = ascii_lower(word.at[i]);
    if (!ascii_is_digit(c) && (c < 'a' || c > 'f')) return false;
    *number = *number << 4 | (uint64_t)(ascii_is_digit(c) ? c - '0' : c - 'a' + 10);
  }
  return word.len > 0 && word.len <= 16;
}

bool content_stamp_parse(struct content_stamp *stamp, struct span value) {
  struct span run;
  return take_word(&value, "run=", &run) && hex_to_u64(run, &stamp->run) && take_number(&value, "seq=", &stamp->seq) &&
         take_number(&value, "sent=", &stamp->sent_ns) && take_number(&value, "of=", &stamp->messages) &&
         take_number(&value, "rcpts=", &stamp->recipients) && take_number(&value, "body=", &stamp->body_size) && stamp->recipients > 0;
}

void content_reader_begin(struct content_reader *reader, const struct content_block *block) {
  reader->_block = block;
  reader->_in_body = reader->_different = reader->stamped = false;
  reader->size_bytes = reader->_body_at = 0;
  reader->_header_len = 0;
}

static void read_header(struct content_reader *reader, struct span header) {
  static const char name[] = "\r\nX-Bench: ";
  size_t name_len = sizeof name - 1;
  const uint8_t *at = memmem(header.at, header.len, name, name_len);
  if (at != NULL) {
    at += name_len;
  } else if (header.len > name_len && memcmp(header.at, name + 2, name_len - 2) == 0) {
    at = header.at + name_len - 2;
  } else {
    return;
  }
  struct span rest = span_of(at, (size_t)(header.at + header.len - at));
  ptrdiff_t end = span_find(rest, '\r');
  reader->stamped = end >= 0 && content_stamp_parse(&reader->stamp, span_first(rest, (size_t)end));
}

/* The length of the header with its blank line, or 0 if it does not end here. */
static size_t header_end(struct span bytes, size_t from) {
  const uint8_t *at = bytes.len < 4 ? NULL : memmem(bytes.at + from, bytes.len - from, "\r\n\r\n", 4);
  return at == NULL ? 0 : (size_t)(at - bytes.at) + 4;
}

/* How many of the bytes belong to the header; keeps them if the header goes on in the next piece. */
static size_t feed_header(struct content_reader *reader, struct span bytes) {
  size_t kept = reader->_header_len;
  size_t room = sizeof reader->_header - kept;
  if (kept == 0) { /* usually the whole header comes in one piece and needs no copy */
    size_t end = header_end(bytes, 0);
    if (end > 0) {
      read_header(reader, span_first(bytes, end));
      reader->_in_body = true;
      return end;
    }
  }
  size_t taken = bytes.len < room ? bytes.len : room;
  memcpy(reader->_header + kept, bytes.at, taken);
  reader->_header_len += taken;
  size_t end = header_end(span_of(reader->_header, kept + taken), kept < 3 ? 0 : kept - 3);
  if (end == 0 && kept + taken < sizeof reader->_header) return bytes.len;
  if (end > 0) read_header(reader, span_of(reader->_header, end));
  reader->_in_body = true;
  return end == 0 ? taken : end - kept;
}

static void feed_body(struct content_reader *reader, struct span bytes) {
  if (!reader->stamped || reader->_different) return;
  while (bytes.len > 0) {
    if (reader->_body_at >= reader->stamp.body_size) {
      reader->_different = true; /* longer than it was */
      return;
    }
    struct span expected = content_body(reader->_block, reader->stamp.seq, reader->stamp.body_size, reader->_body_at);
    size_t len = expected.len < bytes.len ? expected.len : bytes.len;
    if (memcmp(expected.at, bytes.at, len) != 0) {
      reader->_different = true;
      return;
    }
    reader->_body_at += len;
    bytes = span_skip(bytes, len);
  }
}

void content_reader_feed(struct content_reader *reader, struct span bytes) {
  reader->size_bytes += bytes.len;
  if (!reader->_in_body && bytes.len > 0) bytes = span_skip(bytes, feed_header(reader, bytes));
  if (reader->_in_body) feed_body(reader, bytes);
}

enum content_verdict content_reader_end(const struct content_reader *reader) {
  if (!reader->stamped) return CONTENT_FOREIGN;
  return reader->_different || reader->_body_at != reader->stamp.body_size ? CONTENT_CORRUPT : CONTENT_WHOLE;
}
