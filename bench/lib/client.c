#include "bench/lib/client.h"

#include "bench/lib/counter.h"
#include "bench/lib/ring.h"
#include "core/base/error.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OP_CONNECT = 1, OP_RECEIVE, OP_SEND, OP_CLOSE };
enum {
  RECEIVE_BUFFERS = 512,
  RECEIVE_BUFFER_SIZE = 4096, /* replies are short */
  EARLY_MAX = 65536,
  CONNECTING_MAX = 512, /* at once: more than a listener's queue holds would be dropped and come again a second later */
};
#define STOP_LATENCY_NS 50000000u
#define QUIT_TIME_NS 1000000000u
#define DRAIN_TIME_NS 5000000000u /* after the duration, for what is under way or deferred */

struct session {
  struct sender sender;
  struct msghdr message;
  unsigned slices_sent;
  bool idle_only;
  bool open;       /* connecting or connected; not ring_drop'ed */
  bool connecting; /* an operation is with the kernel */
  bool receiving;
  bool sending;
  bool closing;
  bool in_spare; /* listed among the sessions that wait for work */
  bool greeted;  /* and counted so */
  bool shaken;   /* the TLS handshake is done */
  struct secure secure;
  uint8_t *early; /* replies that came while a send was under way */
  size_t early_len;
};

struct later_job {
  struct job job;
  uint64_t at_ns;
};

struct later_open {
  uint32_t session;
  uint64_t at_ns;
};

struct loop {
  struct client_thread *thread;
  struct client *client;
  struct ring ring;
  struct session *sessions;
  struct slab slab;              /* for TLS */
  struct tls_session *resumable; /* the last one that a server gave; NULL: none yet */
  uint32_t session_count;
  uint32_t *spare; /* a stack */
  uint32_t spare_count;
  struct later_job *jobs; /* a queue by time: every wait is equally long */
  size_t job_begin, job_count, job_cap;
  struct later_open *opens; /* a ring of session_count */
  uint32_t open_begin, open_count;
  uint64_t taken; /* messages by this thread: gives the schedule of an open loop */
  uint64_t under_way;
  uint32_t connecting;
  uint64_t progress_ns;
  uint64_t quit_ns; /* when the last QUIT was said; 0: not yet */
  bool exhausted;   /* no message is left to take */
};

static uint64_t max_u64(uint64_t a, uint64_t b) { return a > b ? a : b; }

/* ---- work ---- */

/* When the next message is due in an open loop. Thread k of n has messages k, k + n, k + 2n... */
static uint64_t next_due_ns(const struct loop *loop) {
  const struct client *client = loop->client;
  if (client->rate == 0) return 0;
  uint64_t i = loop->taken * client->threads + loop->thread->number;
  return client->started_ns + (uint64_t)((double)i * 1e9 / (double)client->rate);
}

static bool take_fresh(struct loop *loop, struct job *job) {
  struct client *client = loop->client;
  uint64_t now_ns = process_now_ns(), due_ns = next_due_ns(loop);
  if (loop->exhausted || now_ns >= client->stop_taking_ns) {
    loop->exhausted = true;
    return false;
  }
  if (due_ns > now_ns) return false;
  uint64_t seq = __atomic_fetch_add(&client->_next_seq, 1, __ATOMIC_RELAXED);
  if (client->plan.messages > 0 && seq >= client->plan.messages) {
    loop->exhausted = true;
    return false;
  }
  loop->taken++;
  *job = (struct job){seq, 0, client->plan.recipients, due_ns};
  return true;
}

static bool take_again(struct loop *loop, struct job *job) {
  if (loop->job_count == 0 || loop->jobs[loop->job_begin].at_ns > process_now_ns()) return false;
  *job = loop->jobs[loop->job_begin].job;
  loop->job_begin = (loop->job_begin + 1) % loop->job_cap;
  loop->job_count--;
  counter_add(&loop->thread->again, job->end - job->begin);
  return true;
}

static bool host_take(void *context, struct job *job) {
  struct loop *loop = context;
  if (!take_again(loop, job) && !take_fresh(loop, job)) return false;
  loop->under_way++;
  return true;
}

