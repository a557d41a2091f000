/*
 * census: what a spool's records and outcomes, in the order of their replay, say of its messages: which are live, where their newest records are, and
 * how far each recipient is. For those who read a spool without running it: adoption, `ringpost spool`. Pure but for malloc.
 *
 * It follows the rules of FORMAT.md ("Within a commit...") as restore_schedule does. Its memory has a limit: a spool that does not fit is counted in
 * shares, by the ids of its messages, each with a reading of its own:
 *
 *   census_init(&census, limit, seed);
 *   do {
 *     census_begin(&census);
 *     ...                          // replay into census_record and census_outcome
 *     ... census_find, census_next ...
 *   } while (census_next_share(&census));
 *   census_fini(&census);
 *
 * Owner: the caller. Errors: without memory it ends the program, as a start does that cannot keep its own mail in mind.
 */
#ifndef QUEUE_SPOOL_CENSUS_H
#define QUEUE_SPOOL_CENSUS_H

#include "core/base/map.h"
#include "queue/spool/log.h"
#include "queue/spool/record.h"

struct census_recipient {
  uint64_t due_ms;
  uint16_t index; /* its number in the message */
  uint16_t attempts;
  bool done;
  uint8_t marks; /* of RECORD_MARKS */
  uint8_t kind;  /* enum record_outcome_kind of the last attempt or end; 0: nothing */
};

struct census_message {
  uint64_t id;
  struct spool_place place;  /* of the newest record; segment 0: only parts were found */
  struct spool_place *parts; /* of the newest of each; `parts_known` of them, those that were not found with segment 0 */
  uint32_t parts_known;
  uint32_t parts_count;  /* as the record says */
  uint64_t parts_bytes;  /* content of all parts */
  uint32_t content_size; /* of the record's own content */
  uint32_t stops;        /* orderly ones before its record; UINT32_MAX: something happened to it */
  uint16_t recipients;   /* in the order of the record's envelope */
  uint16_t live;         /* of them, not done */
  bool readable;         /* the envelope is; else it has no recipients here, and is live for ever */
  bool marked;           /* for the caller */
  struct census_recipient *recipient;
};

struct census {
  struct map by_id;
  uint64_t seed;
  uint64_t bytes, bytes_max;
  uint64_t share;      /* counted is who has these low bits of its hash, */
  unsigned share_bits; /* so many; 0: all */
  uint32_t stops;      /* orderly ones, so far */
};

/* `bytes_max`: what it may take, about; 0: no limit. */
void census_init(struct census *census, uint64_t bytes_max, uint64_t seed);
void census_fini(struct census *census);
/* Before each reading. */
void census_begin(struct census *census);
/* Goes on to the next share; false: there is none. */
bool census_next_share(struct census *census);

/* As the callbacks of struct spool_replay; `record` is whole and its header valid. */
void census_record(struct census *census, struct span record, struct spool_place place);
void census_outcome(struct census *census, struct span outcome);

/* NULL: not known, or of another share. */
struct census_message *census_find(const struct census *census, uint64_t id);
/* As map_next. */
struct census_message *census_next(const struct census *census, uint32_t *cursor);

/* There is a record of it, and not all of its recipients are done. */
bool census_is_live(const struct census_message *message);
/* All its parts were found. */
bool census_is_whole(const struct census_message *message);
/* Its Reception event is written for certain: something happened to it, or an orderly stop followed. Only after the last record. */
bool census_is_told(const struct census *census, const struct census_message *message);

#endif
