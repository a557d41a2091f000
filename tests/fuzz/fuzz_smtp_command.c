/* A whole session: replies, what the caller is asked, and content do not depend on where the stream is cut. The first octet of the input chooses the cuts. */
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

static void play(struct trace *t, struct span bytes, size_t step) {
  static const struct smtp_server_options options = {.hostname = SPAN("relay"),
                                                     .message_size_max = 300,
                                                     .recipients_max = 3,
                                                     .messages_max = 4,
                                                     .errors_max = 15,
                                                     .idle_commands_max = 20,
                                                     .surplus_max = 5};
  uint8_t room[SMTP_REPLY_ROOM];
  struct fmt out = fmt_over(room, sizeof room);
  smtp_server_init(&t->server, &options, &out);
  size_t used = 0, fed = 0; /* what is left is presented again, with more behind it */
  while (fed < bytes.len && !t->closed) {
    fed += bytes.len - fed < step ? bytes.len - fed : step;
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
    must(in.len < SMTP_LINE_MAX && (in.len == 0 || !smtp_server_in_content(&t->server)));
    free(exact);
  }
  must(!t->replies.overflow && !t->asked.overflow);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
  static uint8_t room[4][TRACE_MAX];
  if (len < 1 || len > 65536) return 0;
  struct trace whole = {.replies = fmt_over(room[0], TRACE_MAX), .asked = fmt_over(room[1], TRACE_MAX)};
  struct trace cut = {.replies = fmt_over(room[2], TRACE_MAX), .asked = fmt_over(room[3], TRACE_MAX)};
  play(&whole, span_of(bytes + 1, len - 1), len);
  play(&cut, span_of(bytes + 1, len - 1), 1 + bytes[0] % 100);
  if (!smtp_server_in_content(&whole.server) || smtp_server_in_transaction(&whole.server))
    must(span_equal(fmt_span(&whole.asked), fmt_span(&cut.asked)));
  must(span_equal(fmt_span(&whole.replies), fmt_span(&cut.replies)) && whole.closed == cut.closed);
  must(whole.server.messages == cut.server.messages && whole.server.recipients == cut.server.recipients);
  return 0;
}
