#include "core/base/texts.h"

#include <stdio.h>

#include "tests/lib/unit.h"

static struct texts texts;
static void open_texts(void) { texts_init(&texts, 7); }
static void close_texts(void) { texts_fini(&texts); }

START_TEST(equal_texts_are_there_once) {
  char copy[] = "451 later";
  const char *one = texts_get(&texts, "451 later"), *other = texts_get(&texts, copy), *empty = texts_get(&texts, "");
  ck_assert_ptr_eq(one, other);
  ck_assert_ptr_ne(one, copy);
  ck_assert_str_eq(one, "451 later");
  ck_assert_str_eq(empty, "");
  ck_assert_uint_eq(texts._map.count, 2);
  texts_put(&texts, one);
  ck_assert_str_eq(other, "451 later");
  ck_assert_uint_eq(texts._map.count, 2);
  texts_put(&texts, other);
  texts_put(&texts, empty);
  texts_put(&texts, NULL);
  ck_assert_uint_eq(texts._map.count, 0);
}
END_TEST

START_TEST(what_is_set_anew_is_put_back) {
  const char *kept = NULL, *kept_too = NULL;
  texts_set(&texts, &kept, "a");
  texts_set(&texts, &kept_too, "a");
  const char *before = kept;
  texts_set(&texts, &kept, kept); /* itself */
  ck_assert_ptr_eq(kept, before);
  texts_set(&texts, &kept, "b");
  ck_assert_str_eq(kept, "b");
  ck_assert_str_eq(kept_too, "a");
  ck_assert_uint_eq(texts._map.count, 2);
  texts_put(&texts, kept);
  texts_put(&texts, kept_too);
}
END_TEST

START_TEST(many_of_them) {
  const char *kept[1000];
  char text[16];
  for (unsigned i = 0; i < 1000; i++) {
    snprintf(text, sizeof text, "%u", i % 300);
    kept[i] = texts_get(&texts, text);
  }
  ck_assert_uint_eq(texts._map.count, 300);
  for (unsigned i = 0; i < 1000; i++) {
    snprintf(text, sizeof text, "%u", i % 300);
    ck_assert_str_eq(kept[i], text);
    texts_put(&texts, kept[i]);
  }
}
END_TEST

int main(void) {
  TCase *all = tcase_create("all");
  tcase_add_checked_fixture(all, open_texts, close_texts);
  tcase_add_test(all, equal_texts_are_there_once);
  tcase_add_test(all, what_is_set_anew_is_put_back);
  tcase_add_test(all, many_of_them);
  return unit_main("core/base/texts", &all, 1);
}
