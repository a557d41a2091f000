/*
 * octets: where the octets are that mean something in the content of a message, as bit masks of a block of 64. Pure; header only, because it
 * has to be inlined into the walk of the scanner (data.c), the one user beside its test.
 *
 * The same function in several ways, the part of the scanner that depends on the processor: AVX-512, AVX2 and SSE2 on x86-64 (which always has
 * SSE2), plain words elsewhere. The caller has to know by __builtin_cpu_supports that it may call them.
 */
#ifndef NET_SMTP_OCTETS_H
#define NET_SMTP_OCTETS_H

#include <endian.h>

#include "core/base/span.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define OCTETS_BLOCK_SIZE 64

struct octets {
  uint64_t cr, lf, dot; /* bit i: octet i is that */
  uint64_t odd;         /* not zero: some octet is NUL, or above 127. As signed numbers, these are all that is not above zero */
};

typedef struct octets octets_find(const uint8_t *block);

/* ---- eight octets in a word ---- */

#define OCTETS_EVERY(c) (0x0101010101010101u * (uint64_t)(c))

/* The high bit of each octet that is zero; exact, no borrow runs from one to the next. */
static inline uint64_t octets_zero(uint64_t word) { return ~(((word & OCTETS_EVERY(0x7f)) + OCTETS_EVERY(0x7f)) | word) & OCTETS_EVERY(0x80); }

/* Gathers the eight high bits into one octet: the multiplication moves each to its place in the uppermost one. */
static inline uint64_t octets_gather(uint64_t high_bits) { return (high_bits >> 7) * 0x0102040810204080u >> 56; }

static inline struct octets octets_portable(const uint8_t *block) {
  struct octets o = {0};
  for (unsigned bit = 0; bit < OCTETS_BLOCK_SIZE; bit += 8) {
    uint64_t word;
    memcpy(&word, block + bit, sizeof word);
    word = le64toh(word);
    o.cr |= octets_gather(octets_zero(word ^ OCTETS_EVERY('\r'))) << bit;
    o.lf |= octets_gather(octets_zero(word ^ OCTETS_EVERY('\n'))) << bit;
    o.dot |= octets_gather(octets_zero(word ^ OCTETS_EVERY('.'))) << bit;
    o.odd |= octets_zero(word) | (word & OCTETS_EVERY(0x80));
  }
  return o;
}

#if defined(__x86_64__)

/* ---- 16 octets in a register ---- */

static inline uint64_t octets_equal_sse2(__m128i a, __m128i b, __m128i c, __m128i d, char octet) {
  __m128i wanted = _mm_set1_epi8(octet);
  uint32_t low = (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(a, wanted)) | (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(b, wanted)) << 16;
  uint32_t high = (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(c, wanted)) | (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(d, wanted)) << 16;
  return low | (uint64_t)high << 32;
}

static inline struct octets octets_sse2(const uint8_t *block) {
  const __m128i *at = (const __m128i *)block;
  __m128i a = _mm_loadu_si128(at), b = _mm_loadu_si128(at + 1), c = _mm_loadu_si128(at + 2), d = _mm_loadu_si128(at + 3);
  /* SSE2 has no minimum of signed octets; but the uppermost bit is set in what is above 127, and in NUL less one. */
  __m128i one = _mm_set1_epi8(1);
  __m128i odd = _mm_or_si128(_mm_or_si128(a, b), _mm_or_si128(c, d));
  odd = _mm_or_si128(odd, _mm_or_si128(_mm_sub_epi8(a, one), _mm_sub_epi8(b, one)));
  odd = _mm_or_si128(odd, _mm_or_si128(_mm_sub_epi8(c, one), _mm_sub_epi8(d, one)));
  return (struct octets){
      .cr = octets_equal_sse2(a, b, c, d, '\r'),
      .lf = octets_equal_sse2(a, b, c, d, '\n'),
      .dot = octets_equal_sse2(a, b, c, d, '.'),
      .odd = (uint32_t)_mm_movemask_epi8(odd),
  };
}

/* ---- 32 octets in a register ---- */

#define OCTETS_AVX2 __attribute__((target("avx2,bmi,bmi2,lzcnt")))

OCTETS_AVX2 static inline uint64_t octets_equal_avx2(__m256i low, __m256i high, char octet) {
  __m256i wanted = _mm256_set1_epi8(octet);
  uint32_t first = (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(low, wanted));
  uint32_t second = (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(high, wanted));
  return first | (uint64_t)second << 32;
}

OCTETS_AVX2 static inline struct octets octets_avx2(const uint8_t *block) {
  __m256i low = _mm256_loadu_si256((const __m256i *)block), high = _mm256_loadu_si256((const __m256i *)(block + 32));
  return (struct octets){
      .cr = octets_equal_avx2(low, high, '\r'),
      .lf = octets_equal_avx2(low, high, '\n'),
      .dot = octets_equal_avx2(low, high, '.'),
      .odd = (uint32_t)_mm256_movemask_epi8(_mm256_cmpgt_epi8(_mm256_set1_epi8(1), _mm256_min_epi8(low, high))),
  };
}

/* ---- 64 octets in a register ---- */

#define OCTETS_AVX512 __attribute__((target("avx512f,avx512bw,bmi,bmi2,lzcnt")))

OCTETS_AVX512 static inline struct octets octets_avx512(const uint8_t *block) {
  __m512i all = _mm512_loadu_si512(block);
  return (struct octets){
      .cr = _mm512_cmpeq_epi8_mask(all, _mm512_set1_epi8('\r')),
      .lf = _mm512_cmpeq_epi8_mask(all, _mm512_set1_epi8('\n')),
      .dot = _mm512_cmpeq_epi8_mask(all, _mm512_set1_epi8('.')),
      .odd = _mm512_cmple_epi8_mask(all, _mm512_setzero_si512()),
  };
}

/* Of the ways that need not be asked for, the best. */
#define octets_anywhere octets_sse2
#else
#define octets_anywhere octets_portable
#endif

#endif
