/*
 * remembered: digests that were right a while ago, in a table of fixed size: four places for each, of which the one that ends first is given up. Pure: time is an
 * argument. Owner: one thread.
 */
#ifndef NET_AUTH_REMEMBERED_H
#define NET_AUTH_REMEMBERED_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/must.h"
#include "net/auth/secret.h"

struct remembered;
/* `places` is rounded up to a power of two, 4 at least. NULL: no memory. */
struct remembered *remembered_open(unsigned places);
/* Wipes it. NULL is fine. */
void remembered_close(struct remembered *remembered);
bool remembered_has(const struct remembered *remembered, const uint8_t digest[SECRET_DIGEST], uint64_t now_ms);
void remembered_put(struct remembered *remembered, const uint8_t digest[SECRET_DIGEST], uint64_t until_ms);

#endif
