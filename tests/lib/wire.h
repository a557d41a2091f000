/*
 * wire: what RFC 5321 4.5.2 says of the content of DATA, written down octet by octet, to hold the scanner against.
 */
#ifndef TESTS_LIB_WIRE_H
#define TESTS_LIB_WIRE_H

#include "core/base/span.h"

struct wire {
  size_t content; /* octets before the ".CRLF" that ends DATA, or all of them, but for what might become that */
  bool end;       /* it was there */
  size_t used;    /* octets up to and with the end; without an end, all */
  bool bare, eight_bit, nul, leading_dot;
  bool long_header; /* a line of the header section has more than 65536 octets */
  uint64_t stuffed;
  uint32_t longest_line, received_headers;
};

/* DATA as it comes on the wire. */
struct wire wire_read(struct span bytes);

/* A message into wire form: dots doubled where a line begins with one, CRLF at the end if it lacks it. `room`: twice the length, and 3.
 * Returns the length. */
size_t wire_stuff(struct span message, uint8_t *room);

/* Back. `room`: the length. */
size_t wire_unstuff(struct span content, uint8_t *room);

#endif
