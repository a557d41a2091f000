/*
 * sender: the client side of SMTP as a load generator speaks it, without I/O: replies in, what to send out. One sender for each session.
 *
 * The host (struct sender_host) gives it work, a job at a time, and is told how each recipient of it ended. A job is a message for a range of its
 * recipients: the whole message at first, and only those that were deferred when it is sent again.
 *
 * The ways of sending (RFC 2920, RFC 3030):
 *   SENDER_WAIT      each command waits for its reply
 *   SENDER_COMMANDS  MAIL, RCPT.., DATA in one write; then the content
 *   SENDER_MESSAGES  the content and the next message's MAIL, RCPT.., DATA in one write
 *   with chunking    MAIL, RCPT.., BDAT and the content in one write (RFC 3030)
 */
#ifndef BENCH_LIB_SENDER_H
#define BENCH_LIB_SENDER_H

#include <sys/uio.h>

#include "bench/lib/content.h"
#include "bench/lib/domains.h"
#include "bench/lib/histogram.h"

enum sender_way { SENDER_WAIT, SENDER_COMMANDS, SENDER_MESSAGES };

enum {
  SENDER_SLICES = 1024, /* IOV_MAX */
  SENDER_LINE_MAX = 1024,
};
/* The longest content: what fits into the slices of one write. */
#define SENDER_SIZE_MAX ((uint64_t)(SENDER_SLICES - 16) * CONTENT_BLOCK_LINES * CONTENT_LINE)

/* The longest recipient with its command and its share of the header: "RCPT TO:<user-", 20 digits, "@", the domain, ">" CRLF. */
#define RECIPIENT_TEXT_MAX (48 + DOMAIN_NAME_MAX)

/* What the run is made of; shared, constant. */
struct sender_plan {
  enum sender_way way;
  bool chunking;
  bool starttls; /* or not at all */
  uint64_t run;
  uint64_t messages; /* 0: not limited */
  uint64_t size;     /* of the content */
  uint32_t recipients;
  bool spread; /* recipients of one message over several domains */
  enum domain_order order;
  struct domains domains;
  uint64_t domain_count;
  uint64_t messages_per_session; /* 0: not limited */
  uint64_t timed_from_ns;        /* latency is of messages that were begun, or due, from then on */
  struct span from;
  struct span hostname;
  struct span date;
  const struct content_block *block;
};

struct job {
  uint64_t seq;
  uint32_t begin; /* recipients begin to end - 1 of the message */
  uint32_t end;
  uint64_t due_ns; /* when it should have been sent; 0: whenever there is a session for it */
};

enum { SENDER_CODES = 600 };
struct sender_stats {
  uint64_t accepted;            /* messages: final replies 250 */
  uint64_t accepted_recipients; /* of them */
  uint64_t refused_recipients;  /* for good */
  uint64_t deferred_recipients; /* to be sent again, or given up by --no-retry */
  uint64_t maybe_duplicated;    /* messages whose session broke between content and reply: sent again all the same */
  uint64_t sessions;            /* that were greeted */
  uint64_t broken;              /* sessions that ended otherwise than by our QUIT */
  uint64_t without_pipelining;  /* sessions that could not be run as planned, because it was not offered */
  uint64_t without_chunking;
  uint64_t without_starttls;    /* that ended because it was not offered, or refused */
  uint64_t last_ns;             /* when the last final reply came */
  uint64_t codes[SENDER_CODES]; /* negative replies by code, and 250 of final replies */
  struct histogram latency;     /* from MAIL, or the time due, to the final reply 250 */
};

struct sender;
struct sender_host {
  /* The next job, if there is one to send now. */
  bool (*take)(void *context, struct job *job);
  /* Recipients of a job that are to be sent again: each job taken ends with sender_done, in which this may be called before. */
  void (*again)(void *context, const struct job *job);
  /* A job has ended, whatever became of it. */
  void (*done)(void *context);
  void *context;
};

enum sender_state {
  SENDER_NONE,
  SENDER_GREETING, /* waiting for 220 */
  SENDER_HELLO,    /* for the reply to EHLO */
  SENDER_STARTTLS, /* for the reply to STARTTLS */
  SENDER_SECURING, /* the connection is to be secured now: then sender_secured */
  SENDER_IDLE,     /* nothing to do: sender_work when there is */
  SENDER_BUSY,
  SENDER_QUITTING, /* for 221 */
  SENDER_OVER,     /* close the connection */
};

struct transaction {
  struct job job;
  uint64_t started_ns;
  uint32_t awaited; /* of the recipients, whose reply is next */
  uint32_t accepted;
  uint32_t code; /* of the reply that ended it early; 0: none */
  bool mail_accepted;
  bool content_sent;
  uint8_t *taken; /* by recipient of the message: accepted by RCPT */
};

struct sender {
  const struct sender_plan *_plan;
  struct sender_stats *_stats;
  struct sender_host _host;
  enum sender_state state;
  enum sender_way _way; /* as planned and offered */
  bool _chunking;
  bool _offers_pipelining, _offers_chunking, _offers_starttls;
  bool _secured;
  bool _reset_needed; /* an open transaction has to be reset before the next */
  uint8_t _expected;
  uint64_t _messages; /* started in this session */
  uint32_t _count;    /* of transactions under way: the second has only its envelope sent */
  struct transaction _under_way[2];
  uint32_t _line_len;
  char _line[SENDER_LINE_MAX];
  struct fmt _text;  /* commands and header to send */
  size_t _text_done; /* bytes of it that are in slices */
  struct iovec *slices;
  unsigned slice_count;
  unsigned _slice_cap;
};

/* Memory for a session; taken once, used for one connection after the other. E_NO_MEMORY. */
must_check int sender_init(struct sender *sender, const struct sender_plan *plan, struct sender_stats *stats, const struct sender_host *host);
void sender_fini(struct sender *sender);

/* A connection is there: waits for the greeting. */
void sender_begin(struct sender *sender);
/* The connection is gone: what was under way goes back to the host. */
void sender_broken(struct sender *sender);
/* Bytes of replies. Afterwards `slices` may hold something to send (never while the last is unsent: see sender_sent), and `state` tells. */
void sender_feed(struct sender *sender, struct span bytes, uint64_t now_ns);
/* TLS is there, and what the other side said before is nothing any more (RFC 3207 4.2). */
void sender_secured(struct sender *sender);
/* If idle: takes a job and begins. */
void sender_work(struct sender *sender, uint64_t now_ns);
/* If idle: says QUIT. */
void sender_quit(struct sender *sender);
/* All slices have been sent: the room is free again. */
void sender_sent(struct sender *sender);

#endif
