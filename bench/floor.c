/*
 * floor: how cheap a mail relay could be on this machine, now. A relay without any protocol: the bytes, round trips and synced writes that a relay
 * needs for each message, over the same kind of ring, and nothing else. What it costs is what the kernel costs; a relay is judged by its distance
 * from that.
 *
 *   generator -> relay -> sink, TCP over loopback; the relay on one processor, generator and sink on another.
 *   --trips 2: envelope and body are sent and answered one after the other, on both sides: 4 receives and 4 sends in the relay.
 *   --trips 1: a body and the next envelope come together, on both sides: 2 and 2.
 *   --durability sync: messages that are complete in the same turn share one write, O_DIRECT and RWF_DSYNC, from an aligned buffer into a file
 *   that was written before; only then their final reply, and only then they are sent on, from that same buffer.
 */
#include "bench/lib/options.h"
#include "bench/lib/process.h"
#include "bench/lib/report.h"
#include "bench/lib/ring.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OP_RECEIVE = 1, OP_SEND, OP_WRITE };
enum {
  /* What SMTP needs: MAIL, RCPT, DATA and their three replies; the final reply; the end of the body. */
  ENVELOPE_SIZE = 120,
  ENVELOPE_REPLY_SIZE = 90,
  FINAL_REPLY_SIZE = 40,
  RECORD_HEADER_SIZE = 192, /* with an envelope in it */
  RECORD_DONE_SIZE = 48,
  ALIGNMENT = 4096,
  RECEIVE_BUFFERS = 512,
  CONNECTIONS_MAX = 8192,
};
#define LOG_SIZE (UINT64_C(256) << 20)
#define TURN_NS 20000000u

enum durability { DURABILITY_SYNC, DURABILITY_NONE };

struct settings {
  uint64_t size, sessions, connections, trips, duration_ns, warmup_ns, relay_cpu, peer_cpu;
  unsigned durability;
  const char *spool;
  bool json;
};

/* Messages whose log records are written together, and the bytes they are sent on from. */
struct batch {
  struct batch *next; /* in the list of free ones */
  uint8_t *bytes;
  size_t len;
  uint32_t live; /* messages not delivered yet */
  uint32_t count;
  struct message {
    uint32_t session;
    size_t body;
  } * messages;
};

struct queued {
  struct batch *batch;
  size_t body;
};

/* One end of a TCP connection: counts bytes until a whole unit has come. */
struct end {
  size_t awaited; /* of the unit that is coming */
  size_t got;
  unsigned step; /* which unit of the message: 0 envelope, 1 body */
  struct queued message;
  uint8_t *staging; /* where a body that comes in pieces is put together */
  struct iovec slices[2];
  struct msghdr header;
};

struct floor {
  struct settings settings;
  int *relay_fds, *peer_fds; /* sessions first, then connections */
  int log;
  bool stop;
  /* measured by the relay thread */
  uint64_t messages, commits, elapsed_ns;
  double user_s, system_s;
};

struct relay {
  struct floor *floor;
  const struct settings *s;
  struct ring ring;
  struct end *ends;
  struct batch *open, *writing, *free;
  size_t batch_size;
  uint64_t log_at;
  struct queued *queue;
  uint32_t queue_begin, queue_count, queue_cap;
  uint32_t *idle; /* connections without a message */
  uint32_t idle_count;
  uint32_t *held; /* sessions whose final reply waits until less is undelivered */
  uint32_t held_count;
  uint64_t undelivered, delivered, commits;
};

static const uint8_t filler[ENVELOPE_SIZE + ENVELOPE_REPLY_SIZE + FINAL_REPLY_SIZE] = {'2', '5', '0'};

__attribute__((noreturn)) static void fail(const char *what, int error) { process_fail("floor", "%s: %s", what, strerror(error)); }

/* ---- sizes of what goes over the wire ---- */

