/*
 * reception: the events of the incoming side: a message taken (Reception), or a message or recipient refused for good (Rejection). What is refused
 * for now (4xx) has none: the sender comes again, and a full disk would write one for each try.
 *
 * Owner: one shard. Nothing can fail: an event that finds no room is counted by the writer.
 */
#ifndef NET_IN_RECEPTION_H
#define NET_IN_RECEPTION_H

#include "net/in/intake.h"
#include "net/in/submit.h"

struct reception_refusal {
  uint64_t session;
  struct netaddr peer;
  struct span hello;                   /* what the peer calls itself */
  struct span sender;                  /* the reverse-path */
  struct span recipient, domain;       /* the one that was refused; empty: the message was, for all its recipients */
  const struct submission *submission; /* whose recipients they are; NULL: it was refused before there were any */
  uint64_t size;                       /* of the message, as far as known */
  const char *command;
  struct span reply; /* one line with its CRLF */
  struct span list;  /* a DNS list by whose answer the client was refused; empty: for another reason */
  struct netaddr list_answer;
};

/* Whose message it is. */
struct reception_client {
  struct netaddr peer;
  struct span hello;                    /* what it calls itself */
  const char *tls_version, *tls_cipher; /* NULL: in the clear */
  struct span user, tenant;             /* empty: none */
};

/* All recipients of a message in one event, as far as memory allows: else in several of the same id. */
void reception_accepted(const struct intake_options *o, const struct submission *submission, const struct reception_client *client);
/* The process died before it could tell of this message, or just after: the event says so (maybe_duplicate), and not what the peer called itself. */
void reception_restored(const struct intake_options *o, const struct message *message);
/* Likewise; without an id, as the message got none. */
void reception_refused(const struct intake_options *o, const struct reception_refusal *refusal);

#endif
