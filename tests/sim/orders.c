#include "tests/sim/orders.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/base/must.h"
#include "tests/sim/world.h"

#define SUSPENSIONS_MAX 256
#define BOUNCES_MAX 1024
#define GRACE_NS (30 * SECOND_NS) /* what is in flight ends, or its connection does */
#define CONNECT_NS SECOND_NS      /* so long a connection may have been on its way: in later ones there is nothing that was in flight */
#define DOMAIN_LEN 11             /* d00000.test */

struct sure {
  struct target target;
  uint64_t since_ns, until_ms; /* until_ms: wall clock; 0: for ever */
  bool kept, seen;             /* seen: in the list that comes just now */
};

struct bounce {
  struct target target;
  bool quiet;
  uint64_t answered_ns; /* 0: it was not */
  uint64_t count, events;
};

static struct {
  unsigned mx_hosts;
  struct sure suspensions[SUSPENSIONS_MAX];
  unsigned suspensions_count;
  struct sure listed[SUSPENSIONS_MAX]; /* of the list that comes just now, those nobody knew of */
  unsigned listed_count;
  struct bounce bounces[BOUNCES_MAX];
  unsigned bounces_count;
  struct orders_sums sums;
} orders;

void orders_open(unsigned mx_hosts) {
  memset(&orders, 0, sizeof orders);
  orders.mx_hosts = mx_hosts;
}

const struct orders_sums *orders_sums(void) { return &orders.sums; }

/* ---- names ---- */

void orders_site_name(unsigned number, char name[ORDERS_NAME_MAX]) {
  int len = 0;
  for (unsigned i = 1; i <= orders.mx_hosts; i++)
    len += snprintf(name + len, ORDERS_NAME_MAX - (size_t)len, "%smx%u.d%05u.test", i > 1 ? "," : "", i, number);
  must(len < ORDERS_NAME_MAX);
}

/* Also of an alias. */
static bool is_of_site(const char *site, struct span domain) {
  char text[DOMAIN_LEN + 1] = "", name[ORDERS_NAME_MAX];
  unsigned number;
  if (domain.len < DOMAIN_LEN) return false;
  memcpy(text, domain.at + domain.len - DOMAIN_LEN, DOMAIN_LEN);
  if (sscanf(text, "d%5u.test", &number) != 1) return false;
  orders_site_name(number, name);
  return strcmp(site, name) == 0;
}

bool orders_covers(const struct target *target, const struct addressee *addressee) {
  switch (target->scope) {
  case SCOPE_ALL: return true;
  case SCOPE_DOMAIN: return span_equal(span_of_text(target->name), addressee->domain);
  case SCOPE_SITE: return is_of_site(target->name, addressee->domain);
  default: return target->message == addressee->message;
  }
}

static bool is_same(const struct target *a, const struct target *b) {
  return a->scope == b->scope && (a->scope == SCOPE_ALL || strcmp(a->name, b->name) == 0);
}

static const char *name_of(const struct target *target) { return target->scope == SCOPE_ALL ? "all mail" : target->name; }

/* ---- suspensions ---- */

static void drop(unsigned which) { orders.suspensions[which] = orders.suspensions[--orders.suspensions_count]; }

/* Those whose time is over may have been ended, or not yet. */
void orders_clock(void) {
  for (unsigned i = orders.suspensions_count; i-- > 0;)
    if (orders.suspensions[i].until_ms != 0 && orders.suspensions[i].until_ms <= world_wall_ms()) drop(i);
}

static struct sure *find(const struct target *target) {
  for (unsigned i = 0; i < orders.suspensions_count; i++)
    if (is_same(&orders.suspensions[i].target, target)) return &orders.suspensions[i];
  return NULL;
}

void orders_doubt(const struct target *target, bool every) {
  const struct sure *one = find(target);
  if (one != NULL) drop((unsigned)(one - orders.suspensions));
  if (every) orders.suspensions_count = 0;
}

static void add(const struct sure *one) {
  must(orders.suspensions_count < SUSPENSIONS_MAX);
  orders.suspensions[orders.suspensions_count++] = *one;
}

void orders_suspended(const struct target *target, uint64_t until_ms, bool kept) {
  orders.sums.suspended++;
  add(&(struct sure){.target = *target, .since_ns = world_now_ns(), .until_ms = until_ms, .kept = kept});
}

bool orders_is_suspended(const struct target *target) {
  const struct sure *one = find(target);
  return one != NULL && one->until_ms == 0;
}

bool orders_choose(struct target *target) {
  if (orders.suspensions_count == 0) return false;
  *target = orders.suspensions[chance(orders.suspensions_count)].target;
  return true;
}

