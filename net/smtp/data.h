/*
 * data: the scanner of message content, in the form DATA has on the wire (RFC 5321 4.5.2), or as BDAT chunks (RFC 3030). Pure.
 *
 * The message is kept as DATA brings it: dot-stuffed, lines ended by CRLF. The scanner only finds the end and what is illegal, at
 * memory speed, seeing each byte once. Only CRLF.CRLF ends DATA; a CR or LF that is not part of CRLF makes the message
 * refused (550 5.6.11), yet scanning goes on to its end, so that the session stays in step. Content that comes with BDAT is put into the same
 * form: a dot is added to lines that begin with one, and CRLF to a last line that lacks it.
 *
 *   data_scan_init(&scan);
 *   while (in.len > 0 && !end) { end = data_scan_feed(&scan, &in, &content); keep(content); }
 *
 * What is handed out, and the findings at the end, do not depend on where the stream is cut. How much is handed out at a time does.
 */
#ifndef NET_SMTP_DATA_H
#define NET_SMTP_DATA_H

#include "core/base/span.h"

#define DATA_HEADER_LINE_MAX 65536

struct data_scan {
  /* findings, of what was fed so far */
  bool bare;                 /* a bare CR or LF was seen */
  bool eight_bit;            /* a byte above 127 was seen */
  bool leading_dot;          /* some line begins with a dot, i.e. unstuffing would change the content */
  bool nul;                  /* a NUL byte was seen */
  bool long_header;          /* a line of the header section has more than DATA_HEADER_LINE_MAX octets without CRLF */
  uint32_t longest_line;     /* octets without CRLF, stuffing dots included, of lines that ended; stops counting at UINT32_MAX */
  uint32_t received_headers; /* lines "Received:" in the header section (loop detection) */
  uint64_t stuffed;          /* octets of the wire form that are not the message's own: dots of dot-stuffing, a CRLF added at the end */
  /* private */
  uint64_t _line;   /* octets of the unfinished line so far */
  bool _after_cr;   /* the last octet was CR */
  bool _line_start; /* the next octet begins a line */
  bool _in_header;
  uint8_t _held;         /* octets of ".CRLF" at the start of a line that were eaten but not handed out yet */
  bool _stuff;           /* the next octet is a dot that begins a line: one more is owed before it */
  uint8_t _name_matched; /* how much of "Received:" the present line has matched */
};

void data_scan_init(struct data_scan *scan);

/*
 * DATA: takes bytes from the front of *in and sets *content to what of them belongs to the message: up to and with the CRLF of its last line, without
 * the ".CRLF" that ends DATA. It may be empty. True when that end was seen: *in is then behind it. Otherwise to be called again while *in is not
 * empty: in most calls all of *in is content, and taken. *content lies within the input, or is a constant of up to 2 bytes (the beginning of
 * an end that came to nothing); it is valid as long as the input is.
 */
bool data_scan_feed(struct data_scan *scan, struct span *in, struct span *content);

/* BDAT: the same for bytes of chunks, whose end the caller knows. A dot to be added comes as a *content of its own, in a call that takes
 * nothing from *in. */
void data_scan_feed_chunk(struct data_scan *scan, struct span *in, struct span *content);

/* After the last byte of the last chunk: the bytes that are missing at the end of the content (CRLF, or nothing). Called again, nothing. */
struct span data_scan_finish(struct data_scan *scan);

#endif
