/*
 * Three tables, asked in this order: phrases in the text (what a person wrote is closer to the truth than the code, and most of what speaks against
 * "hard" is only said there), the enhanced code, the code. The first that knows a category decides. Only rows that say so can be hard, and only where
 * the stage and both codes allow it.
 */
#include "queue/policy/verdict.h"

#define TEXT_MAX 2048 /* a refusal says what it means at its beginning; bounds the work */
#define GAP_MAX 3     /* bytes between two words of a phrase */

static const char *const category_texts[VERDICT_CATEGORIES] = {
    [VERDICT_UNKNOWN] = "unknown",
    [VERDICT_INVALID_RECIPIENT] = "invalid-recipient",
    [VERDICT_INACTIVE_MAILBOX] = "inactive-mailbox",
    [VERDICT_MAILBOX_FULL] = "mailbox-full",
    [VERDICT_BAD_DOMAIN] = "bad-domain",
    [VERDICT_NO_MX] = "no-mx",
    [VERDICT_RELAY_DENIED] = "relay-denied",
    [VERDICT_SIZE] = "size",
    [VERDICT_CONTENT] = "content",
    [VERDICT_SPAM] = "spam",
    [VERDICT_REPUTATION] = "reputation",
    [VERDICT_BLOCKLIST] = "blocklist",
    [VERDICT_RATE_LIMITED] = "rate-limited",
    [VERDICT_GREYLISTED] = "greylisted",
    [VERDICT_AUTHENTICATION] = "authentication",
    [VERDICT_POLICY] = "policy",
    [VERDICT_TLS] = "tls",
    [VERDICT_PROTOCOL] = "protocol",
    [VERDICT_NETWORK] = "network",
    [VERDICT_DNS] = "dns",
    [VERDICT_TIMEOUT] = "timeout",
    [VERDICT_EXPIRED] = "expired",
};

const char *verdict_category_text(enum verdict_category category) {
  return category_texts[category < VERDICT_CATEGORIES ? category : VERDICT_UNKNOWN];
}

static struct verdict verdict(bool hard, enum verdict_category category, const char *rule) {
  return (struct verdict){hard, category_texts[category], rule};
}

/* ---- phrases ---- */

/* What a text can say, the weightier sign first: a text that says several things is taken for the first, and only the last two can be hard. */
enum sign {
  SIGN_SENDER, /* "no such user" in a refused sender verification speaks of the sender */
  SIGN_BLOCKLIST,
  SIGN_SPAM,
  SIGN_REPUTATION,
  SIGN_AUTHENTICATION,
  SIGN_GREYLIST,
  SIGN_RATE,
  SIGN_FULL,
  SIGN_TLS,
  SIGN_SIZE,
  SIGN_RELAY,
  SIGN_INACTIVE,
  SIGN_NO_USER,
  SIGNS
};

static const struct {
  enum verdict_category category;
  const char *rule;
} signs[SIGNS] = {
    [SIGN_SENDER] = {VERDICT_POLICY, "text-sender-refused"},
    [SIGN_BLOCKLIST] = {VERDICT_BLOCKLIST, "text-blocklist"},
    [SIGN_SPAM] = {VERDICT_SPAM, "text-spam"},
    [SIGN_REPUTATION] = {VERDICT_REPUTATION, "text-reputation"},
    [SIGN_AUTHENTICATION] = {VERDICT_AUTHENTICATION, "text-authentication"},
    [SIGN_GREYLIST] = {VERDICT_GREYLISTED, "text-greylisted"},
    [SIGN_RATE] = {VERDICT_RATE_LIMITED, "text-rate-limited"},
    [SIGN_FULL] = {VERDICT_MAILBOX_FULL, "text-mailbox-full"},
    [SIGN_TLS] = {VERDICT_TLS, "text-tls"},
    [SIGN_SIZE] = {VERDICT_SIZE, "text-size"},
    [SIGN_RELAY] = {VERDICT_RELAY_DENIED, "text-relay-denied"},
    [SIGN_INACTIVE] = {VERDICT_INACTIVE_MAILBOX, "text-inactive-mailbox"},
    [SIGN_NO_USER] = {VERDICT_INVALID_RECIPIENT, "text-no-such-user"},
};

/* In lower case; a blank stands for one to GAP_MAX blanks, hyphens or underscores. A phrase begins where a word begins, but may end within one,
   unless it ends in '$'. */
