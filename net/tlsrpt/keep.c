#include "net/tlsrpt/keep.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/error.h"
#include "core/conf/system.h"

#define FILE_BYTES_MAX (256u << 20)
#define VERSION 1
#define COUNT_MAX (1ull << 48) /* more sessions there cannot be: sums of such counts do not overflow */
#define URI_ROOM (3 * TLSRPT_URI_MAX + 16)

/* ---- out ---- */

static json_t *text_json(struct span text) { return json_stringn(text.len > 0 ? (const char *)text.at : "", text.len); }

static json_t *address_json(const struct netaddr *address) {
  char room[48];
  struct fmt text = fmt_over(room, sizeof room);
  if (address->family == 0) return json_null();
  netaddr_format(address, &text);
  return text_json(fmt_span(&text));
}

static json_t *kind_json(const struct tlsrpt_kind *kind) {
  struct tlsrpt_failure f = tlsrpt_kind_failure(kind);
  return json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:I}", "result", tlsrpt_result_text(f.result), "sending", address_json(&f.sending), "receiving",
                   address_json(&f.receiving), "host", text_json(f.mx_host), "info", text_json(f.info), "reason", text_json(f.reason), "sessions",
                   (json_int_t)kind->sessions);
}

static json_t *policy_json(const struct tlsrpt_policy *policy) {
  if (policy == NULL) return json_null();
  return json_pack("{s:i, s:o, s:o, s:o}", "type", (int)policy->type, "domain", text_json(tlsrpt_policy_domain(policy)), "lines",
                   text_json(tlsrpt_policy_lines(policy)), "patterns", text_json(tlsrpt_policy_patterns(policy)));
}

static json_t *applied_json(const struct tlsrpt_applied *applied) {
  const struct tlsrpt_kind *kind;
  json_t *kinds = json_array();
  int failed = kinds == NULL;
  for (kind = STAILQ_FIRST(&applied->kinds); kind != NULL; kind = STAILQ_NEXT(kind, _link)) failed |= json_array_append_new(kinds, kind_json(kind));
  json_t *object = json_pack("{s:o, s:I, s:I, s:o}", "policy", policy_json(applied->policy), "successes", (json_int_t)applied->successes, "rest",
                             (json_int_t)applied->rest, "kinds", kinds);
  if (!failed) return object;
  json_decref(object);
  return NULL;
}

static json_t *domain_json(const struct tlsrpt_domain *domain) {
  const struct tlsrpt_applied *applied;
  json_t *policies = json_array();
  int failed = policies == NULL;
  for (applied = STAILQ_FIRST(&domain->applied); applied != NULL; applied = STAILQ_NEXT(applied, _link))
    failed |= json_array_append_new(policies, applied_json(applied));
  json_t *object = json_pack("{s:o}", "policies", policies);
  if (!failed) return object;
  json_decref(object);
  return NULL;
}

static json_t *uris_json(const struct tlsrpt_due *due) {
  if (!due->asked) return json_null();
  json_t *array = json_array();
  for (unsigned i = 0; i < due->uris_count && array != NULL; i++) {
    char room[URI_ROOM];
    struct fmt text = fmt_over(room, sizeof room);
    tlsrpt_uri_write(&due->uris[i], &text);
    json_array_append_new(array, text_json(fmt_span(&text)));
  }
  return array;
}

static json_t *report_json(const struct tlsrpt_due *due) {
  char id[17];
  snprintf(id, sizeof id, "%016llx", (unsigned long long)due->id);
  return json_pack("{s:s, s:I, s:I, s:I, s:o}", "id", id, "due", (json_int_t)due->due_ms, "until", (json_int_t)due->until_ms, "tries",
                   (json_int_t)due->tries, "uris", uris_json(due));
}

/* A day; its domains, by name, are to be added. */
static json_t *day_json(const struct tlsrpt_day *day, json_t **domains) {
  *domains = json_object();
  return json_pack("{s:I, s:I, s:I, s:o}", "day", (json_int_t)day->number, "rest_successes", (json_int_t)day->tally.rest_successes, "rest_failures",
                   (json_int_t)day->tally.rest_failures, "domains", *domains);
}

static int add_today(json_t *days, const struct tlsrpt_day *today) {
  const struct tlsrpt_domain *domain;
  json_t *domains;
  int failed = json_array_append_new(days, day_json(today, &domains));
  for (uint32_t cursor = 0; !failed && (domain = tlsrpt_tally_next(&today->tally, &cursor)) != NULL;)
    failed = json_object_set_new(domains, domain->name, domain_json(domain));
  return failed;
}

/* A day's reports are one after the other. */
static int add_reports(json_t *days, const struct tlsrpt_sender *sender) {
  const struct tlsrpt_day *day = NULL;
  const struct tlsrpt_due *due;
  json_t *domains = NULL;
  int failed = 0;
  for (due = TAILQ_FIRST(&sender->dues); due != NULL; due = TAILQ_NEXT(due, _link)) {
    if (due->day != day) failed = json_array_append_new(days, day_json(due->day, &domains));
    day = due->day;
    json_t *domain = failed ? NULL : domain_json(due->domain);
    if (domain == NULL) return -1;
    failed = json_object_set_new(domain, "report", report_json(due)) | json_object_set_new(domains, due->domain->name, domain);
    if (failed) return -1;
  }
  return 0;
}

