/* The life of an outgoing connection: connect, next target, idle, timers, close. What travels over it is in transfer.c. */
#include "net/out/connection.h"

#include "core/base/error.h"

#define NO_ROOM_MS 50      /* until a connection slot may be free again */
#define QUIT_MS 5000       /* the answer to QUIT is a courtesy */
#define PLAIN_MS 259200000 /* three days: a site that broke on pipelining may have been mended since */

static struct conf const *conf_of(const struct connection *c) { return c->outlet->o.conf; }

uint64_t connection_token(const struct connection *c, enum connection_operation operation) {
  return shard_token(c->outlet->o.token_kind, operation, pool_index(&c->outlet->connections, c), c->tag);
}

void connection_mark_dirty(struct connection *c) {
  if (c->dirty) return;
  c->dirty = true;
  c->next_dirty = c->outlet->dirty_connections;
  c->outlet->dirty_connections = c;
}

/* ---- lists ---- */

static void link_to_site(struct connection *c) {
  c->next = c->site->connections;
  if (c->next != NULL) c->next->prev = c;
  c->site->connections = c;
}

static void unlink_from_site(struct connection *c) {
  if (c->prev != NULL) {
    c->prev->next = c->next;
  } else {
    c->site->connections = c->next;
  }
  if (c->next != NULL) c->next->prev = c->prev;
}

static void idle_link(struct connection *c) {
  c->idle_prev = NULL;
  c->idle_next = c->site->idle;
  if (c->idle_next != NULL) c->idle_next->idle_prev = c;
  c->site->idle = c;
  c->newer = NULL;
  c->older = c->outlet->idle_newest;
  if (c->older != NULL) {
    c->older->newer = c;
  } else {
    c->outlet->idle_oldest = c;
  }
  c->outlet->idle_newest = c;
}

static void idle_unlink(struct connection *c) {
  if (c->idle_prev != NULL) {
    c->idle_prev->idle_next = c->idle_next;
  } else {
    c->site->idle = c->idle_next;
  }
  if (c->idle_next != NULL) c->idle_next->idle_prev = c->idle_prev;
  if (c->newer != NULL) {
    c->newer->older = c->older;
  } else {
    c->outlet->idle_newest = c->older;
  }
  if (c->older != NULL) {
    c->older->newer = c->newer;
  } else {
    c->outlet->idle_oldest = c->newer;
  }
}

void connection_set_idle(struct connection *c, bool idle) {
  if (c->idle == idle) return;
  c->idle = idle;
  if (idle) {
    idle_link(c);
  } else {
    idle_unlink(c);
  }
}

/* ---- timers ---- */

static uint64_t stage_timeout_ms(const struct connection *c) {
  const struct conf *conf = conf_of(c);
  switch (c->state) {
  case CONNECTION_CONNECTING: return conf->timeout_connect_ms;
  case CONNECTION_QUITTING: return QUIT_MS;
  default: break;
  }
  if (safety_is_handshaking(c)) return conf->timeout_command_ms;
  switch (smtp_client_stage(&c->client)) {
  case SMTP_STAGE_GREETING: return conf->timeout_greeting_ms;
  case SMTP_STAGE_CONTENT: return conf->timeout_data_ms;
  case SMTP_STAGE_FINAL: return conf->timeout_final_ms;
  case SMTP_STAGE_IDLE: return c->send_under_way || c->loading != NULL ? conf->timeout_data_ms : conf->idle_ms;
  default: return conf->timeout_command_ms;
  }
}

void connection_arm(struct connection *c) {
  if (c->state == CONNECTION_CLOSING || c->starved || c->unsealed) return;
  timer_set(&c->outlet->o.shard->wheel, &c->timer, c->outlet->o.shard->now_ms + stage_timeout_ms(c));
}

static void timed_out(void *context, struct timer *timer) {
  (void)context;
  struct connection *c = (struct connection *)((uint8_t *)timer - offsetof(struct connection, timer));
  if (c->idle) {
    connection_retire(c);
    return;
  }
  if (c->starved || c->unsealed) {
    transfer_retry(c);
    return;
  }
  struct failure failure = {.kind = FAILURE_NETWORK, .error = E_TIMEOUT};
  connection_fail(c, &failure);
}

