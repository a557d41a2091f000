/*
 * inside: what the thread (tlsrpt.c) and the reports under way (job.c) share, and what passes between the thread and the shards (view.c).
 */
#ifndef NET_TLSRPT_INSIDE_H
#define NET_TLSRPT_INSIDE_H

#include <pthread.h>

#include "core/shard/shard.h"
#include "dns/resolver.h"
#include "net/https/https.h"
#include "net/tlsrpt/tlsrpt.h"

/*
 * Something that the thread has a shard do, and that may take a while there. The thread never waits for a shard, which may not run yet, or not any more: it is woken when
 * the call is finished, and sees it then.
 */
struct call {
  struct errand errand;
  struct https *wake;
  struct shard *shard;
  bool ready;            /* the shard's: what was begun has come to its end */
  bool used;             /* the thread's: call_end is still to come */
  _Atomic bool finished; /* the shard has done its part */
};

struct tlsrpt_view {
  _Alignas(64) struct tlsrpt_tally *tally; /* the shard's */
  struct tlsrpt *tlsrpt;
  struct resolver *resolver;
  struct tlsrpt_tally *spare; /* the thread's, but for the time of a call */
  struct tlsrpt_tally pair[2];
  _Atomic(struct shard *) shard; /* NULL: not there yet */
  struct call collect;
};

enum job_state {
  JOB_FREE = 1,
  JOB_ASKS,
  JOB_MAILS,
  JOB_POSTS,
  JOB_LOST, /* the shard has ended: so will the thread. The report stays as it is, for the file */
};
enum job_wish { WISH_UNKNOWN = 0, WISH_NOBODY, WISH_SOMEBODY };

struct job { /* a report under way; all is the thread's, but from the begin of a call to its end */
  struct tlsrpt *tlsrpt;
  enum job_state state;
  struct tlsrpt_due *due;
  struct call call;
  bool begun; /* the shard's part of the call */
  struct record_query query;
  enum job_wish wish;
  struct tlsrpt_record record;
  struct tlsrpt_mail mail;
  int mail_error;
  uint8_t *mail_bytes;
  uint8_t *packed;
  size_t packed_len;
  unsigned uri; /* of the due's: the next one to be served, or under way */
  bool posted;  /* a POST has ended */
  bool accepted;
  char why[160]; /* if it was not accepted */
};

struct tlsrpt {
  struct tlsrpt_options o;
  struct tlsrpt_view *views;
  struct job *jobs;
  struct https *https;
  struct tlsrpt_day today;
  struct tlsrpt_sender sender;
  uint64_t changed_ms; /* 0: the file is as we are */
  uint64_t collect_ms; /* the next time */
  uint64_t began_ms;   /* the collection that is under way; 0: none is */
  bool started;
  pthread_t thread;
  _Atomic bool stopping;
};

/* ---- view.c ---- */
void call_begin(struct call *call, struct https *wake, struct shard *shard, errand_step step, void *context);
/* On the shard: the return of a step. */
bool call_step(struct call *call);
/* On the shard: what was begun has come to its end, and the step is to be called. */
void call_ready(struct call *call);
/* On the thread. */
bool call_is_over(const struct call *call);
/* False: the shard ended before it was done. */
bool call_end(struct call *call);

void view_init(struct tlsrpt_view *view, struct tlsrpt *tlsrpt, uint64_t seed);
void view_fini(struct tlsrpt_view *view);
/* Puts the empty spare in the place of what was counted. */
void view_collect(struct tlsrpt_view *view);

/* ---- job.c ---- */
void job_begin(struct job *job, struct tlsrpt_due *due, uint64_t now_ms);
/* Goes on if what it waits for is over. */
void job_turn(struct job *job, uint64_t now_ms);
void job_posted(void *context, void *owner, int error, const struct https_answer *answer, const char *why);
void job_fini(struct job *job);

/* ---- tlsrpt.c ---- */
__attribute__((format(printf, 2, 3))) void tlsrpt_say(const struct tlsrpt *tlsrpt, const char *format, ...);
void tlsrpt_changed(struct tlsrpt *tlsrpt, uint64_t now_ms);

#endif
