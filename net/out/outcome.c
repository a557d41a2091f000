/*
 * The table of rulings. A failure becomes a set of facts and a stage; the first row whose facts are all among them, and whose stages include it,
 * decides. Rows go from the special to the general within each kind, and the last of each kind takes whatever is left, so there is always one.
 */
#include "net/out/outcome.h"

#include "core/base/error.h"

enum fact {
  REPLY = 1 << 0,
  POSITIVE = 1 << 1,     /* 2xx */
  INTERMEDIATE = 1 << 2, /* 3xx */
  TRANSIENT = 1 << 3,    /* 4xx */
  PERMANENT = 1 << 4,    /* 5xx */
  CLOSING = 1 << 5,      /* 421 */
  TOO_MANY = 1 << 6,     /* says that it takes no more recipients */
  NETWORK = 1 << 7,
  CONNECTING = 1 << 8,
  TIMED_OUT = 1 << 9,
  SHORTAGE = 1 << 10, /* of ours: no fault of the network's */
  BROKEN = 1 << 11,
  CHOKED = 1 << 12, /* pipelining may be to blame */
  UNFIT_SIZE = 1 << 13,
  UNFIT_8BIT = 1 << 14,
  UNFIT_UTF8 = 1 << 15,
  UNFIT_TLS = 1 << 27,
  NULL_MX = 1 << 16,
  NO_DOMAIN = 1 << 17,
  NO_ADDRESS = 1 << 18,
  LOOP = 1 << 19,
  DNS_FAILED = 1 << 20,
  INTERNAL = 1 << 21,
  CROWDED = 1 << 22, /* recipients before this one were accepted */
  UNSAFE = 1 << 23,
  UNNAMED = 1 << 24, /* no AUTH */
  DISCARDED = 1 << 25,
  REJECTED = 1 << 26,
};

#define AT(stage) (1u << SMTP_STAGE_##stage)
#define OPENING (AT(GREETING) | AT(EHLO) | AT(STARTTLS) | AT(AUTH))
#define ENVELOPE (AT(MAIL) | AT(RCPT) | AT(DATA))
#define BODY (AT(DATA) | AT(CONTENT) | AT(FINAL)) /* DATA, and what follows it */
#define ANYWHERE (~0u)

enum flag { MAYBE_DUPLICATE = 1, WITHOUT_PIPELINING = 2 };

/* How the text to report is made. */
enum wording { AS_REPLY, STAGE_AND_ERROR, STAGE_AND_TEXT, OWN_TEXT, GIVEN_TEXT };

struct ruling {
  unsigned facts, stages;
  enum scope scope;
  enum fate fate;
  unsigned flags;
  /* what to report where there is no reply: */
  uint16_t code, enhanced[3];
  enum verdict_category category;
  const char *rule;
  enum wording wording;
  const char *text;
};

#define OF_REPLY 0, {0}, VERDICT_UNKNOWN, NULL, AS_REPLY, NULL
#define NOT_REACHED(category, rule) 421, {4, 4, 1}, category, rule, STAGE_AND_ERROR, NULL
#define LOST(category, rule) 421, {4, 4, 2}, category, rule, STAGE_AND_ERROR, NULL
#define NOT_SMTP 421, {4, 5, 0}, VERDICT_PROTOCOL, "protocol-broken", STAGE_AND_TEXT, NULL
#define OUR_FAULT 451, {4, 3, 0}, VERDICT_UNKNOWN, "local-error", STAGE_AND_ERROR, NULL

#define UNFIT(fact, code, subject, detail, category, rule, text)                                                                                     \
  { fact, ANYWHERE, SCOPE_MESSAGE, FATE_FAILED, 0, code, {5, subject, detail}, category, rule, OWN_TEXT, text }
#define DNS(fact, fate, code, class, subject, detail, text)                                                                                          \
  { fact, ANYWHERE, SCOPE_SITE, fate, 0, code, {class, subject, detail}, VERDICT_UNKNOWN, NULL, GIVEN_TEXT, text }

