/* A suspension takes effect at once, and calls back what is ready little by little: whatever happens in between, nothing is begun of what is suspended, and none of it is missed. */
#include "tests/unit/net/out/fake_outlet.c"

static uint32_t chance;
static uint32_t any(uint32_t below) {
  chance = chance * 1664525u + 1013904223u;
  return (chance >> 8) % below;
}

static unsigned held_ended(void) {
  unsigned count = 0;
  for (unsigned i = 0; i < ended_count; i++)
    for (unsigned at = 0; at < ended[i]->recipients; at++) count += ended[i]->each[at].fate == FATE_HELD;
  return count;
}

static void enqueue_many(struct site *to, const char *domain, unsigned count) {
  for (unsigned i = 0; i < count; i++) enqueue(to, domain, i % 2);
}

START_TEST(it_is_called_back_in_steps) {
  for (unsigned way = 0; way < 3; way++) {
    enqueue_many(site, "one.example", 1000);
    ended_count = 0;
    if (way == 0) ck_assert_int_eq(operate_hold_domain(&outlet, SPAN("one.example"), true), E_OK);
    if (way == 1) ck_assert_int_eq(operate_hold_site(&outlet, SPAN(NAME), true), E_OK);
    if (way == 2) operate_hold_all(&outlet, true);
    ck_assert_uint_eq(ended_count, 0); /* nothing yet */
    unsigned steps = 1, before = 0;
    for (; !operate_recall(&outlet); steps++, before = ended_count) ck_assert_uint_le(ended_count - before, 64);
    ck_assert_uint_ge(steps, 1000 / 64);
    ck_assert_uint_eq(held_ended(), 1000);
    expect_ready(site, 0);
    ck_assert_uint_eq(outlet.site_walkers, 0);
    for (unsigned i = 0; i < ended_count; i++) free_job(ended[i]);
    ended_count = 0;
    if (way == 0) hold_domain("one.example", false);
    if (way == 1) hold_site(NAME, false);
  }
}
END_TEST

/* A connection that becomes free, and one that would be opened, in the moment after it began. */
START_TEST(nothing_is_begun_before_it_is_called_back) {
  enqueue_many(other, "else.example", 300); /* the recall is there first */
  enqueue_many(site, "one.example", 100);
  struct job *free_one = enqueue(site, "two.example", 0);
  ck_assert(outlet_may_begin(site));
  ck_assert_int_eq(operate_hold_domain(&outlet, SPAN("one.example"), true), E_OK);
  ck_assert(!outlet_may_begin(site));
  ck_assert_uint_gt(ended_count, 0); /* some of what stands in front gives way at once, */
  ck_assert_uint_lt(ended_count, 50);
  opened = 0;
  site_pump(site);
  ck_assert_uint_eq(opened, 0);
  for (unsigned looks = 0; !outlet_may_begin(site); looks++) ck_assert_uint_lt(looks, 100); /* ... and more whenever somebody looks */
  ck_assert_ptr_eq(site->first, free_one);
  site_pump(site);
  ck_assert_uint_eq(opened, 1);
  ck_assert(outlet_may_begin(other));
  recall_all();
  ck_assert_uint_eq(held_ended(), 100);
  expect_ready(site, 1);
  expect_ready(other, 300);
  ck_assert_int_eq(operate_hold_site(&outlet, SPAN(NAME), true), E_OK);
  ck_assert(!outlet_may_begin(site) && outlet_may_begin(other));
  ck_assert_uint_eq(ended_count, 100); /* all of it is suspended: that is for the recall alone */
  recall_all();
  expect_ready(site, 0);
}
END_TEST

static void pump_dirty(void) {
  while (outlet.dirty_sites != NULL) { /* as at the end of a turn */
    struct site *dirty = outlet.dirty_sites;
    outlet.dirty_sites = dirty->next_dirty;
    dirty->dirty = false;
    site_pump(dirty);
  }
}

START_TEST(a_site_goes_on_when_it_was_looked_at) {
  enqueue_many(site, "one.example", 50);
  enqueue(site, "two.example", 0);
  ck_assert_int_eq(operate_hold_domain(&outlet, SPAN("one.example"), true), E_OK);
  pump_dirty();
  opened = 0;
  recall_all();
  ck_assert(site->dirty); /* nothing else might bring anybody here */
  ck_assert(!other->dirty);
}
END_TEST

/* What is free is in the middle, so that the last steps give nothing back to the site. */
START_TEST(a_site_goes_on_whatever_the_last_step_found) {
  enqueue_many(site, "one.example", 20);
  enqueue(site, "two.example", 0);
  enqueue_many(site, "one.example", 300);
  ck_assert_int_eq(operate_hold_domain(&outlet, SPAN("one.example"), true), E_OK);
  bool is_over;
  do {
    opened = 0;
    is_over = operate_recall(&outlet);
    pump_dirty();
  } while (!is_over);
  expect_ready(site, 1);
  ck_assert_uint_eq(opened, 1);
}
END_TEST

