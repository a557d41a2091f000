#include "net/smtp/octets.h"

#include <endian.h>

#include "core/base/must.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* Every implementation adds the masks of whole blocks to a batch, from `first` on. `octets.len` is a multiple of the block's size. */
typedef void find_blocks(struct octets_batch *batch, size_t first, struct span octets);

/* The last octets, fewer than a block, are looked at in a copy that is filled up with what has no meaning. */
static inline void find_all(struct octets_batch *batch, struct span octets, find_blocks *find) {
  must(octets.len <= OCTETS_BATCH_SIZE);
  size_t whole = octets.len & ~(size_t)(OCTETS_BLOCK_SIZE - 1), rest = octets.len - whole;
  batch->nul = batch->high = false;
  if (whole > 0) find(batch, 0, span_first(octets, whole));
  if (rest > 0) {
    uint8_t copy[OCTETS_BLOCK_SIZE];
    memset(copy, ' ', sizeof copy);
    memcpy(copy, octets.at + whole, rest);
    find(batch, whole / OCTETS_BLOCK_SIZE, span_of(copy, sizeof copy));
  }
}

/* ---- eight octets in a word ---- */

#define EVERY_OCTET(c) (0x0101010101010101u * (uint64_t)(c))

/* The high bit of each octet that is zero; exact, no borrow runs from one to the next. */
static inline uint64_t zero_octets(uint64_t word) { return ~(((word & EVERY_OCTET(0x7f)) + EVERY_OCTET(0x7f)) | word) & EVERY_OCTET(0x80); }

/* Gathers the eight high bits into one octet: the multiplication moves each to its place in the uppermost one. */
static inline uint64_t gather(uint64_t high_bits) { return (high_bits >> 7) * 0x0102040810204080u >> 56; }

static void find_blocks_portable(struct octets_batch *batch, size_t first, struct span octets) {
  uint64_t any = 0, zero = 0;
  for (size_t at = 0; at < octets.len; at += OCTETS_BLOCK_SIZE) {
    struct octets_block *block = &batch->block[first + at / OCTETS_BLOCK_SIZE];
    *block = (struct octets_block){0};
    for (unsigned bit = 0; bit < OCTETS_BLOCK_SIZE; bit += 8) {
      uint64_t word;
      memcpy(&word, octets.at + at + bit, sizeof word);
      word = le64toh(word);
      block->cr |= gather(zero_octets(word ^ EVERY_OCTET('\r'))) << bit;
      block->lf |= gather(zero_octets(word ^ EVERY_OCTET('\n'))) << bit;
      block->dot |= gather(zero_octets(word ^ EVERY_OCTET('.'))) << bit;
      any |= word;
      zero |= zero_octets(word);
    }
  }
  batch->high |= (any & EVERY_OCTET(0x80)) != 0;
  batch->nul |= zero != 0;
}

#if defined(__x86_64__)

/* ---- 32 octets in a register ---- */

__attribute__((target("avx2"))) static inline uint64_t equal_avx2(__m256i low, __m256i high, char c) {
  __m256i wanted = _mm256_set1_epi8(c);
  uint32_t first = (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(low, wanted));
  uint32_t second = (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(high, wanted));
  return first | (uint64_t)second << 32;
}

__attribute__((target("avx2"))) static void find_blocks_avx2(struct octets_batch *batch, size_t first, struct span octets) {
  __m256i any = _mm256_setzero_si256(), least = _mm256_set1_epi8(' ');
  struct octets_block *block = &batch->block[first];
  for (const uint8_t *at = octets.at, *end = at + octets.len; at < end; at += OCTETS_BLOCK_SIZE, block++) {
    __m256i low = _mm256_loadu_si256((const __m256i *)at), high = _mm256_loadu_si256((const __m256i *)(at + 32));
    block->cr = equal_avx2(low, high, '\r');
    block->lf = equal_avx2(low, high, '\n');
    block->dot = equal_avx2(low, high, '.');
    any = _mm256_or_si256(any, _mm256_or_si256(low, high));
    least = _mm256_min_epu8(least, _mm256_min_epu8(low, high));
  }
  batch->high |= _mm256_movemask_epi8(any) != 0;
  batch->nul |= _mm256_movemask_epi8(_mm256_cmpeq_epi8(least, _mm256_setzero_si256())) != 0;
}

/* ---- 16 octets in a register: every x86-64 has these ---- */

static inline uint64_t equal_sse2(const __m128i part[4], char c) {
  __m128i wanted = _mm_set1_epi8(c);
  uint64_t mask = 0;
  for (unsigned i = 0; i < 4; i++) mask |= (uint64_t)(uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(part[i], wanted)) << (16 * i);
  return mask;
}

static void find_blocks_sse2(struct octets_batch *batch, size_t first, struct span octets) {
  __m128i any = _mm_setzero_si128(), least = _mm_set1_epi8(' ');
  struct octets_block *block = &batch->block[first];
  for (const uint8_t *at = octets.at, *end = at + octets.len; at < end; at += OCTETS_BLOCK_SIZE, block++) {
    __m128i part[4];
    for (unsigned i = 0; i < 4; i++) {
      part[i] = _mm_loadu_si128((const __m128i *)(at + 16 * i));
      any = _mm_or_si128(any, part[i]);
      least = _mm_min_epu8(least, part[i]);
    }
    block->cr = equal_sse2(part, '\r');
    block->lf = equal_sse2(part, '\n');
    block->dot = equal_sse2(part, '.');
  }
  batch->high |= _mm_movemask_epi8(any) != 0;
  batch->nul |= _mm_movemask_epi8(_mm_cmpeq_epi8(least, _mm_setzero_si128())) != 0;
}

static find_blocks *find_in_way(enum octets_way way) {
  switch (way) {
  case OCTETS_AVX2: return __builtin_cpu_supports("avx2") ? find_blocks_avx2 : NULL;
  case OCTETS_SSE2: return find_blocks_sse2;
  default: return find_blocks_portable;
  }
}

void octets_find(struct octets_batch *batch, struct span octets) {
  find_all(batch, octets, __builtin_cpu_supports("avx2") ? find_blocks_avx2 : find_blocks_sse2);
}

#else

static find_blocks *find_in_way(enum octets_way way) { return way == OCTETS_PORTABLE ? find_blocks_portable : NULL; }

void octets_find(struct octets_batch *batch, struct span octets) { find_all(batch, octets, find_blocks_portable); }

#endif

bool octets_find_in_way(struct octets_batch *batch, struct span octets, enum octets_way way) {
  find_blocks *find = find_in_way(way);
  if (find == NULL) return false;
  find_all(batch, octets, find);
  return true;
}
