#include "tests/sim/operator.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/ledger.h"
#include "tests/sim/orders.h"
#include "tests/sim/settings.h"
#include "tests/sim/world.h"

#define KNOWN_MAX 32
#define BODY_MAX 512
#define LATER_LOW_NS SECOND_NS /* when there is nothing but lists */
#define LATER_HIGH_NS (10 * SECOND_NS)

struct known { /* a message that was seen in a list */
  char id[17];
  unsigned message;
};

static struct {
  const struct operator_plan *plan;
  uint64_t end_ns;
  unsigned acts;
  struct known known[KNOWN_MAX];
  unsigned known_count;
  struct operator_life life;
  struct fiber *fiber; /* NULL: there is no program */
  bool ends;
  bool resumed; /* in this life, after all acts */
  bool looks_last, has_looked;
  struct operator_sums sums;
} own;

const struct operator_sums *operator_sums(void) { return &own.sums; }

void operator_open(const struct operator_plan *plan) {
  memset(&own, 0, sizeof own);
  own.plan = plan;
  own.end_ns = world_now_ns() + plan->acts_ns;
}

/* ---- a request and its answer ---- */

struct answer {
  unsigned status;
  json_t *json;
};

/* `body` NULL: a GET, with an argument if there is one. */
static struct answer ask(const char *path, const char *name, const char *value, const char *body) {
  struct http_request request = {.method = body != NULL ? HTTP_CHANGES : HTTP_READS, .path = path, .body = span_of_text(body != NULL ? body : "")};
  struct http_answer answer = {0};
  json_error_t wrong;
  if (name != NULL) {
    request.argument[0].name = strdup(name);
    request.argument[0].value = strdup(value);
    request.arguments = 1;
  }
  trace("operator asks %s %s", path, body != NULL ? body : name != NULL ? value : "");
  control_answer(own.life.control, &request, &answer);
  trace("operator is answered %u", answer.status);
  own.sums.requests++;
  if (answer.json == NULL) fault("the API has no answer to %s", path);
  struct answer parsed = {answer.status, json_loadb(answer.json, answer.len, 0, &wrong)};
  if (!json_is_object(parsed.json)) fault("the API answers what is no JSON: %.*s", (int)answer.len, answer.json);
  if (answer.status != 200 && !json_is_string(json_object_get(parsed.json, "error")))
    fault("the API answers %u without an error: %.*s", answer.status, (int)answer.len, answer.json);
  free(answer.json);
  free(request.argument[0].name);
  free(request.argument[0].value);
  return parsed;
}

/* 200, one of the other two, or that the relay is stopping, if it is. */
static bool is_good(const char *path, const struct answer *answer, unsigned other, unsigned another) {
  bool stops = answer->status == 503 && *own.life.stopping;
  if (answer->status != 200 && answer->status != other && answer->status != another && !stops)
    fault("the API answers %u to %s: %s", answer->status, path, json_string_value(json_object_get(answer->json, "error")));
  return answer->status == 200;
}

static uint64_t number_of(const json_t *json, const char *key) {
  const json_t *value = json_object_get(json, key);
  if (!json_is_integer(value) || json_integer_value(value) < 0) fault("the API says of %s what is no number of anything", key);
  return (uint64_t)json_integer_value(value);
}

static const char *text_of(const json_t *json, const char *key) {
  const char *text = json_string_value(json_object_get(json, key));
  if (text == NULL) fault("the API gives no %s", key);
  return text;
}

/* 0: null. */
static uint64_t time_of(const json_t *json, const char *key) {
  const json_t *value = json_object_get(json, key);
  if (!json_is_null(value) && !json_is_real(value)) fault("the API says of %s what is no time", key);
  return json_is_null(value) ? 0 : (uint64_t)(json_real_value(value) * 1000 + 0.5);
}

/* ---- targets ---- */

/* The one that was seen last, or another. */
static const struct known *choose_known(void) {
  unsigned count = own.known_count < KNOWN_MAX ? own.known_count : KNOWN_MAX;
  return &own.known[chance_once(2) ? (own.known_count - 1) % KNOWN_MAX : chance(count)];
}