static const struct ruling rulings[] = {
    /* ---- replies ---- */

    /* "Closing transmission channel" may come instead of any reply (RFC 5321 3.8, 4.2.1). In place of a greeting it is about the host, which is busy
       or going down. Later it often only means "enough for this connection": a new one may be welcome, and a host that greets just to say 421 is the
       caller's to notice. It is a refusal even after the final dot. */
    {REPLY | CLOSING, OPENING, SCOPE_HOST, FATE_AGAIN, 0, OF_REPLY},
    {REPLY | CLOSING, ANYWHERE, SCOPE_CONNECTION, FATE_AGAIN, 0, OF_REPLY},

    /* A host that refuses to talk (554, RFC 5321 3.1; 4xx) is as good as one that does not answer: the next one, then later (5.1). Not a bounce: the
       others may take it, and it said nothing about sender, recipient or message. */
    {REPLY, OPENING, SCOPE_HOST, FATE_AGAIN, 0, OF_REPLY},

    /* MAIL speaks for the sender or the message, so for all its recipients. */
    {REPLY | TRANSIENT, AT(MAIL), SCOPE_MESSAGE, FATE_DEFERRED, 0, OF_REPLY},
    {REPLY | PERMANENT, AT(MAIL), SCOPE_MESSAGE, FATE_FAILED, 0, OF_REPLY},

    /* No more recipients in this transaction (RFC 5321 4.5.3.1.10: 452, and 552 by servers of RFC 821): nothing is wrong with this one, it goes into
       the next transaction. */
    {REPLY | TOO_MANY | CROWDED, AT(RCPT), SCOPE_RECIPIENT, FATE_AGAIN, 0, OF_REPLY},
    /* ... but where none was taken before, the next transaction would bring the same answer. */
    {REPLY | TOO_MANY, AT(RCPT), SCOPE_RECIPIENT, FATE_DEFERRED, 0, OF_REPLY},
    /* RCPT speaks for one recipient (RFC 5321 3.3, 4.2.1). */
    {REPLY | POSITIVE, AT(RCPT), SCOPE_RECIPIENT, FATE_INVALID, 0, OF_REPLY},
    {REPLY | TRANSIENT, AT(RCPT), SCOPE_RECIPIENT, FATE_DEFERRED, 0, OF_REPLY},
    {REPLY | PERMANENT, AT(RCPT), SCOPE_RECIPIENT, FATE_FAILED, 0, OF_REPLY},

    /* The reply to the content is the moment of responsibility (RFC 5321 4.2.5, 6.1): all accepted recipients share it. */
    {REPLY | POSITIVE, AT(FINAL), SCOPE_MESSAGE, FATE_DELIVERED, 0, OF_REPLY},
    {REPLY | TRANSIENT, BODY, SCOPE_MESSAGE, FATE_DEFERRED, 0, OF_REPLY},
    {REPLY | PERMANENT, BODY, SCOPE_MESSAGE, FATE_FAILED, 0, OF_REPLY},
    /* 2xx to DATA or 3xx to the content: neither yes nor no (RFC 5321 4.3.2); the message may have been taken if it was sent. */
    {REPLY, AT(FINAL), SCOPE_CONNECTION, FATE_DEFERRED, MAYBE_DUPLICATE, OF_REPLY},
    {REPLY, ENVELOPE | AT(CONTENT), SCOPE_CONNECTION, FATE_DEFERRED, 0, OF_REPLY},

    /* To RSET or QUIT, or unasked: no recipient's fate hangs on it. */
    {REPLY, ANYWHERE, SCOPE_CONNECTION, FATE_AGAIN, 0, OF_REPLY},

    /* ---- the network ---- */

    /* No descriptor or memory: the host is not to blame, and another one would not help. After the content it is a lost connection like any other. */
    {NETWORK | SHORTAGE, AT(FINAL), SCOPE_CONNECTION, FATE_DEFERRED, MAYBE_DUPLICATE, OUR_FAULT},
    {NETWORK | SHORTAGE, ANYWHERE, SCOPE_CONNECTION, FATE_POSTPONED, 0, OUR_FAULT},

    /* Not reached: the next address, then the next host, then later (RFC 5321 5.1, 4.5.4.1). */
    {NETWORK | CONNECTING | TIMED_OUT, ANYWHERE, SCOPE_HOST, FATE_AGAIN, 0, NOT_REACHED(VERDICT_TIMEOUT, "connect-timeout")},
    {NETWORK | CONNECTING, ANYWHERE, SCOPE_HOST, FATE_AGAIN, 0, NOT_REACHED(VERDICT_NETWORK, "connect-failed")},
    {NETWORK | TIMED_OUT, OPENING, SCOPE_HOST, FATE_AGAIN, 0, LOST(VERDICT_TIMEOUT, "timeout")},
    {NETWORK, OPENING, SCOPE_HOST, FATE_AGAIN, 0, LOST(VERDICT_NETWORK, "connection-lost")},

    /* After the final dot silence is no refusal: the peer may have the message and not have been able to say so (RFC 5321 4.5.3.2.6; RFC 1047). Not
       to another host at once: that would be the second copy. The fate of what was not answered in time is the same as that of what was cut off. */
    {NETWORK | TIMED_OUT, AT(FINAL), SCOPE_HOST, FATE_DEFERRED, MAYBE_DUPLICATE, LOST(VERDICT_TIMEOUT, "timeout-after-content")},
    {NETWORK, AT(FINAL), SCOPE_CONNECTION, FATE_DEFERRED, MAYBE_DUPLICATE, LOST(VERDICT_NETWORK, "lost-after-content")},

    /* Some servers, and more of the boxes before them, offer PIPELINING (RFC 2920) and then hang, or hang up: once more, one command at a time. */
    {NETWORK | CHOKED | TIMED_OUT, ENVELOPE, SCOPE_CONNECTION, FATE_AGAIN, WITHOUT_PIPELINING, LOST(VERDICT_TIMEOUT, "timeout")},
    {NETWORK | CHOKED, ENVELOPE, SCOPE_CONNECTION, FATE_AGAIN, WITHOUT_PIPELINING, LOST(VERDICT_NETWORK, "connection-lost")},

    /* A host that falls silent in the middle is left alone for a while; one that hung up may have had enough of this connection only. Nothing was
       taken: at once, elsewhere. */
    {NETWORK | TIMED_OUT, ENVELOPE, SCOPE_HOST, FATE_AGAIN, 0, LOST(VERDICT_TIMEOUT, "timeout")},
    {NETWORK, ENVELOPE, SCOPE_CONNECTION, FATE_AGAIN, 0, LOST(VERDICT_NETWORK, "connection-lost")},
    /* In the middle of the content the message itself may be what the peer, or a filter on the way, cannot bear: the attempt counts, or it would go
       round for ever. */
    {NETWORK | TIMED_OUT, AT(CONTENT), SCOPE_HOST, FATE_DEFERRED, 0, LOST(VERDICT_TIMEOUT, "timeout")},
    {NETWORK, AT(CONTENT), SCOPE_CONNECTION, FATE_DEFERRED, 0, LOST(VERDICT_NETWORK, "connection-lost")},
    /* Idle, RSET, QUIT: nothing was under way. */
    {NETWORK, ANYWHERE, SCOPE_CONNECTION, FATE_AGAIN, 0, LOST(VERDICT_NETWORK, "connection-lost")},

    /* ---- no SMTP ---- */

    {BROKEN, AT(FINAL), SCOPE_HOST, FATE_DEFERRED, MAYBE_DUPLICATE, NOT_SMTP},
    {BROKEN | CHOKED, ENVELOPE, SCOPE_CONNECTION, FATE_AGAIN, WITHOUT_PIPELINING, NOT_SMTP},
    {BROKEN, AT(CONTENT), SCOPE_HOST, FATE_DEFERRED, 0, NOT_SMTP},
    {BROKEN, ANYWHERE, SCOPE_HOST, FATE_AGAIN, 0, NOT_SMTP},

    /* ---- not as safe as it has to be, or not known there: another host may be (RFC 3207 4.1, RFC 8461 5.1); the mail waits for that (RFC 5321 5.1) ---- */

    {UNSAFE, ANYWHERE, SCOPE_HOST, FATE_AGAIN, 0, 451, {4, 7, 5}, VERDICT_TLS, "tls", GIVEN_TEXT, "TLS failed"},
    {UNNAMED, ANYWHERE, SCOPE_HOST, FATE_AGAIN, 0, 451, {4, 7, 0}, VERDICT_AUTHENTICATION, "auth", GIVEN_TEXT, "no AUTH"},

    /* ---- what the configuration wants ---- */

    {DISCARDED, ANYWHERE, SCOPE_MESSAGE, FATE_DELIVERED, 0, 250, {2, 0, 0}, VERDICT_UNKNOWN, NULL, OWN_TEXT, "discarded by a route"},
    {REJECTED, ANYWHERE, SCOPE_MESSAGE, FATE_FAILED, 0, 550, {5, 7, 1}, VERDICT_POLICY, "route", OWN_TEXT, "rejected by a route"},

    /* ---- messages a server cannot take: known before they are sent ---- */

    /* RFC 1870 6.1 */
    UNFIT(UNFIT_SIZE, 552, 3, 4, VERDICT_SIZE, "larger-than-size", "the message is larger than the server takes"),
    /* RFC 6152 3: to be converted or returned; converting would break signatures */
    UNFIT(UNFIT_8BIT, 554, 6, 3, VERDICT_CONTENT, "no-8bitmime", "the message has 8-bit content, which the server does not take"),
    /* RFC 6531 3.2, 3.5 */
    UNFIT(UNFIT_UTF8, 553, 6, 7, VERDICT_CONTENT, "no-smtputf8", "the message needs SMTPUTF8, which the server does not offer"),

    /* RFC 8689 4.2.1 */
    UNFIT(UNFIT_TLS, 550, 7, 30, VERDICT_TLS, "no-requiretls", "REQUIRETLS support required"),

    /* ---- DNS: the answer holds for all that wait for this domain (RFC 5321 5.1) ---- */

    DNS(NULL_MX, FATE_FAILED, 556, 5, 1, 10, "the domain takes no mail"), /* RFC 7505 4.1 */
    DNS(NO_DOMAIN, FATE_FAILED, 550, 5, 1, 2, "no such domain"),
    DNS(NO_ADDRESS, FATE_FAILED, 550, 5, 4, 4, "no mail exchanger has an address"),
    DNS(LOOP, FATE_FAILED, 554, 5, 4, 6, "the mail exchanger is this host: a loop"),
    DNS(DNS_FAILED, FATE_DEFERRED, 451, 4, 4, 3, "the mail exchangers cannot be found out now"),

    /* ---- our own part: whoever has the content may have it for good ---- */

    {INTERNAL, AT(FINAL), SCOPE_CONNECTION, FATE_DEFERRED, MAYBE_DUPLICATE, OUR_FAULT},
    {INTERNAL | SHORTAGE, ANYWHERE, SCOPE_CONNECTION, FATE_POSTPONED, 0, OUR_FAULT},
    {INTERNAL, ANYWHERE, SCOPE_CONNECTION, FATE_DEFERRED, 0, OUR_FAULT},
};

