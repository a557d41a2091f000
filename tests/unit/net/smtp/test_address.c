#include "tests/lib/unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/error.h"
#include "net/smtp/address.h"

#define A10 "aaaaaaaaaa"
#define A60 A10 A10 A10 A10 A10 A10
#define A63 A60 "aaa"
#define A64 A63 "a"
#define D180 A60 "." A60 "." A60 /* 182 octets */

/* Parses the whole text, which must not be read beyond its end: a copy of exact length lets ASan see that. */
static int parse(const char *text, enum address_kind kind, struct address *address, size_t *left) {
  static uint8_t *copy;
  size_t len = strlen(text);
  free(copy);
  copy = malloc(len > 0 ? len : 1);
  memcpy(copy, text, len);
  struct span span = span_of(copy, len);
  int error = address_parse(address, &span, kind);
  if (error != E_OK) ck_assert(span.at == copy && span.len == len);
  *left = span.len;
  return error;
}

static void check(const char *text, enum address_kind kind, const char *local, const char *domain) {
  struct address address;
  size_t left;
  ck_assert_msg(parse(text, kind, &address, &left) == E_OK, "refused: %s", text);
  ck_assert_uint_eq(left, 0);
  ck_assert_msg(span_equal(address.local, span_of_text(local)), "local part of %s", text);
  ck_assert_msg(span_equal(address.domain, span_of_text(domain)), "domain of %s", text);
  ck_assert_uint_eq(address.whole.len, strlen(local) + strlen(domain) + (*domain != '\0'));
  ck_assert(address.whole.len == 0 || address.whole.at == address.local.at);
}

static void refuse(const char *text, enum address_kind kind, int wanted) {
  struct address address;
  size_t left;
  int error = parse(text, kind, &address, &left);
  ck_assert_msg(error == wanted, "%s: %d instead of %d", text, error, wanted);
}

START_TEST(mailboxes) {
  check("<a@b>", ADDRESS_REVERSE, "a", "b");
  check("<User.Name+tag@Example.COM>", ADDRESS_FORWARD, "User.Name+tag", "Example.COM");
  check("<!#$%&'*+-/=?^_`{|}~@x-1.example>", ADDRESS_FORWARD, "!#$%&'*+-/=?^_`{|}~", "x-1.example");
  check("<a@1.2.3>", ADDRESS_FORWARD, "a", "1.2.3");
  check("<a@xn--bcher-kva.example>", ADDRESS_FORWARD, "a", "xn--bcher-kva.example");
  check("<a@b--c>", ADDRESS_FORWARD, "a", "b--c");
}
END_TEST

START_TEST(mailboxes_that_are_none) {
  static const char *const bad[] = {"",        "<",          "a@b",         "<a@b",         "<a>",       "<@b>",      "<a@>",      "<a@b.>",
                                    "<a@.b>",  "<a@b..c>",   "<.a@b>",      "<a.@b>",       "<a..b@c>",  "<a b@c>",   "<a@b c>",   "<a@-b>",
                                    "<a@b->",  "<a@b-.c>",   "<a@b_c>",     "<a@b@c>",      "<a,b@c>",   "<a(b)@c>",  "<a@b/c>",   "< a@b>",
                                    "<a@b >",  "<a\t@b>",    "<a@b\r>",     "<a:b@c>",      "<<a@b>>",   "<a\x01@b>", "<a@b\x7f>", "<\"a@b>",
                                    "<a\"@b>", "<\"a\"b@c>", "<\"a\\\"@b>", "<\"\x01\"@b>", "<\"a\" @b>"};
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    refuse(bad[i], ADDRESS_REVERSE, E_SYNTAX);
    refuse(bad[i], ADDRESS_FORWARD, E_SYNTAX);
  }
}
END_TEST

START_TEST(null_path_and_postmaster) {
  check("<>", ADDRESS_REVERSE, "", "");
  refuse("<>", ADDRESS_FORWARD, E_SYNTAX);
  check("<postmaster>", ADDRESS_FORWARD, "postmaster", "");
  check("<PostMaster>", ADDRESS_FORWARD, "PostMaster", "");
  refuse("<postmaster>", ADDRESS_REVERSE, E_SYNTAX);
  refuse("<postmasters>", ADDRESS_FORWARD, E_SYNTAX);
  check("<postmaster@example>", ADDRESS_REVERSE, "postmaster", "example");
}
END_TEST