static struct target choose_target(bool messages) {
  struct target target = {.scope = (enum scope)(chance_once(12) ? SCOPE_ALL : chance_once(3) ? SCOPE_SITE : SCOPE_DOMAIN)};
  unsigned domain = (unsigned)chance(own.plan->domains);
  if (messages && own.known_count > 0 && chance_once(4)) {
    const struct known *known = choose_known();
    target.scope = SCOPE_MESSAGE;
    target.message = known->message;
    strcpy(target.name, known->id);
  } else if (target.scope == SCOPE_SITE) {
    orders_site_name(domain, target.name);
  } else if (target.scope == SCOPE_DOMAIN && chance_once(8)) {
    snprintf(target.name, sizeof target.name, "%s", chance_once(2) ? "silent.test" : "servfail.test");
  } else if (target.scope == SCOPE_DOMAIN) {
    char alias[4] = "";
    if (chance_once(8)) snprintf(alias, sizeof alias, "a%u.", 1 + (unsigned)chance(8));
    snprintf(target.name, sizeof target.name, "%sd%05u.test", alias, domain);
  }
  return target;
}

static void put_target(const struct target *target, char body[BODY_MAX], const char *more) {
  static const char *const keys[] = {[SCOPE_DOMAIN] = "domain", [SCOPE_SITE] = "site", [SCOPE_MESSAGE] = "message"};
  int len = target->scope == SCOPE_ALL ? snprintf(body, BODY_MAX, "{\"all\": true%s}", more)
                                       : snprintf(body, BODY_MAX, "{\"%s\": \"%s\"%s}", keys[target->scope], target->name, more);
  must(len < BODY_MAX);
}

/* ---- lists ---- */

static void list_status(void) {
  struct answer answer = ask("status", NULL, NULL, NULL);
  if (is_good("status", &answer, 0, 0)) {
    if (number_of(answer.json, "suspensions") < orders_suspensions()) fault("the status counts fewer suspensions than there are");
    number_of(answer.json, "messages_queued");
    number_of(answer.json, "recipients_suspended");
  }
  json_decref(answer.json);
}

/* What the ledger knows of all there ever were; each may have a report, too. */
static uint64_t recipients_most(void) { return 2ull * ledger_recipients_begun(); }

static void list_queue(bool by_site) {
  struct answer answer = ask("queue", "by", by_site ? "site" : "domain", NULL);
  if (is_good("queue", &answer, 0, 0)) {
    const json_t *total = json_object_get(answer.json, "total"), *rows = json_object_get(answer.json, by_site ? "sites" : "domains"), *row;
    uint64_t ready = 0, in_flight = 0, deferred = 0;
    size_t i;
    if (!json_is_array(rows)) fault("the list of queues is none");
    json_array_foreach(rows, i, row) {
      text_of(row, by_site ? "site" : "domain");
      ready += number_of(row, "ready");
      in_flight += number_of(row, "in_flight");
      deferred += by_site ? 0 : number_of(row, "deferred");
      if (by_site) number_of(row, "connections");
    }
    if (json_array_size(rows) != number_of(total, "count") && json_array_size(rows) != 100)
      fault("the list of queues has not as many rows as it says");
    if (json_array_size(rows) == number_of(total, "count") &&
        (ready != number_of(total, "ready") || in_flight != number_of(total, "in_flight") || (!by_site && deferred != number_of(total, "deferred"))))
      fault("the total of the queues is not their sum");
    if (!by_site && ready + in_flight + deferred > recipients_most()) fault("the queues have more recipients than there ever were");
  }
  json_decref(answer.json);
}

/* The message of a recipient, who is for that domain (NULL: any). */
static unsigned message_of(const json_t *row, const char *domain) {
  const char *address = text_of(row, "recipient"), *at = strchr(address, '@');
  unsigned message, recipient;
  enum fate fate;
  if (at == NULL || (domain != NULL && strcasecmp(at + 1, domain) != 0)) fault("the queue of %s has %s", domain, address);
  if (ledger_find_sender(span_of_text(address), &message)) return ORDERS_REPORT;
  if (!ledger_find(span_of_text(address), &message, &recipient, &fate)) fault("the queue has nobody's: %s", address);
  return message;
}

