/* What records and outcomes say together: against the rules of FORMAT.md, and in shares as in one piece. */
#include "queue/spool/census.h"

#include <stdlib.h>

#include "core/base/error.h"
#include "tests/lib/unit.h"

static struct census census;
static uint32_t offset;

struct to {
  uint16_t index, attempts;
  uint64_t due_ms;
};

/* A record as replay hands it out. */
static void record(struct census *into, enum record_type type, uint64_t id, uint32_t parts, const struct to *to, unsigned to_count) {
  static uint8_t room[4096];
  struct fmt envelope = fmt_over(room + RECORD_HEADER_SIZE, 2048);
  if (type == RECORD_MESSAGE) {
    record_envelope_encode(&(struct record_envelope){.sender = SPAN("a@b.example"), .created_ms = 5, .recipients = to_count}, &envelope);
    for (unsigned i = 0; i < to_count; i++)
      record_recipient_encode(
          &(struct record_recipient){.address = SPAN("c@d.example"), .index = to[i].index, .attempts = to[i].attempts, .due_ms = to[i].due_ms},
          &envelope);
  }
  struct record_header header = {
      .type = type, .length = 4096, .envelope_size = (uint32_t)envelope.len, .content_size = 1000 + parts, .parts = parts, .id = id};
  record_header_encode(&header, room);
  record_header_seal(room, 1, 0);
  census_record(into, span_of(room, sizeof room), (struct spool_place){.segment = 1, .length = 4096, .offset = ++offset * 4096});
}

static void outcome(struct census *into, enum record_outcome_kind kind, uint64_t id, uint16_t recipient, uint16_t attempts, uint64_t due_ms) {
  uint8_t room[RECORD_OUTCOME_SIZE];
  record_outcome_encode(&(struct record_outcome){.kind = kind, .id = id, .recipient = recipient, .attempts = attempts, .due_ms = due_ms}, room);
  census_outcome(into, span_of(room, sizeof room));
}

static void setup(void) {
  census_init(&census, 0, 7);
  census_begin(&census);
}

static void teardown(void) { census_fini(&census); }

START_TEST(a_message_lives_until_its_last_recipient_is_done) {
  record(&census, RECORD_MESSAGE, 1, 0, (struct to[]){{0, 0, 0}, {1, 0, 0}, {2, 0, 0}}, 3);
  outcome(&census, RECORD_DELIVERED, 1, 1, 1, 0);
  outcome(&census, RECORD_DEFERRED, 1, 2, 1, 777);
  const struct census_message *message = census_find(&census, 1);
  ck_assert(message != NULL && census_is_live(message) && census_is_whole(message));
  ck_assert_uint_eq(message->live, 2);
  ck_assert(!message->recipient[0].done && message->recipient[1].done && !message->recipient[2].done);
  ck_assert_uint_eq(message->recipient[2].due_ms, 777);
  ck_assert_uint_eq(message->recipient[2].attempts, 1);
  outcome(&census, RECORD_FAILED, 1, 0, 1, 0);
  outcome(&census, RECORD_DELIVERED, 1, 1, 1, 0); /* said once more: it may stand behind a copy that knows of it */
  outcome(&census, RECORD_DELIVERED, 1, 9, 1, 0); /* none of the message's */
  ck_assert(census_is_live(message));
  outcome(&census, RECORD_EXPIRED, 1, 2, 2, 0);
  ck_assert(!census_is_live(message));
}
END_TEST

START_TEST(the_newer_record_counts) {
  record(&census, RECORD_MESSAGE, 1, 0, (struct to[]){{0, 0, 0}, {1, 0, 0}}, 2);
  outcome(&census, RECORD_DELIVERED, 1, 0, 1, 0);
  record(&census, RECORD_MESSAGE, 1, 0, (struct to[]){{1, 3, 50}}, 1);
  outcome(&census, RECORD_DELIVERED, 1, 0, 1, 0); /* of the commit of the copy, which has it no longer */
  outcome(&census, RECORD_DEFERRED, 1, 1, 2, 40); /* older than the copy */
  const struct census_message *message = census_find(&census, 1);
  ck_assert_uint_eq(message->recipients, 1);
  ck_assert_uint_eq(message->place.offset, (uint64_t)offset * 4096);
  ck_assert_uint_eq(message->recipient[0].attempts, 3);
  ck_assert_uint_eq(message->recipient[0].due_ms, 50);
  ck_assert(census_is_live(message));
}
END_TEST

START_TEST(parts_make_a_message_whole) {
  record(&census, RECORD_PART, 1, 1, NULL, 0); /* moved: in any order */
  record(&census, RECORD_MESSAGE, 1, 2, (struct to[]){{0, 0, 0}}, 1);
  record(&census, RECORD_PART, 2, 0, NULL, 0);
  const struct census_message *message = census_find(&census, 1);
  ck_assert(census_is_live(message) && !census_is_whole(message));
  record(&census, RECORD_PART, 1, 0, NULL, 0);
  record(&census, RECORD_PART, 1, 0, NULL, 0);
  ck_assert(census_is_whole(message));
  ck_assert_uint_eq(message->parts_bytes, 2001);
  ck_assert_uint_eq(message->parts[0].offset, (uint64_t)offset * 4096);
  ck_assert(!census_is_live(census_find(&census, 2))); /* its end never came */
  ck_assert_ptr_null(census_find(&census, 3));
}
END_TEST

