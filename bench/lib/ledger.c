#include "bench/lib/ledger.h"

#include "core/base/error.h"

#include <sys/mman.h>

enum { WORD_BITS = 64 };
#define BITMAP_SIZE (LEDGER_NUMBERS / 8)

static uint64_t *bitmap_new(void) {
  void *at = mmap(NULL, BITMAP_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return at == MAP_FAILED ? NULL : at;
}

static void bitmap_free(uint64_t *bits) {
  if (bits != NULL) munmap(bits, BITMAP_SIZE);
}

static bool bit_set(uint64_t *bits, uint64_t number) {
  must(number < LEDGER_NUMBERS);
  uint64_t bit = UINT64_C(1) << (number % WORD_BITS);
  return (__atomic_fetch_or(&bits[number / WORD_BITS], bit, __ATOMIC_RELAXED) & bit) != 0;
}

static uint64_t word_at(const uint64_t *bits, uint64_t index) { return __atomic_load_n(&bits[index], __ATOMIC_RELAXED); }

int ledger_init(struct ledger *ledger) {
  ledger->_count = 0;
  ledger->_refused_count = 0;
  pthread_mutex_init(&ledger->_lock, NULL);
  ledger->_refused = bitmap_new();
  return ledger->_refused == NULL ? E_NO_MEMORY : E_OK;
}

void ledger_fini(struct ledger *ledger) {
  for (unsigned i = 0; i < ledger->_count; i++) {
    for (unsigned mark = 0; mark < LEDGER_MARKS; mark++) bitmap_free(ledger->_runs[i]._bits[mark]);
  }
  bitmap_free(ledger->_refused);
  pthread_mutex_destroy(&ledger->_lock);
}

static struct ledger_run *find_known(struct ledger *ledger, uint64_t run) {
  unsigned count = __atomic_load_n(&ledger->_count, __ATOMIC_ACQUIRE);
  for (unsigned i = count; i-- > 0;) {
    if (ledger->_runs[i].run == run) return &ledger->_runs[i];
  }
  return NULL;
}

static struct ledger_run *add_run(struct ledger *ledger, uint64_t run, uint64_t expected) {
  if (ledger->_count == LEDGER_RUNS_MAX) return NULL;
  struct ledger_run *added = &ledger->_runs[ledger->_count];
  *added = (struct ledger_run){.run = run, ._expected = expected < LEDGER_NUMBERS ? expected : LEDGER_NUMBERS};
  for (unsigned mark = 0; mark < LEDGER_MARKS; mark++) {
    added->_bits[mark] = bitmap_new();
    if (added->_bits[mark] != NULL) continue;
    while (mark-- > 0) bitmap_free(added->_bits[mark]);
    return NULL;
  }
  __atomic_store_n(&ledger->_count, ledger->_count + 1, __ATOMIC_RELEASE);
  return added;
}

struct ledger_run *ledger_find(struct ledger *ledger, uint64_t run, uint64_t expected) {
  struct ledger_run *found = find_known(ledger, run);
  if (found != NULL) return found;
  pthread_mutex_lock(&ledger->_lock);
  found = find_known(ledger, run);
  if (found == NULL) found = add_run(ledger, run, expected);
  pthread_mutex_unlock(&ledger->_lock);
  return found;
}

bool ledger_set(struct ledger_run *run, enum ledger_mark mark, uint64_t number) { return bit_set(run->_bits[mark], number); }

bool ledger_has(const struct ledger_run *run, enum ledger_mark mark, uint64_t number) {
  must(number < LEDGER_NUMBERS);
  return (word_at(run->_bits[mark], number / WORD_BITS) >> (number % WORD_BITS) & 1) != 0;
}

bool ledger_refuse(struct ledger *ledger, uint64_t number) {
  bool before = bit_set(ledger->_refused, number);
  if (!before) __atomic_fetch_add(&ledger->_refused_count, 1, __ATOMIC_RELAXED);
  return before;
}

/* Adds up one run: its first `expected` numbers. */
static void sum_run(const struct ledger *ledger, const struct ledger_run *run, uint64_t expected, struct ledger_sum *sum, uint64_t *lost,
                    unsigned lost_max) {
  for (uint64_t i = 0; i * WORD_BITS < expected; i++) {
    uint64_t valid = expected - i * WORD_BITS >= WORD_BITS ? UINT64_MAX : (UINT64_C(1) << (expected % WORD_BITS)) - 1;
    uint64_t arrived = word_at(run->_bits[LEDGER_ARRIVED], i) & valid;
    uint64_t refused = word_at(ledger->_refused, i) & valid & ~arrived;
    uint64_t missing = valid & ~arrived & ~refused;
    sum->arrived += (uint64_t)__builtin_popcountll(arrived);
    sum->refused += (uint64_t)__builtin_popcountll(refused);
    for (; missing != 0; missing &= missing - 1) {
      if (sum->lost < lost_max) lost[sum->lost] = i * WORD_BITS + (uint64_t)__builtin_ctzll(missing);
      sum->lost++;
    }
  }
}

struct ledger_sum ledger_sum(struct ledger *ledger, uint64_t expected_else, uint64_t *lost, unsigned lost_max) {
  struct ledger_sum sum = {0};
  unsigned count = __atomic_load_n(&ledger->_count, __ATOMIC_ACQUIRE);
  for (unsigned i = 0; i < count; i++) {
    uint64_t expected = ledger->_runs[i]._expected > 0 ? ledger->_runs[i]._expected : expected_else;
    sum.expected += expected;
    sum_run(ledger, &ledger->_runs[i], expected, &sum, lost, lost_max);
  }
  if (sum.expected > 0) return sum;
  /* Nothing is known of any run yet; all may have been refused. */
  sum.refused = __atomic_load_n(&ledger->_refused_count, __ATOMIC_RELAXED);
  sum.expected = count == 0 ? expected_else : 0;
  sum.lost = sum.expected > sum.refused ? sum.expected - sum.refused : 0;
  return sum;
}
