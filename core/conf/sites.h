/*
 * sites: what the configuration says of some destinations (`sites:`), and which entry is for a name.
 *
 * A pattern is a name, or "*." and a name: then it stands for every name below that, not for the name itself. Main thread, but for sites_find and sites_earlier, which any thread may
 * call once the configuration is read.
 */
#ifndef CORE_CONF_SITES_H
#define CORE_CONF_SITES_H

#include "core/conf/conf.h"
#include "core/conf/raw.h"
#include "core/conf/setting.h"

/* The first entry with a pattern for this name (lower case, A-labels). NULL: there is none. A look-up in a map for each label of the name. */
const struct conf_site *sites_find(const struct conf *conf, struct span name);
/* Of two entries of one configuration the one that comes first in the file; NULL is none. */
const struct conf_site *sites_earlier(const struct conf_site *a, const struct conf_site *b);

/* The longest queue.retry_max and queue.max_age there are, those of entries included. */
uint64_t sites_longest_retry_ms(const struct conf *conf);
uint64_t sites_longest_age_ms(const struct conf *conf);

/* The steps of reading, for conf.c. Checks and takes over what is given: E_SYNTAX, E_RANGE (reported) or E_NO_MEMORY. */
must_check int sites_read(struct conf *conf, const struct raw *raw, const struct reading *reading);
/* Fills in what is missing, from queue and delivery, which must be complete. */
void sites_default(struct conf *conf, const struct raw *raw);
/* What must fit together in an entry. E_RANGE, reported. */
must_check int sites_check(const struct conf *conf, const struct raw *raw, const struct reading *reading);
void sites_free(struct conf *conf);

#endif
