/*
 * rule: what the sink shall do to whom: refuse, defer, delay, cut off, dribble. Pure.
 *
 *   rcpt=*@d00007.test stage=rcpt reply=550 5.1.1 no such user rate=0.1
 *   rcpt=*@d00003.test stage=final reply=451 4.7.1 come back later first=2
 *   stage=connect delay=200ms            from=*@slow.test stage=final cut-after-accept
 *
 * Words are split at spaces; what follows reply= up to the next word of the language is the reply's text. Of several rules for a stage, the
 * first that matches is applied.
 */
#ifndef BENCH_LIB_RULE_H
#define BENCH_LIB_RULE_H

#include "core/base/must.h"
#include "core/base/span.h"

enum rule_stage { STAGE_NONE, STAGE_CONNECT, STAGE_HELO, STAGE_MAIL, STAGE_RCPT, STAGE_DATA, STAGE_FINAL };

enum {
  RULE_REPLY_MAX = 500, /* RFC 5321 4.5.3.1.5: a reply line has at most 512 octets */
  RULES_MAX = 64,
};

struct rule {
  enum rule_stage stage;
  struct span rcpt;           /* glob over the recipient's address; empty: any. Borrows the rule's text */
  struct span from;           /* glob over the reverse-path */
  struct span host;           /* glob over the local address the connection came to */
  char reply[RULE_REPLY_MAX]; /* "550 5.1.1 no such user"; empty: the usual one */
  unsigned code;              /* of the reply; 0: none */
  uint32_t rate;              /* out of 2^32 - 1, how often it applies */
  uint32_t first;             /* only the first so many tries of the same recipient (RCPT, DATA, final) or address; 0: always */
  uint64_t delay_ns;          /* before the reply */
  uint64_t drip_ns;           /* this and all later replies of the connection go out a byte at a time */
  bool cut;                   /* close instead of a reply */
  bool cut_after_accept;      /* at `final`: keep the message, close instead of a reply */
};

struct rules {
  struct rule list[RULES_MAX];
  unsigned count;
};

/* What a rule is held against; empty spans for what is not known at the stage. */
struct rule_subject {
  enum rule_stage stage;
  struct span rcpt;
  struct span from;
  struct span host;
};

/* Adds a rule; the text must outlive it. E_SYNTAX: `why` points to a static phrase. E_FULL. */
must_check int rule_parse(struct rules *rules, struct span text, const char **why);
/* The next rule after `after` (NULL: from the first one) whose stage and globs fit; rate and tries are for the caller to judge. */
const struct rule *rule_match(const struct rules *rules, const struct rule *after, const struct rule_subject *subject);

/* '*' stands for any run of bytes, '?' for one; letters compare without case. */
bool glob_match(struct span glob, struct span text);

#endif
