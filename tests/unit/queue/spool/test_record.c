/* The bytes of records: written and read are each other's inverse, and nothing else is read. */
#include "queue/spool/record.h"

#include <stdlib.h>

#include "core/base/error.h"
#include "tests/lib/unit.h"

static const struct record_header usual = {
    .type = RECORD_MESSAGE, .segment = 7, .length = 4096, .envelope_size = 100, .content_size = 3000, .parts = 2, .id = 0x123456789abcdef0};

static void sealed(uint8_t *room, const struct record_header *header, uint64_t hash) {
  record_header_encode(header, room);
  record_header_seal(room, header->segment, hash);
}

START_TEST(a_header_comes_back_as_it_was) {
  uint8_t room[RECORD_HEADER_SIZE];
  struct record_header got;
  uint64_t hash;
  sealed(room, &usual, 0xfeedface12345678);
  ck_assert_uint_eq(record_header_length(room), 4096);
  ck_assert_int_eq(record_header_decode(&got, room, sizeof room, 7, &hash), E_OK);
  ck_assert_uint_eq(hash, 0xfeedface12345678);
  ck_assert_uint_eq(got.type, usual.type);
  ck_assert_uint_eq(got.segment, usual.segment);
  ck_assert_uint_eq(got.length, usual.length);
  ck_assert_uint_eq(got.envelope_size, usual.envelope_size);
  ck_assert_uint_eq(got.content_size, usual.content_size);
  ck_assert_uint_eq(got.parts, usual.parts);
  ck_assert_uint_eq(got.id, usual.id);
}
END_TEST

START_TEST(any_changed_byte_of_a_header_is_seen) {
  uint8_t room[RECORD_HEADER_SIZE];
  struct record_header got;
  uint64_t hash;
  for (size_t at = 0; at < sizeof room; at++) {
    for (unsigned bit = 0; bit < 8; bit++) {
      sealed(room, &usual, 99);
      room[at] ^= (uint8_t)(1u << bit);
      ck_assert_int_eq(record_header_decode(&got, room, sizeof room, 7, &hash), E_CORRUPT);
    }
  }
}
END_TEST

START_TEST(a_header_of_another_segment_or_cut_short_does_not_count) {
  uint8_t room[RECORD_HEADER_SIZE];
  struct record_header got;
  uint64_t hash;
  sealed(room, &usual, 1);
  ck_assert_int_eq(record_header_decode(&got, room, sizeof room, 8, &hash), E_CORRUPT);
  for (size_t len = 0; len < sizeof room; len++) ck_assert_int_eq(record_header_decode(&got, room, len, 7, &hash), E_CORRUPT);
}
END_TEST

/* With a right checksum: sizes that do not fit into each other. The seal only knows the first 56 bytes. */
static void check_illegal(size_t at, uint32_t value) {
  uint8_t room[RECORD_HEADER_SIZE];
  struct record_header got;
  uint64_t hash;
  record_header_encode(&usual, room);
  for (unsigned i = 0; i < 4; i++) room[at + i] = (uint8_t)(value >> (8 * i));
  record_header_seal(room, 7, 1);
  ck_assert_int_eq(record_header_decode(&got, room, sizeof room, 7, &hash), E_CORRUPT);
}

START_TEST(sizes_have_to_fit) {
  check_illegal(12, 0); /* length */
  check_illegal(12, 4096 + 1);
  check_illegal(12, 3072); /* shorter than what is in it */
  check_illegal(12, RECORD_LENGTH_MAX + 512);
  check_illegal(12, 0xfffffe00);
  check_illegal(16, 0xffffffff);          /* envelope */
  check_illegal(20, 4096 - 64 - 100 + 1); /* content */
  check_illegal(20, 0xffffffff);
  check_illegal(4, 1 | 4 << 8); /* type */
  check_illegal(4, 1);
  check_illegal(4, 1 | RECORD_OUTCOMES << 8); /* outcomes have no id */
  check_illegal(4, 1 | 1 << 8 | 1 << 16);     /* bytes that are zero */
  check_illegal(28, 1);
  check_illegal(48, 1);
  uint8_t room[RECORD_HEADER_SIZE];
  struct record_header longest = usual, got;
  uint64_t hash;
  longest.length = RECORD_LENGTH_MAX;
  longest.content_size = RECORD_LENGTH_MAX - 64 - 100;
  sealed(room, &longest, 1);
  ck_assert_int_eq(record_header_decode(&got, room, sizeof room, 7, &hash), E_OK);
}
END_TEST

