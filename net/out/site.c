/*
 * Sites: the ready queue of one set of mail exchangers, its pool of connections, and the lease by which shards share its limit.
 */
#include <stdlib.h>
#include <xxhash.h>

#include "core/base/canary.h"
#include "core/base/error.h"
#include "core/conf/sites.h"
#include "net/out/outlet.h"

#define PAUSE_MS 1000 /* memory may come back any time, but a host is not to see us come and go for the lack of it */

struct lease_note {     /* travels by letter; made with malloc by the sender, freed by the receiver */
  uint32_t connections; /* granted or returned; of a request: 1 if it cannot do without; of a recall: 1 for all, also what is at work */
  uint32_t limit;       /* the sender's domains_limit */
  char site[];
};

/* ---- life ---- */

static void unblocked(void *context, struct timer *timer) {
  (void)context;
  struct site *site = (struct site *)((uint8_t *)timer - offsetof(struct site, timer));
  site_mark_dirty(site);
}

void site_wake_at(struct site *site, uint64_t at_ms) {
  if (timer_is_set(&site->timer) && site->timer.due_ms <= at_ms) return;
  timer_set(&site->outlet->o.shard->wheel, &site->timer, at_ms);
}

/* Its name is a list of its hosts, on every shard the same one. The end of a very long list is not in it: those hosts do not count. */
static const struct conf_site *entry_of_hosts(const struct conf *conf, struct span hosts) {
  const struct conf_site *first = NULL;
  while (conf->sites_count > 0 && hosts.len > 0) {
    ptrdiff_t comma = span_find(hosts, ',');
    struct span host = comma < 0 ? hosts : span_first(hosts, (size_t)comma);
    first = sites_earlier(first, sites_find(conf, host));
    hosts = span_skip(hosts, host.len + (comma < 0 ? 0 : 1));
  }
  return first;
}

/* What the configuration says of it, by its hosts, or of all. */
static void take_entry(struct site *site) {
  const struct conf *conf = site->outlet->o.conf;
  site->entry = entry_of_hosts(conf, span_of_text(site->name));
  site->lease_home.limit = site->entry != NULL ? site->entry->connections_per_site : conf->connections_per_site;
  site->messages_max = site->entry != NULL ? site->entry->messages_per_connection : conf->messages_per_connection;
  if (!site->routed) site->tls = site->entry != NULL ? site->entry->tls : CONF_SECURITY_NONE; /* until a domain that points here asks for more */
}

struct site *site_get(struct outlet *outlet, const char *name) {
  struct span key = span_of_text(name);
  struct site *site = map_find(&outlet->sites, key);
  if (site != NULL) return site;
  site = calloc(1, sizeof *site);
  if (site == NULL) return NULL;
  site->name = strdup(name);
  if (site->name == NULL) {
    free(site);
    return NULL;
  }
  site->outlet = outlet;
  site->timer.fire = unblocked;
  site->recipients_max = SMTP_CLIENT_RECIPIENTS_MAX;
  site->home = (unsigned)(XXH3_64bits(key.at, key.len) % shard_group_count(outlet->o.shard->group)); /* every shard has to come to the same */
  take_entry(site);
  if (map_insert(&outlet->sites, site) == E_OK) {
    site->prev = outlet->last_site;
    *(outlet->last_site != NULL ? &outlet->last_site->next : &outlet->first_site) = site;
    outlet->last_site = site;
    return site;
  }
  free(site->name);
  free(site);
  return NULL;
}

static void forget_route(struct site *site) {
  if (site->password != NULL) explicit_bzero(site->password, strlen(site->password));
  free(site->tls_name);
  free(site->user);
  free(site->password);
  site->tls_name = site->user = site->password = NULL;
}

static bool copy(char **to, const char *text) {
  if (text != NULL) *to = strdup(text);
  return text == NULL || *to != NULL;
}

static bool same_text(const char *a, const char *b) { return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0; }