static size_t body_size(const struct settings *s) { return s->size + 5; /* CRLF . CRLF */ }
static size_t unit_size(const struct settings *s, unsigned step) {
  if (s->trips == 1) return ENVELOPE_SIZE + body_size(s);
  return step == 0 ? ENVELOPE_SIZE : body_size(s);
}
static size_t reply_size(const struct settings *s, unsigned step) {
  if (s->trips == 1) return ENVELOPE_REPLY_SIZE + FINAL_REPLY_SIZE;
  return step == 0 ? ENVELOPE_REPLY_SIZE : FINAL_REPLY_SIZE;
}
static unsigned last_step(const struct settings *s) { return s->trips == 1 ? 0 : 1; }

/* ---- sending: completions are wanted for failures only ---- */

static void quiet_send(struct ring *ring, uint32_t slot, const void *at, size_t len) {
  struct io_uring_sqe *sqe = ring_entry(ring);
  io_uring_prep_send(sqe, (int)slot, at, len, MSG_NOSIGNAL | MSG_WAITALL);
  sqe->flags |= IOSQE_FIXED_FILE | IOSQE_CQE_SKIP_SUCCESS;
  ring_token(sqe, OP_SEND, slot);
}

static void quiet_send_slices(struct ring *ring, uint32_t slot, struct end *end) {
  struct io_uring_sqe *sqe = ring_entry(ring);
  end->header = (struct msghdr){.msg_iov = end->slices, .msg_iovlen = 2};
  io_uring_prep_sendmsg(sqe, (int)slot, &end->header, MSG_NOSIGNAL | MSG_WAITALL);
  sqe->flags |= IOSQE_FIXED_FILE | IOSQE_CQE_SKIP_SUCCESS;
  ring_token(sqe, OP_SEND, slot);
}

/* ---- the relay: batches ---- */

static size_t record_size(const struct settings *s) { return (RECORD_HEADER_SIZE + body_size(s) + 63) / 64 * 64; }

static struct batch *batch_get(struct relay *r) {
  struct batch *batch = r->free;
  if (batch != NULL) {
    r->free = batch->next;
  } else {
    batch = calloc(1, sizeof *batch);
    must(batch != NULL);
    batch->bytes = aligned_alloc(ALIGNMENT, r->batch_size);
    batch->messages = calloc(r->s->sessions, sizeof *batch->messages);
    must(batch->bytes != NULL && batch->messages != NULL);
    memset(batch->bytes, 0, r->batch_size);
  }
  batch->len = batch->count = batch->live = 0;
  return batch;
}

static void batch_put(struct relay *r, struct batch *batch) {
  batch->next = r->free;
  r->free = batch;
}

/* A whole message is there: into the log's next group. The only copy of its bytes, if they came in one piece. */
static void log_message(struct relay *r, uint32_t session, struct span body) {
  struct batch *batch = r->open;
  must(batch->len + record_size(r->s) <= r->batch_size);
  size_t at = batch->len + RECORD_HEADER_SIZE;
  memcpy(batch->bytes + at, body.at, body.len);
  batch->messages[batch->count++] = (struct message){session, at};
  batch->live++;
  batch->len += record_size(r->s);
}

static void deliver(struct relay *r, uint32_t connection, struct queued message);

static void reply_final(struct relay *r, uint32_t session) {
  struct end *end = &r->ends[session];
  end->step = 0;
  quiet_send(&r->ring, session, filler, reply_size(r->s, last_step(r->s)));
}

/* What is safe gets its reply, unless too much is undelivered: then the sessions wait, so that both sides keep the same pace. */
static void batch_committed(struct relay *r, struct batch *batch) {
  r->commits++;
  for (uint32_t i = 0; i < batch->count; i++) {
    struct queued message = {batch, batch->messages[i].body};
    if (r->undelivered++ < 4 * r->s->connections) {
      reply_final(r, batch->messages[i].session);
    } else {
      r->held[r->held_count++] = batch->messages[i].session;
    }
    if (r->idle_count > 0) {
      deliver(r, r->idle[--r->idle_count], message);
    } else {
      must(r->queue_count < r->queue_cap);
      r->queue[(r->queue_begin + r->queue_count++) % r->queue_cap] = message;
    }
  }
  if (batch->live == 0) batch_put(r, batch);
}

