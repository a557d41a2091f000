#include "tests/sim/io.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/error.h"
#include "tests/sim/disk.h"
#include "tests/sim/net.h"
#include "tests/sim/world.h"

#define ADDRESSES_MAX 8
#define CLOSE_NS (50 * MICROSECOND_NS)

enum socket_kind { SOCKET_FREE, SOCKET_LISTENER, SOCKET_STREAM, SOCKET_DATAGRAM };
enum receiving { RECEIVE_OFF, RECEIVE_ON, RECEIVE_ONCE };

struct packet {
  struct packet *next;
  size_t len;
  uint8_t bytes[];
};

struct socket {
  enum socket_kind kind;
  uint32_t generation;
  bool closing;
  uint64_t close_token;
  struct netaddr local, remote;
  struct end *end;           /* stream */
  struct listener *listener; /* listener */
  uint64_t accept_token;
  bool accepting;
  bool connecting;
  uint64_t connect_token;
  enum receiving receiving;
  uint64_t receive_token;
  bool receive_over;           /* the end, or the error, was told */
  struct packet *first, *last; /* datagrams */
  bool sending;
  bool each; /* slice is a datagram */
  const struct io_slice *slices;
  unsigned slices_count, slice;
  size_t in_slice;
  int64_t sent;
  uint64_t send_token;
};

struct ready {
  struct io_completion completion;
  int32_t socket; /* IO_NONE: of none */
  uint8_t *bytes; /* of the completion; freed at the next io_wait */
};

struct io {
  struct io_options options;
  struct socket *sockets;
  int32_t *free;
  uint32_t free_count;
  struct ready *ready; /* a queue */
  size_t first, count, capacity;
  struct io_completion handed[IO_COMPLETIONS_MAX];
  uint8_t *held[IO_COMPLETIONS_MAX];
  unsigned held_count;
  bool notified, dead;
  struct fiber *sleeper;
  struct io *next;
};

static struct {
  struct io *all;
  struct netaddr v4, v6;
} sim;

void sim_io_open(const struct netaddr *v4, const struct netaddr *v6) {
  sim.all = NULL;
  sim.v4 = *v4;
  sim.v6 = *v6;
}

/* ---- completions ---- */

static void wake(struct io *io) {
  if (io->sleeper != NULL) fiber_wake(io->sleeper);
}

static void push(struct io *io, int32_t socket, uint64_t token, int64_t result, uint8_t *bytes, size_t len) {
  if (io->dead) {
    free(bytes);
    return;
  }
  if (io->first + io->count == io->capacity) {
    if (io->first > 0) {
      memmove(io->ready, io->ready + io->first, io->count * sizeof *io->ready);
      io->first = 0;
    }
    if (io->count * 2 >= io->capacity) {
      io->capacity = io->capacity * 2 + 64;
      io->ready = realloc(io->ready, io->capacity * sizeof *io->ready);
      must(io->ready != NULL);
    }
  }
  io->ready[io->first + io->count++] = (struct ready){{token, result, span_of(bytes, len)}, socket, bytes};
  wake(io);
}

void io_done(struct io *io, uint64_t token, int64_t result) { push(io, IO_NONE, token, result, NULL, 0); }

/* What was not handed out yet is never told of. */
static void drop_ready(struct io *io, int32_t socket) {
  size_t kept = 0;
  for (size_t i = 0; i < io->count; i++) {
    struct ready *ready = &io->ready[io->first + i];
    if (ready->socket == socket) {
      free(ready->bytes);
    } else {
      io->ready[io->first + kept++] = *ready;
    }
  }
  io->count = kept;
}

static bool has_completion(const struct io *io) { return io->count > 0 || io->notified; }

