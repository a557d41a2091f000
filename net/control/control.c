#include "net/control/control.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/error.h"
#include "dns/name.h"
#include "net/control/inside.h"

/* ---- all shards ---- */

static struct asked *task_of(void *tasks, size_t size, unsigned shard) { return (struct asked *)((uint8_t *)tasks + shard * size); }

bool control_ask_all(struct control *control, errand_step step, void *tasks, size_t size) {
  bool all = true;
  for (unsigned i = 0; i < control->o.shards; i++) {
    struct asked *asked = task_of(tasks, size, i);
    asked->control = control;
    asked->shard = i;
    errand_init(&asked->errand, step, control->relays[i]);
    errand_ask(relay_shard(control->relays[i]), &asked->errand);
  }
  for (unsigned i = 0; i < control->o.shards; i++) all &= errand_await(&task_of(tasks, size, i)->errand);
  return all;
}

#define RETRY_AT_ONCE 4096
#define RETRY_A_MS 2 /* on each shard, then */

void control_retry(struct relay *relay, struct message *message, unsigned recipient, uint64_t number) {
  if (number < RETRY_AT_ONCE) {
    schedule_retry(relay_schedule(relay), message, recipient);
  } else {
    schedule_set_due(relay_schedule(relay), message, recipient, relay_shard(relay)->wall_ms + (number - RETRY_AT_ONCE) / RETRY_A_MS);
  }
}

/* ---- JSON ---- */

json_t *json_span(struct span text) {
  json_t *json = json_stringn((const char *)text.at, text.len);
  if (json != NULL || text.len == 0) return json != NULL ? json : json_string("");
  char *copy = malloc(text.len);
  for (size_t at = 0, len; copy != NULL && at < text.len; at += len) {
    struct span rest = span_skip(text, at);
    bool is_sound = (len = span_utf8_length(rest)) > 0;
    if (!is_sound) len = 1;
    memcpy(copy + at, is_sound ? (const char *)rest.at : "?", len);
  }
  json = copy == NULL ? NULL : json_stringn(copy, text.len);
  free(copy);
  return json;
}

json_t *json_text(const char *text) { return text == NULL ? json_null() : json_span(span_of_text(text)); }

json_t *json_time(uint64_t wall_ms) { return wall_ms == 0 || wall_ms == UINT64_MAX ? json_null() : json_real((double)wall_ms / 1000); }

json_t *json_id(uint64_t id) {
  uint8_t room[16];
  struct fmt out = fmt_over(room, sizeof room);
  fmt_hex64(&out, id);
  return json_span(fmt_span(&out));
}

bool parse_id(struct span text, uint64_t *id) {
  *id = 0;
  for (size_t i = 0; i < text.len; i++) {
    uint8_t c = ascii_lower(text.at[i]);
    bool is_letter = c >= 'a' && c <= 'f';
    if (!ascii_is_digit(c) && !is_letter) return false;
    *id = *id << 4 | (uint64_t)(is_letter ? c - 'a' + 10 : c - '0');
  }
  return text.len > 0 && text.len <= 16;
}

/* What can be the domain of an address or the name of a site: to say yes to `*.example.org` would be to do nothing. */
static bool is_name(enum target_kind kind, struct span name) {
  struct dns_name parsed;
  for (size_t i = 0; i < name.len; i++)
    if (name.at[i] <= ' ' || name.at[i] == 0x7f || name.at[i] == '@' || name.at[i] == '*') return false;
  return kind != TARGET_DOMAIN || name.at[0] == '[' || dns_name_parse(&parsed, name) == E_OK;
}

static struct span without_root(struct span name) {
  if (name.len > 1 && name.at[name.len - 1] == '.') name.len--;
  return name;
}

bool control_is_domain(struct span name) {
  name = without_root(name);
  return name.len > 0 && name.len <= TARGET_DOMAIN_MAX && is_name(TARGET_DOMAIN, name);
}

bool control_is_site(struct span name) { return name.len > 0 && name.len <= MX_SITE_NAME_MAX && is_name(TARGET_SITE, name); }

bool control_is_id(struct span text) {
  uint64_t id;
  return parse_id(text, &id);
}

bool control_is_reason(struct span text) {
  for (size_t i = 0; i < text.len; i++)
    if (text.at[i] < ' ' || text.at[i] == 0x7f) return false;
  return text.len <= CONTROL_REASON_MAX;
}

bool control_read_for(struct span text, uint64_t *ms) {
  uint64_t most;
  return conf_duration(SPAN(CONTROL_FOR_MAX), &most) == E_OK && conf_duration(text, ms) == E_OK && *ms > 0 && *ms <= most;
}

static void keep_name(struct target_of *target, enum target_kind kind, struct span name) {
  target->kind = kind;
  for (size_t i = 0; i < name.len; i++) target->name[i] = (char)ascii_lower(name.at[i]);
  target->name[name.len] = '\0';
}

static bool read_domain(const json_t *json, struct target_of *target) {
  struct span name = json_is_string(json) ? span_of_text(json_string_value(json)) : SPAN("");
  if (!control_is_domain(name)) return false;
  keep_name(target, TARGET_DOMAIN, without_root(name));
  return true;
}

