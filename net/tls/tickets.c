#include "net/tls/tickets.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "net/tls/crypto.h"

struct ticket_key {
  uint64_t made_ms; /* 0: none */
  uint8_t name[TICKETS_NAME];
  uint8_t key[32];
};

struct tls_tickets {
  atomic_uint refs;
  uint32_t period_s;
  pthread_mutex_t lock;      /* of: */
  struct ticket_key keys[2]; /* the one in use, and the one before */
};

struct tls_tickets *tls_tickets_new(uint32_t period_s) {
  struct tls_tickets *tickets = calloc(1, sizeof *tickets);
  if (tickets == NULL) return NULL;
  atomic_init(&tickets->refs, 1);
  tickets->period_s = period_s;
  must(pthread_mutex_init(&tickets->lock, NULL) == 0);
  return tickets;
}

struct tls_tickets *tls_tickets_share(struct tls_tickets *tickets) {
  atomic_fetch_add(&tickets->refs, 1);
  return tickets;
}

void tls_tickets_put(struct tls_tickets *tickets) {
  if (tickets == NULL || atomic_fetch_sub(&tickets->refs, 1) != 1) return;
  pthread_mutex_destroy(&tickets->lock);
  crypto_wipe(tickets, sizeof *tickets);
  free(tickets);
}

uint32_t tls_tickets_period_s(const struct tls_tickets *tickets) { return tickets->period_s; }

/* A clock that was set back makes no key older: it just seals for longer. */
static bool past(const struct ticket_key *key, uint64_t wall_ms, uint64_t periods, uint32_t period_s) {
  return wall_ms >= key->made_ms && wall_ms - key->made_ms >= periods * period_s * 1000;
}

/* With the lock held: the keys as they are at this time. */
static void turn(struct tls_tickets *tickets, uint64_t wall_ms) {
  struct ticket_key *now = &tickets->keys[0], *before = &tickets->keys[1];
  if (before->made_ms != 0 && past(before, wall_ms, 2, tickets->period_s)) crypto_wipe(before, sizeof *before);
  if (now->made_ms != 0 && !past(now, wall_ms, 1, tickets->period_s)) return;
  if (now->made_ms != 0 && !past(now, wall_ms, 2, tickets->period_s)) *before = *now;
  crypto_random(now->name, sizeof now->name);
  crypto_random(now->key, sizeof now->key);
  now->made_ms = wall_ms == 0 ? 1 : wall_ms;
}

bool tickets_seal(struct tls_tickets *tickets, uint64_t wall_ms, struct span bound, uint8_t name[TICKETS_NAME], uint8_t iv[TICKETS_IV],
                  uint8_t mac[TICKETS_MAC], uint8_t *ticket, size_t len) {
  struct crypto once = {0};
  uint8_t key[32];
  pthread_mutex_lock(&tickets->lock);
  turn(tickets, wall_ms);
  memcpy(name, tickets->keys[0].name, TICKETS_NAME);
  memcpy(key, tickets->keys[0].key, sizeof key);
  pthread_mutex_unlock(&tickets->lock);
  crypto_random(iv, TICKETS_IV);
  bool ok = crypto_seal(&once.seal, span_of(key, sizeof key), span_of(iv, 12), bound, span_of(ticket, len), ticket, mac);
  if (ok) memcpy(mac + CRYPTO_TAG, mac, TICKETS_MAC - CRYPTO_TAG);
  crypto_clear(&once);
  crypto_wipe(key, sizeof key);
  return ok;
}

enum tickets_result tickets_open(struct tls_tickets *tickets, uint64_t wall_ms, struct span bound, const uint8_t name[TICKETS_NAME],
                                 const uint8_t iv[TICKETS_IV], const uint8_t mac[TICKETS_MAC], uint8_t *ticket, size_t len) {
  struct crypto once = {0};
  uint8_t key[32];
  int found = -1;
  pthread_mutex_lock(&tickets->lock);
  turn(tickets, wall_ms);
  for (int i = 0; i < 2 && found < 0; i++) {
    if (tickets->keys[i].made_ms == 0 || memcmp(tickets->keys[i].name, name, TICKETS_NAME) != 0) continue;
    memcpy(key, tickets->keys[i].key, sizeof key);
    found = i;
  }
  pthread_mutex_unlock(&tickets->lock);
  if (found < 0 || memcmp(mac, mac + CRYPTO_TAG, TICKETS_MAC - CRYPTO_TAG) != 0) return TICKETS_REJECTED;
  bool ok = crypto_open(&once.open, span_of(key, sizeof key), span_of(iv, 12), bound, span_of(ticket, len), ticket, mac);
  crypto_clear(&once);
  crypto_wipe(key, sizeof key);
  return !ok ? TICKETS_REJECTED : found == 0 ? TICKETS_OPENED : TICKETS_OLD;
}
