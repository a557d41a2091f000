#include "bench/lib/options.h"
#include "core/base/error.h"
#include "tests/lib/unit.h"

static bool flag, off;
static uint64_t count, size, duration;
static const char *text;
static unsigned choice;
static struct option_list list;

static const struct option table[] = {
    {NULL, OPTION_TITLE, NULL, NULL, "Title", NULL},       {"flag", OPTION_FLAG, &flag, NULL, "a flag", NULL},
    {"no-off", OPTION_OFF, &off, NULL, "off", NULL},       {"count", OPTION_COUNT, &count, "N", "a count", NULL},
    {"size", OPTION_SIZE, &size, "BYTES", "a size", NULL}, {"duration", OPTION_DURATION, &duration, "TIME", "a duration", NULL},
    {"text", OPTION_TEXT, &text, "TEXT", "a text", NULL},  {"choice", OPTION_CHOICE, &choice, NULL, "a choice", "none|command|message"},
    {"item", OPTION_LIST, &list, "ITEM", "items", NULL},
};

static int parse(char **words, unsigned words_count, char *why) {
  char *argv[16] = {(char *)"program"};
  for (unsigned i = 0; i < words_count; i++) argv[i + 1] = words[i];
  return options_parse(table, sizeof table / sizeof *table, (int)words_count + 1, argv, why, 200);
}
#define PARSE(...) parse((char *[]){__VA_ARGS__}, sizeof((char *[]){__VA_ARGS__}) / sizeof(char *), why)

static void clear(void) {
  flag = false;
  off = true;
  count = size = duration = 0;
  text = NULL;
  choice = 9;
  list.count = 0;
}

START_TEST(every_kind_is_stored) {
  char why[200];
  ck_assert_int_eq(PARSE((char *)"--flag", (char *)"--no-off", (char *)"--count", (char *)"100k", (char *)"--size=4KiB", (char *)"--duration",
                         (char *)"300ms", (char *)"--text=a=b", (char *)"--choice", (char *)"message", (char *)"--item=x", (char *)"--item",
                         (char *)"y"),
                   E_OK);
  ck_assert(flag && !off);
  ck_assert_uint_eq(count, 100000);
  ck_assert_uint_eq(size, 4096);
  ck_assert_uint_eq(duration, 300000000);
  ck_assert_str_eq(text, "a=b");
  ck_assert_uint_eq(choice, 2);
  ck_assert_uint_eq(list.count, 2);
  ck_assert_str_eq(list.items[1], "y");
}
END_TEST

START_TEST(errors_name_what_is_wrong) {
  char why[200];
  ck_assert_int_eq(PARSE((char *)"--nothing"), E_SYNTAX);
  ck_assert_ptr_nonnull(strstr(why, "--nothing"));
  ck_assert_int_eq(PARSE((char *)"word"), E_SYNTAX);
  ck_assert_int_eq(PARSE((char *)"--count"), E_SYNTAX);
  ck_assert_ptr_nonnull(strstr(why, "needs a value"));
  ck_assert_int_eq(PARSE((char *)"--count", (char *)"12x"), E_SYNTAX);
  ck_assert_ptr_nonnull(strstr(why, "12x"));
  ck_assert_int_eq(PARSE((char *)"--flag=1"), E_SYNTAX);
  ck_assert_int_eq(PARSE((char *)"--choice", (char *)"mess"), E_SYNTAX);
  ck_assert_ptr_nonnull(strstr(why, "none|command|message"));
  ck_assert_uint_eq(choice, 9);
}
END_TEST

START_TEST(units_and_their_limits) {
  uint64_t value;
  ck_assert(option_count(SPAN("3M"), &value) && value == 3000000);
  ck_assert(option_size(SPAN("1GiB"), &value) && value == UINT64_C(1) << 30);
  ck_assert(option_duration(SPAN("5"), &value) && value == 5000000000);
  ck_assert(option_duration(SPAN("2m"), &value) && value == 120000000000);
  ck_assert(option_duration(SPAN("7us"), &value) && value == 7000);
  ck_assert(!option_size(SPAN("4K"), &value));
  ck_assert(!option_size(SPAN(""), &value));
  ck_assert(!option_size(SPAN("KiB"), &value));
  ck_assert(!option_count(SPAN("-1"), &value));
  ck_assert(!option_duration(SPAN("18446744073709551615s"), &value)); /* would overflow */
  ck_assert(!option_count(SPAN("18446744073709551616"), &value));
}
END_TEST

int main(void) {
  TCase *words = tcase_create("words");
  tcase_add_checked_fixture(words, clear, NULL);
  tcase_add_test(words, every_kind_is_stored);
  tcase_add_test(words, errors_name_what_is_wrong);
  tcase_add_test(words, units_and_their_limits);
  return unit_main("bench/options", &words, 1);
}
