#include "tests/lib/unit.h"

#include "net/smtp/data.h"
#include "tests/lib/wire.h"

#define ROOM 8192

struct fed {
  struct data_scan scan;
  uint8_t content[2 * ROOM];
  size_t len;
  size_t used;
  bool end;
};

static void keep(struct fed *fed, struct span content) {
  ck_assert_uint_le(fed->len + content.len, sizeof fed->content);
  if (content.len > 0) memcpy(fed->content + fed->len, content.at, content.len);
  fed->len += content.len;
}

/* Feeds pieces of `step` bytes; 0: pieces of lengths that `step_seed` leads to. */
static void feed(struct fed *fed, struct span bytes, size_t step, uint32_t step_seed) {
  data_scan_init(&fed->scan);
  fed->len = fed->used = 0;
  fed->end = false;
  while (fed->used < bytes.len && !fed->end) {
    step_seed = step_seed * 1664525 + 1013904223;
    struct span piece = span_first(span_skip(bytes, fed->used), step > 0 ? step : 1 + (step_seed >> 20) % 200);
    struct span in = piece;
    while (in.len > 0 && !fed->end) {
      struct span content;
      fed->end = data_scan_feed(&fed->scan, &in, &content);
      keep(fed, content);
    }
    fed->used += piece.len - in.len;
  }
}

static void check_against_wire(struct span bytes, size_t step, uint32_t seed) {
  static struct fed fed;
  struct wire wire = wire_read(bytes);
  feed(&fed, bytes, step, seed);
  ck_assert_int_eq(fed.end, wire.end);
  ck_assert_uint_eq(fed.used, wire.used);
  ck_assert_uint_eq(fed.len, wire.content);
  ck_assert(wire.content == 0 || memcmp(fed.content, bytes.at, wire.content) == 0);
  if (!wire.end) return; /* what was held back is looked at later */
  ck_assert_int_eq(fed.scan.bare, wire.bare);
  ck_assert_int_eq(fed.scan.nul, wire.nul);
  ck_assert_int_eq(fed.scan.eight_bit, wire.eight_bit);
  if (wire.bare) return; /* of a message that is refused the lines do not matter */
  ck_assert_int_eq(fed.scan.leading_dot, wire.leading_dot);
  ck_assert_uint_eq(fed.scan.stuffed, wire.stuffed);
  ck_assert_uint_eq(fed.scan.longest_line, wire.longest_line);
  ck_assert_int_eq(fed.scan.long_header, wire.long_header);
  ck_assert_uint_eq(fed.scan.received_headers, wire.received_headers);
}

static const char *const samples[] = {
    ".\r\n",
    ".\r\nQUIT\r\n",
    "\r\n.\r\n",
    "a\r\n.\r\nrest",
    "a\r\n..\r\n.\r\n",
    "a\r\n.\r.\r\n.\r\n",
    "a\r\n.b\r\n.\r\n",
    "a\r\n.\r\r\n.\r\n",
    "a\n.\nb\r\n.\r\n",
    "a\n.\r\nb\r\n.\r\n",
    "a\r\n.\nb\r\n.\r\n",
    "a\r.\r\nb\r\n.\r\n",
    "a\r\r\n.\r\n",
    "\n.\r\n\r\n.\r\n",
    "\r.\r\n\r\n.\r\n",
    "...\r\n....\r\n.\r\n",
    "Received: a\r\nRECEIVED: b\r\nreceived:\r\nReceive: c\r\nXReceived: d\r\n Received: e\r\n\r\nReceived: f\r\n.\r\n",
    "Subject: \xc3\xa4\r\n\r\n\xff\r\n.\r\n\x80\x80",
    "no end\r\n",
    "no end\r\n.",
    "no end\r\n.\r",
    "no end\r",
    "",
    "Received:",
    "received: one\r\n.\r\nMAIL FROM:<\xc3\xa4@example>\r\n",
};

START_TEST(samples_whole_and_cut) {
  for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
    struct span bytes = span_of_text(samples[i]);
    for (size_t step = 1; step <= bytes.len + 1; step++) check_against_wire(bytes, step, 0);
  }
}
END_TEST

