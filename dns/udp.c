/*
 * A channel is one socket. It takes queries until it has sent CHANNEL_SENDS_MAX or is CHANNEL_AGE_MAX_MS old; then it is retired: out of the table of
 * open ones, alive until its last flight has ended, then closed. The slot stays until the close has completed, so a completion meets no stranger.
 */
#include "dns/udp.h"

#include "core/base/canary.h"
#include "core/base/error.h"
#include "dns/token.h"

#define CHANNEL_SENDS_MAX 256
#define CHANNEL_AGE_MAX_MS 60000
#define CHANNELS_PER_SERVER (UDP_CHANNELS * 8) /* retired and closing ones included: one with a query that nobody answers stays for the timeout */
#define ID_TRIES 8

struct udp_channel {
  io_socket socket;
  unsigned server;
  unsigned place; /* in the table of open ones */
  uint32_t index; /* slot in the pool */
  bool retired;
  bool closing;
  bool sending;
  unsigned sends;
  uint64_t opened_ms;
  struct udp_flights queue;                 /* to be sent */
  struct udp_flights sent;                  /* waiting for their reply */
  struct io_slice slices[IO_DATAGRAMS_MAX]; /* these two are the kernel's while sending */
  uint8_t packets[IO_DATAGRAMS_MAX][UDP_PACKET_MAX];
};

static struct span key_of(const void *object) {
  const struct udp_flight *flight = object;
  return span_of(&flight->_key, sizeof flight->_key);
}

int udp_open(struct udp *udp, struct io *io, uint8_t kind, const struct netaddr *servers, unsigned servers_count, const struct udp_events *events) {
  uint64_t seed;
  *udp = (struct udp){._io = io, ._kind = kind, ._events = *events, ._servers = servers, ._servers_count = servers_count};
  if (servers_count > UDP_SERVERS_MAX) return E_RANGE;
  io_random(io, &seed, sizeof seed);
  map_init(&udp->_flights, key_of, seed);
  return pool_init(&udp->_channels, sizeof(struct udp_channel), CHANNELS_PER_SERVER * (servers_count > 0 ? servers_count : 1));
}

void udp_close(struct udp *udp) {
  map_fini(&udp->_flights);
  pool_fini(&udp->_channels);
}

/* ---- channels ---- */

static uint64_t token_of(const struct udp *udp, const struct udp_channel *channel, enum dns_operation operation) {
  return dns_token(udp->_kind, operation, channel->index, pool_generation(&udp->_channels, channel->index));
}

static void close_if_idle(struct udp *udp, struct udp_channel *channel) {
  if (!channel->retired || channel->closing || !TAILQ_EMPTY(&channel->queue) || !TAILQ_EMPTY(&channel->sent)) return;
  channel->closing = true;
  io_close(udp->_io, channel->socket, token_of(udp, channel, DNS_UDP_CLOSE));
}

static void retire(struct udp *udp, struct udp_channel *channel) {
  if (channel->retired) return;
  channel->retired = true;
  udp->_open[channel->server][channel->place] = NULL;
}

static struct udp_channel *channel_open(struct udp *udp, unsigned server, unsigned place, uint64_t now_ms, int *error) {
  struct udp_channel *channel = pool_get(&udp->_channels);
  *error = E_FULL;
  if (channel == NULL) return NULL;
  *error = io_datagram(udp->_io, &udp->_servers[server], &channel->socket);
  if (*error != E_OK) {
    pool_put(&udp->_channels, channel);
    return NULL;
  }
  channel->index = pool_index(&udp->_channels, channel);
  channel->server = server;
  channel->place = place;
  channel->opened_ms = now_ms;
  TAILQ_INIT(&channel->queue);
  TAILQ_INIT(&channel->sent);
  io_receive(udp->_io, channel->socket, token_of(udp, channel, DNS_UDP_RECEIVE));
  return channel;
}

static bool worn_out(const struct udp_channel *channel, uint64_t now_ms) {
  return channel->sends >= CHANNEL_SENDS_MAX || now_ms - channel->opened_ms >= CHANNEL_AGE_MAX_MS;
}

static struct udp_channel *any_open(const struct udp *udp, unsigned server) {
  for (unsigned place = 0; place < UDP_CHANNELS; place++)
    if (udp->_open[server][place] != NULL) return udp->_open[server][place];
  return NULL;
}

/* The channel of that place: the open one, or a new one in its stead. If none can be had the worn-out one goes on, or one of another place. */
static struct udp_channel *channel_at(struct udp *udp, unsigned server, unsigned place, uint64_t now_ms, int *error) {
  struct udp_channel *open = udp->_open[server][place];
  if (open != NULL && !worn_out(open, now_ms)) return open;
  struct udp_channel *fresh = channel_open(udp, server, place, now_ms, error);
  if (fresh == NULL) return open != NULL ? open : any_open(udp, server);
  if (open != NULL) {
    retire(udp, open);
    close_if_idle(udp, open);
  }
  udp->_open[server][place] = fresh;
  return fresh;
}

/* ---- flights ---- */

static void leave(struct udp *udp, struct udp_flight *flight) {
  struct udp_channel *channel = flight->_channel;
  must(map_remove(&udp->_flights, key_of(flight)));
  if (flight->_queued) {
    TAILQ_REMOVE(&channel->queue, flight, _link);
  } else {
    TAILQ_REMOVE(&channel->sent, flight, _link);
  }
  flight->_channel = NULL;
}

