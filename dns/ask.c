#include "dns/ask.h"

#include <stddef.h>

#include "core/base/error.h"
#include "dns/token.h"

/* A connection has its own, longer limit: three round trips instead of one. */
#define TCP_TIMEOUT_FACTOR 2

static struct span key_of(const void *object) { return dns_key_span(&((const struct question *)object)->key); }
static struct question *of_flight(struct udp_flight *flight) { return (struct question *)((char *)flight - offsetof(struct question, _flight)); }
static struct question *of_timer(struct timer *timer) { return (struct question *)((char *)timer - offsetof(struct question, _timer)); }
static uint64_t now_ms(const struct asker *asker) { return io_now_ns(asker->_io) / 1000000; }
static uint32_t bit(unsigned server) { return (uint32_t)1 << server; }

static struct dns_question about(const struct question *question, bool mixed) {
  return (struct dns_question){dns_key_type(&question->key), dns_key_name(&question->key), mixed ? question->_mix : NULL};
}

/* ---- the end of a question ---- */

static void detach(struct question *question) {
  struct asker *asker = question->_asker;
  udp_stop(&asker->_udp, &question->_flight);
  if (question->_stream != NULL) tcp_stop(&asker->_tcp, question->_stream);
  question->_stream = NULL;
}

static void end(struct question *question, struct dns_answer *answer) {
  struct asker *asker = question->_asker;
  detach(question);
  timer_cancel(asker->_wheel, &question->_timer);
  must(map_remove(&asker->_by_key, dns_key_span(&question->key)));
  asker->_done(asker->_context, question, answer);
  pool_put(&asker->_questions, question);
}

static void give_up(struct question *question) {
  struct dns_answer *answer = &question->_asker->_reply.answer;
  *answer = (struct dns_answer){.outcome = DNS_FAILED, .silent = !question->_replied, .rcode = question->_rcode};
  end(question, answer);
}

/* ---- tries ---- */

/* The next server, from `start` on, that is not in the set; -1 if all are. */
static int server_outside(const struct asker *asker, unsigned start, uint32_t set) {
  for (unsigned i = 0; i < asker->_servers_count; i++) {
    unsigned server = (start + i) % asker->_servers_count;
    if ((set & bit(server)) == 0) return (int)server;
  }
  return -1;
}

static void pass_over(struct asker *asker, unsigned server) {
  if (asker->_current == server) asker->_current = (server + 1) % asker->_servers_count;
}

/* Such a try does not count: the round does. */
static void note_unreachable(struct question *question) {
  question->_unreachable |= bit(question->_server);
  question->_tries--;
  pass_over(question->_asker, question->_server);
}

/* Asks that server. The timer runs whatever comes of it. */
static int try_server(struct question *question, unsigned server) {
  struct asker *asker = question->_asker;
  question->_server = (uint8_t)server;
  question->_tries++;
  io_random(asker->_io, question->_mix, sizeof question->_mix);
  timer_set(asker->_wheel, &question->_timer, now_ms(asker) + asker->_timeout_ms);
  return udp_start(&asker->_udp, &question->_flight, server, now_ms(asker));
}

/*
 * The next try. A server out of reach is passed over at once; when all are, that counts as one try and the timer gives them time to come back (a
 * restart takes a second or two), so tries are not burnt in a moment. False: nobody is left to ask, or no try.
 */
static bool try_next(struct question *question, unsigned start) {
  struct asker *asker = question->_asker;
  while (question->_tries < asker->_tries) {
    int server = server_outside(asker, start, question->_unable | question->_unreachable);
    if (server < 0) {
      if (question->_unreachable == 0) return false;
      question->_unreachable = 0;
      return ++question->_tries < asker->_tries;
    }
    if (try_server(question, (unsigned)server) == E_OK) return true;
    note_unreachable(question);
  }
  return false;
}

static void go_on(struct question *question) {
  if (!try_next(question, question->_server + 1u)) give_up(question);
}

static void out_of_reach(struct question *question) {
  note_unreachable(question);
  go_on(question);
}