char *tlsrpt_keep_write(const struct tlsrpt_day *today, const struct tlsrpt_sender *sender) {
  json_t *days = json_array(), *whole = json_pack("{s:i, s:O}", "version", VERSION, "days", days);
  int failed = whole == NULL || add_today(days, today) != 0 || add_reports(days, sender) != 0;
  char *text = failed ? NULL : json_dumps(whole, JSON_INDENT(1) | JSON_ENSURE_ASCII);
  json_decref(days);
  json_decref(whole);
  return text;
}

int tlsrpt_keep_save(const char *path, const struct tlsrpt_day *today, const struct tlsrpt_sender *sender) {
  char *text = tlsrpt_keep_write(today, sender);
  int error = text == NULL ? E_NO_MEMORY : system_write_file(path, span_of_text(text));
  free(text);
  return error;
}

/* ---- in ---- */

static struct span text_of(const json_t *value) { return span_of(json_string_value(value), json_string_length(value)); }

static bool read_count(const json_t *object, const char *name, uint64_t *count) {
  const json_t *value = json_object_get(object, name);
  json_int_t number = json_integer_value(value);
  *count = (uint64_t)number;
  return json_is_integer(value) && number >= 0 && (uint64_t)number <= COUNT_MAX;
}

static bool read_address(const json_t *value, struct netaddr *address) {
  *address = (struct netaddr){0};
  return json_is_null(value) || (json_is_string(value) && netaddr_parse(address, text_of(value)) == E_OK);
}

static bool read_kind(const json_t *object, struct tlsrpt_failure *failure, uint64_t *sessions) {
  const json_t *host = json_object_get(object, "host"), *info = json_object_get(object, "info"), *reason = json_object_get(object, "reason");
  *failure = (struct tlsrpt_failure){.result = tlsrpt_result_parse(text_of(json_object_get(object, "result"))),
                                     .mx_host = text_of(host),
                                     .info = text_of(info),
                                     .reason = text_of(reason)};
  return failure->result != TLSRPT_RESULT_INVALID && json_is_string(host) && json_is_string(info) && json_is_string(reason) &&
         read_address(json_object_get(object, "sending"), &failure->sending) &&
         read_address(json_object_get(object, "receiving"), &failure->receiving) && read_count(object, "sessions", sessions);
}

/* NULL in *policy is one too. */
static bool read_policy(const json_t *value, struct tlsrpt_policy **policy) {
  *policy = NULL;
  if (json_is_null(value)) return true;
  json_int_t type = json_integer_value(json_object_get(value, "type"));
  return tlsrpt_policy_make(policy, type > 0 && type < 3 ? (enum tlsrpt_policy_type)type : TLSRPT_POLICY_INVALID,
                            text_of(json_object_get(value, "domain")), text_of(json_object_get(value, "lines")),
                            text_of(json_object_get(value, "patterns"))) == E_OK;
}

static bool take_kinds(struct tlsrpt_tally *tally, struct span domain, struct tlsrpt_policy *policy, const json_t *kinds) {
  size_t i;
  json_t *one;
  bool good = json_is_array(kinds);
  json_array_foreach(kinds, i, one) {
    struct tlsrpt_failure failure;
    uint64_t sessions;
    if (read_kind(one, &failure, &sessions)) {
      tlsrpt_tally_failure(tally, domain, policy, &failure, sessions);
    } else {
      good = false;
    }
  }
  return good;
}

static bool take_applied(struct tlsrpt_tally *tally, struct span domain, const json_t *object) {
  struct tlsrpt_policy *policy;
  uint64_t successes, rest;
  if (!read_count(object, "successes", &successes) || !read_count(object, "rest", &rest)) return false;
  if (!read_policy(json_object_get(object, "policy"), &policy)) return false;
  if (successes > 0) tlsrpt_tally_success(tally, domain, policy, successes);
  if (rest > 0) tlsrpt_tally_rest(tally, domain, policy, rest);
  bool good = take_kinds(tally, domain, policy, json_object_get(object, "kinds"));
  tlsrpt_policy_drop(policy);
  return good;
}

/* False: some of it, or all, was no good. */
static bool take_domain(struct tlsrpt_tally *tally, struct span domain, const json_t *object) {
  json_t *policies = json_object_get(object, "policies"), *one;
  size_t i;
  bool good = dns_name_check(domain) == E_OK && json_is_array(policies);
  if (!good) return false;
  json_array_foreach(policies, i, one) good = take_applied(tally, domain, one) && good;
  return good;
}

