/* The recipients of a shard by domain, without a schedule: messages are made here, and put in and taken out by hand. */
#include "queue/domain_queue.h"

#include <stdio.h>
#include <stdlib.h>

#include "queue/message.h"

#include "tests/unit/queue/fake_slab.c"

#include "tests/lib/unit.h"

#define MESSAGES 40

static struct slab slab;
static struct domain_queues queues;
static struct message *messages[MESSAGES];

static void open_world(void) {
  slab_init(&slab, 1 << 20);
  domain_queues_init(&queues, 3);
}

static void close_world(void) {
  domain_queues_fini(&queues);
  for (unsigned i = 0; i < MESSAGES; i++) {
    if (messages[i] != NULL) message_free(&slab, messages[i]);
    messages[i] = NULL;
  }
  slab_fini(&slab);
}

/* With four recipients. */
static struct message *make(unsigned i, uint64_t created_ms) {
  uint8_t room[1024];
  struct fmt out = fmt_over(room, sizeof room);
  struct record_envelope envelope = {.sender = SPAN("s@example.org"), .created_ms = created_ms, .recipients = 4};
  record_envelope_encode(&envelope, &out);
  for (uint16_t r = 0; r < 4; r++) {
    struct record_recipient recipient = {.address = SPAN("r@example.net"), .index = r};
    record_recipient_encode(&recipient, &out);
  }
  messages[i] = message_new(&slab, i + 1, fmt_span(&out));
  ck_assert_ptr_nonnull(messages[i]);
  return messages[i];
}

static struct domain_queue *get(const char *name) { return domain_queue_get(&queues, span_of_text(name)); }

static struct domain_queue *find(const char *name) { return domain_queue_find(&queues, span_of_text(name)); }

static void expect_next(struct domain_queue *queue, uint64_t id, unsigned recipient) {
  unsigned i = 99;
  const struct message *message = domain_queue_rotate(queue, &i);
  ck_assert_ptr_nonnull(message);
  ck_assert_uint_eq(message->id, id);
  ck_assert_uint_eq(i, recipient);
}

/* ---- tests ---- */

START_TEST(there_is_one_for_each_name_in_any_case) {
  struct domain_queue *queue = get("Example.NET");
  ck_assert_str_eq(queue->name, "example.net");
  ck_assert_ptr_eq(get("example.net"), queue);
  ck_assert_ptr_eq(find("EXAMPLE.net"), queue);
  ck_assert_ptr_null(find("example.org"));
  ck_assert_ptr_null(find(""));
  char longest[257];
  memset(longest, 'X', 256);
  longest[256] = '\0';
  ck_assert_ptr_eq(get(longest), queues.nowhere);
  ck_assert_ptr_null(find(longest));
  longest[255] = '\0';
  struct domain_queue *last = get(longest);
  ck_assert_uint_eq(last->name_len, 255);
  ck_assert_uint_eq(strlen(last->name), 255);
  ck_assert_ptr_eq(find(longest), last);
  ck_assert_ptr_eq(queues.last, last);
}
END_TEST

START_TEST(those_that_wait_are_counted_and_go_round) {
  struct domain_queue *queue = get("example.net");
  unsigned recipient;
  ck_assert_ptr_null(domain_queue_rotate(queue, &recipient));
  for (unsigned i = 0; i < 3; i++) {
    make(i, 100 + i);
    domain_queue_add(queue, messages[i], 1);
    domain_queue_add(queue, messages[i], 3);
  }
  ck_assert_uint_eq(queue->waiting, 6);
  for (unsigned round = 0; round < 2; round++) {
    for (unsigned i = 0; i < 3; i++) {
      expect_next(queue, i + 1, 1);
      expect_next(queue, i + 1, 3);
    }
  }
  domain_queue_remove(queue, messages[0], 1); /* the first, one in the middle, the last */
  domain_queue_remove(queue, messages[1], 3);
  domain_queue_remove(queue, messages[2], 3);
  ck_assert_uint_eq(queue->waiting, 3);
  expect_next(queue, 1, 3);
  expect_next(queue, 2, 1);
  domain_queue_add(queue, messages[0], 1); /* behind all others */
  expect_next(queue, 3, 1);
  expect_next(queue, 1, 3);
  expect_next(queue, 2, 1);
  expect_next(queue, 1, 1);
  domain_queue_remove(queue, messages[0], 1);
  domain_queue_remove(queue, messages[0], 3);
  domain_queue_remove(queue, messages[1], 1);
  expect_next(queue, 3, 1);
  domain_queue_remove(queue, messages[2], 1);
  ck_assert(queue->first == NULL && queue->last == NULL && queue->waiting == 0);
}
END_TEST