static void timed_out(void *context, struct timer *timer) {
  struct question *question = of_timer(timer);
  struct asker *asker = question->_asker;
  (void)context; /* the wheel's, not ours */
  if (udp_under_way(&question->_flight) || question->_stream != NULL) {
    asker->_stats->timeouts++;
    pass_over(asker, question->_server);
  }
  question->_unreachable = 0;
  detach(question);
  go_on(question);
}

/* ---- replies ---- */

static void ask_over_tcp(struct question *question) {
  struct asker *asker = question->_asker;
  uint8_t query[DNS_QUERY_MAX];
  struct fmt out = fmt_over(query, sizeof query);
  struct dns_question plain = about(question, false);
  udp_stop(&asker->_udp, &question->_flight);
  io_random(asker->_io, &question->_id, sizeof question->_id);
  if (dns_encode(&plain, question->_id, question->_edns, &out) == E_OK)
    question->_stream = tcp_start(&asker->_tcp, &asker->_servers[question->_server], fmt_span(&out), question);
  if (question->_stream == NULL) return; /* all streams are in use: the timer brings the next try */
  asker->_stats->queries_sent++;
  timer_set(asker->_wheel, &question->_timer, now_ms(asker) + (uint64_t)asker->_timeout_ms * TCP_TIMEOUT_FACTOR);
}

static void ask_without_edns(struct question *question) {
  struct asker *asker = question->_asker;
  detach(question);
  question->_edns = false;
  timer_set(asker->_wheel, &question->_timer, now_ms(asker) + asker->_timeout_ms);
  if (udp_start(&asker->_udp, &question->_flight, question->_server, now_ms(asker)) != E_OK) out_of_reach(question);
}

static void unable(struct question *question, uint16_t rcode) {
  question->_unable |= bit(question->_server);
  question->_rcode = rcode;
  if (rcode == DNS_REFUSED) pass_over(question->_asker, question->_server); /* it is the server's way, not the name's fault */
  detach(question);
  go_on(question);
}

static bool blames_edns(const struct question *question, const struct dns_reply *reply) {
  return question->_edns && reply->response && (reply->rcode == DNS_FORMERR || reply->rcode == DNS_NOTIMP);
}

/* A reply to this question from the server asked. */
static void judge(struct question *question, struct dns_reply *reply) {
  struct asker *asker = question->_asker;
  asker->_stats->answers++;
  question->_replied = true;
  if (blames_edns(question, reply)) {
    ask_without_edns(question);
  } else if (reply->answer.outcome == DNS_FAILED || reply->truncated || !reply->asked) {
    unable(question, reply->truncated ? DNS_SERVFAIL : reply->rcode);
  } else {
    end(question, &reply->answer);
  }
}

static void udp_replied(void *context, struct udp_flight *flight, struct span packet) {
  struct asker *asker = context;
  struct question *question = of_flight(flight);
  struct dns_question asked = about(question, true);
  int error = dns_decode(packet, &asker->_reply);
  enum dns_match_result match = error == E_OK ? dns_match(&asker->_reply, &asked) : DNS_NO_MATCH;
  if (match == DNS_MATCH && !asker->_reply.truncated) {
    judge(question, &asker->_reply);
  } else if (match != DNS_NO_MATCH) { /* too long; or a server that does not keep the case, or a guess of a spoofer, which TCP tells apart */
    asker->_stats->truncated += asker->_reply.truncated;
    question->_replied = true;
    ask_over_tcp(question);
  } else if (error == E_OK && !asker->_reply.asked && blames_edns(question, &asker->_reply)) {
    judge(question, &asker->_reply); /* such a server may not even repeat the question */
  } else {
    asker->_stats->mismatches++; /* the true reply may still come */
  }
}

static void udp_failed(void *context, struct udp_flight *flight, int error) {
  (void)context, (void)error;
  out_of_reach(of_flight(flight));
}

static void udp_stray(void *context) { ((struct asker *)context)->_stats->mismatches++; }

