/* TLS of a session: between its socket and the server machine. */
#include "core/base/error.h"
#include "net/in/inside.h"

static struct slab *slab_of(const struct session *s) { return s->intake->o.slab; }

static struct tls_server *server_of(const struct session *s) {
  return certificates_server(s->intake->certificates, s->certificates != CONF_CLIENTS_UNASKED);
}

bool secure_can_begin(const struct session *s) { return server_of(s) != NULL && slab_has_room(slab_of(s), TLS_BYTES); }

bool secure_begin(struct session *s) {
  s->tls = tls_accept(server_of(s), slab_of(s), s->intake->o.shard->wall_ms);
  if (s->tls == NULL) return false;
  s->stage = STAGE_HANDSHAKE;
  session_arm_timer(s, s->intake->o.conf->tls_handshake_ms);
  return true;
}

/* The handshake is done. */
static void opened(struct session *s) {
  count_add(s->intake->o.counters, COUNT_TLS_SESSIONS, 1);
  if (tls_resumed(s->tls)) count_add(s->intake->o.counters, COUNT_TLS_RESUMED, 1);
  s->certified = s->certificates != CONF_CLIENTS_UNASKED && tls_trust(s->tls).by == TLS_TRUSTED;
  s->may_relay |= s->certified;
  if (s->implicit_tls) {
    session_greet(s, NULL, NULL);
    if (!s->leaving && !s->closing) smtp_server_secured(&s->server);
  } else {
    s->stage = STAGE_OPEN;
    smtp_server_secured(&s->server);
    session_await_peer(s);
  }
}

static void look_whether_open(struct session *s) {
  if (s->stage == STAGE_HANDSHAKE && tls_state(s->tls) == TLS_OPEN) opened(s);
}

static void take(void *who, struct span plaintext) {
  struct session *s = who;
  look_whether_open(s);
  if (!s->closing) session_received(s, plaintext);
}

void secure_trim(struct session *s) {
  bool at_rest = s->tls != NULL && s->stage == STAGE_OPEN && !s->closing && !s->waiting && !s->send_under_way;
  if (at_rest && s->quiet) {
    tls_trim(s->tls);
    tls_count(s->tls, slab_of(s), &s->tls_counted);
  }
  s->quiet = at_rest;
}

void secure_received(struct session *s, struct span bytes) {
  s->quiet = false;
  int error = tls_feed(s->tls, bytes, &s->sealed, take, s);
  if (s->closing) return;
  look_whether_open(s);
  tls_count(s->tls, slab_of(s), &s->tls_counted);
  if (s->closing) return;
  if (s->sealed.len > 0) session_mark_dirty(s);
  if (!s->leaving) session_receive_on(s);
  if (error == E_CLOSED) session_stream_ended(s);
  if (error == E_NO_MEMORY) session_close(s);
  if (error == E_PROTOCOL) { /* the alert may still go */
    count_add(s->intake->o.counters, COUNT_TLS_FAILED, 1);
    session_abandon(s);
  }
}

bool secure_seal(struct session *s) {
  bool sealed = true;
  if (s->out.len > 0 && tls_state(s->tls) == TLS_OPEN) {
    struct span plaintext = buffer_span(&s->out);
    sealed = tls_write(s->tls, &plaintext, 1, &s->sealed) == E_OK;
  }
  bool over = tls_state(s->tls) != TLS_HELLO && tls_state(s->tls) != TLS_HANDSHAKE;
  if (over) buffer_free(slab_of(s), &s->out); /* sent, or nobody is there to read it */
  if (sealed && s->leaving && over) tls_close(s->tls, &s->sealed);
  return sealed;
}

void secure_fini(struct session *s) {
  if (s->tls == NULL) return;
  tls_uncount(slab_of(s), &s->tls_counted);
  tls_free(s->tls);
  s->tls = NULL;
}