/* What is in the queue, as much as goes in one submission. */
static void send_some(struct udp *udp, struct udp_channel *channel) {
  unsigned count = 0;
  if (channel->sending || channel->closing) return;
  for (struct udp_flight *flight; count < IO_DATAGRAMS_MAX && (flight = TAILQ_FIRST(&channel->queue)) != NULL; count++) {
    struct fmt out = fmt_over(channel->packets[count], UDP_PACKET_MAX);
    udp->_events.encode(udp->_events.context, flight, (uint16_t)flight->_key.id, &out);
    must(!out.overflow);
    TAILQ_REMOVE(&channel->queue, flight, _link);
    TAILQ_INSERT_TAIL(&channel->sent, flight, _link);
    flight->_queued = false;
    channel->slices[count] = (struct io_slice){channel->packets[count], out.len};
  }
  if (count == 0) return;
  channel->sending = true;
  io_send_datagrams(udp->_io, channel->socket, channel->slices, count, token_of(udp, channel, DNS_UDP_SEND));
}

/* A free id of this channel, so that (channel, id) names one flight. */
static bool take_id(struct udp *udp, struct udp_flight *flight, const struct udp_channel *channel, const uint16_t *chance) {
  flight->_key.channel = channel->index;
  for (unsigned i = 0; i < ID_TRIES; i++) {
    flight->_key.id = chance[i];
    if (map_find(&udp->_flights, key_of(flight)) == NULL) return true;
  }
  return false;
}

int udp_start(struct udp *udp, struct udp_flight *flight, unsigned server, uint64_t now_ms) {
  uint16_t chance[1 + ID_TRIES];
  int error = E_OK;
  must(server < udp->_servers_count && !udp_under_way(flight));
  io_random(udp->_io, chance, sizeof chance);
  struct udp_channel *channel = channel_at(udp, server, chance[0] % UDP_CHANNELS, now_ms, &error);
  if (channel == NULL) return error;
  if (!take_id(udp, flight, channel, chance + 1)) return E_FULL;
  error = map_insert(&udp->_flights, flight);
  if (error != E_OK) return error;
  flight->_channel = channel;
  flight->_queued = true;
  channel->sends++;
  TAILQ_INSERT_TAIL(&channel->queue, flight, _link);
  send_some(udp, channel);
  return E_OK;
}

void udp_stop(struct udp *udp, struct udp_flight *flight) {
  struct udp_channel *channel = flight->_channel;
  if (channel == NULL) return;
  leave(udp, flight);
  close_if_idle(udp, channel);
}

/* ---- completions ---- */

static void fail_all(struct udp *udp, struct udp_channel *channel, struct udp_flights *flights, int error) {
  for (struct udp_flight *flight; (flight = TAILQ_FIRST(flights)) != NULL;) {
    leave(udp, flight);
    udp->_events.failed(udp->_events.context, flight, error);
  }
  close_if_idle(udp, channel);
}

/* An error of the socket (closed port, no route) tells about the server, hence about all that wait for it here. */
static void broken(struct udp *udp, struct udp_channel *channel, int error) {
  retire(udp, channel); /* first, so that the callbacks find no way to put new flights on it */
  fail_all(udp, channel, &channel->queue, error);
  fail_all(udp, channel, &channel->sent, error);
}

static void sent(struct udp *udp, struct udp_channel *channel, int64_t result) {
  channel->sending = false;
  if (channel->closing) return;
  if (result < 0) {
    broken(udp, channel, (int)result);
  } else {
    send_some(udp, channel);
  }
}

static void received(struct udp *udp, struct udp_channel *channel, const struct io_completion *completion) {
  struct udp_flight probe = {._key = {.channel = channel->index}};
  struct span packet = completion->bytes;
  if (channel->closing) return;
  if (completion->result < 0 || packet.at == NULL) {
    broken(udp, channel, completion->result < 0 ? (int)completion->result : E_CLOSED);
    return;
  }
  if (packet.len >= 2) probe._key.id = (uint32_t)(packet.at[0] << 8 | packet.at[1]);
  struct udp_flight *flight = packet.len < 2 ? NULL : map_find(&udp->_flights, key_of(&probe));
  if (canary(CANARY_ANY_ID) && flight == NULL) flight = TAILQ_FIRST(&channel->sent);
  if (flight == NULL || flight->_queued) { /* queued: what is not asked yet cannot be answered */
    udp->_events.stray(udp->_events.context, channel->server, packet);
  } else {
    udp->_events.reply(udp->_events.context, flight, packet);
  }
}

void udp_complete(struct udp *udp, const struct io_completion *completion) {
  struct udp_channel *channel = pool_find(&udp->_channels, dns_token_slot(completion->token), dns_token_generation(completion->token));
  if (channel == NULL) return;
  switch (dns_token_operation(completion->token)) {
  case DNS_UDP_SEND: sent(udp, channel, completion->result); break;
  case DNS_UDP_RECEIVE: received(udp, channel, completion); break;
  case DNS_UDP_CLOSE: pool_put(&udp->_channels, channel); break;
  default: must(false);
  }
}
