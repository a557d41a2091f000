/*
 * json: a strict checker of JSON text (RFC 8259) in UTF-8 (RFC 3629), to hold what we write against the grammar, not against a lenient library.
 */
#ifndef TESTS_LIB_JSON_H
#define TESTS_LIB_JSON_H

#include "core/base/span.h"

/* Is the whole span one JSON object: well-formed UTF-8, no byte below 0x20 anywhere, no white space, nested at most 16 deep? */
bool json_is_object(struct span text);

#endif
