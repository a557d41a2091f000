#include "net/in/submit.h"

#include <stdio.h>

#include "tests/unit/queue/fake_slab.c"
#include "tests/unit/queue/fake_spool.c"

#include "tests/lib/unit.h"

#define WALL_MS 1764000000000

static struct slab slab;
static struct spool spool;
static struct shard shard;
static struct counters counters;
static struct schedule schedule;
static struct submit_context context;

/* What the submission called back with. */
static struct {
  unsigned done, progress;
  uint64_t tag, id, size;
  uint32_t recipients;
  int error;
} told;

static unsigned due_count;
static struct message *due_message;

static void when_due(void *unused, struct message *message, unsigned recipient) {
  (void)unused;
  (void)recipient;
  due_count++;
  due_message = message;
  schedule_job_began(message);
}

static void when_done(void *unused, uint64_t tag, struct submission *submission, int error) {
  (void)unused;
  told.done++;
  told.tag = tag;
  told.error = error;
  told.id = submission->id;
  told.size = submission->size;
  told.recipients = submission->recipients;
  ck_assert((submission->message != NULL) == (error == E_OK));
}

static void when_progress(void *unused, uint64_t tag) {
  (void)unused;
  told.progress++;
  told.tag = tag;
}

static void open_world(void) {
  slab_init(&slab, 64 << 20);
  shard.now_ms = 500;
  shard.wall_ms = WALL_MS;
  shard.index = 3;
  wheel_init(&shard.wheel, shard.now_ms);
  schedule_init(&schedule, &shard, &slab, &spool, &counters, when_due, NULL);
  context = (struct submit_context){.shard = &shard, .slab = &slab, .spool = &spool, .schedule = &schedule, .hostname = SPAN("relay.example.org")};
  memset(&told, 0, sizeof told);
  due_count = 0;
}

static void close_world(void) {
  schedule_fini(&schedule);
  fake_spool_free(&spool);
  slab_fini(&slab); /* every test gives back what it took */
}

static void expect_nothing_left(void) { ck_quick(schedule.messages == 0 && slab.used_bytes == 0 && fake_spool_live(&spool) == 0); }

/* ---- ids ---- */

START_TEST(ids_rise_whatever_the_clock_does) {
  uint64_t last = submit_new_id(&context), ms = WALL_MS;
  ck_assert_uint_eq(last >> 22, WALL_MS);
  ck_assert_uint_eq((last >> 14) & 0xff, 3);
  for (unsigned i = 0; i < 200000; i++) {
    if (i % 1000 == 999) ms += i % 7 == 0 ? 1 : i % 7 == 1 ? 100000 : 0;
    if (i % 5000 == 4999) ms -= 777777; /* set back */
    shard.wall_ms = ms;
    uint64_t id = submit_new_id(&context);
    ck_quick_msg(id > last && ((id >> 14) & 0xff) == 3, "id %llx after %llx", (unsigned long long)id, (unsigned long long)last);
    last = id;
  }
}
END_TEST

START_TEST(ids_are_above_the_newest_of_the_spool) {
  shard.index = 0;
  context.last_id = ((uint64_t)(WALL_MS + 5000) << 22) | 0x3fff; /* written before the clock was set back; the last of its millisecond */
  ck_assert_uint_eq(submit_new_id(&context), (uint64_t)(WALL_MS + 5001) << 22);
  shard.wall_ms += 5001; /* the clock catches up */
  ck_assert_uint_eq(submit_new_id(&context), ((uint64_t)(WALL_MS + 5001) << 22) + 1);
  shard.wall_ms++;
  ck_assert_uint_eq(submit_new_id(&context), (uint64_t)(WALL_MS + 5002) << 22);
}
END_TEST

