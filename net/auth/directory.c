#include "net/auth/directory.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "core/base/error.h"
#include "core/conf/system.h"

struct old_table {
  struct users *users;
  struct old_table *next;
};

struct directory {
  char *path;
  struct system_file file; /* as it was when it was read; all zero: it was not there */
  struct system_file seen; /* at the last look */
  struct old_table *old;
  pthread_mutex_t lock; /* for `users` */
  struct users *users;
  _Alignas(64) _Atomic uint64_t number; /* of the table: alone on its cache line, which shards share */
};

static struct system_file file_now(const struct directory *directory) {
  struct system_file file = {.device = 0};
  if (system_look_at_file(directory->path, &file) != E_OK) file = (struct system_file){.device = 0};
  return file;
}

int directory_open(struct directory **out, const char *path, struct fmt *why) {
  struct directory *directory = aligned_alloc(64, sizeof *directory);
  if (directory == NULL) return E_NO_MEMORY;
  *directory = (struct directory){.path = strdup(path)};
  if (directory->path == NULL) {
    free(directory);
    return E_NO_MEMORY;
  }
  pthread_mutex_init(&directory->lock, NULL);
  directory->file = file_now(directory); /* before it is read: what changes meanwhile is seen at the next look */
  int error = users_load(&directory->users, path, why);
  atomic_init(&directory->number, 1);
  if (error != E_OK) {
    directory_close(directory);
    return error;
  }
  *out = directory;
  return E_OK;
}

/* Of the old tables those that nobody else holds any more. */
static void sweep(struct directory *directory, bool all) {
  for (struct old_table **at = &directory->old, *old; (old = *at) != NULL;) {
    if (!all && !users_are_ours_alone(old->users)) {
      at = &old->next;
      continue;
    }
    *at = old->next;
    users_drop(old->users);
    free(old);
  }
}

void directory_close(struct directory *directory) {
  if (directory == NULL) return;
  sweep(directory, true);
  users_drop(directory->users);
  pthread_mutex_destroy(&directory->lock);
  free(directory->path);
  free(directory);
}

static int exchange(struct directory *directory, struct users *users) {
  struct old_table *old = malloc(sizeof *old);
  if (old == NULL) {
    users_drop(users);
    return E_NO_MEMORY;
  }
  pthread_mutex_lock(&directory->lock);
  *old = (struct old_table){.users = directory->users, .next = directory->old};
  directory->users = users;
  atomic_fetch_add_explicit(&directory->number, 1, memory_order_release);
  pthread_mutex_unlock(&directory->lock);
  directory->old = old;
  return 1;
}

int directory_reload(struct directory *directory, struct fmt *why) {
  struct users *users;
  directory->file = file_now(directory);
  int error = users_load(&users, directory->path, why);
  return error == E_OK ? exchange(directory, users) : error;
}

int directory_look(struct directory *directory, struct fmt *why) {
  sweep(directory, false);
  struct system_file file = file_now(directory);
  bool settled = system_same_file(&file, &directory->seen);
  directory->seen = file;
  return !settled || system_same_file(&file, &directory->file) ? 0 : directory_reload(directory, why);
}

unsigned directory_old_tables(const struct directory *directory) {
  unsigned count = 0;
  for (const struct old_table *old = directory->old; old != NULL; old = old->next) count++;
  return count;
}

/* ---- of one shard ---- */

void directory_view_init(struct directory_view *view, struct directory *directory) {
  *view = (struct directory_view){._directory = directory};
  if (directory == NULL) return;
  pthread_mutex_lock(&directory->lock); /* here it may wait: the shard does not work yet */
  view->_users = users_share(directory->users);
  view->_number = atomic_load_explicit(&directory->number, memory_order_relaxed);
  pthread_mutex_unlock(&directory->lock);
}

void directory_view_fini(struct directory_view *view) {
  users_drop(view->_users);
  view->_users = NULL;
}

static void renew(struct directory_view *view) {
  struct directory *directory = view->_directory;
  if (pthread_mutex_trylock(&directory->lock) != 0) return;
  users_drop(view->_users); /* never the last one: the directory has it too */
  view->_users = users_share(directory->users);
  view->_number = atomic_load_explicit(&directory->number, memory_order_relaxed);
  pthread_mutex_unlock(&directory->lock);
}

struct users *directory_users(struct directory_view *view) {
  if (view->_directory == NULL) return NULL;
  if (unlikely(atomic_load_explicit(&view->_directory->number, memory_order_acquire) != view->_number)) renew(view);
  return view->_users;
}
