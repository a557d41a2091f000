#include "net/cli/serve.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "core/base/error.h"
#include "core/base/slab.h"
#include "core/conf/system.h"
#include "net/auth/directory.h"
#include "net/auth/secret.h"
#include "net/auth/verify.h"
#include "net/cli/notify.h"
#include "net/cli/privileges.h"
#include "net/cli/reload.h"
#include "net/cli/sandbox.h"
#include "net/control/control.h"
#include "net/http/endpoint.h"
#include "net/in/guard.h"
#include "net/relay.h"
#include "net/sts/sts.h"

struct server;

struct worker {
  pthread_t thread;
  struct server *server;
  unsigned index;
  struct relay *relay;
  struct counters counters;
  uint8_t why_room[512];
  struct fmt why;
  int error;
  bool started;
  bool ran; /* to its end, whatever that was */
};

struct server {
  const struct conf *conf;
  struct shard_group *group;
  struct worker *workers;
  const struct counters **counters;
  struct relay **relays; /* of the workers, once all are open */
  struct guard *guard;
  struct control *control;
  struct directory *directory; /* NULL: nobody can authenticate */
  struct verify *verify;       /* likewise */
  struct sts *sts;
  char *sts_file, *sts_server; /* NULL: where names lead */
  uint8_t login_secret[32];
  struct reload reload;
  pthread_barrier_t barrier; /* of all workers and the main thread: opened; the first listening; all listening; ended; released */
  _Atomic bool failed;
  struct slab_pool memory;                     /* of all shards */
  _Atomic uint64_t newest_id;                  /* of all shards, while they open */
  _Alignas(64) _Atomic uint32_t sessions_open; /* of all shards; alone on its cache line */
};

static void pin(unsigned core) {
  cpu_set_t allowed, one;
  int cores = 0;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
  unsigned skip = core % (unsigned)CPU_COUNT(&allowed);
  for (int i = 0; i < CPU_SETSIZE; i++) {
    if (!CPU_ISSET(i, &allowed) || (unsigned)cores++ != skip) continue;
    CPU_ZERO(&one);
    CPU_SET(i, &one);
    pthread_setaffinity_np(pthread_self(), sizeof one, &one);
    return;
  }
}

static void note(struct worker *worker, int error) {
  worker->error = error;
  if (error != E_OK) atomic_store(&worker->server->failed, true);
}

/* All threads pass the same five barriers, whatever happens to them in between. */
static void *work(void *argument) {
  struct worker *worker = argument;
  struct server *server = worker->server;
  pin(worker->index);
  struct relay_options options = {.conf = server->conf,
                                  .group = server->group,
                                  .index = worker->index,
                                  .counters = &worker->counters,
                                  .sessions_open = &server->sessions_open,
                                  .guard = server->guard,
                                  .certificates = server->reload.certificates,
                                  .tls = server->reload.tls,
                                  .sts = server->sts,
                                  .directory = server->directory,
                                  .verify = server->verify,
                                  .login_secret = span_of(server->login_secret, sizeof server->login_secret),
                                  .memory = &server->memory,
                                  .newest_id = &server->newest_id,
                                  .held = control_holds(server->control)};
  note(worker, relay_open(&worker->relay, &options, &worker->why));
  pthread_barrier_wait(&server->barrier);
  if (worker->index == 0 && !atomic_load(&server->failed)) note(worker, relay_listen(worker->relay, &worker->why));
  pthread_barrier_wait(&server->barrier);
  if (worker->index > 0 && !atomic_load(&server->failed)) note(worker, relay_listen(worker->relay, &worker->why));
  privileges_end(server->conf); /* who reads `ready` finds nobody with more */
  pthread_barrier_wait(&server->barrier);
  if (!atomic_load(&server->failed)) {
    relay_run(worker->relay);
    worker->error = relay_failed(worker->relay, &worker->why);
    worker->ran = true;
  }
  bool closes = worker->ran || worker->error == E_OK;
  pthread_barrier_wait(&server->barrier); /* letters may name another's memory: nobody leaves before all have ended */
  if (closes) relay_release(worker->relay);
  pthread_barrier_wait(&server->barrier);
  if (closes) relay_close(worker->relay);
  return NULL;
}

