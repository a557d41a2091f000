/* Policies by domain: how long they hold, who goes first, and the file: what comes back, and what of a damaged one is left out. */
#include "net/sts/cache.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/base/error.h"
#include "core/conf/system.h"
#include "tests/lib/unit.h"

#define NOW 1700000000000ull

static struct sts_cache cache;
static char path[64];

static void setup(void) {
  sts_cache_init(&cache, 4, 7);
  strcpy(path, "/tmp/ringpost-sts-XXXXXX");
  int handle = mkstemp(path);
  ck_assert_int_ge(handle, 0);
  close(handle);
}
static void teardown(void) {
  sts_cache_fini(&cache);
  unlink(path);
}

static struct sts_policy *policy(unsigned max_age_s, unsigned patterns) {
  static char text[20000];
  uint8_t room[96];
  struct fmt why = fmt_over(room, sizeof room);
  struct sts_policy *made;
  size_t len = (size_t)sprintf(text, "version: STSv1\nmode: enforce\nmax_age: %u\n", max_age_s);
  for (unsigned i = 0; i < patterns; i++) len += (size_t)sprintf(text + len, "mx: *.x%u.example\n", i);
  ck_assert_int_eq(sts_policy_parse(&made, span_of(text, len), &why), E_OK);
  return made;
}

static struct sts_entry *add(const char *domain, unsigned max_age_s, uint64_t now_ms) {
  struct sts_entry *entry = sts_cache_get(&cache, span_of_text(domain), now_ms);
  ck_assert_ptr_nonnull(entry);
  sts_cache_set(entry, policy(max_age_s, 2), "id7", now_ms);
  return entry;
}

static struct sts_entry *find(const char *domain, uint64_t now_ms) { return sts_cache_find(&cache, span_of_text(domain), now_ms); }

START_TEST(a_policy_holds_until_its_max_age) {
  add("a.org", 10, NOW);
  ck_assert(sts_entry_holds(find("a.org", NOW + 9999), NOW + 9999));
  ck_assert_ptr_nonnull(find("a.org", NOW + 9999)->policy);
  ck_assert_ptr_null(find("a.org", NOW + 10000)->policy);
  ck_assert_ptr_null(find("b.org", NOW));
}
END_TEST

START_TEST(the_least_recently_used_go_first) {
  static const char *const names[] = {"a.org", "b.org", "c.org", "d.org"};
  for (unsigned i = 0; i < 4; i++) add(names[i], 100, NOW);
  find("a.org", NOW)->fetching = false;
  find("b.org", NOW)->fetching = true;
  find("c.org", NOW), find("d.org", NOW), find("a.org", NOW); /* b is the oldest, but must stay */
  add("e.org", 100, NOW);
  ck_assert(find("b.org", NOW) != NULL && find("c.org", NOW) == NULL && find("a.org", NOW) != NULL && cache.map.count == 4);
  for (unsigned i = 0; i < 4; i++)
    if (find(names[i], NOW) != NULL) find(names[i], NOW)->fetching = true;
  find("e.org", NOW)->fetching = true;
  ck_assert_ptr_null(sts_cache_get(&cache, SPAN("f.org"), NOW));
}
END_TEST

static int load(uint64_t now_ms, unsigned *left_out) {
  sts_cache_fini(&cache);
  sts_cache_init(&cache, 4, 8);
  return sts_cache_load(&cache, path, now_ms, left_out);
}

START_TEST(the_file_brings_them_back) {
  unsigned left_out;
  add("a.org", 1000, NOW);
  add("old.org", 10, NOW);
  struct sts_entry *large = sts_cache_get(&cache, SPAN("b.org"), NOW + 5);
  sts_cache_set(large, policy(2000, STS_PATTERNS_MAX), "", NOW + 5);
  sts_cache_get(&cache, SPAN("failed.org"), NOW);
  find("a.org", NOW + 20000);
  ck_assert_int_eq(sts_cache_save(&cache, path, NOW + 20000), E_OK);
  ck_assert_int_eq(load(NOW + 30000, &left_out), E_OK);
  ck_assert(cache.map.count == 2 && left_out == 0);
  struct sts_entry *entry = TAILQ_FIRST(&cache.recent);
  ck_assert_str_eq(entry->domain.text, "a.org");
  ck_assert_str_eq(entry->id, "id7");
  ck_assert(entry->fetched_ms == NOW && entry->used_ms == NOW + 20000 && entry->policy->max_age_s == 1000 && entry->policy->patterns == 2);
  ck_assert_uint_eq(find("b.org", NOW + 30000)->policy->patterns, STS_PATTERNS_MAX);
}
END_TEST

