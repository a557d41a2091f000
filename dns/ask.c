#include "dns/ask.h"

#include <stddef.h>

#include "core/base/error.h"
#include "dns/token.h"

/* A connection has its own, longer limit: three round trips instead of one. */
#define TCP_TIMEOUT_FACTOR 2
#define AGAIN_SHARE 2       /* so much of a window, a half, may be taken by what is asked again after no reply */
#define LOOK_MS 10          /* for a socket, when there was none */
#define WINDOW_LOSS_KNOWN 4 /* a lost query is asked again after the timeout; a quarter of that later its reply is there */

static struct span key_of(const void *object) { return dns_key_span(&((const struct question *)object)->key); }
static struct question *of_flight(struct udp_flight *flight) { return (struct question *)((char *)flight - offsetof(struct question, _flight)); }
static struct question *of_timer(struct timer *timer) { return (struct question *)((char *)timer - offsetof(struct question, _timer)); }
static uint64_t now_ms(const struct asker *asker) { return io_now_ns(asker->_io) / 1000000; }
static uint32_t bit(unsigned server) { return (uint32_t)1 << server; }

static struct dns_question about(const struct question *question, bool mixed) {
  return (struct dns_question){dns_key_type(&question->key), dns_key_name(&question->key), mixed ? question->_mix : NULL};
}

/* As long as all tries take. */
static uint64_t patience_ms(const struct asker *asker) { return (uint64_t)asker->_timeout_ms * asker->_tries; }

/* ---- waiting, and the windows ---- */

static void wait_in(struct question *question, struct questions *queue) {
  struct asker *asker = question->_asker;
  question->_queue = queue;
  question->_number = ++asker->_numbers;
  TAILQ_INSERT_TAIL(queue, question, _link);
  uint64_t look_ms = question->_begun_ms + patience_ms(asker);
  timer_set(asker->_wheel, &question->_timer, look_ms > now_ms(asker) ? look_ms : now_ms(asker));
}

static void wait_no_more(struct question *question) {
  if (question->_queue != NULL) TAILQ_REMOVE(question->_queue, question, _link);
  question->_queue = NULL;
}

/* To be asked again, as the last try was not replied to: maybe this name has no answer at all. */
static bool is_again(const struct question *question) { return question->_lost_by != 0; }

static bool has_room(const struct asker *asker, unsigned index, bool again) {
  const struct ask_server *server = &asker->_server[index];
  return !server->no_socket && window_has_room(&server->window) && (!again || server->again < server->window.size / AGAIN_SHARE);
}

/* Its timer runs from when the datagram is handed to the kernel, see udp_encode. */
static int start_flight(struct question *question) {
  struct asker *asker = question->_asker;
  struct ask_server *server = &asker->_server[question->_server];
  int error = udp_start(&asker->_udp, &question->_flight, question->_server, now_ms(asker));
  if (error != E_OK) return error;
  question->_again = is_again(question);
  server->again += question->_again;
  server->window.under_way++;
  return E_OK;
}

static void flight_over(const struct question *question) {
  struct ask_server *server = &question->_asker->_server[question->_server];
  server->again -= question->_again;
  server->window.under_way--;
}

static void stop_flight(struct question *question) {
  struct asker *asker = question->_asker;
  if (!udp_under_way(&question->_flight)) return;
  udp_stop(&asker->_udp, &question->_flight);
  flight_over(question);
}

/* ---- the end of a question ---- */

