/* What a bounce meant that is still on disk ends as soon as it is loaded, and nothing else does. */
#include <stdio.h>
#include <stdlib.h>

#include "net/out/operate.h"
#include "net/out/outlet.h"
#include "tests/lib/unit.h"

#define WALL_MS 1764000000000

static struct slab slab;
static struct shard shard;
static struct outlet outlet;
static struct {
  unsigned count, recipient;
  char reason[64];
  bool quiet;
} bounced;

void outlet_admin_bounce(struct outlet *of, struct message *message, unsigned recipient, struct span reason, bool quiet) {
  (void)of;
  (void)message;
  bounced.count++;
  bounced.recipient = recipient;
  bounced.quiet = quiet;
  snprintf(bounced.reason, sizeof bounced.reason, "%.*s", (int)reason.len, (const char *)reason.at);
}

static bool busy;
bool operate_is_busy(const struct outlet *of) {
  (void)of;
  return busy;
}

uint64_t outlet_random(struct outlet *of) {
  (void)of;
  return 7;
}

void schedule_hold(struct schedule *of, struct message *message, unsigned i, uint64_t due_ms) {
  (void)of;
  message->recipient[i].due_ms = due_ms;
  message->recipient[i].held = true;
}

void schedule_set_due(struct schedule *of, struct message *message, unsigned i, uint64_t due_ms) {
  (void)of;
  message->recipient[i].due_ms = due_ms;
  message->recipient[i].held = false;
}

static struct schedule schedule;
static unsigned orders(void) {
  unsigned count = 0;
  for (uint8_t *at = (uint8_t *)outlet.orders; at != NULL; memcpy(&at, at, sizeof at)) count++; /* `next` comes first */
  return count;
}

static void open_world(void) {
  slab_init(&slab, 16 << 20);
  shard = (struct shard){.wall_ms = WALL_MS};
  outlet = (struct outlet){.o = {.shard = &shard, .slab = &slab, .schedule = &schedule}};
  busy = false;
  memset(&bounced, 0, sizeof bounced);
}

static void close_world(void) {
  orders_drop(&outlet);
  ck_assert_ptr_null(outlet.orders);
  slab_fini(&slab);
}

/* With a recipient in one.example and one in two.example, due in an hour; as it is loaded. */
static struct message *load(uint64_t id, uint64_t created_ms) {
  uint8_t room[512];
  struct fmt out = fmt_over(room, sizeof room);
  static const struct span addresses[] = {{(const uint8_t *)"a@One.Example", 13}, {(const uint8_t *)"b@two.example", 13}};
  record_envelope_encode(&(struct record_envelope){.sender = SPAN("s@example.org"), .created_ms = created_ms, .recipients = 2}, &out);
  for (unsigned i = 0; i < 2; i++)
    record_recipient_encode(&(struct record_recipient){.address = addresses[i], .index = (uint16_t)i, .due_ms = WALL_MS + 3600000, .attempts = 1},
                            &out);
  struct message *message = message_new(&slab, id, fmt_span(&out));
  ck_assert_ptr_nonnull(message);
  message->late = true;
  operate_loaded(&outlet, message);
  return message;
}

/* Which of the recipients end: bits. */
static unsigned ends(uint64_t id, uint64_t created_ms) {
  struct message *message = load(id, created_ms);
  unsigned found = 0;
  for (unsigned i = 0; i < 2; i++) {
    bool is_due = message->recipient[i].due_ms <= WALL_MS, ended = outlet_obey(&outlet, message, i);
    ck_assert(is_due == ended);
    ck_assert(!ended || bounced.recipient == i);
    if (ended) found |= 1u << i;
  }
  message_free(&slab, message);
  return found;
}

static bool order(const char *domain, uint64_t id, const char *reason, bool quiet) {
  return operate_order(&outlet, &(struct order_of){.domain = domain != NULL ? span_of_text(domain) : (struct span){NULL, 0},
                                                   .id = id,
                                                   .before_ms = WALL_MS - 1000,
                                                   .reason = span_of_text(reason),
                                                   .quiet = quiet});
}

#define OLD (WALL_MS - 1001)

START_TEST(what_is_meant_ends) {
  ck_assert_uint_eq(ends(1, OLD), 0);
  ck_assert(order("one.example", 0, "gone", true));
  ck_assert_uint_eq(ends(1, OLD), 1);
  ck_assert_str_eq(bounced.reason, "gone");
  ck_assert(bounced.quiet);
  ck_assert_uint_eq(ends(1, WALL_MS - 1000), 0); /* it came later */
  ck_assert(order(NULL, 77, "it", false));
  ck_assert_uint_eq(ends(77, OLD), 3);
  ck_assert_uint_eq(ends(78, OLD), 1);
  ck_assert(order(NULL, 0, "all", false));
  ck_assert_uint_eq(ends(78, OLD), 3);
  ck_assert_uint_eq(ends(78, WALL_MS - 1000), 0);
  ck_assert_uint_eq(outlet.ordered, 0); /* each counted once, whatever meant it */
}
END_TEST

/* Whatever has become of it since: it was given out, and others act on what is in memory. */
START_TEST(what_was_loaded_before_is_no_concern_of_it) {
  struct message *message = load(1, OLD);
  ck_assert(order(NULL, 0, "all", false));
  ck_assert(!outlet_obey(&outlet, message, 0));
  ck_assert_uint_eq(bounced.count, 0);
  message_free(&slab, message);
}
END_TEST

