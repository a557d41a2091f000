/*
 * https: requests over HTTPS with libcurl, many at a time, on one thread, to servers that others name. The certificate must be one of an authority for the host's
 * name; redirects are not followed, there are no proxies, cookies or other protocols; what takes too long, or answers with too much, ends.
 *
 * Owner: one thread, but for https_wake. Names are resolved by the system, in threads of libcurl's.
 *
 *   struct https_request get = {.url = "https://example.org/", .owner = entry};
 *   https_start(https, &get);   https_turn(https, 1000);   // done(context, entry, E_OK, &answer, "")
 */
#ifndef NET_HTTPS_HTTPS_H
#define NET_HTTPS_HTTPS_H

#include "core/base/must.h"
#include "core/base/span.h"

struct https;

struct https_answer {
  bool untrusted;   /* with an error: its certificate is of no authority that we trust, or not for the host */
  long status;      /* 200 */
  const char *type; /* Content-Type; NULL: it has none */
  struct span body;
};

/* `error` E_OK: there is an answer, whatever its status; else `answer` has nothing else and `why` is a phrase. Borrowed for the call, from within which https_start may be
 * called. */
typedef void (*https_done)(void *context, void *owner, int error, const struct https_answer *answer, const char *why);

struct https_options {
  unsigned under_way;  /* at a time */
  uint32_t timeout_ms; /* for all of a request */
  uint32_t answer_max; /* bytes of an answer's body */
  bool public_only; /* not to addresses of this machine or of networks that are not public (RFC 6890): who names the host is nobody to reach those */
  const char *ca_file;    /* PEM; NULL: the system's authorities */
  const char *connect_to; /* "127.0.0.1:8443": instead of where the name leads, wherever that is, for tests; NULL: no */
  https_done done;
  void *context;
};

struct https_request {
  const char *url;
  const char *type; /* Content-Type of a POST; NULL: a GET */
  struct span body; /* of a POST; borrowed until it has ended */
  void *owner;
};

/* Keeps what the options point to. E_NO_MEMORY. Not at the same time as another thread begins to use libcurl. */
must_check int https_open(struct https **https, const struct https_options *options);
/* Ends all requests without a call. NULL is fine. */
void https_close(struct https *https);

/* False: too many are under way, or there is no memory. */
must_check bool https_start(struct https *https, const struct https_request *request);
/* Works on all, then waits so long for something to happen, or to be woken; not if a request has ended. */
void https_turn(struct https *https, unsigned wait_ms);
/* From any thread: the turn under way, or the next one, does not wait. */
void https_wake(struct https *https);

#endif
