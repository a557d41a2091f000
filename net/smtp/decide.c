/* The server machine's other half: what the caller decides, and the beginning and end of a session. server.h is the contract of both. */
#include "net/smtp/inside.h"

static void say_parts(struct fmt *out, unsigned code, const char *enhanced, const char *text) {
  fmt_u64(out, code);
  fmt_char(out, ' ');
  fmt_text(out, enhanced);
  fmt_char(out, ' ');
  fmt_text(out, text);
  fmt_text(out, "\r\n");
}

static enum smtp_server_event decide(struct smtp_server *s) {
  enum smtp_server_event pending = s->_pending;
  must(pending != SMTP_SERVER_INVALID || s->_phase == PHASE_CLOSED);
  s->_pending = SMTP_SERVER_INVALID;
  return pending;
}

static void accept_mail(struct smtp_server *s, struct fmt *out) {
  say(out, SPAN("250 2.1.0 Sender OK\r\n"));
  s->_utf8 = s->mail.smtputf8;
  s->recipients = 0;
  phase_enter(s, PHASE_MAIL);
}

static void accept_rcpt(struct smtp_server *s, struct fmt *out) {
  say(out, SPAN("250 2.1.5 Recipient OK\r\n"));
  s->recipients++;
  phase_enter(s, PHASE_RCPT);
}

static void accept_data(struct smtp_server *s, struct fmt *out) {
  if (!s->chunked) say(out, SPAN("354 Send the message, end it with <CRLF>.<CRLF>\r\n"));
  phase_enter(s, s->chunked ? PHASE_CHUNK : PHASE_CONTENT);
}

static void accept_starttls(struct smtp_server *s, struct fmt *out) {
  say(out, SPAN("220 2.0.0 Ready to start TLS\r\n"));
  phase_enter(s, PHASE_TLS);
}

static void accept_auth(struct smtp_server *s, struct fmt *out) {
  say(out, SPAN("235 2.7.0 Authentication successful\r\n"));
  s->authenticated = true;
  phase_enter(s, PHASE_READY);
}

void smtp_server_accept(struct smtp_server *s, struct fmt *out) {
  switch (decide(s)) {
  case SMTP_SERVER_MAIL: accept_mail(s, out); break;
  case SMTP_SERVER_RCPT: accept_rcpt(s, out); break;
  case SMTP_SERVER_DATA: accept_data(s, out); break;
  case SMTP_SERVER_STARTTLS: accept_starttls(s, out); break;
  case SMTP_SERVER_AUTH:
  case SMTP_SERVER_AUTH_LINE: accept_auth(s, out); break;
  default: must(s->_phase == PHASE_CLOSED);
  }
}

void smtp_server_challenge(struct smtp_server *s, struct span text, struct fmt *out) {
  enum smtp_server_event pending = decide(s);
  if (s->_phase == PHASE_CLOSED) return;
  must(pending == SMTP_SERVER_AUTH || pending == SMTP_SERVER_AUTH_LINE);
  fmt_text(out, "334 ");
  fmt_put(out, text);
  fmt_text(out, "\r\n");
  phase_enter(s, PHASE_AUTH);
}

void smtp_server_accept_message(struct smtp_server *s, uint64_t id, struct fmt *out) {
  if (decide(s) != SMTP_SERVER_END) {
    must(s->_phase == PHASE_CLOSED);
    return;
  }
  fmt_text(out, "250 2.0.0 queued as ");
  fmt_hex64(out, id);
  fmt_text(out, "\r\n");
  s->messages++;
  s->_idle_commands = 0;
  s->_surplus = 0;
  server_end_transaction(s);
}

/* The answer to a refused DATA goes out at once, that to a BDAT after its octets. Either way the transaction is over: a second BDAT must not
 * pass for the first part of a message. */
static void refuse_data(struct smtp_server *s, struct fmt *out, unsigned code, const char *enhanced, const char *text) {
  server_end_transaction(s);
  s->_reset_due = true;
  if (!s->chunked) {
    say_parts(out, code, enhanced, text);
    return;
  }
  char room[SMTP_OWED_MAX];
  struct fmt owed = fmt_over(room, sizeof room);
  fmt_u64(&owed, code);
  fmt_char(&owed, ' ');
  fmt_text(&owed, enhanced);
  fmt_char(&owed, ' ');
  fmt_put(&owed, span_first(span_of_text(text), fmt_room(&owed) - 2));
  fmt_text(&owed, "\r\n");
  must(!owed.overflow);
  server_skip_chunk(s, PHASE_READY, fmt_span(&owed));
}

/* Each is a guess at a password, or may be one. */
static void refuse_auth(struct smtp_server *s, struct fmt *out, unsigned code, const char *enhanced, const char *text) {
  phase_enter(s, PHASE_READY);
  if (!server_fails_too_often(s, out)) say_parts(out, code, enhanced, text);
}

void smtp_server_refuse(struct smtp_server *s, struct fmt *out, unsigned code, const char *enhanced, const char *text) {
  enum smtp_server_event pending = decide(s);
  if (s->_phase == PHASE_CLOSED) return;
  if ((pending == SMTP_SERVER_AUTH || pending == SMTP_SERVER_AUTH_LINE) && code != 421) {
    refuse_auth(s, out, code, enhanced, text);
    return;
  }
  if (pending == SMTP_SERVER_RCPT && code / 100 == 4) {
    s->_surplus++;
  } else {
    s->_idle_commands++;
  }
  if (code == 421) {
    say_parts(out, code, enhanced, text);
    phase_enter(s, PHASE_CLOSED);
    return;
  }
  if (pending == SMTP_SERVER_DATA) {
    refuse_data(s, out, code, enhanced, text);
    return;
  }
  say_parts(out, code, enhanced, text);
  if (pending == SMTP_SERVER_RCPT) phase_enter(s, PHASE_RCPT);
  if (pending == SMTP_SERVER_END) server_end_transaction(s);
}

/* ---- the session ---- */

void smtp_server_init(struct smtp_server *s, const struct smtp_server_options *options, struct fmt *out) {
  *s = (struct smtp_server){._options = options};
  phase_enter(s, PHASE_GREETED);
  fmt_text(out, "220 ");
  fmt_put(out, options->hostname);
  fmt_text(out, " ESMTP Ringpost\r\n");
}

void smtp_server_secured(struct smtp_server *s) {
  if (s->_phase == PHASE_CLOSED) return;
  phase_enter(s, PHASE_GREETED);
  s->tls = true;
  s->esmtp = s->authenticated = false;
  s->mail = (struct smtp_mail){0};
}

void smtp_server_shut(struct smtp_server *s, const char *enhanced, const char *text, struct fmt *out) {
  if (s->_phase == PHASE_CLOSED) return;
  say_parts(out, 421, enhanced, text);
  s->_pending = SMTP_SERVER_INVALID;
  s->_reset_due = false;
  phase_enter(s, PHASE_CLOSED);
}
