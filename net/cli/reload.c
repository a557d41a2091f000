#include "net/cli/reload.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/base/error.h"
#include "core/conf/change.h"
#include "core/conf/system.h"
#include "core/shard/errand.h"
#include "net/tls/client.h"
#include "net/tls/tls.h"
#include "net/tls/trust.h"

struct change { /* one shard's part of it */
  struct errand errand;
  const struct conf *conf;
  struct fmt *why;
  int error;
  bool begun; /* it only waits for its closes any more */
};

static bool prepare(struct errand *errand, void *relay) {
  struct change *change = (struct change *)errand;
  change->error = relay_prepare(relay, change->conf, change->why);
  return true;
}

#define CLOSE_POLL_MS 2

static bool is_settled(struct errand *errand, struct relay *relay) {
  errand->not_before_ms = relay_shard(relay)->now_ms + CLOSE_POLL_MS;
  return relay_is_settled(relay);
}

/* Over when the kernel has closed what was taken away: whoever hears of the reload may use these addresses, and so may the next one. */
static bool commit(struct errand *errand, void *relay) {
  struct change *change = (struct change *)errand;
  if (!change->begun) relay_commit(relay);
  change->begun = true;
  return is_settled(errand, relay);
}

static bool give_up(struct errand *errand, void *relay) {
  struct change *change = (struct change *)errand;
  if (!change->begun) relay_abort(relay);
  change->begun = true;
  return is_settled(errand, relay);
}

/* E_CLOSED: the shard has ended. */
static int ask(const struct reload *reload, unsigned shard, errand_step step, const struct conf *conf, struct fmt *why) {
  struct change change = {.conf = conf, .why = why, .error = E_OK};
  errand_init(&change.errand, step, reload->relays[shard]);
  errand_ask(relay_shard(reload->relays[shard]), &change.errand);
  if (errand_await(&change.errand)) return change.error;
  fmt_text(why, "the relay is stopping");
  return E_CLOSED;
}

/* One shard after the other: the first finds out whether an address is somebody else's. */
static int on_all(const struct reload *reload, errand_step step, const struct conf *conf, struct fmt *why) {
  int error = E_OK;
  for (unsigned i = 0; i < reload->first->shards && error == E_OK; i++) error = ask(reload, i, step, conf, why);
  return error;
}

static const struct conf *current(const struct reload *reload) { return reload->now != NULL ? reload->now : reload->first; }

static int check(const struct reload *reload, const struct conf *next, struct fmt *why) {
  const char *key = conf_needs_restart(current(reload), next);
  if (key == NULL) return E_OK;
  fmt_text(why, reload->path);
  fmt_text(why, ": ");
  fmt_text(why, key);
  fmt_text(why, " has changed, which needs a restart: nothing is taken over");
  return E_UNSUPPORTED;
}

struct kept_conf {
  struct kept_conf *next;
  struct conf *conf;
};

static void drop(struct conf *conf) {
  conf_free(conf);
  free(conf);
}

static void keep(struct reload *reload, struct conf *conf) {
  struct kept_conf *kept = malloc(sizeof *kept);
  if (kept == NULL) return; /* then it is there for ever */
  *kept = (struct kept_conf){.next = reload->kept, .conf = conf};
  reload->kept = kept;
}

/* A job may take days to its end, and has the entry it began with: those some 200 bytes each are the price of a look-up that costs a job nothing. */
static void retire(struct reload *reload, struct conf *conf) {
  if (conf->sites_count > 0) {
    conf_free_but_sites(conf);
    keep(reload, conf);
  } else {
    drop(conf);
  }
}

/* ---- certificates ---- */

#define TICKETS_PERIOD_S 43200 /* a client may resume for half a day to a day */

/* What a shard gets besides its configuration. */
struct handing {
  struct errand errand;
  struct certificates *certificates; /* shared, the shard's to put */
  struct tls_client *tls;            /* borrowed */
};

static bool take(struct errand *errand, void *relay) {
  const struct handing *handing = (struct handing *)errand;
  relay_take_certificates(relay, handing->certificates);
  relay_take_tls(relay, handing->tls);
  return true;
}

/* A shard that has ended needs nothing. NULL `tls`: what there is does no harm. */
static void hand_out(struct reload *reload, struct certificates *certificates, struct tls_client *tls) {
  for (unsigned i = 0; i < reload->first->shards; i++) {
    struct handing handing = {.certificates = certificates_share(certificates), .tls = tls};
    errand_init(&handing.errand, take, reload->relays[i]);
    errand_ask(relay_shard(reload->relays[i]), &handing.errand);
    if (!errand_await(&handing.errand)) certificates_put(certificates);
  }
  certificates_put(reload->certificates);
  reload->certificates = certificates_share(certificates);
  reload->certificates_wrong = false;
  if (tls == NULL) return;
  tls_client_put(reload->tls);
  reload->tls = tls_client_share(tls);
}

static int make_ready(struct reload *reload, struct fmt *why) {
  int error = reload->tls_ready ? E_OK : tls_init(TLS_LIBCRYPTO, why);
  reload->tls_ready = error == E_OK;
  return error;
}

