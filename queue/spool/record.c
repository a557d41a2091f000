#include "queue/spool/record.h"

#if defined(__x86_64__) && __has_include(<xxh_x86dispatch.h>)
#define XXH_STATIC_LINKING_ONLY
#include <xxh_x86dispatch.h> /* the same hash with the vector instructions this processor has: 85 ns instead of 370 for 4 KiB */
#else
#define XXH_STATIC_LINKING_ONLY /* for a hash state on the stack */
#include <xxhash.h>
#endif

#include "core/base/error.h"

/* ---- little-endian numbers at a fixed place ---- */

static void put16(uint8_t *at, uint16_t value) {
  at[0] = (uint8_t)value;
  at[1] = (uint8_t)(value >> 8);
}
static void put32(uint8_t *at, uint32_t value) {
  put16(at, (uint16_t)value);
  put16(at + 2, (uint16_t)(value >> 16));
}
static void put64(uint8_t *at, uint64_t value) {
  put32(at, (uint32_t)value);
  put32(at + 4, (uint32_t)(value >> 32));
}
static uint16_t get16(const uint8_t *at) { return (uint16_t)(at[0] | at[1] << 8); }
static uint32_t get32(const uint8_t *at) { return get16(at) | (uint32_t)get16(at + 2) << 16; }
static uint64_t get64(const uint8_t *at) { return get32(at) | (uint64_t)get32(at + 4) << 32; }

static bool all_zero(const uint8_t *at, size_t len) {
  for (size_t i = 0; i < len; i++)
    if (at[i] != 0) return false;
  return true;
}

/* ---- record header: offsets of its members ---- */

#define RECORD_MAGIC 0x31635052 /* "RPc1" */
#define RECORD_VERSION 1
enum {
  AT_MAGIC = 0,
  AT_VERSION = 4,
  AT_TYPE = 5,
  AT_ZERO_A = 6, /* 2 bytes */
  AT_SEGMENT = 8,
  AT_LENGTH = 12,
  AT_ENVELOPE = 16,
  AT_CONTENT = 20,
  AT_PARTS = 24,
  AT_ZERO_B = 28, /* 4 bytes */
  AT_ID = 32,
  AT_HASH = 40,
  AT_ZERO_C = 48, /* 8 bytes */
  AT_CHECKSUM = 56,
};

static bool header_is_legal(const struct record_header *header) {
  if (header->type < RECORD_MESSAGE || header->type > RECORD_OUTCOMES) return false;
  if (header->length == 0 || header->length > RECORD_LENGTH_MAX || header->length % RECORD_UNIT != 0) return false;
  if ((uint64_t)RECORD_HEADER_SIZE + header->envelope_size + header->content_size > header->length) return false;
  return header->type != RECORD_OUTCOMES || (header->id == 0 && header->envelope_size == 0 && header->parts == 0);
}

void record_header_encode(const struct record_header *header, uint8_t *room) {
  must(header_is_legal(header));
  memset(room, 0, RECORD_HEADER_SIZE);
  put32(room + AT_MAGIC, RECORD_MAGIC);
  room[AT_VERSION] = RECORD_VERSION;
  room[AT_TYPE] = (uint8_t)header->type;
  put32(room + AT_SEGMENT, header->segment);
  put32(room + AT_LENGTH, header->length);
  put32(room + AT_ENVELOPE, header->envelope_size);
  put32(room + AT_CONTENT, header->content_size);
  put32(room + AT_PARTS, header->parts);
  put64(room + AT_ID, header->id);
}

void record_header_seal(uint8_t *room, uint32_t segment, uint64_t hash) {
  put32(room + AT_SEGMENT, segment);
  put64(room + AT_HASH, hash);
  put64(room + AT_CHECKSUM, XXH3_64bits(room, AT_CHECKSUM));
}

uint32_t record_header_length(const uint8_t *room) { return get32(room + AT_LENGTH); }

