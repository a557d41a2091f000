/* When reports are due, tried again and given up; and the file: what comes back from it, and from a damaged one. */
#include "net/tlsrpt/sender.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/base/error.h"
#include "core/conf/system.h"
#include "net/tlsrpt/keep.h"
#include "net/tlsrpt/report.h"
#include "tests/lib/unit.h"

#define HOUR 3600000ull
#define DAY 20000ull
#define NOW (DAY * TLSRPT_DAY_MS + 5 * HOUR)

static const struct tlsrpt_limits limits = {.domains = 1000, .policies = 8, .kinds = 8, .bytes = 1u << 20};
static const struct tlsrpt_sender_options options = {.spread_ms = 4 * HOUR, .retry_ms = HOUR / 4, .patience_ms = 24 * HOUR};
static struct tlsrpt_sender sender;
static uint64_t seed = 7; /* another each time: what is planned anew is planned otherwise */
static struct tlsrpt_day today;
static struct tlsrpt_tally tally;
static char path[64];

static void begin(void) {
  tlsrpt_sender_init(&sender, &options, seed++);
  today = (struct tlsrpt_day){.number = DAY};
  tlsrpt_tally_init(&today.tally, &limits, 1);
}

static void finish(void) {
  tlsrpt_sender_fini(&sender);
  tlsrpt_tally_clear(&today.tally);
}

static void setup(void) {
  begin();
  tlsrpt_tally_init(&tally, &limits, 2);
  strcpy(path, "/tmp/ringpost-tlsrpt-XXXXXX");
  int handle = mkstemp(path);
  ck_assert_int_ge(handle, 0);
  close(handle);
}

static void teardown(void) {
  finish();
  tlsrpt_tally_clear(&tally);
  unlink(path);
}

static void add_day(unsigned domains, uint64_t number, uint64_t now_ms) {
  for (unsigned i = 0; i < domains; i++) {
    char name[32];
    snprintf(name, sizeof name, "d%u.example", i);
    tlsrpt_tally_success(&tally, span_of_text(name), NULL, i + 1);
  }
  ck_assert_int_eq(tlsrpt_sender_add(&sender, number, &tally, now_ms), E_OK);
  ck_assert(tlsrpt_tally_is_empty(&tally));
}

static const struct tlsrpt_uri *uris(void) {
  static struct tlsrpt_record record;
  ck_assert_int_eq(tlsrpt_record_parse(&record, SPAN("v=TLSRPTv1;rua=mailto:a@b.example,https://c.example/,mailto:d%2be@f.example")), E_OK);
  return record.uri;
}

/* ---- when ---- */

START_TEST(reports_are_spread_and_come_once) {
  add_day(400, DAY - 1, NOW);
  unsigned in_hour[4] = {0}, ids = 0;
  uint64_t last_id = 0;
  for (uint64_t now_ms = NOW; sender.dues_count > 0; now_ms += HOUR / 60) {
    struct tlsrpt_due *due;
    ck_quick(now_ms <= NOW + 4 * HOUR + HOUR / 60);
    while ((due = tlsrpt_sender_take(&sender, now_ms)) != NULL) {
      ck_quick(due->due_ms <= now_ms && due->due_ms + HOUR / 60 > now_ms && due->until_ms == due->due_ms + 24 * HOUR);
      in_hour[(due->due_ms - NOW) * 4 / (4 * HOUR + 1)]++;
      ids += due->id != last_id;
      last_id = due->id;
      tlsrpt_sender_done(&sender, due);
    }
    ck_quick(sender.dues_count == 0 || sender.next_ms > now_ms);
  }
  for (unsigned i = 0; i < 4; i++) ck_assert(in_hour[i] > 60 && in_hour[i] < 140);
  ck_assert_uint_eq(ids, 400);
  ck_assert(sender.days_count == 0 && tlsrpt_sender_take(&sender, UINT64_MAX - 1) == NULL && sender.next_ms == UINT64_MAX);
}
END_TEST

