/*
 * record: the bytes of spool records (layout: FORMAT.md). Pure; encode and decode are each other's inverse, and decoding takes any bytes.
 *
 * A record is: header, envelope, content, zero padding; all numbers little-endian. A message longer than the memory it may take has its content in several
 * RECORD_PART records of the same id, numbered from 0, written before its RECORD_MESSAGE, whose own content is the last piece and which says how many parts there are.
 */
#ifndef QUEUE_SPOOL_RECORD_H
#define QUEUE_SPOOL_RECORD_H

#include "core/base/fmt.h"
#include "core/base/must.h"
#include "core/base/span.h"

#define RECORD_HEADER_SIZE 64
#define RECORD_UNIT 512              /* a record's length is a multiple of this */
#define RECORD_LENGTH_MAX (4u << 20) /* bytes, with header and padding */

enum record_type {
  RECORD_INVALID = 0,
  RECORD_MESSAGE = 1,
  RECORD_PART = 2,
  RECORD_OUTCOMES = 3, /* a group of outcomes, written by the log itself */
};

struct record_header {
  enum record_type type;
  uint32_t segment;       /* sequence number of the segment it was written for: leftovers of a recycled segment do not count. Set by the log */
  uint32_t length;        /* of the whole record with padding; a multiple of 512 */
  uint32_t envelope_size; /* bytes, right behind the header */
  uint32_t content_size;  /* bytes, right behind the envelope */
  uint32_t parts;         /* of a message: how many parts came before; of a part: its number */
  uint64_t id;            /* of the message; 0 for outcomes, which have no envelope and no parts either */
};

/* Writes the header with a zero checksum. `room` has RECORD_HEADER_SIZE bytes. The header must be legal: a type, a length within bounds that holds the rest. */
void record_header_encode(const struct record_header *header, uint8_t *room);
/* Sets segment and checksum in an encoded header; `hash` is record_hash over everything behind the header, padding included. */
void record_header_seal(uint8_t *room, uint32_t segment, uint64_t hash);
/* The length in an encoded header, sealed or not: for our own, just encoded; says nothing about bytes from disk. */
uint32_t record_header_length(const uint8_t *room);
/*
 * E_CORRUPT unless magic, version, bounds and header checksum are right and `segment` is the expected one; `hash` gets the stored hash of what follows.
 * E_UNSUPPORTED: whole, and of a version that is newer than this program. Only the header is read: that all of the record is there, its length tells.
 */
must_check int record_header_decode(struct record_header *header, const uint8_t *bytes, size_t len, uint32_t segment, uint64_t *hash);
/* Over the pieces one after the other; cutting them differently gives the same. `salt` is the segment's: bytes written under another never count. */
uint64_t record_hash(uint64_t salt, const struct span *pieces, unsigned count);

/* The first block of a segment. A segment that is ready to be used and holds nothing has sequence 0. */
#define RECORD_SEGMENT_SIZE 4096
struct record_segment {
  uint32_t sequence;
  uint32_t tail;         /* the oldest sequence that still counted when this segment was begun; at most `sequence` */
  uint32_t alignment;    /* of records: 512 or a larger power of two, at most 4096 */
  uint64_t size_bytes;   /* of the file */
  uint64_t previous_end; /* offset where the records of sequence - 1 end; 0: there was none */
  uint64_t salt;         /* seeds the hash of this segment's records; new random bits each time the file is used */
};
/* `room` has RECORD_SEGMENT_SIZE bytes, all of which are written. */
void record_segment_encode(const struct record_segment *segment, uint8_t *room);
/* E_CORRUPT: no header block. E_UNSUPPORTED: a whole one of a version that is newer than this program: the file is not to be touched. */
must_check int record_segment_decode(struct record_segment *segment, const uint8_t *room);

#define RECORD_NOTIFY 0x0f
#define RECORD_WARNED_BIT 0x80 /* the sender has been told that it takes long */
#define RECORD_OWED_BIT 0x40   /* it has failed, and the event of that is written; what is left is to tell the sender */
#define RECORD_MARKS (RECORD_WARNED_BIT | RECORD_OWED_BIT)
#define RECORD_DUE_OLD 1 /* ms; due time of a recipient that was never tried, in a record that was written anew */

/*
 * The envelope of a message, as the queue keeps it. Recipients that are finished are left out when a message is written anew. Strings are spans into the encoded bytes.
 */
struct record_recipient {
  struct span address;
  struct span orcpt;
  uint8_t notify; /* RECORD_NOTIFY: what the sender asked for (RFC 3461); RECORD_MARKS */
  uint16_t index; /* its number in the message: outcomes name it */
  uint16_t attempts;
  uint64_t due_ms; /* wall clock; 0: at once */
};
struct record_envelope {
  struct span sender;
  struct span envid;
  struct span peer;    /* text: where it came from, for events ("192.0.2.7") */
  uint64_t created_ms; /* wall clock */
  uint64_t session;
  uint8_t ret;
  bool smtputf8, eight_bit, leading_dot;
  bool require_tls, tls_optional; /* RFC 8689: REQUIRETLS; TLS-Required: No. Not both */
  uint32_t recipients;
};
/* The encoded size without recipients, and of each recipient. */
size_t record_envelope_size(const struct record_envelope *envelope);
size_t record_recipient_size(const struct record_recipient *recipient);
/* Strings have at most 65535 bytes: a longer one sets out->overflow. */
void record_envelope_encode(const struct record_envelope *envelope, struct fmt *out);
void record_recipient_encode(const struct record_recipient *recipient, struct fmt *out); /* exactly envelope->recipients times, after it */
/* Sticky reader: *bytes moves on. E_CORRUPT on anything not written by the above. */
must_check int record_envelope_decode(struct record_envelope *envelope, struct span *bytes);
must_check int record_recipient_decode(struct record_recipient *recipient, struct span *bytes);

enum record_outcome_kind {
  RECORD_OUTCOME_INVALID = 0,
  RECORD_DELIVERED = 1,
  RECORD_FAILED = 2,
  RECORD_DEFERRED = 3,
  RECORD_EXPIRED = 4,
  RECORD_TOLD = 5,
  RECORD_WARNED = 6,
  RECORD_OWED = 7
};
/* What such an outcome adds to the recipient's `notify`, and that is all it does. 0: it is of another kind. */
static inline uint8_t record_outcome_mark(enum record_outcome_kind kind) {
  return kind == RECORD_WARNED ? RECORD_WARNED_BIT : kind == RECORD_OWED ? RECORD_OWED_BIT : 0;
}
/* Nothing comes after it for this recipient. */
static inline bool record_outcome_is_end(enum record_outcome_kind kind) {
  return kind == RECORD_DELIVERED || kind == RECORD_FAILED || kind == RECORD_EXPIRED;
}
/* As it came: neither tried nor written anew since. `first` recipient of a record. */
static inline bool record_is_new(uint16_t first_attempts, uint64_t first_due_ms) { return first_attempts == 0 && first_due_ms == 0; }

struct record_outcome {
  enum record_outcome_kind kind;
  uint64_t id;        /* message; 0 of TOLD: an orderly stop, all messages before it had their Reception event */
  uint16_t recipient; /* index */
  uint16_t attempts;  /* made so far */
  uint64_t due_ms;    /* next try, of DEFERRED */
};
#define RECORD_OUTCOME_SIZE 24
void record_outcome_encode(const struct record_outcome *outcome, uint8_t *room);
must_check int record_outcome_decode(struct record_outcome *outcome, struct span bytes);

#endif
