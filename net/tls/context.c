/* wolfSSL's contexts, and what it calls back from a connection: for bytes, certificates and tickets. */
#include <wolfssl/options.h>
#include <wolfssl/ssl.h>

#include "net/tls/inside.h"

/*
 * AEAD with forward secrecy only. AES-GCM first: with libcrypto a record costs half of what ChaCha20 costs in wolfSSL's C. Mail servers that offer none of
 * these to TLS 1.2 are older than 2012.
 */
static const char suites[] = "TLS13-AES128-GCM-SHA256:TLS13-AES256-GCM-SHA384:TLS13-CHACHA20-POLY1305-SHA256:"
                             "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
                             "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305";

/* ---- bytes ---- */

/* A record's header is complete: may it come now? */
static bool may_come(struct tls *tls) {
  tls->records++;
  if (tls->state != TLS_OPEN) {
    if (tls->records > TLS_HANDSHAKE_RECORDS) tls_fail(tls, "too many records in the handshake");
  } else if (tls->tls12 && tls->record[0] == 22) {
    tls_fail(tls, "renegotiation refused");
  } else if (tls->records - tls->records_with_content > TLS_EMPTY_RECORDS + tls->content_in / 4096) {
    tls_fail(tls, "too many records without content");
  }
  return tls->state != TLS_FAILED;
}

/* Follows the records that are handed to wolfSSL. False: the connection has failed. */
static bool follow(struct tls *tls, const uint8_t *at, size_t len) {
  while (len > 0) {
    if (tls->record_left > 0) {
      size_t n = len < tls->record_left ? len : tls->record_left;
      tls->record_left = (uint16_t)(tls->record_left - n);
      at += n;
      len -= n;
      continue;
    }
    tls->record[tls->record_len++] = *at++;
    len--;
    if (tls->record_len < sizeof tls->record) continue;
    tls->record_len = 0;
    tls->record_left = (uint16_t)(tls->record[3] << 8 | tls->record[4]);
    if (!may_come(tls)) return false;
  }
  return true;
}

static int on_recv(WOLFSSL *ssl, char *room, int size, void *connection) {
  struct tls *tls = connection;
  (void)ssl;
  if (tls->in.len == 0) return WOLFSSL_CBIO_ERR_WANT_READ;
  struct span piece = span_first(tls->in, (size_t)size);
  tls->in = span_skip(tls->in, piece.len);
  tls->bytes_in += piece.len;
  if (tls->state != TLS_OPEN && tls->bytes_in > TLS_HANDSHAKE_BYTES) tls_fail(tls, "the handshake is too long");
  if (tls->state == TLS_FAILED || !follow(tls, piece.at, piece.len)) return WOLFSSL_CBIO_ERR_GENERAL;
  memcpy(room, piece.at, piece.len);
  return (int)piece.len;
}

static int on_send(WOLFSSL *ssl, char *bytes, int size, void *connection) {
  struct tls *tls = connection;
  (void)ssl;
  if (tls->out != NULL && buffer_append(tls->slab, tls->out, span_of(bytes, (size_t)size))) return size;
  tls->no_room = true;
  return WOLFSSL_CBIO_ERR_GENERAL;
}

/* ---- certificates ---- */

static void judge(struct tls *tls, const struct span *chain, unsigned count) {
  const struct tls_expect *expect = tls->want == NULL ? NULL : &tls->want->expect;
  struct trust_question question = {.chain = chain, .chain_count = count, .wall_ms = tls->wall_ms, .client = tls->server != NULL, .policy = TLS_ANY};
  question.store = tls->server != NULL ? tls_server_authorities(tls->server) : tls_client_authorities(tls->client);
  if (expect != NULL) {
    question.policy = expect->policy;
    question.names = expect->names;
    question.name_count = expect->name_count;
    question.tlsa = expect->tlsa;
    question.tlsa_count = expect->tlsa_count;
  }
  struct fmt name = fmt_over(tls->peer, sizeof tls->peer - 1);
  tls->trust = trust_judge(&question, &name);
  tls->judged = true;
  tls->peer[name.len] = '\0';
}

/*
 * Called for each certificate, the leaf last; what wolfSSL itself thinks of them does not count, for its context knows no authority. 0 ends the handshake.
 */
static int on_verify(int fine, WOLFSSL_X509_STORE_CTX *store) {
  struct tls *tls = store->userCtx;
  struct span chain[CERTIFICATE_CHAIN_MAX + 1];
  (void)fine;
  if (tls == NULL) return 0;
  if (store->error_depth != 0) return 1;
  unsigned count = 0;
  for (int i = 0; i < store->totalCerts && count <= CERTIFICATE_CHAIN_MAX; i++)
    chain[count++] = span_of(store->certs[i].buffer, store->certs[i].length);
  judge(tls, chain, count);
  store->discardSessionCerts = 1; /* of a session that is kept */
  if (tls->trust.accepted) return 1;
  struct fmt text = fmt_over(tls->error, sizeof tls->error - 1);
  fmt_text(&text, "certificate: ");
  fmt_text(&text, tls->trust.text);
  tls->error[text.len] = '\0';
  return 0;
}

