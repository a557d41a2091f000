/* Contents come back from disk; and everything that can happen to messages, in any order. */
#include "tests/unit/queue/schedule_world.c"

/* ---- loads ---- */

/* A message whose content is on disk only, with one job. */
static struct message *message_on_disk(uint64_t id, const struct plan *plan) {
  struct message *message = accept_message(id, plan);
  unsigned at = due_count - 1;
  answer_defer(at, 1000);
  ck_assert_ptr_null(message->content);
  pass(1000);
  return message;
}

START_TEST(content_comes_back_from_disk) {
  static const uint32_t sizes[] = {0, 1, 5000, 60000, 70000, 400000};
  for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    struct wish first, second, third;
    struct message *message = message_on_disk(i + 1, &(struct plan){.content = sizes[i]});
    ask(&first, message, 0);
    ask(&second, message, 0);
    ck_assert_uint_eq(first.calls + second.calls, 0);
    for (unsigned turns = 0; turns < 20 && first.calls == 0; turns++) spool_turn(&spool, 0);
    ck_assert(first.calls == 1 && first.error == E_OK && second.calls == 1 && second.error == E_OK);
    check_content(message->content, i + 1, sizes[i]);
    ask(&third, message, 0); /* it is there */
    ck_assert(third.calls == 1 && third.error == E_OK);
    answer_done(due_count - 1, RECORD_DELIVERED);
    expect_nothing_left();
  }
}
END_TEST

START_TEST(a_read_that_fails_is_told_to_all_who_asked) {
  struct wish wishes[3], again;
  struct message *message = message_on_disk(7, &(struct plan){.content = 100000});
  spool.fail_read = E_IO;
  for (unsigned i = 0; i < 3; i++) ask(&wishes[i], message, 0);
  spool_turn(&spool, 0);
  for (unsigned i = 0; i < 3; i++) ck_assert(wishes[i].calls == 1 && wishes[i].error == E_IO);
  ck_assert(message->content == NULL && message->loads == NULL);
  spool.fail_read = E_OK;
  ask(&again, message, 0);
  for (unsigned turns = 0; turns < 20 && again.calls == 0; turns++) spool_turn(&spool, 0);
  ck_assert_int_eq(again.error, E_OK);
  answer_done(due_count - 1, RECORD_DELIVERED);
  expect_nothing_left();
}
END_TEST

START_TEST(bytes_that_changed_on_disk_are_seen) {
  struct wish wish;
  struct message *message = message_on_disk(7, &(struct plan){.content = 100000});
  struct fake_item *item = item_at(&spool, message->place);
  uint8_t *bytes = malloc(item->len); /* the fake compares with what it keeps: another record in its place */
  memcpy(bytes, item->bytes, item->len);
  struct record_header header = {.type = RECORD_MESSAGE, .length = (uint32_t)item->len, .envelope_size = 64, .content_size = 10, .id = 8};
  record_header_encode(&header, bytes);
  struct span rest = span_of(bytes + RECORD_HEADER_SIZE, item->len - RECORD_HEADER_SIZE);
  record_header_seal(bytes, item->place.segment, record_hash(FAKE_SPOOL_SALT, &rest, 1));
  free(item->bytes);
  item->bytes = bytes;
  ask(&wish, message, 0);
  for (unsigned turns = 0; turns < 20 && wish.calls == 0; turns++) spool_turn(&spool, 0);
  ck_assert_int_eq(wish.error, E_CORRUPT);
  ck_assert_ptr_null(message->content);
  answer_done(due_count - 1, RECORD_FAILED);
  expect_nothing_left();
}
END_TEST

START_TEST(without_memory_nothing_is_loaded) {
  struct wish wish;
  struct message *message = message_on_disk(7, &(struct plan){.content = 100000});
  for (unsigned requests = 0; requests < 3; requests++) { /* the record itself, and its chunks */
    fake_slab_requests_left = requests;
    ask(&wish, message, 0);
    ck_assert(wish.calls == 1 && wish.error == E_NO_MEMORY && message->loads == NULL);
  }
  fake_slab_requests_left = UINT64_MAX;
  answer_done(due_count - 1, RECORD_FAILED);
  expect_nothing_left();
}
END_TEST

START_TEST(the_last_outcome_may_come_during_a_load) {
  struct wish wish;
  struct message *message = message_on_disk(7, &(struct plan){.content = 100000});
  ask(&wish, message, 0);
  schedule_done(&schedule, message, 0, RECORD_FAILED); /* the connection died, and its job waits for the load to end */
  ck_assert_uint_eq(schedule.messages, 1);
  for (unsigned turns = 0; turns < 20 && wish.calls == 0; turns++) spool_turn(&spool, 0);
  ck_assert_uint_eq(schedule.messages, 1);
  schedule_job_ended(&schedule, message);
  expect_nothing_left();
}
END_TEST

/* ---- any order ---- */

static uint64_t chance;
static uint32_t any(uint32_t below) {
  chance = chance * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(chance >> 33) % below;
}

#define ANY_MESSAGES 6
#define ANY_RECIPIENTS 5
static unsigned ends[ANY_MESSAGES][ANY_RECIPIENTS]; /* how often each ended */

