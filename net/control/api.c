/* The API: from a request to an operation and back. docs/API.md says what there is. */
#include <stdio.h>
#include <stdlib.h>

#include "net/control/inside.h"

#define LIST_LIMIT 100

/* ---- what is asked for ---- */

static bool read_limit(const struct http_request *request, unsigned most, unsigned *limit) {
  const char *text = http_argument(request, "limit");
  uint64_t value = LIST_LIMIT;
  if (text != NULL && (!span_to_u64(span_of_text(text), &value) || value > most)) return false;
  *limit = (unsigned)value;
  return true;
}

struct order {
  struct target_of target;
  const char *reason;
  bool quiet;
  uint64_t for_ms;
};

/* A key nobody knows is a mistake that would otherwise be done silently. */
static struct reply reply_unknown_key(const char *key, const char *const *known) {
  char room[128];
  struct fmt list = fmt_over(room, sizeof room - 1);
  for (unsigned i = 0; known[i] != NULL; i++) {
    fmt_text(&list, i > 0 ? ", " : "");
    fmt_text(&list, known[i]);
  }
  room[list.len] = '\0';
  return reply_error(400, "\"%s\" is no key of this: there are %s", key, room);
}

/* False: `reply` says what is wrong. */
static bool read_order(const json_t *body, const char *const *known, struct order *order, struct reply *reply) {
  const char *unknown = unknown_key(body, known);
  char room[256];
  struct fmt why = fmt_over(room, sizeof room);
  const json_t *reason = json_object_get(body, "reason"), *quiet = json_object_get(body, "quiet"), *time = json_object_get(body, "for");
  order->reason = reason != NULL ? json_string_value(reason) : "";
  order->quiet = json_is_true(quiet);
  order->for_ms = 0;
  if (unknown != NULL) {
    *reply = reply_unknown_key(unknown, known);
  } else if (!read_target(body, &order->target, &why)) {
    *reply = reply_error(400, "%.*s", (int)why.len, room);
  } else if (order->reason == NULL || !control_is_reason(span_of_text(order->reason))) {
    *reply = reply_error(400, "\"reason\" has to be a string, a line of at most %d bytes without control characters", CONTROL_REASON_MAX);
  } else if (quiet != NULL && !json_is_boolean(quiet)) {
    *reply = reply_error(400, "\"quiet\" has to be true or false");
  } else if (time != NULL && (!json_is_string(time) || !control_read_for(span_of_text(json_string_value(time)), &order->for_ms))) {
    *reply = reply_error(400, "\"for\" has to be a string, a duration like \"10m\", \"4h\" or \"2d\", of " CONTROL_FOR_MAX " at most");
  } else {
    return true;
  }
  return false;
}

/* ---- each of the requests ---- */

static struct reply get_status(struct control *control, const struct http_request *request, const char *rest, json_t *body) {
  static const struct {
    const char *name;
    enum counter which;
  } shown[] = {{"messages_received", COUNT_MESSAGES_RECEIVED},
               {"recipients_delivered", COUNT_DELIVERED},
               {"recipients_bounced", COUNT_BOUNCED},
               {"recipients_expired", COUNT_EXPIRED},
               {"recipients_admin_bounced", COUNT_ADMIN_BOUNCED},
               {"attempts_deferred", COUNT_DEFERRED},
               {"sessions_open", GAUGE_SESSIONS},
               {"connections_open", GAUGE_CONNECTIONS},
               {"messages_queued", GAUGE_QUEUED_MESSAGES},
               {"messages_unloaded", GAUGE_UNLOADED_MESSAGES},
               {"recipients_ready", GAUGE_READY_RECIPIENTS},
               {"recipients_deferred", GAUGE_DEFERRED_RECIPIENTS},
               {"recipients_suspended", GAUGE_HELD_RECIPIENTS},
               {"spool_bytes", GAUGE_SPOOL_DISK_BYTES},
               {"shards_spool_full", GAUGE_SPOOL_FULL},
               {"shards_spool_failed", GAUGE_SPOOL_FAILED}};
  (void)request, (void)rest, (void)body;
  uint64_t now_ms = system_wall_ms();
  int suspensions = 0;
  for (const struct suspension *one = control->suspensions; one != NULL; one = one->next) suspensions++;
  json_t *json = json_pack("{s:s,s:i,s:f,s:i}", "version", RINGPOST_VERSION, "shards", (int)control->o.shards, "uptime_s",
                           (double)(now_ms - control->o.started_ms) / 1000, "suspensions", suspensions);
  for (size_t i = 0; i < sizeof shown / sizeof *shown; i++) {
    json_object_set_new(json, shown[i].name, json_integer((json_int_t)control_sum(control, shown[i].which)));
  }
  return reply_ok(json);
}

