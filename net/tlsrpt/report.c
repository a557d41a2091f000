#include "net/tlsrpt/report.h"

#include <jansson.h>
#include <stdlib.h>
#include <zlib.h>

#include "core/base/error.h"
#include "net/auth/base64.h"
#include "net/mail/mime.h"

#define PIECES_MAX 2048 /* of a message: everything but the attachment and what is given, generously */
#define LINE_BYTES 57   /* that base64 makes 76 characters of (RFC 2045 6.8) */
#define TIME_ROOM 32

/* ---- the JSON ---- */

/* Left out if it is empty. */
static int set_text(json_t *object, const char *name, struct span text) {
  return text.len == 0 ? 0 : json_object_set_new(object, name, json_stringn((const char *)text.at, text.len));
}

static int set_count(json_t *object, const char *name, uint64_t count) { return json_object_set_new(object, name, json_integer((json_int_t)count)); }

static int set_address(json_t *object, const char *name, const struct netaddr *address) {
  char room[48];
  struct fmt text = fmt_over(room, sizeof room);
  if (address->family == 0) return 0;
  netaddr_format(address, &text);
  return set_text(object, name, fmt_span(&text));
}

static int set_time(json_t *object, const char *name, uint64_t ms) {
  char room[TIME_ROOM];
  struct fmt text = fmt_over(room, sizeof room);
  fmt_timestamp(&text, ms);
  return set_text(object, name, fmt_span(&text));
}

/* An array of what are lines in `text`. */
static int set_lines(json_t *object, const char *name, struct span text) {
  json_t *lines = json_array();
  int failed = lines == NULL;
  while (text.len > 0 && !failed) {
    struct span line = span_take_until(&text, '\n');
    failed = json_array_append_new(lines, json_stringn((const char *)line.at, line.len));
  }
  return json_object_set_new(object, name, lines) | failed;
}

static json_t *end_object(json_t *object, int failed) {
  if (!failed) return object;
  json_decref(object);
  return NULL;
}

static json_t *policy_json(const struct tlsrpt_policy *policy, struct span domain) {
  json_t *object = json_object();
  if (policy == NULL) return end_object(object, set_text(object, "policy-type", SPAN("no-policy-found")) | set_text(object, "policy-domain", domain));
  int failed = set_text(object, "policy-type", policy->type == TLSRPT_POLICY_STS ? SPAN("sts") : SPAN("tlsa"));
  failed |= set_lines(object, "policy-string", tlsrpt_policy_lines(policy));
  failed |= set_text(object, "policy-domain", tlsrpt_policy_domain(policy));
  if (policy->type == TLSRPT_POLICY_STS) failed |= set_lines(object, "mx-host", tlsrpt_policy_patterns(policy));
  return end_object(object, failed);
}

static json_t *summary_json(const struct tlsrpt_applied *applied) {
  json_t *object = json_object();
  int failed = set_count(object, "total-successful-session-count", applied->successes);
  failed |= set_count(object, "total-failure-session-count", applied->failures);
  return end_object(object, failed);
}

static json_t *failure_json(const struct tlsrpt_failure *failure, uint64_t sessions) {
  json_t *object = json_object();
  int failed = set_text(object, "result-type", span_of_text(tlsrpt_result_text(failure->result)));
  failed |= set_address(object, "sending-mta-ip", &failure->sending);
  failed |= set_text(object, "receiving-mx-hostname", failure->mx_host);
  failed |= set_address(object, "receiving-ip", &failure->receiving);
  failed |= set_count(object, "failed-session-count", sessions);
  failed |= set_text(object, "additional-information", failure->info);
  failed |= set_text(object, "failure-reason-code", failure->reason);
  return end_object(object, failed);
}