/* ---- facts ---- */

/* 452 or 552 to RCPT with X.5.3 means the number of recipients. Without an enhanced code it means that (RFC 5321 4.5.3.1.10) where some were accepted
   before; to the first one of a transaction it is what these codes mean elsewhere: no room. */
static bool is_too_many(const struct smtp_reply *reply, bool crowded) {
  if (reply->code != 452 && reply->code != 552) return false;
  return reply->enhanced_class == 0 ? crowded : reply->enhanced[0] == 5 && reply->enhanced[1] == 3;
}

static unsigned facts_of_reply(const struct smtp_reply *reply, bool crowded) {
  static const unsigned by_class[6] = {[2] = POSITIVE, [3] = INTERMEDIATE, [4] = TRANSIENT, [5] = PERMANENT};
  must(reply->code >= 200 && reply->code <= 599);
  return REPLY | by_class[reply->code / 100] | (reply->code == 421 ? CLOSING : 0) | (crowded ? CROWDED : 0) |
         (is_too_many(reply, crowded) ? TOO_MANY : 0);
}

static unsigned facts_of_error(int error) {
  switch (error) {
  case E_TIMEOUT: return TIMED_OUT;
  case E_FULL:
  case E_NO_MEMORY:
  case E_TOO_MANY_FILES:
  case E_CANCELED: return SHORTAGE;
  default: return 0;
  }
}

