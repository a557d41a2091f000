#include "queue/content.h"

#include <stdlib.h>

#include "tests/lib/unit.h"

static struct slab slab;

static void open_slab(void) { slab_init(&slab, 64 << 20); }
static void close_slab(void) {
  ck_assert_uint_eq(slab.used_bytes, 0); /* every test frees what it took */
  slab_fini(&slab);
}

static uint8_t pattern(uint64_t at) { return (uint8_t)(at * 31 + (at >> 8)); }

static bool append_pattern(struct content *content, uint64_t bytes, size_t step) {
  uint8_t room[5000];
  for (uint64_t at = 0; at < bytes;) {
    size_t n = bytes - at < step ? (size_t)(bytes - at) : step;
    for (size_t i = 0; i < n; i++) room[i] = pattern(at + i);
    if (!content_append(&slab, content, span_of(room, n))) return false;
    at += n;
  }
  return true;
}

START_TEST(what_goes_in_comes_out) {
  static const uint64_t sizes[] = {0, 1, 4000, 8000, 8192 - 100, 8192, 9000, 50000, 200000};
  for (unsigned s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
    struct content *content = content_new(&slab, 0);
    ck_assert(content_append(&slab, content, SPAN("HEAD")));
    content_end_head(content);
    ck_assert(append_pattern(content, sizes[s], 4999));
    ck_assert_uint_eq(content_size(content), sizes[s]);
    struct io_slice slices[CONTENT_CHUNKS_MAX];
    unsigned count = content_slices(content, slices);
    uint64_t at = 0;
    for (unsigned i = 0; i < count; i++)
      for (size_t j = 0; j < slices[i].len; j++, at++)
        if (((uint8_t *)slices[i].at)[j] != pattern(at)) ck_abort_msg("byte %llu differs", (unsigned long long)at);
    ck_assert_uint_eq(at, sizes[s]);
    content_free(&slab, content);
  }
}
END_TEST

START_TEST(padding_is_zero_aligned_and_not_sent) {
  for (unsigned extra = 0; extra < 1100; extra += 111) {
    struct content *content = content_new(&slab, 0);
    ck_assert(content_append(&slab, content, SPAN("HEAD")));
    content_end_head(content);
    ck_assert(append_pattern(content, 8000 + extra, 1000));
    uint32_t length = content_pad(content, 512);
    uint64_t total = 0;
    ck_assert_uint_eq(length % 512, 0);
    ck_assert(length >= 8004 + extra && length < 8004 + extra + 512);
    for (uint32_t i = 0; i < content->chunks; i++) {
      ck_assert_uint_eq((uintptr_t)content->slice[i].at % 4096, 0);
      ck_assert_uint_eq(content->slice[i].len % 512, 0);
      total += content->slice[i].len;
    }
    ck_assert_uint_eq(total, length);
    const struct io_slice *last = &content->slice[content->chunks - 1];
    for (uint32_t i = length - (8004 + extra); i > 0; i--) ck_assert_uint_eq(((uint8_t *)last->at)[last->len - i], 0);
    struct io_slice slices[CONTENT_CHUNKS_MAX];
    uint64_t sent = 0;
    for (unsigned i = content_slices(content, slices); i > 0; i--) sent += slices[i - 1].len;
    ck_assert_uint_eq(sent, 8000 + extra);
    content_free(&slab, content);
  }
}
END_TEST

START_TEST(a_head_over_several_chunks) {
  struct content *content = content_new(&slab, 0);
  ck_assert(append_pattern(content, 100000, 5000));
  content_end_head(content);
  ck_assert(content_append(&slab, content, SPAN("body")));
  struct io_slice slices[CONTENT_CHUNKS_MAX];
  ck_assert_uint_eq(content_slices(content, slices), 1);
  ck_assert(slices[0].len == 4 && memcmp(slices[0].at, "body", 4) == 0);
  content_free(&slab, content);
}
END_TEST

START_TEST(no_memory_is_said) {
  slab.limit_bytes = 300000;
  struct content *content = content_new(&slab, 0);
  ck_assert(!append_pattern(content, 1 << 20, 5000));
  content_free(&slab, content);
  ck_assert_ptr_null(content_for_read(&slab, 1 << 20));
}
END_TEST

START_TEST(chunks_for_a_read_cover_it_exactly) {
  static const uint32_t lengths[] = {512, 8192, 8704, 65536, 66048, 1 << 20};
  for (unsigned i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
    struct content *content = content_for_read(&slab, lengths[i]);
    uint64_t total = 0;
    for (uint32_t chunk = 0; chunk < content->chunks; chunk++) {
      ck_assert_uint_gt(content->slice[chunk].len, 0);
      total += content->slice[chunk].len;
    }
    ck_assert_uint_eq(total, lengths[i]);
    content_free(&slab, content);
  }
}
END_TEST

int main(void) {
  TCase *content = tcase_create("content");
  tcase_add_checked_fixture(content, open_slab, close_slab);
  tcase_add_test(content, what_goes_in_comes_out);
  tcase_add_test(content, padding_is_zero_aligned_and_not_sent);
  tcase_add_test(content, a_head_over_several_chunks);
  tcase_add_test(content, no_memory_is_said);
  tcase_add_test(content, chunks_for_a_read_cover_it_exactly);
  return unit_main("queue/content", (TCase *const[]){content}, 1);
}
