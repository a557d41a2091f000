/*
 * client: the sending side of SMTP as a pure state machine (RFC 5321; PIPELINING 2920, SIZE 1870, 8BITMIME 6152, SMTPUTF8 6531, CHUNKING 3030,
 * DSN 3461, LIMITS 9422, STARTTLS 3207, AUTH 4954 with PLAIN and LOGIN).
 *
 * Owner: one connection. Bytes of replies in, commands out, one event at a time. It knows nothing of sites, retries or scope: it
 * reports replies with the stage they belong to. At most SMTP_CLIENT_TRANSACTIONS are under way: the one whose content is
 * being sent or answered, and the next one, whose envelope may travel in the same packet as the content's end.
 *
 *   smtp_client_init(c, &options);
 *   on bytes:  while ((event = smtp_client_next(c, &in, &out)) != SMTP_CLIENT_NEED_INPUT) ...
 *   send `out` whenever it is not empty; keep the rest of `in` and present it again, with more behind it.
 *
 * The events of one transaction, in this order and no other (of two transactions, all of the older come first):
 *   MAIL DONE  |  RCPT+ DONE  |  RCPT+ DATA DONE  |  RCPT+ CONTENT FINAL DONE  |  RCPT+ CONTENT DATA DONE (BDAT)
 * CONTENT is left out where smtp_client_begin returned true. REFUSED or BROKEN may cut this off anywhere, and is the last event.
 * STARTTLS and AUTH come between READY and the first transaction, each alone: smtp_client_starttls brings TLS (then, when the handshake is done,
 * smtp_client_secured, and READY comes again) or TLS_REFUSED; smtp_client_auth brings AUTHENTICATED or AUTH_REFUSED.
 * What the server answers to commands that were pointless after a refusal (RFC 2920 3.1: 503 to RCPT and DATA behind a refused MAIL) is
 * swallowed, and DONE comes behind the last of it.
 */
#ifndef NET_SMTP_CLIENT_H
#define NET_SMTP_CLIENT_H

#include "core/base/fmt.h"
#include "core/base/must.h"
#include "core/base/span.h"
#include "net/smtp/reply.h"

#define SMTP_CLIENT_TRANSACTIONS 2
#define SMTP_CLIENT_RECIPIENTS_MAX 100 /* RFC 5321 4.5.3.1.8: every server takes at least 100 */
#define SMTP_CLIENT_COMMANDS_MAX 256   /* under way at once: two envelopes of 100 recipients, with RSET, MAIL, DATA and QUIT */
#define SMTP_CLIENT_AHEAD_MAX 262144   /* larger content is not sent by BDAT before its recipients were accepted */
#define SMTP_CLIENT_ENVID_MAX 100      /* RFC 3461 4.4; a longer one is not passed on, because servers would refuse it */
#define SMTP_CLIENT_ORCPT_MAX 1507     /* RFC 3461 4.2: 500 characters, each up to three in xtext, behind "rfc822;"; likewise */

struct smtp_client_options { /* shared; outlives the machine */
  struct span hostname;      /* for EHLO */
  bool pipelining;           /* false: never pipeline, even when offered (the site is known to break on it) */
  bool pipeline_messages;    /* the next envelope may follow the content without waiting for its reply */
  bool chunking;             /* use BDAT where offered */
};

struct smtp_client_recipient {
  struct span address; /* at most ADDRESS_MAX bytes */
  struct span orcpt;   /* "rfc822;xtext", or empty */
  uint8_t notify;      /* bits as in net/smtp/server.h enum smtp_notify */
};

/*
 * Borrowed by the machine from begin to the transaction's last event, and unchanged meanwhile. Addresses and xtext have passed the grammar
 * of our own server: a CR, LF or NUL in one of them would be a command of its own to the other server, so begin must() that there is none.
 */
struct smtp_client_envelope {
  struct span sender; /* empty: <>; at most ADDRESS_MAX bytes */
  struct span envid;  /* xtext */
  uint8_t ret;        /* enum smtp_ret */
  bool eight_bit;     /* content has bytes above 127 */
  bool smtputf8;
  bool require_tls;                              /* RFC 8689: only to a server that takes it over */
  bool leading_dot;                              /* content has lines beginning with a dot: BDAT would need unstuffing, so DATA is used */
  uint64_t size;                                 /* bytes of content as stored, without the final ".CRLF" */
  uint32_t recipients;                           /* 1..SMTP_CLIENT_RECIPIENTS_MAX, and at most the server's limit: smtp_client_recipients_max */
  const struct smtp_client_recipient *recipient; /* that many */
};

