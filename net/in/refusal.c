/* Answers to what is not taken, and the events about what is refused for good. */
#include "core/base/error.h"
#include "net/in/inside.h"
#include "net/in/reception.h"

void session_refuse(struct session *s, struct fmt *out, unsigned code, const char *enhanced, const char *text) {
  count_add(s->intake->o.counters, COUNT_MESSAGES_REJECTED, 1);
  smtp_server_refuse(&s->server, out, code, enhanced, text);
}

void refusal_for(struct session *s, int error, struct fmt *out) {
  switch (error) {
  case E_NO_SPACE: session_refuse(s, out, 452, "4.3.1", "insufficient disk space, try again later"); break;
  case E_NO_MEMORY:
  case E_FULL: session_refuse(s, out, 452, "4.3.1", "insufficient memory, try again later"); break;
  default: session_refuse(s, out, 451, "4.3.0", "the message could not be stored, try again later"); break;
  }
}

/* What the rejection of a message has in common with that of a recipient. */
static struct reception_refusal refusal_of(const struct session *s, struct span reply, const char *command) {
  const struct submission *submission = s->submission;
  return (struct reception_refusal){
      .session = s->id,
      .peer = s->peer,
      .hello = buffer_span(&s->hello),
      .sender = submission == NULL ? s->server.mail.sender.whole : span_first(buffer_span(&submission->sender), submission->sender_len),
      .command = command,
      .reply = reply,
  };
}

void refusal_recipient(struct session *s, const char *text, const struct refusal_list *list, struct fmt *out) {
  uint8_t room[512]; /* RFC 5321 4.5.3.1.5 */
  struct fmt reply = fmt_over(room, sizeof room);
  fmt_text(&reply, "550 5.7.1 ");
  fmt_text(&reply, text);
  fmt_text(&reply, "\r\n");
  must(!reply.overflow);
  struct reception_refusal refusal = refusal_of(s, fmt_span(&reply), "RCPT");
  refusal.recipient = s->server.rcpt.recipient.whole;
  refusal.domain = s->server.rcpt.recipient.domain;
  if (list != NULL) refusal.list = list->name;
  if (list != NULL) refusal.list_answer = list->answer;
  reception_refused(&s->intake->o, &refusal);
  smtp_server_refuse(&s->server, out, 550, "5.7.1", text);
}

void refusal_message(struct session *s) {
  struct reception_refusal refusal = refusal_of(s, s->server.refusal, s->submission == NULL ? "MAIL" : s->server.chunked ? "BDAT" : "DATA");
  refusal.submission = s->submission;
  refusal.size = s->server.content_size;
  count_add(s->intake->o.counters, COUNT_MESSAGES_REJECTED, 1);
  reception_refused(&s->intake->o, &refusal);
}
