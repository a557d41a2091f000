/*
 * Any bytes, read as each kind of record: either E_CORRUPT, or what is read is written back as the same bytes. The first byte chooses the kind; the checksum
 * of headers is made right first, as no fuzzer would guess it.
 */
#include <stdlib.h>

#include "core/base/error.h"
#include "queue/spool/record.h"

static void check_header(const uint8_t *bytes, size_t len) {
  uint8_t room[RECORD_HEADER_SIZE], again[RECORD_HEADER_SIZE];
  struct record_header header;
  uint64_t hash;
  if (len < RECORD_HEADER_SIZE) {
    must(record_header_decode(&header, bytes, len, 0, &hash) == E_CORRUPT);
    return;
  }
  memcpy(room, bytes, sizeof room);
  uint32_t segment = (uint32_t)(room[8] | room[9] << 8);
  uint64_t sealed = room[40];
  if ((bytes[7] & 1) == 0) record_header_seal(room, segment, sealed); /* else as it is */
  if (record_header_decode(&header, room, sizeof room, segment, &hash) != E_OK) return;
  must((uint64_t)RECORD_HEADER_SIZE + header.envelope_size + header.content_size <= header.length && header.length <= RECORD_LENGTH_MAX);
  record_header_encode(&header, again);
  record_header_seal(again, header.segment, hash);
  must(memcmp(room, again, sizeof room) == 0);
}

static void check_envelope(const uint8_t *bytes, size_t len) {
  struct span rest = span_of(bytes, len);
  struct record_envelope envelope;
  if (record_envelope_decode(&envelope, &rest) != E_OK) {
    must(rest.len == len);
    return;
  }
  uint8_t *room = malloc(len + 1);
  struct fmt out = fmt_over(room, len);
  record_envelope_encode(&envelope, &out);
  must(out.len == len - rest.len && out.len == record_envelope_size(&envelope));
  struct record_recipient recipient;
  for (uint32_t i = 0; i < envelope.recipients && record_recipient_decode(&recipient, &rest) == E_OK; i++) record_recipient_encode(&recipient, &out);
  must(!out.overflow && out.len == len - rest.len && memcmp(room, bytes, out.len) == 0);
  free(room);
}

static void check_outcome(const uint8_t *bytes, size_t len) {
  struct record_outcome outcome;
  uint8_t again[RECORD_OUTCOME_SIZE];
  if (record_outcome_decode(&outcome, span_of(bytes, len)) != E_OK) return;
  record_outcome_encode(&outcome, again);
  must(len == sizeof again && memcmp(bytes, again, len) == 0);
}

/* A block of fixed bytes with what the input says at its beginning. */
static void check_segment(const uint8_t *bytes, size_t len) {
  static uint8_t room[RECORD_SEGMENT_SIZE], again[RECORD_SEGMENT_SIZE];
  struct record_segment segment = {.sequence = 3, .tail = 2, .alignment = 512, .size_bytes = 65536, .previous_end = 8192, .salt = 1};
  record_segment_encode(&segment, room);
  for (size_t i = 0; i + 1 < len; i += 2) room[bytes[i] | (i % 16 == 0 ? 0x800 : 0)] ^= bytes[i + 1];
  if (record_segment_decode(&segment, room) != E_OK) return;
  record_segment_encode(&segment, again);
  must(memcmp(room, again, sizeof room) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
  static void (*const check[4])(const uint8_t *, size_t) = {check_header, check_envelope, check_outcome, check_segment};
  if (len > 0) check[bytes[0] & 3](bytes + 1, len - 1);
  return 0;
}
