/*
 * event: one thing that happened to a message, as one JSON line (field names: DESIGN section 5). Pure: event_format writes into a buffer.
 * Bytes from outside are escaped so that every line is valid UTF-8 JSON (invalid UTF-8 bytes become U+FFFD).
 */
#ifndef CORE_EVENT_EVENT_H
#define CORE_EVENT_EVENT_H

#include "core/base/fmt.h"
#include "core/base/netaddr.h"

enum event_type {
  EVENT_INVALID = 0,
  EVENT_RECEPTION,
  EVENT_DELIVERY,
  EVENT_TRANSIENT_FAILURE,
  EVENT_BOUNCE,
  EVENT_EXPIRATION,
  EVENT_REJECTION,
  EVENT_ADMIN_BOUNCE
};

struct event {
  enum event_type type;
  uint64_t id;         /* of the message, written as 16 hexadecimal digits; 0: none (field left out) */
  uint64_t session_id; /* likewise */
  struct span sender, recipient;
  const struct span *more_recipients; /* of a Reception: recipients beyond the first; "recipient" is then an array */
  unsigned more_recipients_count;
  struct span queue, site, provider; /* empty: left out */
  uint64_t size;
  uint64_t timestamp_ms, created_ms; /* wall clock; written as seconds with three decimals; created 0: left out */
  uint32_t num_attempts;
  uint16_t code;        /* response; 0: no response field */
  uint16_t enhanced[3]; /* class 0: no enhanced_code; RFC 3463 gives subject and detail three digits, and 5.7.606 and its like are in daily use */
  struct span content, command;         /* of the response */
  struct span peer_name;                /* empty, and peer of family 0: no peer_address */
  struct netaddr peer, source;          /* family 0: left out */
  const char *verdict;                  /* "hard", "soft" or NULL */
  const char *category, *rule;          /* or NULL */
  bool maybe_duplicate;                 /* written only if true */
  const char *tls_version, *tls_cipher; /* "TLSv1.3", by IANA's name; NULL: left out */
  struct span dns_list;                 /* of a Rejection, a host name; empty: left out */
  struct netaddr dns_list_answer;
  const char *tls_policy,
      *tls_result;          /* by which the other server had something to prove, "tlsa" or "sts"; what it could not (RFC 8460 4.3); NULL: left out */
  struct span user, tenant; /* in meta; empty: left out */
};

/*
 * Longer strings are cut (between characters), so that an event with one recipient always fits EVENT_SIZE_MAX, each byte of it escaped: 12 strings
 * and the content, six bytes a byte, and keys and numbers. The longest legal string is a mailbox or a name of 255 bytes; the content is a reply of up
 * to a few lines.
 */
#define EVENT_STRING_MAX 512
#define EVENT_CONTENT_MAX 4096
#define EVENT_SIZE_MAX 65536 /* more recipients than fit are written as several events of the same id by event_format's caller */
/*
 * Writes one line with its newline. Always there, in this order: type, sender, size, timestamp, num_attempts, meta; the others where they have a
 * value. On overflow `out` is as before but for the flag.
 */
void event_format(const struct event *event, struct fmt *out);
/* "Delivery"; "" for what is no type. */
const char *event_type_text(enum event_type type);

#endif
