#undef _FORTIFY_SOURCE /* its longjmp goes up one stack only */
#include "tests/sim/world.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "core/base/must.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

#define STACK_SIZE (1u << 20)
#define FIBERS_MAX 64
#define TRACE_LINES 200
#define TRACE_LINE 240
#define START_WALL_MS 1790000000000ull

struct event {
  uint64_t at_ns, order;
  world_event event;
  void *context;
  uint64_t number;
};

struct fiber {
  ucontext_t context; /* at its begin */
  jmp_buf jump;
  void *stack;
  void (*run)(void *);
  void *argument;
  uint64_t until_ns;
  bool began, woken, over;
};

static struct {
  uint64_t seed, random, now_ns;
  int64_t wall_ms;
  struct event *heap;
  size_t events, capacity;
  uint64_t order;
  struct fiber *fibers[FIBERS_MAX];
  unsigned fibers_count;
  struct fiber *current;
  ucontext_t scheduler; /* with the address sanitizer; else: */
  jmp_buf scheduler_jump;
  const void *scheduler_stack; /* for the address sanitizer */
  size_t scheduler_stack_size;
  FILE *trace;
  char lines[TRACE_LINES][TRACE_LINE];
  uint64_t lines_count, hash;
} world;

void *sim_alloc(size_t size) {
  void *block = calloc(1, size);
  must(block != NULL);
  return block;
}