static void commit(struct relay *r) {
  struct batch *batch = r->open;
  if (batch->len == 0 || r->writing != NULL) return;
  r->open = batch_get(r);
  if (r->s->durability == DURABILITY_NONE) {
    batch_committed(r, batch);
    return;
  }
  size_t len = (batch->len + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  if (r->log_at + len > LOG_SIZE) r->log_at = 0;
  struct io_uring_sqe *sqe = ring_entry(&r->ring);
  io_uring_prep_write(sqe, r->floor->log, batch->bytes, (unsigned)len, r->log_at);
  sqe->rw_flags = RWF_DSYNC;
  ring_token(sqe, OP_WRITE, (uint32_t)len);
  r->log_at += len;
  r->writing = batch;
}

static void on_write(struct relay *r, const struct ring_event *event) {
  if (event->result < 0) fail("log", -event->result);
  if ((uint32_t)event->result != event->index) process_fail("floor", "log: short write");
  struct batch *batch = r->writing;
  r->writing = NULL;
  batch_committed(r, batch);
}

/* ---- the relay: in and out ---- */

static void deliver(struct relay *r, uint32_t connection, struct queued message) {
  struct end *end = &r->ends[connection];
  end->message = message;
  end->step = 0;
  end->awaited = reply_size(r->s, 0);
  if (r->s->trips == 2) {
    quiet_send(&r->ring, connection, filler, ENVELOPE_SIZE);
    return;
  }
  end->slices[0] = (struct iovec){message.batch->bytes + message.body, body_size(r->s)};
  end->slices[1] = (struct iovec){(void *)(uintptr_t)filler, ENVELOPE_SIZE};
  quiet_send_slices(&r->ring, connection, end);
}

static void delivered(struct relay *r, uint32_t connection) {
  struct batch *batch = r->ends[connection].message.batch;
  if (--batch->live == 0 && batch != r->open && batch != r->writing) batch_put(r, batch);
  if (r->open->len + RECORD_DONE_SIZE <= r->batch_size) r->open->len += RECORD_DONE_SIZE; /* the outcome, in the next group */
  r->delivered++;
  r->undelivered--;
  if (r->held_count > 0) reply_final(r, r->held[--r->held_count]);
  if (r->queue_count == 0) {
    r->idle[r->idle_count++] = connection;
    return;
  }
  struct queued message = r->queue[r->queue_begin];
  r->queue_begin = (r->queue_begin + 1) % r->queue_cap;
  r->queue_count--;
  deliver(r, connection, message);
}

/* A reply of the sink, whole. */
static void on_reply(struct relay *r, uint32_t connection) {
  struct end *end = &r->ends[connection];
  if (end->step == last_step(r->s)) {
    delivered(r, connection);
    return;
  }
  end->step = 1;
  end->awaited = reply_size(r->s, 1);
  quiet_send(&r->ring, connection, end->message.batch->bytes + end->message.body, body_size(r->s));
}

/* A unit of the generator, whole. */
static void on_unit(struct relay *r, uint32_t session, struct span unit) {
  struct end *end = &r->ends[session];
  if (end->step == last_step(r->s)) {
    log_message(r, session, span_first(unit, body_size(r->s)));
    end->awaited = unit_size(r->s, 0);
    return;
  }
  end->step = 1;
  end->awaited = unit_size(r->s, 1);
  quiet_send(&r->ring, session, filler, reply_size(r->s, 0));
}

static void on_bytes(struct relay *r, uint32_t index, struct span bytes) {
  struct end *end = &r->ends[index];
  bool session = index < r->s->sessions;
  if (session && (end->got > 0 || bytes.len < end->awaited)) {
    memcpy(end->staging + end->got, bytes.at, bytes.len);
    bytes = span_of(end->staging, end->got + bytes.len);
  }
  end->got = session ? bytes.len : end->got + bytes.len;
  must(end->got <= end->awaited);
  if (end->got < end->awaited) return;
  end->got = 0;
  if (session) {
    on_unit(r, index, bytes);
  } else {
    on_reply(r, index);
  }
}

static void relay_event(struct relay *r, const struct ring_event *event) {
  if (event->operation == OP_WRITE) {
    on_write(r, event);
    return;
  }
  if (event->operation == OP_SEND) fail("send", -event->result);
  if (event->result > 0) on_bytes(r, event->index, ring_bytes(&r->ring, event));
  ring_give_back(&r->ring, event);
  if (event->result <= 0 && event->result != -ENOBUFS && !__atomic_load_n(&r->floor->stop, __ATOMIC_RELAXED)) fail("receive", -event->result);
  if ((event->flags & IORING_CQE_F_MORE) == 0) ring_receive(&r->ring, event->index, OP_RECEIVE, event->index);
}

static uint64_t power_of_two(uint64_t at_least) {
  uint64_t power = 64;
  while (power < at_least) power *= 2;
  return power;
}

/* So large that a whole body can come in one piece. */
static void open_ring(struct ring *ring, const struct settings *s, const int *fds) {
  const char *why;
  uint64_t buffer_size = power_of_two(unit_size(s, last_step(s)) < 65536 ? unit_size(s, last_step(s)) : 65536);
  struct ring_options options = {(unsigned)(s->sessions + s->connections), RECEIVE_BUFFERS, (unsigned)buffer_size};
  int result = ring_open(ring, &options, &why);
  if (result < 0) fail(why, -result);
  for (unsigned i = 0; i < s->sessions + s->connections; i++) {
    result = ring_adopt(ring, i, fds[i]);
    if (result < 0) fail("fixed files", -result);
    ring_receive(ring, i, OP_RECEIVE, i);
  }
}

static void relay_open(struct relay *r) {
  const struct settings *s = r->s;
  open_ring(&r->ring, s, r->floor->relay_fds);
  r->batch_size = (s->sessions * record_size(s) + (s->sessions + 5 * s->connections) * RECORD_DONE_SIZE + ALIGNMENT) / ALIGNMENT * ALIGNMENT;
  r->queue_cap = (uint32_t)(s->sessions + 5 * s->connections + 1);
  r->ends = calloc(s->sessions + s->connections, sizeof *r->ends);
  r->queue = calloc(r->queue_cap, sizeof *r->queue);
  r->idle = calloc(s->connections, sizeof *r->idle);
  r->held = calloc(s->sessions, sizeof *r->held);
  must(r->ends != NULL && r->queue != NULL && r->idle != NULL && r->held != NULL);
  r->open = batch_get(r);
  for (uint32_t i = 0; i < s->sessions; i++) {
    r->ends[i].awaited = unit_size(s, 0);
    r->ends[i].staging = malloc(unit_size(s, 0) + body_size(s));
    must(r->ends[i].staging != NULL);
  }
  for (uint32_t i = 0; i < s->connections; i++) r->idle[r->idle_count++] = (uint32_t)s->sessions + i;
}

static void free_batches(struct batch *batch) {
  while (batch != NULL) {
    struct batch *next = batch->next;
    free(batch->bytes);
    free(batch->messages);
    free(batch);
    batch = next;
  }
}

/* Batches with messages on their way are found through those; each is put among the free ones once. */
static void relay_close(struct relay *r) {
  ring_close(&r->ring);
  for (uint32_t i = 0; i < r->s->connections; i++) {
    struct batch *batch = r->ends[r->s->sessions + i].message.batch;
    bool waits = true;
    for (uint32_t k = 0; k < r->idle_count; k++) waits = waits && r->idle[k] != r->s->sessions + i;
    if (waits && --batch->live == 0) batch_put(r, batch);
  }
  for (uint32_t i = 0; i < r->queue_count; i++) {
    struct batch *batch = r->queue[(r->queue_begin + i) % r->queue_cap].batch;
    if (--batch->live == 0) batch_put(r, batch);
  }
  batch_put(r, r->open);
  if (r->writing != NULL) batch_put(r, r->writing);
  free_batches(r->free);
  for (uint32_t i = 0; i < r->s->sessions; i++) free(r->ends[i].staging);
  free(r->ends);
  free(r->queue);
  free(r->idle);
  free(r->held);
}

static void *relay_run(void *context) {
  struct relay r = {.floor = context, .s = &((struct floor *)context)->settings};
  process_pin((unsigned)r.s->relay_cpu);
  relay_open(&r);
  struct process_usage usage = {0};
  uint64_t delivered_before = 0, commits_before = 0, from_ns = 0, begin_ns = process_now_ns() + r.s->warmup_ns;
  for (;;) {
    uint64_t now_ns = process_now_ns();
    if (from_ns == 0 && now_ns >= begin_ns) {
      usage = process_thread_usage();
      from_ns = now_ns;
      delivered_before = r.delivered;
      commits_before = r.commits;
    }
    if (from_ns > 0 && now_ns >= from_ns + r.s->duration_ns) break;
    unsigned count = ring_wait(&r.ring, now_ns + TURN_NS);
    for (unsigned i = 0; i < count; i++) relay_event(&r, &r.ring.events[i]);
    commit(&r);
  }
  struct process_usage after = process_thread_usage();
  r.floor->elapsed_ns = process_now_ns() - from_ns;
  r.floor->messages = r.delivered - delivered_before;
  r.floor->commits = r.commits - commits_before;
  r.floor->user_s = after.user_s - usage.user_s;
  r.floor->system_s = after.system_s - usage.system_s;
  __atomic_store_n(&r.floor->stop, true, __ATOMIC_RELAXED);
  relay_close(&r);
  return NULL;
}

/* ---- generator and sink ---- */

struct peer {
  const struct settings *s;
  struct ring ring;
  struct end *ends;
  const uint8_t *unit; /* bytes to send, as many as the largest */
};

static void peer_event(struct peer *p, const struct ring_event *event) {
  uint32_t index = event->index;
  struct end *end = &p->ends[index];
  bool generator = index < p->s->sessions;
  if (event->result > 0) end->got += (size_t)event->result;
  ring_give_back(&p->ring, event);
  if (event->result <= 0 && event->result != -ENOBUFS) return; /* the relay has ended */
  if ((event->flags & IORING_CQE_F_MORE) == 0) ring_receive(&p->ring, index, OP_RECEIVE, index);
  if (end->got < end->awaited) return;
  end->got -= end->awaited;
  unsigned answered = end->step;
  end->step = answered == last_step(p->s) ? 0 : 1;
  end->awaited = generator ? reply_size(p->s, end->step) : unit_size(p->s, end->step);
  quiet_send(&p->ring, index, p->unit, generator ? unit_size(p->s, end->step) : reply_size(p->s, answered));
}

static void *peer_run(void *context) {
  struct floor *floor = context;
  const struct settings *s = &floor->settings;
  struct peer p = {.s = s, .ends = calloc(s->sessions + s->connections, sizeof(struct end))};
  uint8_t *unit = calloc(1, unit_size(s, 0) + body_size(s));
  must(p.ends != NULL && unit != NULL);
  p.unit = unit;
  process_pin((unsigned)s->peer_cpu);
  open_ring(&p.ring, s, floor->peer_fds);
  for (uint32_t i = 0; i < s->sessions + s->connections; i++) {
    bool generator = i < s->sessions;
    p.ends[i].awaited = generator ? reply_size(s, 0) : unit_size(s, 0);
    if (generator) quiet_send(&p.ring, i, unit, unit_size(s, 0));
  }
  while (!__atomic_load_n(&floor->stop, __ATOMIC_RELAXED)) {
    unsigned count = ring_wait(&p.ring, process_now_ns() + TURN_NS);
    for (unsigned i = 0; i < count; i++) {
      bool failed = p.ring.events[i].operation == OP_SEND;
      if (failed && !__atomic_load_n(&floor->stop, __ATOMIC_RELAXED)) fail("send", -p.ring.events[i].result);
      if (!failed) peer_event(&p, &p.ring.events[i]);
    }
  }
  ring_close(&p.ring);
  free(p.ends);
  free(unit);
  return NULL;
}

/* ---- the start ---- */

/* Pairs of connected sockets: relay_fds[i] with peer_fds[i]. */
static void open_pairs(struct floor *floor) {
  uint64_t count = floor->settings.sessions + floor->settings.connections;
  struct endpoint here;
  const char *why;
  must(endpoint_parse(&here, "127.0.0.1:0", &why) == 0);
  int listener = endpoint_listen(&here, ENDPOINT_LOOPBACK);
  if (listener < 0) fail("listen", -listener);
  getsockname(listener, (struct sockaddr *)&here.address, &here.length);
  floor->relay_fds = calloc(count, sizeof(int));
  floor->peer_fds = calloc(count, sizeof(int));
  must(floor->relay_fds != NULL && floor->peer_fds != NULL);
  for (uint64_t i = 0; i < count; i++) {
    int fd = endpoint_socket(&here);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&here.address, here.length) < 0) fail("connect", errno);
    floor->peer_fds[i] = fd;
    floor->relay_fds[i] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (floor->relay_fds[i] < 0) fail("accept", errno);
  }
  close(listener);
}

