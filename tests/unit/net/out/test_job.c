#include "net/out/job.h"

#include "tests/unit/queue/fake_slab.c"

#include "tests/lib/unit.h"

#define RECIPIENTS 120

static struct slab slab;
static struct message *message;

/* A message whose recipient number i is "I@example.net", with NOTIFY and ORCPT that tell it apart. */
static struct message *make_message(unsigned recipients) {
  static uint8_t room[1 << 16];
  struct fmt out = fmt_over(room, sizeof room);
  struct record_envelope envelope = {.sender = SPAN("s@example.org"), .envid = SPAN("E1"), .ret = 1, .eight_bit = true, .recipients = recipients};
  record_envelope_encode(&envelope, &out);
  for (unsigned i = 0; i < recipients; i++) {
    uint8_t text[32];
    struct fmt address = fmt_over(text, sizeof text);
    fmt_u64(&address, i);
    fmt_text(&address, "@example.net");
    struct record_recipient recipient = {.address = fmt_span(&address),
                                         .orcpt = i % 2 == 0 ? SPAN("rfc822;o") : (struct span){NULL, 0},
                                         .notify = (uint8_t)(i % 8),
                                         .index = (uint16_t)i};
    record_recipient_encode(&recipient, &out);
  }
  return message_new(&slab, 1, fmt_span(&out));
}

static void open_message(void) {
  slab_init(&slab, 16 << 20);
  message = make_message(RECIPIENTS);
}

static void close_message(void) {
  message_free(&slab, message);
  slab_fini(&slab);
}

static void check_job(const struct job *job, unsigned recipients) {
  ck_assert_uint_eq(job->recipients, recipients);
  ck_assert_uint_eq(job->envelope.recipients, recipients);
  ck_assert_uint_ge(job->capacity, recipients);
  ck_assert_ptr_eq(job->envelope.recipient, job->smtp);
  for (unsigned i = 0; i < recipients; i++) {
    unsigned number = job->each[i].index;
    ck_quick(span_equal(job->smtp[i].address, message_address(message, number)) && span_equal(job->smtp[i].orcpt, message_orcpt(message, number)));
    ck_quick(job->smtp[i].notify == number % 8 && job->each[i].fate == FATE_INVALID && !job->each[i].counts);
  }
}

START_TEST(a_job_has_the_envelope_of_its_message) {
  struct job *job = job_new(&slab, message, 5, 3, 2);
  ck_assert_uint_eq(message->jobs, 1);
  check_job(job, 1);
  ck_assert_uint_eq(job->each[0].index, 5);
  ck_assert(job->owner == 3 && job->deliverer == 3 && job->rounds == 2 && !job->disturbed && !job->loading);
  ck_assert(span_equal(job->envelope.sender, SPAN("s@example.org")) && span_equal(job->envelope.envid, SPAN("E1")));
  ck_assert(job->envelope.ret == 1 && job->envelope.eight_bit && !job->envelope.smtputf8);
  job_free(&slab, job);
  ck_assert_uint_eq(message->jobs, 1); /* the caller's to end */
  message->jobs = 0;
}
END_TEST

START_TEST(jobs_grow_one_by_one_to_the_limit) {
  struct job *job = job_new(&slab, message, 0, 0, 0);
  for (unsigned i = 1; i < RECIPIENTS; i++) {
    struct job *other = job_new(&slab, message, i, 0, 0);
    bool fits = i < SMTP_CLIENT_RECIPIENTS_MAX;
    ck_assert(job_merge(&slab, job, other, SMTP_CLIENT_RECIPIENTS_MAX) == fits);
    if (!fits) {
      ck_assert_uint_eq(message->jobs, 2);
      message->jobs--;
      job_free(&slab, other);
    }
    ck_assert_uint_eq(message->jobs, 1);
    check_job(job, fits ? i + 1 : SMTP_CLIENT_RECIPIENTS_MAX);
  }
  for (unsigned i = 0; i < SMTP_CLIENT_RECIPIENTS_MAX; i++) ck_assert_uint_eq(job->each[i].index, i);
  job_free(&slab, job);
  message->jobs = 0;
}
END_TEST

/* Makes a job of recipients first .. first + count - 1. */
static struct job *make_job(unsigned first, unsigned count) {
  struct job *job = job_new(&slab, message, first, 0, 0);
  for (unsigned i = 1; i < count; i++) ck_quick(job_merge(&slab, job, job_new(&slab, message, first + i, 0, 0), 100));
  return job;
}

