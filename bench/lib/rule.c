#include "bench/lib/rule.h"

#include "bench/lib/options.h"
#include "core/base/error.h"

/* Linear in practice, |glob| * |text| at worst: only the last star is ever moved. */
bool glob_match(struct span glob, struct span text) {
  size_t g = 0, t = 0, star = SIZE_MAX, star_text = 0;
  while (t < text.len) {
    if (g < glob.len && glob.at[g] == '*') {
      star = g++;
      star_text = t;
    } else if (g < glob.len && (glob.at[g] == '?' || ascii_lower(glob.at[g]) == ascii_lower(text.at[t]))) {
      g++;
      t++;
    } else if (star != SIZE_MAX) {
      g = star + 1;
      t = ++star_text;
    } else {
      return false;
    }
  }
  while (g < glob.len && glob.at[g] == '*') g++;
  return g == glob.len;
}

static bool parse_stage(struct rule *rule, struct span value) {
  static const char *const names[] = {"connect", "helo", "mail", "rcpt", "data", "final"};
  for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
    if (!span_equal(value, span_of_text(names[i]))) continue;
    rule->stage = STAGE_CONNECT + i;
    return true;
  }
  return false;
}

static bool parse_reply(struct rule *rule, struct span value) {
  uint64_t code;
  if (value.len < 3 || value.len >= sizeof rule->reply || !span_to_u64(span_first(value, 3), &code) || code < 400 || code > 599) return false;
  if (value.len > 3 && value.at[3] != ' ') return false;
  memcpy(rule->reply, value.at, value.len);
  rule->reply[value.len] = '\0';
  rule->code = (unsigned)code;
  return true;
}

/* A decimal from 0 to 1: "0.1", "1", "0.025". */
static bool parse_rate(struct rule *rule, struct span value) {
  ptrdiff_t dot = span_find(value, '.');
  struct span fraction = dot < 0 ? span_of(NULL, 0) : span_skip(value, (size_t)dot + 1);
  uint64_t whole, parts = 0, scale = 1;
  if (!span_to_u64(dot < 0 ? value : span_first(value, (size_t)dot), &whole) || whole > 1 || fraction.len > 9) return false;
  if (fraction.len > 0 && !span_to_u64(fraction, &parts)) return false;
  for (size_t i = 0; i < fraction.len; i++) scale *= 10;
  if (whole == 1 && parts > 0) return false;
  rule->rate = whole == 1 ? UINT32_MAX : (uint32_t)((double)parts / (double)scale * UINT32_MAX);
  return true;
}

static bool parse_first(struct rule *rule, struct span value) {
  uint64_t count;
  if (!span_to_u64(value, &count) || count == 0 || count > 255) return false; /* tries are counted in a byte */
  rule->first = (uint32_t)count;
  return true;
}

static bool parse_rcpt(struct rule *rule, struct span value) { return (rule->rcpt = value).len > 0; }
static bool parse_from(struct rule *rule, struct span value) { return (rule->from = value).len > 0; }
static bool parse_host(struct rule *rule, struct span value) { return (rule->host = value).len > 0; }
static bool parse_delay(struct rule *rule, struct span value) { return option_duration(value, &rule->delay_ns); }
static bool parse_drip(struct rule *rule, struct span value) { return option_duration(value, &rule->drip_ns) && rule->drip_ns > 0; }
static bool parse_cut(struct rule *rule, struct span value) { return rule->cut = value.len == 0; }
static bool parse_cut_after(struct rule *rule, struct span value) { return rule->cut_after_accept = value.len == 0; }

struct word {
  const char *name; /* with "=" if a value follows */
  bool (*parse)(struct rule *rule, struct span value);
  const char *why;
};