START_TEST(failures_are_tried_again_for_a_day) {
  add_day(1, DAY - 1, NOW);
  uint64_t now_ms = NOW, first_ms = 0, before_ms = 0;
  unsigned tries = 0;
  for (;; tries++) {
    while (tlsrpt_sender_take(&sender, now_ms) == NULL) now_ms = sender.next_ms;
    if (first_ms == 0) first_ms = now_ms;
    ck_assert(tries < 2 || now_ms - before_ms == (HOUR / 4) << (tries - 1));
    before_ms = now_ms;
    if (!tlsrpt_sender_later(&sender, TAILQ_FIRST(&sender.dues), now_ms)) break;
  }
  ck_assert(tries == 6 && now_ms - first_ms <= 24 * HOUR);
  tlsrpt_sender_done(&sender, TAILQ_FIRST(&sender.dues));
  ck_assert_uint_eq(sender.days_count, 0);
}
END_TEST

START_TEST(who_was_served_is_not_served_again) {
  add_day(1, DAY - 1, NOW);
  struct tlsrpt_due *due = tlsrpt_sender_take(&sender, NOW + 4 * HOUR);
  ck_assert_ptr_null(tlsrpt_sender_take(&sender, NOW + 48 * HOUR)); /* it is taken */
  ck_assert_int_eq(tlsrpt_due_set_uris(due, uris(), 3), E_OK);
  tlsrpt_due_served(due, 0);
  ck_assert(due->uris_count == 2 && strcmp(due->uris[0].text, "d+e@f.example") == 0 && due->uris[1].scheme == TLSRPT_HTTPS);
  ck_assert(!tlsrpt_due_is_late(due, due->until_ms) && tlsrpt_due_is_late(due, due->until_ms + 1));
}
END_TEST

START_TEST(days_are_few) {
  for (unsigned i = 0; i < TLSRPT_DAYS_MAX; i++) add_day(2, DAY - 1 - i, NOW);
  tlsrpt_tally_success(&tally, SPAN("a.example"), NULL, 1);
  ck_assert_int_eq(tlsrpt_sender_add(&sender, DAY, &tally, NOW), E_FULL);
  ck_assert(tlsrpt_tally_is_empty(&tally) && sender.dues_count == 2 * TLSRPT_DAYS_MAX);
  tlsrpt_sender_fini(&sender);
  ck_assert_int_eq(tlsrpt_sender_add(&sender, DAY, &tally, NOW), E_OK); /* of nothing */
  ck_assert_uint_eq(sender.days_count, 0);
}
END_TEST

/* ---- the file ---- */

static void fill(void) {
  struct tlsrpt_policy *policy;
  struct tlsrpt_failure failure = {.result = TLSRPT_CERTIFICATE_EXPIRED,
                                   .sending = {.family = 4, .bytes = {192, 0, 2, 1}},
                                   .receiving = {.family = 6, .bytes = {0x20, 1, 0xd, 0xb8}},
                                   .mx_host = SPAN("mx.example.org"),
                                   .info = SPAN("https://example.org/?a"),
                                   .reason = SPAN("\"\\ \xff")};
  ck_assert_int_eq(tlsrpt_policy_make(&policy, TLSRPT_POLICY_STS, SPAN("d1.example"), SPAN("version: STSv1\nmode: none\n"), SPAN("*.a\n")), E_OK);
  for (unsigned i = 0; i < 2; i++) {
    struct tlsrpt_tally *to = i == 0 ? &today.tally : &tally;
    tlsrpt_tally_failure(to, SPAN("d1.example"), policy, &failure, 3 + i);
    tlsrpt_tally_success(to, SPAN("d1.example"), policy, 7);
    tlsrpt_tally_rest(to, SPAN("d1.example"), NULL, 2);
    to->rest_failures = 11;
    to->rest_successes = 12;
  }
  tlsrpt_policy_drop(policy);
  add_day(3, DAY - 1, NOW);
  struct tlsrpt_due *due = tlsrpt_sender_take(&sender, NOW + 4 * HOUR);
  ck_assert_int_eq(tlsrpt_due_set_uris(due, uris(), 3), E_OK);
  tlsrpt_due_served(due, 0);
  ck_assert(tlsrpt_sender_later(&sender, due, NOW + 4 * HOUR));
}

