/* What an operator sees and does on one shard. */
#include "tests/unit/net/out/fake_outlet.c"

/* ---- suspend ---- */

static void hold_all(bool held) {
  operate_hold_all(&outlet, held);
  recall_all();
}

START_TEST(a_domain_calls_back_what_is_its_own_wherever_it_is) {
  const struct job *one = enqueue(site, "one.example", 0);
  const struct job *two = enqueue(site, "two.example", 0);
  const struct job *mixed = enqueue(site, "two.example ONE.example two.example one.example", 0);
  const struct job *foreign = enqueue(site, "One.Example", 1);
  const struct job *foreign_mixed = enqueue(site, "two.example one.example", 1);
  const struct job *elsewhere = enqueue(other, "one.example", 0); /* its answer has changed meanwhile */
  const struct job *late = enqueue(site, "two.example", 1);
  hold_domain("One.EXAMPLE", true);
  ck_assert_uint_eq(ended_count, 5);
  expect_fates(one, "H");
  expect_fates(mixed, "AHAH");
  expect_fates(foreign, "H");
  expect_fates(foreign_mixed, "AH");
  expect_fates(elsewhere, "H");
  expect_ready(site, 2);
  ck_assert(site->first == two && site->last == late); /* in their order */
  expect_ready(other, 0);
  hold_domain("one.example", true);
  ck_assert_uint_eq(ended_count, 5);
}
END_TEST

START_TEST(a_site_calls_back_all_of_it) {
  enqueue(site, "one.example two.example", 0);
  enqueue(site, "one.example", 1);
  enqueue(other, "one.example", 0);
  hold_site("MX.example.NET", true);
  ck_assert_uint_eq(ended_count, 2);
  expect_fates(ended[0], "HH");
  expect_fates(ended[1], "H");
  expect_ready(site, 0);
  expect_ready(other, 1);
}
END_TEST

START_TEST(all_calls_back_all) {
  enqueue(site, "one.example", 0);
  enqueue(other, "one.example", 1);
  hold_all(true);
  ck_assert_uint_eq(ended_count, 2);
  expect_ready(site, 0);
  expect_ready(other, 0);
  hold_all(false);
  enqueue(site, "one.example", 0);
  expect_ready(site, 1);
}
END_TEST

START_TEST(what_comes_while_it_is_suspended_is_not_begun) {
  struct job *job = make_job("two.example one.example", 1), *free_one = make_job("two.example", 1), *whole = make_job("three.example two.example", 0);
  ck_assert(!outlet_hold(&outlet, job, site));
  ck_assert_int_eq(job->each[0].fate, FATE_INVALID);
  hold_domain("one.example", true);
  ck_assert(!outlet_hold(&outlet, free_one, site));
  ck_assert(outlet_hold(&outlet, job, NULL));
  expect_fates(job, "AH");
  hold_domain("one.example", false);
  hold_site(NAME, true);
  ck_assert(!outlet_hold(&outlet, free_one, other));
  ck_assert(!outlet_hold(&outlet, free_one, NULL));
  ck_assert(outlet_hold(&outlet, whole, site));
  expect_fates(whole, "HH");
  free_job(free_one);
}
END_TEST

START_TEST(it_is_known_what_is_suspended) {
  struct domain domain = {.status = MX_OK, .valid_until_ms = 99999, .site = site};
  struct domain_queue *queue = domain_queue_get(&schedule.domains, SPAN("one.example"));
  ck_assert(!operate_is_held(&outlet, queue));
  hold_domain("one.example", true);
  ck_assert(operate_is_held(&outlet, queue));
  hold_domain("one.example", false);
  hold_site(NAME, true);
  ck_assert(!operate_is_held(&outlet, queue));
  queue->outgoing = &domain;
  ck_assert(operate_is_held(&outlet, queue));
  ck_assert_str_eq(operate_site_of(queue), NAME);
  domain.valid_until_ms = 0; /* it has to be looked up again: it may go elsewhere */
  ck_assert(!operate_is_held(&outlet, queue));
  queue->outgoing = NULL;
  queue->site = strdup(NAME);
  ck_assert(operate_is_held(&outlet, queue));
  ck_assert_str_eq(operate_site_of(queue), NAME);
  hold_site(NAME, false);
  ck_assert(!operate_is_held(&outlet, queue));
  hold_all(true);
  ck_assert(operate_is_held(&outlet, queue));
}
END_TEST