static json_t *failures_json(const struct tlsrpt_applied *applied) {
  static const struct tlsrpt_failure others = {.result = TLSRPT_VALIDATION_FAILURE, .reason = SPAN("more kinds of failure than are told apart")};
  json_t *array = json_array();
  const struct tlsrpt_kind *kind;
  int failed = array == NULL;
  for (kind = STAILQ_FIRST(&applied->kinds); kind != NULL; kind = STAILQ_NEXT(kind, _link)) {
    struct tlsrpt_failure failure = tlsrpt_kind_failure(kind);
    failed |= json_array_append_new(array, failure_json(&failure, kind->sessions));
  }
  if (applied->rest > 0) failed |= json_array_append_new(array, failure_json(&others, applied->rest));
  return end_object(array, failed);
}

static json_t *applied_json(const struct tlsrpt_applied *applied, struct span domain) {
  json_t *object = json_object();
  int failed = json_object_set_new(object, "policy", policy_json(applied->policy, domain));
  failed |= json_object_set_new(object, "summary", summary_json(applied));
  if (applied->failures > 0) failed |= json_object_set_new(object, "failure-details", failures_json(applied));
  return end_object(object, failed);
}

static json_t *range_json(const struct tlsrpt_report *report) {
  json_t *object = json_object();
  int failed = set_time(object, "start-datetime", report->begin_ms);
  failed |= set_time(object, "end-datetime", report->end_ms - 1000);
  return end_object(object, failed);
}

static void put_id(const struct tlsrpt_report *report, struct fmt *out) {
  fmt_hex64(out, report->id);
  fmt_char(out, '@');
  fmt_put(out, report->hostname);
}

static json_t *whole_json(const struct tlsrpt_report *report) {
  char id_room[320];
  struct fmt id = fmt_over(id_room, sizeof id_room);
  const struct tlsrpt_applied *applied;
  json_t *object = json_object(), *policies = json_array();
  put_id(report, &id);
  int failed = set_text(object, "organization-name", report->organization);
  failed |= json_object_set_new(object, "date-range", range_json(report));
  failed |= set_text(object, "contact-info", report->contact);
  failed |= set_text(object, "report-id", fmt_span(&id));
  for (applied = STAILQ_FIRST(&report->domain->applied); applied != NULL; applied = STAILQ_NEXT(applied, _link)) {
    failed |= json_array_append_new(policies, applied_json(applied, tlsrpt_domain_name(report->domain)));
  }
  failed |= json_object_set_new(object, "policies", policies);
  return end_object(object, failed);
}

int tlsrpt_report_json(const struct tlsrpt_report *report, char **text) {
  json_t *whole = whole_json(report);
  *text = whole == NULL ? NULL : json_dumps(whole, JSON_COMPACT | JSON_ENSURE_ASCII);
  json_decref(whole);
  return *text != NULL ? E_OK : E_NO_MEMORY;
}

/* ---- packed ---- */

static int pack(struct span text, uint8_t **packed, size_t *len) {
  z_stream stream = {.next_in = (Bytef *)text.at, .avail_in = (uInt)text.len};
  must(text.len <= UINT32_MAX);
  if (deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK) return E_NO_MEMORY; /* +16: gzip */
  size_t room = deflateBound(&stream, text.len);
  *packed = malloc(room);
  stream.next_out = *packed;
  stream.avail_out = (uInt)room;
  bool done = *packed != NULL && deflate(&stream, Z_FINISH) == Z_STREAM_END;
  *len = stream.total_out;
  deflateEnd(&stream);
  if (done) return E_OK;
  free(*packed);
  return E_NO_MEMORY;
}

int tlsrpt_report_pack(const struct tlsrpt_report *report, uint8_t **packed, size_t *len) {
  char *text;
  int error = tlsrpt_report_json(report, &text);
  if (error != E_OK) return error;
  error = pack(span_of_text(text), packed, len);
  free(text);
  return error;
}

/* ---- the message ---- */

