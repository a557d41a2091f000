/*
 * Shards and the thread, without DNS and HTTPS (there is no name server, and nobody listens): what the file has counts, whoever asks is answered, and a stop is clean. With
 * real servers: tests/integration/test_mta_sts.py.
 */
#include "net/sts/sts.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "core/base/error.h"
#include "core/conf/system.h"
#include "core/shard/shard.h"
#include "dns/resolver.h"
#include "tests/lib/unit.h"

#define KIND 1

struct side { /* a shard */
  struct shard shard;
  struct resolver *resolver;
  struct sts_view *view;
  unsigned index, open, known, none;
};

static char path[64];
static struct sts *sts;
static struct shard_group *group;
static struct sts_options options;
static unsigned lines;

static uint64_t wall_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void say(void *context, const char *line) {
  (void)context, (void)line;
  lines++;
}

/* A file with d0.org to d{count-1}.org, and last.org, whose policy ends in `left_ms`. */
static void write_file(unsigned count, uint64_t left_ms) {
  static char text[1 << 20];
  uint64_t now_ms = wall_ms();
  size_t len = (size_t)sprintf(text, "{\"version\": 1, \"policies\": [");
  for (unsigned i = 0; i <= count; i++) {
    char name[32];
    snprintf(name, sizeof name, i == count ? "last.org" : "d%u.org", i);
    uint64_t fetched_ms = i == count ? now_ms + left_ms - 3600000 : now_ms;
    len += (size_t)sprintf(text + len,
                           "%s{\"domain\": \"%s\", \"id\": \"1\", \"fetched\": %llu, \"used\": 1, \"policy\": \"version: STSv1\\nmode: enforce\\nmx: "
                           "mx.%s\\nmax_age: 3600\\n\"}",
                           i > 0 ? "," : "", name, (unsigned long long)fetched_ms, name);
  }
  strcpy(text + len, "]}");
  ck_assert_int_eq(system_write_file(path, span_of_text(text)), E_OK);
}

static void setup(void) {
  strcpy(path, "/tmp/ringpost-sts-XXXXXX");
  int handle = mkstemp(path);
  ck_assert_int_ge(handle, 0);
  close(handle);
  write_file(3, 3000000);
  options = sts_defaults;
  options.file = path;
  options.connect_to = "127.0.0.1:1";
  options.say = say;
  lines = 0;
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
  side->view = sts_view(sts, index, &side->shard, side->resolver);
}

static void side_close(struct side *side) {
  resolver_close(side->resolver);
  shard_fini(&side->shard);
}

static void begin(struct side *side) {
  ck_assert_int_eq(sts_open(&sts, &options), E_OK);
  ck_assert_int_eq(shard_group_open(&group, options.views), E_OK);
  side_open(side, 0);
}

static void finish(struct side *side) {
  errands_close(&side->shard); /* as at the end of shard_run */
  sts_stop(sts);
  side_close(side);
  sts_free(sts);
  shard_group_close(group);
}

struct asked {
  struct sts_query query;
  struct side *side;
  unsigned calls;
  enum sts_state state;
  char pattern[64];
  uint32_t ttl_s;
};

static void done(struct sts_query *query, const struct sts_answer *answer) {
  struct asked *asked = query->context;
  asked->calls++;
  asked->state = answer->state;
  asked->ttl_s = answer->ttl_s;
  asked->side->open--;
  ck_quick((answer->policy != NULL) == (answer->state == STS_KNOWN));
  snprintf(asked->pattern, sizeof asked->pattern, "%s", answer->policy == NULL ? "" : sts_policy_next(answer->policy, NULL));
}

static void ask(struct side *side, struct asked *asked, const char *domain) {
  *asked = (struct asked){.query = {.done = done, .context = asked}, .side = side};
  side->open++;
  sts_ask(side->view, span_of_text(domain), &asked->query);
}

static void await(struct side *side) {
  while (side->open > 0) shard_turn(&side->shard, UINT64_MAX);
}

START_TEST(what_the_file_has_counts_though_dns_fails) {
  struct side side;
  struct asked first, again;
  begin(&side);
  ask(&side, &first, "d1.org");
  ck_assert_uint_eq(first.calls, 0);
  await(&side);
  ck_assert_int_eq(first.state, STS_KNOWN);
  ck_assert_str_eq(first.pattern, "mx.d1.org");
  ask(&side, &again, "d1.org");
  ck_assert(again.calls == 1 && again.state == STS_KNOWN);
  ck_assert(again.ttl_s > 290 && again.ttl_s <= 300);
  finish(&side);
  ck_assert_uint_eq(lines, 0);
}
END_TEST

START_TEST(what_is_not_announced_is_none_and_remembered) {
  struct side side;
  struct asked first, again, odd;
  begin(&side);
  ask(&side, &first, "unknown.org");
  await(&side);
  ck_assert_int_eq(first.state, STS_NONE);
  ask(&side, &again, "unknown.org");
  ck_assert(again.calls == 1 && again.state == STS_NONE);
  ask(&side, &odd, "Unknown.org"); /* no name in lower case: nothing is known, ever */
  ck_assert(odd.calls == 1 && odd.state == STS_FETCHING);
  finish(&side);
}
END_TEST

START_TEST(many_who_ask_are_one_question) {
  struct side side;
  struct asked asked[5];
  begin(&side);
  for (unsigned i = 0; i < 5; i++) ask(&side, &asked[i], "d0.org");
  sts_cancel(&asked[2].query);
  sts_cancel(&asked[2].query);
  side.open--;
  await(&side);
  for (unsigned i = 0; i < 5; i++) ck_assert_uint_eq(asked[i].calls, i == 2 ? 0 : 1);
  finish(&side);
}
END_TEST