START_TEST(ids_are_our_own_though_the_newest_is_of_another_shard) {
  shard.index = 2;
  for (unsigned other = 1; other < 256; other += 2) { /* written before the clock was set back, its mail adopted since */
    context.last_id = ((uint64_t)(WALL_MS + 5000) << 22) | (uint64_t)other << 14 | 77;
    ck_quick(submit_new_id(&context) == ((uint64_t)(WALL_MS + 5001) << 22 | 2 << 14));
    ck_quick(submit_new_id(&context) == ((uint64_t)(WALL_MS + 5001) << 22 | 2 << 14) + 1);
  }
  context.last_id = ((uint64_t)(WALL_MS - 5000) << 22) | 3 << 14 | 77;
  ck_assert_uint_eq(submit_new_id(&context), (uint64_t)WALL_MS << 22 | 2 << 14);
}
END_TEST

/* ---- envelope ---- */

static const struct netaddr peer = {.family = 4, .bytes = {192, 0, 2, 7}};

static struct submission *begin(void) {
  struct smtp_mail mail = {
      .sender = {.whole = SPAN("s@example.org"), .local = SPAN("s"), .domain = SPAN("example.org")}, .envid = SPAN("E1"), .ret = SMTP_RET_FULL};
  struct submission *submission = submit_begin(&context, &mail, &peer, 99);
  if (submission != NULL) submission->progress = when_progress;
  return submission;
}

static bool add_recipient(struct submission *submission, const char *whole, const char *domain, struct span orcpt) {
  struct smtp_rcpt rcpt = {.recipient = {.whole = span_of_text(whole), .domain = span_of_text(domain)}, .notify = 4, .orcpt = orcpt};
  return submit_recipient(submission, &rcpt);
}

static bool add_numbers(struct submission *submission, unsigned count) {
  char whole[64];
  for (unsigned i = 0; i < count; i++) {
    snprintf(whole, sizeof whole, "recipient.number.%u@example.net", i);
    if (!add_recipient(submission, whole, "example.net", SPAN("rfc822;somebody+2Belse@example.com"))) return false;
  }
  return true;
}

static bool data(struct submission *submission) { return submit_data(submission, SPAN("client.example.org"), "ESMTP", 0); }

static void end(struct submission *submission, const struct data_scan *scan) { submit_end(submission, scan, 55, when_done, NULL); }

static size_t record_content(const struct content *content, char *room, size_t size) {
  struct io_slice slices[CONTENT_CHUNKS_MAX];
  unsigned count = content_slices(content, slices);
  size_t len = 0;
  for (unsigned i = 0; i < count; i++) {
    ck_assert_uint_lt(len + slices[i].len, size);
    memcpy(room + len, slices[i].at, slices[i].len);
    len += slices[i].len;
  }
  room[len] = '\0';
  return len;
}

static void finish_due(void) {
  struct message *message = due_message;
  for (unsigned i = 0; i < message->recipients; i++) schedule_done(&schedule, message, i, RECORD_DELIVERED);
  for (; due_count > 0; due_count--) schedule_job_ended(&schedule, message);
}

