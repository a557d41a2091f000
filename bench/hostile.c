/*
 * hostile: clients that do to a relay's TLS what hostile ones do, many at a time, while `source` sends good mail and measures. Theirs is libssl, so that
 * nothing of what is attacked is on both sides.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "bench/lib/options.h"
#include "bench/lib/process.h"
#include "bench/lib/report.h"

enum kind { HALF_OPEN, DRIBBLE, GARBAGE, VANISH, RENEGOTIATE, KINDS };
static const char *const kind_names[KINDS] = {"half_open", "dribble", "garbage", "vanish", "renegotiate"};

enum step { STEP_OUT, STEP_CONNECTING, STEP_GREETING, STEP_EHLO, STEP_STARTTLS, STEP_ATTACK };
enum { TLS_STARTTLS, TLS_IMPLICIT }; /* --tls */
enum {
  EVENTS = 512,
  LINE_MAX_BYTES = 1024,
  HELLO_MAX = 2048,
  GARBAGE_BYTES = 4096,
  CLIENTS_MAX = 60000,
};
#define TICK_NS 10000000u /* at most */
#define TICK_MIN_NS 1000000u
#define HALF_OPEN_SHARE 64        /* of the half-open ones are looked at in each tick: there are many, and it does not matter when they go */
#define PAUSE_NS 100000000u       /* between two connections of a client */
#define PATIENCE_NS 5000000000u   /* with a relay that does not answer to a renegotiation */
#define LOOPBACK_BASE 0x7f4d0000u /* 127.77.0.0/16: where they come from, each time from another address */

struct settings {
  const char *to;
  uint64_t count[KINDS];
  uint64_t rate, hold_ns, every_ns, duration_ns;
  unsigned tls;
  bool json;
};

struct peer {
  enum kind kind;
  enum step step;
  int fd;
  uint64_t next_ns; /* when there is something to do, of itself */
  SSL *ssl;
  bool asked;      /* to renegotiate */
  bool answered;   /* the relay has done its part of a handshake that is left half open */
  unsigned turn;   /* how often it has done its thing */
  size_t line_len; /* of replies in the clear */
  char line[LINE_MAX_BYTES];
};

struct tally {
  uint64_t attacks;   /* begun: connected, and as far as TLS */
  uint64_t refused;   /* not taken: no connection, or ended before TLS */
  uint64_t ended;     /* by the relay */
  uint64_t asked;     /* for a renegotiation */
  uint64_t succeeded; /* handshakes done; renegotiations agreed to */
};

struct hostile {
  struct settings settings;
  struct endpoint to;
  SSL_CTX *ctx, *ctx12;
  uint8_t hello[HELLO_MAX];
  size_t hello_len;
  struct peer *peers;
  uint32_t count, first[KINDS + 1];
  uint32_t *out; /* a ring of those that are to connect, by time */
  uint32_t out_begin, out_count;
  int epoll;
  uint64_t held, held_max; /* half open now */
  bool full;               /* all of them have been */
  double allowed;          /* connections that may be made now */
  uint64_t allowed_ns;     /* as of then */
  uint64_t started_ns;
  struct tally tally[KINDS];
};

/* ---- the start ---- */

static void read_arguments(struct settings *s, int argc, char **argv) {
  const struct option table[] = {
      {NULL, OPTION_TITLE, NULL, NULL, "Where, how fast", NULL},
      {"to", OPTION_TEXT, &s->to, "HOST:PORT", "the relay (default 127.0.0.1:2525)", NULL},
      {"tls", OPTION_CHOICE, &s->tls, NULL, "how it is come by (default starttls)", "starttls|implicit"},
      {"rate", OPTION_COUNT, &s->rate, "N", "connections a second at most, all together, once all half-open ones are there (default 500)", NULL},
      {"duration", OPTION_DURATION, &s->duration_ns, "TIME", "for how long (default: until SIGTERM)", NULL},
      {NULL, OPTION_TITLE, NULL, NULL, "Who, so many at once (default 0)", NULL},
      {"half-open", OPTION_COUNT, &s->count[HALF_OPEN], "N", "say ClientHello, then nothing", NULL},
      {"dribble", OPTION_COUNT, &s->count[DRIBBLE], "N", "do the whole handshake, a byte at a time", NULL},
      {"garbage", OPTION_COUNT, &s->count[GARBAGE], "N", "send bytes at random, records of them, a ClientHello with a byte that is wrong", NULL},
      {"vanish", OPTION_COUNT, &s->count[VANISH], "N", "reset the connection in the middle of the ClientHello, or behind it", NULL},
      {"renegotiate", OPTION_COUNT, &s->count[RENEGOTIATE], "N", "do a handshake of TLS 1.2, then ask for another one in it", NULL},
      {NULL, OPTION_TITLE, NULL, NULL, "How", NULL},
      {"hold", OPTION_DURATION, &s->hold_ns, "TIME", "a half-open one goes after that at the latest, and another comes (default 30s)", NULL},
      {"every", OPTION_DURATION, &s->every_ns, "TIME", "between two bytes of --dribble, 1ms at least (default 20ms)", NULL},
      {"json", OPTION_FLAG, &s->json, NULL, "report as JSON", NULL},
  };
  const struct option_usage usage = {
      "hostile", "[--to HOST:PORT] [OPTION]...", "Clients that attack a relay's TLS, while `source` sends good mail and measures what it suffers.",
      "Against a relay on the loopback interface each connection comes from another address, of 127.77.0.0/16. When one is ended by\n"
      "the relay, or has done its thing, another comes 100 ms later. Prints a line that begins with `ready` on standard error when the\n"
      "relay has answered to all half-open ones; these come as fast as they can until then.\n\n"
      "Exit status: 0 the relay bore it; 1 it could not be attacked at all, or agreed to a renegotiation; 2 wrong usage."};
  options_run(&usage, table, sizeof table / sizeof *table, argc, argv);
}

