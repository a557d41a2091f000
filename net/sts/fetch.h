/*
 * fetch: gets policy files over HTTPS, many at a time, on one thread (RFC 8461 section 3.3), as net/https/https.h says: the certificate must be one of an authority
 * for mta-sts.DOMAIN, redirects are not followed, nothing but 200 and text/plain counts, and what takes too long or is too large ends.
 *
 * Owner: one thread, but for sts_fetcher_wake.
 *
 *   sts_fetcher_start(fetcher, "example.org", entry);   sts_fetcher_turn(fetcher, 1000);   // done(context, entry, E_OK, text, "")
 */
#ifndef NET_STS_FETCH_H
#define NET_STS_FETCH_H

#include "core/base/fmt.h"
#include "core/base/must.h"
#include "core/base/span.h"
#include "net/sts/policy.h"

struct sts_fetcher;

/* STS_FINE: the text; else `why` is a phrase. Both are borrowed for the call, from within which sts_fetcher_start may be called. */
typedef void (*sts_fetched)(void *context, void *owner, enum sts_trouble trouble, struct span text, const char *why);

struct sts_fetcher_options {
  unsigned under_way;     /* at a time */
  uint32_t timeout_ms;    /* for all of a fetch */
  const char *ca_file;    /* PEM; NULL: the system's authorities */
  const char *connect_to; /* "127.0.0.1:8443": instead of where the name leads, for tests; NULL: no */
  sts_fetched done;
  void *context;
};

/* Keeps what the options point to. E_NO_MEMORY. Not at the same time as another thread begins to use libcurl. */
must_check int sts_fetcher_open(struct sts_fetcher **fetcher, const struct sts_fetcher_options *options);
/* Ends all fetches without a call. NULL is fine. */
void sts_fetcher_close(struct sts_fetcher *fetcher);

/* False: too many are under way, or there is no memory. */
must_check bool sts_fetcher_start(struct sts_fetcher *fetcher, const char *domain, void *owner);
/* Waits so long for something to happen, or to be woken, and works on all. */
void sts_fetcher_turn(struct sts_fetcher *fetcher, unsigned wait_ms);
/* From any thread: the turn under way, or the next one, does not wait. */
void sts_fetcher_wake(struct sts_fetcher *fetcher);

#endif
