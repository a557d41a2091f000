#include "net/smtp/address.h"

#include "core/base/error.h"
#include "core/base/netaddr.h"

#define LABEL_MAX 63  /* RFC 1035 2.3.4 */
#define ROUTE_MAX 256 /* RFC 5321 4.5.3.1.3: a path, with its source route */

/* What an ASCII character may be part of. */
enum { ATEXT = 1, LET_DIG = 2, QTEXT = 4, DCONTENT = 8 };

#define IS_ALNUM(c) (((c) >= 'a' && (c) <= 'z') || ((c) >= 'A' && (c) <= 'Z') || ((c) >= '0' && (c) <= '9'))
#define IS_ATEXT(c)                                                                                                                                  \
  (IS_ALNUM(c) || (c) == '!' || ((c) >= '#' && (c) <= '\'') || (c) == '*' || (c) == '+' || (c) == '-' || (c) == '/' || (c) == '=' || (c) == '?' ||   \
   ((c) >= '^' && (c) <= '`') || ((c) >= '{' && (c) <= '~'))
#define CLASS(c)                                                                                                                                     \
  ((IS_ATEXT(c) ? ATEXT : 0) | (IS_ALNUM(c) ? LET_DIG : 0) | ((c) >= ' ' && (c) <= '~' && (c) != '"' && (c) != '\\' ? QTEXT : 0) |                   \
   ((c) >= '!' && (c) <= '~' && ((c) < '[' || (c) > ']') ? DCONTENT : 0))
#define CLASS_ROW(c) CLASS(c), CLASS((c) + 1), CLASS((c) + 2), CLASS((c) + 3), CLASS((c) + 4), CLASS((c) + 5), CLASS((c) + 6), CLASS((c) + 7)

static const uint8_t classes[256] = {
    CLASS_ROW(0),  CLASS_ROW(8),  CLASS_ROW(16), CLASS_ROW(24), CLASS_ROW(32), CLASS_ROW(40),  CLASS_ROW(48),  CLASS_ROW(56),
    CLASS_ROW(64), CLASS_ROW(72), CLASS_ROW(80), CLASS_ROW(88), CLASS_ROW(96), CLASS_ROW(104), CLASS_ROW(112), CLASS_ROW(120),
};

static bool is(uint8_t c, uint8_t class) { return (classes[c] & class) != 0; }

static bool is_continuation(uint8_t c) { return (c & 0xc0) == 0x80; }

size_t address_utf8_len(struct span text) {
  if (text.len == 0) return 0;
  uint8_t first = text.at[0];
  if (first < 0x80) return 1;
  size_t len = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
  if (first < 0xc2 || first > 0xf4 || text.len < len) return 0;
  for (size_t i = 1; i < len; i++)
    if (!is_continuation(text.at[i])) return 0;
  uint8_t second = text.at[1];
  if ((first == 0xe0 && second < 0xa0) || (first == 0xf0 && second < 0x90)) return 0; /* longer than need be */
  if ((first == 0xed && second > 0x9f) || (first == 0xf4 && second > 0x8f)) return 0; /* a surrogate; beyond U+10FFFF */
  return len;
}

/* How many bytes from `at` on are of this class, or UTF-8 beyond ASCII (RFC 6531 3.3 adds it to each of them). */
static size_t run_len(struct span text, size_t at, uint8_t class, bool *utf8) {
  size_t end = at;
  for (;;) {
    while (end < text.len && is(text.at[end], class)) end++;
    if (likely(end == text.len || text.at[end] < 0x80)) return end - at;
    size_t len = address_utf8_len(span_skip(text, end));
    if (len == 0) return end - at;
    *utf8 = true;
    end += len;
  }
}

/* Dot-string = Atom *("." Atom). Returns where it ends, 0 if there is none at the start of `text`. */
static size_t dot_string_end(struct span text, bool *utf8) {
  size_t at = 0;
  for (;;) {
    size_t len = run_len(text, at, ATEXT, utf8);
    if (len == 0) return 0;
    at += len;
    if (at == text.len || text.at[at] != '.') return at;
    at++;
  }
}

/* Quoted-string = DQUOTE *QcontentSMTP DQUOTE; the opening quote is there. Returns where it ends, 0 if it is none. */
static size_t quoted_string_end(struct span text, bool *utf8) {
  size_t at = 1;
  for (;;) {
    at += run_len(text, at, QTEXT, utf8);
    if (at == text.len) return 0;
    if (text.at[at] == '"') return at + 1;
    if (text.at[at] != '\\' || at + 1 == text.len || text.at[at + 1] < ' ' || text.at[at + 1] > '~') return 0;
    at += 2;
  }
}

/* sub-domain = Let-dig [Ldh-str]. Returns where the label at `at` ends, `at` itself if there is none. */
static size_t label_end(struct span text, size_t at, bool *utf8) {
  size_t end = at, characters = 0;
  for (;;) {
    size_t len = run_len(text, end, LET_DIG, utf8);
    for (size_t i = end; i < end + len; i++) characters += !is_continuation(text.at[i]);
    end += len;
    if (end == text.len || text.at[end] != '-') break;
    if (end == at) return at; /* no hyphen at the beginning */
    characters++;
    end++;
  }
  return end > at && (characters > LABEL_MAX || text.at[end - 1] == '-') ? at : end;
}

