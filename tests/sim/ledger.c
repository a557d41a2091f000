#include "tests/sim/ledger.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/json.h"
#include "tests/sim/orders.h"
#include "tests/sim/world.h"

#define MESSAGES_MAX 20000
#define KILLS_MAX 256
#define JUMP_MS 60000 /* max_age is 150 s, and nothing that may be delivered waits for so long otherwise */
/*
 * After a host's answer was read: events wait 5 ms for company, then outcomes wait for them and 5 ms for each other, then for the disk. When the disk of the events stalls, what had
 * come is let go after a second, then what came meanwhile; and outcomes are released in groups, one behind the other, likewise.
 */
#define OUTCOME_MAX_NS (5 * SECOND_NS)

struct delivery {
  uint64_t at_ns, read_ns;
  bool late; /* it was sent before the one before it: the host took its time */
  struct delivery *next;
};

struct recipient {
  enum fate fate;
  char domain[64];
  struct delivery *first, *last;
  unsigned receptions, delivered, bounced, expired; /* events */
  bool received_again;                              /* there is a Reception that says it may be there already; whichever file is read first */
  unsigned given_up;                                /* events that the operator ordered, */
  bool given_up_loudly;                             /* at least one of them with a report */
  uint64_t given_up_ns;                             /* when the first of the orders was answered; 0: none was */
  unsigned reports;                                 /* that came to the sender */
  char end[400];                                    /* the last one, but for Receptions */
};

struct message {
  struct recipient *recipients;
  unsigned recipients_count;
  uint8_t *content;
  size_t size;
  char sender_domain[32];
  uint64_t begun_ns;
  bool accepted, maybe;
  bool written, unwritten; /* to the disk: so it was, or that failed */
  uint64_t accepted_ns;
};

static struct {
  struct message messages[MESSAGES_MAX];
  unsigned count;
  struct {
    uint64_t from_ns, at_ns; /* nothing could be written down any more; the end */
    bool power;
  } kills[KILLS_MAX];
  unsigned kills_count;
  uint64_t failing_ns; /* since then a spool takes nothing; 0: all do */
  bool failed;         /* that was so at some time */
  int64_t ahead_ms;    /* of the time since the beginning: the clock of the program, */
  int64_t least_ms;    /* and the least it was at any time */
  bool jumped;         /* the clock did, so far that mail may look too old */
  uint64_t recipients_begun;
  struct ledger_sums sums;
} ledger;

void ledger_open(void) { memset(&ledger, 0, sizeof ledger); }
const struct ledger_sums *ledger_sums(void) { return &ledger.sums; }

static struct message *message_of(unsigned message) {
  must(message < ledger.count);
  return &ledger.messages[message];
}

unsigned ledger_new(unsigned recipients) {
  must(ledger.count < MESSAGES_MAX);
  struct message *message = &ledger.messages[ledger.count];
  message->recipients = sim_alloc(recipients * sizeof *message->recipients);
  message->recipients_count = recipients;
  message->begun_ns = world_now_ns();
  ledger.recipients_begun += recipients;
  ledger.sums.messages++;
  return ledger.count++;
}

unsigned ledger_recipients(unsigned number) { return message_of(number)->recipients_count; }
uint64_t ledger_recipients_begun(void) { return ledger.recipients_begun; }

void ledger_recipient(unsigned number, unsigned recipient, enum fate fate, const char *domain) {
  struct recipient *r = &message_of(number)->recipients[recipient];
  r->fate = fate;
  snprintf(r->domain, sizeof r->domain, "%s", domain);
}

static const char letters[FATES] = {'d', 'r', 'e'};

void ledger_address(unsigned number, unsigned recipient, struct fmt *out) {
  const struct recipient *r = &message_of(number)->recipients[recipient];
  fmt_char(out, 'm');
  fmt_u64(out, number);
  fmt_char(out, '.');
  fmt_u64(out, recipient);
  fmt_char(out, '.');
  fmt_char(out, letters[r->fate]);
  fmt_char(out, '@');
  fmt_text(out, r->domain);
}

bool ledger_find(struct span address, unsigned *message, unsigned *recipient, enum fate *fate) {
  char text[128], letter;
  if (address.len == 0 || address.len >= sizeof text) return false;
  memcpy(text, address.at, address.len);
  text[address.len] = '\0';
  if (sscanf(text, "m%u.%u.%c@", message, recipient, &letter) != 3) return false;
  if (*message >= ledger.count || *recipient >= message_of(*message)->recipients_count) return false;
  *fate = message_of(*message)->recipients[*recipient].fate;
  return true;
}

