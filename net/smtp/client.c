#include "net/smtp/client.h"

#include "core/base/error.h"
#include "net/auth/base64.h"
#include "net/smtp/address.h"
#include "net/smtp/server.h"

/* What is owed to us, in the order of writing. The greeting is the answer to the connection itself. */
enum command {
  SENT_INVALID = 0,
  SENT_CONNECT,
  SENT_EHLO,
  SENT_HELO,
  SENT_STARTTLS,
  SENT_AUTH_PLAIN,
  SENT_AUTH_LOGIN,
  SENT_NAME, /* of LOGIN */
  SENT_PASSWORD,
  SENT_MAIL,
  SENT_RCPT,
  SENT_DATA,
  SENT_BDAT,
  SENT_CONTENT, /* the "." behind the content of DATA */
  SENT_RSET,
  SENT_QUIT,
};

enum client_state {
  CLIENT_INVALID = 0,
  CLIENT_OPENING, /* up to the answer to EHLO or HELO */
  CLIENT_READY,
  CLIENT_ASKING,   /* STARTTLS or AUTH is under way */
  CLIENT_SECURING, /* the handshake is */
  CLIENT_QUITTING,
  CLIENT_BREAKING, /* BROKEN is the next event, behind what _follow still owes */
  CLIENT_OVER,
};

enum transaction_state {
  TRANSACTION_NONE = 0,
  TRANSACTION_WAITING,  /* MAIL waits for the answer to RSET (no pipelining) */
  TRANSACTION_ENVELOPE, /* MAIL is written */
  TRANSACTION_SENDING,  /* the caller sends the content; with BDAT the envelope may be unanswered still */
  TRANSACTION_SENT,
  TRANSACTION_EMPTIED, /* nobody was accepted, yet DATA was: a lone "." is under way */
};

typedef enum smtp_client_event handler(struct smtp_client *c, struct fmt *out);
typedef struct smtp_client_transaction transaction;

#define NO_EVENT SMTP_CLIENT_INVALID
#define BIT(n) (1u << (n))

static handler on_greeting, on_ehlo, on_ehlo_refused, on_helo, on_refused, on_starttls, on_starttls_refused, on_login, on_name, on_authenticated,
    on_auth_refused, on_mail, on_mail_refused, on_rcpt, on_data, on_data_refused, on_bdat, on_bdat_refused, on_final, on_rset, on_quit;

/* RFC 5321 4.3.2. A reply of another class than `good`, 4 and 5 breaks the connection: we would no longer know what the server thinks it is doing.
 * 421 is looked at before, as it may come in answer to anything (RFC 5321 3.8). */
static const struct rule {
  uint8_t stage;
  uint8_t good;
  handler *yes, *no;
  const char *wrong;
} rules[] = {
    [SENT_CONNECT] = {SMTP_STAGE_GREETING, 2, on_greeting, on_refused, "the greeting is neither 220 nor a refusal"},
    [SENT_EHLO] = {SMTP_STAGE_EHLO, 2, on_ehlo, on_ehlo_refused, "3xx in answer to EHLO"},
    [SENT_HELO] = {SMTP_STAGE_EHLO, 2, on_helo, on_refused, "3xx in answer to HELO"},
    [SENT_STARTTLS] = {SMTP_STAGE_STARTTLS, 2, on_starttls, on_starttls_refused, "3xx in answer to STARTTLS"},
    [SENT_AUTH_PLAIN] = {SMTP_STAGE_AUTH, 2, on_authenticated, on_auth_refused, "3xx in answer to AUTH PLAIN"},
    [SENT_AUTH_LOGIN] = {SMTP_STAGE_AUTH, 3, on_login, on_auth_refused, "2xx in answer to AUTH LOGIN"},
    [SENT_NAME] = {SMTP_STAGE_AUTH, 3, on_name, on_auth_refused, "2xx in answer to the name"},
    [SENT_PASSWORD] = {SMTP_STAGE_AUTH, 2, on_authenticated, on_auth_refused, "3xx in answer to the password"},
    [SENT_MAIL] = {SMTP_STAGE_MAIL, 2, on_mail, on_mail_refused, "3xx in answer to MAIL"},
    [SENT_RCPT] = {SMTP_STAGE_RCPT, 2, on_rcpt, on_rcpt, "3xx in answer to RCPT"},
    [SENT_DATA] = {SMTP_STAGE_DATA, 3, on_data, on_data_refused, "2xx in answer to DATA"},
    [SENT_BDAT] = {SMTP_STAGE_FINAL, 2, on_bdat, on_bdat_refused, "3xx in answer to BDAT"},
    [SENT_CONTENT] = {SMTP_STAGE_FINAL, 2, on_final, on_final, "3xx in answer to the end of DATA"},
    [SENT_RSET] = {SMTP_STAGE_RSET, 2, on_rset, NULL, "RSET was not answered with 250"}, /* 4.1.1.5: it is always 250 */
    [SENT_QUIT] = {SMTP_STAGE_QUIT, 2, on_quit, on_quit, "3xx in answer to QUIT"},
};