unsigned io_wait(struct io *io, uint64_t until_ns, const struct io_completion **done) {
  for (unsigned i = 0; i < io->held_count; i++) free(io->held[i]);
  io->held_count = 0;
  if (fiber_current() != NULL) {
    io->sleeper = fiber_current();
    do { /* also without sleep others come to their turn */
      fiber_sleep(has_completion(io) ? 0 : until_ns);
    } while (!has_completion(io) && world_now_ns() < until_ns);
    io->sleeper = NULL;
  } else {
    while (!has_completion(io) && world_now_ns() < until_ns && world_step(until_ns)) {
    }
    if (!has_completion(io) && world_now_ns() < until_ns && until_ns != UINT64_MAX) world_skip(until_ns);
  }
  unsigned count = 0, received = 0;
  if (io->notified) io->handed[count++] = (struct io_completion){io->options.notify_token, 0, {NULL, 0}};
  io->notified = false;
  uint64_t most = 1 + chance(IO_COMPLETIONS_MAX - 1);
  while (io->count > 0 && count < most && received < io->options.receive_buffers) {
    struct ready ready = io->ready[io->first++];
    io->count--;
    if (ready.bytes != NULL) {
      io->held[io->held_count++] = ready.bytes;
      received++;
    }
    io->handed[count++] = ready.completion;
  }
  if (io->count == 0) io->first = 0;
  *done = io->handed;
  return count;
}

void io_notify(struct io *from, struct io *to) {
  (void)from;
  to->notified = true;
  wake(to);
}

uint64_t io_now_ns(struct io *io) {
  (void)io;
  return world_now_ns();
}

uint64_t io_wall_ms(struct io *io) {
  (void)io;
  return world_wall_ms();
}

void io_random(struct io *io, void *room, size_t len) {
  (void)io;
  for (size_t i = 0; i < len; i++) ((uint8_t *)room)[i] = (uint8_t)chance(256);
}

/* ---- life ---- */

int io_open(struct io **out, const struct io_options *options, const char **why) {
  (void)why;
  struct io *io = sim_alloc(sizeof *io);
  io->options = *options;
  if (io->options.sockets_max > 4096) io->options.sockets_max = 4096;
  io->sockets = sim_alloc(io->options.sockets_max * sizeof *io->sockets);
  io->free = sim_alloc(io->options.sockets_max * sizeof *io->free);
  for (uint32_t i = io->options.sockets_max; i > 0; i--) io->free[io->free_count++] = (int32_t)i - 1;
  io->next = sim.all;
  sim.all = io;
  *out = io;
  return E_OK;
}

uint32_t io_sockets_max(const struct io *io) { return io->options.sockets_max; }

static void free_packets(struct socket *socket) {
  while (socket->first != NULL) {
    struct packet *packet = socket->first;
    socket->first = packet->next;
    free(packet);
  }
}

static void silence(struct socket *socket, bool abort) {
  if (socket->listener != NULL) net_unlisten(socket->listener);
  if (socket->end != NULL) {
    socket->end->tell = NULL;
    if (abort) {
      end_abort(socket->end);
    } else {
      end_close(socket->end);
    }
  }
  free_packets(socket);
}

/* The memory stays: ends and events of the world may still name it. */
static void kill_io(struct io *io, bool abort) {
  if (io->dead) return;
  io->dead = true;
  io->sleeper = NULL;
  for (uint32_t i = 0; i < io->options.sockets_max; i++)
    if (io->sockets[i].kind != SOCKET_FREE) silence(&io->sockets[i], abort);
}

void io_destroy(struct io *io) { kill_io(io, false); }

void sim_io_crash(void) {
  for (struct io *io = sim.all; io != NULL; io = io->next) kill_io(io, true);
  sim.all = NULL;
}

/* ---- sockets ---- */

static struct socket *socket_of(struct io *io, io_socket which) {
  must(which >= 0 && (uint32_t)which < io->options.sockets_max && io->sockets[which].kind != SOCKET_FREE);
  return &io->sockets[which];
}

static int32_t take(struct io *io, enum socket_kind kind) {
  if (io->free_count == 0) return IO_NONE;
  int32_t which = io->free[--io->free_count];
  uint32_t generation = io->sockets[which].generation;
  io->sockets[which] = (struct socket){.kind = kind, .generation = generation + 1};
  return which;
}

/* ---- receiving ---- */

#define PIECE_MAX (256u << 10)

