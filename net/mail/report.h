/*
 * report: writes delivery status notifications (RFC 3464, in a multipart/report of RFC 6522; with UTF-8 addresses RFC 6533). Pure.
 *
 * A report is written in three pieces, because the middle is the original message's own bytes: status_report_begin, then what status_report_returned says of the
 * original (it is in wire form already), then status_report_end. All is in wire form: CRLF, and no line of ours begins with a dot.
 */
#ifndef NET_MAIL_REPORT_H
#define NET_MAIL_REPORT_H

#include "core/base/fmt.h"
#include "core/base/must.h"
#include "core/base/span.h"

enum report_action {
  REPORT_FAILED,
  REPORT_DELAYED, /* there will be further tries until `until_ms` */
  REPORT_RELAYED, /* taken by a server that sends no reports of success (RFC 3461 5.2.2) */
};

enum report_returns { RETURNS_HEADER, RETURNS_ALL };

struct report_recipient {
  struct span address;
  struct span orcpt;    /* as it was given: "rfc822;xtext"; empty: none */
  uint16_t enhanced[3]; /* class 0: none was given */
  uint16_t code;        /* of the reply; 0: there was no reply, `text` is ours */
  struct span text;     /* any bytes */
  struct span remote;   /* name of the host that replied; empty: none did */
};

struct report {
  enum report_action action;
  enum report_returns returns;
  struct span hostname;                  /* ours */
  struct span to;                        /* the sender of the original */
  struct span envid;                     /* xtext, as it was given; empty: none */
  uint64_t id, original_id;              /* of this message, and of the one it is about */
  uint64_t now_ms, arrived_ms, until_ms; /* wall clock */
  bool eight_bit;                        /* what is returned has bytes above 127 */
  bool utf8;                             /* addresses, or the original's header, may (SMTPUTF8) */
  const struct report_recipient *recipient;
  unsigned recipients; /* >= 1 */
};

/* Room for status_report_begin, in bytes. */
size_t status_report_size_max(const struct report *report);
void status_report_begin(const struct report *report, struct fmt *out);
/* The part of the original, given from its beginning, that is returned; with RETURNS_HEADER the header without the empty line. */
struct span status_report_returned(const struct report *report, struct span original);
/* Room for 256 bytes. `whole`: what was returned ended with CRLF. */
void status_report_end(const struct report *report, bool whole, struct fmt *out);

#endif
