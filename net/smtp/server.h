/*
 * server: the receiving side of SMTP as a pure state machine (RFC 5321; PIPELINING 2920, SIZE 1870, 8BITMIME 6152, CHUNKING 3030, DSN 3461,
 * ENHANCEDSTATUSCODES 2034, SMTPUTF8 6531, LIMITS 9422, STARTTLS 3207, AUTH 4954, REQUIRETLS 8689).
 *
 * Owner: one session. It reads bytes, writes replies, and hands the caller one thing at a time to decide or to keep. It never
 * blocks, allocates, or looks at a clock. Grammar, order of commands, limits and reply texts are decided here; who may relay,
 * whether there is room, and what is stored is the caller's.
 *
 *   while ((event = smtp_server_next(s, &in, &out)) != SMTP_SERVER_NEED_INPUT) {
 *     switch (event) {
 *     case SMTP_SERVER_MAIL: ... smtp_server_accept(s, &out) or smtp_server_refuse(s, &out, 451, "4.3.0", "try again"); break;
 *     case SMTP_SERVER_CONTENT: store(s->content); break;
 *     ...
 *   }
 *   send(out); keep what is left of `in` (an incomplete line) and present it again, with more behind it.
 *
 * STARTTLS: the event; smtp_server_accept writes the 220, which has to leave in clear; from then on what comes is TLS's, and smtp_server_secured after the handshake
 * begins anew: greeting, transaction and authentication are forgotten, the limits go on counting. A client that sends anything behind STARTTLS before the 220 gets
 * 554 and the session ends: it did not ask for what it sent in clear to be obeyed behind TLS (RFC 3207 6), and what it sent cannot be told from an attacker's.
 *
 * AUTH: the event has the mechanism; the caller answers with smtp_server_challenge (334), whereupon the next line is SMTP_SERVER_AUTH_LINE, or ends it:
 * smtp_server_accept (235) or smtp_server_refuse (535 5.7.8 wrong, 454 4.7.0 not now, 501 5.7.0 canceled with "*", 501 5.5.2 no base64, 504 5.5.4 no such mechanism).
 * Lines of an exchange are secrets: whoever holds the bytes wipes them.
 */
#ifndef NET_SMTP_SERVER_H
#define NET_SMTP_SERVER_H

#include "core/base/fmt.h"
#include "core/base/must.h"
#include "net/smtp/command.h"
#include "net/smtp/data.h"

#define SMTP_LINE_MAX 4096       /* a command line with CRLF. RFC 5321 wants 512, and more for each extension (DSN, SMTPUTF8, long ORCPT) */
#define SMTP_AUTH_LINE_MAX 12288 /* a line of an authentication with CRLF, its AUTH too: RFC 4954 4 */
#define SMTP_REPLY_ROOM 1024     /* `out` must have this much room, or the answer is SMTP_SERVER_FLUSH */
#define SMTP_RECEIVED_MAX 100    /* RFC 5321 6.3: more "Received:" lines are a loop */

struct smtp_server_options { /* shared by all sessions of a listener; outlives them */
  struct span hostname;
  uint64_t message_size_max;   /* bytes of content; announced with SIZE */
  uint32_t recipients_max;     /* per message; then 452 4.5.3. Announced with LIMITS RCPTMAX */
  uint32_t messages_max;       /* per session; then 421 4.7.0 at MAIL. 0: no limit. Announced with LIMITS MAILMAX */
  uint32_t errors_max;         /* commands that are wrong or out of order, per session; the next gets 421 4.7.0, and close (configuration: 20) */
  uint32_t idle_commands_max;  /* NOOP, RSET, VRFY, HELP, EHLO.., and whatever was refused, without a message accepted between; then
                               * 421 4.7.0 (configuration: 1000) */
  struct span auth_mechanisms; /* "PLAIN LOGIN SCRAM-SHA-256"; empty: no AUTH (502). Announced, until the session is authenticated */
  bool auth_in_clear;          /* else AUTH is announced behind TLS alone, and 538 5.7.11 before */
  bool auth_required;          /* MAIL and VRFY before AUTH: 530 5.7.0 */
  bool starttls;               /* is offered, until TLS is on; else 502 */
  bool tls_required;           /* without TLS only EHLO, HELO, STARTTLS, NOOP, RSET, HELP, QUIT; else 530 5.7.0 */
  uint32_t surplus_max;        /* RCPTs answered 4xx, likewise: a client that does not count sends all of its list before DATA */
};