enum smtp_client_event {
  SMTP_CLIENT_INVALID = 0,
  SMTP_CLIENT_NEED_INPUT,
  SMTP_CLIENT_READY,         /* greeted and introduced: capabilities are known, transactions may begin */
  SMTP_CLIENT_TLS,           /* the server waits for the handshake: what comes from now on is for that, until smtp_client_secured */
  SMTP_CLIENT_TLS_REFUSED,   /* c->reply; all is as before STARTTLS */
  SMTP_CLIENT_AUTHENTICATED, /* as smtp_client_auth wanted */
  SMTP_CLIENT_AUTH_REFUSED,  /* c->reply; all is as before AUTH */
  SMTP_CLIENT_REFUSED,       /* c->reply: the server will not talk to us (greeting, or EHLO and HELO, or a 421 at any time); the connection is
                          of no more use. Transactions under way got no verdict. smtp_client_stage still says which command it answered */
  SMTP_CLIENT_MAIL,          /* c->reply refuses MAIL of transaction c->tag (only sent on refusal). Followed by its DONE */
  SMTP_CLIENT_RCPT,          /* c->reply to recipient number c->recipient of transaction c->tag, good or bad */
  SMTP_CLIENT_DATA,          /* c->reply refuses DATA or BDAT of c->tag while some recipients had been accepted. Followed by its DONE. BDAT has one
                          reply for command and content: when it is a refusal it comes as this, else as FINAL */
  SMTP_CLIENT_CONTENT,       /* send `out` and then the content of c->tag now, then call smtp_client_content_sent */
  SMTP_CLIENT_FINAL,         /* c->reply answers the content of c->tag. Followed by its DONE */
  SMTP_CLIENT_DONE,          /* transaction c->tag is over: the envelope is released */
  SMTP_CLIENT_BROKEN,        /* what came is no SMTP (c->broken says what); the connection is of no more use. smtp_client_stage as with REFUSED */
};

enum smtp_client_stage { /* what we wait for: the oldest transaction's content on its way, else the oldest unanswered command */
                         SMTP_STAGE_GREETING,
                         SMTP_STAGE_EHLO,
                         SMTP_STAGE_STARTTLS /* and the handshake */,
                         SMTP_STAGE_AUTH,
                         SMTP_STAGE_MAIL,
                         SMTP_STAGE_RCPT,
                         SMTP_STAGE_DATA,
                         SMTP_STAGE_CONTENT /* sending it */,
                         SMTP_STAGE_FINAL,
                         SMTP_STAGE_RSET,
                         SMTP_STAGE_QUIT,
                         SMTP_STAGE_IDLE /* nothing is owed to us */
};

struct smtp_client_capabilities {
  bool esmtp, pipelining, size, eight_bit, smtputf8, chunking, dsn, starttls, require_tls, enhanced_codes, auth_plain, auth_login;
  uint64_t size_max;       /* 0: no limit said */
  uint32_t recipients_max; /* LIMITS RCPTMAX; 0: not said */
  uint32_t messages_max;   /* LIMITS MAILMAX; 0: not said */
};

struct smtp_client {
  struct smtp_client_capabilities capabilities;
  struct smtp_reply reply; /* valid during the event that carries it */
  uint32_t recipient;
  uint32_t tag;
  const char *broken;
  uint32_t transactions_begun;
  /* private: */
  const struct smtp_client_options *_options;
  uint8_t _state;
  uint8_t _follow;              /* an event that is still owed after the present one (DONE, CONTENT) */
  struct span _name, _password; /* of the AUTH under way; borrowed */
  bool _dirty;                  /* the server may have a transaction open that is over for us: RSET before the next MAIL */
  uint16_t _command_first;      /* ring of commands that were written and not answered yet */
  uint16_t _command_count;
  uint8_t _commands[SMTP_CLIENT_COMMANDS_MAX];
  struct smtp_client_transaction {
    const struct smtp_client_envelope *envelope; /* NULL: none */
    uint32_t tag;
    uint32_t written; /* recipients whose RCPT was written */
    uint32_t answered;
    uint32_t accepted;
    uint8_t state;
    bool chunked; /* BDAT, not DATA */
    bool mail_refused;
    bool content_asked;                     /* DATA or BDAT was written */
  } _transaction[SMTP_CLIENT_TRANSACTIONS]; /* [0] is the older */
};

void smtp_client_init(struct smtp_client *c, const struct smtp_client_options *options);