static const struct phrase {
  const char *text;
  enum sign sign;
} phrases[] = {
    {"sender verif", SIGN_SENDER},
    {"sender address", SIGN_SENDER},
    {"sender reject", SIGN_SENDER},
    {"sender refused", SIGN_SENDER},
    {"sender denied", SIGN_SENDER},
    {"sender unknown", SIGN_SENDER},
    {"unknown sender", SIGN_SENDER},
    {"invalid sender", SIGN_SENDER},
    {"sender domain", SIGN_SENDER},
    {"domain of sender", SIGN_SENDER},
    {"verification failed for", SIGN_SENDER},
    {"callout verification", SIGN_SENDER},
    {"return path", SIGN_SENDER},
    {"blocklist", SIGN_BLOCKLIST},
    {"block list", SIGN_BLOCKLIST},
    {"blacklist", SIGN_BLOCKLIST},
    {"black list", SIGN_BLOCKLIST},
    {"denylist", SIGN_BLOCKLIST},
    {"blocked using", SIGN_BLOCKLIST},
    {"listed at", SIGN_BLOCKLIST},
    {"listed by", SIGN_BLOCKLIST},
    {"listed in", SIGN_BLOCKLIST},
    {"listed on", SIGN_BLOCKLIST},
    {"dnsbl$", SIGN_BLOCKLIST},
    {"rbl$", SIGN_BLOCKLIST},
    {"spamhaus", SIGN_BLOCKLIST},
    {"spamcop", SIGN_BLOCKLIST},
    {"spam message", SIGN_SPAM},
    {"spam content", SIGN_SPAM},
    {"spam detected", SIGN_SPAM},
    {"as spam", SIGN_SPAM},
    {"is spam", SIGN_SPAM},
    {"like spam", SIGN_SPAM},
    {"likely spam", SIGN_SPAM},
    {"be spam", SIGN_SPAM},
    {"considered spam", SIGN_SPAM},
    {"unsolicited", SIGN_SPAM},
    {"junk mail", SIGN_SPAM},
    {"reputation", SIGN_REPUTATION},
    {"dmarc$", SIGN_AUTHENTICATION},
    {"dkim$", SIGN_AUTHENTICATION},
    {"spf$", SIGN_AUTHENTICATION},
    {"authentication required", SIGN_AUTHENTICATION},
    {"unauthenticated", SIGN_AUTHENTICATION},
    {"not authenticated", SIGN_AUTHENTICATION},
    {"greylist", SIGN_GREYLIST},
    {"graylist", SIGN_GREYLIST},
    {"grey list", SIGN_GREYLIST},
    {"gray list", SIGN_GREYLIST},
    {"rate limit", SIGN_RATE},
    {"ratelimit", SIGN_RATE},
    {"throttl", SIGN_RATE},
    {"too many", SIGN_RATE},
    {"too quickly", SIGN_RATE},
    {"too fast", SIGN_RATE},
    {"at a rate", SIGN_RATE},
    {"try again later", SIGN_RATE},
    {"try again in", SIGN_RATE},
    {"try later", SIGN_RATE},
    {"mailbox full", SIGN_FULL},
    {"mailbox is full", SIGN_FULL},
    {"mailbox quota", SIGN_FULL},
    {"mailbox has exceeded", SIGN_FULL},
    {"inbox is full", SIGN_FULL},
    {"over quota", SIGN_FULL},
    {"overquota", SIGN_FULL},
    {"quota exceed", SIGN_FULL},
    {"exceeded quota", SIGN_FULL},
    {"exceeded storage", SIGN_FULL},
    {"out of storage", SIGN_FULL},
    {"insufficient storage", SIGN_FULL},
    {"starttls", SIGN_TLS},
    {"encryption required", SIGN_TLS},
    {"message too large", SIGN_SIZE},
    {"message too big", SIGN_SIZE},
    {"message size exceed", SIGN_SIZE},
    {"maximum message size", SIGN_SIZE},
    {"size limit", SIGN_SIZE},
    {"relay access denied", SIGN_RELAY},
    {"relaying denied", SIGN_RELAY},
    {"relay denied", SIGN_RELAY},
    {"relay not permitted", SIGN_RELAY},
    {"relaying not", SIGN_RELAY},
    {"relay not allowed", SIGN_RELAY},
    {"unable to relay", SIGN_RELAY},
    {"not permitted to relay", SIGN_RELAY},
    {"account disabled", SIGN_INACTIVE},
    {"account is disabled", SIGN_INACTIVE},
    {"account has been disabled", SIGN_INACTIVE},
    {"account inactive", SIGN_INACTIVE},
    {"account is inactive", SIGN_INACTIVE},
    {"account suspended", SIGN_INACTIVE},
    {"mailbox disabled", SIGN_INACTIVE},
    {"mailbox is disabled", SIGN_INACTIVE},
    {"mailbox inactive", SIGN_INACTIVE},
    {"mailbox is inactive", SIGN_INACTIVE},
    {"user disabled", SIGN_INACTIVE},
    {"no such user", SIGN_NO_USER},
    {"no such mailbox", SIGN_NO_USER},
    {"no such recipient", SIGN_NO_USER},
    {"no such address", SIGN_NO_USER},
    {"no such account", SIGN_NO_USER},
    {"no mailbox here", SIGN_NO_USER},
    {"user unknown", SIGN_NO_USER},
    {"unknown user", SIGN_NO_USER},
    {"unknown recipient", SIGN_NO_USER},
    {"unknown mailbox", SIGN_NO_USER},
    {"unknown local part", SIGN_NO_USER},
    {"recipient unknown", SIGN_NO_USER},
    {"mailbox unknown", SIGN_NO_USER},
    {"user not found", SIGN_NO_USER},
    {"mailbox not found", SIGN_NO_USER},
    {"recipient not found", SIGN_NO_USER},
    {"invalid recipient", SIGN_NO_USER},
    {"invalid mailbox", SIGN_NO_USER},
    {"not a valid mailbox", SIGN_NO_USER},
    {"user does not exist", SIGN_NO_USER},
    {"user doesn't exist", SIGN_NO_USER},
    {"mailbox does not exist", SIGN_NO_USER},
    {"mailbox doesn't exist", SIGN_NO_USER},
    {"recipient does not exist", SIGN_NO_USER},
    {"address does not exist", SIGN_NO_USER},
    {"account does not exist", SIGN_NO_USER},
    {"account doesn't exist", SIGN_NO_USER},
    {"account that you tried to reach does not exist", SIGN_NO_USER},
};
#define PHRASES (sizeof phrases / sizeof phrases[0])

