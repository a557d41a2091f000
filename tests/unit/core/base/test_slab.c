#include "core/base/buffer.h"
#include "core/base/slab.h"

#include <stdlib.h>

#include "tests/lib/unit.h"

START_TEST(a_size_gets_the_least_class_that_holds_it) {
  size_t class = slab_size(1);
  for (size_t size = 1; size <= SLAB_MAX; size++) {
    if (size > class) {
      ck_assert_uint_eq(slab_size(class), class); /* the class below was full to its last byte */
      class = slab_size(size);
    }
    ck_quick(slab_size(size) == class && class >= size && (class < 2 * size || class == 64));
  }
  ck_assert_uint_eq(class, SLAB_MAX);
}
END_TEST

START_TEST(blocks_do_not_overlap_and_keep_what_is_in_them) {
  struct slab slab;
  slab_init(&slab, 1 << 30);
  enum { BLOCKS = 400 };
  uint8_t *block[BLOCKS] = {0};
  size_t size[BLOCKS] = {0};
  srand(3);
  for (unsigned step = 0; step < 4000; step++) {
    unsigned i = (unsigned)rand() % BLOCKS;
    if (block[i] == NULL) {
      size[i] = 1 + (size_t)rand() % (rand() % 4 == 0 ? SLAB_MAX : 500);
      block[i] = slab_get(&slab, size[i]);
      ck_assert_ptr_nonnull(block[i]);
      if (slab_size(size[i]) >= 4096) ck_assert_uint_eq((uintptr_t)block[i] % 4096, 0);
      memset(block[i], (int)(i & 0xff), size[i]);
    } else {
      for (size_t j = 0; j < size[i]; j += 61) ck_assert_uint_eq(block[i][j], i & 0xff);
      slab_put(&slab, block[i], size[i]);
      block[i] = NULL;
    }
  }
  for (unsigned i = 0; i < BLOCKS; i++) slab_put(&slab, block[i], size[i]);
  ck_assert_uint_eq(slab.used_bytes, 0);
  slab_fini(&slab);
}
END_TEST

START_TEST(the_limit_holds) {
  struct slab slab;
  slab_init(&slab, 10000);
  void *first = slab_get(&slab, 8000), *second = slab_get(&slab, 1000);
  ck_assert_ptr_nonnull(first);
  ck_assert_ptr_nonnull(second);
  ck_assert_ptr_null(slab_get(&slab, 1000));
  slab_put(&slab, second, 1000);
  ck_assert_ptr_nonnull(second = slab_get(&slab, 1000));
  ck_assert_ptr_null(slab_get(&slab, 0));
  slab.limit_bytes = 1 << 30;
  ck_assert_ptr_null(slab_get(&slab, SLAB_MAX + 1));
  slab_put(&slab, first, 8000);
  slab_put(&slab, second, 1000);
  slab_fini(&slab);
}
END_TEST

static unsigned regions(const struct slab *slab) {
  unsigned count = 0;
  for (const void *region = slab->_regions; region != NULL; region = *(void *const *)region) count++;
  return count;
}

START_TEST(small_blocks_are_cut_from_large_ones_that_are_free) {
  struct slab slab;
  slab_init(&slab, 1 << 30);
  enum { LARGE = 1000, SMALL = LARGE * (8192 / 256) };
  static uint8_t *large[LARGE], *small[SMALL];
  for (unsigned i = 0; i < LARGE; i++) ck_assert_ptr_nonnull(large[i] = slab_get(&slab, 8192));
  for (unsigned i = 0; i < LARGE; i++) slab_put(&slab, large[i], 8192);
  unsigned before = regions(&slab);
  for (unsigned i = 0; i < SMALL; i++) {
    ck_quick((small[i] = slab_get(&slab, 256)) != NULL);
    memset(small[i], (int)(i & 0xff), 256);
  }
  ck_assert_uint_eq(regions(&slab), before);
  for (unsigned i = 0; i < SMALL; i++) {
    for (unsigned j = 0; j < 256; j += 51) ck_quick(small[i][j] == (i & 0xff));
    slab_put(&slab, small[i], 256);
  }
  ck_assert_uint_eq(slab.used_bytes, 0);
  slab_fini(&slab);
}
END_TEST

