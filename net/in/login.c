/* AUTH: who a client is. The mechanism is net/auth/sasl.h's, the password's check net/auth/verify.h's; here they meet the session. */
#include "core/base/error.h"
#include "net/auth/sasl.h"
#include "net/in/inside.h"

#define NONCE_BYTES 18 /* 24 characters of base64 */

struct login {
  struct sasl sasl;
  struct users *users; /* those its name was looked up in */
};

/* ---- answers ---- */

/* A challenge may be longer than a reply. */
static void challenge(struct session *s, struct span text, struct fmt *out) {
  session_close_out(s, out);
  if (!buffer_reserve(s->intake->o.slab, &s->out, text.len + SMTP_REPLY_ROOM)) {
    *out = buffer_fmt(&s->out);
    smtp_server_refuse(&s->server, out, 454, "4.7.0", "no memory, try again later");
    login_forget(s);
    return;
  }
  *out = buffer_fmt(&s->out);
  smtp_server_challenge(&s->server, text, out);
}

static void refuse(struct session *s, struct fmt *out, unsigned code, const char *enhanced, const char *text) {
  smtp_server_refuse(&s->server, out, code, enhanced, text);
  login_forget(s);
}

static bool is_locked(const struct session *s, struct span name) {
  return lockout_ask(s->intake->lockout, &s->peer, name, s->intake->o.shard->now_ms).locked;
}

static void refuse_locked(struct session *s, struct fmt *out) {
  count_add(s->intake->o.counters, COUNT_AUTH_FAILED, 1);
  refuse(s, out, 454, "4.7.0", "too many failures, try again later");
}

/* Who fails has to wait for the answer, longer each time. */
static void fail(struct session *s, struct fmt *out) {
  struct span name = s->login->sasl.name;
  uint64_t delay_ms = lockout_failed(s->intake->lockout, &s->peer, name, s->intake->o.shard->now_ms).delay_ms;
  count_add(s->intake->o.counters, COUNT_AUTH_FAILED, 1);
  refuse(s, out, 535, "5.7.8", "authentication failed");
  session_hold(s, delay_ms);
}

static struct guard_limits limits_of(const struct user *user) {
  return (struct guard_limits){
      .rate = {[USER_MINUTE] = {user->per_minute, 60}, [USER_HOUR] = {user->per_hour, 3600}, [USER_DAY] = {user->per_day, 86400}}};
}

static void succeed(struct session *s, struct fmt *out) {
  struct intake *intake = s->intake;
  struct span name = s->login->sasl.name;
  const struct user *user = users_find(directory_users(&intake->users), name);
  uint64_t now_ms = intake->o.shard->now_ms;
  if (user == NULL || user->disabled) {
    fail(s, out);
    return;
  }
  if (!buffer_append(intake->o.slab, &s->user, name)) {
    refuse(s, out, 454, "4.7.0", "no memory, try again later");
    return;
  }
  struct guard_limits limits = limits_of(user);
  if (intake->o.guard != NULL) (void)guard_enter(intake->o.guard, &limits, name, now_ms, &s->user_guard);
  lockout_succeeded(intake->lockout, &s->peer, name, now_ms);
  count_add(intake->o.counters, COUNT_AUTHENTICATED, 1);
  s->may_relay = true;
  smtp_server_accept(&s->server, out);
  login_forget(s);
}

/* ---- steps ---- */

/* The users at the time of asking: a change of the file in between does not matter. */
static void look_up(struct session *s) {
  struct login *login = s->login;
  if (login->users == NULL) login->users = users_share(directory_users(&s->intake->users));
}

static const struct scram_keys *keys_of(const struct login *login) {
  const struct user *user = users_find(login->users, login->sasl.name);
  return user == NULL || user->disabled || user->scram.iterations == 0 ? NULL : &user->scram;
}

/* Asks about the password. False: the answer comes later, or the session is answered. */
static bool check(struct session *s, enum sasl_event *event, struct fmt *out) {
  struct sasl *sasl = &s->login->sasl;
  look_up(s);
  switch (verify_ask(s->intake->lane, s->login->users, sasl->name, sasl->password, session_token(s, OP_SEND))) {
  case VERIFY_RIGHT: *event = sasl_checked(sasl, true); return true;
  case VERIFY_WAIT:
    s->waiting = true;
    timer_cancel(&s->intake->o.shard->wheel, &s->timer); /* the peer owes nothing */
    return false;
  case VERIFY_BUSY: break;
  }
  refuse(s, out, 454, "4.7.0", "too many authentications at a time, try again later");
  return false;
}

/* Goes on until it is the client's turn, or somebody else's, or over. */
static void go(struct session *s, enum sasl_event event, struct fmt *text, struct fmt *out) {
  struct sasl *sasl = &s->login->sasl;
  for (;;) {
    switch (event) {
    case SASL_CHALLENGE: challenge(s, fmt_span(text), out); return;
    case SASL_CHECK:
    case SASL_LOOKUP:
      if (is_locked(s, sasl->name)) {
        refuse_locked(s, out);
        return;
      }
      if (event == SASL_LOOKUP) {
        look_up(s);
        event = sasl_keys(sasl, keys_of(s->login), text);
      } else if (!check(s, &event, out)) {
        return;
      }
      break;
    case SASL_SUCCESS: succeed(s, out); return;
    case SASL_FAILURE: fail(s, out); return;
    case SASL_CANCELED: refuse(s, out, 501, "5.7.0", "authentication canceled"); return;
    case SASL_MALFORMED: refuse(s, out, 501, "5.5.2", "that is no answer of this mechanism"); return;
    case SASL_INVALID: must(false);
    }
  }
}