enum smtp_server_event {
  SMTP_SERVER_INVALID = 0,
  SMTP_SERVER_NEED_INPUT, /* everything whole is eaten; *in holds the incomplete rest */
  SMTP_SERVER_FLUSH,      /* no room for a reply: send `out`, empty it, call again */
  SMTP_SERVER_HELLO,      /* EHLO or HELO taken (already answered): s->hello, s->esmtp; any transaction was dropped */
  SMTP_SERVER_STARTTLS, /* accept or refuse (454 4.7.0); accepted, TLS begins when `out` is sent, and nothing but smtp_server_secured or _shut comes next */
  SMTP_SERVER_AUTH,      /* s->auth: challenge, accept or refuse */
  SMTP_SERVER_AUTH_LINE, /* s->auth_line, in base64 as it came, or "*": likewise */
  SMTP_SERVER_AUTH_OFF,  /* the client's line was none (too long, bare CR, ..): the exchange is over, answered already */
  SMTP_SERVER_MAIL,      /* s->mail: accept or refuse */
  SMTP_SERVER_RCPT,      /* s->rcpt: accept or refuse */
  SMTP_SERVER_DATA,      /* DATA, or the first BDAT of a message: accept (354 goes out for DATA) or refuse */
  SMTP_SERVER_CONTENT,   /* s->content: the next bytes of the message, wire form (dot-stuffed); valid until the next call */
  SMTP_SERVER_END,       /* the content is whole and legal: store it, then accept (with the queue id) or refuse; nothing is read meanwhile */
  SMTP_SERVER_RESET,     /* the transaction is off (RSET, DATA refused, illegal or oversized content, ..): forget it. Answered already, or, in
                           * content, at its end */
  SMTP_SERVER_REFUSED,   /* the machine itself refused the message (illegal or oversized): s->refusal. Answered already, or, of a BDAT, behind its
                           * octets. A transaction is off by it; of illegal content SMTP_SERVER_RESET may have said so before */
  SMTP_SERVER_CLOSE,     /* QUIT, or a limit passed (421 is in `out`): send `out`, then close */
};

#define SMTP_OWED_MAX 96

struct smtp_server {
  /* for the caller to read */
  struct smtp_mail mail; /* its spans: only during SMTP_SERVER_MAIL; the rest until the next MAIL */
  union {
    struct smtp_rcpt rcpt;     /* only during SMTP_SERVER_RCPT */
    struct smtp_auth auth;     /* only during SMTP_SERVER_AUTH */
    struct span auth_line;     /* only during SMTP_SERVER_AUTH_LINE */
    char _owed[SMTP_OWED_MAX]; /* the reply to a refused BDAT, until its octets are eaten */
  };
  struct span content;
  union {
    struct span hello;   /* the client's name for itself: only valid during SMTP_SERVER_HELLO */
    struct span refusal; /* the reply with its CRLF: only valid during SMTP_SERVER_REFUSED */
  };
  struct data_scan scan; /* of the content: leading_dot, eight_bit, .. */
  uint64_t content_size; /* bytes in wire form since DATA; at SMTP_SERVER_END, what was handed out with SMTP_SERVER_CONTENT; at SMTP_SERVER_REFUSED,
                          * what came or was announced */
  uint32_t recipients;   /* accepted in this transaction */
  uint32_t messages;     /* accepted in this session */
  uint32_t errors;       /* of the client in this session: commands that are wrong or out of order */
  bool esmtp;            /* greeted with EHLO */
  bool chunked;          /* the present message comes with BDAT */
  bool tls;              /* TLS is on */
  bool authenticated;    /* an AUTH was accepted; as whom, the caller knows */
  /* private */
  bool _utf8;      /* SMTPUTF8 was given with MAIL */
  bool _overlong;  /* the rest of a command line that is too long is being thrown away */
  bool _forgotten; /* the content is illegal, SMTP_SERVER_RESET was given: it is eaten only to find its end */
  bool _reset_due; /* SMTP_SERVER_RESET is the next event */
  bool _last_chunk;
  bool _more; /* there were bytes behind the present command when it was read */
  uint8_t _phase;
  uint8_t _pending;     /* the event that waits for accept or refuse */
  uint8_t _phase_after; /* the octets of a refused BDAT */
  uint8_t _owed_len;
  uint32_t _idle_commands;
  uint32_t _surplus; /* recipients for whom there was no room, since the last message */
  uint64_t _chunk_left;
  const struct smtp_server_options *_options;
};

