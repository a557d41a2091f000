#include "bench/lib/server.h"

#include "bench/lib/counter.h"
#include "bench/lib/ring.h"
#include "core/base/error.h"
#include "core/base/pool.h"
#include "core/base/wheel.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OP_ACCEPT = 1, OP_RECEIVE, OP_SEND, OP_CLOSE };
enum {
  FLIGHT_SIZE = 1024,
  RECEIVE_BUFFERS = 256,
  RECEIVE_BUFFER_SIZE = 32768,
  TIMERS_PER_TURN = 1024,
  LINGER_MS = 2000,
};
#define STOP_LATENCY_NS 50000000u

struct connection {
  struct timer timer; /* for delays, drips and lingering; first, so that it is found again */
  struct outbox outbox;
  struct listener *listener;
  uint32_t address; /* index within the listener's network */
  bool receiving;   /* an operation is with the kernel */
  bool sending;
  bool lingering;
  bool closing;
  bool counted; /* as one of those that are open */
  bool over;    /* it is counted no more */
  bool dropped; /* ring_drop was called */
  bool closed;  /* and is done */
  bool dirty;
  bool shaken; /* the TLS handshake is done */
  uint16_t flight_begin;
  uint16_t flight_end;
  uint8_t flight[FLIGHT_SIZE];
  size_t clear_left; /* of the outbox, from before TLS */
  struct secure secure;
  struct receiver receiver;
};

struct loop {
  struct server_thread *thread;
  struct server *server;
  struct ring ring;
  struct pool pool;
  struct slab slab; /* for TLS */
  struct wheel wheel;
  uint32_t *dirty;
  uint32_t dirty_count;
};

static bool parse_prefix(struct listener *listener, const char *slash, unsigned *prefix) {
  char *end;
  unsigned long bits = strtoul(slash + 1, &end, 10);
  listener->loopback = true;
  *prefix = (unsigned)bits;
  return end != slash + 1 && *end == ':' && bits >= 8 && bits <= 32;
}

int listener_parse(struct listener *listener, const char *text, const char **why) {
  *listener = (struct listener){.text = text, .count = 1};
  char address[300];
  const char *slash = strchr(text, '/'), *colon = strrchr(text, ':');
  unsigned prefix = 32;
  *why = "not ADDRESS:PORT or NETWORK/8..32:PORT";
  if (colon == NULL || strlen(text) >= sizeof address) return -1;
  if (slash != NULL && !parse_prefix(listener, slash, &prefix)) return -1;
  snprintf(address, sizeof address, "%.*s%s", (int)((slash != NULL ? slash : colon) - text), text, colon);
  if (endpoint_parse(&listener->endpoint, address, why) < 0) return -1;
  if (listener->endpoint.address.ss_family == AF_INET) {
    struct sockaddr_in *in = (struct sockaddr_in *)&listener->endpoint.address;
    listener->count = UINT32_C(1) << (32 - prefix);
    listener->base = ntohl(in->sin_addr.s_addr) & ~(listener->count - 1);
    *why = "a network has to be within 127.0.0.0/8";
    if (slash != NULL && listener->base >> 24 != 127) return -1;
    if (slash != NULL) in->sin_addr.s_addr = htonl(INADDR_ANY);
  } else if (slash != NULL) {
    *why = "a network has to be an IPv4 one";
    return -1;
  }
  listener->connections = calloc(listener->count, sizeof *listener->connections);
  listener->connections_max = calloc(listener->count, sizeof *listener->connections_max);
  must(listener->connections != NULL && listener->connections_max != NULL);
  return 0;
}

int server_listen(struct server_thread *thread, const char **which) {
  struct server *server = thread->server;
  for (unsigned i = 0; i < server->listener_count; i++) {
    struct listener *listener = &server->listeners[i];
    unsigned flags = (listener->loopback ? ENDPOINT_LOOPBACK : 0) | (server->threads > 1 ? ENDPOINT_SHARED : 0);
    *which = listener->text;
    thread->sockets[i] = endpoint_listen(&listener->endpoint, flags);
    if (thread->sockets[i] < 0) return thread->sockets[i];
  }
  return 0;
}

/* ---- connections ---- */