/* All there is, but for the rests. */
static const char *shown(void) {
  static char room[1 << 16];
  struct fmt out = fmt_over(room, sizeof room - 1);
  struct tlsrpt_report report = {.hostname = SPAN("h"), .organization = SPAN("o"), .contact = SPAN("c"), .end_ms = TLSRPT_DAY_MS};
  struct tlsrpt_due *due;
  char *json;
  report.domain = tlsrpt_tally_find(&today.tally, SPAN("d1.example"));
  ck_assert_int_eq(tlsrpt_report_json(&report, &json), E_OK);
  fmt_text(&out, json);
  free(json);
  for (unsigned i = 0; i < 3; i++) { /* in the order of their names */
    TAILQ_FOREACH(due, &sender.dues, _link) if (due->domain->name[1] == (char)('0' + i)) break;
    if (due == NULL) continue;
    report.domain = due->domain;
    report.id = due->id;
    ck_assert_int_eq(tlsrpt_report_json(&report, &json), E_OK);
    fmt_text(&out, json);
    free(json);
    snprintf((char *)out.at + out.len, fmt_room(&out), " %llu %llu %u %d:", (unsigned long long)due->due_ms, (unsigned long long)due->until_ms,
             due->tries, due->asked);
    out.len = strlen(room);
    for (unsigned u = 0; u < due->uris_count; u++) tlsrpt_uri_write(&due->uris[u], &out);
  }
  room[out.len] = '\0';
  return room;
}

static int load(uint64_t now_ms, unsigned *left_out) {
  finish();
  begin();
  today.number = now_ms / TLSRPT_DAY_MS;
  return tlsrpt_keep_load(path, &today, &sender, now_ms, left_out);
}

START_TEST(the_file_brings_it_back) {
  unsigned left_out;
  fill();
  char *before = strdup(shown());
  ck_assert(strstr(before, "\"certificate-expired\"") != NULL && strstr(before, "mailto:d+e@f.examplehttps://c.example/") != NULL);
  ck_assert_int_eq(tlsrpt_keep_save(path, &today, &sender), E_OK);
  ck_assert_int_eq(load(NOW, &left_out), E_OK);
  ck_assert_uint_eq(left_out, 0);
  ck_assert_str_eq(shown(), before);
  ck_assert(today.tally.rest_failures == 11 && today.tally.rest_successes == 12 && TAILQ_FIRST(&sender.days)->tally.rest_failures == 11);
  ck_assert_int_eq(tlsrpt_keep_save(path, &today, &sender), E_OK); /* a copy of the copy */
  ck_assert_int_eq(load(NOW, &left_out), E_OK);
  ck_assert_str_eq(shown(), before);
  free(before);
  ck_assert_int_eq(load(NOW + 4 * HOUR, &left_out), E_OK); /* what was due is due at once */
  ck_assert_ptr_nonnull(tlsrpt_sender_take(&sender, NOW + 4 * HOUR));
}
END_TEST

START_TEST(a_day_that_ended_meanwhile_is_reported) {
  unsigned left_out;
  tlsrpt_tally_success(&today.tally, SPAN("a.example"), NULL, 5);
  ck_assert_int_eq(tlsrpt_keep_save(path, &today, &sender), E_OK);
  ck_assert_int_eq(load(NOW + TLSRPT_DAY_MS, &left_out), E_OK);
  ck_assert(left_out == 0 && tlsrpt_tally_is_empty(&today.tally) && sender.dues_count == 1);
  struct tlsrpt_due *due = tlsrpt_sender_take(&sender, NOW + TLSRPT_DAY_MS + 4 * HOUR);
  ck_assert(due->day->number == DAY && !due->asked && due->due_ms >= NOW + TLSRPT_DAY_MS);
  ck_assert_int_eq(load(NOW + (TLSRPT_KEEP_DAYS + 1) * TLSRPT_DAY_MS, &left_out), E_OK);
  ck_assert(left_out == 0 && sender.dues_count == 0);
  ck_assert_int_eq(load(NOW - TLSRPT_DAY_MS, &left_out), E_OK); /* of tomorrow */
  ck_assert(left_out == 1 && sender.dues_count == 0 && tlsrpt_tally_is_empty(&today.tally));
}
END_TEST

