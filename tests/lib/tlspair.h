/*
 * tlspair: a TLS client and a server that exchange bytes over memory, cut as the test wants.
 */
#ifndef TESTS_LIB_TLSPAIR_H
#define TESTS_LIB_TLSPAIR_H

#include "net/tls/client.h"
#include "net/tls/server.h"
#include "net/tls/tls.h"

struct tlsend {
  struct tls *tls;
  struct buffer out; /* what it has sent and the other has not had yet */
  struct buffer got; /* plaintext */
  struct slab *slab;
  int error; /* of its last tls_feed */
};

struct tlspair {
  struct slab slab;
  struct tlsend client, server;
  size_t cut; /* bytes in one feed; 0: all there are */
};

/* The time that is passed everywhere: now. */
uint64_t tlspair_now_ms(void);

void tlspair_begin(struct tlspair *pair, struct tls_server *server, struct tls_client *client, const struct tls_expect *expect,
                   const struct tls_session *session);
void tlspair_end(struct tlspair *pair);
/* Until neither has anything to send. */
void tlspair_run(struct tlspair *pair);
bool tlspair_open(const struct tlspair *pair);
/* tls_write into the end's `out`; must succeed. */
void tlspair_write(struct tlsend *end, struct span bytes);
/* Some bytes to one end, as they are. */
void tlsend_feed(struct tlsend *end, struct span bytes);

#endif
