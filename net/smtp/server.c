#include "net/smtp/server.h"

#include "net/smtp/inside.h"

/* ---- phases ---- */

const uint16_t server_moves[PHASES] = {
    [PHASE_INVALID] = BIT(PHASE_GREETED),
    [PHASE_GREETED] = BIT(PHASE_READY) | BIT(PHASE_SKIP) | BIT(PHASE_GREETED),
    [PHASE_READY] = BIT(PHASE_READY) | BIT(PHASE_MAIL) | BIT(PHASE_SKIP) | BIT(PHASE_AUTH) | BIT(PHASE_TLS),
    [PHASE_AUTH] = BIT(PHASE_AUTH) | BIT(PHASE_READY),
    [PHASE_TLS] = BIT(PHASE_GREETED),
    [PHASE_MAIL] = BIT(PHASE_READY) | BIT(PHASE_RCPT) | BIT(PHASE_SKIP),
    [PHASE_RCPT] = BIT(PHASE_READY) | BIT(PHASE_RCPT) | BIT(PHASE_CONTENT) | BIT(PHASE_CHUNK) | BIT(PHASE_SKIP),
    [PHASE_CHUNKED] = BIT(PHASE_READY) | BIT(PHASE_CHUNK) | BIT(PHASE_SKIP),
    [PHASE_CONTENT] = BIT(PHASE_ENDED),
    [PHASE_CHUNK] = BIT(PHASE_CHUNKED) | BIT(PHASE_ENDED) | BIT(PHASE_READY),
    [PHASE_ENDED] = BIT(PHASE_READY),
    [PHASE_SKIP] = BIT(PHASE_GREETED) | BIT(PHASE_READY) | BIT(PHASE_MAIL) | BIT(PHASE_RCPT),
};

/* What a step returns when there is nothing for the caller to do. */
#define GO_ON SMTP_SERVER_INVALID

/* ---- replies ---- */

static enum smtp_server_event hang_up(struct smtp_server *s, struct fmt *out, struct span reply) {
  say(out, reply);
  phase_enter(s, PHASE_CLOSED);
  return GO_ON;
}

/* Tells the caller of a reply by which a message was refused. */
static enum smtp_server_event refused(struct smtp_server *s, struct span reply) {
  s->refusal = reply;
  return SMTP_SERVER_REFUSED;
}

bool server_fails_too_often(struct smtp_server *s, struct fmt *out) {
  s->_idle_commands++;
  if (++s->errors <= s->_options->errors_max) return false;
  hang_up(s, out, SPAN("421 4.7.0 Too many errors, closing connection\r\n"));
  return true;
}

/* Answers a command that is wrong or out of order. */
static enum smtp_server_event fail(struct smtp_server *s, struct fmt *out, struct span reply) {
  if (!server_fails_too_often(s, out)) say(out, reply);
  return GO_ON;
}

/* May the client authenticate now? */
static bool auth_is_offered(const struct smtp_server *s) {
  return s->_options->auth_mechanisms.len > 0 && !s->authenticated && (s->tls || (s->_options->auth_in_clear && !s->_options->tls_required));
}

static bool starttls_is_offered(const struct smtp_server *s) { return s->_options->starttls && !s->tls; }

static void say_ehlo(const struct smtp_server *s, struct fmt *out) {
  const struct smtp_server_options *o = s->_options;
  fmt_text(out, "250-");
  fmt_put(out, o->hostname);
  fmt_text(out, "\r\n250-PIPELINING\r\n250-SIZE ");
  fmt_u64(out, o->message_size_max);
  fmt_text(out, "\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n250-DSN\r\n250-CHUNKING\r\n");
  if (starttls_is_offered(s)) fmt_text(out, "250-STARTTLS\r\n");
  if (s->tls) fmt_text(out, "250-REQUIRETLS\r\n");
  if (auth_is_offered(s)) {
    fmt_text(out, "250-AUTH ");
    fmt_put(out, o->auth_mechanisms);
    fmt_text(out, "\r\n");
  }
  fmt_text(out, "250 LIMITS RCPTMAX=");
  fmt_u64(out, o->recipients_max);
  if (o->messages_max > 0) {
    fmt_text(out, " MAILMAX=");
    fmt_u64(out, o->messages_max);
  }
  fmt_text(out, "\r\n");
}

