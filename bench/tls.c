/*
 * tls: what TLS costs, over memory: handshakes (full and resumed), records of 4 and 16 KiB, memory of an idle connection. For net/tls with libcrypto's
 * arithmetic, for the same without (wolfSSL as the distribution builds it), and for OpenSSL's own libssl, in turns. CPU time of the thread, each side's by itself.
 *
 *   build/bench/tls [milliseconds of each measurement] [rounds]
 */
#include <malloc.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench/lib/certs.h"
#include "core/base/error.h"
#include "net/tls/client.h"
#include "net/tls/server.h"
#include "net/tls/tls.h"

static char dir[CERTS_PATH];
static double seconds = 0.3;
static bool x25519;
static const char *engine;

static double cpu_s(void) {
  struct timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static uint64_t wall_ms(void) { return (uint64_t)time(NULL) * 1000; }

static void report(const char *what, double server_s, double client_s, unsigned count) {
  printf("%-10s %-28s server %8.1f us %7.0f/s   client %8.1f us %7.0f/s\n", engine, what, server_s / count * 1e6, count / server_s,
         client_s / count * 1e6, count / client_s);
  fflush(stdout);
}

static void report_record(const char *what, double write_s, double read_s, unsigned count) {
  printf("%-10s %-28s write  %8.2f us            read   %8.2f us\n", engine, what, write_s / count * 1e6, read_s / count * 1e6);
  fflush(stdout);
}

/* ---- net/tls ---- */

struct ours {
  struct slab slab;
  struct tls_server *server;
  struct tls_client *client;
  struct tls_tickets *tickets;
  struct tls *s, *c;
  struct buffer to_s, to_c;
  double server_s, client_s;
};

static void drop(void *who, struct span plaintext) { *(size_t *)who += plaintext.len; }

static void ours_load(struct ours *o, const char *certificate, bool tls13) {
  uint8_t room[512];
  struct fmt why = fmt_over(room, sizeof room), warnings = fmt_over(room, 0);
  struct tls_files files = {certs_path(dir, certificate, ".pem"), certs_path(dir, certificate, ".key")};
  *o = (struct ours){0};
  slab_init(&o->slab, 1u << 30);
  o->tickets = tls_tickets_new(3600);
  struct tls_server_config server = {.certificates = &files, .certificate_count = 1, .tickets = o->tickets};
  struct tls_client_config client = {.ca = certs_path(dir, "ca", ".pem"), .most = tls13 ? TLS_MOST_1_3 : TLS_MOST_1_2, .x25519 = x25519};
  must(tls_server_new(&o->server, &server, wall_ms(), &why, &warnings) == E_OK);
  must(tls_client_new(&o->client, &client, wall_ms(), &why, &warnings) == E_OK);
}

static void ours_unload(struct ours *o) {
  tls_server_put(o->server);
  tls_client_put(o->client);
  tls_tickets_put(o->tickets);
  buffer_free(&o->slab, &o->to_s);
  buffer_free(&o->slab, &o->to_c);
  slab_fini(&o->slab);
}

static void ours_feed(struct ours *o, bool server, size_t *got) {
  struct buffer *in = server ? &o->to_s : &o->to_c, *out = server ? &o->to_c : &o->to_s;
  struct buffer moving = *in;
  *in = (struct buffer){0};
  double before = cpu_s();
  must(tls_feed(server ? o->s : o->c, buffer_span(&moving), out, drop, got) == E_OK);
  *(server ? &o->server_s : &o->client_s) += cpu_s() - before;
  buffer_free(&o->slab, &moving);
}

static void ours_shake(struct ours *o, const struct tls_session *session, enum tls_policy policy) {
  struct span name = SPAN("mx.example.org");
  struct tls_expect expect = {.policy = policy, .host = name, .names = &name, .name_count = 1};
  size_t got = 0;
  double before = cpu_s();
  o->c = tls_connect(o->client, &expect, session, &o->slab, wall_ms(), &o->to_s);
  o->client_s += cpu_s() - before;
  before = cpu_s();
  o->s = tls_accept(o->server, &o->slab, wall_ms());
  o->server_s += cpu_s() - before;
  while (o->to_s.len + o->to_c.len > 0) {
    if (o->to_s.len > 0) ours_feed(o, true, &got);
    if (o->to_c.len > 0) ours_feed(o, false, &got);
  }
  must(tls_state(o->s) == TLS_OPEN && tls_state(o->c) == TLS_OPEN && tls_resumed(o->s) == (session != NULL) &&
       tls_resumed(o->c) == (session != NULL));
}

static void ours_close(struct ours *o) {
  double before = cpu_s();
  tls_free(o->c);
  o->client_s += cpu_s() - before;
  before = cpu_s();
  tls_free(o->s);
  o->server_s += cpu_s() - before;
}

static void ours_handshakes(const char *what, const char *certificate, bool tls13, bool resume, enum tls_policy policy) {
  struct ours o;
  struct tls_session *session = NULL;
  ours_load(&o, certificate, tls13);
  ours_shake(&o, NULL, policy);
  if (resume) must((session = tls_session_take(o.c)) != NULL);
  ours_close(&o);
  o.server_s = o.client_s = 0;
  unsigned count = 0;
  for (double end = cpu_s() + seconds; cpu_s() < end; count++) {
    ours_shake(&o, session, policy);
    ours_close(&o);
  }
  report(what, o.server_s, o.client_s, count);
  tls_session_free(session);
  ours_unload(&o);
}

enum { BATCH = 8 }; /* records between two looks at the clock, which take some 0.3 us */

static void ours_records(const char *what, size_t size) {
  static uint8_t content[16384];
  struct ours o;
  struct span bytes = span_of(content, size);
  size_t got = 0;
  unsigned count = 0;
  ours_load(&o, "ec", true);
  ours_shake(&o, NULL, TLS_VERIFY);
  must(buffer_reserve(&o.slab, &o.to_s, BATCH * (sizeof content + 100)));
  o.server_s = o.client_s = 0;
  for (double end = cpu_s() + seconds; cpu_s() < end; count += BATCH) {
    size_t ends[BATCH], at = 0;
    double before = cpu_s();
    for (unsigned i = 0; i < BATCH; i++) {
      must(tls_write(o.c, &bytes, 1, &o.to_s) == E_OK);
      ends[i] = o.to_s.len;
    }
    o.client_s += cpu_s() - before;
    before = cpu_s();
    for (unsigned i = 0; i < BATCH; at = ends[i++]) must(tls_feed(o.s, span_of(o.to_s.at + at, ends[i] - at), &o.to_c, drop, &got) == E_OK);
    o.server_s += cpu_s() - before;
    buffer_consume(&o.to_s, o.to_s.len);
  }
  must(got == (size_t)count * size);
  report_record(what, o.client_s, o.server_s, count);
  ours_close(&o);
  ours_unload(&o);
}

static size_t resident(void) {
  unsigned long size = 0, pages = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  must(file != NULL && fscanf(file, "%lu %lu", &size, &pages) == 2);
  fclose(file);
  return pages * 4096;
}

/* One end of each connection stays. */
static void ours_memory(bool server, bool trim) {
  enum { MANY = 1000 };
  static struct tls *kept[MANY];
  struct ours o;
  ours_load(&o, "ec", true);
  for (unsigned i = 0; i < 20; i++) {
    ours_shake(&o, NULL, TLS_VERIFY);
    ours_close(&o);
  }
  malloc_trim(0);
  size_t before = resident(), bytes = 0;
  for (unsigned i = 0; i < MANY; i++) {
    ours_shake(&o, NULL, TLS_VERIFY);
    kept[i] = server ? o.s : o.c;
    if (trim) tls_trim(kept[i]);
    bytes += tls_bytes(kept[i]);
    tls_free(server ? o.c : o.s);
  }
  printf("%-10s idle %-22s  resident %.1f KiB, tls_bytes %.1f KiB\n", engine, server ? "server" : "client",
         (double)(resident() - before) / MANY / 1024, (double)bytes / MANY / 1024);
  for (unsigned i = 0; i < MANY; i++) tls_free(kept[i]);
  ours_unload(&o);
}

static int ours(enum tls_engine which) {
  uint8_t room[256];
  struct fmt why = fmt_over(room, sizeof room);
  engine = which == TLS_LIBCRYPTO ? "net/tls" : "wolfSSL";
  if (tls_init(which, &why) != E_OK) {
    fprintf(stderr, "%.*s\n", (int)why.len, (const char *)why.at);
    return 1;
  }
  ours_handshakes("TLS 1.3 full, EC", "ec", true, false, TLS_VERIFY);
  ours_handshakes("TLS 1.3 full, RSA", "rsa", true, false, TLS_VERIFY);
  ours_handshakes("TLS 1.3 resumed", "ec", true, true, TLS_VERIFY);
  x25519 = true;
  ours_handshakes("TLS 1.3 full, EC, X25519", "ec", true, false, TLS_VERIFY);
  ours_handshakes("TLS 1.3 resumed, X25519", "ec", true, true, TLS_VERIFY);
  x25519 = false;
  ours_handshakes("TLS 1.2 full, EC", "ec", false, false, TLS_VERIFY);
  ours_records("records of 4 KiB", 4096);
  ours_records("records of 16 KiB", 16384);
  for (unsigned i = 0; i < 4; i++) ours_memory(i < 2, i % 2 == 1);
  return 0;
}

/* ---- libssl ---- */

struct theirs {
  SSL_CTX *server, *client;
  SSL *s, *c;
  double server_s, client_s;
};

static void theirs_load(struct theirs *t, const char *certificate, bool tls13) {
  *t = (struct theirs){.server = SSL_CTX_new(TLS_server_method()), .client = SSL_CTX_new(TLS_client_method())};
  must(SSL_CTX_use_certificate_chain_file(t->server, certs_path(dir, certificate, ".pem")) == 1);
  must(SSL_CTX_use_PrivateKey_file(t->server, certs_path(dir, certificate, ".key"), SSL_FILETYPE_PEM) == 1);
  must(SSL_CTX_load_verify_file(t->client, certs_path(dir, "ca", ".pem")) == 1);
  SSL_CTX_set_ciphersuites(t->server, "TLS_AES_128_GCM_SHA256");
  SSL_CTX_set_cipher_list(t->server, "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256");
  SSL_CTX_set_session_cache_mode(t->server, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(t->server, 1);
  SSL_CTX_set_verify(t->client, SSL_VERIFY_PEER, NULL);
  SSL_CTX_set_mode(t->server, SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_mode(t->client, SSL_MODE_RELEASE_BUFFERS);
  if (!tls13) SSL_CTX_set_max_proto_version(t->client, TLS1_2_VERSION);
}

static SSL *theirs_new(SSL_CTX *ctx) {
  SSL *ssl = SSL_new(ctx);
  SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
  return ssl;
}

static void theirs_pass(SSL *from, SSL *to) {
  static char room[1 << 18];
  for (int n; (n = BIO_read(SSL_get_wbio(from), room, sizeof room)) > 0;) must(BIO_write(SSL_get_rbio(to), room, n) == n);
}

static void theirs_shake(struct theirs *t, SSL_SESSION *session) {
  char room[16];
  double before = cpu_s();
  t->c = theirs_new(t->client);
  SSL_set_tlsext_host_name(t->c, "mx.example.org");
  SSL_set1_host(t->c, "mx.example.org");
  if (session != NULL) SSL_set_session(t->c, session);
  t->client_s += cpu_s() - before;
  before = cpu_s();
  t->s = theirs_new(t->server);
  t->server_s += cpu_s() - before;
  for (int c = 0, s = 0; c != 1 || s != 1;) {
    before = cpu_s();
    c = SSL_connect(t->c);
    t->client_s += cpu_s() - before;
    theirs_pass(t->c, t->s);
    before = cpu_s();
    s = SSL_accept(t->s);
    t->server_s += cpu_s() - before;
    theirs_pass(t->s, t->c);
  }
  before = cpu_s();
  SSL_read(t->c, room, sizeof room); /* the ticket */
  t->client_s += cpu_s() - before;
  must(SSL_session_reused(t->s) == (session != NULL));
}

static void theirs_close(struct theirs *t) {
  SSL_set_shutdown(t->c, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
  SSL_set_shutdown(t->s, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
  double before = cpu_s();
  SSL_free(t->c);
  t->client_s += cpu_s() - before;
  before = cpu_s();
  SSL_free(t->s);
  t->server_s += cpu_s() - before;
}

static void theirs_unload(struct theirs *t) {
  SSL_CTX_free(t->server);
  SSL_CTX_free(t->client);
}

static void theirs_handshakes(const char *what, const char *certificate, bool tls13, bool resume) {
  struct theirs t;
  SSL_SESSION *session = NULL;
  theirs_load(&t, certificate, tls13);
  theirs_shake(&t, NULL);
  if (resume) session = SSL_get1_session(t.c);
  theirs_close(&t);
  t.server_s = t.client_s = 0;
  unsigned count = 0;
  for (double end = cpu_s() + seconds; cpu_s() < end; count++) {
    theirs_shake(&t, session);
    theirs_close(&t);
  }
  report(what, t.server_s, t.client_s, count);
  SSL_SESSION_free(session);
  theirs_unload(&t);
}

static void theirs_records(const char *what, int size) {
  static char content[16384], room[16384];
  struct theirs t;
  unsigned count = 0;
  theirs_load(&t, "ec", true);
  theirs_shake(&t, NULL);
  t.server_s = t.client_s = 0;
  for (double end = cpu_s() + seconds; cpu_s() < end; count += BATCH) {
    double before = cpu_s();
    for (unsigned i = 0; i < BATCH; i++) must(SSL_write(t.c, content, size) == size);
    t.client_s += cpu_s() - before;
    theirs_pass(t.c, t.s);
    before = cpu_s();
    for (unsigned i = 0; i < BATCH; i++) must(SSL_read(t.s, room, sizeof room) == size);
    t.server_s += cpu_s() - before;
  }
  report_record(what, t.client_s, t.server_s, count);
  theirs_close(&t);
  theirs_unload(&t);
}

static int theirs(void) {
  engine = "libssl";
  theirs_handshakes("TLS 1.3 full, EC", "ec", true, false);
  theirs_handshakes("TLS 1.3 full, RSA", "rsa", true, false);
  theirs_handshakes("TLS 1.3 resumed", "ec", true, true);
  theirs_handshakes("TLS 1.2 full, EC", "ec", false, false);
  theirs_records("records of 4 KiB", 4096);
  theirs_records("records of 16 KiB", 16384);
  return 0;
}

/* ---- all of them ---- */

/* In a process of its own: tls_init is for once. */
static int run(unsigned which) {
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    int failed = which == 2 ? theirs() : ours(which == 0 ? TLS_LIBCRYPTO : TLS_WOLFCRYPT);
    fflush(stdout);
    _exit(failed);
  }
  int status = 1;
  must(child > 0 && waitpid(child, &status, 0) == child);
  return status;
}

int main(int argc, char **argv) {
  if (argc > 1) seconds = atof(argv[1]) / 1000;
  unsigned rounds = argc > 2 ? (unsigned)atoi(argv[2]) : 1;
  int failed = 0;
  certs_begin(dir);
  certs_make(dir, "ca", &(struct certs_spec){.common_name = "Bench CA", .ca = true});
  certs_make(dir, "ec", &(struct certs_spec){.common_name = "mx", .alt_names = "DNS:mx.example.org", .issuer = "ca"});
  certs_make(dir, "rsa", &(struct certs_spec){.kind = CERTS_RSA, .common_name = "mx", .alt_names = "DNS:mx.example.org", .issuer = "ca"});
  for (unsigned round = 0; round < rounds; round++)
    for (unsigned which = 0; which < 3; which++) failed |= run(which);
  certs_end(dir);
  return failed != 0;
}
