/*
 * endpoint: the HTTP side door: /health, /metrics and /api/v1/... (libmicrohttpd, on its own thread, never on a shard).
 *
 * GET and HEAD; for the API also POST with a body of JSON (its content type says so: a page in somebody's browser cannot send that unasked). A request is
 * bounded in size and silence, and of more than 64 connections the oldest is closed. The API has no password: whoever reaches the address may use it.
 *
 * Opened when every shard runs. /health: 200 "ok" while every shard runs and its spool works; else 503 with the reasons, one a line. /metrics: Prometheus text 0.0.4.
 */
#ifndef NET_HTTP_ENDPOINT_H
#define NET_HTTP_ENDPOINT_H

#include "core/base/netaddr.h"
#include "core/event/counters.h"
#include "net/http/worker.h"

struct endpoint;

struct endpoint_options {
  struct netaddr address;                 /* port 0: the kernel picks, see endpoint_port */
  const struct counters *const *counters; /* one per shard; outlive the endpoint */
  unsigned counters_count;
  http_api api; /* answers what is asked for below /api/v1/, on a thread of its own; NULL: nothing is there */
  void *api_context;
};

/* Listens on this address alone and starts the thread. On error `why` says what stands in the way: E_NO_MEMORY, E_OTHER. */
must_check int endpoint_open(struct endpoint **endpoint, const struct endpoint_options *options, struct fmt *why);
uint16_t endpoint_port(const struct endpoint *endpoint);
/* Ends the threads; requests under way are cut off, but for one that the API is at. NULL is fine. */
void endpoint_close(struct endpoint *endpoint);

#endif