/* Each sample begins at each place in a block, so that everything comes to lie across the border of one. */
START_TEST(samples_at_every_offset) {
  static uint8_t room[ROOM];
  for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
    for (size_t before = 2; before < 200; before++) {
      size_t len = strlen(samples[i]);
      memset(room, 'x', before);
      memcpy(room + before - 2, "\r\n", 2);
      memcpy(room + before, samples[i], len);
      check_against_wire(span_of(room, before + len), ROOM, 0);
      check_against_wire(span_of(room, before + len), 64, 0);
      check_against_wire(span_of(room, before + len), 63, 0);
    }
  }
}
END_TEST

START_TEST(random_soup) {
  static uint8_t room[ROOM];
  static const char *const ingredients[] = {
      "\r\n", "\r\n", "\r\n", ".", "\r", "\n", "\r\n.", "\r\n.\r", "Received:", "received: x\r\n", "\r\n\r\n", "\xe4", "..", "text and more text",
      "a",    "r"};
  uint32_t state = 7;
  for (unsigned round = 0; round < 4000; round++) {
    size_t len = 0, wanted = round % 700;
    bool tame = round % 2 == 0; /* without what is bare, so that lines are compared */
    while (len < wanted) {
      state = state * 1664525 + 1013904223;
      const char *next = ingredients[(state >> 16) % (sizeof ingredients / sizeof ingredients[0])];
      if (tame && (strcmp(next, "\r") == 0 || strcmp(next, "\n") == 0 || strcmp(next, "\r\n.\r") == 0)) continue;
      memcpy(room + len, next, strlen(next));
      len += strlen(next);
    }
    memcpy(room + len, "\r\n.\r\n", 5);
    check_against_wire(span_of(room, len + 5), 0, state);
    check_against_wire(span_of(room, len + 5), ROOM, 0);
  }
}
END_TEST

START_TEST(nul_is_seen_only_in_the_content) {
  struct fed fed;
  feed(&fed, SPAN("a\0b\r\n.\r\n"), 100, 0);
  ck_assert(fed.scan.nul && fed.end);
  feed(&fed, SPAN("ab\r\n.\r\n\0\xff"), 100, 0);
  ck_assert(!fed.scan.nul && !fed.scan.eight_bit && fed.end);
}
END_TEST

START_TEST(lines_of_every_length_are_measured) {
  static uint8_t room[ROOM];
  for (size_t longest = 0; longest < 1200; longest += longest < 140 ? 1 : 97) {
    size_t len = 0;
    for (unsigned line = 0; line < 5; line++) {
      size_t this = line == 2 ? longest : longest / 2;
      memset(room + len, 'x', this);
      memcpy(room + len + this, "\r\n", 2);
      len += this + 2;
    }
    memcpy(room + len, ".\r\n", 3);
    for (size_t step = 1; step < 300; step += 61) {
      static struct fed fed;
      feed(&fed, span_of(room, len + 3), step, 0);
      ck_assert_uint_eq(fed.scan.longest_line, longest);
    }
  }
}
END_TEST

/* In the header, at its end, in the body; the octet too many makes the difference, wherever the stream is cut. */
START_TEST(long_header_lines_are_found) {
  static uint8_t room[3 * DATA_HEADER_LINE_MAX];
  static const char *const before[] = {"", "A: b\r\n", "A: b\r\n\r\n", "\r\n"};
  static const char *const behind[] = {"\r\n.\r\n", "\r\n\r\nbody\r\n.\r\n", "\r\nB: c\r\n\r\nx\r\n.\r\n"};
  for (unsigned i = 0; i < 12; i++) {
    for (size_t line = DATA_HEADER_LINE_MAX - 1; line < DATA_HEADER_LINE_MAX + 3; line++) {
      size_t len = strlen(before[i % 4]);
      memcpy(room, before[i % 4], len);
      memset(room + len, 'x', line);
      len += line;
      memcpy(room + len, behind[i / 4], strlen(behind[i / 4]));
      struct span bytes = span_of(room, len + strlen(behind[i / 4]));
      ck_assert_int_eq(wire_read(bytes).long_header, i % 4 < 2 && line > DATA_HEADER_LINE_MAX);
      static const size_t steps[] = {1, 63, 64, 65537, 65538, sizeof room};
      for (unsigned j = 0; j < sizeof steps / sizeof steps[0]; j++) {
        struct data_scan scan;
        struct span rest = bytes;
        data_scan_init(&scan);
        for (bool end = false; !end;) {
          struct span piece = span_first(rest, steps[j]), content;
          rest = span_skip(rest, piece.len);
          while (piece.len > 0 && !end) end = data_scan_feed(&scan, &piece, &content);
        }
        ck_assert_int_eq(scan.long_header, i % 4 < 2 && line > DATA_HEADER_LINE_MAX);
      }
    }
  }
}
END_TEST

