#include "net/out/deliver.h"

#include "tests/unit/queue/fake_slab.c"
#include "tests/unit/queue/fake_spool.c"

#include "core/base/error.h"
#include "net/out/operate.h"
#include "net/out/outlet.h"
#include "tests/lib/unit.h"

#define WALL_MS 1764000000000
#define MAX_AGE_MS 3600000
#define MEMORY_BYTES ((uint64_t)4 << 20)
#define RECIPIENTS 4

static struct slab slab;
static struct spool spool;
static struct shard shard;
static struct counters counters;
static struct schedule schedule;
static struct conf conf;
static struct outlet *outlet;

/* ---- what deliver.c calls, here: jobs come as far as their dispatch, events as far as their writer ---- */

static struct job *dispatched;
static unsigned dispatched_count;
static struct event last_event;
static char last_content[256]; /* of it; what it points to is gone by now */
static unsigned events;

static const struct conf_site *entry; /* of every domain; NULL: none */

void domain_dispatch(struct outlet *to, struct job *job) {
  outlet_set_entry(to, job, entry);
  job->next = dispatched;
  dispatched = job;
  dispatched_count++;
}

void event_write(struct event_writer *writer, const struct event *event) {
  (void)writer;
  last_event = *event;
  ck_quick(event->content.len < sizeof last_content);
  memcpy(last_content, event->content.at, event->content.len);
  last_content[event->content.len] = 0;
  events++;
}

uint64_t event_writer_gathered(const struct event_writer *writer) {
  (void)writer;
  return 0;
}

uint64_t event_writer_settled(const struct event_writer *writer) {
  (void)writer;
  return 0;
}

const struct conf_site *domain_entry(const struct outlet *of, const struct message *message, unsigned recipient) {
  (void)of;
  (void)message;
  (void)recipient;
  return entry;
}

uint32_t io_sockets_max(const struct io *io) {
  (void)io;
  return 1;
}

void shard_post(struct shard *from, unsigned to, struct letter letter) {
  (void)from;
  (void)to;
  (void)letter;
  must(false); /* all is at home */
}

bool operate_is_busy(const struct outlet *of) {
  (void)of;
  return false;
}

bool domains_sweep(struct outlet *of) {
  (void)of;
  return false;
}
bool sites_sweep(struct outlet *of) {
  (void)of;
  return false;
}
void domains_open(struct outlet *of) { (void)of; }
void domains_close(struct outlet *of) { (void)of; }
void domains_take_conf(struct outlet *of, bool other_limits, bool other_routes) {
  (void)other_routes;
  (void)of;
  (void)other_limits;
}
void site_take_conf(struct site *site, bool other_limits) {
  (void)site;
  (void)other_limits;
}
void site_send_round(struct site *site) { (void)site; }
void connections_retire_lax(struct site *site) { (void)site; }
void connections_retire_unproven(struct site *site) { (void)site; }
void sites_close(struct outlet *of) { (void)of; }
void site_pump(struct site *site) { (void)site; }
void site_letter(struct outlet *of, unsigned from, const struct letter *letter) {
  (void)of;
  (void)from;
  (void)letter;
}
int connections_open(struct outlet *of, uint32_t max) {
  (void)of;
  (void)max;
  return E_OK;
}
void connections_close(struct outlet *of) { (void)of; }
void connections_flush(struct outlet *of) { (void)of; }
void connections_stop(struct outlet *of) { (void)of; }
void connection_complete(struct outlet *of, const struct io_completion *completion) {
  (void)of;
  (void)completion;
}
void connection_loaded(struct outlet *of, struct job *job, int error) {
  (void)of;
  (void)job;
  (void)error;
}

/* ---- the world ---- */

static void due(void *context, struct message *message, unsigned recipient) { outlet_due(*(struct outlet **)context, message, recipient); }

static uint64_t new_id(void *ids) {
  (void)ids;
  static uint64_t id = 100;
  return ++id;
}

