/*
 * inside: what the files of the server machine share: its phases, and the steps that its commands (server.c) and the caller's decisions (decide.c) have in common. For
 * these two only.
 */
#ifndef NET_SMTP_INSIDE_H
#define NET_SMTP_INSIDE_H

#include "net/smtp/server.h"

enum phase {
  PHASE_INVALID = 0,
  PHASE_GREETED, /* we said 220, the client did not introduce itself yet */
  PHASE_READY,   /* no transaction */
  PHASE_AUTH,    /* within an authentication: after 334 */
  PHASE_TLS,     /* STARTTLS accepted: the handshake */
  PHASE_MAIL,    /* MAIL accepted */
  PHASE_RCPT,    /* a RCPT was tried; s->recipients tells how many were accepted */
  PHASE_CHUNKED, /* between the BDATs of a message */
  PHASE_CONTENT, /* after 354 */
  PHASE_CHUNK,   /* within the octets of a BDAT */
  PHASE_ENDED,   /* the content is whole */
  PHASE_SKIP,    /* within the octets of a refused BDAT */
  PHASE_CLOSED,
  PHASES
};

#define BIT(phase) (1u << (phase))
#define COMMAND_PHASES (BIT(PHASE_GREETED) | IN_SESSION)
#define IN_SESSION (BIT(PHASE_READY) | IN_TRANSACTION)
#define IN_TRANSACTION (BIT(PHASE_MAIL) | BIT(PHASE_RCPT) | BIT(PHASE_CHUNKED))
#define IN_CONTENT (BIT(PHASE_CONTENT) | BIT(PHASE_CHUNK) | BIT(PHASE_ENDED) | BIT(PHASE_SKIP))

/* By phase: those that may come next. */
extern const uint16_t server_moves[PHASES];

static inline void phase_enter(struct smtp_server *s, enum phase phase) {
  must(phase == PHASE_CLOSED || (server_moves[s->_phase] & BIT(phase)) != 0);
  s->_phase = (uint8_t)phase;
}

static inline void say(struct fmt *out, struct span reply) { fmt_put(out, reply); }

/* ---- server.c ---- */
/* Counts an error, and says 421 instead of going on if that was one too many. */
bool server_fails_too_often(struct smtp_server *s, struct fmt *out);
void server_end_transaction(struct smtp_server *s);
/* The octets of a refused BDAT are eaten before it is answered, and the session goes on in phase `after` (RFC 3030 2). */
void server_skip_chunk(struct smtp_server *s, enum phase after, struct span reply);

#endif