static bool host_take_nothing(void *context, struct job *job) {
  (void)context;
  (void)job;
  return false;
}

static void grow_jobs(struct loop *loop) {
  size_t cap = loop->job_cap > 0 ? 2 * loop->job_cap : 1024;
  struct later_job *grown = calloc(cap, sizeof *grown);
  must(grown != NULL);
  for (size_t i = 0; i < loop->job_count; i++) grown[i] = loop->jobs[(loop->job_begin + i) % loop->job_cap];
  free(loop->jobs);
  loop->jobs = grown;
  loop->job_begin = 0;
  loop->job_cap = cap;
}

static void host_again(void *context, const struct job *job) {
  struct loop *loop = context;
  if (loop->client->no_retry) {
    counter_add(&loop->thread->given_up, job->end - job->begin);
    return;
  }
  if (loop->job_count == loop->job_cap) grow_jobs(loop);
  size_t at = (loop->job_begin + loop->job_count) % loop->job_cap;
  loop->jobs[at] = (struct later_job){*job, process_now_ns() + loop->client->retry_after_ns};
  loop->job_count++;
}

static void host_done(void *context) {
  struct loop *loop = context;
  loop->under_way--;
}

static bool has_work(const struct loop *loop) { return !loop->exhausted || loop->job_count > 0 || loop->under_way > 0; }

/* ---- connections ---- */

static uint32_t index_of(const struct loop *loop, const struct session *session) { return (uint32_t)(session - loop->sessions); }

static void open_later(struct loop *loop, const struct session *session, uint64_t at_ns) {
  uint32_t at = (loop->open_begin + loop->open_count) % loop->session_count;
  must(loop->open_count < loop->session_count);
  loop->opens[at] = (struct later_open){index_of(loop, session), at_ns};
  loop->open_count++;
}

static void connect_failed(struct loop *loop, struct session *session, int error) {
  counter_add(&loop->thread->connect_errors, 1);
  __atomic_store_n(&loop->thread->last_error, error, __ATOMIC_RELAXED);
  if (counter_read(&loop->thread->stats.sessions) == 0 && loop->thread->end == CLIENT_RUNNING) loop->thread->end = CLIENT_NO_CONNECTION;
  open_later(loop, session, process_now_ns() + loop->client->retry_after_ns);
}

static void open_session(struct loop *loop, struct session *session) {
  uint32_t slot = index_of(loop, session);
  int fd = endpoint_socket(&loop->client->to);
  int result = fd < 0 ? fd : ring_adopt(&loop->ring, slot, fd);
  if (result < 0) {
    if (fd >= 0) close(fd);
    connect_failed(loop, session, -result);
    return;
  }
  session->open = session->connecting = true;
  loop->connecting++;
  session->closing = session->greeted = session->shaken = false;
  session->early_len = 0;
  const struct endpoint *to = &loop->client->to;
  ring_connect(&loop->ring, slot, (const struct sockaddr *)&to->address, to->length, OP_CONNECT, slot);
}

static void drop(struct loop *loop, const struct session *session) {
  uint32_t slot = index_of(loop, session);
  if (session->connecting) ring_cancel(&loop->ring, OP_CONNECT, slot);
  if (session->receiving) ring_cancel(&loop->ring, OP_RECEIVE, slot);
  if (session->sending) ring_cancel(&loop->ring, OP_SEND, slot);
  ring_drop(&loop->ring, slot, OP_CLOSE, slot);
}

static void close_session(struct loop *loop, struct session *session) {
  if (session->closing) return;
  session->closing = true;
  sender_broken(&session->sender); /* of no effect if it ended in an orderly way */
  drop(loop, session);
}

static void send_slices(struct loop *loop, struct session *session) {
  struct sender *sender = &session->sender;
  session->message = (struct msghdr){.msg_iov = sender->slices + session->slices_sent, .msg_iovlen = sender->slice_count - session->slices_sent};
  ring_send_message(&loop->ring, index_of(loop, session), &session->message, OP_SEND, index_of(loop, session));
  session->sending = true;
}

