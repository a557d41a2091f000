/*
 * header: which fields the header section of a message has, and where it ends, while it streams by. Pure.
 *
 * Of content in wire form (CRLF, RFC 5322 2.1): the section ends at the first empty line, or with the message. Does not depend on where the stream is cut.
 */
#ifndef NET_MAIL_HEADER_H
#define NET_MAIL_HEADER_H

#include "core/base/must.h"
#include "core/base/span.h"

enum header_field { HEADER_DATE = 1, HEADER_FROM = 2, HEADER_MESSAGE_ID = 4, HEADER_TLS_OPTIONAL = 8 /* TLS-Required: No (RFC 8689 3) */ };

struct header_scan {
  unsigned fields; /* enum header_field, of those that began so far */
  bool over;       /* the empty line was reached */
  /* private */
  uint8_t _state;
  uint8_t _name_len; /* above sizeof _name: longer than any that is looked for */
  uint8_t _name[16]; /* or the value, of TLS-Required */
};

void header_scan_init(struct header_scan *scan);
/* How many bytes of it are header fields: all of them, or those before the CR of the empty line, and then the section is over. Not to be called after that. */
size_t header_scan_feed(struct header_scan *scan, struct span bytes);

#endif
