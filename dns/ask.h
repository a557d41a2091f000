/*
 * ask: one question to the recursive servers, until there is an answer or the tries are spent.
 *
 * Owner: one shard. A question goes to one server at a time over UDP; a truncated reply is fetched again over TCP; a server that cannot say
 * (SERVFAIL, REFUSED) is not asked again, one that does not reply within the time gives way to the next; FORMERR or NOTIMP: once more without EDNS.
 * Each question has a timer set as long as it lives, and at most `tries` tries of at most three packets.
 *
 *   question = ask_start(asker, &key);   // later: done(context, question, answer), after which the question is gone
 */
#ifndef DNS_ASK_H
#define DNS_ASK_H

#include "core/base/wheel.h"
#include "dns/codec.h"
#include "dns/resolver.h"
#include "dns/tcp.h"
#include "dns/udp.h"

#define ASK_QUESTIONS_MAX 140000 /* slots; memory is touched as they are used, about 500 bytes each */
#define ASK_MIX 32

struct asker;

struct question {
  struct dns_key key;
  void *waiters; /* the caller's */
  struct asker *_asker;
  struct timer _timer;
  struct udp_flight _flight;
  struct tcp_stream *_stream;
  uint8_t _mix[ASK_MIX];
  uint16_t _id;
  uint16_t _rcode; /* the last refusal, for the reason */
  uint8_t _server;
  uint8_t _tries;
  bool _edns;
  bool _replied;
  uint32_t _unable;      /* servers that replied but could not say */
  uint32_t _unreachable; /* of this round */
};

/* The answer is borrowed for the call, and may be changed. */
typedef void (*ask_done)(void *context, struct question *question, struct dns_answer *answer);

struct asker {
  struct io *_io;
  struct wheel *_wheel;
  struct netaddr _servers[UDP_SERVERS_MAX];
  unsigned _servers_count;
  unsigned _current; /* the server asked first: moves on when it fails */
  uint32_t _timeout_ms;
  unsigned _tries;
  ask_done _done;
  void *_context;
  struct resolver_stats *_stats;
  struct udp _udp;
  struct tcp _tcp;
  struct pool _questions;
  struct map _by_key;
  struct dns_reply _reply; /* of the packet that is being looked at */
};

must_check int ask_open(struct asker *asker, struct io *io, struct wheel *wheel, const struct resolver_options *options, uint8_t token_kind,
                        struct resolver_stats *stats, ask_done done, void *context);
/* Ends all questions without a call. */
void ask_close(struct asker *asker);

/* The question under way about this, or NULL. */
struct question *ask_find(const struct asker *asker, const struct dns_key *key);
/* Such a question must not be under way. NULL if there are too many. `done` is never called from within. */
struct question *ask_start(struct asker *asker, const struct dns_key *key);

void ask_complete(struct asker *asker, const struct io_completion *completion);

#endif