static bool take_uris(struct tlsrpt_due *due, const json_t *uris) {
  static const size_t max = TLSRPT_URIS_MAX;
  struct tlsrpt_record record = {.count = 0};
  size_t i;
  json_t *one;
  if (json_is_null(uris)) return true;
  if (!json_is_array(uris) || json_array_size(uris) == 0 || json_array_size(uris) > max) return false;
  json_array_foreach(uris, i, one) {
    if (!tlsrpt_uri_parse(&record.uri[record.count++], text_of(one))) return false;
  }
  return tlsrpt_due_set_uris(due, record.uri, record.count) == E_OK;
}

/* How far it was; if that is no good, it stays as it was planned anew. */
static bool take_report(const struct tlsrpt_sender *sender, struct tlsrpt_due *due, const json_t *report, uint64_t now_ms) {
  const char *id = json_string_value(json_object_get(report, "id"));
  uint64_t due_ms, until_ms, tries, far_ms = now_ms + sender->o.spread_ms + sender->o.patience_ms;
  if (!read_count(report, "due", &due_ms) || !read_count(report, "until", &until_ms) || !read_count(report, "tries", &tries)) return false;
  if (due_ms > until_ms || until_ms > far_ms || tries > 1000) return false;
  if (id == NULL || strlen(id) != 16 || strspn(id, "0123456789abcdef") != 16) return false;
  if (!take_uris(due, json_object_get(report, "uris"))) return false;
  due->id = strtoull(id, NULL, 16);
  due->due_ms = due_ms;
  due->until_ms = until_ms;
  due->tries = (unsigned)tries;
  return true;
}

/* The reports of a day whose counts are there. How many were no good. */
static unsigned take_reports(struct tlsrpt_sender *sender, struct tlsrpt_day *day, const json_t *domains, uint64_t now_ms) {
  struct tlsrpt_domain *domain;
  unsigned left_out = 0;
  for (uint32_t cursor = 0; (domain = tlsrpt_tally_next(&day->tally, &cursor)) != NULL;) {
    const json_t *report = json_object_get(json_object_get(domains, domain->name), "report");
    struct tlsrpt_due *due = tlsrpt_sender_plan(sender, day, domain, now_ms);
    if (due == NULL) {
      tlsrpt_tally_remove(&day->tally, domain);
      cursor = 0;
    } else if (report != NULL && !take_report(sender, due, report, now_ms)) {
      left_out++;
    }
  }
  return left_out;
}

/* How many domains were no good, or had no room. */
static unsigned take_counts(struct tlsrpt_tally *tally, json_t *day) {
  json_t *domains = json_object_get(day, "domains"), *one;
  const char *name;
  unsigned left_out = 0;
  uint64_t successes, failures;
  if (!read_count(day, "rest_successes", &successes) || !read_count(day, "rest_failures", &failures)) return 1;
  tally->rest_successes += successes;
  tally->rest_failures += failures;
  json_object_foreach(domains, name, one) {
    if (!take_domain(tally, span_of_text(name), one)) left_out++;
  }
  return left_out;
}

static unsigned take_day(struct tlsrpt_day *today, struct tlsrpt_sender *sender, json_t *one, uint64_t now_ms) {
  struct tlsrpt_tally tally;
  uint64_t number;
  if (!read_count(one, "day", &number) || number > today->number) return 1;
  if (number == today->number) return take_counts(&today->tally, one);
  if (today->number - number > TLSRPT_KEEP_DAYS) return 0;
  tlsrpt_tally_init(&tally, &today->tally.limits, today->tally._seed);
  unsigned left_out = take_counts(&tally, one);
  struct tlsrpt_day *day = tlsrpt_sender_add_day(sender, number, &tally);
  if (day == NULL) return left_out + 1;
  left_out += take_reports(sender, day, json_object_get(one, "domains"), now_ms);
  tlsrpt_sender_tidy(sender, day);
  return left_out;
}

int tlsrpt_keep_read(struct span text, struct tlsrpt_day *today, struct tlsrpt_sender *sender, uint64_t now_ms, unsigned *left_out) {
  json_t *whole = json_loadb((const char *)text.at, text.len, JSON_REJECT_DUPLICATES, NULL), *days = json_object_get(whole, "days"), *one;
  size_t i;
  int error = json_integer_value(json_object_get(whole, "version")) == VERSION && json_is_array(days) ? E_OK : E_SYNTAX;
  *left_out = 0;
  json_array_foreach(days, i, one) {
    if (error == E_OK) *left_out += take_day(today, sender, one, now_ms);
  }
  sender->next_ms = 0; /* some may be due before what they were planned for */
  json_decref(whole);
  return error;
}

int tlsrpt_keep_load(const char *path, struct tlsrpt_day *today, struct tlsrpt_sender *sender, uint64_t now_ms, unsigned *left_out) {
  uint8_t *bytes;
  size_t len;
  *left_out = 0;
  int error = system_read_file(path, FILE_BYTES_MAX, &bytes, &len);
  if (error != E_OK) return error == E_NOT_FOUND || error == E_NOT_DIRECTORY ? E_OK : error; /* what is wrong with its directory others say */
  error = tlsrpt_keep_read(span_of(bytes, len), today, sender, now_ms, left_out);
  free(bytes);
  return error;
}
