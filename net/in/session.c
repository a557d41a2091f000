/* One SMTP session that comes in, from its banner to its end. What concerns all of them is in intake.c. */
#include "core/base/error.h"
#include "core/conf/routes.h"
#include "net/in/access.h"
#include "net/in/inside.h"
#include "net/in/reception.h"

#define OUT_ROOM 2048           /* for replies; grows while a pipelined group is answered */
#define OUT_HIGH 16384          /* replies the peer does not read: then nothing more is read from it */
#define STASH_HIGH (128 * 1024) /* bytes waiting behind a message that is being stored: then receiving pauses */
#define EAT_MAX 65536           /* bytes given to the machine at a time: after so many it is asked whether the spool keeps up */
#define LONG_CONTENT 131072     /* behind so much of a message its bytes are taken one buffer at a time, as the disk takes them */
#define CONTENT_RATE_MIN 500    /* bytes a second, as Postfix's smtpd_min_data_rate: a sender that gives a byte a minute is like one that is silent */

uint64_t session_token(const struct session *s, enum operation operation) {
  return shard_token(s->intake->o.token_kind, operation, pool_index(&s->intake->sessions, s), s->tag);
}

static void feed(struct session *s);

/* ---- output ---- */

void session_mark_dirty(struct session *s) {
  if (s->dirty) return;
  s->dirty = true;
  s->next_dirty = s->intake->dirty;
  s->intake->dirty = s;
}

bool session_open_out(struct session *s, struct fmt *out) {
  if (!buffer_reserve(s->intake->o.slab, &s->out, s->out.len == 0 ? OUT_ROOM : SMTP_REPLY_ROOM)) return false;
  *out = buffer_fmt(&s->out);
  return true;
}

void session_close_out(struct session *s, struct fmt *out) {
  must(!out->overflow);
  buffer_wrote(&s->out, out);
  s->progress |= out->len > 0;
  if (s->out.len > 0) session_mark_dirty(s);
}

/* What has ended goes its way without us. */
static void abandon_unless_ended(struct session *s) {
  if (s->submission != NULL && !s->submission->ended) submit_abandon(s->submission);
  s->submission = NULL;
}

void session_close(struct session *s) {
  if (s->closing) return;
  s->closing = true;
  timer_cancel(&s->intake->o.shard->wheel, &s->timer);
  abandon_unless_ended(s);
  listing_forget(s);
  io_close(s->intake->o.shard->io, s->socket, session_token(s, OP_CLOSE));
}

void session_arm_timer(struct session *s, uint64_t delay_ms) {
  timer_set(&s->intake->o.shard->wheel, &s->timer, s->intake->o.shard->now_ms + delay_ms);
}

/* It is the peer's turn. Every byte of content puts its end off by what it takes at CONTENT_RATE_MIN, and no byte by more than the time for a command: so
 * the whole message has the time of one command and its size by that rate, however it is cut into chunks. */
void session_await_peer(struct session *s) {
  if (s->stage != STAGE_OPEN) return; /* which has a time of its own */
  uint64_t now_ms = s->intake->o.shard->now_ms, due_ms = now_ms + s->intake->o.conf->session_timeout_ms;
  s->progress = false;
  if (s->content_due_ms > 0) {
    s->content_due_ms += (s->server.content_size - s->content_counted) * 1000 / CONTENT_RATE_MIN;
    s->content_counted = s->server.content_size;
    if (s->content_due_ms > due_ms) s->content_due_ms = due_ms;
    due_ms = s->content_due_ms;
  }
  session_arm_timer(s, due_ms > now_ms ? due_ms - now_ms : 0);
}

/* What is to be sent next: bytes as they are, or as TLS has made them. */
static struct buffer *next_to_send(struct session *s) {
  if (s->tls == NULL) return &s->out;
  if (!secure_seal(s)) session_close(s);
  return &s->sealed;
}

