#include "tests/lib/unit.h"

#include "net/smtp/octets.h"

static struct octets plainly(const uint8_t *block) {
  struct octets o = {0};
  for (unsigned i = 0; i < OCTETS_BLOCK_SIZE; i++) {
    o.cr |= (uint64_t)(block[i] == '\r') << i;
    o.lf |= (uint64_t)(block[i] == '\n') << i;
    o.dot |= (uint64_t)(block[i] == '.') << i;
    o.odd |= block[i] == 0 || block[i] > 127;
  }
  return o;
}

static void check_way(octets_find *find) {
  static const uint8_t interesting[] = {0, 1, 9, 10, 11, 12, 13, 14, 45, 46, 47, 127, 128, 129, 138, 141, 174, 255, 'a', 'b'};
  uint32_t state = 1;
  for (unsigned round = 0; round < 20000; round++) {
    uint8_t block[OCTETS_BLOCK_SIZE];
    memset(block, 'x', sizeof block);
    for (unsigned n = round % 8; n > 0; n--) {
      state = state * 1664525 + 1013904223;
      block[state >> 26] = interesting[(state >> 8) % sizeof interesting];
    }
    struct octets wanted = plainly(block), got = find(block);
    ck_assert_uint_eq(got.cr, wanted.cr);
    ck_assert_uint_eq(got.lf, wanted.lf);
    ck_assert_uint_eq(got.dot, wanted.dot);
    ck_assert_int_eq(got.odd != 0, wanted.odd != 0);
  }
}

START_TEST(every_value_in_every_place) {
  for (unsigned place = 0; place < OCTETS_BLOCK_SIZE; place++) {
    for (unsigned value = 0; value < 256; value++) {
      uint8_t block[OCTETS_BLOCK_SIZE];
      memset(block, ' ', sizeof block);
      block[place] = (uint8_t)value;
      struct octets wanted = plainly(block), a = octets_anywhere(block), b = octets_portable(block);
      ck_assert(a.cr == wanted.cr && a.lf == wanted.lf && a.dot == wanted.dot && (a.odd != 0) == (wanted.odd != 0));
      ck_assert(b.cr == wanted.cr && b.lf == wanted.lf && b.dot == wanted.dot && (b.odd != 0) == (wanted.odd != 0));
    }
  }
}
END_TEST

START_TEST(portable) { check_way(octets_portable); }
END_TEST

#if defined(__x86_64__)
OCTETS_AVX2 static struct octets avx2(const uint8_t *block) { return octets_avx2(block); }
OCTETS_AVX512 static struct octets avx512(const uint8_t *block) { return octets_avx512(block); }

START_TEST(sse2) { check_way(octets_sse2); }
END_TEST

START_TEST(wider_ones_if_there_are) {
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2")) check_way(avx2);
  if (__builtin_cpu_supports("avx512bw")) check_way(avx512);
}
END_TEST
#endif

int main(void) {
  TCase *tests = tcase_create("octets");
  tcase_add_test(tests, every_value_in_every_place);
  tcase_add_test(tests, portable);
#if defined(__x86_64__)
  tcase_add_test(tests, sse2);
  tcase_add_test(tests, wider_ones_if_there_are);
#endif
  return unit_main("net/smtp/octets", &tests, 1);
}