static int start_workers(struct server *server) {
  for (unsigned i = 0; i < server->conf->shards; i++) {
    struct worker *worker = &server->workers[i];
    worker->server = server;
    worker->index = i;
    worker->why = fmt_over(worker->why_room, sizeof worker->why_room - 1);
    server->counters[i] = &worker->counters;
    if (pthread_create(&worker->thread, NULL, work, worker) != 0) {
      fprintf(stderr, "ringpost: cannot start a thread\n");
      _exit(1); /* those that run wait at a barrier for ever */
    }
    worker->started = true;
  }
  return 0;
}

/* Shards that fail for the same reason say so once. */
static bool is_said(const struct server *server, unsigned index) {
  const struct worker *worker = &server->workers[index];
  for (unsigned i = 0; i < index; i++)
    if (server->workers[i].error == worker->error && span_equal(fmt_span(&server->workers[i].why), fmt_span(&worker->why))) return true;
  return false;
}

static int report_failures(const struct server *server) {
  int status = 0;
  for (unsigned i = 0; i < server->conf->shards; i++) {
    const struct worker *worker = &server->workers[i];
    if (worker->error == E_OK) continue;
    status = 1;
    if (is_said(server, i)) continue;
    if (worker->why.len > 0) {
      fprintf(stderr, "ringpost: shard=%u %.*s\n", i, (int)worker->why.len, (const char *)worker->why.at);
    } else {
      fprintf(stderr, "ringpost: shard=%u error=\"%s\"\n", i, error_text(worker->error));
    }
  }
  return status;
}

static void say_ready(const struct server *server, const struct endpoint *endpoint) {
  struct netaddr address;
  uint8_t room[64];
  struct fmt text = fmt_over(room, sizeof room - 1);
  relay_address(server->workers[0].relay, &address);
  netaddr_format_with_port(&address, &text);
  printf("ready smtp=%.*s shards=%u pid=%d", (int)text.len, (const char *)room, server->conf->shards, (int)getpid());
  if (endpoint != NULL) printf(" http=%u", endpoint_port(endpoint));
  printf("\n");
  fflush(stdout);
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < server->conf->sessions_max)
    fprintf(stderr, "ringpost: this process may open %llu files: fewer than limits.sessions (%u), and connections need some too (ulimit -n)\n",
            (unsigned long long)limit.rlim_cur, server->conf->sessions_max);
  notify_service_manager("READY=1");
}

static int open_http(const struct server *server, struct endpoint **endpoint) {
  uint8_t room[256];
  struct fmt why = fmt_over(room, sizeof room - 1);
  if (server->conf->http.family == 0) return 0;
  struct endpoint_options options = {.address = server->conf->http,
                                     .counters = server->counters,
                                     .counters_count = server->conf->shards,
                                     .api = control_answer,
                                     .api_context = server->control};
  if (endpoint_open(endpoint, &options, &why) == E_OK) return 0;
  fprintf(stderr, "ringpost: %.*s\n", (int)why.len, (const char *)room);
  return 1;
}

/* False: not now. */
static bool reload_now(struct server *server) {
  uint8_t room[512];
  struct fmt why = fmt_over(room, sizeof room - 1);
  bool now;
  int error = control_reload(server->control, &why, &now); /* which has said what there is to say */
  return now || error == E_OK;
}

/* The users file: taken anew when it has changed, or in any case. */
static void look_at_users(const struct server *server, bool in_any_case) {
  uint8_t room[512];
  struct fmt why = fmt_over(room, sizeof room - 1);
  if (server->directory == NULL) return;
  int result = in_any_case ? directory_reload(server->directory, &why) : directory_look(server->directory, &why);
  if (result > 0) fprintf(stderr, "ringpost: %s is read again and in use\n", server->conf->users_path);
  if (result < 0) fprintf(stderr, "ringpost: the users stay as they are: %.*s\n", (int)why.len, (const char *)room);
}

static void wait_for_signal(struct server *server, const sigset_t *signals) {
  static const struct timespec tick = {.tv_nsec = 500000000};
  bool reload_wanted = false;
  for (;;) {
    int signal = sigtimedwait(signals, NULL, &tick);
    if (signal == SIGTERM || signal == SIGINT) return;
    reload_wanted |= signal == SIGHUP;
    look_at_users(server, signal == SIGHUP);
    if (reload_wanted) reload_wanted = !reload_now(server);
    control_tick(server->control);
  }
}

static void stop_all(const struct server *server) {
  notify_service_manager("STOPPING=1");
  for (unsigned i = 0; i < server->conf->shards; i++) relay_stop(server->workers[i].relay);
}

static int say(const struct fmt *why) {
  fprintf(stderr, "ringpost: %.*s\n", (int)why->len, (const char *)why->at);
  return 1;
}