void ledger_sender(unsigned number, const char *domain, struct fmt *out) {
  struct message *message = message_of(number);
  snprintf(message->sender_domain, sizeof message->sender_domain, "%s", domain);
  fmt_char(out, 's');
  fmt_u64(out, number);
  fmt_char(out, '@');
  fmt_text(out, domain);
}

bool ledger_find_sender(struct span address, unsigned *message) {
  char text[128];
  if (address.len == 0 || address.len >= sizeof text) return false;
  memcpy(text, address.at, address.len);
  text[address.len] = '\0';
  return sscanf(text, "s%u@", message) == 1 && *message < ledger.count;
}

/* ---- what an operator may have done to it ---- */

static struct addressee addressee_of(unsigned number, const struct recipient *recipient) {
  return (struct addressee){span_of_text(recipient->domain), number};
}

static bool may_be_given_up(unsigned number, const struct recipient *recipient, enum orders_kind kind) {
  struct addressee addressee = addressee_of(number, recipient);
  return orders_may_bounce(&addressee, kind);
}

static bool report_may_be_given_up(unsigned number) {
  struct addressee sender = {span_of_text(message_of(number)->sender_domain), ORDERS_REPORT};
  return orders_may_bounce(&sender, ORDERS_ANY);
}

/* Of whom it says that they failed. */
void ledger_report(unsigned number, struct span content) {
  static const char key[] = "Final-Recipient: rfc822; ";
  unsigned found = 0;
  for (const uint8_t *at; (at = memmem(content.at, content.len, key, sizeof key - 1)) != NULL; found++) {
    content = span_skip(content, (size_t)(at - content.at) + sizeof key - 1);
    ptrdiff_t end = span_find(content, '\r');
    unsigned message, recipient;
    enum fate fate;
    if (end < 0 || !ledger_find(span_first(content, (size_t)end), &message, &recipient, &fate) || message != number)
      fault("a report about message %u names %.*s", number, (int)(end < 0 ? 40 : end), (const char *)content.at);
    struct recipient *failed = &message_of(message)->recipients[recipient];
    if (fate == FATE_DELIVERED && !ledger.jumped && !may_be_given_up(number, failed, ORDERS_LOUD))
      fault("a report says that message %u failed for recipient %u, who takes it", number, recipient);
    failed->reports++;
  }
  if (found == 0) fault("a report about message %u names nobody", number);
}

/* ---- content ---- */

static const char number_key[] = "X-Number: ";

/* Lines of all lengths, dots in front (stuffed), a long one now and then; it follows from the number. */
struct span ledger_content(unsigned number, size_t size, bool eight_bit) {
  struct message *message = message_of(number);
  uint64_t state = number * 0x9e3779b97f4a7c15 + 1;
  uint8_t *at = message->content = sim_alloc(size + 1200);
  at += sprintf((char *)at, "Subject: message %u\r\n%s%u\r\n\r\n", number, number_key, number);
  while ((size_t)(at - message->content) < size) {
    state = state * 6364136223846793005 + 1442695040888963407;
    unsigned len = (state >> 60) == 0 ? 900 : (unsigned)(state >> 33) % 80;
    if ((state >> 50 & 7) == 0) at += sprintf((char *)at, "..");
    for (unsigned i = 0; i < len; i++) *at++ = (uint8_t)('a' + (state >> (i % 40)) % 26);
    if (eight_bit && (state >> 45 & 3) == 0) at += sprintf((char *)at, "\xc3\xa9");
    at += sprintf((char *)at, "\r\n");
  }
  message->size = (size_t)(at - message->content);
  return span_of(message->content, message->size);
}

void ledger_check_content(unsigned number, struct span content) {
  const struct message *message = message_of(number);
  struct span own = span_of(message->content, message->size);
  if (content.len < own.len || memcmp(content.at + content.len - own.len, own.at, own.len) != 0)
    fault("the content of message %u was altered: %zu bytes, of its own %zu", number, content.len, own.len);
  struct span before = span_first(content, content.len - own.len);
  if (before.len < 10 || memcmp(before.at, "Received: ", 10) != 0 || before.at[before.len - 1] != '\n')
    fault("in front of the content of message %u there is no Received header", number);
}

/* ---- what happened ---- */

void ledger_accepted(unsigned number) {
  struct message *message = message_of(number);
  must(!message->accepted);
  if (message->unwritten && !message->written) fault("message %u was answered 250, and writing it had failed", number);
  message->accepted = true;
  message->accepted_ns = world_now_ns();
  ledger.sums.accepted++;
  ledger.sums.recipients += message->recipients_count;
  trace("message %u is accepted", number);
}

