#include "tests/lib/tlspair.h"

#include <stdlib.h>
#include <time.h>

uint64_t tlspair_now_ms(void) { return (uint64_t)time(NULL) * 1000; }

void tlspair_begin(struct tlspair *pair, struct tls_server *server, struct tls_client *client, const struct tls_expect *expect,
                   const struct tls_session *session) {
  *pair = (struct tlspair){0};
  slab_init(&pair->slab, 256u << 20);
  pair->client.slab = pair->server.slab = &pair->slab;
  pair->server.tls = tls_accept(server, &pair->slab, tlspair_now_ms());
  pair->client.tls = tls_connect(client, expect, session, &pair->slab, tlspair_now_ms(), &pair->client.out);
  must(pair->server.tls != NULL && pair->client.tls != NULL);
}

static void end_end(struct tlsend *end) {
  tls_free(end->tls);
  buffer_free(end->slab, &end->out);
  buffer_free(end->slab, &end->got);
}

void tlspair_end(struct tlspair *pair) {
  end_end(&pair->client);
  end_end(&pair->server);
  must(pair->slab.used_bytes == 0);
  slab_fini(&pair->slab);
}

static void take(void *who, struct span plaintext) {
  struct tlsend *end = who;
  must(plaintext.len > 0 && buffer_append(end->slab, &end->got, plaintext));
}

/* Exactly these bytes in memory of their own, so that ASan sees a read behind them. */
void tlsend_feed(struct tlsend *end, struct span bytes) {
  uint8_t *exact = malloc(bytes.len);
  must(exact != NULL);
  memcpy(exact, bytes.at, bytes.len);
  end->error = tls_feed(end->tls, span_of(exact, bytes.len), &end->out, take, end);
  free(exact);
}

static bool pass(struct tlsend *from, struct tlsend *to, size_t cut) {
  struct buffer moving = from->out;
  from->out = (struct buffer){0};
  for (size_t at = 0; at < moving.len;) {
    size_t n = cut == 0 || moving.len - at < cut ? moving.len - at : cut;
    tlsend_feed(to, span_of(moving.at + at, n));
    at += n;
  }
  bool some = moving.len > 0;
  buffer_free(from->slab, &moving);
  return some;
}

void tlspair_run(struct tlspair *pair) {
  unsigned turns = 0;
  for (bool some = true; some; must(++turns < 1000)) {
    some = pass(&pair->client, &pair->server, pair->cut);
    some |= pass(&pair->server, &pair->client, pair->cut);
  }
}

bool tlspair_open(const struct tlspair *pair) { return tls_state(pair->client.tls) == TLS_OPEN && tls_state(pair->server.tls) == TLS_OPEN; }

void tlspair_write(struct tlsend *end, struct span bytes) { must(tls_write(end->tls, &bytes, 1, &end->out) == 0); }
