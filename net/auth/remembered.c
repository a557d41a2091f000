#include "net/auth/remembered.h"

#include <stdlib.h>
#include <string.h>

#define BUCKET 4

struct place {
  uint8_t digest[SECRET_DIGEST];
  uint64_t until_ms; /* 0: free */
};

struct remembered {
  unsigned places;
  struct place place[];
};

struct remembered *remembered_open(unsigned places) {
  unsigned size = BUCKET;
  while (size < places) size *= 2;
  struct remembered *remembered = calloc(1, sizeof *remembered + size * sizeof(struct place));
  if (remembered != NULL) remembered->places = size;
  return remembered;
}

void remembered_close(struct remembered *remembered) {
  if (remembered == NULL) return;
  secret_wipe(remembered, sizeof *remembered + remembered->places * sizeof(struct place));
  free(remembered);
}

/* A digest is as good as chance: its first octets are a hash of it. */
static size_t bucket_of(const struct remembered *remembered, const uint8_t digest[SECRET_DIGEST]) {
  uint32_t hash;
  memcpy(&hash, digest, sizeof hash);
  return (size_t)(hash & (remembered->places / BUCKET - 1)) * BUCKET;
}

bool remembered_has(const struct remembered *remembered, const uint8_t digest[SECRET_DIGEST], uint64_t now_ms) {
  const struct place *bucket = &remembered->place[bucket_of(remembered, digest)];
  bool has = false;
  for (unsigned i = 0; i < BUCKET; i++) has |= secret_equal(bucket[i].digest, digest, SECRET_DIGEST) && bucket[i].until_ms > now_ms;
  return has;
}

void remembered_put(struct remembered *remembered, const uint8_t digest[SECRET_DIGEST], uint64_t until_ms) {
  struct place *bucket = &remembered->place[bucket_of(remembered, digest)], *to = bucket;
  for (unsigned i = 0; i < BUCKET; i++) {
    bool same = secret_equal(bucket[i].digest, digest, SECRET_DIGEST);
    if (same || bucket[i].until_ms < to->until_ms) to = &bucket[i];
    if (same) break;
  }
  memcpy(to->digest, digest, SECRET_DIGEST);
  to->until_ms = until_ms;
}
