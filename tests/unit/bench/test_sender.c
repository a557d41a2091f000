/* The sender against the receiver, in memory: whatever the way of sending, wherever the bytes are cut, whatever the receiver refuses, defers or cuts
 * off, each recipient ends exactly once, and both sides agree how. */
#include "bench/lib/receiver.h"
#include "bench/lib/sender.h"
#include "core/base/error.h"
#include "tests/lib/unit.h"

#include <stdlib.h>

enum { MESSAGES = 60, RECIPIENTS = 3, JOBS_MAX = 4096 };

struct world {
  struct sender_plan plan;
  struct sender_stats *sent;
  struct sender *sender;
  struct receiver_config config;
  struct receiver_stats *received;
  struct receiver *receiver;
  struct outbox outbox;
  struct rules rules;
  struct zone zone;
  struct ledger ledger;
  struct content_block block;
  struct job jobs[JOBS_MAX];
  unsigned job_count;
  uint64_t next_seq, under_way, chance, connections;
};

static bool take(void *context, struct job *job) {
  struct world *w = context;
  if (w->job_count > 0) {
    *job = w->jobs[--w->job_count];
  } else if (w->next_seq < MESSAGES) {
    *job = (struct job){w->next_seq++, 0, RECIPIENTS, 0};
  } else {
    return false;
  }
  w->under_way++;
  return true;
}

static void again(void *context, const struct job *job) {
  struct world *w = context;
  ck_assert_uint_lt(w->job_count, JOBS_MAX);
  w->jobs[w->job_count++] = *job;
}

static void done(void *context) {
  struct world *w = context;
  ck_assert_uint_gt(w->under_way, 0);
  w->under_way--;
}

static struct world *world_new(enum sender_way way, bool chunking) {
  struct world *w = calloc(1, sizeof *w);
  ck_assert_ptr_nonnull(w);
  content_block_fill(&w->block);
  ck_assert_int_eq(domains_parse(&w->zone.domains, SPAN("d%05d.test")), E_OK);
  ck_assert_int_eq(ledger_init(&w->ledger), E_OK);
  w->plan = (struct sender_plan){.way = way,
                                 .chunking = chunking,
                                 .run = 9,
                                 .messages = MESSAGES,
                                 .size = 1000,
                                 .recipients = RECIPIENTS,
                                 .spread = true,
                                 .domains = w->zone.domains,
                                 .domain_count = 7,
                                 .from = SPAN("a@b.test"),
                                 .hostname = SPAN("c.test"),
                                 .date = SPAN("date"),
                                 .block = &w->block};
  w->config = (struct receiver_config){.hostname = "sink.test",
                                       .pipelining = true,
                                       .chunking = true,
                                       .verify = true,
                                       .size_max = 10000,
                                       .recipients_max = 10,
                                       .rules = &w->rules,
                                       .block = &w->block,
                                       .ledger = &w->ledger,
                                       .zone = &w->zone,
                                       .tries = calloc(1, 4096)};
  w->sent = calloc(1, sizeof *w->sent);
  w->received = calloc(1, sizeof *w->received);
  w->sender = calloc(1, sizeof *w->sender);
  w->receiver = calloc(1, sizeof *w->receiver);
  struct sender_host host = {take, again, done, w};
  ck_assert_int_eq(sender_init(w->sender, &w->plan, w->sent, &host), E_OK);
  return w;
}

static void world_free(struct world *w) {
  sender_fini(w->sender);
  ledger_fini(&w->ledger);
  free(w->config.tries);
  free(w->sent);
  free(w->received);
  free(w->sender);
  free(w->receiver);
  free(w);
}

static void rule(struct world *w, const char *text) {
  const char *why;
  ck_assert_int_eq(rule_parse(&w->rules, span_of_text(text), &why), E_OK);
}

static size_t piece(struct world *w, size_t len) {
  size_t most = (size_t)(mix64(w->chance++) % 700) + 1;
  return most < len ? most : len;
}

static bool receiver_is_open(const struct world *w) { return w->receiver->state != RECEIVER_CLOSING && w->receiver->state != RECEIVER_CUT; }