START_TEST(names_nobody_knows) {
  char name[300];
  memset(name, 'd', sizeof name);
  hold_domain("new.example", true);
  ck_assert(domain_queue_find(&schedule.domains, SPAN("new.example"))->held);
  hold_domain("none.example", false);
  ck_assert_ptr_null(domain_queue_find(&schedule.domains, SPAN("none.example")));
  ck_assert_int_eq(operate_hold_domain(&outlet, span_of(name, 256), true), E_NO_MEMORY);
  ck_assert(!schedule.domains.nowhere->held);
  ck_assert_int_eq(operate_hold_site(&outlet, span_of(name, MX_SITE_NAME_MAX + 1), true), E_TOO_LONG);
  ck_assert_int_eq(operate_hold_site(&outlet, span_of(name, MX_SITE_NAME_MAX), true), E_OK);
  ck_assert_int_eq(operate_hold_site(&outlet, span_of(name, MX_SITE_NAME_MAX), false), E_OK);
  hold_site("new.example", true);
  ck_assert(operate_find_site(&outlet, SPAN("NEW.example"))->held);
  hold_site("none.example", false);
  ck_assert_ptr_null(operate_find_site(&outlet, SPAN("none.example")));
}
END_TEST

/* ---- retry, bounce ---- */

START_TEST(a_retry_forgets_what_failed) {
  struct domain domain = {.status = MX_TEMPORARY, .valid_until_ms = 99999, .site = site};
  struct domain_queue *queue = domain_queue_get(&schedule.domains, SPAN("one.example"));
  operate_forget_failures(&outlet, queue); /* nothing is known: nothing happens */
  for (unsigned i = 0; i < 2; i++) {
    site->home = i;
    site_block(site);
    backoff_failed(&site->targets[0].backoff, &outlet.backoff, shard.now_ms);
    ck_assert(backoff_blocks(&site->backoff, shard.now_ms) && backoff_blocks(&site->targets[0].backoff, shard.now_ms));
    queue->outgoing = i == 0 ? &domain : NULL;
    if (i == 1) queue->site = strdup(NAME);
    operate_forget_failures(&outlet, queue);
    ck_assert(!backoff_blocks(&site->backoff, shard.now_ms) && !backoff_blocks(&site->targets[0].backoff, shard.now_ms));
    ck_assert_uint_eq(notes_to_home, i); /* its home is told */
  }
  ck_assert_uint_eq(domain.valid_until_ms, 0);
}
END_TEST

START_TEST(a_bounce_is_of_one_that_waits) {
  struct message *message = make_message("one.example two.example", 0);
  schedule_job_began(message);
  for (unsigned i = 0; i < 2; i++) {
    message->recipient[i].domain->given++;
    schedule.ready++;
    schedule_hold(&schedule, message, i, shard.wall_ms + 1000);
  }
  message->recipient[0].attempts = 1;
  operate_bounce(&outlet, message, 1, SPAN("gone"), true);
  ck_assert(bounced.count == 1 && bounced.recipient == 1 && bounced.quiet);
  ck_assert(schedule.held == 1 && schedule.waiting == 2 && schedule.ready == 0);
  ck_assert_uint_eq(message->jobs, 1);
  for (unsigned i = 0; i < 2; i++) domain_queue_remove(message->recipient[i].domain, message, i);
  timer_cancel(&shard.wheel, &message->timer);
  message_free(&slab, message);
}
END_TEST

/* ---- what there is ---- */

START_TEST(sites_are_there_for_who_walks) {
  hold_site("gone.example", true);
  hold_site("gone.example", false);
  const struct site *first = operate_next_site(&outlet, NULL), *second = operate_next_site(&outlet, first),
                    *third = operate_next_site(&outlet, second);
  ck_assert(first == site && second == other && strcmp(third->name, "gone.example") == 0 && operate_next_site(&outlet, third) == NULL);
  operate_walk(&outlet, 1);
  operate_walk(&outlet, 1);
  sites_sweep(&outlet);
  operate_walk(&outlet, -1);
  sites_sweep(&outlet);
  ck_assert_ptr_eq(operate_find_site(&outlet, SPAN("gone.example")), third);
  operate_walk(&outlet, -1);
  sites_sweep(&outlet);
  ck_assert_ptr_null(operate_find_site(&outlet, SPAN("gone.example")));
  ck_assert_ptr_null(operate_next_site(&outlet, other));
}
END_TEST