static void open_world(void) {
  slab_init(&slab, MEMORY_BYTES);
  shard.now_ms = 500;
  shard.wall_ms = WALL_MS;
  wheel_init(&shard.wheel, shard.now_ms);
  schedule_init(&schedule, &shard, &slab, &spool, &counters, due, &outlet);
  static char hostname[] = "relay.example.org";
  conf = (struct conf){.hostname = hostname,
                       .retry_initial_ms = 300000,
                       .retry_factor = 2,
                       .retry_max_ms = 3600000,
                       .retry_jitter_ppm = 100000,
                       .max_age_ms = MAX_AGE_MS,
                       .shards = 1};
  struct outlet_options options = {.shard = &shard, .conf = &conf, .slab = &slab, .schedule = &schedule, .counters = &counters, .new_id = new_id};
  ck_assert_int_eq(outlet_open(&outlet, &options), E_OK);
  dispatched = NULL;
  dispatched_count = events = 0;
  entry = NULL;
}

static void close_world(void) {
  for (struct job *job; (job = dispatched) != NULL;) {
    dispatched = job->next;
    job_free(&slab, job);
  }
  outlet_close(outlet);
  schedule_fini(&schedule);
  fake_spool_free(&spool);
  slab_fini(&slab);
}

static struct span envelope_of(unsigned recipients) {
  static uint8_t room[4096];
  struct fmt out = fmt_over(room, sizeof room);
  struct record_envelope envelope = {.created_ms = WALL_MS, .sender = SPAN("s@example.org"), .recipients = recipients};
  record_envelope_encode(&envelope, &out);
  for (unsigned i = 0; i < recipients; i++) {
    struct record_recipient recipient = {.address = SPAN("r@example.net"), .index = (uint16_t)i};
    record_recipient_encode(&recipient, &out);
  }
  return fmt_span(&out);
}

static struct message *message_with(unsigned recipients) {
  struct message *message = message_new(&slab, 1, envelope_of(recipients));
  ck_assert_ptr_nonnull(message);
  message->created_ms = WALL_MS;
  return message;
}

static struct job *take_dispatched(void) {
  struct job *job = dispatched;
  ck_assert_ptr_nonnull(job);
  dispatched = job->next;
  job->next = NULL;
  return job;
}

static void check_waits(const struct message *message, unsigned i, uint64_t from_ms, uint64_t to_ms, unsigned attempts) {
  ck_assert_int_eq(message->recipient[i].state, RECIPIENT_WAITING);
  ck_assert_uint_ge(message->recipient[i].due_ms, from_ms);
  ck_assert_uint_le(message->recipient[i].due_ms, to_ms);
  ck_assert_uint_eq(message->recipient[i].attempts, attempts);
}

static const struct failure no_memory = {.kind = FAILURE_INTERNAL, .stage = SMTP_STAGE_MAIL, .error = E_NO_MEMORY};
static const struct failure no_file = {.kind = FAILURE_INTERNAL, .stage = SMTP_STAGE_MAIL, .error = E_IO};

/* ---- tests ---- */

START_TEST(our_shortage_is_no_attempt) {
  struct message *message = message_with(1);
  schedule_add(&schedule, message);
  for (unsigned i = 0; i < 3; i++) {
    struct job *job = take_dispatched();
    outlet_decide_rest(outlet, job, &no_memory, NULL, NULL);
    outlet_job_end(outlet, job);
    check_waits(message, 0, shard.wall_ms + 5000, shard.wall_ms + 10000, 0);
    ck_assert_uint_eq(events, 0);
    shard.now_ms += 10000;
    shard.wall_ms += 10000;
    wheel_advance(&shard.wheel, shard.now_ms, NULL, 100);
  }
  /* What is not for lack of something still is one, and reported. */
  struct job *job = take_dispatched();
  outlet_decide_rest(outlet, job, &no_file, NULL, NULL);
  outlet_job_end(outlet, job);
  check_waits(message, 0, shard.wall_ms + 270000, shard.wall_ms + 330000, 1);
  ck_assert_uint_eq(events, 1);
  ck_assert_int_eq(last_event.type, EVENT_TRANSIENT_FAILURE);
}
END_TEST