/* Connections that were made in another way end after what they have under way. */
bool site_set_route(struct site *site, const struct conf_route *route) {
  struct site fresh = {0};
  if (site->routed && site->tls == route->tls && same_text(site->tls_name, route->tls_name) && same_text(site->user, route->user) &&
      same_text(site->password, route->password))
    return true;
  if (!copy(&fresh.tls_name, route->tls_name) || !copy(&fresh.user, route->user) || !copy(&fresh.password, route->password)) {
    forget_route(&fresh);
    return false;
  }
  connections_retire_surplus(site, 0);
  forget_route(site);
  site->tls_name = fresh.tls_name;
  site->user = fresh.user;
  site->password = fresh.password;
  site->tls = route->tls;
  site->routed = true;
  return true;
}

static void site_free(struct site *site) {
  struct outlet *outlet = site->outlet;
  *(site->prev != NULL ? &site->prev->next : &outlet->first_site) = site->next;
  *(site->next != NULL ? &site->next->prev : &outlet->last_site) = site->prev;
  timer_cancel(&outlet->o.shard->wheel, &site->timer);
  texts_put(&outlet->o.schedule->domains.texts, site->error);
  targets_free(site);
  forget_route(site);
  free(site->owed);
  free(site->name);
  free(site);
}

/* ---- ready queue ---- */

void site_mark_dirty(struct site *site) {
  if (site->dirty) return;
  site->dirty = true;
  site->next_dirty = site->outlet->dirty_sites;
  site->outlet->dirty_sites = site;
}

/* Recipients of one message come one behind the other: they join the last job if it is theirs. */
void site_enqueue(struct site *site, struct job *job) {
  site_mark_dirty(site);
  bool own = job->owner == site->outlet->o.shard->index;
  if (own && site->last != NULL && site->last->message == job->message && site->last->owner == job->owner &&
      job_merge(site->outlet->o.slab, site->last, job, site->recipients_max))
    return;
  if (site->jobs == 0 || job->give_up_ms < site->give_up_ms) site->give_up_ms = job->give_up_ms;
  job->next = NULL;
  if (site->last != NULL) {
    site->last->next = job;
  } else {
    site->first = job;
  }
  site->last = job;
  site->jobs++;
}

struct job *site_pop(struct site *site) {
  struct job *job = site->first;
  if (job == NULL) return NULL;
  site->first = job->next;
  if (site->first == NULL) site->last = NULL;
  site->jobs--;
  if (site->looks > 0) site->looks--;
  return job;
}

struct job *site_take_all(struct site *site) {
  struct job *jobs = site->first;
  site->first = site->last = NULL;
  site->jobs = site->looks = 0;
  return jobs;
}

void site_unpop(struct site *site, struct job *job) {
  job->next = site->first;
  site->first = job;
  if (site->last == NULL) site->last = job;
  site->jobs++;
  if (site->looks > 0) site->looks++; /* those behind it are still to be looked at */
}

/* ---- leases ---- */

static bool at_home(const struct site *site) { return site->home == site->outlet->o.shard->index; }

static void send_note(struct site *site, unsigned to, enum outlet_letter_kind kind, uint32_t connections) {
  size_t len = strlen(site->name) + 1;
  struct lease_note *note = malloc(sizeof *note + len);
  must(note != NULL);
  note->connections = connections;
  note->limit = site->domains_limit;
  memcpy(note->site, site->name, len);
  shard_post(site->outlet->o.shard, to, (struct letter){kind, 0, note});
}