START_TEST(quoted_local_parts) {
  check("<\"a b\"@c>", ADDRESS_REVERSE, "\"a b\"", "c");
  check("<\"\"@c>", ADDRESS_REVERSE, "\"\"", "c");
  check("<\"a@b>\"@c>", ADDRESS_REVERSE, "\"a@b>\"", "c");
  check("<\"\\\"\\\\\\ \"@c>", ADDRESS_REVERSE, "\"\\\"\\\\\\ \"", "c");
  check("<\"..\"@c>", ADDRESS_REVERSE, "\"..\"", "c");
}
END_TEST

START_TEST(source_routes_are_dropped) {
  check("<@a:b@c>", ADDRESS_FORWARD, "b", "c");
  check("<@a.example,@b.example:c@d>", ADDRESS_FORWARD, "c", "d");
  refuse("<@a,b:c@d>", ADDRESS_FORWARD, E_SYNTAX);
  refuse("<@a c@d>", ADDRESS_FORWARD, E_SYNTAX);
  refuse("<@:c@d>", ADDRESS_FORWARD, E_SYNTAX);
  refuse("<@a,:c@d>", ADDRESS_FORWARD, E_SYNTAX);
  refuse("<@a>", ADDRESS_FORWARD, E_SYNTAX);
  refuse("<@a:>", ADDRESS_REVERSE, E_SYNTAX);
  refuse("<@[1.2.3.4]:c@d>", ADDRESS_FORWARD, E_SYNTAX);
  refuse("<@" D180 ",@" D180 ":c@d>", ADDRESS_FORWARD, E_TOO_LONG);
}
END_TEST

START_TEST(literals) {
  static const char *const good[] = {"[127.0.0.1]", "[IPv6:::1]", "[ipv6:2001:db8::1]", "[IPv6:::ffff:192.0.2.1]", "[tag:what-ever!]", "[x-400:A]"};
  static const char *const bad[] = {"[]",       "[127.0.0.1", "127.0.0.1]", "[127.0.0]",      "[127.0.0.256]", "[::1]",    "[IPv6:127.0.0.1]",
                                    "[IPv6:]",  "[IPv6:1]",   "[tag:]",     "[:x]",           "[t_g:x]",       "[tag-:x]", "[tag:a b]",
                                    "[tag:[]]", "[tag:\\]",   "[a]b",       "[127.0.0.1].com"};
  char text[128];
  for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
    struct address address;
    size_t left;
    snprintf(text, sizeof text, "<a@%s>", good[i]);
    check(text, ADDRESS_FORWARD, "a", good[i]);
    ck_assert(parse(text, ADDRESS_FORWARD, &address, &left) == E_OK && address.literal);
  }
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    snprintf(text, sizeof text, "<a@%s>", bad[i]);
    refuse(text, ADDRESS_FORWARD, E_SYNTAX);
  }
}
END_TEST

START_TEST(lengths) {
  check("<" A64 "@b>", ADDRESS_REVERSE, A64, "b");
  refuse("<" A64 "a@b>", ADDRESS_REVERSE, E_TOO_LONG);
  check("<a@" A63 ">", ADDRESS_REVERSE, "a", A63);
  refuse("<a@" A64 ">", ADDRESS_REVERSE, E_SYNTAX);
  check("<" A64 "@" D180 ".aaaaaa>", ADDRESS_REVERSE, A64, D180 ".aaaaaa"); /* 254 */
  refuse("<" A64 "@" D180 ".aaaaaaa>", ADDRESS_REVERSE, E_TOO_LONG);
  check("<a@" D180 "." A60 ".aaaaaaaa>", ADDRESS_REVERSE, "a", D180 "." A60 ".aaaaaaaa");
}
END_TEST