/* A target is suspended for ever: its queue has to say so. */
static void list_domain(const struct target *suspended) {
  char path[ORDERS_NAME_MAX + 8];
  struct target target = suspended != NULL ? *suspended : choose_target(false);
  if (target.scope != SCOPE_DOMAIN) return;
  snprintf(path, sizeof path, "queue/%s", target.name);
  struct answer answer = ask(path, "limit", "20", NULL);
  if (is_good(path, &answer, suspended != NULL ? 0 : 404, 0)) {
    const json_t *messages = json_object_get(answer.json, "messages"), *row;
    size_t i;
    if (suspended != NULL && !json_is_true(json_object_get(answer.json, "suspended")))
      fault("%s is suspended, and its queue says it is not", target.name);
    number_of(answer.json, "deferred");
    if (!json_is_array(messages) || json_array_size(messages) > 20)
      fault("the queue of %s has no list of messages, or more than was asked for", target.name);
    json_array_foreach(messages, i, row) {
      struct known *known = &own.known[own.known_count++ % KNOWN_MAX];
      snprintf(known->id, sizeof known->id, "%s", text_of(row, "id"));
      known->message = message_of(row, target.name);
    }
  }
  json_decref(answer.json);
}

static void list_message(void) {
  if (chance_once(2)) list_domain(NULL);
  if (own.known_count == 0) return;
  struct known known = *choose_known();
  char path[32];
  snprintf(path, sizeof path, "message/%s", known.id);
  struct answer answer = ask(path, NULL, NULL, NULL);
  if (is_good(path, &answer, 404, 0)) {
    const json_t *recipients = json_object_get(answer.json, "recipients"), *row;
    size_t i, count = known.message == ORDERS_REPORT ? 1 : ledger_recipients(known.message);
    own.sums.listed++;
    if (json_array_size(recipients) > count || (own.life.first && json_array_size(recipients) < count))
      fault("message %u has %zu recipients, and its list has %zu", known.message, count, json_array_size(recipients));
    json_array_foreach(recipients, i, row) {
      const char *state = text_of(row, "state");
      if (message_of(row, NULL) != known.message) fault("message %u has a recipient of another", known.message);
      if (strcmp(state, "deferred") != 0 && strcmp(state, "suspended") != 0 && strcmp(state, "ready") != 0 && strcmp(state, "done") != 0)
        fault("a recipient is %s", state);
    }
  }
  json_decref(answer.json);
}

static void list_suspensions(bool new_life) {
  struct answer answer = ask("suspensions", NULL, NULL, NULL);
  if (is_good("suspensions", &answer, 0, 0)) {
    const json_t *list = json_object_get(answer.json, "suspensions"), *row;
    size_t i;
    if (!json_is_array(list)) fault("the list of suspensions is none");
    json_array_foreach(list, i, row) {
      struct target target = {.scope = SCOPE_ALL};
      const char *domain = json_string_value(json_object_get(row, "domain"));
      if (!json_is_true(json_object_get(row, "all"))) {
        target.scope = domain != NULL ? SCOPE_DOMAIN : SCOPE_SITE;
        snprintf(target.name, sizeof target.name, "%s", domain != NULL ? domain : text_of(row, "site"));
      }
      orders_listed(&target, time_of(row, "until"));
    }
    orders_list_ends(new_life);
  }
  json_decref(answer.json);
}

static void list(void) {
  switch (chance(6)) {
  case 0: list_status(); break;
  case 1: list_queue(false); break;
  case 2: list_queue(true); break;
  case 3: list_domain(NULL); break;
  case 4: list_message(); break;
  default: list_suspensions(false);
  }
}

/* ---- acts ---- */

static void retry(void) {
  char body[BODY_MAX];
  struct target target = choose_target(true);
  put_target(&target, body, "");
  struct answer answer = ask("retry", NULL, NULL, body);
  if (is_good("retry", &answer, target.scope == SCOPE_MESSAGE ? 404 : 0, 0)) {
    number_of(answer.json, "retried");
    number_of(answer.json, "in_delivery");
  }
  json_decref(answer.json);
}

static void bounce(void) {
  char body[BODY_MAX], more[80];
  if (chance_once(3)) list_domain(NULL);
  struct target target = choose_target(true);
  bool quiet = chance_once(4);
  unsigned order = orders_bounce(&target, quiet);
  snprintf(more, sizeof more, ", \"reason\": \"" ORDERS_REASON "%u\", \"quiet\": %s", order, quiet ? "true" : "false");
  put_target(&target, body, more);
  struct answer answer = ask("bounce", NULL, NULL, body);
  if (is_good("bounce", &answer, target.scope == SCOPE_MESSAGE ? 404 : 0, 0)) {
    orders_bounced(order, number_of(answer.json, "bounced"));
    number_of(answer.json, "in_delivery");
  } else if (answer.status == 404) {
    orders_bounced(order, 0);
  }
  json_decref(answer.json);
}