static bool read_site(const json_t *json, struct target_of *target) {
  struct span name = json_is_string(json) ? span_of_text(json_string_value(json)) : SPAN("");
  if (!control_is_site(name)) return false;
  keep_name(target, TARGET_SITE, name);
  return true;
}

static bool read_message(const json_t *json, struct target_of *target) {
  if (!json_is_string(json) || !parse_id(span_of_text(json_string_value(json)), &target->id)) return false;
  target->kind = TARGET_MESSAGE;
  return true;
}

static bool read_all(const json_t *json, struct target_of *target) {
  if (json_is_true(json)) target->kind = TARGET_ALL;
  return json_is_true(json);
}

bool read_target(const json_t *json, struct target_of *target, struct fmt *why) {
  static const struct {
    const char *key;
    bool (*read)(const json_t *json, struct target_of *target);
    const char *rule;
  } ways[] = {{"domain", read_domain, "\"domain\" has to be a string, a domain like example.org, without * or @"},
              {"site", read_site, "\"site\" has to be a string, the name of a site as in `ctl queue --sites`"},
              {"message", read_message, "\"message\" has to be a string, an id of up to 16 hexadecimal digits"},
              {"all", read_all, "\"all\" has to be true"}};
  const size_t count = sizeof ways / sizeof *ways;
  size_t given = 0, which = 0;
  *target = (struct target_of){.kind = TARGET_INVALID};
  for (size_t i = 0; i < count; i++) {
    if (json_object_get(json, ways[i].key) == NULL) continue;
    given++;
    which = i;
  }
  if (given != 1) {
    fmt_text(why, "exactly one of \"domain\": \"NAME\", \"site\": \"NAME\", \"message\": \"ID\", \"all\": true is needed");
  } else if (!ways[which].read(json_object_get(json, ways[which].key), target)) {
    fmt_text(why, ways[which].rule);
  }
  return target->kind != TARGET_INVALID;
}

const char *unknown_key(const json_t *json, const char *const *known) {
  const char *key;
  const json_t *value;
  json_object_foreach((json_t *)(uintptr_t)json, key, value) {
    bool is_known = false;
    for (unsigned i = 0; known[i] != NULL; i++) is_known |= strcmp(known[i], key) == 0;
    if (!is_known) return key;
  }
  return NULL;
}

struct reply reply_error(unsigned status, const char *format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  return (struct reply){status, json_pack("{s:o}", "error", json_text(text))};
}

struct reply reply_ok(json_t *json) {
  return (struct reply){200, json};
}

uint64_t control_sum(const struct control *control, enum counter which) {
  uint64_t sum = 0;
  for (unsigned i = 0; i < control->o.shards; i++) sum += count_get(control->o.counters[i], which);
  return sum;
}

struct reply reply_no_message(bool is_on_disk) {
  if (is_on_disk)
    return reply_error(404, "it still waits on disk for room in memory (messages_unloaded in status): until then it can only be bounced");
  return reply_error(404, "there is no such message in the queue: it has ended, or never was; its events say more");
}

/* ---- life ---- */

int control_open(struct control **out, const struct control_options *options, struct fmt *why) {
  struct control *control = calloc(1, sizeof *control);
  if (control == NULL) {
    fmt_text(why, "out of memory");
    return E_NO_MEMORY;
  }
  control->o = *options;
  pthread_mutex_init(&control->lock, NULL);
  bool is_open = suspend_open(control);
  if (!is_open) fmt_text(why, "out of memory");
  int error = is_open ? suspend_load(control, why) : E_NO_MEMORY;
  if (error != E_OK) {
    control_close(control);
    return error;
  }
  *out = control;
  return E_OK;
}

bool control_holds(const struct control *control) { return control->suspensions != NULL; }

void control_start(struct control *control, struct relay *const *relays) {
  pthread_mutex_lock(&control->lock);
  control->relays = relays;
  suspend_start(control);
  pthread_mutex_unlock(&control->lock);
}

void control_close(struct control *control) {
  if (control == NULL) return;
  if (control->unsaved) (void)suspend_save(control);
  for (struct suspension *one = control->suspensions, *next; one != NULL; one = next) {
    next = one->next;
    free(one->reason);
    free(one);
  }
  pthread_mutex_destroy(&control->lock);
  suspend_close(control);
  free(control);
}

int control_reload(struct control *control, struct fmt *why, bool *now) {
  *now = pthread_mutex_trylock(&control->lock) == 0;
  if (!*now) return E_BUSY; /* whoever handles signals waits for no operation under way, but for its own: a walk over what is suspended */
  int error = control->o.reload(control->o.reload_context, why);
  if (error == E_OK) suspend_reconsider(control);
  pthread_mutex_unlock(&control->lock);
  return error;
}

void control_tick(struct control *control) {
  if (pthread_mutex_trylock(&control->lock) != 0) return;
  suspend_expire(control);
  if (control->o.look != NULL) control->o.look(control->o.reload_context);
  pthread_mutex_unlock(&control->lock);
}
