/*
 * reply: an SMTP reply (RFC 5321 4.2, enhanced code RFC 2034/3463) as read from the other server. Pure, allocates nothing.
 *
 *   struct smtp_reply reply;
 *   int got = reply_parse(&reply, &in);  // 1: a reply; 0: wait for more bytes; E_PROTOCOL: hang up
 *   size_t cursor = 0;
 *   while (reply_line(&reply, &cursor, &text)) ...
 */
#ifndef NET_SMTP_REPLY_H
#define NET_SMTP_REPLY_H

#include "core/base/fmt.h"
#include "core/base/must.h"
#include "core/base/span.h"

#define REPLY_BYTES_MAX 16384 /* a whole reply, all lines; more is a protocol error */
#define REPLY_LINES_MAX 256

struct smtp_reply {
  uint16_t code;          /* 200..599 */
  uint16_t enhanced[2];   /* subject and detail, 0..999 (RFC 3463 3 gives them three digits, and 5.7.606 and its like are in daily use) */
  uint8_t enhanced_class; /* 2, 4 or 5 as written, even where it contradicts the code; 0: the reply has no enhanced code */
  uint8_t _enhanced_len;  /* bytes of the enhanced code, if it stands on every line; else 0 */
  struct span bytes;      /* the whole reply as received, every line with its CRLF */
};

/*
 * Reads one whole reply from the start of *in. Returns 1 and moves *in behind it; 0 if more bytes are needed (*in unchanged);
 * E_PROTOCOL if this is no reply (line without a code, codes that differ between lines, code outside 200..599, beyond the bounds).
 * Lines may end in a bare LF: other servers are as they are. reply->bytes points into the input; *reply is only good after 1.
 * The result does not depend on where the stream is cut. The enhanced code is that of the first line that has one.
 */
must_check int reply_parse(struct smtp_reply *reply, struct span *in);

/* The text of one line after code and separator (and enhanced code, if every line repeats it); iterate with *cursor = 0; false at the end. */
bool reply_line(const struct smtp_reply *reply, size_t *cursor, struct span *text);

/*
 * All lines' text joined by single spaces, enhanced code removed, control bytes turned into spaces, cut where `out` has no more room (which
 * is no overflow). Lines without text add nothing. Bytes above 127 stay as they came, and need not be UTF-8.
 */
void reply_join(const struct smtp_reply *reply, struct fmt *out);

#endif