START_TEST(told_is_what_an_orderly_stop_followed_or_something_happened_to) {
  record(&census, RECORD_MESSAGE, 1, 0, (struct to[]){{0, 0, 0}}, 1);
  outcome(&census, RECORD_TOLD, 0, 0, 0, 0);
  for (uint64_t id = 2; id <= 4; id++) record(&census, RECORD_MESSAGE, id, 0, (struct to[]){{0, id == 4, 0}}, 1);
  outcome(&census, RECORD_DEFERRED, 3, 0, 0, 0);
  for (uint64_t id = 1; id <= 4; id++) ck_assert_int_eq(census_is_told(&census, census_find(&census, id)), id != 2);
}
END_TEST

/* Neither a warning, nor a report that is owed, nor the mark of a stop ends anybody. */
START_TEST(a_mark_is_no_end_and_is_remembered) {
  record(&census, RECORD_MESSAGE, 1, 0, (struct to[]){{0, 0, 0}, {1, 0, 0}}, 2);
  outcome(&census, RECORD_DEFERRED, 1, 0, 3, 777);
  outcome(&census, RECORD_WARNED, 1, 0, 0, 0);
  outcome(&census, RECORD_OWED, 1, 1, 0, 0);
  outcome(&census, RECORD_TOLD, 0, 0, 0, 0);
  const struct census_message *message = census_find(&census, 1);
  ck_assert_uint_eq(message->live, 2);
  ck_assert_uint_eq(message->recipient[0].marks, RECORD_WARNED_BIT);
  ck_assert_uint_eq(message->recipient[1].marks, RECORD_OWED_BIT);
  ck_assert_uint_eq(message->recipient[0].attempts, 3);
  ck_assert_uint_eq(message->recipient[0].due_ms, 777);
  ck_assert_uint_eq(message->recipient[0].kind, RECORD_DEFERRED);
}
END_TEST

START_TEST(an_envelope_that_cannot_be_read_lives_on) {
  static uint8_t room[512];
  record_header_encode(&(struct record_header){.type = RECORD_MESSAGE, .length = 512, .envelope_size = 3, .id = 1}, room);
  record_header_seal(room, 1, 0);
  census_record(&census, span_of(room, sizeof room), (struct spool_place){1, 512, 4096});
  outcome(&census, RECORD_DELIVERED, 1, 0, 1, 0);
  const struct census_message *message = census_find(&census, 1);
  ck_assert(!message->readable && census_is_live(message));
}
END_TEST

#define MANY 5000

static void read_many(struct census *into) {
  census_begin(into);
  for (uint64_t id = 1; id <= MANY; id++) {
    record(into, RECORD_MESSAGE, id << 22, 0, (struct to[]){{0, 0, 0}, {1, 0, 0}}, 2);
    if (id % 3 == 0) outcome(into, RECORD_DELIVERED, id << 22, 0, 1, 0);
    if (id % 6 == 0) outcome(into, RECORD_DELIVERED, id << 22, 1, 1, 0);
    if (id % 1000 == 0) outcome(into, RECORD_TOLD, 0, 0, 0, 0);
  }
}

START_TEST(shares_together_are_the_whole) {
  static const uint64_t limits[] = {0, 1000000, 100000, 20000, 1};
  for (unsigned l = 0; l < 5; l++) {
    struct census shared;
    static uint8_t seen[MANY + 1];
    unsigned shares = 0, live = 0;
    memset(seen, 0, sizeof seen);
    census_init(&shared, limits[l], l);
    do {
      read_many(&shared);
      uint32_t cursor = 0;
      ck_quick(l == 4 || limits[l] == 0 || shared.bytes <= limits[l]);
      for (struct census_message *message; (message = census_next(&shared, &cursor)) != NULL;) {
        uint64_t id = message->id >> 22;
        ck_quick(seen[id]++ == 0);
        ck_quick(census_is_live(message) == (id % 6 != 0));
        live += census_is_live(message);
      }
      shares++;
      ck_quick(shares < 20000);
    } while (limits[l] != 1 && census_next_share(&shared));
    if (limits[l] != 1) ck_assert_uint_eq(live, MANY - MANY / 6);
    if (l == 0) ck_assert_uint_eq(shares, 1);
    if (l == 3) ck_assert_uint_gt(shares, 16);
    census_fini(&shared);
  }
}
END_TEST

int main(void) {
  TCase *all = tcase_create("census");
  tcase_add_checked_fixture(all, setup, teardown);
  tcase_add_test(all, a_message_lives_until_its_last_recipient_is_done);
  tcase_add_test(all, the_newer_record_counts);
  tcase_add_test(all, parts_make_a_message_whole);
  tcase_add_test(all, told_is_what_an_orderly_stop_followed_or_something_happened_to);
  tcase_add_test(all, a_mark_is_no_end_and_is_remembered);
  tcase_add_test(all, an_envelope_that_cannot_be_read_lives_on);
  tcase_add_test(all, shares_together_are_the_whole);
  return unit_main("queue/spool/census", &all, 1);
}
