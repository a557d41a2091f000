#include "net/mail/header.h"
#include "tests/lib/unit.h"

#include <stdlib.h>

/* However it is cut. */
static void check(const char *text, unsigned fields, size_t end) {
  struct span all = span_of_text(text);
  for (size_t piece = 1; piece <= all.len; piece++) {
    struct header_scan scan;
    header_scan_init(&scan);
    size_t taken = 0;
    for (size_t at = 0; at < all.len && !scan.over; at += piece) taken += header_scan_feed(&scan, span_first(span_skip(all, at), piece));
    ck_assert_uint_eq(taken, end);
    ck_assert_uint_eq(scan.fields, fields);
    ck_assert_int_eq(scan.over, end < all.len);
  }
}

START_TEST(fields_and_the_end) {
  check("Date: x\r\nFrom: y\r\nMessage-ID: z\r\n\r\nbody\r\n", HEADER_DATE | HEADER_FROM | HEADER_MESSAGE_ID, 33);
  check("\r\nDate: x\r\n", 0, 0);
  check("dAtE: x\r\n\r\n", HEADER_DATE, 9);
  check("Date : x\r\n\r\n", HEADER_DATE, 10);
  check("Subject: a\r\n Date: folded\r\n\tFrom: folded\r\n\r\n", 0, 42);
  check("Dates: a\r\nDat: b\r\nX-Date: c\r\nMessage-IDs: d\r\n\r\nDate: x\r\n", 0, 45);
  check("no colon\r\nFrom: x\r\n\r\n", HEADER_FROM, 19);
  check("a-name-that-is-longer-than-all-of-them-date: x\r\n\r\n", 0, 48);
  check("Date: only", HEADER_DATE, 10);
  check("Dat", 0, 3);
  check("Received: a\r\n", 0, 13);
}
END_TEST

START_TEST(tls_that_is_not_required) {
  check("TLS-Required: No\r\nFrom: y\r\n\r\n", HEADER_TLS_OPTIONAL | HEADER_FROM, 27);
  check("tls-required :\t no \t\r\n\r\n", HEADER_TLS_OPTIONAL, 22);
  check("TLS-Required:NO\nDate: x\r\n\r\n", HEADER_TLS_OPTIONAL | HEADER_DATE, 25);
  check("TLS-Required: None\r\n\r\n", 0, 20);
  check("TLS-Required: no no\r\n\r\n", 0, 21);
  check("TLS-Required: nooooooooooooooooooooo\r\n\r\n", 0, 38);
  check("TLS-Required: Yes\r\n\r\nTLS-Required: No\r\n", 0, 19);
  check("TLS-Required:\r\n No\r\n\r\n", 0, 20); /* folded: not so written */
  check("X-TLS-Required: No\r\nTLS-Requiredd: No\r\n\r\n", 0, 39);
  check("TLS-Required: No", 0, 16); /* not yet */
}
END_TEST

START_TEST(odd_bytes) {
  check("a\rDate: x\r\nb\nDate: y\r\n\r\n", HEADER_DATE, 22);
  check(":\r\n:\r\n\r\n", 0, 6);
  check("   :\r\n\r\n", 0, 6);
}
END_TEST

int main(void) {
  TCase *tc = tcase_create("header");
  tcase_add_test(tc, fields_and_the_end);
  tcase_add_test(tc, tls_that_is_not_required);
  tcase_add_test(tc, odd_bytes);
  return unit_main("net/mail/header", &tc, 1);
}
