/*
 * endpoint: the HTTP side door: /health and /metrics (libmicrohttpd, on its own thread, never on a shard). It only reads counters.
 *
 * GET and HEAD only; a request is bounded in size and silence, and of more than 64 connections the oldest is closed.
 *
 * /health: 200 "ok" while every shard runs and its spool works; else 503 with the reasons, one a line. /metrics: Prometheus text 0.0.4.
 */
#ifndef NET_HTTP_ENDPOINT_H
#define NET_HTTP_ENDPOINT_H

#include "core/base/netaddr.h"
#include "core/event/counters.h"

struct endpoint;

struct endpoint_options {
  struct netaddr address;                 /* port 0: the kernel picks, see endpoint_port */
  const struct counters *const *counters; /* one per shard; outlive the endpoint */
  unsigned counters_count;
};

/* Listens on this address alone and starts the thread. On error `why` says what stands in the way: E_NO_MEMORY, E_OTHER. */
must_check int endpoint_open(struct endpoint **endpoint, const struct endpoint_options *options, struct fmt *why);
uint16_t endpoint_port(const struct endpoint *endpoint);
/* Ends the thread; requests under way are cut off. NULL is fine. */
void endpoint_close(struct endpoint *endpoint);

#endif
