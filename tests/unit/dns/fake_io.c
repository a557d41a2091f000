/*
 * A small io.h for tests of what speaks DNS: virtual clock, sockets that talk to the test's own function. Included by the test program that wants it,
 * whose definitions then take the place of core/io's. Checks on the way what io.h demands: one send at a time, buffers left alone until the
 * completion, no use after close.
 */
#include <stdlib.h>

#include "core/base/error.h"
#include "core/io/io.h"

#define FAKE_SOCKETS 1024
#define FAKE_EVENTS 65536

struct fake_socket {
  bool open;
  bool closing;
  bool datagram;
  bool sending;
  bool receiving;
  unsigned uses; /* how often the handle was given out */
  struct netaddr server;
  uint64_t receive_token;
};

struct fake_event { /* a completion to come */
  uint64_t due_ns;
  uint64_t token;
  int64_t result;
  io_socket socket;
  enum { FAKE_PLAIN, FAKE_RECEIVED, FAKE_SENT, FAKE_CLOSED } what;
  bool more;                    /* a datagram that is not the last of its send */
  const struct io_slice *slice; /* of a send */
  uint8_t *bytes;
  size_t len;
};

struct io {
  uint64_t now_ns;
  uint64_t random;
  struct fake_socket sockets[FAKE_SOCKETS];
  struct fake_event events[FAKE_EVENTS];
  unsigned events_count;
  struct io_completion done[IO_COMPLETIONS_MAX];
  uint8_t *given[IO_COMPLETIONS_MAX];
  unsigned given_count;
  unsigned opened;
  int fail_datagram; /* what io_datagram says, if not E_OK */
  unsigned failed_datagrams;
  /* What the world does: called for each datagram or stream content sent, and for each connect (bytes.at NULL), whose result it returns. */
  int (*serve)(struct io *io, io_socket socket, bool datagram, const struct netaddr *server, struct span bytes);
};

static struct fake_event *fake_event(struct io *io, uint64_t delay_ms, uint64_t token, int64_t result, io_socket socket) {
  must(io->events_count < FAKE_EVENTS);
  struct fake_event *event = &io->events[io->events_count++];
  *event = (struct fake_event){.due_ns = io->now_ns + delay_ms * 1000000, .token = token, .result = result, .socket = socket};
  return event;
}

/* Bytes (or, with an error, none) arrive at the socket. */
static void fake_arrive(struct io *io, io_socket socket, uint64_t delay_ms, struct span bytes, int error) {
  struct fake_event *event = fake_event(io, delay_ms, 0, error != E_OK ? error : (int64_t)bytes.len, socket);
  event->what = FAKE_RECEIVED;
  if (error != E_OK) return;
  event->bytes = malloc(bytes.len + 1);
  must(event->bytes != NULL);
  if (bytes.len > 0) memcpy(event->bytes, bytes.at, bytes.len);
  event->len = bytes.len;
}

static struct fake_socket *fake_at(struct io *io, io_socket socket) {
  must(socket >= 0 && socket < FAKE_SOCKETS && io->sockets[socket].open && !io->sockets[socket].closing);
  return &io->sockets[socket];
}

static io_socket fake_open(struct io *io, bool datagram, const struct netaddr *server) {
  io_socket socket = 0;
  while (io->sockets[socket].open) must(++socket < FAKE_SOCKETS);
  io->sockets[socket] = (struct fake_socket){.open = true, .datagram = datagram, .server = *server, .uses = io->sockets[socket].uses + 1};
  io->opened++;
  return socket;
}

uint64_t io_now_ns(struct io *io) { return io->now_ns; }

void io_random(struct io *io, void *room, size_t len) {
  for (size_t i = 0; i < len; i++) {
    io->random = io->random * 6364136223846793005u + 1442695040888963407u;
    ((uint8_t *)room)[i] = (uint8_t)(io->random >> 56);
  }
}

int io_datagram(struct io *io, const struct netaddr *server, io_socket *socket) {
  if (io->fail_datagram != E_OK) {
    io->failed_datagrams++;
    return io->fail_datagram;
  }
  *socket = fake_open(io, true, server);
  return E_OK;
}

int io_stream(struct io *io, const struct netaddr *to, const struct netaddr *source, io_socket *socket) {
  must(source == NULL);
  *socket = fake_open(io, false, to);
  return E_OK;
}

void io_connect(struct io *io, io_socket socket, const struct netaddr *to, uint64_t token) {
  struct fake_socket *s = fake_at(io, socket);
  must(!s->datagram && to->port == s->server.port);
  int result = io->serve(io, socket, false, &s->server, (struct span){NULL, 0});
  if (result != E_TIMEOUT) fake_event(io, 1, token, result, socket);
}

