/* What travels over a connection: envelopes and contents out, replies in, and what they mean for the jobs. */
#include "net/out/connection.h"

#include "core/base/error.h"

#define MEMORY_ROUNDS_BEFORE 20 /* a second: what is not begun gives its job's memory to others */
#define OUT_HIGH 65536          /* commands waiting for a send: no further envelope joins them */
#define IN_MAX 131072           /* replies waiting for the content to be out: more than all that are owed can be */

static struct slab *slab_of(const struct connection *c) { return c->outlet->o.slab; }

/* ---- transactions ---- */

static struct transaction *transaction_of(struct connection *c, uint32_t tag) {
  for (unsigned i = 0; i < SMTP_CLIENT_TRANSACTIONS; i++)
    if (c->transaction[i].job != NULL && c->transaction[i].tag == tag) return &c->transaction[i];
  must(false);
}

static struct transaction *free_transaction(struct connection *c) {
  for (unsigned i = 0; i < SMTP_CLIENT_TRANSACTIONS; i++)
    if (c->transaction[i].job == NULL) return &c->transaction[i];
  return NULL;
}

bool transfer_busy(const struct connection *c) {
  for (unsigned i = 0; i < SMTP_CLIENT_TRANSACTIONS; i++)
    if (c->transaction[i].job != NULL) return true;
  return c->loading != NULL || c->streaming != NULL;
}

/*
 * A reply may come before the content is sent to its end. The job, and with it the content, has to outlive the send. It may even come before all parts of a long
 * message are read from disk: then the job ends when the one that is on its way arrives.
 */
static void end_job(struct connection *c, struct job *job) {
  if (job->loading) {
    job->connection = 0;
    return;
  }
  if (job->flush <= c->flushes_done) {
    outlet_job_end(c->outlet, job);
    return;
  }
  job->next = c->finished;
  c->finished = job;
}

static void end_finished(struct connection *c, bool all) {
  struct job *jobs = c->finished;
  c->finished = NULL;
  while (jobs != NULL) {
    struct job *job = jobs;
    jobs = job->next;
    if (all) job->flush = 0;
    end_job(c, job);
  }
}

static void end_transaction(struct connection *c, struct transaction *transaction) {
  struct job *job = transaction->job;
  transaction->job = NULL;
  end_job(c, job);
}

/* The content of a long message: one part after the other comes from disk and goes out before the next is fetched. */
static void stream_next(struct connection *c) {
  struct job *job = c->streaming;
  if (!outlet_load(c->outlet, job, connection_token(c, CONNECTION_OP_SEND))) return;
  transfer_loaded(c, job, E_OK);
}

static void content_out(struct connection *c, struct transaction *transaction) {
  smtp_client_content_sent(&c->client, transaction->tag);
  transaction->content_sent = true;
}

static bool push_dot(struct connection *c, uint32_t tag) { return !smtp_client_wants_dot(&c->client, tag) || output_text(c, SPAN(".\r\n")); }

static void send_content(struct connection *c, uint32_t tag) {
  struct transaction *transaction = transaction_of(c, tag);
  struct job *job = transaction->job;
  if (job->message->parts_count > 0) {
    c->streaming = job;
    job->load.part = 0;
    stream_next(c);
    return;
  }
  output_content(c, job, message_content(job->message));
  if (!push_dot(c, tag)) {
    output_no_memory(c);
    return;
  }
  content_out(c, transaction);
}

/* ---- taking jobs ---- */

static void go_on(struct connection *c);

static bool give_back_unfit(struct connection *c, struct job *job) {
  struct failure failure = {.kind = FAILURE_UNFIT, .unfit = smtp_client_fit(&c->client, &job->envelope), .stage = SMTP_STAGE_MAIL};
  if (failure.unfit == SMTP_FIT) return false;
  outlet_decide_rest(c->outlet, job, &failure, c->site, &c->peer);
  outlet_job_end(c->outlet, job);
  return true;
}

