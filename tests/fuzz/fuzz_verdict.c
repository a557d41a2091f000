/*
 * Whatever a server says: a 4xx is never hard, nor is anything that is not 5xx, nor what is not about a recipient; the letters' case makes no
 * difference, nor does what is written in angle brackets. Input: stage, code (2 bytes), enhanced code (3 bytes), text.
 */
#include "core/base/must.h"
#include "queue/policy/verdict.h"

#define TEXT_MAX 4096

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static void same(struct verdict a, struct verdict b) { must(a.hard == b.hard && a.category == b.category && a.rule == b.rule); }

/* Other case for every second letter; and, in `hidden`, what stands in angle brackets replaced. */
static void disguise(struct span text, uint8_t *other, uint8_t *hidden) {
  const uint8_t *close = NULL;
  for (size_t i = 0; i < text.len; i++) {
    uint8_t c = text.at[i];
    other[i] = ascii_is_alpha(c) && i % 2 == 0 ? c ^ 0x20 : c;
    if (close == NULL && c == '<') close = memchr(text.at + i, '>', text.len - i);
    hidden[i] = close == NULL || c == '<' || c == '>' ? c : (uint8_t)('a' + i % 26);
    if (close == text.at + i) close = NULL;
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
  static uint8_t other[TEXT_MAX], hidden[TEXT_MAX];
  if (len < 6 || len > TEXT_MAX) return 0;
  enum verdict_stage stage = (enum verdict_stage)(bytes[0] % (VERDICT_AT_DNS + 1));
  unsigned code = 200 + (bytes[1] << 8 | bytes[2]) % 400;
  uint16_t enhanced[3] = {bytes[3] % 6, bytes[4], bytes[5]};
  struct span text = span_first(span_of(bytes + 6, len - 6), 2048);
  struct verdict verdict = verdict_of(stage, code, enhanced, text);
  must(verdict.category != NULL && verdict.rule != NULL);
  if (verdict.hard) {
    must(code / 100 == 5);
    must(enhanced[0] == 0 || enhanced[0] == 5);
    must(stage == VERDICT_AT_RCPT || stage == VERDICT_AT_FINAL || stage == VERDICT_AT_DNS);
    must(!verdict_of(stage, code - 100, enhanced, text).hard);
  }
  disguise(text, other, hidden);
  same(verdict, verdict_of(stage, code, enhanced, span_of(other, text.len)));
  same(verdict, verdict_of(stage, code, enhanced, span_of(hidden, text.len)));
  return 0;
}