static const uint8_t legal_moves[] = {
    [TRANSACTION_NONE] = BIT(TRANSACTION_WAITING) | BIT(TRANSACTION_ENVELOPE),
    [TRANSACTION_WAITING] = BIT(TRANSACTION_ENVELOPE),
    [TRANSACTION_ENVELOPE] = BIT(TRANSACTION_SENDING) | BIT(TRANSACTION_EMPTIED) | BIT(TRANSACTION_NONE),
    [TRANSACTION_SENDING] = BIT(TRANSACTION_SENT) | BIT(TRANSACTION_NONE), /* NONE: refused before its end was sent */
    [TRANSACTION_SENT] = BIT(TRANSACTION_NONE),
    [TRANSACTION_EMPTIED] = BIT(TRANSACTION_NONE),
};

static void transaction_enter(transaction *t, enum transaction_state state) {
  must(legal_moves[t->state] & BIT(state));
  t->state = (uint8_t)state;
}

static bool is_open(const transaction *t) { return t->envelope != NULL; }
static bool is_pipelining(const struct smtp_client *c) { return c->_options->pipelining && c->capabilities.pipelining; }
static bool is_over(const struct smtp_client *c) { return c->_state == CLIENT_BREAKING || c->_state == CLIENT_OVER; }

/* Does anybody wait for the content? A refused MAIL makes all that follows pointless, whatever the server answers to RCPT. */
static bool is_wanted(const transaction *t) { return t->accepted > 0 && !t->mail_refused; }

/* After a failed envelope: does its MAIL still stand, so that another one would be answered with 503 (RFC 5321 4.1.4)? */
static bool is_left_open(const transaction *t) { return !t->mail_refused || t->accepted > 0; }

static enum smtp_client_event break_off(struct smtp_client *c, const char *why) {
  c->broken = why;
  c->_state = CLIENT_OVER;
  return SMTP_CLIENT_BROKEN;
}

static void owe(struct smtp_client *c, enum command command) {
  must(c->_command_count < SMTP_CLIENT_COMMANDS_MAX);
  c->_commands[(c->_command_first + c->_command_count++) % SMTP_CLIENT_COMMANDS_MAX] = (uint8_t)command;
}

static enum command oldest_command(const struct smtp_client *c) { return c->_command_count == 0 ? SENT_INVALID : c->_commands[c->_command_first]; }

static void command_answered(struct smtp_client *c) {
  c->_command_first = (uint16_t)((c->_command_first + 1) % SMTP_CLIENT_COMMANDS_MAX);
  c->_command_count--;
}

/* ---- commands, as text ---- */

#define FMT_LITERAL(out, literal) fmt_bytes(out, "" literal, sizeof(literal) - 1)

static void write_hello(struct smtp_client *c, enum command command, struct fmt *out) {
  fmt_text(out, command == SENT_EHLO ? "EHLO " : "HELO ");
  fmt_put(out, c->_options->hostname);
  FMT_LITERAL(out, "\r\n");
  owe(c, command);
}

/* RFC 3461 4.3 and 4.4. */
static void write_mail_dsn(const struct smtp_client_envelope *envelope, struct fmt *out) {
  if (envelope->ret == SMTP_RET_FULL) FMT_LITERAL(out, " RET=FULL");
  if (envelope->ret == SMTP_RET_HEADERS) FMT_LITERAL(out, " RET=HDRS");
  if (envelope->envid.len == 0 || envelope->envid.len > SMTP_CLIENT_ENVID_MAX) return;
  FMT_LITERAL(out, " ENVID=");
  fmt_put(out, envelope->envid);
}

static void write_mail(struct smtp_client *c, const transaction *t, struct fmt *out) {
  const struct smtp_client_envelope *envelope = t->envelope;
  FMT_LITERAL(out, "MAIL FROM:<");
  fmt_put(out, envelope->sender);
  FMT_LITERAL(out, ">");
  if (c->capabilities.size) {
    FMT_LITERAL(out, " SIZE=");
    fmt_u64(out, envelope->size);
  }
  if (envelope->eight_bit) FMT_LITERAL(out, " BODY=8BITMIME");
  if (envelope->smtputf8) FMT_LITERAL(out, " SMTPUTF8");
  if (envelope->require_tls) FMT_LITERAL(out, " REQUIRETLS");
  if (c->capabilities.dsn) write_mail_dsn(envelope, out);
  FMT_LITERAL(out, "\r\n");
  owe(c, SENT_MAIL);
}