/* A file of written blocks, as a recycled segment is: overwriting it needs no change of the file system's own data. */
static int open_log(const char *directory) {
  enum { PIECE = 1 << 20 };
  char path[4096];
  snprintf(path, sizeof path, "%s/floor.%d.log", directory, (int)getpid());
  int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_DIRECT | O_CLOEXEC, 0600);
  if (fd < 0 && errno == EINVAL) process_fail("floor", "%s: no O_DIRECT there: name another --spool, or --durability none", directory);
  if (fd < 0) fail(path, errno);
  unlink(path);
  void *zeros = aligned_alloc(ALIGNMENT, PIECE);
  must(zeros != NULL);
  memset(zeros, 0, PIECE);
  for (uint64_t at = 0; at < LOG_SIZE; at += PIECE) {
    if (pwrite(fd, zeros, PIECE, (off_t)at) != PIECE) fail("writing the log file", errno);
  }
  free(zeros);
  if (fsync(fd) < 0) fail("fsync", errno);
  return fd;
}

static void read_arguments(struct settings *s, int argc, char **argv) {
  const struct option table[] = {
      {"size", OPTION_SIZE, &s->size, "BYTES", "of a message (default 4KiB)", NULL},
      {"sessions", OPTION_COUNT, &s->sessions, "N", "connections into the relay (default 100)", NULL},
      {"connections", OPTION_COUNT, &s->connections, "N", "connections out of it (default 100)", NULL},
      {"trips", OPTION_COUNT, &s->trips, "1|2", "round trips for a message, on each side (default 2)", NULL},
      {"durability", OPTION_CHOICE, &s->durability, NULL, "is a message written and synced before its final reply (default sync)", "sync|none"},
      {"spool", OPTION_TEXT, &s->spool, "DIRECTORY", "where the log is written, 256 MiB (default .)", NULL},
      {"duration", OPTION_DURATION, &s->duration_ns, "TIME", "measured (default 3s)", NULL},
      {"warmup", OPTION_DURATION, &s->warmup_ns, "TIME", "before that (default 500ms)", NULL},
      {"relay-cpu", OPTION_COUNT, &s->relay_cpu, "N", "processor of the relay's thread (default 0)", NULL},
      {"peer-cpu", OPTION_COUNT, &s->peer_cpu, "N", "processor of generator and sink (default 1)", NULL},
      {"json", OPTION_FLAG, &s->json, NULL, "report as JSON", NULL},
  };
  const struct option_usage usage = {
      "floor", "[OPTION]...",
      "Measures what the kernel alone costs a mail relay for each message on this machine: the same bytes, round trips and synced\n"
      "writes as a relay needs, with no protocol. The figure to hold a relay's CPU time per message against, measured in the same\n"
      "minute.",
      "CPU time is of the relay's thread (getrusage); kernel threads that serve the disk are not in it.\n"
      "Exit status: 0; 1 failure; 2 wrong usage."};
  options_run(&usage, table, sizeof table / sizeof *table, argc, argv);
}