START_TEST(the_hash_depends_on_bytes_and_salt_and_not_on_cuts) {
  uint8_t bytes[5000];
  for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)(i * 7 + i / 256);
  struct span whole = span_of(bytes, sizeof bytes);
  uint64_t hash = record_hash(5, &whole, 1);
  for (size_t cut = 0; cut <= sizeof bytes; cut += 97) {
    struct span pieces[3] = {span_first(whole, cut), span_first(span_skip(whole, cut), 1), {NULL, 0}};
    pieces[2] = span_skip(whole, cut + pieces[1].len);
    ck_assert_uint_eq(record_hash(5, pieces, 3), hash);
  }
  ck_assert_uint_ne(record_hash(6, &whole, 1), hash);
  bytes[4999] ^= 1;
  ck_assert_uint_ne(record_hash(5, &whole, 1), hash);
}
END_TEST

/* The hash is the published XXH3: a spool is readable by the next build of another compiler, on another processor. */
START_TEST(the_hash_is_the_one_on_disk) {
  struct span nothing = {(const uint8_t *)"", 0};
  ck_assert_uint_eq(record_hash(0, &nothing, 1), 0x2d06800538d394c2); /* XXH3_64bits of nothing */
}
END_TEST

START_TEST(a_segment_header_comes_back_and_any_changed_byte_is_seen) {
  uint8_t *room = malloc(RECORD_SEGMENT_SIZE);
  struct record_segment segment = {.sequence = 9, .tail = 4, .alignment = 512, .size_bytes = 64 << 20, .previous_end = 8192, .salt = 0xabcdef}, got;
  record_segment_encode(&segment, room);
  ck_assert_int_eq(record_segment_decode(&got, room), E_OK);
  ck_assert_uint_eq(got.sequence, 9);
  ck_assert_uint_eq(got.tail, 4);
  ck_assert_uint_eq(got.alignment, 512);
  ck_assert_uint_eq(got.size_bytes, 64 << 20);
  ck_assert_uint_eq(got.previous_end, 8192);
  ck_assert_uint_eq(got.salt, 0xabcdef);
  for (size_t at = 0; at < RECORD_SEGMENT_SIZE; at++) {
    room[at] ^= 0x10;
    ck_assert_int_eq(record_segment_decode(&got, room), E_CORRUPT);
    room[at] ^= 0x10;
  }
  free(room);
}
END_TEST

static struct record_envelope some_envelope(void) {
  return (struct record_envelope){.sender = SPAN("bounce@example.net"),
                                  .envid = SPAN("QQ314"),
                                  .peer = SPAN("192.0.2.7"),
                                  .created_ms = 1764000000123,
                                  .session = 77,
                                  .ret = 2,
                                  .smtputf8 = true,
                                  .leading_dot = true,
                                  .require_tls = true,
                                  .recipients = 2};
}

START_TEST(an_envelope_and_its_recipients_come_back) {
  uint8_t room[512];
  struct fmt out = fmt_over(room, sizeof room);
  struct record_envelope envelope = some_envelope(), got;
  struct record_recipient first = {
      .address = SPAN("a@example.org"), .orcpt = SPAN("rfc822;a@example.org"), .notify = 3, .index = 0, .attempts = 1, .due_ms = 55};
  struct record_recipient second = {.address = SPAN("b@example.org"), .index = 65535, .attempts = 65535, .due_ms = UINT64_MAX}, recipient;
  record_envelope_encode(&envelope, &out);
  ck_assert_uint_eq(out.len, record_envelope_size(&envelope));
  record_recipient_encode(&first, &out);
  ck_assert_uint_eq(out.len, record_envelope_size(&envelope) + record_recipient_size(&first));
  record_recipient_encode(&second, &out);
  ck_assert(!out.overflow);
  struct span rest = fmt_span(&out);
  ck_assert_int_eq(record_envelope_decode(&got, &rest), E_OK);
  ck_assert(span_equal(got.sender, envelope.sender) && span_equal(got.envid, envelope.envid) && span_equal(got.peer, envelope.peer));
  ck_assert(got.created_ms == envelope.created_ms && got.session == 77 && got.ret == 2 && got.recipients == 2);
  ck_assert(got.smtputf8 && !got.eight_bit && got.leading_dot && got.require_tls);
  ck_assert_int_eq(record_recipient_decode(&recipient, &rest), E_OK);
  ck_assert(span_equal(recipient.address, first.address) && span_equal(recipient.orcpt, first.orcpt));
  ck_assert(recipient.notify == 3 && recipient.index == 0 && recipient.attempts == 1 && recipient.due_ms == 55);
  ck_assert_int_eq(record_recipient_decode(&recipient, &rest), E_OK);
  ck_assert(span_equal(recipient.address, second.address) && recipient.orcpt.len == 0 && recipient.notify == 0);
  ck_assert(recipient.index == 65535 && recipient.attempts == 65535 && recipient.due_ms == UINT64_MAX);
  ck_assert_uint_eq(rest.len, 0);
}
END_TEST

