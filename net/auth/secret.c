#include "net/auth/secret.h"

#include <crypt.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <stdlib.h>

#include "core/base/error.h"

_Static_assert(SECRET_PASSWORD_MAX < CRYPT_MAX_PASSPHRASE_SIZE, "crypt(3) takes such passwords");
_Static_assert(SECRET_HASH_MAX < CRYPT_OUTPUT_SIZE, "and gives such hashes");

struct secret_room {
  struct crypt_data crypt;
};

void secret_random(void *bytes, size_t len) { must(RAND_bytes(bytes, (int)len) == 1); }

bool secret_text_is_valid(struct span text, size_t max) {
  if (text.len == 0 || text.len > max) return false;
  while (text.len > 0) {
    size_t len = span_utf8_length(text);
    bool control = text.at[0] < 0x20 || text.at[0] == 0x7f || (text.at[0] == 0xc2 && len == 2 && text.at[1] < 0xa0);
    if (len == 0 || control) return false;
    text = span_skip(text, len);
  }
  return true;
}

void secret_hmac(struct span key, struct span text, uint8_t digest[SECRET_DIGEST]) {
  must(HMAC(EVP_sha256(), key.at, (int)key.len, text.at, text.len, digest, NULL) != NULL);
}

void secret_sha256(struct span text, uint8_t digest[SECRET_DIGEST]) { must(EVP_Digest(text.at, text.len, digest, NULL, EVP_sha256(), NULL) == 1); }

bool secret_equal(const void *a, const void *b, size_t len) { return CRYPTO_memcmp(a, b, len) == 0; }

void secret_wipe(void *bytes, size_t len) { explicit_bzero(bytes, len); }

/* ---- crypt(3) ---- */

static const char *crypt_with(struct crypt_data *room, const char *setting, struct span password) {
  char text[SECRET_PASSWORD_MAX + 1];
  memcpy(text, password.at, password.len);
  text[password.len] = '\0';
  const char *hash = crypt_r(text, setting, room);
  explicit_bzero(text, sizeof text);
  return hash == NULL || hash[0] == '*' ? NULL : hash;
}

static bool fits(struct span password) { return password.len > 0 && password.len <= SECRET_PASSWORD_MAX && span_find(password, '\0') < 0; }

int secret_hash(struct span password, const char *method, char hash[SECRET_HASH_MAX + 1]) {
  char setting[CRYPT_GENSALT_OUTPUT_SIZE];
  if (!fits(password)) return E_RANGE;
  if (crypt_gensalt_rn(method != NULL ? method : "$y$", 0, NULL, 0, setting, sizeof setting) == NULL) return E_UNSUPPORTED;
  struct secret_room *room = secret_room_open();
  if (room == NULL) return E_NO_MEMORY;
  const char *made = crypt_with(&room->crypt, setting, password);
  bool good = made != NULL && strlen(made) <= SECRET_HASH_MAX;
  if (good) memcpy(hash, made, strlen(made) + 1);
  secret_room_close(room);
  return good ? E_OK : E_UNSUPPORTED;
}

bool secret_hash_is_valid(const char *hash) {
  int verdict = crypt_checksalt(hash);
  return hash[0] != '\0' && strlen(hash) <= SECRET_HASH_MAX && verdict != CRYPT_SALT_INVALID && verdict != CRYPT_SALT_METHOD_DISABLED;
}

struct secret_room *secret_room_open(void) {
  return calloc(1, sizeof(struct secret_room));
}

void secret_room_close(struct secret_room *room) {
  if (room == NULL) return;
  explicit_bzero(room, sizeof *room);
  free(room);
}

bool secret_hash_matches(struct secret_room *room, const char *hash, struct span password) {
  if (!fits(password)) return false;
  const char *again = crypt_with(&room->crypt, hash, password);
  size_t len = strlen(hash);
  bool same = again != NULL && strlen(again) == len && secret_equal(again, hash, len);
  explicit_bzero(&room->crypt, sizeof room->crypt);
  return same;
}

/* ---- SCRAM-SHA-256 ---- */

void scram_derive(struct scram_keys *keys, struct span password) {
  uint8_t salted[SECRET_DIGEST], client[SECRET_DIGEST];
  must(password.len <= SECRET_PASSWORD_MAX && keys->iterations > 0);
  must(PKCS5_PBKDF2_HMAC((const char *)password.at, (int)password.len, keys->salt, keys->salt_len, (int)keys->iterations, EVP_sha256(), sizeof salted,
                         salted) == 1);
  secret_hmac(span_of(salted, sizeof salted), SPAN("Client Key"), client);
  secret_sha256(span_of(client, sizeof client), keys->stored);
  secret_hmac(span_of(salted, sizeof salted), SPAN("Server Key"), keys->server);
  explicit_bzero(salted, sizeof salted);
  explicit_bzero(client, sizeof client);
}

void scram_make(struct scram_keys *keys, struct span password) {
  *keys = (struct scram_keys){.iterations = SCRAM_ITERATIONS, .salt_len = SCRAM_SALT_MADE};
  secret_random(keys->salt, keys->salt_len);
  scram_derive(keys, password);
}

bool scram_matches(const struct scram_keys *keys, struct span password) {
  if (keys->iterations == 0 || !fits(password)) return false;
  struct scram_keys again = *keys;
  scram_derive(&again, password);
  bool same = secret_equal(again.stored, keys->stored, sizeof again.stored);
  explicit_bzero(&again, sizeof again);
  return same;
}