static unsigned facts_of_unfit(enum smtp_client_unfit unfit) {
  switch (unfit) {
  case SMTP_UNFIT_SIZE: return UNFIT_SIZE;
  case SMTP_UNFIT_8BIT: return UNFIT_8BIT;
  case SMTP_UNFIT_UTF8: return UNFIT_UTF8;
  case SMTP_UNFIT_TLS: return UNFIT_TLS;
  case SMTP_FIT: break;
  }
  must(false);
}

static unsigned facts_of_dns(enum mx_status mx) {
  switch (mx) {
  case MX_NULL: return NULL_MX;
  case MX_NO_DOMAIN:
  case MX_BAD_NAME: return NO_DOMAIN;
  case MX_NO_ADDRESS: return NO_ADDRESS;
  case MX_SELF: return LOOP;
  case MX_TEMPORARY: return DNS_FAILED;
  case MX_INVALID:
  case MX_OK: break;
  }
  must(false);
}

static unsigned facts_of(const struct failure *failure) {
  unsigned more = (failure->connecting ? CONNECTING : 0u) | (failure->pipelined && !failure->proven ? CHOKED : 0u);
  switch (failure->kind) {
  case FAILURE_REPLY: return more | facts_of_reply(failure->reply, failure->crowded);
  case FAILURE_NETWORK: return more | NETWORK | facts_of_error(failure->error);
  case FAILURE_PROTOCOL: return more | BROKEN;
  case FAILURE_UNFIT: return facts_of_unfit(failure->unfit);
  case FAILURE_DNS: return facts_of_dns(failure->mx);
  case FAILURE_TLS: return UNSAFE;
  case FAILURE_AUTH: return UNNAMED;
  case FAILURE_ROUTE: return failure->rejected ? REJECTED : DISCARDED;
  case FAILURE_INTERNAL: return INTERNAL | (facts_of_error(failure->error) & SHORTAGE);
  case FAILURE_INVALID: break;
  }
  must(false);
}

