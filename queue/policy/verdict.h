/*
 * verdict: what a refusal means for the address: hard (never mail this address again) or soft (anything else), a category, and the rule that decided.
 * Pure. A wrong hard loses a customer: hard only where the address or the domain itself is gone. A 4xx is never hard.
 */
#ifndef QUEUE_POLICY_VERDICT_H
#define QUEUE_POLICY_VERDICT_H

#include "core/base/span.h"

enum verdict_stage { VERDICT_AT_CONNECT, VERDICT_AT_HELLO, VERDICT_AT_MAIL, VERDICT_AT_RCPT, VERDICT_AT_DATA, VERDICT_AT_FINAL, VERDICT_AT_DNS };

enum verdict_category {
  VERDICT_UNKNOWN = 0,
  VERDICT_INVALID_RECIPIENT,
  VERDICT_INACTIVE_MAILBOX,
  VERDICT_MAILBOX_FULL, /* the address */
  VERDICT_BAD_DOMAIN,
  VERDICT_NO_MX, /* its domain */
  VERDICT_RELAY_DENIED,
  VERDICT_SIZE,
  VERDICT_CONTENT,
  VERDICT_SPAM, /* the message */
  VERDICT_REPUTATION,
  VERDICT_BLOCKLIST,
  VERDICT_RATE_LIMITED,
  VERDICT_GREYLISTED,
  VERDICT_AUTHENTICATION,
  VERDICT_POLICY, /* us */
  VERDICT_TLS,
  VERDICT_PROTOCOL,
  VERDICT_NETWORK,
  VERDICT_DNS,
  VERDICT_TIMEOUT,
  VERDICT_EXPIRED, /* the way there */
  VERDICT_CATEGORIES
};

struct verdict {
  bool hard;
  const char *category; /* static storage: verdict_category_text, such as "invalid-recipient" */
  const char *rule;     /* static storage: the name of the rule */
};

/*
 * `enhanced`: class, subject, detail; class 0: none. `text` is the joined text of the reply; its first 2048 bytes count.
 * Hard are: a 5xx (with an enhanced code of class 5, if any) to RCPT or to the content that says by enhanced code, or as 550, 551 or 553 in plain
 * words, that there is no such mailbox, unless something in the text speaks against it; and of our own codes for DNS (VERDICT_AT_DNS) no such domain
 * and null MX.
 */
struct verdict verdict_of(enum verdict_stage stage, unsigned code, const uint16_t enhanced[3], struct span text);

/* One word in kebab case, as it stands in events. Static storage. */
const char *verdict_category_text(enum verdict_category category);

#endif