static void receive_pieces(struct io *io, struct socket *socket, int32_t which) {
  static uint8_t piece[PIECE_MAX];
  size_t most = io->options.receive_buffer_size < PIECE_MAX ? io->options.receive_buffer_size : PIECE_MAX;
  while (socket->receiving != RECEIVE_OFF && !socket->closing) {
    size_t got = end_read(socket->end, piece, most);
    if (got > 0) {
      uint8_t *bytes = sim_alloc(got); /* nothing behind it, so that the address sanitizer sees who reads on */
      memcpy(bytes, piece, got);
      push(io, which, socket->receive_token, (int64_t)got, bytes, got);
      if (socket->receiving == RECEIVE_ONCE) socket->receiving = RECEIVE_OFF;
      continue;
    }
    if (!socket->receive_over && (end_is_over(socket->end) || end_is_reset(socket->end))) {
      socket->receive_over = true;
      push(io, which, socket->receive_token, end_is_over(socket->end) ? 0 : E_RESET, NULL, 0);
      socket->receiving = RECEIVE_OFF;
    }
    return;
  }
}

static void receive_packets(struct io *io, struct socket *socket, int32_t which) {
  while (socket->first != NULL && socket->receiving != RECEIVE_OFF && !socket->closing) {
    struct packet *packet = socket->first;
    socket->first = packet->next;
    size_t len = packet->len < io->options.receive_buffer_size ? packet->len : io->options.receive_buffer_size;
    uint8_t *bytes = sim_alloc(len + 1);
    memcpy(bytes, packet->bytes, len);
    push(io, which, socket->receive_token, (int64_t)len, bytes, len);
    free(packet);
    if (socket->receiving == RECEIVE_ONCE) socket->receiving = RECEIVE_OFF;
  }
}

static void receive(struct io *io, struct socket *socket, int32_t which) {
  if (socket->kind == SOCKET_STREAM && socket->end != NULL) receive_pieces(io, socket, which);
  if (socket->kind == SOCKET_DATAGRAM) receive_packets(io, socket, which);
}

/* Nothing completes within the call: as an event of its own. */
struct later {
  struct io *io;
  int32_t which;
  uint32_t generation;
};

static struct socket *socket_later(const struct later *later) {
  struct socket *socket = &later->io->sockets[later->which];
  return later->io->dead || socket->kind == SOCKET_FREE || socket->generation != later->generation ? NULL : socket;
}

static struct later *new_later(struct io *io, int32_t which) {
  struct later *later = sim_alloc(sizeof *later);
  *later = (struct later){io, which, io->sockets[which].generation};
  return later;
}

static void receive_later(void *context, uint64_t number) {
  (void)number;
  struct later *later = context;
  struct socket *socket = socket_later(later);
  if (socket != NULL) receive(later->io, socket, later->which);
  free(later);
}

static void start_receive(struct io *io, io_socket which, uint64_t token, enum receiving receiving) {
  struct socket *socket = socket_of(io, which);
  must(!socket->closing);
  socket->receiving = receiving;
  socket->receive_token = token;
  socket->receive_over = false;
  world_after(MICROSECOND_NS, receive_later, new_later(io, which), 0);
}

void io_receive(struct io *io, io_socket which, uint64_t token) { start_receive(io, which, token, RECEIVE_ON); }
void io_receive_once(struct io *io, io_socket which, uint64_t token) { start_receive(io, which, token, RECEIVE_ONCE); }
void io_receive_pause(struct io *io, io_socket which) { socket_of(io, which)->receiving = RECEIVE_OFF; }

/* ---- sending ---- */

static void end_send(struct io *io, struct socket *socket, int32_t which, int64_t result) {
  socket->sending = false;
  push(io, which, socket->send_token, result, NULL, 0);
}

static void send_some(struct io *io, struct socket *socket, int32_t which) {
  while (socket->sending && !socket->closing) {
    if (socket->end->reset) {
      end_send(io, socket, which, E_RESET);
      return;
    }
    if (socket->slice == socket->slices_count) {
      end_send(io, socket, which, socket->sent);
      return;
    }
    const struct io_slice *slice = &socket->slices[socket->slice];
    size_t left = slice->len - socket->in_slice, taken = end_write(socket->end, (const uint8_t *)slice->at + socket->in_slice, left);
    socket->sent += (int64_t)taken;
    socket->in_slice += taken;
    if (taken < left) return; /* NET_ROOM comes */
    socket->slice++;
    socket->in_slice = 0;
  }
}