static struct reply get_queue(struct control *control, const struct http_request *request, const char *rest, json_t *body) {
  const char *by = http_argument(request, "by");
  unsigned limit;
  (void)body;
  if (*rest != '\0') {
    if (!read_limit(request, CONTROL_MESSAGES_MAX, &limit)) return reply_error(400, "limit has to be a number up to %d", CONTROL_MESSAGES_MAX);
    if (strlen(rest) > TARGET_DOMAIN_MAX) return reply_error(400, "a domain has at most %d bytes", TARGET_DOMAIN_MAX);
    return show_domain(control, span_of_text(rest), limit);
  }
  if (!read_limit(request, CONTROL_LIST_MAX, &limit)) return reply_error(400, "limit has to be a number up to %d", CONTROL_LIST_MAX);
  if (by != NULL && strcmp(by, "site") != 0 && strcmp(by, "domain") != 0) return reply_error(400, "by has to be domain or site");
  return list_queues(control, by != NULL && strcmp(by, "site") == 0, limit);
}

static struct reply get_message(struct control *control, const struct http_request *request, const char *rest, json_t *body) {
  uint64_t id;
  (void)request, (void)body;
  if (!parse_id(span_of_text(rest), &id)) return reply_error(400, "an id has up to 16 hexadecimal digits, as in the 250 and in events");
  return show_message(control, id);
}

static struct reply get_suspensions(struct control *control, const struct http_request *request, const char *rest, json_t *body) {
  (void)request, (void)rest, (void)body;
  return reply_ok(json_pack("{s:o}", "suspensions", suspend_list(control).json));
}

static struct reply post_retry(struct control *control, const struct http_request *request, const char *rest, json_t *body) {
  static const char *const known[] = {"domain", "site", "message", "all", NULL};
  struct order order;
  struct reply reply;
  (void)request, (void)rest;
  return read_order(body, known, &order, &reply) ? act_retry(control, &order.target) : reply;
}

static struct reply post_bounce(struct control *control, const struct http_request *request, const char *rest, json_t *body) {
  static const char *const known[] = {"domain", "site", "message", "all", "reason", "quiet", NULL};
  struct order order;
  struct reply reply;
  (void)request, (void)rest;
  if (!read_order(body, known, &order, &reply)) return reply;
  return act_bounce(control, &order.target, *order.reason != '\0' ? order.reason : "given up by the postmaster", order.quiet);
}

static const char no_message[] = "a message cannot be suspended: its domain, its site or all can";

static struct reply post_suspend(struct control *control, const struct http_request *request, const char *rest, json_t *body) {
  static const char *const known[] = {"domain", "site", "message", "all", "reason", "for", NULL};
  struct order order;
  struct reply reply;
  (void)request, (void)rest;
  if (!read_order(body, known, &order, &reply)) return reply;
  if (order.target.kind == TARGET_MESSAGE) return reply_error(400, "%s", no_message);
  return suspend_begin(control, &order.target, order.reason, order.for_ms);
}

