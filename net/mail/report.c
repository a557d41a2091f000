#include "net/mail/report.h"

#include <string.h>

#include "net/mail/mime.h"

#define PIECES_MAX 6000   /* everything in a report but addresses and replies, generously */
#define RECIPIENT_MAX 400 /* likewise for each recipient */
#define TEXT_MAX 800      /* of a reply: a line has room for it (RFC 5321 4.5.3.1.6: 998) */

size_t status_report_size_max(const struct report *report) {
  size_t size = PIECES_MAX + report->hostname.len * 8 + report->to.len * 2 + report->envid.len;
  for (unsigned i = 0; i < report->recipients; i++) {
    const struct report_recipient *r = &report->recipient[i];
    size += RECIPIENT_MAX + 2 * (r->address.len + TEXT_MAX + r->remote.len) + r->orcpt.len;
  }
  return size;
}

/* Bytes from outside, as text within a line: no control characters, and no bytes above 127 unless the report is in UTF-8. */
static void put_clean(const struct report *report, struct fmt *out, struct span text, size_t max) {
  text = span_first(text, max);
  for (size_t i = 0; i < text.len; i++) {
    uint8_t c = text.at[i];
    bool plain = c >= ' ' && c < 0x7f;
    fmt_char(out, plain || (c > 0x7f && report->utf8) ? (char)c : c < ' ' || c == 0x7f ? ' ' : '?');
  }
}

static int hex_digit(uint8_t c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1; }

/* RFC 3461 4: "+" and two digits stand for a byte. */
static void put_xtext(const struct report *report, struct fmt *out, struct span text) {
  for (size_t i = 0; i < text.len; i++) {
    int high = i + 2 < text.len && text.at[i] == '+' ? hex_digit(text.at[i + 1]) : -1;
    int low = high >= 0 ? hex_digit(text.at[i + 2]) : -1;
    bool coded = high >= 0 && low >= 0;
    uint8_t c = coded ? (uint8_t)(high * 16 + low) : text.at[i];
    put_clean(report, out, span_of(&c, 1), 1);
    if (coded) i += 2;
  }
}

static struct mime mime_of(const struct report *report) {
  return (struct mime){.hostname = report->hostname, .id = report->id, .now_ms = report->now_ms};
}

static void begin_part(const struct report *report, struct fmt *out, const char *type) {
  struct mime mime = mime_of(report);
  mime_part(&mime, type, out);
}

static const struct words {
  const char *subject, *action, *introduction;
} words[] = {
    [REPORT_FAILED] = {"Undelivered mail returned to sender", "failed",
                       "your message could not be delivered to one or more recipients, and no further attempt is made:"},
    [REPORT_DELAYED] = {"Delayed mail (still being tried)", "delayed",
                        "your message could not be delivered yet. You need not send it again; attempts go on until"},
    [REPORT_RELAYED] = {"Mail handed on", "relayed", "your message was handed on to a server that sends no confirmation of delivery:"},
};

static void put_header(const struct report *report, struct fmt *out) {
  struct mime mime = mime_of(report);
  mime_received(&mime, out);
  fmt_text(out, "From: Mail Delivery System <MAILER-DAEMON@");
  fmt_put(out, report->hostname);
  fmt_text(out, ">\r\nTo: <");
  put_clean(report, out, report->to, report->to.len);
  fmt_text(out, ">\r\nSubject: ");
  fmt_text(out, words[report->action].subject);
  fmt_text(out, "\r\n");
  mime_head(&mime, report->utf8 ? "global-delivery-status" : "delivery-status", "auto-replied", out);
  fmt_text(out, report->eight_bit || report->utf8 ? "Content-Transfer-Encoding: 8bit\r\n\r\n" : "\r\n");
  fmt_text(out, "This is a report in MIME format.\r\n");
}

/* ---- for people ---- */

static void tell_of(const struct report *report, const struct report_recipient *r, struct fmt *out) {
  fmt_text(out, "\r\n<");
  put_clean(report, out, r->address, r->address.len);
  fmt_text(out, ">\r\n    ");
  if (r->remote.len > 0) {
    put_clean(report, out, r->remote, r->remote.len);
    fmt_text(out, r->code > 0 ? " said: " : ": ");
  }
  if (r->code > 0) {
    fmt_u64(out, r->code);
    fmt_char(out, ' ');
  }
  put_clean(report, out, r->text, TEXT_MAX);
  fmt_text(out, "\r\n");
}

static void put_text(const struct report *report, struct fmt *out) {
  begin_part(report, out, report->utf8 ? "text/plain; charset=utf-8" : "text/plain; charset=us-ascii");
  if (report->utf8) fmt_text(out, "Content-Transfer-Encoding: 8bit\r\n");
  fmt_text(out, "\r\nThis is the mail system at ");
  fmt_put(out, report->hostname);
  fmt_text(out, ":\r\n");
  fmt_text(out, words[report->action].introduction);
  if (report->action == REPORT_DELAYED) {
    fmt_char(out, ' ');
    fmt_date(out, report->until_ms);
    fmt_char(out, ':');
  }
  fmt_text(out, "\r\n");
  for (unsigned i = 0; i < report->recipients; i++) tell_of(report, &report->recipient[i], out);
}

