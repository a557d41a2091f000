#include "net/tls/tls.h"

#include <wolfssl/options.h>
#include <wolfssl/ssl.h>
#include <wolfssl/error-ssl.h>

#include "core/base/error.h"
#include "net/tls/inside.h"

#define HELLO_FED_MAX (HELLO_MAX + 5 * HELLO_RECORDS) /* more of a hello is never kept */
#define RECORD_OVERHEAD 64                            /* header, explicit nonce, tag, type: 29 at most */

int tls_init(enum tls_engine engine, struct fmt *why) { return engine_init(engine == TLS_LIBCRYPTO, why); }

/* ---- a call ---- */

struct visit { /* what a call, which another may be within, found */
  struct engine_mark mark;
  struct buffer *out;
};

static struct visit enter(struct tls *tls, struct buffer *out) {
  struct visit visit = {engine_enter(&tls->crypto), tls->out};
  tls->out = out;
  return visit;
}

static void leave(struct tls *tls, struct visit visit) {
  tls->out = visit.out;
  tls->bytes += engine_leave(visit.mark);
}

/* ---- from beginning to end ---- */

static struct tls *new_tls(struct slab *slab, uint64_t wall_ms) {
  struct tls *tls = slab_get(slab, sizeof *tls);
  if (tls == NULL) return NULL;
  *tls = (struct tls){.slab = slab, .wall_ms = wall_ms, .trust = {TLS_UNTRUSTED, false, ""}};
  return tls;
}

struct tls *tls_accept(struct tls_server *server, struct slab *slab, uint64_t wall_ms) {
  struct tls *tls = new_tls(slab, wall_ms);
  if (tls == NULL) return NULL;
  tls->server = tls_server_share(server);
  tls->state = TLS_HELLO;
  return tls;
}

/* One block: the struct, the arrays, the bytes they point to. */
static size_t want_len(const struct tls_expect *expect) {
  size_t len = sizeof(struct tls_want) + expect->name_count * sizeof(struct span) + expect->tlsa_count * sizeof(struct tls_tlsa) + expect->host.len;
  for (unsigned i = 0; i < expect->name_count; i++) len += expect->names[i].len;
  for (unsigned i = 0; i < expect->tlsa_count; i++) len += expect->tlsa[i].association.len;
  return len;
}

static struct span keep(struct fmt *block, struct span bytes) {
  struct span kept = span_of(block->at + block->len, bytes.len);
  fmt_put(block, bytes);
  return kept;
}

static struct tls_want *keep_want(struct slab *slab, const struct tls_expect *expect) {
  size_t len = want_len(expect);
  struct tls_want *want = len > SLAB_MAX ? NULL : slab_get(slab, len);
  if (want == NULL) return NULL;
  struct span *names = (struct span *)(want + 1);
  struct tls_tlsa *tlsa = (struct tls_tlsa *)(names + expect->name_count);
  uint8_t *bytes = (uint8_t *)(tlsa + expect->tlsa_count);
  struct fmt block = fmt_over(bytes, len - (size_t)(bytes - (uint8_t *)want));
  *want = (struct tls_want){*expect, len};
  want->expect.names = names;
  want->expect.tlsa = tlsa;
  want->expect.host = keep(&block, expect->host);
  for (unsigned i = 0; i < expect->name_count; i++) names[i] = keep(&block, expect->names[i]);
  for (unsigned i = 0; i < expect->tlsa_count; i++) {
    tlsa[i] = expect->tlsa[i];
    tlsa[i].association = keep(&block, expect->tlsa[i].association);
  }
  return want;
}

struct tls *tls_connect(struct tls_client *client, const struct tls_expect *expect, const struct tls_session *session, struct slab *slab,
                        uint64_t wall_ms, struct buffer *out) {
  if ((expect->policy == TLS_VERIFY && expect->name_count == 0) || expect->host.len > HELLO_HOST_MAX) return NULL;
  struct tls *tls = new_tls(slab, wall_ms);
  if (tls == NULL) return NULL;
  tls->client = tls_client_share(client);
  tls->want = keep_want(slab, expect);
  if (tls->want != NULL) {
    struct visit visit = enter(tls, out);
    bool ok = tls_begin_client(tls, session);
    leave(tls, visit);
    if (ok && tls->state != TLS_FAILED) return tls;
  }
  tls_free(tls);
  return NULL;
}

