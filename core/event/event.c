/*
 * One event as one JSON line. Written on the hot path, twice for every message, so by hand: keys are literals of known length, a string that needs no
 * escaping is checked and copied eight bytes at a time, and every function takes and returns the line's two pointers in registers.
 */
#include "core/event/event.h"

#define always_inline static inline __attribute__((always_inline))

/* What is written so far ends at `at`. After an overflow both are NULL: there is no room, so whatever follows overflows as well. */
struct line {
  uint8_t *at, *end;
};

static const struct line overflowed = {NULL, NULL};

static const char *const type_texts[] = {
    [EVENT_RECEPTION] = "Reception",   [EVENT_DELIVERY] = "Delivery",   [EVENT_TRANSIENT_FAILURE] = "TransientFailure", [EVENT_BOUNCE] = "Bounce",
    [EVENT_EXPIRATION] = "Expiration", [EVENT_REJECTION] = "Rejection", [EVENT_ADMIN_BOUNCE] = "AdminBounce",
};

const char *event_type_text(enum event_type type) {
  return type > EVENT_INVALID && type < sizeof type_texts / sizeof type_texts[0] ? type_texts[type] : "";
}

/* ---- bytes and numbers ---- */

always_inline struct line put_bytes(struct line line, const void *bytes, size_t len) {
  if (unlikely(line.at == NULL || len > (size_t)(line.end - line.at))) return overflowed;
  memcpy(line.at, bytes, len);
  line.at += len;
  return line;
}
#define put_literal(line, literal) put_bytes(line, literal, sizeof(literal) - 1)

static const char digit_pairs[] = "0001020304050607080910111213141516171819202122232425262728293031323334353637383940414243444546474849"
                                  "5051525354555657585960616263646566676869707172737475767778798081828384858687888990919293949596979899";

static struct line put_u64(struct line line, uint64_t value) {
  if (value < 10) { /* most numbers of an event: attempts, enhanced codes */
    char digit = (char)('0' + value);
    return put_bytes(line, &digit, 1);
  }
  char room[20];
  unsigned at = sizeof room;
  for (; value >= 100; value /= 100) memcpy(room + (at -= 2), digit_pairs + value % 100 * 2, 2);
  if (value >= 10) {
    memcpy(room + (at -= 2), digit_pairs + value * 2, 2);
  } else {
    room[--at] = (char)('0' + value);
  }
  return put_bytes(line, room + at, sizeof room - at);
}

/* Seconds with three decimals. */
static struct line put_time(struct line line, uint64_t ms) {
  unsigned rest = (unsigned)(ms % 1000);
  line = put_u64(line, ms / 1000);
  char decimals[4] = {'.', (char)('0' + rest / 100)};
  memcpy(decimals + 2, digit_pairs + rest % 100 * 2, 2);
  return put_bytes(line, decimals, sizeof decimals);
}

static const char hex_digits[] = "0123456789abcdef";

static struct line put_hex64(struct line line, uint64_t value) {
  char room[16];
  for (unsigned i = 0; i < sizeof room; i++) room[i] = hex_digits[value >> (60 - 4 * i) & 15];
  return put_bytes(line, room, sizeof room);
}

static struct line put_address(struct line line, const struct netaddr *address) {
  if (address->family == 4) {
    for (unsigned i = 0; i < 4; i++) {
      if (i > 0) line = put_literal(line, ".");
      line = put_u64(line, address->bytes[i]);
    }
    return line;
  }
  uint8_t room[64];
  struct fmt text = fmt_over(room, sizeof room);
  netaddr_format(address, &text);
  return put_bytes(line, text.at, text.len);
}

/* ---- strings ---- */

/*
 * Is there a byte in the word that JSON wants escaped or that is not ASCII: control (below 0x20), quote, backslash, or above 0x7f? Each subtraction
 * sets the top bit of a byte that is below (or, after xor, equal to) what is looked for; a borrow only ever comes out of such a byte, so "none" is
 * exact.
 */
#define EACH_BYTE(byte) (0x0101010101010101u * (byte))
always_inline bool word_is_plain(uint64_t word) {
  uint64_t control = word - EACH_BYTE(0x20);
  uint64_t quote = (word ^ EACH_BYTE('"')) - EACH_BYTE(1);
  uint64_t backslash = (word ^ EACH_BYTE('\\')) - EACH_BYTE(1);
  return ((control | quote | backslash | word) & EACH_BYTE(0x80)) == 0;
}

