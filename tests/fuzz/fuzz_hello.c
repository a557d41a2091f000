/*
 * Any bytes: what is made of them does not depend on how they are cut, neither in reading nor in records; what is complete stays so; what is taken
 * for a host is one.
 */
#include <stdlib.h>

#include "core/base/error.h"
#include "core/base/must.h"
#include "net/tls/hello.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

/* The same message in records of another size, if there are not too many of them. */
static void cut_otherwise(struct span all, const struct hello *hello, int error, size_t cut) {
  static uint8_t message[2 * HELLO_MAX], again[4 * HELLO_MAX], room[HELLO_MAX];
  size_t len = 0, made = 0;
  for (size_t at = 0; at + 5 <= all.len;) {
    size_t n = (size_t)all.at[at + 3] << 8 | all.at[at + 4];
    memcpy(message + len, all.at + at + 5, n);
    len += n;
    at += 5 + n;
    if (len >= 4 && len >= ((size_t)message[1] << 16 | (size_t)message[2] << 8 | message[3]) + 4) break;
  }
  if ((len + cut - 1) / cut > HELLO_RECORDS) return;
  for (size_t at = 0; at < len; at += cut) {
    size_t n = len - at < cut ? len - at : cut;
    uint8_t header[] = {22, 3, 1, (uint8_t)(n >> 8), (uint8_t)n};
    memcpy(again + made, header, 5);
    memcpy(again + made + 5, message + at, n);
    made += 5 + n;
  }
  struct hello other;
  must(hello_read(&(struct hello_reader){0}, span_of(again, made)) == HELLO_COMPLETE);
  must(hello_parse(span_of(again, made), room, &other) == error);
  if (error != E_OK) return;
  must(span_equal(other.host, hello->host) && other.tls12 == hello->tls12 && other.tls13 == hello->tls13 && other.p256 == hello->p256);
  must(other.rsa_pss == hello->rsa_pss && other.suites_rsa == hello->suites_rsa && other.suites_ecdsa == hello->suites_ecdsa);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
  static uint8_t room[HELLO_MAX];
  struct span all = span_of(bytes, len);
  struct hello_reader whole = {0}, slow = {0};
  if (len > 2 * HELLO_MAX) return 0;
  enum hello_progress once = hello_read(&whole, all), bit_by_bit = HELLO_MORE;
  size_t at = 0;
  while (bit_by_bit == HELLO_MORE && at < len) bit_by_bit = hello_read(&slow, span_first(all, ++at));
  must(bit_by_bit == once);
  if (once != HELLO_COMPLETE) return 0;
  struct hello hello, exact;
  int error = hello_parse(all, room, &hello);
  must(error == E_OK || error == E_SYNTAX);
  uint8_t *no_more = malloc(at); /* what is behind the message is not looked at */
  must(no_more != NULL);
  memcpy(no_more, bytes, at);
  must(hello_parse(span_of(no_more, at), room, &exact) == error);
  cut_otherwise(span_of(no_more, at), &exact, error, 1 + at % 701);
  free(no_more);
  if (error != E_OK) return 0;
  must(hello.host.len <= HELLO_HOST_MAX);
  for (size_t i = 0; i < hello.host.len; i++) must(hello.host.at[i] > ' ' && hello.host.at[i] < 0x7f);
  for (enum hello_key key = HELLO_KEY_RSA; key <= HELLO_KEY_P384; key++)
    must(hello.tls12 || hello.tls13 || (!hello_takes(&hello, key, true) && !hello_takes(&hello, key, false)));
  return 0;
}
