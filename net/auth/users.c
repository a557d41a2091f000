#include "net/auth/users.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "core/base/error.h"
#include "core/base/map.h"
#include "core/conf/report.h"
#include "core/conf/system.h"
#include "net/auth/base64.h"

struct users {
  _Atomic unsigned holders;
  uint8_t *text; /* of the file: names, senders and tenants point into it */
  size_t text_len;
  struct user *list;
  unsigned count, room;
  struct map by_name;
};

static struct span key_of(const void *object) { return ((const struct user *)object)->name; }

/* ---- words of a line ---- */

static struct span take_word(struct span *line) {
  size_t start = 0, end;
  while (start < line->len && (line->at[start] == ' ' || line->at[start] == '\t')) start++;
  for (end = start; end < line->len && line->at[end] != ' ' && line->at[end] != '\t';) end++;
  struct span word = span_skip(span_first(*line, end), start);
  *line = span_skip(*line, end);
  return word;
}

static const char *read_password(struct span value, struct user *user, char *hash) {
  if (value.len > SECRET_HASH_MAX) return "password= is no hash of crypt(5)";
  memcpy(hash, value.at, value.len);
  hash[value.len] = '\0';
  user->hash = hash;
  return secret_hash_is_valid(hash) ? NULL : "password= is no hash of a method that this system has; see crypt(5)";
}

static bool read_bytes(struct span text, uint8_t *bytes, size_t wanted) {
  size_t len;
  return base64_decode(text, bytes, wanted, &len) == E_OK && len == wanted;
}

/* ITERATIONS:SALT:STORED:SERVER, the last three in base64. */
static const char *read_scram(struct span value, struct user *user, char *hash) {
  static const char wrong[] = "scram= must be ITERATIONS:SALT:STOREDKEY:SERVERKEY, iterations from 4096 to 1000000 and the rest in base64";
  (void)hash;
  struct scram_keys *keys = &user->scram;
  uint64_t iterations;
  size_t salt_len;
  if (!span_to_u64(span_take_until(&value, ':'), &iterations) || iterations < SCRAM_ITERATIONS_MIN || iterations > SCRAM_ITERATIONS_MAX) return wrong;
  if (base64_decode(span_take_until(&value, ':'), keys->salt, sizeof keys->salt, &salt_len) != E_OK || salt_len < 8) return wrong;
  if (!read_bytes(span_take_until(&value, ':'), keys->stored, sizeof keys->stored) || !read_bytes(value, keys->server, sizeof keys->server))
    return wrong;
  keys->iterations = (uint32_t)iterations;
  keys->salt_len = (uint8_t)salt_len;
  return NULL;
}

static bool is_pattern(struct span pattern) {
  if (span_equal(pattern, SPAN("<>"))) return true;
  ptrdiff_t at = span_find(pattern, '@');
  return (at >= 0 && pattern.len > (size_t)at + 1) || (at < 0 && span_find(pattern, '*') >= 0);
}

static const char *read_senders(struct span value, struct user *user, char *hash) {
  (void)hash;
  if (value.len == 0) return "senders= is empty; leave it out for any sender";
  if (value.len > USERS_SENDERS_MAX) return "senders= is longer than 4096 bytes";
  user->senders = value;
  for (struct span pattern; value.len > 0;) {
    pattern = span_take_until(&value, ',');
    if (!is_pattern(pattern)) return "senders= must be addresses, @domains or patterns with *, with commas between";
  }
  return NULL;
}

static const char *read_tenant(struct span value, struct user *user, char *hash) {
  (void)hash;
  user->tenant = value;
  return secret_text_is_valid(value, USERS_TENANT_MAX) ? NULL : "tenant= must be 1 to 64 bytes of text";
}

static const char *read_count(struct span value, uint32_t *count) {
  uint64_t number;
  if (!span_to_u64(value, &number) || number < 1 || number > 1000000000)
    return "per_minute=, per_hour=, per_day= and recipients= must be 1 to 1000000000";
  *count = (uint32_t)number;
  return NULL;
}

/* ---- a line ---- */

enum word { PASSWORD, SCRAM, SENDERS, PER_MINUTE, PER_HOUR, PER_DAY, RECIPIENTS, TENANT, DISABLED, WORDS };

static const struct span words[WORDS] = {
    [PASSWORD] = SPAN("password"),     [SCRAM] = SPAN("scram"),           [SENDERS] = SPAN("senders"),
    [PER_MINUTE] = SPAN("per_minute"), [PER_HOUR] = SPAN("per_hour"),     [PER_DAY] = SPAN("per_day"),
    [TENANT] = SPAN("tenant"),         [RECIPIENTS] = SPAN("recipients"), [DISABLED] = SPAN("disabled"),
};

static enum word word_of(struct span name) {
  unsigned word = 0;
  while (word < WORDS && !span_equal(name, words[word])) word++;
  return (enum word)word;
}