START_TEST(an_envelope_cut_anywhere_is_refused_and_the_reader_stays) {
  uint8_t room[512];
  struct fmt out = fmt_over(room, sizeof room);
  struct record_envelope envelope = some_envelope(), got;
  struct record_recipient recipient = {.address = SPAN("a@example.org"), .orcpt = SPAN("x")}, taken;
  record_envelope_encode(&envelope, &out);
  size_t head = out.len;
  record_recipient_encode(&recipient, &out);
  for (size_t len = 0; len < out.len; len++) {
    struct span rest = span_of(room, len);
    int error = record_envelope_decode(&got, &rest);
    ck_assert_int_eq(error, len < head ? E_CORRUPT : E_OK);
    ck_assert_uint_eq(rest.len, len < head ? len : len - head);
    if (error == E_OK) ck_assert_int_eq(record_recipient_decode(&taken, &rest), E_CORRUPT);
  }
  room[1] |= 32; /* a flag nobody knows */
  struct span rest = fmt_span(&out);
  ck_assert_int_eq(record_envelope_decode(&got, &rest), E_CORRUPT);
  room[1] &= 7;
  room[0] = 2; /* a version nobody knows */
  ck_assert_int_eq(record_envelope_decode(&got, &rest), E_CORRUPT);
}
END_TEST

START_TEST(a_string_that_is_too_long_overflows) {
  size_t size = 70000;
  uint8_t *text = calloc(1, size), *room = malloc(2 * size);
  struct fmt out = fmt_over(room, 2 * size);
  struct record_recipient recipient = {.address = span_of(text, 65535)};
  record_recipient_encode(&recipient, &out);
  ck_assert(!out.overflow);
  recipient.address.len = 65536;
  record_recipient_encode(&recipient, &out);
  ck_assert(out.overflow);
  free(text);
  free(room);
}
END_TEST

START_TEST(an_outcome_comes_back) {
  uint8_t room[RECORD_OUTCOME_SIZE + 1];
  struct record_outcome outcome = {.kind = RECORD_DEFERRED, .id = 0x8000000000000001, .recipient = 999, .attempts = 3, .due_ms = 1764000000123}, got;
  record_outcome_encode(&outcome, room);
  ck_assert_int_eq(record_outcome_decode(&got, span_of(room, RECORD_OUTCOME_SIZE)), E_OK);
  ck_assert(got.kind == RECORD_DEFERRED && got.id == outcome.id && got.recipient == 999 && got.attempts == 3 && got.due_ms == outcome.due_ms);
  ck_assert_int_eq(record_outcome_decode(&got, span_of(room, RECORD_OUTCOME_SIZE - 1)), E_CORRUPT);
  ck_assert_int_eq(record_outcome_decode(&got, span_of(room, RECORD_OUTCOME_SIZE + 1)), E_CORRUPT);
  for (unsigned kind = 0; kind < 256; kind++) {
    room[0] = (uint8_t)kind;
    ck_assert_int_eq(record_outcome_decode(&got, span_of(room, RECORD_OUTCOME_SIZE)),
                     kind >= RECORD_DELIVERED && kind <= RECORD_OWED ? E_OK : E_CORRUPT);
  }
  room[0] = RECORD_FAILED;
  room[3] = 1;
  ck_assert_int_eq(record_outcome_decode(&got, span_of(room, RECORD_OUTCOME_SIZE)), E_CORRUPT);
}
END_TEST

int main(void) {
  TCase *header = tcase_create("header"), *envelope = tcase_create("envelope");
  tcase_add_test(header, a_header_comes_back_as_it_was);
  tcase_add_test(header, any_changed_byte_of_a_header_is_seen);
  tcase_add_test(header, a_header_of_another_segment_or_cut_short_does_not_count);
  tcase_add_test(header, sizes_have_to_fit);
  tcase_add_test(header, the_hash_depends_on_bytes_and_salt_and_not_on_cuts);
  tcase_add_test(header, the_hash_is_the_one_on_disk);
  tcase_add_test(header, a_segment_header_comes_back_and_any_changed_byte_is_seen);
  tcase_add_test(envelope, an_envelope_and_its_recipients_come_back);
  tcase_add_test(envelope, an_envelope_cut_anywhere_is_refused_and_the_reader_stays);
  tcase_add_test(envelope, a_string_that_is_too_long_overflows);
  tcase_add_test(envelope, an_outcome_comes_back);
  return unit_main("queue/spool/record", (TCase *[]){header, envelope}, 2);
}
