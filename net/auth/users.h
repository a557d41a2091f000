/*
 * users: the users file (configuration: `users`), who may authenticate, read whole into a table that never changes. ringpost-users(5) has the format.
 *
 *   # name, then words in any order
 *   alice@example.org password=$y$j9T$.. scram=4096:SALT:STORED:SERVER senders=@example.org,news-*@example.net per_hour=1000 tenant=acme
 *   bob password=$6$.. disabled
 *
 * Any thread: a table is immutable, and lives as long as somebody holds it (users_share, users_drop: an atomic count). Looking up takes no lock and a constant
 * time. Users and the spans in them live as long as their table. A line that is wrong, an unknown word, a name given twice: an error with file and line, and no
 * table. Reading and checking take a second for a million users, so not on a shard.
 */
#ifndef NET_AUTH_USERS_H
#define NET_AUTH_USERS_H

#include "core/base/fmt.h"
#include "core/base/must.h"
#include "net/auth/secret.h"

#define USERS_FILE_MAX (256u << 20) /* bytes */
#define USERS_MAX 1000000
#define USERS_LINE_MAX 8192
#define USERS_SENDERS_MAX 4096 /* bytes of the list, in a line */
#define USERS_TENANT_MAX 64

struct user {
  struct span name;
  char *hash; /* crypt(3), ends in NUL; empty: none */
  struct scram_keys scram;
  struct span senders;                    /* patterns with commas between; empty: any. See users_may_send */
  uint32_t per_minute, per_hour, per_day; /* messages; 0: no limit of its own */
  uint32_t recipients_max;                /* of a message; 0: as for all */
  struct span tenant;                     /* for events; empty: none */
  bool disabled;
};

struct users;

/* Reads the file. On error `why` (which should have room for 512 bytes) has one line: "FILE:LINE: what is wrong". E_SYNTAX, E_RANGE, E_NOT_FOUND, E_PERMISSION (also if
 * others than its owner and group may read it, or others than its owner may write to it), E_NO_MEMORY, .. The table is the caller's to drop. */
must_check int users_load(struct users **users, const char *path, struct fmt *why);
/* The same from memory; `name` stands for the file in errors. */
must_check int users_parse(struct users **users, struct span text, const char *name, struct fmt *why);

/* One more who holds it. */
struct users *users_share(struct users *users);
/* NULL is fine. The last one frees it; its secrets are wiped. */
void users_drop(struct users *users);
/* Does nobody hold it but the caller? What others have given back is then theirs no more. */
bool users_are_ours_alone(struct users *users);

/* NULL: nobody of that name. Names are compared byte by byte. */
const struct user *users_find(const struct users *users, struct span name);
unsigned users_count(const struct users *users);
/* In the order of the file. */
const struct user *users_at(const struct users *users, unsigned index);

/*
 * May this user send as `address` (without <>; empty: the null sender)? A pattern is an address, or, beginning with "@", a domain, of which
 * every address is meant; in both "*" stands for any octets. "<>" is the null sender. Case does not count.
 */
bool users_may_send(const struct user *user, struct span address);

/* ---- lines ---- */

/* One line of the file, without its end; a comment or an empty one gives a user without a name. The spans point into `line`, user->hash into `hash`. What is wrong is
 * told as text; NULL: all is well. */
const char *users_read_line(struct span line, struct user *user, char hash[SECRET_HASH_MAX + 1]);
/* The same line again, without its end. */
void users_write_line(struct fmt *out, const struct user *user);

#endif
