#include "dns/cache.h"

#include <stdio.h>

#include "tests/lib/unit.h"

static struct cache cache;

static void setup(void) { cache_init(&cache, 4, 7); }
static void teardown(void) { cache_fini(&cache); }

static void put(const char *key, const char *value, uint64_t expires_ms, uint64_t dies_ms) {
  cache_put(&cache, span_of_text(key), span_of_text(value), expires_ms, dies_ms);
}

static struct cache_entry *find(const char *key, uint64_t now_ms) { return cache_find(&cache, span_of_text(key), now_ms); }

START_TEST(values_are_found_until_they_die) {
  put("a", "one", 100, 100);
  ck_assert(span_equal(cache_value(find("a", 99)), SPAN("one")));
  ck_assert_ptr_null(find("b", 99));
  ck_assert_ptr_null(find("a", 100));
  ck_assert_uint_eq(cache_count(&cache), 0);
  ck_assert_uint_eq(cache.bytes, 0);
}
END_TEST

START_TEST(replacing_keeps_one) {
  put("a", "one", 100, 100);
  put("a", "", 200, 200);
  ck_assert_uint_eq(cache_count(&cache), 1);
  ck_assert_uint_eq(cache_value(find("a", 150)).len, 0);
}
END_TEST

START_TEST(least_recently_used_goes_first) {
  put("a", "1", 100, 100), put("b", "2", 100, 100), put("c", "3", 100, 100), put("d", "4", 100, 100);
  ck_assert_ptr_nonnull(find("a", 1));
  put("e", "5", 100, 100);
  ck_assert_ptr_null(find("b", 1));
  ck_assert_ptr_nonnull(find("a", 1));
  ck_assert_uint_eq(cache_count(&cache), 4);
}
END_TEST

START_TEST(bytes_are_bounded_too) {
  static char large[4 * CACHE_BYTES_PER_ENTRY];
  memset(large, 'x', sizeof large - 1);
  put("a", "1", 100, 100), put("b", "2", 100, 100);
  put("a", large, 100, 100); /* cannot fit: not stored, and the old value is not right any more */
  ck_assert_ptr_null(find("a", 1));
  ck_assert_ptr_nonnull(find("b", 1));
  large[sizeof large - 1 - CACHE_ENTRY_OVERHEAD - 2] = '\0';
  put("a", large, 100, 100); /* alone it fits */
  ck_assert_ptr_nonnull(find("a", 1));
  ck_assert_ptr_null(find("b", 1));
  for (unsigned i = 0; i < 100; i++) {
    char key[16];
    snprintf(key, sizeof key, "%u", i);
    put(key, large + i * 13, 100, 100);
    ck_assert_uint_le(cache.bytes, 4 * CACHE_BYTES_PER_ENTRY);
    ck_assert_uint_le(cache_count(&cache), 4);
  }
}
END_TEST

START_TEST(stale_values_can_be_prolonged_until_they_die) {
  put("a", "1", 100, 1000);
  struct cache_entry *entry = find("a", 500);
  ck_assert_ptr_nonnull(entry);
  ck_assert_uint_eq(entry->expires_ms, 100);
  ck_assert(!entry->stale);
  cache_prolong(entry, 600);
  ck_assert_uint_eq(find("a", 550)->expires_ms, 600);
  ck_assert(entry->stale);
  cache_prolong(entry, 5000);
  ck_assert_uint_eq(find("a", 999)->expires_ms, 1000);
  ck_assert_ptr_null(find("a", 1000));
}
END_TEST

int main(void) {
  TCase *tests = tcase_create("cache");
  tcase_add_checked_fixture(tests, setup, teardown);
  tcase_add_test(tests, values_are_found_until_they_die);
  tcase_add_test(tests, replacing_keeps_one);
  tcase_add_test(tests, least_recently_used_goes_first);
  tcase_add_test(tests, bytes_are_bounded_too);
  tcase_add_test(tests, stale_values_can_be_prolonged_until_they_die);
  return unit_main("dns/cache", &tests, 1);
}