void ledger_maybe(unsigned number) { message_of(number)->maybe = true; }

/* If the disk failed under it, it may be there all the same: nobody can know, and the sender will try again. */
void ledger_refused(unsigned number) { message_of(number)->maybe &= ledger.failed; }

void ledger_written(struct span bytes, bool failed) {
  if (bytes.len == 0) return;
  for (const uint8_t *at; (at = memmem(bytes.at, bytes.len, number_key, sizeof number_key - 1)) != NULL;) {
    bytes = span_skip(bytes, (size_t)(at - bytes.at) + sizeof number_key - 1);
    ptrdiff_t end = span_find(bytes, '\r');
    uint64_t number;
    if (end < 0 || !span_to_u64(span_first(bytes, (size_t)end), &number) || number >= ledger.count) continue;
    message_of((unsigned)number)->written |= !failed;
    message_of((unsigned)number)->unwritten |= failed;
  }
}

void ledger_failing(void) {
  if (ledger.failing_ns == 0) ledger.failing_ns = world_now_ns();
  ledger.failed = true;
}

uint64_t *ledger_delivered(unsigned number, unsigned recipient, bool late) {
  struct message *message = message_of(number);
  struct recipient *r = &message->recipients[recipient];
  struct delivery *delivery = sim_alloc(sizeof *delivery);
  delivery->at_ns = world_now_ns();
  delivery->late = late;
  if (!message->accepted && !message->maybe && message->content == NULL) fault("message %u arrived that was never sent", number);
  if (r->fate != FATE_DELIVERED) fault("message %u arrived at recipient %u, who was refused", number, recipient);
  *(r->first == NULL ? &r->first : &r->last->next) = delivery;
  r->last = delivery;
  return &delivery->read_ns;
}

void ledger_killed(bool power) {
  must(ledger.kills_count < KILLS_MAX);
  uint64_t now_ns = world_now_ns(), from_ns = ledger.failing_ns != 0 ? ledger.failing_ns : now_ns;
  ledger.kills[ledger.kills_count].from_ns = from_ns;
  ledger.kills[ledger.kills_count].at_ns = now_ns;
  ledger.kills[ledger.kills_count++].power = power;
  ledger.failing_ns = 0;
}

void ledger_clock_set(int64_t by_ms) {
  ledger.ahead_ms += by_ms;
  if (ledger.ahead_ms < ledger.least_ms) ledger.least_ms = ledger.ahead_ms;
  ledger.jumped |= ledger.ahead_ms - ledger.least_ms > JUMP_MS;
}

bool ledger_was_killed(void) { return ledger.kills_count > 0; }

/* ---- events ---- */

/* The value of a string member; empty: it has none. Our addresses need no escapes. */
static struct span member(struct span line, const char *name) {
  char key[32];
  int len = snprintf(key, sizeof key, "\"%s\":\"", name);
  const uint8_t *at = memmem(line.at, line.len, key, (size_t)len);
  if (at == NULL) return span_of(NULL, 0);
  struct span rest = span_skip(line, (size_t)(at - line.at) + (size_t)len);
  ptrdiff_t end = span_find(rest, '"');
  return end < 0 ? span_of(NULL, 0) : span_first(rest, (size_t)end);
}

static bool is(struct span text, const char *wanted) { return text.len == strlen(wanted) && memcmp(text.at, wanted, text.len) == 0; }

static struct recipient *recipient_of(struct span address) {
  unsigned message, recipient;
  enum fate fate;
  return ledger_find(address, &message, &recipient, &fate) ? &message_of(message)->recipients[recipient] : NULL;
}

static bool is_of_report(struct span address) {
  unsigned message;
  return ledger_find_sender(address, &message);
}

/* Of a report, or of a message. */
static void note_given_up(struct span line) {
  struct span address = member(line, "recipient");
  unsigned message = ORDERS_REPORT, recipient;
  enum fate fate;
  bool is_loud, is_quiet, is_ours = ledger_find(address, &message, &recipient, &fate);
  ptrdiff_t at = span_find(address, '@');
  if (at < 0) fault("an AdminBounce of nobody's: %.*s", (int)line.len, (const char *)line.at);
  struct addressee addressee = {span_skip(address, (size_t)at + 1), message};
  uint64_t answered_ns = orders_bounce_event(line, &addressee, is_ours ? message_of(message)->begun_ns : 0, &is_quiet);
  is_loud = !is_quiet;
  if (!is_ours) return;
  struct recipient *r = &message_of(message)->recipients[recipient];
  r->given_up++;
  r->given_up_loudly |= is_loud;
  if (r->given_up_ns == 0) r->given_up_ns = answered_ns;
}