START_TEST(without_a_file_there_is_nothing) {
  unsigned left_out;
  unlink(path);
  ck_assert_int_eq(load(NOW, &left_out), E_OK);
  ck_assert(cache.map.count == 0 && left_out == 0);
  strcpy(path, "/proc/version/file"); /* a file stands where the directory should be */
  ck_assert_int_eq(load(NOW, &left_out), E_OK);
  strcpy(path, "/proc/nowhere/file");
  ck_assert_int_ne(sts_cache_save(&cache, path, NOW), E_OK);
}
END_TEST

static const char *const damaged[] = {
    "", "{", "[1]", "{\"version\": 2, \"policies\": []}", "{\"version\": 1}", "{\"version\": 1, \"version\": 1, \"policies\": []}", "null"};

START_TEST(a_file_that_is_none) {
  unsigned left_out;
  ck_assert_int_eq(system_write_file(path, span_of_text(damaged[_i])), E_OK);
  ck_assert_int_eq(load(NOW, &left_out), E_SYNTAX);
  ck_assert_uint_eq(cache.map.count, 0);
}
END_TEST

#define POLICY "version: STSv1\\nmode: enforce\\nmx: a.b\\nmax_age: 1000\\n"
#define ENTRY(domain, id, fetched, policy)                                                                                                           \
  "{\"domain\": \"" domain "\", \"id\": \"" id "\", \"fetched\": " fetched ", \"used\": 5, \"policy\": \"" policy "\"}"
#define FETCHED "1700000000000"

static const struct {
  const char *entry;
  bool good;
} entries[] = {
    {ENTRY("a.org", "1", FETCHED, POLICY), true},
    {ENTRY("a..org", "1", FETCHED, POLICY), false},
    {ENTRY("a.org", "123456789012345678901234567890123", FETCHED, POLICY), false},
    {ENTRY("a.org", "1", "1700000100000", POLICY), false}, /* from the future: it would hold too long */
    {ENTRY("a.org", "1", "1600000000000", POLICY), false},
    {ENTRY("a.org", "1", "-1", POLICY), false},
    {ENTRY("a.org", "1", FETCHED, "nonsense"), false},
    {ENTRY("a.org", "1", FETCHED, "version: STSv1\\u0001"), false},
    {"{\"domain\": \"a.org\"}", false},
    {"17", false},
};

START_TEST(entries_that_are_no_good) {
  unsigned left_out;
  char text[1024];
  snprintf(text, sizeof text, "{\"version\": 1, \"policies\": [%s, %s]}", entries[_i].entry, ENTRY("b.org", "2", FETCHED, POLICY));
  ck_assert_int_eq(system_write_file(path, span_of_text(text)), E_OK);
  ck_assert_int_eq(load(NOW + 50000, &left_out), E_OK);
  ck_assert_ptr_nonnull(find("b.org", NOW + 50000));
  ck_assert_uint_eq(cache.map.count, entries[_i].good ? 2 : 1);
  ck_assert_uint_eq(left_out, entries[_i].good ? 0 : 1);
}
END_TEST

START_TEST(no_more_than_there_is_room_for) {
  unsigned left_out;
  static char text[4096];
  size_t len = (size_t)sprintf(text, "{\"version\": 1, \"policies\": [");
  for (unsigned i = 0; i < 9; i++)
    len +=
        (size_t)sprintf(text + len, "%s{\"domain\": \"d%u.org\", \"id\": \"1\", \"fetched\": " FETCHED ", \"used\": 5, \"policy\": \"" POLICY "\"}",
                        i > 0 ? "," : "", i);
  strcpy(text + len, "]}");
  ck_assert_int_eq(system_write_file(path, span_of_text(text)), E_OK);
  ck_assert_int_eq(load(NOW, &left_out), E_OK);
  ck_assert_uint_eq(cache.map.count, 4);
  ck_assert(find("d8.org", NOW) != NULL && find("d4.org", NOW) == NULL); /* the latest used come last */
}
END_TEST

int main(void) {
  TCase *cases[] = {tcase_create("entries"), tcase_create("file")};
  for (unsigned i = 0; i < 2; i++) tcase_add_checked_fixture(cases[i], setup, teardown);
  tcase_add_test(cases[0], a_policy_holds_until_its_max_age);
  tcase_add_test(cases[0], the_least_recently_used_go_first);
  tcase_add_test(cases[1], the_file_brings_them_back);
  tcase_add_test(cases[1], without_a_file_there_is_nothing);
  tcase_add_loop_test(cases[1], a_file_that_is_none, 0, sizeof damaged / sizeof *damaged);
  tcase_add_loop_test(cases[1], entries_that_are_no_good, 0, sizeof entries / sizeof *entries);
  tcase_add_test(cases[1], no_more_than_there_is_room_for);
  return unit_main("net/sts/cache", cases, 2);
}
