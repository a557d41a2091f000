/*
 * ledger: what was given to the relay and what became of it, held against the specification (RFC 5321, README, DESIGN) and not against the code.
 *
 * Each message has a number, which stands in its content and its addresses; each recipient has a fate that the world has in store for it. At the end: every recipient of a message that
 * was answered 250 was delivered (FATE_DELIVERED), or was not and has an event that says why. Twice only if nobody could know of the first time.
 */
#ifndef TESTS_SIM_LEDGER_H
#define TESTS_SIM_LEDGER_H

#include "core/base/fmt.h"
#include "core/base/must.h"
#include "core/base/span.h"

enum fate {
  FATE_DELIVERED, /* accepted by its host sooner or later */
  FATE_REFUSED,   /* refused for good by its host, or its domain takes no mail, or does not exist */
  FATE_EXPIRES,   /* its host never takes it */
  FATES,
};

void ledger_open(void);

/* A new message to so many recipients; its number. */
unsigned ledger_new(unsigned recipients);
unsigned ledger_recipients(unsigned message);
/* Of all messages that were begun. */
uint64_t ledger_recipients_begun(void);
void ledger_recipient(unsigned message, unsigned recipient, enum fate fate, const char *domain);
/* "m12.3.d@d00001.test" */
void ledger_address(unsigned message, unsigned recipient, struct fmt *out);
/* Who sends it: "s12@d00001.test"; reports come there. The domain is kept. */
void ledger_sender(unsigned message, const char *domain, struct fmt *out);
bool ledger_find_sender(struct span address, unsigned *message);
/* A host took a report to that sender. */
void ledger_report(unsigned message, struct span content);
/* Of such an address. False: it is none of ours. */
bool ledger_find(struct span address, unsigned *message, unsigned *recipient, enum fate *fate);
/* The content, in wire form without the final ".CRLF"; kept by the ledger. */
struct span ledger_content(unsigned message, size_t size, bool eight_bit);
/* The sender has seen the 250 after it; or it gave the last byte away and saw no answer, so the message may be under way. */
void ledger_accepted(unsigned message);
void ledger_maybe(unsigned message);
/* It was answered 4xx or 5xx: from now on it must come to nobody. */
void ledger_refused(unsigned message);

/*
 * A host took the message for this recipient. *read_ns, set to 0 now, gets the time when the relay has read the host's answer. `content`: in wire form; NULL: as
 * it was cut off. Any alteration is a fault. `late`: the relay has already given up the connection it comes from.
 */
uint64_t *ledger_delivered(unsigned message, unsigned recipient, bool late);
void ledger_check_content(unsigned message, struct span content);

/* These bytes of the spool, with records in them, were written, or that failed: then nothing in them may be answered 250 any more. */
void ledger_written(struct span bytes, bool failed);
/* From now on a spool takes nothing, until the relay is killed, or ends. */
void ledger_failing(void);

/* The relay was killed now, or ended as if it had been. `power`: and what the disk had not synced may be lost. */
void ledger_killed(bool power);
/* The clock on the wall jumped. What lay in the queue may then be, or seem, too old, and end as expired. */
void ledger_clock_set(int64_t by_ms);
/* A line of an event file. */
void ledger_event(struct span line);
bool ledger_was_killed(void);

/*
 * All is over, and the relay says that its queue is empty. Faults are faults of the relay. `events_may_be_lost`: the disk of the events failed.
 */
void ledger_close(bool events_may_be_lost);
/* Recipients answered 250 that have neither arrived nor failed with an event that can be known of yet. */
unsigned ledger_open_recipients(void);

struct ledger_sums {
  unsigned messages, accepted, recipients, delivered, refused, expired, given_up, twice, lost_events, events;
};
const struct ledger_sums *ledger_sums(void);

#endif