void tls_free(struct tls *tls) {
  if (tls == NULL) return;
  struct visit visit = enter(tls, NULL);
  wolfSSL_free(tls->ssl);
  leave(tls, visit);
  crypto_clear(&tls->crypto);
  buffer_free(tls->slab, &tls->hello);
  if (tls->want != NULL) slab_put(tls->slab, tls->want, tls->want->block_len);
  tls_server_put(tls->server);
  tls_client_put(tls->client);
  slab_put(tls->slab, tls, sizeof *tls);
}

/* ---- in ---- */

static void refuse_hello(struct tls *tls, enum hello_progress progress) {
  switch (progress) {
  case HELLO_NO_TLS: tls_fail(tls, "not TLS"); return; /* no alert that it would understand */
  case HELLO_OLD: tls_send_alert(tls, 70), tls_fail(tls, "the client has SSL 2 only"); return;
  case HELLO_TOO_LONG: tls_send_alert(tls, 10), tls_fail(tls, "the hello is too long"); return;
  default: tls_send_alert(tls, 10), tls_fail(tls, "no ClientHello"); return;
  }
}

/* Some of the bytes go to the hello. True: it is complete, and the object there. */
static bool take_hello(struct tls *tls, struct span *bytes) {
  while (bytes->len > 0) {
    struct span piece = span_first(*bytes, HELLO_FED_MAX - tls->hello.len);
    if (!buffer_append(tls->slab, &tls->hello, piece)) {
      tls_fail(tls, "no memory");
      return false;
    }
    *bytes = span_skip(*bytes, piece.len);
    enum hello_progress progress = hello_read(&tls->reader, buffer_span(&tls->hello));
    if (progress == HELLO_COMPLETE) {
      tls_begin_server(tls);
      return tls->state == TLS_HANDSHAKE;
    }
    if (progress == HELLO_MORE && tls->hello.len >= HELLO_FED_MAX) progress = HELLO_TOO_LONG;
    if (progress == HELLO_MORE) continue;
    refuse_hello(tls, progress);
    return false;
  }
  return false;
}

/* One record's content, if there is one. False: nothing more to be had from these bytes. */
static bool read_record(struct tls *tls, tls_take *take, void *who) {
  uint8_t room[TLS_RECORD];
  int n = wolfSSL_read(tls->ssl, room, sizeof room);
  if (n > 0) {
    tls->records_with_content++;
    tls->content_in += (uint64_t)n;
    take(who, span_of(room, (size_t)n));
    return tls->state == TLS_OPEN;
  }
  int code = wolfSSL_get_error(tls->ssl, n);
  if (code == WOLFSSL_ERROR_WANT_READ && !tls->no_room && tls->state != TLS_FAILED) return false;
  if (code == WOLFSSL_ERROR_ZERO_RETURN && tls->state != TLS_FAILED)
    tls->state = TLS_CLOSED;
  else
    tls_fail_code(tls, code);
  return false;
}

/* wolfSSL asks for a record's bytes and no more, so with all bytes taken there is nothing left but content that it has not given out. */
static bool is_some_left(const struct tls *tls) { return tls->in.len > 0 || wolfSSL_pending(tls->ssl) > 0; }

static void run(struct tls *tls, struct span bytes, tls_take *take, void *who) {
  tls->in = bytes;
  if (tls->state == TLS_HANDSHAKE) tls_shake(tls);
  while (tls->state == TLS_OPEN && is_some_left(tls))
    if (!read_record(tls, take, who)) break;
  tls->in = (struct span){NULL, 0};
}

static int result(const struct tls *tls) {
  if (tls->state == TLS_CLOSED) return E_CLOSED;
  if (tls->state != TLS_FAILED) return E_OK;
  return tls->no_room ? E_NO_MEMORY : E_PROTOCOL;
}

int tls_feed(struct tls *tls, struct span ciphertext, struct buffer *out, tls_take *take, void *who) {
  must(tls->in.len == 0);
  struct visit visit = enter(tls, out);
  if (tls->state == TLS_HELLO && take_hello(tls, &ciphertext)) run(tls, buffer_span(&tls->hello), take, who);
  if (tls->state != TLS_HELLO) buffer_free(tls->slab, &tls->hello);
  if (ciphertext.len > 0 && (tls->state == TLS_HANDSHAKE || tls->state == TLS_OPEN)) run(tls, ciphertext, take, who);
  leave(tls, visit);
  return result(tls);
}

