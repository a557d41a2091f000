/*
 * mime: what mail of the relay's own has in common: the fields of its header that tell where it is from, and the parts of a multipart/report (RFC 6522). Pure; all is in
 * wire form.
 *
 *   mime_received(&mime, &out);   From, To, Subject   mime_head(&mime, "tlsrpt", "auto-generated", &out);   more fields, an empty line, text before the parts
 *   mime_part(&mime, "text/plain", &out);   fields, an empty line, the part   ...   mime_end(&mime, &out);
 */
#ifndef NET_MAIL_MIME_H
#define NET_MAIL_MIME_H

#include "core/base/fmt.h"

struct mime {
  struct span hostname; /* ours */
  uint64_t id;          /* of the message */
  uint64_t now_ms;      /* wall clock */
};

void mime_received(const struct mime *mime, struct fmt *out);
/* Date, Message-ID, Auto-Submitted (RFC 3834: answered by no machine), MIME-Version and Content-Type, with its line end. */
void mime_head(const struct mime *mime, const char *report_type, const char *auto_submitted, struct fmt *out);
/* Begins a part; the line end before a boundary belongs to it (RFC 2046 5.1.1), and so is written here. */
void mime_part(const struct mime *mime, const char *type, struct fmt *out);
void mime_end(const struct mime *mime, struct fmt *out);
/* A field whose value is a date; `name` with colon and blank. */
void mime_date(const char *name, uint64_t ms, struct fmt *out);

#endif