START_TEST(utf8) {
  struct address address;
  size_t left;
  ck_assert(parse("<a@b>", ADDRESS_FORWARD, &address, &left) == E_OK && !address.utf8);
  ck_assert(parse("<\xc3\xa4@b>", ADDRESS_FORWARD, &address, &left) == E_OK && address.utf8);
  ck_assert(parse("<a@b\xc3\xbc"
                  "cher.example>",
                  ADDRESS_FORWARD, &address, &left) == E_OK &&
            address.utf8);
  ck_assert(parse("<\"\xf0\x9f\x98\x80 x\"@b>", ADDRESS_FORWARD, &address, &left) == E_OK && address.utf8);
  static const char *const bad[] = {"<\xc3@b>", "<\x80@b>", "<\xc0\x80@b>",    "<\xe0\x80\x80@b>", "<\xed\xa0\x80@b>", "<\xf4\x90\x80\x80@b>",
                                    "<\xff@b>", "<a@\xc3>", "<\"\xe2\x82\"@b>"};
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) refuse(bad[i], ADDRESS_FORWARD, E_SYNTAX);
}
END_TEST

START_TEST(utf8_sequences) {
  static const struct {
    const char *text;
    size_t len;
  } cases[] = {{"", 0},
               {"a", 1},
               {"\xc2\x80", 2},
               {"\xc2", 0},
               {"\xc1\xbf", 0},
               {"\xe0\xa0\x80", 3},
               {"\xe0\x9f\xbf", 0},
               {"\xed\x9f\xbf", 3},
               {"\xee\x80\x80", 3},
               {"\xf0\x90\x80\x80", 4},
               {"\xf0\x8f\x80\x80", 0},
               {"\xf4\x8f\xbf\xbf", 4},
               {"\xf5\x80\x80\x80", 0},
               {"\xc3(", 0},
               {"\xe2\x82(", 0}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) ck_assert_uint_eq(address_utf8_len(span_of_text(cases[i].text)), cases[i].len);
}
END_TEST

START_TEST(what_follows_is_left) {
  struct span text = SPAN("<a@b> SIZE=1");
  struct address address;
  ck_assert_int_eq(address_parse(&address, &text, ADDRESS_REVERSE), E_OK);
  ck_assert(span_equal(text, SPAN(" SIZE=1")));
}
END_TEST

START_TEST(domains) {
  static const char *const good[] = {"a",
                                     "a.b",
                                     "a-b.c-d",
                                     "1",
                                     A63,
                                     "b\xc3\xbc"
                                     "cher.example"};
  static const char *const bad[] = {"", ".", "a.", ".a", "a..b", "-a", "a-", "a_b", "a b", A64, "[127.0.0.1]", "a\xff"};
  for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) ck_assert_msg(address_domain_is_valid(span_of_text(good[i])), "%s", good[i]);
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) ck_assert_msg(!address_domain_is_valid(span_of_text(bad[i])), "%s", bad[i]);
  static char label[256]; /* 100 characters of three octets each are no label, 60 are */
  for (unsigned i = 0; i < 60; i++) memcpy(label + 3 * i, "\xe4\xb8\xad", 3);
  ck_assert(address_domain_is_valid(span_of(label, 180)));
  for (unsigned i = 60; i < 84; i++) memcpy(label + 3 * i, "\xe4\xb8\xad", 3);
  ck_assert(!address_domain_is_valid(span_of(label, 252)));
  memset(label, 'a', sizeof label);
  for (unsigned i = 31; i < sizeof label; i += 32) label[i] = '.';
  ck_assert(address_domain_is_valid(span_of(label, 255)));
  label[255] = 'a';
  ck_assert(!address_domain_is_valid(span_of(label, 256)));
}
END_TEST

int main(void) {
  TCase *tests = tcase_create("address");
  tcase_add_test(tests, mailboxes);
  tcase_add_test(tests, mailboxes_that_are_none);
  tcase_add_test(tests, null_path_and_postmaster);
  tcase_add_test(tests, quoted_local_parts);
  tcase_add_test(tests, source_routes_are_dropped);
  tcase_add_test(tests, literals);
  tcase_add_test(tests, lengths);
  tcase_add_test(tests, utf8);
  tcase_add_test(tests, utf8_sequences);
  tcase_add_test(tests, what_follows_is_left);
  tcase_add_test(tests, domains);
  return unit_main("net/smtp/address", &tests, 1);
}