START_TEST(without_a_file_there_is_nothing) {
  unsigned left_out;
  unlink(path);
  ck_assert_int_eq(load(NOW, &left_out), E_OK);
  ck_assert(left_out == 0 && sender.dues_count == 0);
  strcat(path, "/x/y");
  ck_assert_int_eq(tlsrpt_keep_save(path, &today, &sender), E_NOT_FOUND);
}
END_TEST

START_TEST(what_is_none_of_ours_is_refused) {
  static const char *const texts[] = {"", "{", "[]", "{\"version\": 2, \"days\": []}", "{\"version\": 1, \"days\": {}}", "{\"version\": 1}"};
  unsigned left_out;
  for (unsigned i = 0; i < sizeof texts / sizeof *texts; i++) {
    ck_assert_int_eq(system_write_file(path, span_of_text(texts[i])), E_OK);
    ck_assert_int_eq(load(NOW, &left_out), E_SYNTAX);
  }
}
END_TEST

/* A word of a sound file is replaced by another: there is a line for it, or it does no harm. */
START_TEST(a_damaged_file_does_no_harm) {
  static const char *const words[] = {"-1",
                                      "9223372036854775807",
                                      "9000000000000",
                                      "\"x\"",
                                      "null",
                                      "{}",
                                      "[]",
                                      "[1]",
                                      "{\"d1.example\": 1}",
                                      "\"\\n\"",
                                      "1.5",
                                      "\"ffffffffffffffff\"",
                                      "{\"..\": {\"policies\": []}}"};
  static char sound[1 << 16], text[1 << 17];
  unsigned left_out, sum = 0, tried = 0;
  fill();
  char *written = tlsrpt_keep_write(&today, &sender);
  size_t len = strlen(written);
  ck_assert(len < sizeof sound);
  strcpy(sound, written);
  free(written);
  for (size_t at = 0; at < len; at++) {
    if (strncmp(sound + at, "\": ", 3) != 0) continue;
    size_t value = at + 3, depth = 0, end = value;
    bool quoted = false;
    for (; quoted || depth > 0 || (sound[end] != ',' && sound[end] != '\n'); end++) {
      if (sound[end] == '"' && sound[end - 1] != '\\') quoted = !quoted;
      if (!quoted && (sound[end] == '{' || sound[end] == '[')) depth++;
      if (!quoted && (sound[end] == '}' || sound[end] == ']')) depth--;
    }
    for (unsigned i = 0; i < sizeof words / sizeof *words; i++) {
      snprintf(text, sizeof text, "%.*s%s%s", (int)value, sound, words[i], sound + end);
      finish();
      begin();
      int error = tlsrpt_keep_read(span_of_text(text), &today, &sender, NOW, &left_out);
      ck_quick_msg(error == E_OK || error == E_SYNTAX, "%s", text);
      struct tlsrpt_due *due;
      TAILQ_FOREACH(due, &sender.dues, _link) ck_quick(due->until_ms <= NOW + 28 * HOUR && (!due->asked || due->uris_count > 0));
      free(tlsrpt_keep_write(&today, &sender));
      sum += left_out, tried++;
    }
  }
  ck_assert(tried > 500 && sum > tried / 2);
}
END_TEST

int main(void) {
  TCase *cases[] = {tcase_create("sender")};
  tcase_add_checked_fixture(cases[0], setup, teardown);
  tcase_add_test(cases[0], reports_are_spread_and_come_once);
  tcase_add_test(cases[0], failures_are_tried_again_for_a_day);
  tcase_add_test(cases[0], who_was_served_is_not_served_again);
  tcase_add_test(cases[0], days_are_few);
  tcase_add_test(cases[0], the_file_brings_it_back);
  tcase_add_test(cases[0], a_day_that_ended_meanwhile_is_reported);
  tcase_add_test(cases[0], without_a_file_there_is_nothing);
  tcase_add_test(cases[0], what_is_none_of_ours_is_refused);
  tcase_add_test(cases[0], a_damaged_file_does_no_harm);
  return unit_main("net/tlsrpt/sender", cases, 1);
}
