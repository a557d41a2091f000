/* Strict base64 (RFC 4648). */
#include "net/auth/base64.h"

#include "core/base/error.h"
#include "tests/lib/unit.h"

static const struct {
  const char *bytes, *text;
} vectors[] = {
    {"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"}, {"foob", "Zm9vYg=="}, {"fooba", "Zm9vYmE="}, {"foobar", "Zm9vYmFy"}}; /* RFC 4648 10 */

START_TEST(both_ways) {
  for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
    uint8_t room[16], bytes[16];
    size_t len = 99;
    struct fmt out = fmt_over(room, sizeof room);
    base64_encode(&out, span_of_text(vectors[i].bytes));
    ck_assert(span_equal(fmt_span(&out), span_of_text(vectors[i].text)));
    ck_assert_uint_eq(out.len, BASE64_LENGTH(strlen(vectors[i].bytes)));
    ck_assert_int_eq(base64_decode(span_of_text(vectors[i].text), bytes, sizeof bytes, &len), E_OK);
    ck_assert(span_equal(span_of(bytes, len), span_of_text(vectors[i].bytes)));
  }
}
END_TEST

START_TEST(every_octet) {
  uint8_t all[256], room[400], bytes[256];
  size_t len;
  for (unsigned i = 0; i < 256; i++) all[i] = (uint8_t)(i * 167);
  struct fmt out = fmt_over(room, sizeof room);
  base64_encode(&out, span_of(all, sizeof all));
  ck_assert(!out.overflow && base64_decode(fmt_span(&out), bytes, sizeof bytes, &len) == E_OK);
  ck_assert(span_equal(span_of(bytes, len), span_of(all, sizeof all)));
}
END_TEST

START_TEST(what_is_wrong) {
  static const char *const wrong[] = {"Z",    "Zg",     "Zg=",   "Zg= ",     "Zh==", "Zm9=",    "Zg==Zg==",  "====",     "Z===", "=m9v",
                                      "Zm=v", "Zm9v\n", " Zm9v", "Zm9v====", "Z-9v", "Zm9\x80", "Zm9v Zm9v", "Zm9v=Zm9", "*"};
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    uint8_t bytes[16];
    size_t len;
    ck_assert_msg(base64_decode(span_of_text(wrong[i]), bytes, sizeof bytes, &len) == E_SYNTAX, "%s", wrong[i]);
  }
}
END_TEST

START_TEST(no_more_than_there_is_room_for) {
  uint8_t bytes[4] = {0, 0, 0, 7};
  size_t len;
  ck_assert_int_eq(base64_decode(SPAN("Zm9v"), bytes, 3, &len), E_OK);
  ck_assert_int_eq(base64_decode(SPAN("Zm9v"), bytes, 2, &len), E_TOO_LONG);
  ck_assert_int_eq(base64_decode(SPAN("Zm9vYg=="), bytes, 3, &len), E_TOO_LONG);
  ck_assert_uint_eq(bytes[3], 7);
}
END_TEST

int main(void) {
  TCase *all = tcase_create("all");
  tcase_add_test(all, both_ways);
  tcase_add_test(all, every_octet);
  tcase_add_test(all, what_is_wrong);
  tcase_add_test(all, no_more_than_there_is_room_for);
  return unit_main("net/auth/base64", &all, 1);
}
