/* What a report has in it, and that its message has the form that the queue wants, whatever is in it. Whether others can read it: integration/test_tls_reports.py. */
#include "net/tlsrpt/report.h"

#include <stdlib.h>
#include <zlib.h>

#include "core/base/error.h"
#include "tests/lib/unit.h"

#define DAY_MS 86400000ull
#define NOW_MS (20000 * DAY_MS + 7)

static const struct tlsrpt_limits limits = {.domains = 1, .policies = 8, .kinds = 100, .bytes = 1u << 20};
static struct tlsrpt_tally tally;
static struct tlsrpt_report report;

static void setup(void) { tlsrpt_tally_init(&tally, &limits, 1); }
static void teardown(void) { tlsrpt_tally_clear(&tally); }

static void about(struct span domain) {
  report = (struct tlsrpt_report){.hostname = SPAN("relay.example.net"),
                                  .organization = SPAN("Example \xc3\x84"),
                                  .contact = SPAN("tls@example.net"),
                                  .id = 0xabcdef,
                                  .begin_ms = 19999 * DAY_MS,
                                  .end_ms = 20000 * DAY_MS,
                                  .domain = tlsrpt_tally_find(&tally, domain)};
  ck_assert_ptr_nonnull(report.domain);
}

static const char *json(void) {
  static char *text;
  free(text);
  ck_assert_int_eq(tlsrpt_report_json(&report, &text), E_OK);
  return text;
}

START_TEST(what_is_not_known_is_left_out) {
  struct tlsrpt_failure failure = {.result = TLSRPT_DANE_REQUIRED};
  tlsrpt_tally_failure(&tally, SPAN("a.example"), NULL, &failure, 2);
  about(SPAN("a.example"));
  ck_assert_str_eq(
      json(), "{\"organization-name\":\"Example \\u00C4\",\"date-range\":{\"start-datetime\":\"2024-10-03T00:00:00Z\",\"end-datetime\":"
              "\"2024-10-03T23:59:59Z\"},\"contact-info\":\"tls@example.net\",\"report-id\":\"0000000000abcdef@relay.example.net\",\"policies\":["
              "{\"policy\":{\"policy-type\":\"no-policy-found\",\"policy-domain\":\"a.example\"},\"summary\":{\"total-successful-session-count\":0,"
              "\"total-failure-session-count\":2},\"failure-details\":[{\"result-type\":\"dane-required\",\"failed-session-count\":2}]}]}");
}
END_TEST

START_TEST(what_had_no_room_is_told_too) {
  tlsrpt_tally_success(&tally, SPAN("a.example"), NULL, 1);
  tlsrpt_tally_rest(&tally, SPAN("a.example"), NULL, 41);
  about(SPAN("a.example"));
  ck_assert_ptr_nonnull(
      strstr(json(), "\"total-failure-session-count\":41},\"failure-details\":[{\"result-type\":\"validation-failure\",\"failed-session-count\":41,"
                     "\"failure-reason-code\":\"more kinds of failure than are told apart\"}]"));
}
END_TEST

static void unpack_is_the_json(const uint8_t *packed, size_t len) {
  static uint8_t room[1 << 20];
  z_stream stream = {.next_in = (Bytef *)packed, .avail_in = (uInt)len, .next_out = room, .avail_out = sizeof room};
  ck_assert_int_eq(inflateInit2(&stream, 15 + 16), Z_OK);
  ck_assert_int_eq(inflate(&stream, Z_FINISH), Z_STREAM_END);
  ck_assert(stream.avail_in == 0 && span_equal(span_of(room, stream.total_out), span_of_text(json())));
  inflateEnd(&stream);
}

/* Lines end in CRLF, none is too long, none begins with a dot, there are no other bytes than printable ones. */
static void check_shape(struct span text) {
  size_t line = 0;
  for (size_t i = 0; i < text.len; i++) {
    uint8_t c = text.at[i];
    ck_quick(c != '\n' || (i > 0 && text.at[i - 1] == '\r'));
    ck_quick(c != '\r' || (i + 1 < text.len && text.at[i + 1] == '\n'));
    ck_quick(c == '\r' || c == '\n' || c == '\t' || (c >= ' ' && c < 0x7f));
    ck_quick(line > 0 || c != '.');
    line = c == '\n' ? 0 : line + 1;
    ck_quick(line <= 1000);
  }
  ck_quick(text.at[text.len - 1] == '\n');
}

START_TEST(messages_keep_their_shape_and_their_room) {
  srand((unsigned)_i + 1);
  char name[254], to[255], hostname[256];
  for (unsigned i = 0; i < 254; i++) name[i] = i % 50 == 49 ? '.' : (char)('a' + rand() % 26);
  memset(to, 'x', sizeof to);
  memset(hostname, 'h', sizeof hostname);
  struct span domain = span_of(name, 1 + (size_t)rand() % 253);
  for (unsigned i = (unsigned)rand() % 100; i > 0; i--) {
    uint8_t bytes[300];
    for (unsigned at = 0; at < sizeof bytes; at++) bytes[at] = (uint8_t)rand();
    struct tlsrpt_failure failure = {.result = (enum tlsrpt_result)(1 + rand() % (TLSRPT_RESULTS_END - 1)),
                                     .mx_host = span_of(bytes, (size_t)rand() % 300),
                                     .reason = span_of(bytes, (size_t)rand() % 300)};
    tlsrpt_tally_failure(&tally, domain, NULL, &failure, 1);
  }
  tlsrpt_tally_success(&tally, domain, NULL, 1);
  about(domain);
  report.hostname = span_of(hostname, 1 + (size_t)rand() % 255);
  report.contact = span_of(to, 1 + (size_t)rand() % 254);
  uint8_t *packed;
  size_t len;
  ck_assert_int_eq(tlsrpt_report_pack(&report, &packed, &len), E_OK);
  unpack_is_the_json(packed, len);
  struct span address = span_of(to, 1 + (size_t)rand() % 254);
  size_t room = tlsrpt_report_mail_size_max(&report, span_of(packed, len), address);
  struct fmt out = fmt_over(malloc(room), room);
  tlsrpt_report_mail(&report, span_of(packed, len), address, NOW_MS, &out);
  ck_assert(!out.overflow);
  check_shape(fmt_span(&out));
  free(out.at);
  free(packed);
}
END_TEST

int main(void) {
  TCase *cases[] = {tcase_create("report")};
  tcase_add_checked_fixture(cases[0], setup, teardown);
  tcase_add_test(cases[0], what_is_not_known_is_left_out);
  tcase_add_test(cases[0], what_had_no_room_is_told_too);
  tcase_add_loop_test(cases[0], messages_keep_their_shape_and_their_room, 0, 50);
  return unit_main("net/tlsrpt/report", cases, 1);
}
