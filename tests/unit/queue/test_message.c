#include "queue/message.h"

#include <pthread.h>

#include "tests/unit/queue/fake_slab.c"

#include "tests/lib/unit.h"

static struct slab slab;
static uint8_t room[1 << 20];

static void open_slab(void) { slab_init(&slab, 64 << 20); }
static void close_slab(void) { slab_fini(&slab); }

static struct record_envelope envelope_of(uint32_t recipients) {
  return (struct record_envelope){.sender = SPAN("sender@example.org"),
                                  .envid = SPAN("QQ314"),
                                  .peer = SPAN("192.0.2.7"),
                                  .created_ms = 1234567890123,
                                  .session = 77,
                                  .ret = 2,
                                  .smtputf8 = true,
                                  .leading_dot = true,
                                  .require_tls = true,
                                  .recipients = recipients};
}

/* `count` recipients, number i with an address that says so. */
static struct span encode(uint32_t count) {
  struct fmt out = fmt_over(room, sizeof room);
  struct record_envelope envelope = envelope_of(count);
  record_envelope_encode(&envelope, &out);
  for (uint32_t i = 0; i < count; i++) {
    uint8_t text[64];
    struct fmt address = fmt_over(text, sizeof text);
    fmt_text(&address, "number");
    fmt_u64(&address, i);
    fmt_text(&address, "@example.net");
    struct record_recipient recipient = {.address = fmt_span(&address),
                                         .orcpt = i % 2 == 0 ? SPAN("rfc822;x@y") : (struct span){NULL, 0},
                                         .notify = (uint8_t)(i % 16),
                                         .index = (uint16_t)(i * 3),
                                         .attempts = (uint16_t)(i % 7),
                                         .due_ms = 1000 + i};
    record_recipient_encode(&recipient, &out);
  }
  must(!out.overflow);
  return fmt_span(&out);
}

static void check_recipient(const struct message *message, unsigned i, unsigned number) {
  char address[64];
  snprintf(address, sizeof address, "number%u@example.net", number);
  const struct recipient *recipient = &message->recipient[i];
  ck_quick(span_equal(message_address(message, i), span_of_text(address)));
  ck_quick(span_equal(message_orcpt(message, i), number % 2 == 0 ? SPAN("rfc822;x@y") : (struct span){NULL, 0}));
  ck_quick(span_equal(message_domain(message, i), SPAN("example.net")));
  ck_quick(recipient->notify == number % 16 && recipient->index == number * 3 && recipient->attempts == number % 7 &&
           recipient->due_ms == 1000 + number);
}

static void check_head(const struct message *message) {
  ck_assert(span_equal(message_sender(message), SPAN("sender@example.org")));
  ck_assert(span_equal(message_envid(message), SPAN("QQ314")));
  ck_assert(span_equal(message_peer(message), SPAN("192.0.2.7")));
  ck_assert_uint_eq(message->created_ms, 1234567890123);
  ck_assert_uint_eq(message->session, 77);
  ck_assert_uint_eq(message->ret, 2);
  ck_assert(message->smtputf8 && !message->eight_bit && message->leading_dot && message->require_tls);
}

START_TEST(an_envelope_becomes_a_message) {
  static const uint32_t counts[] = {0, 1, 2, 100, 3000}; /* the last is larger than a slab block */
  for (unsigned c = 0; c < sizeof counts / sizeof counts[0]; c++) {
    struct message *message = message_new(&slab, 42, encode(counts[c]));
    ck_assert_ptr_nonnull(message);
    check_head(message);
    ck_assert_uint_eq(message->id, 42);
    ck_assert_uint_eq(message->recipients, counts[c]);
    ck_assert_uint_eq(message->live, counts[c]);
    for (unsigned i = 0; i < counts[c]; i++) {
      check_recipient(message, i, i);
      ck_quick(message->recipient[i].state == RECIPIENT_WAITING);
    }
    ck_assert(message->content == NULL && message->parts == NULL && message->place.segment == 0 && message->jobs == 0);
    message_free(&slab, message);
  }
}
END_TEST

START_TEST(a_damaged_envelope_gives_none) {
  struct span whole = encode(3);
  for (size_t len = 0; len < whole.len; len++) {
    uint8_t *copy = malloc(len + 1); /* of its own, so that a read beyond is seen */
    memcpy(copy, whole.at, len);
    ck_quick_msg(message_new(&slab, 1, span_of(copy, len)) == NULL, "cut at %zu", len);
    free(copy);
  }
  struct record_envelope envelope = envelope_of(UINT16_MAX + 1);
  struct fmt out = fmt_over(room, sizeof room);
  record_envelope_encode(&envelope, &out);
  ck_assert_ptr_null(message_new(&slab, 1, span_of(room, sizeof room)));
}
END_TEST

START_TEST(without_memory_there_is_none) {
  slab.limit_bytes = 200;
  ck_assert_ptr_null(message_new(&slab, 1, encode(3)));
}
END_TEST