/* Sends all there is, in pieces, answers coming only afterwards: as a sender sees it whose writes are large. */
static void carry_out(struct world *w) {
  for (unsigned i = 0; i < w->sender->slice_count; i++) {
    struct span rest = span_of(w->sender->slices[i].iov_base, w->sender->slices[i].iov_len);
    while (rest.len > 0) {
      size_t len = piece(w, rest.len);
      receiver_feed(w->receiver, span_first(rest, len), 1000);
      rest = span_skip(rest, len);
    }
  }
  sender_sent(w->sender);
}

/* Brings replies until the sender has something to send. Whatever comes behind that would be an answer to nothing. */
static void carry_back(struct world *w) {
  while (w->sender->slice_count == 0 && w->sender->state != SENDER_OVER) {
    struct span ready = outbox_ready(&w->outbox, UINT64_MAX - 1);
    if (ready.len == 0) return;
    uint8_t bytes[700];
    size_t len = piece(w, ready.len);
    memcpy(bytes, ready.at, len);
    outbox_take(&w->outbox, len, 0);
    sender_feed(w->sender, span_of(bytes, len), 2000);
  }
  if (w->sender->slice_count > 0) ck_assert_uint_eq(outbox_ready(&w->outbox, UINT64_MAX - 1).len, 0);
}

/* The TLS that both believe in. */
static void secure(struct world *w) {
  ck_assert_int_eq(w->receiver->state, RECEIVER_SECURING);
  receiver_secured(w->receiver);
  sender_secured(w->sender);
  ck_assert_int_eq(w->sender->state, SENDER_HELLO);
}

/* One connection, until it ends or nothing is left to do. */
static void connection(struct world *w) {
  w->connections++;
  receiver_begin(w->receiver, &w->config, w->received, &w->outbox, 0x7f000101, w->chance++, 1000);
  sender_begin(w->sender);
  while (w->sender->state != SENDER_OVER) {
    carry_back(w);
    if (w->sender->state == SENDER_SECURING) secure(w);
    if (w->sender->state == SENDER_IDLE) {
      sender_work(w->sender, 1000);
      if (w->sender->state == SENDER_IDLE) sender_quit(w->sender);
    }
    if (w->sender->slice_count > 0) {
      carry_out(w);
    } else if (!receiver_is_open(w)) {
      sender_broken(w->sender);
    }
  }
  receiver_end(w->receiver);
  outbox_fini(&w->outbox);
}

static void run(struct world *w) {
  while (w->next_seq < MESSAGES || w->job_count > 0) {
    connection(w);
    ck_assert_uint_eq(w->under_way, 0);
    ck_assert_uint_lt(w->connections, 5000);
  }
  struct ledger_sum sum = ledger_sum(&w->ledger, MESSAGES * RECIPIENTS, NULL, 0);
  ck_assert_uint_eq(sum.lost, 0);
  ck_assert_uint_eq(sum.arrived, w->received->arrived);
  ck_assert_uint_eq(w->received->arrived, w->sent->accepted_recipients);
  ck_assert_uint_eq(w->received->refused, w->sent->refused_recipients);
  ck_assert_uint_eq(w->received->arrived + sum.refused, MESSAGES * RECIPIENTS);
  ck_assert_uint_eq(w->received->duplicated + w->received->corrupt + w->received->misdelivered + w->received->foreign, 0);
  ck_assert_uint_eq(w->received->protocol_errors, 0);
}

static const struct {
  enum sender_way way;
  bool chunking;
} ways[] = {{SENDER_WAIT, false},    {SENDER_WAIT, true},      {SENDER_COMMANDS, false},
            {SENDER_COMMANDS, true}, {SENDER_MESSAGES, false}, {SENDER_MESSAGES, true}};

START_TEST(all_is_well) {
  struct world *w = world_new(ways[_i].way, ways[_i].chunking);
  run(w);
  ck_assert_uint_eq(w->connections, 1);
  ck_assert_uint_eq(w->sent->accepted, MESSAGES);
  ck_assert_uint_eq(w->sent->codes[250], MESSAGES);
  ck_assert_uint_eq(w->received->chunked, ways[_i].chunking ? MESSAGES : 0);
  ck_assert_uint_eq(w->received->pipelined > 0, ways[_i].way != SENDER_WAIT);
  world_free(w);
}
END_TEST

