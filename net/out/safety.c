/* TLS and AUTH of a connection that goes out: between its socket and the client machine. */
#include "core/base/error.h"
#include "net/out/connection.h"
#include "net/out/security.h"

#define BROKEN_MS 259200000 /* three days: TLS that does not work may have been mended since */
#define REFUSED_MS 3600000  /* "not available due to temporary reason" (RFC 3207 4) */
#define TEXT_ROOM 256

static struct slab *slab_of(const struct connection *c) { return c->outlet->o.slab; }
static struct target *target_of(const struct connection *c) { return site_target(c->site, &c->peer.address); }

static void decide(const struct connection *c, struct security *security) {
  const struct target *target = target_of(c);
  bool plain = c->tls_refused || (target != NULL && target->tls_broken_until_ms > c->outlet->o.shard->now_ms);
  security_decide(c->site, c->proof, c->host, plain, security);
  if (c->outlet->o.tls == NULL && security->mode == SECURITY_MAY) security->mode = SECURITY_CLEAR;
}

/* ---- what the host could not prove ---- */

static void note_result(struct connection *c, enum proof_result result) {
  if (c->proof != NULL) c->peer.tls_result = proof_result_text(result);
}

/* Of a handshake that came to nothing. */
static enum proof_result result_of(const struct connection *c) {
  struct tls_trust trust = c->tls != NULL ? tls_trust(c->tls) : (struct tls_trust){0};
  enum proof_result result = proof_result_of(&trust);
  return result == PROOF_FINE ? PROOF_FAILED : result;
}

/* What is demanded in vain is only told (RFC 8461 5: testing). */
static bool is_only_told(const struct connection *c) { return c->proof != NULL && c->proof->demand == DEMAND_TRY_VERIFY; }

static void tell_opened(struct connection *c) {
  struct tls_trust trust = tls_trust(c->tls);
  if (is_only_told(c)) note_result(c, c->proof->misses_policy ? PROOF_FAILED : proof_result_of(&trust));
}

/* ---- failures ---- */

static void fail_with(struct connection *c, enum failure_kind kind, const char *what, const char *why) {
  char room[TEXT_ROOM];
  struct fmt text = fmt_over(room, sizeof room - 1);
  fmt_put(&text, span_first(span_of_text(what), sizeof room - 1));
  fmt_put(&text, span_first(span_of_text(why), fmt_room(&text)));
  room[text.len] = '\0';
  connection_fail(c, &(struct failure){.kind = kind, .text = room});
}

bool safety_is_handshaking(const struct connection *c) { return c->tls != NULL && !c->secured; }

/* For how long the host is spoken to in the clear, where that may be. */
static void note_broken(const struct connection *c, uint64_t for_ms) {
  struct target *target = target_of(c);
  if (target != NULL) target->tls_broken_until_ms = c->outlet->o.shard->now_ms + for_ms;
}

static const char *reason_of(const struct connection *c, const struct failure *failure) {
  if (c->tls != NULL && tls_error(c->tls)[0] != '\0') return tls_error(c->tls);
  return failure->text != NULL ? failure->text : error_text(failure->error);
}

/* Not of our own lack of something. */
static bool is_of_peer(const struct failure *failure) {
  bool lacks = failure->error == E_FULL || failure->error == E_NO_MEMORY || failure->error == E_TOO_MANY_FILES || failure->error == E_CANCELED;
  return failure->kind == FAILURE_PROTOCOL || (failure->kind == FAILURE_NETWORK && !lacks);
}

/* From STARTTLS on. Some servers end the handshake and then do not go on (they want a certificate, or their own TLS broke): until the answer to EHLO it counts as TLS. */
bool safety_explain(struct connection *c, struct failure *failure, char room[SAFETY_TEXT_ROOM]) {
  struct security security;
  bool under_way = c->tls != NULL || (c->state == CONNECTION_GREETING && smtp_client_stage(&c->client) == SMTP_STAGE_STARTTLS);
  if (!under_way || c->state >= CONNECTION_OPEN || !is_of_peer(failure)) return false;
  decide(c, &security);
  count_add(c->outlet->o.counters, COUNT_CONNECTIONS_TLS_FAILED, 1);
  struct fmt text = fmt_over(room, SAFETY_TEXT_ROOM - 1);
  fmt_text(&text, "TLS: ");
  fmt_put(&text, span_first(span_of_text(reason_of(c, failure)), fmt_room(&text)));
  room[text.len] = '\0';
  *failure = (struct failure){.kind = FAILURE_TLS, .text = room};
  note_result(c, result_of(c));
  if (c->resuming && !c->secured) { /* perhaps it is only the session that the server does not like any more */
    struct target *target = target_of(c);
    if (target != NULL) safety_forget_session(slab_of(c), target);
    return true;
  }
  if (security.mode == SECURITY_MUST) return false;
  note_broken(c, BROKEN_MS);
  return true;
}

