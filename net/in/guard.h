/*
 * guard: how much somebody may do: sessions at once, and so many things of a kind in a time. Somebody is a client (an IPv4 address or an IPv6 /64) or a user.
 *
 * One table for the process, in the shards' hands alike: the kernel deals the sessions of one client out to all of them. It has a fixed size; its entries
 * are atomics, nobody waits for anybody. An entry that nobody uses and whose time is over gives way to another. Where too many fall together one of
 * them goes uncounted: a limit that an attacker with many addresses could turn against others would be worse than none.
 */
#ifndef NET_IN_GUARD_H
#define NET_IN_GUARD_H

#include "core/base/must.h"
#include "core/base/netaddr.h"
#include "core/base/span.h"

#define GUARD_RATES 4
enum guard_client_rate { CLIENT_CONNECTIONS, CLIENT_MESSAGES, CLIENT_RECIPIENTS, CLIENT_ERRORS };
enum guard_user_rate { USER_MINUTE, USER_HOUR, USER_DAY };

struct guard_rate {
  uint32_t most; /* so many at once, and then so many in each period, evenly; 0: no limit */
  uint32_t period_s;
};

struct guard_limits {
  uint32_t sessions; /* 0: no limit */
  struct guard_rate rate[GUARD_RATES];
};

struct guard;
struct guard_entry;

/* `entries`: a power of two, at least 64; 64 bytes each. `seed`: a secret, so that nobody can choose addresses that fall together. E_NO_MEMORY. */
must_check int guard_open(struct guard **guard, uint32_t entries, uint64_t seed);
/* NULL is fine. */
void guard_close(struct guard *guard);

/* Who a client is to the table: 9 bytes. */
#define GUARD_CLIENT_KEY 9
struct span guard_client(const struct netaddr *client, uint8_t room[GUARD_CLIENT_KEY]);

/*
 * A session of this client or user (whose name it is) begins: if there may be one more it counts until guard_leave, which needs *entry (NULL: it goes uncounted).
 * False: too many. `now_ms`: monotonic. Any thread, here and below.
 */
bool guard_enter(struct guard *guard, const struct guard_limits *limits, struct span who, uint64_t now_ms, struct guard_entry **entry);
/* NULL is fine. */
void guard_leave(struct guard_entry *entry);
/* One more of these: false if that is too much; then it does not count. True for NULL. */
bool guard_count(struct guard_entry *entry, const struct guard_limits *limits, unsigned rate, uint64_t now_ms);
/* As guard_count, but nothing counts: would one more be too much? */
bool guard_allows(const struct guard_entry *entry, const struct guard_limits *limits, unsigned rate, uint64_t now_ms);

#endif