/* More recipients than this server takes at once: the rest goes round again, in a transaction of its own. Makes room for the envelope. False: no memory. */
static bool respect_recipients_max(struct connection *c, struct job *job) {
  uint32_t max = smtp_client_recipients_max(&c->client);
  job->envelope.recipients = job->recipients < max ? job->recipients : max;
  if (!buffer_reserve(slab_of(c), &c->out, smtp_client_begin_room(&job->envelope)))
    return false; /* before any fate: the job may go to another server */
  for (unsigned at = job->envelope.recipients; at < job->recipients; at++) job->each[at].fate = FATE_AGAIN;
  if (max < c->site->recipients_max) c->site->recipients_max = max;
  return true;
}

static bool begin(struct connection *c, struct job *job) {
  if (!respect_recipients_max(c, job)) return false;
  struct transaction *transaction = free_transaction(c);
  uint32_t at = c->out.len;
  struct fmt out = buffer_fmt(&c->out);
  *transaction = (struct transaction){.job = job, .tag = ++c->begun};
  bool content_follows = smtp_client_begin(&c->client, &job->envelope, transaction->tag, &out);
  must(!out.overflow);
  buffer_wrote(&c->out, &out);
  output_bytes(c, at, c->out.len - at);
  count_add(c->outlet->o.counters, COUNT_TRANSACTIONS, 1);
  if (content_follows) send_content(c, transaction->tag);
  return true;
}

static bool may_take(const struct connection *c) {
  return c->state == CONNECTION_OPEN && !c->retiring && !c->outlet->stopping && c->loading == NULL && c->streaming == NULL &&
         c->begun < c->site->messages_max && c->out.len < OUT_HIGH && c->pieces_count + 6 < CONNECTION_PIECES_MAX &&
         smtp_client_can_begin(&c->client) && outlet_may_begin(c->site);
}

static void take(struct connection *c) {
  struct job *job = site_pop(c->site);
  must(job != NULL); /* may_take saw one */
  if (c->outlet->o.shard->wall_ms >= job->give_up_ms) {
    outlet_job_end(c->outlet, job);
  } else if (outlet_hold(c->outlet, job, c->site)) {
    return;
  } else if (domain_left(c->outlet, job, c->site)) {
    job_decide_rest(job, FATE_AGAIN, false);
    outlet_job_end(c->outlet, job);
  } else if (give_back_unfit(c, job)) {
    return;
  } else if (job->message->parts_count == 0 && message_content(job->message) == NULL) {
    job->load.part = 0;
    c->loading = job;
    if (!outlet_load(c->outlet, job, connection_token(c, CONNECTION_OP_SEND))) return;
    transfer_loaded(c, job, E_OK);
  } else if (!begin(c, job)) {
    site_unpop(c->site, job);
    output_no_memory(c);
  }
}

/* What is taken may fail at once and ask for the next: that is this loop's affair, or a long queue that cannot be read would use up the stack. */
void transfer_pull(struct connection *c) {
  if (c->pulling) return;
  c->pulling = true;
  while (may_take(c)) take(c);
  c->pulling = false;
}

static void retry_load(struct connection *c) {
  struct job *job = c->streaming != NULL ? c->streaming : c->loading;
  must(job != NULL);
  c->starved = false;
  if (outlet_load(c->outlet, job, connection_token(c, CONNECTION_OP_SEND))) transfer_loaded(c, job, E_OK);
}

void transfer_retry(struct connection *c) {
  bool unsealed = c->unsealed;
  c->unsealed = false;
  if (unsealed) output_flush(c);
  if (c->state != CONNECTION_CLOSING && c->starved) retry_load(c);
  if (unsealed) connection_arm(c);
}

