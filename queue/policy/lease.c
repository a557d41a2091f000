#include "queue/policy/lease.h"

#include "core/base/must.h"

static uint32_t least(uint32_t a, uint32_t b) { return a < b ? a : b; }

uint32_t lease_home_limit(const struct lease_home *home) {
  uint32_t lent = home->granted + home->owed;
  return home->limit > lent ? home->limit - lent : 0;
}

uint32_t lease_promise(struct lease_home *home, unsigned shards) {
  uint32_t share = home->limit / shards > 1 ? home->limit / shards : 1, free = lease_home_limit(home);
  uint32_t promise = free > 0 ? least(share, free - 1) : 0;
  home->owed += promise;
  return promise;
}

uint32_t lease_promise_one(struct lease_home *home) {
  uint32_t promise = least(1, lease_home_limit(home));
  home->owed += promise;
  return promise;
}

uint32_t lease_pay(struct lease_home *home, uint32_t owed, uint32_t open) {
  must(owed <= home->owed);
  uint32_t used = home->granted + open;
  uint32_t paid = least(owed, home->limit > used ? home->limit - used : 0);
  home->owed -= paid;
  home->granted += paid;
  return paid;
}

void lease_forgive(struct lease_home *home, uint32_t owed) {
  must(owed <= home->owed);
  home->owed -= owed;
}

void lease_take_back(struct lease_home *home, uint32_t connections) {
  must(connections <= home->granted);
  home->granted -= connections;
}

bool lease_may_ask(struct lease_guest *guest, uint64_t now_ms) {
  if (guest->asked_ms != 0 && now_ms - guest->asked_ms < LEASE_ASK_MS) return false;
  guest->asked_ms = now_ms;
  return true;
}

bool lease_should_ask(struct lease_guest *guest, uint32_t jobs, uint64_t now_ms) {
  if (now_ms - guest->window_ms >= LEASE_WINDOW_MS) {
    guest->window_ms = now_ms;
    guest->window_jobs = 0;
  }
  guest->window_jobs += jobs;
  return guest->window_jobs >= LEASE_HOT_JOBS && lease_may_ask(guest, now_ms);
}

bool lease_should_return(const struct lease_guest *guest, uint64_t now_ms) { return guest->granted > 0 && now_ms - guest->used_ms >= LEASE_KEEP_MS; }
