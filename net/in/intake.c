#include "net/in/intake.h"

#include <stdlib.h>

#include "core/base/error.h"
#include "net/auth/sasl.h"
#include "net/in/inside.h"
#include "net/in/listen.h"
#include "net/in/reception.h"

#define IDLE_COMMANDS_MAX 1000 /* without a message: no client needs so many */
#define SURPLUS_MAX 100000     /* recipients refused for now, without a message: a whole list, piped at once; each costs a reply and no memory */

/* ---- slots ---- */

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

/* The token of an accept carries the listener's socket where others have the generation. NULL: it is closed meanwhile. */
static const struct conf_listener *listener_of(const struct intake *intake, uint64_t token) {
  for (unsigned i = 0; i < intake->o.conf->listeners_count; i++)
    if (intake->listeners[i] == (io_socket)shard_token_generation(token)) return &intake->o.conf->listeners[i];
  return NULL;
}

static void accept_session(struct intake *intake, io_socket socket, const struct conf_listener *listener) {
  struct session *s = listener == NULL ? NULL : new_session(intake);
  if (s != NULL) {
    entry_begin(intake, s, socket, listener);
  } else {
    refuse_session(intake, socket);
  }
}

static void end_session(struct session *s) {
  struct intake *intake = s->intake;
  must(!s->dirty);
  session_fini(s);
  pool_put(&intake->sessions, s);
  give_place(intake);
}

/* ---- the shard's turn ---- */

void intake_complete(void *context, const struct io_completion *completion) {
  struct intake *intake = context;
  unsigned operation = shard_token_operation(completion->token);
  if (operation == OP_REFUSED) return;
  if (operation == OP_UNLISTENED) {
    must(intake->closing > 0);
    intake->closing--;
    return;
  }
  if (operation == OP_REFUSING) {
    io_socket socket = (io_socket)shard_token_generation(completion->token);
    io_close(intake->o.shard->io, socket, shard_token(intake->o.token_kind, OP_REFUSED, 0, 0));
    return;
  }
  if (operation == OP_ACCEPT) {
    if (completion->result >= 0) accept_session(intake, (io_socket)completion->result, listener_of(intake, completion->token));
    return;
  }
  struct session *s = pool_find(&intake->sessions, shard_token_slot(completion->token), shard_token_generation(completion->token));
  must(s != NULL); /* its close completes last */
  if (operation == OP_CLOSE) {
    end_session(s);
  } else if (s->closing) {
    return; /* from the same batch as what made us close */
  } else if (operation == OP_SEND) {
    session_sent(s, completion->result);
  } else if (completion->result > 0) {
    entry_received(s, completion->bytes);
  } else if (completion->result == 0) {
    session_stream_ended(s);
  } else {
    session_close(s);
  }
}

void intake_turn(struct intake *intake) {
  while (intake->dirty != NULL) {
    struct session *s = intake->dirty;
    intake->dirty = s->next_dirty;
    s->dirty = false;
    session_flush(s);
  }
  count_set(intake->o.counters, GAUGE_SESSIONS, intake->sessions.used);
}

/* ---- life ---- */

static uint64_t accept_token(const struct intake *intake, io_socket listener) {
  return shard_token(intake->o.token_kind, OP_ACCEPT, 0, (uint32_t)listener);
}
static uint64_t closed_token(const struct intake *intake) { return shard_token(intake->o.token_kind, OP_UNLISTENED, 0, 0); }

static void close_listener(struct intake *intake, io_socket listener) {
  if (listener == IO_NONE) return;
  io_close(intake->o.shard->io, listener, closed_token(intake));
  intake->closing++;
}

