/* Suspensions: told to the shards, kept in a file beside the spools, ended when their time is over. */
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/base/canary.h"
#include "core/base/error.h"
#include "net/control/inside.h"

#define FILE_NAME "suspensions.json"
#define FILE_BYTES_MAX ((size_t)64 << 20)
#define RECIPIENTS_A_STEP 256
#define TIME_MAX_S 1e11 /* a time beyond is a mistake */

/* ---- on the shards ---- */

struct holding {
  struct asked asked;
  const struct target_of *target;
  bool held, begun;
  int error;
};

static int hold(struct outlet *outlet, const struct target_of *target, bool held) {
  switch (target->kind) {
  case TARGET_ALL: operate_hold_all(outlet, held); return E_OK;
  case TARGET_DOMAIN: return operate_hold_domain(outlet, span_of_text(target->name), held);
  case TARGET_SITE: return operate_hold_site(outlet, span_of_text(target->name), held);
  case TARGET_MESSAGE: operate_hold_message(outlet, target->id, held); return E_OK;
  default: return E_RANGE;
  }
}

static bool hold_step(struct errand *errand, void *context) {
  struct holding *holding = (struct holding *)errand;
  struct outlet *outlet = relay_outlet(context);
  if (!holding->begun) holding->error = hold(outlet, holding->target, holding->held);
  holding->begun = true;
  return !holding->held || holding->error != E_OK || operate_recall(outlet);
}

bool suspend_hold(struct control *control, const struct target_of *target, bool held) {
  struct holding *holdings = control->holdings;
  for (unsigned i = 0; i < control->o.shards; i++) holdings[i] = (struct holding){.target = target, .held = held};
  bool all = control_ask_all(control, hold_step, holdings, sizeof *holdings);
  for (unsigned i = 0; i < control->o.shards; i++) all &= holdings[i].error == E_OK;
  return all;
}

struct release {
  struct asked asked;
  struct relay *relay;
  struct domain_walk walk;
  uint64_t done;
};

static bool is_free(void *context, struct domain_queue *queue) { return !operate_is_held(relay_outlet(((struct release *)context)->relay), queue); }

static bool release_each(void *context, struct message *message, unsigned recipient) {
  struct release *release = context;
  if (message->recipient[recipient].held) control_retry(release->relay, message, recipient, release->done++);
  return true;
}

static bool walk_on(struct release *release, struct relay *relay) {
  struct schedule *schedule = relay_schedule(relay);
  if (release->walk.queues == NULL) {
    release->relay = relay;
    release->walk.context = release;
    domain_walk_begin(&release->walk, &schedule->domains, schedule->held > 0 ? schedule->domains.first : NULL, false);
  }
  return domain_walk_on(&release->walk, RECIPIENTS_A_STEP);
}

static bool release_step(struct errand *errand, void *relay) {
  struct release *release = (struct release *)errand;
  release->walk.enter = is_free;
  release->walk.each = release_each;
  return walk_on(release, relay);
}

static bool release_all(struct control *control, errand_step step) {
  memset(control->releases, 0, control->o.shards * sizeof *control->releases);
  return control_ask_all(control, step, control->releases, sizeof *control->releases);
}

bool suspend_release(struct control *control) { return release_all(control, release_step); }

static bool is_any(void *context, struct domain_queue *queue) {
  (void)context;
  (void)queue;
  return true;
}

static bool set_age_each(void *context, struct message *message, unsigned recipient) {
  const struct release *release = context;
  if (message->recipient[recipient].held) operate_set_age(relay_outlet(release->relay), message, recipient);
  return true;
}

static bool set_ages_step(struct errand *errand, void *relay) {
  struct release *release = (struct release *)errand;
  release->walk.enter = is_any;
  release->walk.each = set_age_each;
  return walk_on(release, relay);
}

static bool is_any_of_site(const struct control *control) {
  const struct suspension *one = control->suspensions;
  while (one != NULL && one->target.kind != TARGET_SITE) one = one->next;
  return one != NULL;
}

/* If the relay is stopping it reads the file again when it starts. */
void suspend_reconsider(struct control *control) {
  if (control->suspensions != NULL) (void)release_all(control, set_ages_step);
  if (is_any_of_site(control)) (void)suspend_release(control); /* a route may lead elsewhere now */
}

bool suspend_open(struct control *control) {
  control->holdings = calloc(control->o.shards, sizeof *control->holdings);
  control->releases = calloc(control->o.shards, sizeof *control->releases);
  return control->holdings != NULL && control->releases != NULL;
}

void suspend_close(struct control *control) {
  free(control->holdings);
  free(control->releases);
}

/* ---- which there are ---- */

static bool is_same(const struct target_of *a, const struct target_of *b) { return a->kind == b->kind && strcmp(a->name, b->name) == 0; }

const struct suspension *suspension_of(const struct control *control, const struct target_of *target) {
  const struct suspension *one = control->suspensions;
  while (one != NULL && !is_same(&one->target, target)) one = one->next;
  return one;
}

