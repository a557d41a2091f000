/*
 * A script of bytes plays the server and the caller: below 0x80 a byte from the server, from 0x80 a whole reply, from 0xa0 one more of these, from 0x90 an act of the caller.
 * Properties: the same events and commands however the server's bytes are cut; the events of a transaction in legal order, older before younger,
 * one DONE at its end; nothing taken that came between STARTTLS and TLS; never more replies taken than commands written; and when nothing is owed to us, nothing is left open (no deadlock).
 */
#include "net/smtp/client.h"
#include "net/smtp/server.h"

#define INPUT_MAX 32768
#define BEGUN_MAX 256

static const struct span replies[16] = {
    SPAN("220 mx\r\n"),
    SPAN("250-mx\r\n250-PIPELINING\r\n250-SIZE 1000000\r\n250-8BITMIME\r\n250-CHUNKING\r\n250-SMTPUTF8\r\n250 DSN\r\n"),
    SPAN("250-mx\r\n250-PIPELINING\r\n250 LIMITS RCPTMAX=2 MAILMAX=5\r\n"),
    SPAN("250 2.1.0 Ok\r\n"),
    SPAN("250-2.1.5 Ok\r\n250 2.1.5 really\r\n"),
    SPAN("354 go\r\n"),
    SPAN("550 5.1.1 no\r\n"),
    SPAN("452 4.2.2 full\r\n"),
    SPAN("503 5.5.1 sequence\r\n"),
    SPAN("421 4.3.2 bye\r\n"),
    SPAN("250-mx\r\n250 CHUNKING\r\n"),
    SPAN("250 ok\r\n250 ok\r\n354 go\r\n"),
    SPAN("250 ok\r\n550 no\r\n354 go\r\n"),
    SPAN("250 ok\r\n550 no\r\n503 no\r\n"),
    SPAN("550 no\r\n503 no\r\n503 no\r\n"),
    SPAN("221 bye\r\n"),
};
static const struct span secure_replies[4] = {
    SPAN("250-mx\r\n250-PIPELINING\r\n250-AUTH PLAIN LOGIN\r\n250 STARTTLS\r\n"),
    SPAN("250-mx\r\n250-AUTH=LOGIN\r\n250 STARTTLS\r\n"),
    SPAN("220 go\r\n"),
    SPAN("235 2.7.0 welcome\r\n"),
};

static const struct smtp_client_recipient recipients[3] = {
    {.address = SPAN("b@b.test"), .orcpt = SPAN("rfc822;b@b.test"), .notify = SMTP_NOTIFY_FAILURE},
    {.address = SPAN("c@b.test")},
    {.address = SPAN("d@b.test")}};
static const struct smtp_client_envelope envelopes[8] = {
    {.sender = SPAN("a@a.test"), .recipients = 1, .recipient = recipients, .size = 10},
    {.sender = SPAN("a@a.test"), .recipients = 1, .recipient = recipients, .size = 10, .leading_dot = true},
    {.recipients = 2, .recipient = recipients, .size = 0, .ret = SMTP_RET_FULL, .envid = SPAN("x")},
    {.sender = SPAN("a@a.test"), .recipients = 3, .recipient = recipients, .size = 999999},
    {.sender = SPAN("a@a.test"), .recipients = 3, .recipient = recipients, .size = 10, .eight_bit = true},
    {.sender = SPAN("a@a.test"), .recipients = 1, .recipient = recipients, .size = 10, .smtputf8 = true, .eight_bit = true},
    {.sender = SPAN("a@a.test"), .recipients = 1, .recipient = recipients, .size = 2000000},
    {.sender = SPAN("a@a.test"), .recipients = 2, .recipient = recipients, .size = 300000, .leading_dot = true},
};

/* What a caller may believe about one transaction. */
struct belief {
  unsigned recipients, answered, accepted;
  bool mail_refused, asked, sent, verdict;
};

struct play {
  struct smtp_client client;
  struct smtp_client_options options;
  uint8_t input[INPUT_MAX];
  size_t input_len, used, heard;
  uint64_t hash; /* of all events and commands */
  long owed;     /* replies, by what was written and what was taken */
  struct belief beliefs[BEGUN_MAX];
  unsigned begun, done;
  bool dead, quit, ready;
  bool asking;   /* STARTTLS or AUTH is under way */
  bool securing; /* ... the handshake */
};

static void mix(struct play *p, uint64_t value) { p->hash = (p->hash ^ value) * 0x100000001b3u; }

/* From here on what the server says is thrown away. */
static bool is_over(const struct play *p) { return p->dead || (p->quit && p->owed == 0); }

