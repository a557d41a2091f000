/*
 * Any bytes to a server's TLS connection, in pieces: no plaintext ever comes of what nobody with a key has sent; how the bytes are cut does not decide
 * what becomes of the connection; all memory comes back. The first byte says where to cut.
 */
#include <stdlib.h>
#include <unistd.h>

#include "bench/lib/certs.h"
#include "core/base/error.h"
#include "net/tls/server.h"
#include "net/tls/tls.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static struct tls_server *server;

static void begin(void) {
  char dir[CERTS_PATH];
  uint8_t room[256];
  struct fmt why = fmt_over(room, sizeof room), warnings = fmt_over(room, 0);
  must(tls_init(TLS_LIBCRYPTO, &why) == E_OK);
  certs_begin(dir);
  certs_make(dir, "ec", &(struct certs_spec){.common_name = "mx.example.org"});
  certs_make(dir, "rsa", &(struct certs_spec){.kind = CERTS_RSA, .common_name = "mx.example.org"});
  struct tls_files files[] = {{certs_path(dir, "ec", ".pem"), certs_path(dir, "ec", ".key")},
                              {certs_path(dir, "rsa", ".pem"), certs_path(dir, "rsa", ".key")}};
  struct tls_tickets *tickets = tls_tickets_new(3600);
  struct tls_server_config config = {.certificates = files, .certificate_count = 2, .tickets = tickets};
  must(tls_server_new(&server, &config, 1, &why, &warnings) == E_OK);
  tls_tickets_put(tickets);
  certs_end(dir);
}

static void none(void *who, struct span plaintext) {
  (void)who, (void)plaintext;
  must(false);
}

static enum tls_state feed(struct span input, size_t cut) {
  struct slab slab;
  struct buffer out = {0};
  slab_init(&slab, 16u << 20);
  int64_t before = tls_bytes_all();
  struct tls *tls = tls_accept(server, &slab, 1);
  must(tls != NULL);
  int error = E_OK;
  for (size_t at = 0; at < input.len && error == E_OK; at += cut) error = tls_feed(tls, span_first(span_skip(input, at), cut), &out, none, NULL);
  enum tls_state state = tls_state(tls);
  must((state == TLS_FAILED) == (error == E_PROTOCOL) && (state != TLS_FAILED) == (tls_error(tls)[0] == '\0') && state != TLS_OPEN);
  tls_free(tls);
  buffer_free(&slab, &out);
  must(slab.used_bytes == 0 && tls_bytes_all() == before);
  slab_fini(&slab);
  return state;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
  if (server == NULL) begin();
  if (len < 2) return 0;
  struct span input = span_of(bytes + 1, len - 1);
  enum tls_state whole = feed(input, input.len);
  must(feed(input, 1 + bytes[0]) == whole);
  return 0;
}