/* ---- sessions to resume ---- */

void safety_forget_session(struct slab *slab, struct target *target) {
  if (target->session == NULL) return;
  slab_uncount(slab, target->session_counted);
  tls_session_free(target->session);
  target->session = NULL;
}

void safety_keep_session(struct connection *c) {
  struct target *target = target_of(c);
  if (c->session_kept || !c->secured || target == NULL) return;
  struct tls_session *session = tls_session_take(c->tls);
  if (session == NULL) return;
  if (!slab_count(slab_of(c), tls_session_bytes(session))) {
    tls_session_free(session);
    return;
  }
  safety_forget_session(slab_of(c), target);
  target->session = session;
  target->session_counted = tls_session_bytes(session);
  c->session_kept = true;
}

/* ---- the handshake ---- */

static void begin_handshake(struct connection *c, const struct security *security) {
  const struct target *target = target_of(c);
  const struct tls_session *session = target != NULL ? target->session : NULL;
  if (slab_has_room(slab_of(c), TLS_BYTES))
    c->tls = tls_connect(c->outlet->o.tls, &security->expect, session, slab_of(c), c->outlet->o.shard->wall_ms, &c->sealed);
  c->resuming = session != NULL;
  if (c->tls == NULL) {
    output_no_memory(c);
    return;
  }
  tls_count(c->tls, slab_of(c), &c->tls_counted);
  connection_mark_dirty(c);
  connection_arm(c);
}

void safety_begin(struct connection *c) {
  struct security security;
  decide(c, &security);
  c->level = c->site->tls;
  if (!security.implicit) return;
  if (c->outlet->o.tls == NULL) {
    fail_with(c, FAILURE_TLS, "TLS: there is none on this host", "");
  } else {
    begin_handshake(c, &security);
  }
}

static void opened(struct connection *c) {
  uint8_t room[SMTP_CLIENT_ROOM];
  struct fmt out = fmt_over(room, sizeof room);
  c->secured = true;
  c->peer.tls_version = tls_version(c->tls);
  c->peer.tls_cipher = tls_cipher(c->tls);
  tell_opened(c);
  count_add(c->outlet->o.counters, COUNT_CONNECTIONS_TLS, 1);
  if (tls_resumed(c->tls)) count_add(c->outlet->o.counters, COUNT_CONNECTIONS_TLS_RESUMED, 1);
  if (smtp_client_stage(&c->client) == SMTP_STAGE_STARTTLS) smtp_client_secured(&c->client, &out);
  if (!output_text(c, fmt_span(&out))) {
    output_no_memory(c);
    return;
  }
  connection_arm(c);
}

static void look_whether_open(struct connection *c) {
  if (!c->secured && tls_state(c->tls) == TLS_OPEN) opened(c);
}

/* ---- bytes ---- */

static void take(void *who, struct span plaintext) {
  struct connection *c = who;
  if (c->state == CONNECTION_CLOSING) return;
  look_whether_open(c);
  if (c->state != CONNECTION_CLOSING) transfer_received(c, plaintext);
}

void safety_received(struct connection *c, struct span bytes) {
  int error = tls_feed(c->tls, bytes, &c->sealed, take, c);
  if (c->state != CONNECTION_CLOSING && error == E_OK) look_whether_open(c);
  tls_count(c->tls, slab_of(c), &c->tls_counted);
  if (c->state == CONNECTION_CLOSING) return;
  if (c->idle) safety_keep_session(c);
  if (c->sealed.len > 0) connection_mark_dirty(c);
  if (error == E_CLOSED) connection_fail(c, &(struct failure){.kind = FAILURE_NETWORK, .error = E_CLOSED});
  if (error == E_NO_MEMORY) output_no_memory(c);
  if (error == E_PROTOCOL) fail_with(c, FAILURE_PROTOCOL, "TLS: ", tls_error(c->tls));
}

#define SEAL_AT_ONCE 16
#define SEAL_RECORD 16384 /* RFC 8446 5.1 */
#define SEAL_OVERHEAD 64  /* of a record, and there may be two more of those for each call than the bytes need */

