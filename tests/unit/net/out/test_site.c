/* Leases, and sites that fail, on several shards. */
#include "tests/unit/net/out/fake_shards.c"

/* ---- tests ---- */

START_TEST(little_mail_is_handed_over_and_much_asks_for_a_share) {
  enqueue(guest, LEASE_HOT_JOBS - 1);
  pump(guest);
  ck_assert_uint_eq(waiting_letters(guest, home, LETTER_JOB), LEASE_HOT_JOBS - 1);
  ck_assert_uint_eq(waiting_letters(guest, home, LETTER_LEASE_ASK), 0);
  enqueue(guest, 1);
  pump(guest);
  ck_assert_uint_eq(waiting_letters(guest, home, LETTER_JOB), LEASE_HOT_JOBS);
  ck_assert_uint_eq(waiting_letters(guest, home, LETTER_LEASE_ASK), 1);
  arrive_all();
  ck_assert_uint_gt(sites[guest]->lease_guest.granted, 0);
  enqueue(guest, 50);
  pump(guest);
  ck_assert_uint_eq(sites[guest]->open, LIMIT / SHARDS); /* its share */
  ck_assert_uint_eq(waiting_letters(guest, home, LETTER_JOB), 0);
  check_books();
}
END_TEST

START_TEST(what_is_owed_is_granted_as_connections_of_the_home_end) {
  enqueue(home, 100);
  pump(home);
  ck_assert_uint_eq(sites[home]->open, LIMIT);
  enqueue(guest, LEASE_HOT_JOBS);
  arrive_all();
  ck_assert_uint_eq(sites[guest]->lease_guest.granted, 0);
  ck_assert_uint_eq(sites[home]->lease_home.owed, LIMIT / SHARDS);
  ck_assert_uint_eq(retired_to[home], LIMIT - LIMIT / SHARDS);
  for (unsigned i = 1; i <= LIMIT / SHARDS; i++) {
    close_one(home);
    arrive_all();
    ck_assert_uint_eq(sites[guest]->lease_guest.granted, i);
    ck_assert_uint_eq(sites[home]->open, LIMIT - i); /* none is opened in its place, though there is mail */
  }
  close_one(home);
  pump(home);
  ck_assert_uint_eq(sites[home]->open, LIMIT - LIMIT / SHARDS);
  check_books();
}
END_TEST

START_TEST(an_unused_lease_goes_back_after_a_while) {
  lease_to(guest);
  enqueue(guest, 1);
  pump(guest);
  ck_assert_uint_eq(sites[guest]->open, 1);
  let_pass(LEASE_KEEP_MS);
  sites_sweep(&outlets[guest]);
  ck_assert_uint_eq(waiting_letters(guest, home, LETTER_LEASE_RETURN), 0); /* in use */
  close_one(guest);
  pump(guest);
  ck_assert_uint_eq(waiting_letters(guest, home, LETTER_LEASE_RETURN), 1);
  ck_assert_uint_eq(sites[guest]->lease_guest.granted, 0);
  arrive_all();
  ck_assert_uint_eq(sites[home]->lease_home.granted, 0);
}
END_TEST

START_TEST(a_grant_that_crosses_a_return_is_kept_track_of) {
  enqueue(home, 100);
  pump(home);
  enqueue(guest, LEASE_HOT_JOBS);
  arrive_all();
  close_one(home);
  pump(home);
  ck_assert_uint_eq(arrive(home, guest), LETTER_LEASE_GRANT); /* one of three */
  pump(guest);
  let_pass(LEASE_KEEP_MS);
  close_one(home);
  pump(home); /* the second is under way ... */
  sites_sweep(&outlets[guest]);
  ck_assert_uint_eq(waiting_letters(guest, home, LETTER_LEASE_RETURN), 1); /* ... as the first goes back */
  ck_assert_uint_eq(arrive(guest, home), LETTER_LEASE_RETURN);
  ck_assert_uint_eq(sites[home]->lease_home.owed, 0); /* the third is wanted no more */
  ck_assert_uint_eq(sites[home]->lease_home.granted, 1);
  pump(home);
  arrive_all();
  ck_assert_uint_eq(sites[guest]->lease_guest.granted, 1);
  check_books();
}
END_TEST