__attribute__((noreturn)) static void usage_error(const char *option, const char *why) {
  fprintf(stderr, "hostile: --%s: %s (see hostile --help)\n", option, why);
  exit(2);
}

static SSL *ssl_new(SSL_CTX *ctx) {
  SSL *ssl = SSL_new(ctx);
  must(ssl != NULL);
  SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
  SSL_set_connect_state(ssl);
  return ssl;
}

/* One ClientHello does for all that do not go on: it costs them nothing, as it costs an attacker nothing. */
static void make_hello(struct hostile *h) {
  SSL *ssl = ssl_new(h->ctx);
  SSL_do_handshake(ssl);
  int len = BIO_read(SSL_get_wbio(ssl), h->hello, sizeof h->hello);
  must(len > 64);
  h->hello_len = (size_t)len;
  SSL_free(ssl);
}

static void set_up(struct hostile *h) {
  const char *why;
  if (endpoint_parse(&h->to, h->settings.to, &why) < 0) usage_error("to", why);
  uint64_t total = 0;
  for (unsigned k = 0; k < KINDS; k++) {
    if (h->settings.count[k] > CLIENTS_MAX) usage_error("half-open", "and the others: from 1 to 60000 together");
    h->first[k] = (uint32_t)total;
    total += h->settings.count[k];
  }
  if (total < 1 || total > CLIENTS_MAX) usage_error("half-open", "and the others: from 1 to 60000 together");
  if (h->settings.rate < 1) usage_error("rate", "at least 1");
  if (total + 32 > process_raise_files()) usage_error("half-open", "and the others: more than the limit of open files allows (ulimit -n)");
  h->count = h->first[KINDS] = (uint32_t)total;
  h->ctx = SSL_CTX_new(TLS_client_method());
  h->ctx12 = SSL_CTX_new(TLS_client_method());
  must(h->ctx != NULL && h->ctx12 != NULL && SSL_CTX_set_max_proto_version(h->ctx12, TLS1_2_VERSION) == 1);
  SSL_CTX_set_options(h->ctx12, SSL_OP_LEGACY_SERVER_CONNECT | SSL_OP_ALLOW_UNSAFE_LEGACY_RENEGOTIATION); /* be it ever so old */
  make_hello(h);
  h->peers = calloc(h->count, sizeof *h->peers);
  h->out = calloc(h->count, sizeof *h->out);
  h->epoll = epoll_create1(EPOLL_CLOEXEC);
  must(h->peers != NULL && h->out != NULL && h->epoll >= 0);
  h->started_ns = h->allowed_ns = process_now_ns();
  for (unsigned k = 0; k < KINDS; k++) {
    for (uint32_t i = h->first[k]; i < h->first[k + 1]; i++) {
      h->peers[i].kind = k;
      h->out[h->out_count++] = i;
    }
  }
}

/* ---- a client ---- */

static void end(struct hostile *h, struct peer *p) {
  if (p->answered) h->held--;
  p->answered = false;
  if (p->fd >= 0) close(p->fd);
  SSL_free(p->ssl);
  p->ssl = NULL;
  p->step = STEP_OUT;
  p->next_ns = process_now_ns() + PAUSE_NS;
  h->out[(h->out_begin + h->out_count++) % h->count] = (uint32_t)(p - h->peers);
}