START_TEST(some_messages_a_session) {
  struct world *w = world_new(ways[_i].way, ways[_i].chunking);
  w->plan.messages_per_session = 7;
  run(w);
  ck_assert_uint_eq(w->connections, (MESSAGES + 6) / 7);
  world_free(w);
}
END_TEST

START_TEST(all_is_secured) {
  struct world *w = world_new(ways[_i].way, ways[_i].chunking);
  w->plan.starttls = w->config.starttls = true;
  w->plan.messages_per_session = 7;
  run(w);
  ck_assert_uint_eq(w->connections, (MESSAGES + 6) / 7);
  ck_assert_uint_eq(w->sent->sessions, w->connections);
  ck_assert_uint_eq(w->received->tls_transactions, MESSAGES);
  ck_assert_uint_eq(w->sent->without_starttls, 0);
  world_free(w);
}
END_TEST

/* Nothing is sent then; and what is said behind the reply to STARTTLS ends it. */
START_TEST(not_secured) {
  static const char *const says[] = {"220 a\r\n250 b\r\n", "220 a\r\n250-STARTTLS\r\n250 b\r\n454 4.7.0 no\r\n",
                                     "220 a\r\n250-STARTTLS\r\n250 b\r\n220 go\r\n250 c\r\n"};
  for (unsigned i = 0; i < 3; i++) {
    struct world *w = world_new(SENDER_MESSAGES, false);
    w->plan.starttls = true;
    sender_begin(w->sender);
    sender_feed(w->sender, span_of_text(says[i]), 1000);
    ck_assert_int_eq(w->sender->state, SENDER_OVER);
    ck_assert_uint_eq(w->sent->without_starttls, i < 2);
    ck_assert_uint_eq(w->sent->broken, i == 2);
    ck_assert_uint_eq(w->next_seq, 0);
    world_free(w);
  }
}
END_TEST

START_TEST(nothing_offered) {
  struct world *w = world_new(ways[_i].way, ways[_i].chunking);
  w->config.pipelining = w->config.chunking = false;
  run(w);
  ck_assert_uint_eq(w->received->pipelining_violations, 0);
  ck_assert_uint_eq(w->received->chunked, 0);
  ck_assert_uint_eq(w->sent->without_chunking, ways[_i].chunking);
  world_free(w);
}
END_TEST

START_TEST(recipients_refused_and_deferred) {
  struct world *w = world_new(ways[_i].way, ways[_i].chunking);
  rule(w, "stage=rcpt rcpt=*@d00002.test reply=550 5.1.1 no rate=0.5");
  rule(w, "stage=rcpt reply=451 4.1.1 later rate=0.3");
  rule(w, "stage=final reply=451 4.1.1 later rate=0.3"); /* for those only that RCPT took */
  run(w);
  ck_assert_uint_gt(w->sent->refused_recipients, 0);
  ck_assert_uint_gt(w->sent->deferred_recipients, 0);
  world_free(w);
}
END_TEST

START_TEST(every_stage_defers) {
  struct world *w = world_new(ways[_i].way, ways[_i].chunking);
  rule(w, "stage=mail reply=451 4.1.1 later rate=0.2");
  rule(w, "stage=data reply=451 4.1.1 later rate=0.2");
  rule(w, "stage=final reply=451 4.1.1 later rate=0.2");
  run(w);
  ck_assert_uint_eq(w->sent->accepted_recipients, MESSAGES * RECIPIENTS);
  world_free(w);
}
END_TEST

START_TEST(connections_end_early) {
  struct world *w = world_new(ways[_i].way, ways[_i].chunking);
  rule(w, "stage=connect reply=421 4.3.2 busy rate=0.3");
  rule(w, "stage=helo cut rate=0.1");
  rule(w, "stage=mail reply=421 4.3.2 bye rate=0.05");
  rule(w, "stage=rcpt cut rate=0.03");
  rule(w, "stage=final cut rate=0.1");
  run(w);
  ck_assert_uint_eq(w->sent->accepted_recipients, MESSAGES * RECIPIENTS);
  ck_assert_uint_gt(w->sent->maybe_duplicated, 0);
  world_free(w);
}
END_TEST