/* RFC 3461 4.1: NEVER stands alone, the others are a list. */
static void write_notify(uint8_t notify, struct fmt *out) {
  static const struct {
    uint8_t bit;
    const char *word;
  } words[] = {{SMTP_NOTIFY_SUCCESS, "SUCCESS"}, {SMTP_NOTIFY_FAILURE, "FAILURE"}, {SMTP_NOTIFY_DELAY, "DELAY"}};
  const char *before = " NOTIFY=";
  if (notify & SMTP_NOTIFY_NEVER) {
    FMT_LITERAL(out, " NOTIFY=NEVER");
    return;
  }
  for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
    if (!(notify & words[i].bit)) continue;
    fmt_text(out, before);
    fmt_text(out, words[i].word);
    before = ",";
  }
}

static void write_rcpt(struct smtp_client *c, transaction *t, struct fmt *out) {
  const struct smtp_client_recipient *recipient = &t->envelope->recipient[t->written++];
  FMT_LITERAL(out, "RCPT TO:<");
  fmt_put(out, recipient->address);
  FMT_LITERAL(out, ">");
  if (c->capabilities.dsn) {
    if (recipient->notify != SMTP_NOTIFY_DEFAULT) write_notify(recipient->notify, out);
    if (recipient->orcpt.len > 0 && recipient->orcpt.len <= SMTP_CLIENT_ORCPT_MAX) {
      FMT_LITERAL(out, " ORCPT=");
      fmt_put(out, recipient->orcpt);
    }
  }
  FMT_LITERAL(out, "\r\n");
  owe(c, SENT_RCPT);
}

/* Writes DATA or BDAT; the event is CONTENT if the content is to follow at once. */
static enum smtp_client_event write_content_command(struct smtp_client *c, transaction *t, struct fmt *out) {
  t->content_asked = true;
  if (!t->chunked) {
    FMT_LITERAL(out, "DATA\r\n");
    owe(c, SENT_DATA);
    return NO_EVENT;
  }
  FMT_LITERAL(out, "BDAT ");
  fmt_u64(out, t->envelope->size);
  FMT_LITERAL(out, " LAST\r\n");
  owe(c, SENT_BDAT);
  transaction_enter(t, TRANSACTION_SENDING);
  return SMTP_CLIENT_CONTENT;
}

static void write_rset(struct smtp_client *c, struct fmt *out) {
  FMT_LITERAL(out, "RSET\r\n");
  owe(c, SENT_RSET);
  c->_dirty = false;
}

/* ---- greeting and capabilities ---- */

static struct span word_take(struct span *text) {
  size_t from = 0;
  while (from < text->len && (text->at[from] == ' ' || text->at[from] == '\t')) from++;
  size_t to = from;
  while (to < text->len && text->at[to] != ' ' && text->at[to] != '\t') to++;
  struct span word = span_of(text->at + from, to - from);
  *text = span_skip(*text, to);
  return word;
}

/* The smaller of two limits, where 0 is none: a limit that is said twice holds twice. */
static uint64_t limit_min(uint64_t a, uint64_t b) { return a == 0 || (b != 0 && b < a) ? b : a; }

/* RFC 9422 3: NAME=VALUE .., values of up to 6 digits; what we do not know, or cannot read, limits nothing. */
static void limits_take(struct smtp_client_capabilities *can, struct span text) {
  for (struct span word = word_take(&text); word.len > 0; word = word_take(&text)) {
    uint64_t value;
    ptrdiff_t equals = span_find(word, '=');
    if (equals < 0 || !span_to_u64(span_skip(word, (size_t)equals + 1), &value) || value > 999999) continue;
    struct span name = span_first(word, (size_t)equals);
    if (span_equal_nocase(name, SPAN("RCPTMAX"))) can->recipients_max = (uint32_t)limit_min(can->recipients_max, value);
    if (span_equal_nocase(name, SPAN("MAILMAX"))) can->messages_max = (uint32_t)limit_min(can->messages_max, value);
  }
}

/* RFC 4954 3; with an equals sign in what some servers say besides, for clients older than that. */
static void mechanisms_take(struct smtp_client_capabilities *can, struct span text) {
  for (struct span word = word_take(&text); word.len > 0; word = word_take(&text)) {
    if (span_equal_nocase(word, SPAN("PLAIN"))) can->auth_plain = true;
    if (span_equal_nocase(word, SPAN("LOGIN"))) can->auth_login = true;
  }
}

