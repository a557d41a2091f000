#include "core/base/error.h"
#include "tests/lib/unit.h"

#include <errno.h>
#include <string.h>

START_TEST(every_code_has_its_own_text) {
  for (int code = E_OTHER; code <= E_OK; code++) {
    ck_assert_uint_gt(strlen(error_text(code)), 0);
    for (int other = E_OTHER; other < code; other++) ck_assert_str_ne(error_text(code), error_text(other));
  }
  ck_assert_str_eq(error_text(1), error_text(E_OTHER));
  ck_assert_str_eq(error_text(-999), error_text(E_OTHER));
}
END_TEST

START_TEST(errno_values) {
  ck_assert_int_eq(error_from_errno(0), E_OK);
  ck_assert_int_eq(error_from_errno(ENOSPC), E_NO_SPACE);
  ck_assert_int_eq(error_from_errno(EDQUOT), E_NO_SPACE);
  ck_assert_int_eq(error_from_errno(EIO), E_IO);
  ck_assert_int_eq(error_from_errno(ENOENT), E_NOT_FOUND);
  ck_assert_int_eq(error_from_errno(EACCES), E_PERMISSION);
  ck_assert_int_eq(error_from_errno(ECONNREFUSED), E_REFUSED);
  ck_assert_int_eq(error_from_errno(EMFILE), E_TOO_MANY_FILES);
  for (int value = 1; value < 5000; value++) {
    int code = error_from_errno(value);
    ck_assert(code < E_OK && code >= E_OTHER);
  }
}
END_TEST

int main(void) {
  TCase *all = tcase_create("all");
  tcase_add_test(all, every_code_has_its_own_text);
  tcase_add_test(all, errno_values);
  return unit_main("core/base/error", &all, 1);
}
