/* What a report looks like, and that nothing from outside can change its shape. Whether others can read it: integration/test_dsn.py. */
#include "net/mail/report.h"

#include <stdlib.h>

#include "tests/lib/unit.h"

#define NOW_MS 1764000000000

static uint8_t room[400000];

static struct span write_report(const struct report *report, struct span original) {
  struct fmt out = fmt_over(room, sizeof room);
  size_t max = status_report_size_max(report);
  status_report_begin(report, &out);
  ck_assert_uint_le(out.len, max);
  struct span returned = status_report_returned(report, original);
  fmt_put(&out, returned);
  size_t before = out.len;
  status_report_end(report, returned.len > 0 && returned.at[returned.len - 1] == '\n', &out);
  ck_assert_uint_le(out.len - before, 256);
  ck_assert(!out.overflow);
  return fmt_span(&out);
}

static bool has(struct span text, const char *part) { return memmem(text.at, text.len, part, strlen(part)) != NULL; }

static struct report about(const struct report_recipient *recipients, unsigned count) {
  return (struct report){.hostname = SPAN("relay.example.org"),
                         .to = SPAN("a@b.example"),
                         .id = 0xabc,
                         .original_id = 0xdef,
                         .now_ms = NOW_MS,
                         .arrived_ms = NOW_MS - 60000,
                         .until_ms = NOW_MS + 86400000,
                         .recipient = recipients,
                         .recipients = count};
}

START_TEST(each_recipient_has_its_fields) {
  struct report_recipient recipients[2] = {{.address = SPAN("r@d.example"),
                                            .orcpt = SPAN("rfc822;x+2By+3D@e.example"),
                                            .enhanced = {5, 1, 1},
                                            .code = 550,
                                            .text = SPAN("nobody"),
                                            .remote = SPAN("mx.d.example")},
                                           {.address = SPAN("s@d.example"), .text = SPAN("no such domain")}};
  struct report report = about(recipients, 2);
  report.envid = SPAN("e+2B1");
  struct span text = write_report(&report, SPAN("Subject: x\r\nY: z\r\n\r\nbody\r\n"));
  ck_assert(has(text, "Original-Envelope-Id: e+1\r\n"));
  ck_assert(has(text, "\r\nOriginal-Recipient: rfc822; x+y=@e.example\r\nFinal-Recipient: rfc822; r@d.example\r\nAction: failed\r\nStatus: 5.1.1\r\n"
                      "Remote-MTA: dns; mx.d.example\r\nDiagnostic-Code: smtp; 550 nobody\r\n"));
  ck_assert(has(
      text, "\r\n\r\nFinal-Recipient: rfc822; s@d.example\r\nAction: failed\r\nStatus: 5.0.0\r\nDiagnostic-Code: x-ringpost; no such domain\r\n"));
  ck_assert(has(text, "Content-Type: text/rfc822-headers\r\n\r\nSubject: x\r\nY: z\r\n\r\n--=_report_0000000000000abc--\r\n"));
  ck_assert(!has(text, "\r\nbody"));
}
END_TEST

/* RFC 3464 2.3.4: the status agrees with the action, whatever the other server said. */
START_TEST(a_status_agrees_with_its_action) {
  static const struct {
    enum report_action action;
    uint16_t said;
    const char *status;
  } cases[] = {{REPORT_FAILED, 4, "Status: 5.0.0\r\n"},  {REPORT_FAILED, 5, "Status: 5.7.1\r\n"},  {REPORT_DELAYED, 4, "Status: 4.7.1\r\n"},
               {REPORT_DELAYED, 5, "Status: 4.0.0\r\n"}, {REPORT_RELAYED, 2, "Status: 2.7.1\r\n"}, {REPORT_RELAYED, 0, "Status: 2.0.0\r\n"}};
  for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    struct report_recipient recipient = {.address = SPAN("r@d.example"), .enhanced = {cases[i].said, 7, 1}, .text = SPAN("x")};
    struct report report = about(&recipient, 1);
    report.action = cases[i].action;
    struct span text = write_report(&report, SPAN("S: x\r\n\r\n"));
    ck_assert(has(text, cases[i].status));
    ck_assert_int_eq(has(text, "Will-Retry-Until: "), cases[i].action == REPORT_DELAYED);
  }
}
END_TEST

START_TEST(a_header_without_an_end_is_cut_at_a_line) {
  struct report report = {.returns = RETURNS_HEADER};
  ck_assert_uint_eq(status_report_returned(&report, SPAN("A: b\r\nC: half of a li")).len, 6);
  ck_assert_uint_eq(status_report_returned(&report, SPAN("no line at all")).len, 0);
  ck_assert_uint_eq(status_report_returned(&report, span_of(NULL, 0)).len, 0);
  report.returns = RETURNS_ALL;
  ck_assert_uint_eq(status_report_returned(&report, SPAN("A: b\r\nC: half of a li")).len, 21);
}
END_TEST

/* Wire form: lines end in CRLF, none is too long, none of ours begins with a dot; fields stay in their places. */
static void check_shape(struct span text, bool utf8) {
  size_t line = 0;
  for (size_t i = 0; i < text.len; i++) {
    uint8_t c = text.at[i];
    if (c == '\n') ck_quick(i > 0 && text.at[i - 1] == '\r');
    if (c == '\r') ck_quick(i + 1 < text.len && text.at[i + 1] == '\n');
    ck_quick(c == '\r' || c == '\n' || c == '\t' || (c >= ' ' && c != 0x7f));
    ck_quick(c < 0x80 || utf8);
    ck_quick(line > 0 || c != '.');
    line = c == '\n' ? 0 : line + 1;
    ck_quick(line <= 1000);
  }
  unsigned boundaries = 0;
  for (struct span rest = text; has(rest, "\r\n--=_report_"); boundaries++)
    rest = span_skip(rest, (size_t)((const uint8_t *)memmem(rest.at, rest.len, "\r\n--=_report_", 13) - rest.at) + 13);
  ck_quick(boundaries == 4);
}

START_TEST(nothing_from_outside_changes_the_shape) {
  srand(1);
  for (unsigned round = 0; round < 3000; round++) {
    uint8_t bytes[6][300];
    struct span piece[6];
    for (unsigned i = 0; i < 6; i++) {
      size_t len = (size_t)rand() % sizeof bytes[i];
      for (size_t at = 0; at < len; at++) bytes[i][at] = (uint8_t)(rand() % 4 == 0 ? "\r\n.-=+;\0"[rand() % 8] : rand());
      piece[i] = span_of(bytes[i], len);
    }
    struct report_recipient recipient = {.address = piece[0],
                                         .orcpt = piece[1],
                                         .text = piece[2],
                                         .remote = piece[3],
                                         .code = (uint16_t)(rand() % 2 * 550),
                                         .enhanced = {5, 1, (uint16_t)rand()}};
    struct report report = about(&recipient, 1);
    report.to = piece[4];
    report.envid = piece[5];
    report.utf8 = rand() % 2;
    report.action = (enum report_action)(rand() % 3);
    check_shape(write_report(&report, SPAN("S: x\r\n\r\n")), report.utf8);
  }
}
END_TEST

int main(void) {
  TCase *all = tcase_create("all");
  tcase_add_test(all, each_recipient_has_its_fields);
  tcase_add_test(all, a_status_agrees_with_its_action);
  tcase_add_test(all, a_header_without_an_end_is_cut_at_a_line);
  tcase_add_test(all, nothing_from_outside_changes_the_shape);
  return unit_main("net/mail/report", &all, 1);
}
