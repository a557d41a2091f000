#include "net/in/session.h"

#include <stdlib.h>

#include "core/base/buffer.h"
#include "core/base/error.h"
#include "core/base/pool.h"
#include "net/in/access.h"
#include "net/in/listen.h"
#include "net/in/reception.h"
#include "net/in/submit.h"

#define OUT_ROOM 2048           /* for replies; grows while a pipelined group is answered */
#define OUT_HIGH 16384          /* replies the peer does not read: then nothing more is read from it */
#define STASH_HIGH (128 * 1024) /* bytes waiting behind a message that is being stored: then receiving pauses */
#define EAT_MAX 65536           /* bytes given to the machine at a time: after so many it is asked whether the spool keeps up */
#define LONG_CONTENT 131072     /* behind so much of a message its bytes are taken one buffer at a time, as the disk takes them */
#define CONTENT_RATE_MIN 500    /* bytes a second, as Postfix's smtpd_min_data_rate: a sender that gives a byte a minute is like one that is silent */
#define IDLE_COMMANDS_MAX 1000  /* without a message: no client needs so many */
#define SURPLUS_MAX 100000      /* recipients refused for now, without a message: a whole list, piped at once; each costs a reply and no memory */

struct session {
  io_socket socket;
  uint32_t tag; /* of tokens: generation of the slot */
  struct intake *intake;
  struct session *next_dirty;
  uint64_t id;
  struct netaddr peer;
  struct timer timer;
  struct buffer out;     /* being filled */
  struct buffer sending; /* the kernel's, while `send_under_way` */
  struct io_slice slice;
  struct buffer stash; /* received, not eaten */
  struct buffer hello;
  struct submission *submission;
  struct smtp_server server;
  uint64_t content_due_ms;  /* while a message comes in, between its BDATs too: by then more of it has to be there; else 0 */
  uint64_t content_counted; /* bytes of it that have moved content_due_ms ahead */
  bool progress;            /* a command was whole: the timer starts anew */
  bool may_relay;
  bool esmtp;
  bool dirty;
  bool send_under_way;
  bool waiting; /* for the spool: nothing is read meanwhile */
  bool paused;
  bool careful; /* receives one buffer at a time */
  bool feeding; /* inside feed(): a callback must not start another */
  bool leaving; /* close when what is to be sent is sent */
  bool gone;    /* the peer closed */
  bool closing;
};

struct intake {
  struct intake_options o;
  struct smtp_server_options server_options;
  struct submit_context submit;
  struct pool sessions;
  io_socket *listeners;
  struct session *dirty;
  struct io_slice refusal; /* what a connection gets for which there is no slot */
  uint8_t refusal_text[352];
  bool stopping;
};

enum operation { OP_ACCEPT = 1, OP_REFUSING, OP_REFUSED, OP_RECEIVE, OP_SEND, OP_CLOSE };

static uint64_t token_of(const struct session *s, enum operation operation) {
  return shard_token(s->intake->o.token_kind, operation, pool_index(&s->intake->sessions, s), s->tag);
}

static void feed(struct session *s);

/* ---- output ---- */

static void mark_dirty(struct session *s) {
  if (s->dirty) return;
  s->dirty = true;
  s->next_dirty = s->intake->dirty;
  s->intake->dirty = s;
}

/* A writer over the free room of `out`, which has at least what one reply needs; NULL room without memory: the session cannot be answered, so it ends. */
static bool open_out(struct session *s, struct fmt *out) {
  if (!buffer_reserve(s->intake->o.slab, &s->out, s->out.len == 0 ? OUT_ROOM : SMTP_REPLY_ROOM)) return false;
  *out = buffer_fmt(&s->out);
  return true;
}

static void close_out(struct session *s, struct fmt *out) {
  must(!out->overflow);
  buffer_wrote(&s->out, out);
  s->progress |= out->len > 0;
  if (s->out.len > 0) mark_dirty(s);
}

/* What has ended goes its way without us. */
static void abandon_unless_ended(struct session *s) {
  if (s->submission != NULL && !s->submission->ended) submit_abandon(s->submission);
  s->submission = NULL;
}

