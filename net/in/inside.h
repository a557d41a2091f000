/*
 * inside: what the files of net/in share of sessions: the intake of a shard, its sessions, and how completions find them. For net/in only.
 */
#ifndef NET_IN_INSIDE_H
#define NET_IN_INSIDE_H

#include <sys/queue.h>

#include "core/base/buffer.h"
#include "core/base/pool.h"
#include "net/auth/directory.h"
#include "net/auth/lockout.h"
#include "net/auth/verify.h"
#include "net/in/certificates.h"
#include "net/in/guard.h"
#include "net/in/intake.h"
#include "net/in/submit.h"
#include "net/tls/tls.h"

/* On its way in: net/in/entry.c. */
enum session_stage {
  STAGE_OPEN = 0,  /* greeted, or refused with a reply */
  STAGE_PROXY,     /* until the load balancer has said whose connection it is */
  STAGE_SILENT,    /* until the banner, which comes late */
  STAGE_HANDSHAKE, /* of TLS: before the banner, or behind STARTTLS */
};

struct session {
  io_socket socket;
  uint32_t tag; /* of tokens: generation of the slot */
  struct intake *intake;
  struct session *next_dirty;
  uint64_t id;
  struct netaddr peer;
  struct dns_lists *dns_lists;    /* of its listener, until it is known who it is; NULL: none */
  struct listing *listing;        /* what they say of it, or will; NULL: nothing that matters */
  struct guard_entry *guard;      /* it counts for its client; NULL: for nobody */
  struct guard_entry *user_guard; /* ... and for its user */
  struct timer timer;
  struct buffer out;     /* being filled */
  struct buffer sealed;  /* ... and enciphered; what went in the clear before TLS was on is in front of it */
  struct tls *tls;       /* NULL: none */
  size_t tls_counted;    /* bytes of it that the slab knows of */
  struct buffer sending; /* the kernel's, while `send_under_way` */
  struct io_slice slice;
  struct buffer stash; /* received, not eaten */
  struct buffer hello;
  struct buffer user;           /* the name it has authenticated as */
  uint32_t user_recipients_max; /* since the last MAIL; 0: as for all */
  struct login *login;          /* an authentication that goes on */
  struct submission *submission;
  struct smtp_server server;
  uint64_t content_due_ms;  /* while a message comes in, between its BDATs too: by then more of it has to be there; else 0 */
  uint64_t content_counted; /* bytes of it that have moved content_due_ms ahead */
  bool progress;            /* a command was whole: the timer starts anew */
  uint32_t errors_seen;     /* of server.errors: those that counted already */
  uint64_t held_until_ms;
  uint8_t stage;        /* enum session_stage */
  uint8_t kind;         /* bits of enum listener_kind */
  uint8_t certificates; /* enum conf_clients, of its listener */
  bool certified;       /* the client has shown a certificate that counts */
  bool implicit_tls;    /* of its listener */
  bool submits;         /* likewise: RFC 6409 */
  bool limited;         /* its client is not one of clients.except */
  bool may_relay;
  bool esmtp;
  bool dirty;
  bool send_under_way;
  bool waiting; /* for the spool: nothing is read meanwhile */
  bool quiet;   /* of TLS: nothing has come since the last look */
  bool held;    /* an error is answered late: until then nothing is read or sent */
  bool paused;
  bool careful; /* receives one buffer at a time */
  bool feeding; /* inside feed(): a callback must not start another */
  bool leaving; /* close when what is to be sent is sent */
  bool gone;    /* the peer closed */
  bool closing;
};

struct refusal_list { /* a DNS list by which a client is refused */
  struct span name;
  struct netaddr answer;
};

/* What sessions differ in by their listener, as bits: each combination has its options for the server machine. */
enum listener_kind { OFFERS_AUTH = 1, NEEDS_AUTH = 2, AUTH_IN_CLEAR = 4, OFFERS_TLS = 8, LISTENER_KINDS = 16 };

struct intake {
  struct intake_options o;
  struct certificates *certificates; /* NULL: none */
  struct directory_view users;
  struct verify_lane *lane; /* NULL: there are no users */
  struct lockout *lockout;  /* likewise */
  struct smtp_server_options server_options[LISTENER_KINDS];
  struct guard_limits client_limits;
  struct submit_context submit;
  struct pool sessions;
  io_socket *listeners;
  struct { /* a configuration that is being prepared; conf NULL: none */
    const struct conf *conf;
    io_socket *listeners;
    bool *is_new;
  } next;
  unsigned closing; /* listeners of which the kernel is not done yet */
  struct session *dirty;
  struct timer trim_timer; /* while there are certificates */
  uint32_t trim_at;        /* the next slot to look at */
  struct io_slice refusal; /* what a connection gets for which there is no slot */
  uint8_t refusal_text[352];
  LIST_HEAD(listings, listing) listings; /* whose questions have not all been answered, or whose sessions go by them */
  LIST_HEAD(panels, panel) panels;
  bool stopping;
};

