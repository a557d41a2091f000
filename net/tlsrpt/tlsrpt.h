/*
 * tlsrpt: tells domains that ask for it what a day's TLS with their hosts came to (RFC 8460): counted on the shards, gathered and sent by a thread of its own.
 *
 *   on the shard:  tlsrpt_success(view, SPAN("example.org"), policy);      // a session whose TLS was as the policy wants it
 *                  tlsrpt_failure(view, SPAN("example.org"), policy, &failure);
 *
 * How it goes. Each shard counts for itself (tally.h). The thread takes its counts now and then, and at midnight (UTC), by an errand that puts an empty tally in place of
 * the full one; adds them to the day's; and keeps all in a file (keep.h): what a kill loses is what was not taken yet. A day that has ended is reported (sender.h) in the
 * hours after: the thread has a shard's resolver ask for _smtp._tls.DOMAIN; composes the report (report.h); POSTs it to each https URI (net/https, to public addresses alone);
 * and gives a message for each mailto URI to `submit`, on the shard, once. Who could not be served is tried again for a day; the queue tries messages as any other.
 *
 * What `submit` has to see to: a report about broken TLS has to arrive through it. RFC 8460 section 3 forbids to heed MTA-STS and DANE for it: so the record of the message is
 * written with tls_optional (the message itself says "TLS-Required: No", RFC 8689, to hosts on its way), and it goes with TLS if that works, with whatever certificate,
 * else in the clear. And nobody is told if it fails: NOTIFY=NEVER. Its own sessions are not to be counted, or a report would bring the next.
 */
#ifndef NET_TLSRPT_TLSRPT_H
#define NET_TLSRPT_TLSRPT_H

#include "net/tlsrpt/sender.h"
#include "net/tlsrpt/tally.h"

struct resolver;
struct shard;
struct tlsrpt;
struct tlsrpt_view;

struct tlsrpt_mail { /* valid until tlsrpt_mail_done */
  struct span sender, recipient;
  struct span bytes;  /* as report.h says: without its Received field */
  struct span domain; /* that it is about, for the log */
};

struct tlsrpt_options {
  unsigned views;                      /* shards */
  const char *hostname;                /* ours */
  const char *organization, *contact;  /* as in report.h; the contact is the envelope sender, too */
  const char *file;                    /* where counts are kept; NULL: nowhere */
  const char *ca_file, *connect_to;    /* as in net/https/https.h */
  struct tlsrpt_limits shard, day;     /* of the tallies */
  struct tlsrpt_sender_options sender; /* 4 hours, 15 minutes, a day */
  unsigned jobs;                       /* reports under way at a time: 32 */
  uint32_t timeout_ms;                 /* of a POST: 30 s */
  uint64_t collect_ms;                 /* counts are taken from the shards so often: 10 minutes */
  uint64_t save_ms;                    /* the file is written so long after a change, and at the end: 30 s */
  /* On the thread of the first view's shard: queues the message. Then, or later from there, tlsrpt_mail_done; not after shard_run has returned. */
  void (*submit)(void *context, struct tlsrpt_mail *mail);
  /* One line for people, without newline: the file is no good, cannot be written, a report could not be sent. From the thread, or from within tlsrpt_open and _stop. */
  void (*say)(void *context, const char *line);
  void (*begin)(void *context); /* the first thing on the thread, to give up what it may do; NULL: nothing */
  uint64_t (*wall_ms)(void);    /* the clock: system_wall_ms; another for tests */
  void *context;
};
/* One view; what is said above; no names, no file, nobody to tell. */
extern const struct tlsrpt_options tlsrpt_defaults;

/* Reads the file and starts the thread. What the options point to must stay. E_NO_MEMORY, E_OTHER. */
must_check int tlsrpt_open(struct tlsrpt **tlsrpt, const struct tlsrpt_options *options);
/* When shard_run has returned on all shards, and before any shard_fini: ends the thread, takes the last counts and writes the file. NULL is fine, here and below. */
void tlsrpt_stop(struct tlsrpt *tlsrpt);
/* Afterwards, when the resolvers are closed and all shards are at their end (shard_fini). */
void tlsrpt_free(struct tlsrpt *tlsrpt);

/* The view of a shard, from its own thread, once, before it counts anything. */
struct tlsrpt_view *tlsrpt_view(struct tlsrpt *tlsrpt, unsigned index, struct shard *shard, struct resolver *resolver);

/* On the shard. `domain`: the recipients', or that of the smart host, lower case and A-labels; `policy`: the one that was applied, NULL if there was none (policy.h). */
void tlsrpt_success(struct tlsrpt_view *view, struct span domain, struct tlsrpt_policy *policy);
void tlsrpt_failure(struct tlsrpt_view *view, struct span domain, struct tlsrpt_policy *policy, const struct tlsrpt_failure *failure);

/* On the shard that was given it. E_OK: the message is safe in the queue; else it is given again later. */
void tlsrpt_mail_done(struct tlsrpt_mail *mail, int error);

#endif
