/*
 * connection: one SMTP connection that goes out. For connection.c, transfer.c, output.c and safety.c only: the life of it, and what travels over it.
 *
 * Output is a list of pieces (command bytes, message content) that leaves in one send a turn: the end of one content and the next envelope travel together.
 */
#ifndef NET_OUT_CONNECTION_H
#define NET_OUT_CONNECTION_H

#include "core/base/buffer.h"
#include "net/out/outlet.h"
#include "net/smtp/client.h"

#define CONNECTION_PIECES_MAX 16

enum connection_state {
  CONNECTION_INVALID = 0,
  CONNECTION_CONNECTING,
  CONNECTION_GREETING, /* until the machine is ready */
  CONNECTION_OPEN,
  CONNECTION_QUITTING,
  CONNECTION_CLOSING,
};

struct piece {
  struct content *content; /* NULL: bytes [at, at + len) of the output buffer */
  uint32_t at, len;
};

struct transaction {
  struct job *job; /* NULL: none */
  uint32_t tag;
  uint32_t accepted; /* recipients */
  bool content_sent; /* handed to the socket as a whole: from here on silence is not failure */
};

struct connection {
  struct outlet *outlet;
  struct site *site;
  struct connection *next, *prev;           /* of the site */
  struct connection *idle_next, *idle_prev; /* of the site's idle ones */
  struct connection *older, *newer;         /* of all idle ones of the shard */
  struct connection *next_dirty;
  io_socket socket;
  uint32_t tag;
  enum connection_state state;
  bool idle, dirty, send_under_way;
  bool pulling;  /* inside transfer_pull */
  bool retiring; /* no new transactions; quits when it has none */
  bool starved;  /* waits for memory to load content; tried again by the timer */
  uint16_t starved_rounds, unsealed_rounds;
  bool unsealed;            /* ... for ciphertext of what is to be sent */
  bool plain;               /* the machine may not pipeline */
  bool pipelined;           /* it does */
  struct tls *tls;          /* NULL: in the clear, so far */
  size_t tls_counted;       /* of its memory, with the slab */
  enum conf_security level; /* what was due there when it was made */
  struct proof *proof;      /* what the host has to prove; NULL: nothing */
  bool secured;             /* the handshake is done */
  bool tls_refused;         /* STARTTLS was, and it goes on without */
  bool authenticated;
  bool resuming;     /* an earlier session was offered */
  bool session_kept; /* to be resumed by the next connection */
  struct outlet_peer peer;
  char host[DNS_NAME_MAX + 1];
  struct timer timer;
  struct smtp_client client;
  struct transaction transaction[SMTP_CLIENT_TRANSACTIONS];
  uint32_t begun, completed;      /* transactions */
  uint32_t flushes, flushes_done; /* sends */
  struct job *finished;           /* decided, but the kernel may still read their content */
  struct buffer in;               /* the rest of what came */
  struct buffer out, sending;
  struct buffer sealed; /* with TLS: ciphertext to be sent, then in `sending` */
  struct piece pieces[CONNECTION_PIECES_MAX];
  uint32_t pieces_count;
  struct io_slice *slices; /* of the send under way */
  uint32_t slices_size;
  struct job *loading;   /* popped, its content is on the way */
  struct job *streaming; /* a long message whose parts are being sent */
  struct content *part;  /* of it, in the kernel's hands until flush number part_flush is done */
  uint32_t part_flush;
  unsigned part_owner;
};

enum connection_operation { CONNECTION_OP_CONNECT = 1, CONNECTION_OP_RECEIVE, CONNECTION_OP_SEND, CONNECTION_OP_CLOSE };
uint64_t connection_token(const struct connection *connection, enum connection_operation operation);

/* ---- connection.c ---- */
/* Something broke: decides for what was under way, and closes, or, before it was open, tries the next target. */
void connection_fail(struct connection *connection, const struct failure *failure);
/* QUIT, once nothing is under way. */
void connection_retire(struct connection *connection);
void connection_mark_dirty(struct connection *connection);
/* Sets the timer that belongs to what is awaited now. */
void connection_arm(struct connection *connection);
void connection_set_idle(struct connection *connection, bool idle);

/* ---- safety.c: TLS and AUTH ---- */
/* The connection is there: with implicit TLS the handshake begins. */
void safety_begin(struct connection *connection);
/* READY, TLS, TLS_REFUSED or AUTHENTICATED. True: transactions may begin. */
bool safety_step(struct connection *connection, enum smtp_client_event event);
/* Bytes from the socket, where there is TLS; what is in them goes to transfer_received. */
void safety_received(struct connection *connection, struct span bytes);
/* Seals all of it, or nothing, behind what is in `sealed`. E_FULL: no memory; others: TLS has failed. */
must_check int safety_seal(struct connection *connection, const struct io_slice *slices, unsigned count);
bool safety_is_handshaking(const struct connection *connection);
/*
 * A failure before the connection was open may be one of its TLS: then it becomes FAILURE_TLS, whose text is in `room`. True: it is to be made again, in the clear (the host is
 * remembered for it), or without the session that was to be resumed.
 */
#define SAFETY_TEXT_ROOM 256
bool safety_explain(struct connection *connection, struct failure *failure, char room[SAFETY_TEXT_ROOM]);
/* For the next connection to this host, if the server has given a ticket. */
void safety_keep_session(struct connection *connection);
void safety_free(struct connection *connection);

/* ---- output.c ---- */
/* Bytes [at, at + len) of the output buffer are to be sent. */
void output_bytes(struct connection *connection, uint32_t at, uint32_t len);
/* Commands, put into that. False: no memory. */
bool output_text(struct connection *connection, struct span text);
void output_content(struct connection *connection, struct job *job, struct content *content);
/* Starts a send of what there is, if none is under way. */
void output_flush(struct connection *connection);
/* What was sent is the kernel's no more. */
void output_release(struct connection *connection);
/* For want of memory something is tried again by the timer, at most so many times; false: often enough. */
#define MEMORY_ROUNDS 1200 /* a minute: in the middle of something the connection is lost after it */
bool output_may_wait(struct connection *connection, uint16_t *rounds, uint16_t max);
void output_no_memory(struct connection *connection); /* the connection fails */

/* ---- transfer.c ---- */
void transfer_opened(struct connection *connection);
/* Bytes from the server; eats replies and acts on them. */
void transfer_received(struct connection *connection, struct span bytes);
/* Takes jobs from the site while it may. */
void transfer_pull(struct connection *connection);
void transfer_sent(struct connection *connection);
void transfer_loaded(struct connection *connection, struct job *job, int error);
/* After a pause for lack of memory. */
void transfer_retry(struct connection *connection);
bool transfer_busy(const struct connection *connection);
/* Decides for all jobs under way and gives them back. `elsewhere`: there is another connection or host that may take them at once. */
void transfer_abort(struct connection *connection, const struct failure *failure, bool elsewhere);
void transfer_free(struct connection *connection);

#endif