static void take_output(struct play *p, struct fmt *out) {
  must(!out->overflow);
  for (size_t i = 0; i < out->len; i++) {
    mix(p, out->at[i]);
    must((out->at[i] >= 0x20 && out->at[i] < 0x7f) || out->at[i] == '\r' || out->at[i] == '\n');
    p->owed += out->at[i] == '\n';
  }
  must(out->len == 0 || out->at[out->len - 1] == '\n');
}

static void check_event(struct play *p, enum smtp_client_event event) {
  const struct smtp_client *c = &p->client;
  struct belief *t = &p->beliefs[p->done];
  must(!p->dead);
  if (event == SMTP_CLIENT_TLS) { /* of bytes in one piece it would be BROKEN, if there are more */
    must(p->asking && !p->securing && p->ready);
    p->asking = p->ready = false;
    p->securing = true;
    return;
  }
  mix(p, (uint64_t)event);
  if (event == SMTP_CLIENT_READY) {
    must(!p->ready && !p->securing && !p->asking);
    p->ready = true;
    return;
  }
  if (event == SMTP_CLIENT_TLS_REFUSED || event == SMTP_CLIENT_AUTHENTICATED || event == SMTP_CLIENT_AUTH_REFUSED) {
    must(p->asking && p->ready && (event == SMTP_CLIENT_AUTHENTICATED ? p->client.reply.code / 100 == 2 : p->client.reply.code >= 400));
    p->asking = false;
    return;
  }
  if (event == SMTP_CLIENT_REFUSED || event == SMTP_CLIENT_BROKEN) {
    must(event == SMTP_CLIENT_REFUSED ? c->reply.code >= 400 : c->broken != NULL);
    p->dead = true;
    return;
  }
  must(!p->asking && p->ready && p->done < p->begun && c->tag == p->done && !(t->verdict && event != SMTP_CLIENT_DONE));
  switch (event) {
  case SMTP_CLIENT_MAIL:
    must(!t->mail_refused && t->answered == 0 && c->reply.code >= 400);
    t->mail_refused = true;
    break;
  case SMTP_CLIENT_RCPT:
    must(!t->mail_refused && c->recipient == t->answered && t->answered < t->recipients);
    t->answered++;
    t->accepted += c->reply.code < 300;
    mix(p, c->reply.code);
    break;
  case SMTP_CLIENT_CONTENT:
    must(!t->mail_refused && !t->asked && t->answered == t->recipients && t->accepted > 0);
    t->asked = true;
    break;
  case SMTP_CLIENT_DATA: must(c->reply.code >= 400); /* fallthrough */
  case SMTP_CLIENT_FINAL:
    must(!t->mail_refused && t->answered == t->recipients && t->accepted > 0);
    must(event == SMTP_CLIENT_DATA || (t->asked && (t->sent || c->reply.code >= 400)));
    t->verdict = true;
    break;
  default:
    must(event == SMTP_CLIENT_DONE);
    must(t->mail_refused || (t->answered == t->recipients && (t->accepted == 0 || t->verdict)));
    p->done++;
    must(!p->quit || !smtp_client_can_begin(c));
  }
}

static void check_rest(struct play *p) {
  if (is_over(p)) return;
  enum smtp_client_stage stage = smtp_client_stage(&p->client);
  const struct belief *t = &p->beliefs[p->done];
  bool sending = p->done < p->begun && t->asked && !t->sent;
  must(p->owed >= 0 && sending == (stage == SMTP_STAGE_CONTENT) && (stage == SMTP_STAGE_IDLE) == (p->owed == 0 && !sending && !p->securing));
  must(p->owed > 0 || sending || p->done == p->begun);
  uint32_t most = p->client.capabilities.messages_max;
  if (p->asking || p->securing) {
    must(!smtp_client_can_begin(&p->client));
  } else if (p->ready && !p->quit && p->done == p->begun)
    must(smtp_client_can_begin(&p->client) == (most == 0 || p->begun < most));
  mix(p, stage);
}

/* The machine hears the server up to `end`. */
static void hear(struct play *p, size_t end) {
  for (enum smtp_client_event event = SMTP_CLIENT_INVALID; event != SMTP_CLIENT_NEED_INPUT;) {
    uint8_t room[SMTP_CLIENT_ROOM];
    struct fmt out = fmt_over(room, sizeof room);
    struct span in = span_of(p->input + p->used, end - p->used);
    struct span eaten = in;
    event = smtp_client_next(&p->client, &in, &out);
    take_output(p, &out);
    eaten.len -= in.len;
    p->used += eaten.len;
    struct smtp_reply reply;
    while (!is_over(p) && eaten.len > 0 && reply_parse(&reply, &eaten) == 1) p->owed--;
    if (event != SMTP_CLIENT_NEED_INPUT) check_event(p, event);
  }
}