size_t tlsrpt_report_mail_size_max(const struct tlsrpt_report *report, struct span packed, struct span to) {
  size_t attached = BASE64_LENGTH(packed.len) + 2 * (packed.len / LINE_BYTES + 1);
  return PIECES_MAX + 10 * report->hostname.len + 4 * report->domain->len + report->contact.len + to.len + attached;
}

/* RFC 8460 5.3 to the letter: blanks, colons and all. */
static void put_subject(const struct tlsrpt_report *report, struct fmt *out) {
  fmt_text(out, "Subject: Report Domain: ");
  fmt_put(out, tlsrpt_domain_name(report->domain));
  fmt_text(out, "\r\n Submitter: ");
  fmt_put(out, report->hostname);
  fmt_text(out, "\r\n Report-ID: <");
  put_id(report, out);
  fmt_text(out, ">\r\n");
}

/* RFC 8460 5.1 */
static void put_file_name(const struct tlsrpt_report *report, struct fmt *out) {
  fmt_put(out, report->hostname);
  fmt_char(out, '!');
  fmt_put(out, tlsrpt_domain_name(report->domain));
  fmt_char(out, '!');
  fmt_u64(out, report->begin_ms / 1000);
  fmt_char(out, '!');
  fmt_u64(out, report->end_ms / 1000 - 1);
  fmt_text(out, ".json.gz");
}

static void put_header(const struct tlsrpt_report *report, const struct mime *mime, struct span to, struct fmt *out) {
  fmt_text(out, "From: <");
  fmt_put(out, report->contact);
  fmt_text(out, ">\r\nTo: <");
  fmt_put(out, to);
  fmt_text(out, ">\r\n");
  put_subject(report, out);
  mime_head(mime, "\"tlsrpt\"", "auto-generated", out);
  fmt_text(out, "TLS-Report-Domain: ");
  fmt_put(out, tlsrpt_domain_name(report->domain));
  fmt_text(out, "\r\nTLS-Report-Submitter: ");
  fmt_put(out, report->hostname);
  fmt_text(out, "\r\nTLS-Required: No\r\n\r\n"); /* RFC 8689 5: what it tells of must not keep it from coming */
  fmt_text(out, "This is a report in MIME format.\r\n");
}

static void put_text(const struct tlsrpt_report *report, const struct mime *mime, struct fmt *out) {
  mime_part(mime, "text/plain; charset=us-ascii", out);
  fmt_text(out, "\r\nThis is a report of ");
  fmt_put(out, report->hostname);
  fmt_text(out, " about TLS with the mail servers of\r\n");
  fmt_put(out, tlsrpt_domain_name(report->domain));
  fmt_text(out, ", from ");
  fmt_timestamp(out, report->begin_ms);
  fmt_text(out, " to ");
  fmt_timestamp(out, report->end_ms - 1000);
  fmt_text(out, ".\r\nIt was asked for by the TXT record of _smtp._tls.");
  fmt_put(out, tlsrpt_domain_name(report->domain));
  fmt_text(out, "\r\n");
}

static void put_attachment(const struct tlsrpt_report *report, const struct mime *mime, struct span packed, struct fmt *out) {
  mime_part(mime, TLSRPT_MEDIA_TYPE, out);
  fmt_text(out, "Content-Transfer-Encoding: base64\r\nContent-Disposition: attachment;\r\n\tfilename=\"");
  put_file_name(report, out);
  fmt_text(out, "\"\r\n\r\n");
  while (packed.len > 0) {
    struct span line = span_first(packed, LINE_BYTES);
    base64_encode(out, line);
    fmt_text(out, "\r\n");
    packed = span_skip(packed, line.len);
  }
}

void tlsrpt_report_mail(const struct tlsrpt_report *report, struct span packed, struct span to, uint64_t now_ms, struct fmt *out) {
  struct mime mime = {.hostname = report->hostname, .id = report->id, .now_ms = now_ms};
  put_header(report, &mime, to, out);
  put_text(report, &mime, out);
  put_attachment(report, &mime, packed, out);
  mime_end(&mime, out);
}
