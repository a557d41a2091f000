#include "net/sts/policy.h"

#include <stdlib.h>

#include "core/base/error.h"
#include "dns/name.h"
#include "dns/tags.h"

#define VERSION SPAN("v=STSv1")

/* ---- the text of a policy ---- */

struct reading {
  bool version;
  enum sts_mode mode;
  bool has_max_age;
  uint32_t max_age_s;
  unsigned patterns;
  struct fmt names;
  struct fmt *why;
};

static int refuse(struct reading *r, const char *why) {
  fmt_text(r->why, why);
  return E_SYNTAX;
}

static int read_version(struct reading *r, struct span value) {
  r->version = true;
  return span_equal(value, SPAN("STSv1")) ? E_OK : refuse(r, "the version is not STSv1");
}

static int read_mode(struct reading *r, struct span value) {
  if (r->mode != STS_MODE_INVALID) return E_OK; /* the first counts */
  for (unsigned mode = STS_MODE_NONE; mode <= STS_MODE_ENFORCE; mode++)
    if (span_equal(value, span_of_text(sts_mode_text((enum sts_mode)mode)))) r->mode = (enum sts_mode)mode;
  return r->mode != STS_MODE_INVALID ? E_OK : refuse(r, "the mode is neither enforce nor testing nor none");
}

static int read_max_age(struct reading *r, struct span value) {
  uint64_t seconds;
  if (r->has_max_age) return E_OK;
  r->has_max_age = true;
  if (value.len == 0 || value.len > 10 || !span_to_u64(value, &seconds)) return refuse(r, "max_age is no number of seconds");
  r->max_age_s = seconds < STS_MAX_AGE_MAX_S ? (uint32_t)seconds : STS_MAX_AGE_MAX_S;
  return E_OK;
}

static int read_mx(struct reading *r, struct span value) {
  struct span name = value.len > 2 && value.at[0] == '*' && value.at[1] == '.' ? span_skip(value, 2) : value;
  if (dns_name_check(name) != E_OK) return refuse(r, "an mx is no name of hosts");
  if (++r->patterns > STS_PATTERNS_MAX) return refuse(r, "there are too many mx");
  for (size_t i = 0; i < value.len; i++) fmt_char(&r->names, (char)ascii_lower(value.at[i]));
  fmt_char(&r->names, '\0');
  return E_OK;
}

static int read_line(struct reading *r, struct span line) {
  static const struct {
    const char *key;
    int (*read)(struct reading *r, struct span value);
  } fields[] = {{"version", read_version}, {"mode", read_mode}, {"max_age", read_max_age}, {"mx", read_mx}};
  if (tags_has_controls(line)) return refuse(r, "there are control characters");
  if (span_trim(line).len == 0) return E_OK;
  if (span_find(line, ':') < 0) return refuse(r, "a line has no colon");
  struct span key = span_trim(span_take_until(&line, ':')), value = span_trim(line);
  if (!tags_name_is_valid(key)) return refuse(r, "a line begins with no key");
  for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
    if (span_equal(key, span_of_text(fields[i].key))) return fields[i].read(r, value);
  return E_OK;
}

static int read_text(struct reading *r, struct span text) {
  if (text.len > STS_POLICY_BYTES_MAX) return refuse(r, "it is longer than 64 KiB");
  while (text.len > 0) {
    struct span line = span_take_until(&text, '\n');
    if (line.len > 0 && line.at[line.len - 1] == '\r') line.len--;
    int error = read_line(r, line);
    if (error != E_OK) return error;
  }
  if (!r->version) return refuse(r, "there is no version");
  if (r->mode == STS_MODE_INVALID) return refuse(r, "there is no mode");
  if (!r->has_max_age) return refuse(r, "there is no max_age");
  if (r->patterns == 0 && r->mode != STS_MODE_NONE) return refuse(r, "there is no mx");
  return E_OK;
}

