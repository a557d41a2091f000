/* disk_inside: what the files of the simulated disk share: disk.c (contents, room, crashes, what is under way) and names.c (names of files and directories). For them only. */
#ifndef TESTS_SIM_DISK_INSIDE_H
#define TESTS_SIM_DISK_INSIDE_H

#include "tests/sim/contents.h"
#include "tests/sim/disk.h"

#define FILES_MAX 4096
#define HANDLES_MAX 4096
#define DIRECTORIES_MAX 64
#define RENAMINGS_MAX 64
#define PATH_MAX_LEN 128

struct file {
  bool used, removed; /* removed: a power cut may bring it back */
  bool name_safe, locked;
  char path[PATH_MAX_LEN];
  struct contents contents;
  unsigned operations;
  struct file *replaced; /* removed; in whose place it is, unless the power is cut; NULL: nobody's, or that is durable */
};

struct handle {
  struct file *file;
  bool lock, direct, append;
};

struct renaming {
  char from[PATH_MAX_LEN], to[PATH_MAX_LEN];
};

struct operation;

struct disk_state {
  struct file files[FILES_MAX];
  unsigned files_used; /* none beyond */
  struct handle handles[HANDLES_MAX];
  char directories[DIRECTORIES_MAX][PATH_MAX_LEN];
  unsigned directories_count;
  struct renaming renamings[RENAMINGS_MAX]; /* of directories, not durable yet, in the order they came */
  unsigned renamings_count;
  struct operation *operations;
  struct disk_faults faults;
  struct disk_stats stats;
  uint64_t durable_number;
  uint64_t cut_at;
  bool is_cut;
  disk_write on_write;
};
extern struct disk_state disk;

/* ---- disk.c ---- */
/* NULL: there is none. */
struct file *disk_find(const char *path);
void disk_forget(struct file *file);
bool disk_is_directory(const char *path);
bool disk_is_open(const struct file *file);
/* Of the spool, and done at once. */
bool disk_call_fails(const char *path);
/* For calls that return at once: who called is gone with the machine. */
void disk_become_durable_or_die(void);

/* ---- names.c ---- */
/* Those that are not durable; undone, in part, when the power is cut. */
void names_forget_renamings(bool undo);
/* A file that is in another's place, when the power is cut: one of the two is there. */
void names_settle_replaced(void);

#endif