static void keyword_take(struct smtp_client_capabilities *can, struct span line) {
  const struct {
    struct span keyword;
    bool *flag;
  } flags[] = {
      {SPAN("PIPELINING"), &can->pipelining},  {SPAN("SIZE"), &can->size},
      {SPAN("8BITMIME"), &can->eight_bit},     {SPAN("SMTPUTF8"), &can->smtputf8},
      {SPAN("CHUNKING"), &can->chunking},      {SPAN("DSN"), &can->dsn},
      {SPAN("STARTTLS"), &can->starttls},      {SPAN("ENHANCEDSTATUSCODES"), &can->enhanced_codes},
      {SPAN("REQUIRETLS"), &can->require_tls},
  };
  const struct span old_auth = SPAN("AUTH=");
  if (span_starts_nocase(line, old_auth)) mechanisms_take(can, span_skip(line, old_auth.len));
  struct span keyword = word_take(&line);
  for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++)
    if (span_equal_nocase(keyword, flags[i].keyword)) *flags[i].flag = true;
  uint64_t size;
  if (span_equal_nocase(keyword, SPAN("SIZE")) && span_to_u64(word_take(&line), &size)) can->size_max = limit_min(can->size_max, size);
  if (span_equal_nocase(keyword, SPAN("LIMITS"))) limits_take(can, line);
  if (span_equal_nocase(keyword, SPAN("AUTH"))) mechanisms_take(can, line);
}

static enum smtp_client_event on_greeting(struct smtp_client *c, struct fmt *out) {
  write_hello(c, SENT_EHLO, out);
  return NO_EVENT;
}

static enum smtp_client_event on_ehlo(struct smtp_client *c, struct fmt *out) {
  (void)out;
  struct span line;
  size_t cursor = 0;
  c->capabilities.esmtp = true;
  if (reply_line(&c->reply, &cursor, &line)) /* the first line only greets (RFC 5321 4.1.1.1) */
    while (reply_line(&c->reply, &cursor, &line)) keyword_take(&c->capabilities, line);
  c->_state = CLIENT_READY;
  return SMTP_CLIENT_READY;
}

/* RFC 5321 3.2: a server that does not know EHLO (5xx) is to be asked with HELO. A 4xx is no such thing: it will not talk to us now. */
static enum smtp_client_event on_ehlo_refused(struct smtp_client *c, struct fmt *out) {
  if (c->reply.code < 500) return on_refused(c, out);
  write_hello(c, SENT_HELO, out);
  return NO_EVENT;
}

static enum smtp_client_event on_helo(struct smtp_client *c, struct fmt *out) {
  (void)out;
  c->_state = CLIENT_READY;
  return SMTP_CLIENT_READY;
}

static enum smtp_client_event on_refused(struct smtp_client *c, struct fmt *out) {
  (void)out;
  c->_state = CLIENT_OVER;
  return SMTP_CLIENT_REFUSED;
}

/* ---- STARTTLS and AUTH ---- */

static void must_be_free(const struct smtp_client *c) {
  must(c->_state == CLIENT_READY && c->_command_count == 0 && !is_open(&c->_transaction[0]) && !c->_dirty);
}

void smtp_client_starttls(struct smtp_client *c, struct fmt *out) {
  must_be_free(c);
  must(c->capabilities.starttls);
  FMT_LITERAL(out, "STARTTLS\r\n");
  must(!out->overflow);
  owe(c, SENT_STARTTLS);
  c->_state = CLIENT_ASKING;
}

static enum smtp_client_event on_starttls(struct smtp_client *c, struct fmt *out) {
  (void)out;
  c->_state = CLIENT_SECURING;
  return SMTP_CLIENT_TLS;
}

static enum smtp_client_event on_starttls_refused(struct smtp_client *c, struct fmt *out) {
  (void)out;
  c->_state = CLIENT_READY;
  return SMTP_CLIENT_TLS_REFUSED;
}

void smtp_client_secured(struct smtp_client *c, struct fmt *out) {
  must(c->_state == CLIENT_SECURING);
  command_answered(c);
  c->capabilities = (struct smtp_client_capabilities){.esmtp = false};
  c->_state = CLIENT_OPENING;
  write_hello(c, SENT_EHLO, out);
  must(!out->overflow);
}

bool smtp_client_can_auth(const struct smtp_client *c) { return c->capabilities.auth_plain || c->capabilities.auth_login; }