static int load(struct reload *reload, const struct conf *conf, struct certificates **certificates, struct fmt *why) {
  *certificates = NULL;
  if (conf->certificates_count == 0) return E_OK;
  int error = make_ready(reload, why);
  if (error != E_OK) return error;
  if (reload->tickets == NULL) reload->tickets = tls_tickets_new(TICKETS_PERIOD_S);
  if (reload->tickets == NULL) return E_NO_MEMORY;
  return certificates_load(certificates, conf, reload->tickets, system_wall_ms(), why);
}

/* ---- TLS of connections out ---- */

static bool wants_tls(const struct conf *conf) {
  bool wants = conf->delivery_tls != CONF_SECURITY_NONE;
  for (unsigned i = 0; !wants && i < conf->sites_count; i++) wants = conf->sites[i].tls != CONF_SECURITY_NONE;
  for (unsigned i = 0; !wants && i < conf->routes_count; i++) wants = conf->routes[i].tls != CONF_SECURITY_NONE;
  return wants;
}

/* NULL: what there is stays, and with it the sessions that can be resumed. The system's authorities take some 25 to 60 ms. */
static int load_tls(struct reload *reload, const struct conf *conf, struct tls_client **tls, struct system_file *file, struct fmt *why) {
  uint8_t room[512];
  struct fmt warnings = fmt_over(room, sizeof room);
  *tls = NULL;
  if (!wants_tls(conf)) return E_OK;
  int error = make_ready(reload, why);
  if (error != E_OK) return error;
  bool seen = system_look_at_file(trust_file(conf->tls_ca), file) == E_OK;
  if (seen && reload->tls != NULL && system_same_file(file, &reload->authorities)) return E_OK;
  if (!seen) *file = (struct system_file){0}; /* what is wrong with it is said by who reads it */
  error = tls_client_new(tls, &(struct tls_client_config){.ca = conf->tls_ca}, system_wall_ms(), why, &warnings);
  if (warnings.len > 0) fprintf(stderr, "ringpost: tls.ca: %.*s", (int)warnings.len, (const char *)room);
  return error;
}

int reload_open(struct reload *reload, struct fmt *why) {
  int error = load(reload, reload->first, &reload->certificates, why);
  return error == E_OK ? load_tls(reload, reload->first, &reload->tls, &reload->authorities, why) : error;
}

int reload_look(struct reload *reload, struct fmt *why) {
  struct certificates *fresh;
  if (!certificates_changed(reload->certificates)) return 0;
  int error = load(reload, current(reload), &fresh, why);
  bool is_new = !reload->certificates_wrong;
  reload->certificates_wrong = error != E_OK; /* one of two files may be there before the other: it is tried again, without a word */
  if (error != E_OK) return is_new ? error : 0;
  hand_out(reload, fresh, NULL);
  certificates_put(fresh);
  return 1;
}

/* ---- */

static int use(struct reload *reload, struct conf *next, struct certificates *certificates, struct tls_client *tls, struct fmt *why) {
  uint8_t unheard_room[256];
  struct fmt unheard = fmt_over(unheard_room, sizeof unheard_room);
  int error = on_all(reload, prepare, next, why);
  if (error != E_OK) {
    if (on_all(reload, give_up, NULL, &unheard) != E_OK) error = E_CLOSED;
  } else {
    hand_out(reload, certificates, tls); /* before a new listener accepts */
    error = on_all(reload, commit, NULL, why);
  }
  if (error == E_CLOSED) keep(reload, next); /* the relay is stopping: some shards may have the one, some the other, until they are gone */
  if (error != E_OK) return error;
  struct conf *before = reload->now;
  reload->now = next;
  if (before != NULL) retire(reload, before);
  return E_OK;
}

int reload_conf(struct reload *reload, struct fmt *why) {
  struct conf *next = calloc(1, sizeof *next);
  if (next == NULL) return E_NO_MEMORY;
  int error = conf_read(next, reload->path, why);
  if (error != E_OK) {
    free(next);
    return error;
  }
  struct certificates *certificates = NULL;
  struct tls_client *tls = NULL;
  struct system_file authorities;
  error = check(reload, next, why);
  if (error == E_OK) error = load(reload, next, &certificates, why);
  if (error == E_OK) error = load_tls(reload, next, &tls, &authorities, why);
  if (error == E_OK) error = use(reload, next, certificates, tls, why);
  if (tls != NULL && reload->tls == tls) reload->authorities = authorities;
  certificates_put(certificates);
  tls_client_put(tls);
  if (error == E_OK || error == E_CLOSED) return error;
  drop(next);
  return error;
}

void reload_fini(struct reload *reload) {
  while (reload->kept != NULL) {
    struct kept_conf *kept = reload->kept;
    reload->kept = kept->next;
    drop(kept->conf);
    free(kept);
  }
  if (reload->now != NULL) drop(reload->now);
  certificates_put(reload->certificates);
  tls_client_put(reload->tls);
  if (reload->tickets != NULL) tls_tickets_put(reload->tickets);
}