static const struct ruling *find_ruling(unsigned facts, enum smtp_client_stage stage) {
  for (size_t i = 0; i < sizeof rulings / sizeof rulings[0]; i++)
    if ((rulings[i].facts & ~facts) == 0 && (rulings[i].stages & 1u << stage) != 0) return &rulings[i];
  must(false);
}

/* ---- what to report ---- */

/* As much of it as there is room for: a report that is cut is better than none. */
static void put(struct fmt *text, const char *s) { fmt_put(text, span_first(span_of_text(s), fmt_room(text))); }

static void put_stage(const struct failure *failure, struct fmt *text) {
  const char *stage = failure->stage == SMTP_STAGE_GREETING ? "greeting" : smtp_client_stage_text(failure->stage);
  put(text, failure->kind == FAILURE_INTERNAL ? "this host" : failure->connecting ? "connect" : stage);
  put(text, ": ");
}

static void word(const struct ruling *ruling, const struct failure *failure, struct fmt *text) {
  switch (ruling->wording) {
  case AS_REPLY: reply_join(failure->reply, text); break;
  case STAGE_AND_ERROR:
    put_stage(failure, text);
    put(text, error_text(failure->error));
    break;
  case STAGE_AND_TEXT:
    put_stage(failure, text);
    put(text, failure->text != NULL ? failure->text : error_text(E_PROTOCOL));
    break;
  case OWN_TEXT: put(text, ruling->text); break;
  case GIVEN_TEXT: put(text, failure->text != NULL && failure->text[0] != '\0' ? failure->text : ruling->text); break;
  }
}

