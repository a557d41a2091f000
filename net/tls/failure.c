/* What went wrong, in plain words. */
#include <wolfssl/options.h>
#include <wolfssl/ssl.h>
#include <wolfssl/error-ssl.h>
#include <wolfssl/wolfcrypt/error-crypt.h>

#include "net/tls/inside.h"

struct phrase {
  int code;
  const char *text;
};

/* RFC 8446 section 6, and those of TLS 1.2. */
static const struct phrase alerts[] = {
    {0, "close notify"},
    {10, "unexpected message"},
    {20, "bad record mac"},
    {21, "decryption failed"},
    {22, "record overflow"},
    {40, "handshake failure"},
    {42, "bad certificate"},
    {43, "unsupported certificate"},
    {44, "certificate revoked"},
    {45, "certificate expired"},
    {46, "certificate unknown"},
    {47, "illegal parameter"},
    {48, "unknown ca"},
    {49, "access denied"},
    {50, "decode error"},
    {51, "decrypt error"},
    {70, "protocol version"},
    {71, "insufficient security"},
    {80, "internal error"},
    {86, "inappropriate fallback"},
    {90, "user canceled"},
    {100, "no renegotiation"},
    {109, "missing extension"},
    {110, "unsupported extension"},
    {112, "unrecognized name"},
    {113, "bad certificate status response"},
    {115, "unknown psk identity"},
    {116, "certificate required"},
    {120, "no application protocol"},
};

static const struct phrase codes[] = {
    {MATCH_SUITE_ERROR, "no shared cipher suite"},
    {UNSUPPORTED_SUITE, "a cipher suite that was not offered"},
    {KEY_SHARE_ERROR, "no shared group for key exchange"},
    {BAD_KEY_SHARE_DATA, "no shared group for key exchange"},
    {ECC_CURVE_ERROR, "no shared curve for key exchange"},
    {VERSION_ERROR, "no shared protocol version"},
    {UNSUPPORTED_PROTO_VERSION, "no shared protocol version"},
    {DECRYPT_ERROR, "a record that cannot be decrypted"},
    {VERIFY_MAC_ERROR, "a record that cannot be decrypted"},
    {AES_GCM_AUTH_E, "a record that cannot be decrypted"},
    {VERIFY_FINISHED_ERROR, "the handshake was tampered with"},
    {BAD_BINDER, "the handshake was tampered with"},
    {VERIFY_SIGN_ERROR, "a signature is wrong"},
    {SIG_VERIFY_E, "a signature is wrong"},
    {UNKNOWN_RECORD_TYPE, "not a TLS record"},
    {LENGTH_ERROR, "a record is too long"},
    {PARSE_ERROR, "a malformed message"},
    {BUFFER_ERROR, "a malformed message"},
    {BUFFER_E, "a malformed message"},
    {DECODE_E, "a malformed message"},
    {BAD_HELLO, "a malformed hello"},
    {OUT_OF_ORDER_E, "a message out of order"},
    {SANITY_MSG_E, "a message out of order"},
    {DUPLICATE_MSG_E, "a message that came twice"},
    {NO_PEER_CERT, "no certificate"},
    {NO_PEER_VERIFY, "the peer did not prove its certificate"},
    {PEER_KEY_ERROR, "the certificate's key cannot be used"},
    {MEMORY_E, "no memory"},
    {HANDSHAKE_SIZE_ERROR, "a message of the handshake is too long"},
    {MAX_CHAIN_ERROR, "too many certificates"},
};

static const char *find(const struct phrase *phrases, size_t count, int code) {
  for (size_t i = 0; i < count; i++)
    if (phrases[i].code == code) return phrases[i].text;
  return NULL;
}

void tls_fail(struct tls *tls, const char *text) {
  tls->state = TLS_FAILED;
  if (tls->error[0] != '\0') return;
  struct fmt out = fmt_over(tls->error, sizeof tls->error - 1);
  fmt_put(&out, span_first(span_of_text(text), sizeof tls->error - 1));
  tls->error[out.len] = '\0';
}

/* The alert that ended it, if one came. */
static bool by_alert(struct tls *tls) {
  WOLFSSL_ALERT_HISTORY history;
  if (wolfSSL_get_alert_history(tls->ssl, &history) != WOLFSSL_SUCCESS || history.last_rx.code < 0) return false;
  char room[96];
  struct fmt text = fmt_over(room, sizeof room - 1);
  const char *name = find(alerts, sizeof alerts / sizeof *alerts, history.last_rx.code);
  fmt_text(&text, "peer sent alert: ");
  if (name != NULL)
    fmt_text(&text, name);
  else
    fmt_u64(&text, (uint64_t)history.last_rx.code);
  room[text.len] = '\0';
  tls_fail(tls, room);
  return true;
}

void tls_fail_code(struct tls *tls, int code) {
  if (tls->no_room) tls_fail(tls, "no memory");
  if (tls->state == TLS_FAILED) return;
  if (code == FATAL_ERROR && by_alert(tls)) return;
  const char *text = find(codes, sizeof codes / sizeof *codes, code);
  tls_fail(tls, text != NULL ? text : wolfSSL_ERR_reason_error_string((unsigned long)code));
}

void tls_send_alert(struct tls *tls, uint8_t description) {
  const uint8_t alert[] = {21, 3, 1, 0, 2, 2, description};
  if (tls->out != NULL && !buffer_append(tls->slab, tls->out, span_of(alert, sizeof alert))) tls->no_room = true;
}