always_inline bool copy_plain_word(uint8_t *to, const uint8_t *from) {
  uint64_t word;
  memcpy(&word, from, sizeof word);
  memcpy(to, &word, sizeof word);
  return word_is_plain(word);
}

/* Copies len bytes; false if one of them is not plain (then what was copied is of no use). The last word overlaps the one before. */
always_inline bool copy_plain(uint8_t *to, const uint8_t *from, size_t len) {
  if (len >= 8) {
    size_t last = len - 8;
    for (size_t i = 0; i < last; i += 8)
      if (unlikely(!copy_plain_word(to + i, from + i))) return false;
    return copy_plain_word(to + last, from + last);
  }
  uint64_t word = EACH_BYTE(' ');
  for (size_t i = 0; i < len; i++) {
    to[i] = from[i];
    word = word << 8 | from[i];
  }
  return word_is_plain(word);
}

static struct line put_control(struct line line, uint8_t c) {
  switch (c) {
  case '"': return put_literal(line, "\\\"");
  case '\\': return put_literal(line, "\\\\");
  case '\t': return put_literal(line, "\\t");
  case '\n': return put_literal(line, "\\n");
  case '\r': return put_literal(line, "\\r");
  }
  char escape[6] = {'\\', 'u', '0', '0', hex_digits[c >> 4], hex_digits[c & 15]};
  return put_bytes(line, escape, sizeof escape);
}

static __attribute__((noinline)) struct line put_escaped(struct line line, struct span s) {
  while (s.len > 0) {
    size_t len = span_utf8_length(s);
    if (len == 0) {
      line = put_literal(line, "\xef\xbf\xbd"); /* U+FFFD stands for each byte that is no part of a character */
      len = 1;
    } else if (len == 1 && (s.at[0] < 0x20 || s.at[0] == '"' || s.at[0] == '\\')) {
      line = put_control(line, s.at[0]);
    } else {
      line = put_bytes(line, s.at, len);
    }
    s = span_skip(s, len);
  }
  return line;
}

/* At most max bytes, and no character cut in two. */
static struct span cut(struct span s, size_t max) {
  if (likely(s.len <= max)) return s;
  size_t len = max;
  while (len > max - 3 && (s.at[len] & 0xc0) == 0x80) len--;
  return span_first(s, len);
}

static struct line put_string(struct line line, struct span s, size_t max) {
  s = cut(s, max);
  line = put_literal(line, "\"");
  if (likely(s.len <= (size_t)(line.end - line.at)) && likely(copy_plain(line.at, s.at, s.len))) {
    line.at += s.len;
  } else {
    line = put_escaped(line, s);
  }
  return put_literal(line, "\"");
}

/* ---- fields ---- */

#define put_text_field(line, key, s) put_string(put_literal(line, ",\"" key "\":"), s, EVENT_STRING_MAX)
#define put_number_field(line, key, value) put_u64(put_literal(line, ",\"" key "\":"), value)

static struct line put_type(struct line line, enum event_type type) {
  if (likely(type == EVENT_DELIVERY)) return put_literal(line, "{\"type\":\"Delivery\"");
  if (type == EVENT_RECEPTION) return put_literal(line, "{\"type\":\"Reception\"");
  line = put_literal(line, "{\"type\":");
  return put_string(line, span_of_text(event_type_text(type)), EVENT_STRING_MAX);
}

static struct line put_id(struct line line, uint64_t id) {
  line = put_hex64(put_literal(line, "\""), id);
  return put_literal(line, "\"");
}

static struct line put_recipients(struct line line, const struct event *event) {
  if (likely(event->more_recipients_count == 0)) return event->recipient.len > 0 ? put_text_field(line, "recipient", event->recipient) : line;
  line = put_literal(line, ",\"recipient\":[");
  line = put_string(line, event->recipient, EVENT_STRING_MAX);
  for (unsigned i = 0; i < event->more_recipients_count && line.at != NULL; i++) {
    line = put_literal(line, ",");
    line = put_string(line, event->more_recipients[i], EVENT_STRING_MAX);
  }
  return put_literal(line, "]");
}