START_TEST(a_message_is_stored_and_then_due) {
  static char text[4096];
  struct submission *submission = begin();
  ck_assert(add_recipient(submission, "r@example.net", "example.net", SPAN("rfc822;r")));
  ck_assert(data(submission));
  ck_assert_int_eq(submit_content(submission, SPAN("Subject: x\r\n\r\n..dot\r\n")), E_OK);
  end(submission, &(struct data_scan){.leading_dot = true, .eight_bit = true});
  ck_assert_uint_eq(told.done, 0); /* not before it is safe */
  spool_turn(&spool, 0);
  ck_assert(told.done == 1 && told.error == E_OK && told.tag == 55);
  ck_assert_uint_eq(due_count, 1);
  struct message *message = due_message;
  ck_assert_uint_eq(message->id, told.id);
  ck_assert_uint_eq(message->size, told.size);
  ck_assert_uint_eq(message->session, 99);
  ck_assert_uint_eq(message->created_ms, WALL_MS);
  ck_assert(message->leading_dot && message->eight_bit && !message->smtputf8 && message->ret == SMTP_RET_FULL);
  ck_assert(message->place.segment != 0 && message->content != NULL);
  ck_assert(span_equal(message_sender(message), SPAN("s@example.org")) && span_equal(message_envid(message), SPAN("E1")));
  ck_assert(span_equal(message_peer(message), SPAN("192.0.2.7")));
  ck_assert(span_equal(message_address(message, 0), SPAN("r@example.net")) && span_equal(message_orcpt(message, 0), SPAN("rfc822;r")));
  ck_assert_uint_eq(message->recipient[0].notify, 4);
  size_t len = record_content(message->content, text, sizeof text);
  char expected[1024];
  snprintf(expected, sizeof expected,
           "Received: from client.example.org ([192.0.2.7])\r\n\tby relay.example.org (Ringpost) with ESMTP id %016llx\r\n"
           "\tfor <r@example.net>;\r\n\tMon, 24 Nov 2025 16:00:00 +0000\r\nSubject: x\r\n\r\n..dot\r\n",
           (unsigned long long)told.id);
  ck_assert_str_eq(text, expected);
  ck_assert_uint_eq(len, message->size);
  /* What is on disk says the same, flags included, though they were not known when its head was written. */
  const struct fake_item *item = item_at(&spool, message->place);
  struct record_header header;
  uint64_t hash;
  ck_assert_int_eq(record_header_decode(&header, item->bytes, item->len, message->place.segment, &hash), E_OK);
  struct message *again = message_new(&slab, header.id, span_of(item->bytes + RECORD_HEADER_SIZE, header.envelope_size));
  ck_assert(again->leading_dot && again->eight_bit && again->id == message->id && header.content_size == message->size);
  message_free(&slab, again);
  finish_due();
  expect_nothing_left();
}
END_TEST

START_TEST(several_recipients_are_not_named_to_each_other) {
  static char text[4096];
  struct submission *submission = begin();
  ck_assert(add_numbers(submission, 2) && data(submission));
  end(submission, &(struct data_scan){0});
  spool_turn(&spool, 0);
  record_content(due_message->content, text, sizeof text);
  ck_assert_ptr_null(strstr(text, "for <"));
  finish_due();
  expect_nothing_left();
}
END_TEST

START_TEST(the_date_goes_with_the_clock) {
  static char text[4096];
  static const char *const times[] = {"16:00:00", "16:00:00", "16:00:01", "16:00:00"}; /* it may be set back, too */
  static const int steps_ms[] = {0, 999, 1000, 10};
  for (unsigned i = 0; i < 4; i++) {
    shard.wall_ms = WALL_MS + (uint64_t)steps_ms[i];
    struct submission *submission = begin();
    ck_assert(add_numbers(submission, 1) && data(submission));
    end(submission, &(struct data_scan){0});
    spool_turn(&spool, 0);
    record_content(due_message->content, text, sizeof text);
    ck_assert_ptr_nonnull(strstr(text, times[i]));
    finish_due();
  }
  shard.wall_ms = WALL_MS;
  expect_nothing_left();
}
END_TEST

START_TEST(postmaster_is_ours) {
  struct submission *submission = begin();
  ck_assert(add_recipient(submission, "PostMaster", "", (struct span){NULL, 0}) && data(submission));
  end(submission, &(struct data_scan){0});
  spool_turn(&spool, 0);
  ck_assert(span_equal(message_address(due_message, 0), SPAN("PostMaster@relay.example.org")));
  finish_due();
  expect_nothing_left();
}
END_TEST

START_TEST(the_head_may_span_chunks) {
  static const unsigned counts[] = {50, 90, 100, 1000, 3000};
  for (unsigned c = 0; c < sizeof counts / sizeof counts[0]; c++) {
    struct submission *submission = begin();
    ck_assert(add_numbers(submission, counts[c]) && data(submission));
    ck_assert_int_eq(submit_content(submission, SPAN("x\r\n")), E_OK);
    end(submission, &(struct data_scan){.leading_dot = true});
    spool_turn(&spool, 0);
    ck_assert(told.error == E_OK && told.recipients == counts[c]);
    ck_assert_uint_eq(due_count, counts[c]);
    ck_assert(due_message->leading_dot);
    for (unsigned i = 0; i < counts[c]; i++) {
      char whole[64];
      snprintf(whole, sizeof whole, "recipient.number.%u@example.net", i);
      ck_quick(span_equal(message_address(due_message, i), span_of_text(whole)) && due_message->recipient[i].index == i);
    }
    finish_due();
    expect_nothing_left();
  }
}
END_TEST