static bool is_gap(uint8_t c) { return c == ' ' || c == '\t' || c == '-' || c == '_'; }

static bool phrase_at(struct span s, const char *phrase) {
  size_t at = 0;
  for (; *phrase != '\0'; phrase++) {
    if (*phrase == '$') return at == s.len || !ascii_is_alpha(s.at[at]);
    if (*phrase != ' ') {
      if (at == s.len || ascii_lower(s.at[at++]) != (uint8_t)*phrase) return false;
      continue;
    }
    size_t from = at;
    while (at < s.len && at < from + GAP_MAX && is_gap(s.at[at])) at++;
    if (at == from) return false;
  }
  return true;
}

/* Phrases by their first letter: lists of indexes + 1, ended by 0. Made anew for each text: it costs less than reading the text once. */
struct index {
  uint8_t first[26];
  uint8_t next[PHRASES];
};
_Static_assert(PHRASES < 256, "index + 1 fits a byte");

static void index_make(struct index *index) {
  memset(index->first, 0, sizeof index->first);
  for (size_t i = 0; i < PHRASES; i++) {
    uint8_t *first = &index->first[phrases[i].text[0] - 'a'];
    index->next[i] = *first;
    *first = (uint8_t)(i + 1);
  }
}

/* The place behind "<...>" at text[at]: an address that is repeated there says nothing, whatever its words. *closed: are there more '>'? */
static size_t skip_address(struct span text, size_t at, bool *closed) {
  ptrdiff_t len = *closed ? span_find(span_skip(text, at), '>') : -1;
  *closed = len >= 0;
  return *closed ? at + (size_t)len : at;
}

/* A bit for each sign in the text. */
static unsigned find_signs(struct span text) {
  struct index index;
  unsigned found = 0;
  bool closed = true;
  index_make(&index);
  text = span_first(text, TEXT_MAX);
  for (size_t i = 0; i < text.len; i++) {
    if (text.at[i] == '<') i = skip_address(text, i, &closed);
    if (!ascii_is_alpha(text.at[i]) || (i > 0 && ascii_is_alpha(text.at[i - 1]))) continue;
    for (uint8_t at = index.first[ascii_lower(text.at[i]) - 'a']; at != 0; at = index.next[at - 1])
      if (phrase_at(span_skip(text, i), phrases[at - 1].text)) found |= 1u << phrases[at - 1].sign;
  }
  return found;
}

/* ---- enhanced codes (RFC 3463, the IANA registry, RFC 7505, 7372) ---- */

#define ANY 0xffff