static struct line put_response(struct line line, const struct event *event) {
  line = put_u64(put_literal(line, ",\"response\":{\"code\":"), event->code);
  if (event->enhanced[0] != 0) {
    line = put_u64(put_literal(line, ",\"enhanced_code\":{\"class\":"), event->enhanced[0]);
    line = put_number_field(line, "subject", event->enhanced[1]);
    line = put_number_field(line, "detail", event->enhanced[2]);
    line = put_literal(line, "}");
  }
  line = put_string(put_literal(line, ",\"content\":"), event->content, EVENT_CONTENT_MAX);
  line = put_text_field(line, "command", event->command);
  return put_literal(line, "}");
}

static struct line put_peer(struct line line, const struct event *event) {
  line = put_string(put_literal(line, ",\"peer_address\":{\"name\":"), event->peer_name, EVENT_STRING_MAX);
  if (event->peer.family != 0) {
    line = put_address(put_literal(line, ",\"addr\":\""), &event->peer);
    line = put_literal(line, "\"");
  }
  return put_literal(line, "}");
}

static struct line put_verdict(struct line line, const struct event *event) {
  if (event->maybe_duplicate) line = put_literal(line, ",\"maybe_duplicate\":true");
  if (event->verdict != NULL) line = put_text_field(line, "verdict", span_of_text(event->verdict));
  if (event->category != NULL) line = put_text_field(line, "category", span_of_text(event->category));
  if (event->rule != NULL) line = put_text_field(line, "rule", span_of_text(event->rule));
  return line;
}

static struct line put_dns_list(struct line line, const struct event *event) {
  line = put_string(put_literal(line, ",\"dns_list\":{\"name\":"), event->dns_list, EVENT_STRING_MAX);
  line = put_address(put_literal(line, ",\"answer\":\""), &event->dns_list_answer);
  return put_literal(line, "\"}");
}

/* Who and where: the message, the recipient, the way it goes. */
static struct line put_subject(struct line line, const struct event *event) {
  line = put_type(line, event->type);
  if (event->id != 0) line = put_id(put_literal(line, ",\"id\":"), event->id);
  line = put_text_field(line, "sender", event->sender);
  line = put_recipients(line, event);
  if (event->queue.len > 0) line = put_text_field(line, "queue", event->queue);
  if (event->site.len > 0) line = put_text_field(line, "site", event->site);
  if (event->provider.len > 0) line = put_text_field(line, "provider", event->provider);
  return put_number_field(line, "size", event->size);
}

static struct line put_meta(struct line line, const struct event *event) {
  line = put_literal(line, ",\"meta\":{");
  if (event->user.len > 0) line = put_string(put_literal(line, "\"user\":"), event->user, EVENT_STRING_MAX);
  if (event->user.len > 0 && event->tenant.len > 0) line = put_literal(line, ",");
  if (event->tenant.len > 0) line = put_string(put_literal(line, "\"tenant\":"), event->tenant, EVENT_STRING_MAX);
  return put_literal(line, "}}\n");
}

void event_format(const struct event *event, struct fmt *out) {
  must(event->type > EVENT_INVALID && event->type < sizeof type_texts / sizeof type_texts[0]);
  if (out->overflow) return;
  struct line line = {out->at + out->len, out->at + out->cap};
  line = put_subject(line, event);
  if (event->code != 0) line = put_response(line, event);
  if (event->peer.family != 0 || event->peer_name.len > 0) line = put_peer(line, event);
  line = put_time(put_literal(line, ",\"timestamp\":"), event->timestamp_ms);
  if (event->created_ms != 0) line = put_time(put_literal(line, ",\"created\":"), event->created_ms);
  line = put_number_field(line, "num_attempts", event->num_attempts);
  if (event->source.family != 0) {
    line = put_address(put_literal(line, ",\"source_address\":\""), &event->source);
    line = put_literal(line, "\"");
  }
  if (event->session_id != 0) line = put_id(put_literal(line, ",\"session_id\":"), event->session_id);
  if (event->tls_version != NULL) line = put_text_field(line, "tls_protocol_version", span_of_text(event->tls_version));
  if (event->tls_cipher != NULL) line = put_text_field(line, "tls_cipher", span_of_text(event->tls_cipher));
  if (event->tls_policy != NULL) line = put_text_field(line, "tls_policy", span_of_text(event->tls_policy));
  if (event->tls_result != NULL) line = put_text_field(line, "tls_result", span_of_text(event->tls_result));
  line = put_verdict(line, event);
  if (unlikely(event->dns_list.len > 0)) line = put_dns_list(line, event);
  line = put_meta(line, event);
  if (line.at == NULL) {
    out->overflow = true;
  } else {
    out->len = (size_t)(line.at - out->at);
  }
}