static void get_all(struct slab *slab, uint8_t **block, unsigned count, size_t size) {
  for (unsigned i = 0; i < count; i++) ck_assert_ptr_nonnull(block[i] = slab_get(slab, size));
}

static void put_all(struct slab *slab, uint8_t **block, unsigned count, size_t size) {
  for (unsigned i = 0; i < count; i++) {
    memset(block[i], 7, size);
    slab_put(slab, block[i], size);
  }
}

/* What was given back is zero when it comes again. */
static unsigned bare(uint8_t *const *block, unsigned count) {
  unsigned zero = 0;
  for (unsigned i = 0; i < count; i++) zero += block[i][5000] == 0;
  return zero;
}

START_TEST(large_blocks_that_stay_free_are_trimmed) {
  struct slab slab;
  uint8_t *block[100], *other[10];
  slab_init(&slab, 1 << 30);
  get_all(&slab, other, 10, 8192);
  for (unsigned i = 0; i < 10; i++) memset(other[i], 9, 8192);
  get_all(&slab, block, 100, 8192);
  put_all(&slab, block, 100, 8192);
  ck_assert(!slab_trim(&slab, 64)); /* all of them were needed before this */
  get_all(&slab, block, 60, 8192);
  put_all(&slab, block, 60, 8192);
  ck_assert(slab_trim(&slab, 16) && slab_trim(&slab, 16) && !slab_trim(&slab, 16)); /* 40 */
  get_all(&slab, block, 100, 8192);
  ck_assert_uint_eq(bare(block, 100), 40);
  for (unsigned i = 0; i < 10; i++) ck_assert(other[i][0] == 9 && other[i][8191] == 9);
  put_all(&slab, block, 100, 8192);
  ck_assert(!slab_trim(&slab, 1000) && !slab_trim(&slab, 1000));
  get_all(&slab, block, 100, 8192);
  ck_assert_uint_eq(bare(block, 100), 100);
  ck_assert_uint_eq(regions(&slab), 1);
  put_all(&slab, block, 100, 8192);
  put_all(&slab, other, 10, 8192);
  ck_assert_uint_eq(slab.used_bytes, 0);
  slab_fini(&slab);
}
END_TEST

START_TEST(trimmed_blocks_serve_small_ones_too) {
  struct slab slab;
  static uint8_t *block[500], *small[500 * (8192 / 256)];
  slab_init(&slab, 1 << 30);
  get_all(&slab, block, 500, 8192);
  put_all(&slab, block, 500, 8192);
  ck_assert(!slab_trim(&slab, 1000) && !slab_trim(&slab, 1000));
  for (unsigned i = 0; i < sizeof small / sizeof *small; i++) ck_quick((small[i] = slab_get(&slab, 256)) != NULL);
  ck_assert_uint_eq(regions(&slab), 1);
  put_all(&slab, small, sizeof small / sizeof *small, 256);
  ck_assert_uint_eq(slab.used_bytes, 0);
  slab_fini(&slab);
}
END_TEST