void session_flush(struct session *s) {
  if (s->closing || s->send_under_way || s->held) return;
  struct buffer *next = next_to_send(s);
  if (s->closing) return;
  if (next->len == 0) {
    if (s->leaving) session_close(s);
    return;
  }
  s->sending = *next;
  *next = (struct buffer){0};
  s->slice = (struct io_slice){s->sending.at, s->sending.len};
  s->send_under_way = true;
  io_send(s->intake->o.shard->io, s->socket, &s->slice, 1, session_token(s, OP_SEND));
}

static void leave(struct session *s) {
  s->leaving = true;
  session_mark_dirty(s);
}

void session_abandon(struct session *s) {
  buffer_free(s->intake->o.slab, &s->out);
  abandon_unless_ended(s);
  leave(s);
}

/* ---- a message is stored, or not ---- */

static void count_accepted(const struct intake *intake, const struct submission *submission) {
  count_add(intake->o.counters, COUNT_MESSAGES_RECEIVED, 1);
  count_add(intake->o.counters, COUNT_RECIPIENTS_RECEIVED, submission->recipients);
  count_add(intake->o.counters, COUNT_BYTES_RECEIVED, submission->size);
}

struct session *session_find(struct intake *intake, uint64_t token) {
  struct session *s = pool_find(&intake->sessions, shard_token_slot(token), shard_token_generation(token));
  return s == NULL || s->closing ? NULL : s;
}

/* NULL: the peer left before its 250. */
static void tell_accepted(struct intake *intake, const struct submission *submission, const struct session *s) {
  struct reception_client client = {.peer = submission->peer};
  if (s != NULL) {
    client.hello = buffer_span(&s->hello);
    if (s->tls != NULL) client.tls_version = tls_version(s->tls);
    if (s->tls != NULL) client.tls_cipher = tls_cipher(s->tls);
    client.user = buffer_span(&s->user);
    client.tenant = login_tenant(s);
  }
  reception_accepted(&intake->o, submission, &client);
}

/* We are stopping: 421 to whoever is not in the middle of a message. */
void session_say_goodbye(struct session *s) {
  struct fmt out;
  if (s->leaving || s->closing) return;
  s->held = false; /* nothing is worth waiting for any more */
  if (s->stage != STAGE_OPEN || !session_open_out(s, &out)) {
    session_close(s);
    return;
  }
  smtp_server_shut(&s->server, "4.3.2", "shutting down, try again later", &out);
  session_close_out(s, &out);
  leave(s);
}

static void message_stored(void *context, uint64_t tag, struct submission *submission, int error) {
  struct intake *intake = context;
  struct session *s = session_find(intake, tag);
  if (error == E_OK) {
    count_accepted(intake, submission);
    tell_accepted(intake, submission, s);
  }
  if (s == NULL) return; /* the peer left before its 250: the message is stored, and will be delivered all the same */
  struct fmt out;
  s->submission = NULL;
  s->waiting = false;
  if (!session_open_out(s, &out)) {
    session_close(s);
    return;
  }
  if (error == E_OK) {
    smtp_server_accept_message(&s->server, submission->id, &out);
  } else {
    refusal_for(s, error, &out);
  }
  session_close_out(s, &out);
  session_await_peer(s);
  if (intake->stopping) session_say_goodbye(s);
  if (!s->feeding) feed(s);
}

static void part_stored(void *context, uint64_t tag) {
  struct session *s = session_find(context, tag);
  if (s == NULL || !s->waiting) return;
  s->waiting = false;
  s->content_due_ms = s->intake->o.shard->now_ms + s->intake->o.conf->session_timeout_ms; /* the disk's time is not the sender's */
  session_await_peer(s);
  if (!s->feeding) feed(s);
}

/* ---- what the server machine asks ---- */

static void forget_submission(struct session *s) {
  submit_abandon(s->submission);
  s->submission = NULL;
  s->content_due_ms = 0;
}