START_TEST(what_was_loaded_after_it_ends_wherever_it_lies_by_then) {
  ck_assert(order(NULL, 0, "all", false));
  struct message *message = load(1, OLD);
  message->late = false; /* it was moved */
  ck_assert(outlet_obey(&outlet, message, 0));
  ck_assert(!outlet_obey(&outlet, message, 0)); /* once */
  ck_assert(outlet_obey(&outlet, message, 1));
  message_free(&slab, message);
}
END_TEST

START_TEST(not_too_many_end_at_once) {
  ck_assert(order(NULL, 0, "all", false));
  struct message *message = load(1, OLD);
  busy = true;
  for (unsigned i = 0; i < 3; i++) {
    ck_assert(outlet_obey(&outlet, message, 0));
    ck_assert_uint_eq(bounced.count, 0);
    ck_assert(message->recipient[0].due_ms >= WALL_MS + 100 && message->recipient[0].due_ms < WALL_MS + 300);
    ck_assert(!message->recipient[0].held);
    orders_forget(&outlet); /* all was loaded; but not all is done */
  }
  busy = false;
  ck_assert(outlet_obey(&outlet, message, 0));
  order_settle(&outlet, message, 1); /* an operator's word met it meanwhile */
  ck_assert(!outlet_obey(&outlet, message, 1));
  ck_assert_uint_eq(bounced.count, 1);
  ck_assert_uint_eq(orders(), 1);
  orders_forget(&outlet);
  ck_assert_uint_eq(orders(), 0);
  message_free(&slab, message);
}
END_TEST

START_TEST(what_has_ended_already_is_not_meant) {
  ck_assert(order(NULL, 0, "all", false));
  struct message *message = load(1, OLD);
  message->recipient[0].ordered = message->recipient[1].ordered = false;
  message->recipient[1].state = RECIPIENT_DONE;
  operate_loaded(&outlet, message);
  ck_assert(message->recipient[0].ordered && !message->recipient[1].ordered);
  message_free(&slab, message);
}
END_TEST

START_TEST(of_one_message_it_ends_with_that) {
  for (uint64_t id = 1; id <= 3 * OPERATE_ORDERS_MAX; id++) {
    ck_assert(order(NULL, id, "it", false));
    ck_assert_uint_eq(ends(id, OLD), 3);
    ck_assert_uint_eq(orders(), 0);
  }
  ck_assert(order(NULL, 5, "it", false));
  ck_assert_uint_eq(ends(5, WALL_MS), 0); /* it came later: it was loaded all the same */
  ck_assert_uint_eq(orders(), 0);
}
END_TEST

START_TEST(one_covers_others) {
  for (uint64_t id = 1; id <= OPERATE_ORDERS_MAX; id++) ck_assert(order(NULL, id, "it", false));
  ck_assert(!order("one.example", 0, "x", false));
  struct message *message = load(1, OLD);
  ck_assert(order(NULL, 0, "all", false)); /* there is room, for what it covers goes */
  ck_assert_uint_eq(orders(), 2);          /* but what is being carried out */
  ck_assert(outlet_obey(&outlet, message, 0) && outlet_obey(&outlet, message, 1));
  ck_assert_str_eq(bounced.reason, "it");
  ck_assert_uint_eq(orders(), 1);
  for (uint64_t id = 2; id <= 2 * OPERATE_ORDERS_MAX; id++) ck_assert(order(NULL, id, "it", false)); /* beyond what there is room for, too */
  ck_assert_uint_eq(orders(), OPERATE_ORDERS_MAX);
  ck_assert_uint_eq(ends(1000, OLD), 3);
  message_free(&slab, message);
}
END_TEST

START_TEST(the_last_word_counts) {
  ck_assert(order("one.example", 0, "first", true));
  ck_assert(order("two.example", 0, "other", true));
  ck_assert(order("one.example", 0, "a longer second reason", false));
  ck_assert_uint_eq(ends(1, OLD), 3);
  ck_assert_str_eq(bounced.reason, "other");
  struct message *message = load(1, OLD);
  ck_assert(outlet_obey(&outlet, message, 0));
  ck_assert_str_eq(bounced.reason, "a longer second reason");
  ck_assert(!bounced.quiet);
  ck_assert(order("two.example", 0, "while it is owed", true));
  ck_assert(outlet_obey(&outlet, message, 1));
  ck_assert_str_eq(bounced.reason, "while it is owed");
  message_free(&slab, message);
}
END_TEST

START_TEST(there_are_not_too_many) {
  char name[32];
  for (unsigned i = 0; i < OPERATE_ORDERS_MAX; i++) {
    snprintf(name, sizeof name, "d%u.example", i);
    ck_assert(order(name, 0, "x", false));
  }
  ck_assert(!order("one.example", 0, "x", false));
  ck_assert(order("d0.example", 0, "y", false)); /* one of those there are */
  ck_assert_uint_eq(ends(1, OLD), 0);
}
END_TEST

int main(void) {
  TCase *all = tcase_create("all");
  tcase_add_checked_fixture(all, open_world, close_world);
  tcase_add_test(all, what_is_meant_ends);
  tcase_add_test(all, what_was_loaded_before_is_no_concern_of_it);
  tcase_add_test(all, what_was_loaded_after_it_ends_wherever_it_lies_by_then);
  tcase_add_test(all, not_too_many_end_at_once);
  tcase_add_test(all, what_has_ended_already_is_not_meant);
  tcase_add_test(all, of_one_message_it_ends_with_that);
  tcase_add_test(all, one_covers_others);
  tcase_add_test(all, the_last_word_counts);
  tcase_add_test(all, there_are_not_too_many);
  return unit_main("net/out/order", &all, 1);
}
