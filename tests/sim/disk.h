/*
 * disk: a simulated disk with one file system, behind the file half of core/io/io.h.
 *
 * The model. A sector of 512 bytes is written whole or not at all. A sector that was written and not synced survives a power cut in its old or in its
 * new state; a size likewise; a name that was made and not synced may be gone, one that was removed may be back; a directory that was renamed may have
 * its old name; a file that took the place of another may have given it back. A synced write makes its own
 * range (and the file's size) durable and nothing else; a sync what was written before it began; one that fails leaves in doubt what is (contents.h). A killed process leaves what it
 * wrote in the cache of the living system, and its writes under way done in part. What is dirty for 30 s is written by the system itself.
 */
#ifndef TESTS_SIM_DISK_H
#define TESTS_SIM_DISK_H

#include "core/io/io.h"

struct disk_faults {
  uint64_t capacity_bytes;             /* 0: no end */
  uint64_t write_ns, sync_ns, read_ns; /* about how long each takes; 0: a usual time */
  unsigned write_fails, sync_fails;    /* of the spool: once in so many, with E_IO; 0: never */
  unsigned read_fails;                 /* likewise */
  unsigned calls_fail;                 /* likewise, of what is done at once: opening, listing, renaming, removing, reading and writing at once... */
  unsigned events_fail;                /* writes of the events, likewise */
  bool refuse_direct;
};

struct disk_stats {
  uint64_t writes, synced_writes, syncs, reads, directory_syncs, failures;
};

/* A write (of these bytes), or a sync or a call (of nothing in particular) of the spool came to its end. */
typedef void (*disk_write)(const char *path, struct span bytes, bool failed);

/* One for the world, empty. */
void disk_open(void);
void disk_set_faults(const struct disk_faults *faults);
/* Successful syncs and calls are not told of. */
void disk_on_write(disk_write on_write);
void disk_give_room(void);
/* The process dies, or all of the machine. Handles are closed, locks are given up, nothing under way is told of any more. */
void disk_crash(bool power);
/* The power is to be cut just before the n-th thing (from now, and from 1 on) becomes durable: a synced write, a sync of a file or of a directory. From then on nothing
 * is done; disk_is_cut says so, and disk_crash is to be called. 0: never. */
void disk_cut_at(uint64_t number);
bool disk_is_cut(void);
const struct disk_stats *disk_stats(void);
/* Somebody else than the program puts this into a file, and it is durable. */
void disk_put(const char *path, struct span bytes);
/* What is in a file now. False: there is none. The bytes are the caller's. */
bool disk_contents(const char *path, uint8_t **bytes, size_t *len);
void disk_list(const char *path, void (*each)(void *context, const char *name), void *context);
/* Bytes that files take. */
uint64_t disk_used(void);

/* When operations of an io are done: in io.c. */
void io_done(struct io *io, uint64_t token, int64_t result);

#endif