/* ---- the transaction ---- */

static enum smtp_server_event ask(struct smtp_server *s, enum smtp_server_event event) {
  s->_pending = (uint8_t)event;
  return event;
}

static bool in_transaction(const struct smtp_server *s) {
  if ((BIT(s->_phase) & IN_TRANSACTION) != 0) return true;
  return (BIT(s->_phase) & IN_CONTENT & ~BIT(PHASE_SKIP)) != 0 && !s->_forgotten;
}

void server_end_transaction(struct smtp_server *s) {
  s->recipients = 0;
  s->_utf8 = false;
  s->_forgotten = false;
  phase_enter(s, PHASE_READY);
}

static void content_begin(struct smtp_server *s, bool chunked) {
  s->chunked = chunked;
  s->content_size = 0;
  data_scan_init(&s->scan);
}

/* The size that SIZE speaks of: without what dot-stuffing added (RFC 1870 5). */
static uint64_t message_size(const struct smtp_server *s) { return s->content_size - s->scan.stuffed; }

/* How much content is thrown away to find its end before the connection is closed instead. */
static uint64_t patience(const struct smtp_server *s) {
  uint64_t max = s->_options->message_size_max;
  return max < UINT64_MAX / 4 ? 2 * max + 65536 : UINT64_MAX;
}

static const struct span message_too_big = SPAN("552 5.3.4 Message exceeds the size limit\r\n");
static const struct span far_too_big = SPAN("552 5.3.4 Message exceeds the size limit by far, closing connection\r\n");

/* Why the content cannot be accepted; empty: it can. By this order, not by what came first, because only so it does not depend on where
 * the stream was cut. */
static struct span content_fault(const struct smtp_server *s) {
  if (unlikely(message_size(s) > s->_options->message_size_max)) return message_too_big;
  if (unlikely(s->scan.received_headers > SMTP_RECEIVED_MAX)) return SPAN("554 5.4.6 Too many hops: mail loop\r\n");
  if (unlikely(s->scan.bare)) return SPAN("550 5.6.11 Bare CR or LF in the message: lines must end with CRLF\r\n");
  if (unlikely(s->scan.nul)) return SPAN("550 5.6.0 NUL in the message\r\n");
  if (unlikely(s->scan.long_header)) return SPAN("550 5.6.0 Header line longer than 65536 octets\r\n");
  return span_of(NULL, 0);
}

/* ---- commands: what is checked, and what is done ---- */

static struct span check_none(struct smtp_server *s, struct span argument) {
  (void)s;
  return argument.len == 0 ? argument : SPAN("501 5.5.4 This command takes no argument\r\n");
}

static struct span check_some(struct smtp_server *s, struct span argument) {
  (void)s;
  return argument.len > 0 ? span_of(NULL, 0) : SPAN("501 5.5.4 This command needs an argument\r\n");
}

static struct span check_nothing(struct smtp_server *s, struct span argument) {
  (void)s, (void)argument;
  return span_of(NULL, 0);
}

static struct span check_hello(struct smtp_server *s, struct span argument) { return command_hello(argument, &s->hello); }
/* REQUIRETLS is offered under TLS alone (RFC 8689 2). */
static struct span check_mail(struct smtp_server *s, struct span argument) {
  struct span fault = command_mail(argument, &s->mail);
  return fault.len == 0 && s->mail.require_tls && !s->tls ? SPAN("555 5.5.4 REQUIRETLS needs TLS\r\n") : fault;
}

static struct span check_rcpt(struct smtp_server *s, struct span argument) { return command_rcpt(argument, s->_utf8, &s->rcpt); }
static struct span check_bdat(struct smtp_server *s, struct span argument) { return command_bdat(argument, &s->_chunk_left, &s->_last_chunk); }

/* Of what is not there the grammar does not count. */
static struct span check_auth(struct smtp_server *s, struct span argument) {
  return s->_options->auth_mechanisms.len > 0 ? command_auth(argument, &s->auth) : span_of(NULL, 0);
}
static struct span check_starttls(struct smtp_server *s, struct span argument) {
  return s->_options->starttls ? check_none(s, argument) : span_of(NULL, 0);
}

