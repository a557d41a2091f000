/*
 * outcome: from what went wrong (or right) on the way out to what it means: the one place that decides scope (DESIGN D8). Pure, one table.
 *
 * The protocol machine and the sockets report a struct failure; outcome_decide says whom it concerns and what becomes of the recipients concerned.
 *
 * When a connection ends, each transaction under way is decided by itself: one whose content was handed to the socket as a whole with stage FINAL
 * (the peer may have it), the others with the machine's stage.
 */
#ifndef NET_OUT_OUTCOME_H
#define NET_OUT_OUTCOME_H

#include "core/base/fmt.h"
#include "dns/mx.h"
#include "net/smtp/client.h"
#include "net/smtp/reply.h"
#include "queue/policy/verdict.h"

enum failure_kind {
  FAILURE_INVALID = 0,
  FAILURE_REPLY,    /* a reply, also a good one (2xx to RCPT or to the content) */
  FAILURE_NETWORK,  /* `error`: E_REFUSED, E_RESET, E_CLOSED, E_TIMEOUT, E_UNREACHABLE, ... */
  FAILURE_PROTOCOL, /* what came was no SMTP (`text` says what) */
  FAILURE_UNFIT,    /* the server cannot take such a message: `unfit` */
  FAILURE_DNS,      /* `mx` and `text` */
  FAILURE_TLS,      /* the connection is not as safe as it has to be: `text` says why */
  FAILURE_AUTH,     /* we cannot say who we are: likewise */
  FAILURE_ROUTE,    /* the configuration knows the outcome: `rejected`, or discarded */
  FAILURE_INTERNAL, /* we could not do our part (memory, spool read): `error` */
};

struct failure {
  enum failure_kind kind;
  enum smtp_client_stage stage; /* SMTP_STAGE_GREETING with kind NETWORK and connecting = true: the connect itself */
  bool connecting;
  bool pipelined; /* commands were under way that a peer without pipelining may have choked on */
  bool proven;    /* a transaction was completed on this connection before: it is not pipelining that the peer chokes on */
  bool alone;     /* the transaction has one recipient: what the reply to the content says may be meant for it (else it is never hard) */
  bool rejected;
  bool crowded; /* others of the transaction were accepted before this recipient was refused */
  const struct smtp_reply *reply;
  int error;
  enum smtp_client_unfit unfit;
  enum mx_status mx;
  const char *text;
};

enum scope { /* who is concerned */
             SCOPE_INVALID = 0,
             SCOPE_RECIPIENT,  /* one recipient */
             SCOPE_MESSAGE,    /* the recipients of this transaction that have no fate yet */
             SCOPE_CONNECTION, /* all transactions of the connection; it is closed. The host as such is fine */
             SCOPE_HOST,       /* likewise, and this address is not tried again for a while */
             SCOPE_SITE,       /* likewise, and so are all of the site */
};

enum fate {                   /* what becomes of the recipients concerned */
            FATE_INVALID = 0, /* none yet: RCPT was accepted */
            FATE_DELIVERED,
            FATE_FAILED,    /* bounce */
            FATE_DEFERRED,  /* later, the attempt counts */
            FATE_POSTPONED, /* we lack memory or descriptors: shortly, as soon as there may be some again. No attempt, and nothing to tell anybody */
            FATE_HELD,      /* its domain or site is suspended: it waits for the end of that. No attempt */
            FATE_AGAIN, /* at once: another host, or another transaction; no attempt is counted. A caller that has been round all hosts defers instead */
};

struct decision {
  enum scope scope;
  enum fate fate;
  bool maybe_duplicate;    /* the peer may have taken it (silence after the final dot) */
  bool without_pipelining; /* speak plainly to this site from now on */
  bool replied;            /* code, enhanced and text are the peer's */
  uint16_t code;           /* what to report: the reply's, or one of ours when there was none */
  uint16_t enhanced[3];    /* class 0: none */
  struct verdict verdict;  /* of anything but DELIVERED and none; hard only with FAILED */
};

/* `text`: receives the text to report: the reply's joined lines, or one of ours ("connect: connection refused"); cut if there is no room. */
void outcome_decide(const struct failure *failure, struct decision *decision, struct fmt *text);

#endif