static void begin_close(struct session *s) {
  if (s->closing) return;
  s->closing = true;
  timer_cancel(&s->intake->o.shard->wheel, &s->timer);
  abandon_unless_ended(s);
  io_close(s->intake->o.shard->io, s->socket, token_of(s, OP_CLOSE));
}

static void arm_timer(struct session *s, uint64_t delay_ms) {
  timer_set(&s->intake->o.shard->wheel, &s->timer, s->intake->o.shard->now_ms + delay_ms);
}

/* It is the peer's turn. Every byte of content puts its end off by what it takes at CONTENT_RATE_MIN, and no byte by more than the time for a command: so
 * the whole message has the time of one command and its size by that rate, however it is cut into chunks. */
static void await_peer(struct session *s) {
  uint64_t now_ms = s->intake->o.shard->now_ms, due_ms = now_ms + s->intake->o.conf->session_timeout_ms;
  s->progress = false;
  if (s->content_due_ms > 0) {
    s->content_due_ms += (s->server.content_size - s->content_counted) * 1000 / CONTENT_RATE_MIN;
    s->content_counted = s->server.content_size;
    if (s->content_due_ms > due_ms) s->content_due_ms = due_ms;
    due_ms = s->content_due_ms;
  }
  arm_timer(s, due_ms > now_ms ? due_ms - now_ms : 0);
}

static void flush(struct session *s) {
  if (s->closing || s->send_under_way) return;
  if (s->out.len == 0) {
    if (s->leaving) begin_close(s);
    return;
  }
  s->sending = s->out;
  s->out = (struct buffer){0};
  s->slice = (struct io_slice){s->sending.at, s->sending.len};
  s->send_under_way = true;
  io_send(s->intake->o.shard->io, s->socket, &s->slice, 1, token_of(s, OP_SEND));
}

static void leave(struct session *s) {
  s->leaving = true;
  mark_dirty(s);
}

/* ---- a message is stored, or not ---- */

static void count_accepted(const struct intake *intake, const struct submission *submission) {
  count_add(intake->o.counters, COUNT_MESSAGES_RECEIVED, 1);
  count_add(intake->o.counters, COUNT_RECIPIENTS_RECEIVED, submission->recipients);
  count_add(intake->o.counters, COUNT_BYTES_RECEIVED, submission->size);
}

/* Whoever refuses a message counts it; recipients and commands are not counted. */
static void refuse(struct session *s, struct fmt *out, unsigned code, const char *enhanced, const char *text) {
  count_add(s->intake->o.counters, COUNT_MESSAGES_REJECTED, 1);
  smtp_server_refuse(&s->server, out, code, enhanced, text);
}

static void refuse_for(struct session *s, int error, struct fmt *out) {
  switch (error) {
  case E_NO_SPACE: refuse(s, out, 452, "4.3.1", "insufficient disk space, try again later"); break;
  case E_NO_MEMORY:
  case E_FULL: refuse(s, out, 452, "4.3.1", "insufficient memory, try again later"); break;
  default: refuse(s, out, 451, "4.3.0", "the message could not be stored, try again later"); break;
  }
}

static struct session *session_of(struct intake *intake, uint64_t token) {
  struct session *s = pool_find(&intake->sessions, shard_token_slot(token), shard_token_generation(token));
  return s == NULL || s->closing ? NULL : s;
}

/* We are stopping: 421 to whoever is not in the middle of a message. */
static void say_goodbye(struct session *s) {
  struct fmt out;
  if (s->leaving || s->closing) return;
  if (!open_out(s, &out)) {
    begin_close(s);
    return;
  }
  smtp_server_shut(&s->server, "4.3.2", "shutting down, try again later", &out);
  close_out(s, &out);
  leave(s);
}

