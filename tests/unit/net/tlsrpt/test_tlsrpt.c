/*
 * Shards and the thread, without DNS and HTTPS, with a clock of our own: counts come together, a day ends at midnight, messages go to the queue, and a stop is clean at any
 * time. With real servers: tests/integration/test_tls_reports.py.
 */
#include "net/tlsrpt/tlsrpt.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/base/error.h"
#include "core/conf/system.h"
#include "core/shard/shard.h"
#include "dns/resolver.h"
#include "net/tlsrpt/keep.h"
#include "tests/lib/unit.h"

#define KIND 1
#define SHARDS 3
#define DAY 20000ull
#define NOON (DAY * TLSRPT_DAY_MS + TLSRPT_DAY_MS / 2)

struct side { /* a shard */
  struct shard shard;
  struct resolver *resolver;
  struct tlsrpt_view *view;
  unsigned index;
};

static char path[64];
static struct tlsrpt *tlsrpt;
static struct shard_group *group;
static struct tlsrpt_options options;
static _Atomic uint64_t clock_ms;
static _Atomic unsigned lines, submitted;
static _Atomic bool given_up;
static char line[512];           /* the last one; not to be read while another may come */
static int answer;               /* of the queue */
static bool at_once;             /* it answers from within submit */
static struct tlsrpt_mail *held; /* else */

static uint64_t wall_ms(void) { return atomic_load(&clock_ms); }

static void say(void *context, const char *text) {
  (void)context;
  snprintf(line, sizeof line, "%s", text);
  if (strstr(text, "given up") != NULL) given_up = true;
  atomic_fetch_add(&lines, 1);
}

static void submit(void *context, struct tlsrpt_mail *mail) {
  (void)context;
  must(span_equal(mail->sender, SPAN("tls@example.net")) && span_equal(mail->domain, SPAN("a.example")) && mail->bytes.len > 500);
  must(span_equal(mail->recipient, SPAN("r@a.example")));
  held = mail;
  atomic_fetch_add(&submitted, 1);
  if (at_once) tlsrpt_mail_done(mail, answer);
}

static void setup(void) {
  strcpy(path, "/tmp/ringpost-tlsrpt-XXXXXX");
  int handle = mkstemp(path);
  ck_assert_int_ge(handle, 0);
  close(handle);
  unlink(path);
  options = tlsrpt_defaults;
  options.hostname = "relay.example.net";
  options.organization = "o";
  options.contact = "tls@example.net";
  options.file = path;
  options.collect_ms = 5;
  options.save_ms = 0;
  options.sender = (struct tlsrpt_sender_options){.spread_ms = 0, .retry_ms = 1000, .patience_ms = 10000};
  options.wall_ms = wall_ms;
  options.submit = submit;
  options.say = say;
  lines = submitted = 0;
  given_up = false;
  line[0] = '\0';
  held = NULL;
  answer = E_OK;
  at_once = true;
  clock_ms = NOON;
}

static void teardown(void) { unlink(path); }

static void complete(void *context, const struct io_completion *completion) { resolver_complete(context, completion); }

static void side_open(struct side *side, unsigned index) {
  struct io_options io = {.sockets_max = 8, .receive_buffers = 4, .receive_buffer_size = 2048};
  struct resolver_options dns = {.servers_count = 0};
  const char *why = "";
  *side = (struct side){.index = index};
  ck_assert_int_eq(shard_init(&side->shard, group, index, &io, &why), E_OK);
  ck_assert_int_eq(resolver_open(&side->resolver, side->shard.io, &side->shard.wheel, &dns, KIND), E_OK);
  shard_handle(&side->shard, KIND, complete, side->resolver);
  side->view = tlsrpt_view(tlsrpt, index, &side->shard, side->resolver);
}

static void side_close(struct side *side) {
  resolver_close(side->resolver);
  shard_fini(&side->shard);
}