unsigned orders_suspensions(void) {
  orders_clock();
  return orders.suspensions_count;
}

void orders_listed(const struct target *target, uint64_t until_ms) {
  struct sure *one = find(target);
  if (one != NULL) {
    one->seen = true;
    return;
  }
  must(orders.listed_count < SUSPENSIONS_MAX);
  orders.listed[orders.listed_count++] = (struct sure){.target = *target, .since_ns = world_now_ns(), .until_ms = until_ms, .kept = true};
}

void orders_list_ends(bool new_life) {
  orders_clock();
  for (unsigned i = 0; i < orders.suspensions_count; i++) {
    struct sure *one = &orders.suspensions[i];
    if (!one->seen) fault("%s was suspended and is not in the list of suspensions", name_of(&one->target));
    one->seen = false;
  }
  for (unsigned i = 0; new_life && i < orders.listed_count; i++) add(&orders.listed[i]);
  orders.listed_count = 0;
}

void orders_check(const struct addressee *addressee, uint64_t session_ns, uint64_t begun_ns) {
  orders_clock();
  for (unsigned i = 0; i < orders.suspensions_count; i++) {
    const struct sure *one = &orders.suspensions[i];
    if (!orders_covers(&one->target, addressee)) continue;
    orders.sums.checked++;
    if (begun_ns > one->since_ns + GRACE_NS || session_ns > one->since_ns + CONNECT_NS)
      fault("%s has been suspended for %.3f s, and mail for %.*s is begun", name_of(&one->target), (double)(begun_ns - one->since_ns) / SECOND_NS,
            (int)addressee->domain.len, (const char *)addressee->domain.at);
  }
}

void orders_life_ends(void) {
  for (unsigned i = orders.suspensions_count; i-- > 0;)
    if (!orders.suspensions[i].kept) drop(i);
  for (unsigned i = 0; i < orders.suspensions_count; i++) orders.suspensions[i].seen = false;
  orders.listed_count = 0;
}

/* ---- bounces ---- */

unsigned orders_bounce(const struct target *target, bool quiet) {
  must(orders.bounces_count < BOUNCES_MAX);
  orders.bounces[orders.bounces_count] = (struct bounce){.target = *target, .quiet = quiet};
  orders.sums.bounces++;
  return orders.bounces_count++;
}

void orders_bounced(unsigned order, uint64_t count) {
  orders.bounces[order].answered_ns = world_now_ns();
  orders.bounces[order].count = count;
  orders.sums.bounced += (unsigned)count;
}

uint64_t orders_bounce_event(struct span line, const struct addressee *addressee, uint64_t begun_ns, bool *quiet) {
  static const char key[] = ORDERS_REASON;
  const uint8_t *at = memmem(line.at, line.len, key, sizeof key - 1);
  unsigned number = BOUNCES_MAX;
  char digits[8] = "";
  if (at != NULL) {
    struct span rest = span_skip(line, (size_t)(at - line.at) + sizeof key - 1);
    memcpy(digits, rest.at, rest.len < sizeof digits - 1 ? rest.len : sizeof digits - 1);
  }
  if (sscanf(digits, "%u", &number) != 1 || number >= orders.bounces_count)
    fault("an AdminBounce that nobody ordered: %.*s", (int)line.len, (const char *)line.at);
  struct bounce *bounce = &orders.bounces[number];
  if (!orders_covers(&bounce->target, addressee))
    fault("order %u was about %s: %.*s", number, name_of(&bounce->target), (int)line.len, (const char *)line.at);
  if (bounce->answered_ns != 0 && begun_ns > bounce->answered_ns)
    fault("order %u was answered before that message came: %.*s", number, (int)line.len, (const char *)line.at);
  bounce->events++;
  *quiet = bounce->quiet;
  return bounce->answered_ns;
}

bool orders_may_bounce(const struct addressee *addressee, enum orders_kind kind) {
  for (unsigned i = 0; i < orders.bounces_count; i++) {
    const struct bounce *bounce = &orders.bounces[i];
    bool is_meant = kind == ORDERS_ANY || bounce->quiet == (kind == ORDERS_QUIET);
    if (is_meant && orders_covers(&bounce->target, addressee)) return true;
  }
  return false;
}

void orders_close(bool exact) {
  for (unsigned i = 0; i < orders.bounces_count && exact; i++) {
    const struct bounce *bounce = &orders.bounces[i];
    if (bounce->answered_ns != 0 && bounce->count != bounce->events)
      fault("order %u to bounce %s was answered %" PRIu64 ", and has %" PRIu64 " events", i, name_of(&bounce->target), bounce->count, bounce->events);
  }
}