START_TEST(an_ask_is_not_repeated_before_its_time) {
  conf.connections_per_site = 1;
  for (unsigned i = 0; i < SHARDS; i++) sites[i]->lease_home.limit = 1;
  for (unsigned i = 0; i < 5; i++) {
    enqueue(guest, LEASE_HOT_JOBS);
    pump(guest);
  }
  ck_assert_uint_eq(waiting_letters(guest, home, LETTER_LEASE_ASK), 1);
  arrive_all();
  ck_assert_uint_eq(sites[guest]->lease_guest.granted, 0); /* the only one stays at home */
  let_pass(LEASE_ASK_MS);
  enqueue(guest, LEASE_HOT_JOBS);
  pump(guest);
  ck_assert_uint_eq(waiting_letters(guest, home, LETTER_LEASE_ASK), 1);
}
END_TEST

START_TEST(what_cannot_be_handed_on_borrows_a_connection) {
  for (unsigned i = 0; i < SHARDS; i++) sites[i]->lease_home.limit = 1;
  enqueue(home, 10);
  pump(home);
  ck_assert_uint_eq(sites[home]->open, 1);
  enqueue_stray(guest);
  pump(guest);
  ck_assert_uint_eq(sites[guest]->open, 0);
  ck_assert_uint_eq(waiting_letters(guest, home, LETTER_JOB), 0);
  arrive_all();
  ck_assert_uint_eq(retired_to[home], 0);
  ck_assert_uint_eq(sites[guest]->open, 0); /* not before the home's only one is closed */
  close_one(home);
  arrive_all();
  ck_assert_uint_eq(sites[home]->open, 0);
  ck_assert_uint_eq(sites[guest]->open, 1);
  ck_assert_uint_eq(sites[guest]->jobs, 0);
  site_mark_dirty(sites[guest]);
  arrive_all();
  ck_assert_uint_eq(retired_to[guest], 0); /* it is not to become idle */
  close_one(guest);
  arrive_all();
  ck_assert_uint_eq(sites[home]->open, 1);
  ck_assert_uint_eq(sites[home]->lease_home.granted, 0);
}
END_TEST

START_TEST(what_cannot_be_handed_on_asks_until_the_site_works) {
  dead = true;
  enqueue(home, 1);
  pump(home);
  fail_one(home);
  enqueue_stray(guest);
  arrive_all();
  ck_assert_uint_eq(all_open(), 0);
  dead = false;
  backoff_succeeded(&sites[home]->targets[0].backoff);
  site_succeeded(sites[home], &sites[home]->targets[0].address);
  let_pass(LEASE_ASK_MS);
  arrive_all();
  ck_assert_uint_eq(sites[guest]->open, 1);
  check_books();
}
END_TEST

/* Whatever happens in whatever order: never more connections than the limit, and at the end nothing is lent that nobody has. */
START_TEST(the_limit_holds_whatever_crosses) {
  srand((unsigned)_i + 1);
  for (unsigned step = 0; step < 3000; step++) {
    unsigned shard = (unsigned)rand() % SHARDS, peer = (unsigned)rand() % SHARDS;
    switch (rand() % 8) {
    case 0:
      if (rand() % 4 == 0) enqueue_stray(shard);
      enqueue(shard, (unsigned)rand() % 20);
      break;
    case 1:
    case 2: arrive(shard, peer); break;
    case 3:
      if (connections_live(sites[shard], NULL)) close_one(shard);
      break;
    case 4:
      if (closing[shard] > 0) fail_end(shard);
      if (connections_live(sites[shard], NULL) && rand() % 4 == 0) fail_begin(shard);
      break;
    case 5: sites_sweep(&outlets[shard]); break;
    case 6: let_pass((uint64_t)(rand() % 50) * (rand() % 10 == 0 ? 1000 : 1)); break;
    case 7:
      if (sites[shard]->open > 0 && rand() % 4 == 0) site_succeeded(sites[shard], &sites[shard]->targets[0].address);
      break;
    }
    if (rand() % 2 == 0) pump(shard);
    check_books();
  }
  for (unsigned i = 0; i < SHARDS; i++)
    while (site_pop(sites[i]) != NULL) continue;
  arrive_all();
  for (unsigned round = 0; round < 4; round++) {
    for (unsigned i = 0; i < SHARDS; i++) {
      while (site_pop(sites[i]) != NULL) continue;
      while (closing[i] > 0) fail_end(i);
      while (sites[i]->open > 0) close_one(i);
    }
    let_pass(LEASE_KEEP_MS);
    for (unsigned i = 0; i < SHARDS; i++) sites_sweep(&outlets[i]);
    arrive_all();
  }
  ck_assert_uint_eq(sites[home]->lease_home.granted, 0);
  ck_assert_uint_eq(sites[home]->lease_home.owed, 0);
}
END_TEST

