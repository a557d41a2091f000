/*
 * outline: the shape of a YAML text, read with libyaml before libcyaml sees it: what may not be there at all, and on which line a key stands.
 *
 * A configuration needs plain mappings, lists and words. Anchors, aliases, tags, further documents, keys that are no words, keys given twice, NUL and
 * nesting deeper than OUTLINE_DEPTH_MAX are refused, so that the work is linear in the size of the text. Main thread; nothing stays allocated.
 */
#ifndef CORE_CONF_OUTLINE_H
#define CORE_CONF_OUTLINE_H

#include "core/base/must.h"
#include "core/base/span.h"
#include "core/conf/report.h"

#define OUTLINE_DEPTH_MAX 8
#define OUTLINE_PATH_ROOM 512 /* a path such as "routes[3].hosts[0]", with its NUL */

/* E_SYNTAX with a line in the report, E_NO_MEMORY. */
must_check int outline_check(struct span text, const struct report *report);

/* The line, from 1, where the value of this path stands (of a mapping's key: the key's line); of the nearest that encloses it if there is no such path. */
unsigned outline_line(struct span text, const char *path);

#endif
