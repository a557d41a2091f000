/*
 * report: what a domain is told of a day's TLS (RFC 8460 sections 4 and 5): the JSON, packed by gzip, and the message that carries it. Pure (malloc).
 *
 * The report's id is the same for all that get it and however often it is tried, so that who gets it twice can tell.
 *
 *   tlsrpt_report_pack(&report, &packed, &len);   // what is POSTed, as TLSRPT_MEDIA_TYPE
 *   tlsrpt_report_mail(&report, span_of(packed, len), SPAN("reports@example.org"), now_ms, &out);
 *
 * A message is in wire form, 7 bits, no line of it begins with a dot. It lacks its Received field (mime_received), which whoever queues it puts in front, and the DKIM
 * signature that RFC 8460 5.3 asks for.
 */
#ifndef NET_TLSRPT_REPORT_H
#define NET_TLSRPT_REPORT_H

#include "core/base/fmt.h"
#include "net/tlsrpt/tally.h"

#define TLSRPT_MEDIA_TYPE "application/tlsrpt+gzip"

struct tlsrpt_report {
  struct span hostname;     /* ours: the submitter */
  struct span organization; /* UTF-8 */
  struct span contact;      /* our address for questions, from which it is sent */
  uint64_t id;
  uint64_t begin_ms, end_ms; /* wall clock: of the time that was counted, its end not included */
  const struct tlsrpt_domain *domain;
};

/* Takes what it gives from malloc. E_NO_MEMORY. */
must_check int tlsrpt_report_json(const struct tlsrpt_report *report, char **text);
/* The same, packed. E_NO_MEMORY. */
must_check int tlsrpt_report_pack(const struct tlsrpt_report *report, uint8_t **packed, size_t *len);

/* Room for tlsrpt_report_mail, in bytes. */
size_t tlsrpt_report_mail_size_max(const struct tlsrpt_report *report, struct span packed, struct span to);
/* To one address. */
void tlsrpt_report_mail(const struct tlsrpt_report *report, struct span packed, struct span to, uint64_t now_ms, struct fmt *out);

#endif