START_TEST(jobs_of_any_size_merge) {
  static const unsigned sizes[] = {1, 2, 7, 8, 9, 31, 32, 33, 50};
  for (unsigned a = 0; a < sizeof sizes / sizeof sizes[0]; a++) {
    for (unsigned b = 0; b < sizeof sizes / sizeof sizes[0]; b++) {
      struct job *into = make_job(0, sizes[a]), *from = make_job(sizes[a], sizes[b]);
      unsigned together = sizes[a] + sizes[b];
      ck_assert(!job_merge(&slab, into, from, together - 1)); /* what the server takes may be less */
      check_job(into, sizes[a]);
      check_job(from, sizes[b]);
      ck_assert(job_merge(&slab, into, from, together));
      check_job(into, together);
      for (unsigned i = 0; i < together; i++) ck_quick(into->each[i].index == i);
      job_free(&slab, into);
      message->jobs = 0;
    }
  }
}
END_TEST

START_TEST(other_messages_and_rounds_do_not_mix) {
  struct message *second = make_message(1);
  struct job *into = job_new(&slab, message, 0, 0, 0), *stranger = job_new(&slab, second, 0, 0, 0), *later = job_new(&slab, message, 1, 0, 1);
  ck_assert(!job_merge(&slab, into, stranger, 100));
  ck_assert(!job_merge(&slab, into, later, 100));
  struct job *other_rules = job_new(&slab, message, 2, 0, 0);
  static const uint64_t entries[2];
  other_rules->entry = (const struct conf_site *)&entries[0];
  ck_assert(!job_merge(&slab, into, other_rules, 100));
  job_free(&slab, other_rules);
  check_job(into, 1);
  job_free(&slab, into);
  job_free(&slab, stranger);
  job_free(&slab, later);
  message_free(&slab, second);
  message->jobs = 0;
}
END_TEST

START_TEST(without_memory_both_stay_as_they_are) {
  fake_slab_requests_left = 0;
  ck_assert_ptr_null(job_new(&slab, message, 0, 0, 0));
  ck_assert_uint_eq(message->jobs, 0);
  fake_slab_requests_left = UINT64_MAX;
  struct job *into = make_job(0, 7), *from = make_job(7, 2);
  fake_slab_requests_left = 0;
  ck_assert(!job_merge(&slab, into, from, 100));
  check_job(into, 7);
  check_job(from, 2);
  job_free(&slab, into);
  job_free(&slab, from);
  message->jobs = 0;
}
END_TEST

START_TEST(the_rest_is_decided_once) {
  struct job *job = make_job(0, 10);
  job->each[3].fate = FATE_FAILED;
  job->each[3].counts = true;
  job_decide_rest(job, FATE_AGAIN, false);
  job_decide_rest(job, FATE_DELIVERED, true);
  for (unsigned i = 0; i < 10; i++) {
    ck_assert_uint_eq(job->each[i].fate, i == 3 ? FATE_FAILED : FATE_AGAIN);
    ck_assert(job->each[i].counts == (i == 3));
  }
  job_free(&slab, job);
  message->jobs = 0;
}
END_TEST

/* Every pattern of old and young in lists of up to eight. */
START_TEST(the_old_leave_a_list_in_order) {
  static struct job jobs[8];
  for (unsigned count = 0; count <= 8; count++) {
    for (unsigned olds = 0; olds < 1u << count; olds++) {
      struct job *first = NULL, *last = NULL;
      for (unsigned i = count; i-- > 0;) {
        jobs[i] = (struct job){.next = first, .give_up_ms = (olds & 1u << i) != 0 ? 1000 - i : 1001 + i};
        first = &jobs[i];
        if (last == NULL) last = first;
      }
      struct job *old = jobs_take_old(&first, &last, 1000), *end = NULL;
      for (unsigned i = 0; i < count; i++) {
        struct job **list = (olds & 1u << i) != 0 ? &old : &first;
        ck_quick(*list == &jobs[i]);
        if (list == &first) end = first;
        *list = (*list)->next;
      }
      ck_quick(old == NULL && first == NULL && last == end);
    }
  }
}
END_TEST

int main(void) {
  TCase *job = tcase_create("job");
  tcase_add_checked_fixture(job, open_message, close_message);
  tcase_add_test(job, a_job_has_the_envelope_of_its_message);
  tcase_add_test(job, jobs_grow_one_by_one_to_the_limit);
  tcase_add_test(job, jobs_of_any_size_merge);
  tcase_add_test(job, other_messages_and_rounds_do_not_mix);
  tcase_add_test(job, without_memory_both_stay_as_they_are);
  tcase_add_test(job, the_rest_is_decided_once);
  tcase_add_test(job, the_old_leave_a_list_in_order);
  return unit_main("net/out/job", (TCase *const[]){job}, 1);
}
