/* One domain, one message: what they are, where they are, and why they are not moving. */
#include <stdlib.h>

#include "core/base/error.h"
#include "net/control/inside.h"

#define RECIPIENTS_A_STEP 64
#define READY_JOBS 1024    /* of a site, looked at for those of a domain */
#define EXPLAINED_MAX 1000 /* recipients of a message that are ready: so many are looked for on all shards, */
#define EXPLAINED_A_STEP 2 /* ... in queues that may be long */
#define WHY_ROOM 512

/* ---- one recipient ---- */

static const char *const state_text[] = {[RECIPIENT_WAITING] = "deferred", [RECIPIENT_READY] = "ready", [RECIPIENT_DONE] = "done"};

static json_t *recipient_json(const struct message *message, unsigned i) {
  const struct recipient *recipient = &message->recipient[i];
  bool waits = recipient->state == RECIPIENT_WAITING;
  return json_pack("{s:o,s:s,s:i,s:o}", "recipient", json_span(message_address(message, i)), "state",
                   waits && recipient->held ? "suspended" : state_text[recipient->state], "attempts", (int)recipient->attempts, "next_try",
                   json_time(waits && !recipient->held ? recipient->due_ms : 0));
}

static void put_message(json_t *json, const struct message *message) {
  json_object_set_new(json, "id", json_id(message->id));
  json_object_set_new(json, "sender", json_span(message_sender(message)));
  json_object_set_new(json, "created", json_time(message->created_ms));
  json_object_set_new(json, "size", json_integer((json_int_t)message->size));
}

/* ---- a domain ---- */

struct domain_show {
  struct asked asked;
  struct span name;
  unsigned limit;
  bool begun, is_known;
  uint32_t left;
  uint64_t waiting, given, error_ms;
  char *site, *error;
  json_t *messages, *hosts;
  bool has_site;
  struct site_view view;
};

static void show_ready(void *context, const struct message *message, unsigned recipient) {
  struct domain_show *show = context;
  if (message->recipient[recipient].domain == NULL || json_array_size(show->messages) >= show->limit) return;
  json_t *json = recipient_json(message, recipient);
  put_message(json, message);
  json_array_append_new(show->messages, json);
}

static void show_hosts(struct domain_show *show, const struct site *site) {
  struct target_view target;
  for (unsigned i = 0; operate_view_target(site, i, &target); i++) {
    char room[80];
    struct fmt out = fmt_over(room, sizeof room);
    netaddr_format_with_port(&target.address, &out);
    json_array_append_new(show->hosts,
                          json_pack("{s:o,s:o,s:i,s:i,s:f}", "host", json_text(target.host), "address", json_span(fmt_span(&out)), "preference",
                                    (int)target.preference, "failures", (int)target.failures, "blocked_s", (double)target.blocked_ms / 1000));
  }
}

static void begin_domain(struct domain_show *show, struct relay *relay, const struct domain_queue *queue) {
  const char *site_name = operate_site_of(queue);
  const struct site *site = site_name != NULL ? operate_find_site(relay_outlet(relay), span_of_text(site_name)) : NULL;
  show->begun = show->is_known = true;
  show->waiting = queue->waiting;
  show->given = queue->given;
  show->error_ms = queue->error_ms;
  show->left = queue->waiting < show->limit ? queue->waiting : show->limit;
  show->error = queue->error != NULL ? strdup(queue->error) : NULL;
  show->messages = json_array();
  show->hosts = json_array();
  operate_ready(queue, READY_JOBS, show_ready, show);
  if (site == NULL) return;
  show->site = strdup(site_name);
  show->has_site = true;
  operate_view_site(site, &show->view);
  show_hosts(show, site);
}

static bool domain_step(struct errand *errand, void *context) {
  struct domain_show *show = (struct domain_show *)errand;
  struct domain_queue *queue = domain_queue_find(&relay_schedule(context)->domains, show->name);
  if (queue == NULL) return true;
  if (!show->begun) begin_domain(show, context, queue);
  for (unsigned budget = RECIPIENTS_A_STEP; show->left > 0 && budget > 0; show->left--, budget--) {
    unsigned i;
    const struct message *message = domain_queue_rotate(queue, &i);
    if (message == NULL || json_array_size(show->messages) >= show->limit) return true;
    json_t *json = recipient_json(message, i);
    put_message(json, message);
    json_array_append_new(show->messages, json);
  }
  return show->left == 0;
}

static void free_domain_show(struct domain_show *show) {
  free(show->site);
  free(show->error);
  json_decref(show->messages);
  json_decref(show->hosts);
}

