/* What is suspended: jobs that may not be begun go back to their owners. */
#include "net/out/outlet.h"

/* Of a domain that has to be looked up again since the configuration changed nobody knows: it may have another route. */
static const struct site *site_of(const struct outlet *outlet, const struct domain_queue *queue) {
  const struct domain *domain = queue->outgoing;
  if (domain != NULL) return domain->valid_until_ms > 0 ? domain->site : NULL;
  return queue->site != NULL ? map_find(&outlet->sites, span_of_text(queue->site)) : NULL;
}

bool outlet_is_held(const struct outlet *outlet, const struct domain_queue *queue) {
  const struct site *site = site_of(outlet, queue);
  return outlet->held_all || queue->held || (site != NULL && site->held);
}

static bool is_held(const struct outlet *outlet, const struct job *job, unsigned at) {
  unsigned i = job->each[at].index;
  if (job->owner == outlet->o.shard->index) return job->message->recipient[i].domain->held;
  const struct domain_queue *queue = domain_queue_find(&outlet->o.schedule->domains, message_domain(job->message, i));
  return queue != NULL && queue->held;
}

static bool is_held_whole(const struct outlet *outlet, const struct job *job, const struct site *site) {
  bool by_message = outlet->held_message != 0 && job->message->id == outlet->held_message;
  return outlet->held_all || by_message || (site != NULL && site->held);
}

static bool is_held_in_part(const struct outlet *outlet, const struct job *job) {
  if (outlet->o.schedule->domains.held == 0) return false;
  for (unsigned at = 0; at < job->recipients; at++)
    if (is_held(outlet, job, at)) return true;
  return false;
}

bool outlet_would_hold(const struct outlet *outlet, const struct job *job, const struct site *site) {
  return is_held_whole(outlet, job, site) || is_held_in_part(outlet, job);
}

/* Recipients of one job may be of several domains of the site: those that are not meant come again at once. */
bool outlet_hold(struct outlet *outlet, struct job *job, const struct site *site) {
  bool all = is_held_whole(outlet, job, site);
  if (!all && !is_held_in_part(outlet, job)) return false;
  for (unsigned at = 0; at < job->recipients; at++) job->each[at].fate = all || is_held(outlet, job, at) ? FATE_HELD : FATE_AGAIN;
  outlet_job_end(outlet, job);
  return true;
}