static void udp_encode(void *context, struct udp_flight *flight, uint16_t id, struct fmt *out) {
  struct asker *asker = context;
  struct question *question = of_flight(flight);
  struct dns_question mixed = about(question, true);
  asker->_stats->queries_sent++;
  if (dns_encode(&mixed, id, question->_edns, out) != E_OK) *out = fmt_over(out->at, out->cap); /* no memory: an empty datagram, and the timer */
}

static void tcp_failed(void *context, void *owner, int error) {
  struct question *question = owner;
  (void)context, (void)error;
  question->_stream = NULL;
  out_of_reach(question);
}

static void tcp_replied(void *context, void *owner, struct span packet) {
  struct asker *asker = context;
  struct question *question = owner;
  struct dns_question asked = about(question, false);
  question->_stream = NULL;
  int error = dns_decode(packet, &asker->_reply);
  if (error == E_OK && asker->_reply.id == question->_id && dns_match(&asker->_reply, &asked) != DNS_NO_MATCH) {
    judge(question, &asker->_reply);
  } else {
    asker->_stats->mismatches++;
    unable(question, DNS_SERVFAIL);
  }
}

/* ---- life ---- */

int ask_open(struct asker *asker, struct io *io, struct wheel *wheel, const struct resolver_options *options, uint8_t token_kind,
             struct resolver_stats *stats, ask_done done, void *context) {
  struct udp_events udp = {udp_encode, udp_replied, udp_failed, udp_stray, asker};
  struct tcp_events tcp = {tcp_replied, tcp_failed, asker};
  uint64_t seed;
  unsigned count = options->servers_count < UDP_SERVERS_MAX ? options->servers_count : UDP_SERVERS_MAX;
  *asker = (struct asker){._io = io, ._wheel = wheel, ._servers_count = count, ._done = done, ._context = context, ._stats = stats};
  asker->_timeout_ms = options->timeout_ms > 0 ? options->timeout_ms : 2000;
  asker->_tries = options->tries > 0 ? (options->tries < 100 ? options->tries : 100) : 4;
  for (unsigned i = 0; i < count; i++) asker->_servers[i] = options->servers[i];
  io_random(io, &seed, sizeof seed);
  map_init(&asker->_by_key, key_of, seed);
  int error = pool_init(&asker->_questions, sizeof(struct question), ASK_QUESTIONS_MAX);
  if (error == E_OK) error = udp_open(&asker->_udp, io, token_kind, asker->_servers, count, &udp);
  if (error == E_OK) error = tcp_open(&asker->_tcp, io, token_kind, &tcp);
  if (error != E_OK) ask_close(asker);
  return error;
}

void ask_close(struct asker *asker) {
  uint32_t cursor = 0;
  for (struct question *question; (question = map_next(&asker->_by_key, &cursor)) != NULL;) timer_cancel(asker->_wheel, &question->_timer);
  udp_close(&asker->_udp);
  tcp_close(&asker->_tcp);
  map_fini(&asker->_by_key);
  pool_fini(&asker->_questions);
}

/* ---- questions ---- */

struct question *ask_find(const struct asker *asker, const struct dns_key *key) {
  return map_find(&asker->_by_key, dns_key_span(key));
}

struct question *ask_start(struct asker *asker, const struct dns_key *key) {
  struct question *question = pool_get(&asker->_questions);
  if (question == NULL) return NULL;
  question->key = *key;
  question->_asker = asker;
  question->_timer.fire = timed_out;
  question->_edns = true;
  question->_rcode = DNS_SERVFAIL;
  if (map_insert(&asker->_by_key, question) != E_OK) {
    pool_put(&asker->_questions, question);
    return NULL;
  }
  if (!try_next(question, asker->_current)) timer_set(asker->_wheel, &question->_timer, now_ms(asker)); /* ends in the next turn, not in this call */
  return question;
}

void ask_complete(struct asker *asker, const struct io_completion *completion) {
  if (dns_token_operation(completion->token) >= DNS_TCP_CONNECT) {
    tcp_complete(&asker->_tcp, completion);
  } else {
    udp_complete(&asker->_udp, completion);
  }
}