/* ---- a dead site ---- */

START_TEST(what_a_guest_sees_fail_the_home_tries_alone) {
  lease_to(guest);
  lease_to(other);
  dead = true;
  opened = 0;
  enqueue(guest, 1);
  pump(guest);
  ck_assert_uint_eq(opened, 1);
  fail_begin(guest);
  ck_assert_uint_eq(deferred, 0);
  ck_assert_uint_eq(waiting_letters(guest, home, LETTER_JOB), 1); /* the home is to say what becomes of it */
  enqueue(guest, 1);
  pump(guest);
  ck_assert_uint_eq(sites[guest]->open, 1); /* also while the close is under way none is opened */
  fail_end(guest);
  arrive_all();
  ck_assert_uint_eq(sites[guest]->lease_guest.granted, 0);
  ck_assert_uint_eq(sites[other]->lease_guest.granted, 0); /* recalled: it has none open */
  ck_assert_uint_eq(sites[home]->lease_home.granted, 0);
  for (unsigned second = 0; second < 29; second++) {
    for (unsigned i = 0; i < SHARDS; i++) enqueue(i, 2 * LEASE_HOT_JOBS);
    arrive_all();
    let_pass(1000);
  }
  ck_assert_uint_eq(opened, 1);
  let_pass(1000);
  arrive_all();
  ck_assert_uint_eq(opened, 2); /* one probe, of the home */
  ck_assert_uint_eq(sites[home]->open, 1);
  deferred = 0;
  unsigned waiting = sites[home]->jobs;
  fail_one(home);
  ck_assert_uint_eq(deferred, waiting); /* what was handed over, too */
  arrive_all();
  let_pass(59000);
  enqueue(guest, 100);
  arrive_all();
  ck_assert_uint_eq(opened, 2);
}
END_TEST

START_TEST(a_site_that_works_again_is_shared_again) {
  lease_to(guest);
  for (unsigned i = 0; i < 3; i++) { /* more than once: the guest's own times would grow */
    dead = true;
    enqueue(guest, 1);
    pump(guest);
    fail_one(guest);
    arrive_all();
    dead = false;
    enqueue(guest, 1);
    let_pass(30000);
    arrive_all();
    ck_assert_uint_eq(sites[home]->open, 1);
    enqueue(guest, 4 * LEASE_HOT_JOBS);
    arrive_all();
    ck_assert_uint_eq(sites[guest]->lease_guest.granted, 0);
    ck_assert_uint_eq(all_open(), 1); /* until the first transaction has ended */
    site_succeeded(sites[home], &sites[home]->targets[0].address);
    let_pass(LEASE_ASK_MS);
    lease_to(guest);
    enqueue(guest, 2);
    pump(guest);
    ck_assert_uint_eq(sites[guest]->open, 2); /* though it saw the site fail itself */
    check_books();
    while (sites[guest]->open > 0) close_one(guest);
    while (site_pop(sites[home]) != NULL) continue;
    while (sites[home]->open > 0) close_one(home);
  }
}
END_TEST

START_TEST(a_guest_at_work_keeps_its_lease) {
  lease_to(guest);
  enqueue(guest, 1);
  pump(guest);
  ck_assert_uint_eq(sites[guest]->open, 1);
  dead = true;
  enqueue(home, 1);
  pump(home);
  fail_one(home);
  arrive_all();
  ck_assert_uint_gt(sites[guest]->lease_guest.granted, 0);
  enqueue(guest, 1);
  pump(guest);
  ck_assert_uint_eq(sites[guest]->open, 2);
  check_books();
}
END_TEST

