#include "tests/sim/net.h"

#include <stdlib.h>
#include <string.h>

#include "tests/sim/world.h"

struct piece {
  struct piece *next;
  struct end *to;
  size_t len, used;
  uint8_t bytes[];
};

struct mark {
  struct mark *next;
  uint64_t position;
  uint64_t *at_ns;
};

struct listener {
  struct netaddr address;
  net_accept accept;
  void *owner;
  bool over;
  struct listener *next;
};

struct server {
  struct netaddr address;
  net_datagram serve;
  void *owner;
};

static struct {
  struct net_weather weather;
  struct listener *listeners;
  struct server servers[8];
  unsigned servers_count;
} net;

void net_open(void) {
  memset(&net, 0, sizeof net);
  net.weather =
      (struct net_weather){.delay_low_ns = 50 * MICROSECOND_NS, .delay_high_ns = 500 * MICROSECOND_NS, .window_bytes = 65536, .piece_max = 65536};
}

void net_set_weather(const struct net_weather *weather) { net.weather = *weather; }

static uint64_t delay(void) { return chance_spread(net.weather.delay_low_ns, net.weather.delay_high_ns); }

/* ---- news ---- */

static void tell_now(void *context, uint64_t news) {
  struct end *end = context;
  if (end->tell != NULL && !end->closed) end->tell(end->owner, end, (enum net_news)news);
}

static void tell_arrived(struct end *end) { tell_now(end, NET_ARRIVED); }

static void reset_arrives(void *context, uint64_t number) {
  (void)number;
  struct end *end = context;
  if (end->reset) return;
  end->reset = true;
  tell_arrived(end);
}

static void end_arrives(void *context, uint64_t number) {
  (void)number;
  struct end *end = context;
  end->end_arrived = true;
  tell_arrived(end);
}

static void piece_arrives(void *context, uint64_t number) {
  (void)number;
  struct piece *piece = context;
  struct end *end = piece->to;
  end->on_way -= piece->len;
  if (end->reset) {
    free(piece);
  } else if (end->closed) {
    free(piece);
    world_after(delay(), reset_arrives, end->other, 0);
  } else {
    end->unread += piece->len;
    *(end->first == NULL ? &end->first : &end->last->next) = piece;
    end->last = piece;
    tell_arrived(end);
  }
}

/* In order behind what is on its way to this end. */
static uint64_t arrival(struct end *end) {
  uint64_t at_ns = world_now_ns() + delay();
  if (at_ns < end->last_arrival_ns) at_ns = end->last_arrival_ns;
  end->last_arrival_ns = at_ns;
  return at_ns;
}

/* ---- bytes ---- */

size_t end_write(struct end *end, const void *bytes, size_t len) {
  struct end *to = end->other;
  if (end->reset || end->closed || end->end_sent || !end->connected) return 0;
  uint64_t taken = to->unread + to->on_way, room = taken < net.weather.window_bytes ? net.weather.window_bytes - taken : 0;
  if (len > room) len = room;
  for (size_t at = 0; at < len;) {
    size_t piece_len = chance_spread(1, net.weather.piece_max);
    if (piece_len > len - at) piece_len = len - at;
    struct piece *piece = sim_alloc(sizeof *piece + piece_len);
    piece->to = to;
    piece->len = piece_len;
    memcpy(piece->bytes, (const uint8_t *)bytes + at, piece_len);
    at += piece_len;
    to->on_way += piece_len;
    world_at(arrival(to), piece_arrives, piece, 0);
  }
  end->written += len;
  return len;
}

static void note_read(struct end *end, size_t len) {
  end->read += len;
  while (end->marks != NULL && end->marks->position <= end->read) {
    struct mark *mark = end->marks;
    end->marks = mark->next;
    *mark->at_ns = world_now_ns();
    free(mark);
  }
  if (len > 0) world_after(delay(), tell_now, end->other, NET_ROOM);
}

size_t end_read(struct end *end, void *room, size_t len) {
  size_t got = 0;
  while (got < len && end->first != NULL) {
    struct piece *piece = end->first;
    size_t part = piece->len - piece->used < len - got ? piece->len - piece->used : len - got;
    memcpy((uint8_t *)room + got, piece->bytes + piece->used, part);
    piece->used += part;
    got += part;
    if (piece->used < piece->len) break;
    end->first = piece->next;
    free(piece);
  }
  end->unread -= got;
  note_read(end, got);
  return got;
}

bool end_is_over(const struct end *end) { return end->first == NULL && end->end_arrived; }
bool end_is_reset(const struct end *end) { return end->first == NULL && end->reset; }

bool end_is_held(const struct end *end) { return !end->other->closed && !end->other->reset; }

void end_mark(struct end *end, uint64_t *at_ns) {
  struct mark *mark = sim_alloc(sizeof *mark), **at = &end->other->marks;
  *mark = (struct mark){NULL, end->written, at_ns};
  while (*at != NULL) at = &(*at)->next;
  *at = mark;
}

