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
  uint64_t id;            /* of the message; 0 for outcomes */
};

/* Writes the header with a zero checksum. `room` has RECORD_HEADER_SIZE bytes. */
void record_header_encode(const struct record_header *header, uint8_t *room);
/* Sets segment and checksum in an encoded header; `hash` is over everything behind the header, padding included (record_hash_...). */
void record_header_seal(uint8_t *room, uint32_t segment, uint64_t hash);
/* E_CORRUPT unless magic, version, bounds and header checksum are right and `segment` is the expected one; `hash` gets the stored hash of what follows. */
must_check int record_header_decode(struct record_header *header, const uint8_t *bytes, size_t len, uint32_t segment, uint64_t *hash);

/*
 * The envelope of a message, as the queue keeps it. Recipients that are finished are left out when a message is written anew. Strings are spans into the encoded bytes.
 */
struct record_recipient {
  struct span address;
  struct span orcpt;
  uint8_t notify;
  uint16_t index;         /* its number in the message: outcomes name it */
  uint16_t attempts;
  uint64_t due_ms;        /* wall clock; 0: at once */
};
struct record_envelope {
  struct span sender;
  struct span envid;
  struct span peer;       /* text: where it came from, for events ("192.0.2.7") */
  uint64_t created_ms;    /* wall clock */
  uint64_t session;
  uint8_t ret;
  bool smtputf8, eight_bit, leading_dot;
  uint32_t recipients;
};
/* An upper bound for the encoded size without recipients, and of each recipient. */
size_t record_envelope_size(const struct record_envelope *envelope);
size_t record_recipient_size(const struct record_recipient *recipient);
void record_envelope_encode(const struct record_envelope *envelope, struct fmt *out);
void record_recipient_encode(const struct record_recipient *recipient, struct fmt *out); /* exactly envelope->recipients times, after it */
/* Sticky reader: *bytes moves on. E_CORRUPT on anything not written by the above. */
must_check int record_envelope_decode(struct record_envelope *envelope, struct span *bytes);
must_check int record_recipient_decode(struct record_recipient *recipient, struct span *bytes);

enum record_outcome_kind { RECORD_OUTCOME_INVALID = 0, RECORD_DELIVERED = 1, RECORD_FAILED = 2, RECORD_DEFERRED = 3, RECORD_EXPIRED = 4 };
struct record_outcome {
  enum record_outcome_kind kind;
  uint64_t id;            /* message */
  uint16_t recipient;     /* index */
  uint16_t attempts;      /* made so far */
  uint64_t due_ms;        /* next try, of DEFERRED */
};
#define RECORD_OUTCOME_SIZE 24
void record_outcome_encode(const struct record_outcome *outcome, uint8_t *room);
must_check int record_outcome_decode(struct record_outcome *outcome, struct span bytes);

#endif
