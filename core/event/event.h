/*
 * event: one thing that happened to a message, as one JSON line (field names: DESIGN section 5). Pure: event_format writes into a buffer.
 * Bytes from outside are escaped so that every line is valid UTF-8 JSON (invalid UTF-8 bytes become U+FFFD).
 */
#ifndef CORE_EVENT_EVENT_H
#define CORE_EVENT_EVENT_H

#include "core/base/fmt.h"
#include "core/base/netaddr.h"

enum event_type { EVENT_INVALID = 0, EVENT_RECEPTION, EVENT_DELIVERY, EVENT_TRANSIENT_FAILURE, EVENT_BOUNCE, EVENT_EXPIRATION, EVENT_REJECTION, EVENT_ADMIN_BOUNCE };

struct event {
  enum event_type type;
  uint64_t id;               /* of the message, written as 16 hexadecimal digits; 0: none (field left out) */
  uint64_t session_id;       /* likewise */
  struct span sender, recipient;
  const struct span *more_recipients; /* of a Reception: recipients beyond the first; "recipient" is then an array */
  unsigned more_recipients_count;
  struct span queue, site, provider; /* empty: left out */
  uint64_t size;
  uint64_t timestamp_ms, created_ms; /* wall clock; written as seconds with three decimals */
  uint32_t num_attempts;
  uint16_t code;             /* response; 0: no response field */
  uint8_t enhanced[3];       /* class 0: no enhanced_code */
  struct span content, command;
  struct span peer_name;
  struct netaddr peer, source; /* family 0: left out */
  const char *verdict;       /* "hard", "soft" or NULL */
  const char *category, *rule; /* or NULL */
  bool maybe_duplicate;      /* written only if true */
};

#define EVENT_SIZE_MAX 65536 /* more recipients than fit are written as several events of the same id by event_format's caller */
/* Writes one line with its newline. On overflow `out` is as before but for the flag. */
void event_format(const struct event *event, struct fmt *out);
const char *event_type_text(enum event_type type);

#endif
