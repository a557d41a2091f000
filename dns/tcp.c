#include "dns/tcp.h"

#include <stdlib.h>

#include "core/base/error.h"
#include "dns/token.h"

#define PREFIX 2 /* bytes of length */

struct tcp_stream {
  void *owner; /* NULL: nobody waits any more */
  io_socket socket;
  bool closing;
  uint32_t index;
  struct io_slice slice;
  uint8_t query[PREFIX + TCP_QUERY_MAX];
  size_t query_len;
  uint8_t prefix[PREFIX];
  size_t got; /* bytes of the reply, its prefix included */
  size_t reply_len;
  uint8_t *reply; /* taken when the length is known */
};

int tcp_open(struct tcp *tcp, struct io *io, uint8_t kind, const struct tcp_events *events) {
  *tcp = (struct tcp){._io = io, ._kind = kind, ._events = *events};
  return pool_init(&tcp->_streams, sizeof(struct tcp_stream), TCP_STREAMS_MAX);
}

static void forget(struct tcp *tcp, struct tcp_stream *stream) {
  free(stream->reply);
  pool_put(&tcp->_streams, stream);
}

void tcp_close(struct tcp *tcp) {
  for (uint32_t i = 0; i < tcp->_streams.capacity; i++) {
    struct tcp_stream *stream = pool_slot(&tcp->_streams, i);
    if (stream != NULL) forget(tcp, stream);
  }
  pool_fini(&tcp->_streams);
}

static uint64_t token_of(const struct tcp *tcp, const struct tcp_stream *stream, enum dns_operation operation) {
  return dns_token(tcp->_kind, operation, stream->index, pool_generation(&tcp->_streams, stream->index));
}

struct tcp_stream *tcp_start(struct tcp *tcp, const struct netaddr *server, struct span query, void *owner) {
  must(query.len <= TCP_QUERY_MAX && owner != NULL);
  struct tcp_stream *stream = pool_get(&tcp->_streams);
  if (stream == NULL) return NULL;
  if (io_stream(tcp->_io, server, NULL, &stream->socket) != E_OK) {
    pool_put(&tcp->_streams, stream);
    return NULL;
  }
  stream->index = pool_index(&tcp->_streams, stream);
  stream->owner = owner;
  stream->query[0] = (uint8_t)(query.len >> 8);
  stream->query[1] = (uint8_t)query.len;
  memcpy(stream->query + PREFIX, query.at, query.len);
  stream->query_len = PREFIX + query.len;
  io_connect(tcp->_io, stream->socket, server, token_of(tcp, stream, DNS_TCP_CONNECT));
  return stream;
}

void tcp_stop(struct tcp *tcp, struct tcp_stream *stream) {
  stream->owner = NULL;
  if (stream->closing) return;
  stream->closing = true;
  io_close(tcp->_io, stream->socket, token_of(tcp, stream, DNS_TCP_CLOSE));
}

static void fail(struct tcp *tcp, struct tcp_stream *stream, int error) {
  void *owner = stream->owner;
  tcp_stop(tcp, stream);
  tcp->_events.failed(tcp->_events.context, owner, error);
}

static void connected(struct tcp *tcp, struct tcp_stream *stream) {
  stream->slice = (struct io_slice){stream->query, stream->query_len};
  io_send(tcp->_io, stream->socket, &stream->slice, 1, token_of(tcp, stream, DNS_TCP_SEND));
  io_receive(tcp->_io, stream->socket, token_of(tcp, stream, DNS_TCP_RECEIVE));
}

/* Takes what it needs from the bytes and leaves the rest. */
static int take(struct tcp_stream *stream, struct span bytes) {
  while (bytes.len > 0 && stream->got < PREFIX) {
    stream->prefix[stream->got++] = *bytes.at;
    bytes = span_skip(bytes, 1);
  }
  if (stream->got < PREFIX) return E_OK;
  if (stream->reply == NULL) {
    stream->reply_len = (size_t)(stream->prefix[0] << 8 | stream->prefix[1]);
    stream->reply = malloc(stream->reply_len > 0 ? stream->reply_len : 1);
    if (stream->reply == NULL) return E_NO_MEMORY;
  }
  bytes = span_first(bytes, stream->reply_len - (stream->got - PREFIX));
  if (bytes.len > 0) memcpy(stream->reply + (stream->got - PREFIX), bytes.at, bytes.len);
  stream->got += bytes.len;
  return E_OK;
}

static void received(struct tcp *tcp, struct tcp_stream *stream, const struct io_completion *completion) {
  if (completion->result <= 0) {
    fail(tcp, stream, completion->result < 0 ? (int)completion->result : E_CLOSED);
    return;
  }
  int error = take(stream, completion->bytes);
  if (error != E_OK) {
    fail(tcp, stream, error);
  } else if (stream->reply != NULL && stream->got - PREFIX == stream->reply_len) {
    void *owner = stream->owner;
    tcp_stop(tcp, stream); /* the slot and the reply stay until the close completes */
    tcp->_events.reply(tcp->_events.context, owner, span_of(stream->reply, stream->reply_len));
  }
}

void tcp_complete(struct tcp *tcp, const struct io_completion *completion) {
  struct tcp_stream *stream = pool_find(&tcp->_streams, dns_token_slot(completion->token), dns_token_generation(completion->token));
  enum dns_operation operation = dns_token_operation(completion->token);
  if (stream == NULL) return;
  if (operation == DNS_TCP_CLOSE) {
    forget(tcp, stream);
  } else if (stream->closing) {
    return; /* was under way in the same batch */
  } else if (operation == DNS_TCP_RECEIVE) {
    received(tcp, stream, completion);
  } else if (completion->result < 0) {
    fail(tcp, stream, (int)completion->result);
  } else if (operation == DNS_TCP_CONNECT) {
    connected(tcp, stream);
  }
}