/* ---- close ---- */

static void leave(struct connection *c) {
  connection_set_idle(c, false);
  if (c->state < CONNECTION_OPEN) c->site->opening--;
  c->state = CONNECTION_CLOSING;
  timer_cancel(&c->outlet->o.shard->wheel, &c->timer);
}

static void begin_close(struct connection *c) {
  if (c->state == CONNECTION_CLOSING) return;
  leave(c);
  io_close(c->outlet->o.shard->io, c->socket, connection_token(c, CONNECTION_OP_CLOSE));
}

/*
 * In the middle of something the peer may not have read all that was sent. A FIN would wait behind the rest, in the kernel, and for so long the peer would have one connection
 * more than the site's limit, which counts this one no more.
 */
static void begin_abort(struct connection *c) {
  if (c->state == CONNECTION_CLOSING) return;
  leave(c);
  io_abort(c->outlet->o.shard->io, c->socket, connection_token(c, CONNECTION_OP_CLOSE));
}

static void closed(struct connection *c) {
  struct site *site = c->site;
  transfer_free(c);
  unlink_from_site(c);
  site->open--;
  pool_put(&c->outlet->connections, c);
  site_connection_closed(site);
}

void connection_retire(struct connection *c) {
  if (c->state >= CONNECTION_QUITTING) return;
  connection_set_idle(c, false);
  c->retiring = true;
  if (c->state < CONNECTION_OPEN) {
    begin_close(c);
    return;
  }
  if (transfer_busy(c)) return; /* comes again when the last transaction ends */
  uint8_t room[64];
  struct fmt out = fmt_over(room, sizeof room);
  smtp_client_quit(&c->client, &out);
  c->state = CONNECTION_QUITTING;
  if (!buffer_append(c->outlet->o.slab, &c->out, fmt_span(&out)) || c->pieces_count == CONNECTION_PIECES_MAX) {
    begin_close(c);
    return;
  }
  c->pieces[c->pieces_count++] = (struct piece){NULL, c->out.len - (uint32_t)out.len, (uint32_t)out.len};
  connection_mark_dirty(c);
  connection_arm(c);
}

static bool goes_on(const struct connection *c) { return !c->retiring && c->state < CONNECTION_QUITTING; }

void connections_retire_surplus(struct site *site, uint32_t limit) {
  uint32_t going_on = 0;
  for (const struct connection *c = site->connections; c != NULL; c = c->next) going_on += goes_on(c);
  for (; going_on > limit && site->idle != NULL; going_on--) connection_retire(site->idle);
  for (struct connection *c = site->connections; c != NULL && going_on > limit; c = c->next) {
    if (!goes_on(c)) continue;
    connection_retire(c);
    going_on--;
  }
}

void connections_retire_lax(struct site *site) {
  for (struct connection *c = site->connections, *next; c != NULL; c = next) {
    next = c->next;
    if (goes_on(c) && c->level < site->tls) connection_retire(c);
  }
}

/* Servers give another of a host's addresses each time: it is the host that has to prove something. */
static bool is_proof_due(const struct connection *c) {
  for (unsigned i = 0; i < c->site->targets_count; i++) {
    const struct target *target = &c->site->targets[i];
    if (strcmp(target->host, c->host) == 0) return proof_same(c->proof, target->proof);
  }
  return false;
}

void connections_retire_unproven(struct site *site) {
  for (struct connection *c = site->connections, *next; c != NULL; c = next) {
    next = c->next;
    if (goes_on(c) && !is_proof_due(c)) connection_retire(c);
  }
}

bool connection_end_oldest_idle(struct outlet *outlet) {
  if (outlet->idle_oldest == NULL) return false;
  connection_retire(outlet->idle_oldest);
  return true;
}

/* ---- open ---- */

static const struct netaddr *source_for(const struct outlet *outlet, const struct target *target) {
  return target->address.family == 4 ? &outlet->o.conf->source_v4 : &outlet->o.conf->source_v6;
}

