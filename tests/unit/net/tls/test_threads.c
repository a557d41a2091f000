/* Two threads with one server, one client and one set of ticket keys, all of which are replaced meanwhile: for ThreadSanitizer (make tsan), and for what goes wrong by itself. */
#include <pthread.h>
#include <stdlib.h>

#include "bench/lib/certs.h"
#include "core/base/error.h"
#include "tests/lib/tlspair.h"
#include "tests/lib/unit.h"

enum { ROUNDS = 40 };

static char dir[CERTS_PATH];

struct shared {
  struct tls_server *server;
  struct tls_client *client;
  pthread_mutex_t lock; /* of the pointers: how a shard comes by a new configuration is its caller's affair */
};

struct worker {
  struct shared *shared;
  unsigned resumed, opened;
};

static const struct span mx = {(const uint8_t *)"mx.example.org", 14};

static void *work(void *argument) {
  struct worker *worker = argument;
  struct tls_session *session = NULL;
  struct tls_expect expect = {.policy = TLS_VERIFY, .host = mx, .names = &mx, .name_count = 1};
  for (unsigned i = 0; i < ROUNDS; i++) {
    struct tlspair pair;
    pthread_mutex_lock(&worker->shared->lock);
    struct tls_server *server = tls_server_share(worker->shared->server);
    struct tls_client *client = tls_client_share(worker->shared->client);
    pthread_mutex_unlock(&worker->shared->lock);
    tlspair_begin(&pair, server, client, &expect, session);
    tls_server_put(server);
    tls_client_put(client);
    tlspair_run(&pair);
    if (tlspair_open(&pair)) {
      tlspair_write(&pair.client, SPAN("to the server"));
      tlspair_write(&pair.server, SPAN("to the client"));
      tlspair_run(&pair);
      bool right =
          span_equal(buffer_span(&pair.client.got), SPAN("to the client")) && span_equal(buffer_span(&pair.server.got), SPAN("to the server"));
      worker->opened += right && tls_trust(pair.client.tls).by == TLS_TRUSTED;
      worker->resumed += tls_resumed(pair.client.tls);
      tls_session_free(session);
      session = i % 8 == 7 ? NULL : tls_session_take(pair.client.tls); /* full handshakes too */
    }
    tlspair_end(&pair);
  }
  tls_session_free(session);
  return NULL;
}

static struct tls_server *make_server(struct tls_tickets *tickets) {
  uint8_t room[256];
  struct fmt why = fmt_over(room, sizeof room), warnings = fmt_over(room, 0);
  struct tls_files files = {certs_path(dir, "ec", ".pem"), certs_path(dir, "ec", ".key")};
  struct tls_server *server;
  must(tls_server_new(&server, &(struct tls_server_config){.certificates = &files, .certificate_count = 1, .tickets = tickets}, tlspair_now_ms(),
                      &why, &warnings) == E_OK);
  return server;
}

START_TEST(threads_share_all_but_connections) {
  uint8_t room[256];
  struct fmt why = fmt_over(room, sizeof room), warnings = fmt_over(room, 0);
  struct tls_tickets *tickets = tls_tickets_new(3600);
  struct shared shared = {.server = make_server(tickets), .lock = PTHREAD_MUTEX_INITIALIZER};
  must(tls_client_new(&shared.client, &(struct tls_client_config){.ca = certs_path(dir, "ca", ".pem")}, tlspair_now_ms(), &why, &warnings) == E_OK);
  struct worker workers[2] = {{.shared = &shared}, {.shared = &shared}};
  pthread_t threads[2];
  for (unsigned i = 0; i < 2; i++) must(pthread_create(&threads[i], NULL, work, &workers[i]) == 0);
  for (unsigned i = 0; i < 5; i++) { /* reloads */
    struct tls_server *next = make_server(tickets);
    pthread_mutex_lock(&shared.lock);
    struct tls_server *old = shared.server;
    shared.server = next;
    pthread_mutex_unlock(&shared.lock);
    tls_server_put(old);
  }
  for (unsigned i = 0; i < 2; i++) pthread_join(threads[i], NULL);
  for (unsigned i = 0; i < 2; i++) {
    ck_assert_uint_eq(workers[i].opened, ROUNDS);
    ck_assert_uint_eq(workers[i].resumed, ROUNDS - ROUNDS / 8);
  }
  tls_server_put(shared.server);
  tls_client_put(shared.client);
  tls_tickets_put(tickets);
}
END_TEST

int main(void) {
  uint8_t room[256];
  struct fmt why = fmt_over(room, sizeof room);
  if (tls_init(TLS_LIBCRYPTO, &why) != E_OK) return 1;
  certs_begin(dir);
  certs_make(dir, "ca", &(struct certs_spec){.common_name = "Test CA", .ca = true});
  certs_make(dir, "ec", &(struct certs_spec){.common_name = "ec", .alt_names = "DNS:mx.example.org", .issuer = "ca"});
  TCase *threads = tcase_create("threads");
  tcase_set_timeout(threads, 60);
  tcase_add_test(threads, threads_share_all_but_connections);
  int failed = unit_main("net/tls/threads", (TCase *const[]){threads}, 1);
  certs_end(dir);
  return failed;
}
