/* What is taken as a path: its parts lie where they should, within the bounds, and the mailbox alone is taken again, with the same parts. */
#include "core/base/error.h"
#include "core/base/must.h"
#include "net/smtp/address.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static void check_parts(const struct address *a) {
  must(a->whole.len <= ADDRESS_MAX && a->local.len <= ADDRESS_LOCAL_MAX && a->domain.len <= ADDRESS_DOMAIN_MAX);
  bool utf8 = false;
  for (size_t i = 0; i < a->whole.len; i += address_utf8_len(span_skip(a->whole, i))) {
    must(a->whole.at[i] >= ' ' && a->whole.at[i] != 0x7f && address_utf8_len(span_skip(a->whole, i)) > 0);
    utf8 |= a->whole.at[i] > 127;
  }
  must(utf8 == a->utf8);
  if (a->domain.len == 0) return;
  must(a->local.at == a->whole.at && a->local.at[a->local.len] == '@' && a->domain.at == a->local.at + a->local.len + 1);
  must(a->whole.len == a->local.len + 1 + a->domain.len);
  must(a->literal == (a->domain.at[0] == '[') && (a->literal || address_domain_is_valid(a->domain)));
}

static void check_again(const struct address *a, enum address_kind kind) {
  uint8_t room[ADDRESS_MAX + 2];
  struct fmt out = fmt_over(room, sizeof room);
  fmt_char(&out, '<');
  fmt_put(&out, a->whole);
  fmt_char(&out, '>');
  struct address again;
  struct span text = fmt_span(&out);
  must(!out.overflow && address_parse(&again, &text, kind) == E_OK && text.len == 0);
  must(span_equal(again.local, a->local) && span_equal(again.domain, a->domain) && again.utf8 == a->utf8 && again.literal == a->literal);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
  for (enum address_kind kind = ADDRESS_REVERSE; kind <= ADDRESS_FORWARD; kind++) {
    struct address address;
    struct span text = span_of(bytes, len), all = text;
    int error = address_parse(&address, &text, kind);
    must(error == E_OK || error == E_SYNTAX || error == E_TOO_LONG);
    if (error != E_OK) {
      must(text.at == all.at && text.len == all.len);
      continue;
    }
    must(text.at > all.at && text.at[-1] == '>' && text.at + text.len == all.at + all.len);
    check_parts(&address);
    check_again(&address, kind);
  }
  return 0;
}
