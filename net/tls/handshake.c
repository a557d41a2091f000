/* How a connection begins. */
#include <wolfssl/options.h>
#include <wolfssl/ssl.h>
#include <wolfssl/error-ssl.h>

#include "core/base/error.h"
#include "net/tls/inside.h"

enum { ALERT_UNEXPECTED = 10, ALERT_FAILURE = 40, ALERT_DECODE = 50, ALERT_VERSION = 70, ALERT_INTERNAL = 80 };

static void refuse(struct tls *tls, uint8_t alert, const char *text) {
  tls_send_alert(tls, alert);
  tls_fail(tls, text);
}

static bool make(struct tls *tls, struct WOLFSSL_CTX *ctx, struct evp_pkey_st *key) {
  tls->ssl = wolfSSL_new(ctx);
  if (tls->ssl == NULL) return false;
  wolfSSL_SetIOReadCtx(tls->ssl, tls);
  wolfSSL_SetIOWriteCtx(tls->ssl, tls);
  wolfSSL_SetCertCbCtx(tls->ssl, tls);
  engine_sign_with(tls->ssl, key);
  return true;
}

/* ---- the server's side ---- */

static void keep_host(struct tls *tls, struct span host) {
  size_t len = 0;
  for (; len < host.len && len < HELLO_HOST_MAX; len++) tls->host[len] = (char)ascii_lower(host.at[len]);
  if (len > 0 && tls->host[len - 1] == '.') len--;
  tls->host[len] = '\0';
}

static bool choose(struct tls *tls, const struct hello *hello, struct tls_choice *choice) {
  keep_host(tls, hello->host);
  if (!tls_server_speaks(tls->server, hello)) {
    bool any = hello->tls12 || hello->tls13;
    refuse(tls, ALERT_VERSION, any ? "no shared protocol version" : "the client has neither TLS 1.2 nor 1.3");
    return false;
  }
  if (tls_server_choose(tls->server, hello, choice)) return true;
  refuse(tls, ALERT_FAILURE, "the client takes no kind of certificate that we have");
  return false;
}

void tls_begin_server(struct tls *tls) {
  uint8_t room[HELLO_MAX];
  struct hello hello;
  struct tls_choice choice;
  if (hello_parse(buffer_span(&tls->hello), room, &hello) != E_OK) {
    refuse(tls, ALERT_DECODE, "a malformed hello");
    return;
  }
  if (!choose(tls, &hello, &choice)) return;
  if (!make(tls, choice.ctx, choice.key)) {
    refuse(tls, ALERT_INTERNAL, "no memory");
    return;
  }
  tls->state = TLS_HANDSHAKE;
}

/* ---- the client's side ---- */

bool tls_begin_client(struct tls *tls, const struct tls_session *session) {
  const struct tls_expect *expect = &tls->want->expect;
  if (!make(tls, tls_client_ctx(tls->client), tls_client_key(tls->client))) return false;
  if (expect->host.len > 0) {
    keep_host(tls, expect->host);
    if (wolfSSL_UseSNI(tls->ssl, WOLFSSL_SNI_HOST_NAME, tls->host, (unsigned short)strlen(tls->host)) != WOLFSSL_SUCCESS) return false;
  }
  tls_policy_digest(tls->client, expect, tls->policy);
  if (session != NULL) tls_session_offer(tls, session);
  tls->state = TLS_HANDSHAKE;
  tls_shake(tls);
  return true;
}

/* ---- both ---- */

static void forget_want(struct tls *tls) {
  if (tls->want != NULL) slab_put(tls->slab, tls->want, tls->want->block_len);
  tls->want = NULL;
}

/* The certificate was looked at in this handshake, or in the one that the resumed session comes from. Never neither. */
static bool is_judged(struct tls *tls) {
  if (tls->server != NULL && !tls->judged) {
    if (tls_server_authorities(tls->server) != NULL) tls->trust = (struct tls_trust){TLS_UNTRUSTED, true, "no certificate", TLS_FAULT_OTHER};
    return true;
  }
  if (tls->judged) return tls->trust.accepted;
  if (!tls->resumed || tls->session_trust.text == NULL) return false;
  tls->trust = tls->session_trust;
  return tls->trust.accepted;
}

static void opened(struct tls *tls) {
  tls->tls12 = wolfSSL_version(tls->ssl) == TLS1_2_VERSION;
  tls->resumed = wolfSSL_session_reused(tls->ssl) == 1;
  const char *name = wolfSSL_get_cipher_name_iana_from_suite((uint8_t)(wolfSSL_get_current_cipher_suite(tls->ssl) >> 8),
                                                             (uint8_t)wolfSSL_get_current_cipher_suite(tls->ssl));
  struct fmt cipher = fmt_over(tls->cipher, sizeof tls->cipher - 1);
  fmt_text(&cipher, name == NULL ? "unknown" : name);
  tls->cipher[cipher.len] = '\0';
  if (!is_judged(tls)) {
    tls_fail(tls, "the peer's certificate was not verified");
    return;
  }
  forget_want(tls);
  crypto_forget_ephemeral(&tls->crypto);
  /* A client may yet get a ticket in pieces, which are put together in the arrays. */
  if (tls->server != NULL) wolfSSL_FreeArrays(tls->ssl);
  wolfSSL_FreeHandshakeResources(tls->ssl);
  tls->records = tls->records_with_content = 0;
  tls->state = TLS_OPEN;
}

void tls_shake(struct tls *tls) {
  int result = tls->server != NULL ? wolfSSL_accept(tls->ssl) : wolfSSL_connect(tls->ssl);
  if (result == WOLFSSL_SUCCESS) {
    if (tls->state != TLS_FAILED) opened(tls);
    return;
  }
  int code = wolfSSL_get_error(tls->ssl, result);
  if (code != WOLFSSL_ERROR_WANT_READ || tls->no_room) tls_fail_code(tls, code);
}