static void begin(struct side *side) {
  ck_assert_int_eq(tlsrpt_open(&tlsrpt, &options), E_OK);
  ck_assert_int_eq(shard_group_open(&group, options.views), E_OK);
  side_open(side, 0);
}

static void finish(struct side *side) {
  errands_close(&side->shard); /* as at the end of shard_run */
  tlsrpt_stop(tlsrpt);
  side_close(side);
  tlsrpt_free(tlsrpt);
  shard_group_close(group);
}

static void turn(struct side *side) { shard_turn(&side->shard, io_now_ns(side->shard.io) + 2000000); }

/* ---- what the file has ---- */

static struct tlsrpt_day today;
static struct tlsrpt_sender sender;

static void read_file(void) {
  unsigned left_out;
  today = (struct tlsrpt_day){.number = wall_ms() / TLSRPT_DAY_MS};
  tlsrpt_tally_init(&today.tally, &tlsrpt_defaults.day, 1);
  tlsrpt_sender_init(&sender, &options.sender, 1);
  ck_assert_int_eq(tlsrpt_keep_load(path, &today, &sender, wall_ms(), &left_out), E_OK);
  ck_assert_uint_eq(left_out, 0);
}

static void forget(void) {
  tlsrpt_tally_clear(&today.tally);
  tlsrpt_sender_fini(&sender);
}

static uint64_t successes_of(const struct tlsrpt_tally *tally, const char *name) {
  const struct tlsrpt_domain *domain = tlsrpt_tally_find(tally, span_of_text(name));
  return domain == NULL ? 0 : STAILQ_FIRST(&domain->applied)->successes;
}

/* Until the file says so. */
static void turn_until_kept(struct side *side, unsigned domains_today, unsigned dues) {
  for (bool is_so = false; !is_so;) {
    turn(side);
    read_file();
    is_so = today.tally.map.count == domains_today && sender.dues_count == dues;
    forget();
  }
}

/* A report of yesterday about a.example, which one address wants. */
static void write_report(void) {
  struct tlsrpt_tally tally;
  struct tlsrpt_uri uri;
  today = (struct tlsrpt_day){.number = DAY};
  tlsrpt_tally_init(&today.tally, &tlsrpt_defaults.day, 1);
  tlsrpt_tally_init(&tally, &tlsrpt_defaults.day, 1);
  tlsrpt_sender_init(&sender, &options.sender, 1);
  tlsrpt_tally_success(&tally, SPAN("a.example"), NULL, 1);
  ck_assert_int_eq(tlsrpt_sender_add(&sender, DAY - 1, &tally, NOON), E_OK);
  ck_assert(tlsrpt_uri_parse(&uri, SPAN("mailto:r@a.example")));
  ck_assert_int_eq(tlsrpt_due_set_uris(TAILQ_FIRST(&sender.dues), &uri, 1), E_OK);
  ck_assert_int_eq(tlsrpt_keep_save(path, &today, &sender), E_OK);
  forget();
}

/* ---- one shard ---- */

START_TEST(counts_come_back_after_a_restart) {
  struct side side;
  for (unsigned round = 1; round < 4; round++) {
    begin(&side);
    for (unsigned i = 0; i < 10; i++) tlsrpt_success(side.view, SPAN("a.example"), NULL);
    turn(&side);
    finish(&side);
    read_file();
    ck_assert_uint_eq(successes_of(&today.tally, "a.example"), round * 10);
    forget();
  }
  ck_assert_uint_eq(lines, 0);
}
END_TEST