/* The machines of all sessions look here: new limits hold for those that are open, too. */
static void take_limits(struct intake *intake, const struct conf *conf) {
  for (unsigned kind = 0; kind < LISTENER_KINDS; kind++) {
    struct smtp_server_options *options = &intake->server_options[kind];
    options->message_size_max = conf->message_size_max;
    options->recipients_max = conf->recipients_max;
    options->messages_max = conf->session_messages_max;
    options->errors_max = conf->session_errors_max;
  }
  intake->client_limits = (struct guard_limits){.sessions = conf->clients.sessions,
                                                .rate = {[CLIENT_CONNECTIONS] = {conf->clients.connections, 60},
                                                         [CLIENT_MESSAGES] = {conf->clients.messages, 60},
                                                         [CLIENT_RECIPIENTS] = {conf->clients.recipients, 60},
                                                         [CLIENT_ERRORS] = {conf->clients.errors, 60}}};
}

#define TRIM_MS 1000
#define TRIM_SLOTS 2048 /* looked at in a turn: some microseconds, but for those that are trimmed */

static void trim(void *context, struct timer *timer) {
  (void)context;
  struct intake *intake = (struct intake *)((uint8_t *)timer - offsetof(struct intake, trim_timer));
  for (uint32_t i = 0; i < TRIM_SLOTS && i < intake->sessions.capacity; i++) {
    if (intake->trim_at >= intake->sessions.capacity) intake->trim_at = 0;
    struct session *s = pool_slot(&intake->sessions, intake->trim_at++);
    if (s != NULL) secure_trim(s);
  }
  timer_set(&intake->o.shard->wheel, timer, intake->o.shard->now_ms + TRIM_MS);
}

static void begin_to_trim(struct intake *intake) {
  if (intake->certificates == NULL || intake->stopping || timer_is_set(&intake->trim_timer)) return;
  intake->trim_timer.fire = trim;
  timer_set(&intake->o.shard->wheel, &intake->trim_timer, intake->o.shard->now_ms + TRIM_MS);
}

static int open_logins(struct intake *intake) {
  const struct intake_options *o = &intake->o;
  uint64_t seed;
  directory_view_init(&intake->users, o->directory);
  if (o->directory == NULL) return E_OK;
  intake->lane = verify_lane(o->verify, o->shard->index, o->shard, login_answered, intake);
  io_random(o->shard->io, &seed, sizeof seed);
  return lockout_open(&intake->lockout, &lockout_defaults, seed);
}

int intake_open(struct intake **out, const struct intake_options *options) {
  const struct conf *conf = options->conf;
  struct intake *intake = calloc(1, sizeof *intake);
  if (intake == NULL) return E_NO_MEMORY;
  intake->o = *options;
  for (unsigned kind = 0; kind < LISTENER_KINDS; kind++)
    intake->server_options[kind] = (struct smtp_server_options){.hostname = span_of_text(conf->hostname),
                                                                .idle_commands_max = IDLE_COMMANDS_MAX,
                                                                .surplus_max = SURPLUS_MAX,
                                                                .auth_mechanisms = kind & OFFERS_AUTH ? SPAN(SASL_MECHANISMS) : span_of(NULL, 0),
                                                                .auth_required = (kind & NEEDS_AUTH) != 0,
                                                                .auth_in_clear = (kind & AUTH_IN_CLEAR) != 0,
                                                                .starttls = (kind & OFFERS_TLS) != 0};
  take_limits(intake, conf);
  intake->submit = (struct submit_context){.shard = options->shard,
                                           .slab = options->slab,
                                           .spool = options->spool,
                                           .schedule = options->schedule,
                                           .hostname = span_of_text(conf->hostname),
                                           .heeds_header = conf->dane || conf->mta_sts,
                                           .last_id = options->newest_id};
  struct fmt refusal = fmt_over(intake->refusal_text, sizeof intake->refusal_text);
  fmt_text(&refusal, "421 4.3.2 ");
  fmt_text(&refusal, conf->hostname);
  fmt_text(&refusal, " has too many sessions or is shutting down, try again later\r\n");
  intake->refusal = (struct io_slice){refusal.at, refusal.len};
  intake->certificates = certificates_share(options->certificates);
  int error = open_logins(intake);
  uint32_t sockets = io_sockets_max(options->shard->io); /* slots for all of them: one that is not used takes no memory */
  if (error == E_OK) error = pool_init(&intake->sessions, sizeof(struct session), sockets);
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
    io_accept(io, intake->listeners[i], accept_token(intake, intake->listeners[i]));
  begin_to_trim(intake);
  return error;
}

