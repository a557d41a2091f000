/* What is found does not depend on where the stream is cut; where the section ends, a line that begins with CR follows. */
#include "net/mail/header.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
  if (len < 1) return 0;
  size_t piece = 1 + bytes[0] % 37;
  struct span in = span_of(bytes + 1, len - 1);
  struct header_scan whole, cut;
  header_scan_init(&whole);
  header_scan_init(&cut);
  size_t end = in.len > 0 ? header_scan_feed(&whole, in) : 0, taken = 0;
  for (size_t at = 0; at < in.len && !cut.over; at += piece) taken += header_scan_feed(&cut, span_first(span_skip(in, at), piece));
  must(taken == end && cut.over == whole.over && cut.fields == whole.fields);
  must(whole.over == (end < in.len));
  if (whole.over) must(in.at[end] == '\r' && (end == 0 || in.at[end - 1] == '\n'));
  return 0;
}