static const struct enhanced_rule {
  uint16_t subject, detail;
  bool gone; /* hard, if stage and codes allow it */
  enum verdict_category category;
  const char *rule;
} enhanced_rules[] = {
    {1, 1, true, VERDICT_INVALID_RECIPIENT, "enhanced-x.1.1"},   /* bad destination mailbox address */
    {1, 2, true, VERDICT_BAD_DOMAIN, "enhanced-x.1.2"},          /* bad destination system address */
    {1, 3, true, VERDICT_INVALID_RECIPIENT, "enhanced-x.1.3"},   /* bad destination mailbox address syntax */
    {1, 4, false, VERDICT_INVALID_RECIPIENT, "enhanced-x.1.4"},  /* ambiguous: there are several */
    {1, 6, true, VERDICT_INVALID_RECIPIENT, "enhanced-x.1.6"},   /* has moved, no forwarding address */
    {1, 7, false, VERDICT_POLICY, "enhanced-x.1.7"},             /* bad sender's address syntax */
    {1, 8, false, VERDICT_POLICY, "enhanced-x.1.8"},             /* bad sender's system address */
    {1, 10, true, VERDICT_INVALID_RECIPIENT, "enhanced-x.1.10"}, /* null MX; in use for "recipient not found" by a server that was reached */
    {2, 1, true, VERDICT_INACTIVE_MAILBOX, "enhanced-x.2.1"},    /* disabled, not accepting messages */
    {2, 2, false, VERDICT_MAILBOX_FULL, "enhanced-x.2.2"},
    {2, 3, false, VERDICT_SIZE, "enhanced-x.2.3"},
    {3, 1, false, VERDICT_MAILBOX_FULL, "enhanced-x.3.1"}, /* mail system full */
    {3, 4, false, VERDICT_SIZE, "enhanced-x.3.4"},
    {4, 1, false, VERDICT_NETWORK, "enhanced-x.4.1"},
    {4, 2, false, VERDICT_NETWORK, "enhanced-x.4.2"},
    {4, 3, false, VERDICT_DNS, "enhanced-x.4.3"},
    {4, 4, false, VERDICT_DNS, "enhanced-x.4.4"},
    {4, 5, false, VERDICT_RATE_LIMITED, "enhanced-x.4.5"}, /* congestion */
    {4, 6, false, VERDICT_DNS, "enhanced-x.4.6"},          /* routing loop */
    {4, 7, false, VERDICT_EXPIRED, "enhanced-x.4.7"},
    {5, 3, false, VERDICT_RATE_LIMITED, "enhanced-x.5.3"}, /* too many recipients */
    {5, ANY, false, VERDICT_PROTOCOL, "enhanced-x.5.x"},
    {6, ANY, false, VERDICT_CONTENT, "enhanced-x.6.x"},
    {7, 4, false, VERDICT_TLS, "enhanced-x.7.4"},
    {7, 8, false, VERDICT_AUTHENTICATION, "enhanced-x.7.8"},
    {7, 10, false, VERDICT_TLS, "enhanced-x.7.10"},
    {7, 20, false, VERDICT_AUTHENTICATION, "enhanced-x.7.20"}, /* DKIM, SPF, reverse DNS and all of them: RFC 7372 */
    {7, 21, false, VERDICT_AUTHENTICATION, "enhanced-x.7.21"},
    {7, 22, false, VERDICT_AUTHENTICATION, "enhanced-x.7.22"},
    {7, 23, false, VERDICT_AUTHENTICATION, "enhanced-x.7.23"},
    {7, 24, false, VERDICT_AUTHENTICATION, "enhanced-x.7.24"},
    {7, 25, false, VERDICT_AUTHENTICATION, "enhanced-x.7.25"},
    {7, 26, false, VERDICT_AUTHENTICATION, "enhanced-x.7.26"},
    {7, ANY, false, VERDICT_POLICY, "enhanced-x.7.x"},
};

static const struct enhanced_rule *find_enhanced(const uint16_t enhanced[3]) {
  if (enhanced[0] != 4 && enhanced[0] != 5) return NULL;
  for (size_t i = 0; i < sizeof enhanced_rules / sizeof enhanced_rules[0]; i++) {
    const struct enhanced_rule *rule = &enhanced_rules[i];
    if (rule->subject == enhanced[1] && (rule->detail == enhanced[2] || rule->detail == ANY)) return rule;
  }
  return NULL;
}

/* Says the enhanced code no more than the code does? (none, X.0.0, X.1.0 "other address status") */
static bool is_plain(const uint16_t enhanced[3]) { return enhanced[0] == 0 || (enhanced[1] <= 1 && enhanced[2] == 0); }

