/*
 * change: what may change in the configuration while the relay runs, and what needs a restart.
 */
#ifndef CORE_CONF_CHANGE_H
#define CORE_CONF_CHANGE_H

#include "core/conf/conf.h"

/* The first key whose value differs and that is read at start only; NULL: `next` may take the place of `now`. */
const char *conf_needs_restart(const struct conf *now, const struct conf *next);
/* Have both the same settings for destinations, those for all included? */
bool conf_same_limits(const struct conf *a, const struct conf *b);
/* Do both send the same domains to the same hosts, in the same way and under the same name? */
bool conf_same_routes(const struct conf *a, const struct conf *b);

#endif