/* Whoever rotates as often as there were at the beginning has seen all that were there and still are. */
START_TEST(a_walk_meets_all_that_stay_whatever_comes_and_goes) {
  struct domain_queue *queue = get("example.net");
  bool in[MESSAGES] = {0}, stays[MESSAGES] = {0}, seen[MESSAGES] = {0};
  srand((unsigned)_i);
  for (unsigned i = 0; i < MESSAGES; i++) make(i, 1);
  for (unsigned i = 0; i < MESSAGES; i++) {
    if (!(in[i] = rand() % 2 == 0)) continue;
    stays[i] = true;
    domain_queue_add(queue, messages[i], 0);
  }
  for (uint32_t left = queue->waiting; left > 0; left--) {
    for (unsigned change = (unsigned)rand() % 3; change > 0; change--) {
      unsigned i = (unsigned)rand() % MESSAGES;
      if (in[i]) {
        domain_queue_remove(queue, messages[i], 0);
      } else {
        domain_queue_add(queue, messages[i], 0);
      }
      in[i] = !in[i];
      stays[i] = false;
    }
    unsigned recipient;
    const struct message *message = domain_queue_rotate(queue, &recipient);
    if (message != NULL) seen[message->id - 1] = true;
  }
  for (unsigned i = 0; i < MESSAGES; i++) ck_assert(!stays[i] || seen[i]);
}
END_TEST

START_TEST(the_oldest_is_never_too_young) {
  struct domain_queue *queue = get("example.net");
  ck_assert_uint_eq(queue->oldest_ms, UINT64_MAX);
  domain_queue_add(queue, make(0, 300), 0);
  domain_queue_add(queue, make(1, 200), 0);
  domain_queue_add(queue, make(2, 400), 0);
  ck_assert(queue->oldest_ms == 200 && !queue->oldest_stale);
  domain_queue_remove(queue, messages[2], 0);
  ck_assert(queue->oldest_ms == 200 && !queue->oldest_stale);
  domain_queue_remove(queue, messages[1], 0); /* now somebody has to look */
  ck_assert(queue->oldest_ms == 200 && queue->oldest_stale);
  domain_queue_add(queue, messages[2], 0);
  ck_assert(queue->oldest_stale);
  domain_queue_remove(queue, messages[2], 0);
  domain_queue_remove(queue, messages[0], 0);
  ck_assert(queue->oldest_ms == UINT64_MAX && !queue->oldest_stale);
}
END_TEST

START_TEST(the_last_failure_is_kept) {
  struct domain_queue *queue = get("example.net");
  char text[] = "451 later";
  domain_queue_note_error(&queues, queue, text, 10);
  text[0] = '5';
  ck_assert_str_eq(queue->error, "451 later");
  domain_queue_note_error(&queues, queue, "451 later", 20);
  ck_assert_uint_eq(queue->error_ms, 20);
  domain_queue_note_error(&queues, queue, "452 full", 30);
  ck_assert_str_eq(queue->error, "452 full");
  ck_assert_uint_eq(queue->error_ms, 30);
}
END_TEST

START_TEST(held_ones_are_counted) {
  struct domain_queue *one = get("one.example"), *two = get("two.example");
  domain_queue_hold(&queues, one, true);
  domain_queue_hold(&queues, one, true);
  domain_queue_hold(&queues, two, true);
  ck_assert(one->held && two->held && queues.held == 2);
  domain_queue_hold(&queues, one, false);
  domain_queue_hold(&queues, one, false);
  ck_assert(!one->held && queues.held == 1);
}
END_TEST

/* ---- sweep ---- */

#define MINUTE 60000

static void sweep(uint64_t now_ms) {
  while (domain_queues_sweep(&queues, now_ms)) continue;
}

START_TEST(only_what_nobody_needs_is_forgotten) {
  static int outgoing;
  struct domain_queue *waits = get("waits.example"), *given = get("given.example"), *held = get("held.example"), *known = get("known.example");
  domain_queue_add(waits, make(0, 1), 0);
  given->given = 1;
  domain_queue_hold(&queues, held, true);
  known->outgoing = &outgoing;
  get("empty.example");
  get(""); /* as of `postmaster`: whoever is known by no name is never said to be unknown */
  domain_queue_note_error(&queues, get("failed.example"), "451", 1);
  sweep(MINUTE);
  ck_assert_ptr_null(find("empty.example"));
  ck_assert_ptr_nonnull(find(""));
  ck_assert_ptr_nonnull(find("failed.example")); /* for who asks what was wrong */
  sweep(11 * MINUTE - 1);
  ck_assert_ptr_nonnull(find("failed.example"));
  sweep(11 * MINUTE);
  ck_assert_ptr_null(find("failed.example"));
  ck_assert(find("waits.example") == waits && find("given.example") == given && find("held.example") == held && find("known.example") == known);
  domain_queue_remove(waits, messages[0], 0);
  given->given = 0;
  domain_queue_hold(&queues, held, false);
  known->outgoing = NULL;
  known->site = strdup("mx.example");
  sweep(12 * MINUTE);
  ck_assert(queues.first == queues.nowhere && queues.nowhere->next == get("") && queues.map.count == 1);
}
END_TEST