static enum smtp_server_event hello(struct smtp_server *s, bool esmtp) {
  s->esmtp = esmtp;
  server_end_transaction(s);
  return SMTP_SERVER_HELLO;
}

static enum smtp_server_event proceed_ehlo(struct smtp_server *s, struct fmt *out) {
  say_ehlo(s, out);
  return hello(s, true);
}

static enum smtp_server_event proceed_helo(struct smtp_server *s, struct fmt *out) {
  fmt_text(out, "250 ");
  fmt_put(out, s->_options->hostname);
  fmt_text(out, "\r\n");
  return hello(s, false);
}

static enum smtp_server_event proceed_mail(struct smtp_server *s, struct fmt *out) {
  const struct smtp_server_options *o = s->_options;
  if (o->messages_max > 0 && s->messages >= o->messages_max) return hang_up(s, out, SPAN("421 4.7.0 Too many messages in one session\r\n"));
  if (s->mail.size <= o->message_size_max) return ask(s, SMTP_SERVER_MAIL);
  s->_idle_commands++;
  s->content_size = s->mail.size;
  say(out, message_too_big);
  return refused(s, message_too_big);
}

static enum smtp_server_event proceed_rcpt(struct smtp_server *s, struct fmt *out) {
  if (unlikely(s->_surplus >= s->_options->surplus_max)) return hang_up(s, out, SPAN("421 4.7.0 Too many recipients without a message\r\n"));
  if (s->recipients < s->_options->recipients_max) return ask(s, SMTP_SERVER_RCPT);
  s->_surplus++;
  say(out, SPAN("452 4.5.3 Too many recipients\r\n"));
  return GO_ON;
}

static const struct span no_recipients = SPAN("554 5.5.1 No valid recipients\r\n");

static enum smtp_server_event proceed_data(struct smtp_server *s, struct fmt *out) {
  if (s->recipients == 0) return fail(s, out, no_recipients);
  content_begin(s, false);
  return ask(s, SMTP_SERVER_DATA);
}

static const struct span out_of_order[PHASES] = {
    [PHASE_GREETED] = SPAN("503 5.5.1 Send EHLO or HELO first\r\n"),
    [PHASE_READY] = SPAN("503 5.5.1 Send MAIL first\r\n"),
    [PHASE_MAIL] = SPAN("503 5.5.1 Sender is given: send RCPT, or RSET\r\n"),
    [PHASE_RCPT] = SPAN("503 5.5.1 In a transaction: send RCPT, DATA, BDAT or RSET\r\n"),
    [PHASE_CHUNKED] = SPAN("503 5.5.1 In a message sent with BDAT: send BDAT or RSET\r\n"),
};

void server_skip_chunk(struct smtp_server *s, enum phase after, struct span reply) {
  must(reply.len <= sizeof s->_owed);
  memcpy(s->_owed, reply.at, reply.len);
  s->_owed_len = (uint8_t)reply.len;
  s->_phase_after = (uint8_t)after;
  phase_enter(s, PHASE_SKIP);
}

static enum smtp_server_event refuse_chunk(struct smtp_server *s, struct fmt *out) {
  if (server_fails_too_often(s, out)) return GO_ON;
  server_skip_chunk(s, s->_phase, s->_phase == PHASE_RCPT ? no_recipients : out_of_order[s->_phase]);
  return GO_ON;
}

static enum smtp_server_event refuse_size(struct smtp_server *s, uint64_t before) {
  s->_idle_commands++;
  s->content_size = before + s->_chunk_left;
  server_end_transaction(s);
  server_skip_chunk(s, PHASE_READY, message_too_big);
  return refused(s, message_too_big);
}

static enum smtp_server_event proceed_bdat(struct smtp_server *s, struct fmt *out) {
  uint64_t before = s->_phase == PHASE_CHUNKED ? message_size(s) : 0, max = s->_options->message_size_max;
  bool in_order = s->_phase == PHASE_CHUNKED || (s->_phase == PHASE_RCPT && s->recipients > 0);
  if (s->_phase == PHASE_RCPT) s->chunked = true;
  if (s->_chunk_left > patience(s)) {
    s->content_size = s->_chunk_left;
    hang_up(s, out, far_too_big);
    return in_order ? refused(s, far_too_big) : GO_ON;
  }
  if (s->_chunk_left == 0) s->_idle_commands++; /* else they could go on for ever */
  if (!in_order) return refuse_chunk(s, out);
  if (s->_chunk_left > max || before > max - s->_chunk_left) return refuse_size(s, before);
  if (s->_phase == PHASE_CHUNKED) {
    phase_enter(s, PHASE_CHUNK);
    return GO_ON;
  }
  content_begin(s, true);
  return ask(s, SMTP_SERVER_DATA);
}

