#include "net/smtp/reply.h"
#include "core/base/error.h"
#include "tests/lib/unit.h"

#include <stdlib.h>

static struct smtp_reply reply;
static struct span rest;

static int parse(const char *text) {
  rest = span_of_text(text);
  return reply_parse(&reply, &rest);
}

static void assert_joined(const char *expected) {
  char room[1024];
  struct fmt out = fmt_over(room, sizeof room - 1);
  reply_join(&reply, &out);
  room[out.len] = '\0';
  ck_assert_str_eq(room, expected);
}

static void assert_enhanced(unsigned class, unsigned subject, unsigned detail) {
  ck_assert_uint_eq(reply.enhanced_class, class);
  if (class == 0) return;
  ck_assert_uint_eq(reply.enhanced[0], subject);
  ck_assert_uint_eq(reply.enhanced[1], detail);
}

START_TEST(one_line) {
  ck_assert_int_eq(parse("250 2.1.0 Ok\r\n354 next\r\n"), 1);
  ck_assert_uint_eq(reply.code, 250);
  assert_enhanced(2, 1, 0);
  ck_assert(span_equal(reply.bytes, SPAN("250 2.1.0 Ok\r\n")));
  ck_assert(span_equal(rest, SPAN("354 next\r\n")));
  assert_joined("Ok");
}
END_TEST

START_TEST(bare_code_and_bare_lf) {
  ck_assert_int_eq(parse("220\r\n"), 1);
  assert_joined("");
  ck_assert_int_eq(parse("220 \n"), 1);
  assert_joined("");
  ck_assert_int_eq(parse("250-a\n250 b\n"), 1);
  assert_joined("a b");
  ck_assert_int_eq(parse("250-a\n250\n"), 1);
  assert_joined("a");
  ck_assert_int_eq(parse("250-\r\n250-\r\n250-b\r\n250 c\r\n"), 1);
  assert_joined("b c");
  ck_assert_int_eq(parse("250 a\r\r\n"), 1); /* only the last CR belongs to the line end */
  assert_joined("a ");
}
END_TEST

START_TEST(every_prefix_needs_more) {
  const char *text = "550-5.7.1 one\r\n550-5.7.1 two\r\n550 5.7.1 three\r\n";
  for (size_t len = 0; len < strlen(text); len++) {
    struct span in = span_of(text, len);
    ck_assert_int_eq(reply_parse(&reply, &in), 0);
    ck_assert_uint_eq(in.len, len);
  }
  ck_assert_int_eq(parse(text), 1);
  ck_assert_uint_eq(rest.len, 0);
}
END_TEST

START_TEST(no_reply) {
  static const char *const bad[] = {"\r\n",
                                    "25\r\n",
                                    "2500\r\n",
                                    "250x\r\n",
                                    "250_ok\r\n",
                                    "abc\r\n",
                                    " 250 ok\r\n",
                                    "199 x\r\n",
                                    "600 x\r\n",
                                    "099 x\r\n",
                                    "999 x\r\n",
                                    "000\r\n",
                                    "2 0 x\r\n",
                                    "HTTP/1.1 400\r\n",
                                    "250\tok\n",
                                    "250-a\r\n251 b\r\n",
                                    "250-a\r\n\r\n250 b\r\n",
                                    "250-a\r\nb\r\n",
                                    "+OK POP3\r\n",
                                    "-250 x\r\n"};
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    ck_assert_msg(parse(bad[i]) == E_PROTOCOL, "%s", bad[i]);
    ck_assert_msg(span_equal(rest, span_of_text(bad[i])), "%s", bad[i]);
  }
  uint8_t *alone = malloc(1); /* nothing may be read before it */
  *alone = '\n';
  rest = span_of(alone, 1);
  ck_assert_int_eq(reply_parse(&reply, &rest), E_PROTOCOL);
  free(alone);
  ck_assert_int_eq(parse("200 x\r\n"), 1);
  ck_assert_int_eq(parse("599 x\r\n"), 1);
}
END_TEST

