/*
 * contents: the bytes of a simulated file, as who reads them sees them, and what of them is safe.
 *
 * In sectors of 512 bytes. One that was written is dirty until it is saved: a power cut leaves its old or its new state. After a sync that failed nobody knows: a sector
 * may be safe, or still dirty, or lost. What is lost looks clean to the system: it is read as it was written as long as it is in the cache, no later sync makes it safe,
 * and then it is as it was before (as Linux does; only where it went through the cache). What is dirty for 30 s is written by the system itself.
 *
 *   contents_write(&file->contents, offset, span, 0, 1);
 *   contents_save(&file->contents, offset, len, contents_writes());
 */
#ifndef TESTS_SIM_CONTENTS_H
#define TESTS_SIM_CONTENTS_H

#include "core/base/span.h"

struct page;

struct contents {
  uint64_t size, safe_size;
  /* private */
  struct page **pages; /* NULL: zeros */
  uint64_t pages_count;
};

/* Once for a world. */
void contents_open(void);
/* The number of the last write of all. */
uint64_t contents_writes(void);
/* Each sector is lost with the chance of `lost` in `of`. */
void contents_write(struct contents *contents, uint64_t offset, struct span bytes, unsigned lost, unsigned of);
/* Zeros beyond the end. */
void contents_read(const struct contents *contents, uint64_t offset, uint8_t *room, size_t len);
/* What was written up to that number, in this range, and the size. */
void contents_save(struct contents *contents, uint64_t offset, uint64_t len, uint64_t until);
/* As contents_save, but it failed. `cached`: the writes went through the cache. */
void contents_save_failed(struct contents *contents, uint64_t offset, uint64_t len, uint64_t until, bool cached);
/* What is lost is read as it is on the disk from now on. */
void contents_evict(struct contents *contents);
void contents_cut_power(struct contents *contents);
void contents_free(struct contents *contents);

#endif
