/*
 * operate: the outgoing side as an operator sees it and acts on it: suspend, resume, retry, bounce; how a site stands, what is in flight, and why a recipient is not moving.
 *
 * On the outlet's shard. What is done to a domain or site has to be done on every shard: each has its own recipients, and a site's mail is delivered
 * by its home, and by others that have a lease.
 */
#ifndef NET_OUT_OPERATE_H
#define NET_OUT_OPERATE_H

#include "queue/schedule.h"

struct outlet;
struct site;

/* ---- suspend ---- */
/*
 * From now on (or no more) nothing is begun for the domain, the site, or at all. What is ready there goes back to its owners, who keep it until it is released or its age is over; what
 * is in flight ends by itself. Looks at all that is ready there, in one go. E_NO_MEMORY: nothing has changed.
 */
must_check int operate_hold_domain(struct outlet *outlet, struct span domain, bool held);
must_check int operate_hold_site(struct outlet *outlet, struct span site, bool held);
void operate_hold_all(struct outlet *outlet, bool held);
/* Is mail for this domain held now: by its name, by its site, or with all? */
bool operate_is_held(const struct outlet *outlet, const struct domain_queue *queue);
/* Nothing that was ready is still on its way home from here. */
bool operate_all_home(const struct outlet *outlet);

/* ---- one recipient that waits ---- */
/* It ends: AdminBounce, and a report to the sender unless `quiet`. May free the message. */
void operate_bounce(struct outlet *outlet, struct message *message, unsigned recipient, struct span reason, bool quiet);
/* Events or reports of those that ended still wait to be written: no more should end just now, or some would be lost or take much memory. */
bool operate_is_busy(const struct outlet *outlet);
/* Before the recipients of a domain are tried again: what failed there is forgotten, its DNS answer too. */
void operate_forget_failures(struct outlet *outlet, const struct domain_queue *queue);

/* ---- what there is ---- */
struct site_view {
  const char *name, *error; /* error: NULL if nothing failed */
  uint64_t error_ms;
  uint64_t oldest_ms;   /* when the first of the ready messages came; UINT64_MAX: none is ready */
  uint32_t ready;       /* transactions that wait for a connection */
  uint32_t in_flight;   /* transactions */
  uint32_t connections; /* of this shard */
  uint32_t limit;       /* of the site, as its home knows it, and others only from the configuration */
  uint32_t failures;    /* in a row */
  uint64_t blocked_ms;  /* so long nothing is tried; 0: it is not blocked */
  bool home;            /* this shard has its limit to give */
  bool held;
};
/* The first site, or the one after `site`; NULL: that was the last. Between two calls in different turns operate_walk(1) has to hold, until operate_walk(-1). */
struct site *operate_next_site(const struct outlet *outlet, const struct site *site);
void operate_walk(struct outlet *outlet, int change);
void operate_view_site(const struct site *site, struct site_view *view);
struct site *operate_find_site(const struct outlet *outlet, struct span name);
/* The addresses of a site, in the order they are tried, each with its state. False: there are no more. */
struct target_view {
  const char *host;
  struct netaddr address;
  uint16_t preference;
  uint32_t failures;
  uint64_t blocked_ms;
};
bool operate_view_target(const struct site *site, unsigned number, struct target_view *view);
/* The name of the site of a domain's mail, also some time ago; NULL: not known. */
const char *operate_site_of(const struct domain_queue *queue);
/* When the first came (wall clock) of what is ready in the site of a domain's mail, be it for that domain or another; UINT64_MAX: nothing is. */
uint64_t operate_oldest_ready_ms(const struct domain_queue *queue);
/* Each recipient of the domain among the first `jobs` that are ready in its site. */
typedef void (*operate_each)(void *context, const struct message *message, unsigned recipient);
void operate_ready(const struct domain_queue *queue, unsigned jobs, operate_each each, void *context);

/* Each recipient that is in flight over some of the connections from *cursor on (0 at first). False: those were the last. */
bool operate_in_flight(const struct outlet *outlet, uint32_t *cursor, operate_each each, void *context);

/*
 * Why is this recipient, which is READY at its owner, not moving? True if its job is on this shard; `why` then has a sentence, such as "waits for a
 * connection to mx.example.net behind 17 others: all 10 are in use".
 * `queue`: of its domain, at its owner; NULL elsewhere. `site`: where it goes, as far as that is known.
 */
bool operate_explain(const struct outlet *outlet, uint64_t id, unsigned recipient, const struct domain_queue *queue, struct span site,
                     struct fmt *why);

#endif
