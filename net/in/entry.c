/* How a connection becomes a session: whose it is, whether there may be one more, and the banner. */
#include "core/conf/dns_lists.h"
#include "net/in/access.h"
#include "net/in/inside.h"
#include "net/in/proxy.h"

#define PROXY_MS 10000 /* a load balancer has its header at hand */

static const struct conf *conf_of(const struct session *s) { return s->intake->o.conf; }

static void refuse(struct session *s, const char *enhanced, const char *text) {
  count_add(s->intake->o.counters, COUNT_SESSIONS_REFUSED, 1);
  if (s->implicit_tls) { /* a handshake to say so would be more than it may have */
    session_close(s);
  } else {
    session_greet(s, enhanced, text);
  }
}

/* May its client have one more? */
static bool is_welcome(struct session *s) {
  const struct intake *intake = s->intake;
  const struct guard_limits *limits = &intake->client_limits;
  uint64_t now_ms = intake->o.shard->now_ms;
  uint8_t room[GUARD_CLIENT_KEY];
  if (!s->limited || intake->o.guard == NULL) return true;
  if (!guard_enter(intake->o.guard, limits, guard_client(&s->peer, room), now_ms, &s->guard)) {
    refuse(s, "4.7.0", "too many sessions from your address, try again later");
  } else if (!guard_count(s->guard, limits, CLIENT_CONNECTIONS, now_ms)) {
    refuse(s, "4.7.0", "too many connections from your address, try again later");
  } else if (!guard_allows(s->guard, limits, CLIENT_ERRORS, now_ms)) {
    refuse(s, "4.7.0", "too many errors from your address, try again later");
  } else {
    return true;
  }
  return false;
}

/* It is known who it is. */
static void admit(struct session *s) {
  s->may_relay = access_may_relay(conf_of(s), &s->peer);
  s->limited = access_is_limited(conf_of(s), &s->peer);
  if (!is_welcome(s)) return;
  listing_begin(s);
  if (s->implicit_tls) {
    if (!secure_can_begin(s) || !secure_begin(s)) session_close(s); /* in the clear nothing can be said */
    return;
  }
  if (!s->limited || conf_of(s)->greeting_delay_ms == 0) {
    session_greet(s, NULL, NULL);
    return;
  }
  s->stage = STAGE_SILENT;
  session_arm_timer(s, conf_of(s)->greeting_delay_ms);
}

/* ---- whose it is ---- */

/* What is behind the header is the client's. */
static void take_header(struct session *s, struct span bytes) {
  struct proxy_header header = {.len = 0};
  if (!buffer_append(s->intake->o.slab, &s->stash, bytes)) {
    session_close(s);
    return;
  }
  enum proxy_verdict verdict = proxy_parse(buffer_span(&s->stash), &header);
  if (verdict == PROXY_MORE) return;
  if (verdict == PROXY_INVALID) { /* nobody is there to whom a reply would mean something */
    count_add(s->intake->o.counters, COUNT_SESSIONS_REFUSED, 1);
    session_close(s);
    return;
  }
  struct buffer rest = s->stash;
  s->stash = (struct buffer){0};
  buffer_consume(&rest, (uint32_t)header.len);
  if (header.client.family != 0) s->peer = header.client;
  admit(s);
  if (rest.len > 0 && !s->closing) entry_received(s, buffer_span(&rest));
  buffer_free(s->intake->o.slab, &rest);
}

/* ---- its stages ---- */

static uint8_t kind_of(const struct intake *intake, const struct conf_listener *listener) {
  bool auth = listener->auth != CONF_AUTH_OFF && intake->o.directory != NULL;
  return (uint8_t)((auth ? OFFERS_AUTH : 0) | (auth && listener->auth == CONF_AUTH_REQUIRED ? NEEDS_AUTH : 0) |
                   (listener->auth_in_clear ? AUTH_IN_CLEAR : 0) | (listener->tls == CONF_TLS_STARTTLS ? OFFERS_TLS : 0));
}

void entry_begin(struct intake *intake, struct session *s, io_socket socket, const struct conf_listener *listener) {
  s->intake = intake;
  s->socket = socket;
  s->tag = pool_generation(&intake->sessions, pool_index(&intake->sessions, s));
  s->id = submit_new_id(&intake->submit);
  s->implicit_tls = listener->tls == CONF_TLS_IMPLICIT;
  s->kind = kind_of(intake, listener);
  s->certificates = (uint8_t)listener->client_certificates;
  s->submits = listener->submission;
  s->dns_lists = dns_lists_share(listener->dns_lists);
  session_init_timer(s);
  io_peer(intake->o.shard->io, socket, &s->peer);
  count_add(intake->o.counters, COUNT_SESSIONS, 1);
  if (networks_contain(listener->proxy_from, listener->proxy_from_count, &s->peer)) {
    s->stage = STAGE_PROXY;
    session_arm_timer(s, PROXY_MS);
  } else {
    admit(s);
  }
  if (!s->closing) io_receive(intake->o.shard->io, socket, session_token(s, OP_RECEIVE));
}

void entry_received(struct session *s, struct span bytes) {
  switch ((enum session_stage)s->stage) {
  case STAGE_PROXY: take_header(s, bytes); break;
  case STAGE_SILENT:
    refuse(s, "5.5.1", "it is the server who speaks first");
    break; /* RFC 5321 3.1: only programs that do not care about replies do so */
  case STAGE_HANDSHAKE: secure_received(s, bytes); break;
  case STAGE_OPEN: (s->tls != NULL ? secure_received : session_received)(s, bytes); break;
  }
}

void entry_timed_out(struct session *s) {
  if (s->stage == STAGE_SILENT) {
    session_greet(s, NULL, NULL);
  } else {
    if (s->stage == STAGE_HANDSHAKE) count_add(s->intake->o.counters, COUNT_TLS_FAILED, 1);
    session_close(s);
  }
}
