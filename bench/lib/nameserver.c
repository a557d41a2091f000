#include "bench/lib/nameserver.h"

#include "bench/lib/counter.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

enum {
  STREAMS_MAX = 64,
  QUERY_MAX = 4096,
  BURST = 64, /* datagrams in a row before the others get a turn */
  UDP = 0,
  TCP = 1,
  FIRST_STREAM = 2,
  WAITING_BYTES = 16 << 20, /* of queries not read yet: a relay that begins to deliver may ask for all its domains at once */
};

struct stream {
  size_t len;
  uint8_t bytes[2 + QUERY_MAX];
};

struct nameserver {
  const struct zone *zone;
  uint64_t queries;
  struct pollfd polled[FIRST_STREAM + STREAMS_MAX];
  struct stream streams[STREAMS_MAX];
};

static void answer_datagrams(struct nameserver *ns) {
  for (unsigned i = 0; i < BURST; i++) {
    uint8_t query[QUERY_MAX], response[ZONE_RESPONSE_MAX];
    struct sockaddr_storage from;
    socklen_t from_len = sizeof from;
    ssize_t got = recvfrom(ns->polled[UDP].fd, query, sizeof query, MSG_DONTWAIT, (struct sockaddr *)&from, &from_len);
    if (got < 0) return;
    counter_add(&ns->queries, 1);
    struct fmt out = fmt_over(response, sizeof response);
    if (!zone_answer(ns->zone, span_of(query, (size_t)got), true, &out)) continue;
    /* A response that cannot be sent is a lost datagram: the resolver asks again. */
    if (sendto(ns->polled[UDP].fd, response, out.len, MSG_DONTWAIT, (struct sockaddr *)&from, from_len) < 0) continue;
  }
}

static void accept_stream(struct nameserver *ns) {
  int fd = accept4(ns->polled[TCP].fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd < 0) return;
  for (unsigned i = 0; i < STREAMS_MAX; i++) {
    struct pollfd *slot = &ns->polled[FIRST_STREAM + i];
    if (slot->fd >= 0) continue;
    *slot = (struct pollfd){.fd = fd, .events = POLLIN};
    ns->streams[i].len = 0;
    return;
  }
  close(fd);
}

/* One query from the front of the stream, if it is all there. False if the connection is to end. */
static bool answer_query(struct nameserver *ns, struct stream *stream, int fd, bool *more) {
  size_t len = stream->len < 2 ? 0 : (size_t)(stream->bytes[0] << 8 | stream->bytes[1]);
  *more = stream->len >= 2 && stream->len >= 2 + len;
  if (!*more) return len <= QUERY_MAX;
  uint8_t response[2 + ZONE_RESPONSE_MAX];
  struct fmt out = fmt_over(response + 2, ZONE_RESPONSE_MAX);
  counter_add(&ns->queries, 1);
  bool answered = zone_answer(ns->zone, span_of(stream->bytes + 2, len), false, &out);
  stream->len -= 2 + len;
  memmove(stream->bytes, stream->bytes + 2 + len, stream->len);
  if (!answered) return true;
  response[0] = (uint8_t)(out.len >> 8);
  response[1] = (uint8_t)out.len;
  return send(fd, response, 2 + out.len, MSG_NOSIGNAL) == (ssize_t)(2 + out.len);
}

static bool serve_stream(struct nameserver *ns, struct stream *stream, int fd) {
  ssize_t got = recv(fd, stream->bytes + stream->len, sizeof stream->bytes - stream->len, 0);
  if (got <= 0) return got < 0 && errno == EAGAIN;
  stream->len += (size_t)got;
  bool more = true;
  while (more) {
    if (!answer_query(ns, stream, fd, &more)) return false;
  }
  return true;
}

static void *serve(void *context) {
  struct nameserver *ns = context;
  for (;;) {
    poll(ns->polled, FIRST_STREAM + STREAMS_MAX, -1);
    if (ns->polled[UDP].revents != 0) answer_datagrams(ns);
    if (ns->polled[TCP].revents != 0) accept_stream(ns);
    for (unsigned i = 0; i < STREAMS_MAX; i++) {
      struct pollfd *slot = &ns->polled[FIRST_STREAM + i];
      if (slot->fd < 0 || slot->revents == 0 || serve_stream(ns, &ns->streams[i], slot->fd)) continue;
      close(slot->fd);
      slot->fd = -1;
    }
  }
  return NULL;
}

static int bind_datagram(const struct endpoint *endpoint) {
  int fd = socket(endpoint->address.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  int size = WAITING_BYTES;
  bool set = setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) == 0; /* beyond the system's limit: for root only */
  set = set || setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size) == 0;
  if (set && bind(fd, (const struct sockaddr *)&endpoint->address, endpoint->length) == 0) return fd;
  close(fd);
  return -1;
}

struct nameserver *nameserver_start(const struct zone *zone, const struct endpoint *endpoint) {
  struct nameserver *ns = calloc(1, sizeof *ns);
  must(ns != NULL);
  ns->zone = zone;
  for (unsigned i = 0; i < FIRST_STREAM + STREAMS_MAX; i++) ns->polled[i] = (struct pollfd){.fd = -1, .events = POLLIN};
  int stream = endpoint_listen(endpoint, 0);
  ns->polled[UDP].fd = stream < 0 ? -1 : bind_datagram(endpoint);
  ns->polled[TCP].fd = stream;
  pthread_t thread;
  if (ns->polled[UDP].fd >= 0 && pthread_create(&thread, NULL, serve, ns) == 0) {
    pthread_detach(thread);
    return ns;
  }
  int error = stream < 0 ? -stream : errno;
  if (stream >= 0) close(stream);
  free(ns);
  errno = error;
  return NULL;
}

uint64_t nameserver_queries(const struct nameserver *nameserver) { return counter_read(&nameserver->queries); }
