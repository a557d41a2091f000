#include "net/mail/mime.h"

static void put_boundary(const struct mime *mime, struct fmt *out) {
  fmt_text(out, "=_report_");
  fmt_hex64(out, mime->id);
}

void mime_date(const char *name, uint64_t ms, struct fmt *out) {
  fmt_text(out, name);
  fmt_date(out, ms);
  fmt_text(out, "\r\n");
}

void mime_received(const struct mime *mime, struct fmt *out) {
  fmt_text(out, "Received: by ");
  fmt_put(out, mime->hostname);
  fmt_text(out, " (Ringpost) id ");
  fmt_hex64(out, mime->id);
  mime_date(";\r\n\t", mime->now_ms, out);
}

void mime_head(const struct mime *mime, const char *report_type, const char *auto_submitted, struct fmt *out) {
  mime_date("Date: ", mime->now_ms, out);
  fmt_text(out, "Message-ID: <");
  fmt_hex64(out, mime->id);
  fmt_char(out, '@');
  fmt_put(out, mime->hostname);
  fmt_text(out, ">\r\nAuto-Submitted: ");
  fmt_text(out, auto_submitted);
  fmt_text(out, "\r\nMIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=");
  fmt_text(out, report_type);
  fmt_text(out, ";\r\n\tboundary=\"");
  put_boundary(mime, out);
  fmt_text(out, "\"\r\n");
}

void mime_part(const struct mime *mime, const char *type, struct fmt *out) {
  fmt_text(out, "\r\n--");
  put_boundary(mime, out);
  fmt_text(out, "\r\nContent-Type: ");
  fmt_text(out, type);
  fmt_text(out, "\r\n");
}

void mime_end(const struct mime *mime, struct fmt *out) {
  fmt_text(out, "\r\n--");
  put_boundary(mime, out);
  fmt_text(out, "--\r\n");
}