static void answer(void *context, struct span bytes) {
  const struct later *later = context; /* lives on: an answer may come twice */
  struct socket *socket = socket_later(later);
  if (socket == NULL || socket->closing) return;
  struct packet *packet = sim_alloc(sizeof *packet + bytes.len);
  packet->len = bytes.len;
  memcpy(packet->bytes, bytes.at, bytes.len);
  *(socket->first == NULL ? &socket->first : &socket->last->next) = packet;
  socket->last = packet;
  receive(later->io, socket, later->which);
}

static void send_each(struct io *io, struct socket *socket, int32_t which) {
  for (unsigned i = 0; i < socket->slices_count; i++) {
    const struct io_slice *slice = &socket->slices[i];
    net_send(&socket->remote, span_of(slice->at, slice->len), answer, new_later(io, which));
    socket->sent += (int64_t)slice->len;
  }
  end_send(io, socket, which, socket->sent);
}

static void send_packet(struct io *io, struct socket *socket, int32_t which) {
  uint8_t room[4096];
  size_t len = 0;
  for (unsigned i = 0; i < socket->slices_count; i++) {
    must(len + socket->slices[i].len <= sizeof room);
    memcpy(room + len, socket->slices[i].at, socket->slices[i].len);
    len += socket->slices[i].len;
  }
  net_send(&socket->remote, span_of(room, len), answer, new_later(io, which));
  end_send(io, socket, which, (int64_t)len);
}

static void send_later(void *context, uint64_t number) {
  (void)number;
  struct later *later = context;
  struct socket *socket = socket_later(later);
  if (socket != NULL && socket->sending && !socket->closing) {
    if (socket->each) {
      send_each(later->io, socket, later->which);
    } else if (socket->kind == SOCKET_DATAGRAM) {
      send_packet(later->io, socket, later->which);
    } else {
      send_some(later->io, socket, later->which);
    }
  }
  free(later);
}

static void start_send(struct io *io, io_socket which, const struct io_slice *slices, unsigned count, bool each, uint64_t token) {
  struct socket *socket = socket_of(io, which);
  must(!socket->sending && !socket->closing && count > 0 && count <= IO_SLICES_MAX);
  socket->sending = true;
  socket->each = each;
  socket->slices = slices;
  socket->slices_count = count;
  socket->slice = 0;
  socket->in_slice = 0;
  socket->sent = 0;
  socket->send_token = token;
  world_after(MICROSECOND_NS, send_later, new_later(io, which), 0);
}

void io_send(struct io *io, io_socket which, const struct io_slice *slices, unsigned count, uint64_t token) {
  start_send(io, which, slices, count, false, token);
}

void io_send_datagrams(struct io *io, io_socket which, const struct io_slice *slices, unsigned count, uint64_t token) {
  must(socket_of(io, which)->kind == SOCKET_DATAGRAM && count <= IO_DATAGRAMS_MAX);
  start_send(io, which, slices, count, true, token);
}

void io_shutdown(struct io *io, io_socket which) {
  struct socket *socket = socket_of(io, which);
  if (socket->end != NULL) end_shutdown(socket->end);
}

/* ---- connections ---- */

static void told(void *owner, struct end *end, enum net_news news) {
  const struct later *later = owner;
  struct io *io = later->io;
  int32_t which = later->which;
  struct socket *socket = socket_later(later);
  if (socket == NULL || socket->closing) return;
  must(socket->end == end);
  switch (news) {
  case NET_CONNECTED:
  case NET_REFUSED:
    if (socket->connecting) push(io, which, socket->connect_token, news == NET_CONNECTED ? 0 : E_REFUSED, NULL, 0);
    socket->connecting = false;
    break;
  case NET_ARRIVED:
    receive(io, socket, which);
    send_some(io, socket, which);
    break;
  case NET_ROOM: send_some(io, socket, which); break;
  }
}

