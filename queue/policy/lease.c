#include "queue/policy/lease.h"

#include "core/base/must.h"

uint32_t lease_home_limit(const struct lease_home *home) { return home->limit - home->granted; }

uint32_t lease_grant(struct lease_home *home, unsigned shards, uint32_t open) {
  uint32_t share = home->limit / shards > 1 ? home->limit / shards : 1;
  uint32_t kept = open > 1 ? open : 1;
  uint32_t available = home->limit - home->granted > kept ? home->limit - home->granted - kept : 0;
  uint32_t grant = share < available ? share : available;
  home->granted += grant;
  return grant;
}

void lease_take_back(struct lease_home *home, uint32_t connections) {
  must(connections <= home->granted);
  home->granted -= connections;
}

bool lease_should_ask(struct lease_guest *guest, uint32_t jobs, uint64_t now_ms) {
  if (now_ms - guest->window_ms >= LEASE_WINDOW_MS) {
    guest->window_ms = now_ms;
    guest->window_jobs = 0;
  }
  guest->window_jobs += jobs;
  if (guest->window_jobs < LEASE_HOT_JOBS) return false;
  if (guest->asked_ms != 0 && now_ms - guest->asked_ms < LEASE_ASK_MS) return false;
  guest->asked_ms = now_ms;
  return true;
}