static void on_mail(struct session *s, struct fmt *out) {
  const struct intake *intake = s->intake;
  if (intake->stopping) {
    session_refuse(s, out, 421, "4.3.2", "shutting down, try again later");
  } else if (spool_failed(intake->o.spool) != E_OK) {
    session_refuse(s, out, 451, "4.3.0", "the spool has failed, no mail is accepted");
  } else if (spool_full(intake->o.spool)) {
    session_refuse(s, out, 452, "4.3.1", "insufficient disk space, try again later");
  } else if (intake->o.schedule->messages >= intake->o.conf->queue_messages_max / intake->o.conf->shards) {
    session_refuse(s, out, 452, "4.3.1", "the queue is full, try again later");
  } else if (!slab_has_room(intake->o.slab, 0)) {
    session_refuse(s, out, 452, "4.3.1", "insufficient memory, try again later");
  } else if (s->user.len == 0 && !guard_count(s->guard, &intake->client_limits, CLIENT_MESSAGES, intake->o.shard->now_ms)) {
    session_refuse(s, out, 450, "4.7.1", "too many messages from your address, try again later");
  } else if (s->certificates == CONF_CLIENTS_REQUIRED && !s->certified) {
    session_refuse(s, out, 530, "5.7.0", "a client certificate is required");
  } else if (login_may_send(s, s->server.mail.sender.whole, out)) {
    forget_submission(s);
    s->submission = submit_begin(&s->intake->submit, &s->server.mail, &s->peer, s->id);
    if (s->submission == NULL) {
      refusal_for(s, E_NO_MEMORY, out);
    } else {
      smtp_server_accept(&s->server, out);
      listing_wait(s);
    }
  }
}

static void on_rcpt(struct session *s, struct fmt *out) {
  if (listing_refuses(s, out)) {
    s->server.errors++;
  } else if (!s->may_relay) {
    refusal_recipient(s, "relaying denied", NULL, out);
    s->server.errors++; /* whoever tries one address after the other is held up like one who knows no SMTP */
  } else if (s->user.len == 0 && !guard_count(s->guard, &s->intake->client_limits, CLIENT_RECIPIENTS, s->intake->o.shard->now_ms)) {
    smtp_server_refuse(&s->server, out, 450, "4.7.1", "too many recipients from your address, try again later");
  } else if (s->user_recipients_max > 0 && s->server.recipients >= s->user_recipients_max) {
    smtp_server_refuse(&s->server, out, 452, "4.5.3", "too many recipients");
  } else if (routes_reject(s->intake->o.conf, s->server.rcpt.recipient.domain)) {
    refusal_recipient(s, "mail for this domain is not taken here", NULL, out);
  } else if (!submit_recipient(s->submission, &s->server.rcpt)) {
    smtp_server_refuse(&s->server, out, 452, "4.3.1", "insufficient memory, try again later");
  } else {
    smtp_server_accept(&s->server, out);
  }
}

/* RFC 3848 and 6531. */
static const char *protocol_of(const struct session *s) {
  static const char *const plain[] = {"ESMTP", "ESMTPS", "ESMTPA", "ESMTPSA"}, *const utf8[] = {"UTF8SMTP", "UTF8SMTPS", "UTF8SMTPA", "UTF8SMTPSA"};
  if (!s->esmtp) return "SMTP";
  return (s->server.mail.smtputf8 ? utf8 : plain)[(s->tls != NULL ? 1 : 0) + (s->user.len > 0 ? 2 : 0)];
}

static void on_data(struct session *s, struct fmt *out) {
  s->submission->tag = session_token(s, OP_SEND);
  s->submission->progress = part_stored;
  s->submission->callback = s->intake;
  s->submission->completes = s->submits;
  if (!submit_data(s->submission, buffer_span(&s->hello), protocol_of(s), s->server.mail.size)) {
    refusal_for(s, E_NO_MEMORY, out);
    forget_submission(s);
    return;
  }
  smtp_server_accept(&s->server, out);
  s->content_due_ms = s->intake->o.shard->now_ms + s->intake->o.conf->session_timeout_ms;
  s->content_counted = 0;
  session_await_peer(s);
}

static void on_hello(struct session *s) {
  s->esmtp = s->server.esmtp;
  s->hello.len = 0;
  if (!buffer_append(s->intake->o.slab, &s->hello, s->server.hello)) leave(s);
  forget_submission(s);
}

