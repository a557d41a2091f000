/*
 * reply: an SMTP reply (RFC 5321 4.2, enhanced code RFC 2034/3463) as read from the other server. Pure.
 */
#ifndef NET_SMTP_REPLY_H
#define NET_SMTP_REPLY_H

#include "core/base/fmt.h"
#include "core/base/must.h"
#include "core/base/span.h"

#define REPLY_BYTES_MAX 16384 /* a whole reply, all lines; more is a protocol error */
#define REPLY_LINES_MAX 256

struct smtp_reply {
  uint16_t code;         /* 200..599 */
  uint8_t enhanced[2];   /* subject, detail, when has_enhanced; the class equals the code's first digit unless said in class */
  uint8_t enhanced_class; /* 0: the reply has no enhanced code */
  struct span bytes;     /* the whole reply as received, every line with its CRLF */
};

/*
 * Reads one whole reply from the start of *in. Returns 1 and moves *in behind it; 0 if more bytes are needed (*in unchanged);
 * E_PROTOCOL if this is no reply (line without a code, codes that differ between lines, code outside 200..599, beyond the bounds).
 * Lines may end in a bare LF: other servers are as they are. reply->bytes points into the input.
 */
must_check int reply_parse(struct smtp_reply *reply, struct span *in);

/* The text of one line after code and separator (and enhanced code, if every line repeats it); iterate with *cursor = 0; false at the end. */
bool reply_line(const struct smtp_reply *reply, size_t *cursor, struct span *text);

/* All lines' text joined by single spaces, enhanced code removed, control bytes turned into spaces, cut at `room` bytes. */
void reply_join(const struct smtp_reply *reply, struct fmt *out);

#endif
