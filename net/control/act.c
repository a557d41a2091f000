/* retry and bounce: of all that waits for a domain, for a site, at all, or of one message. */
#include <stdlib.h>

#include "core/base/error.h"
#include "net/control/inside.h"

#define RECIPIENTS_A_STEP 256
#define READY_DOMAINS_MAX 16 /* of one message; its recipients that are ready for others are left alone */
#define HOME_MS 2000         /* so long what was ready may be on its way home: until the events of its shard are written */
#define HOME_ROUNDS 3        /* over all shards: what was on its way to another is there; it is on its way back; it is home */

struct act {
  struct asked asked;
  const struct target_of *target;
  bool bounces, quiet;
  struct span reason;
  uint64_t since_ms; /* wall clock: what came later is not meant, such as the reports of a bounce */
  struct relay *relay;
  struct domain_walk walk;
  uint64_t home_by_ms;      /* monotonic; 0: not begun */
  uint64_t done, untouched; /* recipients: acted on; ready or in flight */
  bool found;               /* the message, or the domain */
};

static void act_on(struct act *act, struct relay *relay, struct message *message, unsigned recipient) {
  if (message->created_ms >= act->since_ms) return;
  if (!act->bounces && message->recipient[recipient].held) return; /* what is suspended stays so */
  act->done++;
  if (act->bounces) {
    operate_bounce(relay_outlet(relay), message, recipient, act->reason, act->quiet);
  } else {
    control_retry(relay, message, recipient, act->done - 1);
  }
}

/* ---- one message ---- */

static bool act_on_message(struct act *act, struct relay *relay) {
  struct message *message = schedule_find(relay_schedule(relay), act->target->id);
  if (message == NULL) return true;
  act->found = true;
  schedule_job_began(message); /* it is not freed while we go through it */
  for (unsigned i = 0; i < message->recipients; i++) {
    if (message->recipient[i].state == RECIPIENT_DONE) continue;
    if (!act->bounces) operate_forget_failures(relay_outlet(relay), message->recipient[i].domain);
    if (message->recipient[i].state == RECIPIENT_WAITING) {
      act_on(act, relay, message, i);
    } else {
      act->untouched++;
    }
  }
  schedule_job_ended(relay_schedule(relay), message);
  return true;
}

/* ---- many ---- */

static bool is_meant(const struct act *act, const struct domain_queue *queue) {
  const char *site = operate_site_of(queue);
  switch (act->target->kind) {
  case TARGET_ALL: return true;
  case TARGET_DOMAIN: return strcmp(queue->name, act->target->name) == 0;
  case TARGET_SITE: return site != NULL && strcmp(site, act->target->name) == 0;
  default: return false;
  }
}

static bool enter_queue(void *context, struct domain_queue *queue) {
  struct act *act = context;
  if (!is_meant(act, queue)) return false;
  act->found = true;
  act->untouched += queue->given;
  if (!act->bounces) operate_forget_failures(relay_outlet(act->relay), queue);
  return true;
}

static bool act_on_each(void *context, struct message *message, unsigned recipient) {
  struct act *act = context;
  act_on(act, act->relay, message, recipient);
  return !operate_is_busy(relay_outlet(act->relay));
}

static bool act_on_queues(struct act *act, struct relay *relay) {
  struct domain_queues *queues = &relay_schedule(relay)->domains;
  bool one = act->target->kind == TARGET_DOMAIN;
  if (act->walk.queues == NULL) {
    act->relay = relay;
    act->walk = (struct domain_walk){.enter = enter_queue, .each = act_on_each, .context = act};
    domain_walk_begin(&act->walk, queues, one ? domain_queue_find(queues, span_of_text(act->target->name)) : queues->first, one);
  }
  return !operate_is_busy(relay_outlet(relay)) && domain_walk_on(&act->walk, RECIPIENTS_A_STEP);
}

static bool act_step(struct errand *errand, void *context) {
  struct act *act = (struct act *)errand;
  return act->target->kind == TARGET_MESSAGE ? act_on_message(act, context) : act_on_queues(act, context);
}

/* What was ready comes back to its owners, over other shards too. */
static bool home_step(struct errand *errand, void *context) {
  struct act *act = (struct act *)errand;
  uint64_t now_ms = relay_shard(context)->now_ms;
  bool is_first = act->home_by_ms == 0; /* a turn of its own: the letters of this one leave at its end */
  if (is_first) act->home_by_ms = now_ms + HOME_MS;
  return !is_first && (operate_all_home(relay_outlet(context)) || now_ms >= act->home_by_ms);
}