static void count_greeted(struct loop *loop, struct session *session) {
  enum sender_state state = session->sender.state;
  if (session->greeted || state < SENDER_IDLE || state == SENDER_OVER) return;
  session->greeted = true;
  if (session->idle_only) counter_add(&loop->thread->idle_open, 1);
}

/* ---- TLS ---- */

static void begin_tls(struct loop *loop, struct session *session) {
  must(secure_connect(&session->secure, loop->client->tls, loop->resumable, &loop->slab));
}

/* For good, if no session has ever been what it should be. */
static void without_tls(struct loop *loop, const char *why) {
  struct client_thread *thread = loop->thread;
  if (thread->tls_error[0] == '\0') snprintf(thread->tls_error, sizeof thread->tls_error, "%s", why);
  if (counter_read(&thread->stats.sessions) == 0 && thread->end == CLIENT_RUNNING) thread->end = CLIENT_NO_TLS;
}

static void note_handshake(struct loop *loop, struct session *session) {
  const struct tls *tls = session->secure.tls;
  struct client_thread *thread = loop->thread;
  if (session->shaken || (tls_state(tls) != TLS_OPEN && tls_state(tls) != TLS_CLOSED)) return;
  session->shaken = true;
  counter_add(&thread->tls_handshakes, 1);
  if (tls_resumed(tls)) counter_add(&thread->tls_resumed, 1);
  snprintf(thread->tls_version, sizeof thread->tls_version, "%s", tls_version(tls));
  snprintf(thread->tls_cipher, sizeof thread->tls_cipher, "%s", tls_cipher(tls));
}

/* The sender's room is free again. */
static void seal(struct session *session) {
  struct sender *sender = &session->sender;
  if (sender->slice_count == 0) return;
  if (secure_write(&session->secure, sender->slices, sender->slice_count) != E_OK) sender_broken(sender);
  sender_sent(sender);
}

static void send_sealed(struct loop *loop, struct session *session) {
  struct span next = session->sending ? span_of(NULL, 0) : secure_next(&session->secure);
  if (next.len == 0) return;
  ring_send(&loop->ring, index_of(loop, session), next.at, next.len, OP_SEND, index_of(loop, session));
  session->sending = true;
}

static void on_plaintext(void *who, struct span bytes) {
  struct session *session = who;
  sender_feed(&session->sender, bytes, process_now_ns());
  seal(session); /* of what one record brings there may be more than the sender has room for */
}

/* No byte of it is with the kernel any more. */
static void end_tls(struct loop *loop, struct session *session) {
  if (session->secure.tls == NULL) return;
  if (!session->shaken && loop->quit_ns == 0) {
    const char *why = tls_error(session->secure.tls);
    counter_add(&loop->thread->tls_failed, 1);
    without_tls(loop, why[0] != '\0' ? why : "the connection ended in the handshake");
  }
  struct tls_session *resumable = loop->client->tls_full ? NULL : tls_session_take(session->secure.tls);
  if (resumable != NULL) {
    tls_session_free(loop->resumable);
    loop->resumable = resumable;
  }
  secure_clear(&session->secure);
}

/* Acts on what the sender came to. */
static void settle(struct loop *loop, struct session *session) {
  struct sender *sender = &session->sender;
  count_greeted(loop, session);
  if (sender->state == SENDER_SECURING && session->secure.tls == NULL) begin_tls(loop, session);
  if (session->shaken) seal(session);
  if (sender->state == SENDER_OVER) {
    close_session(loop, session);
  } else if (session->secure.tls != NULL) {
    send_sealed(loop, session);
  } else if (sender->slice_count > 0 && !session->sending) {
    session->slices_sent = 0;
    send_slices(loop, session);
  }
  if (sender->state == SENDER_IDLE && !session->idle_only && !session->in_spare) {
    session->in_spare = true;
    loop->spare[loop->spare_count++] = index_of(loop, session);
  }
}

