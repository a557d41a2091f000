/*
 * A whole session: replies, what the caller is asked, and content do not depend on where the stream is cut. The first octet of the input chooses the cuts, its upper
 * bits what is offered. A read always ends behind a line STARTTLS: what comes after it is what TLS gives.
 */
#include <stdlib.h>

#include "core/base/must.h"
#include "net/smtp/server.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

#define TRACE_MAX (1 << 20)

struct trace {
  struct smtp_server server;
  struct fmt replies, asked; /* asked: decisions and the content of accepted messages, as text */
  size_t message_at;         /* in asked: where the present content begins */
  bool closed;
};

static bool is_odd(struct span s) {
  unsigned sum = 0;
  for (size_t i = 0; i < s.len; i++) sum += s.at[i];
  return sum % 7 == 3;
}

/* Decides by what the command says; never by anything that depends on the cuts. */
static void decide(struct trace *t, struct span on, struct fmt *out) {
  fmt_put(&t->asked, on);
  fmt_char(&t->asked, '\n');
  if (is_odd(on)) {
    smtp_server_refuse(&t->server, out, on.len % 5 == 4 ? 421 : 450, "4.7.1", "no");
  } else {
    smtp_server_accept(&t->server, out);
  }
  t->message_at = t->asked.len;
}

/* One exchange: three challenges at most. */
static void decide_auth(struct trace *t, struct span on, struct fmt *out) {
  must(!t->server.authenticated && !smtp_server_in_transaction(&t->server));
  fmt_put(&t->asked, on);
  fmt_char(&t->asked, '\n');
  if (is_odd(on)) {
    smtp_server_refuse(&t->server, out, on.len % 5 == 4 ? 421 : 535, "5.7.8", "no");
  } else if (on.len % 3 == 0) {
    smtp_server_accept(&t->server, out);
  } else {
    smtp_server_challenge(&t->server, SPAN("abcd"), out);
  }
  t->message_at = t->asked.len;
}

static void begin_tls(struct trace *t, struct fmt *out) {
  must(!t->server.tls);
  fmt_text(&t->asked, "TLS\n");
  t->message_at = t->asked.len;
  smtp_server_accept(&t->server, out);
  smtp_server_secured(&t->server);
}

static void end(struct trace *t, struct fmt *out) {
  must(t->asked.len - t->message_at == t->server.content_size && !t->server.scan.bare && !t->server.scan.nul);
  fmt_text(&t->asked, "\nEND\n");
  if (t->server.content_size % 3 == 2) {
    smtp_server_refuse(&t->server, out, 451, "4.3.0", "no");
  } else {
    smtp_server_accept_message(&t->server, 1, out);
  }
  t->message_at = t->asked.len;
}

static void refused(struct trace *t) {
  t->asked.len = t->message_at;
  fmt_put(&t->asked, t->server.refusal);
  t->message_at = t->asked.len;
}

static bool handle(struct trace *t, enum smtp_server_event event, struct fmt *out) {
  switch (event) {
  case SMTP_SERVER_NEED_INPUT: return false;
  case SMTP_SERVER_STARTTLS: begin_tls(t, out); break;
  case SMTP_SERVER_AUTH: decide_auth(t, t->server.auth.initial_given ? t->server.auth.initial : t->server.auth.mechanism, out); break;
  case SMTP_SERVER_AUTH_LINE: decide_auth(t, t->server.auth_line, out); break;
  case SMTP_SERVER_MAIL: decide(t, t->server.mail.sender.whole, out); break;
  case SMTP_SERVER_RCPT: decide(t, t->server.rcpt.recipient.whole, out); break;
  case SMTP_SERVER_DATA: decide(t, span_of(NULL, 0), out); break;
  case SMTP_SERVER_CONTENT: fmt_put(&t->asked, t->server.content); break;
  case SMTP_SERVER_END: end(t, out); break;
  case SMTP_SERVER_REFUSED: refused(t); break;
  case SMTP_SERVER_RESET: t->asked.len = t->message_at; break; /* how much of illegal content was handed out may differ */
  case SMTP_SERVER_CLOSE: t->closed = true; return false;
  default: break;
  }
  return true;
}