static const char *read_word(struct span value, enum word word, struct user *user, char *hash) {
  switch (word) {
  case PASSWORD: return read_password(value, user, hash);
  case SCRAM: return read_scram(value, user, hash);
  case SENDERS: return read_senders(value, user, hash);
  case TENANT: return read_tenant(value, user, hash);
  case PER_MINUTE: return read_count(value, &user->per_minute);
  case PER_HOUR: return read_count(value, &user->per_hour);
  case PER_DAY: return read_count(value, &user->per_day);
  case RECIPIENTS: return read_count(value, &user->recipients_max);
  default: user->disabled = true; return NULL;
  }
}

static bool has_control(struct span line) {
  for (size_t i = 0; i < line.len; i++)
    if ((line.at[i] < ' ' && line.at[i] != '\t') || line.at[i] == 0x7f) return true;
  return false;
}

const char *users_read_line(struct span line, struct user *user, char hash[SECRET_HASH_MAX + 1]) {
  unsigned seen = 0;
  hash[0] = '\0';
  *user = (struct user){.hash = hash};
  if (line.len > 0 && line.at[line.len - 1] == '\r') line.len--;
  if (line.len > USERS_LINE_MAX) return "the line is longer than 8192 bytes";
  struct span name = take_word(&line);
  if (name.len == 0 || name.at[0] == '#') return NULL;
  if (!secret_text_is_valid(name, SECRET_NAME_MAX)) return "the name must be 1 to 255 bytes of UTF-8 text";
  if (has_control(line)) return "there is a control character in the line";
  for (struct span rest; (rest = take_word(&line)).len > 0;) {
    bool has_value = span_find(rest, '=') >= 0;
    enum word word = word_of(span_take_until(&rest, '='));
    if (word == WORDS || has_value != (word != DISABLED))
      return "it may have password=, scram=, senders=, per_minute=, per_hour=, per_day=, recipients=, tenant= and the word disabled; one of its "
             "words is none of these";
    if ((seen & 1u << word) != 0) return "a word is given twice";
    seen |= 1u << word;
    const char *wrong = read_word(rest, word, user, hash);
    if (wrong != NULL) return wrong;
  }
  user->name = name;
  return NULL;
}

static void write_word(struct fmt *out, enum word word) {
  fmt_char(out, ' ');
  fmt_put(out, words[word]);
  fmt_char(out, '=');
}

static void write_text(struct fmt *out, enum word word, struct span text) {
  if (text.len == 0) return;
  write_word(out, word);
  fmt_put(out, text);
}

static void write_count(struct fmt *out, enum word word, uint32_t count) {
  if (count == 0) return;
  write_word(out, word);
  fmt_u64(out, count);
}

void users_write_line(struct fmt *out, const struct user *user) {
  fmt_put(out, user->name);
  write_text(out, PASSWORD, span_of_text(user->hash));
  if (user->scram.iterations > 0) {
    write_count(out, SCRAM, user->scram.iterations);
    fmt_char(out, ':');
    base64_encode(out, span_of(user->scram.salt, user->scram.salt_len));
    fmt_char(out, ':');
    base64_encode(out, span_of(user->scram.stored, sizeof user->scram.stored));
    fmt_char(out, ':');
    base64_encode(out, span_of(user->scram.server, sizeof user->scram.server));
  }
  write_text(out, SENDERS, user->senders);
  write_count(out, PER_MINUTE, user->per_minute);
  write_count(out, PER_HOUR, user->per_hour);
  write_count(out, PER_DAY, user->per_day);
  write_count(out, RECIPIENTS, user->recipients_max);
  write_text(out, TENANT, user->tenant);
  if (user->disabled) fmt_text(out, " disabled");
}

/* ---- the table ---- */

static int add(struct users *users, const struct user *user) {
  if (users->count == users->room) {
    unsigned room = users->room == 0 ? 16 : users->room * 2;
    struct user *grown = realloc(users->list, room * sizeof *grown);
    if (grown == NULL) return E_NO_MEMORY;
    users->list = grown;
    users->room = room;
  }
  users->list[users->count] = *user;
  users->list[users->count].hash = strdup(user->hash);
  return users->list[users->count].hash == NULL ? E_NO_MEMORY : (users->count++, E_OK);
}

static int read_lines(struct users *users, const struct report *report) {
  struct span rest = span_of(users->text, users->text_len);
  char hash[SECRET_HASH_MAX + 1];
  for (unsigned number = 1; rest.len > 0; number++) {
    struct user user;
    const char *wrong = users_read_line(span_take_until(&rest, '\n'), &user, hash);
    if (wrong != NULL) return report_error(report, E_SYNTAX, number, "", "%s", wrong);
    if (user.name.len == 0) continue;
    if (users->count == USERS_MAX) return report_error(report, E_RANGE, number, "", "there are more than %d users", USERS_MAX);
    int error = add(users, &user);
    if (error != E_OK) return error;
  }
  return E_OK;
}