void end_shutdown(struct end *end) {
  if (end->end_sent || end->reset || !end->connected) return;
  end->end_sent = true;
  world_at(arrival(end->other), end_arrives, end->other, 0);
}

void end_abort(struct end *end) {
  if (end->closed) return;
  end->closed = true;
  if (end->connected && !end->reset) world_after(delay(), reset_arrives, end->other, 0);
}

void end_close(struct end *end) {
  if (end->first != NULL) { /* as the kernel does */
    end_abort(end);
    return;
  }
  end_shutdown(end);
  end->closed = true;
}

/* ---- connections ---- */

struct listener *net_listen(const struct netaddr *address, net_accept accept, void *owner) {
  struct listener *listener = sim_alloc(sizeof *listener);
  *listener = (struct listener){*address, accept, owner, false, net.listeners};
  net.listeners = listener;
  return listener;
}

void net_unlisten(struct listener *listener) { listener->over = true; }

bool net_is_taken(const struct netaddr *address) {
  for (const struct listener *listener = net.listeners; listener != NULL; listener = listener->next)
    if (!listener->over && netaddr_equal(&listener->address, address)) return true;
  return false;
}

static bool is_for(const struct listener *listener, const struct netaddr *to) {
  struct netaddr address = listener->address;
  if (address.port == 0) address.port = to->port;
  return !listener->over && netaddr_equal(&address, to);
}

static struct listener *choose(const struct netaddr *to) {
  unsigned count = 0;
  for (struct listener *listener = net.listeners; listener != NULL; listener = listener->next) count += is_for(listener, to);
  if (count == 0) return NULL;
  uint64_t which = chance(count);
  for (struct listener *listener = net.listeners;; listener = listener->next)
    if (is_for(listener, to) && which-- == 0) return listener;
}

static void reset_both(void *context, uint64_t number) {
  (void)number;
  struct end *end = context;
  if (end->closed && end->other->closed) return;
  reset_arrives(end, 0);
  reset_arrives(end->other, 0);
}

static void connect_arrives(void *context, uint64_t number) {
  (void)number;
  struct end *end = context;
  struct listener *listener = choose(&end->remote);
  if (end->closed || (listener != NULL && listener->accept == NULL)) return;
  if (listener == NULL) {
    world_after(delay(), tell_now, end, NET_REFUSED);
    return;
  }
  end->connected = end->other->connected = true;
  world_at(arrival(end), tell_now, end, NET_CONNECTED);
  if (chance_once(net.weather.resets_once)) world_after(chance_spread(MILLISECOND_NS, 3 * SECOND_NS), reset_both, end, 0);
  listener->accept(listener->owner, end->other);
}

struct end *net_connect(const struct netaddr *from, const struct netaddr *to, net_tell tell, void *owner) {
  static uint16_t port = 1024;
  struct end *end = sim_alloc(sizeof *end), *other = sim_alloc(sizeof *other);
  *end = (struct end){.local = *from, .remote = *to, .owner = owner, .tell = tell, .other = other};
  if (end->local.port == 0) end->local.port = port = port < 60000 ? port + 1 : 1024;
  *other = (struct end){.local = end->remote, .remote = end->local, .other = end};
  world_after(delay(), connect_arrives, end, 0);
  return end;
}

/* ---- datagrams ---- */

struct datagram {
  struct netaddr to;
  net_answer answer;
  void *context;
  size_t len;
  uint8_t bytes[];
};

static struct datagram *new_datagram(const struct netaddr *to, struct span bytes, net_answer answer, void *context) {
  struct datagram *datagram = sim_alloc(sizeof *datagram + bytes.len);
  *datagram = (struct datagram){*to, answer, context, bytes.len};
  memcpy(datagram->bytes, bytes.at, bytes.len);
  return datagram;
}

static void answer_arrives(void *context, uint64_t number) {
  (void)number;
  struct datagram *datagram = context;
  datagram->answer(datagram->context, span_of(datagram->bytes, datagram->len));
  free(datagram);
}

/* What the server calls. */
static void answer_leaves(void *context, struct span bytes) {
  struct datagram *question = context;
  if (chance_once(net.weather.lost_once)) return;
  world_after(delay(), answer_arrives, new_datagram(&question->to, bytes, question->answer, question->context), 0);
}

static void datagram_arrives(void *context, uint64_t number) {
  (void)number;
  struct datagram *datagram = context; /* lives on: a server may answer late */
  for (unsigned i = 0; i < net.servers_count; i++)
    if (netaddr_equal(&net.servers[i].address, &datagram->to))
      net.servers[i].serve(net.servers[i].owner, span_of(datagram->bytes, datagram->len), answer_leaves, datagram);
}

void net_serve(const struct netaddr *address, net_datagram serve, void *owner) {
  must(net.servers_count < sizeof net.servers / sizeof net.servers[0]);
  net.servers[net.servers_count++] = (struct server){*address, serve, owner};
}

void net_send(const struct netaddr *to, struct span bytes, net_answer answer, void *context) {
  if (chance_once(net.weather.lost_once)) return;
  world_after(delay(), datagram_arrives, new_datagram(to, bytes, answer, context), 0);
}
