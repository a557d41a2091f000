/* Against `openssl s_server` and `openssl s_client`, processes of their own on loopback. */
#include <arpa/inet.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/lib/certs.h"
#include "core/base/error.h"
#include "tests/lib/tlspair.h"
#include "tests/lib/unit.h"

static char dir[CERTS_PATH];
static uint8_t text_room[512];

struct process {
  pid_t pid;
  int in, out; /* its standard input and output */
};

static struct process start(const char *const argv[]) {
  int in[2], out[2];
  ck_assert_int_eq(pipe(in) | pipe(out), 0);
  pid_t pid = fork();
  if (pid == 0) {
    dup2(in[0], 0), dup2(out[1], 1), dup2(out[1], 2);
    close(in[1]), close(out[0]);
    execvp(argv[0], (char *const *)argv);
    _exit(127);
  }
  close(in[0]), close(out[1]);
  return (struct process){pid, in[1], out[0]};
}

static void stop(struct process *process) {
  kill(process->pid, SIGKILL);
  waitpid(process->pid, NULL, 0);
  close(process->in);
  close(process->out);
}

/* Until the text stands in what it prints. */
static void await(const struct process *process, const char *text, char *room, size_t size) {
  size_t len = 0;
  room[0] = '\0';
  while (strstr(room, text) == NULL) {
    struct pollfd wait = {.fd = process->out, .events = POLLIN};
    ck_assert_msg(poll(&wait, 1, 20000) == 1, "no \"%s\" in: %s", text, room);
    ssize_t n = read(process->out, room + len, size - 1 - len);
    ck_assert_msg(n > 0, "ended without \"%s\": %s", text, room);
    len += (size_t)n;
    room[len] = '\0';
  }
}

static void send_out(int fd, struct tlsend *end) {
  for (uint32_t at = 0; at < end->out.len;) {
    ssize_t n = send(fd, end->out.at + at, end->out.len - at, MSG_NOSIGNAL);
    ck_assert_int_gt(n, 0);
    at += (uint32_t)n;
  }
  buffer_consume(&end->out, end->out.len);
}

/* Bytes to and fro until the plaintext is there, or the other side is gone. */
static void exchange(int fd, struct tlsend *end, struct span expected) {
  uint8_t room[4096];
  while (end->error == E_OK && !(expected.len > 0 && span_equal(buffer_span(&end->got), expected))) {
    send_out(fd, end);
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    ck_assert_msg(poll(&wait, 1, 20000) == 1, "%s", tls_error(end->tls));
    ssize_t n = recv(fd, room, sizeof room, 0);
    if (n <= 0) break;
    tlsend_feed(end, span_of(room, (size_t)n));
    if (expected.len == 0 && tls_state(end->tls) == TLS_OPEN) break;
  }
  send_out(fd, end);
}

static const char *const versions[] = {"-tls1_3", "-tls1_2"};

START_TEST(s_server_answers_our_client) {
  struct fmt why = fmt_over(text_room, sizeof text_room), warnings = fmt_over(text_room, 0);
  char cert[CERTS_PATH * 2], key[CERTS_PATH * 2], room[4096];
  snprintf(cert, sizeof cert, "%s", certs_path(dir, "ec", ".pem"));
  snprintf(key, sizeof key, "%s", certs_path(dir, "ec", ".key"));
  struct process server =
      start((const char *[]){"openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", cert, "-key", key, "-rev", versions[_i], NULL});
  await(&server, "ACCEPT 127.0.0.1:", room, sizeof room);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(strstr(room, "127.0.0.1:") + 10))};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
  struct tls_client *client;
  ck_assert_int_eq(tls_client_new(&client, &(struct tls_client_config){.ca = certs_path(dir, "ca", ".pem")}, tlspair_now_ms(), &why, &warnings),
                   E_OK);
  struct slab slab;
  slab_init(&slab, 16u << 20);
  struct tlsend end = {.slab = &slab};
  struct span name = SPAN("mx.example.org");
  end.tls = tls_connect(client, &(struct tls_expect){.policy = TLS_VERIFY, .host = name, .names = &name, .name_count = 1}, NULL, &slab,
                        tlspair_now_ms(), &end.out);
  exchange(fd, &end, (struct span){0});
  ck_assert_msg(tls_state(end.tls) == TLS_OPEN, "%s", tls_error(end.tls));
  tlspair_write(&end, SPAN("olleh\n"));
  exchange(fd, &end, SPAN("hello\n"));
  ck_assert(span_equal(buffer_span(&end.got), SPAN("hello\n")));
  ck_assert_str_eq(tls_version(end.tls), _i == 0 ? "TLSv1.3" : "TLSv1.2");
  tls_free(end.tls);
  buffer_free(&slab, &end.out);
  buffer_free(&slab, &end.got);
  slab_fini(&slab);
  tls_client_put(client);
  close(fd);
  stop(&server);
}
END_TEST