static bool has_starttls(struct span line) {
  for (; line.len >= 8; line = span_skip(line, 1))
    if (span_starts_nocase(line, SPAN("STARTTLS"))) return true;
  return false;
}

/* Where the read that begins at `from` ends. */
static size_t read_end(struct span bytes, size_t from, size_t step) {
  size_t end = bytes.len - from < step ? bytes.len : from + step;
  for (size_t i = from; i < end; i++) {
    if (bytes.at[i] != '\n') continue;
    size_t start = i;
    while (start > 0 && bytes.at[start - 1] != '\n') start--;
    if (has_starttls(span_of(bytes.at + start, i - start))) return i + 1;
  }
  return end;
}

static void play(struct trace *t, struct span bytes, size_t step, uint8_t offers) {
  const struct smtp_server_options options = {.hostname = SPAN("relay"),
                                              .message_size_max = 300,
                                              .recipients_max = 3,
                                              .messages_max = 4,
                                              .errors_max = 15,
                                              .idle_commands_max = 20,
                                              .surplus_max = 5,
                                              .auth_mechanisms = (offers & 1) != 0 ? SPAN("PLAIN") : span_of(NULL, 0),
                                              .auth_in_clear = (offers & 2) != 0,
                                              .auth_required = (offers & 4) != 0,
                                              .starttls = (offers & 8) != 0,
                                              .tls_required = (offers & 16) != 0};
  uint8_t room[SMTP_REPLY_ROOM];
  struct fmt out = fmt_over(room, sizeof room);
  smtp_server_init(&t->server, &options, &out);
  size_t used = 0, fed = 0; /* what is left is presented again, with more behind it */
  while (fed < bytes.len && !t->closed) {
    fed = read_end(bytes, fed, step);
    uint8_t *exact = malloc(fed - used);
    memcpy(exact, bytes.at + used, fed - used);
    struct span in = span_of(exact, fed - used);
    do {
      must(!out.overflow);
      fmt_put(&t->replies, fmt_span(&out));
      out = fmt_over(room, sizeof room);
    } while (handle(t, smtp_server_next(&t->server, &in, &out), &out));
    fmt_put(&t->replies, fmt_span(&out));
    out.len = 0;
    used = fed - in.len;
    must(in.len < (options.auth_mechanisms.len > 0 ? SMTP_AUTH_LINE_MAX : SMTP_LINE_MAX) && (in.len == 0 || !smtp_server_in_content(&t->server)));
    free(exact);
  }
  must(!t->replies.overflow && !t->asked.overflow);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
  static uint8_t room[4][TRACE_MAX];
  if (len < 1 || len > 65536) return 0;
  struct trace whole = {.replies = fmt_over(room[0], TRACE_MAX), .asked = fmt_over(room[1], TRACE_MAX)};
  struct trace cut = {.replies = fmt_over(room[2], TRACE_MAX), .asked = fmt_over(room[3], TRACE_MAX)};
  play(&whole, span_of(bytes + 1, len - 1), len, bytes[0] / 8);
  play(&cut, span_of(bytes + 1, len - 1), 1 + bytes[0] % 100, bytes[0] / 8);
  if (!smtp_server_in_content(&whole.server) || smtp_server_in_transaction(&whole.server))
    must(span_equal(fmt_span(&whole.asked), fmt_span(&cut.asked)));
  must(span_equal(fmt_span(&whole.replies), fmt_span(&cut.replies)) && whole.closed == cut.closed);
  must(whole.server.tls == cut.server.tls && whole.server.authenticated == cut.server.authenticated);
  must(whole.server.messages == cut.server.messages && whole.server.recipients == cut.server.recipients);
  return 0;
}