static void load_failed(struct connection *c, struct job *job, int error) {
  if (error == E_NO_MEMORY && output_may_wait(c, &c->starved_rounds, c->streaming != NULL ? MEMORY_ROUNDS : MEMORY_ROUNDS_BEFORE)) {
    c->starved = true;
    return;
  }
  struct failure failure = {.kind = FAILURE_INTERNAL, .error = error, .stage = SMTP_STAGE_MAIL};
  if (c->streaming == job) { /* in the middle of DATA: the connection is lost with it */
    connection_fail(c, &failure);
    return;
  }
  c->loading = NULL;
  outlet_decide_rest(c->outlet, job, &failure, c->site, &c->peer);
  outlet_job_end(c->outlet, job);
  if (!c->pulling) go_on(c);
}

static void stream_loaded(struct connection *c, struct job *job) {
  struct message *message = job->message;
  bool last = job->load.part >= message->parts_count;
  output_content(c, job, last ? message_content(message) : job->load.content);
  if (!last) {
    c->part = job->load.content;
    c->part_flush = job->flush;
    c->part_owner = job->owner;
    job->load.content = NULL;
    output_flush(c); /* on with the next when it is sent */
    return;
  }
  struct transaction *transaction = NULL;
  for (unsigned i = 0; i < SMTP_CLIENT_TRANSACTIONS; i++)
    if (c->transaction[i].job == job) transaction = &c->transaction[i];
  must(transaction != NULL);
  c->streaming = NULL;
  if (!push_dot(c, transaction->tag)) {
    output_no_memory(c);
    return;
  }
  content_out(c, transaction);
  transfer_received(c, (struct span){NULL, 0}); /* replies that came early wait for the content to be out */
}

void transfer_loaded(struct connection *c, struct job *job, int error) {
  if (error != E_OK) {
    load_failed(c, job, error);
    return;
  }
  c->starved_rounds = 0;
  if (c->streaming == job) {
    stream_loaded(c, job);
  } else {
    c->loading = NULL;
    if (!outlet_hold(c->outlet, job, c->site) && !begin(c, job)) {
      site_unpop(c->site, job);
      output_no_memory(c);
      return;
    }
    transfer_pull(c);
  }
  connection_arm(c);
}

void transfer_sent(struct connection *c) {
  c->send_under_way = false;
  c->flushes_done = c->flushes;
  output_release(c);
  end_finished(c, false);
  if (c->part != NULL && c->part_flush <= c->flushes_done) {
    outlet_free_part(c->outlet, c->part_owner, c->part);
    c->part = NULL;
    if (c->streaming != NULL) {
      c->streaming->load.part++;
      stream_next(c);
    }
  }
  if (c->state == CONNECTION_CLOSING) return;
  if (c->pieces_count > 0 || c->sealed.len > 0) connection_mark_dirty(c);
  if (c->state == CONNECTION_OPEN) connection_pull(c);
  if (c->state != CONNECTION_CLOSING && !c->idle) connection_arm(c);
}

/* ---- replies ---- */

static void decide(struct connection *c, const struct transaction *transaction, unsigned at, enum smtp_client_stage stage) {
  struct job *job = transaction->job;
  struct failure failure = {.kind = FAILURE_REPLY,
                            .stage = stage,
                            .reply = &c->client.reply,
                            .pipelined = c->pipelined,
                            .proven = c->completed > 0,
                            .alone = job->envelope.recipients == 1,
                            .crowded = transaction->accepted > 0};
  uint8_t room[1024];
  struct fmt text = fmt_over(room, sizeof room);
  struct decision decision;
  outcome_decide(&failure, &decision, &text);
  bool split = stage == SMTP_STAGE_RCPT && decision.fate == FATE_AGAIN; /* others were taken: each round brings some further, so none is counted */
  if (decision.fate == FATE_AGAIN && !split) outlet_count_round(job, &decision.fate);
  job->each[at].fate = (uint8_t)decision.fate;
  job->each[at].counts = decision.fate != FATE_AGAIN;
  if (decision.fate != FATE_AGAIN) {
    outlet_report(c->outlet, job, at, &decision, fmt_span(&text), smtp_client_stage_text(stage), c->site, &c->peer);
  }
}