static struct reply act_reply(const struct control *control, const struct act *acts, const char *done_name) {
  uint64_t done = 0, untouched = 0;
  bool found = false;
  for (unsigned i = 0; i < control->o.shards; i++) {
    done += acts[i].done;
    untouched += acts[i].untouched;
    found |= acts[i].found;
  }
  if (!found && acts->target->kind == TARGET_MESSAGE) return reply_no_message(control);
  return reply_ok(json_pack("{s:I,s:I,s:I}", done_name, (json_int_t)done, "in_delivery", (json_int_t)untouched, "unloaded",
                            (json_int_t)control_sum(control, GAUGE_UNLOADED_MESSAGES)));
}

static struct act *make_acts(const struct control *control) {
  must(control->o.shards > 0);
  return calloc(control->o.shards, sizeof(struct act));
}

static bool ask_all(struct control *control, const struct act *plan, struct act *acts, errand_step step) {
  for (unsigned i = 0; i < control->o.shards; i++) acts[i] = *plan;
  return control_ask_all(control, step, acts, sizeof *acts);
}

static struct reply act_all(struct control *control, const struct act *plan, const char *done_name) {
  struct act *acts = make_acts(control);
  if (acts == NULL) return (struct reply){500, NULL};
  struct reply reply = ask_all(control, plan, acts, act_step) ? act_reply(control, acts, done_name) : reply_error(503, "the relay is stopping");
  free(acts);
  return reply;
}

static bool wait_for_home(struct control *control, const struct act *plan) {
  struct act *acts = make_acts(control);
  bool all = acts != NULL;
  for (unsigned round = 0; all && round < HOME_ROUNDS; round++) all = ask_all(control, plan, acts, home_step);
  free(acts);
  return all;
}

struct reply act_retry(struct control *control, const struct target_of *target) {
  struct act plan = {.target = target, .since_ms = UINT64_MAX};
  return act_all(control, &plan, "retried");
}

/* What is ready waits for a connection, and would be missed: it is called back first, as for a suspension, which ends with this. */
static struct reply bounce(struct control *control, const struct act *plan, const struct target_of *targets, unsigned count) {
  bool held = true, let_go = true;
  for (unsigned i = 0; i < count; i++) held &= suspension_of(control, &targets[i]) != NULL || suspend_hold(control, &targets[i], true);
  if (count > 0) held = held && wait_for_home(control, plan);
  struct reply reply = held ? act_all(control, plan, "bounced") : reply_error(503, "the relay is stopping, or out of memory");
  for (unsigned i = 0; i < count; i++) let_go &= suspension_of(control, &targets[i]) != NULL || suspend_hold(control, &targets[i], false);
  if (count > 0) let_go &= suspend_release(control); /* whatever went wrong: nothing stays behind */
  if (let_go) return reply;
  json_decref(reply.json);
  return reply_error(503, "the relay is stopping");
}

/* The domains of those recipients of a message that are ready. */
struct ready_domains {
  struct asked asked;
  uint64_t id;
  unsigned count;
  struct target_of domain[READY_DOMAINS_MAX];
};

static void note_domain(struct ready_domains *ready, const struct domain_queue *queue) {
  for (unsigned i = 0; i < ready->count; i++)
    if (strcmp(ready->domain[i].name, queue->name) == 0) return;
  if (ready->count == READY_DOMAINS_MAX || queue->name_len == 0) return;
  struct target_of *target = &ready->domain[ready->count++];
  target->kind = TARGET_DOMAIN;
  memcpy(target->name, queue->name, queue->name_len + 1u);
}

static bool ready_step(struct errand *errand, void *context) {
  struct ready_domains *ready = (struct ready_domains *)errand;
  const struct message *message = schedule_find(relay_schedule(context), ready->id);
  for (unsigned i = 0; message != NULL && i < message->recipients; i++)
    if (message->recipient[i].state == RECIPIENT_READY) note_domain(ready, message->recipient[i].domain);
  return true;
}

static struct reply bounce_message(struct control *control, const struct act *plan) {
  struct ready_domains *ready = calloc(control->o.shards, sizeof *ready), none = {.count = 0}, *found = &none;
  if (ready == NULL) return (struct reply){500, NULL};
  for (unsigned i = 0; i < control->o.shards; i++) ready[i].id = plan->target->id;
  bool asked = control_ask_all(control, ready_step, ready, sizeof *ready);
  for (unsigned i = 0; i < control->o.shards; i++)
    if (ready[i].count > 0) found = &ready[i];
  struct reply reply = asked ? bounce(control, plan, found->domain, found->count) : reply_error(503, "the relay is stopping");
  free(ready);
  return reply;
}

struct reply act_bounce(struct control *control, const struct target_of *target, const char *reason, bool quiet) {
  struct act plan = {.target = target, .bounces = true, .quiet = quiet, .reason = span_of_text(reason), .since_ms = control_wall_ms()};
  return target->kind == TARGET_MESSAGE ? bounce_message(control, &plan) : bounce(control, &plan, target, 1);
}