/* The transaction is off; only if it is illegal content that is still eaten, its envelope stays: it is needed when that is answered. */
static void on_reset(struct session *s) {
  if (s->submission != NULL && smtp_server_in_content(&s->server)) {
    submit_drop_content(s->submission);
  } else {
    forget_submission(s);
  }
}

/* The machine refused the message itself, for good. */
static void on_refused(struct session *s) {
  refusal_message(s);
  forget_submission(s);
}

static void on_end(struct session *s, struct fmt *out) {
  session_close_out(s, out); /* message_stored opens it again, maybe at once */
  s->waiting = true;
  s->content_due_ms = 0;
  timer_cancel(&s->intake->o.shard->wheel, &s->timer); /* the peer owes nothing: it is the disk's turn */
  submit_end(s->submission, &s->server.scan, session_token(s, OP_SEND), message_stored, s->intake);
}

static void pause_receiving(struct session *s) {
  if (s->paused) return;
  s->paused = true;
  io_receive_pause(s->intake->o.shard->io, s->socket);
}

static void on_content(struct session *s) {
  if (submit_content(s->submission, s->server.content) != E_BUSY) return;
  s->waiting = true; /* for a part of a long message to be written: until then the sender's bytes are better kept by its own system */
  timer_cancel(&s->intake->o.shard->wheel, &s->timer);
  pause_receiving(s);
}

/* The 220 goes in the clear, and is the last that does. */
static void on_starttls(struct session *s, struct fmt *out) {
  if (!secure_can_begin(s)) {
    smtp_server_refuse(&s->server, out, 454, "4.7.0", "TLS is not available now");
    return;
  }
  smtp_server_accept(&s->server, out);
  session_close_out(s, out);
  bool ready = buffer_append(s->intake->o.slab, &s->sealed, buffer_span(&s->out)) && secure_begin(s);
  buffer_consume(&s->out, s->out.len);
  *out = buffer_fmt(&s->out);
  forget_submission(s);
  login_out(s); /* RFC 3207 4.2: what was said in the clear, a name too, is forgotten */
  s->may_relay = access_may_relay(s->intake->o.conf, &s->peer);
  s->hello.len = 0;
  if (!ready) session_close(s);
}

/* ---- errors ---- */

#define ERRORS_AT_ONCE 2  /* so many of a session are answered at once: people make mistakes */
#define HELD_MAX_MS 60000 /* for a whole pipelined group of them: other servers do not wait much longer for a reply */

void session_hold(struct session *s, uint64_t delay_ms) {
  uint64_t until_ms = s->intake->o.shard->now_ms + (delay_ms < HELD_MAX_MS ? delay_ms : HELD_MAX_MS);
  if (delay_ms == 0 || (s->held && until_ms <= s->held_until_ms)) return;
  s->held = true;
  s->held_until_ms = until_ms;
  session_arm_timer(s, until_ms - s->intake->o.shard->now_ms);
}

/* What came with one read is answered together, so late as all errors in it. */
static void hold_errors(struct session *s, uint32_t before) {
  uint32_t from = before > ERRORS_AT_ONCE ? before : ERRORS_AT_ONCE;
  if (s->server.errors > from) session_hold(s, s->intake->o.conf->error_delay_ms * (s->server.errors - from));
}

/* A client's errors count over all its sessions; and that their answers come late costs whoever only tries things out more than us. */
void session_note_errors(struct session *s, struct fmt *out) {
  const struct intake *intake = s->intake;
  uint32_t before = s->errors_seen;
  bool too_many = false;
  for (; s->errors_seen < s->server.errors; s->errors_seen++)
    too_many |= !guard_count(s->guard, &intake->client_limits, CLIENT_ERRORS, intake->o.shard->now_ms);
  if (!s->limited) return;
  if (too_many) {
    smtp_server_shut(&s->server, "4.7.0", "too many errors from your address, try again later", out);
    leave(s);
  }
  hold_errors(s, before);
}

