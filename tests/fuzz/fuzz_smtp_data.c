/* The scanner, fed in pieces that the first octet of the input chooses, finds what RFC 5321 4.5.2, read octet by octet, says; chunks come out as
 * wire_stuff would make them, and from that the message can be had back. */
#include <stdlib.h>

#include "core/base/must.h"
#include "net/smtp/data.h"
#include "tests/lib/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static size_t keep(uint8_t *room, size_t len, struct span content) {
  if (content.len > 0) memcpy(room + len, content.at, content.len);
  return len + content.len;
}

static void check_data(struct span bytes, size_t step, uint8_t *room) {
  struct wire wire = wire_read(bytes);
  struct data_scan scan;
  size_t used = 0, len = 0;
  bool end = false;
  data_scan_init(&scan);
  while (used < bytes.len && !end) {
    struct span in = span_first(span_skip(bytes, used), step), content;
    used += in.len;
    for (; in.len > 0 && !end; len = keep(room, len, content)) end = data_scan_feed(&scan, &in, &content);
    used -= in.len;
  }
  must(end == wire.end && used == wire.used && len == wire.content && (len == 0 || memcmp(room, bytes.at, len) == 0));
  if (!end) return;
  must(scan.bare == wire.bare && scan.nul == wire.nul && scan.eight_bit == wire.eight_bit);
  if (scan.bare) return; /* then the lines do not matter */
  must(scan.leading_dot == wire.leading_dot && scan.stuffed == wire.stuffed);
  must(scan.longest_line == wire.longest_line && scan.long_header == wire.long_header && scan.received_headers == wire.received_headers);
}

static void check_chunks(struct span message, size_t step, uint8_t *room, uint8_t *wanted) {
  struct data_scan scan;
  size_t len = 0;
  data_scan_init(&scan);
  for (struct span rest = message; rest.len > 0; rest = span_skip(rest, span_first(rest, step).len)) {
    struct span in = span_first(rest, step), content;
    for (; in.len > 0; len = keep(room, len, content)) data_scan_feed_chunk(&scan, &in, &content);
  }
  len = keep(room, len, data_scan_finish(&scan));
  struct wire wire = wire_read(message); /* only for what is bare: an end in the middle ends nothing here */
  if (!wire.end) must(scan.bare == (wire.bare || (message.len > 0 && message.at[message.len - 1] == '\r')));
  if (scan.bare) return;
  must(len == wire_stuff(message, wanted) && (len == 0 || memcmp(room, wanted, len) == 0));
  size_t back = wire_unstuff(span_of(room, len), wanted);
  must(back >= message.len && back - message.len + (scan.stuffed - (back - message.len)) == len - message.len);
  must(message.len == 0 || memcmp(wanted, message.at, message.len) == 0);
  memcpy(room + len, ".\r\n", 3); /* what was stuffed is one message to DATA, and the same findings */
  struct wire again = wire_read(span_of(room, len + 3));
  must(again.end && again.content == len && !again.bare && again.leading_dot == scan.leading_dot && again.long_header == scan.long_header &&
       again.longest_line == scan.longest_line);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
  if (len < 1) return 0;
  size_t step = 1 + bytes[0];
  struct span rest = span_of(bytes + 1, len - 1);
  uint8_t *room = malloc(2 * len + 8), *wanted = malloc(2 * len + 8);
  check_data(rest, step, room);
  check_data(rest, len, room);
  check_chunks(rest, step, room, wanted);
  free(room);
  free(wanted);
  return 0;
}
