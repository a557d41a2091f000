/*
 * ask: one question to the recursive servers, until there is an answer or the tries are spent.
 *
 * Owner: one shard. A question goes to one server at a time over UDP; a truncated reply is fetched again over TCP; a server that cannot say
 * (SERVFAIL, REFUSED) is not asked again, one that does not reply within the time gives way to the next; FORMERR or NOTIMP: once more without EDNS.
 * At most `tries` tries of at most three packets.
 *
 * A question waits until there is room in the window of the server whose turn it is (window.h), first come, first served; or for a free TCP stream. Of a window those whose last
 * try was not replied to take half at most, so that names nobody answers do not hold up the others. A server that no socket can be had for is left alone for a moment, and those
 * that wait go on waiting. The time for a reply runs from when its datagram is handed to the kernel. It may wait for as long as servers reply to others; when none has replied for the time that all its
 * tries would take, it ends as one that nobody replied to. So it has a timer set as long as it lives.
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
#include "dns/window.h"

#define ASK_QUESTIONS_MAX 140000 /* slots; memory is touched as they are used, about 500 bytes each */
#define ASK_MIX 32

struct asker;

TAILQ_HEAD(questions, question);

struct question {
  struct dns_key key;
  void *waiters; /* the caller's */
  struct asker *_asker;
  struct timer _timer;
  TAILQ_ENTRY(question) _link;
  struct questions *_queue; /* that it waits in; NULL: in none */
  uint64_t _number;         /* of its coming to it */
  uint64_t _begun_ms;
  uint64_t _sent_ms;
  struct udp_flight _flight;
  struct tcp_stream *_stream;
  uint8_t _mix[ASK_MIX];
  uint16_t _id;
  uint16_t _rcode; /* the last refusal, for the reason */
  uint8_t _server;
  uint8_t _tries;
  uint8_t _lost_by; /* the server that did not reply to the last try in time, + 1; 0: none */
  bool _loss_known; /* ... it did later, which its window was told of */
  bool _again;      /* its flight is asked again, see AGAIN_SHARE */
  bool _edns;
  bool _replied;
  uint32_t _unable;      /* servers that replied but could not say */
  uint32_t _unreachable; /* of this round */
};

/* The answer is borrowed for the call, and may be changed. */
typedef void (*ask_done)(void *context, struct question *question, struct dns_answer *answer);

struct ask_server {
  struct window window;
  unsigned again;              /* of those under way: asked again, as the try before was not replied to */
  bool no_socket;              /* none could be had: it is left alone for a moment */
  uint64_t heard_ms;           /* the last reply from it */
  struct questions waiting[2]; /* for this one, as others were found unable or out of reach; [1]: to be asked again */
};

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
  struct ask_server _server[UDP_SERVERS_MAX];
  struct questions _waiting[2]; /* for whichever server is asked first; [1]: to be asked again */
  struct questions _for_stream; /* for a TCP stream to its server */
  struct timer _look;           /* again for a socket */
  uint64_t _numbers;
  uint64_t _heard_ms;      /* the last reply from any server */
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