/* Lets the machine eat. False when it has to stop: input used up, waiting for the spool, or the session ends. */
static bool step(struct session *s, struct span *in) {
  struct fmt out;
  if (!session_open_out(s, &out)) {
    session_close(s);
    return false;
  }
  struct span piece = span_first(*in, EAT_MAX);
  size_t offered = piece.len;
  enum smtp_server_event event = smtp_server_next(&s->server, &piece, &out);
  *in = span_skip(*in, offered - piece.len);
  bool used_up = event == SMTP_SERVER_NEED_INPUT && in->len == piece.len; /* else there is more behind the piece */
  switch (event) {
  case SMTP_SERVER_NEED_INPUT: break;
  case SMTP_SERVER_FLUSH: break;
  case SMTP_SERVER_HELLO: on_hello(s); break;
  case SMTP_SERVER_MAIL: on_mail(s, &out); break;
  case SMTP_SERVER_RCPT: on_rcpt(s, &out); break;
  case SMTP_SERVER_DATA: on_data(s, &out); break;
  case SMTP_SERVER_CONTENT: on_content(s); break;
  case SMTP_SERVER_END: on_end(s, &out); return !s->waiting && !s->closing;
  case SMTP_SERVER_RESET: on_reset(s); break;
  case SMTP_SERVER_REFUSED: on_refused(s); break;
  case SMTP_SERVER_CLOSE: leave(s); break;
  case SMTP_SERVER_AUTH: login_begin(s, &out); break;
  case SMTP_SERVER_AUTH_LINE: login_line(s, &out); break;
  case SMTP_SERVER_AUTH_OFF: login_forget(s); break;
  case SMTP_SERVER_STARTTLS: on_starttls(s, &out); break;
  case SMTP_SERVER_INVALID: must(false);
  }
  if (s->server.errors > s->errors_seen) session_note_errors(s, &out);
  session_close_out(s, &out);
  return !used_up && !s->waiting && !s->leaving && !s->held && s->stage == STAGE_OPEN;
}

/* Between its commands a session holds no buffers. */
static void release_out(struct session *s) {
  if (s->out.len == 0) buffer_free(s->intake->o.slab, &s->out);
}

/* Replies that pile up because the peer does not read them: wait for the send to end. */
static bool clogged(const struct session *s) { return s->out.len > OUT_HIGH && s->send_under_way; }

/* Feeds `in` (new bytes, or the stash) to the machine; returns what is left. */
static struct span eat(struct session *s, struct span in) {
  s->feeding = true;
  while (!s->waiting && !s->held && !s->leaving && !s->closing && !clogged(s) && s->stage == STAGE_OPEN && step(s, &in)) {
    if (s->out.len > OUT_HIGH) session_flush(s);
  }
  s->feeding = false;
  release_out(s);
  return in;
}

/* A fast sender can fill megabytes of buffers within one turn: of a long message they would only wait here for the disk. */
static bool is_long(const struct session *s) { return s->submission != NULL && !s->submission->ended && s->submission->size > LONG_CONTENT; }

static void go_on_receiving(struct session *s) {
  s->careful = is_long(s);
  (s->careful ? io_receive_once : io_receive)(s->intake->o.shard->io, s->socket, session_token(s, OP_RECEIVE));
}

void session_receive_on(struct session *s) {
  if (!s->paused && (s->careful || is_long(s))) go_on_receiving(s);
}

static void resume_receiving(struct session *s) {
  if (!s->paused || s->stash.len > STASH_HIGH / 2 || s->closing) return;
  s->paused = false;
  go_on_receiving(s);
}

/* Goes on with what was stashed. Also without any of it: the machine may owe an event for what it has eaten. */
static void feed(struct session *s) {
  struct span rest = eat(s, buffer_span(&s->stash));
  if (s->closing) return;
  buffer_consume(&s->stash, s->stash.len - rest.len);
  if (s->stash.len == 0) buffer_free(s->intake->o.slab, &s->stash);
  if (s->gone && !s->waiting && !s->held && !clogged(s)) leave(s);
  resume_receiving(s);
}