static void suspend(void) {
  char body[BODY_MAX], more[80] = "";
  struct target target = choose_target(false);
  uint64_t for_s = chance_once(2) ? chance_spread(1, 30) : 0, latest_ms = world_wall_ms() + for_s * 1000;
  if (for_s > 0) snprintf(more, sizeof more, ", \"reason\": \"for a while\", \"for\": \"%us\"", (unsigned)for_s);
  put_target(&target, body, more);
  orders_doubt(&target, false);
  struct answer answer = ask("suspend", NULL, NULL, body);
  int unkept = own.plan->disk_fails ? 507 : 0;
  if (is_good("suspend", &answer, (unsigned)unkept, 0)) {
    uint64_t since_ms = time_of(answer.json, "since"), until_ms = time_of(answer.json, "until");
    if (for_s == 0 ? until_ms != 0 : until_ms != since_ms + for_s * 1000) fault("a suspension for %u s has another end", (unsigned)for_s);
    latest_ms = until_ms;
  }
  if (answer.status != 503) orders_suspended(&target, for_s > 0 ? latest_ms : 0, answer.status == 200);
  json_decref(answer.json);
  if (orders_is_suspended(&target) && chance_once(3)) list_domain(&target);
}

static bool resume(const struct target *target) {
  char body[BODY_MAX];
  bool was = orders_is_suspended(target), every = target->scope == SCOPE_ALL;
  put_target(target, body, "");
  orders_doubt(target, every);
  struct answer answer = ask("resume", NULL, NULL, body);
  bool resumed = is_good("resume", &answer, every ? 0 : 404, own.plan->disk_fails ? 507 : 0);
  if (answer.status == 404 && was) fault("%s was suspended, and cannot be resumed", target->name);
  json_decref(answer.json);
  return resumed;
}

/* ---- the configuration ---- */

static void choose_limits(struct limits *limits) {
  limits->connections_per_site = (unsigned)chance_spread(1, 10);
  limits->messages_per_connection = (unsigned)chance_spread(1, 100);
}

static void reload(void) {
  struct settings next = *settings_now();
  enum wrong wrong = chance_once(3) ? (enum wrong)(1 + chance(WRONGS - 1)) : WRONG_NOT;
  if (chance_once(2)) choose_limits(&next.limits);
  for (unsigned i = 0; i < SETTINGS_SPECIAL; i++) {
    if (!chance_once(2)) continue;
    next.special[i] = (struct limits){0};
    if (chance_once(2)) choose_limits(&next.special[i]);
  }
  if (chance_once(4)) next.second_door = !next.second_door;
  if (chance_once(4)) next.routed = !next.routed;
  if (chance_once(4)) next.retry_initial_ms = (unsigned)chance_spread(300, 3000);
  if (chance_once(4)) next.retry_max_ms = (unsigned)chance_spread(4000, 8000);
  if (wrong == WRONG_RESTART && chance_once(2)) {
    next.other_name = !next.other_name;
  } else if (wrong == WRONG_RESTART) {
    next.dns_timeout_s = 3 - next.dns_timeout_s;
  }
  settings_write(&next, wrong);
  trace("operator writes: connections %u, messages on each %u, doors %u, routes %d, wrong %d", next.limits.connections_per_site,
        next.limits.messages_per_connection, 1 + next.second_door, next.routed, wrong);
  if (chance_once(3)) {
    own.life.hang_up();
    return;
  }
  struct answer answer = ask("reload", NULL, NULL, "{}");
  bool taken = is_good("reload", &answer, 409, 0);
  if (taken != (wrong == WRONG_NOT) && !(*own.life.stopping && !taken)) fault("a configuration (%d) was answered %u", wrong, answer.status);
  json_decref(answer.json);
}

/* ---- what cannot be ---- */

static void nonsense(void) {
  static const struct {
    const char *path, *body;
    unsigned status;
  } all[] = {
      {"bounce", "{}", 400},
      {"bounce", "{\"domain\": \"d00000.test\", \"all\": true}", 400},
      {"bounce", "{\"all\": false}", 400},
      {"bounce", "{\"all\": true, \"reazon\": \"none\"}", 400},
      {"retry", "{\"domain\": \"*.d00000.test\"}", 400},
      {"retry", "{\"domain\": ", 400},
      {"suspend", "{\"message\": \"1\"}", 400},
      {"suspend", "{\"all\": true, \"for\": \"0s\"}", 400},
      {"resume", "{\"domain\": \"nobody.example\"}", 404},
      {"resume", NULL, 405},
      {"status", "{}", 405},
      {"message/0", NULL, 404},
      {"message/xyz", NULL, 400},
      {"queues", NULL, 404},
  };
  size_t which = (size_t)chance(sizeof all / sizeof *all);
  struct answer answer = ask(all[which].path, NULL, NULL, all[which].body);
  if (answer.status != all[which].status && !(answer.status == 503 && *own.life.stopping))
    fault("the API answers %u to %s %s", answer.status, all[which].path, all[which].body != NULL ? all[which].body : "");
  json_decref(answer.json);
}