START_TEST(a_buffer_grows_and_is_eaten_from_the_front) {
  struct slab slab;
  struct buffer buffer = {0};
  slab_init(&slab, 1 << 30);
  uint64_t written = 0, eaten = 0;
  for (unsigned step = 0; step < 3000; step++) {
    uint8_t bytes[200];
    size_t n = (size_t)(step * 7) % sizeof bytes;
    for (size_t i = 0; i < n; i++) bytes[i] = (uint8_t)(written++ % 251);
    ck_assert(buffer_append(&slab, &buffer, span_of(bytes, n)));
    size_t take = step % 5 == 0 ? buffer.len / 2 : 0;
    for (size_t i = 0; i < take; i++) ck_assert_uint_eq(buffer.at[i], (eaten + i) % 251);
    buffer_consume(&buffer, take);
    eaten += take;
  }
  ck_assert_uint_eq(buffer.len, written - eaten);
  buffer_free(&slab, &buffer);
  ck_assert_uint_eq(slab.used_bytes, 0);
  for (unsigned i = 0; i < 40; i++) { /* beyond SLAB_MAX */
    static uint8_t big[10000];
    ck_assert(buffer_append(&slab, &buffer, span_of(big, sizeof big)));
  }
  ck_assert_uint_eq(slab.used_bytes, buffer.cap); /* what is not the slab's own counts too */
  slab.limit_bytes = buffer.cap;
  ck_assert(!buffer_reserve(&slab, &buffer, buffer.cap));
  ck_assert_uint_eq(buffer.len, 400000);
  buffer_free(&slab, &buffer);
  ck_assert_uint_eq(slab.used_bytes, 0);
  slab_fini(&slab);
}
END_TEST

START_TEST(a_buffer_without_memory_stays_as_it_was) {
  struct slab slab;
  struct buffer buffer = {0};
  static uint8_t big[5000];
  slab_init(&slab, 1000);
  void *block = slab_get(&slab, 1000 - 64);
  ck_assert_ptr_null(block); /* its class is larger */
  block = slab_get(&slab, 768);
  ck_assert_ptr_nonnull(block);
  ck_assert_ptr_null(slab_get(&slab, 256));
  ck_assert(buffer_append(&slab, &buffer, SPAN("kept"))); /* 256 bytes, beyond the limit: replies have to be written */
  ck_assert_uint_eq(slab.used_bytes, 1024);
  ck_assert_uint_eq(slab.limit_bytes, 1000);
  ck_assert(!buffer_append(&slab, &buffer, span_of(big, sizeof big)));
  ck_assert(span_equal(buffer_span(&buffer), SPAN("kept")));
  buffer_free(&slab, &buffer);
  slab_put(&slab, block, 768);
  ck_assert_uint_eq(slab.used_bytes, 0);
  slab_fini(&slab);
}
END_TEST

/* ---- a limit in common ---- */

#define SHARE (16u << 20)
enum { SLABS = 3, BLOCK = 4096 };

static struct {
  struct slab_pool pool;
  struct slab slab[SLABS];
  void *block[SLABS][3 * SHARE / BLOCK];
  unsigned blocks[SLABS];
} common;

static void open_common(void) {
  memset(&common, 0, sizeof common);
  for (unsigned i = 0; i < SLABS; i++) {
    slab_init(&common.slab[i], 0);
    slab_share(&common.slab[i], &common.pool, SHARE, SHARE / 2);
  }
}

static void take_blocks(unsigned i, unsigned count) {
  for (void *block; count > 0 && (block = slab_get(&common.slab[i], BLOCK)) != NULL; count--) common.block[i][common.blocks[i]++] = block;
}

static void put_blocks(unsigned i, unsigned count) {
  for (; count > 0 && common.blocks[i] > 0; count--) slab_put(&common.slab[i], common.block[i][--common.blocks[i]], BLOCK);
}

static void close_common(void) {
  for (unsigned i = 0; i < SLABS; i++) {
    put_blocks(i, UINT32_MAX);
    ck_assert_uint_eq(common.slab[i].used_bytes, 0);
    slab_fini(&common.slab[i]);
  }
}

/* Nothing is lent twice, nothing is lost. */
static void check_sum(uint64_t all) {
  int64_t sum = common.pool.free_bytes;
  for (unsigned i = 0; i < SLABS; i++) sum += (int64_t)common.slab[i].limit_bytes;
  ck_assert_int_eq(sum, all);
}

