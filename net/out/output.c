/* What goes out over a connection: a list of pieces, which leaves in one send a turn, as it is or as ciphertext. */
#include "core/base/error.h"
#include "net/out/connection.h"

#define MEMORY_WAIT_MS 50

static struct slab *slab_of(const struct connection *c) { return c->outlet->o.slab; }

void output_no_memory(struct connection *c) {
  struct failure failure = {.kind = FAILURE_INTERNAL, .error = E_NO_MEMORY};
  connection_fail(c, &failure);
}

/* Memory comes back as other messages end: it is tried again shortly, for a while. */
bool output_may_wait(struct connection *c, uint16_t *rounds, uint16_t max) {
  if (*rounds >= max) return false;
  ++*rounds;
  timer_set(&c->outlet->o.shard->wheel, &c->timer, c->outlet->o.shard->now_ms + MEMORY_WAIT_MS);
  return true;
}

void output_bytes(struct connection *c, uint32_t at, uint32_t len) {
  if (len == 0) return;
  struct piece *last = c->pieces_count > 0 ? &c->pieces[c->pieces_count - 1] : NULL;
  if (last != NULL && last->content == NULL && last->at + last->len == at) {
    last->len += len;
  } else {
    must(c->pieces_count < CONNECTION_PIECES_MAX);
    c->pieces[c->pieces_count++] = (struct piece){NULL, at, len};
  }
  connection_mark_dirty(c);
}

/* The last record of a long message may be empty: its parts were all there was. */
void output_content(struct connection *c, struct job *job, struct content *content) {
  if (content_size(content) == 0) return;
  job->flush = c->flushes + 1;
  must(c->pieces_count < CONNECTION_PIECES_MAX);
  c->pieces[c->pieces_count++] = (struct piece){content, 0, 0};
  connection_mark_dirty(c);
}

bool output_text(struct connection *c, struct span text) {
  uint32_t at = c->out.len;
  if (!buffer_append(slab_of(c), &c->out, text)) return false;
  output_bytes(c, at, (uint32_t)text.len);
  return true;
}

static unsigned make_slices(const struct connection *c, const struct buffer *text, struct io_slice *slices) {
  unsigned count = 0;
  for (uint32_t i = 0; i < c->pieces_count; i++) {
    const struct piece *piece = &c->pieces[i];
    if (piece->content != NULL) {
      count += content_slices(piece->content, slices + count);
    } else {
      slices[count++] = (struct io_slice){text->at + piece->at, piece->len};
    }
  }
  return count;
}

static unsigned slices_needed(const struct connection *c) {
  unsigned needed = 0;
  for (uint32_t i = 0; i < c->pieces_count; i++) needed += c->pieces[i].content != NULL ? c->pieces[i].content->chunks : 1;
  return needed;
}

static uint64_t bytes_of(const struct io_slice *slices, unsigned count) {
  uint64_t bytes = 0;
  for (unsigned i = 0; i < count; i++) bytes += slices[i].len;
  return bytes;
}

static bool get_slices(struct connection *c, unsigned count) {
  c->slices_size = count * (uint32_t)sizeof *c->slices;
  c->slices = slab_get_beyond(slab_of(c), c->slices_size); /* a few bytes: for want of them what the other side may have would be sent twice */
  return c->slices != NULL;
}

static void put_slices(struct connection *c) {
  slab_put(slab_of(c), c->slices, c->slices_size);
  c->slices = NULL;
}

static void not_sealed(struct connection *c, int error) {
  if (error != E_FULL) {
    connection_fail(c, &(struct failure){.kind = FAILURE_NETWORK, .error = E_CLOSED});
  } else if (output_may_wait(c, &c->unsealed_rounds, MEMORY_ROUNDS)) {
    c->unsealed = true;
  } else {
    output_no_memory(c);
  }
}

/* All that is to be sent becomes ciphertext; what is in the pieces may go when that is sent, as without TLS. False: it waits, or all is over. */
static bool seal(struct connection *c) {
  if (c->pieces_count == 0) return true;
  if (!get_slices(c, slices_needed(c))) {
    not_sealed(c, E_FULL);
    return false;
  }
  unsigned count = make_slices(c, &c->out, c->slices);
  int error = safety_seal(c, c->slices, count);
  if (error == E_OK) count_add(c->outlet->o.counters, COUNT_BYTES_SENT, bytes_of(c->slices, count));
  put_slices(c);
  if (error != E_OK) {
    not_sealed(c, error);
    return false;
  }
  c->unsealed_rounds = 0;
  c->pieces_count = 0;
  buffer_free(slab_of(c), &c->out);
  return true;
}

static bool take_sealed(struct connection *c) {
  if (!seal(c) || c->sealed.len == 0) return false;
  if (!get_slices(c, 1)) {
    not_sealed(c, E_FULL);
    return false;
  }
  c->sending = c->sealed;
  c->sealed = (struct buffer){0};
  c->slices[0] = (struct io_slice){c->sending.at, c->sending.len};
  return true;
}

static void send_slices(struct connection *c, unsigned count) {
  c->flushes++;
  c->send_under_way = true;
  io_send(c->outlet->o.shard->io, c->socket, c->slices, count, connection_token(c, CONNECTION_OP_SEND));
}

void output_flush(struct connection *c) {
  if (c->send_under_way || c->unsealed) return;
  if (c->tls != NULL) {
    if (take_sealed(c)) send_slices(c, 1);
    return;
  }
  if (c->pieces_count == 0) return;
  if (!get_slices(c, slices_needed(c))) {
    output_no_memory(c);
    return;
  }
  c->sending = c->out;
  c->out = (struct buffer){0};
  unsigned count = make_slices(c, &c->sending, c->slices);
  count_add(c->outlet->o.counters, COUNT_BYTES_SENT, bytes_of(c->slices, count));
  c->pieces_count = 0;
  send_slices(c, count);
}

void output_release(struct connection *c) {
  put_slices(c);
  buffer_free(slab_of(c), &c->sending);
}
