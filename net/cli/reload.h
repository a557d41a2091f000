/*
 * reload: the configuration is read again and, if all of it can be had, takes the place of the one in use, on all shards; or nothing changes.
 */
#ifndef NET_CLI_RELOAD_H
#define NET_CLI_RELOAD_H

#include "core/conf/conf.h"
#include "core/conf/system.h"
#include "net/in/certificates.h"
#include "net/relay.h"

struct reload {
  const char *path;
  const struct conf *first;          /* of the start: what cannot change is read from there, and it stays */
  struct conf *now;                  /* NULL: the first */
  struct kept_conf *kept;            /* earlier ones to which jobs on their way may still point, by an entry of `sites` */
  struct relay *const *relays;       /* all run */
  struct tls_tickets *tickets;       /* ours; NULL: there is no TLS */
  struct certificates *certificates; /* ours, those in use; NULL: none */
  struct tls_client *tls;            /* ours, of connections out; NULL: none so far */
  struct system_file authorities;    /* the file that those `tls` believes were read from */
  bool tls_ready;                    /* tls_init was called */
  bool certificates_wrong;           /* the files have changed, and what is there now cannot be used */
};

/* One at a time, not on a shard's thread. 0, or an error (core/base/error.h) with a line in `why`, which should have room for 512 bytes. */
must_check int reload_conf(struct reload *reload, struct fmt *why);
/* Before the relays run: tls_init, the certificates of `first`, and the authorities it believes. E_..., with a line in `why`. */
must_check int reload_open(struct reload *reload, struct fmt *why);
/* Where the files of certificates have changed they are loaded again. 1: and are in use; 0: nothing to do, or nothing new to say; an error: `why` has a line. */
must_check int reload_look(struct reload *reload, struct fmt *why);
/* When the relays are gone. */
void reload_fini(struct reload *reload);

#endif
