/* Names: of files, of directories, and what of their changes a power cut undoes. */
#include <stdio.h>
#include <string.h>

#include "core/base/error.h"
#include "tests/sim/disk_inside.h"
#include "tests/sim/world.h"

/* What comes behind this directory in a path. NULL: it is elsewhere. */
static const char *within(const char *path, const char *directory) {
  size_t len = strlen(directory);
  while (len > 0 && directory[len - 1] == '/') len--;
  return strncmp(path, directory, len) == 0 && path[len] == '/' ? path + len + 1 : NULL;
}

static void remove_directory(const char *path) {
  for (unsigned i = 0; i < disk.directories_count; i++) {
    if (strcmp(disk.directories[i], path) != 0) continue;
    memmove(disk.directories[i], disk.directories[i + 1], (--disk.directories_count - i) * sizeof disk.directories[0]);
    return;
  }
}

/* Removed files too: they may come back, where their directory then is. */
static void move_directory(const char *from, const char *to) {
  remove_directory(from);
  if (!disk_is_directory(to)) strcpy(disk.directories[disk.directories_count++], to);
  for (unsigned i = 0; i < disk.files_used; i++) {
    struct file *file = &disk.files[i];
    const char *name = file->used ? within(file->path, from) : NULL;
    if (name == NULL) continue;
    char path[PATH_MAX_LEN];
    must(snprintf(path, sizeof path, "%s/%s", to, name) < PATH_MAX_LEN);
    strcpy(file->path, path);
  }
}

void names_forget_renamings(bool undo) {
  for (; undo && disk.renamings_count > 0 && chance_once(2); disk.renamings_count--) { /* the last first, as a journal has it */
    const struct renaming *last = &disk.renamings[disk.renamings_count - 1];
    move_directory(last->to, last->from);
  }
  disk.renamings_count = 0;
}

static bool is_empty(const char *path) {
  for (unsigned i = 0; i < disk.files_used; i++)
    if (disk.files[i].used && !disk.files[i].removed && within(disk.files[i].path, path) != NULL) return false;
  return true;
}

static int rename_directory(const char *from, const char *to) {
  if (disk_is_directory(to) && !is_empty(to)) return E_EXISTS;
  must(disk.renamings_count < RENAMINGS_MAX && strlen(from) < PATH_MAX_LEN && strlen(to) < PATH_MAX_LEN);
  struct renaming *renaming = &disk.renamings[disk.renamings_count++];
  strcpy(renaming->from, from);
  strcpy(renaming->to, to);
  move_directory(from, to);
  return E_OK;
}

/* What never got a durable name gives way to what comes after it. */
static void replace(struct file *file, struct file *old) {
  file->replaced = old->name_safe ? old : old->replaced;
  old->replaced = NULL;
  if (!old->name_safe) {
    disk_forget(old);
  } else {
    old->removed = true;
  }
  file->name_safe = false;
}

int io_file_rename(struct io *io, const char *from, const char *to) {
  (void)io;
  if (disk_call_fails(from)) return E_IO;
  if (disk_is_directory(from)) return rename_directory(from, to);
  struct file *file = disk_find(from), *old = disk_find(to);
  if (file == NULL) return E_NOT_FOUND;
  if (old != NULL) replace(file, old);
  must(strlen(to) < sizeof file->path);
  strcpy(file->path, to);
  return E_OK;
}

int io_file_remove(struct io *io, const char *path) {
  (void)io;
  struct file *file = disk_find(path);
  if (file == NULL) return E_NOT_FOUND;
  if (disk_call_fails(path)) return E_IO;
  must(!disk_is_open(file));
  if (file->name_safe) {
    file->removed = true;
  } else {
    disk_forget(file);
  }
  return E_OK;
}

void names_settle_replaced(void) {
  for (unsigned i = 0; i < disk.files_used; i++) {
    struct file *file = &disk.files[i], *old = file->replaced;
    if (!file->used || old == NULL) continue;
    file->replaced = NULL;
    bool is_back = chance_once(2);
    old->removed = false;
    disk_forget(is_back ? file : old);
    file->name_safe |= !is_back;
  }
}

/* ---- directories: new ones are durable at once, and removed ones are gone; a new name of one is not durable ---- */

int io_directory_remove(struct io *io, const char *path) {
  (void)io;
  if (disk_call_fails(path)) return E_IO;
  if (!disk_is_directory(path)) return E_NOT_FOUND;
  if (!is_empty(path)) return E_EXISTS;
  remove_directory(path);
  return E_OK;
}

int io_directory_make(struct io *io, const char *path) {
  (void)io;
  char part[PATH_MAX_LEN];
  for (size_t len = 1; len <= strlen(path); len++) { /* parents first */
    if (path[len] != '/' && path[len] != '\0') continue;
    snprintf(part, sizeof part, "%.*s", (int)len, path);
    if (disk_find(part) != NULL) return E_NOT_DIRECTORY;
    if (disk_is_directory(part)) continue;
    must(disk.directories_count < DIRECTORIES_MAX);
    strcpy(disk.directories[disk.directories_count++], part);
  }
  return E_OK;
}

int io_directory_sync(struct io *io, const char *path) {
  (void)io;
  if (disk_call_fails(path)) return E_IO;
  disk_become_durable_or_die();
  disk.stats.directory_syncs++;
  for (unsigned i = 0; i < disk.renamings_count; i++)
    if (within(disk.renamings[i].from, path) != NULL && strchr(within(disk.renamings[i].from, path), '/') == NULL) names_forget_renamings(false);
  for (unsigned i = 0; i < disk.files_used; i++) {
    struct file *file = &disk.files[i];
    const char *name = file->used ? within(file->path, path) : NULL;
    if (name == NULL || strchr(name, '/') != NULL) continue;
    file->name_safe = true;
    file->replaced = NULL;
    if (file->removed) disk_forget(file);
  }
  return E_OK;
}

/* In this directory: the name of a file, or of the directory it is in, with its length. NULL: it is elsewhere. */
static const char *name_in(const struct file *file, const char *path, size_t *len) {
  const char *name = file->used && !file->removed ? within(file->path, path) : NULL;
  if (name != NULL) *len = strcspn(name, "/");
  return name;
}

void disk_list(const char *path, void (*each)(void *context, const char *name), void *context) {
  for (unsigned i = 0; i < disk.files_used; i++) {
    size_t len = 0, other_len = 0;
    const char *name = name_in(&disk.files[i], path, &len), *other;
    bool seen = name == NULL;
    for (unsigned j = 0; j < i && !seen; j++)
      seen = (other = name_in(&disk.files[j], path, &other_len)) != NULL && other_len == len && memcmp(name, other, len) == 0;
    if (seen) continue;
    char first[PATH_MAX_LEN];
    snprintf(first, sizeof first, "%.*s", (int)len, name);
    each(context, first);
  }
}

int io_directory_list(struct io *io, const char *path, void (*each)(void *context, const char *name), void *context) {
  (void)io;
  if (!disk_is_directory(path)) return E_NOT_FOUND;
  if (disk_call_fails(path)) return E_IO;
  disk_list(path, each, context);
  return E_OK;
}