static void on_connect(struct loop *loop, struct session *session, int result) {
  session->connecting = false;
  loop->connecting--;
  if (result < 0) {
    session->closing = true;
    session->sender.state = SENDER_NONE;
    if (result != -ECANCELED) __atomic_store_n(&loop->thread->last_error, -result, __ATOMIC_RELAXED);
    counter_add(&loop->thread->connect_errors, 1);
    drop(loop, session);
    return;
  }
  counter_add(&loop->thread->open, 1);
  counter_raise(&loop->thread->open_max, counter_read(&loop->thread->open));
  sender_begin(&session->sender);
  ring_receive(&loop->ring, index_of(loop, session), OP_RECEIVE, index_of(loop, session));
  session->receiving = true;
  if (loop->client->tls != NULL && !loop->client->plan.starttls) {
    begin_tls(loop, session);
    settle(loop, session);
  }
}

static void feed_tls(struct loop *loop, struct session *session, struct span bytes) {
  struct sender *sender = &session->sender;
  loop->progress_ns = process_now_ns();
  int error = secure_feed(&session->secure, bytes, on_plaintext, session);
  note_handshake(loop, session);
  if (session->shaken) sender_secured(sender);
  if (error != E_OK) sender_broken(sender);
  settle(loop, session);
}

static void feed(struct loop *loop, struct session *session, struct span bytes) {
  uint64_t now_ns = process_now_ns();
  loop->progress_ns = now_ns;
  sender_feed(&session->sender, bytes, now_ns);
  settle(loop, session);
}

/* Replies to the first part of what is still being sent: the sender's room is not free yet. */
static void keep_early(struct session *session, struct span bytes) {
  if (session->early == NULL) session->early = malloc(EARLY_MAX);
  if (session->early == NULL || bytes.len > EARLY_MAX - session->early_len) {
    sender_broken(&session->sender);
    return;
  }
  memcpy(session->early + session->early_len, bytes.at, bytes.len);
  session->early_len += bytes.len;
}

/* The connection's last operation is done: it may be opened anew. */
static void finish_close(struct loop *loop, struct session *session) {
  if (session->open || session->connecting || session->receiving || session->sending) return;
  if (counter_read(&loop->thread->stats.without_starttls) > 0) without_tls(loop, "STARTTLS is not offered, or was refused");
  end_tls(loop, session);
  if (session->greeted && session->idle_only && loop->quit_ns == 0)
    counter_write(&loop->thread->idle_open, counter_read(&loop->thread->idle_open) - 1);
  bool orderly = session->greeted && session->sender._messages > 0;
  bool failed = session->sender.state == SENDER_NONE;
  if (!failed) counter_write(&loop->thread->open, counter_read(&loop->thread->open) - 1);
  if (failed && counter_read(&loop->thread->stats.sessions) == 0 && loop->thread->end == CLIENT_RUNNING) loop->thread->end = CLIENT_NO_CONNECTION;
  session->sender.state = SENDER_NONE;
  if (loop->quit_ns > 0) return;
  if (orderly) {
    open_session(loop, session);
  } else {
    open_later(loop, session, process_now_ns() + loop->client->retry_after_ns);
  }
}

static void on_receive(struct loop *loop, struct session *session, const struct ring_event *event) {
  if (event->result > 0 && !session->closing) {
    if (session->secure.tls != NULL) {
      feed_tls(loop, session, ring_bytes(&loop->ring, event));
    } else if (session->sending) {
      keep_early(session, ring_bytes(&loop->ring, event));
    } else {
      feed(loop, session, ring_bytes(&loop->ring, event));
    }
  }
  ring_give_back(&loop->ring, event);
  session->receiving = (event->flags & IORING_CQE_F_MORE) != 0;
  if (event->result <= 0 && event->result != -ENOBUFS) close_session(loop, session);
  if (session->sender.state == SENDER_OVER) close_session(loop, session);
  if (!session->receiving && !session->closing) {
    ring_receive(&loop->ring, event->index, OP_RECEIVE, event->index);
    session->receiving = true;
  }
  finish_close(loop, session);
}

/* Leaves out what was sent; true if something is left. */
static bool skip_sent(struct session *session, size_t sent) {
  struct sender *sender = &session->sender;
  while (session->slices_sent < sender->slice_count && sent >= sender->slices[session->slices_sent].iov_len) {
    sent -= sender->slices[session->slices_sent++].iov_len;
  }
  if (session->slices_sent == sender->slice_count) return false;
  struct iovec *slice = &sender->slices[session->slices_sent];
  slice->iov_base = (uint8_t *)slice->iov_base + sent;
  slice->iov_len -= sent;
  return true;
}