static void raise_max(uint32_t *max, uint32_t value) {
  uint32_t seen = __atomic_load_n(max, __ATOMIC_RELAXED);
  while (value > seen && !__atomic_compare_exchange_n(max, &seen, value, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) continue;
}

/*
 * The peer may open the next connection as soon as it has closed one, so what counts is the order of these two. The end of a connection is therefore counted as
 * soon as it is seen, whatever is left to do here, and a new one only when all that was seen together with it is dealt with: the kernel reports the two in
 * either order. With several threads one may see an end later than another sees the beginning that followed it: the count may then be too high.
 */
static void count_open(struct loop *loop, struct connection *c) {
  if (c->counted || c->over) return;
  c->counted = true;
  raise_max(&loop->server->connections_max, __atomic_add_fetch(&loop->server->connections, 1, __ATOMIC_RELAXED));
  raise_max(&c->listener->connections_max[c->address], __atomic_add_fetch(&c->listener->connections[c->address], 1, __ATOMIC_RELAXED));
}

static void count_closed(struct loop *loop, struct connection *c) {
  c->over = true;
  if (!c->counted) return;
  c->counted = false;
  __atomic_fetch_sub(&loop->server->connections, 1, __ATOMIC_RELAXED);
  __atomic_fetch_sub(&c->listener->connections[c->address], 1, __ATOMIC_RELAXED);
}

static void mark_dirty(struct loop *loop, struct connection *c) {
  if (c->dirty) return;
  c->dirty = true;
  loop->dirty[loop->dirty_count++] = pool_index(&loop->pool, c);
}

static void begin_close(struct loop *loop, struct connection *c) {
  c->closing = true;
  count_closed(loop, c);
}

/* The slot is free when the drop is done and the kernel has given back every operation of it. */
static void finish_close(struct loop *loop, struct connection *c) {
  timer_cancel(&loop->wheel, &c->timer);
  if (c->secure.tls != NULL && !c->shaken) counter_add(&loop->thread->stats.tls_failed, 1);
  secure_clear(&c->secure);
  receiver_end(&c->receiver);
  outbox_fini(&c->outbox);
  count_closed(loop, c); /* at the end of the loop not even its close has begun */
  pool_put(&loop->pool, c);
}

static void on_timer(void *context, struct timer *timer) {
  struct connection *c = (struct connection *)timer;
  if (c->lingering) begin_close(context, c);
  mark_dirty(context, c);
}

/* So many bytes of the outbox go in the clear still. */
static void begin_tls(struct loop *loop, struct connection *c, size_t clear_left) {
  c->clear_left = clear_left;
  receiver_secured(&c->receiver);
  if (!secure_accept(&c->secure, loop->server->tls, &loop->slab)) begin_close(loop, c);
}

/* The address a connection came to; false if it is outside the listener's network. */
static bool local_address(const struct listener *listener, int fd, uint32_t *local, uint32_t *index) {
  struct sockaddr_in name;
  socklen_t length = sizeof name;
  *local = *index = 0;
  if (listener->endpoint.address.ss_family != AF_INET) return true;
  if (getsockname(fd, (struct sockaddr *)&name, &length) < 0) return false;
  *local = ntohl(name.sin_addr.s_addr);
  if (!listener->loopback && listener->base == INADDR_ANY) return true;
  *index = *local - listener->base;
  return *index < listener->count;
}

/* Closed by the peer before it was accepted here: nothing has been received yet that could have said so. */
static bool gone(int fd) {
  struct pollfd state = {.fd = fd, .events = POLLRDHUP};
  return poll(&state, 1, 0) > 0;
}

static void open_connection(struct loop *loop, struct listener *listener, int fd) {
  uint32_t local, index;
  struct connection *c = local_address(listener, fd, &local, &index) ? pool_get(&loop->pool) : NULL;
  if (c == NULL) {
    close(fd);
    return;
  }
  uint32_t slot = pool_index(&loop->pool, c);
  c->listener = listener;
  c->address = index;
  c->timer.fire = on_timer;
  c->over = gone(fd);
  int result = ring_adopt(&loop->ring, slot, fd);
  must(result == 0);
  uint64_t now_ns = process_now_ns();
  receiver_begin(&c->receiver, &loop->server->receiver, &loop->thread->stats, &c->outbox, local, now_ns ^ mix64(slot), now_ns);
  if (loop->server->implicit) begin_tls(loop, c, 0);
  ring_receive(&loop->ring, slot, OP_RECEIVE, slot);
  c->receiving = true;
  mark_dirty(loop, c);
}

static void on_accept(struct loop *loop, const struct ring_event *event) {
  struct listener *listener = &loop->server->listeners[event->index];
  if (event->result >= 0) open_connection(loop, listener, event->result);
  if ((event->flags & IORING_CQE_F_MORE) == 0) ring_accept(&loop->ring, loop->thread->sockets[event->index], OP_ACCEPT, event->index);
}

static void on_plaintext(void *who, struct span bytes) {
  struct connection *c = who;
  receiver_feed(&c->receiver, bytes, process_now_ns());
}

static void feed_tls(struct loop *loop, struct connection *c, struct span bytes) {
  int error = secure_feed(&c->secure, bytes, on_plaintext, c);
  enum tls_state state = tls_state(c->secure.tls);
  if (!c->shaken && (state == TLS_OPEN || state == TLS_CLOSED)) {
    c->shaken = true;
    counter_add(&loop->thread->stats.tls_handshakes, 1);
    if (tls_resumed(c->secure.tls)) counter_add(&loop->thread->stats.tls_resumed, 1);
  }
  bool said_quit = error == E_CLOSED && c->receiver.state == RECEIVER_CLOSING; /* its reply is yet to go */
  if (error != E_OK && !said_quit) begin_close(loop, c);
}

static void feed(struct loop *loop, struct connection *c, struct span bytes) {
  if (c->secure.tls != NULL) {
    feed_tls(loop, c, bytes);
    return;
  }
  receiver_feed(&c->receiver, bytes, process_now_ns());
  if (c->receiver.state == RECEIVER_SECURING) begin_tls(loop, c, outbox_left(&c->outbox));
}

static void on_receive(struct loop *loop, struct connection *c, const struct ring_event *event) {
  if (event->result > 0 && !c->closing) feed(loop, c, ring_bytes(&loop->ring, event));
  ring_give_back(&loop->ring, event);
  c->receiving = (event->flags & IORING_CQE_F_MORE) != 0;
  bool exhausted = event->result == -ENOBUFS; /* of buffers: they are back by now, or soon */
  if (event->result <= 0 && !exhausted) begin_close(loop, c);
  if (!c->receiving && !c->closing) {
    ring_receive(&loop->ring, event->index, OP_RECEIVE, event->index);
    c->receiving = true;
  }
  mark_dirty(loop, c);
}

static bool is_clear(const struct connection *c) { return c->secure.tls == NULL || c->clear_left > 0 || c->flight_begin < c->flight_end; }

static void on_send(struct loop *loop, struct connection *c, const struct ring_event *event) {
  c->sending = false;
  if (event->result < 0) {
    begin_close(loop, c);
  } else if (is_clear(c)) {
    c->flight_begin = (uint16_t)(c->flight_begin + event->result);
  } else {
    secure_sent(&c->secure, (size_t)event->result);
  }
  mark_dirty(loop, c);
}

/* Closing while the peer's bytes come in would reset the connection, and the replies before the cut could be lost to it: say that no more will come,
 * and read on until the peer closes. */
static void linger(struct loop *loop, struct connection *c, uint64_t now_ns) {
  if (c->lingering) return;
  c->lingering = true;
  count_closed(loop, c); /* a server does not count whom it has hung up on */
  ring_shutdown(&loop->ring, pool_index(&loop->pool, c));
  timer_set(&loop->wheel, &c->timer, now_ns / 1000000 + LINGER_MS);
}

static struct span next_clear(struct connection *c, uint64_t now_ns) {
  if (c->flight_begin == c->flight_end) {
    struct span ready = span_first(outbox_ready(&c->outbox, now_ns), sizeof c->flight);
    if (c->secure.tls != NULL) ready = span_first(ready, c->clear_left);
    if (c->secure.tls != NULL) c->clear_left -= ready.len;
    if (ready.len > 0) memcpy(c->flight, ready.at, ready.len);
    if (ready.len > 0) outbox_take(&c->outbox, ready.len, now_ns);
    c->flight_begin = 0;
    c->flight_end = (uint16_t)ready.len;
  }
  return span_of(c->flight + c->flight_begin, c->flight_end - c->flight_begin);
}

static struct span next_sealed(struct loop *loop, struct connection *c, uint64_t now_ns) {
  while (tls_state(c->secure.tls) == TLS_OPEN) {
    struct span ready = outbox_ready(&c->outbox, now_ns);
    if (ready.len == 0) break;
    struct iovec slice = {(void *)(uintptr_t)ready.at, ready.len};
    if (secure_write(&c->secure, &slice, 1) != E_OK) begin_close(loop, c);
    outbox_take(&c->outbox, ready.len, now_ns);
  }
  if (c->receiver.state == RECEIVER_CLOSING && outbox_left(&c->outbox) == 0) secure_close(&c->secure);
  return secure_next(&c->secure);
}

/* Puts what may be sent on its way, or sees what to wait for. */
static void flush(struct loop *loop, struct connection *c, uint64_t now_ns) {
  struct span next = is_clear(c) ? next_clear(c, now_ns) : next_sealed(loop, c, now_ns);
  uint32_t slot = pool_index(&loop->pool, c);
  if (next.len > 0) {
    ring_send(&loop->ring, slot, next.at, next.len, OP_SEND, slot);
    c->sending = true;
    return;
  }
  uint64_t next_ns = outbox_next_ns(&c->outbox);
  if (next_ns != UINT64_MAX && next_ns > now_ns) {
    timer_set(&loop->wheel, &c->timer, next_ns / 1000000 + 1);
  } else if (c->receiver.state == RECEIVER_CLOSING) {
    begin_close(loop, c);
  } else if (c->receiver.state == RECEIVER_CUT) {
    linger(loop, c, now_ns);
  }
}

static void drop(struct loop *loop, const struct connection *c) {
  uint32_t slot = pool_index(&loop->pool, c);
  if (c->receiving) ring_cancel(&loop->ring, OP_RECEIVE, slot);
  if (c->sending) ring_cancel(&loop->ring, OP_SEND, slot);
  ring_drop(&loop->ring, slot, OP_CLOSE, slot);
}

static void settle(struct loop *loop, struct connection *c, uint64_t now_ns) {
  c->dirty = false;
  count_open(loop, c);
  if (c->outbox.overflow) begin_close(loop, c);
  if (!c->closing && !c->sending) flush(loop, c, now_ns);
  if (c->closing && !c->dropped) {
    c->dropped = true;
    drop(loop, c);
  }
  if (c->closed && !c->receiving && !c->sending) finish_close(loop, c);
}

static void settle_all(struct loop *loop) {
  if (loop->dirty_count == 0) return;
  uint64_t now_ns = process_now_ns();
  for (uint32_t i = 0; i < loop->dirty_count; i++) settle(loop, pool_slot(&loop->pool, loop->dirty[i]), now_ns);
  loop->dirty_count = 0;
}

/* ---- the loop ---- */

static void dispatch(struct loop *loop, const struct ring_event *event) {
  if (event->operation == OP_ACCEPT) {
    on_accept(loop, event);
    return;
  }
  struct connection *c = pool_slot(&loop->pool, event->index);
  must(c != NULL);
  switch (event->operation) {
  case OP_RECEIVE: on_receive(loop, c, event); break;
  case OP_SEND: on_send(loop, c, event); break;
  case OP_CLOSE:
    c->closed = true;
    mark_dirty(loop, c);
    break;
  }
}

static void loop_open(struct loop *loop) {
  const char *why;
  struct ring_options options = {loop->server->connections_limit, RECEIVE_BUFFERS, RECEIVE_BUFFER_SIZE};
  int result = ring_open(&loop->ring, &options, &why);
  if (result < 0) process_fail("sink", "io_uring cannot be used: %s: %s", why, strerror(-result));
  must(pool_init(&loop->pool, sizeof(struct connection), loop->server->connections_limit) == 0);
  loop->dirty = calloc(loop->server->connections_limit, sizeof *loop->dirty);
  must(loop->dirty != NULL);
  slab_init(&loop->slab, SECURE_SLAB_BYTES);
  wheel_init(&loop->wheel, process_now_ns() / 1000000);
  for (unsigned i = 0; i < loop->server->listener_count; i++) ring_accept(&loop->ring, loop->thread->sockets[i], OP_ACCEPT, i);
}

static void loop_close(struct loop *loop) {
  ring_close(&loop->ring);
  for (uint32_t i = 0; i < loop->pool.capacity && loop->pool.used > 0; i++) {
    struct connection *c = pool_slot(&loop->pool, i);
    if (c != NULL) finish_close(loop, c);
  }
  pool_fini(&loop->pool);
  slab_fini(&loop->slab);
  free(loop->dirty);
}

static uint64_t wait_until(const struct loop *loop, uint64_t now_ns) {
  uint64_t timer_ms = wheel_next_ms(&loop->wheel);
  uint64_t latest_ns = now_ns + STOP_LATENCY_NS;
  return timer_ms == WHEEL_NEVER || timer_ms * 1000000 > latest_ns ? latest_ns : timer_ms * 1000000;
}

void *server_run(void *server_thread) {
  struct loop *loop = calloc(1, sizeof *loop);
  must(loop != NULL);
  loop->thread = server_thread;
  loop->server = loop->thread->server;
  loop_open(loop);
  while (!__atomic_load_n(&loop->server->stop, __ATOMIC_RELAXED)) {
    unsigned count = ring_wait(&loop->ring, wait_until(loop, process_now_ns()));
    for (unsigned i = 0; i < count; i++) dispatch(loop, &loop->ring.events[i]);
    settle_all(loop);
    wheel_advance(&loop->wheel, process_now_ns() / 1000000, loop, TIMERS_PER_TURN);
    settle_all(loop);
  }
  loop_close(loop);
  struct process_usage usage = process_thread_usage();
  loop->thread->user_s = usage.user_s;
  loop->thread->system_s = usage.system_s;
  free(loop);
  return NULL;
}