static void listen(struct play *p, bool dribble) {
  while (dribble && p->heard < p->input_len) hear(p, ++p->heard);
  p->heard = p->input_len;
  hear(p, p->heard);
  check_rest(p);
}

static void begin(struct play *p, const struct smtp_client_envelope *envelope) {
  if (p->begun == BEGUN_MAX || !smtp_client_can_begin(&p->client)) return;
  if (smtp_client_fit(&p->client, envelope) != SMTP_FIT || envelope->recipients > smtp_client_recipients_max(&p->client)) return;
  uint8_t room[2048];
  struct fmt out = fmt_over(room, smtp_client_begin_room(envelope));
  must(out.cap <= sizeof room && !p->dead && !p->quit);
  struct belief *t = &p->beliefs[p->begun];
  t->recipients = envelope->recipients;
  t->asked = smtp_client_begin(&p->client, envelope, p->begun++, &out);
  take_output(p, &out);
}

static void send_content(struct play *p) {
  for (unsigned tag = p->done; tag < p->begun; tag++) {
    if (!p->beliefs[tag].asked || p->beliefs[tag].sent) continue;
    p->beliefs[tag].sent = true;
    if (!p->dead && smtp_client_wants_dot(&p->client, tag)) p->owed++;
    smtp_client_content_sent(&p->client, tag);
    return;
  }
}

/* QUIT where the contract allows it. */
static void quit(struct play *p) {
  if (p->quit || !(p->ready || p->dead) || p->asking) return;
  for (unsigned tag = p->done; tag < p->begun && !p->dead; tag++)
    if (!p->beliefs[tag].sent) return;
  if (p->owed > 0 && !p->dead && !(p->options.pipelining && p->client.capabilities.pipelining)) return;
  uint8_t room[16];
  struct fmt out = fmt_over(room, sizeof room);
  smtp_client_quit(&p->client, &out);
  take_output(p, &out);
  p->quit = true;
}

/* STARTTLS, AUTH, the end of a handshake: whichever may be now. */
static void secure(struct play *p, bool tls) {
  uint8_t room[1024];
  struct fmt out = fmt_over(room, sizeof room);
  if (p->dead || p->quit) return;
  if (p->securing) {
    smtp_client_secured(&p->client, &out);
    p->securing = false;
  } else if (p->ready && !p->asking && p->owed == 0 && p->begun == 0 && (tls ? p->client.capabilities.starttls : smtp_client_can_auth(&p->client))) {
    if (tls) smtp_client_starttls(&p->client, &out);
    if (!tls) smtp_client_auth(&p->client, SPAN("name"), SPAN("password"), &out);
    p->asking = true;
  }
  take_output(p, &out);
}

static uint64_t play(struct play *p, struct span script, bool dribble) {
  memset(p, 0, sizeof *p);
  uint8_t bits = script.at[0];
  p->options = (struct smtp_client_options){SPAN("relay.test"), bits & 1, bits & 2, bits & 4};
  p->owed = 1; /* the greeting */
  smtp_client_init(&p->client, &p->options);
  for (size_t i = 1; i < script.len; i++) {
    uint8_t byte = script.at[i];
    if (byte < 0x90 || byte >= 0xa0) {
      struct span said = byte < 0x80 ? span_of(&script.at[i], 1) : byte < 0x90 ? replies[byte - 0x80] : secure_replies[byte % 4];
      if (said.len > INPUT_MAX - p->input_len) break;
      memcpy(p->input + p->input_len, said.at, said.len);
      p->input_len += said.len;
      continue;
    }
    listen(p, dribble);
    if (byte < 0x98) begin(p, &envelopes[byte - 0x90]);
    if (byte == 0x98) send_content(p);
    if (byte == 0x99) quit(p);
    if (byte == 0x9a || byte == 0x9b) secure(p, byte == 0x9a);
  }
  listen(p, dribble);
  return p->hash;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
  static struct play whole, dribbled;
  if (len == 0) return 0;
  must(play(&whole, span_of(bytes, len), false) == play(&dribbled, span_of(bytes, len), true));
  must(whole.begun == dribbled.begun && whole.done == dribbled.done && whole.dead == dribbled.dead && whole.owed == dribbled.owed);
  return 0;
}