static void message_stored(void *context, uint64_t tag, struct submission *submission, int error) {
  struct intake *intake = context;
  struct session *s = session_of(intake, tag);
  if (error == E_OK) {
    count_accepted(intake, submission);
    reception_accepted(&intake->o, submission, s == NULL ? (struct span){NULL, 0} : buffer_span(&s->hello));
  }
  if (s == NULL) return; /* the peer left before its 250: the message is stored, and will be delivered all the same */
  struct fmt out;
  s->submission = NULL;
  s->waiting = false;
  if (!open_out(s, &out)) {
    begin_close(s);
    return;
  }
  if (error == E_OK) {
    smtp_server_accept_message(&s->server, submission->id, &out);
  } else {
    refuse_for(s, error, &out);
  }
  close_out(s, &out);
  await_peer(s);
  if (intake->stopping) say_goodbye(s);
  if (!s->feeding) feed(s);
}

static void part_stored(void *context, uint64_t tag) {
  struct session *s = session_of(context, tag);
  if (s == NULL || !s->waiting) return;
  s->waiting = false;
  s->content_due_ms = s->intake->o.shard->now_ms + s->intake->o.conf->session_timeout_ms; /* the disk's time is not the sender's */
  await_peer(s);
  if (!s->feeding) feed(s);
}

/* ---- what the server machine asks ---- */

static void forget_submission(struct session *s) {
  submit_abandon(s->submission);
  s->submission = NULL;
  s->content_due_ms = 0;
}

/* The last part of so many is for what delivers: a queue without memory for jobs would never become shorter. */
#define MEMORY_KEPT_PART 8