/* Entry `at` of the due list ends in one way or another; its job may outlive the outcome. */
static void any_answer(unsigned at) {
  struct due entry = due[at];
  due[at] = due[--due_count];
  if (any(5) == 0) {
    schedule_hold(&schedule, entry.message, entry.recipient, shard.wall_ms + any(5000));
  } else if (any(3) == 0) {
    schedule_defer(&schedule, entry.message, entry.recipient, shard.wall_ms + any(3000), any(2) == 0);
  } else {
    ends[entry.message->id - 1][entry.message->recipient[entry.recipient].index]++;
    schedule_done(&schedule, entry.message, entry.recipient, any(2) == 0 ? RECORD_DELIVERED : RECORD_FAILED);
  }
  schedule_job_ended(&schedule, entry.message);
}

struct any_wish {
  struct wish wish;
  bool under_way;
};

static void any_load(struct any_wish *wishes) {
  struct any_wish *free_one = NULL;
  for (unsigned i = 0; i < 4; i++) {
    if (wishes[i].under_way && wishes[i].wish.calls > 0) {
      wishes[i].under_way = false;
      schedule_job_ended(&schedule, wishes[i].wish.load.message);
    }
    if (!wishes[i].under_way) free_one = &wishes[i];
  }
  if (free_one == NULL || due_count == 0) return;
  struct message *message = due[any(due_count)].message;
  schedule_job_began(message);
  free_one->under_way = true;
  ask(&free_one->wish, message, 0);
}

/* An operator's retry, or bounce, of some that wait. */
static void any_operation(void) {
  struct domain_queue *queue = schedule.domains.first;
  for (unsigned skip = any(3); skip > 0 && queue->next != NULL; skip--) queue = queue->next;
  for (unsigned count = any(4); count > 0 && due_count < DUE_MAX / 2; count--) {
    unsigned recipient;
    struct message *message = domain_queue_rotate(queue, &recipient);
    if (message == NULL) return;
    if (any(3) > 0) {
      schedule_retry(&schedule, message, recipient);
      continue;
    }
    schedule_job_began(message);
    schedule_take(&schedule, message, recipient);
    ends[message->id - 1][message->recipient[recipient].index]++;
    schedule_done(&schedule, message, recipient, RECORD_FAILED);
    schedule_job_ended(&schedule, message);
  }
}

static void any_step(struct any_wish *wishes) {
  check_queues();
  switch (any(7)) {
  case 0:
  case 1:
    if (due_count > 0) any_answer(any(due_count));
    break;
  case 2: pass(any(2000)); break;
  case 3: any_load(wishes); break;
  case 5: any_operation(); break;
  case 4:
    spool.hold = any(2) == 0;
    spool.hold_reads = any(2) == 0;
    spool.fail_append = spool.durability == SPOOL_MEMORY && any(4) == 0 ? E_NO_SPACE : E_OK;
    spool.fail_read = any(4) == 0 ? E_IO : E_OK;
    fake_slab_requests_left = any(8) == 0 ? any(4) : UINT64_MAX;
    break;
  default: spool_turn(&spool, 0); break;
  }
}

static void any_run(uint64_t seed) {
  struct any_wish wishes[4] = {0};
  chance = seed;
  memset(ends, 0, sizeof ends);
  spool.durability = any(2) == 0 ? SPOOL_SYNC : SPOOL_MEMORY;
  unsigned recipients[ANY_MESSAGES];
  for (unsigned i = 0; i < ANY_MESSAGES; i++) {
    spool.fail_append = E_OK;
    spool.hold = false;
    fake_slab_requests_left = UINT64_MAX;
    recipients[i] = 1 + any(ANY_RECIPIENTS);
    accept_message(i + 1, &(struct plan){.recipients = recipients[i], .content = any(3) * 40000, .due_ms = any(2) * (START_WALL_MS + 500)});
    for (unsigned step = any(40); step > 0; step--) any_step(wishes);
  }
  for (unsigned step = 0; step < 100; step++) any_step(wishes);
  spool.hold = spool.hold_reads = false; /* faults off: now all has to end */
  spool.fail_append = spool.fail_read = E_OK;
  fake_slab_requests_left = UINT64_MAX;
  for (unsigned step = 0; step < 3000 && (schedule.messages > 0 || step < 40); step++) {
    pass(3000);
    while (due_count > 0) any_answer(0);
    for (unsigned i = 0; i < 4; i++) any_load(wishes);
    spool_turn(&spool, 0);
  }
  for (unsigned i = 0; i < ANY_MESSAGES; i++)
    for (unsigned r = 0; r < recipients[i]; r++) ck_quick_msg(ends[i][r] == 1, "seed %llu: message %u recipient %u", (unsigned long long)seed, i, r);
  expect_nothing_left();
}

START_TEST(in_any_order_every_recipient_ends_once_and_nothing_is_left) {
  for (uint64_t seed = 1; seed <= 400; seed++) any_run(seed);
}
END_TEST

int main(void) {
  TCase *load = tcase_create("load"), *order = tcase_create("order");
  TCase *const cases[] = {load, order};
  for (unsigned i = 0; i < 2; i++) tcase_add_checked_fixture(cases[i], open_world, close_world);
  tcase_set_timeout(order, 120);
  tcase_add_test(load, content_comes_back_from_disk);
  tcase_add_test(load, a_read_that_fails_is_told_to_all_who_asked);
  tcase_add_test(load, bytes_that_changed_on_disk_are_seen);
  tcase_add_test(load, without_memory_nothing_is_loaded);
  tcase_add_test(load, the_last_outcome_may_come_during_a_load);
  tcase_add_test(order, in_any_order_every_recipient_ends_once_and_nothing_is_left);
  return unit_main("queue/schedule: loads", cases, 2);
}