/* ---- chunks ---- */

static void feed_chunks(struct fed *fed, struct span bytes, size_t step) {
  data_scan_init(&fed->scan);
  fed->len = 0;
  while (bytes.len > 0) {
    struct span piece = span_first(bytes, step);
    bytes = span_skip(bytes, piece.len);
    while (piece.len > 0) {
      struct span content;
      data_scan_feed_chunk(&fed->scan, &piece, &content);
      keep(fed, content);
    }
  }
  keep(fed, data_scan_finish(&fed->scan));
  ck_assert_uint_eq(data_scan_finish(&fed->scan).len, 0);
}

START_TEST(chunks_are_put_into_wire_form) {
  static const struct {
    const char *message, *wire;
  } cases[] = {
      {"", ""},
      {"a", "a\r\n"},
      {"a\r\n", "a\r\n"},
      {".", "..\r\n"},
      {".\r\n", "..\r\n"},
      {"..a\r\n.\r\n.", "...a\r\n..\r\n..\r\n"},
      {"a\r\n.\r\nb", "a\r\n..\r\nb\r\n"},
      {"a.\r\nb.c", "a.\r\nb.c\r\n"},
      {"\r\n", "\r\n"},
  };
  static struct fed fed;
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    struct span message = span_of_text(cases[i].message), wire = span_of_text(cases[i].wire);
    for (size_t step = 1; step <= message.len + 1; step++) {
      feed_chunks(&fed, message, step);
      ck_assert(!fed.scan.bare);
      ck_assert_uint_eq(fed.len, wire.len);
      ck_assert(wire.len == 0 || memcmp(fed.content, wire.at, wire.len) == 0);
      ck_assert_uint_eq(fed.scan.stuffed, wire.len - message.len);
      ck_assert_int_eq(fed.scan.leading_dot, strstr(cases[i].wire, "..") != NULL);
    }
  }
}
END_TEST

START_TEST(chunks_with_bare_cr_or_lf) {
  static const char *const cases[] = {"a\nb\r\n", "a\rb\r\n", "a\r", "\n", "\r", "a\r\n\n", "a\r\n\r"};
  static struct fed fed;
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    for (size_t step = 1; step < 6; step++) {
      feed_chunks(&fed, span_of_text(cases[i]), step);
      ck_assert(fed.scan.bare);
    }
  }
}
END_TEST

START_TEST(last_line_without_crlf_is_measured) {
  static struct fed fed;
  feed_chunks(&fed, SPAN("ab\r\nabcdef"), 3);
  ck_assert_uint_eq(fed.scan.longest_line, 6);
  feed_chunks(&fed, SPAN("ab\r\n.bcdef"), 3);
  ck_assert_uint_eq(fed.scan.longest_line, 7); /* with its stuffing dot */
}
END_TEST

int main(void) {
  TCase *data = tcase_create("data"), *chunks = tcase_create("chunks");
  tcase_add_test(data, samples_whole_and_cut);
  tcase_add_test(data, samples_at_every_offset);
  tcase_add_test(data, long_header_lines_are_found);
  tcase_add_test(data, random_soup);
  tcase_add_test(data, nul_is_seen_only_in_the_content);
  tcase_add_test(data, lines_of_every_length_are_measured);
  tcase_add_test(chunks, chunks_are_put_into_wire_form);
  tcase_add_test(chunks, chunks_with_bare_cr_or_lf);
  tcase_add_test(chunks, last_line_without_crlf_is_measured);
  return unit_main("net/smtp/data", (TCase *[]){data, chunks}, 2);
}
