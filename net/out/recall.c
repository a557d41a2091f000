/* What was ready when a suspension began is called back: a walk over the sites and what is ready there, in steps. */
#include "net/out/outlet.h"

#define SHED 16 /* jobs that go home at once from the front of a site that the walk has not come to */

static void go_to(struct outlet *outlet, struct site *site) {
  outlet->recall.site = site;
  if (site != NULL) site->looks = site->jobs;
}

void outlet_recall_begin(struct outlet *outlet) {
  if (outlet->first_site == NULL) return;
  if (!outlet->recall.under_way) outlet->site_walkers++;
  outlet->recall.under_way = true;
  go_to(outlet, outlet->first_site);
}

/*
 * Of whatever site: where a domain's mail goes may have changed meanwhile, or be forgotten. What is not meant goes to the end: when all were looked at they stand in their order again, unless a connection took some
 * meanwhile or the recall began anew; then some stand behind what came after them.
 */
static void look_at_first(struct site *site, unsigned *budget) {
  struct job *job = site_pop(site);
  must(job != NULL && job->recipients > 0);
  *budget -= job->recipients < *budget ? job->recipients : *budget;
  if (!outlet_hold(site->outlet, job, site)) site_enqueue(site, job);
}

bool outlet_recall_on(struct outlet *outlet, unsigned budget) {
  struct site *site;
  while ((site = outlet->recall.site) != NULL && budget > 0) {
    if (site->looks > site->jobs) site->looks = site->jobs; /* some became too old */
    if (site->looks > 0) {
      look_at_first(site, &budget);
      continue;
    }
    if (site->jobs > 0) site_mark_dirty(site); /* who came meanwhile may have found nothing to begin, and will not come again */
    go_to(outlet, site->next);
    budget--;
  }
  if (outlet->recall.site != NULL) return false;
  if (outlet->recall.under_way) outlet->site_walkers--;
  outlet->recall.under_way = false;
  return true;
}

bool outlet_may_begin(struct site *site) {
  struct outlet *outlet = site->outlet;
  if (!outlet->recall.under_way) return site->jobs > 0;
  if (outlet->held_all || site->held) return false;
  for (unsigned i = 0; i < SHED && site->first != NULL; i++) {
    struct job *job = site->first;
    if (!outlet_would_hold(outlet, job, site)) return true;
    site_pop(site);
    outlet_hold(outlet, job, site);
  }
  return false;
}
