/* client: senders that hand mail to the relay, well-behaved and not, and tell the ledger what they were answered. */
#ifndef TESTS_SIM_CLIENT_H
#define TESTS_SIM_CLIENT_H

#include "core/base/netaddr.h"

/* Once in so many messages; 0: never. */
struct client_habits {
  unsigned leaves_in_data, leaves_behind_data, resets, rset, refused_content;
  unsigned dawdles;                     /* waits for seconds in the middle */
  uint64_t pause_low_ns, pause_high_ns; /* between messages */
  uint64_t size_low, size_high;
  unsigned recipients_max;
  unsigned refused_once, expires_once; /* recipients of these fates */
  unsigned domains;
  unsigned aliases; /* of domains (dns.h), as recipients have them */
  unsigned messages_per_session;
  unsigned eight_bit; /* content that not every host takes */
};

/* So many messages in all, over so many sessions at once; those that are refused for now are tried again, as others. */
void client_open(const struct netaddr *relay, unsigned sessions, unsigned messages);
void client_set_habits(const struct client_habits *habits);
/* No message is begun any more. */
void client_stop(void);
/* All messages were sent, or client_stop was called, and no session is open. */
bool client_is_over(void);

struct client_sums {
  unsigned begun, refused, sessions, lost;
};
const struct client_sums *client_sums(void);

#endif