int record_header_decode(struct record_header *header, const uint8_t *bytes, size_t len, uint32_t segment, uint64_t *hash) {
  if (len < RECORD_HEADER_SIZE || get32(bytes + AT_MAGIC) != RECORD_MAGIC || bytes[AT_VERSION] < RECORD_VERSION) return E_CORRUPT;
  if (get32(bytes + AT_SEGMENT) != segment || get64(bytes + AT_CHECKSUM) != XXH3_64bits(bytes, AT_CHECKSUM)) return E_CORRUPT;
  if (bytes[AT_VERSION] > RECORD_VERSION) return E_UNSUPPORTED;
  if (!all_zero(bytes + AT_ZERO_A, 2) || !all_zero(bytes + AT_ZERO_B, 4) || !all_zero(bytes + AT_ZERO_C, 8)) return E_CORRUPT;
  *header = (struct record_header){
      .type = (enum record_type)bytes[AT_TYPE],
      .segment = segment,
      .length = get32(bytes + AT_LENGTH),
      .envelope_size = get32(bytes + AT_ENVELOPE),
      .content_size = get32(bytes + AT_CONTENT),
      .parts = get32(bytes + AT_PARTS),
      .id = get64(bytes + AT_ID),
  };
  *hash = get64(bytes + AT_HASH);
  return header_is_legal(header) ? E_OK : E_CORRUPT;
}

uint64_t record_hash(uint64_t salt, const struct span *pieces, unsigned count) {
  if (count == 1) return XXH3_64bits_withSeed(pieces[0].at, pieces[0].len, salt);
  XXH3_state_t state;
  XXH3_INITSTATE(&state); /* else a seed left on the stack by an earlier call makes the reset take the rest of the leftovers for its secret */
  XXH3_64bits_reset_withSeed(&state, salt);
  for (unsigned i = 0; i < count; i++) XXH3_64bits_update(&state, pieces[i].at, pieces[i].len);
  return XXH3_64bits_digest(&state);
}

/* ---- the first block of a segment ---- */

#define SEGMENT_MAGIC 0x6c6f6f7073676e52 /* "Rngspool" */
#define SEGMENT_VERSION 1
enum {
  SEGMENT_AT_VERSION = 8,
  SEGMENT_AT_SEQUENCE = 12,
  SEGMENT_AT_TAIL = 16,
  SEGMENT_AT_ALIGNMENT = 20,
  SEGMENT_AT_SIZE = 24,
  SEGMENT_AT_PREVIOUS_END = 32,
  SEGMENT_AT_SALT = 40,
  SEGMENT_AT_ZERO = 48, /* up to the checksum: all that differs between two headers is within one sector */
  SEGMENT_AT_CHECKSUM = 504,
  SEGMENT_AT_REST = 512, /* zero */
};

static bool segment_is_legal(const struct record_segment *segment) {
  if (segment->alignment < RECORD_UNIT || segment->alignment > RECORD_SEGMENT_SIZE || (segment->alignment & (segment->alignment - 1)) != 0)
    return false;
  if (segment->size_bytes <= RECORD_SEGMENT_SIZE || segment->tail > segment->sequence) return false;
  if (segment->sequence != 0 && segment->tail == 0) return false;
  return segment->previous_end == 0 || segment->previous_end >= RECORD_SEGMENT_SIZE;
}

void record_segment_encode(const struct record_segment *segment, uint8_t *room) {
  must(segment_is_legal(segment));
  memset(room, 0, RECORD_SEGMENT_SIZE);
  put64(room, SEGMENT_MAGIC);
  put32(room + SEGMENT_AT_VERSION, SEGMENT_VERSION);
  put32(room + SEGMENT_AT_SEQUENCE, segment->sequence);
  put32(room + SEGMENT_AT_TAIL, segment->tail);
  put32(room + SEGMENT_AT_ALIGNMENT, segment->alignment);
  put64(room + SEGMENT_AT_SIZE, segment->size_bytes);
  put64(room + SEGMENT_AT_PREVIOUS_END, segment->previous_end);
  put64(room + SEGMENT_AT_SALT, segment->salt);
  put64(room + SEGMENT_AT_CHECKSUM, XXH3_64bits(room, SEGMENT_AT_CHECKSUM));
}

