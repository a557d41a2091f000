/*
 * outlet: what the files of the outgoing side share: the outlet of a shard, its domains and sites. For net/out only.
 */
#ifndef NET_OUT_OUTLET_H
#define NET_OUT_OUTLET_H

#include "core/base/map.h"
#include "core/base/pool.h"
#include "net/out/deliver.h"
#include "net/out/job.h"
#include "net/out/proof.h"
#include "queue/policy/backoff.h"
#include "queue/policy/lease.h"
#include "queue/policy/retry.h"

struct connection;
struct tls_session;

struct target {           /* an address of a site */
  struct netaddr address; /* with port */
  char *host;             /* its name, or the address as text; owned */
  uint16_t preference;
  struct proof *proof; /* what it has to prove; NULL: nothing */
  struct backoff backoff;
  uint64_t tls_broken_until_ms; /* until then nobody hopes for its TLS */
  struct tls_session *session;  /* of the last connection with TLS; NULL: none */
  size_t session_counted;       /* with the slab */
  bool broke;                   /* its last connection ended before a transaction had: the next that does is a failure of the host */
};

/*
 * A site: where the mail of one or more domains goes. On its home shard it owns the limit of connections; elsewhere it has a lease, or hands its jobs to the home.
 */
struct site {
  struct outlet *outlet;
  struct site *next, *prev; /* all of the shard */
  char *name;
  struct target *targets; /* in the order to try */
  unsigned targets_count;
  unsigned best_count; /* how many of them share the best preference: new connections go round these */
  unsigned rotation;
  struct job *first, *last; /* ready */
  uint32_t jobs;
  uint32_t looks;                 /* the first so many of them may be suspended: a recall looks at them */
  uint64_t give_up_ms;            /* none of them has to be given up before this; wall clock */
  struct connection *connections; /* all */
  struct connection *idle;        /* latest used first */
  uint32_t open;                  /* connections, also those being opened */
  uint32_t opening;
  struct backoff backoff;
  uint64_t enough_until_ms;      /* a host took no more connections than there are: until then none is opened besides */
  uint64_t pause_until_ms;       /* we were short of something: until then no connection is opened */
  uint64_t plain_until_ms;       /* it broke on pipelining: until then one command at a time */
  uint32_t recipients_max;       /* per transaction, as its servers say */
  const struct conf_site *entry; /* what the configuration says of one of its hosts; NULL: nothing, then entries for its domains count */
  uint32_t domains_limit;        /* connections: the lowest of those, on all shards that the home has heard of; 0: none */
  uint32_t domains_messages;     /* on a connection: the lowest of those, on this shard */
  uint32_t messages_max;         /* on a connection */
  unsigned home;                 /* shard */
  struct lease_home lease_home;
  uint32_t *owed; /* of lease_home.owed to each shard; NULL: nothing to anybody */
  struct lease_guest lease_guest;
  enum conf_security tls;           /* what is due there: of its route, of the entry for one of its hosts, or the strictest of its domains */
  bool routed;                      /* it is a route's, with its own idea of that; the next three are the route's too, copied */
  char *tls_name, *user, *password; /* NULL: none */
  uint32_t domains;                 /* that point here */
  struct timer timer;               /* end of back-off */
  bool dirty;
  bool held; /* nothing is to be delivered there: an operator wants it so */
  struct site *next_dirty;
  const char *error; /* what the last attempt that put recipients off was told; of the texts of domain queues; NULL: nothing */
  uint64_t error_ms;
};