/* The shards' views of one site, added up; `view` of its home says most. */
static json_t *site_json(const struct domain_show *shows, unsigned shards) {
  const struct domain_show *main = NULL;
  uint32_t connections = 0, ready = 0, in_flight = 0;
  for (unsigned i = 0; i < shards; i++) {
    if (!shows[i].has_site) continue;
    if (main == NULL || shows[i].view.home) main = &shows[i];
    connections += shows[i].view.connections;
    ready += shows[i].view.ready;
    in_flight += shows[i].view.in_flight;
  }
  if (main == NULL) return json_null();
  return json_pack("{s:o,s:i,s:i,s:i,s:i,s:f,s:O}", "name", json_text(main->site), "connections", (int)connections, "ready", (int)ready, "in_flight",
                   (int)in_flight, "failures", (int)main->view.failures, "blocked_s", (double)main->view.blocked_ms / 1000, "hosts", main->hosts);
}

static struct reply domain_reply(const struct control *control, const struct domain_show *shows, struct span name, unsigned limit) {
  json_t *messages = json_array();
  uint64_t waiting = 0, given = 0, error_ms = 0;
  const char *site = NULL, *error = NULL;
  bool is_known = false;
  char text[256];
  snprintf(text, sizeof text, "%.*s", (int)name.len, (const char *)name.at);
  for (unsigned i = 0; i < control->o.shards; i++) {
    const struct domain_show *show = &shows[i];
    is_known |= show->is_known;
    waiting += show->waiting;
    given += show->given;
    if (show->site != NULL) site = show->site;
    if (show->error != NULL && show->error_ms >= error_ms) {
      error = show->error;
      error_ms = show->error_ms;
    }
    for (size_t m = 0; show->messages != NULL && m < json_array_size(show->messages) && json_array_size(messages) < limit; m++)
      json_array_append(messages, json_array_get(show->messages, m));
  }
  const struct suspension *suspension = suspension_over(control, text, site);
  if (!is_known && suspension == NULL) {
    json_decref(messages);
    return reply_error(404, "no mail for %s is in the queue", text);
  }
  return reply_ok(json_pack("{s:o,s:I,s:I,s:b,s:o,s:o,s:o,s:o,s:o}", "domain", json_text(text), "deferred", (json_int_t)waiting, "ready_or_in_flight",
                            (json_int_t)given, "suspended", suspension != NULL, "suspension_reason",
                            json_text(suspension != NULL ? suspension->reason : NULL), "last_error", json_text(error), "last_error_at",
                            json_time(error_ms), "site", site_json(shows, control->o.shards), "messages", messages));
}

struct reply show_domain(struct control *control, struct span domain, unsigned limit) {
  struct domain_show *shows = calloc(control->o.shards, sizeof *shows);
  uint8_t room[256];
  if (shows == NULL) return (struct reply){500, NULL};
  struct span name = span_lower(span_first(domain, TARGET_DOMAIN_MAX), room, sizeof room);
  for (unsigned i = 0; i < control->o.shards; i++) shows[i] = (struct domain_show){.name = name, .limit = limit};
  struct reply reply = control_ask_all(control, domain_step, shows, sizeof *shows) ? domain_reply(control, shows, name, limit)
                                                                                   : reply_error(503, "the relay is stopping");
  for (unsigned i = 0; i < control->o.shards; i++) free_domain_show(&shows[i]);
  free(shows);
  return reply;
}

/* ---- a message ---- */

struct message_show {
  struct asked asked;
  struct finder finder;
  unsigned at;  /* recipient */
  json_t *json; /* NULL: it is not here */
  json_t *recipients;
  unsigned shard;
};

static void why_waiting(const struct message *message, unsigned i, json_t *json) {
  const struct domain_queue *queue = message->recipient[i].domain;
  if (message->recipient[i].held) {
    json_object_set_new(json, "why", json_string("its domain, its site or all mail is suspended"));
  } else {
    json_object_set_new(
        json, "why",
        json_string(message->recipient[i].attempts > 0 ? "its last try failed: it waits for the next" : "it waits for its time, or for memory"));
  }
  json_object_set_new(json, "last_error", json_text(queue != NULL ? queue->error : NULL));
}

static void show_recipient(struct message_show *show, unsigned i) {
  const struct message *message = show->finder.message;
  json_t *json = recipient_json(message, i);
  const struct domain_queue *queue = message->recipient[i].state == RECIPIENT_DONE ? NULL : message->recipient[i].domain; /* it may be gone */
  json_object_set_new(json, "site", json_text(queue != NULL ? operate_site_of(queue) : NULL));
  if (message->recipient[i].state == RECIPIENT_WAITING) why_waiting(message, i, json);
  json_array_append_new(show->recipients, json);
}

static bool message_step(struct errand *errand, void *context) {
  struct message_show *show = (struct message_show *)errand;
  if (show->json == NULL) {
    if (!finder_step(&show->finder, context)) return false;
    const struct message *message = show->finder.message;
    if (message == NULL) return true;
    show->json = json_object();
    show->recipients = json_array();
    put_message(show->json, message);
    json_object_set_new(show->json, "shard", json_integer((json_int_t)show->asked.shard));
    json_object_set_new(show->json, "client", json_span(message_peer(message)));
    json_object_set_new(show->json, "stored", json_boolean(message->place.segment != 0));
  }
  for (unsigned budget = RECIPIENTS_A_STEP; budget > 0 && show->at < show->finder.message->recipients; budget--) show_recipient(show, show->at++);
  if (show->at < show->finder.message->recipients) return false;
  finder_end(&show->finder, context);
  return true;
}

