#include "net/mail/header.h"

enum { LINE_START, IN_NAME, IN_LINE, IN_VALUE };

void header_scan_init(struct header_scan *scan) { *scan = (struct header_scan){._state = LINE_START}; }

static bool is_blank(uint8_t byte) { return byte == ' ' || byte == '\t'; }

static struct span collected(struct header_scan *scan) {
  if (scan->_name_len > sizeof scan->_name) return SPAN("");
  while (scan->_name_len > 0 && scan->_name[scan->_name_len - 1] <= ' ') scan->_name_len--;
  return span_of(scan->_name, scan->_name_len);
}

static void collect(struct header_scan *scan, uint8_t byte) {
  if (scan->_name_len < sizeof scan->_name) {
    scan->_name[scan->_name_len++] = ascii_lower(byte);
  } else {
    scan->_name_len = sizeof scan->_name + 1;
  }
}

/* At the colon; blanks before it were legal once (RFC 5322 4.5). */
static void note_field(struct header_scan *scan) {
  static const struct {
    struct span name;
    enum header_field field;
  } wanted[] = {{SPAN("date"), HEADER_DATE}, {SPAN("from"), HEADER_FROM}, {SPAN("message-id"), HEADER_MESSAGE_ID}};
  struct span name = collected(scan);
  for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
    if (span_equal(name, wanted[i].name)) scan->fields |= wanted[i].field;
  scan->_state = span_equal(name, SPAN("tls-required")) ? IN_VALUE : IN_LINE;
  scan->_name_len = 0;
}

/* The next byte of a field's name. */
static void take_name(struct header_scan *scan, uint8_t byte) {
  if (byte == ':') {
    note_field(scan);
  } else if (byte == '\n') {
    scan->_state = LINE_START;
  } else {
    collect(scan, byte);
  }
}

/* Of TLS-Required; it is one word, on the line of the name. */
static void take_value(struct header_scan *scan, uint8_t byte) {
  if (byte == '\r' || byte == '\n') {
    if (span_equal(collected(scan), SPAN("no"))) scan->fields |= HEADER_TLS_OPTIONAL;
    scan->_state = byte == '\n' ? LINE_START : IN_LINE;
  } else if (!is_blank(byte) || scan->_name_len > 0) {
    collect(scan, byte);
  }
}

size_t header_scan_feed(struct header_scan *scan, struct span bytes) {
  must(!scan->over);
  for (size_t at = 0; at < bytes.len; at++) {
    uint8_t byte = bytes.at[at];
    if (scan->_state == LINE_START) {
      scan->over = byte == '\r';
      if (scan->over) return at;
      scan->_state = is_blank(byte) ? IN_LINE : IN_NAME; /* folded: of the field before */
      scan->_name_len = 0;
    }
    if (scan->_state == IN_NAME) {
      take_name(scan, byte);
    } else if (scan->_state == IN_VALUE) {
      take_value(scan, byte);
    } else {
      ptrdiff_t end = span_find(span_skip(bytes, at), '\n');
      if (end < 0) return bytes.len;
      at += (size_t)end;
      scan->_state = LINE_START;
    }
  }
  return bytes.len;
}
