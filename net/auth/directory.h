/*
 * directory: the users file that is in use, taken anew when it changes, while shards go on looking names up.
 *
 * Who does what: one thread off the shards opens it, looks at the file about once a second (directory_look) and closes it. Each shard has a view of its own.
 *
 * Why a shard needs no lock: a table never changes (users.h), and a view holds the one it uses. With each new table the directory's number grows; a view compares that
 * with the number it has seen, which is one load of a cache line that is written once in a while. Only if it has grown does the view exchange its table, with a
 * trylock: if the other thread is just now exchanging, the view goes on with its old table and looks again the next time. So a shard never waits. Nor does it ever free a
 * table, which takes long if it is large: the directory holds each old one until nobody else does.
 *
 * Somebody who needs a user beyond the present turn (a session, until its end) holds the table with users_share, and drops it with users_drop.
 */
#ifndef NET_AUTH_DIRECTORY_H
#define NET_AUTH_DIRECTORY_H

#include "net/auth/users.h"

struct directory;

/* Reads the file (users_load). */
must_check int directory_open(struct directory **directory, const char *path, struct fmt *why);
/* When all views are gone, and nobody holds a table. NULL is fine. */
void directory_close(struct directory *directory);

/* Has the file changed, and stayed the same since the last look (an editor may write it in steps)? 0: no, or the change was told of before. 1: a new table is in use. An error: it changed, but cannot be read or is wrong, which `why` says (512
 * bytes); the table stays as it is. A file that is gone is such a change. */
must_check int directory_look(struct directory *directory, struct fmt *why);
/* The same whether it has changed or not (SIGHUP). */
must_check int directory_reload(struct directory *directory, struct fmt *why);

/* How many earlier tables somebody still has, as of the last look. */
unsigned directory_old_tables(const struct directory *directory);

/* ---- of one shard ---- */

struct directory_view {
  struct directory *_directory;
  struct users *_users;
  uint64_t _number;
};

/* Before the shard works: it may wait. Without a directory (NULL) there are no users. */
void directory_view_init(struct directory_view *view, struct directory *directory);
void directory_view_fini(struct directory_view *view);
/* The present table: valid until the next call; share it to keep it. NULL without a directory. */
struct users *directory_users(struct directory_view *view);

#endif
