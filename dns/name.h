/*
 * name: domain names as text: lower case, A-labels, no trailing dot. Pure (libidn2 allocates for a U-label; freed at once).
 */
#ifndef DNS_NAME_H
#define DNS_NAME_H

#include "core/base/must.h"
#include "core/base/span.h"

#define DNS_NAME_MAX 255 /* text, without trailing dot (a valid name has at most 253) */

struct dns_name {
  uint8_t len;
  char text[DNS_NAME_MAX + 1]; /* NUL-terminated */
};

static inline struct span dns_name_span(const struct dns_name *name) { return span_of(name->text, name->len); }

/* Bytes that host names have: letters, digits, hyphen, and the underscore that RFC 952 does not know but the world uses. */
static inline bool dns_name_byte(uint8_t c) { return ascii_is_alpha(c) || ascii_is_digit(c) || c == '-' || c == '_'; }

/*
 * From what a person or a mail address says: any case, A-labels or UTF-8 (IDNA 2008 with the mapping of UTS 46, not transitional). E_SYNTAX or
 * E_RANGE if it is no name of a host: an empty label, one over 63 bytes, a foreign byte, more than 253 bytes, or a last label of digits, as in an
 * IPv4 address.
 */
must_check int dns_name_parse(struct dns_name *name, struct span text);

/* Whether this text, in A-labels and of any case, is such a name. */
must_check int dns_name_check(struct span text);

/* What a question is about: record type and name, in one run of bytes. Names in keys are lower case. */
struct dns_key {
  uint16_t len;
  uint8_t at[2 + DNS_NAME_MAX];
};

void dns_key_make(struct dns_key *key, uint16_t type, struct span name);
static inline struct span dns_key_span(const struct dns_key *key) { return span_of(key->at, key->len); }
static inline uint16_t dns_key_type(const struct dns_key *key) { return (uint16_t)(key->at[0] << 8 | key->at[1]); }
static inline struct span dns_key_name(const struct dns_key *key) { return span_of(key->at + 2, key->len - 2u); }

#endif