/* "recipient":"a" or "recipient":["a","b"] */

static void note_receptions(struct span line) {
  static const char key[] = "\"recipient\":";
  const uint8_t *at = memmem(line.at, line.len, key, sizeof key - 1);
  if (at == NULL) fault("a Reception without recipient: %.*s", (int)line.len, (const char *)line.at);
  struct span rest = span_skip(line, (size_t)(at - line.at) + sizeof key - 1);
  bool list = rest.len > 0 && rest.at[0] == '[';
  bool again = memmem(line.at, line.len, "\"maybe_duplicate\":true", 22) != NULL; /* and says so */
  do {
    rest = span_skip(rest, 1 + (rest.at[0] == '[' ? 1u : 0u));
    ptrdiff_t end = span_find(rest, '"');
    must(end >= 0);
    struct recipient *recipient = recipient_of(span_first(rest, (size_t)end));
    if (recipient == NULL) fault("a Reception of nobody's: %.*s", (int)line.len, (const char *)line.at);
    recipient->receptions += !again;
    recipient->received_again |= again;
    rest = span_skip(rest, (size_t)end + 1);
    if (list && rest.len > 0 && rest.at[0] == ',') rest = span_skip(rest, 1);
  } while (list && rest.len > 0 && rest.at[0] == '"');
}

void ledger_event(struct span line) {
  ledger.sums.events++;
  if (!json_is_object(line)) fault("an event that is no JSON: %.*s", (int)(line.len < 500 ? line.len : 500), (const char *)line.at);
  struct span type = member(line, "type");
  if (memmem(line.at, line.len, "corrupt record", 14) != NULL)
    fault("what was answered for is read back damaged: %.*s", (int)line.len, (const char *)line.at);
  if (is(type, "AdminBounce")) note_given_up(line);
  if (is_of_report(member(line, "recipient"))) return;
  if (is(type, "Reception")) {
    note_receptions(line);
    return;
  }
  if (is(type, "Rejection")) return;
  struct recipient *recipient = recipient_of(member(line, "recipient"));
  if (recipient == NULL) fault("an event of nobody's: %.*s", (int)line.len, (const char *)line.at);
  snprintf(recipient->end, sizeof recipient->end, "%.*s", (int)line.len, (const char *)line.at);
  if (is(type, "Delivery")) {
    recipient->delivered++;
  } else if (is(type, "Bounce")) {
    recipient->bounced++;
  } else if (is(type, "Expiration")) {
    recipient->expired++;
  } else if (!is(type, "TransientFailure") && !is(type, "AdminBounce")) {
    fault("an event of a type of its own: %.*s", (int)line.len, (const char *)line.at);
  }
}

/* ---- the end ---- */

/* Was it killed after the answer was read, before the next time, and could what was read not be written down before that? */
static bool may_be_forgotten(uint64_t read_ns, uint64_t next_ns) {
  for (unsigned i = 0; i < ledger.kills_count; i++) {
    bool killed = ledger.kills[i].at_ns >= read_ns && ledger.kills[i].at_ns < next_ns;
    if (killed && ledger.kills[i].from_ns < read_ns + OUTCOME_MAX_NS) return true;
  }
  return false;
}

static bool power_was_cut(void) {
  for (unsigned i = 0; i < ledger.kills_count; i++)
    if (ledger.kills[i].power) return true;
  return false;
}

/* Delivered once more only if the answer to the time before was never read, or the process was killed before it can have been written down. */
static void check_twice(unsigned number, unsigned index, const struct recipient *recipient) {
  for (const struct delivery *delivery = recipient->first; delivery->next != NULL; delivery = delivery->next) {
    ledger.sums.twice++;
    if (delivery->next->late || delivery->read_ns == 0 || delivery->read_ns > delivery->next->at_ns) continue;
    if (may_be_forgotten(delivery->read_ns, delivery->next->at_ns)) continue;
    fault("message %u was delivered to recipient %u again, %.3f s after the answer to the first time was read", number, index,
          (double)(delivery->next->at_ns - delivery->read_ns) / SECOND_NS);
  }
}

/* What the operator has given up is not delivered any more, unless that could not be written down; what was under way was not given up. */
static void check_given_up(unsigned number, unsigned index, const struct recipient *recipient) {
  for (const struct delivery *delivery = recipient->first; delivery != NULL && recipient->given_up_ns != 0; delivery = delivery->next) {
    if (delivery->at_ns <= recipient->given_up_ns || delivery->late || may_be_forgotten(recipient->given_up_ns, delivery->at_ns)) continue;
    fault("message %u was delivered to recipient %u %.3f s after the operator had been told that it was given up", number, index,
          (double)(delivery->at_ns - recipient->given_up_ns) / SECOND_NS);
  }
}

