/*
 * submit: a message on its way in: envelope, head, content, and the steps from the end of its data to its place in the schedule.
 *
 *   submit_begin (MAIL) -> submit_recipient (RCPT).. -> submit_data (DATA) -> submit_content.. -> submit_end -> stored -> done() -> schedule
 *
 * Owner: one shard. Content longer than SUBMIT_PART_CHUNKS chunks goes to disk in parts while it still comes in, so that a message of any size needs bounded memory.
 */
#ifndef NET_IN_SUBMIT_H
#define NET_IN_SUBMIT_H

#include "core/base/buffer.h"
#include "core/shard/shard.h"
#include "net/mail/header.h"
#include "net/smtp/server.h"
#include "queue/schedule.h"

#define SUBMIT_PART_CHUNKS 16    /* 1 MiB */
#define SUBMIT_PARTS_UNDER_WAY 2 /* writes of parts at once: then the sender has to wait */

struct submit_context { /* one per shard */
  struct shard *shard;
  struct slab *slab;
  struct spool *spool;
  struct schedule *schedule;
  struct span hostname;
  bool heeds_header;             /* TLS-Required is looked for: hosts may have something to prove */
  struct submission *with_parts; /* those that have something on disk and are no message yet */
  uint64_t last_id;
  uint64_t date_s; /* the second that `date` is of */
  uint8_t date[40];
  uint8_t date_len;
};

struct submission;
/* `error`: 0, or why the message is not stored. The submission is freed after the call. */
typedef void (*submit_done)(void *context, uint64_t context_tag, struct submission *submission, int error);
/* A part was written: room for more, or an error. */
typedef void (*submit_progress)(void *context, uint64_t context_tag);

struct submission {
  uint64_t id;
  uint64_t created_ms;
  uint64_t tag; /* of the session, for the calls back: it may be gone by then */
  uint64_t session;
  struct netaddr peer;
  uint8_t peer_text[46];
  uint8_t peer_len;
  struct buffer envelope; /* encoded recipients (record.h) */
  struct buffer sender;   /* sender and envid, one behind the other */
  uint32_t sender_len;
  uint32_t recipients;
  enum smtp_ret ret;
  bool smtputf8, eight_bit, require_tls;
  bool completes; /* set before content comes: Date and Message-ID are added if they are missing (RFC 6409 8). Until its header was seen */
  bool ended;
  bool abandoned;            /* the session let go of it: parts still under way end quietly */
  uint8_t writes;            /* under way */
  int error;                 /* the first one */
  struct header_scan header; /* while it completes, or the context heeds it */
  struct content *content;
  uint64_t size;             /* of the content: Received header and what was handed in */
  struct spool_place *parts; /* segment 0: not durable, or given up */
  uint32_t parts_count;
  struct submission *next, *prev; /* in with_parts, from its first part until it is a message, or over */
  struct message *message;        /* from submit_end on */
  struct submit_context *context;
  submit_done done;
  submit_progress progress;
  void *callback;
  struct spool_entry entry; /* of the message record */
};

/* An id that no message had: time, shard, and a number, so that ids sort by time. */
uint64_t submit_new_id(struct submit_context *context);

/* NULL without memory. */
struct submission *submit_begin(struct submit_context *context, const struct smtp_mail *mail, const struct netaddr *peer, uint64_t session);
/* False: no memory, or no room for more in one envelope. The others are not affected. */
bool submit_recipient(struct submission *submission, const struct smtp_rcpt *rcpt);
/* Ready for content: writes the head and the Received header (RFC 5321 4.4), with `protocol` in it. False: no memory. */
bool submit_data(struct submission *submission, struct span hello, const char *protocol, uint64_t size_hint);
/* E_OK; E_NO_MEMORY or a spool error (then go on eating, and refuse at the end); E_BUSY: taken, but wait for `progress` before giving more. */
int submit_content(struct submission *submission, struct span bytes);
/* The content is whole: stores it. `done` comes in any case, maybe at once. */
void submit_end(struct submission *submission, const struct data_scan *scan, uint64_t tag, submit_done done, void *callback);
/*
 * The spool is cornered, and nothing can be stored before this segment and all older ones are free: what of unfinished messages lies there is
 * forgotten, and these are refused (E_NO_SPACE). A slow sender does not hold the disk.
 */
void submit_clear_segment(struct submit_context *context, uint32_t segment);
/* The content is illegal: its memory is given back, while the envelope stays until submit_abandon. */
void submit_drop_content(struct submission *submission);
/* The session has no more interest in it (RSET, refusal, connection lost before the end). */
void submit_abandon(struct submission *submission);

#endif
