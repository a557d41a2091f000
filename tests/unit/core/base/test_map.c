#include "core/base/map.h"
#include "tests/lib/unit.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/error.h"

struct thing {
  char key[12];
  uint8_t key_len;
  bool in;
  unsigned seen;
};

static struct span key_of(const void *object) {
  const struct thing *thing = object;
  return span_of(thing->key, thing->key_len);
}

static struct thing thing_named(const char *name) {
  struct thing thing = {.key_len = (uint8_t)strlen(name)};
  memcpy(thing.key, name, thing.key_len);
  return thing;
}

START_TEST(empty_map) {
  struct map map;
  uint32_t cursor = 0;
  map_init(&map, key_of, 1);
  ck_assert_ptr_null(map_find(&map, SPAN("a")));
  ck_assert(!map_remove(&map, SPAN("a")));
  ck_assert_ptr_null(map_next(&map, &cursor));
  map_fini(&map);
}
END_TEST

START_TEST(keys_are_bytes) {
  struct map map;
  struct thing empty = thing_named(""), nul = {.key = "\0", .key_len = 1}, a = thing_named("a"), upper = thing_named("A");
  map_init(&map, key_of, 1);
  ck_assert_int_eq(map_insert(&map, &empty), E_OK);
  ck_assert_int_eq(map_insert(&map, &nul), E_OK);
  ck_assert_int_eq(map_insert(&map, &a), E_OK);
  ck_assert_ptr_null(map_find(&map, SPAN("A")));
  ck_assert_int_eq(map_insert(&map, &upper), E_OK);
  ck_assert_ptr_eq(map_find(&map, (struct span){NULL, 0}), &empty);
  ck_assert_ptr_eq(map_find(&map, span_of("\0", 1)), &nul);
  ck_assert_ptr_eq(map_find(&map, SPAN("a")), &a);
  ck_assert_ptr_eq(map_find(&map, SPAN("A")), &upper);
  map_fini(&map);
}
END_TEST

START_TEST(inserting_twice_aborts) {
  struct map map;
  struct thing one = thing_named("same"), two = thing_named("same");
  map_init(&map, key_of, 1);
  ck_assert_int_eq(map_insert(&map, &one), E_OK);
  (void)!map_insert(&map, &two);
}
END_TEST

static void check_walk(const struct map *map, struct thing *things, unsigned count, unsigned walk) {
  uint32_t cursor = 0;
  unsigned found = 0;
  for (struct thing *thing; (thing = map_next(map, &cursor)) != NULL; found++) {
    ck_quick(thing->in && thing->seen != walk);
    thing->seen = walk;
  }
  ck_quick((found) == (map->count));
  for (unsigned i = 0; i < count; i++) ck_quick((things[i].in) == (things[i].seen == walk));
  ck_assert_ptr_null(map_next(map, &cursor));
}

/* Few keys at first and many later; removals leave gaps that must close without losing anybody. */
START_TEST(random_use_against_a_model) {
  enum { THINGS = 3000 };
  static struct thing things[THINGS];
  struct map map;
  uint32_t count = 0;
  map_init(&map, key_of, (uint64_t)_i * 0x9e3779b97f4a7c15);
  srandom((unsigned)_i);
  for (unsigned i = 0; i < THINGS; i++) {
    char name[12];
    snprintf(name, sizeof name, "d%u", i);
    things[i] = thing_named(name);
  }
  for (unsigned step = 1; step <= 60000; step++) {
    struct thing *thing = &things[(unsigned)random() % (step < 20000 ? 12 : THINGS)];
    ck_quick((map_find(&map, key_of(thing))) == (thing->in ? thing : NULL));
    if (thing->in) {
      ck_quick(map_remove(&map, key_of(thing)));
    } else {
      ck_quick(!map_remove(&map, key_of(thing)));
      ck_assert_int_eq(map_insert(&map, thing), E_OK);
    }
    thing->in = !thing->in;
    count += thing->in ? 1 : (uint32_t)-1;
    ck_quick((map.count) == (count));
    if (step % 5000 == 0) check_walk(&map, things, THINGS, step);
  }
  for (unsigned i = 0; i < THINGS; i++) ck_quick((map_find(&map, key_of(&things[i]))) == (things[i].in ? &things[i] : NULL));
  map_fini(&map);
}
END_TEST

int main(void) {
  TCase *all = tcase_create("all");
  tcase_add_test(all, empty_map);
  tcase_add_test(all, keys_are_bytes);
  tcase_add_test_raise_signal(all, inserting_twice_aborts, SIGABRT);
  tcase_add_loop_test(all, random_use_against_a_model, 0, 4);
  return unit_main_forked("core/base/map", &all, 1);
}
