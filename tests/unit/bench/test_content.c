#include "bench/lib/content.h"
#include "tests/lib/unit.h"

#include <stdlib.h>

static struct content_block block;

static void setup(void) { content_block_fill(&block); }

/* The whole message, as one run of bytes. The caller frees it. */
static struct span compose(uint64_t seq, size_t size) {
  uint8_t *bytes = malloc(size + 1);
  struct fmt out = fmt_over(bytes, size);
  struct content_stamp stamp = {.run = 0xabcdef0123456789, .seq = seq, .sent_ns = 123456789, .messages = 1000, .recipients = 3};
  ck_assert(content_header(&stamp, size, SPAN("a@b.test"), SPAN("user-1@d.test"), SPAN("Tue, 24 Nov 2026 01:47:19 +0000"), &out));
  for (uint64_t at = 0; at < stamp.body_size;) {
    struct span piece = content_body(&block, seq, stamp.body_size, at);
    ck_assert(piece.len > 0);
    fmt_put(&out, piece);
    at += piece.len;
  }
  ck_assert(!out.overflow);
  return fmt_span(&out);
}

static enum content_verdict read_in_pieces(struct content_reader *reader, struct span message, size_t piece) {
  content_reader_begin(reader, &block);
  for (size_t at = 0; at < message.len; at += piece) content_reader_feed(reader, span_first(span_skip(message, at), piece));
  return content_reader_end(reader);
}

START_TEST(size_is_exact_and_lines_are_lines) {
  for (size_t i = 0; i < 200; i++) {
    size_t size = i < 180 ? 512 + i : i * 1001; /* every length of the last line, and bodies longer than the block */
    struct span message = compose(i * 7919, size);
    ck_assert_uint_eq(message.len, size);
    ck_assert(memcmp(message.at + message.len - 2, "\r\n", 2) == 0);
    size_t line_start = 0;
    for (size_t at = 0; at < message.len; at++) {
      ck_quick(message.at[at] >= 0x20 || message.at[at] == '\r' || message.at[at] == '\n');
      if (message.at[at] == '\n') {
        ck_quick(message.at[at - 1] == '\r');
        ck_quick(at - line_start <= 998);
        line_start = at + 1;
      } else if (at == line_start) {
        ck_quick(message.at[at] != '.');
      }
    }
    free((void *)(uintptr_t)message.at);
  }
}
END_TEST

START_TEST(too_small_is_refused) {
  uint8_t room[1024];
  struct fmt out = fmt_over(room, sizeof room);
  struct content_stamp stamp = {.recipients = 1};
  ck_assert(!content_header(&stamp, 100, SPAN("a@b"), SPAN("c@d"), SPAN("date"), &out));
}
END_TEST

START_TEST(what_was_made_is_whole_however_it_is_cut) {
  struct content_reader *reader = malloc(sizeof *reader);
  struct span message = compose(42, 9000);
  for (size_t piece = 1; piece < 9001; piece = piece * 5 / 4 + 1) {
    ck_assert_int_eq(read_in_pieces(reader, message, piece), CONTENT_WHOLE);
    ck_assert_uint_eq(reader->stamp.seq, 42);
    ck_assert_uint_eq(reader->stamp.run, 0xabcdef0123456789);
    ck_assert_uint_eq(reader->stamp.recipients, 3);
    ck_assert_uint_eq(reader->size_bytes, 9000);
  }
  free((void *)(uintptr_t)message.at);
  free(reader);
}
END_TEST

START_TEST(added_header_fields_do_no_harm) {
  struct content_reader *reader = malloc(sizeof *reader);
  struct span message = compose(5, 2000);
  uint8_t longer[4096];
  struct fmt out = fmt_over(longer, sizeof longer);
  fmt_text(&out, "Received: from a (b [127.0.0.1])\r\n\tby c with ESMTP; date\r\nDKIM-Signature: v=1\r\n");
  fmt_put(&out, message);
  ck_assert_int_eq(read_in_pieces(reader, fmt_span(&out), 100), CONTENT_WHOLE);
  ck_assert_int_eq(read_in_pieces(reader, fmt_span(&out), 4096), CONTENT_WHOLE);
  free((void *)(uintptr_t)message.at);
  free(reader);
}
END_TEST

/* Any one byte of the body changed, left out or doubled is found. */
START_TEST(damage_is_found) {
  struct content_reader *reader = malloc(sizeof *reader);
  struct span message = compose(9, 1500);
  uint8_t damaged[1600];
  const uint8_t *body = memmem(message.at, message.len, "\r\n\r\n", 4);
  for (size_t at = (size_t)(body - message.at) + 4; at < message.len; at++) {
    memcpy(damaged, message.at, message.len);
    damaged[at] ^= 1;
    ck_assert_int_eq(read_in_pieces(reader, span_of(damaged, message.len), 333), CONTENT_CORRUPT);
    memcpy(damaged + at, message.at + at + 1, message.len - at - 1);
    ck_assert_int_eq(read_in_pieces(reader, span_of(damaged, message.len - 1), 333), CONTENT_CORRUPT);
    memcpy(damaged + at, message.at + at, message.len - at);
    memmove(damaged + at + 1, damaged + at, message.len - at);
    ck_assert_int_eq(read_in_pieces(reader, span_of(damaged, message.len + 1), 333), CONTENT_CORRUPT);
  }
  ck_assert_int_eq(read_in_pieces(reader, span_first(message, 1499), 333), CONTENT_CORRUPT);
  free((void *)(uintptr_t)message.at);
  free(reader);
}
END_TEST

START_TEST(messages_of_others_are_foreign) {
  struct content_reader *reader = malloc(sizeof *reader);
  static const char *const foreign[] = {"",
                                        "Subject: x\r\n\r\nbody\r\n",
                                        "no header at all",
                                        "X-Bench: run=zz seq=1\r\n\r\n",
                                        "Y-X-Bench: run=1\r\n\r\n",
                                        "X-Bench: run=1 seq=1 sent=1 of=1 rcpts=0 body=0\r\n\r\n"};
  for (unsigned i = 0; i < sizeof foreign / sizeof *foreign; i++) {
    ck_assert_int_eq(read_in_pieces(reader, span_of_text(foreign[i]), 3), CONTENT_FOREIGN);
  }
  free(reader);
}
END_TEST

START_TEST(endless_header_is_passed_over) {
  struct content_reader *reader = malloc(sizeof *reader);
  uint8_t *bytes = malloc(100000);
  memset(bytes, 'x', 100000);
  ck_assert_int_eq(read_in_pieces(reader, span_of(bytes, 100000), 700), CONTENT_FOREIGN);
  ck_assert_int_eq(read_in_pieces(reader, span_of(bytes, 100000), 100000), CONTENT_FOREIGN);
  free(bytes);
  free(reader);
}
END_TEST

int main(void) {
  TCase *contents = tcase_create("content");
  tcase_add_checked_fixture(contents, setup, NULL);
  tcase_add_test(contents, size_is_exact_and_lines_are_lines);
  tcase_add_test(contents, too_small_is_refused);
  tcase_add_test(contents, what_was_made_is_whole_however_it_is_cut);
  tcase_add_test(contents, added_header_fields_do_no_harm);
  tcase_add_test(contents, damage_is_found);
  tcase_add_test(contents, messages_of_others_are_foreign);
  tcase_add_test(contents, endless_header_is_passed_over);
  return unit_main("bench/content", &contents, 1);
}
