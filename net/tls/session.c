/* Sessions that a client resumes: bytes with what was found out about the server's certificate, bound to the expectations it was found out under. */
#include <wolfssl/options.h>
#include <wolfssl/ssl.h>

#include <stdlib.h>

#include "net/tls/inside.h"

struct tls_session {
  uint8_t policy[32];
  struct tls_trust trust;
  char peer[TLS_NAME_MAX];
  int len;
  uint8_t bytes[]; /* wolfSSL's, with the secret */
};

/* Everything that decides about a certificate, and whose decision it was. Each part is told from the next by its length. */
void tls_policy_digest(const struct tls_client *client, const struct tls_expect *expect, uint8_t digest[32]) {
  uint64_t numbers[] = {tls_client_id(client), (uint64_t)expect->policy, expect->host.len, expect->name_count, expect->tlsa_count};
  struct span parts[] = {span_of(numbers, sizeof numbers), expect->host};
  crypto_sha256(parts, 2, digest);
  for (unsigned i = 0; i < expect->name_count; i++) {
    size_t len = expect->names[i].len;
    struct span more[] = {span_of(digest, 32), span_of(&len, sizeof len), expect->names[i]};
    crypto_sha256(more, 3, digest);
  }
  for (unsigned i = 0; i < expect->tlsa_count; i++) {
    const struct tls_tlsa *tlsa = &expect->tlsa[i];
    uint8_t fields[] = {tlsa->usage, tlsa->selector, tlsa->matching};
    struct span more[] = {span_of(digest, 32), span_of(fields, sizeof fields), tlsa->association};
    crypto_sha256(more, 3, digest);
  }
}

#define TICKET_MAX 8192

/* Of the ticket that a new session would have; false: there is none (or one of a size not seen in use). */
static bool ticket_digest(const struct tls *tls, uint8_t digest[32]) {
  uint8_t room[TICKET_MAX];
  word32 len = sizeof room;
  if (wolfSSL_get_SessionTicket(tls->ssl, room, &len) != WOLFSSL_SUCCESS || len == 0) return false;
  struct span ticket = span_of(room, len);
  crypto_sha256(&ticket, 1, digest);
  return true;
}

bool tls_session_offer(struct tls *tls, const struct tls_session *session) {
  if (memcmp(session->policy, tls->policy, sizeof tls->policy) != 0) return false;
  const unsigned char *at = session->bytes;
  WOLFSSL_SESSION *made = wolfSSL_d2i_SSL_SESSION(NULL, &at, session->len);
  bool ok = made != NULL && wolfSSL_set_session(tls->ssl, made) == WOLFSSL_SUCCESS;
  wolfSSL_SESSION_free(made);
  if (!ok) return false;
  tls->offered = ticket_digest(tls, tls->offered_ticket);
  tls->session_trust = session->trust;
  memcpy(tls->peer, session->peer, sizeof tls->peer);
  return true;
}

/*
 * As long as the server has sent no new ticket in a connection, wolfSSL has the old one there, beside the new connection's secret: nothing that fits
 * together. A server that does not get what the old ticket says ends the handshake.
 */
static bool has_new_ticket(const struct tls *tls) {
  uint8_t digest[32];
  return ticket_digest(tls, digest) && !(tls->offered && memcmp(digest, tls->offered_ticket, sizeof digest) == 0);
}

struct tls_session *tls_session_take(struct tls *tls) {
  if (tls->client == NULL || tls->ssl == NULL || (tls->state != TLS_OPEN && tls->state != TLS_CLOSED)) return NULL;
  if (tls->tls12) return NULL; /* a server that does not take the ticket any more ends the handshake: wolfSSL 5.5 believes that it does */
  WOLFSSL_SESSION *inner = wolfSSL_get_session(tls->ssl);
  if (inner == NULL || !wolfSSL_SESSION_has_ticket(inner) || !has_new_ticket(tls)) return NULL;
  int len = wolfSSL_i2d_SSL_SESSION(inner, NULL);
  if (len <= 0) return NULL;
  struct tls_session *session = malloc(sizeof *session + (size_t)len);
  if (session == NULL) return NULL;
  unsigned char *at = session->bytes;
  if (wolfSSL_i2d_SSL_SESSION(inner, &at) != len) {
    free(session);
    return NULL;
  }
  session->len = len;
  session->trust = tls->trust;
  memcpy(session->policy, tls->policy, sizeof session->policy);
  memcpy(session->peer, tls->peer, sizeof session->peer);
  return session;
}

void tls_session_free(struct tls_session *session) {
  if (session == NULL) return;
  crypto_wipe(session->bytes, (size_t)session->len);
  free(session);
}

size_t tls_session_bytes(const struct tls_session *session) { return sizeof *session + (size_t)session->len; }