struct domain {
  struct outlet *outlet;
  struct domain_queue *queue; /* of our own recipients; NULL: require_tls or tls_optional */
  char *key;        /* the name, with something before it for mail with REQUIRETLS or TLS-Required (RFC 8689), which has domains of its own */
  const char *name; /* lower case; in that */
  const struct conf_site *entry; /* what the configuration says of its name; NULL: nothing */
  struct site *site;             /* of a resolved one; it stays while DNS does not answer */
  struct job *first, *last;      /* waiting for the answer */
  struct resolver_query query;
  bool require_tls, tls_optional; /* it is for mail that says so */
  struct vet *vet;                /* which goes on; NULL: none does */
  bool vetted;                    /* its mail goes where hosts have something to prove, or nowhere for now: not to a site it went to before */
  enum proof_result refused;      /* not PROOF_FINE: that is why the status is not MX_OK */
  const char *refused_by;         /* then: "tlsa", "sts"; NULL: by neither */
  enum conf_action action;        /* of its route; CONF_DELIVER: it has none, or one with hosts */
  bool asked;                     /* the answer is on its way */
  uint64_t valid_until_ms;        /* monotonic */
  enum mx_status status;          /* MX_INVALID: not yet, or there was no memory for it */
  char *reason;                   /* why not MX_OK; owned; NULL: none, or no memory for it */
};

#define OUTLET_DSN_RATES 1024
struct dsn_rate {
  uint64_t minute;
  uint32_t sent;
};

struct outlet {
  struct outlet_options o;
  struct retry_policy retry;
  struct backoff_policy backoff;
  struct map domains, sites;
  struct site *first_site, *last_site;
  unsigned site_walkers; /* who walks over all sites and comes back: none is freed meanwhile */
  bool held_all;         /* nothing is to be delivered at all */
  uint64_t held_message; /* nothing of this one; 0: there is none such */
  struct recall {        /* what is suspended and was ready goes home */
    bool under_way;
    struct site *site; /* at which it is */
  } recall;
  struct order *orders;    /* what is to end as soon as it is loaded */
  uint64_t ordered;        /* recipients that were loaded and are to end, and have not yet */
  const struct conf *next; /* a configuration that is being prepared; NULL: none */
  struct pool connections;
  struct connection *dirty_connections;
  struct connection *idle_oldest, *idle_newest; /* of all sites: the oldest go first when slots run out */
  struct site *dirty_sites;
  struct job *ended_first, *ended_last; /* of other shards: they go home when the lines of their events are written */
  struct timer sweep;
  uint32_t domains_swept, sites_swept; /* how far the present sweep is in their maps */
  struct smtp_client_options smtp, smtp_plain;
  uint64_t random_state;
  uint64_t shortage_said_ms; /* when the log last had a word about it; 0: never */
  unsigned dsns_count;
  struct dsn *dsns; /* on their way */
  struct dsn_rate dsn_rates[OUTLET_DSN_RATES];
  bool stopping;
};

/* ---- deliver.c ---- */
/*
 * The job has a fate for every recipient (those without are deferred): back to its owner, who may make it durable: so not before the events that
 * tell of it are written.
 */
void outlet_job_end(struct outlet *outlet, struct job *job);
/*
 * On the owner's shard: what the configuration says of its recipients' domain, as far as it is known. Decides when the job is too old; later, when to try again. For a job that came by letter
 * its owner has decided.
 */
void outlet_set_entry(const struct outlet *outlet, struct job *job, const struct conf_site *entry);
/* How old messages get by this entry, or, without one, in general. */
uint64_t outlet_max_age_ms(const struct outlet *outlet, const struct conf_site *entry);
/* Asks the owner for the job's content; connection_loaded follows, unless it is there already (then true). */
bool outlet_load(struct outlet *outlet, struct job *job, uint64_t connection);
/* Where an event of a job has to say what happened to recipient number `at` of it. `peer` may be NULL. */
struct outlet_peer {
  struct netaddr address, source;
  const char *host;
  const char *tls_version, *tls_cipher; /* NULL: in the clear */
  const char *tls_policy;               /* by which it has to prove something: "tlsa", "sts"; NULL: it has not */
  const char *tls_result;               /* why it could not; of connections that were used all the same, too. NULL: it could, or had not to */
  bool reports;                         /* it takes over what RFC 3461 asks for */
};
void outlet_report(struct outlet *outlet, struct job *job, unsigned at, const struct decision *decision, struct span text, const char *command,
                   struct site *site, const struct outlet_peer *peer);