START_TEST(a_day_ends_at_midnight) {
  struct side side;
  options.sender.retry_ms = 1;
  begin(&side);
  tlsrpt_success(side.view, SPAN("a.example"), NULL);
  clock_ms = (DAY + 1) * TLSRPT_DAY_MS - 1;
  for (unsigned i = 0; i < 20; i++) turn(&side);
  ck_assert_uint_eq(lines, 0);
  tlsrpt_success(side.view, SPAN("a.example"), NULL);
  clock_ms = (DAY + 1) * TLSRPT_DAY_MS;
  while (lines == 0) turn(&side);
  tlsrpt_success(side.view, SPAN("b.example"), NULL);
  finish(&side);
  ck_assert_str_eq(line, "TLS report about a.example could not be sent: DNS does not say who wants it; it is tried again");
  read_file();
  ck_assert(today.tally.map.count == 1 && successes_of(&today.tally, "b.example") == 1);
  ck_assert(sender.dues_count == 1 && TAILQ_FIRST(&sender.dues)->day->number == DAY);
  ck_assert_uint_eq(successes_of(&TAILQ_FIRST(&sender.days)->tally, "a.example"), 2);
  forget();
}
END_TEST

START_TEST(a_clock_that_is_put_back_is_believed) {
  struct side side;
  clock_ms = NOON + 1000 * TLSRPT_DAY_MS;
  begin(&side);
  for (unsigned i = 0; i < 10; i++) turn(&side);
  clock_ms = NOON;
  tlsrpt_success(side.view, SPAN("a.example"), NULL);
  turn_until_kept(&side, 1, 0);
  clock_ms = NOON + TLSRPT_DAY_MS;
  while (lines == 0) turn(&side);
  finish(&side);
  read_file();
  ck_assert(sender.dues_count == 1 && TAILQ_FIRST(&sender.dues)->day->number == DAY);
  forget();
}
END_TEST

START_TEST(what_nobody_can_be_told_is_given_up) {
  struct side side;
  begin(&side);
  tlsrpt_success(side.view, SPAN("a.example"), NULL);
  clock_ms = (DAY + 1) * TLSRPT_DAY_MS;
  while (!given_up) {
    turn(&side);
    clock_ms += 20;
  }
  finish(&side);
  ck_assert(lines == 4 || lines == 5); /* after 0, 1, 3, 7 and 15 s, of which 10 count */
  read_file();
  ck_assert_uint_eq(sender.dues_count, 0);
  forget();
}
END_TEST

START_TEST(a_message_is_given_to_the_queue) {
  struct side side;
  at_once = _i == 0;
  write_report();
  begin(&side);
  while (submitted == 0) turn(&side);
  if (!at_once) {
    for (unsigned i = 0; i < 5; i++) turn(&side);
    uint64_t now_ns = io_now_ns(side.shard.io);
    tlsrpt_mail_done(held, E_OK); /* at the end of a turn, and nothing else will wake the shard */
    shard_turn(&side.shard, now_ns + 10000000000);
    ck_assert(io_now_ns(side.shard.io) - now_ns < 5000000000);
  }
  turn_until_kept(&side, 0, 0);
  finish(&side);
  ck_assert(submitted == 1 && lines == 0);
}
END_TEST

START_TEST(what_the_queue_refuses_is_given_again) {
  struct side side;
  answer = E_NO_SPACE;
  write_report();
  begin(&side);
  while (lines == 0) turn(&side);
  ck_assert_str_eq(line, "TLS report about a.example could not be sent: the queue does not take it: no space left on device; it is tried again");
  answer = E_OK;
  clock_ms += 1000;
  turn_until_kept(&side, 0, 0);
  finish(&side);
  ck_assert_uint_eq(submitted, 2);
}
END_TEST

/* The queue answers neither before the end nor after it: the report is still there at the next start. */
START_TEST(a_stop_in_between_loses_nothing) {
  struct side side;
  at_once = false;
  write_report();
  for (unsigned round = 0; round < 8; round++) {
    begin(&side);
    tlsrpt_success(side.view, SPAN("b.example"), NULL);
    for (unsigned i = 0; i < round; i++) turn(&side);
    finish(&side);
  }
  read_file();
  ck_assert(sender.dues_count == 1 && TAILQ_FIRST(&sender.dues)->uris_count == 1 && successes_of(&today.tally, "b.example") == 8);
  forget();
}
END_TEST