/* RFC 4616: nobody to act for, name, password. */
static void write_plain(struct span name, struct span password, struct fmt *out) {
  uint8_t room[2 * SMTP_CLIENT_SECRET_MAX + 2];
  struct fmt text = fmt_over(room, sizeof room);
  fmt_char(&text, '\0');
  fmt_put(&text, name);
  fmt_char(&text, '\0');
  fmt_put(&text, password);
  base64_encode(out, fmt_span(&text));
  FMT_LITERAL(out, "\r\n");
}

static bool is_secret(struct span s) { return s.len <= SMTP_CLIENT_SECRET_MAX && (s.len == 0 || memchr(s.at, '\0', s.len) == NULL); }

void smtp_client_auth(struct smtp_client *c, struct span name, struct span password, struct fmt *out) {
  must_be_free(c);
  must(smtp_client_can_auth(c) && is_secret(name) && is_secret(password));
  if (c->capabilities.auth_plain) {
    FMT_LITERAL(out, "AUTH PLAIN ");
    write_plain(name, password, out);
    owe(c, SENT_AUTH_PLAIN);
  } else {
    FMT_LITERAL(out, "AUTH LOGIN\r\n");
    owe(c, SENT_AUTH_LOGIN);
    c->_name = name;
    c->_password = password;
  }
  must(!out->overflow);
  c->_state = CLIENT_ASKING;
}

/* What a server of LOGIN asks for is not looked at: the order is always the same, the words are not. */
static enum smtp_client_event on_login(struct smtp_client *c, struct fmt *out) {
  base64_encode(out, c->_name);
  FMT_LITERAL(out, "\r\n");
  owe(c, SENT_NAME);
  return NO_EVENT;
}

static enum smtp_client_event on_name(struct smtp_client *c, struct fmt *out) {
  base64_encode(out, c->_password);
  FMT_LITERAL(out, "\r\n");
  owe(c, SENT_PASSWORD);
  return NO_EVENT;
}

static enum smtp_client_event auth_ended(struct smtp_client *c, enum smtp_client_event event) {
  c->_state = CLIENT_READY;
  c->_name = c->_password = (struct span){NULL, 0};
  return event;
}

static enum smtp_client_event on_authenticated(struct smtp_client *c, struct fmt *out) {
  (void)out;
  return auth_ended(c, SMTP_CLIENT_AUTHENTICATED);
}

static enum smtp_client_event on_auth_refused(struct smtp_client *c, struct fmt *out) {
  (void)out;
  return auth_ended(c, SMTP_CLIENT_AUTH_REFUSED);
}

/* ---- the envelope. A reply always belongs to the older transaction: all its commands were written before those of the next. ---- */

/* Writes what comes next once all that was written is answered, and says which event is owed for it: nothing when pipelining has written it all. */
static enum smtp_client_event envelope_step(struct smtp_client *c, transaction *t, struct fmt *out) {
  if (t->answered < t->written || t->content_asked) return NO_EVENT;
  if (!t->mail_refused && t->written < t->envelope->recipients) {
    write_rcpt(c, t, out);
    return NO_EVENT;
  }
  if (is_wanted(t)) return write_content_command(c, t, out);
  c->_dirty = is_left_open(t);
  return SMTP_CLIENT_DONE;
}

static enum smtp_client_event on_mail(struct smtp_client *c, struct fmt *out) {
  c->_follow = envelope_step(c, &c->_transaction[0], out);
  return NO_EVENT;
}

static enum smtp_client_event on_mail_refused(struct smtp_client *c, struct fmt *out) {
  transaction *t = &c->_transaction[0];
  t->mail_refused = true;
  c->_follow = envelope_step(c, t, out);
  return SMTP_CLIENT_MAIL;
}

static enum smtp_client_event on_rcpt(struct smtp_client *c, struct fmt *out) {
  transaction *t = &c->_transaction[0];
  c->recipient = t->answered++;
  if (c->reply.code < 300) t->accepted++; /* 250, 251, and 252: it will try */
  c->_follow = envelope_step(c, t, out);
  return t->mail_refused ? NO_EVENT : SMTP_CLIENT_RCPT;
}

/* ---- the content ---- */

static enum smtp_client_event on_data(struct smtp_client *c, struct fmt *out) {
  transaction *t = &c->_transaction[0];
  /* To end this DATA would be to send an empty message to recipients whose sender was refused. Only hanging up is safe. */
  if (t->mail_refused && t->accepted > 0) return break_off(c, "RCPT and DATA were taken after MAIL was refused");
  owe(c, SENT_CONTENT);
  if (is_wanted(t)) {
    transaction_enter(t, TRANSACTION_SENDING);
    return SMTP_CLIENT_CONTENT;
  }
  FMT_LITERAL(out, ".\r\n"); /* RFC 2920 3.1: a lone dot for a server that takes DATA without recipients */
  transaction_enter(t, TRANSACTION_EMPTIED);
  return NO_EVENT;
}