/* Decides, reports and marks every recipient of the job that has no fate yet. */
void outlet_decide_rest(struct outlet *outlet, struct job *job, const struct failure *failure, struct site *site, const struct outlet_peer *peer);
/* Likewise, where there is nowhere to go at once: what would go round again is deferred. */
void outlet_defer_rest(struct outlet *outlet, struct job *job, const struct failure *failure, struct site *site, const struct outlet_peer *peer);
/* For FATE_AGAIN because of a failure: recipients of the job go round once more, or, after so many rounds, *fate becomes FATE_DEFERRED. */
void outlet_count_round(struct job *job, enum fate *fate);
uint64_t outlet_random(struct outlet *outlet);
/* A READY recipient of ours ends because an operator wants it so; its sender gets a report unless `quiet`. */
void outlet_admin_bounce(struct outlet *outlet, struct message *message, unsigned recipient, struct span reason, bool quiet);

/* Frees a part that a job's load brought: its memory is the owner's. */
void outlet_free_part(struct outlet *outlet, unsigned owner, struct content *part);

enum outlet_letter_kind {
  LETTER_JOB = 1,
  LETTER_JOB_END,
  LETTER_LOAD,
  LETTER_LOADED,
  LETTER_FREE_PART,
  LETTER_LEASE_ASK,
  LETTER_LEASE_GRANT,
  LETTER_LEASE_RETURN,
  LETTER_LEASE_RECALL,
  LETTER_SITE_FAILED,
  LETTER_SITE_RETRY,
  LETTER_SITE_LIMIT
};

/* ---- hold.c ---- */
/* Is mail for this domain held now: by its name, by its site (as far as that is known), or with all? */
bool outlet_is_held(const struct outlet *outlet, const struct domain_queue *queue);
/*
 * True: recipients of this job, which nothing was begun of yet, are suspended; it has ended, and they wait at their owner's for the end of that. `site`: where it would go; NULL: that is not
 * known yet.
 */
bool outlet_hold(struct outlet *outlet, struct job *job, const struct site *site);
bool outlet_would_hold(const struct outlet *outlet, const struct job *job, const struct site *site);

/* ---- recall.c ---- */
/* What was ready in any site when a hold began, and is suspended by it, goes home: from here on, in steps. One that is under way begins anew. */
void outlet_recall_begin(struct outlet *outlet);
/* About so many recipients and sites more. True: that was all. */
bool outlet_recall_on(struct outlet *outlet, unsigned budget);
/* Is there a job in the site that may be begun? Of what a recall has not come to yet some goes home; false if more of that stands in front. */
bool outlet_may_begin(struct site *site);

/* ---- order.c ---- */
/* Was this recipient, which is READY, to end as soon as it is loaded? Then it has ended, and the message may be gone; or it is put off, for too many others end just now. */
bool outlet_obey(struct outlet *outlet, struct message *message, unsigned recipient);
/* This recipient ends by another word than the order that may stand for it. */
void order_settle(struct outlet *outlet, struct message *message, unsigned recipient);
/* Nothing is left on disk that they could be for: they go, but those that are still to be carried out. */
void orders_forget(struct outlet *outlet);
void orders_drop(struct outlet *outlet);

/* ---- domain.c ---- */
void domains_open(struct outlet *outlet);
/* Finds the job's site, at once or after asking DNS, and enqueues it there; or ends it. */
void domain_dispatch(struct outlet *outlet, struct job *job);
struct vetted;
/* What vet.h has found out; NULL: there was no memory. */
void domain_vetted(struct domain *domain, const struct vetted *vetted);
/* Recipients of this job are of domains that were vetted since it joined the site, and go elsewhere now. */
bool domain_left(const struct outlet *outlet, const struct job *job, const struct site *site);
/* What the configuration says of this recipient's domain: of its name, or, where its site is known, of that. NULL: nothing. */
const struct conf_site *domain_entry(const struct outlet *outlet, const struct message *message, unsigned recipient);
/* Looks at some more of them, ends jobs that have become too old, and forgets those that are of no more use. False: that was the last, the next call begins anew. Sites likewise. */
#define OUTLET_SWEEP_COUNT 2048
bool domains_sweep(struct outlet *outlet);
void domains_close(struct outlet *outlet);
/* The configuration has changed: what is known of where they lead is not believed any more. */
void domains_take_conf(struct outlet *outlet, bool other_limits, bool other_routes);