static void need(const char *option, bool fine, const char *why) {
  if (fine) return;
  fprintf(stderr, "floor: --%s: %s (see floor --help)\n", option, why);
  exit(2);
}

static void print_report(const struct floor *f) {
  const struct settings *s = &f->settings;
  double seconds = (double)f->elapsed_ns / 1e9, messages = f->messages > 0 ? (double)f->messages : 1;
  struct report r;
  report_begin(&r, stdout, s->json, "floor");
  report_count(&r, "size", "size of a message", s->size, "bytes");
  report_count(&r, "trips", "round trips on each side", s->trips, "");
  report_count(&r, "sessions", "connections in", s->sessions, "");
  report_count(&r, "connections", "connections out", s->connections, "");
  report_text(&r, "durability", "durability", s->durability == DURABILITY_SYNC ? "sync" : "none");
  report_real(&r, "seconds", "time", seconds, 3, "s");
  report_count(&r, "messages", "messages", f->messages, "");
  report_real(&r, "messages_per_second", "rate", (double)f->messages / seconds, 0, "messages/s");
  report_real(&r, "cpu_us_per_message", "CPU of the relay's thread", (f->user_s + f->system_s) * 1e6 / messages, 2, "us/message");
  report_real(&r, "cpu_user_us_per_message", "of it user", f->user_s * 1e6 / messages, 2, "us/message");
  report_real(&r, "cpu_system_us_per_message", "of it system", f->system_s * 1e6 / messages, 2, "us/message");
  report_real(&r, "busy", "busy", (f->user_s + f->system_s) / seconds, 3, "of the processor");
  report_real(&r, "messages_per_commit", "messages in a commit", f->commits > 0 ? (double)f->messages / (double)f->commits : 0, 1, "");
  report_end(&r);
}