START_TEST(how_a_site_stands) {
  struct site_view view;
  struct target_view target;
  operate_view_site(site, &view);
  ck_assert(view.ready == 0 && view.oldest_ms == UINT64_MAX && view.limit == 10 && view.blocked_ms == 0 && view.home && !view.held &&
            view.error == NULL);
  enqueue(site, "one.example", 0)->message->created_ms = 77;
  enqueue(site, "one.example", 1);
  struct connection connection = {.outlet = &outlet, .site = site};
  connection.transaction[0].job = connection.transaction[1].job = site->first;
  site->connections = &connection;
  site->open = 1;
  site_block(site);
  backoff_failed(&site->targets[0].backoff, &outlet.backoff, shard.now_ms);
  shard.now_ms += 1000;
  operate_view_site(site, &view);
  ck_assert(view.ready == 2 && view.oldest_ms == 77 && view.in_flight == 2 && view.connections == 1 && view.failures == 1 &&
            view.blocked_ms == 29000);
  ck_assert(operate_view_target(site, 0, &target));
  ck_assert_str_eq(target.host, "mx1.example.net");
  ck_assert(target.preference == 10 && target.failures == 1 && target.blocked_ms == 29000);
  ck_assert(!operate_view_target(site, 1, &target));
  site->connections = NULL;
  site->open = 0;
}
END_TEST

static unsigned seen, seen_recipients;
static void see(void *context, const struct message *message, unsigned recipient) {
  ck_assert_ptr_eq(context, &seen);
  seen |= 1u << message->id;
  seen_recipients += recipient + 1;
}

START_TEST(what_is_ready_for_a_domain) {
  struct domain domain = {.status = MX_OK, .site = site};
  struct domain_queue *queue = domain_queue_get(&schedule.domains, SPAN("one.example"));
  seen = seen_recipients = 0;
  ck_assert_uint_eq(operate_oldest_ready_ms(queue), UINT64_MAX);
  operate_ready(queue, 10, see, &seen);
  queue->outgoing = &domain;
  enqueue(site, "one.example", 0);
  enqueue(site, "two.example", 0);
  enqueue(site, "two.example ONE.EXAMPLE", 1);
  enqueue(site, "one.example", 1);
  operate_ready(queue, 3, see, &seen);
  ck_assert(seen == (1u << 1 | 1u << 3) && seen_recipients == 1 + 2);
  ck_assert_uint_eq(operate_oldest_ready_ms(queue), shard.wall_ms);
  queue->outgoing = NULL;
}
END_TEST

/* ---- why ---- */

static char why_text[512];
static const char *why(uint64_t id, unsigned recipient, const struct domain_queue *queue, const char *site_name) {
  struct fmt out = fmt_over(why_text, sizeof why_text - 1);
  bool is_here = operate_explain(&outlet, id, recipient, queue, span_of_text(site_name), &out);
  ck_assert(is_here == (out.len > 0));
  why_text[out.len] = '\0';
  return why_text;
}

#define WAITS "waits for a connection to " NAME " behind 1 others: "

START_TEST(why_it_waits_for_a_connection) {
  enqueue(site, "one.example", 0);
  uint64_t id = enqueue(site, "one.example two.example", 1)->message->id;
  ck_assert_str_eq(why(id, 1, NULL, NAME), WAITS "its turn comes at once");
  ck_assert_str_eq(why(id, 0, NULL, "MX.example.net"), WAITS "its turn comes at once");
  ck_assert_str_eq(why(id, 2, NULL, NAME), "");
  ck_assert_str_eq(why(id + 1, 0, NULL, NAME), "");
  ck_assert_str_eq(why(id, 1, NULL, "mx.example.org"), "");
  ck_assert_str_eq(why(id, 1, NULL, "nowhere"), "");
  ck_assert_str_eq(why(id, 1, NULL, ""), "");
  struct domain domain = {.status = MX_OK, .site = site};
  struct domain_queue *queue = domain_queue_get(&schedule.domains, SPAN("one.example"));
  queue->outgoing = &domain;
  ck_assert_str_eq(why(id, 1, queue, ""), WAITS "its turn comes at once");
  queue->outgoing = NULL;
  site->opening = 2;
  ck_assert_str_eq(why(id, 1, NULL, NAME), WAITS "2 are being opened");
  site->opening = 0;
  site->open = 10;
  ck_assert_str_eq(why(id, 1, NULL, NAME), WAITS "all 10 are in use");
  site->open = 4;
  site->enough_until_ms = shard.now_ms + 1;
  ck_assert_str_eq(why(id, 1, NULL, NAME), WAITS "the site takes no more than the 4 there are");
  site->pause_until_ms = shard.now_ms + 1;
  ck_assert_str_eq(why(id, 1, NULL, NAME), WAITS "we are short of memory or descriptors");
  site->open = 0;
  site_block(site);
  shard.now_ms += 500;
  site->error = texts_get(&schedule.domains.texts, "451 later");
  ck_assert_str_eq(why(id, 1, NULL, NAME), WAITS "the site failed, and is left alone for another 30 s; last failure: 451 later");
  site->home = 1;
  ck_assert_str_eq(why(id, 1, NULL, NAME), WAITS "shard 1 is asked for one; last failure: 451 later");
  site->home = 0;
  outlet.stopping = true;
  ck_assert_str_eq(why(id, 1, NULL, NAME), WAITS "the relay is stopping; last failure: 451 later");
}
END_TEST

