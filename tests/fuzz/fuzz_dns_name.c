/* Any bytes are refused or give a name that passes its own check and stays as it is when parsed again. */
#include "core/base/error.h"
#include "core/base/must.h"
#include "dns/name.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
  struct dns_name name, again;
  if (dns_name_parse(&name, span_of(bytes, len)) != E_OK) return 0;
  must(dns_name_check(dns_name_span(&name)) == E_OK && strlen(name.text) == name.len);
  must(dns_name_parse(&again, dns_name_span(&name)) == E_OK);
  must(again.len == name.len && strcmp(again.text, name.text) == 0);
  struct dns_key key;
  dns_key_make(&key, (uint16_t)len, dns_name_span(&name));
  must(dns_key_type(&key) == (uint16_t)len && span_equal(dns_key_name(&key), dns_name_span(&name)));
  return 0;
}