START_TEST(what_is_postponed_expires_all_the_same) {
  schedule_add(&schedule, message_with(1));
  for (unsigned i = 0; events == 0; i++) {
    ck_assert_uint_lt(i, 1000);
    struct job *job = take_dispatched();
    outlet_decide_rest(outlet, job, &no_memory, NULL, NULL);
    outlet_job_end(outlet, job);
    shard.now_ms += 10000;
    shard.wall_ms += 10000;
    wheel_advance(&shard.wheel, shard.now_ms, NULL, 100);
  }
  ck_assert_int_eq(last_event.type, EVENT_EXPIRATION);
  ck_assert_uint_ge(shard.wall_ms, WALL_MS + MAX_AGE_MS);
  ck_assert_uint_le(shard.wall_ms, WALL_MS + MAX_AGE_MS + 120000);
  ck_assert_uint_eq(schedule.messages, 0);
}
END_TEST

static void let_pass(uint64_t ms) {
  shard.now_ms += ms;
  shard.wall_ms += ms;
  wheel_advance(&shard.wheel, shard.now_ms, NULL, 100);
}

static const struct conf_site slow = {
    .retry_initial_ms = 1800000, .retry_factor = 1, .retry_max_ms = 1800000, .retry_jitter_ppm = 0, .max_age_ms = 24 * (uint64_t)3600000};
static const struct conf_site hasty = {.retry_initial_ms = 1000, .retry_factor = 3, .retry_max_ms = 600000, .max_age_ms = 60000};

/* Entries differ by a lot from the general schedule, which would have the second try after 5 minutes and the end after an hour. */
START_TEST(retries_are_as_the_entry_says) {
  struct message *message = message_with(1);
  entry = &slow;
  schedule_add(&schedule, message);
  for (unsigned attempts = 1; attempts <= 47; attempts++) {
    struct job *job = take_dispatched();
    ck_assert_uint_eq(job->give_up_ms, WALL_MS + slow.max_age_ms);
    outlet_decide_rest(outlet, job, &no_file, NULL, NULL);
    outlet_job_end(outlet, job);
    check_waits(message, 0, shard.wall_ms + 1800000, shard.wall_ms + 1800000, attempts);
    let_pass(1800000);
  }
  ck_assert_uint_eq(events, 47);
}
END_TEST

START_TEST(age_is_as_the_entry_says) {
  struct message *message = message_with(1);
  entry = &hasty;
  schedule_add(&schedule, message);
  static const uint64_t delays[] = {1000, 3000, 9000, 27000, 20000}; /* the last one: to the limit */
  for (unsigned i = 0; i < 5; i++) {
    struct job *job = take_dispatched();
    outlet_decide_rest(outlet, job, &no_file, NULL, NULL);
    outlet_job_end(outlet, job);
    check_waits(message, 0, shard.wall_ms + delays[i], shard.wall_ms + delays[i], i + 1);
    let_pass(delays[i]);
  }
  struct job *last = take_dispatched();
  ck_assert_uint_eq(last->give_up_ms, WALL_MS + 60000 + 60000); /* a minute to begin the last try */
  outlet_job_end(outlet, last);
  ck_assert_int_eq(last_event.type, EVENT_EXPIRATION);
  ck_assert_uint_eq(schedule.messages, 0);
}
END_TEST

/* The job keeps what was said when it was given out; without a job the domain is asked. */
START_TEST(what_is_postponed_has_the_age_of_its_entry) {
  schedule_add(&schedule, message_with(1));
  struct job *job = take_dispatched();
  outlet_set_entry(outlet, job, &hasty);
  let_pass(hasty.max_age_ms + 59999);
  job_decide_rest(job, FATE_POSTPONED, false);
  outlet_job_end(outlet, job);
  ck_assert_uint_eq(events, 0);
  let_pass(10000);
  job = take_dispatched();
  outlet_set_entry(outlet, job, &hasty);
  job_decide_rest(job, FATE_POSTPONED, false);
  outlet_job_end(outlet, job);
  ck_assert_int_eq(last_event.type, EVENT_EXPIRATION);
  ck_assert_uint_eq(schedule.messages, 0);
}
END_TEST

