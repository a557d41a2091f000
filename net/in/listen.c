#include "net/in/listen.h"

#include <stdlib.h>

#include "core/base/error.h"

#define LISTEN_BACKLOG 4096

static bool are_company(const struct netaddr *a, const struct netaddr *b) {
  return a->port == b->port && a->family == b->family && (netaddr_is_any(a) || netaddr_is_any(b));
}

/* "0.0.0.0" has every address of its port: a listener on one of them beside it is our own company, as are those of the other shards. */
static bool is_first_there(const struct conf *now, const struct conf *conf, unsigned shard, unsigned index) {
  const struct netaddr *address = &conf->listeners[index].address;
  if (address->port == 0) return true;
  if (shard > 0) return false;
  for (unsigned i = 0; now != NULL && i < now->listeners_count; i++)
    if (are_company(&now->listeners[i].address, address)) return false;
  for (unsigned i = 0; i < index; i++) {
    if (are_company(&conf->listeners[i].address, address)) return false;
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

/* Port 0 stands for any: each of those is taken over once. */
static io_socket find_open(const struct conf *now, const io_socket *open, const struct netaddr *address, const io_socket *taken,
                           unsigned taken_count) {
  for (unsigned i = 0; now != NULL && i < now->listeners_count; i++) {
    bool is_taken = false;
    for (unsigned k = 0; k < taken_count; k++) is_taken |= taken[k] == open[i];
    if (!is_taken && netaddr_equal(&now->listeners[i].address, address)) return open[i];
  }
  return IO_NONE;
}

int listen_change(struct io *io, const struct conf *now, const io_socket *open, const struct conf *next, unsigned shard, io_socket *listener,
                  bool *is_new, struct fmt *why) {
  for (unsigned i = 0; i < next->listeners_count; i++) {
    listener[i] = find_open(now, open, &next->listeners[i].address, listener, i);
    is_new[i] = listener[i] == IO_NONE;
    if (!is_new[i]) continue;
    int error = io_listen(io, &next->listeners[i].address, LISTEN_BACKLOG, is_first_there(now, next, shard, i), &listener[i]);
    if (error == E_OK) continue;
    say_no_listener(next, i, error, why);
    listener[i] = IO_NONE;
    for (unsigned k = i + 1; k < next->listeners_count; k++) {
      listener[k] = IO_NONE;
      is_new[k] = false;
    }
    return error;
  }
  return E_OK;
}

int listen_all(struct io *io, const struct conf *conf, unsigned shard, io_socket *listener, struct fmt *why) {
  bool *is_new = calloc(conf->listeners_count, sizeof *is_new);
  int error = is_new == NULL ? E_NO_MEMORY : listen_change(io, NULL, NULL, conf, shard, listener, is_new, why);
  free(is_new);
  return error;
}

unsigned listen_close_others(struct io *io, const io_socket *open, unsigned open_count, const io_socket *kept, unsigned kept_count, uint64_t token) {
  unsigned closed = 0;
  for (unsigned i = 0; i < open_count; i++) {
    bool is_kept = open[i] == IO_NONE;
    for (unsigned k = 0; k < kept_count; k++) is_kept |= kept[k] == open[i];
    if (is_kept) continue;
    io_close(io, open[i], token);
    closed++;
  }
  return closed;
}