/* ---- target.c ---- */
/*
 * New answers: addresses that stay keep their state. `proof`: of each host of the set, NULL of a host that has nothing to prove; NULL: none has. Connections that were begun with another, or
 * whose host is gone, end after what they have under way. Takes nothing. False: no memory, the old ones stay.
 */
bool site_set_hosts(struct site *site, const struct mx_set *set, uint16_t port, struct proof *const *proof);
/* The one with this address; NULL: none any more. */
struct target *site_target(struct site *site, const struct netaddr *address);
void targets_free(struct site *site);

/* ---- site.c ---- */
/* The site of this name, made if need be. NULL: no memory. */
struct site *site_get(struct outlet *outlet, const char *name);
/* The site is looked at again at this time (or before). */
void site_wake_at(struct site *site, uint64_t at_ms);
/* The site of a route that says how its hosts are to be spoken to: as this one says. False: no memory, it stays as it was. */
bool site_set_route(struct site *site, const struct conf_route *route);
/* A domain points here of whose name the configuration says this (NULL: nothing). What it says of the site's hosts goes before; of several domains' entries the lowest values count. */
void site_heed(struct site *site, const struct conf_site *entry);
void site_enqueue(struct site *site, struct job *job);
struct job *site_pop(struct site *site);
/* All that is ready, linked by `next`: what joins the site while the caller goes through them is not among them. */
struct job *site_take_all(struct site *site);
/* To the front again. */
void site_unpop(struct site *site, struct job *job);
void site_mark_dirty(struct site *site);
/* Gives jobs to idle connections, opens connections, hands over. */
void site_pump(struct site *site);
/* No target is left to try: the site is left alone for a while, and everything that waits is deferred, or, away from its home, handed over to that. */
void site_failed(struct site *site, const struct failure *failure, const struct outlet_peer *peer);
/* Leaves the site alone for a while: no connection of this shard is left that works, and it was not for our own fault. */
void site_block(struct site *site);
/* A server of it has ended a transaction in good order. */
void site_succeeded(struct site *site, const struct netaddr *address);
/* All that failed there is forgotten, at its home too: it is tried now. */
void site_retry(struct site *site);
/* The configuration has changed: takes its limits from there. */
void site_take_conf(struct site *site, bool other_limits);
/* All that is ready there comes again by its domain. */
void site_send_round(struct site *site);
/* May as many connections be open from here. */
uint32_t site_limit(const struct site *site);
/* We lack memory for what is to be done there: it is left alone for a moment. */
void site_pause(struct site *site);
/* A connection was closed for good. */
void site_connection_closed(struct site *site);
void site_letter(struct outlet *outlet, unsigned from, const struct letter *letter);
bool sites_sweep(struct outlet *outlet);
void sites_close(struct outlet *outlet);

/* ---- connection.c ---- */
must_check int connections_open(struct outlet *outlet, uint32_t max);
/* Opens one more connection. False if none can be opened now. */
bool connection_open(struct site *site);
/* Does any connection of the site but this one (NULL: any at all) go on? */
bool connections_live(const struct site *site, const struct connection *but);
/* Lets an idle (or otherwise ready) connection take from its site. */
void connection_pull(struct connection *connection);
void connection_complete(struct outlet *outlet, const struct io_completion *completion);
void connection_loaded(struct outlet *outlet, struct job *job, int error);
void connections_flush(struct outlet *outlet);
void connections_stop(struct outlet *outlet);
/* Ends connections of this site, idle ones first, the others after what they have under way, until only `limit` are left that go on. */
void connections_retire_surplus(struct site *site, uint32_t limit);
/* Likewise, all that were made when less safety was due. */
void connections_retire_lax(struct site *site);
/* Likewise, all whose host has something else to prove now, or is gone. */
void connections_retire_unproven(struct site *site);
/* Ends an idle connection of any site. False if there is none. */
bool connection_end_oldest_idle(struct outlet *outlet);
void connections_close(struct outlet *outlet);

/* ---- safety.c ---- */
void safety_forget_session(struct slab *slab, struct target *target);

#endif
