/*
 * control: what an operator sees of the running relay and does with it, over all shards: the API below the HTTP endpoint (docs/API.md), for `ringpost ctl`.
 *
 * Nothing here runs on a shard's thread but the steps of errands (core/shard/errand.h). One operation at a time; any thread may ask.
 */
#ifndef NET_CONTROL_CONTROL_H
#define NET_CONTROL_CONTROL_H

#include "core/conf/conf.h"
#include "net/http/worker.h"
#include "net/relay.h"

struct control;

struct control_options {
  const struct counters *const *counters; /* one per shard */
  unsigned shards;
  const char *spool_path; /* suspensions are kept there */
  uint64_t started_ms;    /* wall clock */
  /* Reads the configuration again: 0, or `why` has a line that says why nothing has changed. */
  int (*reload)(void *context, struct fmt *why);
  /* From control_tick: what else is to be looked at, while nothing else is under way. NULL: nothing. */
  void (*look)(void *context);
  void *reload_context; /* of both */
};

/*
 * Before the relays are opened: reads which suspensions were in force when the relay was stopped. If it cannot, nothing may be delivered: mail
 * would go where it shall not. E_NO_MEMORY, E_SYNTAX; `why` has a line.
 */
must_check int control_open(struct control **control, const struct control_options *options, struct fmt *why);
/* Some are: then the relays have to begin with all their mail held (relay_options.held). */
bool control_holds(const struct control *control);
/* Now the relays run, one for each shard, until nobody calls anything here any more but control_close: what is not suspended goes. */
void control_start(struct control *control, struct relay *const *relays);
/* NULL is fine. */
void control_close(struct control *control);

/* An http_api: `context` is the control. From any thread. */
void control_answer(void *control, const struct http_request *request, struct http_answer *answer);

/* As POST reload: for a signal. 0, or `why` has a line. *now is false if nothing was tried, because something else is under way. */
must_check int control_reload(struct control *control, struct fmt *why, bool *now);

/* What an order can say, also for those who look before they send one. */
#define CONTROL_LIST_MAX 1000000   /* rows of a list of domains or sites */
#define CONTROL_MESSAGES_MAX 10000 /* of one domain */
#define CONTROL_REASON_MAX 400     /* bytes */
#define CONTROL_FOR_MAX "3650d"
bool control_is_domain(struct span name); /* can be the domain of an address: no `*`, no `@`; a dot of the root at the end is fine */
bool control_is_site(struct span name);
bool control_is_id(struct span text);                             /* of a message: up to 16 hexadecimal digits */
bool control_is_reason(struct span text);                         /* a line without control characters (below 0x20, and 0x7f) */
must_check bool control_read_for(struct span text, uint64_t *ms); /* a duration, not 0 */

/* About once a second: ends suspensions whose time is over, and looks at what else there is. */
void control_tick(struct control *control);

#endif
