/*
 * nameserver: answers DNS queries out of a zone, over UDP and TCP (RFC 7766), on a thread of its own.
 */
#ifndef BENCH_LIB_NAMESERVER_H
#define BENCH_LIB_NAMESERVER_H

#include <stdint.h>

#include "bench/lib/process.h"
#include "bench/lib/zone.h"

struct nameserver;

/* Binds and starts; the zone must outlive it. NULL with errno set on failure. Stops when the process ends. */
struct nameserver *nameserver_start(const struct zone *zone, const struct endpoint *endpoint);
uint64_t nameserver_queries(const struct nameserver *nameserver);

#endif
