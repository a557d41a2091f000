#include "tests/lib/unit.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/event/counters.h"

static char text[COUNTERS_TEXT_MAX + 1];

static void format(const struct counters *const *shards, unsigned count) {
  struct fmt out = fmt_over(text, COUNTERS_TEXT_MAX);
  counters_format(shards, count, &out);
  ck_assert(!out.overflow);
  text[out.len] = '\0';
}

START_TEST(shards_are_added_up) {
  static struct counters a, b;
  const struct counters *shards[] = {&a, &b};
  count_add(&a, COUNT_DELIVERED, 40);
  count_add(&b, COUNT_DELIVERED, 1);
  count_add(&b, COUNT_DELIVERED, 1);
  count_set(&a, GAUGE_SESSIONS, 9);
  count_set(&a, GAUGE_SESSIONS, 3);
  count_set(&b, GAUGE_SESSIONS, 4);
  ck_assert_uint_eq(count_get(&b, COUNT_DELIVERED), 2);
  format(shards, 2);
  ck_assert_ptr_nonnull(
      strstr(text, "\n# HELP ringpost_delivered_total Recipients delivered\n# TYPE ringpost_delivered_total counter\nringpost_delivered_total 42\n"));
  ck_assert_ptr_nonnull(strstr(text, "\n# TYPE ringpost_sessions_open gauge\nringpost_sessions_open 7\n"));
  format(shards, 1);
  ck_assert_ptr_nonnull(strstr(text, "\nringpost_delivered_total 40\n"));
}
END_TEST

START_TEST(without_shards_all_is_zero) {
  format(NULL, 0);
  ck_assert_ptr_nonnull(strstr(text, "\nringpost_delivered_total 0\n"));
}
END_TEST

/* Prometheus takes [a-z_]+ for names here, and no name twice; counters end in _total, gauges do not. */
START_TEST(each_series_is_named_once_and_well) {
  static struct counters largest;
  const struct counters *shard = &largest;
  for (unsigned i = 0; i < COUNTER_COUNT; i++) count_set(&largest, (enum counter)i, UINT64_MAX);
  format(&shard, 1);
  char *names[COUNTER_COUNT], *rest = text, *line;
  unsigned count = 0;
  while ((line = strsep(&rest, "\n")) != NULL && *line != '\0') {
    char name[128], help[128], kind[16];
    ck_assert_int_eq(sscanf(line, "# HELP ringpost_%127[a-z_] %127[^\n]", name, help), 2);
    line = strsep(&rest, "\n");
    char again[128];
    ck_assert_int_eq(sscanf(line, "# TYPE ringpost_%127[a-z_] %15s", again, kind), 2);
    ck_assert_str_eq(name, again);
    bool total = strlen(name) > 6 && strcmp(name + strlen(name) - 6, "_total") == 0;
    ck_assert_str_eq(kind, total ? "counter" : "gauge");
    ck_assert(total == (count < GAUGE_SESSIONS));
    line = strsep(&rest, "\n");
    ck_assert_int_eq(sscanf(line, "ringpost_%127[a-z_] %15s", again, kind), 2);
    ck_assert_str_eq(name, again);
    ck_assert_uint_lt(count, COUNTER_COUNT);
    names[count++] = strdup(name);
    for (unsigned i = 0; i + 1 < count; i++) ck_assert_str_ne(names[i], name);
  }
  ck_assert_uint_eq(count, COUNTER_COUNT);
  while (count > 0) free(names[--count]);
}
END_TEST

int main(void) {
  TCase *all = tcase_create("all");
  tcase_add_test(all, shards_are_added_up);
  tcase_add_test(all, without_shards_all_is_zero);
  tcase_add_test(all, each_series_is_named_once_and_well);
  return unit_main("core/counters", &all, 1);
}
