/*
 * certificates: what the listeners' TLS shows of this relay: the files of tls.certificates and tls.client_ca, loaded. Immutable and counted: a session keeps what it began with,
 * a reload makes new ones. Any thread.
 */
#ifndef NET_IN_CERTIFICATES_H
#define NET_IN_CERTIFICATES_H

#include "core/conf/conf.h"
#include "net/tls/server.h"

struct certificates;

/*
 * Reads the files; *certificates is NULL where the configuration has none. Not on a shard. On error `why` has a line with the file in it. What is odd but works goes to
 * stderr: a certificate that has expired. `tickets` outlive a change of certificates. tls_init has to come first.
 */
must_check int certificates_load(struct certificates **certificates, const struct conf *conf, struct tls_tickets *tickets, uint64_t wall_ms,
                                 struct fmt *why);
/* NULL is fine, here and below. */
struct certificates *certificates_share(struct certificates *certificates);
void certificates_put(struct certificates *certificates);
/* Has one of the files changed since they were loaded? */
bool certificates_changed(const struct certificates *certificates);

/* For sessions of a listener that asks for client certificates, or not. NULL: there is none. */
struct tls_server *certificates_server(const struct certificates *certificates, bool asks);

#endif