int record_segment_decode(struct record_segment *segment, const uint8_t *room) {
  if (get64(room) != SEGMENT_MAGIC || get32(room + SEGMENT_AT_VERSION) < SEGMENT_VERSION) return E_CORRUPT;
  if (get64(room + SEGMENT_AT_CHECKSUM) != XXH3_64bits(room, SEGMENT_AT_CHECKSUM)) return E_CORRUPT;
  if (get32(room + SEGMENT_AT_VERSION) > SEGMENT_VERSION) return E_UNSUPPORTED;
  if (!all_zero(room + SEGMENT_AT_ZERO, SEGMENT_AT_CHECKSUM - SEGMENT_AT_ZERO)) return E_CORRUPT;
  if (!all_zero(room + SEGMENT_AT_REST, RECORD_SEGMENT_SIZE - SEGMENT_AT_REST)) return E_CORRUPT;
  *segment = (struct record_segment){
      .sequence = get32(room + SEGMENT_AT_SEQUENCE),
      .tail = get32(room + SEGMENT_AT_TAIL),
      .alignment = get32(room + SEGMENT_AT_ALIGNMENT),
      .size_bytes = get64(room + SEGMENT_AT_SIZE),
      .previous_end = get64(room + SEGMENT_AT_PREVIOUS_END),
      .salt = get64(room + SEGMENT_AT_SALT),
  };
  return segment_is_legal(segment) ? E_OK : E_CORRUPT;
}

/* ---- envelope: members one after the other, strings behind their length ---- */

static void append16(struct fmt *out, uint16_t value) {
  uint8_t bytes[2];
  put16(bytes, value);
  fmt_bytes(out, bytes, sizeof bytes);
}
static void append32(struct fmt *out, uint32_t value) {
  uint8_t bytes[4];
  put32(bytes, value);
  fmt_bytes(out, bytes, sizeof bytes);
}
static void append64(struct fmt *out, uint64_t value) {
  uint8_t bytes[8];
  put64(bytes, value);
  fmt_bytes(out, bytes, sizeof bytes);
}
static void append_string(struct fmt *out, struct span string) {
  if (string.len > UINT16_MAX) {
    out->overflow = true;
    return;
  }
  append16(out, (uint16_t)string.len);
  fmt_put(out, string);
}

/* The reader: takes from the front; once something was missing, it gives zeros and stays `short_of`. */
struct taker {
  struct span rest;
  bool short_of;
};

static const uint8_t *take(struct taker *from, size_t len) {
  static const uint8_t zeros[8];
  if (from->short_of || from->rest.len < len) {
    from->short_of = true;
    return zeros;
  }
  const uint8_t *at = from->rest.at;
  from->rest = span_skip(from->rest, len);
  return at;
}
static uint8_t take8(struct taker *from) { return *take(from, 1); }
static uint16_t take16(struct taker *from) { return get16(take(from, 2)); }
static uint32_t take32(struct taker *from) { return get32(take(from, 4)); }
static uint64_t take64(struct taker *from) { return get64(take(from, 8)); }
static struct span take_string(struct taker *from) {
  size_t len = take16(from);
  const uint8_t *at = take(from, len);
  return from->short_of ? (struct span){NULL, 0} : span_of(at, len);
}

#define ENVELOPE_VERSION 1
enum { FLAG_SMTPUTF8 = 1, FLAG_EIGHT_BIT = 2, FLAG_LEADING_DOT = 4, FLAG_REQUIRE_TLS = 8, FLAG_TLS_OPTIONAL = 16, FLAGS_ALL = 31 };

size_t record_envelope_size(const struct record_envelope *envelope) {
  return 1 + 1 + 1 + 8 + 8 + 4 + 2 + envelope->sender.len + 2 + envelope->envid.len + 2 + envelope->peer.len;
}

size_t record_recipient_size(const struct record_recipient *recipient) {
  return 1 + 2 + 2 + 8 + 2 + recipient->address.len + 2 + recipient->orcpt.len;
}

