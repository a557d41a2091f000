/*
 * users_edit: one change of the users file by a program: comments, order and the lines of others stay as they are. Between begin and end no other program that changes it
 * this way can (a lock on FILE.lock), so of two changes at a time neither is lost. The file is replaced as a whole, with the mode and owner it has; a new one is 0600.
 *
 *   if (users_edit_begin(&edit, path, &why) == E_OK && users_edit_find(&edit, name, &user, hash)) { user.disabled = true; error = users_edit_put(&edit, &user, &why); }
 *   users_edit_end(&edit);
 *
 * Not on a shard. Errors come with a line in `why` (512 bytes).
 */
#ifndef NET_AUTH_USERS_EDIT_H
#define NET_AUTH_USERS_EDIT_H

#include "net/auth/users.h"

struct users_edit {
  /* private */
  const char *_path; /* borrowed */
  uint8_t *_text;
  size_t _len;
  int _lock; /* -1: not locked */
};

/* Locks (E_BUSY: somebody else has had it for ten seconds), reads and checks the file. One that is not there is empty. */
must_check int users_edit_begin(struct users_edit *edit, const char *path, struct fmt *why);
/* What its line says, as it is now. The spans point into the text: until put or remove. */
bool users_edit_find(const struct users_edit *edit, struct span name, struct user *user, char hash[SECRET_HASH_MAX + 1]);
/* Replaces the user's line, or adds one at the end, and writes the file. What could not be read again is E_SYNTAX, and nothing has changed. */
must_check int users_edit_put(struct users_edit *edit, const struct user *user, struct fmt *why);
/* E_NOT_FOUND. Writes the file. */
must_check int users_edit_remove(struct users_edit *edit, struct span name, struct fmt *why);
/* In any case, also after an error of begin. */
void users_edit_end(struct users_edit *edit);

#endif
