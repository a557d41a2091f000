#include "core/base/fmt.h"
#include "tests/lib/unit.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define CHECK_FMT(call, expected)                                                                                                                    \
  do {                                                                                                                                               \
    uint8_t room_[256];                                                                                                                              \
    struct fmt f = fmt_over(room_, sizeof room_);                                                                                                    \
    call;                                                                                                                                            \
    ck_assert(!f.overflow);                                                                                                                          \
    const char *expected_ = (expected);                                                                                                              \
    ck_quick_msg(span_equal(fmt_span(&f), span_of_text(expected_)), "got '%.*s', not '%s'", (int)f.len, (const char *)room_, expected_);             \
  } while (0)

START_TEST(numbers) {
  CHECK_FMT(fmt_u64(&f, 0), "0");
  CHECK_FMT(fmt_u64(&f, 10), "10");
  CHECK_FMT(fmt_u64(&f, UINT64_MAX), "18446744073709551615");
  CHECK_FMT(fmt_u64_padded(&f, 7, 3), "007");
  CHECK_FMT(fmt_u64_padded(&f, 1234, 3), "1234");
  CHECK_FMT(fmt_u64_padded(&f, 0, 0), "0");
  CHECK_FMT(fmt_u64_padded(&f, 1, 20), "00000000000000000001");
  CHECK_FMT(fmt_hex64(&f, 0), "0000000000000000");
  CHECK_FMT(fmt_hex64(&f, 0x0123456789abcdef), "0123456789abcdef");
}
END_TEST

START_TEST(escapes) {
  CHECK_FMT(fmt_escaped(&f, SPAN("plain text~!")), "plain text~!");
  CHECK_FMT(fmt_escaped(&f, SPAN("a\r\nb")), "a\\x0d\\x0ab");
  CHECK_FMT(fmt_escaped(&f, SPAN("\"\\")), "\\x22\\x5c");
  CHECK_FMT(fmt_escaped(&f, SPAN("\0\x1f\x7f\x80\xff")), "\\x00\\x1f\\x7f\\x80\\xff");
  CHECK_FMT(fmt_escaped(&f, (struct span){NULL, 0}), "");
}
END_TEST

START_TEST(overflow_is_sticky_and_never_passes_the_end) {
  uint8_t room[8] = "-------";
  struct fmt f = fmt_over(room, 5);
  fmt_text(&f, "abc");
  ck_assert_uint_eq(fmt_room(&f), 2);
  fmt_text(&f, "def"); /* does not fit: nothing of it is written */
  ck_assert(f.overflow);
  fmt_char(&f, 'x'); /* would fit, but comes too late */
  ck_assert_uint_eq(f.len, 3);
  ck_assert_mem_eq(room, "abc----", 8);
  f = fmt_over(room, 3);
  fmt_text(&f, "abc"); /* to the last byte */
  ck_assert(!f.overflow && fmt_room(&f) == 0);
  f = fmt_over(NULL, 0);
  fmt_put(&f, (struct span){NULL, 0});
  ck_assert(!f.overflow);
  volatile size_t huge = SIZE_MAX;
  fmt_bytes(&f, "a", huge);
  ck_assert(f.overflow);
}
END_TEST

START_TEST(known_dates) {
  CHECK_FMT(fmt_date(&f, 0), "Thu, 1 Jan 1970 00:00:00 +0000");
  CHECK_FMT(fmt_date(&f, 1795484839000), "Tue, 24 Nov 2026 01:47:19 +0000");
  CHECK_FMT(fmt_date(&f, 1795484839999), "Tue, 24 Nov 2026 01:47:19 +0000");
  CHECK_FMT(fmt_date(&f, 951782400000), "Tue, 29 Feb 2000 00:00:00 +0000"); /* divisible by 400 */
  CHECK_FMT(fmt_date(&f, 4107542400000), "Mon, 1 Mar 2100 00:00:00 +0000"); /* by 100: no leap year */
  CHECK_FMT(fmt_date(&f, 4107542399000), "Sun, 28 Feb 2100 23:59:59 +0000");
  CHECK_FMT(fmt_date(&f, 253402300799000), "Fri, 31 Dec 9999 23:59:59 +0000");
  CHECK_FMT(fmt_timestamp(&f, 0), "1970-01-01T00:00:00Z");
  CHECK_FMT(fmt_timestamp(&f, 1795484839999), "2026-11-24T01:47:19Z");
  CHECK_FMT(fmt_timestamp(&f, 253402300799000), "9999-12-31T23:59:59Z");
}
END_TEST

static void check_against_libc(uint64_t seconds) {
  time_t time = (time_t)seconds;
  struct tm parts;
  char expected[64], day[8];
  ck_quick(gmtime_r(&time, &parts) != NULL);
  ck_quick(strftime(expected, sizeof expected, "%a, ", &parts) > 0);
  snprintf(day, sizeof day, "%d", parts.tm_mday);
  strcat(expected, day);
  size_t len = strlen(expected);
  ck_quick(strftime(expected + len, sizeof expected - len, " %b %Y %H:%M:%S +0000", &parts) > 0);
  CHECK_FMT(fmt_date(&f, seconds * 1000 + seconds % 1000), expected);
}

START_TEST(every_day_until_2500_as_libc_says) {
  for (uint64_t day = 0; day < 193500; day++) check_against_libc(day * 86400 + day * 7919 % 86400);
}
END_TEST

START_TEST(any_time_as_libc_says) {
  srandom(1);
  for (unsigned i = 0; i < 20000; i++) check_against_libc(((uint64_t)random() << 12 | (uint64_t)(random() & 4095)) % 253402300800);
  uint8_t room[64]; /* the farthest time there is still fits and keeps its bounds */
  struct fmt f = fmt_over(room, sizeof room);
  fmt_date(&f, UINT64_MAX);
  ck_assert(!f.overflow);
}
END_TEST

int main(void) {
  TCase *all = tcase_create("all");
  tcase_add_test(all, numbers);
  tcase_add_test(all, escapes);
  tcase_add_test(all, overflow_is_sticky_and_never_passes_the_end);
  tcase_add_test(all, known_dates);
  tcase_add_test(all, every_day_until_2500_as_libc_says);
  tcase_add_test(all, any_time_as_libc_says);
  return unit_main("core/base/fmt", &all, 1);
}