static enum smtp_server_event proceed_rset(struct smtp_server *s, struct fmt *out) {
  bool open = in_transaction(s);
  say(out, SPAN("250 2.0.0 OK\r\n"));
  if (!open) return GO_ON;
  server_end_transaction(s);
  return SMTP_SERVER_RESET;
}

static enum smtp_server_event proceed_noop(struct smtp_server *s, struct fmt *out) {
  (void)s;
  say(out, SPAN("250 2.0.0 OK\r\n"));
  return GO_ON;
}

static enum smtp_server_event proceed_quit(struct smtp_server *s, struct fmt *out) { return hang_up(s, out, SPAN("221 2.0.0 Bye\r\n")); }

static enum smtp_server_event proceed_vrfy(struct smtp_server *s, struct fmt *out) {
  (void)s;
  say(out, SPAN("252 2.0.0 Cannot verify, but will take mail and try to deliver it\r\n")); /* RFC 5321 3.5.3 */
  return GO_ON;
}

static enum smtp_server_event proceed_help(struct smtp_server *s, struct fmt *out) {
  (void)s;
  say(out, SPAN("214 2.0.0 EHLO HELO MAIL RCPT DATA BDAT RSET NOOP QUIT VRFY HELP: see RFC 5321\r\n"));
  return GO_ON;
}

static enum smtp_server_event proceed_absent(struct smtp_server *s, struct fmt *out) {
  return fail(s, out, SPAN("502 5.5.1 Command not implemented\r\n"));
}

static enum smtp_server_event proceed_starttls(struct smtp_server *s, struct fmt *out) {
  if (!s->_options->starttls) return proceed_absent(s, out);
  if (s->tls) return fail(s, out, SPAN("503 5.5.1 TLS is on already\r\n"));
  if (s->_phase != PHASE_READY || !s->esmtp) return fail(s, out, SPAN("503 5.5.1 STARTTLS has its place after EHLO, outside of a transaction\r\n"));
  if (s->_more) return hang_up(s, out, SPAN("554 5.5.1 There is more behind STARTTLS: wait for its reply. Closing connection\r\n"));
  return ask(s, SMTP_SERVER_STARTTLS);
}

static enum smtp_server_event proceed_auth(struct smtp_server *s, struct fmt *out) {
  if (s->_options->auth_mechanisms.len == 0) return proceed_absent(s, out);
  if (s->authenticated) return fail(s, out, SPAN("503 5.5.1 Authenticated already\r\n"));
  if (!auth_is_offered(s)) return fail(s, out, SPAN("538 5.7.11 Encryption required: use STARTTLS first\r\n"));
  if (s->_phase != PHASE_READY || !s->esmtp) return fail(s, out, SPAN("503 5.5.1 AUTH has its place after EHLO, outside of a transaction\r\n"));
  return ask(s, SMTP_SERVER_AUTH);
}

static enum smtp_server_event proceed_unknown(struct smtp_server *s, struct fmt *out) {
  return fail(s, out, SPAN("500 5.5.1 Command not recognized\r\n"));
}

static enum smtp_server_event proceed_foreign(struct smtp_server *s, struct fmt *out) {
  return hang_up(s, out, SPAN("421 4.7.0 This is SMTP, closing connection\r\n"));
}

struct rule {
  uint16_t phases;                                                   /* in which the command is in order; in others the answer is 503 */
  bool idle;                                                         /* brings no message nearer */
  struct span (*check)(struct smtp_server *s, struct span argument); /* its grammar: returns the reply if it is wrong */
  enum smtp_server_event (*proceed)(struct smtp_server *s, struct fmt *out);
};

