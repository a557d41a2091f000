#include "net/auth/lockout.h"

#include <stdlib.h>
#include <xxhash.h>

#include "core/base/error.h"

#define BUCKET 8 /* places that a key may be in */
#define ONE 1024 /* a failure: they fade in fractions */
#define KEY_ROOM 320

enum kind { ADDRESS = 1, NAME, KNOWN /* this name came in from this address */ };

struct place {
  uint64_t key; /* 0: free */
  uint64_t last_ms, locked_until_ms;
  uint32_t failures; /* in parts of ONE, as of last_ms */
};

struct lockout {
  struct lockout_options o;
  uint64_t seed;
  uint32_t mask; /* of buckets */
  struct place places[];
};

const struct lockout_options lockout_defaults = {.places = 16384,
                                                 .free_failures = 3,
                                                 .address_failures = 20,
                                                 .name_failures = 100,
                                                 .delay_first_ms = 500,
                                                 .delay_max_ms = 8000,
                                                 .half_life_ms = 600000,
                                                 .lock_ms = 900000};

int lockout_open(struct lockout **lockout, const struct lockout_options *options, uint64_t seed) {
  uint32_t places = BUCKET;
  while (places < options->places) places *= 2;
  *lockout = calloc(1, sizeof **lockout + places * sizeof(struct place));
  if (*lockout == NULL) return E_NO_MEMORY;
  (*lockout)->o = *options;
  (*lockout)->seed = seed;
  (*lockout)->mask = places / BUCKET - 1;
  return E_OK;
}

void lockout_close(struct lockout *lockout) { free(lockout); }

/* ---- keys and places ---- */

/* Of IPv6 the /64, which is what one customer has; an IPv4 address that is mapped into IPv6 is that IPv4 address. */
static void put_address(struct fmt *out, const struct netaddr *address) {
  static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
  bool is_v4 = address->family == 4, is_mapped = address->family == 6 && memcmp(address->bytes, mapped, sizeof mapped) == 0;
  fmt_char(out, is_v4 || is_mapped ? 4 : 6);
  fmt_bytes(out, address->bytes + (is_mapped ? 12 : 0), is_v4 || is_mapped ? 4 : 8);
}

static uint64_t key_of(const struct lockout *lockout, enum kind kind, const struct netaddr *address, struct span name) {
  uint8_t room[KEY_ROOM];
  struct fmt text = fmt_over(room, sizeof room);
  fmt_char(&text, (char)kind);
  if (kind != NAME) put_address(&text, address);
  if (kind != ADDRESS) fmt_put(&text, span_first(name, fmt_room(&text)));
  uint64_t key = XXH3_64bits_withSeed(room, text.len, lockout->seed);
  return key != 0 ? key : 1;
}

static const struct place *bucket_of(const struct lockout *lockout, uint64_t key) {
  return &lockout->places[(size_t)((uint32_t)(key >> 32) & lockout->mask) * BUCKET];
}

static const struct place *find(const struct lockout *lockout, uint64_t key) {
  const struct place *bucket = bucket_of(lockout, key);
  for (unsigned i = 0; i < BUCKET; i++)
    if (bucket[i].key == key) return &bucket[i];
  return NULL;
}

/* Is a rather to be forgotten than b? */
static bool goes_first(const struct place *a, const struct place *b, uint64_t now_ms) {
  bool a_locked = a->locked_until_ms > now_ms, b_locked = b->locked_until_ms > now_ms;
  if ((a->key == 0) != (b->key == 0)) return a->key == 0;
  return a_locked != b_locked ? b_locked : a->last_ms < b->last_ms;
}

/* The key's place; if it has none, another's, empty. */
static struct place *take(struct lockout *lockout, uint64_t key, uint64_t now_ms) {
  struct place *place = (struct place *)find(lockout, key);
  if (place != NULL) return place;
  struct place *bucket = (struct place *)bucket_of(lockout, key);
  place = &bucket[0];
  for (unsigned i = 1; i < BUCKET; i++)
    if (goes_first(&bucket[i], place, now_ms)) place = &bucket[i];
  *place = (struct place){.key = key, .last_ms = now_ms};
  return place;
}

/* ---- how it stands ---- */

/* What is left of the failures: halved for each half-life, and in between along a straight line. */
static uint32_t failures_now(const struct lockout *lockout, const struct place *place, uint64_t now_ms) {
  uint64_t elapsed_ms = now_ms > place->last_ms ? now_ms - place->last_ms : 0, half_life_ms = lockout->o.half_life_ms;
  uint64_t halvings = elapsed_ms / half_life_ms;
  if (halvings >= 32) return 0;
  uint32_t left = place->failures >> halvings;
  return left - (uint32_t)((uint64_t)(left - left / 2) * (elapsed_ms % half_life_ms) / half_life_ms);
}

static uint64_t delay_ms(const struct lockout *lockout, uint32_t failures) {
  uint64_t delay = lockout->o.delay_first_ms;
  if (failures / ONE <= lockout->o.free_failures) return 0;
  for (uint32_t more = failures / ONE - lockout->o.free_failures - 1; more > 0 && delay < lockout->o.delay_max_ms; more--) delay *= 2;
  return delay < lockout->o.delay_max_ms ? delay : lockout->o.delay_max_ms;
}

static void look(const struct lockout *lockout, uint64_t key, uint64_t now_ms, struct lockout_answer *answer) {
  const struct place *place = find(lockout, key);
  if (place == NULL) return;
  uint64_t delay = delay_ms(lockout, failures_now(lockout, place, now_ms));
  answer->locked |= place->locked_until_ms > now_ms;
  if (delay > answer->delay_ms) answer->delay_ms = delay;
}

struct lockout_answer lockout_ask(const struct lockout *lockout, const struct netaddr *address, struct span name, uint64_t now_ms) {
  struct lockout_answer answer = {.locked = false};
  look(lockout, key_of(lockout, ADDRESS, address, name), now_ms, &answer);
  if (name.len > 0 && find(lockout, key_of(lockout, KNOWN, address, name)) == NULL)
    look(lockout, key_of(lockout, NAME, address, name), now_ms, &answer);
  return answer;
}

/* ---- what happens ---- */

static void count(struct lockout *lockout, uint64_t key, uint32_t most, uint64_t now_ms) {
  struct place *place = take(lockout, key, now_ms);
  uint32_t failures = failures_now(lockout, place, now_ms);
  place->failures = failures < UINT32_MAX - ONE ? failures + ONE : failures;
  place->last_ms = now_ms;
  if (place->failures > (uint64_t)(most - 1) * ONE)
    place->locked_until_ms = now_ms + lockout->o.lock_ms; /* faded a little, the last one still counts as whole */
}

struct lockout_answer lockout_failed(struct lockout *lockout, const struct netaddr *address, struct span name, uint64_t now_ms) {
  count(lockout, key_of(lockout, ADDRESS, address, name), lockout->o.address_failures, now_ms);
  if (name.len > 0) count(lockout, key_of(lockout, NAME, address, name), lockout->o.name_failures, now_ms);
  return lockout_ask(lockout, address, name, now_ms);
}

void lockout_succeeded(struct lockout *lockout, const struct netaddr *address, struct span name, uint64_t now_ms) {
  if (name.len == 0) return;
  struct place *counted = (struct place *)find(lockout, key_of(lockout, NAME, address, name));
  if (counted != NULL) *counted = (struct place){.key = 0};
  take(lockout, key_of(lockout, KNOWN, address, name), now_ms)->last_ms = now_ms;
}