/* ---- codes ---- */

#define AT(stage) (1u << VERDICT_AT_##stage)
#define ANYWHERE (~0u)

static const struct code_rule {
  unsigned code, stages;
  enum verdict_category category;
  const char *rule;
} code_rules[] = {
    {552, AT(MAIL) | AT(DATA), VERDICT_SIZE, "code-552"}, /* RFC 1870 6.1: the declared size is too large */
    {552, ANYWHERE, VERDICT_MAILBOX_FULL, "code-552"},    /* RFC 5321 4.2.3: exceeded storage allocation */
    {452, ANYWHERE, VERDICT_MAILBOX_FULL, "code-452"},    /* insufficient system storage */
    {530, ANYWHERE, VERDICT_AUTHENTICATION, "code-530"},
    {535, ANYWHERE, VERDICT_AUTHENTICATION, "code-535"},
    {556, ANYWHERE, VERDICT_BAD_DOMAIN, "code-556"}, /* RFC 7504: the domain does not accept mail */
    {500, ANYWHERE, VERDICT_PROTOCOL, "code-500"},
    {501, ANYWHERE, VERDICT_PROTOCOL, "code-501"},
    {502, ANYWHERE, VERDICT_PROTOCOL, "code-502"},
    {503, ANYWHERE, VERDICT_PROTOCOL, "code-503"},
    {504, ANYWHERE, VERDICT_PROTOCOL, "code-504"},
    {555, ANYWHERE, VERDICT_PROTOCOL, "code-555"},
    {550, AT(CONNECT) | AT(HELLO) | AT(MAIL), VERDICT_POLICY, "code-550"}, /* nobody has named a recipient yet: it is about us */
    {554, AT(CONNECT) | AT(HELLO) | AT(MAIL), VERDICT_POLICY, "code-554"},
};

static struct verdict by_code(enum verdict_stage stage, unsigned code) {
  for (size_t i = 0; i < sizeof code_rules / sizeof code_rules[0]; i++)
    if (code_rules[i].code == code && (code_rules[i].stages & 1u << stage) != 0) return verdict(false, code_rules[i].category, code_rules[i].rule);
  return verdict(false, VERDICT_UNKNOWN, "none");
}

/* ---- the verdict ---- */

/* Our own codes, for what DNS says: dns/mx.h, enum mx_status. */
static struct verdict of_dns(unsigned code, const uint16_t enhanced[3]) {
  bool failed = code >= 500 && enhanced[0] == 5;
  if (failed && enhanced[1] == 1 && enhanced[2] == 2) return verdict(true, VERDICT_BAD_DOMAIN, "dns-no-domain");
  if (failed && enhanced[1] == 1 && enhanced[2] == 10) return verdict(true, VERDICT_BAD_DOMAIN, "dns-null-mx");
  if (failed && enhanced[1] == 4 && enhanced[2] == 4) return verdict(false, VERDICT_NO_MX, "dns-no-address");
  if (failed && enhanced[1] == 4 && enhanced[2] == 6) return verdict(false, VERDICT_NO_MX, "dns-loop");
  return verdict(false, VERDICT_DNS, "dns-temporary");
}

struct verdict verdict_of(enum verdict_stage stage, unsigned code, const uint16_t enhanced[3], struct span text) {
  if (stage == VERDICT_AT_DNS) return of_dns(code, enhanced);
  bool may_be_hard = code / 100 == 5 && (enhanced[0] == 0 || enhanced[0] == 5) && (stage == VERDICT_AT_RCPT || stage == VERDICT_AT_FINAL);
  unsigned found = find_signs(text);
  for (unsigned sign = 0; sign < SIGN_INACTIVE; sign++)
    if ((found & 1u << sign) != 0) return verdict(false, signs[sign].category, signs[sign].rule);
  const struct enhanced_rule *rule = find_enhanced(enhanced);
  if (rule != NULL) return verdict(rule->gone && may_be_hard, rule->category, rule->rule);
  if ((found & 1u << SIGN_INACTIVE) != 0) return verdict(false, signs[SIGN_INACTIVE].category, signs[SIGN_INACTIVE].rule);
  if ((found & 1u << SIGN_NO_USER) != 0) {
    bool says_so = (code == 550 || code == 551 || code == 553) && is_plain(enhanced);
    return verdict(says_so && may_be_hard, signs[SIGN_NO_USER].category, signs[SIGN_NO_USER].rule);
  }
  return by_code(stage, code);
}
