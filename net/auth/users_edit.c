#include "net/auth/users_edit.h"

#include <stdlib.h>

#include "core/base/error.h"
#include "core/conf/report.h"
#include "core/conf/system.h"

#define LOCK_WAIT_MS 10000
#define LINE_ROOM (USERS_LINE_MAX + 2) /* with its newline */

static int complain(const struct users_edit *edit, int error, const char *what, struct fmt *why) {
  struct report report = {edit->_path, why};
  return report_error(&report, error, 0, "", "%s: %s", what, error_text(error));
}

int users_edit_begin(struct users_edit *edit, const char *path, struct fmt *why) {
  struct users *users;
  *edit = (struct users_edit){._path = path, ._lock = -1};
  int error = system_lock_file(path, LOCK_WAIT_MS, &edit->_lock);
  if (error != E_OK) {
    edit->_lock = -1;
    return complain(edit, error, "it cannot be locked", why);
  }
  error = system_read_file(path, USERS_FILE_MAX, &edit->_text, &edit->_len);
  if (error == E_NOT_FOUND) {
    edit->_text = calloc(1, 1);
    return edit->_text != NULL ? E_OK : complain(edit, E_NO_MEMORY, "it cannot be changed", why);
  }
  if (error != E_OK) return complain(edit, error, "it cannot be read", why);
  error = users_parse(&users, span_of(edit->_text, edit->_len), path, why);
  users_drop(users);
  return error;
}

void users_edit_end(struct users_edit *edit) {
  if (edit->_text != NULL) secret_wipe(edit->_text, edit->_len);
  free(edit->_text);
  if (edit->_lock >= 0) system_unlock_file(edit->_lock);
  *edit = (struct users_edit){._lock = -1};
}

/* The user's line in the text, with its newline if it has one. */
static bool find_line(const struct users_edit *edit, struct span name, struct span *line, struct user *user, char *hash) {
  for (struct span rest = span_of(edit->_text, edit->_len); rest.len > 0;) {
    ptrdiff_t end = span_find(rest, '\n');
    *line = end < 0 ? rest : span_first(rest, (size_t)end + 1);
    const char *wrong = users_read_line(end < 0 ? rest : span_first(rest, (size_t)end), user, hash);
    must(wrong == NULL); /* the whole was read before */
    if (user->name.len > 0 && span_equal(user->name, name)) return true;
    rest = span_skip(rest, line->len);
  }
  return false;
}

bool users_edit_find(const struct users_edit *edit, struct span name, struct user *user, char hash[SECRET_HASH_MAX + 1]) {
  struct span line;
  return find_line(edit, name, &line, user, hash);
}

/* Takes the text if it is right and was written. */
static int write_text(struct users_edit *edit, uint8_t *text, size_t len, struct fmt *why) {
  struct users *users;
  int error = users_parse(&users, span_of(text, len), edit->_path, why);
  users_drop(users);
  if (error == E_OK) {
    error = system_write_secret_file(edit->_path, span_of(text, len));
    if (error != E_OK) (void)complain(edit, error, "it cannot be written", why);
  }
  if (error != E_OK) {
    secret_wipe(text, len);
    free(text);
    return error;
  }
  if (edit->_text != NULL) secret_wipe(edit->_text, edit->_len);
  free(edit->_text);
  edit->_text = text;
  edit->_len = len;
  return E_OK;
}

/* `with` stands where `line` did. */
static int replace(struct users_edit *edit, struct span line, struct span with, struct fmt *why) {
  size_t before = (size_t)(line.at - edit->_text), after = edit->_len - before - line.len;
  uint8_t *text = malloc(edit->_len - line.len + with.len + 1);
  if (text == NULL) return complain(edit, E_NO_MEMORY, "it cannot be changed", why);
  if (before > 0) memcpy(text, edit->_text, before);
  if (with.len > 0) memcpy(text + before, with.at, with.len);
  if (after > 0) memcpy(text + before + with.len, line.at + line.len, after);
  return write_text(edit, text, before + with.len + after, why);
}

int users_edit_put(struct users_edit *edit, const struct user *user, struct fmt *why) {
  uint8_t room[LINE_ROOM];
  char hash[SECRET_HASH_MAX + 1];
  struct fmt out = fmt_over(room, sizeof room);
  struct user before;
  struct span line;
  if (!find_line(edit, user->name, &line, &before, hash)) {
    line = span_of(edit->_text + edit->_len, 0);
    if (edit->_len > 0 && edit->_text[edit->_len - 1] != '\n') fmt_char(&out, '\n');
  }
  users_write_line(&out, user);
  fmt_char(&out, '\n');
  int error = out.overflow ? complain(edit, E_TOO_LONG, "the user's line", why) : replace(edit, line, fmt_span(&out), why);
  secret_wipe(room, sizeof room);
  secret_wipe(hash, sizeof hash);
  return error;
}

int users_edit_remove(struct users_edit *edit, struct span name, struct fmt *why) {
  char hash[SECRET_HASH_MAX + 1], quoted[REPORT_QUOTE_ROOM];
  struct user user;
  struct span line;
  struct report report = {edit->_path, why};
  if (!find_line(edit, name, &line, &user, hash)) return report_error(&report, E_NOT_FOUND, 0, "", "there is no user %s", report_quote(quoted, name));
  secret_wipe(hash, sizeof hash);
  return replace(edit, line, span_of(NULL, 0), why);
}