START_TEST(cut_after_acceptance_is_excused) {
  struct world *w = world_new(ways[_i].way, ways[_i].chunking);
  rule(w, "stage=final cut-after-accept rate=0.2");
  while (w->next_seq < MESSAGES || w->job_count > 0) connection(w);
  ck_assert_uint_eq(w->received->arrived, MESSAGES * RECIPIENTS);
  ck_assert_uint_gt(w->received->excused_duplicates, 0);
  ck_assert_uint_eq(w->received->duplicated, 0);
  world_free(w);
}
END_TEST

/* What was answered before a session breaks is settled; only the rest comes again. */
START_TEST(broken_behind_a_refused_mail) {
  struct world *w = world_new(ways[_i].way, ways[_i].chunking);
  sender_begin(w->sender);
  sender_feed(w->sender, SPAN("220 x\r\n"), 1000);
  sender_sent(w->sender);
  sender_feed(w->sender, SPAN("250-PIPELINING\r\n250 CHUNKING\r\n"), 1000);
  sender_sent(w->sender);
  w->next_seq = MESSAGES; /* no more than the one */
  sender_feed(w->sender, SPAN("451 4.3.0 no\r\n"), 1000);
  ck_assert_uint_eq(w->job_count, 1);
  sender_broken(w->sender);
  ck_assert_uint_eq(w->job_count, 1);
  ck_assert_uint_eq(w->sent->deferred_recipients, RECIPIENTS);
  world_free(w);
}
END_TEST

/* Replies that nobody asked for: the session breaks, nothing worse. */
START_TEST(peer_out_of_its_mind) {
  struct world *w = world_new(ways[_i].way, ways[_i].chunking);
  static const char text[] = "220 x\r\n250-PIPELINING\r\n250 CHUNKING\r\n250 a\r\n250 a\r\n250 a\r\n250 a\r\n354 a\r\n354 a\r\n250 a\r\n250 a\r\n250 "
                             "a\r\n250 a\r\n354 a\r\n";
  sender_begin(w->sender);
  for (unsigned i = 0; i < 200 && w->sender->state != SENDER_OVER; i++) sender_feed(w->sender, span_of_text(i == 0 ? text : text + 44), 1000);
  ck_assert_int_eq(w->sender->state, SENDER_OVER);
  ck_assert_uint_eq(w->under_way, 0);
  sender_begin(w->sender);
  sender_feed(w->sender, SPAN("no reply at all\r\n"), 1000);
  ck_assert_int_eq(w->sender->state, SENDER_OVER);
  char line[3000];
  memset(line, '2', sizeof line);
  sender_begin(w->sender);
  sender_feed(w->sender, span_of(line, sizeof line), 1000);
  ck_assert_int_eq(w->sender->state, SENDER_OVER);
  world_free(w);
}
END_TEST

int main(void) {
  TCase *agreement = tcase_create("agreement");
  int count = sizeof ways / sizeof *ways;
  tcase_add_loop_test(agreement, all_is_well, 0, count);
  tcase_add_loop_test(agreement, some_messages_a_session, 0, count);
  tcase_add_loop_test(agreement, all_is_secured, 0, count);
  tcase_add_test(agreement, not_secured);
  tcase_add_loop_test(agreement, nothing_offered, 0, count);
  tcase_add_loop_test(agreement, recipients_refused_and_deferred, 0, count);
  tcase_add_loop_test(agreement, every_stage_defers, 0, count);
  tcase_add_loop_test(agreement, connections_end_early, 0, count);
  tcase_add_loop_test(agreement, cut_after_acceptance_is_excused, 0, count);
  tcase_add_loop_test(agreement, broken_behind_a_refused_mail, 2, count); /* the pipelined ways */
  tcase_add_loop_test(agreement, peer_out_of_its_mind, 0, count);
  return unit_main("bench/sender", &agreement, 1);
}
