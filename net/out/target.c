/* The addresses of a site, and what is known of each. */
#include <stdlib.h>

#include "net/out/outlet.h"

static void free_targets(struct site *site, struct target *targets, unsigned count) {
  for (unsigned i = 0; i < count; i++) {
    safety_forget_session(site->outlet->o.slab, &targets[i]);
    proof_drop(targets[i].proof);
    free(targets[i].host);
  }
  free(targets);
}

struct target *site_target(struct site *site, const struct netaddr *address) {
  for (unsigned i = 0; i < site->targets_count; i++)
    if (netaddr_equal(&site->targets[i].address, address)) return &site->targets[i];
  return NULL;
}

static void remember(struct target *target, const struct target *before) {
  if (before == NULL) return;
  target->backoff = before->backoff;
  target->broke = before->broke;
  target->tls_broken_until_ms = before->tls_broken_until_ms;
}

/* Once nothing can fail any more: what can only be in one place. */
static void move_sessions(struct site *site, struct target *targets, unsigned count) {
  for (unsigned i = 0; i < count; i++) {
    struct target *before = site_target(site, &targets[i].address);
    if (before == NULL) continue;
    targets[i].session = before->session;
    targets[i].session_counted = before->session_counted;
    before->session = NULL;
  }
}

/* Are these the addresses we have already? Then a fresh answer costs no memory. */
static bool same_targets(const struct site *site, const struct mx_set *set, uint16_t port, struct proof *const *proof) {
  unsigned at = 0;
  for (unsigned h = 0; h < set->hosts; h++) {
    for (unsigned a = 0; a < set->host[h].addresses; a++, at++) {
      struct netaddr address = set->host[h].address[a];
      if (port != 0) address.port = port;
      if (at >= site->targets_count) return false;
      const struct target *target = &site->targets[at];
      bool same = target->preference == set->host[h].preference && netaddr_equal(&target->address, &address) &&
                  proof_same(target->proof, proof != NULL ? proof[h] : NULL);
      if (!same || strcmp(target->host, set->host[h].name) != 0) return false;
    }
  }
  return at == site->targets_count;
}

bool site_set_hosts(struct site *site, const struct mx_set *set, uint16_t port, struct proof *const *proof) {
  unsigned count = 0, made = 0;
  if (same_targets(site, set, port, proof)) return true;
  for (unsigned h = 0; h < set->hosts; h++) count += set->host[h].addresses;
  if (count == 0) return false; /* MX_OK promises one; without memory for it, as below */
  struct target *targets = calloc(count, sizeof *targets);
  if (targets == NULL) return false;
  for (unsigned h = 0; h < set->hosts; h++) {
    for (unsigned a = 0; a < set->host[h].addresses; a++) {
      struct target *target = &targets[made++];
      target->address = set->host[h].address[a];
      if (port != 0) target->address.port = port;
      target->preference = set->host[h].preference;
      if (proof != NULL) target->proof = proof_hold(proof[h]);
      remember(target, site_target(site, &target->address));
      target->host = strdup(set->host[h].name);
      if (target->host == NULL) {
        free_targets(site, targets, made);
        return false;
      }
    }
  }
  move_sessions(site, targets, count);
  free_targets(site, site->targets, site->targets_count);
  site->targets = targets;
  site->targets_count = count;
  site->best_count = 0;
  while (site->best_count < count && targets[site->best_count].preference == targets[0].preference) site->best_count++;
  if (proof != NULL) connections_retire_unproven(site);
  return true;
}

void targets_free(struct site *site) { free_targets(site, site->targets, site->targets_count); }