enum operation { OP_ACCEPT = 1, OP_UNLISTENED, OP_REFUSING, OP_REFUSED, OP_RECEIVE, OP_SEND, OP_CLOSE };

uint64_t session_token(const struct session *session, enum operation operation);

/* ---- entry.c ---- */
/* A connection that has a slot. The listener is borrowed for the call. */
void entry_begin(struct intake *intake, struct session *session, io_socket socket, const struct conf_listener *listener);
void entry_received(struct session *session, struct span bytes);
/* The timer fired before it was open. */
void entry_timed_out(struct session *session);

/* ---- listing.c ---- */
/* It is known who it is: the lists are asked, unless it is one that they have nothing to say about. */
void listing_begin(struct session *session);
/* Behind MAIL: nothing is read until they have said enough, or the time is over. */
void listing_wait(struct session *session);
/* Does the client weigh too much? Then the recipient is refused with the list's name, and there is an event. */
bool listing_refuses(struct session *session, struct fmt *out);
void listing_forget(struct session *session);
/* All sessions have forgotten theirs. */
void listings_close(struct intake *intake);

/* ---- login.c ---- */
/* What the server machine asks of an authentication. */
void login_begin(struct session *session, struct fmt *out);
void login_line(struct session *session, struct fmt *out);
/* It is off, whatever it was. */
void login_forget(struct session *session);
/* Nobody is authenticated any more, nor about to be. What it may do besides is not looked at. */
void login_out(struct session *session);
/* A verify_answered: `context` is the intake. */
void login_answered(void *context, uint64_t token, bool right);
/* Of its user, for events: borrowed until the next call; empty: none. */
struct span login_tenant(const struct session *session);
/* May its user, if it has one, send another message, as this? Else it is answered. */
bool login_may_send(struct session *session, struct span sender, struct fmt *out);

/* ---- refusal.c ---- */
/* The answer to a message that is not taken; it is counted. Of recipients and commands there is no count. */
void session_refuse(struct session *session, struct fmt *out, unsigned code, const char *enhanced, const char *text);
/* Likewise, because of an error of the spool or of memory. */
void refusal_for(struct session *session, int error, struct fmt *out);
/* 550 5.7.1 to a recipient, with an event. `list`: because of it; else NULL. */
void refusal_recipient(struct session *session, const char *text, const struct refusal_list *list, struct fmt *out);
/* The machine has refused the message: counted, with an event. */
void refusal_message(struct session *session);

/* ---- secure.c ---- */
/* Are there a certificate and memory for one more? */
bool secure_can_begin(const struct session *session);
/* From here on what comes is TLS. False: no memory. */
bool secure_begin(struct session *session);
void secure_received(struct session *session, struct span bytes);
/* What is in `out` goes on to `sealed`, once TLS is on; with close_notify behind it if the session is leaving. False: no memory. */
bool secure_seal(struct session *session);
/* Now and then: one that was at rest the last time, too, gives back the memory it hardly needs. */
void secure_trim(struct session *session);
void secure_fini(struct session *session);

/* ---- session.c ---- */
void session_mark_dirty(struct session *session);
/* It is over, whatever was still to be answered: what is sealed may still leave. */
void session_abandon(struct session *session);
/* NULL: gone. */
struct session *session_find(struct intake *intake, uint64_t token);
/* A writer over the free room of `out`, which has at least what one reply needs; false without memory: the session cannot be answered, so it ends. */
bool session_open_out(struct session *session, struct fmt *out);
void session_close_out(struct session *session, struct fmt *out);
/* The peer's turn begins. */
void session_await_peer(struct session *session);
/* One that receives piece by piece asks for the next. */
void session_receive_on(struct session *session);
/* It was waiting, and goes on. */
void session_go_on(struct session *session);
/* What it is answered leaves only after that; until then nothing is read. */
void session_hold(struct session *session, uint64_t delay_ms);
void session_note_errors(struct session *session, struct fmt *out);
/* Sends the banner, or, with `refusal` (enhanced code and text), a 421 instead. */
void session_greet(struct session *session, const char *enhanced, const char *refusal);
void session_received(struct session *session, struct span bytes);
/* Its timer, which is as long as the peer may take. */
void session_init_timer(struct session *session);
void session_arm_timer(struct session *session, uint64_t delay_ms);
/* The peer closed. */
void session_stream_ended(struct session *session);
void session_sent(struct session *session, int64_t result);
/* Sends what was written, if nothing is under way. */
void session_flush(struct session *session);
/* Something broke: it closes. */
void session_close(struct session *session);
/* 421, unless it is in the middle of a transaction: then after that. */
void session_say_goodbye(struct session *session);
/* It is closed, or the intake ends: gives back what it holds, but not its slot. */
void session_fini(struct session *session);

#endif
