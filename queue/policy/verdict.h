/*
 * verdict: what a refusal means for the address: hard (never mail this address again) or soft (anything else), a category, and the rule that decided. Pure.
 * A wrong hard loses a customer: hard only where the address or the domain itself is gone. A 4xx is never hard.
 */
#ifndef QUEUE_POLICY_VERDICT_H
#define QUEUE_POLICY_VERDICT_H

#include "core/base/span.h"

enum verdict_stage { VERDICT_AT_CONNECT, VERDICT_AT_HELLO, VERDICT_AT_MAIL, VERDICT_AT_RCPT, VERDICT_AT_DATA, VERDICT_AT_FINAL, VERDICT_AT_DNS };

struct verdict {
  bool hard;
  const char *category; /* static storage: one word of the table in verdict.c, such as "invalid-recipient" */
  const char *rule;     /* static storage: the name of the rule */
};

/* `enhanced`: class, subject, detail; class 0: none. `text` is the joined text of the reply. */
struct verdict verdict_of(enum verdict_stage stage, unsigned code, const uint8_t enhanced[3], struct span text);

#endif