static const struct rule rules[COMMAND_VERBS] = {
    /* by sections of RFC 5321, if not said otherwise */
    [COMMAND_EHLO] = {COMMAND_PHASES, true, check_hello, proceed_ehlo},                    /* 4.1.1.1 */
    [COMMAND_HELO] = {COMMAND_PHASES, true, check_hello, proceed_helo},                    /* 4.1.1.1 */
    [COMMAND_MAIL] = {BIT(PHASE_READY), false, check_mail, proceed_mail},                  /* 4.1.1.2 */
    [COMMAND_RCPT] = {BIT(PHASE_MAIL) | BIT(PHASE_RCPT), false, check_rcpt, proceed_rcpt}, /* 4.1.1.3 */
    [COMMAND_DATA] = {BIT(PHASE_RCPT), false, check_none, proceed_data},                   /* 4.1.1.4 */
    [COMMAND_BDAT] = {COMMAND_PHASES, false, check_bdat, proceed_bdat},                    /* RFC 3030; out of order, it still has octets to eat */
    [COMMAND_RSET] = {COMMAND_PHASES, true, check_none, proceed_rset},                     /* 4.1.1.5 */
    [COMMAND_VRFY] = {COMMAND_PHASES, true, check_some, proceed_vrfy},                     /* 4.1.1.6 */
    [COMMAND_HELP] = {COMMAND_PHASES, true, check_nothing, proceed_help},                  /* 4.1.1.8 */
    [COMMAND_NOOP] = {COMMAND_PHASES, true, check_nothing, proceed_noop},                  /* 4.1.1.9 */
    [COMMAND_QUIT] = {COMMAND_PHASES, false, check_none, proceed_quit},                    /* 4.1.1.10 */
    [COMMAND_AUTH] = {COMMAND_PHASES, true, check_auth, proceed_auth},                     /* RFC 4954 4; where it is in order is said there */
    [COMMAND_STARTTLS] = {COMMAND_PHASES, true, check_starttls, proceed_starttls},         /* RFC 3207 4; likewise */
    [COMMAND_UNKNOWN] = {COMMAND_PHASES, false, check_nothing, proceed_unknown},           /* 4.2.4 */
    [COMMAND_ABSENT] = {COMMAND_PHASES, false, check_nothing, proceed_absent},             /* 4.2.4 */
    [COMMAND_FOREIGN] = {COMMAND_PHASES, false, check_nothing, proceed_foreign},
};

/* What is refused as long as the listener's conditions are not met (RFC 3207 4, RFC 4954 6). The others of a transaction are out of order then anyway. */
static struct span unmet_condition(const struct smtp_server *s, enum command_verb verb) {
  if (s->_options->tls_required && !s->tls && (verb == COMMAND_MAIL || verb == COMMAND_VRFY || verb == COMMAND_AUTH))
    return SPAN("530 5.7.0 Must issue a STARTTLS command first\r\n");
  if (s->_options->auth_required && !s->authenticated && (verb == COMMAND_MAIL || verb == COMMAND_VRFY))
    return SPAN("530 5.7.0 Authentication required\r\n");
  return span_of(NULL, 0);
}

static enum smtp_server_event obey(struct smtp_server *s, struct span line, struct fmt *out) {
  enum command_verb verb = command_read(&line);
  const struct rule *rule = &rules[verb];
  s->_idle_commands += rule->idle;
  if (unlikely(s->_idle_commands > s->_options->idle_commands_max)) return hang_up(s, out, SPAN("421 4.7.0 Too many commands without a message\r\n"));
  if (unlikely((rule->phases & BIT(s->_phase)) == 0)) return fail(s, out, out_of_order[s->_phase]);
  struct span fault = unmet_condition(s, verb);
  if (fault.len == 0) fault = rule->check(s, line);
  if (unlikely(fault.len > 0)) return fail(s, out, fault);
  return rule->proceed(s, out);
}

/* ---- steps: one for each phase ---- */

/* Takes what there is of a command line that is too long, and was answered. */
static enum smtp_server_event discard_line(struct smtp_server *s, struct span *in) {
  ptrdiff_t lf = span_find(*in, '\n');
  s->_overlong = lf < 0;
  if (in->len > 0) *in = span_skip(*in, s->_overlong ? in->len : (size_t)lf + 1);
  return s->_overlong ? SMTP_SERVER_NEED_INPUT : GO_ON;
}

