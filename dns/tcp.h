/*
 * tcp: one query over one TCP connection, for replies that do not fit into a datagram (RFC 7766; two bytes of length before each message).
 *
 * Owner: one shard. For each stream started exactly one of these happens: the caller stops it, or `reply` is called, or `failed` is. After that the
 * stream belongs to nobody and closes by itself. Time limits are the caller's. No callback is called from within tcp_start or tcp_stop.
 */
#ifndef DNS_TCP_H
#define DNS_TCP_H

#include "core/base/pool.h"
#include "core/io/io.h"

#define TCP_STREAMS_MAX 64
#define TCP_QUERY_MAX 320

struct tcp_stream;

struct tcp_events {
  void (*reply)(void *context, void *owner, struct span packet);
  void (*failed)(void *context, void *owner, int error);
  void *context;
};

struct tcp {
  struct io *_io;
  uint8_t _kind;
  struct tcp_events _events;
  struct pool _streams;
};

must_check int tcp_open(struct tcp *tcp, struct io *io, uint8_t kind, const struct tcp_events *events);
/* As udp_close. */
void tcp_close(struct tcp *tcp);

/* Is there a stream to be had? */
static inline bool tcp_has_room(const struct tcp *tcp) { return tcp->_streams.used < tcp->_streams.capacity; }
/* `query` is copied. NULL if no stream or no socket can be had. */
struct tcp_stream *tcp_start(struct tcp *tcp, const struct netaddr *server, struct span query, void *owner);
void tcp_stop(struct tcp *tcp, struct tcp_stream *stream);
void tcp_complete(struct tcp *tcp, const struct io_completion *completion);

#endif