static int start_target(struct connection *c, const struct target *target) {
  struct outlet *outlet = c->outlet;
  const struct netaddr *source = source_for(outlet, target);
  int error = io_stream(outlet->o.shard->io, &target->address, source, &c->socket);
  if (error != E_OK) return error;
  c->peer.address = target->address;
  c->peer.source = *source;
  size_t len = strlen(target->host);
  if (len > DNS_NAME_MAX) len = DNS_NAME_MAX;
  memcpy(c->host, target->host, len);
  c->host[len] = '\0';
  c->peer.host = c->host;
  c->proof = proof_hold(target->proof);
  c->peer.tls_policy = proof_policy_text(c->proof);
  io_connect(outlet->o.shard->io, c->socket, &target->address, connection_token(c, CONNECTION_OP_CONNECT));
  connection_arm(c);
  return E_OK;
}

/* The target to begin with: the next of the best ones that is not blocked, else the first that is not. Without any, -1, and the site comes again when the first block ends. */
static int pick_target(struct site *site) {
  uint64_t now_ms = site->outlet->o.shard->now_ms;
  unsigned soonest = 0;
  for (unsigned i = 0; i < site->best_count; i++) {
    unsigned at = (site->rotation + i) % site->best_count;
    if (backoff_blocks(&site->targets[at].backoff, now_ms)) continue;
    site->rotation = at + 1;
    return (int)at;
  }
  for (unsigned at = 0; at < site->targets_count; at++) {
    if (!backoff_blocks(&site->targets[at].backoff, now_ms)) return (int)at;
    if (site->targets[at].backoff.until_ms < site->targets[soonest].backoff.until_ms) soonest = at;
  }
  site_wake_at(site, site->targets[soonest].backoff.until_ms);
  return -1;
}

static int connection_new(struct site *site, const struct target *target) {
  struct outlet *outlet = site->outlet;
  struct connection *c = pool_get(&outlet->connections);
  if (c == NULL) return E_FULL;
  c->outlet = outlet;
  c->site = site;
  c->tag = pool_generation(&outlet->connections, pool_index(&outlet->connections, c));
  c->state = CONNECTION_CONNECTING;
  c->timer.fire = timed_out;
  int error = start_target(c, target);
  if (error != E_OK) {
    pool_put(&outlet->connections, c);
    return error;
  }
  site->open++;
  site->opening++;
  link_to_site(c);
  return E_OK;
}

static void block_target(struct site *site, const struct netaddr *address) {
  struct target *target = site_target(site, address);
  if (target != NULL) backoff_failed(&target->backoff, &site->outlet->backoff, site->outlet->o.shard->now_ms);
}

/*
 * A connection ended before a transaction had, with a 421 or without a word. Once that is the connection's affair: at once over another one. But a server that greets and then breaks off
 * every time is as good as dead.
 */
static bool breaks_again(struct site *site, const struct netaddr *address) {
  for (unsigned i = 0; i < site->targets_count; i++) {
    struct target *target = &site->targets[i];
    if (!netaddr_equal(&target->address, address)) continue;
    if (target->broke || backoff_probing(&target->backoff)) return true;
    target->broke = true;
  }
  return false;
}

static bool is_lack_of_room(int error) { return error == E_FULL || error == E_NO_MEMORY || error == E_TOO_MANY_FILES; }

bool connections_live(const struct site *site, const struct connection *but) {
  for (const struct connection *other = site->connections; other != NULL; other = other->next)
    if (other != but && other->state != CONNECTION_CLOSING && other->state != CONNECTION_QUITTING) return true;
  return false;
}

static bool any_target_open(const struct site *site) {
  for (unsigned i = 0; i < site->targets_count; i++)
    if (!backoff_blocks(&site->targets[i].backoff, site->outlet->o.shard->now_ms)) return true;
  return false;
}

/*
 * An address that cannot even be tried, for its family or our own source address, has failed like one that does not answer: on with the next. Blocked ones are
 * passed over, so that what failed a moment ago is not tried again by each connection.
 */