/*
 * Eats replies from the front of *in, may write follow-up commands to `out` (EHLO after the greeting, HELO after a refused EHLO; without pipelining
 * MAIL, RCPT and DATA one after the other; BDAT for large content; "." to end an unwanted DATA). `out` must have SMTP_CLIENT_ROOM free at each call.
 * A reply that says yes to content which is still being sent stays in *in until smtp_client_content_sent: call again after that. One that says
 * no to it is reported at once (FINAL or DATA, DONE), then BROKEN, since the rest of the content cannot be taken back.
 * After REFUSED or BROKEN, and after the answer to QUIT, all input is thrown away and the answer is NEED_INPUT.
 */
#define SMTP_CLIENT_ROOM 4096 /* MAIL and two RCPT of the largest size: what a server that answers before it is asked can draw in one call */
enum smtp_client_event smtp_client_next(struct smtp_client *c, struct span *in, struct fmt *out);

/*
 * Writes STARTTLS. Needs READY, a server that offers it, no transaction and no TLS so far. Bytes that come behind the answer in the clear are nobody's, or
 * an attacker's (RFC 3207 section 5 and its errata, CVE-2011-0411): BROKEN.
 */
void smtp_client_starttls(struct smtp_client *c, struct fmt *out);
/* After TLS: the handshake is done. What the server said of itself in the clear is forgotten, and it is asked again (RFC 3207 section 4.2). */
void smtp_client_secured(struct smtp_client *c, struct fmt *out);
/* Can it be asked with one of the mechanisms we have? */
bool smtp_client_can_auth(const struct smtp_client *c);
/*
 * Writes AUTH with PLAIN (RFC 4616), or with LOGIN where only that is offered. Needs READY, smtp_client_can_auth and no transaction; once. Whether the
 * password may travel is the caller's to know. Both are borrowed until the event: each at most SMTP_CLIENT_SECRET_MAX bytes, and no NUL in them.
 */
#define SMTP_CLIENT_SECRET_MAX 255
void smtp_client_auth(struct smtp_client *c, struct span name, struct span password, struct fmt *out);

/* May a transaction begin now? (ready, not quitting, the server's LIMITS MAILMAX not used up, and either none is under way, or only one whose
 * content has been sent, and pipelining over messages is allowed) */
bool smtp_client_can_begin(const struct smtp_client *c);
/* The largest number of recipients one transaction may have here. */
uint32_t smtp_client_recipients_max(const struct smtp_client *c);

enum smtp_client_unfit { SMTP_FIT = 0, SMTP_UNFIT_SIZE, SMTP_UNFIT_8BIT, SMTP_UNFIT_UTF8, SMTP_UNFIT_TLS };
/* Can this server take this message at all? (SIZE, 8BITMIME, SMTPUTF8, REQUIRETLS; known only after READY) */
enum smtp_client_unfit smtp_client_fit(const struct smtp_client *c, const struct smtp_client_envelope *envelope);

/* Room that smtp_client_begin may need in `out` for this envelope, in bytes. */
size_t smtp_client_begin_room(const struct smtp_client_envelope *envelope);

/*
 * Begins a transaction under the caller's tag (two under way must differ in it): writes as much of its commands as the server's capabilities
 * allow, behind a RSET if the one before left the server in doubt. Needs smtp_client_can_begin, a fitting envelope and smtp_client_begin_room
 * in `out`. Returns true if the content is to be sent right behind `out`, without waiting (BDAT): that stands for the SMTP_CLIENT_CONTENT event.
 */
bool smtp_client_begin(struct smtp_client *c, const struct smtp_client_envelope *envelope, uint32_t tag, struct fmt *out);
/* Is the transaction's content to be followed by ".CRLF" (DATA), or not (BDAT)? */
bool smtp_client_wants_dot(const struct smtp_client *c, uint32_t tag);
/* The content of `tag`, and its ".CRLF" if wanted, has been handed to the socket (before the next transaction's commands). No effect once the
 * connection is of no more use. */
void smtp_client_content_sent(struct smtp_client *c, uint32_t tag);
/* Writes QUIT. No transaction may begin afterwards. Needs READY to have come, and no transaction that still waits for its envelope's replies or
 * sends its content, unless the connection is of no more use; one whose content was sent may still be unanswered where pipelining is on. */
void smtp_client_quit(struct smtp_client *c, struct fmt *out);
enum smtp_client_stage smtp_client_stage(const struct smtp_client *c);
/* The stage's command as text for reports: "MAIL", "end of DATA", .. */
const char *smtp_client_stage_text(enum smtp_client_stage stage);

#endif
