/*
 * base64: RFC 4648 section 4, strict, as SASL over SMTP wants it: whole groups of four, padding where it is due, no white space, no bits that are thrown
 * away. So there is one text for one run of bytes: what was decoded encodes to the same text. Pure.
 */
#ifndef NET_AUTH_BASE64_H
#define NET_AUTH_BASE64_H

#include "core/base/fmt.h"
#include "core/base/must.h"

#define BASE64_LENGTH(len) (((len) + 2) / 3 * 4)

void base64_encode(struct fmt *out, struct span bytes);
/* E_SYNTAX; E_TOO_LONG if `room` (of `size` bytes) does not hold it, which is not looked into further. Nothing in *len then, but `room` may be written to. */
must_check int base64_decode(struct span text, void *room, size_t size, size_t *len);

#endif