START_TEST(a_report_beyond_its_time_is_given_up) {
  struct side side;
  write_report();
  clock_ms += 10001;
  begin(&side);
  while (lines == 0) turn(&side);
  finish(&side);
  ck_assert_str_eq(line, "TLS report about a.example is given up: its time is over");
  ck_assert_uint_eq(submitted, 0);
}
END_TEST

START_TEST(a_damaged_file_is_passed_over) {
  struct side side;
  char want[200];
  ck_assert_int_eq(system_write_file(path, SPAN("{")), E_OK);
  begin(&side);
  finish(&side);
  snprintf(want, sizeof want, "%s is passed over: it is damaged; what was to be reported of TLS is lost", path);
  ck_assert_str_eq(line, want);
}
END_TEST

/* ---- several shards ---- */

#define DOMAINS 50
#define ROUNDS 2000

static void *shard_thread(void *argument) {
  struct side *side = argument;
  struct tlsrpt_failure failure = {.result = TLSRPT_TLSA_INVALID};
  side_open(side, side->index);
  for (unsigned i = 0; i < ROUNDS; i++) {
    char name[32];
    snprintf(name, sizeof name, "d%u.example", i % DOMAINS);
    tlsrpt_success(side->view, span_of_text(name), NULL);
    if (i % 4 == 0) tlsrpt_failure(side->view, span_of_text(name), NULL, &failure);
    if (i % 10 == 0) turn(side);
    if (side->index == 0 && i % 100 == 0) clock_ms += 7;
  }
  errands_close(&side->shard);
  return NULL;
}

START_TEST(the_counts_of_all_shards_come_together) {
  static struct side sides[SHARDS];
  pthread_t threads[SHARDS];
  options.views = SHARDS;
  ck_assert_int_eq(tlsrpt_open(&tlsrpt, &options), E_OK);
  ck_assert_int_eq(shard_group_open(&group, SHARDS), E_OK);
  for (unsigned i = 0; i < SHARDS; i++) {
    sides[i].index = i;
    ck_assert_int_eq(pthread_create(&threads[i], NULL, shard_thread, &sides[i]), 0);
  }
  for (unsigned i = 0; i < SHARDS; i++) pthread_join(threads[i], NULL);
  tlsrpt_stop(tlsrpt);
  for (unsigned i = 0; i < SHARDS; i++) side_close(&sides[i]);
  tlsrpt_free(tlsrpt);
  shard_group_close(group);
  read_file();
  uint64_t successes = 0, failures = 0;
  const struct tlsrpt_domain *domain;
  for (uint32_t cursor = 0; (domain = tlsrpt_tally_next(&today.tally, &cursor)) != NULL;) {
    successes += STAILQ_FIRST(&domain->applied)->successes;
    failures += STAILQ_FIRST(&domain->applied)->failures;
  }
  ck_assert(today.tally.map.count == DOMAINS && successes == SHARDS * ROUNDS && failures == SHARDS * ROUNDS / 4);
  forget();
}
END_TEST

int main(void) {
  TCase *cases[] = {tcase_create("tlsrpt")};
  tcase_add_checked_fixture(cases[0], setup, teardown);
  tcase_add_test(cases[0], counts_come_back_after_a_restart);
  tcase_add_test(cases[0], a_day_ends_at_midnight);
  tcase_add_test(cases[0], a_clock_that_is_put_back_is_believed);
  tcase_add_test(cases[0], what_nobody_can_be_told_is_given_up);
  tcase_add_loop_test(cases[0], a_message_is_given_to_the_queue, 0, 2);
  tcase_add_test(cases[0], what_the_queue_refuses_is_given_again);
  tcase_add_test(cases[0], a_stop_in_between_loses_nothing);
  tcase_add_test(cases[0], a_report_beyond_its_time_is_given_up);
  tcase_add_test(cases[0], a_damaged_file_is_passed_over);
  tcase_add_test(cases[0], the_counts_of_all_shards_come_together);
  return unit_main("net/tlsrpt", cases, 1);
}