START_TEST(a_failure_of_a_guest_is_enough_for_a_home_at_work) {
  lease_to(guest);
  enqueue(home, 1);
  pump(home);
  ck_assert_uint_eq(sites[home]->open, 1);
  dead = true; /* for the guest only */
  enqueue(guest, 5);
  pump(guest);
  while (sites[guest]->open > 0) fail_one(guest);
  arrive_all();
  ck_assert_uint_eq(deferred, 0);
  ck_assert_uint_eq(sites[home]->jobs, 5); /* for the connection that works */
  ck_assert_uint_eq(sites[home]->open, 1);
  ck_assert(!backoff_blocks(&sites[home]->backoff, shards[home].now_ms));
  let_pass(29000);
  enqueue(guest, LEASE_HOT_JOBS);
  arrive_all();
  ck_assert_uint_eq(sites[guest]->lease_guest.granted, 0);
  let_pass(2000);
  enqueue(guest, LEASE_HOT_JOBS);
  pump(guest);
  ck_assert_uint_eq(arrive(guest, home), LETTER_LEASE_ASK);
  ck_assert_uint_gt(sites[home]->lease_home.granted, 0);
}
END_TEST

START_TEST(what_is_owed_when_the_site_fails_is_forgotten) {
  enqueue(home, 100);
  pump(home);
  enqueue(guest, LEASE_HOT_JOBS);
  arrive_all();
  ck_assert_uint_gt(sites[home]->lease_home.owed, 0);
  dead = true;
  for (unsigned i = 0; i < LIMIT; i++) fail_begin(home);
  for (unsigned i = 0; i < LIMIT; i++) fail_end(home);
  opened = 0;
  enqueue(guest, 1);
  arrive_all();
  ck_assert_uint_eq(sites[home]->lease_home.owed, 0);
  ck_assert_uint_eq(sites[home]->lease_home.granted, 0);
  ck_assert_uint_eq(opened, 0);
}
END_TEST

/* The home knows that the site failed, has no mail for it, and so never finds out that it works again: then whoever has some tries it. */
START_TEST(what_cannot_be_handed_on_is_the_probe_of_a_home_without_mail) {
  enqueue_stray(guest);
  arrive_all();
  ck_assert_uint_eq(sites[guest]->open, 1);
  sites[guest]->first = NULL;
  sites[guest]->jobs = 0;
  dead = true;
  fail_one(guest);
  arrive_all();
  ck_assert(backoff_probing(&sites[home]->backoff));
  dead = false; /* the host is well again */
  opened = 0;
  for (unsigned i = 0; i < 1800 && opened == 0; i++) {
    if (i == 300) enqueue_stray(guest);
    let_pass(1000);
    arrive_all();
  }
  ck_assert_uint_eq(opened, 1);
}
END_TEST

int main(void) {
  TCase *all = tcase_create("all");
  tcase_add_checked_fixture(all, open_world, close_world);
  tcase_add_test(all, what_cannot_be_handed_on_is_the_probe_of_a_home_without_mail);
  tcase_add_test(all, little_mail_is_handed_over_and_much_asks_for_a_share);
  tcase_add_test(all, what_is_owed_is_granted_as_connections_of_the_home_end);
  tcase_add_test(all, an_unused_lease_goes_back_after_a_while);
  tcase_add_test(all, a_grant_that_crosses_a_return_is_kept_track_of);
  tcase_add_test(all, an_ask_is_not_repeated_before_its_time);
  tcase_add_loop_test(all, the_limit_holds_whatever_crosses, 0, 30);
  tcase_add_test(all, what_cannot_be_handed_on_borrows_a_connection);
  tcase_add_test(all, what_cannot_be_handed_on_asks_until_the_site_works);
  tcase_add_test(all, what_a_guest_sees_fail_the_home_tries_alone);
  tcase_add_test(all, a_site_that_works_again_is_shared_again);
  tcase_add_test(all, a_guest_at_work_keeps_its_lease);
  tcase_add_test(all, a_failure_of_a_guest_is_enough_for_a_home_at_work);
  tcase_add_test(all, what_is_owed_when_the_site_fails_is_forgotten);
  return unit_main("net/out/site", &all, 1);
}
