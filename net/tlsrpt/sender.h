/*
 * sender: when which report is sent, and tried again (RFC 8460 5). Pure (malloc); time is an argument, chance comes from the seed.
 *
 * Owner: one thread. A day that has ended is added with its counts. Each of its domains is due at some time within `spread_ms`; whoever takes it asks DNS who wants it,
 * serves those, and says what came of it: served, to be tried again, or done. What cannot be served is tried again after longer and longer, for `patience_ms` from when it
 * was first due, and then given up. A domain's counts are freed with its report, a day with its last.
 *
 *   while ((due = tlsrpt_sender_take(sender, now_ms)) != NULL) start(due);     // later: tlsrpt_sender_later(sender, due, now_ms) or tlsrpt_sender_done(sender, due)
 */
#ifndef NET_TLSRPT_SENDER_H
#define NET_TLSRPT_SENDER_H

#include "net/tlsrpt/record.h"
#include "net/tlsrpt/tally.h"

#define TLSRPT_DAY_MS 86400000ull
#define TLSRPT_DAYS_MAX 4 /* at a time; with the usual patience there are two */

struct tlsrpt_day {
  TAILQ_ENTRY(tlsrpt_day) _link;
  uint64_t number; /* since 1970, in UTC */
  struct tlsrpt_tally tally;
};
TAILQ_HEAD(tlsrpt_days, tlsrpt_day);

struct tlsrpt_due { /* a report */
  TAILQ_ENTRY(tlsrpt_due) _link;
  struct tlsrpt_day *day;
  struct tlsrpt_domain *domain; /* of the day's tally */
  uint64_t id;                  /* of the report */
  uint64_t due_ms, until_ms;    /* the next try; no more after that */
  unsigned tries;               /* that failed */
  bool taken;
  bool asked; /* it is known who wants it: */
  unsigned uris_count;
  struct tlsrpt_uri *uris; /* those still to be served */
};
TAILQ_HEAD(tlsrpt_dues, tlsrpt_due);

struct tlsrpt_sender_options {
  uint64_t spread_ms;
  uint64_t retry_ms; /* after the first failure; doubled with each */
  uint64_t patience_ms;
};

struct tlsrpt_sender {
  struct tlsrpt_sender_options o;
  struct tlsrpt_days days;
  struct tlsrpt_dues dues;
  unsigned days_count, dues_count;
  uint64_t next_ms; /* nothing is due before; UINT64_MAX: nothing at all */
  uint64_t _seed;
};

void tlsrpt_sender_init(struct tlsrpt_sender *sender, const struct tlsrpt_sender_options *options, uint64_t seed);
void tlsrpt_sender_fini(struct tlsrpt_sender *sender);

/* Takes what the tally has, and leaves it empty. E_NO_MEMORY; E_FULL: there are TLSRPT_DAYS_MAX. In both cases the counts are lost. */
must_check int tlsrpt_sender_add(struct tlsrpt_sender *sender, uint64_t number, struct tlsrpt_tally *tally, uint64_t now_ms);

/* A report whose time has come, for the caller until tlsrpt_sender_later or _done. NULL: there is none. One that waited beyond its time comes too: tlsrpt_due_is_late. */
struct tlsrpt_due *tlsrpt_sender_take(struct tlsrpt_sender *sender, uint64_t now_ms);
static inline bool tlsrpt_due_is_late(const struct tlsrpt_due *due, uint64_t now_ms) { return now_ms > due->until_ms; }
/* Who wants it. E_NO_MEMORY. */
must_check int tlsrpt_due_set_uris(struct tlsrpt_due *due, const struct tlsrpt_uri *uris, unsigned count);
/* That one has got it; the last takes its place. */
void tlsrpt_due_served(struct tlsrpt_due *due, unsigned uri);
/* To be tried again. False: it is given up; tlsrpt_sender_done follows. */
must_check bool tlsrpt_sender_later(struct tlsrpt_sender *sender, struct tlsrpt_due *due, uint64_t now_ms);
/* Frees it, and the domain's counts. */
void tlsrpt_sender_done(struct tlsrpt_sender *sender, struct tlsrpt_due *due);

/* ---- for what is read from a file: a day without reports, then each of them ---- */
/* As tlsrpt_sender_add. NULL: no memory, or too many. */
struct tlsrpt_day *tlsrpt_sender_add_day(struct tlsrpt_sender *sender, uint64_t number, struct tlsrpt_tally *tally);
/* Plans it anew. NULL: no memory. The domain has no report yet. */
struct tlsrpt_due *tlsrpt_sender_plan(struct tlsrpt_sender *sender, struct tlsrpt_day *day, struct tlsrpt_domain *domain, uint64_t now_ms);
/* A day without reports is freed. */
void tlsrpt_sender_tidy(struct tlsrpt_sender *sender, struct tlsrpt_day *day);

#endif
