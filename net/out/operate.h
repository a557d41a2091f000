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
 * From now on (or no more) nothing is begun for the domain, the site, at all, or of one message (of one at a time). What is ready there goes back to its
 * owners, who keep it until it is released or its age is over: that takes calls of operate_recall, one in a turn. What is in flight ends by itself.
 * E_NO_MEMORY: nothing has changed.
 */
must_check int operate_hold_domain(struct outlet *outlet, struct span domain, bool held);
must_check int operate_hold_site(struct outlet *outlet, struct span site, bool held);
void operate_hold_all(struct outlet *outlet, bool held);
void operate_hold_message(struct outlet *outlet, uint64_t id, bool held);
/* After a hold has begun: looks at some of what is ready (less than 200 us). True: nothing that is suspended is ready here any more. */
must_check bool operate_recall(struct outlet *outlet);
/* Is mail for this domain held now: by its name, by its site, or with all? */
bool operate_is_held(const struct outlet *outlet, const struct domain_queue *queue);
/* Nothing that was ready is still on its way home from here. */
bool operate_all_home(const struct outlet *outlet);

/* ---- one recipient that waits ---- */
/* It ends: AdminBounce, and a report to the sender unless `quiet`. May free the message. */
void operate_bounce(struct outlet *outlet, struct message *message, unsigned recipient, struct span reason, bool quiet);
/* Events or reports of those that ended still wait to be written: no more should end just now, or some would be lost or take much memory. */
bool operate_is_busy(const struct outlet *outlet);
/* After a configuration was taken that says how old mail gets: what is suspended ends by that now. Of one that is held. */
void operate_set_age(struct outlet *outlet, struct message *message, unsigned recipient);
/* Before the recipients of a domain are tried again: what failed there is forgotten, its DNS answer too. */
void operate_forget_failures(struct outlet *outlet, const struct domain_queue *queue);

/* ---- those that are not in memory yet (queue/unloaded.h) ---- */
/*
 * An order to end what came before `before_ms` (wall clock) as soon as it is loaded, as operate_bounce does it: all, of a domain (lower case), or of one
 * message. What is in memory already when it is given is no concern of it. It stands until nothing is left to be loaded (of one message: until that was), or the
 * relay stops. Said again, the last word counts. Copies the texts.
 */
#define OPERATE_ORDERS_MAX 100
struct order_of {
  struct span domain; /* empty: whatever the domain */
  uint64_t id;        /* 0: whatever the message */
  uint64_t before_ms;
  struct span reason;
  bool quiet;
};
/* False: there are too many, and none of them covers it, or no memory. */
must_check bool operate_order(struct outlet *outlet, const struct order_of *what);
/* A message was loaded, and is about to be given out: those that are meant are due, and end as soon as not too many others do (operate_is_busy). */
void operate_loaded(struct outlet *outlet, struct message *message);

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
 * Why is this recipient, which is READY at its owner, not moving? True if its job is found on this shard: of those that wait for the same, it is looked
 * for among the first OPERATE_LOOKS_MAX (which takes some 50 us). `why` then has a sentence, such as "waits for a
 * connection to mx.example.net behind 17 others: all 10 are in use".
 * `queue`: of its domain, at its owner; NULL elsewhere. `site`: where it goes, as far as that is known.
 */
#define OPERATE_LOOKS_MAX 2048
bool operate_explain(const struct outlet *outlet, uint64_t id, unsigned recipient, const struct domain_queue *queue, struct span site,
                     struct fmt *why);

#endif
