#include "net/out/job.h"

#include <stdlib.h>

static void set_recipient(struct job *job, unsigned at, unsigned recipient) {
  const struct message *message = job->message;
  job->smtp[at] = (struct smtp_client_recipient){.address = message_address(message, recipient),
                                                 .orcpt = message_orcpt(message, recipient),
                                                 .notify = message->recipient[recipient].notify & RECORD_NOTIFY};
  job->each[at] = (struct job_recipient){.index = (uint16_t)recipient};
}

struct job *job_new(struct slab *slab, struct message *message, unsigned recipient, unsigned owner, unsigned rounds) {
  struct job *job = slab_get(slab, sizeof *job);
  if (job == NULL) return NULL;
  *job = (struct job){
      .message = message, .owner = (uint16_t)owner, .deliverer = (uint16_t)owner, .rounds = (uint8_t)rounds, .recipients = 1, .capacity = 1};
  job->smtp = &job->one_smtp;
  job->each = &job->one_each;
  job->envelope = (struct smtp_client_envelope){
      .sender = message_sender(message),
      .envid = message_envid(message),
      .ret = message->ret,
      .eight_bit = message->eight_bit,
      .smtputf8 = message->smtputf8,
      .require_tls = message->require_tls,
      .leading_dot = message->leading_dot,
      .size = message->size,
      .recipients = 1,
      .recipient = job->smtp,
  };
  set_recipient(job, 0, recipient);
  schedule_job_began(message);
  return job;
}

static size_t lists_size(unsigned capacity) { return capacity * (sizeof(struct smtp_client_recipient) + sizeof(struct job_recipient)); }

static void free_lists(struct slab *slab, struct job *job) {
  if (job->capacity > 1) slab_put(slab, job->smtp, lists_size(job->capacity));
}

static bool grow(struct slab *slab, struct job *job, unsigned wanted) {
  if (wanted <= job->capacity) return true;
  unsigned capacity = wanted < 8 ? 8 : wanted < 32 ? 32 : SMTP_CLIENT_RECIPIENTS_MAX;
  struct smtp_client_recipient *smtp = slab_get(slab, lists_size(capacity));
  if (smtp == NULL) return false;
  struct job_recipient *each = (struct job_recipient *)&smtp[capacity];
  memcpy(smtp, job->smtp, job->recipients * sizeof *smtp);
  memcpy(each, job->each, job->recipients * sizeof *each);
  free_lists(slab, job);
  job->smtp = smtp;
  job->each = each;
  job->capacity = (uint16_t)capacity;
  job->envelope.recipient = smtp;
  return true;
}

bool job_merge(struct slab *slab, struct job *into, struct job *from, unsigned max) {
  unsigned together = into->recipients + from->recipients;
  if (into->message != from->message || into->rounds != from->rounds || into->entry != from->entry || together > max || !grow(slab, into, together))
    return false;
  memcpy(&into->smtp[into->recipients], from->smtp, from->recipients * sizeof *from->smtp);
  memcpy(&into->each[into->recipients], from->each, from->recipients * sizeof *from->each);
  if (from->give_up_ms > into->give_up_ms) into->give_up_ms = from->give_up_ms;
  into->recipients = (uint16_t)together;
  into->envelope.recipients = together;
  must(from->message->jobs > 1);
  from->message->jobs--;
  from->recipients = 0;
  job_free(slab, from);
  return true;
}

void job_free(struct slab *slab, struct job *job) {
  for (unsigned i = 0; i < job->recipients; i++) free(job->each[i].note);
  free(job->error);
  free_lists(slab, job);
  slab_put(slab, job, sizeof *job);
}

struct job *jobs_take_old(struct job **first, struct job **last, uint64_t wall_ms) {
  struct job *old = NULL, **old_end = &old, **kept = first, *kept_last = NULL;
  for (struct job *job = *first; job != NULL; job = job->next) {
    if (wall_ms >= job->give_up_ms) {
      *old_end = job;
      old_end = &job->next;
    } else {
      *kept = job;
      kept = &job->next;
      kept_last = job;
    }
  }
  *kept = *old_end = NULL;
  *last = kept_last;
  return old;
}

void job_decide_rest(struct job *job, enum fate fate, bool counts) {
  for (unsigned i = 0; i < job->recipients; i++) {
    if (job->each[i].fate != FATE_INVALID) continue;
    job->each[i].fate = (uint8_t)fate;
    job->each[i].counts = counts;
  }
}