static void ended_by_relay(struct hostile *h, struct peer *p) {
  struct tally *tally = &h->tally[p->kind];
  *(p->step == STEP_ATTACK ? &tally->ended : &tally->refused) += 1;
  end(h, p);
}

/* A reset: nothing of it stays, here or there. */
static void vanish(struct hostile *h, struct peer *p) {
  struct linger linger = {.l_onoff = 1};
  setsockopt(p->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
  end(h, p);
}

/* All of what is sent here fits into an empty socket. */
static void say(const struct peer *p, const void *bytes, size_t len) { (void)!send(p->fd, bytes, len, MSG_NOSIGNAL); }

static void say_ssl(const struct peer *p) {
  uint8_t room[8192];
  for (int n; (n = BIO_read(SSL_get_wbio(p->ssl), room, sizeof room)) > 0;) say(p, room, (size_t)n);
}

static void say_garbage(const struct hostile *h, struct peer *p) {
  uint8_t bytes[GARBAGE_BYTES];
  size_t len = sizeof bytes;
  must(RAND_bytes(bytes, sizeof bytes) == 1);
  switch (p->turn % 4) {
  case 0: break;
  case 1: /* a handshake record that is none inside */
  case 2: /* ... and one with content, before there are keys */
    memcpy(bytes, p->turn % 4 == 1 ? "\x16\x03\x01\x0f\xfb" : "\x17\x03\x03\x0f\xfb", 5);
    break;
  case 3: {
    uint8_t wrong = bytes[0];
    size_t at = 5 + (bytes[1] | (size_t)bytes[2] << 8) % (h->hello_len - 5);
    memcpy(bytes, h->hello, h->hello_len);
    bytes[at] ^= wrong | 1;
    len = h->hello_len;
    break;
  }
  }
  say(p, bytes, len);
}

static void attack(struct hostile *h, struct peer *p) {
  p->step = STEP_ATTACK;
  p->asked = false;
  h->tally[p->kind].attacks++;
  p->next_ns = process_now_ns();
  switch (p->kind) {
  case HALF_OPEN:
    say(p, h->hello, h->hello_len);
    p->next_ns = h->full ? p->next_ns + h->settings.hold_ns : UINT64_MAX;
    break;
  case DRIBBLE:
  case RENEGOTIATE:
    p->ssl = ssl_new(p->kind == DRIBBLE ? h->ctx : h->ctx12);
    p->next_ns += p->kind == DRIBBLE ? 0 : PATIENCE_NS;
    SSL_do_handshake(p->ssl);
    if (p->kind == RENEGOTIATE) say_ssl(p);
    break;
  case GARBAGE:
    say_garbage(h, p);
    p->next_ns += PATIENCE_NS;
    break;
  case VANISH:
    say(p, h->hello, p->turn % 2 == 0 ? h->hello_len / 2 : h->hello_len);
    p->turn++;
    vanish(h, p);
    return;
  case KINDS: break;
  }
  p->turn++;
}

static void connect_one(struct hostile *h, struct peer *p) {
  p->fd = endpoint_socket(&h->to);
  p->line_len = 0;
  p->step = STEP_CONNECTING;
  const struct sockaddr_in *to = (const struct sockaddr_in *)&h->to.address;
  if (p->fd >= 0 && to->sin_family == AF_INET && ntohl(to->sin_addr.s_addr) >> 24 == 127) {
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(LOOPBACK_BASE + 1 + (uint32_t)(process_random() % 65000))};
    setsockopt(p->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &(int){1}, sizeof(int));
    (void)!bind(p->fd, (const struct sockaddr *)&from, sizeof from); /* or from the usual one */
  }
  struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.u32 = (uint32_t)(p - h->peers)};
  bool fine = p->fd >= 0 && fcntl(p->fd, F_SETFL, O_NONBLOCK) == 0;
  fine = fine && (connect(p->fd, (const struct sockaddr *)&h->to.address, h->to.length) == 0 || errno == EINPROGRESS);
  if (!fine || epoll_ctl(h->epoll, EPOLL_CTL_ADD, p->fd, &event) < 0) ended_by_relay(h, p);
}

static void on_connected(struct hostile *h, struct peer *p) {
  int error = 0;
  socklen_t len = sizeof error;
  struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)(p - h->peers)};
  if (getsockopt(p->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0 || error != 0 || epoll_ctl(h->epoll, EPOLL_CTL_MOD, p->fd, &event) < 0) {
    ended_by_relay(h, p);
  } else if (h->settings.tls == TLS_IMPLICIT) {
    attack(h, p);
  } else {
    p->step = STEP_GREETING;
  }
}