bool connection_open(struct site *site) {
  struct outlet *outlet = site->outlet;
  if (site->targets_count == 0) return false;
  for (int at; (at = pick_target(site)) >= 0;) {
    const struct target *target = &site->targets[at];
    int error = connection_new(site, target);
    if (error == E_OK) return true;
    if (is_lack_of_room(error)) {
      connection_end_oldest_idle(outlet); /* somebody else's idle one makes room, as soon as its close has completed */
      site_wake_at(site, outlet->o.shard->now_ms + NO_ROOM_MS);
      return false;
    }
    count_add(outlet->o.counters, COUNT_CONNECTIONS_FAILED, 1);
    block_target(site, &target->address);
    if (connections_live(site, NULL) || any_target_open(site)) continue;
    struct failure failure = {.kind = FAILURE_NETWORK, .error = error, .connecting = true, .stage = SMTP_STAGE_GREETING};
    struct outlet_peer peer = {.address = target->address, .source = *source_for(outlet, target), .host = target->host};
    site_failed(site, &failure, &peer);
  }
  return false;
}

/* ---- failure ---- */

static bool another_is_open(const struct connection *c) {
  for (const struct connection *other = c->site->connections; other != NULL; other = other->next)
    if (other != c && other->state == CONNECTION_OPEN && netaddr_equal(&other->peer.address, &c->peer.address)) return true;
  return false;
}

/*
 * A connection that never opened. Where another one to the same address is at work, the host is not dead: it has enough of us, and gets no more for a while. Else the address
 * is left alone. Its close makes the site look for the next (site_connection_closed); if there is none, the site has failed.
 */
static void fail_opening(struct connection *c, const struct failure *failure) {
  struct site *site = c->site;
  if (another_is_open(c)) {
    site->enough_until_ms = c->outlet->o.shard->now_ms + c->outlet->backoff.initial_ms;
  } else {
    block_target(site, &c->peer.address);
  }
  if (!connections_live(site, c) && !any_target_open(site)) site_failed(site, failure, &c->peer);
  begin_close(c);
}

void connection_fail(struct connection *c, const struct failure *failure) {
  struct failure full = *failure;
  char tls_room[SAFETY_TEXT_ROOM];
  uint8_t room[512];
  struct fmt text = fmt_over(room, sizeof room);
  struct decision decision;
  if (c->state == CONNECTION_CLOSING) return;
  if (c->state == CONNECTION_QUITTING || c->idle) { /* the peer closes what nobody uses: no failure */
    begin_close(c);
    return;
  }
  if (safety_explain(c, &full, tls_room)) { /* the next one is made as soon as this is closed */
    begin_close(c);
    return;
  }
  full.connecting = c->state == CONNECTION_CONNECTING;
  full.pipelined = c->pipelined;
  full.proven = c->completed > 0;
  if (full.kind != FAILURE_REPLY) full.stage = c->state == CONNECTION_CONNECTING ? SMTP_STAGE_GREETING : smtp_client_stage(&c->client);
  outcome_decide(&full, &decision, &text);
  bool ours = full.kind == FAILURE_INTERNAL || decision.fate == FATE_POSTPONED; /* the host has done nothing */
  if (ours) site_pause(c->site);
  if (c->state < CONNECTION_OPEN) {
    count_add(c->outlet->o.counters, COUNT_CONNECTIONS_FAILED, 1);
    if (ours) {
      begin_close(c);
    } else {
      fail_opening(c, &full);
    }
    return;
  }
  if (decision.without_pipelining) c->site->plain_until_ms = c->outlet->o.shard->now_ms + PLAIN_MS;
  bool is_early = c->completed == 0 && !ours && !decision.without_pipelining;
  if (decision.scope == SCOPE_HOST || decision.scope == SCOPE_SITE || (is_early && breaks_again(c->site, &c->peer.address))) {
    block_target(c->site, &c->peer.address);
    if (!connections_live(c->site, c)) site_block(c->site);
  }
  transfer_abort(c, &full, connections_live(c->site, c) || any_target_open(c->site));
  begin_abort(c);
}

/* ---- completions ---- */

static void connected(struct connection *c, int64_t result) {
  if (result < 0) {
    struct failure failure = {.kind = FAILURE_NETWORK, .error = (int)result};
    connection_fail(c, &failure);
    return;
  }
  c->state = CONNECTION_GREETING;
  count_add(c->outlet->o.counters, COUNT_CONNECTIONS, 1);
  if (c->peer.source.family == 0) io_local(c->outlet->o.shard->io, c->socket, &c->peer.source);
  transfer_opened(c);
  safety_begin(c);
  if (c->state == CONNECTION_CLOSING) return;
  io_receive(c->outlet->o.shard->io, c->socket, connection_token(c, CONNECTION_OP_RECEIVE));
  connection_arm(c);
}