static void on_send(struct loop *loop, struct session *session, int result) {
  session->sending = false;
  if (result < 0) {
    close_session(loop, session);
  } else if (session->secure.tls != NULL) {
    secure_sent(&session->secure, (size_t)result);
    if (!session->closing) settle(loop, session);
  } else if (!session->closing) {
    if (skip_sent(session, (size_t)result)) {
      send_slices(loop, session);
      return;
    }
    sender_sent(&session->sender);
    size_t early_len = session->early_len;
    session->early_len = 0;
    if (early_len > 0) feed(loop, session, span_of(session->early, early_len));
  }
  finish_close(loop, session);
}

static void dispatch(struct loop *loop, const struct ring_event *event) {
  struct session *session = &loop->sessions[event->index];
  switch (event->operation) {
  case OP_CONNECT: on_connect(loop, session, event->result); break;
  case OP_RECEIVE: on_receive(loop, session, event); break;
  case OP_SEND: on_send(loop, session, event->result); break;
  case OP_CLOSE:
    session->open = false;
    finish_close(loop, session);
    break;
  }
}

/* ---- the loop ---- */

static void open_due(struct loop *loop) {
  uint64_t now_ns = process_now_ns();
  while (loop->open_count > 0 && loop->connecting < CONNECTING_MAX && loop->opens[loop->open_begin].at_ns <= now_ns) {
    struct session *session = &loop->sessions[loop->opens[loop->open_begin].session];
    loop->open_begin = (loop->open_begin + 1) % loop->session_count;
    loop->open_count--;
    open_session(loop, session);
  }
}

/* Gives work to sessions that wait for some, as long as there is any. */
static void use_spare(struct loop *loop) {
  while (loop->spare_count > 0) {
    struct session *session = &loop->sessions[loop->spare[loop->spare_count - 1]];
    bool usable = session->sender.state == SENDER_IDLE && !session->closing && (!session->sending || session->secure.tls != NULL);
    if (usable) sender_work(&session->sender, process_now_ns());
    if (usable && session->sender.state == SENDER_IDLE) return; /* nothing to do now */
    loop->spare_count--;
    session->in_spare = false;
    settle(loop, session);
  }
}

static void quit_all(struct loop *loop) {
  loop->quit_ns = process_now_ns();
  for (uint32_t i = 0; i < loop->session_count; i++) {
    struct session *session = &loop->sessions[i];
    if (!session->open || session->closing) continue;
    sender_quit(&session->sender);
    if (session->sender.state == SENDER_QUITTING) settle(loop, session);
  }
}

static uint64_t wait_until(const struct loop *loop) {
  uint64_t until_ns = process_now_ns() + STOP_LATENCY_NS;
  if (loop->open_count > 0 && loop->connecting < CONNECTING_MAX && loop->opens[loop->open_begin].at_ns < until_ns)
    until_ns = loop->opens[loop->open_begin].at_ns;
  if (loop->spare_count == 0) return until_ns;
  if (loop->job_count > 0 && loop->jobs[loop->job_begin].at_ns < until_ns) until_ns = loop->jobs[loop->job_begin].at_ns;
  uint64_t due_ns = next_due_ns(loop);
  return !loop->exhausted && due_ns < until_ns ? due_ns : until_ns;
}

static bool is_stuck(const struct loop *loop) {
  bool waits = loop->under_way > 0 || loop->job_count > 0 || counter_read(&loop->thread->open) == 0;
  uint64_t patience_ns = max_u64(loop->client->timeout_ns, 2 * loop->client->retry_after_ns);
  return waits && process_now_ns() - loop->progress_ns > patience_ns;
}

/* The duration, and the time to end what was begun in it. */
static bool is_out_of_time(const struct loop *loop) {
  uint64_t end_ns = loop->client->stop_taking_ns;
  return end_ns != UINT64_MAX && process_now_ns() >= end_ns + DRAIN_TIME_NS;
}

