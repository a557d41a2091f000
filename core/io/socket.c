/*
 * Sockets of io.h on the ring: multishot accept and receive, sends that are seen through to their last byte, and the close that comes last.
 *
 * A slot lives until the kernel has given back every operation on it. `operations` counts them; io_close cancels them, waits for the count to
 * reach zero, closes the descriptor, and only then completes.
 */
#include "core/io/ring.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include "core/base/error.h"

static struct ring_socket *at(struct io *io, io_socket socket) {
  struct ring_socket *s = pool_slot(&io->sockets, (uint32_t)socket);
  must(s != NULL);
  return s;
}

static uint64_t tag_of(struct io *io, const struct ring_socket *s, enum ring_op op) {
  uint32_t index = pool_index(&io->sockets, s);
  return ring_tag(op, index, pool_generation(&io->sockets, index));
}

static struct ring_socket *adopt(struct io *io, int fd) {
  struct ring_socket *s = pool_get(&io->sockets);
  if (s == NULL) return NULL;
  s->fd = fd;
  s->fresh = true;
  return s;
}

/* ---- addresses ---- */

static socklen_t address_to_kernel(const struct netaddr *address, union ring_address *kernel) {
  memset(kernel, 0, sizeof *kernel);
  if (address->family == 4) {
    kernel->v4.sin_family = AF_INET;
    kernel->v4.sin_port = htons(address->port);
    memcpy(&kernel->v4.sin_addr, address->bytes, 4);
    return sizeof kernel->v4;
  }
  kernel->v6.sin6_family = AF_INET6;
  kernel->v6.sin6_port = htons(address->port);
  memcpy(&kernel->v6.sin6_addr, address->bytes, 16);
  return sizeof kernel->v6;
}

static void address_from_kernel(struct netaddr *address, const union ring_address *kernel) {
  *address = (struct netaddr){0};
  if (kernel->any.sa_family == AF_INET) {
    address->family = 4;
    address->port = ntohs(kernel->v4.sin_port);
    memcpy(address->bytes, &kernel->v4.sin_addr, 4);
  } else if (kernel->any.sa_family == AF_INET6) {
    address->family = 6;
    address->port = ntohs(kernel->v6.sin6_port);
    memcpy(address->bytes, &kernel->v6.sin6_addr, 16);
  }
}

void io_peer(struct io *io, io_socket socket, struct netaddr *address) {
  union ring_address kernel = {0};
  socklen_t len = sizeof kernel;
  getpeername(at(io, socket)->fd, &kernel.any, &len);
  address_from_kernel(address, &kernel);
}

void io_local(struct io *io, io_socket socket, struct netaddr *address) {
  union ring_address kernel = {0};
  socklen_t len = sizeof kernel;
  getsockname(at(io, socket)->fd, &kernel.any, &len);
  address_from_kernel(address, &kernel);
}

/* ---- making sockets ---- */

static int family_of(const struct netaddr *address) { return address->family == 4 ? AF_INET : AF_INET6; }

static void option_on(int fd, int level, int option) {
  int on = 1;
  setsockopt(fd, level, option, &on, sizeof on); /* each of them is an improvement, none a condition */
}

static int take_socket(struct io *io, int fd, io_socket *socket) {
  struct ring_socket *s = adopt(io, fd);
  if (s == NULL) {
    close(fd);
    return E_FULL;
  }
  *socket = (io_socket)pool_index(&io->sockets, s);
  return E_OK;
}