/* In a second pass: the list does not move any more. A name that is there twice is told of by the line of the second one. */
static int index_names(struct users *users, const struct report *report) {
  char quoted[REPORT_QUOTE_ROOM];
  uint64_t seed;
  secret_random(&seed, sizeof seed);
  map_init(&users->by_name, key_of, seed);
  for (unsigned i = 0; i < users->count; i++) {
    struct span name = users->list[i].name;
    if (map_find(&users->by_name, name) != NULL) {
      unsigned line = 1;
      for (const uint8_t *at = users->text; at < name.at; at++) line += *at == '\n';
      return report_error(report, E_SYNTAX, line, "", "the user %s is there already", report_quote(quoted, name));
    }
    int error = map_insert(&users->by_name, &users->list[i]);
    if (error != E_OK) return error;
  }
  return E_OK;
}

static void free_users(struct users *users) {
  for (unsigned i = 0; i < users->count; i++) {
    secret_wipe(users->list[i].hash, strlen(users->list[i].hash));
    free(users->list[i].hash);
  }
  if (users->list != NULL) secret_wipe(users->list, users->room * sizeof *users->list);
  secret_wipe(users->text, users->text_len);
  map_fini(&users->by_name);
  free(users->list);
  free(users->text);
  free(users);
}

/* Takes the text. */
static int build(struct users **out, uint8_t *text, size_t len, const struct report *report) {
  struct users *users = calloc(1, sizeof *users);
  if (users == NULL) {
    secret_wipe(text, len);
    free(text);
    return E_NO_MEMORY;
  }
  atomic_init(&users->holders, 1);
  users->text = text;
  users->text_len = len;
  int error = read_lines(users, report);
  if (error == E_OK) error = index_names(users, report);
  if (error == E_OK) {
    *out = users;
    return E_OK;
  }
  free_users(users);
  return error == E_NO_MEMORY ? report_error(report, error, 0, "", "%s", error_text(error)) : error;
}

int users_parse(struct users **users, struct span text, const char *name, struct fmt *why) {
  struct report report = {name, why};
  uint8_t *copy = malloc(text.len + 1);
  *users = NULL;
  if (copy == NULL) return report_error(&report, E_NO_MEMORY, 0, "", "%s", error_text(E_NO_MEMORY));
  if (text.len > 0) memcpy(copy, text.at, text.len);
  return build(users, copy, text.len, &report);
}

/* Of what others may do with the file, what they must not. */
#define FORBIDDEN_MODE 027

int users_load(struct users **users, const char *path, struct fmt *why) {
  struct report report = {path, why};
  struct system_file file;
  uint8_t *text;
  size_t len;
  *users = NULL;
  int error = system_look_at_file(path, &file);
  if (error == E_OK && (file.mode & FORBIDDEN_MODE) != 0)
    return report_error(&report, E_PERMISSION, 0, "", "its mode is %04o: others may read or write it; make it 0640 or 0600", file.mode);
  if (error == E_OK) error = system_read_file(path, USERS_FILE_MAX, &text, &len);
  if (error == E_TOO_LONG) return report_error(&report, E_RANGE, 0, "", "the file is larger than %u MiB", USERS_FILE_MAX >> 20);
  if (error != E_OK) return report_error(&report, error, 0, "", "the file cannot be read: %s", error_text(error));
  return build(users, text, len, &report);
}

struct users *users_share(struct users *users) {
  atomic_fetch_add_explicit(&users->holders, 1, memory_order_relaxed);
  return users;
}

void users_drop(struct users *users) {
  if (users != NULL && atomic_fetch_sub_explicit(&users->holders, 1, memory_order_acq_rel) == 1) free_users(users);
}

bool users_are_ours_alone(struct users *users) { return atomic_load_explicit(&users->holders, memory_order_acquire) == 1; }

const struct user *users_find(const struct users *users, struct span name) { return map_find(&users->by_name, name); }
unsigned users_count(const struct users *users) { return users->count; }

const struct user *users_at(const struct users *users, unsigned index) {
  must(index < users->count);
  return &users->list[index];
}

/* ---- senders ---- */

/* "*" stands for any octets. When what follows the last one does not fit, only that one takes an octet more: linear for each star. */
static bool pattern_matches(struct span pattern, struct span text) {
  size_t at = 0, star = SIZE_MAX, retry = 0;
  for (size_t i = 0; i < text.len;) {
    if (at < pattern.len && pattern.at[at] == '*') {
      star = ++at;
      retry = i;
    } else if (at < pattern.len && ascii_lower(pattern.at[at]) == ascii_lower(text.at[i])) {
      at++;
      i++;
    } else if (star != SIZE_MAX) {
      at = star;
      i = ++retry;
    } else {
      return false;
    }
  }
  while (at < pattern.len && pattern.at[at] == '*') at++;
  return at == pattern.len;
}

static bool allows(struct span pattern, struct span address) {
  if (address.len == 0) return span_equal(pattern, SPAN("<>"));
  if (pattern.at[0] != '@') return pattern_matches(pattern, address);
  size_t domain = address.len;
  while (domain > 0 && address.at[domain - 1] != '@') domain--; /* a quoted local part may have an @ too: the last one counts */
  return domain > 0 && pattern_matches(pattern, span_skip(address, domain - 1));
}

bool users_may_send(const struct user *user, struct span address) {
  struct span rest = user->senders;
  if (rest.len == 0) return true;
  while (rest.len > 0)
    if (allows(span_take_until(&rest, ','), address)) return true;
  return false;
}