START_TEST(an_envelope_has_its_limit) {
  char whole[300];
  unsigned count = 0;
  struct submission *submission = begin();
  memset(whole, 'a', sizeof whole);
  memcpy(whole + 240, "@example.net", 13);
  while (count < 65536 && add_recipient(submission, whole, "example.net", span_of(whole, 240))) count++;
  ck_assert_uint_gt(count, 900);
  ck_assert_uint_lt(count, 3000);
  ck_assert(data(submission)); /* those before it are served: the sender brings the others in another transaction */
  unsigned items = spool.items_count;
  for (unsigned i = 0; i < 2000; i++) ck_assert_int_eq(submit_content(submission, SPAN("x")), E_OK);
  ck_assert_uint_eq(spool.appends_count, 0); /* a long envelope does not make a part of every few bytes */
  end(submission, &(struct data_scan){0});
  spool_turn(&spool, 0);
  ck_assert_uint_eq(spool.items_count, items + 1);
  ck_assert_uint_eq(due_count, count);
  finish_due();
  expect_nothing_left();
}
END_TEST

/* ---- long messages ---- */

#define PIECE 30000

static uint8_t pattern(uint64_t at) { return (uint8_t)(at * 31 + (at >> 8) + (at >> 16)); }

/* Hands in `bytes` of content; the spool takes a turn when it has to be waited for. */
static int feed(struct submission *submission, uint64_t bytes) {
  static uint8_t piece[PIECE];
  int error = E_OK;
  for (uint64_t at = 0; at < bytes; at += PIECE) {
    size_t len = bytes - at < PIECE ? (size_t)(bytes - at) : PIECE;
    for (size_t i = 0; i < len; i++) piece[i] = pattern(at + i);
    error = submit_content(submission, span_of(piece, len));
    if (error == E_BUSY) {
      unsigned progress = told.progress;
      ck_quick(submission->writes == SUBMIT_PARTS_UNDER_WAY);
      spool_turn(&spool, 0);
      ck_quick(told.progress == progress + SUBMIT_PARTS_UNDER_WAY);
    }
  }
  return error;
}

static void note_load(struct load *load, int error) { *(int *)load->context = error; }

/* Behind the Received header of the first part, all of the content in order. */
static void check_long(struct message *message, uint64_t bytes) {
  uint64_t at = 0, skip = message->size - bytes;
  for (uint32_t part = 0; part <= message->parts_count; part++) {
    int error = 1;
    struct load load = {.message = message, .part = part, .done = note_load, .context = &error};
    schedule_load(&schedule, &load);
    for (unsigned turns = 0; turns < 100 && error == 1; turns++) spool_turn(&spool, 0);
    ck_assert_int_eq(error, E_OK);
    struct content *content = part < message->parts_count ? load.content : message->content;
    struct io_slice slices[CONTENT_CHUNKS_MAX];
    unsigned count = content_slices(content, slices);
    for (unsigned i = 0; i < count; i++) {
      for (size_t j = 0; j < slices[i].len; j++) {
        if (skip > 0) {
          skip--;
        } else {
          ck_quick(((uint8_t *)slices[i].at)[j] == pattern(at));
          at++;
        }
      }
    }
    if (part < message->parts_count) content_free(&slab, content);
  }
  ck_assert_uint_eq(at, bytes);
}