static void hand_over(struct site *site) {
  struct outlet *outlet = site->outlet;
  if (lease_should_ask(&site->lease_guest, site->jobs, outlet->o.shard->now_ms)) send_note(site, site->home, LETTER_LEASE_ASK, 0);
  struct job *kept_first = NULL, *kept_last = NULL;
  uint32_t kept = 0, looks = site->looks;
  for (struct job *job; (job = site_pop(site)) != NULL;) {
    if (job->handed_over) { /* the other shard sees the home here: it is not sent to and fro */
      job->next = NULL;
      if (kept_last != NULL) {
        kept_last->next = job;
      } else {
        kept_first = job;
      }
      kept_last = job;
      kept++;
      continue;
    }
    count_add(outlet->o.counters, COUNT_HANDED_OVER, 1);
    shard_post(outlet->o.shard, site->home, (struct letter){LETTER_JOB, 0, job});
  }
  site->first = kept_first;
  site->last = kept_last;
  site->jobs = kept;
  site->looks = looks > 0 ? kept : 0;
}

/* What was handed to us though we are not its site's home (two resolvers, two answers) cannot be handed on: it goes from here, as soon as the home lends us a connection. */
static void ask_for_one(struct site *site) {
  uint64_t now_ms = site->outlet->o.shard->now_ms;
  if (lease_may_ask(&site->lease_guest, now_ms)) send_note(site, site->home, LETTER_LEASE_ASK, 1);
  site_wake_at(site, now_ms + LEASE_ASK_MS);
}

static void return_lease(struct site *site) {
  send_note(site, site->home, LETTER_LEASE_RETURN, site->lease_guest.granted);
  site->lease_guest.granted = 0;
  site->lease_guest.returning = false;
}

static void return_lease_if_unused(struct site *site) {
  if (site->open > 0) return;
  if (lease_must_return(&site->lease_guest)) {
    return_lease(site);
  } else if (site->jobs == 0 && lease_should_return(&site->lease_guest, site->outlet->o.shard->now_ms)) { /* else the sweep comes again */
    return_lease(site);
  }
}

/* Grants what is owed as far as connections of the home are closed, and sees to it that more of them end. */
static void pay_owed(struct site *site) {
  unsigned shards = shard_group_count(site->outlet->o.shard->group);
  for (unsigned guest = 0; guest < shards && site->lease_home.owed > 0; guest++) {
    uint32_t paid = lease_pay(&site->lease_home, site->owed[guest], site->open);
    site->owed[guest] -= paid;
    if (paid > 0) send_note(site, guest, LETTER_LEASE_GRANT, paid);
  }
  if (site->lease_home.owed > 0) connections_retire_surplus(site, lease_home_limit(&site->lease_home));
}

static void lease_asked(struct site *site, unsigned from, bool needs_one) {
  unsigned shards = shard_group_count(site->outlet->o.shard->group);
  uint64_t now_ms = site->outlet->o.shard->now_ms;
  must(at_home(site)); /* all shards come to the same from its name */
  /* Who asks in vain asks again. A site that has failed is tried by its home; if that has no mail for it, by whoever has some that cannot be handed on. */
  bool is_probe = needs_one && site->jobs == 0 && site->open == 0 && !backoff_blocks(&site->backoff, now_ms);
  if ((backoff_probing(&site->backoff) && !is_probe) || site->enough_until_ms > now_ms) return;
  if (site->owed == NULL) site->owed = calloc(shards, sizeof *site->owed);
  if (site->owed == NULL || site->owed[from] > 0) return;
  site->owed[from] = is_probe ? 0 : lease_promise(&site->lease_home, shards);
  if (site->owed[from] == 0 && needs_one) site->owed[from] = lease_promise_one(&site->lease_home);
  pay_owed(site);
}

static void lease_returned(struct site *site, unsigned from, uint32_t connections) {
  lease_take_back(&site->lease_home, connections);
  lease_forgive(&site->lease_home, site->owed[from]);
  site->owed[from] = 0;
}

/* What is owed is owed no more, and what is lent is asked back: all of it, or what is not at work. */
static void recall_leases(struct site *site, bool all) {
  unsigned shards = shard_group_count(site->outlet->o.shard->group);
  if (site->owed == NULL) return; /* nobody ever asked */
  for (unsigned guest = 0; guest < shards; guest++) {
    lease_forgive(&site->lease_home, site->owed[guest]);
    site->owed[guest] = 0;
    if (site->lease_home.granted > 0 && guest != site->home) send_note(site, guest, LETTER_LEASE_RECALL, all);
  }
}

