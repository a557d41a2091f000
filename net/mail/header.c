#include "net/mail/header.h"

enum { LINE_START, IN_NAME, IN_LINE };

void header_scan_init(struct header_scan *scan) { *scan = (struct header_scan){._state = LINE_START}; }

static void note_field(struct header_scan *scan) {
  static const struct {
    struct span name;
    enum header_field field;
  } wanted[] = {{SPAN("date"), HEADER_DATE}, {SPAN("from"), HEADER_FROM}, {SPAN("message-id"), HEADER_MESSAGE_ID}};
  if (scan->_name_len > sizeof scan->_name) return;
  while (scan->_name_len > 0 && scan->_name[scan->_name_len - 1] <= ' ')
    scan->_name_len--; /* RFC 5322 4.5: blanks before the colon were legal once */
  for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
    if (span_equal(span_of(scan->_name, scan->_name_len), wanted[i].name)) scan->fields |= wanted[i].field;
}

/* The next byte of a field's name. */
static void take_name(struct header_scan *scan, uint8_t byte) {
  if (byte == ':') {
    note_field(scan);
    scan->_state = IN_LINE;
  } else if (byte == '\n') {
    scan->_state = LINE_START;
  } else if (scan->_name_len < sizeof scan->_name) {
    scan->_name[scan->_name_len++] = ascii_lower(byte);
  } else {
    scan->_name_len = sizeof scan->_name + 1;
  }
}

size_t header_scan_feed(struct header_scan *scan, struct span bytes) {
  must(!scan->over);
  for (size_t at = 0; at < bytes.len; at++) {
    uint8_t byte = bytes.at[at];
    if (scan->_state == LINE_START) {
      scan->over = byte == '\r';
      if (scan->over) return at;
      scan->_state = byte == ' ' || byte == '\t' ? IN_LINE : IN_NAME; /* folded: of the field before */
      scan->_name_len = 0;
    }
    if (scan->_state == IN_NAME) {
      take_name(scan, byte);
    } else {
      ptrdiff_t end = span_find(span_skip(bytes, at), '\n');
      if (end < 0) return bytes.len;
      at += (size_t)end;
      scan->_state = LINE_START;
    }
  }
  return bytes.len;
}
