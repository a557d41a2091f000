/* TXT records of tags. What means what in them: unit/net/sts/test_policy, unit/net/tlsrpt/test_record. */
#include "dns/tags.h"

#include "core/base/error.h"
#include "dns/codec.h"
#include "tests/lib/unit.h"

/* "name=value;" of all fields, then what it ended with. */
static const char *read_all(const char *text) {
  static char room[256];
  struct fmt out = fmt_over(room, sizeof room - 1);
  struct span rest = span_of_text(text), name, value;
  int error = E_NOT_FOUND;
  if (!tags_begin(&rest, SPAN("v=X1"))) return "other";
  while ((error = tags_next(&rest, &name, &value)) == E_OK) {
    fmt_put(&out, name);
    fmt_char(&out, '=');
    fmt_put(&out, value);
    fmt_char(&out, '|');
  }
  if (error == E_SYNTAX) fmt_text(&out, "wrong");
  room[out.len] = '\0';
  return room;
}

START_TEST(fields_come_in_their_order) {
  static const char *const cases[][2] = {
      {"v=X1", ""},
      {"v=X1;", ""},
      {" v=X1 ;\ta=1 ; b-c.d_e=2=3; ", "a=1|b-c.d_e=2=3|"},
      {"v=X1;a=", "a=|"},
      {"v=X1;a=1;;", "a=1|"},
      {"v=X1;;a=1", "wrong"},
      {"v=X1;a=1;b", "a=1|wrong"},
      {"v=X1;a=1\n;b=2", "wrong"},
      {"v=X1;=1", "wrong"},
      {"v=X1;-a=1", "wrong"},
      {"v=X1;a a=1", "wrong"},
      {"v=X1;a123456789012345678901234567890=1", "a123456789012345678901234567890=1|"},
      {"v=X1;a12345678901234567890123456789012=1", "wrong"},
      {"v=x1;a=1", "other"},
      {"v=X12;a=1", "other"},
      {"", "other"},
  };
  for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++)
    ck_assert_msg(strcmp(read_all(cases[i][0]), cases[i][1]) == 0, "%s: %s", cases[i][0], read_all(cases[i][0]));
}
END_TEST

START_TEST(two_records_are_none) {
  static struct dns_answer answer = {.outcome = DNS_FOUND, .count = 3};
  static const char *const texts[] = {"v=Y;a=0", "v=X1;a=1", "v=X1;a=2"};
  struct span text;
  for (unsigned i = 0, at = 0; i < 3; i++) {
    answer.bytes.piece[i].at = (uint16_t)at;
    answer.bytes.piece[i].len = (uint16_t)strlen(texts[i]);
    memcpy(answer.bytes.room + at, texts[i], strlen(texts[i]));
    at += (unsigned)strlen(texts[i]);
  }
  ck_assert(!tags_announced(&answer, SPAN("v=X1"), &text));
  answer.count = 2;
  ck_assert(tags_announced(&answer, SPAN("v=X1"), &text) && span_equal(text, SPAN("a=1")));
  answer.count = 1;
  ck_assert(!tags_announced(&answer, SPAN("v=X1"), &text));
  answer.outcome = DNS_NO_DATA;
  ck_assert(!tags_announced(&answer, SPAN("v=Y"), &text));
}
END_TEST

int main(void) {
  TCase *cases[] = {tcase_create("tags")};
  tcase_add_test(cases[0], fields_come_in_their_order);
  tcase_add_test(cases[0], two_records_are_none);
  return unit_main("dns/tags", cases, 1);
}