/* The first half, before there are threads: who we are, and what files there are for us. */
static int lock_files(const struct conf *conf, const char *path) {
  uint8_t room[512];
  struct fmt why = fmt_over(room, sizeof room - 1);
  if (privileges_begin(conf, &why) != E_OK) return say(&why);
  return conf->sandbox && sandbox_files(conf, path, &why) != E_OK ? say(&why) : 0;
}

static bool has_secrets(const struct conf *conf) {
  bool passwords = conf->users_path != NULL;
  for (unsigned i = 0; !passwords && i < conf->routes_count; i++) passwords = conf->routes[i].password != NULL;
  return passwords || conf->certificates_count > 0;
}

/* The second, when all listen; threads that are started from here on have no more either. */
static int lock_up(const struct conf *conf) {
  uint8_t room[512];
  struct fmt why = fmt_over(room, sizeof room - 1);
  privileges_end(conf);
  if (has_secrets(conf)) privileges_no_dumps();
  return conf->sandbox && sandbox_calls(&why) != E_OK ? say(&why) : 0;
}

static int run(struct server *server, const sigset_t *signals) {
  struct endpoint *endpoint = NULL;
  start_workers(server);
  pthread_barrier_wait(&server->barrier);
  pthread_barrier_wait(&server->barrier);
  pthread_barrier_wait(&server->barrier);
  int status = atomic_load(&server->failed) ? 1 : 0;
  if (status == 0) {
    for (unsigned i = 0; i < server->conf->shards; i++) server->relays[i] = server->workers[i].relay;
    server->reload.relays = server->relays;
    control_start(server->control, server->relays);
    status = lock_up(server->conf);
    if (status == 0) status = open_http(server, &endpoint);
    if (status == 0) {
      say_ready(server, endpoint);
      wait_for_signal(server, signals);
    }
    stop_all(server);
  }
  pthread_barrier_wait(&server->barrier);
  endpoint_close(endpoint); /* before the relays go, of which the API may be asking something */
  verify_stop(server->verify);
  sts_stop(server->sts);
  pthread_barrier_wait(&server->barrier);
  for (unsigned i = 0; i < server->conf->shards; i++) pthread_join(server->workers[i].thread, NULL);
  return report_failures(server) != 0 ? 1 : status;
}

/* As many descriptors as we may have: each session and connection takes one. */
static void raise_descriptor_limit(void) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

static int take_configuration(void *context, struct fmt *why) {
  struct server *server = context;
  notify_service_manager("RELOADING=1");
  int error = reload_conf(&server->reload, why);
  if (error == E_OK) {
    fprintf(stderr, "ringpost: %s is read again and in use\n", server->reload.path);
  } else {
    fprintf(stderr, "ringpost: the configuration stays as it is: %.*s\n", (int)why->len, (const char *)why->at);
  }
  notify_service_manager("READY=1");
  return error;
}

static int open_directory(struct server *server) {
  uint8_t room[512];
  struct fmt why = fmt_over(room, sizeof room - 1);
  if (server->conf->users_path == NULL || directory_open(&server->directory, server->conf->users_path, &why) == E_OK) return 0;
  fprintf(stderr, "ringpost: %.*s\n", (int)why.len, (const char *)room);
  return 2; /* as a configuration that is wrong */
}

static int open_certificates(struct server *server) {
  uint8_t room[512];
  struct fmt why = fmt_over(room, sizeof room - 1);
  if (reload_open(&server->reload, &why) == E_OK) return 0;
  fprintf(stderr, "ringpost: %.*s\n", (int)why.len, (const char *)room);
  return 2;
}

/* From control_tick: one operation at a time. */
static void look_at_certificates(void *context) {
  struct server *server = context;
  uint8_t room[512];
  struct fmt why = fmt_over(room, sizeof room - 1);
  int result = reload_look(&server->reload, &why);
  if (result > 0) fprintf(stderr, "ringpost: the certificates are read again and in use\n");
  if (result < 0) fprintf(stderr, "ringpost: the certificates stay as they are: %.*s\n", (int)why.len, (const char *)room);
}

static int open_verify(struct server *server) {
  struct verify_options options = verify_defaults;
  options.lanes = server->conf->shards;
  secret_random(server->login_secret, sizeof server->login_secret);
  if (server->directory == NULL || verify_open(&server->verify, &options) == E_OK) return 0;
  fprintf(stderr, "ringpost: cannot start the threads that check passwords\n");
  return 1;
}