/* The first one has the address for itself until it listens, and lets others of ours join after that: so of two processes one finds it taken. */
int io_listen(struct io *io, const struct netaddr *address, unsigned backlog, bool first, io_socket *listener) {
  int fd = socket(family_of(address), SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return error_from_errno(errno);
  union ring_address kernel;
  socklen_t len = address_to_kernel(address, &kernel);
  option_on(fd, SOL_SOCKET, SO_REUSEADDR);
  if (!first) option_on(fd, SOL_SOCKET, SO_REUSEPORT);
  option_on(fd, IPPROTO_TCP, TCP_NODELAY); /* inherited by what is accepted */
  if (address->family == 6) option_on(fd, IPPROTO_IPV6, IPV6_V6ONLY);
  if (bind(fd, &kernel.any, len) != 0 || listen(fd, (int)backlog) != 0) {
    int error = error_from_errno(errno);
    close(fd);
    return error;
  }
  if (first) option_on(fd, SOL_SOCKET, SO_REUSEPORT);
  int error = take_socket(io, fd, listener);
  if (error == E_OK) at(io, *listener)->listener = true;
  return error;
}

int io_stream(struct io *io, const struct netaddr *to, const struct netaddr *source, io_socket *out) {
  int fd = socket(family_of(to), SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return error_from_errno(errno);
  option_on(fd, IPPROTO_TCP, TCP_NODELAY);
  if (source != NULL && source->family != 0) {
    union ring_address kernel;
    socklen_t len = address_to_kernel(source, &kernel);
    option_on(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT); /* the port is chosen at connect, where the peer is known: no 28,000 limit */
    if (bind(fd, &kernel.any, len) != 0) {
      int error = error_from_errno(errno);
      close(fd);
      return error;
    }
  }
  return take_socket(io, fd, out);
}

int io_address_check(struct io *io, const struct netaddr *address) {
  (void)io;
  int fd = socket(family_of(address), SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return error_from_errno(errno);
  union ring_address kernel;
  struct netaddr any_port = *address;
  any_port.port = 0;
  socklen_t len = address_to_kernel(&any_port, &kernel);
  int error = bind(fd, &kernel.any, len) == 0 ? E_OK : error_from_errno(errno);
  close(fd);
  return error;
}

int io_datagram(struct io *io, const struct netaddr *server, io_socket *out) {
  int fd = socket(family_of(server), SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return error_from_errno(errno);
  union ring_address kernel;
  socklen_t len = address_to_kernel(server, &kernel);
  if (connect(fd, &kernel.any, len) != 0) {
    int error = error_from_errno(errno);
    close(fd);
    return error;
  }
  int error = take_socket(io, fd, out);
  if (error == E_OK) at(io, *out)->datagram = true;
  return error;
}

void io_connect(struct io *io, io_socket socket, const struct netaddr *to, uint64_t token) {
  struct ring_socket *s = at(io, socket);
  socklen_t len = address_to_kernel(to, &s->kernel.address);
  struct io_uring_sqe *sqe = ring_sqe(io);
  io_uring_prep_connect(sqe, s->fd, &s->kernel.address.any, len);
  io_uring_sqe_set_data64(sqe, tag_of(io, s, RING_CONNECT));
  s->close_token = token;
  s->connecting = true;
  s->operations++;
}

/* ---- accept and receive ---- */

static void arm(struct io *io, struct ring_socket *s) {
  struct io_uring_sqe *sqe = ring_sqe(io);
  if (s->listener) {
    io_uring_prep_multishot_accept(sqe, s->fd, NULL, NULL, SOCK_CLOEXEC);
    io_uring_sqe_set_data64(sqe, tag_of(io, s, RING_ACCEPT));
  } else {
    if (s->once) {
      io_uring_prep_recv(sqe, s->fd, NULL, 0, 0);
    } else {
      io_uring_prep_recv_multishot(sqe, s->fd, NULL, 0, 0);
    }
    io_uring_sqe_set_flags(sqe, IOSQE_BUFFER_SELECT);
    sqe->buf_group = 0;
    if (s->fresh) sqe->ioprio |= IORING_RECVSEND_POLL_FIRST; /* the peer speaks only after us: a first try would find nothing */
    io_uring_sqe_set_data64(sqe, tag_of(io, s, RING_RECEIVE));
  }
  s->receiving = true;
  s->operations++;
}

static void starve(struct io *io, struct ring_socket *s) {
  if (s->starved) return;
  s->starved = true;
  io->starved[io->starved_count++] = pool_index(&io->sockets, s);
}

void socket_feed_starved(struct io *io) {
  uint64_t now_ns = io_now_ns(io);
  unsigned kept = 0;
  for (unsigned i = 0; i < io->starved_count; i++) {
    struct ring_socket *s = pool_slot(&io->sockets, io->starved[i]);
    if (s == NULL || !s->starved) continue; /* closed meanwhile */
    if (s->listener && now_ns < io->retry_accept_ns) {
      io->starved[kept++] = io->starved[i];
      continue;
    }
    s->starved = false;
    if (s->want_receive && !s->receiving && !s->closing) arm(io, s);
  }
  io->starved_count = kept;
}

void io_accept(struct io *io, io_socket listener, uint64_t token) { io_receive(io, listener, token); }

static void want_receive(struct io *io, struct ring_socket *s, uint64_t token) {
  must(!s->closing);
  s->receive_token = token;
  s->want_receive = true;
  if (!s->receiving && !s->starved) arm(io, s); /* still armed when a pause has not taken effect: then it just goes on */
}

void io_receive(struct io *io, io_socket socket, uint64_t token) {
  struct ring_socket *s = at(io, socket);
  s->once = false;
  want_receive(io, s, token);
}

/* By its tag, which the kernel has in a hash: for a descriptor it would look through all operations of the ring, ten thousand idle receives among them. */
static void cancel(struct io *io, uint64_t tag, unsigned flags) {
  struct io_uring_sqe *sqe = ring_sqe(io);
  io_uring_prep_cancel64(sqe, tag, (int)flags);
  io_uring_sqe_set_data64(sqe, ring_tag(RING_IGNORE, 0, 0));
  io_uring_sqe_set_flags(sqe, IOSQE_CQE_SKIP_SUCCESS);
}

void io_receive_pause(struct io *io, io_socket socket) {
  struct ring_socket *s = at(io, socket);
  if (s->want_receive && s->receiving) cancel(io, tag_of(io, s, RING_RECEIVE), 0);
  s->want_receive = false;
}

void io_receive_once(struct io *io, io_socket socket, uint64_t token) {
  struct ring_socket *s = at(io, socket);
  if (s->receiving && !s->once) cancel(io, tag_of(io, s, RING_RECEIVE), 0); /* a multishot; when it has ended the single one is armed */
  s->once = true;
  want_receive(io, s, token);
}

static void accepted(struct io *io, struct ring_socket *listener, int fd) {
  struct ring_socket *s = listener->closing ? NULL : adopt(io, fd);
  if (s == NULL) { /* all slots are used: the peer sees a reset and comes again */
    close(fd);
    return;
  }
  ring_complete(io, listener->receive_token, pool_index(&io->sockets, s), (struct span){NULL, 0});
}

static void accept_done(struct io *io, struct ring_socket *s, const struct io_uring_cqe *cqe) {
  if (cqe->res >= 0) accepted(io, s, cqe->res);
  if (s->receiving || s->closing || !s->want_receive) return;
  if (cqe->res == -EMFILE || cqe->res == -ENFILE || cqe->res == -ENOMEM || cqe->res == -ENOBUFS) {
    io->retry_accept_ns = io_now_ns(io) + 100000000;
    starve(io, s);
  } else {
    arm(io, s); /* ECONNABORTED and the like concern one connection that is gone */
  }
}

static void receive_done(struct io *io, struct ring_socket *s, const struct io_uring_cqe *cqe) {
  struct span bytes = ring_take_buffer(io, cqe);
  if (s->closing) return;
  if (cqe->res > 0 || (s->datagram && cqe->res == 0 && bytes.at != NULL)) {
    s->fresh = false;
    if (s->once) s->want_receive = false;
    ring_complete(io, s->receive_token, cqe->res, bytes);
  } else if (cqe->res == -ENOBUFS) {
    starve(io, s);
    return;
  } else if (cqe->res != -ECANCELED && cqe->res != -EAGAIN && cqe->res != -EINTR) {
    s->want_receive = false;
    ring_complete(io, s->receive_token, cqe->res == 0 ? 0 : error_from_errno(-cqe->res), (struct span){NULL, 0});
  }
  if (!s->receiving && s->want_receive && !s->starved) arm(io, s);
}

/* ---- send ---- */

static void send_rest(struct io *io, struct ring_socket *s) {
  struct io_uring_sqe *sqe = ring_sqe(io);
  int flags = MSG_NOSIGNAL | MSG_WAITALL;
  if (s->slices_count == 1 || s->skip > 0) { /* what is left of a slice that was cut goes alone */
    if (s->slices_count > 1) flags |= MSG_MORE;
    io_uring_prep_send(sqe, s->fd, (uint8_t *)s->slices->at + s->skip, s->slices->len - s->skip, flags);
  } else {
    s->kernel.message = (struct msghdr){.msg_iov = (struct iovec *)(uintptr_t)s->slices, .msg_iovlen = s->slices_count};
    io_uring_prep_sendmsg(sqe, s->fd, &s->kernel.message, (unsigned)flags);
  }
  io_uring_sqe_set_data64(sqe, tag_of(io, s, RING_SEND));
  s->operations++;
}

void io_send(struct io *io, io_socket socket, const struct io_slice *slices, unsigned count, uint64_t token) {
  struct ring_socket *s = at(io, socket);
  must(!s->sending && !s->closing && count > 0 && count <= IO_SLICES_MAX);
  s->sending = true;
  s->send_token = token;
  s->slices = slices;
  s->slices_count = count;
  s->skip = 0;
  s->sent = 0;
  send_rest(io, s);
}

/* One entry each, all under the same tag: the last one that is back is the completion. */
void io_send_datagrams(struct io *io, io_socket socket, const struct io_slice *slices, unsigned count, uint64_t token) {
  struct ring_socket *s = at(io, socket);
  must(s->datagram && !s->sending && !s->closing && count > 0 && count <= IO_DATAGRAMS_MAX);
  s->sending = true;
  s->send_token = token;
  s->sent = 0;
  s->datagrams = (uint8_t)count;
  for (unsigned i = 0; i < count; i++) {
    struct io_uring_sqe *sqe = ring_sqe(io);
    io_uring_prep_send(sqe, s->fd, slices[i].at, slices[i].len, MSG_NOSIGNAL);
    io_uring_sqe_set_data64(sqe, tag_of(io, s, RING_SEND));
    s->operations++;
  }
}

static void datagram_done(struct io *io, struct ring_socket *s, const struct io_uring_cqe *cqe) {
  s->datagrams--;
  if (cqe->res < 0) s->sent = error_from_errno(-cqe->res);
  if (s->sent >= 0) s->sent += cqe->res;
  if (s->datagrams > 0) return;
  s->sending = false;
  ring_complete(io, s->send_token, s->sent, (struct span){NULL, 0});
}

static void send_done(struct io *io, struct ring_socket *s, const struct io_uring_cqe *cqe) {
  if (s->closing) return;
  if (s->datagrams > 0) {
    datagram_done(io, s, cqe);
    return;
  }
  if (cqe->res > 0) {
    s->sent += cqe->res;
    slices_advance(&s->slices, &s->slices_count, &s->skip, (size_t)cqe->res);
  }
  if (s->slices_count > 0 && (cqe->res > 0 || cqe->res == -EAGAIN || cqe->res == -EINTR)) {
    send_rest(io, s);
    return;
  }
  s->sending = false;
  ring_complete(io, s->send_token, s->slices_count == 0 ? s->sent : error_from_errno(-cqe->res), (struct span){NULL, 0});
}

void io_shutdown(struct io *io, io_socket socket) { shutdown(at(io, socket)->fd, SHUT_WR); }

/* ---- close ---- */

static void close_now(struct io *io, struct ring_socket *s) {
  struct io_uring_sqe *sqe = ring_sqe(io);
  io_uring_prep_close(sqe, s->fd);
  io_uring_sqe_set_data64(sqe, tag_of(io, s, RING_CLOSE));
}

void io_close(struct io *io, io_socket socket, uint64_t token) {
  struct ring_socket *s = at(io, socket);
  must(!s->closing);
  s->closing = true;
  s->starved = false;
  s->close_token = token;
  if (s->operations == 0) {
    close_now(io, s);
    return;
  }
  if (s->receiving) cancel(io, tag_of(io, s, s->listener ? RING_ACCEPT : RING_RECEIVE), 0);
  if (s->sending) cancel(io, tag_of(io, s, RING_SEND), s->datagrams > 0 ? IORING_ASYNC_CANCEL_ALL : 0);
  if (s->connecting) cancel(io, tag_of(io, s, RING_CONNECT), 0);
}

void io_abort(struct io *io, io_socket socket, uint64_t token) {
  struct linger linger = {.l_onoff = 1, .l_linger = 0};
  setsockopt(at(io, socket)->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
  io_close(io, socket, token);
}

static void closed(struct io *io, struct ring_socket *s) {
  ring_complete(io, s->close_token, 0, (struct span){NULL, 0});
  pool_put(&io->sockets, s);
  io->retry_accept_ns = 0; /* a descriptor is free again */
}

void socket_dispatch(struct io *io, enum ring_op op, uint32_t index, uint32_t generation, const struct io_uring_cqe *cqe) {
  struct ring_socket *s = pool_find(&io->sockets, index, generation);
  must(s != NULL);
  if (op == RING_CLOSE) {
    closed(io, s);
    return;
  }
  if ((cqe->flags & IORING_CQE_F_MORE) == 0) {
    s->operations--;
    if (op == RING_ACCEPT || op == RING_RECEIVE) s->receiving = false;
  }
  switch (op) {
  case RING_ACCEPT: accept_done(io, s, cqe); break;
  case RING_RECEIVE: receive_done(io, s, cqe); break;
  case RING_SEND: send_done(io, s, cqe); break;
  case RING_CONNECT:
    s->connecting = false;
    if (!s->closing) ring_complete(io, s->close_token, error_from_errno(-cqe->res), (struct span){NULL, 0});
    break;
  default: must(false);
  }
  if (s->closing && s->operations == 0) close_now(io, s);
}