static void on_mail(struct session *s, struct fmt *out) {
  const struct intake *intake = s->intake;
  if (intake->stopping) {
    refuse(s, out, 421, "4.3.2", "shutting down, try again later");
  } else if (spool_failed(intake->o.spool) != E_OK) {
    refuse(s, out, 451, "4.3.0", "the spool has failed, no mail is accepted");
  } else if (spool_full(intake->o.spool)) {
    refuse(s, out, 452, "4.3.1", "insufficient disk space, try again later");
  } else if (intake->o.schedule->messages >= intake->o.conf->queue_messages_max / intake->o.conf->shards) {
    refuse(s, out, 452, "4.3.1", "the queue is full, try again later");
  } else if (intake->o.slab->used_bytes > intake->o.slab->limit_bytes - intake->o.slab->limit_bytes / MEMORY_KEPT_PART) {
    refuse(s, out, 452, "4.3.1", "insufficient memory, try again later");
  } else {
    forget_submission(s);
    s->submission = submit_begin(&s->intake->submit, &s->server.mail, &s->peer, s->id);
    if (s->submission == NULL) {
      refuse_for(s, E_NO_MEMORY, out);
    } else {
      smtp_server_accept(&s->server, out);
    }
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

static void reject_relaying(struct session *s, struct fmt *out) {
  struct reception_refusal refusal = refusal_of(s, SPAN("550 5.7.1 relaying denied\r\n"), "RCPT");
  refusal.recipient = s->server.rcpt.recipient.whole;
  refusal.domain = s->server.rcpt.recipient.domain;
  reception_refused(&s->intake->o, &refusal);
  smtp_server_refuse(&s->server, out, 550, "5.7.1", "relaying denied");
}

static void on_rcpt(struct session *s, struct fmt *out) {
  if (!s->may_relay) {
    reject_relaying(s, out);
  } else if (!submit_recipient(s->submission, &s->server.rcpt)) {
    smtp_server_refuse(&s->server, out, 452, "4.3.1", "insufficient memory, try again later");
  } else {
    smtp_server_accept(&s->server, out);
  }
}

static void on_data(struct session *s, struct fmt *out) {
  s->submission->tag = token_of(s, OP_SEND);
  s->submission->progress = part_stored;
  s->submission->callback = s->intake;
  if (!submit_data(s->submission, buffer_span(&s->hello), s->esmtp, s->server.mail.size)) {
    refuse_for(s, E_NO_MEMORY, out);
    forget_submission(s);
    return;
  }
  smtp_server_accept(&s->server, out);
  s->content_due_ms = s->intake->o.shard->now_ms + s->intake->o.conf->session_timeout_ms;
  s->content_counted = 0;
  await_peer(s);
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
  struct reception_refusal refusal = refusal_of(s, s->server.refusal, s->submission == NULL ? "MAIL" : s->server.chunked ? "BDAT" : "DATA");
  refusal.submission = s->submission;
  refusal.size = s->server.content_size;
  count_add(s->intake->o.counters, COUNT_MESSAGES_REJECTED, 1);
  reception_refused(&s->intake->o, &refusal);
  forget_submission(s);
}

static void on_end(struct session *s, struct fmt *out) {
  close_out(s, out); /* message_stored opens it again, maybe at once */
  s->waiting = true;
  s->content_due_ms = 0;
  timer_cancel(&s->intake->o.shard->wheel, &s->timer); /* the peer owes nothing: it is the disk's turn */
  submit_end(s->submission, &s->server.scan, token_of(s, OP_SEND), message_stored, s->intake);
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

/* Lets the machine eat. False when it has to stop: input used up, waiting for the spool, or the session ends. */
static bool step(struct session *s, struct span *in) {
  struct fmt out;
  if (!open_out(s, &out)) {
    begin_close(s);
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
  case SMTP_SERVER_INVALID: must(false);
  }
  close_out(s, &out);
  return !used_up && !s->waiting && !s->leaving;
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
  while (!s->waiting && !s->leaving && !s->closing && !clogged(s) && step(s, &in)) {
    if (s->out.len > OUT_HIGH) flush(s);
  }
  s->feeding = false;
  release_out(s);
  return in;
}

/* A fast sender can fill megabytes of buffers within one turn: of a long message they would only wait here for the disk. */
static bool is_long(const struct session *s) { return s->submission != NULL && !s->submission->ended && s->submission->size > LONG_CONTENT; }

static void go_on_receiving(struct session *s) {
  s->careful = is_long(s);
  (s->careful ? io_receive_once : io_receive)(s->intake->o.shard->io, s->socket, token_of(s, OP_RECEIVE));
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
  if (s->gone && !s->waiting && !clogged(s)) leave(s);
  resume_receiving(s);
}

static void keep_rest(struct session *s, struct span rest) {
  if (!buffer_append(s->intake->o.slab, &s->stash, rest)) {
    begin_close(s);
    return;
  }
  if (s->stash.len > STASH_HIGH) pause_receiving(s);
}

static void received(struct session *s, struct span bytes) {
  if (s->leaving) return; /* after QUIT or 421 nothing counts */
  if (s->stash.len > 0 || s->waiting || clogged(s)) {
    keep_rest(s, bytes);
    if (!s->closing && !s->waiting && !clogged(s)) feed(s);
  } else {
    struct span rest = eat(s, bytes);
    if (!s->closing && !s->leaving && rest.len > 0) keep_rest(s, rest);
  }
  if (s->closing) return;
  if (!s->paused && (s->careful || is_long(s))) go_on_receiving(s);
  if (!s->waiting && (s->progress || s->content_due_ms > 0)) await_peer(s);
}

/* ---- life ---- */

static void timed_out(void *context, struct timer *timer) {
  (void)context;
  struct session *s = (struct session *)((uint8_t *)timer - offsetof(struct session, timer));
  struct fmt out;
  if (s->leaving || s->send_under_way || !open_out(s, &out)) { /* it does not even read */
    begin_close(s);
    return;
  }
  smtp_server_shut(&s->server, "4.4.2", "timeout waiting for input", &out);
  close_out(s, &out);
  forget_submission(s);
  leave(s);
  arm_timer(s, 10000);
}

/* No slot for it: 421, sent without one. Its token carries the socket where others have the generation. */
static void refuse_session(struct intake *intake, io_socket socket) {
  count_add(intake->o.counters, COUNT_SESSIONS_REFUSED, 1);
  io_send(intake->o.shard->io, socket, &intake->refusal, 1, shard_token(intake->o.token_kind, OP_REFUSING, 0, (uint32_t)socket));
}

/* The kernel deals connections out unevenly, so the limit is that of all shards together: one atomic step a session, none a message. */
static bool take_place(const struct intake *intake) {
  uint32_t open = atomic_load_explicit(intake->o.sessions_open, memory_order_relaxed);
  while (open < intake->o.conf->sessions_max)
    if (atomic_compare_exchange_weak_explicit(intake->o.sessions_open, &open, open + 1, memory_order_relaxed, memory_order_relaxed)) return true;
  return false;
}

static void give_place(const struct intake *intake) { atomic_fetch_sub_explicit(intake->o.sessions_open, 1, memory_order_relaxed); }

static struct session *new_session(struct intake *intake) {
  if (intake->stopping || !take_place(intake)) return NULL;
  struct session *s = pool_get(&intake->sessions);
  if (s == NULL) give_place(intake);
  return s;
}

static void begin_session(struct intake *intake, io_socket socket) {
  struct session *s = new_session(intake);
  if (s == NULL) {
    refuse_session(intake, socket);
    return;
  }
  s->intake = intake;
  s->socket = socket;
  s->tag = pool_generation(&intake->sessions, pool_index(&intake->sessions, s));
  s->id = submit_new_id(&intake->submit);
  s->timer.fire = timed_out;
  io_peer(intake->o.shard->io, socket, &s->peer);
  s->may_relay = access_may_relay(intake->o.conf, &s->peer);
  count_add(intake->o.counters, COUNT_SESSIONS, 1);
  struct fmt out;
  if (!open_out(s, &out)) {
    begin_close(s);
    return;
  }
  smtp_server_init(&s->server, &intake->server_options, &out);
  close_out(s, &out);
  io_receive(intake->o.shard->io, socket, token_of(s, OP_RECEIVE));
  await_peer(s);
}

static void end_session(struct session *s) {
  struct intake *intake = s->intake;
  struct slab *slab = intake->o.slab;
  buffer_free(slab, &s->out);
  buffer_free(slab, &s->sending);
  buffer_free(slab, &s->stash);
  buffer_free(slab, &s->hello);
  must(!s->dirty);
  pool_put(&intake->sessions, s);
  give_place(intake);
}

static void sent(struct session *s, int64_t result) {
  s->send_under_way = false;
  if (result < 0) {
    begin_close(s);
    return;
  }
  buffer_free(s->intake->o.slab, &s->sending);
  if (s->out.len > 0 || s->leaving) {
    flush(s);
    return;
  }
  if (!s->waiting) feed(s);
}

/* The peer may have closed its half only: it gets its replies, also those to what waits in the stash. */
static void stream_ended(struct session *s) {
  s->gone = true;
  if (!s->waiting && !clogged(s)) leave(s);
}

void intake_complete(void *context, const struct io_completion *completion) {
  struct intake *intake = context;
  unsigned operation = shard_token_operation(completion->token);
  if (operation == OP_REFUSED) return;
  if (operation == OP_REFUSING) {
    io_socket socket = (io_socket)shard_token_generation(completion->token);
    io_close(intake->o.shard->io, socket, shard_token(intake->o.token_kind, OP_REFUSED, 0, 0));
    return;
  }
  if (operation == OP_ACCEPT) {
    if (completion->result >= 0) begin_session(intake, (io_socket)completion->result);
    return;
  }
  struct session *s = pool_find(&intake->sessions, shard_token_slot(completion->token), shard_token_generation(completion->token));
  must(s != NULL); /* its close completes last */
  if (operation == OP_CLOSE) {
    end_session(s);
  } else if (s->closing) {
    return; /* from the same batch as what made us close */
  } else if (operation == OP_SEND) {
    sent(s, completion->result);
  } else if (completion->result > 0) {
    received(s, completion->bytes);
  } else if (completion->result == 0) {
    stream_ended(s);
  } else {
    begin_close(s);
  }
}

void intake_turn(struct intake *intake) {
  while (intake->dirty != NULL) {
    struct session *s = intake->dirty;
    intake->dirty = s->next_dirty;
    s->dirty = false;
    flush(s);
  }
  count_set(intake->o.counters, GAUGE_SESSIONS, intake->sessions.used);
}

int intake_open(struct intake **out, const struct intake_options *options) {
  const struct conf *conf = options->conf;
  struct intake *intake = calloc(1, sizeof *intake);
  if (intake == NULL) return E_NO_MEMORY;
  intake->o = *options;
  intake->server_options = (struct smtp_server_options){
      .hostname = span_of_text(conf->hostname),
      .message_size_max = conf->message_size_max,
      .recipients_max = conf->recipients_max,
      .messages_max = conf->session_messages_max,
      .errors_max = conf->session_errors_max,
      .idle_commands_max = IDLE_COMMANDS_MAX,
      .surplus_max = SURPLUS_MAX,
  };
  intake->submit = (struct submit_context){.shard = options->shard,
                                           .slab = options->slab,
                                           .spool = options->spool,
                                           .schedule = options->schedule,
                                           .hostname = intake->server_options.hostname,
                                           .last_id = options->newest_id};
  struct fmt refusal = fmt_over(intake->refusal_text, sizeof intake->refusal_text);
  fmt_text(&refusal, "421 4.3.2 ");
  fmt_text(&refusal, conf->hostname);
  fmt_text(&refusal, " has too many sessions or is shutting down, try again later\r\n");
  intake->refusal = (struct io_slice){refusal.at, refusal.len};
  uint32_t sockets = io_sockets_max(options->shard->io); /* slots for all of them: one that is not used takes no memory */
  int error = pool_init(&intake->sessions, sizeof(struct session), conf->sessions_max < sockets ? conf->sessions_max : sockets);
  intake->listeners = calloc(conf->listeners_count, sizeof *intake->listeners);
  if (error == E_OK && intake->listeners == NULL) error = E_NO_MEMORY;
  if (error != E_OK) {
    intake_close(intake);
    return error;
  }
  for (unsigned i = 0; i < conf->listeners_count; i++) intake->listeners[i] = IO_NONE;
  *out = intake;
  return E_OK;
}

int intake_listen(struct intake *intake, struct fmt *why) {
  const struct conf *conf = intake->o.conf;
  struct io *io = intake->o.shard->io;
  int error = listen_all(io, conf, intake->o.shard->index, intake->listeners, why);
  for (unsigned i = 0; i < conf->listeners_count && error == E_OK; i++)
    io_accept(io, intake->listeners[i], shard_token(intake->o.token_kind, OP_ACCEPT, 0, 0));
  return error;
}

void intake_address(const struct intake *intake, struct netaddr *address) { io_local(intake->o.shard->io, intake->listeners[0], address); }

uint64_t intake_new_id(struct intake *intake) { return submit_new_id(&intake->submit); }

void intake_tell_restored(struct intake *intake, struct message *message) {
  reception_restored(&intake->o, message);
  message->untold = false;
}

void intake_clear_segment(void *intake, uint32_t segment) { submit_clear_segment(&((struct intake *)intake)->submit, segment); }

void intake_stop(struct intake *intake) {
  intake->stopping = true;
  for (unsigned i = 0; i < intake->o.conf->listeners_count; i++) {
    if (intake->listeners[i] != IO_NONE) io_close(intake->o.shard->io, intake->listeners[i], shard_token(intake->o.token_kind, OP_REFUSED, 0, 0));
    intake->listeners[i] = IO_NONE;
  }
  for (uint32_t i = 0; i < intake->sessions.capacity; i++) {
    struct session *s = pool_slot(&intake->sessions, i);
    if (s != NULL && !s->waiting && !smtp_server_in_transaction(&s->server)) say_goodbye(s);
  }
}

bool intake_idle(const struct intake *intake) { return intake->sessions.used == 0; }

void intake_close(struct intake *intake) {
  if (intake == NULL) return;
  for (uint32_t i = 0; i < intake->sessions.capacity && intake->sessions.used > 0; i++) {
    struct session *s = pool_slot(&intake->sessions, i);
    if (s == NULL) continue;
    timer_cancel(&intake->o.shard->wheel, &s->timer);
    abandon_unless_ended(s);
    s->dirty = false;
    end_session(s);
  }
  pool_fini(&intake->sessions);
  free(intake->listeners);
  free(intake);
}
