/* Any text is refused, or is a record of URIs that may be used, whose own text is the same record; the same for each URI alone, and for tags. */
#include "core/base/error.h"
#include "dns/tags.h"
#include "net/smtp/address.h"
#include "net/tlsrpt/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static void is_sound(const struct tlsrpt_uri *uri) {
  struct tlsrpt_uri again;
  char room[3 * TLSRPT_URI_MAX + 16];
  struct fmt out = fmt_over(room, sizeof room);
  must(uri->len > 0 && uri->len <= TLSRPT_URI_MAX && strlen(uri->text) == uri->len);
  for (unsigned i = 0; i < uri->len; i++) must(uri->text[i] >= ' ' && uri->text[i] < 0x7f);
  if (uri->scheme == TLSRPT_MAIL) {
    char path_room[TLSRPT_URI_MAX + 3];
    struct fmt path = fmt_over(path_room, sizeof path_room);
    struct address address;
    fmt_char(&path, '<');
    fmt_put(&path, tlsrpt_uri_span(uri));
    fmt_char(&path, '>');
    struct span text = fmt_span(&path);
    must(address_parse(&address, &text, ADDRESS_FORWARD) == E_OK && text.len == 0 && span_equal(address.whole, tlsrpt_uri_span(uri)));
  } else {
    must(uri->scheme == TLSRPT_HTTPS && span_starts_nocase(tlsrpt_uri_span(uri), SPAN("https://")) && span_find(tlsrpt_uri_span(uri), ' ') < 0);
  }
  tlsrpt_uri_write(uri, &out);
  must(!out.overflow && tlsrpt_uri_parse(&again, fmt_span(&out)));
  must(again.scheme == uri->scheme && span_equal(tlsrpt_uri_span(&again), tlsrpt_uri_span(uri)));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
  static struct tlsrpt_record record, again;
  static char room[3 * TLSRPT_URIS_MAX * TLSRPT_URI_MAX + 32];
  struct fmt out = fmt_over(room, sizeof room);
  struct span text = span_of(bytes, len), name, value;
  size_t left = len;
  int error = tlsrpt_record_parse(&record, text);
  must(error == E_OK || error == E_SYNTAX || error == E_NOT_FOUND);
  for (struct span rest = text; tags_next(&rest, &name, &value) == E_OK; left = rest.len) must(rest.len < left && tags_name_is_valid(name));
  must(record.count <= TLSRPT_URIS_MAX);
  if (error != E_OK || record.count == 0) return 0;
  for (unsigned i = 0; i < record.count; i++) is_sound(&record.uri[i]);
  tlsrpt_record_write(&record, &out);
  must(!out.overflow && tlsrpt_record_parse(&again, fmt_span(&out)) == E_OK && again.count == record.count);
  for (unsigned i = 0; i < record.count; i++) must(again.uri[i].scheme == record.uri[i].scheme && strcmp(again.uri[i].text, record.uri[i].text) == 0);
  return 0;
}
