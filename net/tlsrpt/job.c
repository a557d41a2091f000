/*
 * A report under way: asks who wants it, then serves one after the other.
 */
#include <stdio.h>
#include <stdlib.h>

#include "core/base/error.h"
#include "net/tlsrpt/inside.h"
#include "net/tlsrpt/report.h"

#define PREFIX "_smtp._tls."

static struct tlsrpt_report report_of(const struct job *job) {
  const struct tlsrpt_options *o = &job->tlsrpt->o;
  const struct tlsrpt_due *due = job->due;
  return (struct tlsrpt_report){.hostname = span_of_text(o->hostname),
                                .organization = span_of_text(o->organization),
                                .contact = span_of_text(o->contact),
                                .id = due->id,
                                .begin_ms = due->day->number * TLSRPT_DAY_MS,
                                .end_ms = (due->day->number + 1) * TLSRPT_DAY_MS,
                                .domain = due->domain};
}

/* ---- the end ---- */

static void release(struct job *job) {
  free(job->packed);
  free(job->mail_bytes);
  job->packed = job->mail_bytes = NULL;
  job->due = NULL;
  job->state = JOB_FREE;
}

static void done(struct job *job, uint64_t now_ms) {
  tlsrpt_sender_done(&job->tlsrpt->sender, job->due);
  tlsrpt_changed(job->tlsrpt, now_ms);
  release(job);
}

static void later(struct job *job, uint64_t now_ms) {
  bool again = tlsrpt_sender_later(&job->tlsrpt->sender, job->due, now_ms);
  tlsrpt_say(job->tlsrpt, "TLS report about %s could not be sent: %s; %s", job->due->domain->name, job->why,
             again ? "it is tried again" : "it is given up");
  if (again) {
    tlsrpt_changed(job->tlsrpt, now_ms);
    release(job);
  } else {
    done(job, now_ms);
  }
}

/* ---- serving ---- */

/* On the shard. */
static bool submit(struct errand *errand, void *context) {
  struct job *job = context;
  (void)errand;
  if (!job->begun) {
    job->begun = true;
    job->tlsrpt->o.submit(job->tlsrpt->o.context, &job->mail);
  }
  return call_step(&job->call);
}

void tlsrpt_mail_done(struct tlsrpt_mail *mail, int error) {
  struct job *job = (struct job *)((uint8_t *)mail - offsetof(struct job, mail));
  job->mail_error = error;
  call_ready(&job->call);
}

static void call(struct job *job, enum job_state state, errand_step step) {
  struct tlsrpt_view *view = &job->tlsrpt->views[0];
  struct shard *shard = atomic_load_explicit(&view->shard, memory_order_acquire);
  must(shard != NULL); /* before, no job begins */
  job->state = state;
  job->begun = false;
  call_begin(&job->call, job->tlsrpt->https, shard, step, job);
}

/* False: no memory. */
static bool mail(struct job *job, const struct tlsrpt_uri *uri, uint64_t now_ms) {
  struct tlsrpt_report report = report_of(job);
  struct span packed = span_of(job->packed, job->packed_len);
  size_t room = tlsrpt_report_mail_size_max(&report, packed, tlsrpt_uri_span(uri));
  free(job->mail_bytes);
  job->mail_bytes = malloc(room);
  if (job->mail_bytes == NULL) return false;
  struct fmt out = fmt_over(job->mail_bytes, room);
  tlsrpt_report_mail(&report, packed, tlsrpt_uri_span(uri), now_ms, &out);
  must(!out.overflow);
  job->mail = (struct tlsrpt_mail){
      .sender = report.contact, .recipient = tlsrpt_uri_span(uri), .bytes = fmt_span(&out), .domain = tlsrpt_domain_name(report.domain)};
  call(job, JOB_MAILS, submit);
  return true;
}

static bool post(struct job *job, const struct tlsrpt_uri *uri) {
  struct https_request request = {.url = uri->text, .type = TLSRPT_MEDIA_TYPE, .body = span_of(job->packed, job->packed_len), .owner = job};
  job->state = JOB_POSTS;
  job->posted = false;
  return https_start(job->tlsrpt->https, &request);
}

