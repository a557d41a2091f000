/*
 * record: the TXT record of _smtp._tls.DOMAIN that says who wants reports about TLS (RFC 8460 section 3). Pure.
 *
 *   if (tlsrpt_announced(answer, &record)) for (i = 0; i < record.count; i++) send(&record.uri[i]);
 */
#ifndef NET_TLSRPT_RECORD_H
#define NET_TLSRPT_RECORD_H

#include "core/base/fmt.h"
#include "core/base/must.h"
#include "core/base/span.h"

#define TLSRPT_URIS_MAX 8  /* of a record; more are passed over: each is work that a stranger asks for */
#define TLSRPT_URI_MAX 512 /* bytes; a longer one is passed over */

enum tlsrpt_scheme { TLSRPT_SCHEME_INVALID = 0, TLSRPT_MAIL, TLSRPT_HTTPS };

struct tlsrpt_uri {
  enum tlsrpt_scheme scheme;
  uint16_t len;
  char text[TLSRPT_URI_MAX + 1]; /* with a NUL. MAIL: the address, which is one for RCPT without SMTPUTF8; HTTPS: the whole URI, printable */
};

struct tlsrpt_record {
  unsigned count; /* may be 0: nobody that we could reach */
  struct tlsrpt_uri uri[TLSRPT_URIS_MAX];
};

static inline struct span tlsrpt_uri_span(const struct tlsrpt_uri *uri) { return span_of(uri->text, uri->len); }

/* URIs of other schemes, wrong ones and repeated ones are passed over. E_NOT_FOUND: it is a record of something else; E_SYNTAX. */
must_check int tlsrpt_record_parse(struct tlsrpt_record *record, struct span text);
/* A text that parses to the same; room for 3 * TLSRPT_URIS_MAX * TLSRPT_URI_MAX + 32 bytes. At least one URI. */
void tlsrpt_record_write(const struct tlsrpt_record *record, struct fmt *out);

/* One URI, as in a record. False: it is none for us. */
must_check bool tlsrpt_uri_parse(struct tlsrpt_uri *uri, struct span text);
void tlsrpt_uri_write(const struct tlsrpt_uri *uri, struct fmt *out);

struct dns_answer;
/* From all TXT records there are. False: nobody wants reports; so also if there are two records of ours, or one that is wrong. */
bool tlsrpt_announced(const struct dns_answer *answer, struct tlsrpt_record *record);

#endif