START_TEST(what_came_by_letter_keeps_what_its_owner_said) {
  schedule_add(&schedule, message_with(1));
  struct job *job = take_dispatched();
  outlet_set_entry(outlet, job, &hasty);
  job->handed_over = true;
  outlet_set_entry(outlet, job, &slow);
  ck_assert_ptr_eq(job->entry, &hasty);
  ck_assert_uint_eq(job->give_up_ms, WALL_MS + hasty.max_age_ms);
  outlet_job_end(outlet, job);
}
END_TEST

/* Fills the slab but for so many bytes. */
static void *filled[MEMORY_BYTES / 65536 + 256];
static size_t filled_size[MEMORY_BYTES / 65536 + 256];
static unsigned filled_count;

static void fill(uint64_t left) {
  while (slab.limit_bytes - slab.used_bytes > left) {
    uint64_t size = slab.limit_bytes - slab.used_bytes - left;
    filled_size[filled_count] = size >= 65536 ? 65536 : size >= 4096 ? 4096 : 64;
    filled[filled_count] = slab_get(&slab, filled_size[filled_count]);
    ck_assert_ptr_nonnull(filled[filled_count++]);
    ck_assert_uint_lt(filled_count, sizeof filled / sizeof filled[0]);
  }
}

static void empty(void) {
  while (filled_count > 0) {
    filled_count--;
    slab_put(&slab, filled[filled_count], filled_size[filled_count]);
  }
}

START_TEST(jobs_leave_memory_for_content) {
  struct message *message = message_with(RECIPIENTS);
  fill(MEMORY_BYTES / 16 + 4096);
  schedule_add(&schedule, message);
  ck_assert_uint_eq(dispatched_count, RECIPIENTS); /* there is room just for them */
  struct message *late = message_with(1);
  fill(MEMORY_BYTES / 16 - 64);
  schedule_add(&schedule, late);
  ck_assert_uint_eq(dispatched_count, RECIPIENTS);
  check_waits(late, 0, WALL_MS + 5000, WALL_MS + 10000, 0);
  struct job *round = take_dispatched(); /* nor does one that goes round again get any */
  unsigned i = round->each[0].index;
  job_decide_rest(round, FATE_AGAIN, false);
  fill(MEMORY_BYTES / 16 - slab_size(sizeof *round) - 64);
  outlet_job_end(outlet, round);
  ck_assert_uint_eq(dispatched_count, RECIPIENTS);
  check_waits(message, i, WALL_MS + 5000, WALL_MS + 10000, 0);
  empty();
  shard.now_ms += 10000;
  shard.wall_ms += 10000;
  wheel_advance(&shard.wheel, shard.now_ms, NULL, 100);
  ck_assert_uint_eq(dispatched_count, RECIPIENTS + 2);
}
END_TEST

START_TEST(age_counts_without_memory_for_a_job_too) {
  entry = &hasty;
  fill(0);
  empty();
  struct message *message = message_with(1);
  fill(64);
  schedule_add(&schedule, message);
  for (unsigned i = 0; events == 0; i++) {
    ck_assert_uint_lt(i, 100);
    check_waits(message, 0, shard.wall_ms + 5000, shard.wall_ms + 10000, 0);
    let_pass(10000);
  }
  ck_assert_uint_eq(dispatched_count, 0);
  ck_assert_int_eq(last_event.type, EVENT_EXPIRATION);
  ck_assert_uint_ge(shard.wall_ms, WALL_MS + hasty.max_age_ms + 60000);
  ck_assert_uint_le(shard.wall_ms, WALL_MS + hasty.max_age_ms + 70000);
  ck_assert_uint_eq(schedule.messages, 0);
  empty();
}
END_TEST