START_TEST(a_message_of_any_size_takes_bounded_memory) {
  static const uint64_t sizes[] = {900000, 1 << 20, (1 << 20) + 1, 1100000, 5000000, 20000000};
  for (unsigned mode = 0; mode < 2; mode++) {
    spool.durability = mode == 0 ? SPOOL_SYNC : SPOOL_MEMORY;
    for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
      slab.limit_bytes = 6 << 20;
      struct submission *submission = begin();
      ck_assert(add_numbers(submission, 3) && data(submission));
      ck_assert_int_ne(feed(submission, sizes[i]), E_NO_MEMORY);
      end(submission, &(struct data_scan){.leading_dot = true});
      for (unsigned turns = 0; turns < 3; turns++) spool_turn(&spool, 0);
      ck_assert(told.error == E_OK && due_count == 3 && due_message->leading_dot);
      ck_assert_uint_eq(due_message->size, told.size);
      check_long(due_message, sizes[i]);
      finish_due();
      expect_nothing_left();
    }
  }
}
END_TEST

START_TEST(one_piece_may_be_longer_than_a_part) {
  static uint8_t piece[5000000];
  struct submission *submission = begin();
  for (size_t i = 0; i < sizeof piece; i++) piece[i] = pattern(i);
  ck_assert(add_numbers(submission, 1) && data(submission));
  ck_assert_int_eq(submit_content(submission, span_of(piece, sizeof piece)), E_BUSY);
  end(submission, &(struct data_scan){0});
  spool_turn(&spool, 0);
  ck_assert_uint_eq(told.done, 0); /* first the parts, then the message */
  ck_assert_uint_eq(told.progress, 0);
  spool_turn(&spool, 0);
  ck_assert(told.done == 1 && told.error == E_OK);
  check_long(due_message, sizeof piece);
  finish_due();
  expect_nothing_left();
}
END_TEST

/* ---- what may go wrong ---- */

START_TEST(abandoned_at_any_stage) {
  submit_abandon(NULL);
  for (unsigned stage = 0; stage < 6; stage++) {
    struct submission *submission = begin();
    if (stage >= 1) ck_assert(add_numbers(submission, 5));
    if (stage >= 2) ck_assert(data(submission));
    if (stage >= 3) ck_assert_int_eq(submit_content(submission, SPAN("x\r\n")), E_OK);
    if (stage >= 4) ck_assert_int_ne(feed(submission, 1200000), E_NO_MEMORY);
    if (stage >= 5) spool_turn(&spool, 0);
    if (stage == 4) ck_assert_uint_eq(submission->writes, 1);
    submit_abandon(submission);
    unsigned progress = told.progress;
    spool_turn(&spool, 0);
    ck_assert_uint_eq(told.progress, progress); /* nobody is there to be told */
    ck_assert_uint_eq(told.done, 0);
    expect_nothing_left();
  }
}
END_TEST

/* The spool needs the segment that their parts lie in: they are forgotten at once, what is still on its way when it arrives. */
START_TEST(parts_in_the_way_are_forgotten) {
  struct submission *slow = begin(), *other = begin();
  ck_assert(add_numbers(slow, 1) && data(slow) && add_numbers(other, 1) && data(other));
  ck_assert_int_ne(feed(slow, 1200000), E_NO_MEMORY);
  spool_turn(&spool, 0);
  uint32_t segment = slow->parts[0].segment;
  ck_assert_uint_ne(segment, 0);
  ck_assert_int_ne(feed(slow, 1200000), E_NO_MEMORY);
  ck_assert_uint_eq(slow->writes, 1);
  submit_clear_segment(&context, segment - 1);
  ck_assert_int_eq(slow->error, E_OK);
  submit_clear_segment(&context, segment);
  ck_assert_int_eq(slow->error, E_NO_SPACE);
  ck_assert_int_eq(other->error, E_OK); /* it has nothing on disk */
  ck_assert_uint_eq(fake_spool_live(&spool), 0);
  spool_turn(&spool, 0);
  ck_assert_uint_eq(slow->writes, 0);
  ck_assert_uint_eq(fake_spool_live(&spool), 0);
  ck_assert_int_eq(submit_content(slow, SPAN("more\r\n")), E_NO_SPACE);
  end(slow, &(struct data_scan){0});
  ck_assert(told.done == 1 && told.error == E_NO_SPACE);
  end(other, &(struct data_scan){0});
  spool_turn(&spool, 0);
  ck_assert(told.done == 2 && told.error == E_OK);
  submit_clear_segment(&context, UINT32_MAX); /* a message is the schedule's */
  finish_due();
  expect_nothing_left();
}
END_TEST

