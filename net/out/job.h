/*
 * job: the recipients of one message in one site, to be delivered in one transaction.
 *
 * Made by the message's shard (the owner), which frees it; delivered there or by the site's home shard, which gets it by letter and sends it back the same way with a fate for each
 * recipient. In between it belongs to whoever has it. What it points to in the message does not change while a job of it lives.
 */
#ifndef NET_OUT_JOB_H
#define NET_OUT_JOB_H

#include "net/out/outcome.h"
#include "net/smtp/client.h"
#include "queue/schedule.h"

struct conf_site;

struct job_recipient {
  uint16_t index;    /* in the message */
  uint8_t fate;      /* enum fate; 0: none yet */
  bool counts;       /* the attempt is counted */
  struct note *note; /* for a report to the sender; NULL: none is wanted */
};

struct job {
  struct job *next; /* in a ready queue, a domain's waiting list, or the list of those on their way home */
  struct message *message;
  uint16_t owner;                /* shard */
  uint16_t deliverer;            /* shard that works on it */
  bool handed_over;              /* came by letter: it is delivered here, whatever our own view of the site's home */
  uint64_t give_up_ms;           /* wall clock: it is not begun after this */
  const struct conf_site *entry; /* what the configuration says of its recipients' domain; NULL: nothing */
  uint8_t rounds;                /* how often recipients of it were sent round again (FATE_AGAIN) */
  bool disturbed;                /* an AGAIN in it comes from a failure: the round is counted */
  bool loading;                  /* its content is on the way from disk */
  uint16_t recipients;           /* all of the job; the envelope may name only the first of them */
  uint32_t flush;                /* the send of its connection that carries the last of its content: it ends after that */
  uint64_t connection;           /* token of the connection that waits for the content; 0: it is gone */
  uint16_t capacity;
  struct smtp_client_envelope envelope; /* envelope.recipient == smtp */
  struct smtp_client_recipient *smtp;
  struct job_recipient *each;
  char *error;     /* what the last attempt that put recipients off was told; malloc, NULL: nothing */
  uint64_t events; /* lines of events there were when it ended here, away from its owner */
  struct load load;
  struct smtp_client_recipient one_smtp; /* room for the usual single recipient */
  struct job_recipient one_each;
};

/* A job for one recipient. NULL: no memory. The message gains a job. */
struct job *job_new(struct slab *slab, struct message *message, unsigned recipient, unsigned owner, unsigned rounds);
/* Moves the recipients of `from` behind those of `into` (same message, owner and entry, together at most `max`) and frees `from`; false if it cannot. */
bool job_merge(struct slab *slab, struct job *into, struct job *from, unsigned max);
/* On the owner's shard. The message is left alone: schedule_job_ended is the caller's to call. */
void job_free(struct slab *slab, struct job *job); /* and the notes that are left */

/* Takes those that are past their age (wall clock) out of a list, whose order stays, and gives them as a list of their own. */
struct job *jobs_take_old(struct job **first, struct job **last, uint64_t wall_ms);

/* Sets the fate of all recipients that have none. */
void job_decide_rest(struct job *job, enum fate fate, bool counts);

#endif