int main(int argc, char **argv) {
  struct floor floor = {.settings = {.size = 4096,
                                     .sessions = 100,
                                     .connections = 100,
                                     .trips = 2,
                                     .duration_ns = 3000000000,
                                     .warmup_ns = 500000000,
                                     .peer_cpu = 1,
                                     .spool = "."},
                        .log = -1};
  struct settings *s = &floor.settings;
  read_arguments(s, argc, argv);
  need("trips", s->trips == 1 || s->trips == 2, "1 or 2");
  need("size", s->size >= 1 && s->size <= 16 << 20, "from 1 to 16MiB");
  need("sessions", s->sessions >= 1 && s->sessions <= CONNECTIONS_MAX, "from 1 to 8192");
  need("connections", s->connections >= 1 && s->connections <= CONNECTIONS_MAX, "from 1 to 8192");
  need("duration", s->duration_ns > 0, "more than 0");
  need("sessions", 2 * (s->sessions + s->connections) + 32 < process_raise_files(), "more than the limit of open files allows (ulimit -n)");
  if (s->durability == DURABILITY_SYNC) floor.log = open_log(s->spool);
  open_pairs(&floor);
  pthread_t relay, peer;
  must(pthread_create(&relay, NULL, relay_run, &floor) == 0);
  must(pthread_create(&peer, NULL, peer_run, &floor) == 0);
  pthread_join(relay, NULL);
  pthread_join(peer, NULL);
  free(floor.relay_fds);
  free(floor.peer_fds);
  print_report(&floor);
  return floor.messages > 0 ? 0 : 1;
}