static void decide_all(struct connection *c, enum smtp_client_stage stage) {
  const struct transaction *transaction = transaction_of(c, c->client.tag);
  for (unsigned at = 0; at < transaction->job->recipients; at++)
    if (transaction->job->each[at].fate == FATE_INVALID) decide(c, transaction, at, stage);
}

static void on_rcpt(struct connection *c) {
  struct transaction *transaction = transaction_of(c, c->client.tag);
  if (c->client.reply.code / 100 == 2) {
    transaction->accepted++;
  } else {
    decide(c, transaction, c->client.recipient, SMTP_STAGE_RCPT);
  }
}

static void on_open(struct connection *c) {
  struct site *site = c->site;
  c->state = CONNECTION_OPEN;
  site->opening--;
  c->pipelined = c->client.capabilities.pipelining && !c->plain;
  c->peer.reports = c->client.capabilities.dsn;
  site_mark_dirty(site); /* now more may be opened */
}

/* A transaction went to its end, whatever that was: only then the host counts as well again. Some greet everybody and then hang up. */
static void on_done(struct connection *c) {
  struct transaction *transaction = transaction_of(c, c->client.tag);
  if (c->streaming == transaction->job) c->streaming = NULL;
  if (c->completed++ == 0) site_succeeded(c->site, &c->peer.address);
  end_transaction(c, transaction);
}

static void refused(struct connection *c, enum smtp_client_stage stage) {
  struct failure failure = {.kind = FAILURE_REPLY, .stage = stage, .reply = &c->client.reply};
  connection_fail(c, &failure);
}

/* One event of the machine; false when no more are to be asked for. */
static bool act(struct connection *c, enum smtp_client_event event, enum smtp_client_stage stage) {
  switch (event) {
  case SMTP_CLIENT_NEED_INPUT: return false;
  case SMTP_CLIENT_READY:
  case SMTP_CLIENT_TLS:
  case SMTP_CLIENT_TLS_REFUSED:
  case SMTP_CLIENT_AUTHENTICATED:
    if (safety_step(c, event)) on_open(c);
    break;
  case SMTP_CLIENT_AUTH_REFUSED: refused(c, SMTP_STAGE_AUTH); break;
  case SMTP_CLIENT_REFUSED: refused(c, stage); break;
  case SMTP_CLIENT_MAIL: decide_all(c, SMTP_STAGE_MAIL); break;
  case SMTP_CLIENT_RCPT: on_rcpt(c); break;
  case SMTP_CLIENT_DATA: decide_all(c, SMTP_STAGE_DATA); break;
  case SMTP_CLIENT_CONTENT: send_content(c, c->client.tag); break;
  case SMTP_CLIENT_FINAL: decide_all(c, SMTP_STAGE_FINAL); break;
  case SMTP_CLIENT_DONE: on_done(c); break;
  case SMTP_CLIENT_BROKEN: {
    struct failure failure = {.kind = FAILURE_PROTOCOL, .text = c->client.broken};
    connection_fail(c, &failure);
    break;
  }
  case SMTP_CLIENT_INVALID: must(false);
  }
  return c->state != CONNECTION_CLOSING;
}

/* *eventful: a whole reply was there, or something is owed to us no longer. */
static struct span eat(struct connection *c, struct span in, bool *eventful) {
  *eventful = false;
  for (bool more = true; more;) {
    uint8_t room[SMTP_CLIENT_ROOM];
    struct fmt out = fmt_over(room, sizeof room);
    enum smtp_client_stage stage = smtp_client_stage(&c->client);
    enum smtp_client_event event = smtp_client_next(&c->client, &in, &out);
    must(!out.overflow);
    if (out.len > 0 && !output_text(c, fmt_span(&out))) {
      output_no_memory(c);
      return in;
    }
    more = act(c, event, stage);
    *eventful |= more;
  }
  return in;
}

