/*
 * hello: a client's first message, read before there is any TLS object for it: which host it asks for, which versions and which kinds of
 * certificate it takes. Records may cut the message anywhere (RFC 8446 section 5.1). Pure; hostile bytes are expected; borrows all bytes.
 *
 *   struct hello_reader reader = {0};
 *   while (hello_read(&reader, all_bytes_so_far) == HELLO_MORE) ...
 *   if HELLO_COMPLETE: uint8_t room[HELLO_MAX]; error = hello_parse(all_bytes_so_far, room, &hello);
 */
#ifndef NET_TLS_HELLO_H
#define NET_TLS_HELLO_H

#include "core/base/must.h"
#include "core/base/span.h"

#define HELLO_MAX 16384  /* bytes of the message; those of clients in use take 200 to 3000 */
#define HELLO_RECORDS 64 /* records it may be cut into */
#define HELLO_HOST_MAX 253

enum hello_progress {
  HELLO_MORE,     /* so far it may become one */
  HELLO_COMPLETE, /* all bytes of the message are there; others may follow */
  HELLO_NO_TLS,   /* not TLS at all */
  HELLO_OLD,      /* SSL 2 */
  HELLO_BROKEN,   /* no ClientHello, or records that may not be */
  HELLO_TOO_LONG,
};

struct hello_reader { /* zeroed at the start */
  uint32_t _at;       /* bytes of whole records that were looked at */
  uint32_t _body;     /* ... and of the message within them */
  uint32_t _records;
  uint32_t _wanted; /* bytes of the message with its header; 0: not known yet */
};

/* TLS 1.2 and 1.3 alone are of interest, and of suites those with forward secrecy and AEAD. */
struct hello {
  struct span host; /* of server_name, as sent; empty if there is none, or none that could be a host's */
  bool tls12, tls13;
  bool suites_ecdsa, suites_rsa; /* suites for TLS 1.2 with such a certificate */
  bool p256, p384;               /* ECDSA signatures */
  bool curve_p256, curve_p384;   /* in TLS 1.2 curves are for signatures too */
  bool rsa_pkcs1, rsa_pss;       /* RSA signatures with SHA-256 or better */
};

enum hello_key { HELLO_KEY_RSA, HELLO_KEY_P256, HELLO_KEY_P384 };

/* `all` begins with the connection's first byte and grows from call to call; each byte is looked at once. */
enum hello_progress hello_read(struct hello_reader *reader, struct span all);
/*
 * Of bytes for which hello_read said HELLO_COMPLETE. `room` holds the message if it is in several records; what `hello` says points into it or
 * into the bytes. E_SYNTAX: not a ClientHello by its grammar.
 */
must_check int hello_parse(struct span all, uint8_t room[HELLO_MAX], struct hello *hello);
/* Would this client take a certificate with such a key, if the server speaks TLS 1.3 (or 1.2 only)? */
bool hello_takes(const struct hello *hello, enum hello_key key, bool tls13);

#endif