void io_receive(struct io *io, io_socket socket, uint64_t token) {
  struct fake_socket *s = fake_at(io, socket);
  s->receiving = true;
  s->receive_token = token;
}

static void fake_send(struct io *io, io_socket socket, const struct io_slice *slice, uint64_t token, int64_t result, bool more) {
  struct fake_event *event = fake_event(io, 0, token, result, socket);
  event->what = FAKE_SENT;
  event->more = more;
  event->slice = slice;
  event->len = slice->len;
  event->bytes = malloc(slice->len);
  must(event->bytes != NULL);
  memcpy(event->bytes, slice->at, slice->len);
}

void io_send(struct io *io, io_socket socket, const struct io_slice *slices, unsigned count, uint64_t token) {
  struct fake_socket *s = fake_at(io, socket);
  must(!s->sending && count == 1);
  s->sending = true;
  fake_send(io, socket, slices, token, (int64_t)slices->len, false);
}

void io_send_datagrams(struct io *io, io_socket socket, const struct io_slice *slices, unsigned count, uint64_t token) {
  struct fake_socket *s = fake_at(io, socket);
  must(s->datagram && !s->sending && count > 0 && count <= IO_DATAGRAMS_MAX);
  s->sending = true;
  int64_t sum = 0;
  for (unsigned i = 0; i < count; i++) {
    sum += (int64_t)slices[i].len;
    fake_send(io, socket, &slices[i], token, sum, i + 1 < count);
  }
}

void io_close(struct io *io, io_socket socket, uint64_t token) {
  struct fake_socket *s = fake_at(io, socket);
  unsigned kept = 0;
  s->closing = true;
  for (unsigned i = 0; i < io->events_count; i++) {
    struct fake_event *event = &io->events[i];
    if (event->socket == socket) {
      free(event->bytes);
    } else {
      io->events[kept++] = *event;
    }
  }
  io->events_count = kept;
  fake_event(io, 0, token, 0, socket)->what = FAKE_CLOSED;
}

static void fake_give(struct io *io, unsigned count, const struct fake_event *event) {
  io->done[count] = (struct io_completion){event->token, event->result, span_of(event->bytes, event->len)};
  io->given[io->given_count++] = event->bytes;
}

/* Turns one event into a completion; false if nobody gets to see it. */
static bool fake_happen(struct io *io, unsigned count, struct fake_event *event) {
  struct fake_socket *s = &io->sockets[event->socket];
  if (event->what == FAKE_RECEIVED) {
    if (s->open && s->receiving && !s->closing) {
      event->token = s->receive_token;
      if (event->result < 0) s->receiving = false;
      fake_give(io, count, event);
      return true;
    }
    free(event->bytes);
    return false;
  }
  if (event->what == FAKE_CLOSED) s->open = false;
  if (event->what == FAKE_SENT) {
    must(event->slice->len == event->len && memcmp(event->slice->at, event->bytes, event->len) == 0); /* left alone */
    s->sending = event->more;
    io->serve(io, event->socket, s->datagram, &s->server, span_of(event->bytes, event->len));
  }
  free(event->bytes);
  if (event->more) return false;
  io->done[count] = (struct io_completion){event->token, event->result, {NULL, 0}};
  return true;
}

static uint64_t fake_next_ns(const struct io *io) {
  uint64_t next = UINT64_MAX;
  for (unsigned i = 0; i < io->events_count; i++)
    if (io->events[i].due_ns < next) next = io->events[i].due_ns;
  return next;
}

unsigned io_wait(struct io *io, uint64_t until_ns, const struct io_completion **done) {
  unsigned count = 0;
  while (io->given_count > 0) free(io->given[--io->given_count]);
  uint64_t next = fake_next_ns(io);
  uint64_t wake = next < until_ns ? next : until_ns;
  if (wake > io->now_ns) io->now_ns = wake;
  for (unsigned i = 0; i < io->events_count && count < IO_COMPLETIONS_MAX;) {
    if (io->events[i].due_ns > io->now_ns) {
      i++;
      continue;
    }
    struct fake_event event = io->events[i];
    memmove(&io->events[i], &io->events[i + 1], (io->events_count - i - 1) * sizeof event);
    io->events_count--;
    if (fake_happen(io, count, &event)) count++;
  }
  *done = io->done;
  return count;
}

static void fake_fini(struct io *io) {
  while (io->given_count > 0) free(io->given[--io->given_count]);
  for (unsigned i = 0; i < io->events_count; i++) free(io->events[i].bytes);
}