START_TEST(one_that_needs_more_takes_what_others_do_not_need) {
  open_common();
  for (unsigned i = 0; i < SLABS; i++) ck_assert_uint_eq(common.slab[i].limit_bytes, SHARE / 2);
  take_blocks(0, UINT32_MAX);
  ck_assert_uint_eq(common.blocks[0], 2 * SHARE / BLOCK); /* all but the others' floors */
  ck_assert_int_eq(common.pool.free_bytes, 0);
  take_blocks(1, UINT32_MAX);
  ck_assert_uint_eq(common.blocks[1], SHARE / 2 / BLOCK);
  check_sum(SLABS * SHARE);
  close_common();
}
END_TEST

START_TEST(there_is_room_as_long_as_the_pool_has_some) {
  open_common();
  unsigned taken = 0;
  for (; slab_has_room(&common.slab[0], BLOCK); taken++) take_blocks(0, 1);
  ck_assert_uint_eq(common.blocks[0], taken);
  ck_assert_uint_eq(common.slab[0].limit_bytes, 2 * SHARE);
  ck_assert_uint_eq(taken, (2 * SHARE - 2 * SHARE / 8) / BLOCK);
  check_sum(SLABS * SHARE);
  close_common();
}
END_TEST

/* What cannot wait takes from the pool, too, and only then goes beyond the limit: by no more than a quarter. */
START_TEST(beyond_the_limit_begins_where_the_pool_ends) {
  open_common();
  for (bool counted = true;; counted = false) {
    uint64_t taken = 0;
    while (counted ? slab_count(&common.slab[0], BLOCK) : (common.block[0][taken] = slab_get_beyond(&common.slab[0], BLOCK)) != NULL) {
      taken++;
      if (taken <= 2 * SHARE / BLOCK) ck_quick(common.slab[0].used_bytes <= common.slab[0].limit_bytes);
    }
    ck_assert_uint_eq(common.slab[0].limit_bytes, 2 * SHARE);
    ck_assert_uint_eq(taken, (2 * SHARE + SHARE / 2) / BLOCK);
    if (!counted) common.blocks[0] = (unsigned)taken;
    if (!counted) break;
    slab_uncount(&common.slab[0], taken * BLOCK);
    open_common();
  }
  check_sum(SLABS * SHARE);
  close_common();
}
END_TEST

START_TEST(what_is_not_needed_any_more_is_given_to_who_is_short) {
  open_common();
  take_blocks(1, SHARE / BLOCK);
  ck_assert_uint_eq(common.slab[1].limit_bytes, SHARE);
  put_blocks(1, UINT32_MAX);
  slab_balance(&common.slab[1]);
  ck_assert_uint_eq(common.slab[1].limit_bytes, SHARE); /* nobody is short */
  take_blocks(0, UINT32_MAX);
  ck_assert_uint_eq(common.blocks[0], 3 * SHARE / 2 / BLOCK);
  slab_balance(&common.slab[1]);
  ck_assert_uint_eq(common.slab[1].limit_bytes, SHARE); /* the system did not get it back: it would be used twice */
  for (unsigned pass = 0; pass < 3; pass++)
    while (slab_trim(&common.slab[1], 64)) continue;
  slab_balance(&common.slab[1]);
  ck_assert_uint_eq(common.slab[1].limit_bytes, SHARE); /* small blocks stay with the slab */
  close_common();

  open_common();
  void *large[SHARE / SLAB_MAX];
  for (unsigned i = 0; i < SHARE / SLAB_MAX; i++) large[i] = slab_get(&common.slab[1], SLAB_MAX);
  for (unsigned i = 0; i < SHARE / SLAB_MAX; i++) slab_put(&common.slab[1], large[i], SLAB_MAX);
  take_blocks(0, UINT32_MAX);
  for (unsigned pass = 0; pass < 3; pass++)
    while (slab_trim(&common.slab[1], 64)) continue;
  slab_balance(&common.slab[1]);
  ck_assert_uint_eq(common.slab[1].limit_bytes, SHARE / 2);
  check_sum(SLABS * SHARE);
  unsigned before = common.blocks[0];
  take_blocks(0, UINT32_MAX);
  ck_assert_uint_eq(common.blocks[0] - before, SHARE / 2 / BLOCK);
  close_common();
}
END_TEST

