/*
 * system: what defaults are taken from: the machine's name, cores, memory and resolvers; and reading and writing whole files.
 * Not on a shard: it may block.
 */
#ifndef CORE_CONF_SYSTEM_H
#define CORE_CONF_SYSTEM_H

#include "core/base/must.h"
#include "core/base/netaddr.h"
#include "core/base/span.h"

#define SYSTEM_RESOLVERS_MAX 8

struct conf_system {
  char hostname[256];    /* empty if it has none */
  unsigned cores;        /* that we may run on; >= 1 */
  uint64_t memory_bytes; /* of the machine, or of our control group if that has less */
  struct netaddr resolvers[SYSTEM_RESOLVERS_MAX];
  unsigned resolvers_count;
};

void system_look(struct conf_system *system);

/* The name servers of a resolv.conf(5), port 53. Lines that are none, and addresses with a zone, are skipped. */
void system_read_resolvers(struct conf_system *system, struct span text);

/* The whole file into malloc'ed memory, which the caller frees. E_TOO_LONG above `max`, E_NOT_FOUND, E_PERMISSION, or what else the system says. */
must_check int system_read_file(const char *path, size_t max, uint8_t **bytes, size_t *len);
/* In place of what is there: afterwards the old or the new file is on stable storage, whole. Writes PATH.new first, and removes that if it cannot. */
must_check int system_write_file(const char *path, struct span bytes);
/* The same for a file with secrets: mode and owner are those of the file that was there, if there was one, else 0600 and our own. Another owner that cannot be
 * kept is E_PERMISSION, and nothing has changed. */
must_check int system_write_secret_file(const char *path, struct span bytes);

/* Milliseconds since 1970, for threads that have no shard (whose io has a clock of its own). */
uint64_t system_wall_ms(void);

/* What tells two states of a file apart. */
struct system_file {
  uint64_t device, inode, size;
  int64_t changed_ns; /* its mtime */
  unsigned mode;      /* permissions: 0640 */
};
/* E_NOT_FOUND, E_PERMISSION, or what else the system says. */
must_check int system_look_at_file(const char *path, struct system_file *file);
bool system_same_file(const struct system_file *a, const struct system_file *b);

/* Keeps other processes that do the same away from PATH, until system_unlock_file or the end of this process, by a lock on PATH.lock, which stays. Waits up to
 * `wait_ms` for others, then E_BUSY. Gives a handle. */
must_check int system_lock_file(const char *path, unsigned wait_ms, int *handle);
void system_unlock_file(int handle);

#endif