static void detach(struct question *question) {
  struct asker *asker = question->_asker;
  wait_no_more(question);
  stop_flight(question);
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

/*
 * Lets it wait for its next try. A server out of reach is passed over at once; when all are, that counts as one try and the timer gives them time to come
 * back (a restart takes a second or two), so tries are not burnt in a moment. False: nobody is left to ask, or no try.
 */
static bool line_up(struct question *question, unsigned start) {
  struct asker *asker = question->_asker;
  uint32_t out = question->_unable | question->_unreachable;
  if (question->_tries >= asker->_tries) return false;
  int server = server_outside(asker, start, out);
  if (server >= 0) {
    wait_in(question, out == 0 ? &asker->_waiting[is_again(question)] : &asker->_server[server].waiting[is_again(question)]);
    return true;
  }
  if (question->_unreachable == 0 || ++question->_tries >= asker->_tries) return false;
  question->_unreachable = 0;
  timer_set(asker->_wheel, &question->_timer, now_ms(asker) + asker->_timeout_ms);
  return true;
}

static void go_on(struct question *question) {
  if (!line_up(question, question->_server + 1u)) give_up(question);
}

static void out_of_reach(struct question *question) {
  note_unreachable(question);
  go_on(question);
}

/* ---- whose turn it is ---- */

/* Where the first of those that any server may answer goes: to the one that is asked first, or, asked again, to another that has room. */
static unsigned server_for(const struct asker *asker, const struct question *question) {
  for (unsigned i = 1; question->_lost_by == asker->_current + 1 && i < asker->_servers_count; i++) {
    unsigned other = (asker->_current + i) % asker->_servers_count;
    if (has_room(asker, other, true)) return other;
  }
  return asker->_current;
}

static struct question *sooner(struct question *one, struct question *other) {
  return one == NULL || (other != NULL && other->_number < one->_number) ? other : one;
}

/* Who is next at this server: of those it has room for the one that came first. NULL: nobody. */
static struct question *next_at(struct asker *asker, unsigned server) {
  struct question *next = NULL;
  for (unsigned again = 0; again < 2 && has_room(asker, server, again); again++) {
    struct question *any = TAILQ_FIRST(&asker->_waiting[again]);
    next = sooner(next, TAILQ_FIRST(&asker->_server[server].waiting[again]));
    if (any != NULL && server_for(asker, any) == server) next = sooner(next, any);
  }
  return next;
}

/* What waits for it is not taken through one after the other, each to no avail: there may be thousands. */
static void leave_alone(struct asker *asker, unsigned server) {
  asker->_server[server].no_socket = true;
  if (!timer_is_set(&asker->_look)) timer_set(asker->_wheel, &asker->_look, now_ms(asker) + LOOK_MS);
}

/* False: it could not be sent, and waits elsewhere now. */
static bool try_at(struct question *question, unsigned server) {
  struct asker *asker = question->_asker;
  wait_no_more(question);
  question->_server = (uint8_t)server;
  question->_tries++;
  io_random(asker->_io, question->_mix, sizeof question->_mix);
  if (start_flight(question) == E_OK) return true;
  leave_alone(asker, server);
  note_unreachable(question);
  if (!line_up(question, server + 1)) timer_set(asker->_wheel, &question->_timer, now_ms(asker)); /* ends in the next turn, not in this call */
  return false;
}

static void start_stream(struct question *question) {
  struct asker *asker = question->_asker;
  uint8_t query[DNS_QUERY_MAX];
  struct fmt out = fmt_over(query, sizeof query);
  struct dns_question plain = about(question, false);
  wait_no_more(question);
  io_random(asker->_io, &question->_id, sizeof question->_id);
  timer_set(asker->_wheel, &question->_timer, now_ms(asker) + (uint64_t)asker->_timeout_ms * TCP_TIMEOUT_FACTOR);
  if (dns_encode(&plain, question->_id, question->_edns, &out) == E_OK)
    question->_stream = tcp_start(&asker->_tcp, &asker->_servers[question->_server], fmt_span(&out), question);
  if (question->_stream != NULL) asker->_stats->queries_sent++; /* else there is no memory or no socket: the timer brings the next try */
}

/* Sends what there is room for. Ends no question. */
static void send_waiting(struct asker *asker) {
  for (bool again = true; again;) {
    again = false;
    for (unsigned server = 0; server < asker->_servers_count; server++) {
      struct question *question;
      while ((question = next_at(asker, server)) != NULL) again |= !try_at(question, server);
    }
  }
  while (!TAILQ_EMPTY(&asker->_for_stream) && tcp_has_room(&asker->_tcp)) start_stream(TAILQ_FIRST(&asker->_for_stream));
}

static void look_again(void *context, struct timer *timer) {
  struct asker *asker = (struct asker *)((char *)timer - offsetof(struct asker, _look));
  (void)context; /* the wheel's, not ours */
  for (unsigned i = 0; i < asker->_servers_count; i++) asker->_server[i].no_socket = false;
  send_waiting(asker);
}

/* ---- time ---- */

/* A server that has replied to others since is not at fault: some names have no answer. */
static void not_in_time(struct question *question) {
  struct asker *asker = question->_asker;
  asker->_stats->timeouts++;
  if (question->_stream != NULL || asker->_server[question->_server].heard_ms <= question->_sent_ms) pass_over(asker, question->_server);
  if (udp_under_way(&question->_flight)) {
    question->_lost_by = (uint8_t)(question->_server + 1);
    question->_loss_known = false;
  }
  if (question->_unable != 0)
    question->_unable |= bit(question->_server); /* one could not say and this one does not: no more is known by asking on */
}

/* It was not sent yet, which is nobody's fault as long as servers reply to others. */
static void waited_long(struct question *question) {
  struct asker *asker = question->_asker;
  if (now_ms(asker) - asker->_heard_ms >= patience_ms(asker)) {
    give_up(question);
  } else if (question->_queue != NULL) {
    timer_set(asker->_wheel, &question->_timer, now_ms(asker) + patience_ms(asker));
  } else { /* behind a send that does not end: another socket may do */
    detach(question);
    question->_tries--;
    go_on(question);
  }
}

static void timed_out(void *context, struct timer *timer) {
  struct question *question = of_timer(timer);
  struct asker *asker = question->_asker;
  (void)context; /* the wheel's, not ours */
  if (question->_queue != NULL || udp_queued(&question->_flight)) {
    waited_long(question);
  } else {
    if (udp_under_way(&question->_flight) || question->_stream != NULL) not_in_time(question);
    question->_unreachable = 0;
    detach(question);
    go_on(question);
  }
  send_waiting(asker);
}

/* ---- replies ---- */

static void ask_over_tcp(struct question *question) {
  detach(question);
  wait_in(question, &question->_asker->_for_stream);
}

static void ask_without_edns(struct question *question) {
  detach(question);
  question->_edns = false;
  if (start_flight(question) != E_OK) out_of_reach(question);
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

static bool more_wait(const struct asker *asker) { return !TAILQ_EMPTY(&asker->_waiting[0]); }

/* The last try was, not the name is one without an answer. Both may tell, a late reply and the one to the next try: they count once. */
static void lost(struct question *question) {
  struct asker *asker = question->_asker;
  if (!question->_loss_known) window_lost(&asker->_server[question->_lost_by - 1].window, more_wait(asker), now_ms(asker));
  question->_loss_known = true;
}

/* A reply that may be believed came from the server asked. */
static void heard(struct question *question) {
  struct asker *asker = question->_asker;
  struct ask_server *server = &asker->_server[question->_server];
  question->_replied = true;
  server->heard_ms = asker->_heard_ms = now_ms(asker);
  if (question->_lost_by != 0) lost(question);
  question->_lost_by = 0;
  window_answered(&server->window, more_wait(asker), now_ms(asker));
}

/* A reply to this question from the server asked. */
static void judge(struct question *question, struct dns_reply *reply) {
  struct asker *asker = question->_asker;
  asker->_stats->answers++;
  heard(question);
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
    heard(question);
    ask_over_tcp(question);
  } else if (error == E_OK && !asker->_reply.asked && blames_edns(question, &asker->_reply)) {
    judge(question, &asker->_reply); /* such a server may not even repeat the question */
  } else {
    asker->_stats->mismatches++; /* the true reply may still come */
  }
}

static void udp_failed(void *context, struct udp_flight *flight, int error) {
  struct question *question = of_flight(flight);
  (void)context, (void)error;
  flight_over(question);
  out_of_reach(question);
}

/* A reply that came too late, mostly: the server is there, but has too much to do. It may be one that came twice, too: nobody waits for that, and nothing was lost. */
static void udp_stray(void *context, unsigned server, struct span packet) {
  struct asker *asker = context;
  struct dns_key key;
  asker->_stats->mismatches++;
  asker->_server[server].heard_ms = asker->_heard_ms = now_ms(asker);
  if (dns_decode(packet, &asker->_reply) != E_OK || !asker->_reply.response || !asker->_reply.asked) return;
  char name[DNS_NAME_MAX];
  for (size_t i = 0; i < asker->_reply.name.len; i++) name[i] = (char)ascii_lower((uint8_t)asker->_reply.name.text[i]);
  dns_key_make(&key, asker->_reply.type, span_of(name, asker->_reply.name.len));
  struct question *question = ask_find(asker, &key);
  if (question != NULL && question->_lost_by == server + 1) lost(question);
}

static void udp_encode(void *context, struct udp_flight *flight, uint16_t id, struct fmt *out) {
  struct asker *asker = context;
  struct question *question = of_flight(flight);
  struct dns_question mixed = about(question, true);
  asker->_stats->queries_sent++;
  if (question->_tries > 1) asker->_stats->retries++;
  question->_sent_ms = now_ms(asker);
  timer_set(asker->_wheel, &question->_timer, question->_sent_ms + asker->_timeout_ms);
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
  asker->_look.fire = look_again;
  for (unsigned again = 0; again < 2; again++) TAILQ_INIT(&asker->_waiting[again]);
  TAILQ_INIT(&asker->_for_stream);
  for (unsigned i = 0; i < count; i++) {
    asker->_servers[i] = options->servers[i];
    for (unsigned again = 0; again < 2; again++) TAILQ_INIT(&asker->_server[i].waiting[again]);
    window_init(&asker->_server[i].window, asker->_timeout_ms + asker->_timeout_ms / WINDOW_LOSS_KNOWN, now_ms(asker));
  }
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
  timer_cancel(asker->_wheel, &asker->_look);
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
  question->_begun_ms = now_ms(asker);
  question->_edns = true;
  question->_rcode = DNS_SERVFAIL;
  if (map_insert(&asker->_by_key, question) != E_OK) {
    pool_put(&asker->_questions, question);
    return NULL;
  }
  if (!line_up(question, asker->_current)) timer_set(asker->_wheel, &question->_timer, now_ms(asker)); /* ends in the next turn, not in this call */
  send_waiting(asker);
  return question;
}

void ask_complete(struct asker *asker, const struct io_completion *completion) {
  if (dns_token_operation(completion->token) >= DNS_TCP_CONNECT) {
    tcp_complete(&asker->_tcp, completion);
  } else {
    udp_complete(&asker->_udp, completion);
  }
  send_waiting(asker);
}
