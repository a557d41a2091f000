/* retry and bounce: of all that waits for a domain, for a site, at all, or of one message. */
#include <stdlib.h>

#include "core/base/error.h"
#include "net/control/inside.h"

#define RECIPIENTS_A_STEP 256
#define BUSY_POLL_MS 2 /* so often it is looked whether those that ended are written */
#define HOME_MS 2000   /* so long what was ready may be on its way home: until the events of its shard are written */
#define HOME_POLL_MS 2 /* it is looked for so often */
#define HOME_ROUNDS 3  /* over all shards: what was on its way to another is there; it is on its way back; it is home */

struct act {
  struct asked asked;
  const struct target_of *target;
  bool bounces, quiet;
  struct span reason;
  uint64_t since_ms; /* wall clock: what came later is not meant, such as the reports of a bounce; of one message: whenever it came */
  struct relay *relay;
  struct domain_walk walk;
  struct finder finder;             /* of one message */
  unsigned at;                      /* recipient of it */
  const struct domain_queue *tried; /* of the last of them whose failures were forgotten */
  uint64_t home_by_ms;              /* monotonic; 0: not begun */
  uint64_t done, untouched;         /* recipients: acted on; ready or in flight */
  bool found;                       /* the message, or the domain */
  bool disobeyed;                   /* some on disk may be meant, and will not be bounced when they are loaded */
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

/* Before more end, or are tried again: do too many that ended wait to be written? Then the errand sleeps. */
static bool waits(struct act *act, struct relay *relay) {
  if (!operate_is_busy(relay_outlet(relay))) return false;
  act->asked.errand.not_before_ms = relay_shard(relay)->now_ms + BUSY_POLL_MS;
  return true;
}

/* ---- what is still on disk ---- */

/* Of which site it is, is not known before it is tried. */
static void order(struct act *act, struct relay *relay) {
  const struct target_of *target = act->target;
  bool is_domain = target->kind == TARGET_DOMAIN;
  if (!act->bounces || relay_schedule(relay)->unloaded == 0) return;
  const struct order_of what = {.domain = is_domain ? span_of_text(target->name) : (struct span){NULL, 0},
                                .id = target->kind == TARGET_MESSAGE ? target->id : 0,
                                .before_ms = act->since_ms,
                                .reason = act->reason,
                                .quiet = act->quiet};
  act->disobeyed = target->kind == TARGET_SITE || !operate_order(relay_outlet(relay), &what);
}

/* ---- one message ---- */

static void act_on_next(struct act *act, struct relay *relay) {
  struct message *message = act->finder.message;
  unsigned i = act->at++;
  if (message->recipient[i].state == RECIPIENT_DONE) return;
  if (!act->bounces && message->recipient[i].domain != act->tried) {
    act->tried = message->recipient[i].domain;
    operate_forget_failures(relay_outlet(relay), message->recipient[i].domain);
  }
  if (message->recipient[i].state == RECIPIENT_WAITING) {
    act_on(act, relay, message, i);
  } else {
    act->untouched++;
  }
}

static bool act_on_message(struct act *act, struct relay *relay) {
  if (!act->found) {
    if (!finder_step(&act->finder, relay)) return false;
    act->found = act->finder.message != NULL;
    if (act->finder.on_disk) order(act, relay);
    return !act->found;
  }
  for (unsigned budget = RECIPIENTS_A_STEP; budget > 0 && act->at < act->finder.message->recipients; budget--) {
    if (waits(act, relay)) return false;
    act_on_next(act, relay);
  }
  if (act->at < act->finder.message->recipients) return false;
  finder_end(&act->finder, relay);
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
  return !waits(act, act->relay);
}

static bool act_on_queues(struct act *act, struct relay *relay) {
  struct domain_queues *queues = &relay_schedule(relay)->domains;
  bool one = act->target->kind == TARGET_DOMAIN;
  if (act->walk.queues == NULL) {
    act->relay = relay;
    order(act, relay);
    act->walk = (struct domain_walk){.enter = enter_queue, .each = act_on_each, .context = act};
    domain_walk_begin(&act->walk, queues, one ? domain_queue_find(queues, span_of_text(act->target->name)) : queues->first, one);
  }
  return !waits(act, relay) && domain_walk_on(&act->walk, RECIPIENTS_A_STEP);
}

static bool act_step(struct errand *errand, void *context) {
  struct act *act = (struct act *)errand;
  return act->target->kind == TARGET_MESSAGE ? act_on_message(act, context) : act_on_queues(act, context);
}

/* Only whether a message is there; if it is on disk, it is not lost sight of. */
static bool seek_step(struct errand *errand, void *context) {
  struct act *act = (struct act *)errand;
  if (!finder_step(&act->finder, context)) return false;
  act->found = act->finder.message != NULL;
  if (act->finder.on_disk) order(act, context);
  finder_end(&act->finder, context);
  return true;
}

/* What was ready comes back to its owners, over other shards too. */
static bool home_step(struct errand *errand, void *context) {
  struct act *act = (struct act *)errand;
  uint64_t now_ms = relay_shard(context)->now_ms;
  bool is_first = act->home_by_ms == 0; /* a turn of its own: the letters of this one leave at its end */
  if (is_first) act->home_by_ms = now_ms + HOME_MS;
  if (!is_first && (operate_all_home(relay_outlet(context)) || now_ms >= act->home_by_ms)) return true;
  if (!is_first) errand->not_before_ms = now_ms + HOME_POLL_MS;
  return false;
}

static struct reply act_reply(const struct control *control, const struct act *acts, const char *done_name) {
  uint64_t done = 0, untouched = 0, unloaded = control_sum(control, GAUGE_UNLOADED_MESSAGES);
  bool found = false, on_disk = false, obeyed = true;
  for (unsigned i = 0; i < control->o.shards; i++) {
    done += acts[i].done;
    untouched += acts[i].untouched;
    found |= acts[i].found;
    on_disk |= acts[i].finder.on_disk;
    obeyed &= !acts[i].disobeyed;
  }
  if (!found && acts->target->kind == TARGET_MESSAGE && !(on_disk && acts->bounces)) return reply_no_message(on_disk);
  json_t *json = json_pack("{s:I,s:I,s:I}", done_name, (json_int_t)done, "in_delivery", (json_int_t)untouched, "unloaded", (json_int_t)unloaded);
  bool is_ordered = acts->target->kind != TARGET_MESSAGE || on_disk; /* of one that was found in memory none is needed */
  if (acts->bounces && unloaded > 0 && is_ordered) json_object_set_new(json, "as_loaded", json_boolean(obeyed));
  return reply_ok(json);
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
  struct act plan = {.target = target, .since_ms = UINT64_MAX, .finder.id = target->id};
  return act_all(control, &plan, "retried");
}

/* Nothing of it is in memory. */
static bool is_elsewhere(const struct control *control, const struct act *acts) {
  for (unsigned i = 0; i < control->o.shards; i++)
    if (acts[i].found) return false;
  return true;
}

/* One message is looked for first: what is not there, or on disk only, need not be called back from anywhere. True: `reply` has the answer. */
static bool seek(struct control *control, const struct act *plan, struct reply *reply) {
  struct act *acts = make_acts(control);
  *reply = (struct reply){500, NULL};
  bool asked = acts != NULL && ask_all(control, plan, acts, seek_step);
  bool is_over = !asked || is_elsewhere(control, acts);
  if (asked && is_over) *reply = act_reply(control, acts, "bounced");
  if (acts != NULL && !asked) *reply = reply_error(503, "the relay is stopping");
  free(acts);
  return is_over;
}

/* What is ready waits for a connection, and would be missed: it is called back first, as for a suspension, which ends with this. */
static struct reply bounce(struct control *control, const struct act *plan) {
  bool is_suspended = suspension_of(control, plan->target) != NULL;
  bool held = (is_suspended || suspend_hold(control, plan->target, true)) && wait_for_home(control, plan);
  struct reply reply = held ? act_all(control, plan, "bounced") : reply_error(503, "the relay is stopping, or out of memory");
  bool let_go = is_suspended || suspend_hold(control, plan->target, false);
  let_go &= suspend_release(control); /* whatever went wrong: nothing stays behind */
  if (let_go) return reply;
  json_decref(reply.json);
  return reply_error(503, "the relay is stopping");
}

struct reply act_bounce(struct control *control, const struct target_of *target, const char *reason, bool quiet) {
  uint64_t since_ms = target->kind == TARGET_MESSAGE ? UINT64_MAX : system_wall_ms(); /* its id says enough, whatever became of the clock */
  struct act plan = {
      .target = target, .bounces = true, .quiet = quiet, .reason = span_of_text(reason), .since_ms = since_ms, .finder.id = target->id};
  struct reply reply;
  if (target->kind == TARGET_MESSAGE && seek(control, &plan, &reply)) return reply;
  return bounce(control, &plan);
}