START_TEST(a_policy_ends_with_its_max_age_on_the_shard_too) {
  struct side side;
  struct asked asked;
  write_file(0, 1500);
  begin(&side);
  ask(&side, &asked, "last.org");
  await(&side);
  ck_assert_int_eq(asked.state, STS_KNOWN);
  uint64_t end_ms = wall_ms() + 1600;
  while (wall_ms() < end_ms) shard_turn(&side.shard, io_now_ns(side.shard.io) + 50000000);
  ask(&side, &asked, "last.org");
  await(&side);
  ck_assert_int_eq(asked.state, STS_NONE);
  finish(&side);
}
END_TEST

START_TEST(more_domains_than_places) {
  struct side side;
  static struct asked asked[200];
  options.places_max = 8;
  write_file(200, 3000000);
  begin(&side);
  unsigned known = 0;
  for (unsigned i = 0; i < 200; i++) {
    char name[32];
    snprintf(name, sizeof name, "d%u.org", i);
    ask(&side, &asked[i], name);
    if (i % 10 == 9) await(&side);
  }
  await(&side);
  for (unsigned i = 0; i < 200; i++) {
    ck_assert_uint_eq(asked[i].calls, 1);
    known += asked[i].state == STS_KNOWN;
    ck_assert(asked[i].state == (i % 10 < 8 ? STS_KNOWN : STS_FETCHING)); /* no place: all were being asked about */
  }
  ck_assert_uint_eq(known, 160);
  finish(&side);
}
END_TEST

START_TEST(a_stop_in_between_is_clean) {
  struct side side;
  static struct asked asked[50];
  for (unsigned round = 0; round < 5; round++) {
    begin(&side);
    for (unsigned i = 0; i < 50; i++) {
      char name[32];
      snprintf(name, sizeof name, "d%u.org", i);
      ask(&side, &asked[i], name);
    }
    for (unsigned i = 0; i < round; i++) shard_turn(&side.shard, io_now_ns(side.shard.io) + 1000000);
    finish(&side);
  }
}
END_TEST

/* The answer is on its way when the shard ends: the policy that it brings belongs to nobody else. */
START_TEST(an_answer_that_comes_too_late_is_dropped) {
  struct side side;
  struct asked asked;
  const struct io_completion *completions;
  begin(&side);
  ask(&side, &asked, "d0.org");
  shard_turn(&side.shard, io_now_ns(side.shard.io) + 1000000);
  if (asked.calls == 0) (void)io_wait(side.shard.io, io_now_ns(side.shard.io) + 2000000000, &completions); /* until the thread wakes it */
  finish(&side);
}
END_TEST

static struct asked second;

static void ask_on(struct sts_query *query, const struct sts_answer *answer) {
  struct asked *asked = query->context;
  done(query, answer);
  ask(asked->side, &second, "d2.org");
}

START_TEST(done_may_ask_on_with_one_place_alone) {
  struct side side;
  struct asked asked;
  options.places_max = 1;
  begin(&side);
  ask(&side, &asked, "d1.org");
  asked.query.done = ask_on;
  await(&side);
  ck_assert_int_eq(asked.state, STS_KNOWN);
  ck_assert(second.calls == 1 && second.state == STS_FETCHING); /* the only place is just being told */
  ask(&side, &second, "d2.org");
  await(&side);
  ck_assert_int_eq(second.state, STS_KNOWN);
  finish(&side);
}
END_TEST

/* ---- several shards ---- */

static void *shard_thread(void *argument) {
  struct side *side = argument;
  side_open(side, side->index);
  for (unsigned i = 0; i < 300; i++) {
    struct asked asked;
    char name[32];
    snprintf(name, sizeof name, i % 2 == 0 ? "d%u.org" : "none%u.org", i % 20);
    ask(side, &asked, name);
    await(side);
    side->known += asked.state == STS_KNOWN;
    side->none += asked.state == STS_NONE;
  }
  errands_close(&side->shard);
  return NULL;
}

START_TEST(shards_do_not_disturb_each_other) {
  static struct side sides[3];
  pthread_t threads[3];
  options.views = 3;
  options.places_max = 4; /* so that each is asked for again and again */
  write_file(20, 3000000);
  ck_assert_int_eq(sts_open(&sts, &options), E_OK);
  ck_assert_int_eq(shard_group_open(&group, 3), E_OK);
  for (unsigned i = 0; i < 3; i++) {
    sides[i].index = i;
    ck_assert_int_eq(pthread_create(&threads[i], NULL, shard_thread, &sides[i]), 0);
  }
  for (unsigned i = 0; i < 3; i++) pthread_join(threads[i], NULL);
  sts_stop(sts);
  for (unsigned i = 0; i < 3; i++) {
    ck_assert(sides[i].known == 150 && sides[i].none == 150);
    side_close(&sides[i]);
  }
  sts_free(sts);
  shard_group_close(group);
}
END_TEST

int main(void) {
  TCase *cases[] = {tcase_create("sts")};
  tcase_add_checked_fixture(cases[0], setup, teardown);
  tcase_add_test(cases[0], what_the_file_has_counts_though_dns_fails);
  tcase_add_test(cases[0], what_is_not_announced_is_none_and_remembered);
  tcase_add_test(cases[0], many_who_ask_are_one_question);
  tcase_add_test(cases[0], a_policy_ends_with_its_max_age_on_the_shard_too);
  tcase_add_test(cases[0], more_domains_than_places);
  tcase_add_test(cases[0], a_stop_in_between_is_clean);
  tcase_add_test(cases[0], an_answer_that_comes_too_late_is_dropped);
  tcase_add_test(cases[0], done_may_ask_on_with_one_place_alone);
  tcase_add_test(cases[0], shards_do_not_disturb_each_other);
  return unit_main("net/sts", cases, 1);
}