/* What was deferred last, and would have been sent again. */
static void give_up_jobs(struct loop *loop) {
  for (size_t i = 0; i < loop->job_count; i++) {
    const struct job *job = &loop->jobs[(loop->job_begin + i) % loop->job_cap].job;
    counter_add(&loop->thread->given_up, job->end - job->begin);
  }
  loop->job_count = 0;
}

static bool is_over(struct loop *loop) {
  if (loop->thread->end == CLIENT_NO_CONNECTION || loop->thread->end == CLIENT_NO_TLS) return true;
  bool stop = __atomic_load_n(&loop->client->stop, __ATOMIC_RELAXED), holds = loop->client->sessions == 0;
  if (holds && (stop || process_now_ns() >= loop->client->stop_taking_ns)) loop->exhausted = true; /* there never was a message to take */
  if (loop->quit_ns == 0 && stop && !holds) {
    loop->thread->end = CLIENT_STOPPED;
    return true;
  }
  if (loop->quit_ns > 0) return counter_read(&loop->thread->open) == 0 || process_now_ns() - loop->quit_ns > QUIT_TIME_NS;
  if (has_work(loop) && is_out_of_time(loop)) {
    give_up_jobs(loop);
    loop->thread->end = CLIENT_STOPPED;
    return true;
  }
  if (is_stuck(loop)) {
    loop->thread->end = CLIENT_NO_PROGRESS;
    return true;
  }
  if (!has_work(loop)) {
    loop->thread->end = CLIENT_FINISHED;
    quit_all(loop);
  }
  return false;
}

static uint32_t share(uint32_t all, unsigned threads, unsigned number) { return all / threads + (number < all % threads); }

static void open_sessions(struct loop *loop) {
  const struct client *client = loop->client;
  uint32_t busy = share(client->sessions, client->threads, loop->thread->number);
  loop->session_count = busy + share(client->idle, client->threads, loop->thread->number);
  loop->sessions = calloc(loop->session_count, sizeof *loop->sessions);
  loop->spare = calloc(loop->session_count, sizeof *loop->spare);
  loop->opens = calloc(loop->session_count, sizeof *loop->opens);
  must(loop->sessions != NULL && loop->spare != NULL && loop->opens != NULL);
  for (uint32_t i = 0; i < loop->session_count; i++) {
    struct session *session = &loop->sessions[i];
    session->idle_only = i >= busy;
    struct sender_host host = {session->idle_only ? host_take_nothing : host_take, host_again, host_done, loop};
    must(sender_init(&session->sender, &client->plan, &loop->thread->stats, &host) == E_OK);
    open_later(loop, session, 0);
  }
}

static void loop_open(struct loop *loop) {
  const char *why;
  const struct client *client = loop->client;
  struct ring_options options = {client->sessions + client->idle, RECEIVE_BUFFERS, RECEIVE_BUFFER_SIZE};
  int result = ring_open(&loop->ring, &options, &why);
  if (result < 0) process_fail("source", "io_uring cannot be used: %s: %s", why, strerror(-result));
  slab_init(&loop->slab, SECURE_SLAB_BYTES);
  open_sessions(loop);
  loop->progress_ns = process_now_ns();
}

static void loop_close(struct loop *loop) {
  ring_close(&loop->ring);
  for (uint32_t i = 0; i < loop->session_count; i++) {
    sender_fini(&loop->sessions[i].sender);
    free(loop->sessions[i].early);
    secure_clear(&loop->sessions[i].secure);
  }
  tls_session_free(loop->resumable);
  slab_fini(&loop->slab);
  free(loop->sessions);
  free(loop->spare);
  free(loop->opens);
  free(loop->jobs);
}

void *client_run(void *client_thread) {
  struct loop *loop = calloc(1, sizeof *loop);
  must(loop != NULL);
  loop->thread = client_thread;
  loop->client = loop->thread->client;
  loop_open(loop);
  while (!is_over(loop)) {
    open_due(loop);
    use_spare(loop);
    unsigned count = ring_wait(&loop->ring, wait_until(loop));
    for (unsigned i = 0; i < count; i++) dispatch(loop, &loop->ring.events[i]);
  }
  loop_close(loop);
  __atomic_store_n(&loop->thread->ended, true, __ATOMIC_RELEASE);
  free(loop);
  return NULL;
}
