/*
 * net: simulated TCP connections and datagrams between the program under test (io.c) and its peers (client.c, mx.c, dns.c).
 *
 * A connection has two ends. What one end writes arrives at the other in pieces, in order, later; so much may be on its way or unread, then nothing more
 * is taken. An end that is closed with something unread, or written to, resets the other. Ends live as long as the world.
 */
#ifndef TESTS_SIM_NET_H
#define TESTS_SIM_NET_H

#include "core/base/netaddr.h"
#include "core/base/span.h"

enum net_news {
  NET_CONNECTED, /* of the side that connects; the other is told by its listener */
  NET_REFUSED,
  NET_ARRIVED, /* bytes, or the end of the stream, or a reset */
  NET_ROOM,    /* there may be room again */
};

struct end;
typedef void (*net_tell)(void *owner, struct end *end, enum net_news news);
typedef void (*net_accept)(void *owner, struct end *end); /* sets the end's owner */

struct end {
  struct netaddr local, remote;
  void *owner;
  net_tell tell; /* NULL: nobody listens any more */
  /* private */
  struct end *other;
  struct piece *first, *last; /* arrived */
  uint64_t unread, on_way;    /* bytes */
  uint64_t written, read;     /* in all */
  uint64_t last_arrival_ns;
  bool connected, end_sent, end_arrived, reset, closed;
  struct mark *marks; /* to be set when they are read */
};

struct net_weather {
  uint64_t delay_low_ns, delay_high_ns; /* of a connection, one way */
  uint64_t window_bytes;
  uint64_t piece_max;   /* bytes; small ones make many pieces */
  unsigned resets_once; /* a connection is reset at some time, once in so many; 0: never */
  unsigned lost_once;   /* datagrams, once in so many */
};
void net_open(void);
void net_set_weather(const struct net_weather *weather);

/* Whoever connects to this address (any port if 0) from now on is given to `accept`; several on one address take turns by chance. NULL for `accept`: silence. */
struct listener *net_listen(const struct netaddr *address, net_accept accept, void *owner);
bool net_is_taken(const struct netaddr *address);
void net_unlisten(struct listener *listener);

/* NET_CONNECTED or NET_REFUSED follows, or nothing ever. */
struct end *net_connect(const struct netaddr *from, const struct netaddr *to, net_tell tell, void *owner);

/* How many bytes were taken: none without room, after a reset, or when the end was closed. */
size_t end_write(struct end *end, const void *bytes, size_t len);
size_t end_read(struct end *end, void *room, size_t len);
/* Everything the other wrote has been read, and it will write no more. */
bool end_is_over(const struct end *end);
/* All is read, and then comes a reset. */
bool end_is_reset(const struct end *end);
/* The other end still has it open, as far as that knows itself. */
bool end_is_held(const struct end *end);
void end_shutdown(struct end *end);
void end_close(struct end *end);
void end_abort(struct end *end);
/* When the other end has read all that was written until now, *at_ns gets the time. */
void end_mark(struct end *end, uint64_t *at_ns);

/* A datagram to `to`, where a server has been set; the answer goes to `answer` with the context, if there is one. */
typedef void (*net_answer)(void *context, struct span bytes);
typedef void (*net_datagram)(void *owner, struct span bytes, net_answer answer, void *context);
void net_serve(const struct netaddr *address, net_datagram serve, void *owner);
void net_send(const struct netaddr *to, struct span bytes, net_answer answer, void *context);

#endif