/* The whole way of a message of `bytes`; how it ended. */
static int whole_way(uint64_t bytes) {
  unsigned done = told.done;
  struct submission *submission = begin();
  if (submission == NULL) return E_NO_MEMORY;
  if (!add_numbers(submission, 100) || !data(submission)) {
    submit_abandon(submission);
    return E_NO_MEMORY;
  }
  (void)feed(submission, bytes);
  end(submission, &(struct data_scan){0});
  for (unsigned turns = 0; turns < 5; turns++) spool_turn(&spool, 0);
  ck_quick(told.done == done + 1);
  if (told.error == E_OK) finish_due();
  return told.error;
}

START_TEST(memory_may_end_anywhere) {
  static const uint64_t sizes[] = {10, 100000, 3000000};
  for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    int error = E_NO_MEMORY;
    for (uint64_t requests = 0; error != E_OK; requests++) {
      ck_assert_uint_lt(requests, 1000);
      fake_slab_requests_left = requests;
      error = whole_way(sizes[i]);
      ck_assert(error == E_OK || error == E_NO_MEMORY);
      expect_nothing_left();
    }
  }
}
END_TEST

START_TEST(the_disk_may_be_full_anywhere) {
  int error = E_NO_SPACE;
  for (unsigned after = 0; error != E_OK; after++) {
    ck_assert_uint_lt(after, 20);
    spool.fail_append = E_NO_SPACE;
    spool.fail_append_after = after;
    error = whole_way(4000000);
    ck_assert(error == E_OK || error == E_NO_SPACE);
    expect_nothing_left(); /* also on disk: what is refused does not keep the disk full */
  }
}
END_TEST

START_TEST(the_first_error_is_the_one_that_is_told) {
  struct submission *submission = begin();
  ck_assert(add_numbers(submission, 1) && data(submission));
  spool.fail_append = E_NO_SPACE;
  ck_assert_int_eq(feed(submission, 2500000), E_NO_SPACE);
  ck_assert_int_eq(submit_content(submission, SPAN("more\r\n")), E_NO_SPACE);
  end(submission, &(struct data_scan){0});
  ck_assert(told.done == 1 && told.error == E_NO_SPACE); /* at once: there is nothing to wait for */
  expect_nothing_left();
}
END_TEST

int main(void) {
  TCase *ids = tcase_create("ids"), *usual = tcase_create("usual"), *longer = tcase_create("long"), *wrong = tcase_create("wrong");
  TCase *const cases[] = {ids, usual, longer, wrong};
  for (unsigned i = 0; i < 4; i++) tcase_add_checked_fixture(cases[i], open_world, close_world);
  tcase_set_timeout(longer, 60);
  tcase_set_timeout(wrong, 60);
  tcase_add_test(ids, ids_rise_whatever_the_clock_does);
  tcase_add_test(ids, ids_are_above_the_newest_of_the_spool);
  tcase_add_test(ids, ids_are_our_own_though_the_newest_is_of_another_shard);
  tcase_add_test(usual, a_message_is_stored_and_then_due);
  tcase_add_test(usual, several_recipients_are_not_named_to_each_other);
  tcase_add_test(usual, the_date_goes_with_the_clock);
  tcase_add_test(usual, postmaster_is_ours);
  tcase_add_test(usual, the_head_may_span_chunks);
  tcase_add_test(usual, an_envelope_has_its_limit);
  tcase_add_test(longer, a_message_of_any_size_takes_bounded_memory);
  tcase_add_test(longer, one_piece_may_be_longer_than_a_part);
  tcase_add_test(wrong, abandoned_at_any_stage);
  tcase_add_test(wrong, parts_in_the_way_are_forgotten);
  tcase_add_test(wrong, memory_may_end_anywhere);
  tcase_add_test(wrong, the_disk_may_be_full_anywhere);
  tcase_add_test(wrong, the_first_error_is_the_one_that_is_told);
  return unit_main("net/in/submit", cases, 4);
}