/* Nothing under way any more: idle, or, if its time has come, out. */
static void settle(struct connection *c) {
  if (c->state != CONNECTION_OPEN || transfer_busy(c)) return;
  if (c->retiring || c->outlet->stopping || c->begun >= c->site->messages_max || !smtp_client_can_begin(&c->client)) {
    connection_retire(c);
  } else {
    connection_set_idle(c, true);
  }
}

/* Takes what there is to take, or settles. */
static void go_on(struct connection *c) {
  transfer_pull(c);
  if (c->state == CONNECTION_CLOSING) return;
  settle(c);
  connection_arm(c);
}

/* Keeps what cannot be eaten yet. False: the connection has failed. */
static bool keep(struct connection *c, struct span bytes) {
  struct failure failure = {.kind = FAILURE_PROTOCOL, .text = "more replies than commands"};
  if (c->in.len + bytes.len <= IN_MAX) {
    if (buffer_append(slab_of(c), &c->in, bytes)) return true;
    failure = (struct failure){.kind = FAILURE_INTERNAL, .error = E_NO_MEMORY};
  }
  connection_fail(c, &failure);
  return false;
}

/*
 * The timer runs on unless a whole reply came (or something new was begun): a server that sends a byte a minute gets no more time than one that is
 * silent. An idle connection is left to site_pump: it may not take anything while it counts as idle.
 */
void transfer_received(struct connection *c, struct span bytes) {
  bool stashed = c->in.len > 0, eventful;
  uint32_t begun = c->begun;
  if (!stashed && bytes.len == 0) return;
  if (stashed && !keep(c, bytes)) return;
  struct span rest = eat(c, stashed ? buffer_span(&c->in) : bytes, &eventful);
  if (c->state == CONNECTION_CLOSING) return;
  if (stashed) {
    buffer_consume(&c->in, c->in.len - rest.len);
    if (c->in.len == 0) buffer_free(slab_of(c), &c->in);
  } else if (!keep(c, rest)) {
    return;
  }
  if (c->idle) return;
  transfer_pull(c);
  if (c->state == CONNECTION_CLOSING) return;
  settle(c);
  if (eventful || c->begun != begun) connection_arm(c);
}

/* ---- life ---- */

void transfer_opened(struct connection *c) {
  c->plain = c->site->plain_until_ms > c->outlet->o.shard->now_ms;
  smtp_client_init(&c->client, c->plain ? &c->outlet->smtp_plain : &c->outlet->smtp);
}

void transfer_abort(struct connection *c, const struct failure *failure, bool elsewhere) {
  for (unsigned i = 0; i < SMTP_CLIENT_TRANSACTIONS; i++) {
    struct transaction *transaction = &c->transaction[i];
    struct job *job = transaction->job;
    if (job == NULL) continue;
    struct failure own = *failure;
    if (transaction->content_sent && own.kind != FAILURE_REPLY) own.stage = SMTP_STAGE_FINAL; /* of two contents under way both may have been taken */
    (elsewhere ? outlet_decide_rest : outlet_defer_rest)(c->outlet, job, &own, c->site, &c->peer);
    transaction->job = NULL;
    end_job(c, job);
  }
  c->streaming = NULL;
  if (c->loading != NULL) {
    struct job *job = c->loading;
    c->loading = NULL;
    job_decide_rest(job, FATE_AGAIN, false);
    if (job->loading) {
      job->connection = 0;
    } else {
      outlet_job_end(c->outlet, job);
    }
  }
}

void transfer_free(struct connection *c) {
  struct slab *slab = slab_of(c);
  if (c->slices != NULL) output_release(c);
  end_finished(c, true);
  outlet_free_part(c->outlet, c->part_owner, c->part);
  buffer_free(slab, &c->in);
  buffer_free(slab, &c->out);
  safety_free(c);
}
