#include "net/tlsrpt/record.h"

#include "core/base/error.h"
#include "dns/tags.h"
#include "net/smtp/address.h"

#define VERSION SPAN("v=TLSRPTv1")
#define MAIL_SCHEME SPAN("mailto:")
#define HTTPS_SCHEME SPAN("https://")

/* ---- a URI ---- */

static int hex_digit(uint8_t c) {
  if (ascii_is_digit(c)) return c - '0';
  c = ascii_lower(c);
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Printable, and without what has to be percent-encoded in a record (RFC 8460 3) or in any URI (RFC 3986 2). */
static bool is_sound(struct span text) {
  for (size_t i = 0; i < text.len; i++) {
    uint8_t c = text.at[i];
    if (c <= ' ' || c >= 0x7f || strchr(",;!\"<>\\^`{|}", c) != NULL) return false;
  }
  return true;
}

/* False: no room, or a "%" without two digits. */
static bool decode(struct span text, struct fmt *out) {
  for (size_t i = 0; i < text.len; i++) {
    if (text.at[i] != '%') {
      fmt_char(out, (char)text.at[i]);
      continue;
    }
    int high = i + 2 < text.len ? hex_digit(text.at[i + 1]) : -1, low = high >= 0 ? hex_digit(text.at[i + 2]) : -1;
    if (low < 0) return false;
    fmt_char(out, (char)(high * 16 + low));
    i += 2;
  }
  return !out->overflow;
}

/* "mailto:a@b.example?subject=x": one address; what a letter to it should say does not matter (RFC 6068). */
static bool take_address(struct tlsrpt_uri *uri, struct span text) {
  char room[ADDRESS_MAX + 3];
  struct fmt out = fmt_over(room, sizeof room);
  struct address address;
  fmt_char(&out, '<');
  if (!decode(span_take_until(&text, '?'), &out)) return false;
  fmt_char(&out, '>');
  struct span path = fmt_span(&out);
  if (out.overflow || address_parse(&address, &path, ADDRESS_FORWARD) != E_OK || path.len > 0) return false;
  if (address.utf8 || address.literal || address.domain.len == 0 || address.whole.len != out.len - 2) return false;
  uri->scheme = TLSRPT_MAIL;
  uri->len = (uint16_t)address.whole.len;
  memcpy(uri->text, address.whole.at, uri->len);
  uri->text[uri->len] = '\0';
  return true;
}

/* No user name: that would go out as a password. */
static bool take_https(struct tlsrpt_uri *uri, struct span text) {
  struct span rest = span_skip(text, HTTPS_SCHEME.len), host = rest;
  for (host.len = 0; host.len < rest.len && strchr("/?#", rest.at[host.len]) == NULL;) host.len++;
  if (text.len > TLSRPT_URI_MAX || host.len == 0 || span_find(host, '@') >= 0) return false;
  uri->scheme = TLSRPT_HTTPS;
  uri->len = (uint16_t)text.len;
  memcpy(uri->text, text.at, text.len);
  uri->text[text.len] = '\0';
  return true;
}

bool tlsrpt_uri_parse(struct tlsrpt_uri *uri, struct span text) {
  if (!is_sound(text)) return false;
  if (span_starts_nocase(text, MAIL_SCHEME)) return take_address(uri, span_skip(text, MAIL_SCHEME.len));
  return span_starts_nocase(text, HTTPS_SCHEME) && take_https(uri, text);
}

void tlsrpt_uri_write(const struct tlsrpt_uri *uri, struct fmt *out) {
  static const char digits[] = "0123456789ABCDEF";
  if (uri->scheme == TLSRPT_HTTPS) {
    fmt_put(out, tlsrpt_uri_span(uri));
    return;
  }
  fmt_put(out, MAIL_SCHEME);
  for (unsigned i = 0; i < uri->len; i++) {
    uint8_t c = (uint8_t)uri->text[i];
    if (ascii_is_alpha(c) || ascii_is_digit(c) || strchr("-._~@+=", c) != NULL) {
      fmt_char(out, (char)c);
    } else {
      fmt_char(out, '%');
      fmt_char(out, digits[c >> 4]);
      fmt_char(out, digits[c & 15]);
    }
  }
}

/* ---- the record ---- */

static bool is_there(const struct tlsrpt_record *record, const struct tlsrpt_uri *uri) {
  for (unsigned i = 0; i < record->count; i++)
    if (record->uri[i].scheme == uri->scheme && span_equal(tlsrpt_uri_span(&record->uri[i]), tlsrpt_uri_span(uri))) return true;
  return false;
}

static void take_uris(struct tlsrpt_record *record, struct span value) {
  while (value.len > 0 && record->count < TLSRPT_URIS_MAX) {
    struct tlsrpt_uri *uri = &record->uri[record->count];
    if (tlsrpt_uri_parse(uri, span_trim(span_take_until(&value, ','))) && !is_there(record, uri)) record->count++;
  }
}

/* What follows the version. */
static bool read_fields(struct tlsrpt_record *record, struct span text) {
  struct span name, value;
  bool has_rua = false;
  int error;
  record->count = 0;
  while ((error = tags_next(&text, &name, &value)) == E_OK) {
    if (!span_equal(name, SPAN("rua"))) continue;
    has_rua = true;
    take_uris(record, value);
  }
  return error == E_NOT_FOUND && has_rua;
}

int tlsrpt_record_parse(struct tlsrpt_record *record, struct span text) {
  record->count = 0;
  if (!tags_begin(&text, VERSION)) return E_NOT_FOUND;
  return read_fields(record, text) ? E_OK : E_SYNTAX;
}

void tlsrpt_record_write(const struct tlsrpt_record *record, struct fmt *out) {
  must(record->count > 0);
  fmt_put(out, VERSION);
  for (unsigned i = 0; i < record->count; i++) {
    fmt_text(out, i == 0 ? ";rua=" : ",");
    tlsrpt_uri_write(&record->uri[i], out);
  }
}

bool tlsrpt_announced(const struct dns_answer *answer, struct tlsrpt_record *record) {
  struct span text;
  return tags_announced(answer, VERSION, &text) && read_fields(record, text);
}
