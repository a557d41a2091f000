/*
 * guard: how much one client may do: sessions at once, and connections, messages, recipients and errors a minute. A client is an IPv4 address or an IPv6 /64.
 *
 * One table for the process, in the shards' hands alike: the kernel deals the sessions of one client out to all of them. It has a fixed size; its entries
 * are atomics, nobody waits for anybody. An entry that nobody uses and whose minute is over gives way to another client. Where too many clients fall
 * together one of them goes uncounted: a limit that an attacker with many addresses could turn against others would be worse than none.
 */
#ifndef NET_IN_GUARD_H
#define NET_IN_GUARD_H

#include "core/base/must.h"
#include "core/base/netaddr.h"

enum guard_rate { GUARD_CONNECTIONS, GUARD_MESSAGES, GUARD_RECIPIENTS, GUARD_ERRORS, GUARD_RATES };

/* 0: no limit. Of rates: so many at once, and then so many in each minute, evenly. */
struct guard_limits {
  uint32_t sessions;
  uint32_t a_minute[GUARD_RATES];
};

struct guard;
struct guard_entry;

/* `entries`: a power of two, at least 64; 64 bytes each. `seed`: a secret, so that nobody can choose addresses that fall together. E_NO_MEMORY. */
must_check int guard_open(struct guard **guard, uint32_t entries, uint64_t seed);
/* NULL is fine. */
void guard_close(struct guard *guard);

enum guard_verdict { GUARD_WELCOME, GUARD_TOO_MANY /* sessions */, GUARD_TOO_FAST /* connections */ };

/*
 * A session of this client begins: if it is welcome it counts until guard_leave, which needs *entry (NULL: it goes uncounted). `now_ms`: monotonic. Any
 * thread, here and below.
 */
enum guard_verdict guard_enter(struct guard *guard, const struct guard_limits *limits, const struct netaddr *client, uint64_t now_ms,
                               struct guard_entry **entry);
/* NULL is fine. */
void guard_leave(struct guard_entry *entry);
/* One more of these: false if that is too much; then it does not count. True for NULL. */
bool guard_count(struct guard_entry *entry, const struct guard_limits *limits, enum guard_rate rate, uint64_t now_ms);
/* As guard_count, but nothing counts: would one more be too much? */
bool guard_allows(const struct guard_entry *entry, const struct guard_limits *limits, enum guard_rate rate, uint64_t now_ms);

#endif