static void say_of_sts(void *context, const char *line) {
  (void)context;
  fprintf(stderr, "ringpost: %s\n", line);
}

/* What the process may do until all listen is not for a thread that talks to web servers. */
static void begin_sts(void *context) { privileges_end(((const struct server *)context)->conf); }

/* Also where delivery.mta_sts is off: a reload may turn it on, and until then its thread sleeps. */
static int open_sts(struct server *server) {
  const struct conf *conf = server->conf;
  struct sts_options options = sts_defaults;
  uint8_t room[64];
  struct fmt address = fmt_over(room, sizeof room - 1);
  if (asprintf(&server->sts_file, "%s/mta-sts.json", conf->spool_path) < 0) server->sts_file = NULL;
  netaddr_format_with_port(&conf->mta_sts_server, &address);
  room[address.len] = '\0';
  if (conf->mta_sts_server.family != 0) server->sts_server = strdup((const char *)room);
  options.views = conf->shards;
  options.file = server->sts_file;
  options.ca_file = conf->tls_ca;
  options.connect_to = server->sts_server;
  options.say = say_of_sts;
  options.begin = begin_sts;
  options.context = server;
  bool has_names = server->sts_file != NULL && (server->sts_server != NULL || conf->mta_sts_server.family == 0);
  if (has_names && sts_open(&server->sts, &options) == E_OK) return 0;
  fprintf(stderr, "ringpost: cannot start the thread that fetches MTA-STS policies\n");
  return 1;
}

static void close_sts(struct server *server) {
  sts_stop(server->sts); /* again, unless nothing ever ran */
  sts_free(server->sts);
  free(server->sts_file);
  free(server->sts_server);
}

static int open_control(struct server *server) {
  uint8_t room[512];
  struct fmt why = fmt_over(room, sizeof room - 1);
  struct control_options options = {.counters = server->counters,
                                    .shards = server->conf->shards,
                                    .spool_path = server->conf->spool_path,
                                    .started_ms = system_wall_ms(),
                                    .reload = take_configuration,
                                    .look = look_at_certificates,
                                    .reload_context = server};
  if (control_open(&server->control, &options, &why) == E_OK) return 0;
  fprintf(stderr, "ringpost: %.*s\n", (int)why.len, (const char *)room);
  return 1;
}

#define CLIENTS 65536 /* that are counted at a time; 4 MiB if there are so many */

static int open_guard(struct guard **guard) {
  uint64_t seed;
  if (getrandom(&seed, sizeof seed, 0) != sizeof seed) return E_OTHER;
  return guard_open(guard, CLIENTS, seed);
}

int serve(const struct conf *conf, const char *path) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGHUP);
  pthread_sigmask(SIG_BLOCK, &signals, NULL);
  signal(SIGPIPE, SIG_IGN);
  raise_descriptor_limit();

  struct server server = {.conf = conf, .reload = {.path = path, .first = conf}};
  server.workers = aligned_alloc(64, conf->shards * sizeof *server.workers);
  server.counters = calloc(conf->shards, sizeof *server.counters);
  server.relays = calloc(conf->shards, sizeof *server.relays);
  if (server.workers == NULL || server.counters == NULL || server.relays == NULL || shard_group_open(&server.group, conf->shards) != E_OK ||
      open_guard(&server.guard) != E_OK) {
    fprintf(stderr, "ringpost: out of memory\n");
    free(server.workers);
    free(server.counters);
    free(server.relays);
    return 1;
  }
  memset(server.workers, 0, conf->shards * sizeof *server.workers);
  pthread_barrier_init(&server.barrier, NULL, conf->shards + 1);
  int status = open_certificates(&server); /* keys may be root's alone */
  if (status == 0) status = lock_files(conf, path);
  if (status == 0) status = open_directory(&server);
  if (status == 0) status = open_verify(&server);
  if (status == 0) status = open_sts(&server);
  if (status == 0) status = open_control(&server);
  if (status == 0) status = run(&server, &signals);
  control_close(server.control);
  verify_stop(server.verify); /* again, unless nothing ever ran */
  verify_free(server.verify);
  close_sts(&server);
  directory_close(server.directory);
  reload_fini(&server.reload);
  pthread_barrier_destroy(&server.barrier);
  shard_group_close(server.group);
  guard_close(server.guard);
  free(server.counters);
  free(server.relays);
  free(server.workers);
  return status;
}