void job_posted(void *context, void *owner, int error, const struct https_answer *answer, const char *why) {
  struct job *job = owner;
  const struct tlsrpt_uri *uri = &job->due->uris[job->uri];
  (void)context;
  job->posted = true;
  job->accepted = error == E_OK && answer->status / 100 == 2; /* RFC 8460 5.4 */
  if (error != E_OK) snprintf(job->why, sizeof job->why, "%.80s: %.70s", uri->text, why);
  if (error == E_OK && !job->accepted) snprintf(job->why, sizeof job->why, "%.80s: the answer is %ld", uri->text, answer->status);
}

/* The next URI; those that fail stay, in front. */
static void serve(struct job *job, uint64_t now_ms) {
  struct tlsrpt_due *due = job->due;
  if (due->uris_count == 0) {
    done(job, now_ms);
    return;
  }
  if (job->uri < due->uris_count) {
    const struct tlsrpt_uri *uri = &due->uris[job->uri];
    if (uri->scheme == TLSRPT_MAIL ? mail(job, uri, now_ms) : post(job, uri)) return;
    snprintf(job->why, sizeof job->why, "out of memory");
  }
  later(job, now_ms);
}

static void served(struct job *job, uint64_t now_ms) {
  if (job->accepted) {
    tlsrpt_due_served(job->due, job->uri);
    tlsrpt_changed(job->tlsrpt, now_ms);
  } else {
    job->uri++;
  }
  serve(job, now_ms);
}

static void begin_serving(struct job *job, uint64_t now_ms) {
  struct tlsrpt_report report = report_of(job);
  job->uri = 0;
  if (tlsrpt_report_pack(&report, &job->packed, &job->packed_len) == E_OK) {
    serve(job, now_ms);
  } else {
    snprintf(job->why, sizeof job->why, "out of memory");
    later(job, now_ms);
  }
}

/* ---- who wants it ---- */

/* On the shard. */
static void found(struct record_query *query, const struct dns_answer *answer) {
  struct job *job = query->context;
  if (answer->outcome != DNS_FAILED) job->wish = tlsrpt_announced(answer, &job->record) && job->record.count > 0 ? WISH_SOMEBODY : WISH_NOBODY;
  call_ready(&job->call);
}

static bool ask(struct errand *errand, void *context) {
  struct job *job = context;
  char name[sizeof PREFIX + DNS_NAME_MAX];
  struct fmt out = fmt_over(name, sizeof name);
  (void)errand;
  if (!job->begun) {
    job->begun = true;
    fmt_text(&out, PREFIX);
    fmt_put(&out, tlsrpt_domain_name(job->due->domain));
    job->query = (struct record_query){.done = found, .context = job};
    resolver_records(job->tlsrpt->views[0].resolver, DNS_TXT, fmt_span(&out), &job->query);
  }
  return call_step(&job->call);
}

static void asked(struct job *job, uint64_t now_ms) {
  if (job->wish == WISH_NOBODY) {
    done(job, now_ms);
  } else if (job->wish == WISH_SOMEBODY && tlsrpt_due_set_uris(job->due, job->record.uri, job->record.count) == E_OK) {
    begin_serving(job, now_ms);
  } else {
    snprintf(job->why, sizeof job->why, job->wish == WISH_SOMEBODY ? "out of memory" : "DNS does not say who wants it");
    later(job, now_ms);
  }
}

/* ---- its way ---- */

void job_begin(struct job *job, struct tlsrpt_due *due, uint64_t now_ms) {
  must(job->state == JOB_FREE);
  job->due = due;
  job->wish = WISH_UNKNOWN;
  if (tlsrpt_due_is_late(due, now_ms)) {
    tlsrpt_say(job->tlsrpt, "TLS report about %s is given up: its time is over", due->domain->name);
    done(job, now_ms);
  } else if (due->asked) {
    begin_serving(job, now_ms);
  } else {
    call(job, JOB_ASKS, ask);
  }
}

void job_turn(struct job *job, uint64_t now_ms) {
  if (job->state == JOB_POSTS && job->posted) {
    served(job, now_ms);
  } else if ((job->state == JOB_ASKS || job->state == JOB_MAILS) && call_is_over(&job->call)) {
    if (!call_end(&job->call)) {
      job->state = JOB_LOST;
    } else if (job->state == JOB_ASKS) {
      asked(job, now_ms);
    } else {
      job->accepted = job->mail_error == E_OK;
      if (!job->accepted) snprintf(job->why, sizeof job->why, "the queue does not take it: %s", error_text(job->mail_error));
      served(job, now_ms);
    }
  }
}

void job_fini(struct job *job) {
  if (job->call.used) (void)call_end(&job->call);
  release(job);
}