/* READY ones may be on another shard: all are asked. */
struct why {
  struct asked asked;
  uint64_t id;
  const json_t *recipients; /* of the message; nobody changes it meanwhile */
  const unsigned *ready;    /* which of them */
  unsigned count, at;
  unsigned owner;
  char *text[EXPLAINED_MAX]; /* owned; NULL: it is not here */
};

static char *explain(const struct why *why, struct relay *relay, unsigned recipient) {
  const json_t *json = json_array_get(why->recipients, recipient);
  const char *address = json_string_value(json_object_get(json, "recipient")), *site = json_string_value(json_object_get(json, "site"));
  const char *domain = address != NULL && why->asked.shard == why->owner ? strrchr(address, '@') : NULL;
  const struct domain_queue *queue = domain != NULL ? domain_queue_find(&relay_schedule(relay)->domains, span_of_text(domain + 1)) : NULL;
  char room[WHY_ROOM];
  struct fmt out = fmt_over(room, WHY_ROOM - 1);
  if (!operate_explain(relay_outlet(relay), why->id, recipient, queue, span_of_text(site != NULL ? site : ""), &out)) return NULL;
  room[out.len] = '\0';
  return strdup(room);
}

static bool why_step(struct errand *errand, void *context) {
  struct why *why = (struct why *)errand;
  for (unsigned budget = EXPLAINED_A_STEP; budget > 0 && why->at < why->count; budget--, why->at++)
    why->text[why->at] = explain(why, context, why->ready[why->at]);
  return why->at == why->count;
}

/* Gives which recipients are ready, the first EXPLAINED_MAX; of the others it is said that nobody looked. */
static unsigned find_ready(const json_t *recipients, unsigned ready[EXPLAINED_MAX]) {
  unsigned count = 0;
  size_t i;
  json_t *json;
  json_array_foreach(recipients, i, json) {
    const char *state = json_string_value(json_object_get(json, "state"));
    if (state == NULL || strcmp(state, "ready") != 0) continue;
    if (count < EXPLAINED_MAX) {
      ready[count++] = (unsigned)i;
    } else {
      json_object_set_new(json, "why", json_sprintf("not looked for: only the first %d that are ready are", EXPLAINED_MAX));
    }
  }
  return count;
}

static void put_whys(const struct control *control, const struct message_show *show, const struct why *whys) {
  for (unsigned r = 0; r < whys->count; r++) {
    json_t *json = json_array_get(show->recipients, whys->ready[r]);
    json_object_set_new(json, "why", json_sprintf("on its way between shards, or behind more than %d others", OPERATE_LOOKS_MAX));
    for (unsigned i = 0; i < control->o.shards; i++)
      if (whys[i].text[r] != NULL) json_object_set_new(json, "why", json_text(whys[i].text[r]));
  }
}

static bool explain_ready(struct control *control, const struct message_show *show) {
  unsigned ready[EXPLAINED_MAX], count = find_ready(show->recipients, ready);
  struct why *whys = calloc(control->o.shards, sizeof *whys);
  if (whys == NULL) return false;
  for (unsigned i = 0; i < control->o.shards; i++)
    whys[i] = (struct why){.id = show->finder.id, .recipients = show->recipients, .ready = ready, .count = count, .owner = show->shard};
  bool asked = control_ask_all(control, why_step, whys, sizeof *whys);
  if (asked) put_whys(control, show, whys);
  for (unsigned i = 0; i < control->o.shards; i++)
    for (unsigned r = 0; r < count; r++) free(whys[i].text[r]);
  free(whys);
  return asked;
}

struct reply show_message(struct control *control, uint64_t id) {
  struct message_show *shows = calloc(control->o.shards, sizeof *shows), *found = NULL;
  bool on_disk = false;
  if (shows == NULL) return (struct reply){500, NULL};
  for (unsigned i = 0; i < control->o.shards; i++) shows[i].finder.id = id;
  bool asked = control_ask_all(control, message_step, shows, sizeof *shows);
  for (unsigned i = 0; i < control->o.shards; i++) {
    on_disk |= shows[i].finder.on_disk;
    if (shows[i].json == NULL) continue;
    json_object_set(shows[i].json, "recipients", shows[i].recipients);
    found = &shows[i];
    found->shard = i;
  }
  if (asked && found != NULL) asked = explain_ready(control, found);
  struct reply reply = reply_error(503, "the relay is stopping");
  if (asked) {
    json_decref(reply.json);
    reply = found == NULL ? reply_no_message(on_disk) : reply_ok(json_incref(found->json));
  }
  for (unsigned i = 0; i < control->o.shards; i++) {
    json_decref(shows[i].json);
    json_decref(shows[i].recipients);
  }
  free(shows);
  return reply;
}