/* ---- life ---- */

static bool acts_still(void) { return !own.looks_last && world_now_ns() < own.end_ns && own.acts < own.plan->acts_max; }

static void act(void) {
  unsigned sum = 0, which = 0;
  for (unsigned i = 0; i < ACTS; i++) sum += own.plan->weight[i];
  for (uint64_t left = chance(sum); left >= own.plan->weight[which]; which++) left -= own.plan->weight[which];
  struct target target = choose_target(false);
  if (chance_once(4)) (void)orders_choose(&target);
  own.acts++;
  switch (which) {
  case ACT_RETRY: retry(); break;
  case ACT_BOUNCE: bounce(); break;
  case ACT_SUSPEND: suspend(); break;
  case ACT_RESUME: (void)resume(&target); break;
  case ACT_RELOAD: reload(); break;
  case ACT_NONSENSE: nonsense(); break;
  default: list();
  }
}

static bool is_zero(const json_t *json, const char *key) { return number_of(json, key) == 0; }

static void look_last(void) {
  struct answer status = ask("status", NULL, NULL, NULL), domains = ask("queue", NULL, NULL, NULL), sites = ask("queue", "by", "site", NULL);
  bool answered = is_good("status", &status, 0, 0) & is_good("queue", &domains, 0, 0) & is_good("queue", &sites, 0, 0);
  const json_t *left = json_object_get(domains.json, "total"), *busy = json_object_get(sites.json, "total");
  if (answered &&
      !(is_zero(status.json, "messages_queued") && is_zero(status.json, "recipients_ready") && is_zero(status.json, "recipients_deferred") &&
        is_zero(status.json, "recipients_suspended") && is_zero(status.json, "suspensions")))
    fault("all mail has gone, and the status has some: %s", json_dumps(status.json, JSON_COMPACT));
  if (answered && !is_zero(left, "count")) fault("all mail has gone, and a queue has some: %s", json_dumps(domains.json, JSON_COMPACT));
  if (answered && !(is_zero(busy, "ready") && is_zero(busy, "in_flight")))
    fault("all mail has gone, and a site has some: %s", json_dumps(sites.json, JSON_COMPACT));
  own.has_looked = answered;
  json_decref(status.json);
  json_decref(domains.json);
  json_decref(sites.json);
}

void operator_look_last(void) {
  own.looks_last = true;
  if (own.fiber != NULL) fiber_wake(own.fiber);
}

bool operator_has_looked(void) { return own.plan->acts_ns == 0 || own.has_looked; }

static void do_something(void) {
  static const struct target all = {.scope = SCOPE_ALL};
  if (acts_still()) {
    act();
  } else if (!own.resumed) {
    own.resumed = resume(&all);
  } else if (own.looks_last && !own.has_looked) {
    look_last();
  } else {
    list();
  }
}

static void work(void *context) {
  (void)context;
  list_suspensions(true);
  while (!own.ends) {
    bool acts = acts_still();
    uint64_t low_ns = acts ? own.plan->pause_low_ns : LATER_LOW_NS, high_ns = acts ? own.plan->pause_high_ns : LATER_HIGH_NS;
    fiber_sleep(world_now_ns() + (acts || own.resumed ? chance_spread(low_ns, high_ns) : chance(SECOND_NS)));
    if (!own.ends) do_something();
  }
  own.fiber = NULL;
}

void operator_begin(const struct operator_life *life) {
  own.life = *life;
  own.ends = own.resumed = false;
  if (own.plan->acts_ns > 0) own.fiber = fiber_start(work, NULL);
}

void operator_end(void) {
  own.ends = true;
  if (own.fiber != NULL) fiber_wake(own.fiber);
  while (own.fiber != NULL) fiber_sleep(world_now_ns() + MILLISECOND_NS);
}

void operator_killed(void) { own.fiber = NULL; }