/* What this shard saw fail is news of before the home said that the site works. */
static void lease_granted(struct site *site, uint32_t connections) {
  if (site->lease_guest.granted == 0) {
    backoff_succeeded(&site->backoff);
    for (unsigned i = 0; i < site->targets_count; i++) backoff_succeeded(&site->targets[i].backoff);
  }
  site->lease_guest.granted += connections;
  site->lease_guest.asked_ms = 0;
  site->lease_guest.used_ms = site->outlet->o.shard->now_ms;
}

/* Connections that go on are proof, or soon will be, that it does work; without any it would be tried anew from here. */
static void lease_recalled(struct site *site, bool all) {
  if (site->lease_guest.granted > 0 && (all || !connections_live(site, NULL))) site->lease_guest.returning = true;
  if (all) connections_retire_surplus(site, 0);
}

void site_block(struct site *site) {
  struct outlet *outlet = site->outlet;
  if (backoff_blocks(&site->backoff, outlet->o.shard->now_ms)) return;
  backoff_failed(&site->backoff, &outlet->backoff, outlet->o.shard->now_ms);
  site_mark_dirty(site);
  if (at_home(site)) {
    recall_leases(site, false); /* it is the home's alone until it works again */
  } else {
    site->lease_guest.returning = site->lease_guest.granted > 0;
    send_note(site, site->home, LETTER_SITE_FAILED, 0);
  }
}

/* Where connections of ours are at work the host is not dead: it has enough of us. */
static void failed_elsewhere(struct site *site) {
  if (connections_live(site, NULL)) {
    site->enough_until_ms = site->outlet->o.shard->now_ms + site->outlet->backoff.initial_ms;
  } else {
    site_block(site);
  }
}

static void forget_failures(struct site *site) {
  backoff_succeeded(&site->backoff);
  for (unsigned i = 0; i < site->targets_count; i++) backoff_succeeded(&site->targets[i].backoff);
  site->enough_until_ms = site->pause_until_ms = 0;
  site_mark_dirty(site);
}

void site_retry(struct site *site) {
  forget_failures(site);
  if (!at_home(site)) send_note(site, site->home, LETTER_SITE_RETRY, 0);
}

void site_send_round(struct site *site) {
  struct job *jobs = site_take_all(site);
  while (jobs != NULL) {
    struct job *job = jobs;
    jobs = job->next;
    job_decide_rest(job, FATE_AGAIN, false);
    outlet_job_end(site->outlet, job);
  }
}

/* ---- limits ---- */

/* Of a lower limit: what there is above it ends after what it has under way, and leases are given out anew. */
static void set_limit(struct site *site, uint32_t limit) {
  bool is_lower = limit < site->lease_home.limit;
  site->lease_home.limit = limit;
  site_mark_dirty(site);
  if (!is_lower) return;
  recall_leases(site, true);
  connections_retire_surplus(site, lease_home_limit(&site->lease_home));
}

/* It holds for as long as the site is known: there is mail for such a domain, or was lately. The home has to know, and learns it before anything else from whoever asks for a lease. */
static void heed_limit(struct site *site, uint32_t limit) {
  if (site->entry != NULL || limit == 0 || (site->domains_limit != 0 && site->domains_limit <= limit)) return;
  site->domains_limit = limit;
  if (at_home(site)) {
    set_limit(site, limit);
  } else {
    send_note(site, site->home, LETTER_SITE_LIMIT, 0);
  }
}

/* A domain without an entry has a say too: what is due in general. */
static void heed_security(struct site *site, enum conf_security tls) {
  if (site->entry != NULL || site->routed || tls <= site->tls) return;
  site->tls = tls;
  connections_retire_lax(site);
}