START_TEST(our_server_answers_s_client) {
  struct fmt why = fmt_over(text_room, sizeof text_room), warnings = fmt_over(text_room, 0);
  char ca[CERTS_PATH * 2], where[32], room[4096];
  snprintf(ca, sizeof ca, "%s", certs_path(dir, "ca", ".pem"));
  struct sockaddr_in address = {.sin_family = AF_INET};
  socklen_t address_len = sizeof address;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, sizeof address) | listen(listener, 1), 0);
  ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&address, &address_len), 0);
  snprintf(where, sizeof where, "127.0.0.1:%u", ntohs(address.sin_port));
  struct process client = start((const char *[]){"openssl", "s_client", "-connect", where, "-servername", "mx.example.org", "-CAfile", ca,
                                                 "-verify_return_error", "-verify_hostname", "mx.example.org", "-quiet", versions[_i], NULL});
  int fd = accept(listener, NULL, NULL);
  ck_assert_int_ge(fd, 0);
  struct tls_files files = {certs_path(dir, "ec", ".pem"), certs_path(dir, "ec", ".key")};
  struct tls_server *server;
  ck_assert_int_eq(
      tls_server_new(&server, &(struct tls_server_config){.certificates = &files, .certificate_count = 1}, tlspair_now_ms(), &why, &warnings), E_OK);
  struct slab slab;
  slab_init(&slab, 16u << 20);
  struct tlsend end = {.slab = &slab};
  end.tls = tls_accept(server, &slab, tlspair_now_ms());
  ck_assert_int_eq(write(client.in, "ping\n", 5), 5);
  exchange(fd, &end, SPAN("ping\n"));
  ck_assert_msg(span_equal(buffer_span(&end.got), SPAN("ping\n")), "%s", tls_error(end.tls));
  ck_assert_str_eq(tls_host(end.tls), "mx.example.org");
  tlspair_write(&end, SPAN("pong\n"));
  tls_close(end.tls, &end.out);
  send_out(fd, &end);
  await(&client, "pong\n", room, sizeof room);
  tls_free(end.tls);
  buffer_free(&slab, &end.out);
  buffer_free(&slab, &end.got);
  slab_fini(&slab);
  tls_server_put(server);
  close(fd);
  close(listener);
  stop(&client);
}
END_TEST

int main(void) {
  struct fmt why = fmt_over(text_room, sizeof text_room);
  if (tls_init(TLS_LIBCRYPTO, &why) != E_OK) return 1;
  certs_begin(dir);
  certs_make(dir, "ca", &(struct certs_spec){.common_name = "Test CA", .ca = true});
  certs_make(dir, "ec", &(struct certs_spec){.common_name = "ec", .alt_names = "DNS:mx.example.org", .issuer = "ca"});
  TCase *openssl = tcase_create("openssl");
  tcase_set_timeout(openssl, 60);
  tcase_add_loop_test(openssl, s_server_answers_our_client, 0, 2);
  tcase_add_loop_test(openssl, our_server_answers_s_client, 0, 2);
  int failed = unit_main("net/tls/openssl", (TCase *const[]){openssl}, 1);
  certs_end(dir);
  return failed;
}