static enum smtp_client_event on_data_refused(struct smtp_client *c, struct fmt *out) {
  (void)out;
  const transaction *t = &c->_transaction[0];
  c->_dirty = is_left_open(t);
  c->_follow = SMTP_CLIENT_DONE;
  return is_wanted(t) ? SMTP_CLIENT_DATA : NO_EVENT;
}

static enum smtp_client_event on_bdat(struct smtp_client *c, struct fmt *out) {
  (void)out;
  c->_follow = SMTP_CLIENT_DONE;
  return is_wanted(&c->_transaction[0]) ? SMTP_CLIENT_FINAL : NO_EVENT;
}

static enum smtp_client_event on_bdat_refused(struct smtp_client *c, struct fmt *out) {
  (void)out;
  c->_dirty = !is_open(&c->_transaction[1]); /* else the RSET was written before the MAIL of that one */
  c->_follow = SMTP_CLIENT_DONE;
  return is_wanted(&c->_transaction[0]) ? SMTP_CLIENT_DATA : NO_EVENT;
}

/* Whatever the answer, the end of DATA closes the transaction on the other side (RFC 5321 4.1.1.4). */
static enum smtp_client_event on_final(struct smtp_client *c, struct fmt *out) {
  (void)out;
  c->_follow = SMTP_CLIENT_DONE;
  return c->_transaction[0].state == TRANSACTION_EMPTIED ? NO_EVENT : SMTP_CLIENT_FINAL;
}

static enum smtp_client_event on_rset(struct smtp_client *c, struct fmt *out) {
  transaction *t = &c->_transaction[0];
  if (t->state == TRANSACTION_WAITING) {
    transaction_enter(t, TRANSACTION_ENVELOPE);
    write_mail(c, t, out);
  }
  return NO_EVENT;
}

static enum smtp_client_event on_quit(struct smtp_client *c, struct fmt *out) {
  (void)out;
  c->_state = CLIENT_OVER;
  return NO_EVENT;
}

/* ---- the machine ---- */

/* Hands out the event that was owed. DONE makes the next transaction the older one. */
static enum smtp_client_event follow_take(struct smtp_client *c) {
  enum smtp_client_event event = c->_follow;
  c->_follow = NO_EVENT;
  c->tag = c->_transaction[0].tag;
  if (event == SMTP_CLIENT_DONE) {
    transaction_enter(&c->_transaction[0], TRANSACTION_NONE);
    c->_transaction[0] = c->_transaction[1];
    c->_transaction[1] = (transaction){.envelope = NULL};
  }
  return event;
}

/* Is this the answer to content that is still being sent? RFC 5321 knows none, but servers refuse early, and a completion may be seen late. */
static bool is_early(const struct smtp_client *c, enum command command) {
  return (command == SENT_CONTENT || command == SENT_BDAT) && c->_transaction[0].state == TRANSACTION_SENDING;
}

static const char behind_starttls[] = "bytes in the clear behind the answer to STARTTLS";

/* One reply meets the oldest command. A command whose answer ends the connection stays, so that smtp_client_stage can name it. */
static enum smtp_client_event reply_take(struct smtp_client *c, struct span *in, struct fmt *out) {
  struct span before = *in;
  int got = reply_parse(&c->reply, in);
  if (got == 0) return SMTP_CLIENT_NEED_INPUT;
  if (got < 0) return break_off(c, "not an SMTP reply");
  if (c->reply.code == 421) return on_refused(c, out);
  enum command command = oldest_command(c);
  if (command == SENT_INVALID) return break_off(c, "a reply to no command");

  const struct rule *rule = &rules[command];
  unsigned class = c->reply.code / 100;
  handler *handle = class == rule->good ? rule->yes : class >= 4 ? rule->no : NULL;
  if (handle == NULL) return break_off(c, rule->wrong);
  bool early = is_early(c, command);
  if (early && class == rule->good) {
    *in = before;
    return SMTP_CLIENT_NEED_INPUT;
  }
  c->tag = c->_transaction[0].tag;
  enum smtp_client_event event = handle(c, out);
  must(!out->overflow);
  if (event == SMTP_CLIENT_REFUSED || event == SMTP_CLIENT_BROKEN) return event;
  if (event == SMTP_CLIENT_TLS) return in->len > 0 ? break_off(c, behind_starttls) : event; /* the command is under way until smtp_client_secured */
  command_answered(c);
  if (early) {
    c->broken = "the content was refused before its end was sent";
    c->_state = CLIENT_BREAKING;
  }
  return event;
}