/* One line without its CRLF, from the front of *in. */
enum line { LINE_WHOLE, LINE_INCOMPLETE, LINE_TOO_LONG, LINE_BARE, LINE_NUL };

static enum line take_line(struct smtp_server *s, struct span *in, size_t max, struct span *line) {
  *line = span_first(*in, max);
  ptrdiff_t lf = span_find(*line, '\n');
  if (lf < 0 && line->len < max) return LINE_INCOMPLETE;
  if (unlikely(lf < 0)) {
    s->_overlong = true;
    return LINE_TOO_LONG;
  }
  *line = span_first(*line, (size_t)lf);
  *in = span_skip(*in, (size_t)lf + 1);
  bool ended = line->len > 0 && line->at[line->len - 1] == '\r';
  line->len -= ended;
  if (unlikely(!ended || span_find(*line, '\r') >= 0)) return LINE_BARE;
  return unlikely(span_find(*line, '\0') >= 0) ? LINE_NUL : LINE_WHOLE;
}

static size_t line_max(const struct smtp_server *s, struct span in) {
  return in.len >= SMTP_LINE_MAX && auth_is_offered(s) && span_starts_nocase(in, SPAN("AUTH ")) ? SMTP_AUTH_LINE_MAX : SMTP_LINE_MAX;
}

static enum smtp_server_event step_command(struct smtp_server *s, struct span *in, struct fmt *out) {
  struct span line;
  if (unlikely(s->_overlong)) return discard_line(s, in);
  switch (take_line(s, in, line_max(s, *in), &line)) {
  case LINE_INCOMPLETE: return SMTP_SERVER_NEED_INPUT;
  case LINE_TOO_LONG: return fail(s, out, SPAN("500 5.5.2 Line too long\r\n"));
  case LINE_BARE: return fail(s, out, SPAN("500 5.5.2 Bare CR or LF: lines must end with CRLF\r\n"));
  case LINE_NUL: return fail(s, out, SPAN("500 5.5.2 NUL in a command\r\n"));
  default: break;
  }
  s->_more = in->len > 0;
  return obey(s, line, out);
}

static enum smtp_server_event auth_off(struct smtp_server *s, struct fmt *out, struct span reply) {
  phase_enter(s, PHASE_READY);
  (void)fail(s, out, reply);
  return SMTP_SERVER_AUTH_OFF;
}

static enum smtp_server_event step_auth(struct smtp_server *s, struct span *in, struct fmt *out) {
  struct span line;
  switch (take_line(s, in, SMTP_AUTH_LINE_MAX, &line)) {
  case LINE_INCOMPLETE: return SMTP_SERVER_NEED_INPUT;
  case LINE_TOO_LONG: return auth_off(s, out, SPAN("500 5.5.6 Authentication exchange line is too long\r\n")); /* RFC 4954 6 */
  case LINE_BARE: return auth_off(s, out, SPAN("501 5.5.2 Bare CR or LF: lines must end with CRLF\r\n"));
  case LINE_NUL: return auth_off(s, out, SPAN("501 5.5.2 NUL in a line of base64\r\n"));
  default: break;
  }
  s->auth_line = line;
  return ask(s, SMTP_SERVER_AUTH_LINE);
}

static enum smtp_server_event step_tls(struct smtp_server *s, struct span *in, struct fmt *out) {
  (void)s, (void)out;
  must(in->len == 0); /* it would be obeyed as if it had come in clear */
  return SMTP_SERVER_NEED_INPUT;
}

/* After each feed of the scanner: hands the content out, as long as it is legal. */
static enum smtp_server_event hand_out(struct smtp_server *s, struct fmt *out, bool ended) {
  s->content_size += s->content.len;
  if (unlikely(s->content_size > patience(s))) {
    hang_up(s, out, far_too_big);
    return refused(s, far_too_big);
  }
  if (ended) phase_enter(s, PHASE_ENDED);
  if (unlikely(s->_forgotten)) return GO_ON;
  if (unlikely(content_fault(s).len > 0)) {
    s->_forgotten = true;
    return SMTP_SERVER_RESET;
  }
  return s->content.len > 0 ? SMTP_SERVER_CONTENT : GO_ON;
}

