#include "dns/name.h"

#include "core/base/error.h"
#include "tests/lib/unit.h"

static void gives(const char *text, const char *expected) {
  struct dns_name name;
  ck_assert_int_eq(dns_name_parse(&name, span_of_text(text)), E_OK);
  ck_assert_str_eq(name.text, expected);
  ck_assert_uint_eq(name.len, strlen(expected));
}

static void refused(struct span text) {
  struct dns_name name;
  ck_assert_int_ne(dns_name_parse(&name, text), E_OK);
}

START_TEST(ascii_names_become_lower_case) {
  gives("Example.ORG", "example.org");
  gives("a", "a");
  gives("_x.a-b.c0", "_x.a-b.c0");
  gives("xn--bcher-kva.example", "xn--bcher-kva.example");
}
END_TEST

START_TEST(u_labels_become_a_labels) {
  gives("b\xc3\xbc"
        "cher.example",
        "xn--bcher-kva.example");
  gives("B\xc3\x9c"
        "CHER.Example",
        "xn--bcher-kva.example");
  gives("fa\xc3\x9f.de", "xn--fa-hia.de"); /* sharp s is a letter of its own: not transitional */
}
END_TEST

START_TEST(what_is_no_name_is_refused) {
  static const char *const bad[] = {"",    ".",         "a..b",   ".a",          "a.",    "a b",          "a@b",
                                    "a/b", "192.0.2.1", "host.1", "[192.0.2.1]", "a\\.b", "\xff\xfe.org", "*.a"};
  for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) refused(span_of_text(bad[i]));
  refused(SPAN("a\0b"));
  refused(SPAN("\xc3\xbc\0.org"));
}
END_TEST

START_TEST(lengths_are_bounded) {
  char text[2000];
  memset(text, 'a', sizeof text);
  ck_assert_int_eq(dns_name_check(span_of(text, 63)), E_OK);
  ck_assert_int_eq(dns_name_check(span_of(text, 64)), E_RANGE);
  for (unsigned i = 50; i < sizeof text; i += 51) text[i] = '.';
  ck_assert_int_eq(dns_name_check(span_of(text, 253)), E_OK);
  ck_assert_int_eq(dns_name_check(span_of(text, 254)), E_RANGE);
  text[0] = '\xc3', text[1] = '\xbc';
  refused(span_of(text, sizeof text));
}
END_TEST

START_TEST(keys_hold_type_and_name) {
  struct dns_key key;
  dns_key_make(&key, 0x1234, SPAN("a.b"));
  ck_assert_uint_eq(dns_key_type(&key), 0x1234);
  ck_assert(span_equal(dns_key_name(&key), SPAN("a.b")));
  ck_assert(span_equal(dns_key_span(&key), SPAN("\x12\x34"
                                                "a.b")));
}
END_TEST

int main(void) {
  TCase *names = tcase_create("names");
  tcase_add_test(names, ascii_names_become_lower_case);
  tcase_add_test(names, u_labels_become_a_labels);
  tcase_add_test(names, what_is_no_name_is_refused);
  tcase_add_test(names, lengths_are_bounded);
  tcase_add_test(names, keys_hold_type_and_name);
  return unit_main("dns/name", &names, 1);
}
