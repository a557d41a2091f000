/* Also built with ThreadSanitizer: make tsan. */
#include "core/base/spsc.h"
#include "tests/lib/unit.h"

#include <pthread.h>
#include <sched.h>
#include <string.h>

#include "core/base/error.h"

START_TEST(bounds_of_init) {
  struct spsc ring;
  ck_assert_int_eq(spsc_init(&ring, 8, 0), E_RANGE);
  ck_assert_int_eq(spsc_init(&ring, 8, 3), E_RANGE);
  ck_assert_int_eq(spsc_init(&ring, 0, 4), E_RANGE);
  ck_assert_int_eq(spsc_init(&ring, 8, 1), E_OK);
  spsc_fini(&ring);
}
END_TEST

START_TEST(first_in_first_out_across_the_wrap) {
  struct spsc ring;
  unsigned in = 0, out = 0, item;
  ck_assert_int_eq(spsc_init(&ring, sizeof item, 4), E_OK);
  ck_assert(spsc_empty(&ring));
  ck_assert(!spsc_pop(&ring, &item));
  for (unsigned round = 0; round < 100; round++) {
    while (spsc_push(&ring, &in)) in++;
    ck_assert_uint_eq(in - out, 4); /* all places are used */
    for (unsigned take = 0; take < 1 + round % 4; take++, out++) {
      ck_assert(!spsc_empty(&ring));
      ck_assert(spsc_pop(&ring, &item));
      ck_assert_uint_eq(item, out);
    }
  }
  for (; spsc_pop(&ring, &item); out++) ck_assert_uint_eq(item, out);
  ck_assert_uint_eq(in, out);
  spsc_fini(&ring);
}
END_TEST

START_TEST(indices_may_wrap_around_32_bits) {
  struct spsc ring;
  unsigned item = 0, got;
  ck_assert_int_eq(spsc_init(&ring, sizeof item, 8), E_OK);
  atomic_store(&ring._head, UINT32_MAX - 3);
  atomic_store(&ring._tail, UINT32_MAX - 3);
  ring._head_seen = ring._tail_seen = UINT32_MAX - 3;
  for (; spsc_push(&ring, &item); item++) {
  }
  ck_assert_uint_eq(item, 8);
  for (unsigned i = 0; i < 8; i++) ck_assert(spsc_pop(&ring, &got) && got == i);
  ck_assert(spsc_empty(&ring));
  spsc_fini(&ring);
}
END_TEST

enum { ITEMS = 200000 };

struct parcel {
  uint64_t number;
  uint64_t *box; /* what lies behind the pointer must have arrived with it */
  uint8_t filler[21];
};

struct both {
  struct spsc ring;
  uint64_t boxes[ITEMS];
};

static void *produce(void *context) {
  struct both *both = context;
  for (uint64_t i = 0; i < ITEMS; i++) {
    struct parcel parcel = {.number = i, .box = &both->boxes[i]};
    both->boxes[i] = i * 31 + 7;
    memset(parcel.filler, (int)i, sizeof parcel.filler);
    while (!spsc_push(&both->ring, &parcel)) sched_yield();
  }
  return NULL;
}

START_TEST(two_threads) {
  static struct both both;
  pthread_t producer;
  ck_assert_int_eq(spsc_init(&both.ring, sizeof(struct parcel), 1u << _i), E_OK);
  ck_assert_int_eq(pthread_create(&producer, NULL, produce, &both), 0);
  for (uint64_t i = 0; i < ITEMS; i++) {
    struct parcel parcel;
    while (!spsc_pop(&both.ring, &parcel)) sched_yield();
    uint8_t filler[21];
    memset(filler, (int)i, sizeof filler);
    if (parcel.number != i || *parcel.box != i * 31 + 7 || memcmp(parcel.filler, filler, sizeof filler) != 0) ck_abort_msg("item %lu is wrong", i);
  }
  ck_assert(spsc_empty(&both.ring));
  ck_assert_int_eq(pthread_join(producer, NULL), 0);
  spsc_fini(&both.ring);
}
END_TEST

int main(void) {
  TCase *all = tcase_create("all");
  tcase_add_test(all, bounds_of_init);
  tcase_add_test(all, first_in_first_out_across_the_wrap);
  tcase_add_test(all, indices_may_wrap_around_32_bits);
  tcase_add_loop_test(all, two_threads, 0, 9); /* rings of 1 to 256 places */
  return unit_main("core/base/spsc", &all, 1);
}