static bool is_over(const struct suspension *one, const char *domain, const char *site) {
  switch (one->target.kind) {
  case TARGET_ALL: return true;
  case TARGET_DOMAIN: return domain != NULL && strcmp(one->target.name, domain) == 0;
  case TARGET_SITE: return site != NULL && strcmp(one->target.name, site) == 0;
  default: return false;
  }
}

const struct suspension *suspension_over(const struct control *control, const char *domain, const char *site) {
  const struct suspension *one = control->suspensions;
  while (one != NULL && !is_over(one, domain, site)) one = one->next;
  return one;
}

static void add(struct control *control, struct suspension *one) {
  one->next = control->suspensions;
  control->suspensions = one;
}

static void forget(struct control *control, const struct suspension *which) {
  struct suspension **at = &control->suspensions;
  while (*at != which) at = &(*at)->next;
  struct suspension *one = *at;
  *at = one->next;
  free(one->reason);
  free(one);
}

/* ---- as JSON: in answers, and in the file ---- */

static json_t *to_json(const struct suspension *one) {
  static const char *const keys[] = {[TARGET_ALL] = "all", [TARGET_DOMAIN] = "domain", [TARGET_SITE] = "site"};
  json_t *what = one->target.kind == TARGET_ALL ? json_true() : json_text(one->target.name);
  return json_pack("{s:o,s:o,s:o,s:o}", keys[one->target.kind], what, "reason", json_text(one->reason), "since", json_time(one->since_ms), "until",
                   json_time(one->until_ms));
}

struct reply suspend_list(const struct control *control) {
  json_t *list = json_array();
  for (const struct suspension *one = control->suspensions; one != NULL; one = one->next) json_array_append_new(list, to_json(one));
  return reply_ok(list);
}

/* Absent or null: 0. */
static bool read_time(const json_t *json, uint64_t *wall_ms) {
  double seconds = json_number_value(json);
  bool is_given = json != NULL && !json_is_null(json);
  *wall_ms = 0;
  if (!is_given) return true;
  if (!json_is_number(json) || !(seconds > 0 && seconds < TIME_MAX_S)) return false;
  *wall_ms = (uint64_t)llround(seconds * 1000);
  return true;
}