/* ---- tickets ---- */

/* A ticket is for the host it was given for (RFC 6066 section 3). */
/* NOLINTNEXTLINE(readability-function-size): the parameters are wolfSSL's */
static int on_ticket(WOLFSSL *ssl, unsigned char name[TICKETS_NAME], unsigned char iv[TICKETS_IV], unsigned char mac[TICKETS_MAC], int seal,
                     unsigned char *ticket, int len, int *out_len, void *unused) {
  struct tls *tls = wolfSSL_GetIOReadCtx(ssl);
  struct tls_tickets *tickets = tls == NULL || tls->server == NULL ? NULL : tls_server_tickets(tls->server);
  (void)unused;
  if (tickets == NULL) return WOLFSSL_TICKET_RET_REJECT;
  struct span bound = span_of_text(tls->host);
  *out_len = len;
  if (seal) return tickets_seal(tickets, tls->wall_ms, bound, name, iv, mac, ticket, (size_t)len) ? WOLFSSL_TICKET_RET_OK : WOLFSSL_TICKET_RET_REJECT;
  switch (tickets_open(tickets, tls->wall_ms, bound, name, iv, mac, ticket, (size_t)len)) {
  case TICKETS_OPENED: return WOLFSSL_TICKET_RET_OK;
  case TICKETS_OLD: return WOLFSSL_TICKET_RET_CREATE;
  default: return WOLFSSL_TICKET_RET_REJECT;
  }
}

/* ---- contexts ---- */

WOLFSSL_CTX *context_new(bool server, enum tls_least least, enum tls_most most, bool x25519) {
  bool p256 = engine_prefers_p256() && !x25519;
  WOLFSSL_CTX *ctx = wolfSSL_CTX_new(server ? wolfSSLv23_server_method() : wolfSSLv23_client_method());
  bool ok = ctx != NULL && wolfSSL_CTX_SetMinVersion(ctx, least == TLS_LEAST_1_3 ? WOLFSSL_TLSV1_3 : WOLFSSL_TLSV1_2) == WOLFSSL_SUCCESS &&
            wolfSSL_CTX_set_cipher_list(ctx, suites) == WOLFSSL_SUCCESS &&
            wolfSSL_CTX_set1_curves_list(ctx, p256 ? "P-256:X25519:P-384" : "X25519:P-256:P-384") == WOLFSSL_SUCCESS && /* and no other curve */
            (most == TLS_MOST_1_3 || wolfSSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION) == WOLFSSL_SUCCESS);
  if (!ok) {
    wolfSSL_CTX_free(ctx);
    return NULL;
  }
  wolfSSL_CTX_set_session_cache_mode(ctx, WOLFSSL_SESS_CACHE_OFF); /* tickets, and sessions that are the caller's: nothing is kept in the library */
  wolfSSL_CTX_set_session_cache_mode(ctx, WOLFSSL_SESS_CACHE_NO_INTERNAL_STORE | WOLFSSL_SESS_CACHE_NO_INTERNAL_LOOKUP);
  wolfSSL_CTX_SetIORecv(ctx, on_recv);
  wolfSSL_CTX_SetIOSend(ctx, on_send);
  engine_attach(ctx);
  return ctx;
}

bool context_certificate(WOLFSSL_CTX *ctx, const struct certificate *certificate) {
  return wolfSSL_CTX_use_certificate_chain_buffer_format(ctx, certificate->chain, (long)certificate->chain_len, WOLFSSL_FILETYPE_ASN1) ==
             WOLFSSL_SUCCESS &&
         wolfSSL_CTX_use_PrivateKey_buffer(ctx, certificate->key_der, (long)certificate->key_len, WOLFSSL_FILETYPE_ASN1) == WOLFSSL_SUCCESS;
}

/* The callback is there even if no tickets are given out: wolfSSL has a default one with keys of its own. */
void context_tickets(WOLFSSL_CTX *ctx, uint32_t period_s) {
  wolfSSL_CTX_set_TicketEncCb(ctx, on_ticket);
  if (period_s == 0) {
    wolfSSL_CTX_NoTicketTLSv12(ctx);
    wolfSSL_CTX_no_ticket_TLSv13(ctx);
    return;
  }
  wolfSSL_CTX_set_TicketHint(ctx, (int)period_s);
  wolfSSL_CTX_set_timeout(ctx, period_s);
}

/* Without it this library would verify nothing: a client's default is WOLFSSL_VERIFY_NONE. A client that shows no certificate is let in all the same. */
void context_ask(WOLFSSL_CTX *ctx) { wolfSSL_CTX_set_verify(ctx, WOLFSSL_VERIFY_PEER, on_verify); }

/* A client keeps what the server gives it to resume with, in the connection. */
void context_resume(WOLFSSL_CTX *ctx) { wolfSSL_CTX_UseSessionTicket(ctx); }

void context_free(WOLFSSL_CTX *ctx) { wolfSSL_CTX_free(ctx); }