/* True: a whole reply is there, and its code is this. */
static bool replied(struct peer *p, const char *code) {
  if (p->line_len < 5 || p->line[p->line_len - 1] != '\n') return false;
  p->line[p->line_len - 1] = '\0';
  const char *last = strrchr(p->line, '\n');
  last = last != NULL ? last + 1 : p->line;
  p->line[p->line_len - 1] = '\n';
  return strncmp(last, code, 3) == 0 && last[3] == ' ';
}

static void in_the_clear(struct hostile *h, struct peer *p) {
  ssize_t n = recv(p->fd, p->line + p->line_len, sizeof p->line - 1 - p->line_len, MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n <= 0) {
    ended_by_relay(h, p);
    return;
  }
  p->line_len += (size_t)n;
  if (!replied(p, p->step == STEP_EHLO ? "250" : "220")) return;
  p->line_len = 0;
  if (p->step == STEP_STARTTLS) {
    attack(h, p);
    return;
  }
  const char *next = p->step == STEP_GREETING ? "EHLO hostile.test\r\n" : "STARTTLS\r\n";
  say(p, next, strlen(next));
  p->step++;
}

/* The bytes that came go to libssl, and what it has to say goes out: but of one that dribbles. */
static void go_on(struct hostile *h, struct peer *p, const uint8_t *bytes, size_t len) {
  char room[1024];
  BIO_write(SSL_get_rbio(p->ssl), bytes, (int)len);
  bool shaken = SSL_do_handshake(p->ssl) == 1;
  if (p->kind == DRIBBLE) return;
  if (shaken && !p->asked) {
    p->asked = true;
    h->tally[RENEGOTIATE].asked++;
    SSL_renegotiate(p->ssl);
    SSL_do_handshake(p->ssl);
  } else if (p->asked) {
    (void)SSL_read(p->ssl, room, sizeof room);
    if (SSL_num_renegotiations(p->ssl) > 0 && !SSL_renegotiate_pending(p->ssl) && SSL_is_init_finished(p->ssl)) h->tally[RENEGOTIATE].succeeded++;
  }
  say_ssl(p);
}

static void in_attack(struct hostile *h, struct peer *p) {
  uint8_t room[16384];
  ssize_t n = recv(p->fd, room, sizeof room, MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n <= 0) {
    ended_by_relay(h, p);
  } else if (p->ssl != NULL) {
    go_on(h, p, room, (size_t)n);
  } else if (p->kind == HALF_OPEN && !p->answered) {
    p->answered = true;
    if (++h->held > h->held_max) h->held_max = h->held;
  }
}

/* ---- the loop ---- */

static void on_event(struct hostile *h, struct peer *p) {
  switch (p->step) {
  case STEP_OUT: break; /* it ended in this very turn */
  case STEP_CONNECTING: on_connected(h, p); break;
  case STEP_GREETING:
  case STEP_EHLO:
  case STEP_STARTTLS: in_the_clear(h, p); break;
  case STEP_ATTACK: in_attack(h, p); break;
  }
}

static void dribble(struct hostile *h, struct peer *p, uint64_t now_ns) {
  uint8_t byte;
  p->next_ns = now_ns + h->settings.every_ns;
  if (BIO_read(SSL_get_wbio(p->ssl), &byte, 1) == 1) {
    say(p, &byte, 1);
  } else if (SSL_is_init_finished(p->ssl)) {
    h->tally[DRIBBLE].succeeded++;
    end(h, p);
  }
}

static void on_time(struct hostile *h, struct peer *p, uint64_t now_ns) {
  if (p->step != STEP_ATTACK || now_ns < p->next_ns) return;
  if (p->kind == DRIBBLE) {
    dribble(h, p, now_ns);
  } else {
    end(h, p);
  }
}

static bool may_connect(struct hostile *h, uint64_t now_ns) {
  if (!h->full && h->settings.count[HALF_OPEN] > 0) return true;
  double most = (double)h->settings.rate * 0.05; /* at once, after a rest */
  h->allowed += (double)(now_ns - h->allowed_ns) / 1e9 * (double)h->settings.rate;
  h->allowed_ns = now_ns;
  if (h->allowed > most + 1) h->allowed = most + 1;
  return h->allowed >= 1;
}

enum { CONNECTS_AT_ONCE = 64 }; /* a listener's queue is not without end */