/* What is wrong with it goes to `why`. */
static bool read_suspension(const json_t *json, struct suspension *one, struct fmt *why) {
  static const char *const known[] = {"all", "domain", "site", "reason", "since", "until", NULL};
  const json_t *reason = json_object_get(json, "reason");
  const char *unknown = unknown_key(json, known);
  if (unknown != NULL) {
    json_t *key = json_text(unknown);
    char *text = json_dumps(key, JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
    fmt_text(why, text != NULL ? text : "something");
    fmt_text(why, " is no key of a suspension");
    free(text);
    json_decref(key);
  } else if (!read_target(json, &one->target, why)) {
    return false;
  } else if (reason != NULL && !json_is_string(reason)) {
    fmt_text(why, "\"reason\" has to be a string");
  } else if (!read_time(json_object_get(json, "since"), &one->since_ms)) {
    fmt_text(why, "\"since\" has to be a time, in seconds since 1970, or null");
  } else if (!read_time(json_object_get(json, "until"), &one->until_ms)) {
    fmt_text(why, "\"until\" has to be a time, in seconds since 1970, or null");
  } else {
    return true;
  }
  return false;
}

/* NULL: it is none (`why` says why), or no memory. */
static struct suspension *from_json(const json_t *json, struct fmt *why) {
  struct suspension *one = calloc(1, sizeof *one);
  if (one != NULL && read_suspension(json, one, why)) {
    const char *reason = json_string_value(json_object_get(json, "reason"));
    one->reason = strdup(reason != NULL ? reason : "");
    if (one->reason != NULL) return one;
  }
  free(one);
  return NULL;
}

/* ---- the file ---- */

static void path_of(const struct control *control, char path[4096]) { snprintf(path, 4096, "%s/" FILE_NAME, control->o.spool_path); }

/* What cannot be kept now is tried again by suspend_expire. */
int suspend_save(struct control *control) {
  char path[4096];
  path_of(control, path);
  json_t *list = suspend_list(control).json;
  char *text = json_dumps(list, JSON_INDENT(1) | JSON_HOW);
  json_decref(list);
  int error = text == NULL ? E_NO_MEMORY : system_write_file(path, span_of_text(text));
  free(text);
  control->unsaved = error != E_OK;
  return error;
}

static int load_list(struct control *control, const json_t *list, struct fmt *why) {
  size_t i;
  const json_t *json;
  json_array_foreach(list, i, json) {
    struct fmt before = *why;
    fmt_text(why, ": entry ");
    fmt_u64(why, i + 1);
    fmt_text(why, ": ");
    struct suspension *one = from_json(json, why);
    if (one == NULL) return E_SYNTAX;
    *why = before;
    add(control, one);
  }
  return E_OK;
}

/* All is held at first. If the relay is stopping again, it stays so. */
void suspend_start(struct control *control) {
  static const struct target_of all = {.kind = TARGET_ALL};
  bool held = control->suspensions != NULL;
  for (const struct suspension *one = control->suspensions; one != NULL && !canary(CANARY_RESUMED); one = one->next)
    held &= suspend_hold(control, &one->target, true);
  if (!held && control->suspensions != NULL)
    fprintf(stderr, "ringpost: suspensions could not be taken up: all mail is held until `ctl resume --all`\n");
  if (held && suspension_of(control, &all) == NULL && suspend_hold(control, &all, false)) (void)suspend_release(control);
}

int suspend_load(struct control *control, struct fmt *why) {
  char path[4096];
  json_error_t wrong = {.text = ""};
  uint8_t *bytes = NULL;
  size_t len = 0;
  path_of(control, path);
  int error = system_read_file(path, FILE_BYTES_MAX, &bytes, &len);
  if (error == E_NOT_FOUND || error == E_NOT_DIRECTORY) return E_OK; /* what is wrong with the spool itself is said by whoever opens it */
  fmt_text(why, path);
  json_t *list = error == E_OK ? json_loadb((const char *)bytes, len, JSON_REJECT_DUPLICATES, &wrong) : NULL;
  free(bytes);
  if (error == E_OK) error = json_is_array(list) ? load_list(control, list, why) : E_SYNTAX;
  if (list == NULL) {
    fmt_text(why, ": ");
    fmt_text(why, wrong.text[0] != '\0' ? wrong.text : error_text(error));
  } else if (!json_is_array(list)) {
    fmt_text(why, ": is no list");
  }
  json_decref(list);
  return error;
}

/* ---- operations ---- */

static void describe(const struct target_of *target, char *room, size_t size) {
  snprintf(room, size, target->kind == TARGET_ALL ? "all mail" : "%s", target->name);
}

struct reply suspend_begin(struct control *control, const struct target_of *target, const char *reason, uint64_t for_ms) {
  const struct suspension *before = suspension_of(control, target);
  struct suspension *one = calloc(1, sizeof *one);
  char *copy = strdup(reason);
  if (one == NULL || copy == NULL) {
    free(one);
    free(copy);
    return (struct reply){500, NULL};
  }
  uint64_t now_ms = system_wall_ms();
  *one = (struct suspension){.target = *target, .reason = copy, .since_ms = now_ms, .until_ms = for_ms == 0 ? 0 : now_ms + for_ms};
  if (before != NULL) forget(control, before);
  add(control, one);
  int error = suspend_save(control);
  if (!suspend_hold(control, target, true))
    return reply_error(503, "the relay is stopping, or out of memory: in part it is suspended; suspend it again, or resume it");
  if (error != E_OK)
    return reply_error(507, "it is suspended, but until it can be written a restart would not know: %s/" FILE_NAME ": %s", control->o.spool_path,
                       error_text(error));
  return reply_ok(to_json(one));
}

/* False: the relay is stopping. */
static bool end(struct control *control, const struct suspension *one) {
  struct target_of target = one->target;
  forget(control, one);
  return suspend_hold(control, &target, false);
}

static struct reply resume_all(struct control *control) {
  json_int_t count = 0;
  bool ended = true;
  for (; control->suspensions != NULL; count++) ended &= end(control, control->suspensions);
  int error = suspend_save(control);
  if (!ended || !suspend_release(control)) return reply_error(503, "the relay is stopping");
  if (error != E_OK)
    return reply_error(507, "it is resumed, but until it can be written a restart would not know: %s/" FILE_NAME ": %s", control->o.spool_path,
                       error_text(error));
  return reply_ok(json_pack("{s:I}", "resumed", count));
}

/* Of all: whatever is suspended. */
struct reply suspend_end(struct control *control, const struct target_of *target) {
  const struct suspension *one = suspension_of(control, target);
  char name[1100];
  describe(target, name, sizeof name);
  if (target->kind == TARGET_ALL) return resume_all(control);
  if (one == NULL) return reply_error(404, "%s is not suspended", name);
  bool ended = end(control, one);
  int error = suspend_save(control);
  if (!ended || !suspend_release(control)) return reply_error(503, "the relay is stopping");
  if (error != E_OK)
    return reply_error(507, "it is resumed, but until it can be written a restart would not know: %s/" FILE_NAME ": %s", control->o.spool_path,
                       error_text(error));
  return reply_ok(json_pack("{s:i}", "resumed", 1));
}

void suspend_expire(struct control *control) {
  uint64_t now_ms = system_wall_ms();
  bool any = false;
  for (const struct suspension *one = control->suspensions, *next; one != NULL; one = next) {
    next = one->next;
    if (one->until_ms == 0 || one->until_ms > now_ms) continue;
    any = true;
    (void)end(control, one); /* if the relay is stopping, the file says so still, and the next start ends it */
  }
  if (any || control->unsaved) (void)suspend_save(control);
  if (any) (void)suspend_release(control);
}