/* Domain = sub-domain *("." sub-domain). Returns where the one at `at` ends, `at` itself if there is none. */
static size_t domain_end(struct span text, size_t at, bool *utf8) {
  size_t label = at;
  for (;;) {
    size_t end = label_end(text, label, utf8);
    if (end == label) return at;
    if (end == text.len || text.at[end] != '.') return end;
    label = end + 1;
  }
}

bool address_domain_is_valid(struct span domain) {
  bool utf8 = false;
  return domain.len > 0 && domain.len <= ADDRESS_DOMAIN_MAX && domain_end(domain, 0, &utf8) == domain.len;
}

/* General-address-literal = Standardized-tag ":" 1*dcontent, where the tag is letters, digits and hyphens, with no hyphen at its end. */
static bool literal_is_general(struct span inside) {
  ptrdiff_t colon = span_find(inside, ':');
  if (colon <= 0 || inside.at[colon - 1] == '-' || (size_t)colon + 1 == inside.len) return false;
  for (ptrdiff_t i = 0; i < colon; i++)
    if (!is(inside.at[i], LET_DIG) && inside.at[i] != '-') return false;
  return true; /* that the rest is dcontent, literal_end has seen */
}

static bool literal_is_valid(struct span inside) {
  struct netaddr ignored;
  struct span tag = SPAN("IPv6:");
  if (span_starts_nocase(inside, tag)) {
    struct span number = span_skip(inside, tag.len);
    return netaddr_parse(&ignored, number) == E_OK && ignored.family == 6;
  }
  if (netaddr_parse(&ignored, inside) == E_OK) return ignored.family == 4; /* IPv6 goes only with its tag */
  return literal_is_general(inside);
}

/* address-literal = "[" ... "]"; the bracket at `at` is there. Returns where it ends, `at` itself if it is none. */
static size_t literal_end(struct span text, size_t at) {
  size_t end = at + 1;
  while (end < text.len && is(text.at[end], DCONTENT)) end++;
  if (end == text.len || text.at[end] != ']') return at;
  return literal_is_valid(span_of(text.at + at + 1, end - at - 1)) ? end + 1 : at;
}

/* A-d-l ":" with A-d-l = At-domain *("," At-domain), to be ignored (RFC 5321 4.1.1.3, appendix C). Returns where it ends, 0 if it is none. */
static size_t route_end(struct span text) {
  bool utf8 = false;
  size_t at = 0;
  while (at < text.len && text.at[at] == '@') {
    size_t end = domain_end(text, at + 1, &utf8);
    if (end == at + 1 || end == text.len) return 0;
    if (text.at[end] == ':') return end + 1;
    if (text.at[end] != ',') return 0;
    at = end + 1;
  }
  return 0;
}

/* Mailbox = Local-part "@" ( Domain / address-literal ), at the start of `text`, up to a ">". */
static int mailbox_parse(struct address *address, struct span text, enum address_kind kind, size_t *len) {
  bool utf8 = false;
  size_t at = text.len > 0 && text.at[0] == '"' ? quoted_string_end(text, &utf8) : dot_string_end(text, &utf8);
  if (at == 0 || at == text.len) return E_SYNTAX;
  address->local = span_first(text, at);
  address->domain = span_of(NULL, 0);
  address->literal = false;
  if (text.at[at] == '@') {
    size_t domain = at + 1;
    address->literal = domain < text.len && text.at[domain] == '[';
    at = address->literal ? literal_end(text, domain) : domain_end(text, domain, &utf8);
    if (at == domain || at == text.len) return E_SYNTAX;
    address->domain = span_of(text.at + domain, at - domain);
  } else if (kind != ADDRESS_FORWARD || !span_equal_nocase(address->local, SPAN("postmaster"))) {
    return E_SYNTAX;
  }
  if (text.at[at] != '>') return E_SYNTAX;
  address->whole = span_first(text, at);
  address->utf8 = utf8;
  *len = at + 1;
  if (at > ADDRESS_MAX || address->local.len > ADDRESS_LOCAL_MAX || address->domain.len > ADDRESS_DOMAIN_MAX) return E_TOO_LONG;
  return E_OK;
}

int address_parse(struct address *address, struct span *text, enum address_kind kind) {
  struct span rest = *text;
  if (rest.len < 2 || rest.at[0] != '<') return E_SYNTAX;
  rest = span_skip(rest, 1);
  if (rest.at[0] == '>' && kind == ADDRESS_REVERSE) {
    *address = (struct address){0};
    *text = span_skip(rest, 1);
    return E_OK;
  }
  if (rest.at[0] == '@') {
    size_t route = route_end(rest);
    if (route == 0) return E_SYNTAX;
    if (route > ROUTE_MAX) return E_TOO_LONG;
    rest = span_skip(rest, route);
  }
  size_t len = 0;
  int error = mailbox_parse(address, rest, kind, &len);
  if (error == E_OK) *text = span_skip(rest, len);
  return error;
}