void smtp_client_init(struct smtp_client *c, const struct smtp_client_options *options) {
  must(options->hostname.len <= ADDRESS_DOMAIN_MAX);
  *c = (struct smtp_client){._options = options, ._state = CLIENT_OPENING};
  owe(c, SENT_CONNECT);
}

enum smtp_client_event smtp_client_next(struct smtp_client *c, struct span *in, struct fmt *out) {
  for (;;) {
    if (c->_follow != NO_EVENT) return follow_take(c);
    if (c->_state == CLIENT_BREAKING) return break_off(c, c->broken);
    if (c->_state == CLIENT_OVER) {
      *in = span_skip(*in, in->len);
      return SMTP_CLIENT_NEED_INPUT;
    }
    if (c->_state == CLIENT_SECURING) return in->len == 0 ? SMTP_CLIENT_NEED_INPUT : break_off(c, behind_starttls);
    enum smtp_client_event event = reply_take(c, in, out);
    if (event != NO_EVENT) return event;
  }
}

bool smtp_client_can_begin(const struct smtp_client *c) {
  if (c->_state != CLIENT_READY) return false;
  if (c->capabilities.messages_max > 0 && c->transactions_begun >= c->capabilities.messages_max) return false;
  if (!is_open(&c->_transaction[0])) return true;
  return c->_options->pipeline_messages && is_pipelining(c) && c->_transaction[0].state == TRANSACTION_SENT && !is_open(&c->_transaction[1]);
}

uint32_t smtp_client_recipients_max(const struct smtp_client *c) {
  return (uint32_t)limit_min(SMTP_CLIENT_RECIPIENTS_MAX, c->capabilities.recipients_max);
}

enum smtp_client_unfit smtp_client_fit(const struct smtp_client *c, const struct smtp_client_envelope *envelope) {
  if (c->capabilities.size_max > 0 && envelope->size > c->capabilities.size_max) return SMTP_UNFIT_SIZE;
  if (envelope->smtputf8 && !c->capabilities.smtputf8) return SMTP_UNFIT_UTF8;
  if (envelope->eight_bit && !c->capabilities.eight_bit) return SMTP_UNFIT_8BIT;
  if (envelope->require_tls && !c->capabilities.require_tls) return SMTP_UNFIT_TLS;
  return SMTP_FIT;
}

/* ---- the caller's part of a transaction ---- */

#define RSET_ROOM (sizeof "RSET\r\n" - 1)
#define MAIL_ROOM (sizeof "MAIL FROM:<> SIZE=18446744073709551615 BODY=8BITMIME SMTPUTF8 REQUIRETLS RET=FULL ENVID=\r\n" - 1)
#define RCPT_ROOM (sizeof "RCPT TO:<> NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=\r\n" - 1)
#define BDAT_ROOM (sizeof "BDAT 18446744073709551615 LAST\r\n" - 1)

_Static_assert(MAIL_ROOM + ADDRESS_MAX + SMTP_CLIENT_ENVID_MAX + 2 * (RCPT_ROOM + ADDRESS_MAX + SMTP_CLIENT_ORCPT_MAX) <= SMTP_CLIENT_ROOM,
               "a server that answers MAIL and the first RCPT before they are sent gets three lines out of one call");

size_t smtp_client_begin_room(const struct smtp_client_envelope *envelope) {
  size_t room = RSET_ROOM + MAIL_ROOM + envelope->sender.len + envelope->envid.len + BDAT_ROOM;
  for (uint32_t i = 0; i < envelope->recipients; i++) room += RCPT_ROOM + envelope->recipient[i].address.len + envelope->recipient[i].orcpt.len;
  return room;
}

/* No byte that could end the command line on the other side: the one defence of what we write against what we were given. */
static bool is_one_line(struct span s) {
  bool ends = false;
  for (size_t i = 0; i < s.len; i++) ends |= (s.at[i] == '\r') | (s.at[i] == '\n') | (s.at[i] == '\0');
  return !ends;
}

static void envelope_must_be_sound(const struct smtp_client *c, const struct smtp_client_envelope *envelope) {
  must(smtp_client_fit(c, envelope) == SMTP_FIT);
  must(envelope->recipients > 0 && envelope->recipients <= smtp_client_recipients_max(c));
  must(envelope->sender.len <= ADDRESS_MAX && is_one_line(envelope->sender) && is_one_line(envelope->envid));
  for (uint32_t i = 0; i < envelope->recipients; i++) {
    const struct smtp_client_recipient *recipient = &envelope->recipient[i];
    must(recipient->address.len <= ADDRESS_MAX && is_one_line(recipient->address) && is_one_line(recipient->orcpt));
  }
}

