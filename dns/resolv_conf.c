/* The part of resolv.conf(5) that matters here: its "nameserver" lines. Search lists and options are for interactive names. */
#include "core/base/error.h"
#include "dns/resolver.h"

#define DNS_PORT 53

static bool is_blank(uint8_t c) { return c == ' ' || c == '\t' || c == '\r'; }

static struct span next_line(struct span *text) {
  ptrdiff_t end = span_find(*text, '\n');
  struct span line = span_first(*text, end < 0 ? text->len : (size_t)end);
  *text = span_skip(*text, end < 0 ? text->len : (size_t)end + 1);
  return line;
}

static struct span next_word(struct span *line) {
  size_t len = 0;
  while (line->len > 0 && is_blank(*line->at)) *line = span_skip(*line, 1);
  while (len < line->len && !is_blank(line->at[len])) len++;
  struct span word = span_first(*line, len);
  *line = span_skip(*line, len);
  return word;
}

unsigned resolver_parse_resolv_conf(struct span text, struct netaddr *servers, unsigned max) {
  unsigned count = 0;
  while (text.len > 0 && count < max) {
    struct span line = next_line(&text);
    if (!span_equal(next_word(&line), SPAN("nameserver"))) continue;        /* comments too */
    if (netaddr_parse(&servers[count], next_word(&line)) != E_OK) continue; /* a zone (fe80::1%eth0) included: connecting would need its index */
    servers[count++].port = DNS_PORT;
  }
  return count;
}