/* ---- for machines ---- */

static void put_status(const struct report *report, const struct report_recipient *r, struct fmt *out) {
  static const uint16_t of_action[][3] = {[REPORT_FAILED] = {5, 0, 0}, [REPORT_DELAYED] = {4, 0, 0}, [REPORT_RELAYED] = {2, 0, 0}};
  const uint16_t *status = r->enhanced[0] == of_action[report->action][0] ? r->enhanced : of_action[report->action];
  fmt_text(out, "Status: ");
  for (unsigned i = 0; i < 3; i++) {
    if (i > 0) fmt_char(out, '.');
    fmt_u64(out, status[i]);
  }
  fmt_text(out, "\r\n");
}

/* A block of fields of one recipient (RFC 3464 2.3). */
static void put_fields_of(const struct report *report, const struct report_recipient *r, struct fmt *out) {
  fmt_text(out, "\r\n");
  ptrdiff_t type = span_find(r->orcpt, ';');
  if (type > 0) {
    fmt_text(out, "Original-Recipient: ");
    put_clean(report, out, span_first(r->orcpt, (size_t)type), (size_t)type);
    fmt_text(out, "; ");
    put_xtext(report, out, span_skip(r->orcpt, (size_t)type + 1));
    fmt_text(out, "\r\n");
  }
  fmt_text(out, report->utf8 ? "Final-Recipient: utf-8; " : "Final-Recipient: rfc822; ");
  put_clean(report, out, r->address, r->address.len);
  fmt_text(out, "\r\nAction: ");
  fmt_text(out, words[report->action].action);
  fmt_text(out, "\r\n");
  put_status(report, r, out);
  if (r->remote.len > 0) {
    fmt_text(out, "Remote-MTA: dns; ");
    put_clean(report, out, r->remote, r->remote.len);
    fmt_text(out, "\r\n");
  }
  fmt_text(out, r->remote.len > 0 && r->code > 0 ? "Diagnostic-Code: smtp; " : "Diagnostic-Code: x-ringpost; ");
  if (r->code > 0) {
    fmt_u64(out, r->code);
    fmt_char(out, ' ');
  }
  put_clean(report, out, r->text, TEXT_MAX);
  mime_date("\r\nLast-Attempt-Date: ", report->now_ms, out);
  if (report->action == REPORT_DELAYED) mime_date("Will-Retry-Until: ", report->until_ms, out);
}

static void put_fields(const struct report *report, struct fmt *out) {
  begin_part(report, out, report->utf8 ? "message/global-delivery-status" : "message/delivery-status");
  if (report->utf8) fmt_text(out, "Content-Transfer-Encoding: 8bit\r\n");
  fmt_text(out, "\r\n");
  if (report->envid.len > 0) {
    fmt_text(out, "Original-Envelope-Id: ");
    put_xtext(report, out, report->envid);
    fmt_text(out, "\r\n");
  }
  fmt_text(out, "Reporting-MTA: dns; ");
  fmt_put(out, report->hostname);
  fmt_text(out, "\r\nX-Ringpost-Id: ");
  fmt_hex64(out, report->original_id);
  mime_date("\r\nArrival-Date: ", report->arrived_ms, out);
  for (unsigned i = 0; i < report->recipients; i++) put_fields_of(report, &report->recipient[i], out);
}

/* ---- the whole ---- */

void status_report_begin(const struct report *report, struct fmt *out) {
  must(report->recipients > 0);
  put_header(report, out);
  put_text(report, out);
  put_fields(report, out);
  bool all = report->returns == RETURNS_ALL;
  begin_part(report, out, report->utf8 ? (all ? "message/global" : "message/global-headers") : all ? "message/rfc822" : "text/rfc822-headers");
  fmt_text(out, report->eight_bit || report->utf8 ? "Content-Transfer-Encoding: 8bit\r\n\r\n" : "\r\n");
}

struct span status_report_returned(const struct report *report, struct span original) {
  if (report->returns == RETURNS_ALL) return original;
  const uint8_t *end = original.len == 0 ? NULL : memmem(original.at, original.len, "\r\n\r\n", 4);
  if (end != NULL) return span_first(original, (size_t)(end - original.at) + 2);
  while (original.len > 0 && original.at[original.len - 1] != '\n') original.len--; /* a header that is longer than what is given: its whole lines */
  return original;
}

void status_report_end(const struct report *report, bool whole, struct fmt *out) {
  struct mime mime = mime_of(report);
  if (!whole) fmt_text(out, "\r\n");
  mime_end(&mime, out);
}