START_TEST(enhanced_codes) {
  static const struct {
    const char *text;
    unsigned class, subject, detail;
    const char *joined;
  } cases[] = {
      {"550 5.7.606 banned\r\n", 5, 7, 606, "banned"},
      {"550 5.999.999\r\n", 5, 999, 999, ""},
      {"451 4.7.1 later\r\n", 4, 7, 1, "later"},
      {"550 4.7.1 contradicts\r\n", 4, 7, 1, "contradicts"},
      {"550 5.7.1  two spaces\r\n", 5, 7, 1, " two spaces"},
      {"550 5.1.2.3 an address\r\n", 0, 0, 0, "5.1.2.3 an address"},
      {"550 5.7.1000 x\r\n", 0, 0, 0, "5.7.1000 x"},
      {"550 5.1234.1 x\r\n", 0, 0, 0, "5.1234.1 x"},
      {"550 3.7.1 x\r\n", 0, 0, 0, "3.7.1 x"},
      {"550 5.7. x\r\n", 0, 0, 0, "5.7. x"},
      {"550 5..1 x\r\n", 0, 0, 0, "5..1 x"},
      {"550 5.7\r\n", 0, 0, 0, "5.7"},
      {"550 5.7.1x\r\n", 0, 0, 0, "5.7.1x"},
      {"550 x 5.7.1\r\n", 0, 0, 0, "x 5.7.1"},
      {"550-5.7.1 a\r\n550-5.7.1 b\r\n550 5.7.1\r\n", 5, 7, 1, "a b"},
      {"550-5.7.1 a\r\n550 5.7.2 b\r\n", 5, 7, 1, "5.7.1 a 5.7.2 b"},
      {"550-5.7.1 a\r\n550 5.7.11 b\r\n", 5, 7, 1, "5.7.1 a 5.7.11 b"},
      {"550-5.7.1 a\r\n550 b\r\n", 5, 7, 1, "5.7.1 a b"},
      {"550-a\r\n550 5.7.1 b\r\n", 5, 7, 1, "a 5.7.1 b"},
      {"550-a\r\n550-5.1.1 b\r\n550 5.7.1 c\r\n", 5, 1, 1, "a 5.1.1 b 5.7.1 c"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    ck_assert_int_eq(parse(cases[i].text), 1);
    assert_enhanced(cases[i].class, cases[i].subject, cases[i].detail);
    assert_joined(cases[i].joined);
  }
  ck_assert_int_eq(parse("250 ok\r\n"), 1);
  assert_enhanced(0, 0, 0);
}
END_TEST

START_TEST(lines) {
  struct span text;
  size_t cursor = 0;
  ck_assert_int_eq(parse("250-mx.test\r\n250-\r\n250 SIZE 10\r\n220 x\r\n"), 1);
  ck_assert(reply_line(&reply, &cursor, &text) && span_equal(text, SPAN("mx.test")));
  ck_assert(reply_line(&reply, &cursor, &text) && text.len == 0);
  ck_assert(reply_line(&reply, &cursor, &text) && span_equal(text, SPAN("SIZE 10")));
  ck_assert(!reply_line(&reply, &cursor, &text));
  ck_assert(!reply_line(&reply, &cursor, &text));
}
END_TEST

START_TEST(join_cleans_and_cuts) {
  static const char text[] = "550-a\037b\0c\x7f\x1b[0m\r\n550 \xc3\xa9\r\n";
  struct span in = span_of(text, sizeof text - 1);
  char room[32];
  ck_assert_int_eq(reply_parse(&reply, &in), 1);
  for (size_t cap = 0; cap < 16; cap++) {
    static const char whole[] = "a b c  [0m \xc3\xa9";
    struct fmt out = fmt_over(room, cap);
    reply_join(&reply, &out);
    ck_assert(!out.overflow);
    ck_assert(span_equal(fmt_span(&out), span_first(SPAN("a b c  [0m \xc3\xa9"), cap < sizeof whole - 1 ? cap : sizeof whole - 1)));
  }
  struct fmt full = fmt_over(room, 2);
  fmt_text(&full, "too much");
  reply_join(&reply, &full);
  ck_assert_uint_eq(full.len, 0);
}
END_TEST

/* A reply of one line, `len` bytes with its CRLF. */
static int parse_long(size_t len, size_t given) {
  static char text[REPLY_BYTES_MAX + 2];
  memset(text, 'x', sizeof text);
  memcpy(text, "250 ", 4);
  memcpy(text + len - 2, "\r\n", 2);
  rest = span_of(text, given);
  return reply_parse(&reply, &rest);
}

START_TEST(bound_of_bytes) {
  ck_assert_int_eq(parse_long(REPLY_BYTES_MAX, REPLY_BYTES_MAX), 1);
  ck_assert_int_eq(parse_long(REPLY_BYTES_MAX, REPLY_BYTES_MAX - 1), 0);
  ck_assert_int_eq(parse_long(REPLY_BYTES_MAX + 1, REPLY_BYTES_MAX - 1), 0);
  ck_assert_int_eq(parse_long(REPLY_BYTES_MAX + 1, REPLY_BYTES_MAX), E_PROTOCOL);
  ck_assert_int_eq(parse_long(REPLY_BYTES_MAX + 1, REPLY_BYTES_MAX + 1), E_PROTOCOL);
}
END_TEST

START_TEST(bound_of_lines) {
  char text[(REPLY_LINES_MAX + 1) * 5 + 1] = "";
  for (unsigned i = 0; i < REPLY_LINES_MAX - 1; i++) strcat(text, "250-\n");
  size_t len = strlen(text);
  strcpy(text + len, "250 \n");
  ck_assert_int_eq(parse(text), 1);
  strcpy(text + len, "250-\n");
  ck_assert_int_eq(parse(text), E_PROTOCOL);
  strcpy(text + len, "250-\n250 \n");
  ck_assert_int_eq(parse(text), E_PROTOCOL);
}
END_TEST

int main(void) {
  TCase *cases[] = {tcase_create("reply")};
  tcase_add_test(cases[0], one_line);
  tcase_add_test(cases[0], bare_code_and_bare_lf);
  tcase_add_test(cases[0], every_prefix_needs_more);
  tcase_add_test(cases[0], no_reply);
  tcase_add_test(cases[0], enhanced_codes);
  tcase_add_test(cases[0], lines);
  tcase_add_test(cases[0], join_cleans_and_cuts);
  tcase_add_test(cases[0], bound_of_bytes);
  tcase_add_test(cases[0], bound_of_lines);
  return unit_main("net/smtp/reply", cases, 1);
}
