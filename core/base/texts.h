/*
 * texts: strings that many keep at the same time, often the same ones: each is there once, for as long as somebody keeps it.
 *
 * Owner: one thread.
 */
#ifndef CORE_BASE_TEXTS_H
#define CORE_BASE_TEXTS_H

#include "core/base/map.h"

struct texts {
  struct map _map;
};

void texts_init(struct texts *texts, uint64_t seed);
/* All must have been put back. */
void texts_fini(struct texts *texts);

/* For the caller to keep until texts_put; equal texts are the same pointer. NULL: no memory. */
const char *texts_get(struct texts *texts, const char *text);
/* NULL is fine. */
void texts_put(struct texts *texts, const char *text);
/* *kept becomes this text in place of what it was, which may be NULL. Without memory it becomes NULL. */
void texts_set(struct texts *texts, const char **kept, const char *text);

#endif
