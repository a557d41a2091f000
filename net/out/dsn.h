/*
 * dsn: reports to senders (RFC 3464) about recipients that failed, wait for long, or were handed to a server that reports no success: who gets one
 * (RFC 3461 NOTIFY), and its way from what is known of the failure to a message in the schedule.
 *
 * Owner: the message's shard; only notes are made on the shard that delivers. Recipients of one job share a report. A failure ends (schedule_done) when its report is durable, not before:
 * whoever was answered 250 hears of it, whatever dies in between; a report may then come twice. Reports of delay and of success are best effort.
 * Without room or memory a report waits and is tried again; at a stop its recipients are marked (RECORD_OWED), and it comes after the next start. More than dsn.rate a minute to one sender are not sent, and counted: the events tell of all.
 */
#ifndef NET_OUT_DSN_H
#define NET_OUT_DSN_H

#include "net/mail/report.h"
#include "net/out/outcome.h"
#include "queue/schedule.h"

struct outlet;
struct outlet_peer;
struct dsn;

/* What a report has to say of one recipient. One block of memory from malloc: free() it. */
struct note {
  uint16_t code, enhanced[3];
  uint16_t text_len, remote_len;
  uint8_t bytes[]; /* text, remote */
};
/* NULL: nobody wants to know, or no memory. `peer` may be NULL: no host was there. */
struct note *dsn_note(const struct outlet *outlet, const struct message *message, unsigned recipient, const struct decision *decision,
                      struct span text, const struct outlet_peer *peer);

/*
 * Adds a recipient to *dsn, which is made if it is NULL, and takes the note. `end`: with which outcome the recipient ends when the report is durable; 0: it
 * has ended, or goes on, by itself. False (and the note is freed): without memory; the recipient is the caller's.
 */
bool dsn_add(struct outlet *outlet, struct dsn **dsn, enum report_action action, struct message *message, unsigned recipient, struct note *note,
             enum record_outcome_kind end);
/* NULL is fine. May end the recipients at once. */
void dsn_send(struct dsn *dsn);
/* Those that wait for room or memory are given up, and no more will wait; the others come to their end. */
void dsns_stop(struct outlet *outlet);
void dsns_close(struct outlet *outlet);

#endif
