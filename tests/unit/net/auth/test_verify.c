/* Passwords are checked off the shard and answered on it; what is right is remembered, what is wrong is not; nobody is as slow as somebody; a full lane says so; and a stop. */
#include "net/auth/verify.h"

#include <pthread.h>
#include <stdio.h>
#include <time.h>

#include "core/base/error.h"
#include "core/shard/shard.h"
#include "net/auth/remembered.h"
#include "tests/lib/unit.h"

struct question {
  const char *name, *password;
  enum verify_answer answer;
  bool answered, right;
};

struct world {
  struct verify *verify;
  struct verify_lane *lane;
  struct shard shard;
  struct shard_group *group;
  struct users *users;
  pthread_t asking_thread;
  unsigned open;
  struct question questions[128];
  unsigned count;
};

static void answered(void *context, uint64_t token, bool right) {
  struct world *w = context;
  ck_quick(pthread_equal(pthread_self(), w->asking_thread) && token < w->count && !w->questions[token].answered);
  w->questions[token].answered = true;
  w->questions[token].right = right;
  w->open--;
}

static struct users *parse(const char *text) {
  uint8_t room[512];
  struct fmt why = fmt_over(room, sizeof room);
  struct users *users;
  ck_assert_int_eq(users_parse(&users, span_of_text(text), "users", &why), E_OK);
  return users;
}

static void begin(struct world *w, unsigned requests, const char *text) {
  struct verify_options options = verify_defaults;
  struct io_options io = {.sockets_max = 4, .receive_buffers = 2, .receive_buffer_size = 512};
  const char *why = "";
  *w = (struct world){.asking_thread = pthread_self()};
  options.requests = requests;
  ck_assert_int_eq(verify_open(&w->verify, &options), E_OK);
  ck_assert_int_eq(shard_group_open(&w->group, 1), E_OK);
  ck_assert_int_eq(shard_init(&w->shard, w->group, 0, &io, &why), E_OK);
  w->lane = verify_lane(w->verify, 0, &w->shard, answered, w);
  w->users = parse(text);
}

static void end(struct world *w) {
  errands_close(&w->shard); /* as at the end of shard_run */
  verify_stop(w->verify);
  shard_fini(&w->shard);
  verify_free(w->verify);
  shard_group_close(w->group);
  users_drop(w->users);
}

static struct question *ask(struct world *w, const char *name, const char *password) {
  struct question *q = &w->questions[w->count];
  *q = (struct question){.name = name, .password = password};
  q->answer = verify_ask(w->lane, w->users, span_of_text(name), span_of_text(password), w->count++);
  w->open += q->answer == VERIFY_WAIT;
  return q;
}

static void await_all(struct world *w) {
  while (w->open > 0) shard_turn(&w->shard, UINT64_MAX);
}

/* VERIFY_RIGHT at once, or the answer that came. */
static bool is_right(struct world *w, const char *name, const char *password, enum verify_answer how) {
  const struct question *q = ask(w, name, password);
  ck_assert_int_eq(q->answer, how);
  await_all(w);
  return how == VERIFY_RIGHT || q->right;
}

#define SCRAM_PENCIL "scram=4096:W22ZaJ0SNY7soEsUEjb6gQ==:WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="

static const char *users_text(const char *password) {
  static char text[1024];
  char hash[SECRET_HASH_MAX + 1];
  ck_assert_int_eq(secret_hash(span_of_text(password), "$5$", hash), E_OK);
  snprintf(text, sizeof text, "tim password=%s\nkeys " SCRAM_PENCIL "\noff password=%s disabled\nnone\n", hash, hash);
  return text;
}

START_TEST(right_and_wrong) {
  struct world w;
  begin(&w, 8, users_text("secret"));
  ck_assert(is_right(&w, "tim", "secret", VERIFY_WAIT));
  ck_assert(is_right(&w, "tim", "secret", VERIFY_RIGHT));
  for (unsigned i = 0; i < 2; i++) {
    ck_assert(!is_right(&w, "tim", "secre", VERIFY_WAIT));
    ck_assert(!is_right(&w, "tim", "Secret", VERIFY_WAIT));
    ck_assert(!is_right(&w, "off", "secret", VERIFY_WAIT));
    ck_assert(!is_right(&w, "none", "secret", VERIFY_WAIT));
    ck_assert(!is_right(&w, "nobody", "secret", VERIFY_WAIT));
    ck_assert(!is_right(&w, "keys", "secret", VERIFY_WAIT));
  }
  ck_assert(is_right(&w, "keys", "pencil", VERIFY_WAIT));
  ck_assert(is_right(&w, "keys", "pencil", VERIFY_RIGHT));
  end(&w);
}
END_TEST