void record_envelope_encode(const struct record_envelope *envelope, struct fmt *out) {
  fmt_char(out, ENVELOPE_VERSION);
  fmt_char(out, (char)((envelope->smtputf8 ? FLAG_SMTPUTF8 : 0) | (envelope->eight_bit ? FLAG_EIGHT_BIT : 0) |
                       (envelope->leading_dot ? FLAG_LEADING_DOT : 0) | (envelope->require_tls ? FLAG_REQUIRE_TLS : 0) |
                       (envelope->tls_optional ? FLAG_TLS_OPTIONAL : 0)));
  fmt_char(out, (char)envelope->ret);
  append64(out, envelope->created_ms);
  append64(out, envelope->session);
  append32(out, envelope->recipients);
  append_string(out, envelope->sender);
  append_string(out, envelope->envid);
  append_string(out, envelope->peer);
}

void record_recipient_encode(const struct record_recipient *recipient, struct fmt *out) {
  fmt_char(out, (char)recipient->notify);
  append16(out, recipient->index);
  append16(out, recipient->attempts);
  append64(out, recipient->due_ms);
  append_string(out, recipient->address);
  append_string(out, recipient->orcpt);
}

int record_envelope_decode(struct record_envelope *envelope, struct span *bytes) {
  struct taker from = {*bytes, false};
  uint8_t version = take8(&from);
  uint8_t flags = take8(&from);
  *envelope = (struct record_envelope){.smtputf8 = (flags & FLAG_SMTPUTF8) != 0,
                                       .eight_bit = (flags & FLAG_EIGHT_BIT) != 0,
                                       .leading_dot = (flags & FLAG_LEADING_DOT) != 0,
                                       .require_tls = (flags & FLAG_REQUIRE_TLS) != 0,
                                       .tls_optional = (flags & FLAG_TLS_OPTIONAL) != 0};
  envelope->ret = take8(&from);
  envelope->created_ms = take64(&from);
  envelope->session = take64(&from);
  envelope->recipients = take32(&from);
  envelope->sender = take_string(&from);
  envelope->envid = take_string(&from);
  envelope->peer = take_string(&from);
  if (from.short_of || version != ENVELOPE_VERSION || (flags & ~FLAGS_ALL) != 0) return E_CORRUPT;
  *bytes = from.rest;
  return E_OK;
}

int record_recipient_decode(struct record_recipient *recipient, struct span *bytes) {
  struct taker from = {*bytes, false};
  recipient->notify = take8(&from);
  recipient->index = take16(&from);
  recipient->attempts = take16(&from);
  recipient->due_ms = take64(&from);
  recipient->address = take_string(&from);
  recipient->orcpt = take_string(&from);
  if (from.short_of) return E_CORRUPT;
  *bytes = from.rest;
  return E_OK;
}

/* ---- outcome: kind, three zero bytes, recipient, attempts, id, due ---- */

void record_outcome_encode(const struct record_outcome *outcome, uint8_t *room) {
  must(outcome->kind >= RECORD_DELIVERED && outcome->kind <= RECORD_OWED);
  memset(room, 0, RECORD_OUTCOME_SIZE);
  room[0] = (uint8_t)outcome->kind;
  put16(room + 4, outcome->recipient);
  put16(room + 6, outcome->attempts);
  put64(room + 8, outcome->id);
  put64(room + 16, outcome->due_ms);
}

int record_outcome_decode(struct record_outcome *outcome, struct span bytes) {
  if (bytes.len != RECORD_OUTCOME_SIZE || bytes.at[0] < RECORD_DELIVERED || bytes.at[0] > RECORD_OWED) return E_CORRUPT;
  if (!all_zero(bytes.at + 1, 3)) return E_CORRUPT;
  *outcome = (struct record_outcome){
      .kind = (enum record_outcome_kind)bytes.at[0],
      .recipient = get16(bytes.at + 4),
      .attempts = get16(bytes.at + 6),
      .id = get64(bytes.at + 8),
      .due_ms = get64(bytes.at + 16),
  };
  return E_OK;
}