int tls_end(struct tls *tls) {
  if (tls->state == TLS_CLOSED) return E_CLOSED;
  tls_fail(tls, tls->state == TLS_OPEN ? "the connection ended without close notify" : "the connection ended in the handshake");
  return E_RESET;
}

/* ---- out ---- */

static bool write_piece(struct tls *tls, struct span piece) {
  if (piece.len == 0) return true;
  int n = wolfSSL_write(tls->ssl, piece.at, (int)piece.len);
  if (n == (int)piece.len) return true;
  tls_fail_code(tls, wolfSSL_get_error(tls->ssl, n));
  if (tls->state != TLS_FAILED) tls_fail(tls, "a record could not be written");
  return false;
}

/* Small slices are put together; what fills a record by itself is not copied for that. */
static bool write_slices(struct tls *tls, const struct span *slices, unsigned count) {
  uint8_t room[TLS_RECORD];
  size_t len = 0;
  for (unsigned i = 0; i < count; i++) {
    struct span left = slices[i];
    while (left.len > 0) {
      if (len == 0 && (left.len >= TLS_RECORD || i + 1 == count)) {
        struct span whole = i + 1 == count ? left : span_first(left, left.len - left.len % TLS_RECORD);
        if (!write_piece(tls, whole)) return false;
        left = span_skip(left, whole.len);
        continue;
      }
      struct span piece = span_first(left, TLS_RECORD - len);
      memcpy(room + len, piece.at, piece.len);
      len += piece.len;
      left = span_skip(left, piece.len);
      if (len < TLS_RECORD) continue;
      if (!write_piece(tls, span_of(room, len))) return false;
      len = 0;
    }
  }
  return write_piece(tls, span_of(room, len));
}

int tls_write(struct tls *tls, const struct span *slices, unsigned count, struct buffer *out) {
  size_t total = 0;
  for (unsigned i = 0; i < count; i++) total += slices[i].len;
  if (tls->state != TLS_OPEN || tls->said_bye) return tls->state == TLS_CLOSED ? E_CLOSED : E_PROTOCOL;
  if (!buffer_reserve(tls->slab, out, total + (total / TLS_RECORD + 1) * RECORD_OVERHEAD)) return E_FULL;
  struct visit visit = enter(tls, out);
  bool ok = write_slices(tls, slices, count);
  leave(tls, visit);
  return ok ? E_OK : E_PROTOCOL;
}

void tls_close(struct tls *tls, struct buffer *out) {
  if (tls->said_bye || (tls->state != TLS_OPEN && tls->state != TLS_CLOSED)) return;
  tls->said_bye = true;
  struct visit visit = enter(tls, out);
  wolfSSL_shutdown(tls->ssl);
  leave(tls, visit);
}

/* ---- what there is to know ---- */

enum tls_state tls_state(const struct tls *tls) { return tls->state; }
const char *tls_error(const struct tls *tls) { return tls->error; }
const char *tls_version(const struct tls *tls) { return tls->cipher[0] == '\0' ? "" : tls->tls12 ? "TLSv1.2" : "TLSv1.3"; }
const char *tls_cipher(const struct tls *tls) { return tls->cipher; }
bool tls_resumed(const struct tls *tls) { return tls->resumed; }
const char *tls_host(const struct tls *tls) { return tls->host; }
struct tls_trust tls_trust(const struct tls *tls) {
  return tls->trust;
}
const char *tls_peer_name(const struct tls *tls) { return tls->peer; }

void tls_trim(struct tls *tls) {
  if (tls->state != TLS_OPEN) return;
  struct visit visit = enter(tls, NULL);
  engine_trim();
  leave(tls, visit);
}

size_t tls_bytes(const struct tls *tls) {
  size_t ciphers = (tls->crypto.seal._ctx != NULL) + (tls->crypto.open._ctx != NULL);
  return (size_t)(tls->bytes > 0 ? tls->bytes : 0) + ciphers * (CRYPTO_BYTES / 2);
}
void tls_uncount(struct slab *slab, size_t *counted) {
  slab_uncount(slab, *counted);
  *counted = 0;
}

void tls_count(const struct tls *tls, struct slab *slab, size_t *counted) {
  size_t now = tls_bytes(tls);
  tls_uncount(slab, counted);
  if (slab_count(slab, now)) *counted = now; /* else it is there all the same */
}

int64_t tls_bytes_all(void) { return engine_bytes(); }