static struct reply post_resume(struct control *control, const struct http_request *request, const char *rest, json_t *body) {
  static const char *const known[] = {"domain", "site", "message", "all", NULL};
  struct order order;
  struct reply reply;
  (void)request, (void)rest;
  if (!read_order(body, known, &order, &reply)) return reply;
  if (order.target.kind == TARGET_MESSAGE) return reply_error(400, "%s", no_message);
  return suspend_end(control, &order.target);
}

static struct reply post_reload(struct control *control, const struct http_request *request, const char *rest, json_t *body) {
  char room[512];
  struct fmt why = fmt_over(room, sizeof room - 1);
  (void)request, (void)rest;
  if (json_object_size(body) > 0) return reply_error(400, "reload has no keys");
  if (control->o.reload(control->o.reload_context, &why) != 0) return reply_error(409, "%.*s", (int)why.len, room);
  suspend_reconsider(control);
  return reply_ok(json_pack("{s:b}", "reloaded", 1));
}

/* ---- which there are ---- */

static const struct route {
  const char *name;
  bool changes, takes_rest; /* rest: what stands behind name/ */
  struct reply (*answer)(struct control *control, const struct http_request *request, const char *rest, json_t *body);
} routes[] = {
    {"status", false, false, get_status},           {"queue", false, true, get_queue},    {"message", false, true, get_message},
    {"suspensions", false, false, get_suspensions}, {"retry", true, false, post_retry},   {"bounce", true, false, post_bounce},
    {"suspend", true, false, post_suspend},         {"resume", true, false, post_resume}, {"reload", true, false, post_reload},
};

static const struct route *find_route(const char *path, const char **rest) {
  for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
    size_t len = strlen(routes[i].name);
    if (strncmp(path, routes[i].name, len) != 0 || (path[len] != '\0' && path[len] != '/')) continue;
    *rest = path[len] == '/' ? path + len + 1 : path + len;
    return **rest == '\0' || routes[i].takes_rest ? &routes[i] : NULL;
  }
  return NULL;
}

/* `allow`: with 405, see struct http_answer. */
static struct reply answer(struct control *control, const struct http_request *request, const char **allow) {
  const char *rest = "";
  const struct route *route = find_route(request->path, &rest);
  if (route == NULL) return reply_error(404, "there is no such thing in this API");
  *allow = route->changes ? "POST" : "GET, HEAD";
  if (request->method != (route->changes ? HTTP_CHANGES : HTTP_READS)) return reply_error(405, "this needs a %s", route->changes ? "POST" : "GET");
  if (!route->changes) return route->answer(control, request, rest, NULL);
  json_error_t wrong = {.text = ""};
  json_t *body =
      request->body.len == 0 ? json_object() : json_loadb((const char *)request->body.at, request->body.len, JSON_REJECT_DUPLICATES, &wrong);
  if (body == NULL && json_error_code(&wrong) == json_error_duplicate_key)
    return reply_error(400, "a key of the body stands there twice: %s", wrong.text);
  if (body == NULL) return reply_error(400, "the body is no JSON: %s", wrong.text);
  struct reply reply = json_is_object(body) ? route->answer(control, request, rest, body) : reply_error(400, "the body is no JSON object");
  json_decref(body);
  return reply;
}

void control_answer(void *context, const struct http_request *request, struct http_answer *out) {
  struct control *control = context;
  pthread_mutex_lock(&control->lock);
  struct reply reply = answer(control, request, &out->allow);
  pthread_mutex_unlock(&control->lock);
  out->status = reply.status;
  const size_t how = JSON_COMPACT | JSON_HOW; /* what others sent is harmless to a terminal, too */
  size_t len = reply.json == NULL ? 0 : json_dumpb(reply.json, NULL, 0, how);
  char *text = len == 0 ? NULL : malloc(len + 1);
  if (text != NULL) json_dumpb(reply.json, text, len, how);
  json_decref(reply.json);
  if (text == NULL) return;
  text[len] = '\n';
  out->len = len + 1;
  out->json = text;
}