/* Word of it may come from another shard when here the suspension is over, or not known yet: then nobody would come for what is kept. */
START_TEST(what_comes_home_suspended_is_kept_only_while_it_is) {
  struct message *message = message_with(2);
  schedule_add(&schedule, message);
  ck_assert_uint_eq(dispatched_count, 2);
  struct job *job = take_dispatched();
  unsigned i = job->each[0].index;
  job_decide_rest(job, FATE_HELD, false);
  outlet_job_end(outlet, job);
  check_waits(message, i, WALL_MS + 1, WALL_MS + 1000, 0);
  ck_assert(!message->recipient[i].held && schedule.held == 0);
  domain_queue_hold(&schedule.domains, message->recipient[0].domain, true);
  job = take_dispatched();
  i = job->each[0].index;
  job_decide_rest(job, FATE_HELD, false);
  outlet_job_end(outlet, job);
  check_waits(message, i, WALL_MS + MAX_AGE_MS, WALL_MS + MAX_AGE_MS, 0);
  ck_assert(message->recipient[i].held && schedule.held == 1);
  shard.wall_ms += MAX_AGE_MS;
  job = job_new(&slab, message, i, 0, 0); /* as it is given out at that time */
  schedule_take(&schedule, message, i);
  job_decide_rest(job, FATE_HELD, false);
  outlet_job_end(outlet, job);
  ck_assert_int_eq(message->recipient[i].state, RECIPIENT_DONE);
  ck_assert_uint_eq(events, 1);
  ck_assert_uint_eq(schedule.held, 0);
}
END_TEST

/* ---- reports that find no room ---- */

static struct message *message_to_report(void) {
  struct message *message = message_with(1);
  struct content *content = content_new(&slab, 0);
  ck_assert_ptr_nonnull(content);
  static const uint8_t header[RECORD_HEADER_SIZE];
  ck_assert(content_append(&slab, content, span_of(header, sizeof header)) && content_append(&slab, content, envelope_of(1)));
  content_end_head(content);
  ck_assert(content_append(&slab, content, SPAN("Subject: x\r\n\r\nhello\r\n")));
  message_end_record(content, RECORD_MESSAGE, 1, 0, spool_padding(&spool));
  message_set_content(message, content);
  conf.dsn_send = true;
  conf.dsn_rate = 10;
  return message;
}

static void fail_first(void) {
  struct job *job = take_dispatched();
  outlet_decide_rest(outlet, job, &(struct failure){.kind = FAILURE_DNS, .mx = MX_NO_DOMAIN, .text = "no such domain"}, NULL, NULL);
  outlet_job_end(outlet, job);
  spool_turn(&spool, shard.now_ms);
}

START_TEST(what_failed_is_not_tried_again_because_its_report_found_no_room) {
  spool.fail_append = E_FULL;
  struct message *message = message_to_report();
  schedule_add(&schedule, message);
  fail_first();
  ck_assert_uint_eq(events, 1);
  ck_assert_int_ne(message->recipient[0].state, RECIPIENT_DONE);
  ck_assert_uint_eq(message->recipient[0].notify & RECORD_OWED_BIT, 0);
  outlet_stop(outlet);
  ck_assert_int_ne(message->recipient[0].state, RECIPIENT_DONE);
  ck_assert_uint_eq(message->recipient[0].notify & RECORD_OWED_BIT, RECORD_OWED_BIT);
  ck_assert_uint_eq(message->jobs, 0);
  spool.fail_append = E_OK;
  spool_turn(&spool, shard.now_ms); /* the message itself is stored now */
  spool_turn(&spool, shard.now_ms);
  ck_assert_uint_eq(fake_spool_live(&spool), 1);
  ck_assert_int_eq(fake_spool_outcome(&spool, 1, 0).kind, RECORD_OWED);
}
END_TEST