/* What came may have a password in it: of the buffer it came in nothing is left. */
static void wipe(struct span bytes) { secret_wipe((void *)(uintptr_t)bytes.at, bytes.len); }

void login_begin(struct session *s, struct fmt *out) {
  struct intake *intake = s->intake;
  struct smtp_auth auth = s->server.auth;
  enum sasl_mechanism mechanism = sasl_mechanism(auth.mechanism);
  uint8_t random[NONCE_BYTES], nonce_room[BASE64_LENGTH(NONCE_BYTES)], room[SASL_CHALLENGE_MAX];
  struct fmt nonce = fmt_over(nonce_room, sizeof nonce_room), text = fmt_over(room, sizeof room);
  if (mechanism == SASL_NONE) {
    refuse(s, out, 504, "5.5.4", "there is no such mechanism here");
    return;
  }
  if (is_locked(s, span_of(NULL, 0))) {
    refuse_locked(s, out);
    return;
  }
  s->login = slab_get(intake->o.slab, sizeof *s->login);
  if (s->login == NULL) {
    refuse(s, out, 454, "4.7.0", "no memory, try again later");
    return;
  }
  s->login->users = NULL;
  io_random(intake->o.shard->io, random, sizeof random);
  base64_encode(&nonce, span_of(random, sizeof random));
  struct sasl_setup setup = {.nonce = fmt_span(&nonce), .secret = intake->o.login_secret, .iterations = SCRAM_ITERATIONS};
  enum sasl_event event = sasl_begin(&s->login->sasl, mechanism, &setup, auth.initial, auth.initial_given, &text);
  wipe(auth.initial);
  go(s, event, &text, out);
}

void login_line(struct session *s, struct fmt *out) {
  uint8_t room[SASL_CHALLENGE_MAX];
  struct fmt text = fmt_over(room, sizeof room);
  struct span line = s->server.auth_line;
  enum sasl_event event = sasl_take(&s->login->sasl, line, &text);
  wipe(line);
  go(s, event, &text, out);
}

void login_answered(void *context, uint64_t token, bool right) {
  struct session *s = session_find(context, token);
  uint8_t room[SASL_CHALLENGE_MAX];
  struct fmt text = fmt_over(room, sizeof room), out;
  if (s == NULL || s->login == NULL) return;
  s->waiting = false;
  if (!session_open_out(s, &out)) {
    session_close(s);
    return;
  }
  go(s, sasl_checked(&s->login->sasl, right), &text, &out);
  if (s->server.errors > s->errors_seen) session_note_errors(s, &out);
  session_close_out(s, &out);
  session_go_on(s);
}

void login_forget(struct session *s) {
  struct login *login = s->login;
  if (login == NULL) return;
  s->login = NULL;
  sasl_wipe(&login->sasl);
  users_drop(login->users);
  slab_put(s->intake->o.slab, login, sizeof *login);
}

void login_out(struct session *s) {
  login_forget(s);
  s->user.len = 0;
  s->user_recipients_max = 0;
  guard_leave(s->user_guard);
  s->user_guard = NULL;
}

/* ---- what a user may do: as the users file says now ---- */

static bool is_too_fast(const struct session *s, const struct user *user) {
  struct guard_limits limits = limits_of(user);
  uint64_t now_ms = s->intake->o.shard->now_ms;
  for (unsigned rate = USER_MINUTE; rate <= USER_DAY; rate++)
    if (!guard_allows(s->user_guard, &limits, rate, now_ms)) return true;
  bool all = true;
  for (unsigned rate = USER_MINUTE; rate <= USER_DAY; rate++) all &= guard_count(s->user_guard, &limits, rate, now_ms);
  return !all;
}

bool login_may_send(struct session *s, struct span sender, struct fmt *out) {
  if (s->user.len == 0) return true;
  const struct user *user = users_find(directory_users(&s->intake->users), buffer_span(&s->user));
  if (user == NULL || user->disabled) {
    session_refuse(s, out, 550, "5.7.1", "this user may not send any more");
  } else if (!users_may_send(user, sender)) {
    session_refuse(s, out, 553, "5.7.1", "this user may not send as that address");
  } else if (is_too_fast(s, user)) {
    session_refuse(s, out, 450, "4.7.1", "too many messages of this user, try again later");
  } else {
    s->user_recipients_max = user->recipients_max;
    return true;
  }
  return false;
}

struct span login_tenant(const struct session *s) {
  if (s->user.len == 0) return span_of(NULL, 0);
  const struct user *user = users_find(directory_users(&s->intake->users), buffer_span(&s->user));
  return user == NULL ? span_of(NULL, 0) : user->tenant;
}
