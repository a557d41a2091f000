/*
 * routes: where mail goes that does not go by MX (`routes:`): to fixed hosts, with or without a name and password, nowhere, or back.
 *
 * Main thread, but for routes_find, which any thread may call once the configuration is read.
 */
#ifndef CORE_CONF_ROUTES_H
#define CORE_CONF_ROUTES_H

#include "core/conf/conf.h"
#include "core/conf/raw.h"
#include "core/conf/setting.h"

/* The route for this domain (lower case): its own, or the one for all. NULL: none, it goes by MX. A look-up in a map or two. */
const struct conf_route *routes_find(const struct conf *conf, struct span domain);
/* Is this whole domain, in any case, to be refused? Costs nothing where no route refuses anything. */
bool routes_reject(const struct conf *conf, struct span domain);
/* Are both the same in all respects? */
bool routes_same(const struct conf_route *a, const struct conf_route *b);

/* The steps of reading, for conf.c. Checks and takes over what is given: E_SYNTAX, E_RANGE (reported) or E_NO_MEMORY. */
must_check int routes_read(struct conf *conf, const struct raw *raw, const struct reading *reading);
/* Fills in what is missing, from delivery, which must be complete. */
void routes_default(struct conf *conf, const struct raw *raw);
/* What must fit together in a route. E_SYNTAX, reported. */
must_check int routes_check(const struct conf *conf, const struct reading *reading);
/* Reads the files of passwords: their first line. Reported: E_PERMISSION where others may read one, E_NOT_FOUND, E_SYNTAX, E_RANGE, .. */
must_check int routes_read_passwords(struct conf *conf, const struct reading *reading);
void routes_free(struct conf *conf);

#endif