START_TEST(one_message_is_called_back_from_everywhere) {
  const struct job *one = enqueue(site, "one.example two.example", 0);
  struct job *same = make_job("three.example", 1), *later = make_job("three.example", 1);
  same->message->id = later->message->id = one->message->id;
  site_enqueue(other, same);
  enqueue(site, "one.example", 0);
  operate_hold_message(&outlet, one->message->id, true);
  recall_all();
  ck_assert_uint_eq(ended_count, 2);
  expect_fates(one, "HH");
  expect_fates(same, "H");
  expect_ready(site, 1);
  expect_ready(other, 0);
  ck_assert(outlet_hold(&outlet, later, other)); /* it comes by letter */
  operate_hold_message(&outlet, one->message->id, false);
  struct job *now = make_job("one.example", 0);
  ck_assert(!outlet_hold(&outlet, now, site));
  free_job(now);
}
END_TEST

/* Those of other shards cannot be handed on: what is left of them is still looked at. */
START_TEST(a_hand_over_meanwhile_hides_nothing) {
  site->home = 1;
  struct job *free_one = enqueue(site, "two.example", 1);
  enqueue_many(other, "else.example", 100);
  for (unsigned i = 0; i < 200; i++) enqueue(site, "one.example", 1);
  ck_assert_int_eq(operate_hold_domain(&outlet, SPAN("one.example"), true), E_OK);
  ck_assert(!operate_recall(&outlet)); /* it is at the site, and not through */
  ck_assert_ptr_ne(site->last, site->first);
  struct job *front = make_job("two.example", 0);
  site_unpop(site, front); /* a connection that had no memory for it */
  site_pump(site);         /* all are popped, and those that came by letter stay */
  recall_all();
  ck_assert_uint_eq(held_ended(), 200);
  expect_ready(site, 1);
  ck_assert_ptr_eq(site->first, free_one);
  free_job(front);
}
END_TEST

/* What happens between two steps: jobs come, connections take some, give some back, others are sent round or too old. */
static unsigned any_event(struct job **taken, unsigned count) {
  struct site *of = any(2) == 0 ? site : other;
  switch (any(5)) {
  case 0: /* what is suspended is not given to a site any more */
    enqueue(of, any(2) == 0 ? "two.example" : "two.example three.example", any(2));
    break;
  case 1:
  case 2:
    if (count == 8 || !outlet_may_begin(of)) break;
    taken[count] = site_pop(of);
    for (unsigned at = 0; at < taken[count]->recipients; at++)
      ck_quick(!span_equal_nocase(message_domain(taken[count]->message, taken[count]->each[at].index), SPAN("one.example")));
    return count + 1;
  case 3:
    if (count == 0) break;
    site_unpop(of, taken[--count]);
    break;
  default:
    if (any(4) > 0 || of->first == NULL) break;
    of->first->give_up_ms = of->give_up_ms = 1;
    while (sites_sweep(&outlet)) continue;
    break;
  }
  return count;
}

static void any_run(unsigned seed) {
  static const char *const domains[] = {"one.example", "two.example", "two.example one.example", "ONE.example"};
  struct job *taken[8];
  unsigned count = 0;
  chance = seed;
  for (unsigned i = any(300); i > 0; i--) enqueue(any(2) == 0 ? site : other, domains[any(4)], any(2));
  for (struct job *job = site->first; job != NULL; job = job->next) job->give_up_ms = UINT64_MAX;
  for (struct job *job = other->first; job != NULL; job = job->next) job->give_up_ms = UINT64_MAX;
  site->give_up_ms = other->give_up_ms = UINT64_MAX;
  ck_quick(operate_hold_domain(&outlet, SPAN("one.example"), true) == E_OK);
  do {
    for (unsigned events = any(20); events > 0; events--) count = any_event(taken, count);
  } while (!operate_recall(&outlet));
  while (count > 0) site_unpop(site, taken[--count]);
  for (const struct site *of = outlet.first_site; of != NULL; of = of->next) {
    unsigned jobs = 0;
    for (const struct job *job = of->first; job != NULL; job = job->next, jobs++)
      ck_quick_msg(!outlet_would_hold(&outlet, job, of), "seed %u: one was missed", seed);
    ck_quick(jobs == of->jobs);
  }
}

START_TEST(whatever_happens_meanwhile_none_is_missed_and_none_begun) {
  for (unsigned seed = 1; seed <= 300; seed++) {
    any_run(seed);
    close_world();
    open_world();
  }
}
END_TEST

int main(void) {
  TCase *all = tcase_create("all");
  tcase_add_checked_fixture(all, open_world, close_world);
  tcase_set_timeout(all, 60);
  tcase_add_test(all, it_is_called_back_in_steps);
  tcase_add_test(all, nothing_is_begun_before_it_is_called_back);
  tcase_add_test(all, a_site_goes_on_when_it_was_looked_at);
  tcase_add_test(all, a_site_goes_on_whatever_the_last_step_found);
  tcase_add_test(all, a_hand_over_meanwhile_hides_nothing);
  tcase_add_test(all, one_message_is_called_back_from_everywhere);
  tcase_add_test(all, whatever_happens_meanwhile_none_is_missed_and_none_begun);
  return unit_main("net/out/recall", &all, 1);
}