START_TEST(asked_anew_when_the_line_changes_or_the_time_is_over) {
  struct world w;
  begin(&w, 8, users_text("secret"));
  ck_assert(is_right(&w, "tim", "secret", VERIFY_WAIT));
  w.shard.now_ms += verify_defaults.remember_ms - 1;
  ck_assert(is_right(&w, "tim", "secret", VERIFY_RIGHT));
  w.shard.now_ms += 1;
  ck_assert(is_right(&w, "tim", "secret", VERIFY_WAIT));
  ck_assert(is_right(&w, "tim", "secret", VERIFY_RIGHT));
  users_drop(w.users);
  w.users = parse(users_text("secret")); /* another salt */
  ck_assert(is_right(&w, "tim", "secret", VERIFY_WAIT));
  users_drop(w.users);
  w.users = parse(users_text("other"));
  ck_assert(!is_right(&w, "tim", "secret", VERIFY_WAIT));
  users_drop(w.users);
  w.users = parse("");
  ck_assert(!is_right(&w, "tim", "secret", VERIFY_WAIT));
  users_drop(w.users);
  w.users = NULL;
  ck_assert(!is_right(&w, "tim", "secret", VERIFY_WAIT));
  end(&w);
}
END_TEST

START_TEST(a_full_lane_says_so) {
  struct world w;
  begin(&w, 8, users_text("secret"));
  for (unsigned i = 0; i < 8; i++) ck_assert_int_eq(ask(&w, "tim", i % 2 == 0 ? "secret" : "wrong")->answer, VERIFY_WAIT);
  ck_assert_int_eq(ask(&w, "tim", "secret")->answer, VERIFY_BUSY);
  await_all(&w);
  for (unsigned i = 0; i < 8; i++) ck_assert_int_eq(w.questions[i].right, i % 2 == 0);
  ck_assert_int_eq(ask(&w, "tim", "wrong")->answer, VERIFY_WAIT); /* others are free again, all but the last at once */
  await_all(&w);
  end(&w);
}
END_TEST

START_TEST(more_than_fit_at_a_time) {
  struct world w;
  begin(&w, 4, users_text("secret"));
  unsigned waiting = 0;
  while (waiting < 60) {
    if (ask(&w, "nobody", "x")->answer == VERIFY_WAIT) {
      waiting++;
    } else {
      w.count--;
      shard_turn(&w.shard, UINT64_MAX);
    }
  }
  await_all(&w);
  for (unsigned i = 0; i < w.count; i++) ck_assert(w.questions[i].answered && !w.questions[i].right);
  end(&w);
}
END_TEST

START_TEST(stopped_with_questions_open) {
  struct world w;
  begin(&w, 8, users_text("secret"));
  for (unsigned i = 0; i < 8; i++) ask(&w, "tim", "secret");
  end(&w); /* the shard ends first: nobody is answered, nothing hangs */
  for (unsigned i = 0; i < 8; i++) ck_assert(!w.questions[i].answered);
}
END_TEST

static uint64_t cpu_ns(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* What the process computes for a wrong password and for nobody: the same but for noise. A shortcut for nobody would be a hundred times less. */
START_TEST(nobody_costs_as_much) {
  struct world w;
  char text[512], hash[SECRET_HASH_MAX + 1];
  ck_assert_int_eq(secret_hash(SPAN("secret"), NULL, hash), E_OK);
  snprintf(text, sizeof text, "tim password=%s\n", hash);
  begin(&w, 8, text);
  uint64_t ns[2] = {0, 0};
  for (unsigned i = 0; i < 6; i++) {
    uint64_t before = cpu_ns(CLOCK_PROCESS_CPUTIME_ID);
    ck_assert(!is_right(&w, i % 2 == 0 ? "tim" : "tom", "wrong", VERIFY_WAIT));
    ns[i % 2] += cpu_ns(CLOCK_PROCESS_CPUTIME_ID) - before;
  }
  ck_assert_msg(ns[1] > ns[0] / 3 && ns[0] > ns[1] / 3, "%llu us for somebody, %llu us for nobody", (unsigned long long)ns[0] / 1000,
                (unsigned long long)ns[1] / 1000);
  end(&w);
}
END_TEST

/* ---- remembered ---- */

START_TEST(a_table_of_digests) {
  struct remembered *r = remembered_open(8);
  uint8_t digests[16][SECRET_DIGEST] = {{0}};
  for (unsigned i = 0; i < 16; i++) digests[i][31] = (uint8_t)(i + 1); /* all in one bucket */
  static const uint8_t zero[SECRET_DIGEST];
  ck_assert(!remembered_has(r, zero, 0));
  for (unsigned i = 0; i < 4; i++) remembered_put(r, digests[i], 100 + i);
  for (unsigned i = 0; i < 4; i++) ck_assert(remembered_has(r, digests[i], 99) && !remembered_has(r, digests[i], 100 + i));
  remembered_put(r, digests[0], 200); /* again, for longer */
  remembered_put(r, digests[4], 300); /* in place of the one that ends first */
  ck_assert(!remembered_has(r, digests[1], 50));
  ck_assert(remembered_has(r, digests[0], 199) && remembered_has(r, digests[2], 50) && remembered_has(r, digests[3], 50) &&
            remembered_has(r, digests[4], 50));
  remembered_close(r);
  remembered_close(NULL);
}
END_TEST

int main(void) {
  TCase *tests = tcase_create("verify");
  tcase_add_test(tests, right_and_wrong);
  tcase_add_test(tests, asked_anew_when_the_line_changes_or_the_time_is_over);
  tcase_add_test(tests, a_full_lane_says_so);
  tcase_add_test(tests, more_than_fit_at_a_time);
  tcase_add_test(tests, stopped_with_questions_open);
  tcase_add_test(tests, nobody_costs_as_much);
  tcase_add_test(tests, a_table_of_digests);
  return unit_main("net/auth/verify", &tests, 1);
}
