/* A header is found whole or not at all, where it ends does not depend on what follows, and every beginning of it asks for more. */
#include "net/in/proxy.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
  struct span in = span_of(bytes, len);
  struct proxy_header header, again;
  enum proxy_verdict verdict = proxy_parse(in, &header);
  if (verdict == PROXY_MORE) must(len < PROXY_HEADER_MAX);
  if (verdict != PROXY_WHOLE) return 0;
  must(header.len > 0 && header.len <= len && header.len <= PROXY_HEADER_MAX);
  must(proxy_parse(span_first(in, header.len), &again) == PROXY_WHOLE && again.len == header.len && netaddr_equal(&again.client, &header.client));
  for (size_t i = 0; i < header.len; i++) must(proxy_parse(span_first(in, i), &again) == PROXY_MORE);
  return 0;
}