static void accepted(void *owner, struct end *end) {
  struct later *later = owner;
  struct io *io = later->io;
  struct socket *listener = socket_later(later);
  int32_t which = listener == NULL || !listener->accepting ? IO_NONE : take(io, SOCKET_STREAM);
  if (which == IO_NONE) {
    end_abort(end);
    return;
  }
  struct socket *socket = &io->sockets[which];
  socket->end = end;
  socket->local = end->local;
  socket->remote = end->remote;
  end->owner = new_later(io, which);
  end->tell = told;
  push(io, later->which, listener->accept_token, which, NULL, 0);
}

static bool is_own(const struct netaddr *address) {
  struct netaddr bare = *address;
  bare.port = 0;
  return (address->family == 4 && address->bytes[0] == 127) || netaddr_equal(&bare, &sim.v4) || netaddr_equal(&bare, &sim.v6);
}

int io_listen(struct io *io, const struct netaddr *address, unsigned backlog, bool first, io_socket *out) {
  (void)backlog;
  if (!is_own(address)) return E_NO_ADDRESS;
  if (first && address->port != 0 && net_is_taken(address)) return E_BUSY;
  int32_t which = take(io, SOCKET_LISTENER);
  if (which == IO_NONE) return E_TOO_MANY_FILES;
  static uint16_t port = 20000;
  struct socket *socket = &io->sockets[which];
  socket->local = *address;
  if (socket->local.port == 0) socket->local.port = port++;
  socket->listener = net_listen(&socket->local, accepted, new_later(io, which));
  *out = which;
  return E_OK;
}

void io_accept(struct io *io, io_socket listener, uint64_t token) {
  struct socket *socket = socket_of(io, listener);
  socket->accepting = true;
  socket->accept_token = token;
}

int io_stream(struct io *io, const struct netaddr *to, const struct netaddr *source, io_socket *out) {
  int32_t which = take(io, SOCKET_STREAM);
  if (which == IO_NONE) return E_TOO_MANY_FILES;
  io->sockets[which].local = source != NULL ? *source : to->family == 6 ? sim.v6 : sim.v4;
  *out = which;
  return E_OK;
}

void io_connect(struct io *io, io_socket which, const struct netaddr *to, uint64_t token) {
  struct socket *socket = socket_of(io, which);
  socket->connecting = true;
  socket->connect_token = token;
  socket->remote = *to;
  socket->end = net_connect(&socket->local, to, told, new_later(io, which));
  socket->local = socket->end->local;
}

int io_datagram(struct io *io, const struct netaddr *server, io_socket *out) {
  int32_t which = take(io, SOCKET_DATAGRAM);
  if (which == IO_NONE) return E_TOO_MANY_FILES;
  io->sockets[which].remote = *server;
  *out = which;
  return E_OK;
}

int io_address_check(struct io *io, const struct netaddr *address) {
  (void)io;
  return is_own(address) ? E_OK : E_NO_ADDRESS;
}

void io_peer(struct io *io, io_socket which, struct netaddr *address) { *address = socket_of(io, which)->remote; }
void io_local(struct io *io, io_socket which, struct netaddr *address) { *address = socket_of(io, which)->local; }

/* ---- closing ---- */

static void close_later(void *context, uint64_t number) {
  (void)number;
  struct later *later = context;
  struct socket *socket = socket_later(later);
  if (socket != NULL) {
    push(later->io, IO_NONE, socket->close_token, 0, NULL, 0);
    socket->kind = SOCKET_FREE;
    socket->end = NULL;
    later->io->free[later->io->free_count++] = later->which;
  }
  free(later);
}

static void start_close(struct io *io, io_socket which, uint64_t token, bool abort) {
  struct socket *socket = socket_of(io, which);
  must(!socket->closing);
  socket->closing = true;
  socket->close_token = token;
  drop_ready(io, which);
  silence(socket, abort);
  world_after(1 + chance(CLOSE_NS), close_later, new_later(io, which), 0);
}

void io_close(struct io *io, io_socket which, uint64_t token) { start_close(io, which, token, false); }
void io_abort(struct io *io, io_socket which, uint64_t token) { start_close(io, which, token, true); }