int sts_policy_parse(struct sts_policy **policy, struct span text, struct fmt *why) {
  char names[STS_PATTERNS_MAX * (DNS_NAME_MAX + 3)];
  struct reading r = {.names = fmt_over(names, sizeof names), .why = why};
  int error = read_text(&r, text);
  if (error != E_OK) return error;
  must(!r.names.overflow);
  struct sts_policy *made = malloc(sizeof *made + r.names.len);
  if (made == NULL) return E_NO_MEMORY;
  *made = (struct sts_policy){.mode = r.mode, .max_age_s = r.max_age_s, .patterns = r.patterns, ._holders = 1, ._len = (uint32_t)r.names.len};
  memcpy(made->_pattern, names, r.names.len);
  *policy = made;
  return E_OK;
}

const char *sts_policy_next(const struct sts_policy *policy, const char *pattern) {
  const char *next = pattern == NULL ? policy->_pattern : pattern + strlen(pattern) + 1;
  return next < policy->_pattern + policy->_len ? next : NULL;
}

void sts_policy_write(const struct sts_policy *policy, struct fmt *out) {
  fmt_text(out, "version: STSv1\nmode: ");
  fmt_text(out, sts_mode_text(policy->mode));
  fmt_text(out, "\nmax_age: ");
  fmt_u64(out, policy->max_age_s);
  fmt_char(out, '\n');
  for (const char *pattern = NULL; (pattern = sts_policy_next(policy, pattern)) != NULL;) {
    fmt_text(out, "mx: ");
    fmt_text(out, pattern);
    fmt_char(out, '\n');
  }
}

static bool matches(struct span pattern, struct span host) {
  if (pattern.at[0] != '*') return span_equal_nocase(pattern, host);
  ptrdiff_t dot = span_find(host, '.');
  return dot > 0 && span_equal_nocase(span_skip(pattern, 1), span_skip(host, (size_t)dot));
}

bool sts_policy_allows(const struct sts_policy *policy, struct span host) {
  for (const char *pattern = NULL; (pattern = sts_policy_next(policy, pattern)) != NULL;)
    if (matches(span_of_text(pattern), host)) return true;
  return false;
}

struct sts_policy *sts_policy_hold(struct sts_policy *policy) {
  atomic_fetch_add_explicit(&policy->_holders, 1, memory_order_relaxed);
  return policy;
}

void sts_policy_drop(struct sts_policy *policy) {
  if (policy != NULL && atomic_fetch_sub_explicit(&policy->_holders, 1, memory_order_acq_rel) == 1) free(policy);
}

const char *sts_trouble_text(enum sts_trouble trouble) {
  static const char *const text[] = {NULL, "sts-policy-fetch-error", "sts-webpki-invalid", "sts-policy-invalid"};
  return (unsigned)trouble < sizeof text / sizeof *text ? text[trouble] : NULL;
}

const char *sts_mode_text(enum sts_mode mode) {
  static const char *const text[] = {"invalid", "none", "testing", "enforce"};
  return (unsigned)mode < sizeof text / sizeof *text ? text[mode] : "invalid";
}

/* ---- TXT records ---- */

static bool is_id(struct span value) {
  for (size_t i = 0; i < value.len; i++)
    if (!ascii_is_alpha(value.at[i]) && !ascii_is_digit(value.at[i])) return false;
  return value.len > 0 && value.len <= STS_ID_MAX;
}

/* "v=STSv1; id=20160831085700Z;" */
static bool read_id(struct span text, char id[STS_ID_MAX + 1]) {
  struct span name, value;
  int error;
  id[0] = '\0';
  while ((error = tags_next(&text, &name, &value)) == E_OK) {
    if (!span_equal(name, SPAN("id")) || id[0] != '\0') continue;
    if (!is_id(value)) return false;
    memcpy(id, value.at, value.len);
    id[value.len] = '\0';
  }
  return error == E_NOT_FOUND && id[0] != '\0';
}

int sts_record_parse(struct span text, char id[STS_ID_MAX + 1]) {
  if (!tags_begin(&text, VERSION)) {
    id[0] = '\0';
    return E_NOT_FOUND;
  }
  return read_id(text, id) ? E_OK : E_SYNTAX;
}

bool sts_announced(const struct dns_answer *answer, char id[STS_ID_MAX + 1]) {
  struct span text;
  return tags_announced(answer, VERSION, &text) && read_id(text, id);
}