static uint64_t random_bits(void) { /* splitmix64 */
  uint64_t z = (world.random += 0x9e3779b97f4a7c15);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

void world_open(uint64_t seed, FILE *trace_file) {
  memset(&world, 0, sizeof world);
  world.seed = seed;
  world.random = seed;
  world.random = random_bits(); /* else each seed would have the numbers of the one before, from the second on */
  world.now_ns = 1000 * SECOND_NS;
  world.wall_ms = (int64_t)(START_WALL_MS - world.now_ns / MILLISECOND_NS);
  world.trace = trace_file;
  world.hash = 0xcbf29ce484222325;
}

/* ---- time and chance ---- */

uint64_t world_now_ns(void) { return world.now_ns; }
uint64_t world_wall_ms(void) { return (uint64_t)(world.wall_ms + (int64_t)(world.now_ns / MILLISECOND_NS)); }
void world_set_wall(int64_t by_ms) { world.wall_ms += by_ms; }

uint64_t chance(uint64_t n) {
  must(n > 0);
  return random_bits() % n;
}

bool chance_once(uint64_t of) { return of > 0 && chance(of) == 0; }

uint64_t chance_spread(uint64_t low, uint64_t high) {
  must(low > 0 && low <= high);
  unsigned doublings = 0;
  while (low << (doublings + 1) <= high) doublings++;
  uint64_t from = low << chance(doublings + 1), to = from * 2 - 1 < high ? from * 2 - 1 : high;
  return from + chance(to - from + 1);
}

/* ---- events: a binary heap ---- */

static bool is_before(const struct event *a, const struct event *b) { return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->order < b->order; }

void world_at(uint64_t at_ns, world_event event, void *context, uint64_t number) {
  if (world.events == world.capacity) {
    world.capacity = world.capacity * 2 + 256;
    world.heap = realloc(world.heap, world.capacity * sizeof *world.heap);
    must(world.heap != NULL);
  }
  struct event new = {at_ns < world.now_ns ? world.now_ns : at_ns, world.order++, event, context, number};
  size_t at = world.events++;
  for (; at > 0 && is_before(&new, &world.heap[(at - 1) / 2]); at = (at - 1) / 2) world.heap[at] = world.heap[(at - 1) / 2];
  world.heap[at] = new;
}

void world_after(uint64_t delay_ns, world_event event, void *context, uint64_t number) { world_at(world.now_ns + delay_ns, event, context, number); }

static struct event take_event(void) {
  struct event first = world.heap[0], last = world.heap[--world.events];
  size_t at = 0;
  for (;;) {
    size_t child = at * 2 + 1;
    if (child >= world.events) break;
    if (child + 1 < world.events && is_before(&world.heap[child + 1], &world.heap[child])) child++;
    if (!is_before(&world.heap[child], &last)) break;
    world.heap[at] = world.heap[child];
    at = child;
  }
  if (world.events > 0) world.heap[at] = last;
  return first;
}

/* ---- fibers ---- */

#if defined(__SANITIZE_ADDRESS__)
static void switch_to(struct fiber *fiber) {
  void *fake;
  __sanitizer_start_switch_fiber(&fake, fiber->stack, STACK_SIZE);
  swapcontext(&world.scheduler, &fiber->context);
  __sanitizer_finish_switch_fiber(fake, NULL, NULL);
}

static void switch_back(struct fiber *fiber) {
  void *fake;
  __sanitizer_start_switch_fiber(fiber->over ? NULL : &fake, world.scheduler_stack, world.scheduler_stack_size);
  swapcontext(&fiber->context, &world.scheduler);
  __sanitizer_finish_switch_fiber(fake, &world.scheduler_stack, &world.scheduler_stack_size);
}

static void arrived(void) { __sanitizer_finish_switch_fiber(NULL, &world.scheduler_stack, &world.scheduler_stack_size); }
#else
/* swapcontext asks the kernel for the signal mask, which takes longer than what most fibers do between two switches. */
static void switch_to(struct fiber *fiber) {
  if (_setjmp(world.scheduler_jump) != 0) return;
  if (fiber->began) _longjmp(fiber->jump, 1);
  fiber->began = true;
  setcontext(&fiber->context);
}

static void switch_back(struct fiber *fiber) {
  if (_setjmp(fiber->jump) == 0) _longjmp(world.scheduler_jump, 1);
}

static void arrived(void) {}
#endif

static void begin_fiber(void) {
  struct fiber *fiber = world.current;
  arrived();
  fiber->run(fiber->argument);
  fiber->over = true;
  switch_back(fiber);
}

struct fiber *fiber_start(void (*run)(void *context), void *context) {
  must(world.fibers_count < FIBERS_MAX);
  struct fiber *fiber = sim_alloc(sizeof *fiber);
  fiber->run = run;
  fiber->argument = context;
  fiber->woken = true;
  fiber->stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  must(fiber->stack != MAP_FAILED);
  getcontext(&fiber->context);
  fiber->context.uc_stack.ss_sp = fiber->stack;
  fiber->context.uc_stack.ss_size = STACK_SIZE;
  fiber->context.uc_link = NULL;
  makecontext(&fiber->context, begin_fiber, 0);
  world.fibers[world.fibers_count++] = fiber;
  return fiber;
}

struct fiber *fiber_current(void) {
  return world.current;
}

void fiber_sleep(uint64_t until_ns) {
  struct fiber *fiber = world.current;
  must(fiber != NULL);
  fiber->until_ns = until_ns;
  switch_back(fiber);
}

void fiber_wake(struct fiber *fiber) { fiber->woken = true; }

void fibers_kill(void) {
  must(world.current == NULL);
  for (unsigned i = 0; i < world.fibers_count; i++) munmap(world.fibers[i]->stack, STACK_SIZE);
  world.fibers_count = 0;
}

unsigned fibers_alive(void) { return world.fibers_count; }

static void resume(unsigned which) {
  struct fiber *fiber = world.fibers[which];
  fiber->woken = false;
  world.current = fiber;
  switch_to(fiber);
  world.current = NULL;
  world.now_ns += MICROSECOND_NS; /* work takes time: who polls does not stop the clock */
  if (!fiber->over) return;
  munmap(fiber->stack, STACK_SIZE);
  world.fibers[which] = world.fibers[--world.fibers_count];
}

/* ---- one thing after the other ---- */

static bool run_a_fiber(void) {
  unsigned ready[FIBERS_MAX], count = 0;
  for (unsigned i = 0; i < world.fibers_count; i++)
    if (world.fibers[i]->woken || world.fibers[i]->until_ns <= world.now_ns) ready[count++] = i;
  if (count == 0) return false;
  resume(ready[chance(count)]);
  return true;
}

bool world_step(uint64_t limit_ns) {
  bool due = world.events > 0 && world.heap[0].at_ns <= world.now_ns;
  if (!due && run_a_fiber()) return true;
  uint64_t next_ns = world.events > 0 ? world.heap[0].at_ns : UINT64_MAX;
  for (unsigned i = 0; i < world.fibers_count; i++)
    if (!due && world.fibers[i]->until_ns < next_ns) next_ns = world.fibers[i]->until_ns;
  if (next_ns == UINT64_MAX || next_ns > limit_ns) return false;
  if (next_ns > world.now_ns) world.now_ns = next_ns;
  if (world.events > 0 && world.heap[0].at_ns <= world.now_ns) {
    struct event event = take_event();
    event.event(event.context, event.number);
  }
  return true;
}

void world_skip(uint64_t until_ns) {
  must(world.events == 0 || world.heap[0].at_ns >= until_ns);
  if (until_ns > world.now_ns) world.now_ns = until_ns;
}

/* ---- trace ---- */

void trace(const char *format, ...) {
  char *line = world.lines[world.lines_count++ % TRACE_LINES];
  uint64_t us = (world.now_ns - 1000 * SECOND_NS) / MICROSECOND_NS;
  int len = snprintf(line, TRACE_LINE, "%6" PRIu64 ".%06" PRIu64 " ", us / 1000000, us % 1000000);
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(line + len, TRACE_LINE - (size_t)len, format, arguments);
  va_end(arguments);
  for (const char *at = line; *at != '\0'; at++) world.hash = (world.hash ^ (uint8_t)*at) * 0x100000001b3;
  if (world.trace != NULL) fprintf(world.trace, "%s\n", line);
}

uint64_t trace_hash(void) { return world.hash; }

void trace_print(FILE *file) {
  uint64_t first = world.lines_count > TRACE_LINES ? world.lines_count - TRACE_LINES : 0;
  for (uint64_t i = first; i < world.lines_count; i++) fprintf(file, "%s\n", world.lines[i % TRACE_LINES]);
}

void fault(const char *format, ...) {
  if (world.trace == NULL) trace_print(stdout);
  printf("FAULT with seed %" PRIu64 ": ", world.seed);
  va_list arguments;
  va_start(arguments, format);
  vprintf(format, arguments);
  va_end(arguments);
  printf("\n");
  fflush(NULL);
  _exit(1);
}
