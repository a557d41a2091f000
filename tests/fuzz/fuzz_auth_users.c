/* Any text either gives a table, whose lines written anew give the same table; or one line that says why not. Who may send does not depend on case. */
#include <stdlib.h>

#include "core/base/error.h"
#include "net/auth/users.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static bool same(const struct user *a, const struct user *b) {
  return span_equal(a->name, b->name) && strcmp(a->hash, b->hash) == 0 && memcmp(&a->scram, &b->scram, sizeof a->scram) == 0 &&
         span_equal(a->senders, b->senders) && a->per_minute == b->per_minute && a->per_hour == b->per_hour && a->per_day == b->per_day &&
         a->recipients_max == b->recipients_max && span_equal(a->tenant, b->tenant) && a->disabled == b->disabled;
}

static void check_senders(const struct user *user) {
  uint8_t lower[64], upper[64];
  struct span address = span_first(user->senders, sizeof lower);
  for (size_t i = 0; i < address.len; i++) {
    lower[i] = ascii_lower(address.at[i]);
    upper[i] = ascii_is_alpha(address.at[i]) ? address.at[i] & (uint8_t)~0x20 : address.at[i];
  }
  must(users_may_send(user, span_of(lower, address.len)) == users_may_send(user, span_of(upper, address.len)));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
  uint8_t room[512];
  struct fmt why = fmt_over(room, sizeof room);
  struct users *users, *again;
  if (len > 16384) return 0;
  int error = users_parse(&users, span_of(bytes, len), "users", &why);
  must(error == E_OK || (error == E_SYNTAX && users == NULL && why.len > 0 && !why.overflow));
  for (size_t i = 0; i < why.len; i++) must(room[i] >= ' ' && room[i] < 0x7f);
  if (error != E_OK) return 0;
  size_t size = 2 * len + 4096;
  uint8_t *text = malloc(size);
  struct fmt out = fmt_over(text, size);
  for (unsigned i = 0; i < users_count(users); i++) {
    users_write_line(&out, users_at(users, i));
    fmt_char(&out, '\n');
    check_senders(users_at(users, i));
  }
  must(!out.overflow && users_parse(&again, fmt_span(&out), "again", &why) == E_OK);
  must(users_count(users) == users_count(again));
  for (unsigned i = 0; i < users_count(users); i++) must(same(users_at(users, i), users_find(again, users_at(users, i)->name)));
  users_drop(users);
  users_drop(again);
  free(text);
  return 0;
}