static enum verdict_stage verdict_stage_of(const struct failure *failure) {
  static const enum verdict_stage stages[] = {
      [SMTP_STAGE_GREETING] = VERDICT_AT_CONNECT, [SMTP_STAGE_EHLO] = VERDICT_AT_HELLO,     [SMTP_STAGE_MAIL] = VERDICT_AT_MAIL,
      [SMTP_STAGE_RCPT] = VERDICT_AT_RCPT,        [SMTP_STAGE_DATA] = VERDICT_AT_DATA,      [SMTP_STAGE_CONTENT] = VERDICT_AT_DATA,
      [SMTP_STAGE_FINAL] = VERDICT_AT_FINAL,      [SMTP_STAGE_RSET] = VERDICT_AT_CONNECT,   [SMTP_STAGE_QUIT] = VERDICT_AT_CONNECT,
      [SMTP_STAGE_IDLE] = VERDICT_AT_CONNECT,     [SMTP_STAGE_STARTTLS] = VERDICT_AT_HELLO, [SMTP_STAGE_AUTH] = VERDICT_AT_HELLO,
  };
  return failure->kind == FAILURE_DNS ? VERDICT_AT_DNS : stages[failure->stage];
}

static void number(const struct ruling *ruling, const struct failure *failure, struct decision *decision) {
  const struct smtp_reply *reply = failure->reply;
  if (ruling->wording != AS_REPLY) {
    decision->code = ruling->code;
    memcpy(decision->enhanced, ruling->enhanced, sizeof decision->enhanced);
    return;
  }
  decision->replied = true;
  decision->code = reply->code;
  if (reply->enhanced_class == 0) return;
  decision->enhanced[0] = reply->enhanced_class;
  decision->enhanced[1] = reply->enhanced[0];
  decision->enhanced[2] = reply->enhanced[1];
}

/* A reply to the content that speaks of a mailbox does not say whose, unless there is only one. */
static struct verdict judge(const struct ruling *ruling, const struct failure *failure, const struct decision *decision, struct span text) {
  if (ruling->rule != NULL) return (struct verdict){false, verdict_category_text(ruling->category), ruling->rule};
  struct verdict verdict = verdict_of(verdict_stage_of(failure), decision->code, decision->enhanced, text);
  if (ruling->fate != FATE_FAILED || (failure->kind == FAILURE_REPLY && ruling->scope != SCOPE_RECIPIENT && !failure->alone)) verdict.hard = false;
  return verdict;
}

void outcome_decide(const struct failure *failure, struct decision *decision, struct fmt *text) {
  const struct ruling *ruling = find_ruling(facts_of(failure), failure->stage);
  size_t before = text->len;
  *decision = (struct decision){.scope = ruling->scope,
                                .fate = ruling->fate,
                                .maybe_duplicate = (ruling->flags & MAYBE_DUPLICATE) != 0,
                                .without_pipelining = (ruling->flags & WITHOUT_PIPELINING) != 0};
  number(ruling, failure, decision);
  word(ruling, failure, text);
  if (ruling->fate != FATE_DELIVERED && ruling->fate != FATE_INVALID)
    decision->verdict = judge(ruling, failure, decision, span_skip(fmt_span(text), before));
}