void site_heed(struct site *site, const struct conf_site *entry) {
  heed_security(site, entry != NULL ? entry->tls : site->outlet->o.conf->delivery_tls);
  if (site->entry != NULL || entry == NULL) return;
  if (site->domains_messages == 0 || entry->messages_per_connection < site->domains_messages)
    site->messages_max = site->domains_messages = entry->messages_per_connection;
  heed_limit(site, entry->connections_per_site);
}

/* What entries for domains say is heeded anew by domains_take_conf. */
void site_take_conf(struct site *site, bool other_limits) {
  uint32_t before = site->lease_home.limit;
  if (!other_limits) {
    site->entry = entry_of_hosts(site->outlet->o.conf, span_of_text(site->name));
    return;
  }
  take_entry(site);
  uint32_t limit = site->lease_home.limit;
  site->lease_home.limit = before;
  site->domains_limit = site->domains_messages = 0;
  if (at_home(site)) set_limit(site, limit);
}

void site_letter(struct outlet *outlet, unsigned from, const struct letter *letter) {
  struct lease_note *note = letter->what;
  struct site *site = site_get(outlet, note->site);
  must(site != NULL);
  if (at_home(site)) heed_limit(site, note->limit);
  switch ((enum outlet_letter_kind)letter->kind) {
  case LETTER_LEASE_ASK: lease_asked(site, from, note->connections > 0); break;
  case LETTER_LEASE_GRANT: lease_granted(site, note->connections); break;
  case LETTER_LEASE_RETURN: lease_returned(site, from, note->connections); break;
  case LETTER_LEASE_RECALL: lease_recalled(site, note->connections > 0); break;
  case LETTER_SITE_LIMIT: break;
  case LETTER_SITE_FAILED: failed_elsewhere(site); break;
  case LETTER_SITE_RETRY: forget_failures(site); break;
  default: must(false);
  }
  free(note);
  site_mark_dirty(site);
}

/* ---- the pump ---- */

uint32_t site_limit(const struct site *site) {
  if (at_home(site)) return lease_home_limit(&site->lease_home);
  return site->lease_guest.returning ? 0 : site->lease_guest.granted;
}

/* May one more connection be opened? After a failure there is only one, until it has ended a transaction; after "too many" none beside those there are. */
static bool may_open(const struct site *site) {
  if (site->open >= site_limit(site) + (canary(CANARY_LIMIT_BY_ONE) ? 1 : 0) || site->opening >= site->jobs) return false;
  bool alone = backoff_probing(&site->backoff) || site->enough_until_ms > site->outlet->o.shard->now_ms;
  return site->open == 0 || !alone;
}

void site_pump(struct site *site) {
  struct outlet *outlet = site->outlet;
  if (outlet->stopping) return;
  return_lease_if_unused(site);
  if (!at_home(site) && site->lease_guest.granted == 0 && outlet_may_begin(site)) hand_over(site);
  if (site->lease_home.owed > 0) pay_owed(site);
  if (site->jobs > 0) site->lease_guest.used_ms = outlet->o.shard->now_ms;
  if (site->jobs > 0 && site->targets_count == 0) return; /* known by name only, from a lease: its jobs come with a domain that knows the hosts */
  while (site->idle != NULL && outlet_may_begin(site)) connection_pull(site->idle);
  if (site->jobs == 0) {
    if (site->lease_guest.returning) connections_retire_surplus(site, 0);
    return;
  }
  if (!outlet_may_begin(site)) return; /* the recall comes by, and then it is looked at again */
  if (!at_home(site) && site->lease_guest.granted == 0) {
    ask_for_one(site);
    return;
  }
  if (backoff_blocks(&site->backoff, outlet->o.shard->now_ms)) {
    site_wake_at(site, site->backoff.until_ms);
    return;
  }
  if (site->pause_until_ms > outlet->o.shard->now_ms) {
    site_wake_at(site, site->pause_until_ms);
    return;
  }
  while (may_open(site)) {
    bool borrowed = !at_home(site) && site->first->handed_over; /* perhaps the home's last one: it goes back after this use */
    if (!connection_open(site)) break;
    if (borrowed) site->lease_guest.returning = true;
  }
  /* Those there are may be slow: nothing else need bring us here when more are allowed again. */
  bool waits = site->jobs > 0 && site->enough_until_ms > outlet->o.shard->now_ms;
  if (waits) site_wake_at(site, site->enough_until_ms);
}

