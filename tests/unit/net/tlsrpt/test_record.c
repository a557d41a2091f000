/* TXT records that ask for reports: RFC 8460 3 with its examples, and what strangers may write into them. Any text: fuzz/fuzz_tlsrpt_record. */
#include "net/tlsrpt/record.h"

#include <stdio.h>

#include "core/base/error.h"
#include "dns/codec.h"
#include "tests/lib/unit.h"

static struct tlsrpt_record record;

static const char *read_record(const char *text) {
  static char room[3 * TLSRPT_URIS_MAX * TLSRPT_URI_MAX];
  struct fmt out = fmt_over(room, sizeof room - 1);
  int error = tlsrpt_record_parse(&record, span_of_text(text));
  if (error != E_OK) return error == E_NOT_FOUND ? "other" : "wrong";
  for (unsigned i = 0; i < record.count; i++) {
    fmt_char(&out, record.uri[i].scheme == TLSRPT_MAIL ? 'M' : 'H');
    fmt_put(&out, tlsrpt_uri_span(&record.uri[i]));
    fmt_char(&out, ' ');
  }
  room[out.len] = '\0';
  return room;
}

START_TEST(records_are_read) {
  static const char *const cases[][2] = {
      {"v=TLSRPTv1;rua=mailto:reports@example.com", "Mreports@example.com "},
      {"v=TLSRPTv1; rua=https://reporting.example.com/v1/tlsrpt", "Hhttps://reporting.example.com/v1/tlsrpt "},
      {"v=TLSRPTv1 ; rua=mailto:a@b.example \t, HTTPS://c.example:8443/?x=1#y ;", "Ma@b.example HHTTPS://c.example:8443/?x=1#y "},
      /* a comma has to be quoted in an address, whatever the URI does */
      {"v=TLSRPTv1;rua=mailto:a%2cb%21@c.example,MAILTO:%22d%20e%22@f.example?subject=g", "M\"d e\"@f.example "},
      {"v=TLSRPTv1;x.y=1;rua=mailto:a@b.example;rua=mailto:c@d.example;", "Ma@b.example Mc@d.example "},
      {"v=TLSRPTv1;rua=mailto:a@b.example,mailto:a@b.example", "Ma@b.example "},
      {"v=TLSRPTv1;rua=mailto:a+b=c@d.example", "Ma+b=c@d.example "},
      {"v=TLSRPTv1;rua=", ""},
      {"v=TLSRPTv1", "wrong"},
      {"v=TLSRPTv1;", "wrong"},
      {"v=TLSRPTv1;id=1", "wrong"},
      {"v=TLSRPTv1;rua", "wrong"},
      {"v=TLSRPTv1;rua=mailto:a@b.example;;x=1", "wrong"},
      {"v=TLSRPTv1;rua=mailto:a@b.example;\n=1", "wrong"},
      {"v=TLSRPTv2;rua=mailto:a@b.example", "other"},
      {"v=tlsrptv1;rua=mailto:a@b.example", "other"},
      {" v=TLSRPTv1;rua=mailto:a@b.example", "Ma@b.example "},
      {"", "other"},
  };
  for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {

    ck_assert_msg(strcmp(read_record(cases[i][0]), cases[i][1]) == 0, "%s: %s", cases[i][0], read_record(cases[i][0]));
  }
}
END_TEST

START_TEST(what_cannot_be_used_is_passed_over) {
  static const char *const uris[] = {"ftp://example.org/",
                                     "http://example.org/",
                                     "mailto:",
                                     "mailto:a",
                                     "mailto:@b.example",
                                     "mailto:a@[127.0.0.1]",
                                     "mailto:a@b.example%0d%0aX:",
                                     "mailto:a@b.example%",
                                     "mailto:a@b.example%3",
                                     "mailto:%c3%a4@b.example",
                                     "mailto:a@b.example!10m",
                                     "mailto:<a@b.example>",
                                     "mailto:%3Ca@b.example%3E",
                                     "mailto:@x:a@b.example",
                                     "mailto:a@b.example%3E%20SIZE=1",
                                     "https://",
                                     "https:///x",
                                     "https://u:p@h.example/",
                                     "https://u@h.example",
                                     "https://h.example/a b",
                                     "https://h.example/\\",
                                     "https:h.example",
                                     "example.org"};
  char text[400];
  for (unsigned i = 0; i < sizeof uris / sizeof *uris; i++) {
    sprintf(text, "v=TLSRPTv1;rua=%s,mailto:good@example.org", uris[i]);
    ck_assert_msg(strcmp(read_record(text), "Mgood@example.org ") == 0, "%s: %s", text, read_record(text));
  }
}
END_TEST

START_TEST(there_are_limits) {
  char text[4096] = "v=TLSRPTv1;rua=https://h.example/";
  size_t head = strlen("v=TLSRPTv1;rua=");
  memset(text + strlen(text), 'x', TLSRPT_URI_MAX + head - strlen(text));
  text[head + TLSRPT_URI_MAX] = '\0';
  read_record(text);
  ck_assert(record.count == 1 && record.uri[0].len == TLSRPT_URI_MAX);
  strcat(text, "x");
  ck_assert_str_eq(read_record(text), "");
  strcpy(text, "v=TLSRPTv1;rua=");
  for (unsigned i = 0; i < 20; i++) sprintf(text + strlen(text), "mailto:a%u@b.example,", i);
  read_record(text);
  ck_assert(record.count == TLSRPT_URIS_MAX && strcmp(record.uri[TLSRPT_URIS_MAX - 1].text, "a7@b.example") == 0);
}
END_TEST

static void add(struct dns_answer *answer, const char *text) {
  unsigned i = answer->count++, at = i == 0 ? 0 : answer->bytes.piece[i - 1].at + answer->bytes.piece[i - 1].len;
  answer->bytes.piece[i].at = (uint16_t)at;
  answer->bytes.piece[i].len = (uint16_t)strlen(text);
  memcpy(answer->bytes.room + at, text, strlen(text));
}

START_TEST(one_record_of_ours_is_an_announcement) {
  static struct dns_answer answer;
  answer.outcome = DNS_FOUND;
  ck_assert(!tlsrpt_announced(&answer, &record));
  add(&answer, "v=spf1 -all");
  ck_assert(!tlsrpt_announced(&answer, &record));
  add(&answer, "v=TLSRPTv1;rua=mailto:a@b.example");
  add(&answer, "v=STSv1;id=1");
  ck_assert(tlsrpt_announced(&answer, &record) && record.count == 1);
  answer.outcome = DNS_FAILED;
  ck_assert(!tlsrpt_announced(&answer, &record));
  answer.outcome = DNS_FOUND;
  add(&answer, "v=TLSRPTv1;rua");
  ck_assert(!tlsrpt_announced(&answer, &record));
}
END_TEST

int main(void) {
  TCase *cases[] = {tcase_create("record")};
  tcase_add_test(cases[0], records_are_read);
  tcase_add_test(cases[0], what_cannot_be_used_is_passed_over);
  tcase_add_test(cases[0], there_are_limits);
  tcase_add_test(cases[0], one_record_of_ours_is_an_announcement);
  return unit_main("net/tlsrpt/record", cases, 1);
}
