/*
 * window: how many queries may be under way to one server, so that a hundred thousand new domains do not flood what it, and the net, can take. Pure.
 *
 * It is judged once in a period, the time after which a loss is known, and not before as many replies have come as it is wide. Then it grows, if more waits and hardly
 * anything was lost; but if the last growth brought no more replies, it goes back, as what is more only stands in the server's queue; and it shrinks when much is
 * lost. Lost is a query whose reply came too late, or whose question was answered only when it was asked again: one that is never answered tells of the name, not
 * of the server.
 *
 *   if (window_has_room(&w)) w.under_way++;   // and -- when the query has ended, however it did
 */
#ifndef DNS_WINDOW_H
#define DNS_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

#define WINDOW_MIN 16
#define WINDOW_FIRST 256 /* as many queries as fit into the receive buffer that a socket has by default on Linux (212,992 bytes, some 768 for each) */
#define WINDOW_MAX 1024  /* what unbound (num-queries-per-thread) and BIND (recursive-clients) work on at a time, if nobody told them otherwise */

struct window {
  unsigned size;
  unsigned under_way; /* the caller's count */
  unsigned _answered, _lost;
  unsigned _before; /* size before it grew; 0: it did not when it was last judged */
  uint64_t _per_s;  /* replies, then */
  uint32_t _period_ms;
  uint64_t _begun_ms; /* counts are since then */
  uint64_t _grow_ms;  /* not before */
};

void window_init(struct window *window, uint32_t period_ms, uint64_t now_ms);
static inline bool window_has_room(const struct window *window) { return window->under_way < window->size; }
/* A reply came from the server, or a query to it was lost, as is known now; do more questions wait than there was room for? */
void window_answered(struct window *window, bool more, uint64_t now_ms);
void window_lost(struct window *window, bool more, uint64_t now_ms);

#endif
