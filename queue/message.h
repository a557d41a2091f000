/*
 * message: an accepted message between its 250 and its last outcome: envelope, recipients, where its bytes are.
 *
 * Owner: the shard that received it, for all its life; another shard may read it (not the recipients' state) while it works on a job of it. One block of memory holds it all,
 * 176 bytes and its addresses for the usual single recipient: there may be millions, so every byte counts; the content is elsewhere: in memory (content) until the first attempt is over, then on disk only.
 */
#ifndef QUEUE_MESSAGE_H
#define QUEUE_MESSAGE_H

#include "core/base/slab.h"
#include "core/base/wheel.h"
#include "queue/content.h"
#include "queue/domain_queue.h"
#include "queue/spool/log.h"
#include "queue/spool/record.h"

enum recipient_state {
  RECIPIENT_INVALID = 0,
  RECIPIENT_WAITING, /* for its due time */
  RECIPIENT_READY,   /* given out: waits for its site, or is in an attempt */
  RECIPIENT_DONE,
};

struct recipient {
  struct recipient *next, *prev; /* of WAITING: in its domain's queue */
  struct domain_queue *domain;   /* of its own shard; NULL until the schedule has the message */
  uint64_t due_ms;               /* wall clock, of WAITING */
  uint32_t address_at;
  uint16_t address_len;
  uint16_t orcpt_len; /* it stands behind the address */
  uint16_t attempts;
  uint16_t index;    /* its number when the message came: outcomes name it (recipients may be fewer after a restart) */
  uint16_t at;       /* its place in the message */
  uint8_t notify;    /* as in record.h */
  uint8_t state : 6; /* enum recipient_state */
  bool held : 1;     /* of WAITING: not for its due time, but because its domain or site is suspended */
  bool ordered : 1;  /* an operator's order to end it stood when it was loaded, and is not carried out yet */
};

struct message {
  uint64_t id;
  uint64_t created_ms; /* wall clock */
  uint64_t session;
  struct spool_place place;    /* of the message record; segment 0: not on disk */
  struct spool_place *parts;   /* of long messages; owned (malloc) */
  struct content *content;     /* the message record in memory, or NULL; with message_content and message_set_content */
  struct message *next, *prev; /* in one of the schedule's lists */
  struct timer timer;          /* of the earliest WAITING recipient */
  struct schedule *schedule;   /* whose it is, once schedule_add took it */
  struct load *loads;          /* reads of the content under way */
  uint32_t size;               /* of the content, wire form, without the final ".CRLF" */
  uint32_t parts_count;
  uint32_t oldest; /* segment in which anything of it lies; 0: not on disk */
  uint16_t recipients;
  uint16_t live;  /* recipients not DONE */
  uint16_t jobs;  /* jobs of the outgoing side that name it, and a move */
  uint16_t reads; /* of it, under way */
  uint16_t sender_len, envid_len, peer_len;
  /* Others may read these five, which never change; so they share no byte with those that do. */
  bool smtputf8 : 1, eight_bit : 1, leading_dot : 1, require_tls : 1, tls_optional : 1;
  uint8_t ret;
  bool storing : 1; /* an append of it is under way */
  bool untold : 1;  /* it was restored, and its Reception event may be missing */
  bool moving : 1;  /* something of it is being written anew */
  bool late : 1;    /* it was taken up after the start, and lies where it lay then */
  bool early : 1;   /* the timer may come before anybody is due: whoever it was set for waits no more */
  struct recipient recipient[];
};

/* Builds a message from an encoded envelope (record.h); NULL without memory, or if the envelope is damaged. State of all recipients: WAITING. */
struct message *message_new(struct slab *slab, uint64_t id, struct span envelope);
void message_free(struct slab *slab, struct message *message);
/*
 * For a message as its record says: an outcome of this message that stands behind the record. Ends a recipient, sets its next try, or marks it;
 * of a recipient that the record does not have, or that has ended, or by a deferral of before the record, it changes nothing.
 */
void message_outcome(struct message *message, const struct record_outcome *outcome);
/* `recipient`: its number in the message, not in the record; `marks` of RECORD_MARKS. */
void message_mark(struct message *message, uint16_t recipient, uint8_t marks);

/*
 * The content comes back from disk (on the message's own shard) while a job of the message may be looked at on another: whoever sees the pointer
 * sees what it points to. It goes away only when no job is left.
 */
static inline struct content *message_content(const struct message *message) { return __atomic_load_n(&message->content, __ATOMIC_ACQUIRE); }
static inline void message_set_content(struct message *message, struct content *content) {
  __atomic_store_n(&message->content, content, __ATOMIC_RELEASE);
}

struct span message_sender(const struct message *message);
struct span message_envid(const struct message *message);
struct span message_peer(const struct message *message);
struct span message_address(const struct message *message, unsigned recipient);
struct span message_orcpt(const struct message *message, unsigned recipient);
/*
 * What a record or outcome written now says of when it is due: never tried, or suspended (its own due time is then that of its end): long ago, and a start gives it out
 * at once, to find it suspended still, or not.
 */
static inline uint64_t recipient_due_on_disk(const struct recipient *recipient) {
  return recipient->due_ms == 0 || recipient->held ? RECORD_DUE_OLD : recipient->due_ms;
}
/* Behind the last '@'. */
struct span message_domain(const struct message *message, unsigned recipient);

/* The record is whole: pads it and writes its header into the room that its head begins with. `parts` as in struct record_header. */
void message_end_record(struct content *content, enum record_type type, uint64_t id, uint32_t parts, unsigned padding);

/* As the head of a new copy it says of recipients that were never tried that they were due long ago (RECORD_DUE_OLD): record_is_new does not hold of it. Appends record header room, envelope and the recipients that are not DONE: the head of a record of this message as it is now. False: no memory. */
bool message_write_head(struct slab *slab, const struct message *message, struct content *content);

#endif
