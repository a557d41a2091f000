/*
 * data: the scanner of message content, in the form DATA has on the wire (RFC 5321 4.5.2). Pure.
 *
 * The message is kept as it came: dot-stuffed, lines ended by CRLF. The scanner only finds the end and what is illegal, at
 * memory speed, seeing each byte once. Only CRLF.CRLF ends DATA; a CR or LF that is not part of CRLF makes the message
 * refused (550 5.6.11), yet scanning goes on to its end, so that the session stays in step.
 */
#ifndef NET_SMTP_DATA_H
#define NET_SMTP_DATA_H

#include "core/base/span.h"

struct data_scan {
  uint8_t _state;
  bool bare;        /* a bare CR or LF was seen */
  bool eight_bit;   /* a byte above 127 was seen */
  bool leading_dot; /* some line begins with a dot, i.e. unstuffing would change the content */
  bool nul;         /* a NUL byte was seen */
  uint32_t longest_line; /* octets without CRLF, of lines that ended; stops counting at UINT32_MAX */
  uint32_t _line;
  unsigned received_headers; /* lines "Received:" in the header section (loop detection) */
  bool _in_header;
  uint8_t _name_matched; /* how much of "Received:" the present line has matched */
};

void data_scan_init(struct data_scan *scan);

/*
 * Takes bytes of DATA; returns how many belong to the content, including the CRLF that ends the last line but not the ".CRLF" that ends DATA.
 * *end tells whether the end was seen; then *used is where in the input the next command starts. Without the end, *used = bytes.len,
 * but up to 3 bytes may have been held back because they could be the beginning of the end: *held says how many of them are to be
 * put before the returned content (always a prefix of "\r\n."; see data_scan_held). The result does not depend on where the stream is cut.
 */
size_t data_scan_feed(struct data_scan *scan, struct span bytes, size_t *used, bool *end, struct span *held);

#endif
