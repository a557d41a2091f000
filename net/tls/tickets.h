/*
 * tickets: the keys that session tickets are sealed with (RFC 5077, 8446 section 4.6.1), apart from certificates, so that they outlive a reload and
 * serve several servers. Refcounted; shared by threads, with a lock held for the copying of a key: once a handshake, not a record.
 *
 * Keys are made by the process and never leave it. One is in use for its time, then opens old tickets for as long again, then is gone. AES-256-GCM.
 */
#ifndef NET_TLS_TICKETS_H
#define NET_TLS_TICKETS_H

#include "core/base/must.h"
#include "core/base/span.h"

#define TICKETS_NAME 16
#define TICKETS_IV 16  /* wolfSSL's room; 12 bytes of it are used, the rest is random too */
#define TICKETS_MAC 32 /* wolfSSL's room; GCM's tag is 16, and a copy of it fills the rest */

struct tls_tickets;

/* period_s: how long one key seals; a ticket lives at least as long, at most twice. NULL: no memory. */
struct tls_tickets *tls_tickets_new(uint32_t period_s);
struct tls_tickets *tls_tickets_share(struct tls_tickets *tickets);
void tls_tickets_put(struct tls_tickets *tickets);
uint32_t tls_tickets_period_s(const struct tls_tickets *tickets);

/* In place. `bound` is not in the ticket but must be the same when it is opened. */
must_check bool tickets_seal(struct tls_tickets *tickets, uint64_t wall_ms, struct span bound, uint8_t name[TICKETS_NAME], uint8_t iv[TICKETS_IV],
                             uint8_t mac[TICKETS_MAC], uint8_t *ticket, size_t len);

enum tickets_result { TICKETS_REJECTED, TICKETS_OPENED, TICKETS_OLD /* opened, and due for a new one */ };
enum tickets_result tickets_open(struct tls_tickets *tickets, uint64_t wall_ms, struct span bound, const uint8_t name[TICKETS_NAME],
                                 const uint8_t iv[TICKETS_IV], const uint8_t mac[TICKETS_MAC], uint8_t *ticket, size_t len);

#endif
