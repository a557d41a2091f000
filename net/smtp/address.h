/*
 * address: forward and reverse paths as RFC 5321 4.1.2 and 4.1.3 (with RFC 6531 for SMTPUTF8) write them. Pure, allocates nothing.
 */
#ifndef NET_SMTP_ADDRESS_H
#define NET_SMTP_ADDRESS_H

#include "core/base/fmt.h"
#include "core/base/must.h"
#include "core/base/span.h"

/* RFC 5321 4.5.3.1; the mailbox bound is path (256) less the angle brackets. */
#define ADDRESS_LOCAL_MAX 64
#define ADDRESS_DOMAIN_MAX 255
#define ADDRESS_MAX 254

struct address {
  struct span whole;  /* local@domain as written, without brackets and source route; empty for <> */
  struct span local;  /* with its quotes, if quoted */
  struct span domain; /* name, or literal with its brackets; empty for <> and for a bare <postmaster> */
  bool utf8;          /* any byte above 127: needs SMTPUTF8 */
  bool literal;       /* the domain is an address literal */
};

enum address_kind {
  ADDRESS_REVERSE, /* <> allowed */
  ADDRESS_FORWARD, /* <postmaster> without domain allowed, any case */
};

/*
 * Parses one path at the start of *text: "<" [ "@a,@b:" ] mailbox ">"; a source route is checked and dropped (RFC 5321 appendix C).
 * On success *text is moved behind the ">". E_SYNTAX for bad grammar (also bytes above 127 that are not UTF-8), E_TOO_LONG beyond the
 * bounds above; *text is then unchanged. Spans point into the input.
 */
must_check int address_parse(struct address *address, struct span *text, enum address_kind kind);

/* Is this span a domain name by RFC 5321 (letters, digits, hyphens, labels of 1..63, U-labels above 127), without trailing dot?
 * A label's length is counted in characters, because a U-label may be longer in UTF-8 than the A-label that goes to DNS. */
bool address_domain_is_valid(struct span domain);

/* The length of the UTF-8 sequence (RFC 3629: shortest form, no surrogates) at the start of `text`: 1..4, or 0 if there is none. */
size_t address_utf8_len(struct span text);

#endif
