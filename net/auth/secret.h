/*
 * secret: what is computed of passwords: crypt(3) hashes, SCRAM-SHA-256 keys (RFC 5802, 7677) and keyed digests, by libcrypt and libcrypto.
 *
 * No state: any thread, several at once. Nothing here looks at a clock. Making and checking a hash takes some 10 to 300 ms and megabytes of memory (yescrypt),
 * deriving SCRAM keys some milliseconds: never on a shard. The digests take a microsecond. Passwords are copied onto the stack and wiped there.
 */
#ifndef NET_AUTH_SECRET_H
#define NET_AUTH_SECRET_H

#include "core/base/must.h"
#include "core/base/span.h"

#define SECRET_NAME_MAX 255     /* of a user's name, in bytes */
#define SECRET_PASSWORD_MAX 511 /* what crypt(3) takes (CRYPT_MAX_PASSPHRASE_SIZE) */
#define SECRET_HASH_MAX 383     /* CRYPT_OUTPUT_SIZE without its NUL */
#define SECRET_DIGEST 32        /* of SHA-256 */
#define SCRAM_SALT_MAX 64
#define SCRAM_SALT_MADE 16
#define SCRAM_ITERATIONS 4096 /* of keys made here: RFC 7677 4. More would cost clients, not us */
#define SCRAM_ITERATIONS_MIN 4096
#define SCRAM_ITERATIONS_MAX 1000000

struct scram_keys {
  uint32_t iterations; /* 0: there are none */
  uint8_t salt_len;
  uint8_t salt[SCRAM_SALT_MAX];
  uint8_t stored[SECRET_DIGEST];
  uint8_t server[SECRET_DIGEST];
};

/* Random bytes from the system. */
void secret_random(void *bytes, size_t len);

/* What a name or a password may be made of: 1 to `max` bytes of valid UTF-8 (RFC 3629) without control characters (U+0000 to U+001F, U+007F to U+009F). Of
 * SASLprep (RFC 4013) that is what concerns ASCII, which it leaves as it is; other characters are taken as they came, without normalization. */
bool secret_text_is_valid(struct span text, size_t max);

/* HMAC-SHA-256. */
void secret_hmac(struct span key, struct span text, uint8_t digest[SECRET_DIGEST]);
void secret_sha256(struct span text, uint8_t digest[SECRET_DIGEST]);
/* In a time that does not depend on where they differ. */
bool secret_equal(const void *a, const void *b, size_t len);
void secret_wipe(void *bytes, size_t len);

/* ---- crypt(3) ---- */

/* A new hash with a salt of its own. `method` as crypt_gensalt(3) has it ("$6$"), NULL: yescrypt. E_UNSUPPORTED: no such method; E_RANGE: the password is empty or
 * too long. */
must_check int secret_hash(struct span password, const char *method, char hash[SECRET_HASH_MAX + 1]);
/* Is that a hash of a method that this system has (and not one locked with ! or *)? */
bool secret_hash_is_valid(const char *hash);

/* Room for one thread to check in: 32 KiB. NULL: no memory. */
struct secret_room;
struct secret_room *secret_room_open(void);
void secret_room_close(struct secret_room *room);
/* Is this the password of that hash? */
bool secret_hash_matches(struct secret_room *room, const char *hash, struct span password);

/* ---- SCRAM-SHA-256 ---- */

/* `keys` has its salt and iterations; the rest is derived. */
void scram_derive(struct scram_keys *keys, struct span password);
/* New keys with a salt of their own. */
void scram_make(struct scram_keys *keys, struct span password);
bool scram_matches(const struct scram_keys *keys, struct span password);

#endif
