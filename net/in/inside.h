/*
 * inside: what the files of net/in share of sessions: the intake of a shard, its sessions, and how completions find them. For net/in only.
 */
#ifndef NET_IN_INSIDE_H
#define NET_IN_INSIDE_H

#include "core/base/buffer.h"
#include "core/base/pool.h"
#include "net/in/intake.h"
#include "net/in/submit.h"

struct session {
  io_socket socket;
  uint32_t tag; /* of tokens: generation of the slot */
  struct intake *intake;
  struct session *next_dirty;
  uint64_t id;
  struct netaddr peer;
  struct timer timer;
  struct buffer out;     /* being filled */
  struct buffer sending; /* the kernel's, while `send_under_way` */
  struct io_slice slice;
  struct buffer stash; /* received, not eaten */
  struct buffer hello;
  struct submission *submission;
  struct smtp_server server;
  uint64_t content_due_ms;  /* while a message comes in, between its BDATs too: by then more of it has to be there; else 0 */
  uint64_t content_counted; /* bytes of it that have moved content_due_ms ahead */
  bool progress;            /* a command was whole: the timer starts anew */
  bool may_relay;
  bool esmtp;
  bool dirty;
  bool send_under_way;
  bool waiting; /* for the spool: nothing is read meanwhile */
  bool paused;
  bool careful; /* receives one buffer at a time */
  bool feeding; /* inside feed(): a callback must not start another */
  bool leaving; /* close when what is to be sent is sent */
  bool gone;    /* the peer closed */
  bool closing;
};

struct intake {
  struct intake_options o;
  struct smtp_server_options server_options;
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
  struct io_slice refusal; /* what a connection gets for which there is no slot */
  uint8_t refusal_text[352];
  bool stopping;
};

enum operation { OP_ACCEPT = 1, OP_UNLISTENED, OP_REFUSING, OP_REFUSED, OP_RECEIVE, OP_SEND, OP_CLOSE };

/* ---- session.c ---- */
/* A connection that has a slot: greets, and receives. */
void session_begin(struct intake *intake, struct session *session, io_socket socket);
void session_received(struct session *session, struct span bytes);
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