static void keep_rest(struct session *s, struct span rest) {
  if (!buffer_append(s->intake->o.slab, &s->stash, rest)) {
    session_close(s);
    return;
  }
  if (s->stash.len > STASH_HIGH) pause_receiving(s);
}

void session_received(struct session *s, struct span bytes) {
  if (s->leaving) return; /* after QUIT or 421 nothing counts */
  if (s->stash.len > 0 || s->waiting || s->held || clogged(s)) {
    keep_rest(s, bytes);
    if (!s->closing && !s->waiting && !s->held && !clogged(s)) feed(s);
  } else {
    struct span rest = eat(s, bytes);
    if (!s->closing && !s->leaving && rest.len > 0) keep_rest(s, rest);
  }
  if (s->closing) return;
  if (s->tls == NULL) session_receive_on(s); /* else it is called once for all that a piece of ciphertext holds, which may be nothing */
  if (!s->waiting && !s->held && (s->progress || s->content_due_ms > 0)) session_await_peer(s);
}

/* ---- life ---- */

void session_go_on(struct session *s) {
  if (!s->held) session_await_peer(s);
  if (s->intake->stopping) session_say_goodbye(s);
  if (!s->feeding) feed(s);
}

/* The late answer to an error may go. */
static void let_go(struct session *s) {
  s->held = false;
  if (s->out.len > 0 || s->leaving) session_mark_dirty(s);
  session_await_peer(s);
  feed(s);
}

static void timed_out(void *context, struct timer *timer) {
  (void)context;
  struct session *s = (struct session *)((uint8_t *)timer - offsetof(struct session, timer));
  struct fmt out;
  if (s->stage != STAGE_OPEN) {
    entry_timed_out(s);
    return;
  }
  if (s->held) {
    let_go(s);
    return;
  }
  if (s->leaving || s->send_under_way || !session_open_out(s, &out)) { /* it does not even read */
    session_close(s);
    return;
  }
  smtp_server_shut(&s->server, "4.4.2", "timeout waiting for input", &out);
  session_close_out(s, &out);
  forget_submission(s);
  leave(s);
  session_arm_timer(s, 10000);
}

void session_init_timer(struct session *s) { s->timer.fire = timed_out; }

void session_greet(struct session *s, const char *enhanced, const char *refusal) {
  struct fmt out;
  s->stage = STAGE_OPEN;
  if (!session_open_out(s, &out)) {
    session_close(s);
    return;
  }
  if (refusal == NULL) {
    smtp_server_init(&s->server, &s->intake->server_options[s->kind], &out);
  } else {
    fmt_text(&out, "421 ");
    fmt_text(&out, enhanced);
    fmt_char(&out, ' ');
    fmt_text(&out, refusal);
    fmt_text(&out, "\r\n");
    leave(s);
  }
  session_close_out(s, &out);
  session_await_peer(s);
}

void session_fini(struct session *s) {
  struct slab *slab = s->intake->o.slab;
  timer_cancel(&s->intake->o.shard->wheel, &s->timer);
  guard_leave(s->guard);
  login_out(s);
  abandon_unless_ended(s);
  listing_forget(s);
  secure_fini(s);
  buffer_free(slab, &s->out);
  buffer_free(slab, &s->sealed);
  buffer_free(slab, &s->sending);
  buffer_free(slab, &s->stash);
  buffer_free(slab, &s->hello);
  buffer_free(slab, &s->user);
}

void session_sent(struct session *s, int64_t result) {
  s->send_under_way = false;
  if (result < 0) {
    session_close(s);
    return;
  }
  buffer_free(s->intake->o.slab, &s->sending);
  if (s->out.len > 0 || s->sealed.len > 0 || s->leaving) {
    session_flush(s);
    return;
  }
  if (!s->waiting && !s->held) feed(s);
}

/* The peer may have closed its half only: it gets its replies, also those to what waits in the stash. */
void session_stream_ended(struct session *s) {
  s->gone = true;
  s->held = false; /* it does not wait, so neither do we */
  if (!s->waiting && !clogged(s)) leave(s);
}