static void received(struct connection *c, const struct io_completion *completion) {
  if (completion->result > 0) {
    if (c->tls != NULL) {
      safety_received(c, completion->bytes);
    } else {
      transfer_received(c, completion->bytes);
    }
    return;
  }
  struct failure failure = {.kind = FAILURE_NETWORK, .error = completion->result == 0 ? E_CLOSED : (int)completion->result};
  connection_fail(c, &failure);
}

void connection_complete(struct outlet *outlet, const struct io_completion *completion) {
  struct connection *c = pool_find(&outlet->connections, shard_token_slot(completion->token), shard_token_generation(completion->token));
  must(c != NULL); /* its close completes last */
  enum connection_operation operation = (enum connection_operation)shard_token_operation(completion->token);
  if (operation == CONNECTION_OP_CLOSE) {
    closed(c);
    return;
  }
  if (c->state == CONNECTION_CLOSING) return; /* from the same batch as what made us close */
  switch (operation) {
  case CONNECTION_OP_CONNECT: connected(c, completion->result); break;
  case CONNECTION_OP_RECEIVE: received(c, completion); break;
  default:
    if (completion->result < 0) {
      struct failure failure = {.kind = FAILURE_NETWORK, .error = (int)completion->result};
      connection_fail(c, &failure);
    } else {
      transfer_sent(c);
    }
  }
}

/*
 * While it takes it is not idle: what fails in between has jobs to give back. During a recall each look at the site may bring what may be begun to its front: only what was there
 * before can have been left by the connection.
 */
void connection_pull(struct connection *c) {
  bool was_idle = c->idle, could_begin = was_idle && outlet_may_begin(c->site);
  connection_set_idle(c, false);
  transfer_pull(c);
  if (c->state == CONNECTION_CLOSING) return;
  if (transfer_busy(c)) {
    connection_arm(c);
  } else if (could_begin && c->state == CONNECTION_OPEN && outlet_may_begin(c->site)) { /* it could not: it is of no more use */
    connection_retire(c);
  } else if (was_idle && c->state == CONNECTION_OPEN) {
    connection_set_idle(c, true);
  }
}

void connection_loaded(struct outlet *outlet, struct job *job, int error) {
  struct connection *c = NULL;
  job->loading = false;
  if (job->connection != 0) c = pool_find(&outlet->connections, shard_token_slot(job->connection), shard_token_generation(job->connection));
  if (c != NULL && c->state != CONNECTION_CLOSING && (c->loading == job || c->streaming == job)) {
    transfer_loaded(c, job, error);
    return;
  }
  outlet_free_part(outlet, job->owner, job->load.content); /* the connection died meanwhile */
  job->load.content = NULL;
  outlet_job_end(outlet, job);
}

void connections_flush(struct outlet *outlet) {
  while (outlet->dirty_connections != NULL) {
    struct connection *c = outlet->dirty_connections;
    outlet->dirty_connections = c->next_dirty;
    c->dirty = false;
    if (c->state != CONNECTION_CLOSING) output_flush(c);
  }
}

/* ---- life ---- */

int connections_open(struct outlet *outlet, uint32_t max) {
  return pool_init(&outlet->connections, sizeof(struct connection), max < SHARD_SLOTS_MAX ? max : SHARD_SLOTS_MAX);
}

void connections_stop(struct outlet *outlet) {
  for (uint32_t i = 0; i < outlet->connections.capacity; i++) {
    struct connection *c = pool_slot(&outlet->connections, i);
    if (c != NULL) connection_retire(c);
  }
}

void connections_close(struct outlet *outlet) {
  for (uint32_t i = 0; outlet->connections.used > 0 && i < outlet->connections.capacity; i++) {
    struct connection *c = pool_slot(&outlet->connections, i);
    if (c == NULL) continue;
    timer_cancel(&outlet->o.shard->wheel, &c->timer);
    transfer_free(c);
    pool_put(&outlet->connections, c);
  }
  pool_fini(&outlet->connections);
}
