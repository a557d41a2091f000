#include "core/base/pool.h"
#include "tests/lib/unit.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/error.h"

START_TEST(bounds_of_init) {
  struct pool pool;
  ck_assert_int_eq(pool_init(&pool, 16, 0), E_RANGE);
  ck_assert_int_eq(pool_init(&pool, 16, POOL_CAPACITY_MAX + 1), E_RANGE);
  ck_assert_int_eq(pool_init(&pool, 0, 1), E_RANGE);
  ck_assert_int_eq(pool_init(&pool, POOL_SLOT_SIZE_MAX + 1, 1), E_RANGE);
  ck_assert_int_eq(pool_init(&pool, SIZE_MAX, 2), E_RANGE);
  pool_fini(&pool);                                                  /* after an error: nothing to give back, and no harm */
  ck_assert_int_eq(pool_init(&pool, 4096, POOL_CAPACITY_MAX), E_OK); /* 64 GiB of address space, none of memory */
  pool_fini(&pool);
  ck_assert_uint_eq(pool.capacity, 0);
}
END_TEST

START_TEST(slots_are_zeroed_aligned_and_apart) {
  struct pool pool;
  ck_assert_int_eq(pool_init(&pool, 24, 3), E_OK);
  uint8_t *slots[3];
  for (unsigned i = 0; i < 3; i++) {
    slots[i] = pool_get(&pool);
    ck_assert_uint_eq((uintptr_t)slots[i] % 16, 0);
    memset(slots[i], 0xa5, 24);
    ck_assert_uint_eq(pool_index(&pool, slots[i]), i);
  }
  ck_assert_ptr_null(pool_get(&pool));
  ck_assert_uint_eq(pool.used, 3);
  pool_put(&pool, slots[1]);
  uint8_t *again = pool_get(&pool);
  ck_assert_ptr_eq(again, slots[1]);
  for (unsigned i = 0; i < 24; i++) ck_assert_uint_eq(again[i], 0);
  ck_assert_uint_eq(slots[0][23], 0xa5);
  ck_assert_uint_eq(slots[2][0], 0xa5);
  pool_fini(&pool);
}
END_TEST

START_TEST(stale_ids_find_nothing) {
  struct pool pool;
  ck_assert_int_eq(pool_init(&pool, 8, 4), E_OK);
  void *slot = pool_get(&pool);
  uint32_t index = pool_index(&pool, slot), generation = pool_generation(&pool, index);
  ck_assert_ptr_eq(pool_find(&pool, index, generation), slot);
  ck_assert_ptr_eq(pool_slot(&pool, index), slot);
  pool_put(&pool, slot);
  ck_assert_ptr_null(pool_find(&pool, index, generation));
  ck_assert_ptr_null(pool_find(&pool, index, generation + 1)); /* the generation of a free slot is no id */
  ck_assert_ptr_null(pool_slot(&pool, index));
  ck_assert_ptr_eq(pool_get(&pool), slot);
  ck_assert_ptr_null(pool_find(&pool, index, generation));
  ck_assert_ptr_null(pool_find(&pool, 1, 1)); /* never touched */
  ck_assert_ptr_null(pool_find(&pool, 4, 1)); /* beyond the end */
  ck_assert_ptr_null(pool_find(&pool, UINT32_MAX, UINT32_MAX));
  ck_assert_ptr_null(pool_slot(&pool, UINT32_MAX));
  pool_fini(&pool);
}
END_TEST

START_TEST(random_use_against_a_model) {
  enum { SLOTS = 64 };
  struct pool pool;
  ck_assert_int_eq(pool_init(&pool, sizeof(uint64_t), SLOTS), E_OK);
  struct {
    uint64_t *slot;
    uint64_t stamp;
    uint32_t index, generation;
  } model[SLOTS] = {0};
  unsigned used = 0;
  srandom(2);
  for (uint64_t step = 1; step < 100000; step++) {
    unsigned pick = (unsigned)random() % SLOTS;
    if (model[pick].slot == NULL) {
      uint64_t *slot = pool_get(&pool);
      ck_quick(slot != NULL);
      ck_quick((*slot) == (0));
      *slot = step;
      model[pick].slot = slot;
      model[pick].stamp = step;
      model[pick].index = pool_index(&pool, slot);
      model[pick].generation = pool_generation(&pool, model[pick].index);
      used++;
    } else {
      ck_quick((pool_find(&pool, model[pick].index, model[pick].generation)) == (model[pick].slot));
      ck_quick((*model[pick].slot) == (model[pick].stamp));
      pool_put(&pool, model[pick].slot);
      ck_assert_ptr_null(pool_find(&pool, model[pick].index, model[pick].generation));
      model[pick].slot = NULL;
      used--;
    }
    ck_quick((pool.used) == (used));
  }
  unsigned walked = 0;
  for (uint32_t i = 0; i < SLOTS; i++) walked += pool_slot(&pool, i) != NULL;
  ck_quick((walked) == (used));
  pool_fini(&pool);
}
END_TEST

START_TEST(giving_back_twice_aborts) {
  struct pool pool;
  ck_assert_int_eq(pool_init(&pool, 8, 1), E_OK);
  void *slot = pool_get(&pool);
  pool_put(&pool, slot);
  pool_put(&pool, slot);
}
END_TEST

START_TEST(giving_back_what_is_no_slot_aborts) {
  struct pool pool;
  ck_assert_int_eq(pool_init(&pool, 32, 2), E_OK);
  uint8_t *slot = pool_get(&pool);
  pool_put(&pool, slot + 16);
}
END_TEST

int main(void) {
  TCase *all = tcase_create("all");
  tcase_add_test(all, bounds_of_init);
  tcase_add_test(all, slots_are_zeroed_aligned_and_apart);
  tcase_add_test(all, stale_ids_find_nothing);
  tcase_add_test(all, random_use_against_a_model);
  tcase_add_test_raise_signal(all, giving_back_twice_aborts, SIGABRT);
  tcase_add_test_raise_signal(all, giving_back_what_is_no_slot_aborts, SIGABRT);
  return unit_main_forked("core/base/pool", &all, 1);
}