START_TEST(the_domain_is_behind_the_last_at) {
  static const struct {
    const char *address, *domain;
  } table[] = {{"a@b", "b"}, {"\"x@y\"@example.org", "example.org"}, {"nobody", ""}, {"", ""}, {"trailing@", ""}, {"a@[IPv6:::1]", "[IPv6:::1]"}};
  for (unsigned i = 0; i < sizeof table / sizeof table[0]; i++) {
    struct record_envelope envelope = {.recipients = 1};
    struct record_recipient recipient = {.address = span_of_text(table[i].address)};
    struct fmt out = fmt_over(room, sizeof room);
    record_envelope_encode(&envelope, &out);
    record_recipient_encode(&recipient, &out);
    struct message *message = message_new(&slab, 1, fmt_span(&out));
    ck_assert(span_equal(message_domain(message, 0), span_of_text(table[i].domain)));
    message_free(&slab, message);
  }
}
END_TEST

/* ---- written anew ---- */

static struct span head_of(const struct content *content, uint8_t *to) {
  size_t len = 0;
  for (uint32_t i = 0; i < content->chunks; i++) {
    memcpy(to + len, content->slice[i].at, content->slice[i].len);
    len += content->slice[i].len;
  }
  ck_assert_uint_eq(len, content->head_size);
  return span_of(to + RECORD_HEADER_SIZE, len - RECORD_HEADER_SIZE);
}

START_TEST(a_new_head_has_the_present_state_of_those_that_are_left) {
  static uint8_t head[1 << 20];
  struct message *message = message_new(&slab, 42, encode(1000));
  unsigned left = 0;
  for (unsigned i = 0; i < 1000; i++) {
    if (i % 3 == 0) {
      message->recipient[i].state = RECIPIENT_DONE;
      message->live--;
    } else {
      message->recipient[i].state = i % 2 == 0 ? RECIPIENT_READY : RECIPIENT_WAITING;
    }
  }
  message->recipient[1].attempts = 9;
  message->recipient[1].due_ms = 55;
  message->recipient[2].held = true; /* suspended: due at its end, which is no due time of a restart's */
  message->recipient[2].due_ms = 86400000;
  struct content *content = content_new(&slab, 0);
  ck_assert(message_write_head(&slab, message, content));
  struct message *again = message_new(&slab, 42, head_of(content, head));
  check_head(again);
  ck_assert_uint_eq(again->recipients, message->live);
  ck_assert_uint_eq(again->recipient[0].attempts, 9);
  ck_assert_uint_eq(again->recipient[0].due_ms, 55);
  ck_assert_uint_eq(again->recipient[1].due_ms, RECORD_DUE_OLD);
  for (unsigned i = 0; i < 1000; i++) {
    if (i % 3 == 0) continue;
    if (i > 2) check_recipient(again, left, i);
    left++;
  }
  content_free(&slab, content);
  message_free(&slab, again);
  message_free(&slab, message);
}
END_TEST

START_TEST(a_new_head_that_finds_no_memory_says_so) {
  struct message *message = message_new(&slab, 42, encode(3000));
  unsigned tries = 0;
  for (bool done = false; !done; tries++) {
    struct content *content = content_new(&slab, 0);
    fake_slab_requests_left = tries;
    done = message_write_head(&slab, message, content);
    fake_slab_requests_left = UINT64_MAX;
    content_free(&slab, content);
  }
  ck_assert_uint_gt(tries, 2);
  message_free(&slab, message);
}
END_TEST

/* As another shard that works on a job. The race detector watches (make tsan). */
static void *look_for_content(void *argument) {
  const struct message *message = argument;
  const struct content *content;
  while ((content = message_content(message)) == NULL) {
  }
  return (void *)(uintptr_t)content->total;
}

START_TEST(content_that_comes_is_seen_whole_by_another_thread) {
  for (unsigned round = 0; round < 50; round++) {
    struct content content = {0};
    struct message message = {0};
    pthread_t thread;
    void *seen;
    ck_assert_int_eq(pthread_create(&thread, NULL, look_for_content, &message), 0);
    content.total = 4711;
    message_set_content(&message, &content);
    pthread_join(thread, &seen);
    ck_assert_uint_eq((uintptr_t)seen, 4711);
  }
}
END_TEST

int main(void) {
  TCase *message = tcase_create("message");
  tcase_add_checked_fixture(message, open_slab, close_slab);
  tcase_add_test(message, an_envelope_becomes_a_message);
  tcase_add_test(message, a_damaged_envelope_gives_none);
  tcase_add_test(message, without_memory_there_is_none);
  tcase_add_test(message, the_domain_is_behind_the_last_at);
  tcase_add_test(message, a_new_head_has_the_present_state_of_those_that_are_left);
  tcase_add_test(message, a_new_head_that_finds_no_memory_says_so);
  tcase_add_test(message, content_that_comes_is_seen_whole_by_another_thread);
  return unit_main("queue/message", (TCase *const[]){message}, 1);
}