/*
 * RSET goes before MAIL after an envelope that failed with its MAIL accepted, and behind any BDAT that was refused or is not answered yet: its
 * envelope may have failed, and then this MAIL would be refused as nested, and its recipients would be added to the other's sender. (Behind
 * the end of DATA no RSET is needed: somebody had been accepted, and any answer closes the transaction.)
 */
bool smtp_client_begin(struct smtp_client *c, const struct smtp_client_envelope *envelope, uint32_t tag, struct fmt *out) {
  must(smtp_client_can_begin(c));
  envelope_must_be_sound(c, envelope);
  const transaction *older = &c->_transaction[0];
  bool behind = is_open(older);
  bool reset = c->_dirty || (behind && older->chunked);
  must(!behind || older->tag != tag);
  transaction *t = &c->_transaction[behind];
  *t = (transaction){.envelope = envelope, .tag = tag};
  t->chunked = c->_options->chunking && c->capabilities.chunking && !envelope->leading_dot;
  c->transactions_begun++;

  if (reset) write_rset(c, out);
  bool waits = reset && !is_pipelining(c);
  transaction_enter(t, waits ? TRANSACTION_WAITING : TRANSACTION_ENVELOPE);
  if (!waits) write_mail(c, t, out);
  bool ahead = false;
  if (is_pipelining(c)) {
    while (t->written < envelope->recipients) write_rcpt(c, t, out);
    if (!t->chunked || envelope->size <= SMTP_CLIENT_AHEAD_MAX) ahead = write_content_command(c, t, out) == SMTP_CLIENT_CONTENT;
  }
  must(!out->overflow);
  return ahead;
}

static const transaction *transaction_find(const struct smtp_client *c, uint32_t tag) {
  for (size_t i = 0; i < SMTP_CLIENT_TRANSACTIONS; i++)
    if (is_open(&c->_transaction[i]) && c->_transaction[i].tag == tag) return &c->_transaction[i];
  return NULL;
}

bool smtp_client_wants_dot(const struct smtp_client *c, uint32_t tag) {
  const transaction *t = transaction_find(c, tag);
  must(t != NULL);
  return !t->chunked;
}

void smtp_client_content_sent(struct smtp_client *c, uint32_t tag) {
  if (is_over(c)) return;
  transaction *t = (transaction *)transaction_find(c, tag);
  must(t != NULL);
  transaction_enter(t, TRANSACTION_SENT);
}

void smtp_client_quit(struct smtp_client *c, struct fmt *out) {
  must(c->_state == CLIENT_READY || is_over(c));
  FMT_LITERAL(out, "QUIT\r\n"); /* RFC 5321 3.1 wants it even behind a refusing greeting */
  must(!out->overflow);
  if (is_over(c)) return;
  must(c->_command_count == 0 || is_pipelining(c));
  for (size_t i = 0; i < SMTP_CLIENT_TRANSACTIONS; i++) must(!is_open(&c->_transaction[i]) || c->_transaction[i].state == TRANSACTION_SENT);
  owe(c, SENT_QUIT);
  c->_state = CLIENT_QUITTING;
}

enum smtp_client_stage smtp_client_stage(const struct smtp_client *c) {
  if (c->_transaction[0].state == TRANSACTION_SENDING) return SMTP_STAGE_CONTENT;
  return c->_command_count == 0 ? SMTP_STAGE_IDLE : (enum smtp_client_stage)rules[oldest_command(c)].stage;
}

const char *smtp_client_stage_text(enum smtp_client_stage stage) {
  static const char *const text[] = {
      [SMTP_STAGE_GREETING] = "connection", [SMTP_STAGE_EHLO] = "EHLO", [SMTP_STAGE_STARTTLS] = "STARTTLS", [SMTP_STAGE_AUTH] = "AUTH",
      [SMTP_STAGE_MAIL] = "MAIL",           [SMTP_STAGE_RCPT] = "RCPT", [SMTP_STAGE_DATA] = "DATA",         [SMTP_STAGE_CONTENT] = "content",
      [SMTP_STAGE_FINAL] = "end of DATA",   [SMTP_STAGE_RSET] = "RSET", [SMTP_STAGE_QUIT] = "QUIT",         [SMTP_STAGE_IDLE] = "idle",
  };
  return text[stage];
}
