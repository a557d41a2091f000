#include "core/base/span.h"
#include "tests/lib/unit.h"

static struct span text(const char *s) { return span_of_text(s); }

START_TEST(equality_is_of_bytes) {
  ck_assert(span_equal(text("abc"), text("abc")));
  ck_assert(!span_equal(text("abc"), text("abC")));
  ck_assert(!span_equal(text("abc"), text("ab")));
  ck_assert(span_equal((struct span){NULL, 0}, text("")));
  ck_assert(span_equal(span_of("a\0b", 3), span_of("a\0b", 3)));
  ck_assert(!span_equal(span_of("a\0b", 3), span_of("a\0c", 3)));
}
END_TEST

START_TEST(case_is_folded_for_ascii_letters_only) {
  ck_assert(span_equal_nocase(text("MAIL From"), text("mail fROM")));
  ck_assert(!span_equal_nocase(text("mail"), text("mails")));
  /* Neighbours of the letters differ from each other in the same bit and must stay apart. */
  ck_assert(!span_equal_nocase(text("@"), text("`")));
  ck_assert(!span_equal_nocase(text("["), text("{")));
  ck_assert(!span_equal_nocase(text("\xc0"), text("\xe0")));
  for (unsigned c = 0; c < 256; c++) {
    bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    ck_assert_uint_eq(ascii_is_alpha((uint8_t)c), letter);
    ck_assert_uint_eq(ascii_is_digit((uint8_t)c), c >= '0' && c <= '9');
    ck_assert_uint_eq(ascii_lower((uint8_t)c), letter ? (c | 0x20) : c);
  }
}
END_TEST

START_TEST(starts_and_ends) {
  ck_assert(span_starts_nocase(text("RCPT TO:<a>"), text("rcpt to:")));
  ck_assert(!span_starts_nocase(text("RCPT"), text("RCPT TO")));
  ck_assert(span_starts_nocase(text("x"), text("")));
  ck_assert(span_ends_nocase(text("mx1.Example.ORG"), text(".example.org")));
  ck_assert(!span_ends_nocase(text("ample.org"), text("example.org")));
  ck_assert(span_ends_nocase(text(""), text("")));
}
END_TEST

START_TEST(cutting) {
  struct span s = text("hello");
  ck_assert(span_equal(span_skip(s, 2), text("llo")));
  ck_assert_uint_eq(span_skip(s, 5).len, 0);
  ck_assert(span_equal(span_first(s, 2), text("he")));
  ck_assert(span_equal(span_first(s, 99), s));
  struct span empty = {NULL, 0};
  ck_assert_ptr_null(span_skip(empty, 0).at);
  ck_assert_uint_eq(span_first(empty, 3).len, 0);
}
END_TEST

START_TEST(finding_a_byte) {
  ck_assert_int_eq(span_find(text("a:b:c"), ':'), 1);
  ck_assert_int_eq(span_find(text("abc"), ':'), -1);
  ck_assert_int_eq(span_find((struct span){NULL, 0}, ':'), -1);
  ck_assert_int_eq(span_find(span_first(text("ab:"), 2), ':'), -1);
}
END_TEST

START_TEST(blanks_are_trimmed) {
  ck_assert(span_equal(span_trim(text(" \t a b\t ")), text("a b")) && span_equal(span_trim(text("a\n")), text("a\n")));
  ck_assert_uint_eq(span_trim(text(" \t")).len, 0);
  ck_assert_uint_eq(span_trim(span_of(NULL, 0)).len, 0);
}
END_TEST

START_TEST(pieces_are_taken_one_by_one) {
  struct span s = text("a;;b");
  ck_assert(span_equal(span_take_until(&s, ';'), text("a")) && span_equal(s, text(";b")));
  ck_assert(span_take_until(&s, ';').len == 0 && span_equal(s, text("b")));
  ck_assert(span_equal(span_take_until(&s, ';'), text("b")) && s.len == 0);
  ck_assert_uint_eq(span_take_until(&s, ';').len, 0);
}
END_TEST

START_TEST(decimal_numbers) {
  uint64_t value = 7;
  ck_assert(span_to_u64(text("0"), &value) && value == 0);
  ck_assert(span_to_u64(text("18446744073709551615"), &value) && value == UINT64_MAX);
  ck_assert(span_to_u64(text("000000000000000000000000012"), &value) && value == 12);
  value = 7;
  const char *bad[] = {"", "18446744073709551616", "18446744073709551620", "99999999999999999999999", "-1", "+1", " 1", "1 ", "1a", "0x1"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) ck_assert_msg(!span_to_u64(text(bad[i]), &value), "took '%s'", bad[i]);
  ck_assert_uint_eq(value, 7); /* untouched */
}
END_TEST

int main(void) {
  TCase *all = tcase_create("all");
  tcase_add_test(all, equality_is_of_bytes);
  tcase_add_test(all, case_is_folded_for_ascii_letters_only);
  tcase_add_test(all, starts_and_ends);
  tcase_add_test(all, cutting);
  tcase_add_test(all, finding_a_byte);
  tcase_add_test(all, blanks_are_trimmed);
  tcase_add_test(all, pieces_are_taken_one_by_one);
  tcase_add_test(all, decimal_numbers);
  return unit_main("core/base/span", &all, 1);
}