/* `end`: what would end it otherwise. The one event there is was written before the start. */
static void check_only_reported(void (*end)(struct message *message)) {
  struct message *message = message_to_report();
  message->recipient[0].notify |= RECORD_OWED_BIT;
  end(message);
  ck_assert_uint_eq(schedule.messages, 1); /* until the report is durable */
  spool_turn(&spool, shard.now_ms);
  ck_assert_uint_eq(count_get(&counters, COUNT_DSN_SENT), 1);
  ck_assert_uint_eq(count_get(&counters, COUNT_EXPIRED) + count_get(&counters, COUNT_ADMIN_BOUNCED), 0);
  ck_assert_uint_eq(events, 1);
  ck_assert_int_eq(last_event.type, EVENT_RECEPTION); /* of the report */
  ck_assert_uint_eq(schedule.messages, 1);
  ck_assert_uint_eq(dispatched_count, 1);
  ck_assert(span_equal(message_address(dispatched->message, 0), SPAN("s@example.org")));
}

static void when_due(struct message *message) { schedule_add(&schedule, message); }
static void by_an_operator(struct message *message) {
  message->recipient[0].due_ms = WALL_MS + 1000;
  schedule_add(&schedule, message);
  ck_assert_uint_eq(dispatched_count, 0);
  schedule_take(&schedule, message, 0);
  outlet_admin_bounce(outlet, message, 0, SPAN("enough"), false);
}

START_TEST(what_had_failed_before_the_start_is_only_reported) { check_only_reported(when_due); }
END_TEST
START_TEST(what_had_failed_before_the_start_is_not_bounced_again) { check_only_reported(by_an_operator); }
END_TEST

/* Nobody knows whose it was: what can be said of it is where it lay. */
START_TEST(a_lost_record_is_one_event_that_names_it) {
  struct unloaded_message lost = {.id = 0x1234, .created_ms = WALL_MS - MAX_AGE_MS, .place = {.segment = 4294967295, .offset = 4096, .length = 8192}};
  outlet_lost(outlet, &lost, E_CORRUPT);
  ck_assert_uint_eq(events, 1);
  ck_assert_int_eq(last_event.type, EVENT_EXPIRATION);
  ck_assert(last_event.id == 0x1234 && last_event.created_ms == lost.created_ms && last_event.timestamp_ms == WALL_MS);
  ck_assert(last_event.code == 551 && last_event.recipient.len == 0 && last_event.queue.len == 0);
  ck_assert_str_eq(last_event.verdict, "soft");
  ck_assert_str_eq(last_event.rule, "unreadable");
  ck_assert_ptr_nonnull(strstr(last_content, "segment 4294967295 at 4096 cannot be read: "));
  ck_assert_ptr_nonnull(strstr(last_content, error_text(E_CORRUPT)));
  ck_assert_uint_eq(count_get(&counters, COUNT_EXPIRED), 1);
}
END_TEST

int main(void) {
  TCase *all = tcase_create("all");
  tcase_add_checked_fixture(all, open_world, close_world);
  tcase_add_test(all, what_comes_home_suspended_is_kept_only_while_it_is);
  tcase_add_test(all, a_lost_record_is_one_event_that_names_it);
  tcase_add_test(all, what_failed_is_not_tried_again_because_its_report_found_no_room);
  tcase_add_test(all, what_had_failed_before_the_start_is_only_reported);
  tcase_add_test(all, what_had_failed_before_the_start_is_not_bounced_again);
  tcase_add_test(all, our_shortage_is_no_attempt);
  tcase_add_test(all, what_is_postponed_expires_all_the_same);
  tcase_add_test(all, retries_are_as_the_entry_says);
  tcase_add_test(all, age_is_as_the_entry_says);
  tcase_add_test(all, what_is_postponed_has_the_age_of_its_entry);
  tcase_add_test(all, what_came_by_letter_keeps_what_its_owner_said);
  tcase_add_test(all, jobs_leave_memory_for_content);
  tcase_add_test(all, age_counts_without_memory_for_a_job_too);
  return unit_main_forked("net/out/deliver", &all, 1);
}