START_TEST(a_lower_limit_comes_down_with_what_is_used) {
  open_common();
  take_blocks(0, SHARE / BLOCK);
  take_blocks(1, UINT32_MAX);
  for (unsigned i = 0; i < SLABS; i++) slab_share(&common.slab[i], &common.pool, SHARE / 4, SHARE / 8);
  for (unsigned i = 0; i < SLABS; i++) slab_balance(&common.slab[i]);
  ck_assert_uint_ge(common.slab[0].limit_bytes, SHARE); /* what is used stays, and room for a reply */
  ck_assert_int_lt(common.pool.free_bytes, 0);
  take_blocks(2, UINT32_MAX);
  ck_assert_uint_le(common.slab[2].limit_bytes, SHARE / 2);
  check_sum(SLABS * SHARE / 4);
  for (unsigned i = 0; i < SLABS; i++) put_blocks(i, UINT32_MAX);
  for (unsigned i = 0; i < SLABS; i++) slab_balance(&common.slab[i]);
  for (unsigned i = 0; i < SLABS; i++) ck_assert_uint_le(common.slab[i].limit_bytes, SHARE / 4);
  ck_assert_int_eq(common.pool.free_bytes, 0);
  check_sum(SLABS * SHARE / 4);
  for (unsigned i = 0; i < SLABS; i++) slab_share(&common.slab[i], &common.pool, SHARE, SHARE / 2);
  take_blocks(0, UINT32_MAX);
  ck_assert_uint_eq(common.blocks[0], 2 * SHARE / BLOCK);
  check_sum(SLABS * SHARE);
  close_common();
}
END_TEST

START_TEST(whatever_they_do_the_sum_stays) {
  srand(5);
  open_common();
  uint64_t share = SHARE;
  for (unsigned step = 0; step < 20000; step++) {
    unsigned i = (unsigned)rand() % SLABS, much = rand() % 100 == 0 ? UINT32_MAX : (unsigned)rand() % 600;
    switch (rand() % 4) {
    case 0: take_blocks(i, much); break;
    case 1: put_blocks(i, much); break;
    case 2: slab_balance(&common.slab[i]); break;
    default:
      if (rand() % 50 != 0) break;
      share = (uint64_t)(1 + rand() % 16) << 20;
      for (i = 0; i < SLABS; i++) slab_share(&common.slab[i], &common.pool, share, share / 2);
    }
    check_sum(SLABS * share);
    for (i = 0; i < SLABS; i++) ck_quick(common.slab[i].limit_bytes >= share / 2 && common.slab[i].used_bytes <= common.slab[i].limit_bytes);
  }
  close_common();
}
END_TEST

int main(void) {
  TCase *slab = tcase_create("slab");
  tcase_add_test(slab, a_size_gets_the_least_class_that_holds_it);
  tcase_add_test(slab, blocks_do_not_overlap_and_keep_what_is_in_them);
  tcase_add_test(slab, the_limit_holds);
  tcase_add_test(slab, small_blocks_are_cut_from_large_ones_that_are_free);
  tcase_add_test(slab, large_blocks_that_stay_free_are_trimmed);
  tcase_add_test(slab, trimmed_blocks_serve_small_ones_too);
  tcase_add_test(slab, a_buffer_grows_and_is_eaten_from_the_front);
  tcase_add_test(slab, a_buffer_without_memory_stays_as_it_was);
  tcase_add_test(slab, one_that_needs_more_takes_what_others_do_not_need);
  tcase_add_test(slab, there_is_room_as_long_as_the_pool_has_some);
  tcase_add_test(slab, beyond_the_limit_begins_where_the_pool_ends);
  tcase_add_test(slab, what_is_not_needed_any_more_is_given_to_who_is_short);
  tcase_add_test(slab, a_lower_limit_comes_down_with_what_is_used);
  tcase_add_test(slab, whatever_they_do_the_sum_stays);
  return unit_main("core/base/slab", (TCase *const[]){slab}, 1);
}
