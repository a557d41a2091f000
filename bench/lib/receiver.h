/*
 * receiver: the server side of SMTP (RFC 5321) as a sink speaks it, without I/O: bytes in, replies into an outbox. Checks every
 * message against the stamp in it (content.h), keeps the ledger, applies the rules, counts.
 *
 * One receiver for each connection; the statistics belong to the thread; config, ledger and tries are shared by all.
 */
#ifndef BENCH_LIB_RECEIVER_H
#define BENCH_LIB_RECEIVER_H

#include "bench/lib/content.h"
#include "bench/lib/histogram.h"
#include "bench/lib/ledger.h"
#include "bench/lib/outbox.h"
#include "bench/lib/rule.h"
#include "bench/lib/zone.h"

enum {
  RECEIVER_LINE_MAX = 2048, /* RFC 5321 4.5.3.1.4 says 512, extensions add to it (RFC 3461 4: 500 more and so on) */
  RECEIVER_ADDRESS_MAX = 320,
};

struct receiver_config {
  const char *hostname;
  bool pipelining, chunking, eight_bit, smtputf8, dsn, enhanced, size, starttls; /* extensions offered */
  bool verify;                                                                   /* compare bodies */
  uint64_t size_max;
  uint64_t recipients_max;
  const struct rules *rules;
  const struct content_block *block;
  struct ledger *ledger;
  const struct zone *zone;          /* what MX records say, to find mail that came to the wrong address; its pattern names the domains */
  bool check_address;               /* is the zone what the relay looks into? */
  uint64_t domain_count;            /* of domain_connections */
  uint32_t *domain_connections;     /* now, by domain; shared */
  uint32_t *domain_connections_max; /* at most, by domain; shared */
  uint8_t *tries;                   /* RECEIVER_TRIES counters for rules with first=; shared; NULL if no rule has it */
  uint64_t timed_from_ns; /* what arrives before is counted, but left out of rate and latency; a counter.h counter, written by another thread */
};
#define RECEIVER_TRIES (UINT64_C(1) << 32)

struct receiver_stats {
  uint64_t connections;
  uint64_t transactions; /* accepted messages */
  uint64_t timed;        /* of them: since timed_from_ns */
  uint64_t recipients;   /* of accepted messages */
  uint64_t recipients_per_transaction_max;
  uint64_t arrived;            /* recipients seen for the first time */
  uint64_t duplicated;         /* seen again */
  uint64_t excused_duplicates; /* seen again after a cut-after-accept */
  uint64_t corrupt;            /* messages whose body is not what was sent */
  uint64_t misdelivered;       /* recipients in a transaction with another recipient's message */
  uint64_t misrouted;          /* recipients at an address that is no MX of their domain */
  uint64_t foreign;            /* messages without a stamp */
  uint64_t bounces;            /* messages with a null reverse-path */
  uint64_t bytes;              /* of content */
  uint64_t pipelined;          /* reads that brought more than one command, or a command behind content */
  uint64_t pipelined_connections;
  uint64_t pipelining_violations; /* the same though PIPELINING was not offered */
  uint64_t chunked;               /* messages by BDAT */
  uint64_t refused;               /* permanent negative replies by rules or limits: recipients, or messages */
  uint64_t deferred;              /* transient ones */
  uint64_t cuts;
  uint64_t tls_handshakes, tls_resumed; /* the latter are some of the former */
  uint64_t tls_failed;                  /* that never came to be */
  uint64_t tls_transactions;            /* accepted messages */
  uint64_t protocol_errors;             /* commands answered 5xx for syntax or sequence, but for those that were pipelined behind a refused one */
  struct histogram latency;             /* from the stamp to the end of content */
  uint64_t first_ns;                    /* when the first timed message was accepted; 0: none yet */
  uint64_t last_ns;
};

struct receiver_recipient {
  uint64_t number; /* RECEIVER_FOREIGN: not one of ours */
  uint64_t domain; /* its index, RECEIVER_FOREIGN if not of the pattern */
};
#define RECEIVER_FOREIGN UINT64_MAX

enum receiver_state {
  RECEIVER_NONE,
  RECEIVER_COMMAND,
  RECEIVER_DATA,
  RECEIVER_CHUNK,
  RECEIVER_SECURING, /* STARTTLS was answered: what comes next is TLS, then receiver_secured */
  RECEIVER_CLOSING,  /* QUIT was said: close when all has gone from the outbox */
  RECEIVER_CUT,      /* we end it: the same, but what the peer still sends is to be expected */
};

struct receiver {
  const struct receiver_config *_config;
  struct receiver_stats *_stats;
  struct outbox *_outbox;
  enum receiver_state state;
  uint64_t _chance;
  uint64_t _now_ns;
  uint32_t _local; /* IPv4 address the connection came to, host byte order; 0: none */
  char _host[48];  /* the same as text */
  bool _secured, _greeted, _in_mail, _pipelined, _chunk_last, _chunk_refused;
  bool _refused; /* MAIL or a RCPT of this envelope was: that DATA fails is no error of the peer */
  uint8_t _data_state;
  uint64_t _chunk_left;
  uint64_t _domain; /* that the connection is counted for */
  struct ledger_run *_run;
  struct receiver_recipient *_recipients;
  uint32_t _recipient_count, _recipient_cap;
  uint32_t _line_len;
  uint32_t _from_len, _rcpt_len;
  uint8_t _from[RECEIVER_ADDRESS_MAX];
  uint8_t _rcpt[RECEIVER_ADDRESS_MAX]; /* the first one of the transaction */
  uint8_t _line[RECEIVER_LINE_MAX];
  struct content_reader _content;
};

/* A connection came in: puts the greeting into the outbox. `chance` seeds the decisions of rules with a rate. Borrows everything. */
void receiver_begin(struct receiver *receiver, const struct receiver_config *config, struct receiver_stats *stats, struct outbox *outbox,
                    uint32_t local, uint64_t chance, uint64_t now_ns);
/* TLS has begun; what was said before is forgotten. */
void receiver_secured(struct receiver *receiver);
/* The connection is gone. */
void receiver_end(struct receiver *receiver);
/* Takes all bytes; look at `state` afterwards. */
void receiver_feed(struct receiver *receiver, struct span bytes, uint64_t now_ns);

#endif
