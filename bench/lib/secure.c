#include "bench/lib/secure.h"

#include "bench/lib/process.h"
#include "core/base/error.h"

#include <limits.h>

static bool begin(struct secure *secure, struct slab *slab, struct tls *tls) {
  secure->_slab = slab;
  secure->tls = tls;
  return tls != NULL;
}

bool secure_connect(struct secure *secure, struct tls_client *client, const struct tls_session *session, struct slab *slab) {
  struct tls_expect expect = {.policy = TLS_ANY};
  return begin(secure, slab, tls_connect(client, &expect, session, slab, process_wall_ms(), &secure->_waiting));
}

bool secure_accept(struct secure *secure, struct tls_server *server, struct slab *slab) {
  return begin(secure, slab, tls_accept(server, slab, process_wall_ms()));
}

void secure_clear(struct secure *secure) {
  if (secure->_slab == NULL) return;
  tls_free(secure->tls);
  buffer_free(secure->_slab, &secure->_waiting);
  buffer_free(secure->_slab, &secure->_under_way);
  *secure = (struct secure){0};
}

int secure_feed(struct secure *secure, struct span bytes, tls_take *take, void *who) {
  return tls_feed(secure->tls, bytes, &secure->_waiting, take, who);
}

int secure_write(struct secure *secure, const struct iovec *slices, unsigned count) {
  struct span spans[IOV_MAX];
  if (count > IOV_MAX) return E_FULL;
  for (unsigned i = 0; i < count; i++) spans[i] = span_of(slices[i].iov_base, slices[i].iov_len);
  return tls_write(secure->tls, spans, count, &secure->_waiting);
}

void secure_close(struct secure *secure) { tls_close(secure->tls, &secure->_waiting); }

struct span secure_next(struct secure *secure) {
  if (secure->_sent == secure->_under_way.len) {
    struct buffer gone = secure->_under_way;
    secure->_under_way = secure->_waiting;
    secure->_waiting = gone; /* its room is used again */
    secure->_waiting.len = 0;
    secure->_sent = 0;
  }
  return span_skip(buffer_span(&secure->_under_way), secure->_sent);
}

void secure_sent(struct secure *secure, size_t n) {
  must(n <= secure->_under_way.len - secure->_sent);
  secure->_sent += n;
}
