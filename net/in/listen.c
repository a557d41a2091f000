#include "net/in/listen.h"

#include <string.h>

#include "core/base/error.h"

#define LISTEN_BACKLOG 4096

static bool is_wildcard(const struct netaddr *address) {
  static const uint8_t zero[sizeof address->bytes];
  return memcmp(address->bytes, zero, address->family == 4 ? 4 : 16) == 0;
}

/* "0.0.0.0" has every address of its port: a listener on one of them beside it is our own company, as are those of the other shards. */
static bool is_first_there(const struct conf *conf, unsigned shard, unsigned index) {
  const struct netaddr *address = &conf->listeners[index].address;
  if (address->port == 0) return true;
  if (shard > 0) return false;
  for (unsigned i = 0; i < index; i++) {
    const struct netaddr *other = &conf->listeners[i].address;
    if (other->port == address->port && other->family == address->family && (is_wildcard(other) || is_wildcard(address))) return false;
  }
  return true;
}

static void say_no_listener(const struct conf *conf, unsigned index, int error, struct fmt *why) {
  fmt_text(why, "listeners[");
  fmt_u64(why, index);
  fmt_text(why, "]: cannot listen on ");
  netaddr_format_with_port(&conf->listeners[index].address, why);
  fmt_text(why, ": ");
  switch (error) {
  case E_BUSY: fmt_text(why, "in use by another process"); break;
  case E_NO_ADDRESS: fmt_text(why, "this is no address of this host"); break;
  case E_PERMISSION: fmt_text(why, "permission denied (a port below 1024 needs root or CAP_NET_BIND_SERVICE)"); break;
  default: fmt_text(why, error_text(error)); break;
  }
}

int listen_all(struct io *io, const struct conf *conf, unsigned shard, io_socket *listener, struct fmt *why) {
  for (unsigned i = 0; i < conf->listeners_count; i++) {
    int error = io_listen(io, &conf->listeners[i].address, LISTEN_BACKLOG, is_first_there(conf, shard, i), &listener[i]);
    if (error == E_OK) continue;
    say_no_listener(conf, i, error, why);
    listener[i] = IO_NONE;
    return error;
  }
  return E_OK;
}