/*
 * Reports come of all that fails, but for what was given up quietly; a report may be too old, too, or given up itself. What was given up and could not be written down may be
 * delivered after all.
 */
static void check_reports(unsigned number, unsigned index, const struct recipient *recipient, bool killed) {
  bool fails = recipient->fate != FATE_DELIVERED || (recipient->given_up_loudly && !(killed && recipient->first != NULL));
  bool may_be_quiet = recipient->given_up > 0 ? !recipient->given_up_loudly : may_be_given_up(number, recipient, ORDERS_QUIET);
  if (fails && recipient->reports == 0 && !may_be_quiet && !ledger.jumped && !report_may_be_given_up(number))
    fault("message %u failed for recipient %u, and no report came to its sender", number, index);
  if (recipient->given_up > 0 && !recipient->given_up_loudly && recipient->reports > 0 && !killed)
    fault("message %u was given up quietly for recipient %u, and a report came", number, index);
}

static unsigned deliveries(const struct recipient *recipient) {
  unsigned count = 0;
  for (const struct delivery *delivery = recipient->first; delivery != NULL; delivery = delivery->next) count++;
  return count;
}

static void check_recipient(unsigned number, unsigned index, bool events_may_be_lost) {
  const struct recipient *recipient = &message_of(number)->recipients[index];
  unsigned arrived = deliveries(recipient), ends = recipient->delivered + recipient->bounced + recipient->expired + recipient->given_up;
  bool lost = events_may_be_lost || power_was_cut();
  bool killed = ledger.kills_count > 0;
  bool too_old = ledger.jumped && recipient->fate != FATE_EXPIRES && (recipient->expired > 0 || (ends == 0 && lost));
  bool given_up = recipient->given_up > 0 || (ends == 0 && lost && may_be_given_up(number, recipient, ORDERS_ANY));
  if (recipient->fate == FATE_DELIVERED && arrived == 0 && !too_old && !given_up)
    fault("message %u was answered 250 and never came to recipient %u; its last event: %s", number, index, recipient->end);
  if (arrived > 0) check_twice(number, index, recipient);
  if (arrived > 0) check_given_up(number, index, recipient);
  if (ends == 0 && !lost) fault("message %u: recipient %u has no event of its end", number, index);
  if (recipient->receptions == 0 && !recipient->received_again && !lost) fault("message %u: recipient %u has no Reception", number, index);
  if (!killed && (ends > 1 || recipient->receptions > 1))
    fault("message %u: recipient %u has %u ends and %u Receptions", number, index, ends, recipient->receptions);
  check_reports(number, index, recipient, killed);
  static const char *const names[FATES] = {"Delivery", "Bounce", "Expiration"};
  unsigned right = recipient->fate == FATE_DELIVERED ? recipient->delivered
                   : recipient->fate == FATE_REFUSED ? recipient->bounced
                                                     : recipient->expired;
  if (too_old) right += recipient->expired;
  right += recipient->given_up;
  if (right != ends)
    fault("message %u: recipient %u should have ended by %s alone, and has %u of %u ends so; its last event: %s", number, index,
          names[recipient->fate], right, ends, recipient->end);
  ledger.sums.lost_events += ends == 0;
  ledger.sums.delivered += recipient->fate == FATE_DELIVERED && arrived > 0;
  ledger.sums.given_up += recipient->given_up > 0;
  ledger.sums.refused += recipient->fate == FATE_REFUSED;
  ledger.sums.expired += recipient->fate == FATE_EXPIRES;
}

void ledger_close(bool events_may_be_lost) {
  for (unsigned m = 0; m < ledger.count; m++) {
    const struct message *message = message_of(m);
    for (unsigned r = 0; r < message->recipients_count; r++) {
      const struct recipient *recipient = &message->recipients[r];
      if (message->accepted) {
        check_recipient(m, r, events_may_be_lost);
      } else if (recipient->first != NULL) {
        if (!message->maybe) fault("message %u was not accepted, and came to recipient %u", m, r);
        check_twice(m, r, recipient);
      }
    }
  }
  orders_close(ledger.kills_count == 0 && !events_may_be_lost);
}

unsigned ledger_open_recipients(void) {
  unsigned open = 0;
  for (unsigned m = 0; m < ledger.count; m++) {
    const struct message *message = message_of(m);
    for (unsigned r = 0; message->accepted && r < message->recipients_count; r++)
      open += message->recipients[r].fate == FATE_DELIVERED && message->recipients[r].first == NULL;
  }
  return open;
}