void site_failed(struct site *site, const struct failure *failure, const struct outlet_peer *peer) {
  struct outlet *outlet = site->outlet;
  site_block(site);
  if (!at_home(site)) hand_over(site); /* it may have connections that work; if not, it defers them when it has tried */
  struct job *jobs = site_take_all(site);
  while (jobs != NULL) {
    struct job *job = jobs;
    jobs = job->next;
    outlet_defer_rest(outlet, job, failure, site, peer);
    outlet_job_end(outlet, job);
  }
}

void site_succeeded(struct site *site, const struct netaddr *address) {
  if (backoff_probing(&site->backoff)) site_mark_dirty(site); /* now more may be opened */
  backoff_succeeded(&site->backoff);
  for (unsigned i = 0; i < site->targets_count; i++)
    if (netaddr_equal(&site->targets[i].address, address)) {
      backoff_succeeded(&site->targets[i].backoff);
      site->targets[i].broke = false;
    }
}

void site_pause(struct site *site) { site->pause_until_ms = site->outlet->o.shard->now_ms + PAUSE_MS; }

void site_connection_closed(struct site *site) { site_mark_dirty(site); }

/* ---- sweep ---- */

/*
 * A message past its age goes back to its owner, who lets it expire, even if this site never gets a connection again. They stand in the order of their coming, which is not that of their
 * ends; so all are looked at, but only when there is one.
 */
static void end_too_old(struct site *site) {
  uint64_t wall_ms = site->outlet->o.shard->wall_ms;
  if (site->jobs == 0 || wall_ms < site->give_up_ms) return;
  struct job *old = jobs_take_old(&site->first, &site->last, wall_ms);
  site->give_up_ms = UINT64_MAX;
  for (const struct job *job = site->first; job != NULL; job = job->next)
    if (job->give_up_ms < site->give_up_ms) site->give_up_ms = job->give_up_ms;
  while (old != NULL) {
    struct job *job = old;
    old = job->next;
    site->jobs--;
    outlet_job_end(site->outlet, job);
  }
}

static bool unused(const struct site *site) {
  bool shared = site->lease_home.granted > 0 || site->lease_home.owed > 0 || site->lease_guest.granted > 0;
  bool blocked = backoff_blocks(&site->backoff, site->outlet->o.shard->now_ms);
  return site->domains == 0 && site->jobs == 0 && site->open == 0 && !site->dirty && !site->held && !shared && !blocked;
}

bool sites_sweep(struct outlet *outlet) {
  struct site *stale[OUTLET_SWEEP_COUNT], *site = NULL;
  unsigned count = 0;
  bool may_free = outlet->site_walkers == 0;
  for (unsigned i = 0; i < OUTLET_SWEEP_COUNT && (site = map_next(&outlet->sites, &outlet->sites_swept)) != NULL; i++) {
    end_too_old(site);
    return_lease_if_unused(site);
    if (may_free && unused(site)) stale[count++] = site;
  }
  if (site == NULL) outlet->sites_swept = 0;
  for (unsigned i = 0; i < count; i++) {
    map_remove(&outlet->sites, span_of_text(stale[i]->name));
    site_free(stale[i]);
  }
  return site != NULL;
}

void sites_close(struct outlet *outlet) {
  uint32_t cursor = 0;
  for (struct site *site; (site = map_next(&outlet->sites, &cursor)) != NULL;) {
    for (struct job *job; (job = site_pop(site)) != NULL;)
      if (job->owner == outlet->o.shard->index) job_free(outlet->o.slab, job);
    site_free(site);
  }
}
