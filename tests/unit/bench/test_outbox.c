#include "bench/lib/outbox.h"
#include "tests/lib/unit.h"

#include <stdlib.h>

static struct outbox box;

static void setup(void) { box = (struct outbox){0}; }
static void teardown(void) { outbox_fini(&box); }

static void expect(uint64_t now_ns, const char *text) {
  struct span ready = outbox_ready(&box, now_ns);
  ck_assert(span_equal(ready, span_of_text(text)));
  if (ready.len > 0) outbox_take(&box, ready.len, now_ns);
}

START_TEST(bytes_in_order) {
  outbox_put(&box, SPAN("abc"));
  outbox_put(&box, SPAN("def"));
  outbox_take(&box, 2, 0);
  expect(0, "cdef");
  expect(0, "");
  ck_assert_uint_eq(outbox_next_ns(&box), UINT64_MAX);
}
END_TEST

START_TEST(holds_keep_what_follows) {
  outbox_put(&box, SPAN("a"));
  outbox_hold(&box, 100);
  outbox_put(&box, SPAN("b"));
  outbox_hold(&box, 50); /* over sooner, but behind the other */
  outbox_put(&box, SPAN("c"));
  outbox_hold(&box, 200);
  outbox_put(&box, SPAN("d"));
  expect(0, "a");
  expect(60, "");
  ck_assert_uint_eq(outbox_next_ns(&box), 100);
  expect(100, "bc");
  ck_assert_uint_eq(outbox_next_ns(&box), 200);
  expect(250, "d");
}
END_TEST

START_TEST(hold_at_the_very_end) {
  outbox_hold(&box, 100);
  ck_assert_uint_eq(outbox_next_ns(&box), 100);
  outbox_hold(&box, 300);
  ck_assert_uint_eq(outbox_next_ns(&box), 300);
  expect(150, "");
}
END_TEST

START_TEST(drip) {
  outbox_drip(&box, 10);
  outbox_put(&box, SPAN("xyz"));
  expect(5, "x");
  expect(14, "");
  ck_assert_uint_eq(outbox_next_ns(&box), 15);
  expect(15, "y");
  outbox_drip(&box, 0);
  expect(16, "z");
}
END_TEST

START_TEST(overflow_is_told) {
  uint8_t *much = calloc(1, OUTBOX_MAX);
  outbox_put(&box, span_of(much, OUTBOX_MAX / 2));
  ck_assert(!box.overflow);
  outbox_put(&box, span_of(much, OUTBOX_MAX));
  ck_assert(box.overflow);
  free(much);
}
END_TEST

/* Against a model: whatever is put and taken, the stream comes out unchanged. */
START_TEST(stream_is_kept) {
  uint32_t chance = 1;
  uint8_t in = 0, out = 0;
  for (unsigned i = 0; i < 20000; i++) {
    chance = chance * 1664525 + 1013904223;
    uint8_t bytes[200];
    size_t len = (chance >> 8) % sizeof bytes;
    for (size_t k = 0; k < len; k++) bytes[k] = in++;
    outbox_put(&box, span_of(bytes, len));
    struct span ready = outbox_ready(&box, i);
    size_t take = (chance >> 16) % 250 < ready.len ? (chance >> 16) % 250 : ready.len;
    for (size_t k = 0; k < take; k++) ck_quick(ready.at[k] == out++);
    outbox_take(&box, take, i);
    if (ready.len > 100000) {
      ready = outbox_ready(&box, i);
      for (size_t k = 0; k < ready.len; k++) ck_quick(ready.at[k] == out++);
      outbox_take(&box, ready.len, i);
    }
    ck_quick(!box.overflow);
  }
}
END_TEST

int main(void) {
  TCase *stream = tcase_create("stream");
  tcase_add_checked_fixture(stream, setup, teardown);
  tcase_add_test(stream, bytes_in_order);
  tcase_add_test(stream, holds_keep_what_follows);
  tcase_add_test(stream, hold_at_the_very_end);
  tcase_add_test(stream, drip);
  tcase_add_test(stream, overflow_is_told);
  tcase_add_test(stream, stream_is_kept);
  return unit_main("bench/outbox", &stream, 1);
}