/* `out` gets the 220 banner. `options` is borrowed for the life of the machine. */
void smtp_server_init(struct smtp_server *s, const struct smtp_server_options *options, struct fmt *out);
/* A listener with implicit TLS: right after smtp_server_init. After an accepted STARTTLS: the handshake is done. */
void smtp_server_secured(struct smtp_server *s);

/* Eats from the front of *in. Must not be called between an event that wants a decision and that decision. In content, all of *in is eaten
 * in the end; what is left of it with SMTP_SERVER_NEED_INPUT is the beginning of a command line, less than SMTP_LINE_MAX (in an authentication, or of AUTH where it is offered, SMTP_AUTH_LINE_MAX).
 * After an accepted STARTTLS it must not be called with bytes before smtp_server_secured. */
enum smtp_server_event smtp_server_next(struct smtp_server *s, struct span *in, struct fmt *out);

/* The decision to MAIL, RCPT, DATA, STARTTLS, AUTH, AUTH_LINE. Writes the reply (250 2.1.0, 250 2.1.5, 354; nothing yet for BDAT; 220, 235). */
void smtp_server_accept(struct smtp_server *s, struct fmt *out);
/* To AUTH and AUTH_LINE: 334 with this text (base64, or empty), which `out` must have room for, 6 bytes more than its length. */
void smtp_server_challenge(struct smtp_server *s, struct span text, struct fmt *out);
/* The decision to END: "250 2.0.0 queued as ID". */
void smtp_server_accept_message(struct smtp_server *s, uint64_t id, struct fmt *out);
/* The other decision, to all of them. A code of 421 also ends the session: the next event is SMTP_SERVER_CLOSE. A refused AUTH
 * counts as an error (one too many: 421 instead). A refusal of DATA or END ends the transaction (after DATA with SMTP_SERVER_RESET). `text` is one line without CRLF. A refused BDAT's octets are still
 * eaten before it is answered, as RFC 3030 wants; its text is cut if the reply is longer than SMTP_OWED_MAX. */
void smtp_server_refuse(struct smtp_server *s, struct fmt *out, unsigned code, const char *enhanced, const char *text);

/* For time-outs and at the end of the process the caller writes "421 4.4.2 ..." itself with this, which also makes the machine refuse everything from
 * now on: the next event is SMTP_SERVER_CLOSE, and a decision that is still owed then writes nothing. */
void smtp_server_shut(struct smtp_server *s, const char *enhanced, const char *text, struct fmt *out);
/* Between events: is a mail transaction open? Is it the content's turn (also to be thrown away)? Neither: a good moment to close. */
bool smtp_server_in_transaction(const struct smtp_server *s);
bool smtp_server_in_content(const struct smtp_server *s);

#endif