int safety_seal(struct connection *c, const struct io_slice *slices, unsigned count) {
  size_t total = 0;
  int error = E_OK;
  for (unsigned i = 0; i < count; i++) total += slices[i].len;
  size_t records = total / SEAL_RECORD + 2ul * (count / SEAL_AT_ONCE + 1);
  if (!buffer_reserve(slab_of(c), &c->sealed, total + records * SEAL_OVERHEAD)) return E_FULL;
  for (unsigned at = 0; error == E_OK && at < count; at += SEAL_AT_ONCE) {
    struct span spans[SEAL_AT_ONCE] = {0};
    unsigned some = count - at < SEAL_AT_ONCE ? count - at : SEAL_AT_ONCE;
    for (unsigned i = 0; i < some; i++) spans[i] = span_of(slices[at + i].at, slices[at + i].len);
    error = tls_write(c->tls, spans, some, &c->sealed);
  }
  return error;
}

/* ---- STARTTLS and AUTH ---- */

static void push_or_fail(struct connection *c, const struct fmt *out) {
  if (!output_text(c, fmt_span(out))) output_no_memory(c);
}

static void ask_for_tls(struct connection *c) {
  uint8_t room[SMTP_CLIENT_ROOM];
  struct fmt out = fmt_over(room, sizeof room);
  smtp_client_starttls(&c->client, &out);
  push_or_fail(c, &out);
}

static void say_who_we_are(struct connection *c) {
  uint8_t room[SMTP_CLIENT_ROOM];
  struct fmt out = fmt_over(room, sizeof room);
  if (!smtp_client_can_auth(&c->client)) {
    fail_with(c, FAILURE_AUTH, "AUTH: the server offers neither PLAIN nor LOGIN", "");
    return;
  }
  must(c->secured || c->site->tls == CONF_SECURITY_NONE);
  smtp_client_auth(&c->client, span_of_text(c->site->user), span_of_text(c->site->password), &out);
  push_or_fail(c, &out);
}

/* The server has introduced itself, in the clear or not. True: no more is wanted. */
static bool go_on(struct connection *c) {
  struct security security;
  decide(c, &security);
  if (!c->secured && security.mode != SECURITY_CLEAR) {
    if (c->outlet->o.tls == NULL) {
      fail_with(c, FAILURE_TLS, "TLS: there is none on this host", "");
      return false;
    }
    if (c->client.capabilities.starttls) {
      ask_for_tls(c);
      return false;
    }
    note_result(c, PROOF_NO_STARTTLS);
    if (security.mode == SECURITY_MUST) {
      fail_with(c, FAILURE_TLS, "TLS: it is required, and the server does not offer it", "");
      return false;
    }
  } else if (!c->secured && is_only_told(c) && c->peer.tls_result == NULL) { /* its TLS is known to be broken */
    note_result(c, PROOF_FAILED);
  }
  if (c->site->user == NULL || c->authenticated) return true;
  say_who_we_are(c);
  return false;
}

/* Where it may be, the connection goes on in the clear. */
static bool refused(struct connection *c) {
  struct security security;
  char room[TEXT_ROOM];
  struct fmt text = fmt_over(room, sizeof room - 1);
  decide(c, &security);
  note_result(c, PROOF_NO_STARTTLS);
  if (security.mode == SECURITY_MUST) {
    fmt_u64(&text, c->client.reply.code);
    fmt_char(&text, ' ');
    reply_join(&c->client.reply, &text);
    room[text.len] = '\0';
    fail_with(c, FAILURE_TLS, "TLS: it is required, and the server refused it: ", room);
    return false;
  }
  c->tls_refused = true;
  note_broken(c, c->client.reply.code >= 500 ? BROKEN_MS : REFUSED_MS);
  return go_on(c);
}

static void begin_after_starttls(struct connection *c) {
  struct security security;
  c->tls_refused = false;
  decide(c, &security);
  begin_handshake(c, &security);
}

bool safety_step(struct connection *c, enum smtp_client_event event) {
  switch (event) {
  case SMTP_CLIENT_READY: return go_on(c);
  case SMTP_CLIENT_TLS: begin_after_starttls(c); return false;
  case SMTP_CLIENT_TLS_REFUSED: return refused(c);
  case SMTP_CLIENT_AUTHENTICATED: c->authenticated = true; return go_on(c);
  default: must(false);
  }
}

/* ---- life ---- */

void safety_free(struct connection *c) {
  if (c->tls != NULL) {
    safety_keep_session(c);
    tls_uncount(slab_of(c), &c->tls_counted);
    tls_free(c->tls);
    c->tls = NULL;
  }
  buffer_free(slab_of(c), &c->sealed);
  proof_drop(c->proof);
  c->proof = NULL;
}