START_TEST(why_it_waits_for_dns) {
  struct domain domain = {.status = MX_INVALID};
  struct domain_queue *queue = domain_queue_get(&schedule.domains, SPAN("one.example"));
  struct job *job = make_job("one.example", 0);
  queue->outgoing = &domain;
  domain.first = domain.last = job;
  ck_assert_str_eq(why(job->message->id, 0, queue, ""), "waits for the MX of its domain");
  ck_assert_str_eq(why(job->message->id + 1, 0, queue, ""), "");
  queue->outgoing = NULL;
  free_job(job);
}
END_TEST

static void never(void *context, struct timer *timer) {
  (void)context;
  (void)timer;
  must(false);
}

START_TEST(why_it_is_in_flight) {
  struct job *job = make_job("one.example", 1);
  struct connection connection = {
      .outlet = &outlet, .site = site, .host = "mx1.example.net", .peer = {.address = {.family = 4, .port = 25, .bytes = {192, 0, 2, 1}}}};
  site->connections = &connection;
  connection.loading = job;
  ck_assert_str_eq(why(job->message->id, 0, NULL, NAME), "is being read from disk for a connection to mx1.example.net [192.0.2.1]");
  connection.loading = NULL;
  connection.transaction[1].job = connection.streaming = job;
  ck_assert_str_eq(why(job->message->id, 0, NULL, NAME), "is being sent to mx1.example.net [192.0.2.1]");
  connection.streaming = NULL;
  const char *begins = "in flight to mx1.example.net [192.0.2.1]: waits for the answer to ";
  ck_assert(strncmp(why(job->message->id, 0, NULL, NAME), begins, strlen(begins)) == 0);
  connection.timer.fire = never;
  timer_set(&shard.wheel, &connection.timer, shard.now_ms + 90001);
  ck_assert_ptr_nonnull(strstr(why(job->message->id, 0, NULL, NAME), ", for at most 91 s"));
  shard.now_ms += 100000; /* its time is over, and nobody has looked yet */
  ck_assert_ptr_nonnull(strstr(why(job->message->id, 0, NULL, NAME), ", for at most 0 s"));
  timer_cancel(&shard.wheel, &connection.timer);
  site->connections = NULL;
  free_job(job);
}
END_TEST

int main(void) {
  TCase *suspend = tcase_create("suspend"), *act = tcase_create("act"), *show = tcase_create("show");
  TCase *const cases[] = {suspend, act, show};
  for (unsigned i = 0; i < 3; i++) tcase_add_checked_fixture(cases[i], open_world, close_world);
  tcase_add_test(suspend, a_domain_calls_back_what_is_its_own_wherever_it_is);
  tcase_add_test(suspend, a_site_calls_back_all_of_it);
  tcase_add_test(suspend, all_calls_back_all);
  tcase_add_test(suspend, what_comes_while_it_is_suspended_is_not_begun);
  tcase_add_test(suspend, it_is_known_what_is_suspended);
  tcase_add_test(suspend, names_nobody_knows);
  tcase_add_test(act, a_retry_forgets_what_failed);
  tcase_add_test(act, a_bounce_is_of_one_that_waits);
  tcase_add_test(show, sites_are_there_for_who_walks);
  tcase_add_test(show, how_a_site_stands);
  tcase_add_test(show, what_is_ready_for_a_domain);
  tcase_add_test(show, why_it_waits_for_a_connection);
  tcase_add_test(show, why_it_waits_for_dns);
  tcase_add_test(show, why_it_is_in_flight);
  return unit_main("net/out/operate", cases, 3);
}