static const struct word words[] = {
    {"stage=", parse_stage, "stage is connect, helo, mail, rcpt, data or final"},
    {"reply=", parse_reply, "reply is a code from 400 to 599 and a text"},
    {"rate=", parse_rate, "rate is a number from 0 to 1"},
    {"first=", parse_first, "first is a number from 1 to 255"},
    {"rcpt=", parse_rcpt, "rcpt is a glob"},
    {"from=", parse_from, "from is a glob"},
    {"host=", parse_host, "host is a glob"},
    {"delay=", parse_delay, "delay is a duration such as 200ms"},
    {"drip=", parse_drip, "drip is a duration such as 50ms"},
    {"cut", parse_cut, "cut takes no value"},
    {"cut-after-accept", parse_cut_after, "cut-after-accept takes no value"},
};

static const struct word *find_word(struct span token) {
  for (unsigned i = 0; i < sizeof words / sizeof *words; i++) {
    struct span name = span_of_text(words[i].name);
    bool has_value = name.at[name.len - 1] == '=';
    if (has_value ? token.len >= name.len && memcmp(token.at, name.at, name.len) == 0 : span_equal(token, name)) return &words[i];
  }
  return NULL;
}

static struct span skip_spaces(struct span text) {
  while (text.len > 0 && text.at[0] == ' ') text = span_skip(text, 1);
  return text;
}

static struct span first_token(struct span text) {
  ptrdiff_t space = span_find(text, ' ');
  return space < 0 ? text : span_first(text, (size_t)space);
}

/* The end of a value: the last token before the next word. */
static size_t value_end(struct span text) {
  size_t end = first_token(text).len;
  for (struct span rest = skip_spaces(span_skip(text, end)); rest.len > 0; rest = skip_spaces(rest)) {
    struct span token = first_token(rest);
    if (find_word(token) != NULL) break;
    rest = span_skip(rest, token.len);
    end = (size_t)(rest.at - text.at);
  }
  return end;
}

static const char *check(const struct rule *rule) {
  if (rule->stage == STAGE_NONE) return "stage= is missing";
  if (rule->cut_after_accept && rule->stage != STAGE_FINAL) return "cut-after-accept needs stage=final";
  if (rule->rcpt.len > 0 && rule->stage < STAGE_RCPT) return "rcpt= is not known before stage=rcpt";
  if (rule->from.len > 0 && rule->stage < STAGE_MAIL) return "from= is not known before stage=mail";
  if (rule->code == 0 && rule->delay_ns == 0 && rule->drip_ns == 0 && !rule->cut && !rule->cut_after_accept) return "the rule does nothing";
  return NULL;
}

int rule_parse(struct rules *rules, struct span text, const char **why) {
  if (rules->count == RULES_MAX) {
    *why = "too many rules";
    return E_FULL;
  }
  struct rule rule = {.rate = UINT32_MAX};
  for (struct span rest = skip_spaces(text); rest.len > 0; rest = skip_spaces(rest)) {
    const struct word *word = find_word(first_token(rest));
    *why = word == NULL ? "unknown word" : word->why;
    if (word == NULL) return E_SYNTAX;
    size_t end = word->parse == parse_reply ? value_end(rest) : first_token(rest).len;
    struct span value = span_skip(span_first(rest, end), strlen(word->name));
    if (!word->parse(&rule, value)) return E_SYNTAX;
    rest = span_skip(rest, end);
  }
  *why = check(&rule);
  if (*why != NULL) return E_SYNTAX;
  rules->list[rules->count++] = rule;
  return E_OK;
}

static bool fits(struct span glob, struct span text) { return glob.len == 0 || glob_match(glob, text); }

const struct rule *rule_match(const struct rules *rules, const struct rule *after, const struct rule_subject *subject) {
  for (const struct rule *rule = after == NULL ? rules->list : after + 1; rule < rules->list + rules->count; rule++) {
    if (rule->stage != subject->stage) continue;
    if (fits(rule->rcpt, subject->rcpt) && fits(rule->from, subject->from) && fits(rule->host, subject->host)) return rule;
  }
  return NULL;
}