int intake_prepare(struct intake *intake, const struct conf *conf, struct fmt *why) {
  unsigned count = conf->listeners_count;
  must(intake->next.conf == NULL);
  intake->next.conf = conf;
  intake->next.listeners = calloc(count, sizeof *intake->next.listeners);
  intake->next.is_new = calloc(count, sizeof *intake->next.is_new);
  int error = intake->next.listeners == NULL || intake->next.is_new == NULL ? E_NO_MEMORY : E_OK;
  if (error == E_OK)
    error = listen_change(intake->o.shard->io, intake->o.conf, intake->listeners, conf, intake->o.shard->index, intake->next.listeners,
                          intake->next.is_new, why);
  if (error != E_OK) intake_abort(intake);
  return error;
}

static void forget_next(struct intake *intake) {
  free(intake->next.is_new);
  intake->next.conf = NULL;
  intake->next.listeners = NULL;
  intake->next.is_new = NULL;
}

void intake_abort(struct intake *intake) {
  const struct conf *next = intake->next.conf;
  if (next == NULL) return;
  for (unsigned i = 0; intake->next.listeners != NULL && intake->next.is_new != NULL && i < next->listeners_count; i++)
    if (intake->next.is_new[i]) close_listener(intake, intake->next.listeners[i]);
  free(intake->next.listeners);
  forget_next(intake);
}

void intake_commit(struct intake *intake) {
  const struct conf *next = intake->next.conf, *now = intake->o.conf;
  struct io *io = intake->o.shard->io;
  if (next == NULL) return; /* a stop came in between */
  for (unsigned i = 0; i < next->listeners_count; i++)
    if (intake->next.is_new[i]) io_accept(io, intake->next.listeners[i], accept_token(intake, intake->next.listeners[i]));
  intake->closing +=
      listen_close_others(io, intake->listeners, now->listeners_count, intake->next.listeners, next->listeners_count, closed_token(intake));
  free(intake->listeners);
  intake->listeners = intake->next.listeners;
  intake->o.conf = next;
  take_limits(intake, next);
  intake->submit.heeds_header = next->dane || next->mta_sts;
  forget_next(intake);
}

bool intake_is_settled(const struct intake *intake) { return intake->closing == 0; }

void intake_take_certificates(struct intake *intake, struct certificates *certificates) {
  certificates_put(intake->certificates);
  intake->certificates = certificates;
  begin_to_trim(intake);
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
  timer_cancel(&intake->o.shard->wheel, &intake->trim_timer);
  intake_abort(intake);
  for (unsigned i = 0; i < intake->o.conf->listeners_count; i++) {
    close_listener(intake, intake->listeners[i]);
    intake->listeners[i] = IO_NONE;
  }
  for (uint32_t i = 0; i < intake->sessions.capacity; i++) {
    struct session *s = pool_slot(&intake->sessions, i);
    if (s != NULL && !s->waiting && !smtp_server_in_transaction(&s->server)) session_say_goodbye(s);
  }
}

bool intake_idle(const struct intake *intake) { return intake->sessions.used == 0; }

void intake_close(struct intake *intake) {
  if (intake == NULL) return;
  for (uint32_t i = 0; i < intake->sessions.capacity && intake->sessions.used > 0; i++) {
    struct session *s = pool_slot(&intake->sessions, i);
    if (s == NULL) continue;
    s->dirty = false;
    end_session(s);
  }
  listings_close(intake);
  intake_abort(intake);
  timer_cancel(&intake->o.shard->wheel, &intake->trim_timer);
  directory_view_fini(&intake->users);
  lockout_close(intake->lockout);
  certificates_put(intake->certificates);
  pool_fini(&intake->sessions);
  free(intake->listeners);
  free(intake);
}