static void connect_due(struct hostile *h) {
  uint64_t now_ns = process_now_ns();
  for (unsigned i = 0; i < CONNECTS_AT_ONCE && h->out_count > 0; i++) {
    struct peer *p = &h->peers[h->out[h->out_begin]];
    if (p->next_ns > now_ns || !may_connect(h, now_ns)) return;
    h->allowed -= 1;
    h->out_begin = (h->out_begin + 1) % h->count;
    h->out_count--;
    connect_one(h, p);
  }
}

/* Once, when all are there. */
static void say_ready(struct hostile *h) {
  if (h->full || h->held < h->settings.count[HALF_OPEN]) return;
  h->full = true;
  h->allowed = 0;
  h->allowed_ns = process_now_ns();
  for (uint32_t i = h->first[HALF_OPEN]; i < h->first[HALF_OPEN + 1]; i++) /* as if they had come one by one */
    h->peers[i].next_ns = h->allowed_ns + process_random() % (h->settings.hold_ns + 1);
  fprintf(stderr, "ready: %llu half-open handshakes\n", (unsigned long long)h->held);
}

static void run(struct hostile *h) {
  struct epoll_event events[EVENTS];
  uint64_t tick = h->settings.every_ns < TICK_NS ? h->settings.every_ns : TICK_NS;
  if (tick < TICK_MIN_NS) tick = TICK_MIN_NS;
  uint32_t ticks = 0;
  uint64_t end_ns = h->settings.duration_ns > 0 ? h->started_ns + h->settings.duration_ns : UINT64_MAX, tick_ns = h->started_ns;
  for (;;) {
    uint64_t now_ns = process_now_ns();
    int number = now_ns >= tick_ns ? process_wait_signal(0) : 0;
    if (number == SIGINT || number == SIGTERM || now_ns >= end_ns) return;
    connect_due(h);
    int count = epoll_wait(h->epoll, events, EVENTS, (int)(tick / 1000000));
    for (int i = 0; i < count; i++) on_event(h, &h->peers[events[i].data.u32]);
    say_ready(h);
    if (now_ns < tick_ns) continue;
    tick_ns = now_ns + tick;
    for (uint32_t i = ticks++ % HALF_OPEN_SHARE; i < h->first[HALF_OPEN + 1]; i += HALF_OPEN_SHARE) on_time(h, &h->peers[i], now_ns);
    for (uint32_t i = h->first[HALF_OPEN + 1]; i < h->count; i++) on_time(h, &h->peers[i], now_ns);
  }
}

/* True if all is as it should be. */
static bool print_report(const struct hostile *h) {
  static const char *const succeeded[KINDS] = {NULL, "handshakes done", NULL, NULL, "agreed to"};
  struct process_usage usage = process_usage();
  struct report r;
  uint64_t attacks = 0;
  report_begin(&r, stdout, h->settings.json, "hostile");
  report_real(&r, "seconds", "time", (double)(process_now_ns() - h->started_ns) / 1e9, 3, "s");
  report_real(&r, "cpu_seconds", "CPU of this program itself", usage.user_s + usage.system_s, 2, "s");
  report_count(&r, "half_open_max", "half open at most at once", h->held_max, "");
  report_count(&r, "half_open_now", "half open at the end", h->held, "");
  for (unsigned k = 0; k < KINDS; k++) {
    attacks += h->tally[k].attacks;
    if (h->settings.count[k] == 0) continue;
    report_group(&r, kind_names[k], kind_names[k]);
    report_count(&r, "attacks", "attacks", h->tally[k].attacks, "");
    report_count(&r, "refused", "did not come so far", h->tally[k].refused, "");
    report_count(&r, "ended", "ended by the relay", h->tally[k].ended, "");
    if (k == RENEGOTIATE) report_count(&r, "asked", "asked for a renegotiation", h->tally[k].asked, "");
    if (succeeded[k] != NULL) report_count(&r, "succeeded", succeeded[k], h->tally[k].succeeded, "");
    report_group_end(&r);
  }
  report_end(&r);
  return attacks > 0 && h->tally[RENEGOTIATE].succeeded == 0;
}

int main(int argc, char **argv) {
  struct hostile *h = calloc(1, sizeof *h);
  must(h != NULL);
  h->settings = (struct settings){.to = "127.0.0.1:2525", .rate = 500, .hold_ns = 30000000000, .every_ns = 20000000};
  read_arguments(&h->settings, argc, argv);
  process_take_signals();
  set_up(h);
  run(h);
  bool well = print_report(h);
  for (uint32_t i = 0; i < h->count; i++) SSL_free(h->peers[i].ssl);
  SSL_CTX_free(h->ctx);
  SSL_CTX_free(h->ctx12);
  free(h->peers);
  free(h->out);
  free(h);
  return well ? 0 : 1;
}
