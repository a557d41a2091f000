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

static void open_world(void) {
  slab_init(&slab, 16 << 20);
  shard = (struct shard){.wall_ms = WALL_MS};
  outlet = (struct outlet){.o = {.shard = &shard, .slab = &slab}};
  memset(&bounced, 0, sizeof bounced);
}

static void close_world(void) {
  orders_forget(&outlet);
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
}
END_TEST

START_TEST(what_is_no_longer_as_it_was_loaded_is_no_concern_of_it) {
  ck_assert(order(NULL, 0, "all", false));
  struct message *message = load(1, OLD);
  message->late = false;
  ck_assert(!outlet_obey(&outlet, message, 0));
  ck_assert_uint_eq(bounced.count, 0);
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
  tcase_add_test(all, what_is_no_longer_as_it_was_loaded_is_no_concern_of_it);
  tcase_add_test(all, the_last_word_counts);
  tcase_add_test(all, there_are_not_too_many);
  return unit_main("net/out/order", &all, 1);
}