START_TEST(what_is_used_again_is_remembered_anew) {
  struct domain_queue *queue = get("example.net");
  domain_queue_note_error(&queues, queue, "451", 1);
  sweep(MINUTE);
  domain_queue_add(queue, make(0, 1), 0);
  sweep(9 * MINUTE);
  domain_queue_remove(queue, messages[0], 0);
  sweep(12 * MINUTE);
  ck_assert_ptr_eq(find("example.net"), queue);
  sweep(21 * MINUTE);
  ck_assert_ptr_eq(find("example.net"), queue);
  sweep(22 * MINUTE);
  ck_assert_ptr_null(find("example.net"));
}
END_TEST

START_TEST(a_walker_finds_all_still_there) {
  char name[32];
  for (unsigned i = 0; i < 5000; i++) {
    snprintf(name, sizeof name, "d%u.example", i);
    get(name);
  }
  ck_assert(domain_queues_sweep(&queues, MINUTE)); /* some, and there are more */
  unsigned left = queues.map.count;
  ck_assert(left > 0 && left < 5000);
  queues.walkers++;
  ck_assert(!domain_queues_sweep(&queues, MINUTE));
  ck_assert_uint_eq(queues.map.count, left);
  queues.walkers--;
  sweep(MINUTE);
  ck_assert_uint_eq(queues.map.count, 0);
  ck_assert_ptr_eq(queues.last, queues.nowhere);
}
END_TEST

/* ---- a walk of two parts ---- */

static unsigned entered, met, pause_after;
static uint64_t met_ids;

static bool enter(void *context, struct domain_queue *queue) {
  entered++;
  return context == NULL || strcmp(queue->name, context) != 0; /* that one is not wanted */
}

static bool meet(void *context, struct message *message, unsigned recipient) {
  (void)context;
  ck_assert_uint_eq(recipient, 0);
  ck_assert((met_ids & (uint64_t)1 << message->id) == 0); /* once */
  met_ids |= (uint64_t)1 << message->id;
  return ++met != pause_after;
}

static struct domain_walk walk_of(char *unwanted) {
  entered = met = pause_after = 0;
  met_ids = 0;
  return (struct domain_walk){.enter = enter, .each = meet, .context = unwanted};
}

START_TEST(a_walk_in_pieces_meets_each_once) {
  struct domain_queue *one = get("one.example"), *other = get("other.example"), *third = get("third.example");
  static char unwanted[] = "other.example";
  for (unsigned i = 0; i < 6; i++) domain_queue_add(i % 3 == 0 ? one : i % 3 == 1 ? other : third, make(i, 1), 0);
  struct domain_walk walk = walk_of(unwanted);
  domain_walk_begin(&walk, &queues, queues.first, false);
  ck_assert_uint_eq(queues.walkers, 1);
  pause_after = 1;
  ck_assert(!domain_walk_on(&walk, 100)); /* it was asked to pause */
  ck_assert_uint_eq(met, 1);
  pause_after = 0;
  ck_assert(!domain_walk_on(&walk, 1));
  domain_queue_add(one, make(6, 1), 0); /* it came too late */
  while (!domain_walk_on(&walk, 1)) ck_assert_uint_eq(queues.walkers, 1);
  ck_assert_uint_eq(queues.walkers, 0);
  ck_assert_uint_eq(met_ids, 1u << 1 | 1u << 4 | 1u << 3 | 1u << 6);
  ck_assert_uint_eq(entered, 4); /* that for nobody, too */

  walk = walk_of(NULL);
  domain_walk_begin(&walk, &queues, other, true);
  ck_assert(domain_walk_on(&walk, 100));
  ck_assert_uint_eq(met_ids, 1u << 2 | 1u << 5);
  ck_assert_uint_eq(entered, 1);

  walk = walk_of(NULL);
  domain_walk_begin(&walk, &queues, NULL, true);
  ck_assert(domain_walk_on(&walk, 1));
  ck_assert_uint_eq(entered + queues.walkers, 0);
}
END_TEST

int main(void) {
  TCase *all = tcase_create("all");
  tcase_add_checked_fixture(all, open_world, close_world);
  tcase_add_test(all, there_is_one_for_each_name_in_any_case);
  tcase_add_test(all, those_that_wait_are_counted_and_go_round);
  tcase_add_loop_test(all, a_walk_meets_all_that_stay_whatever_comes_and_goes, 0, 50);
  tcase_add_test(all, the_oldest_is_never_too_young);
  tcase_add_test(all, the_last_failure_is_kept);
  tcase_add_test(all, held_ones_are_counted);
  tcase_add_test(all, only_what_nobody_needs_is_forgotten);
  tcase_add_test(all, what_is_used_again_is_remembered_anew);
  tcase_add_test(all, a_walker_finds_all_still_there);
  tcase_add_test(all, a_walk_in_pieces_meets_each_once);
  return unit_main("queue/domain_queue", &all, 1);
}
