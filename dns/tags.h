/*
 * tags: TXT records in which a domain says what it wants, as "v=STSv1; id=20160831;" (RFC 8461 3.1, RFC 8460 3): a version, then fields. Pure.
 *
 *   if (tags_announced(answer, SPAN("v=STSv1"), &text)) while ((error = tags_next(&text, &name, &value)) == E_OK) ...
 */
#ifndef DNS_TAGS_H
#define DNS_TAGS_H

#include "core/base/must.h"
#include "core/base/span.h"

struct dns_answer;

/* Is it of this version? Then *text is moved to what follows, for tags_next. */
bool tags_begin(struct span *text, struct span version);
/* The next field. E_NOT_FOUND: there is none; E_SYNTAX. */
must_check int tags_next(struct span *text, struct span *name, struct span *value);

/* Of all TXT records there are, the one of this version, moved as by tags_begin; points into the answer. False: there is none, or several, which count as none. */
bool tags_announced(const struct dns_answer *answer, struct span version, struct span *text);

/* The name of a field: a letter or digit, then also "_", "-", "."; 32 at most. */
bool tags_name_is_valid(struct span name);
bool tags_has_controls(struct span text);

#endif