static enum smtp_server_event step_content(struct smtp_server *s, struct span *in, struct fmt *out) {
  if (in->len == 0) return SMTP_SERVER_NEED_INPUT;
  bool ended = data_scan_feed(&s->scan, in, &s->content);
  return hand_out(s, out, ended);
}

/* The answer to content that cannot be accepted. */
static enum smtp_server_event end_with_fault(struct smtp_server *s, struct fmt *out, struct span fault) {
  say(out, fault);
  s->_idle_commands++;
  server_end_transaction(s);
  return refused(s, fault);
}

/* All octets of a BDAT are there. */
static enum smtp_server_event end_chunk(struct smtp_server *s, struct fmt *out) {
  struct span fault = content_fault(s);
  if (fault.len > 0) return end_with_fault(s, out, fault);
  if (s->_last_chunk) {
    s->content = data_scan_finish(&s->scan);
    s->content_size += s->content.len;
    phase_enter(s, PHASE_ENDED);
    return s->content.len > 0 ? SMTP_SERVER_CONTENT : GO_ON;
  }
  say(out, SPAN("250 2.0.0 Octets received\r\n"));
  phase_enter(s, PHASE_CHUNKED);
  return GO_ON;
}

static enum smtp_server_event step_chunk(struct smtp_server *s, struct span *in, struct fmt *out) {
  if (s->_chunk_left == 0) return end_chunk(s, out);
  if (in->len == 0) return SMTP_SERVER_NEED_INPUT;
  struct span chunk = s->_chunk_left < in->len ? span_first(*in, (size_t)s->_chunk_left) : *in;
  size_t len = chunk.len;
  data_scan_feed_chunk(&s->scan, &chunk, &s->content);
  *in = span_skip(*in, len - chunk.len);
  s->_chunk_left -= len - chunk.len;
  return hand_out(s, out, false);
}

static enum smtp_server_event step_ended(struct smtp_server *s, struct span *in, struct fmt *out) {
  (void)in;
  struct span fault = content_fault(s);
  if (fault.len > 0) return end_with_fault(s, out, fault);
  return ask(s, SMTP_SERVER_END);
}

static enum smtp_server_event step_skip(struct smtp_server *s, struct span *in, struct fmt *out) {
  size_t len = s->_chunk_left < in->len ? (size_t)s->_chunk_left : in->len;
  if (len > 0) *in = span_skip(*in, len);
  s->_chunk_left -= len;
  if (s->_chunk_left > 0) return SMTP_SERVER_NEED_INPUT;
  fmt_bytes(out, s->_owed, s->_owed_len);
  phase_enter(s, s->_phase_after);
  return GO_ON;
}

static enum smtp_server_event step_closed(struct smtp_server *s, struct span *in, struct fmt *out) {
  (void)s, (void)out;
  in->len = 0; /* after QUIT or 421 nothing counts */
  return SMTP_SERVER_CLOSE;
}

static enum smtp_server_event (*const steps[PHASES])(struct smtp_server *s, struct span *in, struct fmt *out) = {
    [PHASE_GREETED] = step_command, [PHASE_READY] = step_command,   [PHASE_MAIL] = step_command, [PHASE_RCPT] = step_command,
    [PHASE_CHUNKED] = step_command, [PHASE_CONTENT] = step_content, [PHASE_CHUNK] = step_chunk,  [PHASE_ENDED] = step_ended,
    [PHASE_SKIP] = step_skip,       [PHASE_CLOSED] = step_closed,   [PHASE_AUTH] = step_auth,    [PHASE_TLS] = step_tls,
};

enum smtp_server_event smtp_server_next(struct smtp_server *s, struct span *in, struct fmt *out) {
  must(s->_pending == SMTP_SERVER_INVALID);
  if (unlikely(s->_reset_due)) {
    s->_reset_due = false;
    return SMTP_SERVER_RESET;
  }
  for (;;) {
    if (unlikely(fmt_room(out) < SMTP_REPLY_ROOM) && s->_phase != PHASE_CLOSED) return SMTP_SERVER_FLUSH;
    enum smtp_server_event event = steps[s->_phase](s, in, out);
    if (event != GO_ON) return event;
  }
}

bool smtp_server_in_transaction(const struct smtp_server *s) { return in_transaction(s); }
bool smtp_server_in_content(const struct smtp_server *s) { return (BIT(s->_phase) & IN_CONTENT) != 0; }
