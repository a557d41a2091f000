/*
 * udp: queries as datagrams, over several connected sockets per server that are replaced after some use, so that neither port nor id can be foreseen.
 *
 * Owner: one shard. A flight is one query under way; it lives in the caller's object. For each flight started exactly one of these happens: the
 * caller stops it, or `failed` is called (it is then not under way any more). `reply` may be called any number of times in between: whoever looks
 * into the packet decides. No callback but `encode` is called from within udp_start or udp_stop.
 */
#ifndef DNS_UDP_H
#define DNS_UDP_H

#include <sys/queue.h>

#include "core/base/map.h"
#include "core/base/pool.h"
#include "core/io/io.h"

#define UDP_SERVERS_MAX 16
#define UDP_CHANNELS 8 /* sockets in use per server */
#define UDP_PACKET_MAX 320

struct udp_flight {
  TAILQ_ENTRY(udp_flight) _link;
  struct udp_channel *_channel; /* NULL: not under way */
  struct {
    uint32_t channel;
    uint32_t id;
  } _key;
  bool _queued; /* not sent yet */
};
TAILQ_HEAD(udp_flights, udp_flight);

static inline bool udp_under_way(const struct udp_flight *flight) { return flight->_channel != NULL; }
/* Its datagram is still to be handed to the kernel. */
static inline bool udp_queued(const struct udp_flight *flight) { return flight->_channel != NULL && flight->_queued; }

struct udp_events {
  /* Writes the query with this id; called, from within udp_start or later, when it is handed to the kernel. */
  void (*encode)(void *context, struct udp_flight *flight, uint16_t id, struct fmt *out);
  /* A datagram with the flight's id came from the server it was sent to. */
  void (*reply)(void *context, struct udp_flight *flight, struct span packet);
  /* The server cannot be reached: its port is closed, the network down. */
  void (*failed)(void *context, struct udp_flight *flight, int error);
  /* A datagram that belongs to nothing, or to nothing any more, came from that server. */
  void (*stray)(void *context, unsigned server, struct span packet);
  void *context;
};

struct udp {
  struct io *_io;
  uint8_t _kind;
  struct udp_events _events;
  const struct netaddr *_servers;
  unsigned _servers_count;
  struct pool _channels;
  struct udp_channel *_open[UDP_SERVERS_MAX][UDP_CHANNELS]; /* takes new queries; NULL: not opened yet */
  struct map _flights;
};

must_check int udp_open(struct udp *udp, struct io *io, uint8_t kind, const struct netaddr *servers, unsigned servers_count,
                        const struct udp_events *events);
/* Forgets all flights. The io may be gone already; it must be gone before memory of sends under way is used again. */
void udp_close(struct udp *udp);

/* Sends the flight's query to a server, at once or when the socket is free, then several together. An error means it is not under way. */
must_check int udp_start(struct udp *udp, struct udp_flight *flight, unsigned server, uint64_t now_ms);
/* Harmless if it is not under way. */
void udp_stop(struct udp *udp, struct udp_flight *flight);
void udp_complete(struct udp *udp, const struct io_completion *completion);

#endif
